//! The side that asks for the proof.

use std::sync::Arc;

use super::ScramError;
use super::binding::Binding;
use super::keys::{ClientKey, Nonce, equal, mac, xor};
use super::messages::{Attributes, decode, decode_key, encode, is_nonce, text};
use super::verifier::Verifier;

/// A challenge that was sent, and what is needed to judge the answer.
#[derive(Debug)]
pub(crate) struct Challenge {
    verifier: Verifier,
    /// What the proof repeats.
    binding: Binding,
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

/// What was offered, and taken of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Offer {
    /// SCRAM-SHA-256 alone.
    Plain,
    /// Channel binding too, and the client has chosen the mechanism without it.
    PlainOfBoth,
    /// The client has chosen the mechanism with channel binding to this.
    Bound(Arc<[u8]>),
}

impl Challenge {
    /// Reads the client-first message. The user name in it is not looked at, as in PostgreSQL: the startup packet's counts.
    pub(crate) fn new(
        client_first: &[u8],
        verifier: Verifier,
        nonce: &Nonce,
        offer: &Offer,
    ) -> Result<Self, ScramError> {
        let message = text(client_first)?;
        let binding = match (message.as_bytes(), offer) {
            ([b'n', ..], Offer::Plain | Offer::PlainOfBoth) => Binding::None,
            ([b'y', ..], Offer::Plain) => Binding::NotOffered,
            ([b'y', ..], Offer::PlainOfBoth) => return Err(ScramError::Downgraded),
            ([b'p', ..], Offer::Bound(hash)) => Binding::EndPoint(Arc::clone(hash)),
            ([b'n' | b'y' | b'p', ..], _) => return Err(ScramError::ChannelBinding),
            _ => return Err(ScramError::Malformed("the header is not n,, or y,, or p=...,,")),
        };
        let bare = message.strip_prefix(binding.header()).ok_or(match &binding {
            Binding::EndPoint(_) => ScramError::ChannelBinding,
            _ => ScramError::Malformed("the header is not n,, or y,,"),
        })?;
        let mut attributes = Attributes::of(bare);
        attributes.expect('n')?;
        let client_nonce = attributes.expect('r')?;
        attributes.skip_extensions()?;
        if !is_nonce(client_nonce) {
            return Err(ScramError::Malformed("the nonce has other than printable characters"));
        }
        let nonce = format!("{client_nonce}{}", nonce.0);
        let server_first = format!("r={nonce},s={},i={}", encode(verifier.salt()), verifier.iterations());
        Ok(Self { verifier, binding, client_first_bare: bare.into(), server_first, nonce })
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
        if decode(attributes.expect('c')?)? != self.binding.input() {
            return Err(match &self.binding {
                Binding::EndPoint(_) => ScramError::OtherChannel,
                _ => ScramError::ChannelBinding,
            });
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
