//! What the sessions of one proxy share.

use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::{Audit, Refusals};
use crate::auth::{Decoy, Deriver};
use crate::cancel::CancelRegistry;
use crate::config::Config;
use crate::context::{RoleChecks, RoleSettings};
use crate::limits::Places;
use crate::logins::Logins;
use crate::logins::Penalties;
use crate::pool::Pools;
use crate::reload::ConfigSource;
use crate::repeats::Repeats;
use crate::resolve::Resolving;
use crate::secrets::Secrets;
use crate::sessions::Sessions;
use crate::stats::{Counters, Now, Phases, Stats};
use crate::tenant::TenantRegistry;

/// One proxy's state. A session keeps the configuration that it started with.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: ArcSwap<Config>,
    /// One reload at a time.
    pub(crate) reloading: Mutex<()>,
    /// It has been replaced by a reload.
    pub(crate) reloaded: Notify,
    /// Since when it runs.
    pub(crate) started: SystemTime,
    /// Sessions of authenticated clients: their number, which is limited.
    pub(crate) sessions: Arc<Places>,
    /// The same: what is known of them.
    pub(crate) live: Sessions,
    /// Administrators at the console.
    pub(crate) consoles: Arc<Places>,
    /// Connections whose client is not authenticated.
    pub(crate) logins: Arc<Logins>,
    /// The same of administrators who come to the console.
    pub(crate) console_logins: Arc<Logins>,
    pub(crate) tenants: Arc<TenantRegistry>,
    pub(crate) cancels: Arc<CancelRegistry>,
    pub(crate) pools: Arc<Pools>,
    // Made when a client of a pool comes: their caches are no small thing, and passthrough needs none.
    pub(crate) secrets: LazyLock<Secrets>,
    pub(crate) deriver: LazyLock<Deriver>,
    pub(crate) penalties: LazyLock<Penalties>,
    pub(crate) decoy: LazyLock<Decoy>,
    pub(crate) role_checks: LazyLock<RoleChecks>,
    /// What roles have set for themselves.
    pub(crate) role_settings: Arc<RoleSettings>,
    /// Made when resolvers are to run.
    resolving: OnceLock<Arc<Resolving>>,
    pub(crate) counters: Counters,
    pub(crate) audit: Audit,
    /// What the audit stream counts instead of writing it.
    pub(crate) refusals: Refusals,
    /// Where the configuration is read from again, and who is told of it.
    pub(crate) source: ConfigSource,
    /// How long the phases of logins take.
    pub(crate) phases: Phases,
    /// Failures that have been said of late.
    pub(crate) repeats: Repeats,
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
            reloading: Mutex::default(),
            reloaded: Notify::new(),
            started: SystemTime::now(),
            sessions: Arc::default(),
            live: Sessions::default(),
            consoles: Arc::default(),
            logins: Arc::default(),
            console_logins: Arc::default(),
            tenants: Arc::default(),
            cancels: Arc::default(),
            pools: Arc::default(),
            secrets: LazyLock::new(Secrets::new),
            deriver: LazyLock::new(Deriver::new),
            penalties: LazyLock::new(Penalties::new),
            decoy: LazyLock::new(Decoy::new),
            role_checks: LazyLock::new(RoleChecks::new),
            role_settings: Arc::default(),
            resolving: OnceLock::new(),
            counters: Counters::default(),
            audit: Audit::default(),
            refusals: Refusals::default(),
            source: ConfigSource::default(),
            phases: Phases::default(),
            repeats: Repeats::default(),
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
        Sessions::count_relayed(self);
        let pools = self.pools.figures();
        self.counters.stats(Now {
            sessions_active: self.sessions.taken(),
            pool_connections: pools.total,
            pool_idle: pools.idle,
            pool_waiting: pools.waiting,
        })
    }
}
