//! What the proxy is told to do: raw [`Settings`] from any source, and the checked [`Config`] made from them.

mod admin;
mod check;
mod exposure;
mod file;
mod isolation;
mod options;
mod pool;
mod reader;
mod resolvers;
mod settings;
mod tenants;
mod tls;
mod values;

use std::num::NonZeroU32;
use std::time::Duration;

pub use options::{OPTIONS, OptionSpec, Topic};
pub use settings::{ConfigError, Origin, Problem, Settings};

pub use crate::address::ClientAddress;
pub use crate::administrators::{AdminRules, AdminToken, AdminUsers};
pub use crate::audit::{AuditOnError, AuditRules, AuditTarget};
pub use crate::auth::ClientAuth;
pub use crate::context::{ContextSigning, RoleCheck, SigningMode};
pub use crate::net::{Listen, TcpTimes, UpstreamAddress};
pub use crate::pool::{PoolLimits, PoolMode};
pub use crate::resolve::ResolverRules;
pub use crate::secrets::SecretSources;
pub use crate::tenant::TenantLimits;
use crate::tenant::{BypassRules, IdentityRules, Network, TenantOverrides, TenantPolicy};
pub use crate::tls::{ClientCert, ClientTlsMode, TlsConfigs, TlsRules};

/// A configuration that has passed every check. Options and defaults are those of `docs/configuration.md`.
///
/// ```
/// use pgvpd_core::{Config, Settings};
///
/// let mut settings = Settings::new();
/// settings.set("upstream_port", "5433")?;
/// let config = Config::from_settings(settings)?;
/// assert_eq!(config.upstream.port, 5433);
/// # Ok::<(), pgvpd_core::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Where clients connect.
    pub listen: Listen,
    /// TLS with clients.
    pub tls: TlsRules,
    /// The PostgreSQL server.
    pub upstream: UpstreamAddress,
    /// How a user name becomes a role and context values.
    pub identity: IdentityRules,
    /// User names that are passed through without a tenant, and from where.
    pub bypass: BypassRules,
    /// Which tenants may log in.
    pub policy: TenantPolicy,
    /// What tells tenants apart in the database.
    pub isolation: Isolation,
    /// The keys that contexts are signed with; `None` where they are plain settings.
    pub signing: Option<ContextSigning>,
    /// Which notifications reach tenants' sessions.
    pub notifications: Notifications,
    /// What becomes of a login with a role that policies cannot hold.
    pub role_check: RoleCheck,
    /// Settings that sessions begin with, whatever the role or the database has been given.
    pub pin_settings: Vec<(String, String)>,
    /// Role to switch to after the login; the login role when `None`.
    pub set_role: Option<String>,
    /// Also send the context variables in the upstream StartupMessage.
    pub context_in_startup: bool,
    /// Send the tenant as `application_name`, whatever the client sends.
    pub tenant_application_name: bool,
    /// Let remote clients log in where the server asks for no proof.
    pub allow_trust: bool,
    /// Let passwords cross a network in the clear.
    pub allow_cleartext: bool,
    /// How tenants' sessions are relayed.
    pub relay: Relay,
    /// PROXY headers, when clients come through a load balancer.
    pub proxy_protocol: ProxyProtocol,
    /// Sessions of one tenant at one time; `None` for no limit.
    pub tenant_max_connections: Option<usize>,
    /// New connections of one tenant in a second; `None` for no limit.
    pub tenant_rate_limit: Option<NonZeroU32>,
    /// How long a tenant's session may be idle, or one request outstanding; `None` for no limit.
    pub tenant_query_timeout: Option<Duration>,
    /// What some tenants have instead of these limits.
    pub tenants: TenantOverrides,
    /// Whether sessions share upstream connections.
    pub pool_mode: PoolMode,
    /// The pools' bounds.
    pub pool: PoolLimits,
    /// How clients of a pool prove who they are.
    pub client_auth: ClientAuth,
    /// What they prove, and what the proxy proves to the server.
    pub secrets: SecretSources,
    /// How further values of a tenant's context are worked out.
    pub resolvers: ResolverRules,
    /// Where administrators and monitoring connect.
    pub admin: AdminRules,
    /// Who may use the console.
    pub admin_users: AdminUsers,
    /// Where security events are written.
    pub audit: AuditRules,
    /// Tenants that have metrics of their own.
    pub metrics_tenants: usize,
    /// What the operator should know and is not wrong: to be said where the configuration is checked or put in force.
    pub notices: Vec<String>,
    /// Sessions at one time.
    pub max_client_connections: usize,
    /// Logins in progress at one time, of clients that are not authenticated.
    pub max_logins: usize,
    /// Those of one client address.
    pub max_logins_per_address: usize,
    /// For startup, authentication and injection together.
    pub handshake_timeout: Duration,
    /// How long sessions may go on after the proxy was told to stop.
    pub shutdown_timeout: Duration,
    /// Filter for the log, for programs that write one; the library does not.
    pub log_level: String,
    /// Form of the log, for programs that write one.
    pub log_format: LogFormat,
    /// Whether a session's start and end are in the log.
    pub log_sessions: bool,
    settings: Settings,
    own_tls: TlsConfigs,
}

/// What tells tenants apart in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// The context of a session.
    Context,
    /// A login role of each tenant's own.
    Role,
}

/// Which notifications of `LISTEN` reach a tenant's session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notifications {
    /// None.
    Off,
    /// Those of channels that are the tenant's: named like it, or beginning with its name and a colon.
    Tenant,
    /// All.
    All,
}

/// How a session's bytes are passed on after the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relay {
    /// Without looking at them.
    Raw,
    /// With an eye on where messages begin, so that requests can be timed and errors be said between messages.
    Framed,
}

/// Whether connections begin with a PROXY header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// They do not.
    Off,
    /// Every TCP connection does, and comes from one of these networks.
    Require(Vec<Network>),
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Checks the settings; options that are not set have their defaults.
    ///
    /// # Errors
    /// [`ConfigError`] lists every problem at once, each with where the value came from and what would be valid.
    pub fn from_settings(settings: Settings) -> Result<Self, ConfigError> {
        check::check(settings, TlsConfigs::default())
    }

    /// Reads and checks a configuration file (`key = value` lines).
    ///
    /// # Errors
    /// [`ConfigError`], also where the file cannot be read.
    pub fn from_file(path: impl AsRef<std::path::Path>) -> Result<Self, ConfigError> {
        Self::from_settings(Settings::from_file(path)?)
    }

    /// Takes the options from the `PGVPD_*` environment variables.
    ///
    /// # Errors
    /// [`ConfigError`] lists every problem at once.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_settings(Settings::from_env())
    }

    /// The TLS configurations of a program's own.
    pub(crate) fn own_tls(&self) -> &TlsConfigs {
        &self.own_tls
    }

    /// The settings this configuration was made from.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl Default for Config {
    fn default() -> Self {
        match check::check(Settings::new(), TlsConfigs::default()) {
            Ok(config) => config,
            Err(error) => unreachable!("the defaults are valid: {error}"),
        }
    }
}

impl TryFrom<Settings> for Config {
    type Error = ConfigError;

    fn try_from(settings: Settings) -> Result<Self, ConfigError> {
        Self::from_settings(settings)
    }
}
