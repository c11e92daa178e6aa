//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677) as PostgreSQL has them: channel binding to the server's certificate, the
//! user name of the startup packet, a password that SASLprep refuses taken as it is (manual, "SASL Authentication").
//!
//! ```text
//! client                                   server
//!   ── client-first: n,,n=,r=<nonce> ────────►
//!   ◄── server-first: r=<both>,s=<salt>,i=<n> ─
//!   ── client-final: c=biws,r=<both>,p=<proof> ►
//!   ◄── server-final: v=<signature> ───────────
//! ```

/// The mechanism's name.
pub(crate) const SCRAM_SHA_256: &str = "SCRAM-SHA-256";

/// The same, bound to the TLS connection.
pub(crate) const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

mod binding;
mod client;
mod keys;
mod messages;
mod server;
mod verifier;

pub(crate) use binding::Binding;
pub(crate) use client::ClientFirst;
pub(crate) use keys::{ClientKey, Keys, Nonce};
pub(crate) use server::{Challenge, Offer, Proved};
#[cfg(test)]
pub(crate) use verifier::VerifierError;
pub(crate) use verifier::{MAX_VERIFIER_ITERATIONS, Verifier};

/// What went wrong in an exchange.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScramError {
    /// A message is not of the form that RFC 5802, section 7, gives it.
    #[error("malformed SCRAM message: {0}")]
    Malformed(&'static str),
    /// The client asks for channel binding, which was not offered, or not of this kind.
    #[error("SCRAM channel binding was not offered, or not of the type that the client asks for")]
    ChannelBinding,
    /// The client can do channel binding and believes that the proxy cannot: somebody has taken it out of the offer.
    #[error("the client supports SCRAM channel binding, but thinks the server does not")]
    Downgraded,
    /// The proof is bound to another certificate than the proxy's.
    #[error("SCRAM channel binding check failed")]
    OtherChannel,
    /// The nonce is not the one of this exchange.
    #[error("the SCRAM nonce does not belong to this exchange")]
    Nonce,
    /// The server asks for more rounds of key derivation than it may.
    #[error("the server asks for {0} SCRAM iterations, more than {max}", max = client::MAX_ITERATIONS)]
    Iterations(u32),
    /// The client does not know the password.
    #[error("the SCRAM proof is wrong")]
    Proof,
    /// The server does not know the verifier: it is not the one that it seems to be.
    #[error("the server's SCRAM signature is wrong")]
    Signature,
}

#[cfg(test)]
mod tests;
