//! Puts another ErrorResponse in the place of one of the server's.

use super::{WireError, tag};

const HEADER: usize = 5;

/// The longest one that is looked at. PostgreSQL's own quote the statement only in part.
const MAX_ERROR: usize = 16 * 1024;

/// Replaces the first ErrorResponse that is meant, over any chunking. What may still become one is held back, at most a header or
/// one such message; all else passes at once.
///
/// ```
/// use pgvpd_core::wire::ErrorReplacement;
///
/// let mut errors = ErrorReplacement::behind(0);
/// let passed = errors.pass(b"Z\0\0\0\x05IE\0\0\0\x08old\0Z\0\0\0\x05I", |body| {
///     (body == b"old\0").then(|| b"E\0\0\0\x08new\0".to_vec())
/// })?;
/// assert_eq!(passed.as_deref(), Some(&b"Z\0\0\0\x05IE\0\0\0\x08new\0Z\0\0\0\x05I"[..]));
/// assert!(errors.is_done());
/// # Ok::<(), pgvpd_core::wire::WireError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ErrorReplacement {
    /// The beginning of a message that is not decided on.
    held: Vec<u8>,
    /// Bytes of a body that passes and are still to come.
    body: usize,
    is_done: bool,
}

impl ErrorReplacement {
    /// For a stream of which so many bytes of a message's body are still to come.
    pub fn behind(body: usize) -> Self {
        Self { held: Vec::new(), body, is_done: false }
    }

    /// True once a message has been replaced, and nothing is held back.
    pub fn is_done(&self) -> bool {
        self.is_done && self.held.is_empty()
    }

    /// True where it may be dropped: nothing is held back, and the next byte begins a message.
    pub fn is_between_messages(&self) -> bool {
        self.held.is_empty() && self.body == 0
    }

    /// Gives what passes instead of these bytes; `None` for just these. `replace` is given the body of each ErrorResponse, and
    /// gives the whole message to pass instead.
    ///
    /// # Errors
    /// [`WireError::MessageLength`] for a length below 4.
    pub fn pass(
        &mut self,
        chunk: &[u8],
        mut replace: impl FnMut(&[u8]) -> Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>, WireError> {
        let was_held = !self.held.is_empty();
        let stream = [std::mem::take(&mut self.held).as_slice(), chunk].concat();
        let (mut out, mut rest) = (Vec::with_capacity(stream.len()), stream.as_slice());
        let mut has_replaced = false;
        while !self.is_done {
            let (body, after) = rest.split_at(self.body.min(rest.len()));
            out.extend_from_slice(body);
            self.body -= body.len();
            rest = after;
            let Some([tag, a, b, c, d]) = rest.first_chunk() else { break };
            let length = i32::from_be_bytes([*a, *b, *c, *d]);
            let size = usize::try_from(length).ok().filter(|length| *length >= 4).map(|length| length + 1);
            let size = size.ok_or(WireError::MessageLength { tag: char::from(*tag), length })?;
            if *tag != tag::ERROR_RESPONSE || size > MAX_ERROR {
                self.body = size;
                continue;
            }
            let Some((message, after)) = rest.split_at_checked(size) else { break };
            rest = after;
            match replace(message.get(HEADER..).unwrap_or_default()) {
                Some(other) => {
                    out.extend(other);
                    (self.is_done, has_replaced) = (true, true);
                }
                None => out.extend_from_slice(message),
            }
        }
        match self.is_done {
            true => out.extend_from_slice(rest),
            false => self.held = rest.to_vec(),
        }
        Ok((was_held || has_replaced || !self.held.is_empty()).then_some(out))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::test_message as message;

    #[test]
    fn a_length_that_no_message_has_is_an_error_and_a_long_error_passes() {
        assert!(ErrorReplacement::behind(0).pass(b"E\0\0\0\x03", |_| None).is_err());
        let long = message(b'E', &[b'x'; MAX_ERROR]);
        assert_eq!(ErrorReplacement::behind(0).pass(&long, |_| Some(Vec::new())), Ok(None));
    }

    proptest! {
        #[test]
        fn in_any_pieces_the_first_error_that_is_meant_is_replaced_and_all_else_passes(
            messages in prop::collection::vec((prop_oneof![Just(b'E'), any::<u8>()], "[a-c]{0,3}"), 0..8),
            body in prop::collection::vec(any::<u8>(), 0..4),
            sizes in prop::collection::vec(1_usize..20, 1..6),
        ) {
            let replace = |body: &[u8]| body.starts_with(b"a").then(|| message(b'E', b"another"));
            let (mut stream, mut expected, mut is_replaced) = (body.clone(), body.clone(), false);
            for (tag, text) in &messages {
                let bytes = message(*tag, text.as_bytes());
                stream.extend(&bytes);
                let is_meant = !is_replaced && *tag == b'E' && text.starts_with('a');
                is_replaced |= is_meant;
                expected.extend(if is_meant { message(b'E', b"another") } else { bytes });
            }
            let (mut errors, mut passed, mut rest) =
                (ErrorReplacement::behind(body.len()), Vec::new(), stream.as_slice());
            for size in sizes.iter().cycle() {
                let (chunk, after) = rest.split_at(rest.len().min(*size));
                passed.extend(errors.pass(chunk, replace).expect("valid").unwrap_or_else(|| chunk.to_vec()));
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(passed, expected);
            prop_assert_eq!(errors.is_done(), is_replaced);
            prop_assert!(is_replaced || errors.is_between_messages());
        }
    }
}
