//! A key that signs contexts, as files and the database have it.

use std::fmt;

use anyhow::Context;
use pgvpd_core::config::ContextSigning;
use zeroize::Zeroizing;

/// How many bytes a new key has: those of the hash (RFC 2104).
const BYTES: usize = 32;

/// A key and the name by which the database knows it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SigningKey {
    pub(crate) id: String,
    secret: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A new one, of random bytes of the system's.
    pub(crate) fn random(id: String) -> anyhow::Result<Self> {
        let mut secret = Zeroizing::new(vec![0; BYTES]);
        getrandom::fill(&mut secret).context("the system gives no random bytes")?;
        Ok(Self { id, secret })
    }

    /// Reads what a configuration holds.
    pub(crate) fn parse(id: &str, digits: &str) -> anyhow::Result<Self> {
        let secret = ContextSigning::read_key(id, digits).map_err(anyhow::Error::msg)?;
        Ok(Self { id: id.to_owned(), secret })
    }

    /// As a configuration has it.
    pub(crate) fn digits(&self) -> Zeroizing<String> {
        hex(&self.secret)
    }

    /// What the database keeps of it first: the key, padded with zeros to 64 bytes, XOR 0x36 (RFC 2104).
    pub(crate) fn inner_pad(&self) -> Zeroizing<Vec<u8>> {
        let padded = self.secret.iter().copied().chain(std::iter::repeat(0)).take(64);
        Zeroizing::new(padded.map(|byte| byte ^ 0x36).collect())
    }
}

/// The next free id: one more than the highest number among those that are taken.
pub(crate) fn next_id<'a>(taken: impl IntoIterator<Item = &'a str>) -> String {
    let highest = taken.into_iter().filter_map(|id| id.parse::<u32>().ok()).max().unwrap_or(0);
    (u64::from(highest) + 1).to_string()
}

/// Hexadecimal digits, wiped on drop.
fn hex(bytes: &[u8]) -> Zeroizing<String> {
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or_default();
    // With the room it needs, so that no copy is left behind.
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 2));
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_shows_itself_to_nobody() -> anyhow::Result<()> {
        let key = SigningKey::random("1".into())?;
        assert_eq!(key.digits().len(), 64);
        assert_eq!(SigningKey::parse("1", &key.digits())?, key);
        assert_ne!(SigningKey::random("1".into())?, key);
        assert!(!format!("{key:?}").contains(&key.digits()[..8]));
        Ok(())
    }

    #[test]
    fn what_the_database_would_refuse_is_no_key() {
        let key = "00".repeat(32);
        for (id, digits) in
            [("", &*key), ("a b", &key), ("12345678901234567", &key), ("1", &key[2..]), ("1", &key[1..]), ("1", "xy")]
        {
            let error = SigningKey::parse(id, digits).expect_err(id).to_string();
            assert!(!error.contains("0000"), "{error}");
        }
        assert!(SigningKey::parse("A_z-9", &"aF".repeat(64)).is_ok());
    }

    #[test]
    fn an_id_that_is_free_is_the_next_number() {
        assert_eq!(next_id([]), "1");
        assert_eq!(next_id(["2", "1", "blue"]), "3");
        assert_eq!(next_id(["blue"]), "1");
        assert_eq!(next_id(["4294967295"]), "4294967296");
    }
}
