//! Options of the pool, and of the secrets that clients and the proxy itself prove.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::reader::{Checked, Reader};
use super::values;
use crate::auth::{AuthFile, ClientAuth, Secret};
use crate::pool::{PoolLimits, PoolMode};
use crate::secrets::{AuthQuery, SecretSources};
use crate::tenant::IdentityRules;

const DEFAULT_AUTH_QUERY: &str = "SELECT role, verifier FROM public.pgvpd_get_auth($1)";

/// Everything that this file reads.
pub(super) struct Pooling {
    pub(super) mode: PoolMode,
    pub(super) limits: PoolLimits,
    pub(super) client_auth: ClientAuth,
    pub(super) secrets: SecretSources,
    /// What the operator should know and is not wrong.
    pub(super) notices: Vec<String>,
}

/// Reads the options. `identity` gets the contract's default for `login_roles`. `has_tls`: clients may come over TLS, and are
/// then authenticated by the proxy where it can, without a pool too.
pub(super) fn pooling(reader: &Reader<'_>, identity: &mut IdentityRules, has_tls: bool) -> Pooling {
    let mode = reader.read("pool_mode", values::pool_mode);
    let limits = limits(reader);
    let client_auth = reader.read("client_auth", values::client_auth).unwrap_or(ClientAuth::ScramSha256);
    let secrets = SecretSources {
        file: auth_file(reader),
        query: auth_query(reader),
        pool_password: secret(reader, "pool_password", "pool_password_file"),
        upstream_password: secret(reader, "upstream_password", "upstream_password_file"),
    };
    let is_set = |option: &&&str| reader.settings.value(option).is_some();
    let mode = match mode {
        None if reader.settings.value("pool_mode").is_some() => PoolMode::None,
        None | Some(PoolMode::None) => {
            // A bad value has been said already.
            for option in FOR_POOLS.iter().filter(is_set).filter(|option| !reader.is_problem(option)) {
                let message = match FOR_TLS.contains(option) {
                    true if has_tls => continue,
                    true if option == &"auth_file" && reader.settings.value("admin_users").is_some() => continue,
                    true => "has no effect without pool_mode = session, or tls_cert; set one, or remove this",
                    false => "has no effect without pool_mode = session; set it, or remove this",
                };
                reader.problem(option, message.into());
            }
            PoolMode::None
        }
        Some(PoolMode::Session) => {
            if !CLIENT_SECRETS.iter().any(|option| is_set(&option)) {
                let message = "session needs to know what clients prove: set auth_user, auth_file or pool_password";
                reader.problem("pool_mode", message.into());
            }
            if reader.settings.value("relay") == Some("raw") {
                reader.problem("relay", "raw is not possible with pool_mode = session; remove one".into());
            }
            PoolMode::Session
        }
    };
    if mode == PoolMode::Session && secrets.pool_password.is_some() && identity.login_roles.is_none() {
        identity.login_roles = Some(vec!["app_user".into()]);
    }
    let notices = secrets.file.iter().flat_map(|file| file.notices()).collect();
    Pooling { mode, limits, client_auth, secrets, notices }
}

/// Options that would promise something without a pool.
const FOR_POOLS: &[&str] =
    &["auth_file", "auth_user", "pool_password", "pool_password_file", "upstream_password", "upstream_password_file"];

/// Those of them that have a use without one where clients speak TLS.
const FOR_TLS: &[&str] = &["auth_file", "auth_user"];

/// Options that say what a client has to prove.
const CLIENT_SECRETS: &[&str] = &["auth_file", "auth_user", "pool_password", "pool_password_file"];

fn limits(reader: &Reader<'_>) -> PoolLimits {
    let seconds = |name, default| reader.read(name, values::seconds).unwrap_or(Duration::from_secs(default));
    let limits = PoolLimits {
        size: reader.read("pool_size", values::count).unwrap_or(20),
        max_upstream_connections: reader.read("max_upstream_connections", values::count).unwrap_or(100),
        min_size: reader.read("min_pool_size", values::count_or_zero).unwrap_or(0),
        idle_timeout: seconds("pool_idle_timeout", 300),
        checkout_timeout: seconds("pool_checkout_timeout", 5),
        server_lifetime: seconds("server_lifetime", 3600),
        server_check_delay: reader
            .read("server_check_delay", values::seconds_or_zero)
            .unwrap_or(Duration::from_secs(30)),
    };
    let is_set = |name| reader.settings.value(name).is_some();
    if limits.size > limits.max_upstream_connections && is_set("pool_size") {
        reader.problem("pool_size", "is more than max_upstream_connections permits; lower it, or raise that".into());
    }
    if limits.min_size > limits.size {
        reader.problem("min_pool_size", "is more than pool_size; lower it, or raise that".into());
    }
    limits
}

fn auth_query(reader: &Reader<'_>) -> Option<AuthQuery> {
    let is_set = |name: &str| reader.settings.value(name).is_some();
    let user = reader.read("auth_user", values::role);
    let database = reader.read("auth_dbname", values::database);
    let text = reader.read("auth_query", values::auth_query).unwrap_or_else(|| DEFAULT_AUTH_QUERY.into());
    let ttl = reader.read("auth_query_ttl", values::seconds_or_zero).unwrap_or(Duration::from_secs(30));
    if !is_set("auth_user") {
        for option in ["auth_dbname", "auth_query"] {
            if is_set(option) && !reader.is_problem(option) {
                reader.problem(
                    option,
                    "has no effect without auth_user, the role that asks; set it, or remove this".into(),
                );
            }
        }
    } else if user.is_some() && !is_set("auth_dbname") {
        let message = "needs auth_dbname, the database in which sql/setup.sql was run";
        reader.problem("auth_user", message.into());
    }
    Some(AuthQuery { user: user?, database: database?, text, ttl })
}

fn auth_file(reader: &Reader<'_>) -> Option<Arc<AuthFile>> {
    let read = |path: &str| {
        reader.secret_file(Path::new(path), "secrets of roles")?;
        AuthFile::read(Path::new(path))
    };
    reader.read("auth_file", read).map(Arc::new)
}

fn secret(reader: &Reader<'_>, option: &str, file_option: &str) -> Option<Secret> {
    secret_text(reader, option, file_option, |text| Secret::of(text).ok_or_else(|| "is empty".to_owned()))
}

/// A secret given as it is, or as a file that holds it.
pub(super) fn secret_text<T>(
    reader: &Reader<'_>,
    option: &str,
    file_option: &str,
    check: impl Fn(&str) -> Checked<T>,
) -> Option<T> {
    let given = reader.read(option, &check);
    let from_file = reader.read(file_option, |path| {
        let path = PathBuf::from(path);
        reader.secret_file(&path, option)?;
        let text = std::fs::read_to_string(&path).map(zeroize::Zeroizing::new);
        let text = text.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        // An editor's line end is not part of it.
        let line = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
        check(line).map_err(|error| format!("{} {error}", path.display()))
    });
    let is_set = |name: &str| reader.settings.value(name).is_some();
    if is_set(option) && is_set(file_option) {
        reader.problem(file_option, format!("{option} is set too; keep one"));
    }
    given.or(from_file)
}
