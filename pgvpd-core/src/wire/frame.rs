//! Messages after the startup phase: a type byte, a length, a body.

use super::{Parsed, Reader, WireError};

/// Message type bytes, named as in the manual's chapter "Message Formats".
pub mod tag {
    #![expect(missing_docs, reason = "the names are the manual's own message names")]
    pub const AUTHENTICATION: u8 = b'R';
    pub const BACKEND_KEY_DATA: u8 = b'K';
    pub const BIND: u8 = b'B';
    pub const BIND_COMPLETE: u8 = b'2';
    pub const CLOSE: u8 = b'C';
    pub const CLOSE_COMPLETE: u8 = b'3';
    pub const COMMAND_COMPLETE: u8 = b'C';
    pub const COPY_BOTH_RESPONSE: u8 = b'W';
    pub const COPY_DATA: u8 = b'd';
    pub const COPY_DONE: u8 = b'c';
    pub const COPY_FAIL: u8 = b'f';
    pub const COPY_IN_RESPONSE: u8 = b'G';
    pub const DATA_ROW: u8 = b'D';
    pub const DESCRIBE: u8 = b'D';
    pub const EMPTY_QUERY_RESPONSE: u8 = b'I';
    pub const ERROR_RESPONSE: u8 = b'E';
    pub const EXECUTE: u8 = b'E';
    pub const FLUSH: u8 = b'H';
    pub const FUNCTION_CALL_RESPONSE: u8 = b'V';
    pub const FUNCTION_CALL: u8 = b'F';
    pub const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
    pub const NO_DATA: u8 = b'n';
    pub const NOTICE_RESPONSE: u8 = b'N';
    pub const NOTIFICATION_RESPONSE: u8 = b'A';
    pub const PARAMETER_DESCRIPTION: u8 = b't';
    pub const PARAMETER_STATUS: u8 = b'S';
    pub const PARSE: u8 = b'P';
    pub const PARSE_COMPLETE: u8 = b'1';
    pub const PASSWORD: u8 = b'p';
    pub const PORTAL_SUSPENDED: u8 = b's';
    pub const QUERY: u8 = b'Q';
    pub const READY_FOR_QUERY: u8 = b'Z';
    pub const ROW_DESCRIPTION: u8 = b'T';
    pub const SYNC: u8 = b'S';
    pub const TERMINATE: u8 = b'X';
}

/// One whole message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The type byte.
    pub tag: u8,
    /// What follows the length field.
    pub body: &'a [u8],
}

/// The message at the front of `bytes`. `max` bounds its length field (type byte not counted), so that a peer's
/// claim never decides how much is buffered.
///
/// # Errors
/// [`WireError::MessageLength`] for a length below 4 or above `max`, as soon as the five header bytes are there.
pub fn frame(bytes: &[u8], max: usize) -> Result<Parsed<Frame<'_>>, WireError> {
    let mut reader = Reader::new(bytes);
    let (Some(tag), Some(length)) = (reader.u8(), reader.i32()) else {
        return Ok(Parsed::Incomplete);
    };
    let invalid = WireError::MessageLength { tag: char::from(tag), length };
    let size = usize::try_from(length).map_err(|_| invalid.clone())?;
    let Some(body_size) = size.checked_sub(4).filter(|_| size <= max) else {
        return Err(invalid);
    };
    Ok(match reader.bytes(body_size) {
        Some(body) => Parsed::Complete(Frame { tag, body }, size + 1),
        None => Parsed::Incomplete,
    })
}

/// Iterates over the whole messages at the front of a slice; ends at the first partial or invalid one.
#[derive(Debug, Clone)]
pub struct TaggedFrames<'a> {
    bytes: &'a [u8],
    max: usize,
}

impl<'a> TaggedFrames<'a> {
    /// Walks `bytes`, refusing messages longer than `max`.
    pub fn new(bytes: &'a [u8], max: usize) -> Self {
        Self { bytes, max }
    }
}

impl<'a> Iterator for TaggedFrames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let Ok(Parsed::Complete(frame, size)) = frame(self.bytes, self.max) else {
            return None;
        };
        self.bytes = self.bytes.get(size..)?;
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn length_below_four_or_above_the_limit_is_an_error_from_the_header_alone() {
        for length in [0_i32, 3, -1, i32::MIN, i32::MAX, 101] {
            let mut bytes = vec![b'Z'];
            bytes.extend(length.to_be_bytes());
            assert_eq!(frame(&bytes, 100), Err(WireError::MessageLength { tag: 'Z', length }));
        }
    }

    #[test]
    fn a_message_is_complete_only_with_its_last_byte() {
        let bytes = b"Z\0\0\0\x05I";
        for end in 0..bytes.len() {
            assert_eq!(frame(&bytes[..end], 100), Ok(Parsed::Incomplete));
        }
        assert_eq!(frame(bytes, 100), Ok(Parsed::Complete(Frame { tag: b'Z', body: b"I" }, 6)));
    }

    proptest! {
        #[test]
        fn any_bytes_split_anywhere_give_the_same_message_and_never_more_than_was_there(
            bytes in prop::collection::vec(prop_oneof![Just(0_u8), Just(4), Just(9), any::<u8>()], 0..60),
            max in 0_usize..40,
        ) {
            let whole = frame(&bytes, max);
            if let Ok(Parsed::Complete(_, size)) = &whole {
                prop_assert!((5..=bytes.len()).contains(size) && *size <= max + 1);
            }
            // The first prefix that decides, decides as the whole does.
            let prefixes = (0..=bytes.len()).map(|end| frame(&bytes[..end], max));
            let decided = prefixes.into_iter().find(|result| *result != Ok(Parsed::Incomplete));
            prop_assert_eq!(decided.unwrap_or(Ok(Parsed::Incomplete)), whole);
        }

        #[test]
        fn a_stream_of_messages_is_cut_where_its_lengths_say(
            messages in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..20)), 0..8),
        ) {
            let mut bytes = Vec::new();
            for (tag, body) in &messages {
                bytes.push(*tag);
                bytes.extend(u32::try_from(body.len() + 4).expect("short").to_be_bytes());
                bytes.extend(body);
            }
            let found: Vec<(u8, Vec<u8>)> =
                TaggedFrames::new(&bytes, 100).map(|frame| (frame.tag, frame.body.to_vec())).collect();
            prop_assert_eq!(found, messages);
        }
    }
}
