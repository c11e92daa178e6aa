//! Signed contexts: from what a server says of a session, and any names, to a token.

use pgvpd_core::{Config, Settings};

/// Two keys, as in a rotation.
const KEYS: &[(&str, &str)] = &[
    ("context_signing_key", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"),
    ("context_key_id", "2"),
    ("context_previous_signing_key", "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"),
    ("context_previous_key_id", "1"),
];

/// Three texts between NUL bytes: the row of `pgvpd.attach()`, the database, the session user.
pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut texts = text.split('\0');
    let (row, database, user) =
        (texts.next().unwrap_or_default(), texts.next().unwrap_or_default(), texts.next().unwrap_or_default());

    let mut settings = Settings::new();
    KEYS.iter().for_each(|(name, value)| settings.set(name, value).unwrap_or_else(|error| panic!("{error}")));
    let config = Config::from_settings(settings).unwrap_or_else(|error| panic!("{error}"));
    let Some(signing) = &config.signing else { panic!("keys sign") };
    let tokens = signing.probes(row, database, user);
    let Some((pid, start, nonce)) = facts(row) else {
        assert!(tokens.is_empty(), "{row:?} is no row of pgvpd.attach()");
        return;
    };
    assert_eq!(tokens.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["2", "1"]);
    for (id, token) in &tokens {
        assert!(token.is_ascii());
        let fields: Vec<&str> = token.split('.').collect();
        let [version, key, found_pid, found_start, found_nonce, expiry, found_database, found_user, _, mac] =
            fields.as_slice()
        else {
            panic!("{} fields: {token}", fields.len())
        };
        assert_eq!((*version, *key, *expiry), ("v1", id.as_str(), "0"));
        assert_eq!((*found_pid, *found_start, *found_nonce), (pid.as_str(), start.as_str(), nonce.as_str()));
        assert_eq!((*found_database, *found_user), (&*hex(database), &*hex(user)));
        assert!(mac.len() == 64 && mac.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
    // Another name is another signature.
    let others = signing.probes(row, &format!("{database}."), user);
    assert!(others.iter().zip(&tokens).all(|((_, other), (_, token))| other != token));
}

/// The numbers of a row, without leading zeros; `None` where it is none.
fn facts(row: &str) -> Option<(String, String, String)> {
    let numbers: Vec<&str> = row.strip_prefix('(')?.strip_suffix(')')?.split(',').collect();
    let [pid, start, nonce] = numbers.as_slice() else { return None };
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let (pid, start, nonce) = (number(pid)?, number(start)?, number(nonce)?);
    let is_distinct = (1..=i32::MAX.unsigned_abs().into()).contains(&pid) && (start > 0 || nonce > 0);
    is_distinct.then(|| (pid.to_string(), start.to_string(), nonce.to_string()))
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
