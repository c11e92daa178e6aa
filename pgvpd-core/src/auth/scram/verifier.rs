//! What a server keeps of a password: `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>` (manual, `pg_authid`).

use super::keys::{KEY, Keys, ServerKey, equal};
#[cfg(test)]
use super::messages::encode;
use super::messages::{decode, decode_key};

/// More rounds would keep a core busy with each password that is sent as it is; far more than anybody recommends.
pub(crate) const MAX_VERIFIER_ITERATIONS: u32 = 1_000_000;

/// A verifier. `Debug` hides it: it opens the door to guessing, and to posing as the server.
#[derive(Clone)]
pub(crate) struct Verifier {
    salt: Vec<u8>,
    iterations: u32,
    stored_key: [u8; KEY],
    server_key: ServerKey,
}

/// Text that is no verifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not of the form SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>")]
pub(crate) struct VerifierError;

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier(…)")
    }
}

impl Verifier {
    /// Reads one in PostgreSQL's form.
    pub(crate) fn parse(text: &str) -> Result<Self, VerifierError> {
        Self::parts(text).ok_or(VerifierError)
    }

    fn parts(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("SCRAM-SHA-256$")?;
        let (derivation, keys) = rest.split_once('$')?;
        let (iterations, salt) = derivation.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        Some(Self {
            salt: decode(salt).ok().filter(|salt| !salt.is_empty())?,
            // Beyond the type's range it is still a verifier, and no password.
            iterations: iterations
                .parse::<u64>()
                .ok()
                .filter(|iterations| *iterations > 0)?
                .try_into()
                .unwrap_or(u32::MAX),
            stored_key: decode_key(stored_key).ok()?,
            server_key: ServerKey(decode_key(server_key).ok()?),
        })
    }

    /// The one of these keys.
    pub(crate) fn of(keys: &Keys, salt: Vec<u8>, iterations: u32) -> Self {
        Self { salt, iterations, stored_key: keys.client.stored(), server_key: keys.server.clone() }
    }

    /// One of made-up keys, which no password fits.
    pub(crate) fn decoy(salt: Vec<u8>, iterations: u32, stored_key: [u8; KEY], server_key: [u8; KEY]) -> Self {
        Self { salt, iterations, stored_key, server_key: ServerKey(server_key) }
    }

    /// True if these keys are of the password that it was made from.
    pub(crate) fn fits(&self, keys: &Keys) -> bool {
        equal(&keys.client.stored(), &self.stored_key)
    }

    /// True if both come from one password in one way, so that a key recovered from the one opens the other.
    pub(crate) fn is_twin_of(&self, salt: &[u8], iterations: u32) -> bool {
        self.salt == salt && self.iterations == iterations
    }

    pub(crate) fn salt(&self) -> &[u8] {
        &self.salt
    }

    pub(crate) fn iterations(&self) -> u32 {
        self.iterations
    }

    /// True where nobody may log in with it, for the work that it would be.
    pub(crate) fn is_too_slow(&self) -> bool {
        self.iterations > MAX_VERIFIER_ITERATIONS
    }

    pub(super) fn stored_key(&self) -> &[u8; KEY] {
        &self.stored_key
    }

    pub(super) fn server_key(&self) -> &ServerKey {
        &self.server_key
    }

    /// In PostgreSQL's form.
    #[cfg(test)]
    pub(crate) fn to_text(&self) -> zeroize::Zeroizing<String> {
        let Self { salt, iterations, stored_key, server_key } = self;
        let [salt, stored_key, server_key] = [&salt[..], &stored_key[..], &server_key.0[..]].map(encode);
        format!("SCRAM-SHA-256${iterations}:{salt}${stored_key}:{server_key}").into()
    }
}
