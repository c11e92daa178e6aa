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
//! A place is the right to one connection; connecting and leased ones have one each, idle ones count too. What is to be
//! done outside (connect, close, hand over) is returned and done by the caller when the books are closed again.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::PoolLimits;

/// How long after a failed connection the next one is tried: at first, and at most.
const FIRST_BACK_OFF: Duration = Duration::from_millis(50);
const LONGEST_BACK_OFF: Duration = Duration::from_millis(500);

/// The books: `K` names a pool, `C` is a connection, `W` a waiter, `E` why connecting failed.
#[derive(Debug)]
pub(super) struct Ledger<K, C, W, E> {
    pools: HashMap<Arc<K>, Pool<C, W, E>>,
    /// Idle connections and places of all pools.
    total: usize,
    next_ticket: u64,
}

#[derive(Debug)]
struct Pool<C, W, E> {
    /// The most recently used one last.
    idle: VecDeque<Idle<C>>,
    /// Connecting and leased.
    places: usize,
    connecting: usize,
    /// By ticket: who came first is served first.
    waiting: BTreeMap<u64, W>,
    failure: Option<Failure<E>>,
    /// It has had a connection, so that another can be expected to work.
    is_proved: bool,
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
            waiting: BTreeMap::new(),
            failure: None,
            is_proved: false,
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
        Self { pools: HashMap::new(), total: 0, next_ticket: 0 }
    }
}

impl<K: std::hash::Hash + Eq, C, W, E> Ledger<K, C, W, E> {
    /// A client wants a connection. After a ticket, [`Ledger::plan`] is due.
    pub(super) fn ask(&mut self, key: &Arc<K>, waiter: impl FnOnce() -> W, now: Instant) -> Turn<C, E> {
        let pool = self.pools.entry(Arc::clone(key)).or_default();
        if let Some(idle) = pool.idle.pop_back() {
            pool.places += 1;
            return Turn::Reuse(idle);
        }
        match &pool.failure {
            Some(failure) if failure.until > now && pool.size() == 0 => Turn::Failed(Arc::clone(&failure.error)),
            _ => {
                self.next_ticket += 1;
                pool.waiting.insert(self.next_ticket, waiter());
                Turn::Wait(self.next_ticket)
            }
        }
    }

    /// A waiter leaves the queue. False where it is not in it any more: its turn has come.
    pub(super) fn leave(&mut self, key: &Arc<K>, ticket: u64) -> bool {
        self.pools.get_mut(key).is_some_and(|pool| pool.waiting.remove(&ticket).is_some())
    }

    /// True if the pool has a connection beyond those that are being made.
    pub(super) fn is_connected(&self, key: &Arc<K>) -> bool {
        self.pools.get(key).is_some_and(|pool| pool.size() > pool.connecting)
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
        let waiting = if pool.size() > 0 { BTreeMap::new() } else { std::mem::take(&mut pool.waiting) };
        (waiting.into_values().collect(), is_first)
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
        expires: Instant,
        limits: &PoolLimits,
        now: Instant,
    ) -> Offer<C, W> {
        let crowded = self.total >= limits.max_upstream_connections;
        let starving = crowded && self.is_any_starving_before(key);
        let Some(pool) = self.pools.get_mut(key) else { return Offer::Close(connection) };
        if starving || expires <= now || pool.size() > limits.size || self.total > limits.max_upstream_connections {
            self.vacate(key, false);
            return Offer::Close(connection);
        }
        match pool.waiting.pop_first() {
            Some((_, waiter)) => Offer::Hand(connection, waiter),
            None => {
                pool.places = pool.places.saturating_sub(1);
                pool.idle.push_back(Idle { connection, since: now, expires });
                Offer::Kept { others_wait: self.pools.values().any(Pool::is_short) }
            }
        }
    }

    /// True if a pool without any connection has somebody who has waited for longer than all of this one's.
    fn is_any_starving_before(&self, key: &Arc<K>) -> bool {
        let first = |pool: &Pool<C, W, E>| pool.waiting.first_key_value().map(|(ticket, _)| *ticket);
        let Some(own) = self.pools.get(key).and_then(first) else { return false };
        self.pools.values().any(|pool| pool.size() == 0 && first(pool).is_some_and(|ticket| ticket < own))
    }

    /// Decides on connections to make and to close. Freed places go to the pool whose client has waited longest.
    pub(super) fn plan(&mut self, limits: &PoolLimits, now: Instant) -> Plan<K, C> {
        let mut plan = Plan { connect: Vec::new(), close: Vec::new() };
        loop {
            let short = self.pools.iter().filter(|(_, pool)| pool.is_short() && pool.may_connect(limits, now));
            let next = short.min_by_key(|(_, pool)| pool.waiting.first_key_value().map(|(ticket, _)| *ticket));
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
            let is_low = |pool: &Pool<C, W, E>| pool.is_proved && pool.size() < limits.min_size;
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
            let is_kept_warm = pool.is_proved && limits.min_size > 0;
            pool.size() > 0 || !pool.waiting.is_empty() || failing || is_kept_warm
        });
        closed
    }

    /// When a pool whose client waits may try again; `None` where nothing waits for that.
    pub(super) fn next_attempt(&self) -> Option<Instant> {
        let failing = self.pools.values().filter(|pool| pool.is_short() || pool.is_proved);
        failing.filter_map(|pool| pool.failure.as_ref().map(|failure| failure.until)).min()
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
