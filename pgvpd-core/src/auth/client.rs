//! How a client is asked who it is, and the answers that pass. No I/O, no clock.
//!
//! | `client_auth` | password in the clear is known | SCRAM verifier | MD5 digest | nothing |
//! |---|---|---|---|---|
//! | scram-sha-256 | SCRAM | SCRAM | cleartext | SCRAM that nobody passes |
//! | md5 | MD5 | SCRAM | cleartext | MD5 that nobody passes |
//! | cleartext | cleartext | cleartext | cleartext | cleartext that nobody passes |
//!
//! An MD5 digest is of the password and the role. A client hashes the name that it typed, `app_user.acme`, so that the digest
//! can judge only the password itself.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Secret, Verifier, md5_digest, md5_password};
use crate::random::random_bytes;

/// Rounds of key derivation where no verifier is known whose number could be taken: PostgreSQL's default.
pub(crate) const ITERATIONS: u32 = 4096;

/// Bytes of a salt, as PostgreSQL's own.
const SALT: usize = 16;

/// How clients of a pool prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// The password never crosses the wire.
    ScramSha256,
    /// The password crosses the wire hashed with MD5.
    Md5,
    /// The password crosses the wire as it is.
    Cleartext,
}

/// What a client is asked for.
#[derive(Debug)]
pub(crate) enum Method {
    /// A proof by SCRAM-SHA-256, against a verifier.
    Scram(Against),
    /// MD5 of this password, the user name and a salt; without a password nobody passes.
    Md5(Option<Zeroizing<String>>),
    /// The password, which is judged by this secret; without one nobody passes.
    Cleartext(Option<Secret>),
}

/// What judges a SCRAM proof.
#[derive(Debug)]
pub(crate) enum Against {
    /// One that PostgreSQL may have too: a proof gives away the key that opens it there.
    Verifier(Verifier),
    /// One that is made from this password.
    Password(Zeroizing<String>),
    /// One that no password fits.
    Nobody,
}

impl Method {
    /// The method for a role with this secret.
    pub(crate) fn of(client_auth: ClientAuth, secret: Option<Secret>) -> Self {
        match (client_auth, secret) {
            (ClientAuth::Cleartext, secret) => Self::Cleartext(secret),
            (_, Some(Secret::Md5(digest))) => Self::Cleartext(Some(Secret::Md5(digest))),
            (_, Some(Secret::Scram(verifier))) => Self::Scram(Against::Verifier(verifier)),
            (ClientAuth::ScramSha256, Some(Secret::Plain(password))) => Self::Scram(Against::Password(password)),
            (ClientAuth::ScramSha256, None) => Self::Scram(Against::Nobody),
            (ClientAuth::Md5, Some(Secret::Plain(password))) => Self::Md5(Some(password)),
            (ClientAuth::Md5, None) => Self::Md5(None),
        }
    }
}

/// Makes salts and verifiers for roles that have none, the same ones each time a name is tried, so that trying shows nothing.
pub(crate) struct Decoy {
    secret: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Decoy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoy(…)")
    }
}

impl Decoy {
    /// With a secret of its own.
    pub(crate) fn new() -> Self {
        Self { secret: Zeroizing::new(random_bytes()) }
    }

    /// The salt for a role.
    pub(crate) fn salt(&self, role: &str) -> Vec<u8> {
        self.of(role, b"salt\0").get(..SALT).unwrap_or_default().to_vec()
    }

    /// A verifier that no password fits.
    pub(crate) fn verifier(&self, role: &str, iterations: u32) -> Verifier {
        let [stored_key, server_key] = [&b"stored key\0"[..], b"server key\0"].map(|what| self.of(role, what));
        Verifier::decoy(self.salt(role), iterations, stored_key, server_key)
    }

    /// One of these, the same one each time for a role: real verifiers may have different numbers of iterations.
    pub(crate) fn choose(&self, role: &str, from: &[u32]) -> Option<u32> {
        let [a, b, c, d, ..] = self.of(role, b"iterations\0");
        let random = u32::from_be_bytes([a, b, c, d]) as usize;
        from.get(random.checked_rem(from.len())?).copied()
    }

    fn of(&self, role: &str, what: &[u8]) -> [u8; 32] {
        let mut mac = match Hmac::<Sha256>::new_from_slice(&*self.secret) {
            Ok(mac) => mac,
            Err(_) => unreachable!("HMAC takes a key of any length"),
        };
        mac.update(what);
        mac.update(role.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

/// True if a client's answer to AuthenticationMD5Password is right.
pub(crate) fn md5_fits(password: Option<&str>, typed_user: &str, salt: [u8; 4], answer: &[u8]) -> bool {
    let expected = md5_password(typed_user, password.unwrap_or_default().as_bytes(), salt);
    let fits = bool::from(expected.as_bytes().ct_eq(answer));
    fits && password.is_some()
}

/// True if a password that was sent as it is fits a secret that shows this without key derivation; `None` where it does not.
pub(crate) fn password_fits(secret: &Secret, role: &str, given: &[u8]) -> Option<bool> {
    match secret {
        _ if given.is_empty() => Some(false),
        Secret::Plain(password) => Some(password.as_bytes().ct_eq(given).into()),
        Secret::Md5(digest) => Some(md5_digest(role, given).as_bytes().ct_eq(digest.as_bytes()).into()),
        Secret::Scram(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoys_are_stable_for_a_role_and_differ_between_roles_and_proxies() {
        let decoy = Decoy::new();
        assert_eq!(decoy.salt("a"), decoy.salt("a"));
        assert_eq!(decoy.salt("a").len(), SALT);
        assert_ne!(decoy.salt("a"), decoy.salt("b"));
        assert_ne!(decoy.salt("a"), Decoy::new().salt("a"));
        assert_eq!(*decoy.verifier("a", 4096).to_text(), *decoy.verifier("a", 4096).to_text());
        let chosen = |role: &str| decoy.choose(role, &[4096, 10_000]);
        assert_eq!(chosen("a"), chosen("a"));
        let all: std::collections::BTreeSet<_> = (0..100).map(|role| chosen(&role.to_string())).collect();
        assert_eq!(all, [Some(4096), Some(10_000)].into());
        assert_eq!(decoy.choose("a", &[]), None);
    }

    #[test]
    fn an_md5_answer_hashes_the_name_that_was_typed() {
        let salt = [1, 2, 3, 4];
        let answer = |user: &str| md5_password(user, b"secret", salt);
        assert!(md5_fits(Some("secret"), "app_user.acme", salt, answer("app_user.acme").as_bytes()));
        assert!(!md5_fits(Some("secret"), "app_user.acme", salt, answer("app_user").as_bytes()));
        assert!(!md5_fits(Some("other"), "app_user.acme", salt, answer("app_user.acme").as_bytes()));
        assert!(!md5_fits(None, "u", salt, md5_password("u", b"", salt).as_bytes()), "nobody has no password");
    }

    #[test]
    fn a_password_fits_only_its_own_secret_and_an_empty_one_none() {
        let digest = || Secret::of(&md5_digest("app_user", b"secret"));
        for secret in [Secret::of("secret"), digest()].into_iter().flatten() {
            assert_eq!(password_fits(&secret, "app_user", b"secret"), Some(true), "{secret:?}");
            assert_eq!(password_fits(&secret, "app_user", b"Secret"), Some(false), "{secret:?}");
            assert_eq!(password_fits(&secret, "app_user", b""), Some(false), "{secret:?}");
        }
        assert_eq!(password_fits(&digest().expect("md5"), "other", b"secret"), Some(false));
    }
}
