//! Where a client connects from. No I/O.

use std::net::IpAddr;

/// Where a client connects from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientAddress {
    /// Over TCP.
    Ip(IpAddr),
    /// Over a Unix socket.
    Unix,
}

impl ClientAddress {
    /// True for loopback and Unix sockets: nothing between the two ends can listen in.
    pub fn is_local(self) -> bool {
        match self {
            Self::Ip(address) => address.to_canonical().is_loopback(),
            Self::Unix => true,
        }
    }
}

impl std::fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}
