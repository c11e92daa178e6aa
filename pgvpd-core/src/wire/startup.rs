//! The first packet of a connection: StartupMessage, SSLRequest, GSSENCRequest or CancelRequest.
//!
//! Parsed as PostgreSQL's `ProcessStartupPacket` does it, and stricter where the contract says so: doubled
//! parameters, control characters and bytes that are not UTF-8 are refused.

use std::collections::HashSet;

use super::{Parsed, Reader, WireError, normalize_setting_name};

/// The longest first packet accepted, its length field included. PostgreSQL's `MAX_STARTUP_PACKET_LENGTH`.
pub const MAX_STARTUP_PACKET: usize = 10_000;

/// The most parameters of a startup packet. Clients send fewer than ten; each is looked at before anybody is known.
pub const MAX_STARTUP_PARAMETERS: usize = 128;

/// CancelRequest keys have at most this many bytes (protocol 3.2).
const MAX_CANCEL_KEY: usize = 256;

const CANCEL_REQUEST: i32 = 80_877_102;
pub(super) const SSL_REQUEST: i32 = 80_877_103;
const GSSENC_REQUEST: i32 = 80_877_104;

/// What a client may send first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstPacket {
    /// Asks for TLS.
    SslRequest,
    /// Asks for GSSAPI encryption.
    GssEncRequest,
    /// Asks to cancel the query that a session runs.
    Cancel(CancelRequest),
    /// Starts a session.
    Startup(StartupMessage),
}

/// Process id and secret that identify a backend for a CancelRequest. `Debug` hides the secret.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CancelKey {
    /// Backend process id.
    pub pid: i32,
    /// Secret: 4 bytes up to protocol 3.1, up to 256 with 3.2.
    pub secret: Box<[u8]>,
}

impl std::fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelKey").field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// A CancelRequest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelRequest {
    /// The key the client was given in BackendKeyData.
    pub key: CancelKey,
}

impl CancelRequest {
    /// Appends the packet to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let size = 12 + self.key.secret.len();
        out.extend(i32::try_from(size).unwrap_or(i32::MAX).to_be_bytes());
        out.extend(CANCEL_REQUEST.to_be_bytes());
        out.extend(self.key.pid.to_be_bytes());
        out.extend(&self.key.secret);
    }
}

/// A protocol version, `major.minor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProtocolVersion {
    /// Always 3.
    pub major: u16,
    /// 0 to 2 are known; a client may ask for more and is negotiated down.
    pub minor: u16,
}

impl ProtocolVersion {
    /// The newest version this proxy speaks (PostgreSQL 18).
    pub const LATEST: Self = Self { major: 3, minor: 2 };
    /// The version every server since 7.4 speaks.
    pub const V3_0: Self = Self { major: 3, minor: 0 };

    /// The version as it stands in a packet.
    pub fn to_bytes(self) -> [u8; 4] {
        let [a, b] = self.major.to_be_bytes();
        let [c, d] = self.minor.to_be_bytes();
        [a, b, c, d]
    }

    /// The version from a packet's four bytes.
    pub fn from_bytes([a, b, c, d]: [u8; 4]) -> Self {
        Self { major: u16::from_be_bytes([a, b]), minor: u16::from_be_bytes([c, d]) }
    }
}

/// A StartupMessage: version and parameters, each name once, in the order sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartupMessage {
    /// The version the client asks for.
    pub version: ProtocolVersion,
    /// Names and values.
    pub parameters: Vec<(String, String)>,
}

impl StartupMessage {
    /// The value of the parameter `name`, compared exactly, as PostgreSQL compares `user`, `database` and `options`.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The packet, or `None` where it would be longer than [`MAX_STARTUP_PACKET`].
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut packet = vec![0; 4];
        packet.extend(self.version.to_bytes());
        for (name, value) in &self.parameters {
            packet.extend(name.as_bytes());
            packet.push(0);
            packet.extend(value.as_bytes());
            packet.push(0);
        }
        packet.push(0);
        let size = i32::try_from(packet.len()).ok().filter(|_| packet.len() <= MAX_STARTUP_PACKET)?;
        packet.splice(..4, size.to_be_bytes());
        Some(packet)
    }
}

/// The first packet at the front of `bytes`.
///
/// # Errors
/// A [`WireError`] as soon as the bytes cannot become a valid packet; for the length that is after four bytes.
pub fn first_packet(bytes: &[u8]) -> Result<Parsed<FirstPacket>, WireError> {
    let mut reader = Reader::new(bytes);
    let Some(length) = reader.i32() else {
        return Ok(Parsed::Incomplete);
    };
    let size = match usize::try_from(length) {
        Ok(size) if (8..=MAX_STARTUP_PACKET).contains(&size) => size,
        _ => return Err(not_a_startup(bytes, length)),
    };
    let Some(code) = reader.i32() else {
        return Ok(Parsed::Incomplete);
    };
    // The lengths of these packets are fixed or bounded: known bad before the body has arrived.
    let fits = match code {
        SSL_REQUEST | GSSENC_REQUEST => size == 8,
        CANCEL_REQUEST => (16..=12 + MAX_CANCEL_KEY).contains(&size),
        _ => {
            let version = ProtocolVersion::from_bytes(code.to_be_bytes());
            if version.major != 3 {
                return Err(WireError::ProtocolVersion { major: version.major, minor: version.minor });
            }
            true
        }
    };
    if !fits {
        return Err(WireError::StartupLength(length));
    }
    let Some(body) = reader.bytes(size - 8) else {
        return Ok(Parsed::Incomplete);
    };
    let packet = match code {
        SSL_REQUEST => FirstPacket::SslRequest,
        GSSENC_REQUEST => FirstPacket::GssEncRequest,
        CANCEL_REQUEST => {
            let mut body = Reader::new(body);
            let pid = body.i32().ok_or(WireError::StartupLength(length))?;
            FirstPacket::Cancel(CancelRequest { key: CancelKey { pid, secret: body.rest().into() } })
        }
        _ => FirstPacket::Startup(startup_message(ProtocolVersion::from_bytes(code.to_be_bytes()), body)?),
    };
    Ok(Parsed::Complete(packet, size))
}

/// Tells a peer of another protocol apart, so that the error can say what went wrong.
fn not_a_startup(bytes: &[u8], length: i32) -> WireError {
    match bytes {
        // TLS record: handshake, version 3.x (RFC 8446, section 5.1).
        [0x16, 0x03, ..] => WireError::TlsClientHello,
        [b'G', b'E', b'T', b' ', ..]
        | [b'P', b'O', b'S', b'T', ..]
        | [b'P', b'U', b'T', b' ', ..]
        | [b'H', b'E', b'A', b'D', ..]
        | [b'O', b'P', b'T', b'I', ..]
        | [b'P', b'R', b'I', b' ', ..] => WireError::HttpRequest,
        _ => WireError::StartupLength(length),
    }
}

fn startup_message(version: ProtocolVersion, body: &[u8]) -> Result<StartupMessage, WireError> {
    let mut reader = Reader::new(body);
    let mut parameters: Vec<(String, String)> = Vec::new();
    let mut names = HashSet::new();
    loop {
        let name = text(reader.string())?;
        if name.is_empty() {
            break;
        }
        let value = text(reader.string())?;
        if name.chars().chain(value.chars()).any(char::is_control) {
            return Err(WireError::ControlCharacter(printable(name)));
        }
        if parameters.len() == MAX_STARTUP_PARAMETERS {
            return Err(WireError::TooManyParameters);
        }
        // PostgreSQL looks settings up without regard to case, so `A` and `a` are the same parameter given twice.
        if !names.insert(normalize_setting_name(name)) {
            return Err(WireError::DuplicateParameter(printable(name)));
        }
        parameters.push((name.to_owned(), value.to_owned()));
    }
    if !reader.is_empty() {
        return Err(WireError::StartupLayout);
    }
    let message = StartupMessage { version, parameters };
    match message.parameter("user") {
        None | Some("") => Err(WireError::MissingUser),
        Some(_) => Ok(message),
    }
}

fn text(field: Option<&[u8]>) -> Result<&str, WireError> {
    std::str::from_utf8(field.ok_or(WireError::StartupLayout)?).map_err(|_| WireError::StartupEncoding)
}

fn printable(name: &str) -> String {
    name.chars().take(63).filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
#[path = "startup_tests.rs"]
mod tests;
