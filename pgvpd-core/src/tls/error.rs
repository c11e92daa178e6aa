//! What goes wrong in a handshake, for the log and for clients.

use std::io;

use rustls::CertificateError;

/// A handshake that failed. The text is for the log: it may hold names and addresses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// The server answers SSLRequest with `N`.
    #[error("the server does not speak TLS, which upstream_tls = true asks for")]
    NotSpoken,
    /// It answers with something else.
    #[error("the server answers SSLRequest with {0:?}")]
    Answer(char),
    /// `upstream_host` is nothing that a certificate could be for.
    #[error("{0:?} is not a name that a certificate can have")]
    Name(String),
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for HandshakeError {
    /// tokio-rustls wraps what rustls says.
    fn from(error: io::Error) -> Self {
        let found = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).cloned();
        found.map_or(Self::Io(error), Self::Tls)
    }
}

/// What is wrong with the server's certificate, as far as somebody can do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Expired,
    NotYetValid,
    Name,
    Issuer,
    Other,
}

impl HandshakeError {
    fn fault(&self) -> Option<Fault> {
        let Self::Tls(rustls::Error::InvalidCertificate(error)) = self else { return None };
        Some(match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Fault::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Fault::NotYetValid,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Fault::Name,
            CertificateError::UnknownIssuer => Fault::Issuer,
            _ => Fault::Other,
        })
    }

    /// True where the peer has just closed: no handshake has gone wrong.
    pub(crate) fn is_hang_up(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        let kind = match self {
            Self::Io(error) => error.kind(),
            _ => return false,
        };
        matches!(kind, UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
    }

    /// What a client may read: neither names nor addresses.
    pub(crate) fn for_clients(&self) -> &'static str {
        match (self, self.fault()) {
            (Self::NotSpoken, _) => "it does not speak TLS",
            (Self::Io(error), _) if error.kind() == io::ErrorKind::UnexpectedEof => {
                "it closed the connection during the TLS handshake"
            }
            (_, Some(Fault::Expired)) => "its certificate has expired",
            (_, Some(Fault::NotYetValid)) => "its certificate is not valid yet",
            (_, Some(Fault::Name)) => "its certificate is for another name",
            (_, Some(Fault::Issuer)) => "its certificate is by an authority that the proxy does not trust",
            (_, Some(Fault::Other)) => "its certificate is not valid",
            (Self::Tls(rustls::Error::AlertReceived(_)), _) => "it refused the TLS handshake",
            _ => "the TLS handshake failed",
        }
    }

    /// What to change in the proxy's configuration, or the server's.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match (self, self.fault()) {
            (Self::NotSpoken, _) => Some("Set ssl = on in postgresql.conf; upstream_tls = false does without."),
            (_, Some(Fault::Expired | Fault::NotYetValid)) => Some("Renew the server's certificate."),
            (_, Some(Fault::Name)) => Some(
                "upstream_host must be among the certificate's names (subjectAltName; a common name does not count).",
            ),
            (_, Some(Fault::Issuer)) => Some("upstream_tls_ca names the file of the authority's certificate."),
            (_, Some(Fault::Other)) => Some(
                "The proxy's log has the reason. A certificate that is an authority's own can be named itself in upstream_tls_ca.",
            ),
            (Self::Tls(rustls::Error::AlertReceived(_)), _) => {
                Some("A server that asks for a certificate is shown that of upstream_tls_cert.")
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;

    #[test]
    fn clients_read_what_is_wrong_and_no_names() -> Result<(), Box<dyn std::error::Error>> {
        let name = ServerName::try_from("db.internal")?;
        let time = UnixTime::since_unix_epoch(std::time::Duration::ZERO);
        for (error, expected) in [
            (CertificateError::Expired, "has expired"),
            (CertificateError::ExpiredContext { time, not_after: time }, "has expired"),
            (CertificateError::NotValidForName, "another name"),
            (
                CertificateError::NotValidForNameContext { expected: name, presented: vec!["db.internal".into()] },
                "another name",
            ),
            (CertificateError::UnknownIssuer, "does not trust"),
            (CertificateError::BadSignature, "not valid"),
        ] {
            let error = HandshakeError::from(io::Error::other(rustls::Error::InvalidCertificate(error)));
            let text = error.for_clients();
            assert!(text.contains(expected) && !text.contains("internal"), "{error:?}: {text}");
        }
        Ok(())
    }
}
