//! PostgreSQL's MD5 password method (manual, "Message Flow", AuthenticationMD5Password).

use md5::{Digest, Md5};
use zeroize::Zeroizing;

/// `"md5" + md5(md5(password + user) + salt)`, digests in hex: what answers an AuthenticationMD5Password.
pub(crate) fn md5_password(user: &str, password: &[u8], salt: [u8; 4]) -> Zeroizing<String> {
    md5_answer(&md5_digest(user, password), salt)
}

/// `"md5" + md5(password + user)`: what PostgreSQL keeps of a password (manual, `pg_authid`).
pub(crate) fn md5_digest(user: &str, password: &[u8]) -> Zeroizing<String> {
    let digest = hex(&Md5::new().chain_update(password).chain_update(user).finalize());
    Zeroizing::new(format!("md5{}", digest.as_str()))
}

/// What answers an AuthenticationMD5Password, from what PostgreSQL keeps.
pub(crate) fn md5_answer(digest: &str, salt: [u8; 4]) -> Zeroizing<String> {
    let inner = digest.strip_prefix("md5").unwrap_or(digest).to_ascii_lowercase();
    let outer = hex(&Md5::new().chain_update(inner.as_bytes()).chain_update(salt).finalize());
    Zeroizing::new(format!("md5{}", outer.as_str()))
}

fn hex(digest: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_libpqs_pg_md5_encrypt() {
        // md5(md5("secret" || "app_user") || 01 02 03 04), made with coreutils' md5sum.
        assert_eq!(*md5_password("app_user", b"secret", [1, 2, 3, 4]), "md57108ce503126484fb3805f960107efa4");
    }
}
