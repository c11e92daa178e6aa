//! The side that asks for the proof.

use super::ScramError;
use super::keys::{ClientKey, Nonce, equal, mac, xor};
use super::messages::{Attributes, decode, decode_key, encode, is_nonce, text};
use super::verifier::Verifier;

/// A challenge that was sent, and what is needed to judge the answer.
#[derive(Debug)]
pub(crate) struct Challenge {
    verifier: Verifier,
    /// The header of the client-first message, which the proof repeats.
    gs2_header: String,
    client_first_bare: String,
    server_first: String,
    nonce: String,
}

/// A client that knows the password.
#[derive(Debug)]
pub(crate) struct Proved {
    /// The server-final message.
    pub(crate) message: String,
    /// What the proof gave away: it logs in wherever the same verifier is.
    pub(crate) client_key: ClientKey,
}

impl Challenge {
    /// Reads the client-first message. The user name in it is not looked at, as in PostgreSQL: the startup packet's counts.
    pub(crate) fn new(client_first: &[u8], verifier: Verifier, nonce: &Nonce) -> Result<Self, ScramError> {
        let message = text(client_first)?;
        let header = match message.as_bytes() {
            [b'n' | b'y', b',', b',', ..] => 3,
            [b'p', ..] => return Err(ScramError::ChannelBinding),
            _ => return Err(ScramError::Malformed("the header is not n,, or y,,")),
        };
        let (gs2_header, bare) = message.split_at(header);
        let mut attributes = Attributes::of(bare);
        attributes.expect('n')?;
        let client_nonce = attributes.expect('r')?;
        attributes.skip_extensions()?;
        if !is_nonce(client_nonce) {
            return Err(ScramError::Malformed("the nonce has other than printable characters"));
        }
        let nonce = format!("{client_nonce}{}", nonce.0);
        let server_first = format!("r={nonce},s={},i={}", encode(verifier.salt()), verifier.iterations());
        Ok(Self { verifier, gs2_header: gs2_header.into(), client_first_bare: bare.into(), server_first, nonce })
    }

    /// The server-first message.
    pub(crate) fn message(&self) -> &str {
        &self.server_first
    }

    /// Judges the client-final message.
    pub(crate) fn judge(self, client_final: &[u8]) -> Result<Proved, ScramError> {
        let message = text(client_final)?;
        let (without_proof, proof) =
            message.rsplit_once(",p=").ok_or(ScramError::Malformed("there is no proof at the end"))?;
        let mut attributes = Attributes::of(without_proof);
        if decode(attributes.expect('c')?)? != self.gs2_header.as_bytes() {
            return Err(ScramError::ChannelBinding);
        }
        if attributes.expect('r')? != self.nonce {
            return Err(ScramError::Nonce);
        }
        attributes.skip_extensions()?;
        let authenticated = format!("{},{},{without_proof}", self.client_first_bare, self.server_first);
        let signature = mac(self.verifier.stored_key(), authenticated.as_bytes());
        let client_key = ClientKey(xor(&decode_key(proof)?, &signature));
        if !equal(&client_key.stored(), self.verifier.stored_key()) {
            return Err(ScramError::Proof);
        }
        let signed = mac(&self.verifier.server_key().0, authenticated.as_bytes());
        Ok(Proved { message: format!("v={}", encode(&signed)), client_key })
    }
}
