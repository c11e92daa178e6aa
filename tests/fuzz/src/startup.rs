//! The first packet of a connection.

use std::collections::BTreeSet;

use pgvpd_core::wire::{
    FirstPacket, MAX_STARTUP_PACKET, Parsed, StartupMessage, first_packet, normalize_setting_name, split_options,
};

use crate::chunks::prefixes;

/// Reads the bytes as the first packet.
pub fn run(bytes: &[u8]) {
    let whole = first_packet(bytes);
    for prefix in prefixes(bytes) {
        let early = first_packet(prefix);
        assert!(early == Ok(Parsed::Incomplete) || early == whole, "decided by {} bytes: {early:?}", prefix.len());
    }
    let with_more = first_packet(&[bytes, &[0, b'x', 0xff]].concat());
    match whole {
        Ok(Parsed::Complete(packet, size)) => {
            assert_eq!(with_more, Ok(Parsed::Complete(packet.clone(), size)), "bytes behind the packet count");
            let Some((taken, _)) = bytes.split_at_checked(size) else {
                panic!("{size} bytes taken of {}", bytes.len())
            };
            assert!((8..=MAX_STARTUP_PACKET).contains(&size));
            accepted(&packet, taken);
        }
        Ok(Parsed::Incomplete) => assert!(bytes.len() < MAX_STARTUP_PACKET, "waits for more than is ever accepted"),
        Err(error) => {
            assert_eq!(with_more, Err(error.clone()), "bytes behind the error count");
            assert!(!error.to_string().contains(char::is_control), "an error that writes to the terminal: {error:?}");
        }
    }
}

/// What holds for a packet made of these bytes.
fn accepted(packet: &FirstPacket, bytes: &[u8]) {
    match packet {
        FirstPacket::SslRequest | FirstPacket::GssEncRequest => assert_eq!(bytes.len(), 8),
        FirstPacket::Cancel(request) => {
            assert!((4..=256).contains(&request.key.secret.len()));
            let mut written = Vec::new();
            request.encode(&mut written);
            assert_eq!(written, bytes, "a cancel request is forwarded as it came");
        }
        FirstPacket::Startup(message) => {
            assert_eq!(message.encode().as_deref(), Some(bytes), "a startup message is written as it was read");
            parameters(message);
        }
    }
}

fn parameters(message: &StartupMessage) {
    assert_eq!(message.version.major, 3);
    assert!(message.parameter("user").is_some_and(|user| !user.is_empty()));
    let names: BTreeSet<_> = message.parameters.iter().map(|(name, _)| normalize_setting_name(name)).collect();
    assert_eq!(names.len(), message.parameters.len(), "a parameter is given twice in some spelling");
    for (name, value) in &message.parameters {
        assert!(!name.is_empty() && !name.contains(char::is_control) && !value.contains(char::is_control));
        assert_eq!(message.parameter(name), Some(value.as_str()));
    }
    if let Some(options) = message.parameter("options") {
        let _ = split_options(options);
    }
}
