//! Walks a stream of messages, over any chunking, and keeps the bodies of a few kinds that are small.

use std::ops::ControlFlow;

use super::WireError;
use super::scanner::PartialHeader;

/// The longest body that is kept.
const MAX_KEPT: usize = 1024;

/// As [`Scanner`](super::Scanner), but tells of each message when it is complete, with its body where that is wanted.
///
/// A wanted body that is in one chunk is not copied; one that is longer than 1 KiB is not kept.
///
/// ```
/// use pgvpd_core::wire::BodyScanner;
///
/// let (mut scanner, mut found) = (BodyScanner::default(), Vec::new());
/// for chunk in [&b"C\0\0\0\x0dSELEC"[..], b"T 1\0Z\0\0", b"\0\x05I"] {
///     let wanted = |tag| tag == b'Z';
///     scanner.scan(chunk, wanted, |tag, body| found.push((tag, body.map(<[u8]>::to_vec))))?;
/// }
/// assert_eq!(found, [(b'C', None), (b'Z', Some(b"I".to_vec()))]);
/// # Ok::<(), pgvpd_core::wire::WireError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct BodyScanner {
    header: PartialHeader,
    /// The message whose body is not complete.
    open: Option<Open>,
}

#[derive(Debug, Clone)]
struct Open {
    tag: u8,
    /// Bytes that are still to come.
    rest: u32,
    /// What has come, where it is wanted and not too long.
    kept: Option<Vec<u8>>,
}

impl BodyScanner {
    /// Walks the next bytes of the stream, and calls `message` with the type of each message that ends in them, and its body
    /// where `wanted` says so.
    ///
    /// # Errors
    /// [`WireError::MessageLength`] for a length below 4.
    pub fn scan(
        &mut self,
        chunk: &[u8],
        wanted: impl Fn(u8) -> bool,
        mut message: impl FnMut(u8, Option<&[u8]>),
    ) -> Result<(), WireError> {
        self.scan_until(chunk, wanted, |tag, body, _| {
            message(tag, body);
            ControlFlow::Continue(())
        })
    }

    /// As [`BodyScanner::scan`], and gives also where in `whole` the message ends. The walk ends there where `message` says so:
    /// the scanner is between two messages then, and has not seen the rest.
    ///
    /// # Errors
    /// [`WireError::MessageLength`] for a length below 4.
    pub fn scan_until(
        &mut self,
        whole: &[u8],
        wanted: impl Fn(u8) -> bool,
        mut message: impl FnMut(u8, Option<&[u8]>, usize) -> ControlFlow<()>,
    ) -> Result<(), WireError> {
        let mut chunk = whole;
        loop {
            let mut open = match self.open.take() {
                Some(open) => open,
                None => match self.header.take(&mut chunk)? {
                    Some((tag, rest)) => Open { tag, rest, kept: wanted(tag).then(Vec::new) },
                    None => return Ok(()),
                },
            };
            let size = usize::try_from(open.rest).unwrap_or(usize::MAX);
            let Some((body, after)) = chunk.split_at_checked(size) else {
                open.rest = open.rest.saturating_sub(u32::try_from(chunk.len()).unwrap_or(u32::MAX));
                let kept = open.kept.filter(|kept| kept.len() + chunk.len() <= MAX_KEPT);
                open.kept = kept.map(|kept| [&kept, chunk].concat());
                self.open = Some(open);
                return Ok(());
            };
            chunk = after;
            let end = whole.len() - after.len();
            let next = match open.kept.filter(|kept| kept.len() + body.len() <= MAX_KEPT) {
                None => message(open.tag, None, end),
                Some(kept) if kept.is_empty() => message(open.tag, Some(body), end),
                Some(kept) => message(open.tag, Some(&[&kept, body].concat()), end),
            };
            if next.is_break() {
                return Ok(());
            }
        }
    }

    /// Bytes of the current body that are still to come; `None` inside a header.
    pub fn rest_of_body(&self) -> Option<usize> {
        let rest = self.open.as_ref().map_or(0, |open| open.rest);
        self.header.is_empty().then_some(usize::try_from(rest).unwrap_or(usize::MAX))
    }

    /// True where the stream may be ended, or a message put in, without breaking another one.
    pub fn is_between_messages(&self) -> bool {
        self.header.is_empty() && self.open.is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_chunking_gives_the_messages_with_the_bodies_that_are_wanted(
            messages in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..20)), 0..8),
            long in 0_usize..2000,
            sizes in prop::collection::vec(1_usize..400, 1..6),
        ) {
            let mut bytes = Vec::new();
            let mut messages = messages;
            messages.push((1, vec![7; long]));
            for (tag, body) in &messages {
                bytes.push(*tag);
                bytes.extend(u32::try_from(body.len() + 4).expect("short").to_be_bytes());
                bytes.extend(body);
            }
            let wanted = |tag: u8| tag % 2 == 1;
            let expected: Vec<_> = messages
                .into_iter()
                .map(|(tag, body)| (tag, (wanted(tag) && body.len() <= MAX_KEPT).then_some(body)))
                .collect();
            let (mut scanner, mut found, mut rest) = (BodyScanner::default(), Vec::new(), bytes.as_slice());
            for size in sizes.iter().cycle() {
                let (chunk, after) = rest.split_at(rest.len().min(*size));
                scanner.scan(chunk, wanted, |tag, body| found.push((tag, body.map(<[u8]>::to_vec)))).expect("valid");
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found, expected);
            prop_assert!(scanner.is_between_messages());
        }
    }

    #[test]
    fn a_walk_ends_between_two_messages_and_knows_where() {
        let bytes = b"C\0\0\0\x06a\0Z\0\0\0\x05IC\0\0";
        let (mut scanner, mut found) = (BodyScanner::default(), Vec::new());
        for chunk in [&bytes[..6], &bytes[6..]] {
            let walked = scanner.scan_until(
                chunk,
                |_| true,
                |tag, body, end| {
                    found.push((tag, body.map(<[u8]>::to_vec), end));
                    if tag == b'Z' { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                },
            );
            assert_eq!(walked, Ok(()));
        }
        assert_eq!(found, [(b'C', Some(b"a\0".to_vec()), 1), (b'Z', Some(b"I".to_vec()), 7)]);
        assert!(scanner.is_between_messages(), "what follows has not been seen");
    }

    #[test]
    fn a_length_below_four_is_an_error() {
        let scanned = BodyScanner::default().scan(b"Z\0\0\0\x03", |_| true, |_, _| {});
        assert_eq!(scanned, Err(WireError::MessageLength { tag: 'Z', length: 3 }));
    }
}
