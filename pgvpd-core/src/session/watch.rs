//! The watch of a session whose messages are seen: knows what is outstanding, keeps `tenant_query_timeout`, has the context put
//! back where the client has reset it, leaves out notifications that are not the tenant's, and says why a session ends where
//! that does not cut a message in two. Of a pool's, it also knows what the connection's next session depends on: whether the
//! server has answered everything, and in which state it is.
//!
//! No body is kept but those of a few small messages, so that it holds the same few bytes whatever is relayed.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use tokio::time::{Sleep, sleep};

use super::gate::{Ends, Gate, Walked};
use super::hearing::{Hearing, listens};
use super::keeper::Keeper;
use super::relay::{AtEnd, Look, RelayEnd, Watch};
use super::server::{Noted, RoleChange, Scanned, Server};
use super::time_limit::TimeLimit;
use crate::error::Refusal;
use crate::net::{Conn, Socket};
use crate::pool::{Lease, LeftBehind};
use crate::resolve::{Change, Membership};
use crate::sessions::{Meter, SessionState};
use crate::stats::Counters;
use crate::upstream::Parameters;
use crate::wire::{BodyScanner, Scanner, Tracker, TransactionStatus, WireError, sync, tag};

/// How long a transaction may go on when its context has changed.
const MAY_GO_ON: Duration = Duration::from_millis(300);

/// The state of a session.
pub(super) struct SessionWatch<'a> {
    /// What the client has sent, where nothing of it can be lost.
    client: Scanner,
    server: Server<'a>,
    keeper: Option<Keeper>,
    /// What the client has sent, where there is a keeper.
    gate: Gate,
    hearing: Option<Hearing>,
    limit: Option<TimeLimit>,
    /// `None` where the connection goes with the session.
    departure: Option<Departure>,
    /// `None` where nothing that the session goes by is watched.
    following: Option<Following>,
    /// What the server is to be sent while the client's requests wait.
    for_server: Option<Vec<u8>>,
    /// The command by which the session has changed a role.
    role_command: Option<&'static str>,
    meter: Option<&'a Meter>,
    counters: Option<&'a Counters>,
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

impl<'a> SessionWatch<'a> {
    /// Watches a session whose server has nothing outstanding, and whose connection goes with it.
    pub(super) fn new(limit: Option<TimeLimit>) -> Self {
        Self {
            client: Scanner::default(),
            server: Server::default(),
            keeper: None,
            gate: Gate::default(),
            hearing: None,
            limit,
            departure: None,
            following: None,
            for_server: None,
            role_command: None,
            meter: None,
            counters: None,
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

    /// Lets only these notifications pass, and counts requests for others.
    pub(super) fn hearing(self, hearing: Hearing, counters: &'a Counters) -> Self {
        Self { hearing: Some(hearing), counters: Some(counters), ..self }
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
        let is_between_requests = self.is_between_requests();
        let Self { following: Some(following), keeper, server, .. } = self else { return Poll::Pending };
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
            && server.is_synced()
            && server.status == TransactionStatus::Idle
            && is_between_requests;
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

    /// True where the server has been given whole messages.
    fn is_between_requests(&self) -> bool {
        self.client.is_between_messages() && self.gate.is_between_messages()
    }

    /// What becomes of the client's next bytes, where nothing of its session can be lost.
    fn look_at_headers(&mut self, chunk: &[u8]) -> Result<Walked, WireError> {
        let (server, hearing, is_pooled) = (&mut self.server, &mut self.hearing, self.departure.is_some());
        let mut walked = Walked { front: chunk.len(), ..Walked::default() };
        let mut is_torn = false;
        self.client.scan_until(chunk, |message, start| {
            if is_pooled && message == tag::TERMINATE {
                (walked.front, walked.has_left, is_torn) = (start.unwrap_or(0), true, start.is_none());
                return ControlFlow::Break(());
            }
            server.request(message);
            if let (Some(hearing), tag::QUERY | tag::PARSE, Some(start)) = (hearing.as_mut(), message, start) {
                listens(hearing, chunk.get(start..).unwrap_or_default());
            }
            walked.requests += usize::from(matches!(message, tag::QUERY | tag::EXECUTE | tag::FUNCTION_CALL));
            ControlFlow::Continue(())
        })?;
        if let Some(departure) = self.departure.as_mut().filter(|_| is_torn) {
            departure.farewell = Farewell::Torn;
        }
        Ok(walked)
    }

    /// What becomes of the client's next bytes, and of those that wait.
    fn look_at_requests(&mut self, chunk: &[u8]) -> Result<Look, RelayEnd> {
        let was_idle = !self.server.tracker.owes_answer();
        let walked = match &mut self.keeper {
            None => self.look_at_headers(chunk),
            Some(keeper) => {
                let may_put_back_inside = self.following.as_ref().is_none_or(|following| following.deadline.is_none());
                let is_pooled = self.departure.is_some();
                let (server, hearing) = (&mut self.server, self.hearing.as_mut());
                self.gate.walk(chunk, Ends { server, keeper, hearing, may_put_back_inside, is_pooled })
            }
        };
        if let (Some(meter), Ok(walked)) = (self.meter, &walked) {
            meter.add_requests(walked.requests);
            meter.set_state(self.server.state());
        }
        let Walked { front, instead, has_left, .. } = walked.map_err(|error| {
            // A part of what is no message may be with the server already.
            self.departure.iter_mut().for_each(|departure| departure.farewell = Farewell::Torn);
            malformed_request(error)
        })?;
        if let Some(limit) = self.limit.as_mut().filter(|_| was_idle) {
            limit.restart();
        }
        if has_left && let Some(departure) = self.departure.as_mut().filter(|it| it.farewell == Farewell::None) {
            departure.farewell = Farewell::Said;
        }
        let passes =
            |instead: Option<Vec<u8>>| instead.unwrap_or_else(|| chunk.get(..front).unwrap_or_default().to_vec());
        Ok(match instead {
            instead if has_left => Look::Leave(passes(instead)),
            instead if self.gate.is_full() => Look::Hold(passes(instead)),
            Some(bytes) => Look::Instead(bytes),
            None if front == chunk.len() => Look::Pass,
            None => Look::Front(front),
        })
    }

    /// Takes answers while the context is put back: those to the proxy are kept, the rest is the client's.
    fn restored(&mut self, chunk: &[u8]) -> Result<Look, RelayEnd> {
        let Self { keeper: Some(keeper), server, .. } = self else { return Ok(Look::Pass) };
        let status = server.status;
        let mut restored = keeper.take(chunk, status, |message| {
            let noted = Noted { keeper: None };
            // Only a query that is refused has answers there, and it was asked.
            let _ = server.tracker.answer(message.tag);
            server.note(message.tag, Some(message.body), noted);
        })?;
        self.for_server = restored.for_server;
        if let Some(rest) = restored.rest {
            let noted = Noted { keeper: Some(keeper) };
            let scanned = server.scan(&rest, noted)?;
            restored.for_client.extend(&*self.passed(&rest, &scanned));
        }
        Ok(Look::Instead(restored.for_client))
    }

    /// What of these bytes may pass, nothing behind the answer that the session ends with; and what the client is told between.
    fn passed<'c>(&mut self, chunk: &'c [u8], scanned: &Scanned) -> Cow<'c, [u8]> {
        let mut passed = chunk;
        if let Some(RoleChange { command, end }) = scanned.role_change {
            self.role_command = Some(command);
            passed = chunk.get(..end).unwrap_or_default();
        }
        let Some(hearing) = &mut self.hearing else { return Cow::Borrowed(passed) };
        let mut notice = Vec::new();
        if scanned.listen_end.is_some() {
            hearing.on_listen(self.counters, &mut notice);
        }
        if scanned.is_ready && !self.server.tracker.owes_answer() {
            hearing.on_settled();
        }
        match scanned.listen_end.and_then(|end| passed.split_at_checked(end)) {
            Some((before, after)) if !notice.is_empty() => Cow::Owned([before, &notice, after].concat()),
            _ => Cow::Borrowed(passed),
        }
    }

    /// What becomes of the server's bytes.
    fn look_at_answers(&mut self, chunk: &[u8]) -> Result<Look, RelayEnd> {
        if let Some(end) = self.own_end() {
            return Err(end);
        }
        if self.keeper.as_ref().is_some_and(Keeper::is_busy) {
            let look = self.restored(chunk)?;
            return self.heard(chunk, look);
        }
        let rest_of_body = self.server.scanner.rest_of_body();
        self.limit.iter_mut().for_each(|limit| limit.expects_answer(rest_of_body));
        let noted = Noted { keeper: self.keeper.as_mut() };
        let scanned = self.server.scan(chunk, noted)?;
        let is_settled = !self.server.tracker.owes_answer();
        // With ReadyForQuery the next of several requests begins.
        if let Some(limit) = self.limit.as_mut().filter(|_| scanned.is_ready || is_settled) {
            limit.restart();
        }
        let passed = self.passed(chunk, &scanned);
        match passed {
            Cow::Owned(bytes) => self.heard(chunk, Look::Instead(bytes)),
            Cow::Borrowed(bytes) if bytes.len() == chunk.len() => self.heard(chunk, Look::Pass),
            Cow::Borrowed(front) => self.heard(front, Look::Front(front.len())),
        }
    }

    /// What of these bytes the client hears, where `look` says what has become of them so far.
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
        let farewell = self.departure.as_ref()?.farewell;
        let is_usable = matches!(end, RelayEnd::Client | RelayEnd::Refused(_))
            && has_delivered
            && self.role_command.is_none()
            && farewell != Farewell::Torn
            && (farewell == Farewell::Said || self.is_between_requests())
            && !self.keeper.as_ref().is_some_and(Keeper::is_busy);
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

impl Watch for SessionWatch<'_> {
    fn requests(&mut self, chunk: &[u8]) -> Result<Look, RelayEnd> {
        if let Some(meter) = self.meter {
            meter.add_from_client(chunk.len());
        }
        self.look_at_requests(chunk)
    }

    fn answers(&mut self, chunk: &[u8]) -> Result<Look, RelayEnd> {
        let looked = self.look_at_answers(chunk);
        if let Some(meter) = self.meter {
            meter.add_to_client(chunk.len());
            meter.set_state(self.server.state());
        }
        looked
    }

    fn poll_may_answer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.limit.as_mut().map_or(Poll::Ready(()), |limit| limit.poll_cancelled(cx))
    }

    fn released(&mut self) -> Result<Option<Look>, RelayEnd> {
        if let Some(end) = self.own_end() {
            return Err(end);
        }
        if let Some(messages) = self.for_server.take() {
            return Ok(Some(if self.gate.is_full() { Look::Hold(messages) } else { Look::Instead(messages) }));
        }
        match &self.keeper {
            Some(keeper) if self.gate.may_open(&self.server, keeper) => self.look_at_requests(&[]).map(Some),
            _ => Ok(None),
        }
    }

    fn at_client_end(&mut self) -> AtEnd {
        match &self.departure {
            _ if self.gate.holds_requests() => AtEnd::Later,
            Some(_) => AtEnd::LeaveSink,
            None => AtEnd::EndSink,
        }
    }

    fn is_settled(&self) -> bool {
        // What waits for more from the client has no end.
        let tracker = &self.server.tracker;
        let waits = !self.is_between_requests() || tracker.is_copying_in() || !tracker.is_synced();
        self.departure.is_some() && !self.gate.holds_requests() && (waits || self.server.has_answered())
    }

    fn poll_expired(&mut self, cx: &mut Context<'_>, undelivered: bool) -> Poll<RelayEnd> {
        if let Some(end) = self.own_end() {
            return Poll::Ready(end);
        }
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

    fn own_end(&self) -> Option<RelayEnd> {
        self.role_command.map(|command| RelayEnd::Refused(Refusal::role_changed(command)))
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
            let scanned = server.scan(conn.received(), Noted { keeper: None }).ok()?;
            if scanned.role_change.is_some() {
                return None;
            }
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
