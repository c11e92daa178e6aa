//! Upstream connections that sessions share, one after the other.
//!
//! [`Ledger`] keeps the books; here connections are made, handed over and closed. A client never makes a connection itself: it
//! takes a ticket, and [`keep`] has connections made for those who wait, so that a client that leaves takes nothing with it
//! and a burst of clients makes no more connections than the pool has.

mod exchange;
mod figures;
mod lease;
mod ledger;
mod limits;
mod making;
mod queue;
mod reset;
mod servers;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, info, warn};

pub(crate) use exchange::{Answers, ExchangeError, SetContextError, run_statement, send, set_context};
pub(crate) use figures::Retired;
use figures::{PoolCounters, count};
pub use figures::{PoolStats, PoolStatus};
pub(crate) use lease::Lease;
use lease::{Place, Pooled};
pub(crate) use ledger::PoolFigures;
use ledger::{Ledger, Offer, OnePool, Term, Turn};
pub use limits::{PoolLimits, PoolMode};
pub(crate) use reset::{LeftBehind, clean_up};
use servers::Servers;
pub use servers::{ServerState, ServerStatus};

use crate::config::Config;
use crate::net::UpstreamAddress;
use crate::random::random_bytes;
use crate::shared::Shared;
use crate::stats::{Histogram, Timing};
use crate::upstream::{UpstreamError, UpstreamSession};

/// How often idle connections are looked at.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How long a connection that was idle for long may take to answer before a client gets it.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Which connections are alike: a session of one tenant may follow one of another on them, once they are reset.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub(crate) role: Box<str>,
    pub(crate) database: Box<str>,
    pub(crate) upstream: UpstreamAddress,
}

impl fmt::Display for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.role, self.database)
    }
}

/// Why a client gets no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PoolError {
    /// The server could not be reached, or refused the proxy.
    #[error(transparent)]
    Upstream(Arc<UpstreamError>),
    /// None became free in time.
    #[error("no upstream connection became free within {} s", .0.as_secs_f64())]
    Exhausted(Duration),
    /// None could be made in time.
    #[error("the upstream server did not answer within {} s", .0.as_secs_f64())]
    Unanswered(Duration),
    /// An administrator has paused the pools, and nobody has resumed them in time.
    #[error("the pools are paused")]
    Paused,
    /// The proxy stops.
    #[error("the proxy is shutting down")]
    Stopped,
}

type Waiter = oneshot::Sender<Result<Lease, Arc<UpstreamError>>>;
type Books = Ledger<PoolKey, Pooled, Waiter, UpstreamError>;

/// All pools of a proxy.
#[derive(Default)]
pub(crate) struct Pools {
    books: Mutex<Books>,
    /// There is something to plan.
    due: Notify,
    /// A connection is closed.
    vacated: Notify,
    counters: Arc<PoolCounters>,
    servers: Arc<Servers>,
    /// How long clients waited for a connection.
    waits: Histogram,
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pools").field(&self.figures()).finish()
    }
}

impl Pools {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn figures(&self) -> PoolFigures {
        self.books().figures()
    }

    /// What all pools have done.
    pub(crate) fn stats(&self) -> PoolStats {
        self.counters.stats()
    }

    /// How long clients waited for a connection.
    pub(crate) fn waits(&self) -> Timing {
        self.waits.timing()
    }

    /// What each pool has.
    pub(crate) fn status(&self, limits: &PoolLimits) -> Vec<PoolStatus> {
        let books = self.books();
        let status = |(key, one): (&Arc<PoolKey>, OnePool)| PoolStatus {
            database: key.database.to_string(),
            role: key.role.to_string(),
            total: one.idle + one.used + one.connecting,
            idle: one.idle,
            unchecked: one.unchecked,
            used: one.used,
            connecting: one.connecting,
            waiting: one.waiting,
            longest_wait: (one.longest_wait.as_secs_f64() * 1e6).round() / 1e6,
            is_failing: one.is_failing,
        };
        let mut all: Vec<_> = books.pools(limits, Instant::now()).map(status).collect();
        drop(books);
        all.sort_by(|one, other| (&one.database, &one.role).cmp(&(&other.database, &other.role)));
        all
    }

    /// Each connection.
    pub(crate) fn servers(&self) -> Vec<ServerStatus> {
        let books = self.books();
        self.servers.status(|key, epoch| books.is_retired(key, epoch))
    }

    /// There is room for another connection.
    fn room_made(&self) {
        self.due.notify_one();
        self.vacated.notify_waiters();
    }

    /// Resolves when there is no connection, because the pools are paused and the last session has left its own; with false when
    /// they are resumed before.
    pub(crate) async fn emptied(&self) -> bool {
        loop {
            let mut vacated = std::pin::pin!(self.vacated.notified());
            vacated.as_mut().enable();
            if !self.is_paused() {
                return false;
            }
            if self.figures().total == 0 {
                return true;
            }
            vacated.await;
        }
    }

    /// Gives no connection any more, and closes those that nobody uses, and each when its session leaves it.
    pub(crate) fn pause(&self) {
        let idle = self.books().pause();
        info!(closed = idle.len(), "pools paused");
        drop(idle);
        self.vacated.notify_waiters();
    }

    /// Goes on.
    pub(crate) fn resume(&self) {
        self.books().resume();
        self.room_made();
        info!("pools resumed");
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.books().is_paused()
    }

    /// Has the connections to this database closed, or all: those that nobody uses at once, others when they are released, so that
    /// no client that comes from now on gets one of them. New ones are made as clients need them.
    pub(crate) fn reconnect(&self, database: Option<&str>) -> Retired {
        self.retire(database, false)
    }

    /// The same, and makes none to this database before a client comes.
    pub(crate) fn close_database(&self, database: &str) -> Retired {
        self.retire(Some(database), true)
    }

    fn retire(&self, database: Option<&str>, is_closing: bool) -> Retired {
        let is_meant = |key: &PoolKey| database.is_none_or(|database| *key.database == *database);
        let (idle, follow) = self.books().retire(is_meant, is_closing);
        let retired = Retired { closed: idle.len(), follow };
        info!(database, closed = retired.closed, follow, "upstream connections retired");
        drop(idle);
        self.room_made();
        retired
    }

    /// A connection for one session of this tenant: the one used last, or the next that is free or made. Safe to cancel: a turn
    /// that comes while nobody waits any more goes to the next.
    pub(crate) async fn lease(
        self: &Arc<Self>,
        key: &Arc<PoolKey>,
        tenant: &Arc<str>,
        limits: &PoolLimits,
        deadline: Instant,
    ) -> Result<Lease, PoolError> {
        let since = Instant::now();
        let mut leased = self.turn(key, tenant, limits, deadline).await;
        self.waits.observe(since.elapsed());
        if let Ok(lease) = &mut leased {
            count(&self.counters.checkouts);
            if lease.begin_use() {
                count(&self.counters.reuses);
            }
        }
        leased
    }

    async fn turn(
        self: &Arc<Self>,
        key: &Arc<PoolKey>,
        tenant: &Arc<str>,
        limits: &PoolLimits,
        deadline: Instant,
    ) -> Result<Lease, PoolError> {
        loop {
            let (sender, receiver) = oneshot::channel();
            let turn = self.books().ask(key, tenant, || sender, Instant::now());
            match turn {
                Turn::Failed(error) => return Err(PoolError::Upstream(error)),
                Turn::Reuse(idle) => {
                    let rested = idle.since.elapsed();
                    let mut lease = Lease::new(Place::leased(self, key), idle.connection, true);
                    let is_fit = lease.is_quiet()
                        && (rested < limits.server_check_delay
                            || timeout_at(deadline.min(Instant::now() + CHECK_TIMEOUT), lease.check()).await
                                == Ok(Ok(())));
                    if is_fit {
                        return Ok(lease);
                    }
                    debug!(pool = %key, "an idle connection had ended");
                }
                Turn::Wait(number) => {
                    self.due.notify_one();
                    let (pools, key) = (Arc::clone(self), Arc::clone(key));
                    let ticket = Ticket { pools, key, number, turn: receiver, limits: *limits };
                    return ticket.wait(deadline).await;
                }
            }
        }
    }

    /// A clean connection is free: to whoever waits longest, or to the idle ones.
    fn offer(self: &Arc<Self>, mut place: Place, mut connection: Pooled, limits: &PoolLimits) {
        loop {
            let term = connection.term;
            let offer = self.books().offer(place.key(), connection, term, limits, Instant::now());
            match offer {
                Offer::Kept { others_wait } => {
                    place.give_up();
                    if others_wait {
                        self.due.notify_one();
                    }
                    return;
                }
                Offer::Close(connection) => {
                    place.give_up();
                    drop(connection);
                    self.room_made();
                    return;
                }
                Offer::Hand(handed, waiter) => {
                    match waiter.send(Ok(Lease::new(place, handed, false))) {
                        Ok(()) => return,
                        // Gone in this moment: the next one's turn.
                        Err(Ok(lease)) => (place, connection) = lease.into_parts(),
                        Err(Err(_)) => return,
                    }
                }
            }
        }
    }

    /// Closes what is idle.
    fn close_idle(&self) {
        let idle = self.books().drain();
        drop(idle);
    }
}

/// A place in the queue of a pool. Dropping it leaves the queue, and passes on a turn that has come.
struct Ticket {
    pools: Arc<Pools>,
    key: Arc<PoolKey>,
    number: u64,
    turn: oneshot::Receiver<Result<Lease, Arc<UpstreamError>>>,
    limits: PoolLimits,
}

impl Ticket {
    async fn wait(mut self, deadline: Instant) -> Result<Lease, PoolError> {
        match timeout_at(deadline, &mut self.turn).await {
            Ok(Ok(turn)) => turn.map_err(PoolError::Upstream),
            // The sender is dropped with the books alone.
            Ok(Err(_)) => Err(PoolError::Stopped),
            Err(_) if self.pools.is_paused() => Err(PoolError::Paused),
            Err(_) => {
                let books = self.pools.books();
                Err(match books.failure(&self.key) {
                    // More would be made, and the server says no: a CONNECTION LIMIT, or too many clients.
                    Some(error) if matches!(&*error, UpstreamError::Refused { .. }) => PoolError::Upstream(error),
                    _ if books.is_connected(&self.key) => PoolError::Exhausted(self.limits.checkout_timeout),
                    _ => PoolError::Unanswered(self.limits.checkout_timeout),
                })
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let has_left = self.pools.books().leave(&self.key, self.number);
        if !has_left && let Ok(Ok(lease)) = self.turn.try_recv() {
            lease.pass_on(&self.limits);
        }
    }
}

/// Has connections made for those who wait, and closes those that nobody needs, until `stopped`.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let pools = &shared.pools;
    let mut planned = Instant::now();
    let mut next_sweep = planned + SWEEP_INTERVAL;
    loop {
        let wake = match pools.books().next_attempt(planned) {
            Some(attempt) => next_sweep.min(attempt),
            None => next_sweep,
        };
        // With nothing in the books there is nothing to look at.
        let is_idle = pools.figures() == PoolFigures::default();
        tokio::select! {
            () = shared.stopped.cancelled() => break,
            () = pools.due.notified() => {}
            () = tokio::time::sleep_until(wake), if !is_idle => {}
        }
        let config = shared.config.load_full();
        let now = Instant::now();
        if now >= next_sweep {
            next_sweep = now + SWEEP_INTERVAL;
            let closed = pools.books().sweep(&config.pool, now, Pooled::is_quiet);
            if !closed.is_empty() {
                debug!(connections = closed.len(), "closed idle upstream connections");
            }
        }
        planned = now;
        let plan = pools.books().plan(&config.pool, now);
        drop(plan.close);
        for key in plan.connect {
            let place = Place::connecting(pools, &key);
            let making = connect(place, key, Arc::clone(&shared), Arc::clone(&config));
            let stopped = shared.stopped.clone();
            shared.background.spawn(async move { stopped.run_until_cancelled(making).await });
        }
    }
    pools.close_idle();
}

/// Makes a connection for a place, and offers it.
async fn connect(mut place: Place, key: Arc<PoolKey>, shared: Arc<Shared>, config: Arc<Config>) {
    // What is retired while it is being made may have been changed ahead of its beginning.
    let epoch = shared.pools.books().epoch();
    let made = timeout(config.handshake_timeout, making::make(&key, &shared, &config)).await;
    let error = match made {
        Ok(Ok(UpstreamSession { conn, parameters, cancel_key })) => {
            let expires = Instant::now() + jittered(config.pool.server_lifetime);
            if place.connected() {
                info!(pool = %key, "upstream connections can be made again");
            }
            debug!(pool = %key, "upstream connection made");
            let term = Term { epoch, expires };
            let pooled = Pooled::new(conn, parameters, cancel_key, term, (&shared.pools, &key));
            shared.pools.offer(place, pooled, &config.pool);
            return;
        }
        Ok(Err(error)) => Arc::new(error),
        Err(_) => Arc::new(UpstreamError::Unanswered),
    };
    let refused = matches!(&*error, UpstreamError::Refused { .. });
    let (waiters, is_first) = place.failed(&error, refused);
    match is_first {
        true => warn!(pool = %key, error = error.for_log(), "cannot make an upstream connection"),
        false => debug!(pool = %key, error = error.for_log(), "cannot make an upstream connection"),
    }
    for waiter in waiters {
        let _ = waiter.send(Err(Arc::clone(&error)));
    }
}

/// Up to a tenth shorter, so that connections made together do not end together.
fn jittered(lifetime: Duration) -> Duration {
    let random = f64::from(u32::from_ne_bytes(random_bytes())) / f64::from(u32::MAX);
    lifetime.mul_f64(1.0 - random / 10.0)
}
