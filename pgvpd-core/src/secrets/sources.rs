//! Where the secrets come from that clients and the proxy itself prove.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::{AuthFile, Secret};

/// Where the secrets are that clients prove, and that the proxy proves to the server.
#[derive(Debug, Clone, Default)]
pub struct SecretSources {
    pub(crate) file: Option<Arc<AuthFile>>,
    pub(crate) query: Option<AuthQuery>,
    pub(crate) pool_password: Option<Secret>,
    pub(crate) upstream_password: Option<Secret>,
}

impl SecretSources {
    /// True where clients of this role prove a secret that the proxy has been given, and not one that the database keeps.
    pub fn is_own(&self, role: &str) -> bool {
        let is_listed = self.file.as_ref().is_some_and(|file| file.entry(role).is_some());
        is_listed || (self.query.is_none() && self.pool_password.is_some())
    }
}

/// Asks the database for a role's verifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuthQuery {
    /// The role that asks.
    pub(crate) user: String,
    /// The database that it asks in: never one that a client names.
    pub(crate) database: String,
    /// A query with the role's name as `$1`, that gives one row: the role and its verifier.
    pub(crate) text: String,
    /// How long an answer is good for.
    pub(crate) ttl: Duration,
}
