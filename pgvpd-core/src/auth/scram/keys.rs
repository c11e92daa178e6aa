//! From a password to the keys of an exchange (RFC 5802, section 3).

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes of every key and digest.
pub(super) const KEY: usize = 32;

/// Knowing it is as good as knowing the password, for one salt and one number of iterations. Wiped on drop.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct ClientKey(pub(super) [u8; KEY]);

/// Proves to a client that the server knows the verifier. Wiped on drop.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(super) struct ServerKey(pub(super) [u8; KEY]);

/// What a client needs of a password, for one salt and one number of iterations.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    pub(super) client: ClientKey,
    pub(super) server: ServerKey,
}

/// The random part of one side: 18 bytes, as PostgreSQL's own, in base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nonce(pub(super) String);

impl std::fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientKey(…)")
    }
}

impl std::fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerKey(…)")
    }
}

impl ClientKey {
    pub(super) fn stored(&self) -> [u8; KEY] {
        Sha256::digest(self.0).into()
    }
}

impl Keys {
    /// Derives them, which takes `iterations` rounds of HMAC: some milliseconds for PostgreSQL's 4,096.
    pub(crate) fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let prepared = prepare(password);
        let mut salted = Zeroizing::new([0; KEY]);
        pbkdf2::pbkdf2_hmac::<Sha256>(&prepared, salt, iterations, &mut *salted);
        Self { client: ClientKey(mac(&*salted, b"Client Key")), server: ServerKey(mac(&*salted, b"Server Key")) }
    }

    /// The half that logs in.
    pub(crate) fn into_client(self) -> ClientKey {
        self.client
    }

    /// Those that a proof gave away, with what the verifier says of the server's.
    pub(crate) fn recovered(client: ClientKey, verifier: &super::Verifier) -> Self {
        Self { client, server: verifier.server_key().clone() }
    }
}

impl Nonce {
    /// A new one.
    pub(crate) fn random() -> Self {
        Self::new(crate::random::random_bytes())
    }

    /// From 18 random bytes.
    pub(crate) fn new(random: [u8; 18]) -> Self {
        use base64::Engine;
        Self(base64::engine::general_purpose::STANDARD.encode(random))
    }
}

/// SASLprep (RFC 4013), or the bytes as they are where that does not permit them, as PostgreSQL does it.
fn prepare(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let prepared = std::str::from_utf8(password).ok().and_then(|text| stringprep::saslprep(text).ok());
    // An empty result is refused by the standard, and taken as it was by PostgreSQL.
    Zeroizing::new(match prepared.filter(|text| !text.is_empty()) {
        Some(text) => text.as_bytes().to_vec(),
        None => password.to_vec(),
    })
}

pub(super) fn mac(key: &[u8], message: &[u8]) -> [u8; KEY] {
    let mut mac = match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac,
        Err(_) => unreachable!("HMAC takes a key of any length"),
    };
    mac.update(message);
    mac.finalize().into_bytes().into()
}

pub(super) fn xor(left: &[u8; KEY], right: &[u8; KEY]) -> [u8; KEY] {
    let mut out = *left;
    out.iter_mut().zip(right).for_each(|(byte, other)| *byte ^= other);
    out
}

pub(super) fn equal(left: &[u8; KEY], right: &[u8; KEY]) -> bool {
    left.ct_eq(right).into()
}
