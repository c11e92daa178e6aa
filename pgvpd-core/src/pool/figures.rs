//! What pools have done, and what they have.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// What all pools have done since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PoolStats {
    /// Connections given to sessions.
    pub checkouts: u64,
    /// Those of them that another session had before.
    pub reuses: u64,
    /// Connections made.
    pub creates: u64,
    /// Connections given back by sessions, reset.
    pub checkins: u64,
    /// Connections closed, for whatever reason.
    pub discards: u64,
}

/// A pool at one moment: the connections of one role in one database.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PoolStatus {
    /// The database.
    pub database: String,
    /// The role that the proxy logs in as.
    pub role: String,
    /// All connections: idle, used, or being made.
    pub total: usize,
    /// Those that nobody uses.
    pub idle: usize,
    /// Those of them that have been idle for longer than `server_check_delay`: they are tried before a client gets them.
    pub unchecked: usize,
    /// Those that a session has, or that are being reset.
    pub used: usize,
    /// Those that are being made.
    pub connecting: usize,
    /// Clients that wait for one.
    pub waiting: usize,
    /// How long the one has waited that came first, in seconds.
    pub longest_wait: f64,
    /// True while connections cannot be made.
    pub is_failing: bool,
}

/// How many connections an administrator has had closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retired {
    /// Nobody used them: they are closed.
    pub(crate) closed: usize,
    /// They are closed when their sessions end; those that are being made, when they are made.
    pub(crate) follow: usize,
}

/// The same as [`PoolStats`], counting.
#[derive(Debug, Default)]
pub(super) struct PoolCounters {
    pub(super) checkouts: AtomicU64,
    pub(super) reuses: AtomicU64,
    pub(super) creates: AtomicU64,
    pub(super) checkins: AtomicU64,
    pub(super) discards: AtomicU64,
}

/// Counts one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl PoolCounters {
    pub(super) fn stats(&self) -> PoolStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PoolStats {
            checkouts: read(&self.checkouts),
            reuses: read(&self.reuses),
            creates: read(&self.creates),
            checkins: read(&self.checkins),
            discards: read(&self.discards),
        }
    }
}
