//! What the sessions of one proxy share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cancel::CancelRegistry;
use crate::config::Config;
use crate::limits::Places;
use crate::tenant::TenantRegistry;

/// One proxy's state. A session keeps the configuration that it started with.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: ArcSwap<Config>,
    /// Admitted sessions.
    pub(crate) sessions: Arc<Places>,
    /// Connections whose session is not ready.
    pub(crate) greetings: Arc<Places>,
    pub(crate) tenants: Arc<TenantRegistry>,
    pub(crate) cancels: Arc<CancelRegistry>,
    pub(crate) counters: Counters,
    /// No more clients are accepted.
    pub(crate) draining: CancellationToken,
    /// Sessions end now.
    pub(crate) abort: CancellationToken,
    /// Every task of the proxy.
    pub(crate) tasks: TaskTracker,
}

impl Shared {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config: ArcSwap::from_pointee(config),
            sessions: Arc::default(),
            greetings: Arc::default(),
            tenants: Arc::default(),
            cancels: Arc::default(),
            counters: Counters::default(),
            draining: CancellationToken::new(),
            abort: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            connections_total: read(&self.counters.connections),
            sessions_total: read(&self.counters.sessions),
            refused_total: read(&self.counters.refused),
            sessions_active: self.sessions.taken(),
        }
    }
}

/// Events since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    connections: AtomicU64,
    sessions: AtomicU64,
    refused: AtomicU64,
}

impl Counters {
    pub(crate) fn count_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_session(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a proxy has done and does, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections accepted since the start, cancel requests included.
    pub connections_total: u64,
    /// Logins that led to a session since the start.
    pub sessions_total: u64,
    /// Logins refused since the start, by the proxy or the server.
    pub refused_total: u64,
    /// Clients that are admitted now: relayed, or logging in.
    pub sessions_active: usize,
}
