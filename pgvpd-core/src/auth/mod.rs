//! Proofs of identity.

mod client;
mod credentials;
mod derive;
mod file;
mod md5;
mod scram;

pub use client::ClientAuth;
pub(crate) use client::{Against, Decoy, ITERATIONS, Method, md5_fits, password_fits};
pub(crate) use credentials::Credentials;
pub(crate) use derive::Deriver;
pub(crate) use file::{AuthFile, Secret};
pub(crate) use md5::{md5_answer, md5_digest, md5_password};
pub(crate) use scram::{
    Binding, Challenge, ClientFirst, ClientKey, Keys, MAX_VERIFIER_ITERATIONS, Nonce, Offer, Proved, SCRAM_SHA_256,
    SCRAM_SHA_256_PLUS, ScramError, Verifier,
};

/// Returns true if what PostgreSQL keeps of a role's password, in `pg_authid.rolpassword`, was made from this one. False also for a
/// verifier that takes more work than any server asks for.
///
/// ```
/// let kept = "md5a3556571e93b0d20722ba62be61e8c2d";
/// assert!(!pgvpd_core::is_password_of(kept, "app_user", "another"));
/// ```
pub fn is_password_of(kept: &str, role: &str, password: &str) -> bool {
    match Secret::of(kept) {
        Some(Secret::Scram(verifier)) => {
            let (salt, iterations) = (verifier.salt(), verifier.iterations());
            iterations <= MAX_ITERATIONS && verifier.fits(&Keys::derive(password.as_bytes(), salt, iterations))
        }
        Some(Secret::Md5(digest)) => *digest == *md5_digest(role, password.as_bytes()),
        Some(Secret::Plain(_)) | None => false,
    }
}

/// A second or so of work.
const MAX_ITERATIONS: u32 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_by_what_the_server_keeps_of_it() {
        let salt = b"0123456789abcdef".to_vec();
        let scram = Verifier::of(&Keys::derive(b"secret", &salt, 4096), salt, 4096).to_text();
        let md5 = md5_digest("app_user", b"secret");
        for kept in [&scram, &md5] {
            assert!(is_password_of(kept, "app_user", "secret"));
            assert!(!is_password_of(kept, "app_user", "Secret"));
        }
        assert!(!is_password_of("secret", "app_user", "secret"), "the server keeps no plain passwords");
        assert!(!is_password_of(&scram.replace("4096", "4294967295"), "app_user", "secret"), "too much work");
    }
}
