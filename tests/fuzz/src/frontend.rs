//! What a client sends behind its startup, as the console reads it: a stream of messages, and any bytes as the body of each.

use pgvpd_core::wire::{Frame, FrontendMessage, TaggedFrames, WireError};

/// The types that are read, and one that is not.
const TAGS: &[u8] = b"QPBDECSHXd";

/// Reads the bytes as a stream, and as a body of every type.
pub fn run(bytes: &[u8]) {
    for frame in TaggedFrames::new(bytes, bytes.len()) {
        read(frame);
    }
    for tag in TAGS {
        read(Frame { tag: *tag, body: bytes });
    }
}

fn read(frame: Frame<'_>) {
    match FrontendMessage::parse(frame) {
        Err(error) => {
            assert_eq!(error, WireError::Malformed(char::from(frame.tag)));
            return;
        }
        Ok(FrontendMessage::Bind(bind)) => {
            // What is only claimed has taken no memory: every value and format had its bytes.
            let values: usize = bind.values.iter().map(|value| 4 + value.map_or(0, <[u8]>::len)).sum();
            assert!(values + 2 * bind.formats.len() + bind.portal.len() + bind.statement.len() <= frame.body.len());
        }
        Ok(FrontendMessage::Parse { statement, text, types }) => {
            assert_eq!(statement.len() + text.len() + 4 + 4 * types, frame.body.len());
        }
        Ok(_) => {}
    }
    // The whole body counts: nothing may be left over, nor missing. Of other types nothing is known.
    if !matches!(FrontendMessage::parse(frame), Ok(FrontendMessage::Other(_))) {
        let longer = [frame.body, b"\0"].concat();
        assert!(FrontendMessage::parse(Frame { tag: frame.tag, body: &longer }).is_err(), "{frame:?}");
    }
}
