//! `auth_query`: asks the database what a role has to prove.
//!
//! On a connection of the proxy's own, as a role and in a database that no client chooses, with a search path that no
//! client sets (CVE-2025-12819 of PgBouncer: the query ran with the client's), and with the role's name as a bound
//! parameter.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::debug;
use zeroize::Zeroizing;

use super::AuthQuery;
use crate::auth::{Credentials, Deriver, Secret};
use crate::config::Config;
use crate::net::Conn;
use crate::net::UpstreamAddress;
use crate::upstream::{UpstreamError, UpstreamLogin, UpstreamSession, next_message};
use crate::wire::{DataRow, TransactionStatus, bind_values, tag};

/// Of `SQL_ASCII`, PostgreSQL converts nothing: the bytes of a name are those that a login as this role sends.
const STARTUP: [(&str, &str); 3] =
    [("search_path", "pg_catalog"), ("application_name", "pgvpd"), ("client_encoding", "SQL_ASCII")];

/// A connection that was idle and does not answer in this time is taken to be lost without a word, as behind a firewall
/// that has forgotten it: other logins wait.
const IDLE_ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Why there is no answer. For the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum QueryError {
    #[error("{}", .0.for_log())]
    Upstream(#[from] UpstreamError),
    #[error("auth_query gave more than one row")]
    Rows,
    #[error("auth_query gave {0} columns, and not two: the role and its verifier")]
    Columns(usize),
    #[error("auth_query gave another role than the one asked for")]
    OtherRole,
    #[error("auth_query gave a verifier that is not UTF-8")]
    Encoding,
}

/// Who is asked about, and where.
pub(super) struct Question<'a> {
    pub(super) role: &'a str,
    pub(super) query: &'a AuthQuery,
    pub(super) config: &'a Config,
    /// Those of the role that asks.
    pub(super) credentials: Credentials,
}

/// Asks over one connection, which stays open between questions.
#[derive(Default)]
pub(super) struct Asker {
    /// Empty while a question is out: who gives up on the way closes the connection, and nobody gets half an answer.
    idle: Mutex<Option<Idle>>,
    /// A connection was to be closed that a question was out on.
    is_retired: AtomicBool,
}

struct Idle {
    session: UpstreamSession,
    address: UpstreamAddress,
    user: String,
    database: String,
}

impl Asker {
    /// What the role has to prove; `None` if it may not log in. Safe to cancel. The caller sets the deadline.
    pub(super) async fn ask(&self, question: &Question<'_>, deriver: &Deriver) -> Result<Option<Secret>, QueryError> {
        let Question { role, query, .. } = question;
        let mut place = self.idle.lock().await;
        if self.is_retired.swap(false, Ordering::Relaxed) {
            *place = None;
        }
        if let Some(mut idle) = place.take().filter(|idle| idle.fits(question)) {
            match timeout(IDLE_ANSWERS_WITHIN, run(&mut idle.session.conn, &query.text, role)).await {
                Ok(Ok(answer)) => {
                    self.keep(&mut place, idle);
                    return Ok(answer);
                }
                // The server may have closed it long ago.
                Ok(Err(QueryError::Upstream(error))) if error.is_fatal() => {
                    debug!(cause = error.for_log(), "the connection of auth_query is gone");
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => debug!("the connection of auth_query does not answer"),
            }
        }
        let mut fresh = Idle::connect(question, deriver).await?;
        let answer = run(&mut fresh.session.conn, &query.text, role).await?;
        self.keep(&mut place, fresh);
        Ok(answer)
    }

    fn keep(&self, place: &mut Option<Idle>, idle: Idle) {
        *place = (!self.is_retired.swap(false, Ordering::Relaxed)).then_some(idle);
    }

    /// Closes the connection, if it leads to this database, or wherever it leads; after the answer, where a question is out.
    pub(super) fn close(&self, database: Option<&str>) {
        match self.idle.try_lock() {
            Ok(mut place) => drop(place.take_if(|idle| database.is_none_or(|database| idle.database == database))),
            Err(_) => self.is_retired.store(true, Ordering::Relaxed),
        }
    }
}

impl Idle {
    async fn connect(question: &Question<'_>, deriver: &Deriver) -> Result<Self, UpstreamError> {
        let Question { query, config, credentials, .. } = question;
        let startup = STARTUP.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let login = UpstreamLogin {
            address: &config.upstream,
            allow_cleartext: config.allow_cleartext,
            role: &query.user,
            database: &query.database,
            startup: &startup,
            credentials: credentials.clone(),
        };
        let session = login.run(deriver).await?;
        let (address, user, database) = (config.upstream.clone(), query.user.clone(), query.database.clone());
        Ok(Self { session, address, user, database })
    }

    /// False after a reload that asks elsewhere or as another.
    fn fits(&self, question: &Question<'_>) -> bool {
        let Question { query, config, .. } = question;
        self.address == config.upstream && self.user == query.user && self.database == query.database
    }
}

/// Runs the query. The connection can be used again only if this is `Ok`.
async fn run<S>(conn: &mut Conn<S>, sql: &str, role: &str) -> Result<Option<Secret>, QueryError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = Vec::new();
    bind_values(&mut request, sql, &[role.as_bytes()]);
    conn.queue(&request);
    let mut row = None;
    let mut next = [tag::PARSE_COMPLETE, tag::BIND_COMPLETE].into_iter();
    loop {
        let message = next_message(conn).await?;
        match (message.tag, next.as_slice()) {
            // A reload of the server's configuration is reported at any time.
            (tag::PARAMETER_STATUS, _) => {}
            (found, [expected, ..]) if found == *expected => _ = next.next(),
            (tag::DATA_ROW, []) if row.is_some() => return Err(QueryError::Rows),
            (tag::DATA_ROW, []) => row = Some(message.body),
            (tag::COMMAND_COMPLETE, []) => break,
            _ => return Err(message.unexpected().into()),
        }
    }
    let ready = next_message(conn).await?;
    let is_idle = matches!(TransactionStatus::parse(&ready.body), Ok(TransactionStatus::Idle));
    if ready.tag != tag::READY_FOR_QUERY || !is_idle {
        return Err(ready.unexpected().into());
    }
    if !conn.received().is_empty() {
        return Err(UpstreamError::Unread.into());
    }
    row.map_or(Ok(None), |row| secret(&row, role))
}

fn secret(row: &Zeroizing<Vec<u8>>, role: &str) -> Result<Option<Secret>, QueryError> {
    let columns = DataRow::parse(row).map_err(UpstreamError::Protocol)?;
    let [found, verifier] = columns[..] else {
        return Err(QueryError::Columns(columns.len()));
    };
    // A function that is not set-returning answers with NULLs where there is nothing.
    let Some(verifier) = verifier.filter(|verifier| !verifier.is_empty()) else { return Ok(None) };
    if found != Some(role.as_bytes()) {
        return Err(QueryError::OtherRole);
    }
    Ok(Secret::of(std::str::from_utf8(verifier).map_err(|_| QueryError::Encoding)?))
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
