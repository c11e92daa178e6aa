//! Whose context is signed, with which keys, and how a session sees that the database has verified it.

use std::time::Instant;

use super::signing::{ContextSigning, SigningMode};
use super::token::{Binding, Facts, SigningKey};

/// What a session's context is signed with, and for whom.
#[derive(Debug, Clone)]
pub(crate) struct Signature {
    signing: ContextSigning,
    database: String,
    session_user: String,
    /// The context, and what shows that it was read from a token.
    values: Vec<(String, String)>,
    /// A value that the database is to give back.
    probe: (String, String),
}

/// A signed context, and what the database has to answer to be believed.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    text: String,
    facts: Facts,
    key: SigningKey,
    signed_at: Instant,
    probe: (String, String),
}

/// A name that nothing but a token can give a value: no setting of this name is ever read.
const SIGNED: (&str, &str) = ("pgvpd.signed", "on");

impl Signature {
    pub(super) fn new(
        signing: &ContextSigning,
        database: &str,
        session_user: &str,
        context: &[(String, String)],
    ) -> Self {
        let signed = (SIGNED.0.to_owned(), SIGNED.1.to_owned());
        let probe = match (signing.mode, context.first()) {
            // What a database without a key reads as a plain setting will do.
            (SigningMode::Prefer, Some(tenant)) => tenant.clone(),
            _ => signed.clone(),
        };
        Self {
            signing: signing.clone(),
            database: database.to_owned(),
            session_user: session_user.to_owned(),
            values: context.iter().cloned().chain([signed]).collect(),
            probe,
        }
    }

    /// The same with these values behind the first `given`, in the place of others.
    pub(super) fn with(mut self, given: usize, found: &[(String, String)]) -> Self {
        let marker = self.values.pop();
        self.values.truncate(given);
        self.values.extend(found.iter().cloned().chain(marker));
        self
    }

    /// A token of each key, the one to be tried first at the end.
    pub(crate) fn tokens(&self, facts: Facts) -> Vec<Token> {
        let binding = Binding { facts, database: &self.database, session_user: &self.session_user };
        let signed_at = Instant::now();
        let token = |key: &SigningKey| Token {
            text: key.sign(&binding, &self.values),
            facts,
            key: key.clone(),
            signed_at,
            probe: self.probe.clone(),
        };
        let mut tokens: Vec<Token> = self.signing.keys().map(token).collect();
        tokens.reverse();
        tokens
    }

    pub(super) fn verified(&self, token: &Token) {
        self.signing.verified(&token.key, token.signed_at);
    }
}

impl Token {
    /// True if it is void once the session has discarded its nonce.
    pub(crate) fn is_nonce_bound(&self) -> bool {
        self.facts.can_be_voided()
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The name that the database is asked for.
    pub(super) fn probe(&self) -> &str {
        &self.probe.0
    }

    /// What it has to answer.
    pub(super) fn answer(&self) -> &str {
        &self.probe.1
    }
}
