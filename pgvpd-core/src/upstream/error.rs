//! Why the proxy could not log in to the server.

use crate::auth::ScramError;
use crate::net::ConnectError;
use crate::wire::{ErrorFields, WireError};

/// A login of the proxy's own that failed. The text may be read by clients: it names neither the server's address nor
/// a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("cannot connect to the upstream server: {0}")]
    Connect(#[source] ConnectError),
    #[error("the upstream server did not answer in time")]
    Unanswered,
    #[error("the upstream server closed the connection")]
    Closed,
    #[error("the upstream server broke the protocol: {0}")]
    Protocol(#[source] WireError),
    #[error("the upstream server broke the protocol: {0}")]
    Scram(#[source] ScramError),
    #[error("the upstream server sent more than it was asked for")]
    Unread,
    #[error("the startup packet exceeds 10000 bytes")]
    StartupTooLong,
    #[error("the upstream server asks for a password that would cross the network in the clear")]
    Cleartext,
    #[error("the upstream server asks for an authentication method that the proxy does not have: {0}")]
    Method(String),
    #[error("the upstream server asks for {0}, and the proxy has no secret of the role that answers it")]
    NoSecret(&'static str),
    #[error("the upstream server has not proved that it knows the role's secret")]
    Impostor,
    #[error("the role has superuser rights, which tenant isolation does not reach")]
    Superuser,
    /// `summary`, of code and message, is for the log.
    #[error("the upstream server refused the proxy's request")]
    Refused { body: Vec<u8>, summary: String },
}

impl UpstreamError {
    /// From the body of an ErrorResponse.
    pub(super) fn refused(body: &[u8]) -> Self {
        Self::Refused { body: body.to_vec(), summary: ErrorFields::new(body).summary() }
    }

    /// True if the connection is gone: closed, or about to be.
    pub(crate) fn is_fatal(&self) -> bool {
        match self {
            Self::Refused { body, .. } => {
                let fields = ErrorFields::new(body);
                // `S` may be translated; poolers have only `S`.
                let severity = fields.field(b'V').or_else(|| fields.field(b'S'));
                severity.is_none_or(|severity| severity != "ERROR")
            }
            _ => true,
        }
    }

    /// True where one backend has gone and another may stay: it was killed, or terminated by an administrator, or with others after a
    /// crash.
    pub(super) fn is_of_one_backend(&self) -> bool {
        match self {
            Self::Closed => true,
            Self::Refused { body, .. } => {
                let code = ErrorFields::new(body).code();
                code.is_some_and(|code| matches!(&*code, "57P01" | "57P02"))
            }
            _ => false,
        }
    }

    /// For the log: the cause, with what the server said or where it was looked for.
    pub(crate) fn for_log(&self) -> String {
        match self {
            Self::Refused { summary, .. } => format!("{self}: {summary}"),
            Self::Connect(error) => format!("{}: {}", error.target, error.cause),
            _ => self.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Refusal;

    #[test]
    fn clients_read_a_code_and_what_to_change_and_neither_the_address_nor_the_servers_words() {
        let connect =
            || ConnectError { target: "db.internal:5432".into(), cause: std::io::Error::other("db.internal").into() };
        let body = b"SERROR\0C42501\0Mfor db.internal\0\0";
        for (error, code) in [
            (UpstreamError::Connect(connect()), "08006"),
            (UpstreamError::Closed, "08006"),
            (UpstreamError::Unanswered, "08006"),
            (UpstreamError::Protocol(WireError::Malformed('x')), "08006"),
            (UpstreamError::Scram(ScramError::Nonce), "08006"),
            (UpstreamError::Unread, "08006"),
            (UpstreamError::Impostor, "08006"),
            (UpstreamError::refused(body), "08006"),
            (UpstreamError::StartupTooLong, "08P01"),
            (UpstreamError::Cleartext, "28000"),
            (UpstreamError::NoSecret("a password"), "28000"),
            (UpstreamError::Superuser, "28000"),
            (UpstreamError::Method("GSSAPI".into()), "0A000"),
        ] {
            let refusal = Refusal::from(&error);
            let mut message = Vec::new();
            refusal.encode(&mut message);
            let message = String::from_utf8_lossy(&message);
            assert!(refusal.to_string().starts_with(&format!("{code} pgvpd: ")), "{refusal}");
            assert!(!message.contains("db.internal"), "{message}");
        }
        assert!(UpstreamError::Connect(connect()).for_log().contains("db.internal:5432"));
        assert!(!UpstreamError::refused(body).is_fatal());
        assert!(UpstreamError::refused(b"SFEHLER\0VERROR\0\0").for_log().contains("refused"));
        assert!(UpstreamError::refused(b"SFATAL\0VFATAL\0\0").is_fatal());
    }
}
