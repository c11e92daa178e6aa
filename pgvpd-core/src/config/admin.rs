//! Options of the admin listener, of what it shows, and of the audit stream.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::pool::{SecretSources, secret_text};
use super::reader::Reader;
use super::values;
use crate::auth::Secret;

/// Where administrators and monitoring connect, and what they must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminRules {
    /// Host name or address to bind.
    pub host: String,
    /// TCP port; 0 takes a free one. `None` for no admin listener.
    pub port: Option<u16>,
    /// What must be shown to change something, and off loopback to read.
    pub token: Option<AdminToken>,
}

/// A bearer token. Compared in constant time, shown by nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(Zeroizing<String>);

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(***)")
    }
}

impl AdminToken {
    /// The header `Authorization` that shows it.
    pub fn authorization(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("Bearer {}", self.0.as_str()))
    }

    /// True if this is the token.
    pub fn is(&self, shown: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(shown).into()
    }
}

/// Where security events are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditTarget {
    /// The program's standard output.
    Stdout,
    /// This file; lines are appended.
    File(PathBuf),
}

/// Opens a file that events are appended to, and makes it if `may_create`. Never waits for whatever is to read a named pipe: one that nobody
/// has open for reading is an error.
pub(crate) fn open_for_append(path: &Path, may_create: bool) -> io::Result<File> {
    let flag = OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().append(true).create(may_create).custom_flags(flag).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) {
        true => io::Error::new(error.kind(), "nobody reads this pipe"),
        false => error,
    })?;
    // Writing does wait.
    let flags = fcntl_getfl(&file)?;
    fcntl_setfl(&file, flags.difference(OFlags::NONBLOCK))?;
    Ok(file)
}

/// The audit stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRules {
    /// `None` for none.
    pub target: Option<AuditTarget>,
    /// What becomes of a login whose event cannot be written.
    pub on_error: AuditOnError,
}

/// What becomes of a login, or an administrator's action, whose event cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditOnError {
    /// It is refused.
    Refuse,
    /// It goes on, and the log says that an event is lost.
    Continue,
}

/// Those who may use the console: user names, compared exactly. What each has to prove is its secret of `auth_file`, and no
/// other: nobody comes in by `pool_password`, or by what the database says.
#[derive(Debug, Clone, Default)]
pub struct AdminUsers {
    secrets: BTreeMap<String, Secret>,
}

impl AdminUsers {
    /// True where nobody may, and there is no console.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// What a user has to prove; `None`: it may not come in.
    pub(crate) fn secret(&self, user: &str) -> Option<&Secret> {
        self.secrets.get(user)
    }
}

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
    let token = secret_text(reader, "admin_token", "admin_token_file", values::token)
        .map(|token| AdminToken(Zeroizing::new(token)));
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
                users.secrets.insert(name, secret.clone());
            }
            None => reader.problem("admin_users", format!("{name:?} has no secret in auth_file")),
        }
    }
    users
}
