//! A connection that one session has, and the right to have it.

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use super::figures::{PoolCounters, count};
use super::ledger::Term;
use super::limits::PoolLimits;
use super::servers::Entry;
use super::{PoolKey, Pools, Waiter};
use crate::context::Attachment;
use crate::net::{Conn, Socket};
use crate::pool::exchange::{self, ExchangeError};
use crate::sessions::SessionId;
use crate::upstream::{Parameters, UpstreamError};
use crate::wire::CancelKey;

/// A connection of a pool.
pub(super) struct Pooled {
    pub(super) conn: Conn<Socket>,
    /// What the server reported last.
    pub(super) parameters: Parameters,
    /// What cancels a query on it.
    pub(super) cancel_key: Option<CancelKey>,
    /// What contexts are signed for on it; `None` until one is.
    pub(super) attachment: Option<Attachment>,
    pub(super) term: Term,
    has_been_used: bool,
    entry: Entry,
    counters: Arc<PoolCounters>,
}

impl Drop for Pooled {
    fn drop(&mut self) {
        count(&self.counters.discards);
    }
}

impl fmt::Debug for Pooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pooled").finish_non_exhaustive()
    }
}

impl Pooled {
    /// A connection that has just been made.
    pub(super) fn new(
        conn: Conn<Socket>,
        parameters: Parameters,
        cancel_key: Option<CancelKey>,
        term: Term,
        (pools, key): (&Pools, &Arc<PoolKey>),
    ) -> Self {
        let counters = Arc::clone(&pools.counters);
        count(&counters.creates);
        let entry = pools.servers.enter(key, cancel_key.as_ref(), term.epoch);
        Self { conn, parameters, cancel_key, attachment: None, term, has_been_used: false, entry, counters }
    }

    /// True if the server has neither said anything nor gone: an idle connection that has become readable is of no use.
    pub(super) fn is_quiet(&self) -> bool {
        self.conn.received().is_empty() && self.conn.stream().is_quiet()
    }
}

/// The right to one connection. Dropping it frees it for others.
#[derive(Debug)]
pub(super) struct Place {
    pools: Arc<Pools>,
    key: Arc<PoolKey>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    Leased,
    /// The books know already.
    GivenUp,
}

impl Place {
    pub(super) fn connecting(pools: &Arc<Pools>, key: &Arc<PoolKey>) -> Self {
        Self { pools: Arc::clone(pools), key: Arc::clone(key), state: State::Connecting }
    }

    pub(super) fn leased(pools: &Arc<Pools>, key: &Arc<PoolKey>) -> Self {
        Self { pools: Arc::clone(pools), key: Arc::clone(key), state: State::Leased }
    }

    pub(super) fn key(&self) -> &Arc<PoolKey> {
        &self.key
    }

    /// The books have taken it back.
    pub(super) fn give_up(mut self) {
        self.state = State::GivenUp;
    }

    /// Its connection is made. True where it failed before.
    pub(super) fn connected(&mut self) -> bool {
        self.state = State::Leased;
        self.pools.books().connected(&self.key)
    }

    /// Its connection could not be made. Gives those who are to be told, and whether it is the first failure in a row.
    pub(super) fn failed(mut self, error: &Arc<UpstreamError>, refused: bool) -> (Vec<Waiter>, bool) {
        self.state = State::GivenUp;
        let failed = self.pools.books().failed(&self.key, error, refused, Instant::now());
        // Those of other pools may have the room.
        self.pools.room_made();
        failed
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.state != State::GivenUp {
            self.pools.books().vacate(&self.key, self.state == State::Connecting);
            self.pools.room_made();
        }
    }
}

/// A connection that one session has. Dropping it closes the connection and frees the place; only [`Lease::give_back`], which
/// takes the proof of a reset, keeps it for the next session.
pub(crate) struct Lease {
    // In this order: the connection is closed before its place is free.
    upstream: Pooled,
    place: Place,
    /// It had been idle.
    is_reused: bool,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("key", &self.place.key).finish_non_exhaustive()
    }
}

impl Lease {
    pub(super) fn new(place: Place, upstream: Pooled, is_reused: bool) -> Self {
        Self { upstream, place, is_reused }
    }

    pub(super) fn into_parts(self) -> (Place, Pooled) {
        (self.place, self.upstream)
    }

    /// The connection, and what the server reported, to be kept true.
    pub(crate) fn parts(&mut self) -> (&mut Conn<Socket>, &mut Parameters) {
        (&mut self.upstream.conn, &mut self.upstream.parameters)
    }

    /// What the server reported.
    pub(crate) fn parameters(&self) -> &Parameters {
        &self.upstream.parameters
    }

    /// What cancels a query on it.
    pub(crate) fn cancel_key(&self) -> Option<&CancelKey> {
        self.upstream.cancel_key.as_ref()
    }

    pub(crate) fn key(&self) -> &Arc<PoolKey> {
        &self.place.key
    }

    /// True where it had been idle, so that it may have died meanwhile, and another may be better.
    pub(crate) fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// True if the server has neither said anything nor gone.
    pub(super) fn is_quiet(&self) -> bool {
        self.upstream.is_quiet()
    }

    /// One round trip without effect.
    pub(super) async fn check(&mut self) -> Result<(), ExchangeError> {
        let (conn, parameters) = self.parts();
        exchange::check(conn, parameters).await
    }

    /// What contexts are signed for on it, once that is known.
    pub(crate) fn attachment(&self) -> Option<Attachment> {
        self.upstream.attachment
    }

    pub(crate) fn set_attachment(&mut self, attachment: Attachment) {
        self.upstream.attachment = Some(attachment);
    }

    /// It is this session's.
    pub(crate) fn is_of(&self, session: SessionId) {
        self.upstream.entry.is_of(session);
    }

    /// A session has it. True where another one had it before.
    pub(super) fn begin_use(&mut self) -> bool {
        std::mem::replace(&mut self.upstream.has_been_used, true)
    }

    /// Keeps the connection for the next session.
    pub(crate) fn give_back(mut self, clean: super::reset::Clean, limits: &PoolLimits) {
        if let (Some(attachment), Some(facts)) = (&mut self.upstream.attachment, clean.facts) {
            attachment.facts = facts;
        }
        count(&self.upstream.counters.checkins);
        self.hand_on(limits);
    }

    /// Passes on a turn that came too late: nobody has used the connection.
    pub(super) fn pass_on(self, limits: &PoolLimits) {
        self.hand_on(limits);
    }

    fn hand_on(self, limits: &PoolLimits) {
        self.upstream.entry.is_free();
        let pools = Arc::clone(&self.place.pools);
        let (place, upstream) = self.into_parts();
        pools.offer(place, upstream, limits);
    }
}
