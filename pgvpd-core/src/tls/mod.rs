//! TLS with clients and with PostgreSQL: what is agreed on, by whose certificates, and the streams that come of it.

mod certificate;
mod client;
mod error;
mod files;
mod rules;
mod stream;
mod upstream;

use std::sync::Arc;

use certificate::end_point;
pub use client::ClientTls;
pub(crate) use error::HandshakeError;
pub(crate) use files::{Authorities, FileError, Identity, read_authorities, read_identity};
pub use rules::{ClientCert, ClientTlsMode, TlsConfigs, TlsRules};
pub(crate) use stream::TlsSocket;
pub use upstream::UpstreamTls;
pub(crate) use upstream::Verification;

use rustls::crypto::CryptoProvider;

/// The protocol's name in ALPN (manual, "Message Flow", "SSL Session Encryption").
const ALPN: &[u8] = b"postgresql";

/// The algorithms, asked for by name: a library sets nothing that holds for the whole process.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What tells one TLS configuration from another: connections made with the one are not taken for those of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Origin {
    /// A digest of everything that was read.
    Files([u8; 32]),
    /// Where a program's own configuration is, for as long as it is held.
    Program(usize),
}
