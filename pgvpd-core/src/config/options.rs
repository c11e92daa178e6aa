//! The table of options: the one vocabulary of file, environment, flags and library users.

/// A group of options, as `--help` and the manual present them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Where clients connect.
    Listening,
    /// The PostgreSQL server.
    Upstream,
    /// TLS, with clients and with the server.
    Tls,
    /// From user name to tenant context.
    Identity,
    /// What keeps tenants apart.
    Isolation,
    /// Who may log in.
    Access,
    /// Limits of number and time.
    Limits,
    /// Relay and pooling.
    Relay,
    /// Proofs in pool modes.
    Authentication,
    /// Further values of the context.
    Resolvers,
    /// The log.
    Logging,
    /// The admin listener.
    Administration,
}

impl Topic {
    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Listening => "Listening",
            Self::Upstream => "Upstream",
            Self::Tls => "TLS",
            Self::Identity => "Tenant identity",
            Self::Isolation => "Tenant isolation",
            Self::Access => "Access",
            Self::Limits => "Limits",
            Self::Relay => "Relay and pooling",
            Self::Authentication => "Authentication in pool modes",
            Self::Resolvers => "Resolvers",
            Self::Logging => "Logging",
            Self::Administration => "Administration",
        }
    }
}

/// One option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// True where the value is a password, which is never shown.
    pub secret: bool,
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
    OptionSpec { name, env, default, value, topic, help, switch: false, secret: false }
}

const fn switch(mut spec: OptionSpec) -> OptionSpec {
    spec.switch = true;
    spec
}

const fn secret(mut spec: OptionSpec) -> OptionSpec {
    spec.secret = true;
    spec
}

use Topic::{
    Access, Administration, Authentication, Identity, Isolation, Limits, Listening, Logging, Relay, Resolvers, Tls,
    Upstream,
};

/// Every option, in the order of the manual.
#[rustfmt::skip]
pub const OPTIONS: &[OptionSpec] = &[
    option(Listening, "port", "PGVPD_PORT", "6432", "PORT",
        "TCP port to listen on; 0 takes a free one"),
    option(Listening, "listen_host", "PGVPD_HOST", "127.0.0.1", "HOST",
        "Address or host name to bind"),
    option(Listening, "listen_unix_dir", "PGVPD_LISTEN_UNIX_DIR", "off", "DIR",
        "Also listen on the Unix socket .s.PGSQL.<port> in this directory"),
    switch(option(Listening, "reuse_port", "PGVPD_REUSE_PORT", "false", "BOOL",
        "Let a new process listen on the same ports beside this one, to take over from it: SO_REUSEPORT")),
    option(Listening, "proxy_protocol", "PGVPD_PROXY_PROTOCOL", "off", "MODE",
        "off, or require: every TCP connection begins with a PROXY header (v1 or v2) that names the client"),
    option(Listening, "proxy_protocol_from", "PGVPD_PROXY_PROTOCOL_FROM", "none", "NETWORKS",
        "Where the load balancers are that send it: CIDRs, addresses, loopback; nobody else may connect over TCP"),

    option(Upstream, "upstream_host", "PGVPD_UPSTREAM_HOST", "127.0.0.1", "HOST",
        "PostgreSQL host; an absolute path is a Unix socket directory"),
    option(Upstream, "upstream_port", "PGVPD_UPSTREAM_PORT", "5432", "PORT",
        "PostgreSQL port"),

    option(Tls, "tls_cert", "PGVPD_TLS_CERT", "none", "FILE",
        "The proxy's certificate, with those between it and its authority, in PEM; with it TLS is spoken with clients"),
    option(Tls, "tls_key", "PGVPD_TLS_KEY", "none", "FILE",
        "Its private key, in PEM, not encrypted"),
    option(Tls, "client_tls", "PGVPD_CLIENT_TLS", "allow with tls_cert, else disable", "MODE",
        "TLS on port: disable; allow, with clients that ask for it; require, without which TCP clients are refused"),
    option(Tls, "tls_port", "PGVPD_TLS_PORT", "off", "PORT",
        "TCP port where only TLS is spoken, whatever client_tls says; 0 takes a free one"),
    option(Tls, "tls_client_ca", "PGVPD_TLS_CLIENT_CA", "none", "FILE",
        "The authorities whose certificates clients may show, in PEM"),
    option(Tls, "client_cert", "PGVPD_CLIENT_CERT", "none", "MODE",
        "none; verify: clients must show a certificate; tenant: it also decides which tenants they may claim, by cert_map"),
    option(Tls, "cert_map", "PGVPD_CERT_MAP", "none", "FILE",
        "TOML file: which role and tenant a certificate may claim, by common name, DNS name or URI"),
    switch(option(Tls, "upstream_tls", "PGVPD_UPSTREAM_TLS", "false", "BOOL",
        "Speak TLS with PostgreSQL; a server that does not is an error")),
    switch(option(Tls, "upstream_tls_verify", "PGVPD_UPSTREAM_TLS_VERIFY", "true", "BOOL",
        "Verify its certificate and that upstream_host is among the names in it")),
    option(Tls, "upstream_tls_ca", "PGVPD_UPSTREAM_TLS_CA", "none", "FILE",
        "The authorities that its certificate may be by, or the certificate itself, in PEM; without it the system's count"),
    option(Tls, "upstream_tls_cert", "PGVPD_UPSTREAM_TLS_CERT", "none", "FILE",
        "The certificate that the proxy shows a server that asks for one, in PEM"),
    option(Tls, "upstream_tls_key", "PGVPD_UPSTREAM_TLS_KEY", "none", "FILE",
        "Its private key, in PEM, not encrypted"),

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
    switch(option(Identity, "tenant_application_name", "PGVPD_TENANT_APPLICATION_NAME", "false", "BOOL",
        "Send pgvpd:<tenant> as application_name, so that pg_stat_activity shows who is who")),

    option(Isolation, "isolation", "PGVPD_ISOLATION", "context", "KIND",
        "What tells tenants apart in the database: context, that of the session; or role, a login role of each tenant's own"),
    option(Isolation, "context_signing", "PGVPD_CONTEXT_SIGNING", "require with a key, else off", "MODE",
        "Whether contexts are signed so that SQL cannot forge them: off; prefer, also where the database does not verify \
         them yet; require"),
    secret(option(Isolation, "context_signing_key", "PGVPD_CONTEXT_SIGNING_KEY", "none", "KEY",
        "The key, 64 to 128 hexadecimal digits")),
    option(Isolation, "context_signing_key_file", "PGVPD_CONTEXT_SIGNING_KEY_FILE", "none", "FILE",
        "A file that holds it"),
    option(Isolation, "context_key_id", "PGVPD_CONTEXT_KEY_ID", "1", "ID",
        "The name by which the database knows the key"),
    secret(option(Isolation, "context_previous_signing_key", "PGVPD_CONTEXT_PREVIOUS_SIGNING_KEY", "none", "KEY",
        "The key before, which signs where the database does not know the present one yet")),
    option(Isolation, "context_previous_signing_key_file", "PGVPD_CONTEXT_PREVIOUS_SIGNING_KEY_FILE", "none", "FILE",
        "A file that holds it"),
    option(Isolation, "context_previous_key_id", "PGVPD_CONTEXT_PREVIOUS_KEY_ID", "0", "ID",
        "The name by which the database knows that one"),
    option(Isolation, "role_check", "PGVPD_ROLE_CHECK", "refuse", "ACTION",
        "What becomes of a login with a role that policies cannot hold (a superuser's, an owner's): refuse or warn"),
    option(Isolation, "pin_settings", "PGVPD_PIN_SETTINGS", "local_preload_libraries=; row_security=on; standard_conforming_strings=on", "PAIRS",
        "Settings that every session begins with, whatever ALTER ROLE or ALTER DATABASE say: name=value; name=value"),
    option(Isolation, "notifications", "PGVPD_NOTIFICATIONS", "tenant", "WHICH",
        "Which notifications reach a session: off; tenant, of channels acme and acme:...; all. The raw relay passes all"),

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
    option(Limits, "max_logins", "PGVPD_MAX_LOGINS", "40", "NUMBER",
        "Logins in progress at one time, of clients that are not authenticated yet; further ones wait"),
    option(Limits, "max_logins_per_address", "PGVPD_MAX_LOGINS_PER_ADDRESS", "20", "NUMBER",
        "Those of one client address, an IPv6 /64, or the Unix socket"),
    option(Limits, "tenant_max_connections", "PGVPD_TENANT_MAX_CONNECTIONS", "none", "NUMBER",
        "Client sessions of one tenant at one time"),
    option(Limits, "tenant_rate_limit", "PGVPD_TENANT_RATE_LIMIT", "none", "NUMBER",
        "New connections of one tenant in a second"),
    option(Limits, "tenant_query_timeout", "PGVPD_TENANT_QUERY_TIMEOUT", "none", "SECONDS",
        "Time that a tenant's session may be idle, or one request outstanding: the one is closed, the other cancelled"),
    option(Limits, "tenants", "PGVPD_TENANTS", "none", "FILE",
        "TOML file: other limits for some tenants, by name or pattern, and tenants that may not log in"),
    option(Limits, "handshake_timeout", "PGVPD_HANDSHAKE_TIMEOUT", "30", "SECONDS",
        "Time for startup, authentication and injection together"),
    option(Limits, "tcp_keepalive_idle", "PGVPD_TCP_KEEPALIVE_IDLE", "60", "SECONDS",
        "Time without a byte after which TCP asks whether the other end is still there, on both sides of the proxy; 0: never"),
    option(Limits, "tcp_keepalive_interval", "PGVPD_TCP_KEEPALIVE_INTERVAL", "10", "SECONDS",
        "Time between two such questions"),
    option(Limits, "tcp_keepalive_count", "PGVPD_TCP_KEEPALIVE_COUNT", "6", "NUMBER",
        "Questions without an answer after which the connection counts as lost"),
    option(Limits, "tcp_user_timeout", "PGVPD_TCP_USER_TIMEOUT", "120", "SECONDS",
        "Time that the other end may leave what it was sent unacknowledged, or not take it, before the connection counts as \
         lost; 0: as long as the system says (Linux)"),
    option(Limits, "shutdown_timeout", "PGVPD_SHUTDOWN_TIMEOUT", "30", "SECONDS",
        "Time that sessions may go on after SIGTERM"),

    option(Relay, "relay", "PGVPD_RELAY", "raw", "RELAY",
        "How a tenant's bytes are passed on after the login: raw, unread; or framed, message by message, which an \
         option that must see messages turns on by itself"),
    option(Relay, "pool_mode", "PGVPD_POOL_MODE", "none", "MODE",
        "none: each session has an upstream connection of its own; session: it has one from a pool, for as long as it lasts"),
    option(Relay, "pool_size", "PGVPD_POOL_SIZE", "20", "NUMBER",
        "Upstream connections of one pool: one role in one database"),
    option(Relay, "max_upstream_connections", "PGVPD_MAX_UPSTREAM_CONNECTIONS", "100", "NUMBER",
        "Upstream connections of all pools together; idle ones of other pools are closed to make room"),
    option(Relay, "min_pool_size", "PGVPD_MIN_POOL_SIZE", "0", "NUMBER",
        "Upstream connections that a pool keeps open once it has been used"),
    option(Relay, "pool_checkout_timeout", "PGVPD_POOL_CHECKOUT_TIMEOUT", "5", "SECONDS",
        "Time that a client waits for an upstream connection"),
    option(Relay, "pool_idle_timeout", "PGVPD_POOL_IDLE_TIMEOUT", "300", "SECONDS",
        "Time after which an idle upstream connection is closed"),
    option(Relay, "server_lifetime", "PGVPD_SERVER_LIFETIME", "3600", "SECONDS",
        "Age at which an upstream connection is closed, less up to a tenth"),
    option(Relay, "server_check_delay", "PGVPD_SERVER_CHECK_DELAY", "30", "SECONDS",
        "Time after which an idle upstream connection is tried before a client gets it"),

    option(Authentication, "client_auth", "PGVPD_CLIENT_AUTH", "scram-sha-256", "METHOD",
        "How clients prove who they are: scram-sha-256, md5 or cleartext"),
    option(Authentication, "auth_file", "PGVPD_AUTH_FILE", "none", "FILE",
        "Roles and their secrets, in the form of PgBouncer's userlist.txt"),
    option(Authentication, "auth_user", "PGVPD_AUTH_USER", "none", "ROLE",
        "The role that asks the database for the verifiers of other roles"),
    option(Authentication, "auth_dbname", "PGVPD_AUTH_DBNAME", "none", "DATABASE",
        "The database that it asks in"),
    option(Authentication, "auth_query", "PGVPD_AUTH_QUERY", "SELECT role, verifier FROM public.pgvpd_get_auth($1)", "SQL",
        "What it asks: a query with the role's name as $1, whose row is the role and its verifier"),
    option(Authentication, "auth_query_ttl", "PGVPD_AUTH_QUERY_TTL", "30", "SECONDS",
        "Time that an answer is good for"),
    secret(option(Authentication, "pool_password", "PGVPD_POOL_PASSWORD", "none", "PASSWORD",
        "One password for all clients; it opens only login_roles")),
    option(Authentication, "pool_password_file", "PGVPD_POOL_PASSWORD_FILE", "none", "FILE",
        "A file that holds it"),
    secret(option(Authentication, "upstream_password", "PGVPD_UPSTREAM_PASSWORD", "none", "PASSWORD",
        "The password with which the proxy logs in to PostgreSQL")),
    option(Authentication, "upstream_password_file", "PGVPD_UPSTREAM_PASSWORD_FILE", "none", "FILE",
        "A file that holds it"),

    option(Resolvers, "resolvers", "PGVPD_RESOLVERS", "none", "FILE",
        "TOML file of resolvers: queries that work out further context variables"),
    option(Resolvers, "resolver_timeout", "PGVPD_RESOLVER_TIMEOUT", "5", "SECONDS",
        "Time that one resolver may take"),
    option(Resolvers, "resolver_user", "PGVPD_RESOLVER_USER", "none", "ROLE",
        "Role that asks, on few connections of the proxy's own; without it the session's own connection is asked"),
    secret(option(Resolvers, "resolver_password", "PGVPD_RESOLVER_PASSWORD", "none", "PASSWORD",
        "What the proxy proves to the server for that role")),
    option(Resolvers, "resolver_password_file", "PGVPD_RESOLVER_PASSWORD_FILE", "none", "FILE",
        "A file that holds it"),
    option(Resolvers, "resolver_pool_size", "PGVPD_RESOLVER_POOL_SIZE", "4", "NUMBER",
        "Connections of that role in one database"),
    switch(option(Resolvers, "resolver_notify", "PGVPD_RESOLVER_NOTIFY", "false", "BOOL",
        "Listen to NOTIFY pgvpd_invalidate, which makes results void and has open sessions resolved again")),
    option(Resolvers, "resolver_cache_size", "PGVPD_RESOLVER_CACHE_SIZE", "64", "MIB",
        "Memory that results with a cache_ttl may take"),

    option(Logging, "log_level", "PGVPD_LOG_LEVEL", "info", "LEVEL",
        "debug, info, warn, error, or a tracing filter such as pgvpd_core=debug"),
    option(Logging, "log_format", "PGVPD_LOG_FORMAT", "text", "FORMAT",
        "text or json"),
    switch(option(Logging, "log_sessions", "PGVPD_LOG_SESSIONS", "true", "BOOL",
        "A line when a session starts and one when it ends")),
    option(Logging, "audit_log", "PGVPD_AUDIT_LOG", "off", "FILE",
        "Where logins, bypass users, administrators' actions and revocations are written as JSON lines: a file, or stdout"),
    option(Logging, "audit_on_error", "PGVPD_AUDIT_ON_ERROR", "refuse", "ACTION",
        "What becomes of a login that cannot be written there: refuse, or continue"),

    option(Administration, "admin_port", "PGVPD_ADMIN_PORT", "off", "PORT",
        "TCP port for HTTP: /health, /ready, /metrics, /status, and what changes something; 0 takes a free one"),
    option(Administration, "admin_host", "PGVPD_ADMIN_HOST", "127.0.0.1", "HOST",
        "Address or host name to bind for it; off loopback everything but /health and /ready needs admin_token"),
    secret(option(Administration, "admin_token", "PGVPD_ADMIN_TOKEN", "none", "TOKEN",
        "What a request must show to change something: Authorization: Bearer TOKEN")),
    option(Administration, "admin_token_file", "PGVPD_ADMIN_TOKEN_FILE", "none", "FILE",
        "A file that holds it"),
    option(Administration, "admin_users", "PGVPD_ADMIN_USERS", "none", "USERS",
        "Comma-separated user names that may use the console, the database pgvpd; auth_file has their secrets"),
    option(Administration, "metrics_tenants", "PGVPD_METRICS_TENANTS", "100", "NUMBER",
        "Tenants that have metrics of their own, the most used ones; the rest count together"),
];
