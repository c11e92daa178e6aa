//! The relay: bytes pass both ways until a side goes; then both are closed.
//!
//! Each direction makes progress by itself: a write that has to wait never keeps the other direction from being
//! read, so deep pipelines cannot deadlock. An idle session holds no buffer: bytes are read into the stack and
//! written at once, and only what the receiver does not take is kept.
//!
//! Per read: one `read` and one `write`, no allocation unless the receiver is slower than the sender.
//!
//! What is done with the bytes on their way is a [`Watch`]'s matter: `raw` has [`Unwatched`], which counts them;
//! `framed` has [`SessionWatch`](super::watch::SessionWatch).

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;

use super::direction::{Direction, Done};
use super::passthrough::BoundUpstream;
use crate::error::Refusal;
use crate::net::Conn;
use crate::sessions::Meter;
use crate::wire::WireError;

/// How long the server may be silent when the client has ended its stream: nothing tells one that waits for the rest of its
/// answers from one that is gone.
const LAST_ANSWERS_TIMEOUT: Duration = Duration::from_millis(500);

/// Why a relay ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RelayEnd {
    /// The server closed its side; everything it sent has been passed on.
    Upstream,
    /// The client is gone.
    Client,
    /// The proxy stops.
    Stopped,
    /// A limit has passed, or the client broke the protocol.
    Refused(Refusal),
    /// The server broke the protocol.
    UpstreamProtocol(WireError),
}

impl std::fmt::Display for RelayEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Upstream => f.write_str("server closed the connection"),
            Self::Client => f.write_str("client disconnected"),
            Self::Stopped => f.write_str("proxy is shutting down"),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::UpstreamProtocol(error) => write!(f, "server broke the protocol: {error}"),
        }
    }
}

/// What becomes of bytes that a watch has seen.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// They are passed on.
    Pass,
    /// So many of them are passed on.
    Front(usize),
    /// These are passed on instead.
    Instead(Vec<u8>),
    /// These are passed on instead, and no more are read until the watch releases some.
    Hold(Vec<u8>),
    /// These are passed on instead; the client has said that it leaves.
    Leave(Vec<u8>),
}

/// What looks at a session's bytes while they are relayed.
pub(super) trait Watch {
    /// The client has sent these bytes; an error ends the session before they are passed on.
    fn requests(&mut self, chunk: &[u8]) -> Result<Look, RelayEnd>;

    /// The server has sent these bytes; an error ends the session before they are passed on.
    fn answers(&mut self, chunk: &[u8]) -> Result<Look, RelayEnd>;

    /// Pending while the server's answers have to wait. It wakes the task when they need not any more.
    fn poll_may_answer(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    /// What the server is to be sent besides, such as requests that need not wait any more. Asked for after every answer.
    fn released(&mut self) -> Result<Option<Look>, RelayEnd> {
        Ok(None)
    }

    /// What becomes of the server's stream when the client has ended its own.
    fn at_client_end(&mut self) -> AtEnd {
        AtEnd::EndSink
    }

    /// True once nothing is left to do for a client that has ended its stream.
    fn is_settled(&self) -> bool {
        false
    }

    /// True if the server is known to owe an answer.
    fn is_busy(&self) -> bool {
        false
    }

    /// Why the session has to end, whatever else ends it at the same time.
    fn own_end(&self) -> Option<RelayEnd> {
        None
    }

    /// True once the client has said that it leaves.
    fn has_left(&self) -> bool;

    /// Ready when a time limit has passed. `undelivered`: the client has not taken all that the server said.
    fn poll_expired(&mut self, cx: &mut Context<'_>, undelivered: bool) -> Poll<RelayEnd>;

    /// What may be said to the client before it is closed, behind everything that the server said.
    fn last_words(&self, end: &RelayEnd) -> Option<Refusal>;
}

/// The `raw` relay's: bytes are counted and not looked at, so nothing can be said.
pub(super) struct Unwatched<'a> {
    meter: &'a Meter,
    /// What was sent last ends as Terminate does; for the log alone.
    has_left: bool,
}

impl<'a> Unwatched<'a> {
    pub(super) fn new(meter: &'a Meter) -> Self {
        Self { meter, has_left: false }
    }
}

/// The message by which a client says that it leaves.
pub(super) const TERMINATE: &[u8] = b"X\0\0\0\x04";

impl Watch for Unwatched<'_> {
    fn requests(&mut self, chunk: &[u8]) -> Result<Look, RelayEnd> {
        self.meter.add_from_client(chunk.len());
        self.has_left = chunk.ends_with(TERMINATE);
        Ok(Look::Pass)
    }

    fn answers(&mut self, chunk: &[u8]) -> Result<Look, RelayEnd> {
        self.meter.add_to_client(chunk.len());
        Ok(Look::Pass)
    }

    fn has_left(&self) -> bool {
        self.has_left
    }

    fn poll_expired(&mut self, _: &mut Context<'_>, _: bool) -> Poll<RelayEnd> {
        Poll::Pending
    }

    fn last_words(&self, _: &RelayEnd) -> Option<Refusal> {
        None
    }
}

/// The end of every session of a proxy that stops.
pub(super) async fn stopped(token: &CancellationToken) -> RelayEnd {
    token.cancelled().await;
    RelayEnd::Stopped
}

/// Relays until the server has closed, the client is gone, the watch says so, or `stop` resolves. `finish` is given the
/// server's side, and whether it owes an answer, while the client is told. Both sides are closed when it returns.
///
/// Not an async function, which would keep its arguments and what it makes of them for as long as the session lasts.
pub(super) fn relay<C, U>(
    client: Conn<C>,
    upstream: BoundUpstream<U>,
    watch: &mut impl Watch,
    stop: impl Future<Output = RelayEnd>,
    finish: impl AsyncFnOnce(RelayEnd, U, bool),
) -> impl Future<Output = RelayEnd>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (upstream, from_upstream, _) = upstream.conn.into_parts();
    let mut relaying = Relaying::new(client, upstream, from_upstream);
    let mut stop = Box::pin(stop);
    async move {
        let end = relaying.run(watch, stop.as_mut()).await;
        let is_busy = watch.is_busy();
        let (client, upstream) = relaying.part(&end, watch.last_words(&end));
        // A server that is told so closes first.
        let end = if end == RelayEnd::Upstream && watch.has_left() { RelayEnd::Client } else { end };
        // Boxed, so that a session does not carry the size of its end.
        Box::pin(async { tokio::join!(client.close(), finish(end.clone(), upstream, is_busy)) }).await;
        end
    }
}

/// Two streams between which bytes are relayed.
pub(super) struct Relaying<C, U> {
    client: C,
    upstream: U,
    requests: Direction,
    answers: Direction,
    /// What the login left over, not yet looked at: held-back bytes one way, ReadyForQuery the other.
    left_over: Option<(Vec<u8>, Vec<u8>)>,
    /// Runs while the server is silent and the client has ended its stream.
    last_answers: Option<Pin<Box<Sleep>>>,
}

/// A client whose session is over.
pub(super) struct Departing<C> {
    client: C,
    /// What it has not taken, and last words; `None` where it is gone, or may be told nothing.
    unsent: Option<Vec<u8>>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Departing<C> {
    /// Closes its side, within a moment.
    pub(super) async fn close(self) {
        let Self { client, unsent: Some(unsent) } = self else { return };
        let mut client = Conn::new(client);
        client.queue(&unsent);
        client.finish().await;
    }
}

impl<C, U> Relaying<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    pub(super) fn new(client: Conn<C>, upstream: U, from_upstream: Vec<u8>) -> Self {
        let (client, from_client, for_client) = client.into_parts();
        Self {
            client,
            upstream,
            requests: Direction::new(Vec::new()),
            answers: Direction::new(for_client),
            left_over: Some((from_client, from_upstream)),
            last_answers: None,
        }
    }

    /// Relays until the server has closed, the client is gone, the watch says so, or `stop` resolves.
    pub(super) async fn run(
        &mut self,
        watch: &mut impl Watch,
        mut stop: Pin<&mut impl Future<Output = RelayEnd>>,
    ) -> RelayEnd {
        if let Some((from_client, from_upstream)) = self.left_over.take() {
            let looked_at = self.answers.take(&from_upstream, |chunk| watch.answers(chunk));
            let looked_at = looked_at.and_then(|()| self.requests.take(&from_client, |chunk| watch.requests(chunk)));
            if let Err(end) = looked_at {
                return end;
            }
        }
        let end = poll_fn(|cx| {
            loop {
                let Self { client, upstream, requests, answers, last_answers, .. } = self;
                // A server that no longer reads may still have said why: only its own end of stream ends the session.
                match requests.poll(cx, client, upstream, |chunk| watch.requests(chunk)) {
                    Poll::Ready(Done::Source) => return Poll::Ready(RelayEnd::Client),
                    Poll::Ready(Done::Told(end)) => return Poll::Ready(end),
                    Poll::Ready(Done::Finished) => requests.poll_end(cx, upstream, watch),
                    Poll::Ready(Done::Sink) | Poll::Pending => {}
                }
                let answered = match watch.poll_may_answer(cx) {
                    Poll::Ready(()) => answers.poll(cx, upstream, client, |chunk| watch.answers(chunk)),
                    Poll::Pending => Poll::Pending,
                };
                match answered {
                    // It was told that the client has ended its stream.
                    Poll::Ready(Done::Finished | Done::Source) if requests.has_ended() => {
                        return Poll::Ready(RelayEnd::Client);
                    }
                    Poll::Ready(Done::Finished | Done::Source) => return Poll::Ready(RelayEnd::Upstream),
                    Poll::Ready(Done::Sink) => return Poll::Ready(RelayEnd::Client),
                    Poll::Ready(Done::Told(end)) => return Poll::Ready(end),
                    Poll::Pending => {}
                }
                match watch.released() {
                    Ok(None) => {}
                    Ok(Some(look)) => {
                        requests.release(look);
                        continue;
                    }
                    Err(end) => return Poll::Ready(end),
                }
                if requests.has_ended() && watch.is_settled() && !answers.holds_bytes() {
                    return Poll::Ready(RelayEnd::Client);
                }
                if requests.has_ended() && !answers.holds_bytes() {
                    let timer = last_answers.get_or_insert_with(|| Box::pin(sleep(LAST_ANSWERS_TIMEOUT)));
                    if std::mem::take(&mut answers.has_moved) {
                        timer.as_mut().reset(Instant::now() + LAST_ANSWERS_TIMEOUT);
                    }
                    if timer.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(RelayEnd::Client);
                    }
                }
                if let Poll::Ready(end) = stop.as_mut().poll(cx) {
                    return Poll::Ready(end);
                }
                return watch.poll_expired(cx, answers.holds_bytes());
            }
        })
        .await;
        watch.own_end().unwrap_or(end)
    }

    /// True if the server has been given everything that the client sent and the watch let pass.
    pub(super) fn has_delivered_requests(&self) -> bool {
        !self.requests.holds_bytes()
    }

    /// The two sides, each to be closed, the client's with last words where there are any.
    pub(super) fn part(self, end: &RelayEnd, last_words: Option<Refusal>) -> (Departing<C>, U) {
        let is_told = *end == RelayEnd::Upstream || last_words.is_some();
        let unsent = is_told.then(|| {
            let mut unsent = self.answers.undelivered().to_vec();
            last_words.into_iter().for_each(|refusal| refusal.encode(&mut unsent));
            unsent
        });
        (Departing { client: self.client, unsent }, self.upstream)
    }
}

/// What becomes of the server's stream when the client has ended its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtEnd {
    /// It is ended too; answers may go on.
    EndSink,
    /// It stays open: another session is to have it.
    LeaveSink,
    /// Not yet anything: requests still wait.
    Later,
}

/// The end of a server's side in tests, which have no server to tell more.
#[cfg(test)]
pub(super) async fn just_close<U>(_: RelayEnd, upstream: U, _: bool) {
    drop(upstream);
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
