//! Where the secrets are: those that clients have to prove, and those that the proxy proves to the server.

#[cfg(test)]
mod fake;
mod query;
mod sources;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use moka::policy::EvictionPolicy;
use tokio::time::Instant;
use tracing::warn;

use self::query::{Asker, QueryError, Question};
pub(crate) use self::sources::AuthQuery;
pub use self::sources::SecretSources;
use crate::auth::{AuthFile, ClientKey, Credentials, Decoy, Deriver, ITERATIONS, Secret, Verifier};
use crate::config::Config;
use crate::net::UpstreamAddress;

/// Roles about which something is remembered.
const MAX_ROLES: u64 = 10_000;

/// What nobody has asked for in this time is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);

/// A role whose proofs fail is asked about no more often: who guesses must not keep the database busy.
const DOUBT_INTERVAL: Duration = Duration::from_secs(1);

/// Different numbers of iterations that are counted.
const MAX_NUMBERS: usize = 64;

/// The database cannot be asked; the log has the cause.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot ask the database for the role's verifier")]
pub(crate) struct SecretsError(#[source] Arc<QueryError>);

/// What one proxy knows of secrets beyond its configuration.
pub(crate) struct Secrets {
    asker: Asker,
    answers: moka::future::Cache<Asked, Answer>,
    doubts: moka::sync::Cache<String, Instant>,
    proved: moka::sync::Cache<String, (Verifier, ClientKey)>,
    /// How many of `auth_query`'s answers had so many iterations.
    answered: Mutex<BTreeMap<u32, u64>>,
    /// It has given a secret.
    has_answered: AtomicBool,
}

/// With all that decides on the answer, so that a reload that changes it asks anew.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Asked {
    role: String,
    user: String,
    database: String,
    text: String,
    upstream: UpstreamAddress,
}

#[derive(Clone)]
struct Answer {
    given: Result<Option<Secret>, Arc<QueryError>>,
    /// Before the question went out.
    asked: Instant,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(…)")
    }
}

impl Secrets {
    pub(crate) fn new() -> Self {
        let newest = EvictionPolicy::lru;
        Self {
            asker: Asker::default(),
            answers: moka::future::Cache::builder().max_capacity(MAX_ROLES).time_to_idle(FORGOTTEN_AFTER).build(),
            doubts: moka::sync::Cache::builder().max_capacity(MAX_ROLES).eviction_policy(newest()).build(),
            proved: moka::sync::Cache::builder().max_capacity(MAX_ROLES).eviction_policy(newest()).build(),
            answered: Mutex::default(),
            has_answered: AtomicBool::new(false),
        }
    }

    /// What a client of this role has to prove: `auth_file`'s entry, else `auth_query`'s answer, else `pool_password`.
    /// `None`: nobody may log in as it. Safe to cancel. The caller sets the deadline.
    pub(crate) async fn of_client(
        &self,
        role: &str,
        config: &Config,
        deriver: &Deriver,
    ) -> Result<Option<Secret>, SecretsError> {
        let sources = &config.secrets;
        if let Some(entry) = sources.file.as_ref().and_then(|file| file.entry(role)) {
            return Ok(entry.cloned());
        }
        if let Some(query) = &sources.query
        // Boxed, here and in `Deriver`: most logins have no need of it, and would carry its size.
        {
            if let Some(secret) = Box::pin(self.answer(role, query, config, deriver)).await? {
                return Ok(Some(secret));
            }
            // What a name that nobody has is asked must look like what others are asked, from the first login on.
            let known = config.identity.login_roles.iter().flatten().next().map_or("app_user", String::as_str);
            if !self.has_answered.load(Ordering::Relaxed) && known != role {
                Box::pin(self.answer(known, query, config, deriver)).await?;
            }
        }
        Ok(sources.pool_password.clone())
    }

    /// Closes the connection on which `auth_query` is asked, if it leads to this database, or wherever it leads.
    pub(crate) fn close_connection(&self, database: Option<&str>) {
        self.asker.close(database);
    }

    /// How many rounds of key derivation a role is asked for that has no verifier: as many as roles that have one.
    pub(crate) fn iterations(&self, role: &str, config: &Config, decoy: &Decoy) -> u32 {
        let in_file = config.secrets.file.as_deref().map(AuthFile::iterations).unwrap_or_default();
        let answered = self.answered();
        if answered.is_empty() {
            return decoy.choose(role, in_file).unwrap_or(ITERATIONS);
        }
        let usual = answered.iter().max_by_key(|(iterations, count)| (**count, **iterations));
        usual.map_or(ITERATIONS, |(iterations, _)| *iterations)
    }

    fn answered(&self) -> MutexGuard<'_, BTreeMap<u32, u64>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_iterations(&self, secret: Option<&Secret>) {
        self.has_answered.fetch_or(secret.is_some(), Ordering::Relaxed);
        if let Some(Secret::Scram(verifier)) = secret
            && !verifier.is_too_slow()
        {
            let mut answered = self.answered();
            if answered.len() < MAX_NUMBERS || answered.contains_key(&verifier.iterations()) {
                *answered.entry(verifier.iterations()).or_default() += 1;
            }
        }
    }

    /// A proof against a secret that `auth_query` gave has failed: it may have changed, and the next login asks again.
    pub(crate) fn doubt(&self, role: &str) {
        let is_recent = |doubted: Instant| doubted.elapsed() < DOUBT_INTERVAL;
        if !self.doubts.get(role).is_some_and(is_recent) {
            self.doubts.insert(role.into(), Instant::now());
        }
    }

    /// A client has proved this verifier: its key logs in wherever the same verifier is.
    pub(crate) fn learn(&self, role: &str, verifier: &Verifier, key: ClientKey) {
        self.proved.insert(role.into(), (verifier.clone(), key));
    }

    /// What the proxy can prove to the server for a role: `auth_file`'s entry if that is a password or an MD5 digest,
    /// else `upstream_password`; beside it what a client's proof gave away.
    pub(crate) fn for_upstream(&self, role: &str, config: &Config) -> Credentials {
        let entry = config.secrets.file.as_ref().and_then(|file| file.entry(role)).flatten();
        let password = entry.filter(|secret| !matches!(secret, Secret::Scram(_)));
        Credentials {
            password: password.or(config.secrets.upstream_password.as_ref()).cloned(),
            recovered: self.proved.get(role),
        }
    }

    /// `auth_query`'s answer, from now or from before. Logins that come while it is asked for wait for the same one.
    async fn answer(
        &self,
        role: &str,
        query: &AuthQuery,
        config: &Config,
        deriver: &Deriver,
    ) -> Result<Option<Secret>, SecretsError> {
        let credentials = self.for_upstream(&query.user, config);
        let question = Question { role, query, config, credentials };
        let ask = async {
            let asked = Instant::now();
            let given = self.asker.ask(&question, deriver).await.map_err(|error| {
                warn!(role, cause = %error, "cannot ask the database for the role's verifier");
                Arc::new(error)
            });
            self.note_iterations(given.as_ref().ok().and_then(Option::as_ref));
            Answer { given, asked }
        };
        let doubted = self.doubts.get(role);
        let is_stale = |answer: &Answer| {
            let is_doubted = doubted.is_some_and(|doubted| answer.asked <= doubted);
            is_doubted || answer.given.is_err() || answer.asked.elapsed() >= query.ttl
        };
        let key = Asked::new(role, query, &config.upstream);
        let answer = self.answers.entry(key).or_insert_with_if(ask, is_stale).await.into_value();
        answer.given.map_err(SecretsError)
    }
}

impl Asked {
    fn new(role: &str, query: &AuthQuery, upstream: &UpstreamAddress) -> Self {
        let AuthQuery { user, database, text, ttl: _ } = query;
        let [role, user, database, text] = [role, user, database, text].map(str::to_owned);
        Self { role, user, database, text, upstream: upstream.clone() }
    }
}

#[cfg(test)]
mod tests;
