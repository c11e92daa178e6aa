//! At the start of a proxy that signs contexts: does the database verify them? Asked where the proxy has a login of its own, in
//! `auth_dbname` as `auth_user`. Every session's context is verified at its own beginning in any case; this is so that a
//! mistake is found by whoever starts the proxy, and not by the first client.

use tracing::{info, warn};

use crate::config::Config;
use crate::context::{ATTACH, ContextSigning, SigningMode};
use crate::pool::{ExchangeError, run_statement};
use crate::secrets::AuthQuery;
use crate::shared::Shared;
use crate::upstream::{UpstreamError, UpstreamLogin, UpstreamSession};
use crate::wire::{Answer, ErrorFields, bind_values};

/// The database does not verify what the proxy signs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// Its key and the proxy's differ, or it has none.
    #[error(
        "context_signing = require, and the database {0:?} (auth_dbname) does not verify what the proxy signs: its key and the \
         proxy's differ, or it has none\n  `pgvpd key install` gives it the proxy's; with context_signing = prefer a database \
         without a key is served as well"
    )]
    NotVerified(String),
    /// It does not say what distinguishes one of its sessions from another.
    #[error(
        "context_signing = require, and in the database {0:?} (auth_dbname) there is nothing to bind a signature to\n  \
         on a standby, that needs: GRANT {1} TO pgvpd_owner;"
    )]
    NoFacts(String, String),
}

/// Why there was none.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error("{}", .0.for_log())]
    Login(#[from] UpstreamError),
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    #[error("no answer within handshake_timeout")]
    Slow,
    #[error("{0}")]
    Server(String),
}

/// Signs a probe, and reads it back. An error where the database disagrees; where it cannot be asked, sessions will tell.
pub(crate) async fn run(shared: &Shared, config: &Config) -> Result<(), ProbeError> {
    let signing = config.signing.as_ref().filter(|signing| signing.mode == SigningMode::Require);
    let (Some(signing), Some(query)) = (signing, config.secrets.query.as_ref()) else { return Ok(()) };
    let database = &query.database;
    let asked = tokio::time::timeout(config.handshake_timeout, probe(config, signing, query, shared));
    match asked.await.unwrap_or(Err(Obstacle::Slow)) {
        Ok(outcome) => {
            let key = outcome?;
            info!(%database, key, "the database verifies signed contexts");
        }
        Err(cause) => {
            warn!(%database, %cause, "cannot ask the database whether it verifies signed contexts; each session will");
        }
    }
    Ok(())
}

/// Logs in as `auth_user`, to ask what sessions of others cannot tell yet.
pub(crate) async fn log_in(
    query: &AuthQuery,
    shared: &Shared,
    config: &Config,
) -> Result<UpstreamSession, UpstreamError> {
    let login = UpstreamLogin {
        address: &config.upstream,
        allow_cleartext: config.allow_cleartext,
        role: &query.user,
        database: &query.database,
        startup: &[("search_path".to_owned(), "pg_catalog".to_owned())],
        credentials: shared.secrets.for_upstream(&query.user, config),
    };
    login.run(&shared.deriver).await
}

/// Sets the probe, and reads it back through the function that tenants' policies have.
const READ_BACK: &str =
    "SELECT pg_catalog.set_config('pgvpd.context', $1, false), public.pgvpd_context('pgvpd.signed')";

/// The id of the key that the database verifies.
async fn probe(
    config: &Config,
    signing: &ContextSigning,
    query: &AuthQuery,
    shared: &Shared,
) -> Result<Result<String, ProbeError>, Obstacle> {
    let mut session = log_in(query, shared, config).await?;
    let attached = ask(&mut session, ATTACH, &[]).await?.into_iter().next().flatten().unwrap_or_default();
    let probes = signing.probes(&String::from_utf8_lossy(&attached), &query.database, &query.user);
    if probes.is_empty() {
        return Ok(Err(ProbeError::NoFacts(query.database.clone(), query.user.clone())));
    }
    for (key, token) in probes {
        let row = ask(&mut session, READ_BACK, &[token.as_bytes()]).await?;
        if row.get(1).is_some_and(|answer| answer.as_deref() == Some(b"on")) {
            return Ok(Ok(key));
        }
    }
    Ok(Err(ProbeError::NotVerified(query.database.clone())))
}

/// The one row of a statement.
async fn ask(session: &mut UpstreamSession, sql: &str, values: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, Obstacle> {
    let mut messages = Vec::new();
    bind_values(&mut messages, sql, values);
    match run_statement(&mut session.conn, &mut session.parameters, &messages).await? {
        Answer::Row(row) => Ok(row),
        Answer::Error(body) => Err(Obstacle::Server(ErrorFields::new(&body).summary())),
    }
}
