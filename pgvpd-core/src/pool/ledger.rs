//! Who has, who waits, who connects: the books of all pools, without I/O and without a clock.
//!
//! ```text
//!             connect                 connected                    lease
//!   (nothing) ───────► connecting ──────────────► (offered) ───────────────► leased
//!       ▲                  │ failed                   ▲  │ nobody waits        │ │
//!       │                  ▼                          │  ▼                     │ │ dropped
//!       ├───────────── back-off             reset ────┘ idle ─► leased         │ ▼
//!       └── closed: old, dead, in the way ◄──────────── idle           (nothing, place free)
//! ```
//!
//! Retired connections are closed where they would be given or kept. A place is the right to one connection; connecting and leased ones have one each, idle ones count too. What is to be
//! done outside (connect, close, hand over) is returned and done by the caller when the books are closed again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::limits::PoolLimits;
use super::queue::Queue;

/// How long after a failed connection the next one is tried: at first, and at most.
const FIRST_BACK_OFF: Duration = Duration::from_millis(50);
const LONGEST_BACK_OFF: Duration = Duration::from_millis(500);

/// The books: `K` names a pool, `C` is a connection, `W` a waiter, `E` why connecting failed.
#[derive(Debug)]
pub(super) struct Ledger<K, C, W, E> {
    pools: HashMap<Arc<K>, Pool<C, W, E>>,
    /// Idle connections and places of all pools.
    total: usize,
    /// The last ticket, or turn: they are one sequence.
    last_number: u64,
    /// How often connections have been retired.
    epoch: u64,
    /// Connections are neither given nor made nor kept.
    is_paused: bool,
}

#[derive(Debug)]
struct Pool<C, W, E> {
    /// The most recently used one last.
    idle: VecDeque<Idle<C>>,
    /// Connecting and leased.
    places: usize,
    connecting: usize,
    waiting: Queue<W>,
    failure: Option<Failure<E>>,
    /// It has had a connection, so that another can be expected to work.
    is_proved: bool,
    /// Connections that were begun in an epoch before this one are closed as soon as they are free.
    retired: u64,
    /// An administrator has closed its database, and no client has come since: no connection is made in advance.
    is_closed: bool,
}

/// How long a connection is one of its pool's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Term {
    /// The ledger's [epoch](Ledger::epoch) when it was begun.
    pub(super) epoch: u64,
    pub(super) expires: Instant,
}

/// A connection that nobody has.
#[derive(Debug)]
pub(super) struct Idle<C> {
    pub(super) connection: C,
    pub(super) since: Instant,
    pub(super) expires: Instant,
}

#[derive(Debug)]
struct Failure<E> {
    error: Arc<E>,
    back_off: Duration,
    until: Instant,
}

/// What a client that wants a connection gets.
#[derive(Debug)]
pub(super) enum Turn<C, E> {
    /// One that was idle; it has a place.
    Reuse(Idle<C>),
    /// A ticket in the queue.
    Wait(u64),
    /// The server could not be reached a moment ago, and nothing has changed.
    Failed(Arc<E>),
}

/// What becomes of a connection that is free.
#[derive(Debug)]
pub(super) enum Offer<C, W> {
    /// It goes to this waiter, with its place.
    Hand(C, W),
    /// It is to be closed; its place is free already.
    Close(C),
    /// It is idle; another pool may be waiting for the room, so that [`Ledger::plan`] is due.
    Kept { others_wait: bool },
}

/// What is to be done so that waiters get connections.
#[derive(Debug)]
pub(super) struct Plan<K, C> {
    /// A connection each; they have places.
    pub(super) connect: Vec<Arc<K>>,
    /// In the way of others; out of the books.
    pub(super) close: Vec<C>,
}

/// What one pool has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OnePool {
    pub(super) idle: usize,
    pub(super) used: usize,
    pub(super) connecting: usize,
    /// Idle for longer than `server_check_delay`.
    pub(super) unchecked: usize,
    pub(super) waiting: usize,
    /// How long the one has waited that came first.
    pub(super) longest_wait: Duration,
    pub(super) is_failing: bool,
}

/// Numbers of one moment, over all pools.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PoolFigures {
    pub(crate) total: usize,
    pub(crate) idle: usize,
    pub(crate) waiting: usize,
}

impl<C, W, E> Default for Pool<C, W, E> {
    fn default() -> Self {
        Self {
            idle: VecDeque::new(),
            places: 0,
            connecting: 0,
            waiting: Queue::default(),
            failure: None,
            is_proved: false,
            retired: 0,
            is_closed: false,
        }
    }
}

impl<C, W, E> Pool<C, W, E> {
    fn size(&self) -> usize {
        self.idle.len() + self.places
    }

    /// True where another connection would be used at once.
    fn is_short(&self) -> bool {
        self.waiting.len() > self.connecting
    }

    /// Whose turn it is to have a connection made: the fewer rounds of the pool's tenants are being served already, the sooner.
    fn next_round(&self) -> (usize, Option<u64>) {
        (self.connecting / self.waiting.tenants().max(1), self.waiting.first_turn())
    }

    /// True where a connection may be tried: one at a time as long as the last one failed.
    fn may_connect(&self, limits: &PoolLimits, now: Instant) -> bool {
        let permitted = match &self.failure {
            None => true,
            Some(failure) => failure.until <= now && self.connecting == 0,
        };
        permitted && self.size() < limits.size
    }
}

impl<K, C, W, E> Default for Ledger<K, C, W, E> {
    fn default() -> Self {
        Self { pools: HashMap::new(), total: 0, last_number: 0, epoch: 0, is_paused: false }
    }
}

impl<K: std::hash::Hash + Eq, C, W, E> Ledger<K, C, W, E> {
    /// A client wants a connection. After a ticket, [`Ledger::plan`] is due.
    pub(super) fn ask(
        &mut self,
        key: &Arc<K>,
        tenant: &Arc<str>,
        waiter: impl FnOnce() -> W,
        now: Instant,
    ) -> Turn<C, E> {
        let is_paused = self.is_paused;
        let pool = self.pools.entry(Arc::clone(key)).or_default();
        pool.is_closed = false;
        if let Some(idle) = pool.idle.pop_back() {
            pool.places += 1;
            return Turn::Reuse(idle);
        }
        match &pool.failure {
            Some(failure) if failure.until > now && pool.size() == 0 && !is_paused => {
                Turn::Failed(Arc::clone(&failure.error))
            }
            _ => {
                self.last_number += 1;
                pool.waiting.enter(self.last_number, tenant, now, waiter());
                Turn::Wait(self.last_number)
            }
        }
    }

    /// A waiter leaves the queue. False where it is not in it any more: its turn has come.
    pub(super) fn leave(&mut self, key: &Arc<K>, ticket: u64) -> bool {
        self.pools.get_mut(key).is_some_and(|pool| pool.waiting.leave(ticket))
    }

    /// True if the pool has a connection beyond those that are being made.
    pub(super) fn is_connected(&self, key: &Arc<K>) -> bool {
        self.pools.get(key).is_some_and(|pool| pool.size() > pool.connecting)
    }

    /// Why the last attempt to make a connection failed; `None` where the last one did not.
    pub(super) fn failure(&self, key: &Arc<K>) -> Option<Arc<E>> {
        self.pools.get(key)?.failure.as_ref().map(|failure| Arc::clone(&failure.error))
    }

    /// A connection has been made for the place that it has; it is to be offered. True where others failed before.
    pub(super) fn connected(&mut self, key: &Arc<K>) -> bool {
        let Some(pool) = self.pools.get_mut(key) else { return false };
        pool.connecting = pool.connecting.saturating_sub(1);
        pool.is_proved = true;
        pool.failure.take().is_some()
    }

    /// A connection could not be made. Gives those who have nothing left to wait for, and whether it is the first failure in
    /// a row. `refused`: the server itself said no, so that it is not tried again without a client.
    pub(super) fn failed(&mut self, key: &Arc<K>, error: &Arc<E>, refused: bool, now: Instant) -> (Vec<W>, bool) {
        self.vacate(key, true);
        let Some(pool) = self.pools.get_mut(key) else { return (Vec::new(), true) };
        let is_first = pool.failure.is_none();
        let back_off = match &pool.failure {
            None => FIRST_BACK_OFF,
            Some(failure) => (failure.back_off * 2).min(LONGEST_BACK_OFF),
        };
        pool.failure = Some(Failure { error: Arc::clone(error), back_off, until: now + back_off });
        pool.is_proved &= !refused;
        // While pools are paused the server is expected to be gone.
        let may_wait = pool.size() > 0 || self.is_paused;
        let waiting = if may_wait { Vec::new() } else { pool.waiting.take() };
        (waiting, is_first)
    }

    /// A place is given up, by a connection that is closed or was never made.
    pub(super) fn vacate(&mut self, key: &Arc<K>, was_connecting: bool) {
        if let Some(pool) = self.pools.get_mut(key) {
            pool.places = pool.places.saturating_sub(1);
            pool.connecting = pool.connecting.saturating_sub(usize::from(was_connecting));
            self.total = self.total.saturating_sub(1);
        }
    }

    /// A clean connection that has a place is free.
    pub(super) fn offer(
        &mut self,
        key: &Arc<K>,
        connection: C,
        term: Term,
        limits: &PoolLimits,
        now: Instant,
    ) -> Offer<C, W> {
        let crowded = self.total >= limits.max_upstream_connections;
        let starving = crowded && self.is_any_starving_before(key);
        let Some(pool) = self.pools.get_mut(key) else { return Offer::Close(connection) };
        if starving
            || self.is_paused
            || term.expires <= now
            || term.epoch < pool.retired
            || pool.size() > limits.size
            || self.total > limits.max_upstream_connections
        {
            self.vacate(key, false);
            return Offer::Close(connection);
        }
        self.last_number += 1;
        match pool.waiting.serve(self.last_number) {
            Some(waiter) => Offer::Hand(connection, waiter),
            None => {
                pool.places = pool.places.saturating_sub(1);
                pool.idle.push_back(Idle { connection, since: now, expires: term.expires });
                Offer::Kept { others_wait: self.pools.values().any(Pool::is_short) }
            }
        }
    }

    /// True if a pool without any connection has somebody whose turn is before that of all of this one's.
    fn is_any_starving_before(&self, key: &Arc<K>) -> bool {
        let Some(own) = self.pools.get(key).and_then(|pool| pool.waiting.first_turn()) else { return false };
        let mut empty = self.pools.values().filter(|pool| pool.size() == 0);
        empty.any(|pool| pool.waiting.first_turn().is_some_and(|turn| turn < own))
    }

    /// Decides on connections to make and to close. Freed places go to the pool whose tenant's turn is next, when those that are being
    /// made already have served theirs.
    pub(super) fn plan(&mut self, limits: &PoolLimits, now: Instant) -> Plan<K, C> {
        let mut plan = Plan { connect: Vec::new(), close: Vec::new() };
        if self.is_paused {
            return plan;
        }
        loop {
            let short = self.pools.iter().filter(|(_, pool)| pool.is_short() && pool.may_connect(limits, now));
            let next = short.min_by_key(|(_, pool)| pool.next_round());
            let Some(key) = next.map(|(key, _)| Arc::clone(key)) else { break };
            if self.total >= limits.max_upstream_connections {
                match self.evict() {
                    Some(connection) => plan.close.push(connection),
                    None => break,
                }
            }
            self.connect(key, &mut plan);
        }
        loop {
            let is_low = |pool: &Pool<C, W, E>| pool.is_proved && !pool.is_closed && pool.size() < limits.min_size;
            let mut low = self.pools.iter().filter(|(_, pool)| is_low(pool) && pool.may_connect(limits, now));
            let Some(key) = low.next().map(|(key, _)| Arc::clone(key)) else { break };
            if self.total >= limits.max_upstream_connections {
                break;
            }
            self.connect(key, &mut plan);
        }
        plan
    }

    fn connect(&mut self, key: Arc<K>, plan: &mut Plan<K, C>) {
        if let Some(pool) = self.pools.get_mut(&key) {
            pool.places += 1;
            pool.connecting += 1;
            self.total += 1;
        }
        plan.connect.push(key);
    }

    /// Takes out the connection that has been idle for longest.
    fn evict(&mut self) -> Option<C> {
        let oldest = self.pools.values_mut().filter(|pool| !pool.idle.is_empty());
        let pool = oldest.min_by_key(|pool| pool.idle.front().map(|idle| idle.since))?;
        let idle = pool.idle.pop_front()?;
        self.total = self.total.saturating_sub(1);
        Some(idle.connection)
    }

    /// Takes out idle connections that are too old, idle for too long, more than there may be, or dead; and forgets pools
    /// that have nothing.
    pub(super) fn sweep(&mut self, limits: &PoolLimits, now: Instant, is_alive: impl Fn(&C) -> bool) -> Vec<C> {
        let mut closed = Vec::new();
        for pool in self.pools.values_mut() {
            let mut size = pool.size();
            for idle in std::mem::take(&mut pool.idle) {
                let rested = now.duration_since(idle.since) >= limits.idle_timeout && size > limits.min_size;
                if rested || size > limits.size || idle.expires <= now || !is_alive(&idle.connection) {
                    size -= 1;
                    self.total = self.total.saturating_sub(1);
                    closed.push(idle.connection);
                } else {
                    pool.idle.push_back(idle);
                }
            }
        }
        self.pools.retain(|_, pool| {
            let failing = pool.failure.as_ref().is_some_and(|failure| failure.until > now);
            let is_kept_warm = pool.is_proved && !pool.is_closed && limits.min_size > 0;
            pool.size() > 0 || !pool.waiting.is_empty() || failing || is_kept_warm
        });
        closed
    }

    /// When a pool whose client waits may try again; `None` where nothing waits for that. What was permitted at `planned`, when
    /// [`Ledger::plan`] ran last, has been done then, or waits for something else than time.
    pub(super) fn next_attempt(&self, planned: Instant) -> Option<Instant> {
        if self.is_paused {
            return None;
        }
        let failing = self.pools.values().filter(|pool| pool.is_short() || pool.is_proved);
        let pauses = failing.filter_map(|pool| pool.failure.as_ref().map(|failure| failure.until));
        pauses.filter(|until| *until > planned).min()
    }

    /// Takes everything that is idle.
    pub(super) fn drain(&mut self) -> Vec<C> {
        let mut drained = Vec::new();
        for pool in self.pools.values_mut() {
            self.total = self.total.saturating_sub(pool.idle.len());
            drained.extend(pool.idle.drain(..).map(|idle| idle.connection));
        }
        drained
    }

    /// Retires the connections of these pools: gives those that are idle, and how many follow when they are free, those that are being
    /// made among them. `is_closing`: none is made in advance until a client comes.
    pub(super) fn retire(&mut self, is_meant: impl Fn(&K) -> bool, is_closing: bool) -> (Vec<C>, usize) {
        self.epoch += 1;
        let (mut idle, mut follow) = (Vec::new(), 0);
        for (_, pool) in self.pools.iter_mut().filter(|(key, _)| is_meant(key)) {
            pool.retired = self.epoch;
            pool.is_closed |= is_closing && pool.waiting.is_empty();
            follow += pool.places;
            self.total = self.total.saturating_sub(pool.idle.len());
            idle.extend(pool.idle.drain(..).map(|idle| idle.connection));
        }
        (idle, follow)
    }

    /// What connections that are begun now outlast: all that has been retired so far.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// True if a connection of this pool that was begun in this epoch is closed as soon as it is free.
    pub(super) fn is_retired(&self, key: &K, epoch: u64) -> bool {
        self.pools.get(key).is_some_and(|pool| epoch < pool.retired)
    }

    /// Gives no connection any more, makes and keeps none. Gives those that are idle.
    pub(super) fn pause(&mut self) -> Vec<C> {
        self.is_paused = true;
        self.drain()
    }

    /// Goes on; [`Ledger::plan`] is due. What failed before is tried anew.
    pub(super) fn resume(&mut self) {
        self.is_paused = false;
        self.pools.values_mut().for_each(|pool| pool.failure = None);
    }

    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// What each pool has: its figures, and whether connections cannot be made.
    pub(super) fn pools(&self, limits: &PoolLimits, now: Instant) -> impl Iterator<Item = (&Arc<K>, OnePool)> {
        let delay = limits.server_check_delay;
        self.pools.iter().map(move |(key, pool)| {
            let rested = |idle: &&Idle<C>| now.saturating_duration_since(idle.since) >= delay;
            let one = OnePool {
                idle: pool.idle.len(),
                unchecked: pool.idle.iter().filter(rested).count(),
                used: pool.places.saturating_sub(pool.connecting),
                connecting: pool.connecting,
                waiting: pool.waiting.len(),
                longest_wait: pool
                    .waiting
                    .oldest()
                    .map(|since| now.saturating_duration_since(since))
                    .unwrap_or_default(),
                is_failing: pool.failure.is_some(),
            };
            (key, one)
        })
    }

    pub(super) fn figures(&self) -> PoolFigures {
        PoolFigures {
            total: self.total,
            idle: self.pools.values().map(|pool| pool.idle.len()).sum(),
            waiting: self.pools.values().map(|pool| pool.waiting.len()).sum(),
        }
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
