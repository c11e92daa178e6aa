//! Where clients connect, where PostgreSQL is, and when a connection counts as lost.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::tls::UpstreamTls;

/// Where clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Host name or address to bind.
    pub host: String,
    /// TCP port; 0 takes a free one.
    pub port: u16,
    /// Directory for `.s.PGSQL.<port>`, when clients may also use a Unix socket.
    pub unix_dir: Option<PathBuf>,
    /// TCP port where only TLS is spoken; 0 takes a free one.
    pub tls_port: Option<u16>,
    /// Other processes may listen on the same ports, to take over from this one.
    pub reuse_port: bool,
    /// When a client's connection counts as lost.
    pub tcp: TcpTimes,
}

/// When a TCP connection counts as lost whose other end says nothing: 0 seconds for what is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TcpTimes {
    /// Seconds without a byte after which the other end is asked.
    pub keepalive_idle: u16,
    /// Seconds between two questions.
    pub keepalive_interval: u16,
    /// Questions without an answer.
    pub keepalive_count: u8,
    /// Seconds that what was sent may stay unacknowledged.
    pub user_timeout: u16,
}

impl Default for TcpTimes {
    fn default() -> Self {
        Self { keepalive_idle: 60, keepalive_interval: 10, keepalive_count: 6, user_timeout: 120 }
    }
}

/// The PostgreSQL server, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UpstreamAddress {
    /// Host name, address, or the absolute path of a Unix socket directory.
    pub host: String,
    /// Port.
    pub port: u16,
    /// TLS, where it is spoken: then nothing else is.
    pub tls: Option<UpstreamTls>,
    /// When a connection to it counts as lost.
    pub tcp: TcpTimes,
}

/// Where a proxy listens, with the ports that were taken where 0 was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) main: SocketAddr,
    pub(crate) tls: Option<SocketAddr>,
    pub(crate) admin: Option<SocketAddr>,
}
