//! The side that gives the proof.

use super::ScramError;
use super::binding::Binding;
use super::keys::{KEY, Keys, Nonce, equal, mac, xor};
use super::messages::{Attributes, decode, decode_key, encode, is_nonce, text};

/// More would be a server that wants our time: 100 times what PostgreSQL's manual suggests for strong verifiers.
pub(super) const MAX_ITERATIONS: u32 = 10_000_000;

/// A client-first message that was sent.
#[derive(Debug)]
pub(crate) struct ClientFirst {
    nonce: Nonce,
    binding: Binding,
}

/// A server's challenge: what to derive the keys with.
#[derive(Debug)]
pub(crate) struct Challenged {
    pub(crate) salt: Vec<u8>,
    pub(crate) iterations: u32,
    nonce: String,
    binding: Binding,
    /// The messages so far, as they are authenticated.
    authenticated: String,
}

/// A proof that was sent, and the answer that only the right server can give.
#[derive(Debug)]
pub(crate) struct ServerSigned {
    /// The client-final message.
    pub(crate) message: String,
    expected: [u8; KEY],
}

impl ClientFirst {
    pub(crate) fn new(nonce: Nonce, binding: Binding) -> Self {
        Self { nonce, binding }
    }

    /// The message.
    pub(crate) fn message(&self) -> String {
        format!("{}{}", self.binding.header(), self.bare())
    }

    fn bare(&self) -> String {
        format!("n=,r={}", self.nonce.0)
    }

    /// Reads the server-first message.
    pub(crate) fn challenged(&self, server_first: &[u8]) -> Result<Challenged, ScramError> {
        let message = text(server_first)?;
        let mut attributes = Attributes::of(message);
        let nonce = attributes.expect('r')?;
        if !is_nonce(nonce) || nonce.len() <= self.nonce.0.len() || !nonce.starts_with(&self.nonce.0) {
            return Err(ScramError::Nonce);
        }
        let salt = decode(attributes.expect('s')?)?;
        let iterations = attributes.expect('i')?.parse().ok().filter(|iterations| *iterations > 0);
        let iterations = iterations.ok_or(ScramError::Malformed("the number of iterations"))?;
        if iterations > MAX_ITERATIONS {
            return Err(ScramError::Iterations(iterations));
        }
        attributes.skip_extensions()?;
        let authenticated = format!("{},{message}", self.bare());
        Ok(Challenged { salt, iterations, nonce: nonce.into(), binding: self.binding.clone(), authenticated })
    }
}

impl Challenged {
    /// Makes the proof with the keys of this salt and number of iterations.
    pub(crate) fn prove(self, keys: &Keys) -> ServerSigned {
        let without_proof = format!("c={},r={}", encode(&self.binding.input()), self.nonce);
        let authenticated = format!("{},{without_proof}", self.authenticated);
        let signature = mac(&keys.client.stored(), authenticated.as_bytes());
        let proof = xor(&keys.client.0, &signature);
        ServerSigned {
            message: format!("{without_proof},p={}", encode(&proof)),
            expected: mac(&keys.server.0, authenticated.as_bytes()),
        }
    }
}

impl ServerSigned {
    /// Judges the server-final message. Only after this is the server known to be the right one.
    pub(crate) fn judge(&self, server_final: &[u8]) -> Result<(), ScramError> {
        let mut attributes = Attributes::of(text(server_final)?);
        let signature = decode_key(attributes.expect('v')?)?;
        if equal(&signature, &self.expected) { Ok(()) } else { Err(ScramError::Signature) }
    }
}
