//! Options of what keeps tenants apart: the signed context, roles of their own, what is checked and what is filtered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::Relay;
use super::pool::secret_text;
use super::reader::{Checked, Reader};
use crate::context::{Binding, Facts, SigningKey, is_key_id, unhex};
use crate::tenant::IdentityRules;

/// What tells tenants apart in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// The context of a session.
    Context,
    /// A login role of each tenant's own.
    Role,
}

/// Whether contexts are signed, and what is expected of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningMode {
    /// They are plain settings.
    Off,
    /// They are signed; a database that does not verify them yet is served as well.
    Prefer,
    /// They are signed, and a session begins only where the database has verified its context.
    Require,
}

impl SigningMode {
    /// Its name, as options have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Prefer => "prefer",
            Self::Require => "require",
        }
    }
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

/// What becomes of a login with a role that policies cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleCheck {
    /// It is refused.
    Refuse,
    /// It goes on, with a line in the log.
    Warn,
}

/// The keys that contexts are signed with.
#[derive(Debug, Clone)]
pub struct ContextSigning {
    pub(crate) mode: SigningMode,
    keys: Arc<Keys>,
}

#[derive(Debug)]
struct Keys {
    current: SigningKey,
    previous: Option<SigningKey>,
    verified: Mutex<Verified>,
}

/// What databases have verified of late.
#[derive(Debug, Default)]
struct Verified {
    /// When one last verified the current key.
    current: Option<Instant>,
    /// When one that does not know the current key yet verified the previous one; `None` once the current key was verified after it.
    previous: Option<Instant>,
}

impl ContextSigning {
    /// The keys, in the order in which they are to be tried.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &SigningKey> {
        let Keys { current, previous, verified } = &*self.keys;
        let used = verified.lock().unwrap_or_else(PoisonError::into_inner).previous;
        let is_first = used.is_some_and(|used| used.elapsed() < TRY_CURRENT_AGAIN);
        let keys = match (previous, is_first) {
            (Some(previous), true) => [Some(previous), Some(current)],
            (previous, _) => [Some(current), previous.as_ref()],
        };
        keys.into_iter().flatten()
    }

    /// The bytes of a key, from an id and digits as a configuration has them, for programs that install one.
    ///
    /// # Errors
    ///
    /// Says what is wrong, without the digits.
    pub fn read_key(id: &str, digits: &str) -> Result<Zeroizing<Vec<u8>>, String> {
        key_id(id)?;
        key_bytes(digits.trim()).map_err(|error| format!("what is given as the key {error}"))
    }

    /// Signs a probe with each key, for the session that this row of `pgvpd.attach()` (as PostgreSQL prints one) is of: the id of
    /// each key and its token. Set as `pgvpd.context` where the database knows that key, `pgvpd_context('pgvpd.signed')` is `on`.
    /// Empty for a row that is none. For `pgvpd check` and the like; it signs no tenant.
    pub fn probes(&self, attached: &str, database: &str, session_user: &str) -> Vec<(String, String)> {
        let Some(facts) = Facts::parse(attached.as_bytes()) else { return Vec::new() };
        let binding = Binding { facts, database, session_user };
        let probe = [("pgvpd.signed".to_owned(), "on".to_owned())];
        self.keys().map(|key| (key.id().to_owned(), key.sign(&binding, &probe))).collect()
    }

    /// The database has verified what this key signed, at `signed_at`.
    pub(crate) fn verified(&self, key: &SigningKey, signed_at: Instant) {
        let mut verified = self.keys.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if *key == self.keys.current {
            *verified = Verified { current: Some(Instant::now()), previous: None };
            return;
        }
        // Who signed before the current key was verified does not know of it: the previous one may be about to expire.
        let is_outdated = verified.current.is_some_and(|at| signed_at <= at);
        // Only the first of many says when: the current one is to be tried again, however many sessions there are.
        let is_known = verified.previous.is_some_and(|at| at.elapsed() < TRY_CURRENT_AGAIN);
        if !is_outdated && !is_known {
            verified.previous = Some(Instant::now());
        }
    }
}

/// How long the previous key is tried first where the database knew that one.
const TRY_CURRENT_AGAIN: Duration = Duration::from_secs(1);

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
    let keys = Arc::new(Keys { current, previous, verified: Mutex::default() });
    match mode {
        Some(SigningMode::Off) => None,
        mode => Some(ContextSigning { mode: mode.unwrap_or(SigningMode::Require), keys }),
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

fn key_id(text: &str) -> Checked<String> {
    match text {
        id if is_key_id(id) => Ok(id.into()),
        _ => Err(format!("{text:?} is not an id; give 1 to 16 letters, digits, _ or -")),
    }
}

/// 32 to 64 bytes in hexadecimal digits.
fn key_bytes(text: &str) -> Checked<Zeroizing<Vec<u8>>> {
    let bytes = unhex(text).filter(|bytes| SigningKey::is_size(bytes.len()));
    bytes.ok_or_else(|| "is not a key; give 64 to 128 hexadecimal digits, as `openssl rand -hex 32` prints".into())
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

    fn rotating() -> Result<ContextSigning, ConfigError> {
        let both = config(&[
            ("context_signing_key", KEY),
            ("context_key_id", "2"),
            ("context_previous_signing_key", KEY),
            ("context_previous_key_id", "1"),
        ])?;
        Ok(both.signing.expect("a key"))
    }

    fn ids(signing: &ContextSigning) -> Vec<&str> {
        signing.keys().map(SigningKey::id).collect()
    }

    #[test]
    fn the_key_that_the_database_knew_last_is_tried_first() -> Result<(), ConfigError> {
        let signing = rotating()?;
        let Keys { current, previous, verified } = &*signing.keys;
        let previous = previous.as_ref().expect("two");
        assert_eq!(ids(&signing), ["2", "1"]);
        signing.verified(previous, Instant::now());
        assert_eq!(ids(&signing), ["1", "2"]);
        signing.verified(current, Instant::now());
        assert_eq!(ids(&signing), ["2", "1"]);
        let a_while_ago = Instant::now().checked_sub(TRY_CURRENT_AGAIN).expect("a clock that has run for a second");
        verified.lock().expect("not poisoned").previous = Some(a_while_ago);
        assert_eq!(ids(&signing), ["2", "1"], "the present one is tried again");
        Ok(())
    }

    #[test]
    fn a_login_that_began_before_the_current_key_was_verified_does_not_bring_the_previous_one_back()
    -> Result<(), ConfigError> {
        let signing = rotating()?;
        let Keys { current, previous, .. } = &*signing.keys;
        let previous = previous.as_ref().expect("two");
        let early = Instant::now();
        signing.verified(current, Instant::now());
        signing.verified(previous, early);
        assert_eq!(ids(&signing), ["2", "1"]);
        // A database that does not know the current one all the same.
        let after =
            signing.keys.verified.lock().expect("not poisoned").current.expect("verified") + Duration::from_nanos(1);
        signing.verified(previous, after);
        assert_eq!(ids(&signing), ["1", "2"]);
        Ok(())
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
