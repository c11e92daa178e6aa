//! Proofs of identity, and where the secrets for them come from.

mod client;
mod derive;
#[cfg(test)]
mod fake;
mod file;
mod md5;
mod penalties;
mod query;
mod scram;
mod secrets;

pub(crate) use client::{Against, Decoy, ITERATIONS, Method, md5_fits, password_fits};
pub(crate) use derive::Deriver;
pub(crate) use file::{AuthFile, Secret};
pub(crate) use md5::{md5_answer, md5_digest, md5_password};
pub(crate) use penalties::{Attempt, Penalties};
pub(crate) use scram::{
    Binding, Challenge, ClientFirst, ClientKey, Keys, Nonce, Offer, Proved, SCRAM_SHA_256, SCRAM_SHA_256_PLUS,
    ScramError, Verifier,
};
pub(crate) use secrets::{Credentials, Secrets, SecretsError};
