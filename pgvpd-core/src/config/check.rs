//! From raw settings to a checked [`Config`], with every problem at once.

use super::admin::{Administration, administration};
use super::isolation::{self, IsolationOptions};
use super::pool::{Pooling, pooling};
use super::reader::Reader;
use super::resolvers::resolvers;
use super::settings::{ConfigError, Settings};
use super::tenants::tenants;
use super::tls::{Tls, tls};
use super::values;
use super::{Config, LogFormat, ProxyProtocol, Relay};
use crate::net::{Listen, TcpTimes, UpstreamAddress};
use crate::tenant::{BypassRules, IdentityRules, Network, TenantFormat, TenantPolicy, VariableName};
use crate::tls::TlsConfigs;

/// Checks every option, then what holds between options.
pub(super) fn check(settings: Settings, own_tls: TlsConfigs) -> Result<Config, ConfigError> {
    let reader = Reader::new(&settings);

    let host = reader.read("upstream_host", values::upstream_host).unwrap_or_else(|| "127.0.0.1".into());
    let Tls { rules: tls, port: tls_port, upstream: upstream_tls, notices: tls_notices } =
        tls(&reader, &own_tls, &host);
    let tcp = tcp_times(&reader);
    let listen = Listen {
        host: reader.read("listen_host", values::listen_host).unwrap_or_else(|| "127.0.0.1".into()),
        port: reader.read("port", values::port).unwrap_or(6432),
        unix_dir: reader.read("listen_unix_dir", values::unix_dir).flatten(),
        tls_port,
        reuse_port: reader.read("reuse_port", values::boolean).unwrap_or(false),
        tcp,
    };
    let upstream = UpstreamAddress {
        host,
        port: reader.read("upstream_port", values::upstream_port).unwrap_or(5432),
        tls: upstream_tls,
        tcp,
    };
    let mut identity = IdentityRules {
        separator: reader.read("tenant_separator", values::separator).unwrap_or_else(|| ".".into()),
        value_separator: reader.read("value_separator", values::separator).unwrap_or_else(|| ":".into()),
        variables: reader
            .read("context_variables", values::variables)
            .unwrap_or_else(|| vec![VariableName::current_tenant_id()])
            .into(),
        format: reader.read("tenant_format", values::tenant_format).unwrap_or(TenantFormat::Text),
        login_roles: reader.read("login_roles", values::names),
        role_per_tenant: false,
        resolved: std::sync::Arc::default(),
    };
    let isolation_options = isolation::isolation(&reader, &mut identity);
    let needs_messages = isolation::needs_messages(&reader, &isolation_options);
    let bypass = BypassRules {
        users: reader
            .read("superuser_bypass", values::list)
            .unwrap_or_else(|| vec!["postgres".into()])
            .into_iter()
            .collect(),
        from: reader.read("bypass_from", values::bypass_from).unwrap_or_else(|| vec![Network::Loopback, Network::Unix]),
    };
    let policy = match (reader.read("tenant_allow", values::names), reader.read("tenant_deny", values::list)) {
        (None, None) => TenantPolicy::Any,
        (Some(allow), None) => TenantPolicy::Only(allow.into_iter().collect()),
        (None, Some(deny)) => TenantPolicy::AllBut(deny.into_iter().collect()),
        (Some(_), Some(_)) => {
            reader.problem("tenant_deny", "tenant_allow and tenant_deny exclude each other; keep one".into());
            TenantPolicy::Only(std::collections::BTreeSet::new())
        }
    };
    let set_role = reader.read("set_role", values::role);
    let context_in_startup = reader.read("context_in_startup", values::boolean).unwrap_or(true);
    let tenant_application_name = reader.read("tenant_application_name", values::boolean).unwrap_or(false);
    let allow_trust = reader.read("allow_trust", values::boolean).unwrap_or(false);
    let allow_cleartext = reader.read("allow_cleartext", values::boolean).unwrap_or(false);
    let max_client_connections = reader.read("max_client_connections", values::count).unwrap_or(10_000);
    let max_logins = reader.read("max_logins", values::count).unwrap_or(40);
    let max_logins_per_address = reader.read("max_logins_per_address", values::count).unwrap_or(20);
    let handshake_timeout = reader.read("handshake_timeout", values::seconds).unwrap_or(THIRTY_SECONDS);
    let shutdown_timeout = reader.read("shutdown_timeout", values::seconds_or_zero).unwrap_or(THIRTY_SECONDS);
    let tenant_max_connections = reader.read("tenant_max_connections", values::count);
    let tenant_rate_limit = reader.read("tenant_rate_limit", values::rate);
    let tenant_query_timeout = reader.read("tenant_query_timeout", values::seconds);
    let tenants = tenants(&reader, identity.format);
    let needs_messages = needs_messages
        .or(tenant_query_timeout.map(|_| "tenant_query_timeout"))
        .or(tenants.limits_time().then_some("query_timeout in the file that tenants names"));
    let relay = reader.read("relay", values::relay).unwrap_or(match needs_messages {
        None => Relay::Raw,
        Some(_) => Relay::Framed,
    });
    let proxy_protocol = proxy_protocol(&reader);
    let Pooling { mode: pool_mode, limits: pool, client_auth, secrets, mut notices } =
        pooling(&reader, &mut identity, tls.clients.is_some() || settings.value("tls_cert").is_some());
    notices.extend(tls_notices);
    let resolvers = resolvers(&reader, &mut identity);
    let log_level = reader.read("log_level", values::log_level).unwrap_or_else(|| "info".into());
    let log_format = reader.read("log_format", values::log_format).unwrap_or(LogFormat::Text);
    let log_sessions = reader.read("log_sessions", values::boolean).unwrap_or(true);
    let Administration { admin, users: admin_users, audit, metrics_tenants, notices: admin_notices } =
        administration(&reader, &secrets, identity.login_roles.as_deref());
    notices.extend(admin_notices);

    check_between(&reader, &identity);
    if tls_port.is_some_and(|tls_port| tls_port == listen.port && tls_port != 0) {
        reader.problem("tls_port", "is that of port, where TLS is spoken too; give another, or remove this".into());
    }
    if let Some(option) = needs_messages.filter(|_| relay == Relay::Raw) {
        reader.problem("relay", format!("raw sees no messages, which {option} needs; use framed, or remove one"));
    }
    notices.extend(reader.take_notices());
    let IsolationOptions { isolation, signing, notifications, role_check, pin_settings } = isolation_options;
    let relay_of_mode = if pool_mode == super::PoolMode::None { relay } else { Relay::Framed };
    let notifications = isolation::seen_by(relay_of_mode, notifications);
    let problems = reader.into_problems();
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    Ok(Config {
        listen,
        tls,
        upstream,
        identity,
        bypass,
        policy,
        isolation,
        signing,
        notifications,
        role_check,
        pin_settings,
        set_role,
        context_in_startup,
        tenant_application_name,
        allow_trust,
        allow_cleartext,
        relay,
        proxy_protocol,
        tenant_max_connections,
        tenant_rate_limit,
        tenant_query_timeout,
        tenants,
        pool_mode,
        pool,
        client_auth,
        secrets,
        resolvers,
        notices,
        max_client_connections,
        max_logins,
        max_logins_per_address,
        handshake_timeout,
        shutdown_timeout,
        log_level,
        log_format,
        log_sessions,
        admin,
        admin_users,
        audit,
        metrics_tenants,
        settings,
        own_tls,
    })
}

const THIRTY_SECONDS: std::time::Duration = std::time::Duration::from_secs(30);

fn tcp_times(reader: &Reader<'_>) -> TcpTimes {
    let default = TcpTimes::default();
    let idle = reader.read("tcp_keepalive_idle", values::tcp_seconds_or_zero);
    let interval = reader.read("tcp_keepalive_interval", values::tcp_seconds);
    let count = reader.read("tcp_keepalive_count", values::tcp_count);
    let user_timeout = reader.read("tcp_user_timeout", values::tcp_seconds_or_zero);
    TcpTimes {
        keepalive_idle: idle.unwrap_or(default.keepalive_idle),
        keepalive_interval: interval.unwrap_or(default.keepalive_interval),
        keepalive_count: count.unwrap_or(default.keepalive_count),
        user_timeout: user_timeout.unwrap_or(default.user_timeout),
    }
}

/// The mode and its networks: neither says anything without the other.
fn proxy_protocol(reader: &Reader<'_>) -> ProxyProtocol {
    let mode = reader.read("proxy_protocol", values::proxy_protocol);
    if mode.is_none() && reader.settings.value("proxy_protocol").is_some() {
        return ProxyProtocol::Off;
    }
    let required = mode.unwrap_or(false);
    match (required, reader.read("proxy_protocol_from", values::balancers)) {
        (true, Some(networks)) => return ProxyProtocol::Require(networks),
        (true, None) if reader.settings.value("proxy_protocol_from").is_none() => {
            let message = "require needs proxy_protocol_from, the networks that the load balancers are in";
            reader.problem("proxy_protocol", message.into());
        }
        (false, Some(_)) => {
            let message = "has no effect without proxy_protocol = require; set it, or remove this";
            reader.problem("proxy_protocol_from", message.into());
        }
        _ => {}
    }
    ProxyProtocol::Off
}

/// Pairs of options that contradict each other.
fn check_between(reader: &Reader<'_>, identity: &IdentityRules) {
    // An entry that can never match is a rule its author believes in and does not have.
    if identity.format != TenantFormat::Text {
        for option in ["tenant_allow", "tenant_deny"] {
            let tenants = reader.settings.value(option).map(values::list).and_then(Result::ok).unwrap_or_default();
            if let Some(tenant) = tenants.iter().find(|tenant| !identity.format.is_canonical(tenant)) {
                reader.problem(option, format!("{tenant:?} can never match: it is not {}", identity.format.describe()));
            }
        }
    }
    if let Some(role) = identity.login_roles.iter().flatten().find(|role| role.contains(&identity.separator)) {
        reader.problem("login_roles", format!("{role:?} contains tenant_separator, so no login can name it"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{OPTIONS, OptionSpec, PoolMode};

    fn config(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let mut settings = Settings::new();
        for (name, value) in pairs {
            settings.set(name, value)?;
        }
        check(settings, TlsConfigs::default())
    }

    #[test]
    fn the_defaults_are_those_of_the_table() {
        let defaults = Config::default();
        for option in OPTIONS {
            // Words that stand for "not set" rather than for a value.
            let is_word = matches!(
                option.default,
                "any"
                    | "all"
                    | "none"
                    | "the login role"
                    | "require with a key, else off"
                    | "allow with tls_cert, else disable"
            );
            // Some say nothing without another option, and to ask for the filter turns the framed relay on.
            let is_dependent = matches!(
                option.name,
                "auth_query"
                    | "context_key_id"
                    | "context_previous_key_id"
                    | "notifications"
                    | "resolver_pool_size"
                    | "admin_host"
                    | "audit_on_error"
            );
            if is_word && option.name != "pool_mode" || is_dependent {
                continue;
            }
            let explicit = config(&[(option.name, option.default)]).unwrap_or_else(|error| panic!("{error}"));
            let comparable = |mut config: Config| {
                config.settings = Settings::new();
                format!("{config:?}")
            };
            assert_eq!(comparable(explicit), comparable(defaults.clone()), "{}", option.name);
        }
    }

    #[test]
    fn every_option_is_read_and_a_bad_value_is_refused_by_name() {
        let bad = |name: &str| match name {
            "tenant_separator" | "value_separator" | "set_role" | "log_level" | "upstream_host" => "",
            "auth_user" | "auth_dbname" | "resolver_user" => "",
            name if OptionSpec::named(name).is_some_and(|option| option.secret) => "",
            "listen_host" | "admin_host" => "/tmp",
            "audit_log" => "/nowhere/audit.log",
            _ => ",",
        };
        for option in OPTIONS {
            let error = config(&[(option.name, bad(option.name))]).expect_err(option.name);
            assert_eq!(error.problems.len(), 1, "{error}");
            assert_eq!(error.problems[0].option.as_deref(), Some(option.name));
        }
    }

    #[test]
    fn all_problems_are_reported_in_one_go() {
        let error = config(&[("port", "x"), ("allow_trust", "maybe"), ("relay", "frmed")]).expect_err("three problems");
        assert_eq!(error.problems.len(), 3, "{error}");
    }

    #[test]
    fn contradictory_pairs_are_refused() {
        for pairs in [
            &[("tenant_allow", "a"), ("tenant_deny", "b")][..],
            &[("tenant_format", "integer"), ("tenant_deny", "07")],
            &[("login_roles", "app.user")],
            &[("relay", "raw"), ("tenant_query_timeout", "1")],
            &[("proxy_protocol", "require")],
            &[("proxy_protocol_from", "10.0.0.0/8")],
            &[("proxy_protocol", "off"), ("proxy_protocol_from", "10.0.0.0/8")],
            &[("proxy_protocol", "require"), ("proxy_protocol_from", "unix")],
            &[("pool_mode", "session")],
            &[("pool_mode", "transaction"), ("pool_password", "x")],
            &[("pool_mode", "session"), ("pool_password", "x"), ("relay", "raw")],
            &[("pool_mode", "session"), ("pool_password", "x"), ("pool_password_file", "/dev/null")],
            &[("pool_password", "x")],
            &[("upstream_password", "x")],
            &[("pool_mode", "session"), ("auth_user", "asker")],
            &[("pool_mode", "session"), ("pool_password", "x"), ("auth_dbname", "d")],
            &[("tls_port", "6433")],
            &[("client_tls", "require")],
            &[("client_cert", "verify")],
            &[("cert_map", "/dev/null")],
            &[("upstream_tls", "true"), ("upstream_host", "/tmp")],
            &[("upstream_tls_verify", "false")],
            &[("pool_size", "101")],
            &[("admin_host", "::1")],
            &[("admin_token", "secret")],
            &[("audit_on_error", "continue")],
            &[("admin_users", "root")],
            &[("admin_users", "root"), ("auth_file", "/dev/null")],
            &[("min_pool_size", "21")],
        ] {
            assert!(config(pairs).is_err(), "{pairs:?}");
        }
    }

    #[test]
    fn an_option_that_must_see_messages_turns_the_framed_relay_on() -> Result<(), ConfigError> {
        assert_eq!(config(&[])?.relay, Relay::Raw);
        assert_eq!(config(&[("relay", "framed")])?.relay, Relay::Framed);
        assert_eq!(config(&[("tenant_query_timeout", "5")])?.relay, Relay::Framed);
        Ok(())
    }

    #[test]
    fn a_pool_password_opens_app_user_where_no_roles_are_named() -> Result<(), ConfigError> {
        let pool = [("pool_mode", "session"), ("pool_password", "s3cret")];
        let named = [&pool[..], &[("login_roles", "web, api")]].concat();
        let roles = |config: Config| config.identity.login_roles.unwrap_or_default();
        assert_eq!(config(&pool)?.pool_mode, PoolMode::Session);
        assert_eq!(roles(config(&pool)?), ["app_user"]);
        assert_eq!(roles(config(&named)?), ["web", "api"]);
        assert_eq!(roles(config(&[])?), [""; 0]);
        Ok(())
    }

    #[test]
    fn no_secret_is_shown() -> Result<(), ConfigError> {
        let pool = [("pool_mode", "session"), ("pool_password", "s3cret"), ("upstream_password", "s3cret")];
        let shown = format!("{:?}", config(&pool)?);
        assert!(!shown.contains("s3cret"), "{shown}");
        let error = config(&[("pool_password", "s3cret"), ("port", "x")]).expect_err("no pool");
        assert!(!format!("{error:?} {error}").contains("s3cret"));
        Ok(())
    }

    #[test]
    fn names_that_would_break_the_guarantee_cannot_be_context_variables() {
        for name in ["role", "search_path", "pgvpd.context", "app.x y", "app..x", "App.X", "a.b,a.b", ""] {
            assert!(config(&[("context_variables", name)]).is_err(), "{name:?}");
        }
    }
}
