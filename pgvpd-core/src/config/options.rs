//! The table of options: the one vocabulary of file, environment, flags and library users.

/// A group of options, as `--help` and the manual present them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Where clients connect.
    Listening,
    /// The PostgreSQL server.
    Upstream,
    /// From user name to tenant context.
    Identity,
    /// Who may log in.
    Access,
    /// Limits of number and time.
    Limits,
    /// Relay and pooling.
    Relay,
    /// The log.
    Logging,
}

impl Topic {
    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Listening => "Listening",
            Self::Upstream => "Upstream",
            Self::Identity => "Tenant identity",
            Self::Access => "Access",
            Self::Limits => "Limits",
            Self::Relay => "Relay and pooling",
            Self::Logging => "Logging",
        }
    }
}

/// One option.
#[derive(Debug, Clone, Copy)]
pub struct OptionSpec {
    /// Name in the configuration file; with dashes, the command-line flag.
    pub name: &'static str,
    /// Environment variable.
    pub env: &'static str,
    /// The default as the manual prints it.
    pub default: &'static str,
    /// Placeholder for the value.
    pub value: &'static str,
    /// Group.
    pub topic: Topic,
    /// What it does, in one or two sentences.
    pub help: &'static str,
    /// True for `true`/`false` options, whose flag may stand without a value.
    pub switch: bool,
}

impl OptionSpec {
    /// The option with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        OPTIONS.iter().find(|option| option.name == name)
    }

    /// The command-line flag without its leading dashes.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }
}

const fn option(
    topic: Topic,
    name: &'static str,
    env: &'static str,
    default: &'static str,
    value: &'static str,
    help: &'static str,
) -> OptionSpec {
    OptionSpec { name, env, default, value, topic, help, switch: false }
}

const fn switch(mut spec: OptionSpec) -> OptionSpec {
    spec.switch = true;
    spec
}

use Topic::{Access, Identity, Limits, Listening, Logging, Relay, Upstream};

/// Every option, in the order of the manual.
#[rustfmt::skip]
pub const OPTIONS: &[OptionSpec] = &[
    option(Listening, "port", "PGVPD_PORT", "6432", "PORT",
        "TCP port to listen on; 0 takes a free one"),
    option(Listening, "listen_host", "PGVPD_HOST", "127.0.0.1", "HOST",
        "Address or host name to bind"),
    option(Listening, "listen_unix_dir", "PGVPD_LISTEN_UNIX_DIR", "off", "DIR",
        "Also listen on the Unix socket .s.PGSQL.<port> in this directory"),
    option(Listening, "proxy_protocol", "PGVPD_PROXY_PROTOCOL", "off", "MODE",
        "off, or require: every TCP connection begins with a PROXY header (v1 or v2) that names the client"),
    option(Listening, "proxy_protocol_from", "PGVPD_PROXY_PROTOCOL_FROM", "none", "NETWORKS",
        "Where the load balancers are that send it: CIDRs, addresses, loopback; nobody else may connect over TCP"),

    option(Upstream, "upstream_host", "PGVPD_UPSTREAM_HOST", "127.0.0.1", "HOST",
        "PostgreSQL host; an absolute path is a Unix socket directory"),
    option(Upstream, "upstream_port", "PGVPD_UPSTREAM_PORT", "5432", "PORT",
        "PostgreSQL port"),

    option(Identity, "tenant_separator", "PGVPD_TENANT_SEPARATOR", ".", "TEXT",
        "Stands between role and tenant in the user name; the first one counts"),
    option(Identity, "context_variables", "PGVPD_CONTEXT_VARIABLES", "app.current_tenant_id", "NAMES",
        "Comma-separated session variables that the user name fills, the tenant first"),
    option(Identity, "value_separator", "PGVPD_VALUE_SEPARATOR", ":", "TEXT",
        "Stands between several context values in the user name"),
    option(Identity, "tenant_format", "PGVPD_TENANT_FORMAT", "text", "FORMAT",
        "Form of the first value: text, uuid or integer; other spellings of the same value are refused"),
    switch(option(Identity, "context_in_startup", "PGVPD_CONTEXT_IN_STARTUP", "true", "BOOL",
        "Also send the context as startup parameters, so that it survives RESET ALL and DISCARD ALL; \
         false where the upstream is a pooler that refuses them")),
    option(Identity, "set_role", "PGVPD_SET_ROLE", "the login role", "ROLE",
        "Role to switch to after login. A convenience, not a boundary: a session can return to its login role"),

    option(Access, "login_roles", "PGVPD_LOGIN_ROLES", "any", "ROLES",
        "Comma-separated roles that a tenant login may name"),
    option(Access, "superuser_bypass", "PGVPD_SUPERUSER_BYPASS", "postgres", "USERS",
        "Comma-separated user names that are passed through without a tenant"),
    option(Access, "bypass_from", "PGVPD_BYPASS_FROM", "loopback,unix", "NETWORKS",
        "Where bypass users may come from: CIDRs, addresses, loopback, unix"),
    switch(option(Access, "allow_trust", "PGVPD_ALLOW_TRUST", "false", "BOOL",
        "Let remote clients in where PostgreSQL asks for no proof (trust, peer)")),
    switch(option(Access, "allow_cleartext", "PGVPD_ALLOW_CLEARTEXT", "false", "BOOL",
        "Let passwords cross a network in the clear")),
    option(Access, "tenant_allow", "PGVPD_TENANT_ALLOW", "all", "TENANTS",
        "Comma-separated tenants that may log in; no others can"),
    option(Access, "tenant_deny", "PGVPD_TENANT_DENY", "none", "TENANTS",
        "Comma-separated tenants that may not log in"),

    option(Limits, "max_client_connections", "PGVPD_MAX_CLIENT_CONNECTIONS", "10000", "NUMBER",
        "Client sessions at one time"),
    option(Limits, "tenant_max_connections", "PGVPD_TENANT_MAX_CONNECTIONS", "none", "NUMBER",
        "Client sessions of one tenant at one time"),
    option(Limits, "tenant_rate_limit", "PGVPD_TENANT_RATE_LIMIT", "none", "NUMBER",
        "New connections of one tenant in a second"),
    option(Limits, "tenant_query_timeout", "PGVPD_TENANT_QUERY_TIMEOUT", "none", "SECONDS",
        "Time that a tenant's session may be idle, or one request outstanding: the one is closed, the other cancelled"),
    option(Limits, "handshake_timeout", "PGVPD_HANDSHAKE_TIMEOUT", "30", "SECONDS",
        "Time for startup, authentication and injection together"),
    option(Limits, "shutdown_timeout", "PGVPD_SHUTDOWN_TIMEOUT", "30", "SECONDS",
        "Time that sessions may go on after SIGTERM"),

    option(Relay, "relay", "PGVPD_RELAY", "raw", "RELAY",
        "How a tenant's bytes are passed on after the login: raw, unread; or framed, message by message, which an \
         option that must see messages turns on by itself"),
    option(Relay, "pool_mode", "PGVPD_POOL_MODE", "none", "MODE",
        "Pooling of upstream connections: none"),

    option(Logging, "log_level", "PGVPD_LOG_LEVEL", "info", "LEVEL",
        "debug, info, warn, error, or a tracing filter such as pgvpd_core=debug"),
    option(Logging, "log_format", "PGVPD_LOG_FORMAT", "text", "FORMAT",
        "text or json"),
];

/// Options of the contract that this release does not have. They are refused by name: to ignore one, such as a limit,
/// would fail open.
pub(super) const NOT_YET: &[&str] = &[
    "tls_port",
    "tls_cert",
    "tls_key",
    "upstream_tls",
    "upstream_tls_verify",
    "upstream_tls_ca",
    "pool_size",
    "max_upstream_connections",
    "pool_password",
    "upstream_password",
    "pool_idle_timeout",
    "pool_checkout_timeout",
    "resolvers",
    "admin_port",
    "admin_host",
    "admin_token",
];
