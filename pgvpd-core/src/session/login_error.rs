//! Why a login ends without a session.

use crate::context::{InjectionError, RoleFault};
use crate::error::Refusal;
use crate::net::ConnectError;
use crate::wire::{SqlState, WireError};

/// What a client may send ahead of a ready session, and the longest reply it may give.
pub(super) const MAX_HELD_BACK: usize = 64 * 1024;

/// A login that the proxy ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    #[error("cannot connect to the upstream server: {0}")]
    Connect(#[source] ConnectError),
    #[error("the upstream server closed the connection during the login")]
    UpstreamClosed,
    #[error("the upstream server broke the protocol during the login: {0}")]
    UpstreamProtocol(#[source] WireError),
    #[error(transparent)]
    ClientProtocol(WireError),
    #[error("client sent more than {MAX_HELD_BACK} bytes before the session was ready")]
    HeldBack,
    #[error("expected a password message, got type {0:?}")]
    UnexpectedReply(char),
    #[error("startup packet exceeds 10000 bytes together with the tenant's context")]
    StartupTooLong,
    #[error("the upstream server accepted the login without any proof")]
    Trust,
    #[error("the role has superuser rights, which tenant isolation does not reach")]
    Superuser,
    #[error("tenant isolation does not reach the role: {0}")]
    Role(RoleFault),
    #[error("the upstream server asks for a password that would cross the network in the clear")]
    Cleartext,
    #[error("the client's SCRAM proof would be for the proxy's TLS certificate, and the upstream server has another")]
    ChannelBinding,
    #[error("the upstream server asks for an authentication method that cannot be relayed: {0}")]
    Method(String),
    #[error("the upstream server refuses the startup parameter {0:?}")]
    StartupParameterRefused(String),
    #[error("the value of {0} is not ASCII and the database's encoding is not UTF8")]
    Encoding(String),
    #[error("the upstream server did not confirm the tenant's context")]
    NotConfirmed,
    #[error(
        "the database does not show when this role's sessions began, so that a signed context cannot be bound to one"
    )]
    NoFacts,
    #[error("the database does not verify the contexts that the proxy signs")]
    NotVerified,
    #[error("the database has no functions that verify a signed context")]
    NotInstalled,
}

/// How a login ends without a session.
#[derive(Debug)]
pub(super) enum LoginEnd {
    /// The proxy refuses.
    Refused(LoginError),
    /// The server refused; its own error goes to the client unchanged. For the log: code and message.
    PassedOn(String),
}

impl From<LoginError> for LoginEnd {
    fn from(error: LoginError) -> Self {
        Self::Refused(error)
    }
}

impl From<InjectionError> for LoginError {
    fn from(error: InjectionError) -> Self {
        match error {
            InjectionError::Superuser => Self::Superuser,
            InjectionError::NotConfirmed => Self::NotConfirmed,
            InjectionError::NoFacts => Self::NoFacts,
            InjectionError::NotVerified => Self::NotVerified,
            InjectionError::NotInstalled => Self::NotInstalled,
        }
    }
}

impl From<InjectionError> for Refusal {
    fn from(error: InjectionError) -> Self {
        Self::from(&LoginError::from(error))
    }
}

impl From<&LoginError> for Refusal {
    fn from(error: &LoginError) -> Self {
        match error {
            LoginError::Connect(connect) => Self::unreachable(error, connect),
            LoginError::ChannelBinding => Self::new(SqlState::INVALID_AUTHORIZATION, error).hint(
                "With auth_user or auth_file the proxy authenticates tenants' clients on TLS itself. Until then, and as a \
                 bypass user, connect with channel_binding=disable.",
            ),
            LoginError::UpstreamClosed | LoginError::UpstreamProtocol(_) => {
                Self::new(SqlState::CONNECTION_FAILURE, error)
            }
            LoginError::ClientProtocol(wire) => wire.clone().into(),
            LoginError::HeldBack | LoginError::UnexpectedReply(_) => Self::new(SqlState::PROTOCOL_VIOLATION, error),
            LoginError::StartupTooLong => Self::new(SqlState::PROTOCOL_VIOLATION, error)
                .hint("The startup packet grows by the tenant's context; PostgreSQL's limit is 10,000 bytes."),
            LoginError::Trust => Self::new(SqlState::INVALID_AUTHORIZATION, error).hint(
                "Ask for scram-sha-256 in pg_hba.conf for the proxy's address, or set allow_trust = true if that is meant.",
            ),
            LoginError::Superuser => Self::new(SqlState::INVALID_AUTHORIZATION, error)
                .hint("Row-level security does not apply to superusers; log in as a role without SUPERUSER."),
            LoginError::Role(_) => Self::new(SqlState::INVALID_AUTHORIZATION, error).hint(
                "Log in as a role that owns no tenants' tables and has no such rights; `pgvpd check` says more. \
                 role_check = warn lets it in.",
            ),
            LoginError::Cleartext => Self::new(SqlState::INVALID_AUTHORIZATION, error).hint(
                "Use scram-sha-256 in pg_hba.conf, or TLS, or a Unix socket; allow_cleartext = true permits it anyway.",
            ),
            LoginError::Method(_) => Self::new(SqlState::FEATURE_NOT_SUPPORTED, error)
                .hint("Use scram-sha-256 in pg_hba.conf for the proxy's address."),
            LoginError::StartupParameterRefused { .. } => Self::new(SqlState::PROTOCOL_VIOLATION, error)
                .hint("If the upstream is a connection pooler, set context_in_startup = false."),
            LoginError::Encoding(_) => Self::new(SqlState::FEATURE_NOT_SUPPORTED, error)
                .hint("Use a UTF8 database, ASCII tenant names, or context_in_startup = false."),
            LoginError::NotConfirmed => Self::new(SqlState::CONNECTION_FAILURE, error),
            LoginError::NoFacts => Self::new(SqlState::CONNECTION_FAILURE, error)
                .hint("On a standby, and in read-only sessions, that needs: GRANT <this role> TO pgvpd_owner;"),
            LoginError::NotVerified => Self::new(SqlState::CONNECTION_FAILURE, error).hint(
                "Its key and the proxy's differ, or it has none: `pgvpd key install` gives it the proxy's. \
                 With context_signing = prefer a database without a key is served as well.",
            ),
            LoginError::NotInstalled => Self::new(SqlState::CONNECTION_FAILURE, error)
                .hint("Run sql/setup.sql of this release in the database, or `pgvpd init`."),
        }
    }
}
