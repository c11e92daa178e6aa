//! The connections of pools, one by one: for who wants to see them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::PoolKey;
use crate::sessions::SessionId;
use crate::wire::CancelKey;

/// A server connection at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStatus {
    /// The database.
    pub database: String,
    /// The role that the proxy has logged in as.
    pub role: String,
    /// The process id of its backend, as `pg_stat_activity` has it; `None` where the server has not said.
    pub backend_pid: Option<i32>,
    /// When it was made.
    pub connected: SystemTime,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Who has it.
    pub state: ServerState,
    /// Whether it is closed as soon as nobody has it, because an administrator has asked for that.
    pub close_needed: bool,
}

/// Who has a server connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerState {
    /// This session; or it has ended, and what it left is being cleared up.
    Active(SessionId),
    /// Nobody.
    Idle,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Servers {
    last: AtomicU64,
    all: Mutex<BTreeMap<u64, Arc<Server>>>,
}

#[derive(Debug)]
struct Server {
    key: Arc<PoolKey>,
    backend_pid: Option<i32>,
    connected: SystemTime,
    /// The ledger's epoch when it was begun.
    epoch: u64,
    /// The number of the session that has it; 0 for none.
    session: AtomicU64,
}

/// A connection's place among them. Dropping it leaves.
#[derive(Debug)]
pub(super) struct Entry {
    servers: Arc<Servers>,
    number: u64,
    server: Arc<Server>,
}

impl Servers {
    fn all(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Server>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a connection that has just been made.
    pub(super) fn enter(self: &Arc<Self>, key: &Arc<PoolKey>, backend: Option<&CancelKey>, epoch: u64) -> Entry {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let server = Arc::new(Server {
            key: Arc::clone(key),
            backend_pid: backend.map(|key| key.pid),
            connected: SystemTime::now(),
            epoch,
            session: AtomicU64::new(0),
        });
        self.all().insert(number, Arc::clone(&server));
        Entry { servers: Arc::clone(self), number, server }
    }

    /// What is so now, in the order in which they were made. `is_retired` says of a pool and an epoch whether its connections of that
    /// epoch are closed as soon as nobody has them.
    pub(super) fn status(&self, is_retired: impl Fn(&PoolKey, u64) -> bool) -> Vec<ServerStatus> {
        let of = |server: &Arc<Server>| ServerStatus {
            database: server.key.database.to_string(),
            role: server.key.role.to_string(),
            backend_pid: server.backend_pid,
            connected: server.connected,
            tls: server.key.upstream.tls.is_some(),
            state: match server.session.load(Ordering::Relaxed) {
                0 => ServerState::Idle,
                session => ServerState::Active(SessionId(session)),
            },
            close_needed: is_retired(&server.key, server.epoch),
        };
        let all: Vec<_> = self.all().values().cloned().collect();
        all.iter().map(of).collect()
    }
}

impl Entry {
    /// A session has it.
    pub(super) fn is_of(&self, session: SessionId) {
        self.server.session.store(session.0, Ordering::Relaxed);
    }

    /// Nobody has it.
    pub(super) fn is_free(&self) {
        self.server.session.store(0, Ordering::Relaxed);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.servers.all().remove(&self.number);
    }
}
