//! What a proxy has done and does, in numbers. Everything that is shown anywhere is read from here.

mod databases;
mod histogram;
mod phases;
mod usage;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use databases::Databases;
pub use databases::{DatabaseStatus, DatabaseUse};
pub(crate) use histogram::Histogram;
pub use histogram::{TIME_BOUNDS, Timing};
pub use phases::Phase;
pub(crate) use phases::Phases;
pub use usage::TenantUse;
use usage::Usage;

/// Events since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    connections: AtomicU64,
    sessions: AtomicU64,
    refused: AtomicU64,
    refused_by_code: Mutex<BTreeMap<&'static str, u64>>,
    failed_logins: AtomicU64,
    failed_resets: AtomicU64,
    tenant_timeouts: AtomicU64,
    unheard_listens: AtomicU64,
    lost_events: AtomicU64,
    pub(crate) lost_log_lines: LostLogLines,
    from_client: AtomicU64,
    to_client: AtomicU64,
    requests: AtomicU64,
    usage: Mutex<Usage>,
    databases: Mutex<Databases>,
}

/// How many lines are missing from the log of the program that runs the proxy: it knows.
#[derive(Default)]
pub(crate) struct LostLogLines(Option<Box<dyn Fn() -> u64 + Send + Sync>>);

impl LostLogLines {
    pub(crate) fn counted_by(count: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(count)))
    }

    fn total(&self) -> u64 {
        self.0.as_ref().map_or(0, |count| count())
    }
}

impl std::fmt::Debug for LostLogLines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.total().fmt(f)
    }
}

/// Under which a login is counted that the server refused, instead of the proxy.
const BY_SERVER: &str = "server";

/// Under which a TLS handshake is counted that failed.
const IN_TLS: &str = "tls";

impl Counters {
    pub(crate) fn count_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A session of a tenant, or of a bypass user, is ready.
    pub(crate) fn count_session(&self, tenant: Option<&Arc<str>>, database: &str, metrics_tenants: usize) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        self.databases().note(database, DatabaseUse::SESSION);
        if let Some(tenant) = tenant {
            self.usage().note(tenant, TenantUse::SESSION, metrics_tenants);
        }
    }

    pub(crate) fn count_failed_login(&self) {
        self.failed_logins.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_failed_reset(&self) {
        self.failed_resets.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_tenant_timeout(&self) {
        self.tenant_timeouts.fetch_add(1, Ordering::Relaxed);
    }

    /// A session listens to a channel whose notifications do not reach it.
    pub(crate) fn count_unheard_listen(&self) {
        self.unheard_listens.fetch_add(1, Ordering::Relaxed);
    }

    /// An event could not be written to the audit stream.
    pub(crate) fn count_lost_event(&self) {
        self.lost_events.fetch_add(1, Ordering::Relaxed);
    }

    /// The proxy has refused a login, with this SQLSTATE.
    pub(crate) fn count_refused(&self, code: &'static str) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        *self.refused_by_code.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
    }

    /// The server has refused a login.
    pub(crate) fn count_refused_by_server(&self) {
        self.count_refused(BY_SERVER);
    }

    /// A TLS handshake with a client has failed.
    pub(crate) fn count_refused_in_tls(&self) {
        self.count_refused(IN_TLS);
    }

    /// A client has waited for a connection of a pool, and has got one.
    pub(crate) fn count_wait(&self, database: &str, time: Duration) {
        self.databases().note(database, DatabaseUse::wait(time));
    }

    /// Bytes have been relayed, and requests, for a tenant or a bypass user.
    pub(crate) fn count_relayed(
        &self,
        tenant: Option<&Arc<str>>,
        database: &str,
        relayed: Relayed,
        metrics_tenants: usize,
    ) {
        let Relayed { from_client, to_client, requests } = relayed;
        self.from_client.fetch_add(from_client, Ordering::Relaxed);
        self.to_client.fetch_add(to_client, Ordering::Relaxed);
        self.requests.fetch_add(requests, Ordering::Relaxed);
        let done = DatabaseUse { requests, from_client, to_client, ..DatabaseUse::default() };
        self.databases().note(database, done);
        if let Some(tenant) = tenant.filter(|_| from_client > 0 || to_client > 0) {
            self.usage().note(tenant, TenantUse::bytes(from_client, to_client), metrics_tenants);
        }
    }

    /// A minute is over: looks who has used most of late.
    pub(crate) fn turn(&self, metrics_tenants: usize) {
        self.usage().turn(metrics_tenants);
        self.databases().turn();
    }

    /// What the clients of each database have done.
    pub(crate) fn databases_status(&self) -> Vec<DatabaseStatus> {
        self.databases().figures()
    }

    /// The tenants that have figures of their own, the most used first, and what all others have done.
    pub(crate) fn tenants(&self) -> (Vec<(Arc<str>, TenantUse)>, TenantUse) {
        self.usage().figures()
    }

    fn databases(&self) -> MutexGuard<'_, Databases> {
        self.databases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refused logins by SQLSTATE; `server` stands for those that the server refused, `tls` for failed handshakes.
    pub(crate) fn refused(&self) -> BTreeMap<&'static str, u64> {
        self.refused_by_code.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What they say, beside what is so now.
    pub(crate) fn stats(&self, now: Now) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            connections_total: read(&self.connections),
            sessions_total: read(&self.sessions),
            refused_total: read(&self.refused),
            sessions_active: now.sessions_active,
            failed_logins_total: read(&self.failed_logins),
            failed_resets_total: read(&self.failed_resets),
            tenant_timeouts_total: read(&self.tenant_timeouts),
            unheard_listens_total: read(&self.unheard_listens),
            audit_errors_total: read(&self.lost_events),
            log_lines_lost_total: self.lost_log_lines.total(),
            bytes_from_clients_total: read(&self.from_client),
            bytes_to_clients_total: read(&self.to_client),
            requests_total: read(&self.requests),
            pool_connections: now.pool_connections,
            pool_idle: now.pool_idle,
            pool_waiting: now.pool_waiting,
        }
    }
}

/// What is so at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) sessions_active: usize,
    pub(crate) pool_connections: usize,
    pub(crate) pool_idle: usize,
    pub(crate) pool_waiting: usize,
}

/// What has been relayed since it was last counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Relayed {
    pub(crate) from_client: u64,
    pub(crate) to_client: u64,
    pub(crate) requests: u64,
}

/// What a proxy has done and does, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Connections accepted since the start, cancel requests included.
    pub connections_total: u64,
    /// Logins that led to a session since the start.
    pub sessions_total: u64,
    /// Logins refused since the start, by the proxy or the server.
    pub refused_total: u64,
    /// Sessions now, of clients that are authenticated.
    pub sessions_active: usize,
    /// Logins whose proof was wrong since the start, where the proxy judges proofs (`pool_mode = session`).
    pub failed_logins_total: u64,
    /// Upstream connections that were closed since the start because they could not be reset.
    pub failed_resets_total: u64,
    /// Sessions closed, and requests cancelled, by `tenant_query_timeout` since the start.
    pub tenant_timeouts_total: u64,
    /// LISTENs since the start to channels whose notifications do not reach the session (`notifications`).
    pub unheard_listens_total: u64,
    /// Events that could not be written to the audit stream since the start.
    pub audit_errors_total: u64,
    /// Lines that are missing from the program's log since the start, because nothing took them in time.
    pub log_lines_lost_total: u64,
    /// Bytes that clients have sent in sessions since the start.
    pub bytes_from_clients_total: u64,
    /// Bytes that servers have sent in sessions since the start.
    pub bytes_to_clients_total: u64,
    /// Requests since the start, of sessions whose messages are seen: simple queries, executions, function calls.
    pub requests_total: u64,
    /// Upstream connections of all pools now: idle, held by a session, or being made.
    pub pool_connections: usize,
    /// Those of them that are idle.
    pub pool_idle: usize,
    /// Clients that wait for one.
    pub pool_waiting: usize,
}
