//! Walks the headers of a stream of messages, over any chunking, without keeping their bodies.

use super::WireError;

const HEADER: usize = 5;

/// Where a stream of messages stands: between two messages, inside a header, or inside a body.
///
/// Holds 12 bytes whatever the messages' sizes are. A length is taken as the message's sender says, up to the 2 GiB that
/// the field can hold: nothing is allocated for it.
///
/// ```
/// use pgvpd_core::wire::Scanner;
///
/// let (mut scanner, mut tags) = (Scanner::default(), Vec::new());
/// for chunk in [&b"C\0\0\0\x0dSELEC"[..], b"T 1\0Z\0\0", b"\0\x05I"] {
///     scanner.scan(chunk, |tag| tags.push(tag))?;
/// }
/// assert_eq!(tags, b"CZ");
/// assert!(scanner.is_between_messages());
/// # Ok::<(), pgvpd_core::wire::WireError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scanner {
    /// The first bytes of a header that a chunk ended in.
    header: [u8; HEADER],
    header_bytes: u8,
    /// Bytes of the current body that are still to come.
    body: u32,
}

impl Scanner {
    /// Walks the next bytes of the stream, and calls `message` with the type byte of each message whose header ends in
    /// them.
    ///
    /// # Errors
    /// [`WireError::MessageLength`] for a length below 4. The stream has no message boundaries from there on.
    pub fn scan(&mut self, mut chunk: &[u8], mut message: impl FnMut(u8)) -> Result<(), WireError> {
        loop {
            let body = usize::try_from(self.body).unwrap_or(usize::MAX);
            let Some(rest) = chunk.get(body..) else {
                self.body = self.body.saturating_sub(u32::try_from(chunk.len()).unwrap_or(u32::MAX));
                return Ok(());
            };
            self.body = 0;
            chunk = rest;
            let Some((tag, length)) = self.header(&mut chunk) else { return Ok(()) };
            self.body = match u32::try_from(length).ok().and_then(|length| length.checked_sub(4)) {
                Some(body) => body,
                None => return Err(WireError::MessageLength { tag: char::from(tag), length }),
            };
            message(tag);
        }
    }

    /// Takes a whole header, or keeps what there is of one.
    fn header(&mut self, chunk: &mut &[u8]) -> Option<(u8, i32)> {
        if self.header_bytes == 0
            && let Some((&[tag, a, b, c, d], rest)) = chunk.split_first_chunk()
        {
            *chunk = rest;
            return Some((tag, i32::from_be_bytes([a, b, c, d])));
        }
        while usize::from(self.header_bytes) < HEADER {
            let (&byte, rest) = chunk.split_first()?;
            *self.header.get_mut(usize::from(self.header_bytes))? = byte;
            self.header_bytes += 1;
            *chunk = rest;
        }
        self.header_bytes = 0;
        let [tag, a, b, c, d] = self.header;
        Some((tag, i32::from_be_bytes([a, b, c, d])))
    }

    /// True where the stream may be ended, or a message put in, without breaking another one.
    pub fn is_between_messages(&self) -> bool {
        self.header_bytes == 0 && self.body == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::TaggedFrames;

    fn stream(messages: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (tag, body) in messages {
            bytes.push(*tag);
            bytes.extend(u32::try_from(body.len() + 4).expect("short").to_be_bytes());
            bytes.extend(body);
        }
        bytes
    }

    /// The tags found, and the error, of a stream in pieces of these sizes, over and over.
    fn scan(bytes: &[u8], sizes: &[usize]) -> (Vec<u8>, Result<bool, WireError>) {
        let (mut scanner, mut tags, mut rest) = (Scanner::default(), Vec::new(), bytes);
        for size in sizes.iter().cycle() {
            let (chunk, after) = rest.split_at(rest.len().min(*size));
            if let Err(error) = scanner.scan(chunk, |tag| tags.push(tag)) {
                return (tags, Err(error));
            }
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        (tags, Ok(scanner.is_between_messages()))
    }

    #[test]
    fn a_length_below_four_is_an_error_and_the_largest_is_not() {
        for length in [0_i32, 3, -1, i32::MIN] {
            let mut bytes = b"Q".to_vec();
            bytes.extend(length.to_be_bytes());
            assert_eq!(scan(&bytes, &[2]).1, Err(WireError::MessageLength { tag: 'Q', length }));
        }
        let (tags, end) = scan(b"d\x7f\xff\xff\xff and so on", &[100]);
        assert_eq!((tags, end), (b"d".to_vec(), Ok(false)));
    }

    proptest! {
        #[test]
        fn any_chunking_finds_the_messages_that_whole_frames_have(
            messages in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..20)), 0..8),
            cut in 0_usize..40,
            sizes in prop::collection::vec(1_usize..9, 1..6),
        ) {
            let mut bytes = stream(&messages);
            let whole: Vec<u8> = TaggedFrames::new(&bytes, 1000).map(|frame| frame.tag).collect();
            let (tags, end) = scan(&bytes, &sizes);
            prop_assert_eq!(&tags, &whole);
            prop_assert_eq!(end, Ok(true));
            // Ended early, it is between messages only where a message ends.
            bytes.truncate(bytes.len().saturating_sub(cut));
            let complete: usize = TaggedFrames::new(&bytes, 1000).map(|frame| frame.body.len() + HEADER).sum();
            let (_, end) = scan(&bytes, &sizes);
            prop_assert_eq!(end, Ok(complete == bytes.len()));
        }

        #[test]
        fn any_bytes_give_the_same_result_in_any_pieces(
            bytes in prop::collection::vec(prop_oneof![Just(0_u8), Just(4), Just(9), any::<u8>()], 0..60),
            sizes in prop::collection::vec(1_usize..9, 1..6),
        ) {
            prop_assert_eq!(scan(&bytes, &sizes), scan(&bytes, &[1000]));
        }
    }
}
