//! The registry of clients that are logging in or have a session, and how one of them is disconnected.

mod info;
mod meter;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

pub use self::info::SessionId;
pub(crate) use self::info::SessionInfo;
pub(crate) use self::meter::Meter;
pub use self::meter::SessionState;
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

/// A client whose login the rules permit.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) info: SessionInfo,
    pub(crate) since: Instant,
    pub(crate) meter: Meter,
    /// The process id of its backend; 0 where that is not known.
    backend: AtomicI32,
    is_ended: AtomicBool,
    end: Notify,
}

impl Record {
    /// A client that logs in.
    pub(crate) fn new(info: SessionInfo) -> Self {
        Self {
            info,
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
        self.info.tenant.as_deref().unwrap_or_default()
    }

    /// The database that it is in, or is about to be.
    pub(crate) fn database(&self) -> &str {
        &self.info.database
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
    pub(crate) fn enter(shared: &Arc<Shared>, record: &Arc<Record>) -> SessionGuard {
        shared.live.live().insert(record.info.id, Arc::clone(record));
        SessionGuard { shared: Arc::clone(shared), record: Arc::clone(record) }
    }

    /// Notes a client that logs in, so that an administrator reaches it before it is a session.
    pub(crate) fn claim(shared: &Arc<Shared>, info: SessionInfo) -> LoginGuard {
        let record = Arc::new(Record::new(info));
        shared.live.claimed().insert(record.info.id, Arc::clone(&record));
        LoginGuard { shared: Arc::clone(shared), record }
    }

    fn claimed(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Record>>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them, in the order in which they came.
    pub(crate) fn all(&self) -> Vec<Arc<Record>> {
        let mut all: Vec<_> = self.live().values().cloned().collect();
        all.sort_unstable_by_key(|record| record.info.id);
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

/// How often the tenants that use the proxy most are determined.
const TURN: Duration = Duration::from_secs(60);

/// Determines which tenants have used the proxy most recently, again and again until it has stopped.
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
            self.counters.count_relayed(record.info.tenant.as_ref(), record.database(), since, metrics_tenants);
        }
    }
}

/// A client that logs in. Dropped, it does not any more.
pub(crate) struct LoginGuard {
    shared: Arc<Shared>,
    record: Arc<Record>,
}

impl std::fmt::Debug for LoginGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LoginGuard").field(&self.record.info.id).finish()
    }
}

impl LoginGuard {
    pub(crate) fn record(&self) -> &Arc<Record> {
        &self.record
    }
}

impl Drop for LoginGuard {
    fn drop(&mut self) {
        let mut claimed = self.shared.live.claimed();
        claimed.remove(&self.record.info.id);
        if claimed.len() < claimed.capacity() / 8 {
            claimed.shrink_to_fit();
        }
    }
}

/// A client's place among those that are admitted. Dropping it leaves.
pub(crate) struct SessionGuard {
    shared: Arc<Shared>,
    record: Arc<Record>,
}

impl std::fmt::Debug for SessionGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SessionGuard").field(&self.record.info.id).finish()
    }
}

impl SessionGuard {
    pub(crate) fn record(&self) -> &Arc<Record> {
        &self.record
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        let metrics_tenants = self.shared.config.load().metrics_tenants;
        self.shared.count_relayed(&self.record, metrics_tenants);
        let mut live = self.shared.live.live();
        live.remove(&self.record.info.id);
        // A burst of clients leaves its table behind; an eighth in use is little enough to move what is left.
        if live.len() < live.capacity() / 8 {
            live.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::ClientAddress;
    use crate::config::Config;

    fn enter(shared: &Arc<Shared>, tenant: &str) -> SessionGuard {
        let info = SessionInfo {
            id: shared.live.next_id(),
            tenant: Some(tenant.into()),
            role: "app_user".into(),
            database: "shop".into(),
            address: ClientAddress::Unix,
            is_tls: false,
            user: format!("app_user.{tenant}").into(),
        };
        Sessions::enter(shared, &Arc::new(Record::new(info)))
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
