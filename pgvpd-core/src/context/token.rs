//! The signed context: a token that `sql/setup.sql` verifies. Pure; the format is described at the SQL function `pgvpd_context()`.
//!
//! ```text
//! v1 . key id . pid . backend_start µs . nonce . expiry µs . hex(database) . hex(session user) . hex(JSON) . hex(HMAC-SHA-256)
//! ```

use std::fmt::{self, Write as _};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Bytes that a key may have (RFC 2104: at least the hash's size; PostgreSQL has no more than one block of it precomputed).
const KEY_BYTES: std::ops::RangeInclusive<usize> = 32..=64;

/// The longest id of a key.
const MAX_KEY_ID: usize = 16;

/// A key that signs contexts, and the name by which the database knows it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SigningKey {
    id: String,
    secret: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The facts of a backend that a context is signed for, as `pgvpd.attach()` gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) pid: i32,
    /// Microseconds since 1970; 0 where the server does not show it.
    pub(crate) backend_start: u64,
    /// 0 where the server could not give one: on a standby, in a read-only transaction.
    pub(crate) nonce: u64,
}

/// For whom, and where, a context is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binding<'a> {
    pub(crate) facts: Facts,
    pub(crate) database: &'a str,
    pub(crate) session_user: &'a str,
}

impl SigningKey {
    /// A key of 32 to 64 bytes. `None` for another size, or an id that is not 1 to 16 letters, digits, `_` and `-`.
    pub(crate) fn new(id: &str, secret: Zeroizing<Vec<u8>>) -> Option<Self> {
        let is_valid = is_key_id(id) && Self::is_size(secret.len());
        is_valid.then(|| Self { id: id.to_owned(), secret })
    }

    /// True for what a key may have in bytes.
    pub(crate) fn is_size(bytes: usize) -> bool {
        KEY_BYTES.contains(&bytes)
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The token: every value of the context under its full name, for one backend. It does not expire: what it is bound to does.
    pub(crate) fn sign(&self, binding: &Binding<'_>, context: &[(String, String)]) -> String {
        let Facts { pid, backend_start, nonce } = binding.facts;
        let mut token = format!("v1.{}.{pid}.{backend_start}.{nonce}.0.", self.id);
        for text in [binding.database.as_bytes(), binding.session_user.as_bytes(), json(context).as_bytes()] {
            hex(text, &mut token);
            token.push('.');
        }
        token.pop();
        // A key of any size is one (RFC 2104).
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.secret) {
            mac.update(token.as_bytes());
            token.push('.');
            hex(&mac.finalize().into_bytes(), &mut token);
        }
        token
    }
}

/// True for what the database takes as the id of a key.
pub(crate) fn is_key_id(id: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=MAX_KEY_ID).contains(&id.len()) && id.bytes().all(is_allowed)
}

impl Facts {
    /// Reads the row that `pgvpd.attach()` gives, as PostgreSQL prints one: `(pid,backend_start,nonce)`. `None` for anything else,
    /// and where nothing tells this backend from a later one with its pid.
    pub(crate) fn parse(row: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(row).ok()?.strip_prefix('(')?.strip_suffix(')')?;
        let mut fields = text.split(',');
        let facts = Self {
            pid: number(fields.next()?)?,
            backend_start: number(fields.next()?)?,
            nonce: number(fields.next()?)?,
        };
        let is_distinct = facts.pid > 0 && (facts.backend_start > 0 || facts.nonce > 0);
        (fields.next().is_none() && is_distinct).then_some(facts)
    }
}

impl Facts {
    /// True where a token is void once the backend has been given to another session.
    pub(crate) fn can_be_voided(self) -> bool {
        self.nonce > 0
    }
}

/// Digits only: `parse` alone would take a sign.
fn number<N: std::str::FromStr>(text: &str) -> Option<N> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

fn json(context: &[(String, String)]) -> String {
    let values = context.iter().map(|(name, value)| (name.clone(), serde_json::Value::String(value.clone())));
    serde_json::Value::Object(values.collect()).to_string()
}

fn hex(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
}

/// Reads hexadecimal digits, as keys are written in a configuration.
pub(crate) fn unhex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() / 2));
    for pair in text.as_bytes().chunks(2) {
        let [high, low] = pair else { return None };
        bytes.push(digit(*high)? << 4 | digit(*low)?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> SigningKey {
        SigningKey::new("k1", Zeroizing::new((0..32).collect())).expect("32 bytes")
    }

    fn context(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    const FACTS: Facts = Facts { pid: 4711, backend_start: 1_700_000_000_123_456, nonce: 42 };

    fn binding() -> Binding<'static> {
        Binding { facts: FACTS, database: "shop", session_user: "app_user" }
    }

    /// Computed with Python's hmac and hashlib.
    #[test]
    fn a_token_is_the_one_that_another_implementation_makes() {
        let token = key().sign(&binding(), &context(&[("app.current_tenant_id", "müller \"&\" co"), ("app.user", "")]));
        assert_eq!(token, VECTOR);
    }

    const VECTOR: &str = "v1.k1.4711.1700000000123456.42.0.73686f70.6170705f75736572.7b226170702e63757272656e745f74656e616e745f6964223a226dc3bc6c6c6572205c22265c2220636f222c226170702e75736572223a22227d.8482ebb2bafe95ae3537591a412acfb98e25f67226cbc1f6b0f4744c75dfff39";

    #[test]
    fn only_keys_and_ids_that_the_database_takes_are_keys() {
        let bytes = |size| Zeroizing::new(vec![1; size]);
        for size in [32, 64] {
            assert!(SigningKey::new("A_z-9", bytes(size)).is_some(), "{size}");
        }
        for (id, size) in
            [("1", 31), ("1", 65), ("", 32), ("a.b", 32), ("a b", 32), ("é", 32), ("12345678901234567", 32)]
        {
            assert!(SigningKey::new(id, bytes(size)).is_none(), "{id:?} {size}");
        }
        assert!(!format!("{:?}", key()).contains("secret"));
    }

    #[test]
    fn facts_are_read_from_what_postgresql_prints_and_from_nothing_else() {
        assert_eq!(Facts::parse(b"(4711,1700000000123456,42)"), Some(FACTS));
        assert_eq!(Facts::parse(b"(1,0,1)"), Some(Facts { pid: 1, backend_start: 0, nonce: 1 }));
        assert!(Facts::parse(b"(1,1,0)").is_some());
        for row in [
            "",
            "()",
            "(1,1)",
            "(1,1,1,1)",
            "(1,,1)",
            "(1,0,0)",
            "(0,1,1)",
            "(-1,1,1)",
            "(1,+1,1)",
            "(1,1,1) ",
            "1,1,1",
            "(1,1,99999999999999999999)",
        ] {
            assert_eq!(Facts::parse(row.as_bytes()), None, "{row}");
        }
    }

    #[test]
    fn hexadecimal_digits_read_back() {
        assert_eq!(unhex("00fFa1").as_deref().map(Vec::as_slice), Some(&[0, 255, 161][..]));
        for text in ["0", "0g", "é0", "+1"] {
            assert!(unhex(text).is_none(), "{text}");
        }
    }

    proptest! {
        /// Ten fields, whatever the texts hold: the verifier splits at dots, and a value cannot move a field.
        #[test]
        fn no_value_adds_a_field_or_reads_back_as_another(
            database in any::<String>(), user in any::<String>(), tenant in any::<String>(), other in any::<String>(),
            pid in 1_i32.., nonce in any::<u64>(),
        ) {
            let binding = Binding { facts: Facts { pid, backend_start: 1, nonce }, database: &database, session_user: &user };
            let values = context(&[("app.current_tenant_id", &tenant)]);
            let token = key().sign(&binding, &values);
            prop_assert!(token.is_ascii());
            let fields: Vec<&str> = token.split('.').collect();
            prop_assert_eq!(fields.len(), 10);
            let text = |field: &str| String::from_utf8(unhex(field).expect("hex").to_vec()).expect("UTF-8");
            prop_assert_eq!(text(fields[6]), &*database);
            prop_assert_eq!(text(fields[7]), &*user);
            let read: std::collections::BTreeMap<String, String> = serde_json::from_str(&text(fields[8])).expect("JSON");
            prop_assert_eq!(&read["app.current_tenant_id"], &tenant);
            let others = key().sign(&binding, &context(&[("app.current_tenant_id", &other)]));
            prop_assert_eq!(tenant == other, token == others);
        }

        #[test]
        fn any_bytes_are_facts_or_not(row in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(facts) = Facts::parse(&row) {
                let printed = format!("({},{},{})", facts.pid, facts.backend_start, facts.nonce);
                let is_padded = row.windows(2).any(|pair| matches!(pair, [b'(' | b',', b'0']));
                prop_assert!(is_padded || printed.as_bytes() == row);
            }
        }
    }
}
