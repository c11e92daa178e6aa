//! What a client reads when its login fails: the one place where errors become SQLSTATE, message and hint.
//!
//! What a client may read is what this file writes: it names what the client sent, never a secret, and never where
//! the upstream is.

use std::time::Duration;

use crate::net::ConnectError;
use crate::resolve::{Fault, ResolveError};
use crate::secrets::SecretsError;
use crate::tenant::{IdentityError, ParameterError, PolicyError, TenantLimitError};
use crate::upstream::UpstreamError;
use crate::wire::{ErrorResponse, Severity, SqlState, WireError, normalize_setting_name};

/// An error for the client, in the form that PostgreSQL gives errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: SqlState,
    message: String,
    hint: Option<String>,
}

impl Refusal {
    pub(crate) fn new(code: SqlState, message: impl std::fmt::Display) -> Self {
        Self { code, message: format!("pgvpd: {message}"), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Appends the ErrorResponse to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        self.encode_as(Severity::Fatal, out);
    }

    /// The same with another severity.
    pub(crate) fn encode_as(&self, severity: Severity, out: &mut Vec<u8>) {
        let (message, hint) = (&self.message, self.hint.as_deref());
        ErrorResponse { severity, code: self.code, message, hint }.encode(out);
    }

    /// There is no connection to the server.
    pub(crate) fn unreachable(error: impl std::fmt::Display, connect: &ConnectError) -> Self {
        let refusal = Self::new(SqlState::CONNECTION_FAILURE, error);
        match connect.hint() {
            Some(hint) => refusal.hint(hint),
            None => refusal,
        }
    }

    /// `handshake_timeout` has passed.
    pub(crate) fn handshake_timeout() -> Self {
        Self::new(SqlState::QUERY_CANCELED, "the login took longer than handshake_timeout")
    }

    /// The proxy is told to stop.
    pub(crate) fn shutting_down() -> Self {
        Self::new(SqlState::ADMIN_SHUTDOWN, "the proxy is shutting down")
    }

    /// The line that tells of the login cannot be written (`audit_on_error = refuse`).
    pub(crate) fn not_audited() -> Self {
        Self::new(SqlState::IO_ERROR, "the login cannot be recorded").hint("The proxy's log says why; see audit_log.")
    }

    /// Without its code.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// An administrator has ended the session.
    pub(crate) fn terminated() -> Self {
        Self::new(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command")
    }

    /// What resolvers have found for a session is not what it was.
    pub(crate) fn context_changed() -> Self {
        Self::new(SqlState::ADMIN_SHUTDOWN, "the session's context has changed").hint("Connect again.")
    }

    /// A tenant's session has changed a role by this command.
    pub(crate) fn role_changed(command: &str) -> Self {
        let message = format_args!("a tenant's session may not change roles and is closed after {command}");
        Self::new(SqlState::INSUFFICIENT_PRIVILEGE, message)
            .hint("Change roles as an administrator, in a session without a tenant. What was committed stays in force.")
    }

    /// The client listens to a channel, and hears nothing of it.
    pub(crate) fn unheard_channel(channel: &str) -> Self {
        let message = format_args!("notifications of channel \"{channel}\" do not reach this session");
        Self::new(SqlState::SUCCESSFUL_COMPLETION, message)
    }

    /// In one query, statements after a reset would run without the context.
    pub(crate) fn cut_off() -> Self {
        let message = "statements after RESET or DISCARD in the same query would run without the tenant's context";
        Self::new(SqlState::FEATURE_NOT_SUPPORTED, message)
            .hint("Send the reset on its own; the context is back before the next query. Nothing of this one has run.")
    }

    /// `tenant_query_timeout` has passed without a byte either way.
    pub(crate) fn idle_session(timeout: Duration) -> Self {
        let seconds = timeout.as_secs_f64();
        Self::new(SqlState::IDLE_SESSION_TIMEOUT, format_args!("the session was idle for {seconds} s"))
            .hint("tenant_query_timeout closes idle sessions; connect again.")
    }

    /// A request has been cancelled by `tenant_query_timeout`; the session goes on.
    pub(crate) fn request_cancelled(timeout: Duration) -> Self {
        let seconds = timeout.as_secs_f64();
        let message = format_args!("the request was cancelled: it took longer than tenant_query_timeout, {seconds} s");
        Self::new(SqlState::QUERY_CANCELED, message)
            .hint("A tenant may have a query_timeout of its own in the file that tenants names.")
    }

    /// A request is outstanding although it was cancelled.
    pub(crate) fn query_timeout(timeout: Duration) -> Self {
        let seconds = timeout.as_secs_f64();
        let message = format_args!("a request was cancelled after {seconds} s and did not end within as long again");
        Self::new(SqlState::QUERY_CANCELED, message).hint("tenant_query_timeout limits the time of a request.")
    }

    /// The server has closed a session that was relayed, and has not said why.
    pub(crate) fn upstream_closed() -> Self {
        Self::new(SqlState::CONNECTION_FAILURE, "the upstream server closed the connection unexpectedly")
    }

    /// So many logins are in progress that this one has to leave.
    pub(crate) fn too_many_logins() -> Self {
        Self::new(SqlState::TOO_MANY_CONNECTIONS, "too many logins are in progress")
            .hint("Connect again; answer a request for a password at once; see max_logins and max_logins_per_address.")
    }

    /// `max_client_connections` is reached.
    pub(crate) fn too_many_clients(limit: usize) -> Self {
        Self::new(SqlState::TOO_MANY_CONNECTIONS, format_args!("too many client connections ({limit})"))
            .hint("Close idle connections, or raise max_client_connections.")
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.code, self.message)
    }
}

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        match &error {
            WireError::TlsClientHello => Self::new(SqlState::PROTOCOL_VIOLATION, &error)
                .hint("This port does not speak TLS. Use sslmode=disable or sslmode=prefer."),
            WireError::HttpRequest => {
                Self::new(SqlState::PROTOCOL_VIOLATION, &error).hint("This port speaks the PostgreSQL protocol.")
            }
            WireError::ProtocolVersion { .. } => Self::new(SqlState::FEATURE_NOT_SUPPORTED, &error),
            _ => Self::new(SqlState::PROTOCOL_VIOLATION, &error),
        }
    }
}

impl From<IdentityError> for Refusal {
    fn from(error: IdentityError) -> Self {
        let refusal = Self::new(SqlState::INVALID_AUTHORIZATION, &error);
        match &error {
            IdentityError::NoTenant { user, separator } => {
                refusal.hint(format!("Log in as \"{user}{separator}<tenant>\"."))
            }
            IdentityError::EmptyRole(_) | IdentityError::EmptyTenant(_) => {
                refusal.hint("Log in as \"<role>.<tenant>\".")
            }
            IdentityError::ValueCount { value_separator, .. } => {
                refusal.hint(format!("Values are separated by \"{value_separator}\"."))
            }
            IdentityError::Format { .. } => refusal.hint("tenant_format accepts only the canonical spelling."),
            IdentityError::Role(_) => refusal.hint("login_roles lists the roles that tenants may use."),
            IdentityError::RoleNameTooLong(_) => {
                refusal.hint("PostgreSQL's names have at most 63 bytes; it cuts longer ones off.")
            }
            IdentityError::RoleTooLong(_) => {
                refusal.hint("With isolation = role a tenant's name is part of its role's.")
            }
        }
    }
}

impl From<PolicyError> for Refusal {
    fn from(error: PolicyError) -> Self {
        let refusal = Self::new(SqlState::INVALID_AUTHORIZATION, &error);
        match error {
            PolicyError::Tenant(_) => refusal,
            PolicyError::BypassAddress(_) => refusal.hint("bypass_from lists the networks it may connect from."),
        }
    }
}

impl From<TenantLimitError> for Refusal {
    fn from(error: TenantLimitError) -> Self {
        Self::new(SqlState::TOO_MANY_CONNECTIONS, error).hint(match error {
            TenantLimitError::Connections { is_own: false, .. } => {
                "Close idle connections, or raise tenant_max_connections."
            }
            TenantLimitError::Connections { is_own: true, .. } => {
                "Close idle connections, or raise max_connections of this tenant in the file that tenants names."
            }
            TenantLimitError::Rate { is_own: false, .. } => {
                "Keep connections open for longer, or raise tenant_rate_limit."
            }
            TenantLimitError::Rate { is_own: true, .. } => {
                "Keep connections open for longer, or raise rate_limit of this tenant in the file that tenants names."
            }
        })
    }
}

impl From<ParameterError> for Refusal {
    fn from(error: ParameterError) -> Self {
        match &error {
            ParameterError::Forbidden(name) => {
                Self::new(SqlState::INSUFFICIENT_PRIVILEGE, &error).hint(remedy(&normalize_setting_name(name)))
            }
            ParameterError::DatabaseTooLong(_) => Self::new(SqlState::INVALID_AUTHORIZATION, &error)
                .hint("PostgreSQL's names have at most 63 bytes; it cuts longer ones off."),
            ParameterError::Options(_) => Self::new(SqlState::INSUFFICIENT_PRIVILEGE, &error),
            ParameterError::Replication => Self::new(SqlState::FEATURE_NOT_SUPPORTED, &error)
                .hint("Replicate as a user listed in superuser_bypass."),
        }
    }
}

/// Why a client cannot set this parameter, and what to do.
fn remedy(parameter: &str) -> &'static str {
    match parameter {
        "role" | "session_authorization" => {
            "The user name says which role a session has; remove the parameter. set_role has all sessions act as another one."
        }
        "row_security" => "Row-level security stays on for tenants; remove the parameter.",
        "standard_conforming_strings" => {
            "It stays on: with it off, a backslash could end a string that the application has quoted. Remove the parameter."
        }
        _ => "The proxy sets the tenant's context from the user name; remove the parameter.",
    }
}

impl From<&UpstreamError> for Refusal {
    fn from(error: &UpstreamError) -> Self {
        match error {
            UpstreamError::Connect(connect) => Self::unreachable(error, connect),
            UpstreamError::Closed
            | UpstreamError::Unanswered
            | UpstreamError::Protocol(_)
            | UpstreamError::Scram(_)
            | UpstreamError::Unread => Self::new(SqlState::CONNECTION_FAILURE, error),
            UpstreamError::Refused { .. } => {
                Self::new(SqlState::CONNECTION_FAILURE, error).hint("The proxy's log has what the server said.")
            }
            UpstreamError::Impostor => Self::new(SqlState::CONNECTION_FAILURE, error).hint(
                "Check that upstream_host is the right server, and that auth_file, auth_query or upstream_password \
                 have the role's present secret.",
            ),
            UpstreamError::StartupTooLong => Self::new(SqlState::PROTOCOL_VIOLATION, error)
                .hint("Send fewer or shorter startup parameters; PostgreSQL's limit is 10,000 bytes."),
            UpstreamError::Cleartext => Self::new(SqlState::INVALID_AUTHORIZATION, error).hint(
                "Use scram-sha-256 in pg_hba.conf, or TLS, or a Unix socket; allow_cleartext = true permits it anyway.",
            ),
            UpstreamError::NoSecret(_) => Self::new(SqlState::INVALID_AUTHORIZATION, error).hint(
                "Set upstream_password, give the role's password in auth_file, or use scram-sha-256 in pg_hba.conf \
                 and give clients and the proxy the server's own verifier, with auth_user or auth_file.",
            ),
            UpstreamError::Method(_) => Self::new(SqlState::FEATURE_NOT_SUPPORTED, error)
                .hint("Use scram-sha-256 in pg_hba.conf for the proxy's address."),
            UpstreamError::Superuser => Self::new(SqlState::INVALID_AUTHORIZATION, error)
                .hint("Row-level security does not apply to superusers; log in as a role without SUPERUSER."),
        }
    }
}

impl From<&ResolveError> for Refusal {
    fn from(error: &ResolveError) -> Self {
        let message = error.for_client();
        match &error.fault {
            fault if fault.is_a_refusal() => Self::new(SqlState::INVALID_AUTHORIZATION, message),
            Fault::Slow(_) | Fault::Busy(_) => Self::new(SqlState::QUERY_CANCELED, message)
                .hint("The proxy's log has the cause; `pgvpd resolve` shows it."),
            Fault::Stopped => Self::shutting_down(),
            _ => Self::new(SqlState::CONNECTION_FAILURE, message)
                .hint("The proxy's log has the cause; `pgvpd resolve` shows it."),
        }
    }
}

impl From<&SecretsError> for Refusal {
    fn from(error: &SecretsError) -> Self {
        Self::new(SqlState::CONNECTION_FAILURE, error).hint(
            "auth_user must be able to log in to auth_dbname and to run auth_query; the proxy's log has the cause.",
        )
    }
}
