//! TLS with clients.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::files::{Authorities, FileError, Identity};
use super::stream::{ReadAhead, TlsSocket};
use super::{ALPN, HandshakeError, Origin, end_point, provider};

/// How the proxy speaks TLS with clients. Made from `tls_cert` and what goes with it, or by a program that has a configuration of
/// rustls's own.
///
/// ```
/// use std::sync::Arc;
/// use pgvpd_core::ClientTls;
/// use pgvpd_core::rustls::{ServerConfig, pki_types::CertificateDer, server::ResolvesServerCertUsingSni};
///
/// # fn example(certificate: CertificateDer<'static>) -> Result<(), pgvpd_core::rustls::Error> {
/// let provider = Arc::new(pgvpd_core::rustls::crypto::ring::default_provider());
/// let mut config = ServerConfig::builder_with_provider(provider)
///     .with_safe_default_protocol_versions()?
///     .with_no_client_auth()
///     .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
/// // For `sslnegotiation=direct`.
/// config.alpn_protocols = vec![b"postgresql".to_vec()];
/// // With the certificate, clients can bind their proof to it (SCRAM-SHA-256-PLUS).
/// let tls = ClientTls::new(Arc::new(config)).bound_to(&certificate);
/// let builder = pgvpd_core::Proxy::builder().client_tls(tls);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ServerConfig>,
    end_point: Option<Arc<[u8]>>,
    origin: Origin,
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientTls(…)")
    }
}

impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        self.origin == other.origin && self.end_point == other.end_point
    }
}

impl ClientTls {
    /// Takes a configuration as it is. Without [`bound_to`](Self::bound_to), clients are not offered SCRAM-SHA-256-PLUS. What
    /// `client_cert` asks for has to be verified by it.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        let origin = Origin::Program(Arc::as_ptr(&config) as usize);
        Self { config, end_point: None, origin }
    }

    /// Names the one certificate that clients are shown, so that they can bind their proof to it.
    #[must_use]
    pub fn bound_to(self, certificate: &CertificateDer<'_>) -> Self {
        Self { end_point: end_point(certificate), ..self }
    }

    /// With a certificate from files; clients whose certificate is by one of these authorities are known by it.
    pub(crate) fn from_files(identity: &Identity, authorities: Option<&Authorities>) -> Result<Self, FileError> {
        let mut digest = Sha256::new();
        identity.digest(&mut digest);
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = match authorities {
            None => builder.with_no_client_auth(),
            Some(authorities) => {
                authorities.digest(&mut digest);
                let roots = Arc::new(authorities.roots()?);
                // A client that shows none is told so in PostgreSQL's own words, when it has said who it is.
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).allow_unauthenticated();
                builder.with_client_cert_verifier(verifier.build().map_err(FileError::verifier)?)
            }
        };
        let mut config = builder.with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Sessions are resumed from tickets, which cost the proxy no memory.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = rustls::crypto::ring::Ticketer::new()?;
        let end_point = identity.chain.first().and_then(|certificate| end_point(certificate));
        Ok(Self { config: Arc::new(config), end_point, origin: Origin::Files(digest.finalize().into()) })
    }

    /// Shakes hands with a client that has sent these bytes of its ClientHello already. Safe to cancel: the connection is
    /// closed. The caller sets the deadline.
    pub(crate) async fn accept(&self, stream: TcpStream, received: Vec<u8>) -> Result<TlsSocket, HandshakeError> {
        let accepted = TlsAcceptor::from(Arc::clone(&self.config)).accept(ReadAhead::new(stream, received)).await?;
        Ok(TlsSocket::new(accepted, self.end_point.clone()))
    }
}
