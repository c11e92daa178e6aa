//! Walks the headers of a stream of messages, over any chunking, without keeping their bodies.

use std::ops::ControlFlow;

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
    header: PartialHeader,
    /// Bytes of the current body that are still to come.
    body: u32,
}

impl Scanner {
    /// Walks the next bytes of the stream, and calls `message` with the type byte of each message whose header ends in
    /// them.
    ///
    /// # Errors
    /// [`WireError::MessageLength`] for a length below 4. The stream has no message boundaries from there on.
    pub fn scan(&mut self, chunk: &[u8], mut message: impl FnMut(u8)) -> Result<(), WireError> {
        self.scan_until(chunk, |tag, _| {
            message(tag);
            ControlFlow::Continue(())
        })
    }

    /// As [`Scanner::scan`], and gives also where in `chunk` the message begins, `None` where that was in an earlier one. The
    /// walk ends behind the first header for which `message` says so; the scanner is of no use from there on.
    ///
    /// # Errors
    /// [`WireError::MessageLength`] for a length below 4.
    pub fn scan_until(
        &mut self,
        whole: &[u8],
        mut message: impl FnMut(u8, Option<usize>) -> ControlFlow<()>,
    ) -> Result<(), WireError> {
        let mut chunk = whole;
        loop {
            let body = usize::try_from(self.body).unwrap_or(usize::MAX);
            let Some(rest) = chunk.get(body..) else {
                self.body = self.body.saturating_sub(u32::try_from(chunk.len()).unwrap_or(u32::MAX));
                return Ok(());
            };
            self.body = 0;
            chunk = rest;
            let start = (self.header.is_empty()).then_some(whole.len() - chunk.len());
            let Some((tag, body)) = self.header.take(&mut chunk)? else { return Ok(()) };
            self.body = body;
            if message(tag, start).is_break() {
                return Ok(());
            }
        }
    }

    /// True where the stream may be ended, or a message put in, without breaking another one.
    pub fn is_between_messages(&self) -> bool {
        self.header.is_empty() && self.body == 0
    }
}

/// The first bytes of a header that a chunk ended in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PartialHeader {
    bytes: [u8; HEADER],
    count: u8,
}

impl PartialHeader {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes a whole header off the front of `chunk`: the type byte and the size of the body. Or keeps what there is of one.
    pub(super) fn take(&mut self, chunk: &mut &[u8]) -> Result<Option<(u8, u32)>, WireError> {
        if self.count == 0
            && let Some((header, rest)) = chunk.split_first_chunk()
        {
            *chunk = rest;
            return read(*header).map(Some);
        }
        while usize::from(self.count) < HEADER {
            let Some((&byte, rest)) = chunk.split_first() else { return Ok(None) };
            if let Some(place) = self.bytes.get_mut(usize::from(self.count)) {
                *place = byte;
            }
            self.count += 1;
            *chunk = rest;
        }
        self.count = 0;
        read(self.bytes).map(Some)
    }
}

fn read([tag, a, b, c, d]: [u8; HEADER]) -> Result<(u8, u32), WireError> {
    let length = i32::from_be_bytes([a, b, c, d]);
    match u32::try_from(length).ok().and_then(|length| length.checked_sub(4)) {
        Some(body) => Ok((tag, body)),
        None => Err(WireError::MessageLength { tag: char::from(tag), length }),
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

    #[test]
    fn a_walk_ends_where_it_is_told_to_and_knows_where_each_message_begins() {
        let bytes = b"Q\0\0\0\x06a\0X\0\0\0\x04Q\0\0";
        let mut found = Vec::new();
        let mut scanner = Scanner::default();
        for chunk in [&bytes[..3], &bytes[3..]] {
            let walked = scanner.scan_until(chunk, |tag, start| {
                found.push((tag, start));
                if tag == b'X' { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            assert_eq!(walked, Ok(()));
        }
        assert_eq!(found, [(b'Q', None), (b'X', Some(4))]);
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
