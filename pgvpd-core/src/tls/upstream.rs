//! TLS with PostgreSQL.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, SignatureScheme};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::files::{Authorities, FileError, Identity};
use super::stream::{ReadAhead, TlsSocket};
use super::{ALPN, HandshakeError, Origin, certificate, end_point, provider};
use crate::wire::ssl_request;

/// How the proxy speaks TLS with PostgreSQL. Made from `upstream_tls` and what goes with it, or by a program that has a
/// configuration of rustls's own.
#[derive(Clone)]
pub struct UpstreamTls {
    config: Arc<ClientConfig>,
    origin: Origin,
}

impl std::fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UpstreamTls(…)")
    }
}

impl PartialEq for UpstreamTls {
    fn eq(&self, other: &Self) -> bool {
        self.origin == other.origin
    }
}

impl Eq for UpstreamTls {}

impl Hash for UpstreamTls {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.origin.hash(state);
    }
}

/// By what the server's certificate is judged.
pub(crate) enum Verification<'a> {
    /// By these authorities; one of them may be the server's certificate itself.
    Authorities(&'a Authorities),
    /// By those that the system trusts.
    System(&'a Authorities),
    /// By nothing.
    None,
}

impl UpstreamTls {
    /// Takes a configuration as it is.
    pub fn new(config: Arc<ClientConfig>) -> Self {
        let origin = Origin::Program(Arc::as_ptr(&config) as usize);
        Self { config, origin }
    }

    /// The configuration, for a program that speaks with the server itself.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// From files; `identity` is what the proxy shows a server that asks.
    pub(crate) fn from_files(verification: &Verification<'_>, identity: Option<&Identity>) -> Result<Self, FileError> {
        let provider = provider();
        let mut digest = Sha256::new();
        let judge = match verification {
            Verification::None => {
                digest.update(b"none");
                Judge::Nobody
            }
            Verification::Authorities(authorities) | Verification::System(authorities) => {
                authorities.digest(&mut digest);
                let roots = Arc::new(authorities.roots()?);
                let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
                let inner = inner.map_err(FileError::verifier)?;
                match verification {
                    Verification::Authorities(_) => Judge::OrItself(inner, authorities.certificates.clone()),
                    _ => Judge::Authorities(inner),
                }
            }
        };
        let verifier = Arc::new(Verifier { judge, provider: Arc::clone(&provider) });
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                identity.digest(&mut digest);
                builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { config: Arc::new(config), origin: Origin::Files(digest.finalize().into()) })
    }

    /// Asks the server for TLS and shakes hands (manual, "Message Flow", "SSL Session Encryption"). Nothing that it says before
    /// the handshake is taken for something it said after (CVE-2021-23222). Safe to cancel: the connection is closed. The
    /// caller sets the deadline.
    pub(crate) async fn connect(&self, mut stream: TcpStream, host: &str) -> Result<TlsSocket, HandshakeError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| HandshakeError::Name(host.into()))?;
        let mut request = Vec::new();
        ssl_request(&mut request);
        stream.write_all(&request).await?;
        // One byte, so that what comes with it is the handshake's.
        match stream.read_u8().await? {
            b'S' => {}
            b'N' => return Err(HandshakeError::NotSpoken),
            other => return Err(HandshakeError::Answer(char::from(other))),
        }
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let secured = connector.connect(name, ReadAhead::new(stream, Vec::new())).await?;
        let (_, session) = secured.get_ref();
        let bound = session.peer_certificates().and_then(<[_]>::first).and_then(|certificate| end_point(certificate));
        Ok(TlsSocket::new(secured, bound))
    }
}

/// Judges a server's certificate, and that the server has its key.
#[derive(Debug)]
struct Verifier {
    judge: Judge,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Judge {
    /// X.509, up to an authority.
    Authorities(Arc<WebPkiServerVerifier>),
    /// The same; and a server whose certificate is one of the trusted ones itself is taken, too. Those that the PostgreSQL manual's
    /// recipe makes ("Creating Certificates") are authorities of their own, which X.509 does not take for a server's (RFC 5280,
    /// section 4.2.1.9).
    OrItself(Arc<WebPkiServerVerifier>, Vec<CertificateDer<'static>>),
    /// `upstream_tls_verify = false`: any certificate will do, as with libpq's `sslmode=require`.
    Nobody,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.judge {
            Judge::Nobody => Ok(ServerCertVerified::assertion()),
            Judge::OrItself(_, trusted) if trusted.iter().any(|trusted| trusted == end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                certificate::check_time(end_entity, now.as_secs())?;
                Ok(ServerCertVerified::assertion())
            }
            Judge::Authorities(authorities) | Judge::OrItself(authorities, _) => {
                authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
