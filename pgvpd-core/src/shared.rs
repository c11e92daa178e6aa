//! What the sessions of one proxy share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::{Decoy, Deriver, Penalties, Secrets};
use crate::cancel::CancelRegistry;
use crate::config::Config;
use crate::context::RoleChecks;
use crate::limits::Places;
use crate::pool::Pools;
use crate::resolve::Resolving;
use crate::tenant::TenantRegistry;

/// One proxy's state. A session keeps the configuration that it started with.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: ArcSwap<Config>,
    /// It has been replaced by a reload.
    pub(crate) reloaded: Notify,
    /// Admitted sessions.
    pub(crate) sessions: Arc<Places>,
    /// Connections whose session is not ready.
    pub(crate) greetings: Arc<Places>,
    pub(crate) tenants: Arc<TenantRegistry>,
    pub(crate) cancels: Arc<CancelRegistry>,
    pub(crate) pools: Arc<Pools>,
    // Made when a client of a pool comes: their caches are no small thing, and passthrough needs none.
    pub(crate) secrets: LazyLock<Secrets>,
    pub(crate) deriver: LazyLock<Deriver>,
    pub(crate) penalties: LazyLock<Penalties>,
    pub(crate) decoy: LazyLock<Decoy>,
    pub(crate) role_checks: LazyLock<RoleChecks>,
    /// Made when resolvers are to run.
    resolving: OnceLock<Arc<Resolving>>,
    pub(crate) counters: Counters,
    /// No more clients are accepted.
    pub(crate) draining: CancellationToken,
    /// Sessions end now.
    pub(crate) abort: CancellationToken,
    /// Every task that serves a client, or accepts them.
    pub(crate) tasks: TaskTracker,
    /// The sessions are over, and so is what serves none of them in particular.
    pub(crate) stopped: CancellationToken,
    /// Those tasks.
    pub(crate) background: TaskTracker,
}

impl Shared {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config: ArcSwap::from_pointee(config),
            reloaded: Notify::new(),
            sessions: Arc::default(),
            greetings: Arc::default(),
            tenants: Arc::default(),
            cancels: Arc::default(),
            pools: Arc::default(),
            secrets: LazyLock::new(Secrets::new),
            deriver: LazyLock::new(Deriver::new),
            penalties: LazyLock::new(Penalties::new),
            decoy: LazyLock::new(Decoy::new),
            role_checks: LazyLock::new(RoleChecks::new),
            resolving: OnceLock::new(),
            counters: Counters::default(),
            draining: CancellationToken::new(),
            abort: CancellationToken::new(),
            tasks: TaskTracker::new(),
            stopped: CancellationToken::new(),
            background: TaskTracker::new(),
        }
    }

    /// What resolvers share. The size of its cache is that of the first configuration that has some.
    pub(crate) fn resolving(&self, config: &Config) -> &Arc<Resolving> {
        self.resolving.get_or_init(|| Arc::new(Resolving::new(config.resolvers.cache_bytes)))
    }

    /// The same, if resolvers have run.
    pub(crate) fn resolving_so_far(&self) -> Option<&Arc<Resolving>> {
        self.resolving.get()
    }

    pub(crate) fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let pools = self.pools.figures();
        Stats {
            connections_total: read(&self.counters.connections),
            sessions_total: read(&self.counters.sessions),
            refused_total: read(&self.counters.refused),
            sessions_active: self.sessions.taken(),
            failed_logins_total: read(&self.counters.failed_logins),
            failed_resets_total: read(&self.counters.failed_resets),
            pool_connections: pools.total,
            pool_idle: pools.idle,
            pool_waiting: pools.waiting,
        }
    }
}

/// Events since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    connections: AtomicU64,
    sessions: AtomicU64,
    refused: AtomicU64,
    failed_logins: AtomicU64,
    failed_resets: AtomicU64,
}

impl Counters {
    pub(crate) fn count_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_session(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_failed_login(&self) {
        self.failed_logins.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_failed_reset(&self) {
        self.failed_resets.fetch_add(1, Ordering::Relaxed);
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
    /// Logins whose proof was wrong since the start, where the proxy judges proofs (`pool_mode = session`).
    pub failed_logins_total: u64,
    /// Upstream connections that were closed since the start because they could not be reset.
    pub failed_resets_total: u64,
    /// Upstream connections of all pools now: idle, held by a session, or being made.
    pub pool_connections: usize,
    /// Those of them that are idle.
    pub pool_idle: usize,
    /// Clients that wait for one.
    pub pool_waiting: usize,
}
