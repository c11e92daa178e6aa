//! A tenant's context for one transaction: what resolvers run under. With the transaction it is gone.

use std::fmt::Write as _;
use std::time::Duration;

use super::injection::{InjectionError, TOKEN};
use super::signature::{Signature, Token};
use super::signing::ContextSigning;
use super::token::Facts;
use crate::tenant::Identity;
use crate::wire::bind_pairs;

/// The context that is set, and what it is signed with.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    context: Vec<(String, String)>,
    signature: Option<Signature>,
}

/// What a client could have asked for in its startup packet that would change what a query finds, or how its result is written. An
/// unqualified name is looked for in `public` alone (CVE-2025-12819 of PgBouncer: the client's `search_path` redirected one).
const PINS: &[(&str, &str)] = &[
    ("search_path", "public, pg_temp"),
    ("client_encoding", "UTF8"),
    ("role", "none"),
    ("row_security", "on"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "1"),
    ("lc_monetary", "C"),
    ("lc_numeric", "C"),
    ("lc_time", "C"),
    ("xmloption", "content"),
    ("array_nulls", "on"),
    ("transform_null_equals", "off"),
    ("standard_conforming_strings", "on"),
];

impl Scope {
    /// The identity's context, signed for sessions of this user in this database.
    pub(crate) fn new(
        identity: &Identity,
        signing: Option<&ContextSigning>,
        database: &str,
        session_user: &str,
    ) -> Self {
        let context: Vec<_> =
            identity.context().map(|(name, value)| (name.as_str().to_owned(), value.to_owned())).collect();
        let signature = signing.map(|signing| Signature::new(signing, database, session_user, &context));
        Self { context, signature }
    }

    /// True where a connection's facts are needed.
    pub(crate) fn is_signed(&self) -> bool {
        self.signature.is_some()
    }

    /// Signed contexts for a connection, the one to be tried first at the end; one `None` where contexts are plain.
    pub(crate) fn tokens(&self, facts: Option<Facts>) -> Vec<Option<Token>> {
        match (&self.signature, facts) {
            (Some(signature), Some(facts)) => signature.tokens(facts).into_iter().map(Some).collect(),
            (Some(_), None) => Vec::new(),
            (None, _) => vec![None],
        }
    }

    /// Appends the statement that sets all of it until the end of the transaction, without a Sync, and a limit of time to what
    /// follows.
    pub(crate) fn open(&self, token: Option<&Token>, limit: Duration, out: &mut Vec<u8>) {
        let limit = limit.as_millis().clamp(1, i32::MAX as u128).to_string();
        let mut sql = String::from("SELECT true");
        for (name, value) in PINS.iter().copied().chain([("statement_timeout", limit.as_str())]) {
            let _ = write!(sql, ", pg_catalog.set_config('{name}', '{value}', true) IS NULL");
        }
        let mut pairs: Vec<(&str, &[u8])> = Vec::new();
        for (name, value) in &self.context {
            let _ = write!(sql, ", {}", set_local(2 * pairs.len() + 1));
            pairs.push((name, value.as_bytes()));
        }
        if let Some(token) = token {
            let next = 2 * pairs.len() + 1;
            let probe = next + 2;
            let _ = write!(sql, ", {}, pg_catalog.convert_to(public.pgvpd_context(${probe}), 'UTF8')", set_local(next));
            pairs.extend([(TOKEN, token.text().as_bytes()), (token.probe(), b"")]);
        }
        bind_pairs(out, &sql, &pairs);
    }

    /// Compares what came back for [`Scope::open`]. False where the database has not verified the token.
    pub(crate) fn confirm(&self, row: &[Option<&[u8]>], token: Option<&Token>) -> Result<bool, InjectionError> {
        let values = row.get(1 + PINS.len() + 1..).ok_or(InjectionError::NotConfirmed)?;
        let (values, rest) = values.split_at_checked(self.context.len()).ok_or(InjectionError::NotConfirmed)?;
        let is_set = values.iter().zip(&self.context).all(|(found, (_, value))| *found == Some(value.as_bytes()));
        match (token, rest) {
            (None, []) if is_set => Ok(true),
            (Some(token), [found, verified]) if is_set && *found == Some(token.text().as_bytes()) => {
                let is_verified = verified.is_some_and(|value| value == token.answer().as_bytes());
                if is_verified {
                    self.signature.iter().for_each(|signature| signature.verified(token));
                }
                Ok(is_verified)
            }
            _ => Err(InjectionError::NotConfirmed),
        }
    }
}

/// Sets what the parameter `name` names to the value of the one behind it, for the transaction.
fn set_local(name: usize) -> String {
    format!(
        "pg_catalog.convert_to(pg_catalog.set_config(${name}, pg_catalog.convert_from(${}, 'UTF8'), true), 'UTF8')",
        name + 1
    )
}
