//! From an option's text to a typed value; each error says what would be valid.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::Checked;
use super::tls::WantedCert;
use super::{LogFormat, Relay};
use crate::audit::{AuditOnError, AuditTarget, open_for_append};
use crate::auth::ClientAuth;
use crate::pool::PoolMode;
use crate::tenant::{Network, TenantFormat, VariableName};
use crate::tls::ClientTlsMode;

pub(super) fn port(text: &str) -> Checked<u16> {
    text.parse().map_err(|_| format!("{text:?} is not a port; give a number from 0 to 65535"))
}

pub(super) fn upstream_port(text: &str) -> Checked<u16> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("{text:?} is not a port; give a number from 1 to 65535")),
    }
}

/// `off`, or a port.
pub(super) fn optional_port(text: &str) -> Checked<Option<u16>> {
    if text == "off" { Ok(None) } else { port(text).map(Some).map_err(|error| format!("{error}, or off")) }
}

pub(super) fn client_tls(text: &str) -> Checked<ClientTlsMode> {
    match text {
        "disable" => Ok(ClientTlsMode::Disable),
        "allow" => Ok(ClientTlsMode::Allow),
        "require" => Ok(ClientTlsMode::Require),
        _ => Err(format!("{text:?} is not one of disable, allow, require")),
    }
}

pub(super) fn client_cert(text: &str) -> Checked<WantedCert> {
    match text {
        "none" => Ok(WantedCert::None),
        "verify" => Ok(WantedCert::Verify),
        "tenant" => Ok(WantedCert::Tenant),
        _ => Err(format!("{text:?} is not one of none, verify, tenant")),
    }
}

pub(super) fn boolean(text: &str) -> Checked<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Ok(true),
        "false" | "off" | "no" | "0" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

pub(super) fn count(text: &str) -> Checked<usize> {
    match text.parse() {
        Ok(count) if (1..=10_000_000).contains(&count) => Ok(count),
        _ => Err(format!("{text:?} is not a number from 1 to 10000000")),
    }
}

pub(super) fn rate(text: &str) -> Checked<NonZeroU32> {
    match text.parse() {
        Ok(rate) if rate <= NonZeroU32::MIN.saturating_add(999_999) => Ok(rate),
        _ => Err(format!("{text:?} is not a number from 1 to 1000000")),
    }
}

/// A time that something waits: never zero, since every wait has an end and a useful one.
pub(super) fn seconds(text: &str) -> Checked<Duration> {
    match seconds_or_zero(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(format!("{text:?} is not a time; give seconds from 0.001 to 86400")),
    }
}

pub(super) fn seconds_or_zero(text: &str) -> Checked<Duration> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..=86_400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| format!("{text:?} is not a time; give seconds from 0 to 86400"))
}

/// A time of TCP in seconds, which the kernel keeps in 15 bits.
pub(super) fn tcp_seconds(text: &str) -> Checked<u16> {
    text.parse()
        .ok()
        .filter(|seconds| (1..=32_767).contains(seconds))
        .ok_or_else(|| format!("{text:?} is not a time that TCP can keep; give whole seconds from 1 to 32767"))
}

/// The same, or 0 for none.
pub(super) fn tcp_seconds_or_zero(text: &str) -> Checked<u16> {
    match text {
        "0" => Ok(0),
        _ => tcp_seconds(text)
            .map_err(|_| format!("{text:?} is not a time that TCP can keep; give whole seconds from 0 to 32767")),
    }
}

pub(super) fn tcp_count(text: &str) -> Checked<u8> {
    text.parse()
        .ok()
        .filter(|count| (1..=127).contains(count))
        .ok_or_else(|| format!("{text:?} is not a number from 1 to 127"))
}

/// A host name or address; for the listener it is never a path.
pub(super) fn listen_host(text: &str) -> Checked<String> {
    match text {
        "*" => Err("\"*\" is not an address; 0.0.0.0 listens on all IPv4 addresses, :: on all".into()),
        _ if text.is_empty() || text.contains(['/', ' ', ',']) => {
            Err(format!("{text:?} is not an address or host name; for a Unix socket use listen_unix_dir"))
        }
        _ => Ok(text.into()),
    }
}

pub(super) fn upstream_host(text: &str) -> Checked<String> {
    let is_path = text.starts_with('/');
    if text.is_empty() || (!is_path && text.contains(['/', ' ', ','])) {
        return Err(format!("{text:?} is not a host name, an address, or the absolute path of a socket directory"));
    }
    Ok(text.into())
}

/// `off`, or a directory that exists.
pub(super) fn unix_dir(text: &str) -> Checked<Option<PathBuf>> {
    if text == "off" {
        return Ok(None);
    }
    let path = PathBuf::from(text);
    if !path.is_absolute() || !path.is_dir() {
        return Err(format!("{text:?} is not an existing directory; give its absolute path, or off"));
    }
    Ok(Some(path))
}

pub(super) fn separator(text: &str) -> Checked<String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(format!("{text:?} cannot separate; give at least one printable character"));
    }
    Ok(text.into())
}

pub(super) fn variables(text: &str) -> Checked<Vec<VariableName>> {
    let names = list(text)?.into_iter().map(|name| VariableName::new(&name)).collect::<Result<Vec<_>, _>>()?;
    match names.len() {
        0 => Err("name at least one variable, such as app.current_tenant_id".into()),
        1..=32 if names.iter().collect::<BTreeSet<_>>().len() < names.len() => {
            Err(format!("{text:?} names a variable twice"))
        }
        1..=32 => Ok(names),
        count => Err(format!("{count} variables are too many; 32 are the most")),
    }
}

pub(super) fn tenant_format(text: &str) -> Checked<TenantFormat> {
    match text {
        "text" => Ok(TenantFormat::Text),
        "uuid" => Ok(TenantFormat::Uuid),
        "integer" => Ok(TenantFormat::Integer),
        _ => Err(format!("{text:?} is not one of text, uuid, integer")),
    }
}

pub(super) fn role(text: &str) -> Checked<String> {
    match text {
        "" | "none" => Err(format!("{text:?} is not a role name")),
        _ if text.contains('\0') => Err(format!("{text:?} is not a role name")),
        _ => Ok(text.into()),
    }
}

/// A comma-separated list; blanks around items do not count. An empty text is an empty list.
pub(super) fn list(text: &str) -> Checked<Vec<String>> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let items: Vec<String> = text.split(',').map(|item| item.trim().to_owned()).collect();
    if items.iter().any(String::is_empty) {
        return Err(format!("{text:?} has an empty item"));
    }
    Ok(items)
}

/// A list that would shut everybody out if it were empty, and is then more likely a mistake.
pub(super) fn names(text: &str) -> Checked<Vec<String>> {
    let names = list(text)?;
    if names.is_empty() { Err("the list is empty; remove the option or name at least one".into()) } else { Ok(names) }
}

pub(super) fn bypass_from(text: &str) -> Checked<Vec<Network>> {
    list(text)?.iter().map(|item| item.parse()).collect()
}

pub(super) fn log_level(text: &str) -> Checked<String> {
    // A filter takes a bare word for the name of a module, so that a misspelt level would silence the log.
    let is_level = |word: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&word);
    let part_is_valid = |part: &str| part.contains(['=', '[']) || is_level(&part.trim().to_ascii_lowercase());
    if text.split(',').all(part_is_valid) {
        Ok(text.into())
    } else {
        Err(format!("{text:?} is not one of debug, info, warn, error, nor a filter such as pgvpd_core=debug"))
    }
}

pub(super) fn log_format(text: &str) -> Checked<LogFormat> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("{text:?} is not one of text, json")),
    }
}

pub(super) fn relay(text: &str) -> Checked<Relay> {
    match text {
        "raw" => Ok(Relay::Raw),
        "framed" => Ok(Relay::Framed),
        _ => Err(format!("{text:?} is not one of raw, framed")),
    }
}

/// True if connections must begin with a PROXY header.
pub(super) fn proxy_protocol(text: &str) -> Checked<bool> {
    match text {
        "off" => Ok(false),
        "require" => Ok(true),
        _ => Err(format!("{text:?} is not one of off, require")),
    }
}

/// Where PROXY headers are believed from. Clients of the Unix socket send none.
pub(super) fn balancers(text: &str) -> Checked<Vec<Network>> {
    let networks: Vec<Network> = list(text)?.iter().map(|item| item.parse()).collect::<Result<_, _>>()?;
    match networks.first() {
        None => Err("the list is empty; name the networks that the load balancers are in".into()),
        Some(_) if networks.contains(&Network::Unix) => {
            Err("\"unix\" is not possible: the PROXY protocol is for TCP connections".into())
        }
        Some(_) => Ok(networks),
    }
}

pub(super) fn pool_mode(text: &str) -> Checked<PoolMode> {
    match text {
        "none" => Ok(PoolMode::None),
        "session" => Ok(PoolMode::Session),
        "transaction" => Err("\"transaction\" is not in this release yet; use session".into()),
        _ => Err(format!("{text:?} is not one of none, session")),
    }
}

pub(super) fn client_auth(text: &str) -> Checked<ClientAuth> {
    match text {
        "scram-sha-256" => Ok(ClientAuth::ScramSha256),
        "md5" => Ok(ClientAuth::Md5),
        "cleartext" => Ok(ClientAuth::Cleartext),
        _ => Err(format!("{text:?} is not one of scram-sha-256, md5, cleartext")),
    }
}

pub(super) fn count_or_zero(text: &str) -> Checked<usize> {
    match text {
        "0" => Ok(0),
        _ => count(text).map_err(|_| format!("{text:?} is not a number from 0 to 10000000")),
    }
}

pub(super) fn database(text: &str) -> Checked<String> {
    match text {
        _ if text.is_empty() || text.contains('\0') => Err(format!("{text:?} is not a database name")),
        _ => Ok(text.into()),
    }
}

pub(super) fn auth_query(text: &str) -> Checked<String> {
    match text {
        _ if text.contains('\0') || !text.contains("$1") => Err("has no $1, which stands for the role's name".into()),
        _ => Ok(text.into()),
    }
}

/// What an administrator shows in a header: visible ASCII (RFC 6750, section 2.1).
pub(super) fn token(text: &str) -> Checked<String> {
    match text {
        "" => Err("is empty".into()),
        _ if text.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(text.into()),
        _ => Err("holds other than visible ASCII characters, which no HTTP header can carry".into()),
    }
}

/// `off`, `stdout`, or a file.
pub(super) fn audit_log(text: &str) -> Checked<Option<AuditTarget>> {
    match text {
        "off" => return Ok(None),
        "stdout" => return Ok(Some(AuditTarget::Stdout)),
        "" => return Err("\"\" is not a file; give its path, stdout, or off".into()),
        _ => {}
    }
    let path = PathBuf::from(text);
    is_writable(&path).map_err(|error| format!("cannot write to {text}: {error}; give a file, stdout, or off"))?;
    Ok(Some(AuditTarget::File(path)))
}

/// Whether a file can be appended to, or made; without making it, since who checks may be somebody else than who writes.
fn is_writable(path: &Path) -> std::io::Result<()> {
    use rustix::fs::{Access, access};
    if path.exists() {
        return open_for_append(path, false).map(|_| ());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(access(parent, Access::WRITE_OK | Access::EXEC_OK)?)
}

pub(super) fn audit_on_error(text: &str) -> Checked<AuditOnError> {
    match text {
        "refuse" => Ok(AuditOnError::Refuse),
        "continue" => Ok(AuditOnError::Continue),
        _ => Err(format!("{text:?} is not one of refuse, continue")),
    }
}

pub(super) fn metrics_tenants(text: &str) -> Checked<usize> {
    match text.parse() {
        Ok(count) if count <= 10_000 => Ok(count),
        _ => Err(format!("{text:?} is not a number from 0 to 10000")),
    }
}
