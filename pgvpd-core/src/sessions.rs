//! The clients that are admitted now: who they are, what they have moved, and how one of them is ended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing::Span;

use crate::config::ClientAddress;
use crate::shared::Shared;
use crate::stats::Relayed;
use crate::wire::CancelKey;

/// All of them, by number.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    last: AtomicU64,
    live: Mutex<HashMap<SessionId, Arc<Record>>>,
    /// Those that are not authenticated yet: they are no sessions, and can be ended as such.
    claimed: Mutex<HashMap<SessionId, Arc<Record>>>,
}

/// A connection's number, of one proxy, from its beginning to its end. It stands in every line of the log that is about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct SessionId(pub u64);

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl SessionId {
    /// What the lines of the log about it stand in. Made anew for each: kept, one would weigh as much as an idle session.
    pub(crate) fn span(self) -> Span {
        // Its level is that of errors so that it is there whatever is filtered out.
        tracing::error_span!(target: "pgvpd_core::session::span", "session", session = self.0)
    }

    /// The same for a line of level info, which is cheaper than its span where nobody wants it.
    pub(crate) fn span_of_info(self) -> Span {
        if tracing::enabled!(target: "pgvpd_core::session", tracing::Level::INFO) { self.span() } else { Span::none() }
    }
}

/// A client whose login the rules permit.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) who: Who,
    pub(crate) since: Instant,
    pub(crate) meter: Meter,
    /// The process id of its backend; 0 where that is not known.
    backend: AtomicI32,
    is_ended: AtomicBool,
    end: Notify,
}

/// Who a client is.
#[derive(Debug)]
pub(crate) struct Who {
    pub(crate) id: SessionId,
    /// `None` for a bypass user.
    pub(crate) tenant: Option<Arc<str>>,
    pub(crate) role: Box<str>,
    pub(crate) database: Box<str>,
    pub(crate) address: ClientAddress,
    pub(crate) is_tls: bool,
}

/// What a session's client does at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SessionState {
    /// It has proved who it is; its context is being set.
    Login,
    /// It has proved who it is, and waits for a connection of a pool.
    Waiting,
    /// Its messages are not looked at (`relay = raw`, and bypass users).
    Open,
    /// Nothing is outstanding.
    Idle,
    /// It waits for the server.
    Active,
    /// Nothing is outstanding, in an open transaction.
    IdleInTransaction,
    /// The same, and the transaction has failed.
    IdleInTransactionAborted,
}

/// What a session moves. Its own task alone writes: a plain store for each chunk of bytes.
#[derive(Debug)]
pub(crate) struct Meter {
    from_client: AtomicU64,
    to_client: AtomicU64,
    requests: AtomicU64,
    /// How much of it has been counted elsewhere.
    counted: Mutex<Relayed>,
    state: AtomicU8,
}

const STATES: [SessionState; 7] = [
    SessionState::Login,
    SessionState::Waiting,
    SessionState::Open,
    SessionState::Idle,
    SessionState::Active,
    SessionState::IdleInTransaction,
    SessionState::IdleInTransactionAborted,
];

impl Default for Meter {
    fn default() -> Self {
        Self {
            from_client: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            counted: Mutex::default(),
            state: AtomicU8::new(SessionState::Login as u8),
        }
    }
}

/// Adds without a locked instruction: nobody else writes.
fn add(counter: &AtomicU64, count: usize) {
    let sum = counter.load(Ordering::Relaxed).wrapping_add(count as u64);
    counter.store(sum, Ordering::Relaxed);
}

impl Meter {
    pub(crate) fn add_from_client(&self, bytes: usize) {
        add(&self.from_client, bytes);
    }

    pub(crate) fn add_to_client(&self, bytes: usize) {
        add(&self.to_client, bytes);
    }

    pub(crate) fn add_requests(&self, requests: usize) {
        add(&self.requests, requests);
    }

    pub(crate) fn set_state(&self, state: SessionState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    pub(crate) fn state(&self) -> SessionState {
        let state = usize::from(self.state.load(Ordering::Relaxed));
        STATES.get(state).copied().unwrap_or(SessionState::Open)
    }

    /// Everything that it has moved.
    pub(crate) fn relayed(&self) -> Relayed {
        Relayed {
            from_client: self.from_client.load(Ordering::Relaxed),
            to_client: self.to_client.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
        }
    }

    /// What has come since this was asked last.
    fn take_uncounted(&self) -> Relayed {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.relayed();
        let since = Relayed {
            from_client: now.from_client.wrapping_sub(counted.from_client),
            to_client: now.to_client.wrapping_sub(counted.to_client),
            requests: now.requests.wrapping_sub(counted.requests),
        };
        *counted = now;
        since
    }
}

impl Record {
    /// A client that logs in.
    pub(crate) fn new(who: Who) -> Self {
        Self {
            who,
            since: Instant::now(),
            meter: Meter::default(),
            backend: AtomicI32::new(0),
            is_ended: AtomicBool::new(false),
            end: Notify::new(),
        }
    }

    /// Resolves when the session is to end by an administrator's will.
    pub(crate) async fn ended(&self) {
        // The permit of `notify_one` is kept for who comes later.
        while !self.is_ended.load(Ordering::Acquire) {
            self.end.notified().await;
        }
    }

    /// Has it end. False where it has been told already.
    fn end(&self) -> bool {
        let is_first = !self.is_ended.swap(true, Ordering::AcqRel);
        self.end.notify_waiters();
        self.end.notify_one();
        is_first
    }

    /// The tenant, empty for a bypass user.
    pub(crate) fn tenant(&self) -> &str {
        self.who.tenant.as_deref().unwrap_or_default()
    }

    /// The database that it is in, or is about to be.
    pub(crate) fn database(&self) -> &str {
        &self.who.database
    }

    /// The process id of the backend that it has; `None` where it has none, or one that has not said.
    pub(crate) fn backend(&self) -> Option<i32> {
        Some(self.backend.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    /// It has a backend.
    pub(crate) fn has_backend(&self, key: Option<&CancelKey>) {
        self.backend.store(key.map_or(0, |key| key.pid), Ordering::Relaxed);
    }
}

impl Sessions {
    /// A number for a new connection.
    pub(crate) fn next_id(&self) -> SessionId {
        SessionId(self.last.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn live(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Record>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a client that is authenticated.
    pub(crate) fn enter(shared: &Arc<Shared>, record: &Arc<Record>) -> Presence {
        shared.live.live().insert(record.who.id, Arc::clone(record));
        Presence { shared: Arc::clone(shared), record: Arc::clone(record) }
    }

    /// Notes a client that logs in, so that an administrator reaches it before it is a session.
    pub(crate) fn claim(shared: &Arc<Shared>, who: Who) -> Claimed {
        let record = Arc::new(Record::new(who));
        shared.live.claimed().insert(record.who.id, Arc::clone(&record));
        Claimed { shared: Arc::clone(shared), record }
    }

    fn claimed(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Record>>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them, in the order in which they came.
    pub(crate) fn all(&self) -> Vec<Arc<Record>> {
        let mut all: Vec<_> = self.live().values().cloned().collect();
        all.sort_unstable_by_key(|record| record.who.id);
        all
    }

    /// Ends those that this is true of, and logins that would become such. Gives how many there were that did not end already.
    pub(crate) fn end(&self, is_meant: impl Fn(&Record) -> bool) -> usize {
        let end = |records: MutexGuard<'_, HashMap<SessionId, Arc<Record>>>| {
            records.values().filter(|record| is_meant(record) && record.end()).count()
        };
        // A login that becomes a session between the two is in both.
        end(self.claimed()) + end(self.live())
    }

    /// Counts what has been relayed since this was called last.
    pub(crate) fn count_relayed(shared: &Shared) {
        let metrics_tenants = shared.config.load().metrics_tenants;
        for record in shared.live.all() {
            shared.count_relayed(&record, metrics_tenants);
        }
    }
}

/// How often it is looked who has used the proxy most of late.
const TURN: Duration = Duration::from_secs(60);

/// Looks who has used the proxy most of late, until it has stopped.
pub(crate) async fn keep(shared: Arc<Shared>) {
    while shared.stopped.run_until_cancelled(tokio::time::sleep(TURN)).await.is_some() {
        Sessions::count_relayed(&shared);
        shared.counters.turn(shared.config.load().metrics_tenants);
    }
}

impl Shared {
    fn count_relayed(&self, record: &Record, metrics_tenants: usize) {
        let since = record.meter.take_uncounted();
        if since != Relayed::default() {
            self.counters.count_relayed(record.who.tenant.as_ref(), record.database(), since, metrics_tenants);
        }
    }
}

/// A client that logs in. Dropped, it does not any more.
pub(crate) struct Claimed {
    shared: Arc<Shared>,
    record: Arc<Record>,
}

impl std::fmt::Debug for Claimed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Claimed").field(&self.record.who.id).finish()
    }
}

impl Claimed {
    pub(crate) fn record(&self) -> &Arc<Record> {
        &self.record
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        let mut claimed = self.shared.live.claimed();
        claimed.remove(&self.record.who.id);
        if claimed.len() < claimed.capacity() / 8 {
            claimed.shrink_to_fit();
        }
    }
}

/// A client's place among those that are admitted. Dropping it leaves.
pub(crate) struct Presence {
    shared: Arc<Shared>,
    record: Arc<Record>,
}

impl std::fmt::Debug for Presence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Presence").field(&self.record.who.id).finish()
    }
}

impl Presence {
    pub(crate) fn record(&self) -> &Arc<Record> {
        &self.record
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let metrics_tenants = self.shared.config.load().metrics_tenants;
        self.shared.count_relayed(&self.record, metrics_tenants);
        let mut live = self.shared.live.live();
        live.remove(&self.record.who.id);
        // A burst of clients leaves its table behind; an eighth in use is little enough to move what is left.
        if live.len() < live.capacity() / 8 {
            live.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn enter(shared: &Arc<Shared>, tenant: &str) -> Presence {
        let who = Who {
            id: shared.live.next_id(),
            tenant: Some(tenant.into()),
            role: "app_user".into(),
            database: "shop".into(),
            address: ClientAddress::Unix,
            is_tls: false,
        };
        Sessions::enter(shared, &Arc::new(Record::new(who)))
    }

    #[test]
    fn what_is_moved_is_counted_once_while_a_session_lasts_and_at_its_end() {
        let shared = Arc::new(Shared::new(Config::default()));
        let session = enter(&shared, "acme");
        session.record().meter.add_from_client(10);
        Sessions::count_relayed(&shared);
        session.record().meter.add_to_client(5);
        session.record().meter.add_from_client(1);
        session.record().meter.add_requests(2);
        Sessions::count_relayed(&shared);
        session.record().meter.add_to_client(7);
        drop(session);
        let stats = shared.stats();
        let moved = (stats.bytes_from_clients_total, stats.bytes_to_clients_total, stats.requests_total);
        assert_eq!(moved, (11, 12, 2));
        assert!(shared.live.all().is_empty());
    }

    #[tokio::test]
    async fn a_session_is_told_to_end_before_and_after_it_listens() {
        let shared = Arc::new(Shared::new(Config::default()));
        let (one, other) = (enter(&shared, "acme"), enter(&shared, "globex"));
        let waiting = tokio::spawn({
            let record = Arc::clone(one.record());
            async move { record.ended().await }
        });
        tokio::task::yield_now().await;
        assert_eq!(shared.live.end(|record| record.tenant() == "acme"), 1);
        waiting.await.expect("told");
        one.record().ended().await;
        assert!(!other.record().is_ended.load(Ordering::Acquire));
    }

    #[test]
    fn a_table_that_has_held_many_sessions_gives_its_memory_back() {
        let shared = Arc::new(Shared::new(Config::default()));
        let many: Vec<_> = (0..10_000).map(|number| enter(&shared, &format!("tenant-{number}"))).collect();
        drop(many);
        assert!(shared.live.live().capacity() < 64);
    }
}
