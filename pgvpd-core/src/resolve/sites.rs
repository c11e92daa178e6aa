//! The proxy's own connections for resolvers: few, as `resolver_user`, and no client ever has one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::batch::{Question, Site, Verdict, ask, attach};
use super::fault::Fault;
use super::rules::ResolverAccount;
use crate::auth::{Credentials, Deriver};
use crate::context::{Facts, Scope};
use crate::net::UpstreamAddress;
use crate::upstream::{UpstreamError, UpstreamLogin, UpstreamSession};

/// Where and as whom to ask, and how long that may take.
#[derive(Clone)]
pub(super) struct Access {
    pub(super) upstream: UpstreamAddress,
    pub(super) database: Arc<str>,
    pub(super) account: Arc<ResolverAccount>,
    pub(super) credentials: Credentials,
    pub(super) allow_cleartext: bool,
    /// For connecting and logging in.
    pub(super) login_timeout: Duration,
    /// For one query.
    pub(super) limit: Duration,
}

/// Server, database and role.
pub(super) type Place = (UpstreamAddress, Arc<str>, String);

/// Connections by where they lead to.
#[derive(Default)]
pub(super) struct Sites {
    sites: Mutex<HashMap<Place, Arc<Connections>>>,
}

struct Connections {
    places: Semaphore,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    session: UpstreamSession,
    facts: Option<Facts>,
    since: Instant,
}

/// How long a connection is kept for which nobody asks.
const IDLE: Duration = Duration::from_secs(60);

impl Sites {
    /// Asks on a connection of its own.
    pub(super) async fn ask(
        &self,
        access: &Access,
        scope: &Scope,
        questions: &[Question],
        deriver: &Deriver,
    ) -> Result<Vec<Verdict>, Fault> {
        let connections = self.connections(access);
        let _place = connections.place(access.limit).await?;
        if let Some(idle) = connections.take() {
            match connections.ask_on(idle, access, scope, questions).await {
                // The server may have closed it long ago.
                Err(fault) if fault.is_of_the_connection() => {
                    debug!(cause = %fault, "a connection for resolvers is gone")
                }
                Ok(verdicts) if is_lost(&verdicts) => debug!("a connection for resolvers is gone"),
                answered => return answered,
            }
        }
        let session = access.log_in(deriver).await?;
        connections.ask_on(Idle { session, facts: None, since: Instant::now() }, access, scope, questions).await
    }

    fn connections(&self, access: &Access) -> Arc<Connections> {
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = sites.entry(access.place()).or_insert_with(|| {
            let places = Semaphore::new(access.account.pool_size);
            Arc::new(Connections { places, idle: Mutex::default() })
        });
        Arc::clone(connections)
    }

    /// Closes connections to this database, or all; those that are in use are not kept.
    pub(super) fn close(&self, database: Option<&str>) {
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        sites.retain(|(_, of, _), _| database.is_some_and(|database| **of != *database));
    }

    /// Closes connections for which nobody has asked of late, and forgets databases for which nobody asks.
    pub(super) fn sweep(&self) {
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        sites.retain(|_, connections| {
            let mut idle = connections.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|idle| idle.since.elapsed() < IDLE);
            !idle.is_empty() || Arc::strong_count(connections) > 1
        });
    }
}

/// True where not even the first question has an answer.
fn is_lost(verdicts: &[Verdict]) -> bool {
    matches!(verdicts.first(), Some(Err(fault)) if fault.is_of_the_connection())
}

impl Connections {
    async fn place(&self, limit: Duration) -> Result<SemaphorePermit<'_>, Fault> {
        match timeout(limit, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) => Err(Fault::Stopped),
            Err(_) => Err(Fault::Busy(limit)),
        }
    }

    fn take(&self) -> Option<Idle> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(found) = idle.pop() {
            if found.session.conn.received().is_empty() && found.session.conn.stream().is_quiet() {
                return Some(found);
            }
        }
        None
    }

    /// Asks, and keeps the connection where it can be used again. Safe to cancel: it is closed then.
    async fn ask_on(
        &self,
        mut idle: Idle,
        access: &Access,
        scope: &Scope,
        questions: &[Question],
    ) -> Result<Vec<Verdict>, Fault> {
        let UpstreamSession { conn, parameters, .. } = &mut idle.session;
        if scope.is_signed() && idle.facts.is_none() {
            let attached = timeout(access.login_timeout, attach(conn, parameters)).await;
            idle.facts = Some(attached.unwrap_or(Err(Fault::Slow(access.login_timeout)))?);
        }
        let mut site = Site { conn, parameters, facts: idle.facts, moves_nonce: false, is_lost: false };
        let verdicts = ask(&mut site, scope, questions, access.limit).await?;
        if site.is_lost {
            return Ok(verdicts);
        }
        idle.since = Instant::now();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(idle);
        Ok(verdicts)
    }
}

impl Access {
    pub(super) fn place(&self) -> Place {
        (self.upstream.clone(), Arc::clone(&self.database), self.account.user.clone())
    }

    /// A connection of the proxy's own.
    pub(super) async fn log_in(&self, deriver: &Deriver) -> Result<UpstreamSession, Fault> {
        let startup =
            [("application_name", "pgvpd resolvers"), ("client_encoding", "UTF8"), ("search_path", "pg_catalog")];
        let startup = startup.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let login = UpstreamLogin {
            address: &self.upstream,
            allow_cleartext: self.allow_cleartext,
            role: &self.account.user,
            database: &self.database,
            startup: &startup,
            credentials: self.credentials.clone(),
        };
        let made = timeout(self.login_timeout, login.run(deriver)).await;
        made.unwrap_or(Err(UpstreamError::Unanswered)).map_err(|error| Fault::Login(Arc::new(error)))
    }
}
