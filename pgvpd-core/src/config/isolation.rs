//! Options of what keeps tenants apart: the signed context, roles of their own, what is checked and what is filtered.

use super::pool::secret_text;
use super::reader::{Checked, Reader};
use super::{Isolation, Notifications, Relay};
use crate::context::{ContextSigning, RoleCheck, SigningKey, SigningMode, key_bytes, key_id};
use crate::tenant::IdentityRules;

/// Everything that this file reads.
pub(super) struct IsolationOptions {
    pub(super) isolation: Isolation,
    pub(super) signing: Option<ContextSigning>,
    pub(super) notifications: Notifications,
    pub(super) role_check: RoleCheck,
    pub(super) pin_settings: Vec<(String, String)>,
}

/// What `pin_settings` is where it is not set: with these a role could decide what its later sessions begin with before the proxy can
/// undo it. What else it has set for itself is undone.
const PINNED: &str = "local_preload_libraries=; row_security=on; standard_conforming_strings=on";

/// Reads the options; `identity` is told of roles of tenants' own.
pub(super) fn isolation(reader: &Reader<'_>, identity: &mut IdentityRules) -> IsolationOptions {
    let isolation = reader.read("isolation", isolation_value).unwrap_or(Isolation::Context);
    identity.role_per_tenant = isolation == Isolation::Role;
    if isolation == Isolation::Role && identity.separator != "." {
        let message = "role needs tenant_separator = \".\", with which pgvpd.create_tenant_role() names the roles";
        reader.problem("isolation", message.into());
    }
    let signing = signing(reader);
    let default_pins = || pinned(PINNED).unwrap_or_default();
    IsolationOptions {
        isolation,
        notifications: reader.read("notifications", notifications).unwrap_or(Notifications::Tenant),
        role_check: reader.read("role_check", role_check).unwrap_or(RoleCheck::Refuse),
        pin_settings: reader.read("pin_settings", pinned).unwrap_or_else(default_pins),
        signing,
    }
}

/// The relay that the options ask for, where none is named.
pub(super) fn needs_messages(reader: &Reader<'_>, options: &IsolationOptions) -> Option<&'static str> {
    let is_filtering = options.notifications != Notifications::All && reader.settings.value("notifications").is_some();
    match () {
        () if options.signing.is_some() => Some("context_signing"),
        () if is_filtering => Some("notifications"),
        () => None,
    }
}

/// Notifications that a relay lets pass: `raw` sees none of them.
pub(super) fn seen_by(relay: Relay, wanted: Notifications) -> Notifications {
    if relay == Relay::Raw { Notifications::All } else { wanted }
}

fn signing(reader: &Reader<'_>) -> Option<ContextSigning> {
    let is_set = |name: &str| reader.settings.value(name).is_some();
    let mode = reader.read("context_signing", signing_mode);
    let current = key(reader, "context_signing_key", "context_signing_key_file", "context_key_id", "1");
    let previous = key(
        reader,
        "context_previous_signing_key",
        "context_previous_signing_key_file",
        "context_previous_key_id",
        "0",
    );
    let has_key = is_set("context_signing_key") || is_set("context_signing_key_file");
    match mode {
        Some(SigningMode::Prefer | SigningMode::Require) if !has_key => {
            let message = "needs context_signing_key or context_signing_key_file; `openssl rand -hex 32` makes a key";
            reader.problem("context_signing", message.into());
        }
        Some(SigningMode::Off) if has_key => {
            reader.problem("context_signing", "off contradicts context_signing_key; remove one".into());
        }
        _ => {}
    }
    for option in [
        "context_key_id",
        "context_previous_signing_key",
        "context_previous_signing_key_file",
        "context_previous_key_id",
    ] {
        if is_set(option) && !has_key && !reader.is_problem(option) {
            reader.problem(option, "has no effect without context_signing_key; set it, or remove this".into());
        }
    }
    let current = current?;
    if previous.as_ref().is_some_and(|previous| previous.id() == current.id()) {
        let message = format!("is {:?}, as context_key_id is; two keys need two ids", current.id());
        reader.problem("context_previous_key_id", message);
    }
    match mode {
        Some(SigningMode::Off) => None,
        mode => Some(ContextSigning::new(mode.unwrap_or(SigningMode::Require), current, previous)),
    }
}

fn key(reader: &Reader<'_>, option: &str, file: &str, id_option: &str, default_id: &str) -> Option<SigningKey> {
    let id = reader.read(id_option, key_id);
    let id = match id {
        None if reader.settings.value(id_option).is_some() => return None,
        id => id.unwrap_or_else(|| default_id.to_owned()),
    };
    let secret = secret_text(reader, option, file, key_bytes)?;
    SigningKey::new(&id, secret)
}

fn signing_mode(text: &str) -> Checked<SigningMode> {
    match text {
        "off" => Ok(SigningMode::Off),
        "prefer" => Ok(SigningMode::Prefer),
        "require" => Ok(SigningMode::Require),
        _ => Err(format!("{text:?} is not one of off, prefer, require")),
    }
}

fn isolation_value(text: &str) -> Checked<Isolation> {
    match text {
        "context" => Ok(Isolation::Context),
        "role" => Ok(Isolation::Role),
        _ => Err(format!("{text:?} is not one of context, role")),
    }
}

fn notifications(text: &str) -> Checked<Notifications> {
    match text {
        "off" => Ok(Notifications::Off),
        "tenant" => Ok(Notifications::Tenant),
        "all" => Ok(Notifications::All),
        _ => Err(format!("{text:?} is not one of off, tenant, all")),
    }
}

fn role_check(text: &str) -> Checked<RoleCheck> {
    match text {
        "refuse" => Ok(RoleCheck::Refuse),
        "warn" => Ok(RoleCheck::Warn),
        _ => Err(format!("{text:?} is not one of refuse, warn")),
    }
}

/// `name=value` pairs between semicolons. None of them may be what the proxy itself decides.
fn pinned(text: &str) -> Checked<Vec<(String, String)>> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for item in text.split(';').map(str::trim).filter(|item| !item.is_empty()) {
        let Some((name, value)) = item.split_once('=') else {
            return Err(format!("{item:?} is not name=value; pairs are separated by semicolons"));
        };
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let is_own =
            matches!(&*name, "user" | "database" | "options" | "replication" | "role" | "session_authorization")
                || name.starts_with("pgvpd.");
        if name.is_empty() || !name.chars().all(is_name) || is_own || value.chars().any(char::is_control) {
            return Err(format!("{item:?} cannot be pinned; give settings such as statement_timeout=30s"));
        }
        if pairs.iter().any(|(other, _)| *other == name) {
            return Err(format!("{name} is pinned twice"));
        }
        pairs.push((name, value.to_owned()));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::super::{Config, ConfigError, Settings};
    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn config(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let mut settings = Settings::new();
        for (name, value) in pairs {
            settings.set(name, value)?;
        }
        Config::from_settings(settings)
    }

    #[test]
    fn a_key_alone_requires_signed_contexts_and_the_framed_relay() -> Result<(), ConfigError> {
        let signed = config(&[("context_signing_key", KEY)])?;
        assert_eq!(signed.signing.as_ref().map(|signing| signing.mode), Some(SigningMode::Require));
        assert_eq!(signed.relay, Relay::Framed);
        assert!(config(&[])?.signing.is_none());
        let pins = |config: &Config, name: &str| config.pin_settings.iter().any(|(pinned, _)| pinned == name);
        // None that could lift what the server says.
        assert!(!pins(&signed, "search_path") && !pins(&signed, "statement_timeout") && pins(&signed, "row_security"));
        let own = config(&[("context_signing_key", KEY), ("pin_settings", "statement_timeout=30s")])?;
        assert_eq!(own.pin_settings, [("statement_timeout".to_owned(), "30s".to_owned())]);
        let preferred = config(&[("context_signing_key", KEY), ("context_signing", "prefer")])?;
        assert_eq!(preferred.signing.map(|signing| signing.mode), Some(SigningMode::Prefer));
        Ok(())
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let key = ("context_signing_key", KEY);
        for pairs in [
            &[("context_signing", "require")][..],
            &[("context_signing", "prefer")],
            &[("context_signing", "off"), key],
            &[("context_key_id", "2")],
            &[("context_previous_signing_key", KEY)],
            &[key, ("context_previous_signing_key", KEY), ("context_previous_key_id", "1")],
            &[key, ("relay", "raw")],
            &[("notifications", "tenant"), ("relay", "raw")],
            &[("context_signing_key", "00")],
            &[("context_signing_key_file", "/nonexistent")],
            &[("isolation", "role"), ("tenant_separator", "@")],
        ] {
            assert!(config(pairs).is_err(), "{pairs:?}");
        }
    }

    #[test]
    fn no_key_is_shown() -> Result<(), ConfigError> {
        let shown = format!("{:?}", config(&[("context_signing_key", KEY)])?);
        assert!(!shown.contains("0001020304") && !shown.contains("0, 1, 2, 3"), "{shown}");
        let error = config(&[("context_signing_key", &KEY[1..])]).expect_err("an odd digit");
        assert!(!format!("{error:?} {error}").contains("2030405"), "{error}");
        Ok(())
    }

    #[test]
    fn settings_are_pinned_with_any_value_but_none_that_the_proxy_decides() {
        let pairs = pinned(r#"Search_Path = "$user", public ; statement_timeout=30s;x.y="#).expect("valid");
        let expected = [("search_path", r#""$user", public"#), ("statement_timeout", "30s"), ("x.y", "")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        for text in ["x", "=1", "role=x", "ROLE=x", "pgvpd.context=x", "options=-c", "a=1;A=2", "a b=1", "a=\u{1b}"] {
            assert!(pinned(text).is_err(), "{text:?}");
        }
    }
}
