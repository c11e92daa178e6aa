//! Options of the admin listener, of what it shows, and of the audit stream.

use std::net::IpAddr;

use super::pool::secret_text;
use super::reader::Reader;
use super::values;
use crate::administrators::{AdminRules, AdminToken, AdminUsers};
use crate::audit::{AuditOnError, AuditRules};
use crate::auth::Secret;
use crate::secrets::SecretSources;

/// Everything that this file reads.
pub(super) struct Administration {
    pub(super) admin: AdminRules,
    pub(super) users: AdminUsers,
    pub(super) audit: AuditRules,
    pub(super) metrics_tenants: usize,
    pub(super) notices: Vec<String>,
}

/// True for a host that nobody on another machine reaches.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

pub(super) fn administration(
    reader: &Reader<'_>,
    secrets: &SecretSources,
    login_roles: Option<&[String]>,
) -> Administration {
    let is_set = |name: &str| reader.settings.value(name).is_some();
    let port = reader.read("admin_port", values::optional_port).flatten();
    let host = reader.read("admin_host", values::listen_host).unwrap_or_else(|| "127.0.0.1".into());
    let token = secret_text(reader, "admin_token", "admin_token_file", values::token).map(AdminToken::new);
    let mut notices = Vec::new();
    if port.is_none() && !reader.is_problem("admin_port") {
        for option in ["admin_host", "admin_token", "admin_token_file"] {
            if is_set(option) && !reader.is_problem(option) {
                reader.problem(option, "has no effect without admin_port; set it, or remove this".into());
            }
        }
    }
    if port.is_some() && cfg!(not(feature = "admin")) {
        let message =
            "is not possible in this build, which has no admin listener; build pgvpd-core with its feature admin";
        reader.problem("admin_port", message.into());
    }
    if port.is_some() && token.is_none() && !is_loopback(&host) {
        notices.push(format!(
            "admin_host = {host} can be reached from elsewhere: without admin_token only /health and /ready answer"
        ));
    }
    let target = reader.read("audit_log", values::audit_log).flatten();
    let on_error = reader.read("audit_on_error", values::audit_on_error);
    if target.is_none() && on_error.is_some() && !reader.is_problem("audit_log") {
        reader.problem("audit_on_error", "has no effect without audit_log; set it, or remove this".into());
    }
    Administration {
        admin: AdminRules { host, port, token },
        users: admin_users(reader, secrets, login_roles),
        audit: AuditRules { target, on_error: on_error.unwrap_or(AuditOnError::Refuse) },
        metrics_tenants: reader.read("metrics_tenants", values::metrics_tenants).unwrap_or(100),
        notices,
    }
}

fn admin_users(reader: &Reader<'_>, secrets: &SecretSources, login_roles: Option<&[String]>) -> AdminUsers {
    let names = reader.read("admin_users", values::list).unwrap_or_default();
    let mut users = AdminUsers::default();
    if names.is_empty() || reader.is_problem("auth_file") {
        return users;
    }
    let Some(file) = &secrets.file else {
        reader
            .problem("admin_users", "needs auth_file, which has their secrets: \"user\" \"SCRAM-SHA-256$...\"".into());
        return users;
    };
    for name in names {
        match file.entry(&name).flatten() {
            _ if login_roles.is_some_and(|roles| roles.contains(&name)) => {
                let message =
                    format!("{name:?} is one of login_roles: whoever logs in as a tenant would have its secret");
                reader.problem("admin_users", message);
            }
            Some(Secret::Md5(_)) => {
                let message = format!("{name:?} has an MD5 digest in auth_file; the console asks for SCRAM-SHA-256");
                reader.problem("admin_users", message);
            }
            Some(secret) => {
                users.add(name, secret.clone());
            }
            None => reader.problem("admin_users", format!("{name:?} has no secret in auth_file")),
        }
    }
    users
}
