//! The watch of a session whose messages are seen: knows what is outstanding, keeps `tenant_query_timeout`, has the context put
//! back where the client has reset it, leaves out notifications that are not the tenant's, and says why a session ends where
//! that does not cut a message in two. Of a pool's, it also knows what the connection's next session depends on: whether the
//! server has answered everything, and in which state it is.
//!
//! No body is kept but those of a few small messages, so that it holds the same few bytes whatever is relayed.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use tokio::time::{Sleep, sleep};

use super::hearing::Hearing;
use super::keeper::{Keeper, Restoration};
use super::relay::{AtEnd, Look, RelayEnd, Watch};
use super::time_limit::TimeLimit;
use crate::error::Refusal;
use crate::net::{Conn, Socket};
use crate::pool::{Lease, LeftBehind};
use crate::resolve::{Change, Membership};
use crate::sessions::{Meter, SessionState};
use crate::upstream::Parameters;
use crate::wire::{BodyScanner, ParameterStatus, Scanner, Tracker, TransactionStatus, WireError, sync, tag};

/// How long a transaction may go on when its context has changed.
const MAY_GO_ON: Duration = Duration::from_millis(300);

/// The state of a session.
pub(super) struct SessionWatch<'a> {
    client: Scanner,
    server: Server<'a>,
    keeper: Option<Keeper>,
    hearing: Option<Hearing>,
    limit: Option<TimeLimit>,
    /// `None` where the connection goes with the session.
    departure: Option<Departure>,
    /// `None` where nothing that the session goes by is watched.
    following: Option<Following>,
    /// What the server is to be sent, from where the client's requests were held back.
    for_server: Option<Vec<u8>>,
    meter: Option<&'a Meter>,
}

/// What the server has said and owes.
struct Server<'a> {
    scanner: BodyScanner,
    tracker: Tracker,
    /// Kept true for the connection's next session.
    parameters: Option<&'a mut Parameters>,
    status: TransactionStatus,
}

/// Changes of what resolvers have found.
struct Following {
    changes: Pin<Box<dyn Stream<Item = Change> + Send>>,
    /// Runs where the session has to come to the end of its transaction before it can go on with the new context.
    deadline: Option<Pin<Box<Sleep>>>,
}

/// How a pooled session's client leaves.
struct Departure {
    farewell: Farewell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Farewell {
    None,
    Said,
    /// The server has been given a part of it.
    Torn,
}

/// What is taken from the server's messages as they pass.
struct Noted<'w> {
    keeper: Option<&'w mut Keeper>,
    hearing: Option<&'w mut Hearing>,
}

impl<'a> SessionWatch<'a> {
    /// Watches a session whose server has nothing outstanding, and whose connection goes with it.
    pub(super) fn new(limit: Option<TimeLimit>) -> Self {
        let server = Server {
            scanner: BodyScanner::default(),
            tracker: Tracker::default(),
            parameters: None,
            status: TransactionStatus::Idle,
        };
        Self {
            client: Scanner::default(),
            server,
            keeper: None,
            hearing: None,
            limit,
            departure: None,
            following: None,
            for_server: None,
            meter: None,
        }
    }

    /// Counts what passes, and says what the client does.
    pub(super) fn metering(self, meter: &'a Meter) -> Self {
        meter.set_state(SessionState::Idle);
        Self { meter: Some(meter), ..self }
    }

    /// Has the context put back where it is lost.
    pub(super) fn keeping(self, keeper: Option<Keeper>) -> Self {
        Self { keeper, ..self }
    }

    /// Lets only these notifications pass.
    pub(super) fn hearing(self, hearing: Hearing) -> Self {
        Self { hearing: Some(hearing), ..self }
    }

    /// Leaves the connection, with these parameters, to another session.
    pub(super) fn leaving(mut self, parameters: &'a mut Parameters) -> Self {
        self.server.parameters = Some(parameters);
        self.departure = Some(Departure { farewell: Farewell::None });
        self
    }

    /// Goes on with what resolvers find later.
    pub(super) fn following(self, membership: Option<Membership>) -> Self {
        let following =
            membership.map(|membership| Following { changes: Box::pin(membership.into_stream()), deadline: None });
        Self { following, ..self }
    }

    /// Takes in what has changed. Ready where the session cannot go on with it.
    fn poll_changes(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        let Self { following: Some(following), keeper, server, client, .. } = self else { return Poll::Pending };
        let ended = Poll::Ready(RelayEnd::Refused(Refusal::context_changed()));
        // What is being put back is put back first: the answers to it wake this task too.
        let is_busy = keeper.as_ref().is_some_and(Keeper::is_busy);
        while !is_busy && let Poll::Ready(Some(change)) = following.changes.as_mut().poll_next(cx) {
            let may_go_on = match (change, &mut *keeper) {
                (Change::Refresh(found), Some(keeper)) => keeper.replace(&found),
                _ => false,
            };
            if !may_go_on {
                return ended;
            }
            following.deadline = Some(Box::pin(sleep(MAY_GO_ON)));
        }
        let is_due = keeper.as_ref().is_some_and(|keeper| keeper.is_lost());
        let is_between_transactions = server.is_settled()
            && server.tracker.is_synced()
            && server.status == TransactionStatus::Idle
            && client.is_between_messages();
        match &mut following.deadline {
            // Ahead of its next request, whenever that comes.
            Some(_) if !is_due || is_between_transactions => {
                following.deadline = None;
                Poll::Pending
            }
            Some(deadline) => deadline.as_mut().poll(cx).map(|()| RelayEnd::Refused(Refusal::context_changed())),
            None => Poll::Pending,
        }
    }

    /// How the context is put back, where it is lost, and messages of the proxy's own may stand between those of the client.
    fn restoration(&mut self) -> Option<Restoration> {
        let keeper = self.keeper.as_mut().filter(|keeper| !keeper.is_busy())?;
        let may_put_in = self.server.is_settled()
            && self.server.tracker.is_synced()
            && self.server.status != TransactionStatus::Failed
            // Cursors of the transaction go by the context that they were opened under.
            && (self.following.as_ref().is_none_or(|following| following.deadline.is_none())
                || self.server.status == TransactionStatus::Idle)
            && self.client.is_between_messages();
        if may_put_in { keeper.restoration() } else { None }
    }

    /// Takes answers while the context is put back: those to the proxy are kept, the rest is the client's.
    fn restored(&mut self, chunk: &[u8]) -> Result<Look, RelayEnd> {
        let Self { keeper: Some(keeper), server, hearing, .. } = self else { return Ok(Look::Pass) };
        let status = server.status;
        let mut restored = keeper.take(chunk, status, |message| {
            let noted = Noted { keeper: None, hearing: hearing.as_mut() };
            server.note(message.tag, Some(message.body), noted);
        })?;
        self.for_server = restored.for_server;
        if let Some(rest) = restored.rest {
            let noted = Noted { keeper: Some(keeper), hearing: hearing.as_mut() };
            server.scan(&rest, noted)?;
            restored.for_client.extend(rest);
        }
        Ok(Look::Instead(restored.for_client))
    }

    /// What becomes of the server's bytes.
    fn look_at_answers(&mut self, chunk: &[u8]) -> Result<Look, RelayEnd> {
        if self.keeper.as_ref().is_some_and(Keeper::is_busy) {
            let look = self.restored(chunk)?;
            return self.heard(chunk, look);
        }
        let rest_of_body = self.server.scanner.rest_of_body();
        self.limit.iter_mut().for_each(|limit| limit.expects_answer(rest_of_body));
        let noted = Noted { keeper: self.keeper.as_mut(), hearing: self.hearing.as_mut() };
        let is_ready = self.server.scan(chunk, noted)?;
        let is_settled = !self.server.tracker.owes_answer();
        // With ReadyForQuery the next of several requests begins.
        if let Some(limit) = self.limit.as_mut().filter(|_| is_ready || is_settled) {
            limit.restart();
        }
        self.heard(chunk, Look::Pass)
    }

    /// What of these bytes the client hears.
    fn heard(&mut self, chunk: &[u8], mut look: Look) -> Result<Look, RelayEnd> {
        if let Some(limit) = &mut self.limit {
            let explained = limit.explain(if let Look::Instead(bytes) = &look { bytes } else { chunk });
            look = explained.map_err(RelayEnd::UpstreamProtocol)?.map_or(look, Look::Instead);
        }
        let Some(hearing) = &mut self.hearing else { return Ok(look) };
        let passed = match &look {
            Look::Instead(bytes) => hearing.pass(bytes),
            _ => hearing.pass(chunk),
        };
        Ok(passed.map_err(RelayEnd::UpstreamProtocol)?.map_or(look, Look::Instead))
    }

    /// What a pooled session leaves behind; `None` where its connection is of no further use.
    pub(super) fn left(self, end: &RelayEnd, has_delivered: bool) -> Option<Left> {
        let farewell = self.departure?.farewell;
        let is_usable = matches!(end, RelayEnd::Client | RelayEnd::Refused(_))
            && has_delivered
            && farewell != Farewell::Torn
            && (farewell == Farewell::Said || self.client.is_between_messages())
            && !self.keeper.is_some_and(|keeper| keeper.is_busy());
        let Server { scanner, tracker, status, .. } = self.server;
        is_usable.then_some(Left { scanner, tracker, status })
    }
}

/// A client whose bytes are no messages.
pub(super) fn malformed_request(error: WireError) -> RelayEnd {
    RelayEnd::Refused(error.into())
}

/// What a client is told between two messages when its session ends in this way.
fn last_words(end: &RelayEnd, tracker: &Tracker) -> Option<Refusal> {
    match end {
        RelayEnd::Refused(refusal) => Some(refusal.clone()),
        RelayEnd::Stopped => Some(Refusal::shutting_down()),
        RelayEnd::Upstream if !tracker.is_terminated() && !tracker.ended_with_error() => {
            Some(Refusal::upstream_closed())
        }
        RelayEnd::Upstream | RelayEnd::Client | RelayEnd::UpstreamProtocol(_) => None,
    }
}

impl Server<'_> {
    /// What the client does.
    fn state(&self) -> SessionState {
        match self.status {
            _ if self.tracker.owes_answer() => SessionState::Active,
            TransactionStatus::Idle => SessionState::Idle,
            TransactionStatus::InTransaction => SessionState::IdleInTransaction,
            TransactionStatus::Failed => SessionState::IdleInTransactionAborted,
        }
    }

    /// True if the server owes nothing.
    fn is_settled(&self) -> bool {
        !self.tracker.is_outstanding() && self.scanner.is_between_messages()
    }

    /// True if the server has answered every request that it certainly answers.
    fn has_answered(&self) -> bool {
        !self.tracker.owes_answer() && self.scanner.is_between_messages()
    }

    /// Walks the server's next bytes. True if it has become ready for a query.
    fn scan(&mut self, chunk: &[u8], mut noted: Noted<'_>) -> Result<bool, RelayEnd> {
        let mut scanner = std::mem::take(&mut self.scanner);
        let (mut is_ready, mut tracked) = (false, Ok(()));
        let scanned = scanner.scan(chunk, is_noted, |tag, body| {
            let answered = self.tracker.answer(tag);
            if tracked.is_ok() {
                tracked = answered;
            }
            is_ready |= tag == tag::READY_FOR_QUERY;
            self.note(tag, body, noted.reborrow());
        });
        self.scanner = scanner;
        scanned.and(tracked).map(|()| is_ready).map_err(RelayEnd::UpstreamProtocol)
    }

    /// Takes in a message.
    fn note(&mut self, tag: u8, body: Option<&[u8]>, noted: Noted<'_>) {
        match (tag, body) {
            (tag::COMMAND_COMPLETE, Some(command)) => {
                if let Some(keeper) = noted.keeper {
                    keeper.on_command(command);
                }
            }
            (tag::READY_FOR_QUERY, Some(body)) => {
                self.status = TransactionStatus::parse(body).unwrap_or(TransactionStatus::Failed);
            }
            (tag::PARAMETER_STATUS, Some(body)) => {
                if let Ok(status) = ParameterStatus::parse(body) {
                    if let Some(hearing) = noted.hearing.filter(|_| status.name == b"client_encoding") {
                        hearing.set_encoding(status.value);
                    }
                    if let Some(parameters) = &mut self.parameters {
                        parameters.set(status.name, status.value);
                    }
                }
            }
            _ => {}
        }
    }
}

impl Noted<'_> {
    fn reborrow(&mut self) -> Noted<'_> {
        Noted { keeper: self.keeper.as_deref_mut(), hearing: self.hearing.as_deref_mut() }
    }
}

/// The messages whose bodies say something.
fn is_noted(tag: u8) -> bool {
    matches!(tag, tag::READY_FOR_QUERY | tag::COMMAND_COMPLETE | tag::PARAMETER_STATUS)
}

impl Watch for SessionWatch<'_> {
    fn requests(&mut self, chunk: &[u8]) -> Result<Look, RelayEnd> {
        let was_idle = !self.server.tracker.owes_answer();
        let restoration = self.restoration();
        let mut farewell = None;
        let server = &mut self.server;
        let is_pooled = self.departure.is_some();
        let mut requests = 0;
        let scanned = self.client.scan_until(chunk, |message, start| {
            if is_pooled && message == tag::TERMINATE {
                farewell = Some(start);
                return ControlFlow::Break(());
            }
            server.tracker.request(message);
            requests += usize::from(matches!(message, tag::QUERY | tag::EXECUTE | tag::FUNCTION_CALL));
            ControlFlow::Continue(())
        });
        if let Some(meter) = self.meter {
            meter.add_from_client(chunk.len());
            meter.add_requests(requests);
            meter.set_state(self.server.state());
        }
        if let Err(error) = scanned {
            // A part of what is no message may be with the server already.
            self.departure.iter_mut().for_each(|departure| departure.farewell = Farewell::Torn);
            return Err(malformed_request(error));
        }
        if let Some(limit) = self.limit.as_mut().filter(|_| was_idle) {
            limit.restart();
        }
        if let (Some(start), Some(departure)) = (farewell, &mut self.departure) {
            departure.farewell = if start.is_some() { Farewell::Said } else { Farewell::Torn };
        }
        Ok(match (restoration, farewell) {
            (None, None) => Look::Pass,
            (None, Some(start)) => Look::Leave(start.unwrap_or(0)),
            (Some(Restoration::Ahead(mut messages)), None) => {
                messages.extend_from_slice(chunk);
                Look::Instead(messages)
            }
            (Some(Restoration::Hold(messages)), None) => {
                self.keeper.iter_mut().for_each(|keeper| keeper.hold(chunk));
                Look::Hold(messages)
            }
            // Nobody needs the context any more.
            (Some(_), Some(start)) => {
                self.keeper.iter_mut().for_each(Keeper::give_up);
                Look::Leave(start.unwrap_or(0))
            }
        })
    }

    fn answers(&mut self, chunk: &[u8]) -> Result<Look, RelayEnd> {
        let looked = self.look_at_answers(chunk);
        if let Some(meter) = self.meter {
            meter.add_to_client(chunk.len());
            meter.set_state(self.server.state());
        }
        looked
    }

    fn released(&mut self) -> Option<Vec<u8>> {
        self.for_server.take()
    }

    fn at_client_end(&mut self) -> AtEnd {
        if self.departure.is_some() { AtEnd::LeaveSink } else { AtEnd::EndSink }
    }

    fn is_settled(&self) -> bool {
        // What waits for more from the client has no end.
        let tracker = &self.server.tracker;
        let waits = !self.client.is_between_messages() || tracker.is_copying_in() || !tracker.is_synced();
        self.departure.is_some() && (waits || self.server.has_answered())
    }

    fn poll_expired(&mut self, cx: &mut Context<'_>, undelivered: bool) -> Poll<RelayEnd> {
        if let Poll::Ready(end) = self.poll_changes(cx) {
            return Poll::Ready(end);
        }
        match &mut self.limit {
            Some(limit) => {
                let is_outstanding = self.server.tracker.owes_answer();
                limit.poll_expired(cx, is_outstanding, undelivered).map(RelayEnd::Refused)
            }
            None => Poll::Pending,
        }
    }

    fn is_busy(&self) -> bool {
        !self.server.is_settled()
    }

    fn has_left(&self) -> bool {
        self.server.tracker.is_terminated()
    }

    fn last_words(&self, end: &RelayEnd) -> Option<Refusal> {
        if self.server.scanner.is_between_messages() { last_words(end, &self.server.tracker) } else { None }
    }
}

/// What a session has left on its connection.
pub(super) struct Left {
    scanner: BodyScanner,
    tracker: Tracker,
    status: TransactionStatus,
}

impl Left {
    /// How the connection is, once [`Left::drain`] has come to its end.
    pub(super) fn behind(&self) -> LeftBehind {
        LeftBehind { status: self.status, spare_ready: self.tracker.spare_ready() }
    }

    /// Reads what the server still owes, and drops it. False where that has no end. Safe to cancel; the connection is of no
    /// use then.
    pub(super) async fn drain(&mut self, lease: &mut Lease) -> bool {
        let (conn, parameters) = lease.parts();
        self.read_to_end(conn, parameters).await.is_some()
    }

    async fn read_to_end(&mut self, conn: &mut Conn<Socket>, parameters: &mut Parameters) -> Option<()> {
        let mut server = Server {
            scanner: std::mem::take(&mut self.scanner),
            tracker: std::mem::take(&mut self.tracker),
            parameters: Some(parameters),
            status: self.status,
        };
        loop {
            // A COPY whose client is gone ends only with the connection.
            if server.tracker.is_copying_in() || server.tracker.has_lost_count() {
                return None;
            }
            // What a COPY has ignored shows only with its end.
            if !server.tracker.is_synced() {
                let mut message = Vec::new();
                sync(&mut message);
                server.tracker.request(tag::SYNC);
                conn.queue(&message);
                conn.flush().await.ok()?;
            }
            if server.has_answered() {
                break;
            }
            if !matches!(conn.fill().await, Ok(1..)) {
                return None;
            }
            server.scan(conn.received(), Noted { keeper: None, hearing: None }).ok()?;
            conn.consume(usize::MAX);
        }
        self.status = server.status;
        self.tracker = server.tracker;
        Some(())
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
