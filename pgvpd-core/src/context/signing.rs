//! The keys that contexts are signed with, and which of two is tried first.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::token::{Binding, Facts, SigningKey, is_key_id, unhex};

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

/// The keys that databases have verified recently.
#[derive(Debug, Default)]
struct Verified {
    /// When one last verified the current key.
    current: Option<Instant>,
    /// When one that does not know the current key yet verified the previous one; `None` once the current key was verified after it.
    previous: Option<Instant>,
}

impl ContextSigning {
    pub(crate) fn new(mode: SigningMode, current: SigningKey, previous: Option<SigningKey>) -> Self {
        Self { mode, keys: Arc::new(Keys { current, previous, verified: Mutex::default() }) }
    }

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

/// An id of a key, or what would be one.
pub(crate) fn key_id(text: &str) -> Result<String, String> {
    match text {
        id if is_key_id(id) => Ok(id.into()),
        _ => Err(format!("{text:?} is not an id; give 1 to 16 letters, digits, _ or -")),
    }
}

/// 32 to 64 bytes in hexadecimal digits, or what would be a key.
pub(crate) fn key_bytes(text: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let bytes = unhex(text).filter(|bytes| SigningKey::is_size(bytes.len()));
    bytes.ok_or_else(|| "is not a key; give 64 to 128 hexadecimal digits, as `openssl rand -hex 32` prints".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotating() -> ContextSigning {
        let key = |id| SigningKey::new(id, Zeroizing::new((0..32).collect())).expect("32 bytes");
        ContextSigning::new(SigningMode::Require, key("2"), Some(key("1")))
    }

    fn ids(signing: &ContextSigning) -> Vec<&str> {
        signing.keys().map(SigningKey::id).collect()
    }

    #[test]
    fn the_key_that_the_database_knew_last_is_tried_first() {
        let signing = rotating();
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
    }

    #[test]
    fn a_login_that_began_before_the_current_key_was_verified_does_not_bring_the_previous_one_back() {
        let signing = rotating();
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
    }
}
