//! Shows how the context of a login is worked out, step by step: for the person who wonders why a policy shows no rows.

use std::sync::Arc;
use std::time::Duration;

use super::engine::{OwnSite, Resolving, Step};
use super::job::Job;
use crate::auth::{Credentials, Secret};
use crate::config::Config;
use crate::secrets::Secrets;
use crate::tenant::IdentityError;
use crate::upstream::{UpstreamError, UpstreamLogin};

/// What one resolver has led to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Trace {
    /// Its name.
    pub resolver: String,
    /// Its parameters: the variables and their values.
    pub params: Vec<(String, String)>,
    /// What it has led to.
    pub outcome: TraceOutcome,
    /// Without a result there is no session.
    pub required: bool,
    /// How long a result may be used again; zero for not at all.
    pub cache_ttl: Duration,
    /// How long it took.
    pub took: Duration,
}

/// What a resolver has led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceOutcome {
    /// The variables and their values.
    Found(Vec<(String, String)>),
    /// There was no row.
    Nothing,
    /// A parameter is empty, so that it was not asked.
    NotRun,
    /// What the log of the proxy would say.
    Failed(String),
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The user name names no tenant.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// There are no resolvers.
    #[error("no resolvers are configured; set resolvers to a file that has some")]
    NoResolvers,
    /// The proxy would log in as this role, and cannot here.
    #[error("cannot log in to the database {database:?} as {role:?}: {cause}")]
    Login {
        /// As whom.
        role: String,
        /// Where.
        database: String,
        /// What the server said, or what is missing.
        cause: String,
    },
}

/// Works out the context of a login of `user` (as a client would give it) to `database`, and tells what each resolver has led
/// to, in the order in which they ran. One that is required and has no result ends it, as it would the login.
///
/// Where there is no `resolver_user`, resolvers run as the role that the user name names, and `password` is that role's; else
/// it is not used.
///
/// # Errors
/// [`TraceError`] where it does not come to the first resolver.
pub async fn trace(
    config: &Config,
    user: &str,
    database: &str,
    password: Option<&str>,
) -> Result<Vec<Trace>, TraceError> {
    let identity = config.identity.identify(user)?;
    let resolving = Arc::new(Resolving::new(0));
    let secrets = Secrets::new();
    let account = config.resolvers.account.as_ref().map(|account| {
        let credentials = account.credentials(&secrets, config);
        (Arc::clone(account), credentials)
    });
    let job = Job::with(&identity, database, config, account).ok_or(TraceError::NoResolvers)?;
    let failed = |role: &str, cause: String| TraceError::Login { role: role.into(), database: database.into(), cause };
    let steps = if job.needs_own_site() {
        let role = identity.role();
        let own = secrets.for_upstream(role, config);
        let given = password.map(|password| Secret::of(password).ok_or("the password is empty"));
        let given = given.transpose().map_err(|error| failed(role, error.into()))?;
        let credentials = Credentials { password: given.or(own.password), recovered: None };
        let startup = [("application_name".to_owned(), "pgvpd resolve".to_owned())];
        let login = UpstreamLogin {
            address: &config.upstream,
            allow_cleartext: config.allow_cleartext,
            role,
            database,
            startup: &startup,
            credentials,
        };
        let made = tokio::time::timeout(config.handshake_timeout, login.run(resolving.deriver())).await;
        let made = made.unwrap_or(Err(UpstreamError::Unanswered));
        let mut session = made.map_err(|error| failed(role, error.for_log()))?;
        let own = OwnSite { conn: &mut session.conn, parameters: &mut session.parameters, facts: None };
        resolving.run(&job, Some(own)).await
    } else {
        resolving.run(&job, None::<OwnSite<'_, tokio::io::DuplexStream>>).await
    };
    let (outcome, steps) = steps;
    // What kept the first resolver from being asked is in no step.
    let error = outcome.err();
    let mut traces: Vec<Trace> = steps.into_iter().map(shown).collect();
    if let Some(error) = error
        && let Some(name) = &error.resolver
        && let Some(resolver) = job.plan.resolvers().find(|resolver| resolver.name == *name)
        && !traces.iter().any(|trace| trace.resolver == *name)
    {
        traces.push(Trace {
            resolver: name.clone(),
            params: Vec::new(),
            outcome: TraceOutcome::Failed(error.fault.to_string()),
            required: resolver.required,
            cache_ttl: resolver.cache_ttl,
            took: Duration::ZERO,
        });
    }
    Ok(traces)
}

fn shown(step: Step) -> Trace {
    let Step { resolver, params, verdict, took } = step;
    let names = resolver.params.iter().map(ToString::to_string);
    let outcome = match verdict {
        None => TraceOutcome::NotRun,
        Some((Ok(None), _)) => TraceOutcome::Nothing,
        Some((Ok(Some(values)), _)) => {
            let variables = resolver.inject.iter().map(|(variable, _)| variable.to_string());
            TraceOutcome::Found(variables.zip(values.iter().cloned()).collect())
        }
        Some((Err(fault), _)) => TraceOutcome::Failed(fault.to_string()),
    };
    Trace {
        resolver: resolver.name.clone(),
        params: names.zip(params).collect(),
        outcome,
        required: resolver.required,
        cache_ttl: resolver.cache_ttl,
        took,
    }
}
