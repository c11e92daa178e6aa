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
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;

use super::passthrough::BoundUpstream;
use crate::error::Refusal;
use crate::net::Conn;
use crate::sessions::Meter;
use crate::wire::WireError;

/// Bytes read at once, and the most that a direction ever holds.
const CHUNK: usize = 64 * 1024;

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
    /// These are passed on instead.
    Instead(Vec<u8>),
    /// These are passed on instead, and no more are read until the watch releases some.
    Hold(Vec<u8>),
    /// So many of them are passed on; the client has said that it leaves.
    Leave(usize),
}

/// What looks at a session's bytes while they are relayed.
pub(super) trait Watch {
    /// The client has sent these bytes; an error ends the session before they are passed on.
    fn requests(&mut self, chunk: &[u8]) -> Result<Look, RelayEnd>;

    /// The server has sent these bytes; an error ends the session before they are passed on.
    fn answers(&mut self, chunk: &[u8]) -> Result<Look, RelayEnd>;

    /// What the server is to be sent once the client's requests need not be held back any more.
    fn released(&mut self) -> Option<Vec<u8>> {
        None
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
const TERMINATE: &[u8] = b"X\0\0\0\x04";

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
pub(super) async fn relay<C, U>(
    client: Conn<C>,
    upstream: BoundUpstream<U>,
    watch: &mut impl Watch,
    stop: impl Future<Output = RelayEnd>,
    finish: impl AsyncFnOnce(RelayEnd, U, bool),
) -> RelayEnd
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (upstream, from_upstream, _) = upstream.conn.into_parts();
    let mut relaying = Relaying::new(client, upstream, from_upstream);
    let end = relaying.run(watch, pin!(stop)).await;
    let is_busy = watch.is_busy();
    let (client, upstream) = relaying.part(&end, watch.last_words(&end));
    // A server that is told so closes first.
    let end = if end == RelayEnd::Upstream && watch.has_left() { RelayEnd::Client } else { end };
    // Boxed, so that a session does not carry the size of its end.
    Box::pin(async { tokio::join!(client.close(), finish(end.clone(), upstream, is_busy)) }).await;
    end
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
        poll_fn(|cx| {
            loop {
                let Self { client, upstream, requests, answers, last_answers, .. } = self;
                // A server that no longer reads may still have said why: only its own end of stream ends the session.
                match requests.poll(cx, client, upstream, |chunk| watch.requests(chunk)) {
                    Poll::Ready(Done::Source | Done::Left) => return Poll::Ready(RelayEnd::Client),
                    Poll::Ready(Done::Told(end)) => return Poll::Ready(end),
                    Poll::Ready(Done::Finished) => requests.poll_end(cx, upstream, watch),
                    Poll::Ready(Done::Sink) | Poll::Pending => {}
                }
                match answers.poll(cx, upstream, client, |chunk| watch.answers(chunk)) {
                    // It was told that the client has ended its stream.
                    Poll::Ready(Done::Finished | Done::Source | Done::Left) if requests.has_ended() => {
                        return Poll::Ready(RelayEnd::Client);
                    }
                    Poll::Ready(Done::Finished | Done::Source | Done::Left) => return Poll::Ready(RelayEnd::Upstream),
                    Poll::Ready(Done::Sink) => return Poll::Ready(RelayEnd::Client),
                    Poll::Ready(Done::Told(end)) => return Poll::Ready(end),
                    Poll::Pending => {}
                }
                if let Some(bytes) = watch.released() {
                    requests.release(bytes);
                    continue;
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
        .await
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

/// How a direction came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Done {
    /// The source ended its stream and the sink has taken everything.
    Finished,
    /// Reading failed.
    Source,
    /// Writing failed.
    Sink,
    /// The client has said that it leaves, and the sink has taken everything before that.
    Left,
    /// The watch ended it; the bytes have not been passed on.
    Told(RelayEnd),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Progress {
    /// Bytes flow.
    Open,
    /// The source is at its end, or has said so; the sink has yet to take everything.
    Ending(Done),
    Done(Done),
}

/// What becomes of the server's stream when the client has ended its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtEnd {
    /// It is ended too; answers may go on.
    EndSink,
    /// It stays open: another session is to have it.
    LeaveSink,
}

/// One direction of a relay.
struct Direction {
    /// Bytes the sink has not taken, from `sent` on. Empty, and without an allocation, while bytes flow freely.
    pending: Vec<u8>,
    sent: usize,
    /// The sink has taken bytes that it may not have sent: TLS does.
    is_unflushed: bool,
    progress: Progress,
    /// Nothing is read.
    is_held: bool,
    sink_is_ended: bool,
    /// Something has come since this was taken.
    has_moved: bool,
}

impl Direction {
    fn new(pending: Vec<u8>) -> Self {
        Self {
            pending,
            sent: 0,
            is_unflushed: false,
            progress: Progress::Open,
            is_held: false,
            sink_is_ended: false,
            has_moved: false,
        }
    }

    /// Reads on, behind these bytes.
    fn release(&mut self, bytes: Vec<u8>) {
        self.pending.extend(bytes);
        self.is_held = false;
    }

    /// True when the source has ended and the sink has taken everything.
    fn has_ended(&self) -> bool {
        self.progress == Progress::Done(Done::Finished)
    }

    /// Takes bytes in that were read before.
    fn take(&mut self, chunk: &[u8], look: impl FnOnce(&[u8]) -> Result<Look, RelayEnd>) -> Result<(), RelayEnd> {
        if chunk.is_empty() {
            return Ok(());
        }
        match look(chunk)? {
            Look::Pass => self.pending.extend_from_slice(chunk),
            Look::Instead(bytes) => self.pending.extend(bytes),
            Look::Hold(bytes) => {
                self.pending.extend(bytes);
                self.is_held = true;
            }
            Look::Leave(count) => {
                self.pending.extend_from_slice(chunk.get(..count).unwrap_or_default());
                self.progress = Progress::Ending(Done::Left);
            }
        }
        Ok(())
    }

    /// Ends the sink's stream, once, where it is to be ended.
    fn poll_end<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, sink: &mut W, watch: &mut impl Watch) {
        self.sink_is_ended = self.sink_is_ended
            || match watch.at_client_end() {
                AtEnd::EndSink => Pin::new(sink).poll_shutdown(cx).is_ready(),
                AtEnd::LeaveSink => true,
            };
    }

    /// True while the sink has not taken everything.
    fn holds_bytes(&self) -> bool {
        !self.pending.is_empty() || self.is_unflushed
    }

    /// What the sink has not taken.
    fn undelivered(&self) -> &[u8] {
        self.pending.get(self.sent..).unwrap_or_default()
    }

    /// Moves bytes until one side has to wait; `look` sees them first.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
        sink: &mut W,
        mut look: impl FnMut(&[u8]) -> Result<Look, RelayEnd>,
    ) -> Poll<Done>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            if let Progress::Done(done) = &self.progress {
                return Poll::Ready(done.clone());
            }
            if ready!(self.poll_flush(cx, sink)).is_err() {
                self.progress = Progress::Done(Done::Sink);
                continue;
            }
            if let Progress::Ending(done) = &self.progress {
                self.progress = Progress::Done(done.clone());
                continue;
            }
            if self.is_held {
                return Poll::Pending;
            }
            self.progress = ready!(self.poll_transfer(cx, source, sink, &mut look));
        }
    }

    /// One read, and the write of it.
    fn poll_transfer<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
        sink: &mut W,
        look: impl FnOnce(&[u8]) -> Result<Look, RelayEnd>,
    ) -> Poll<Progress>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut space = [const { MaybeUninit::<u8>::uninit() }; CHUNK];
        let mut chunk = ReadBuf::uninit(&mut space);
        if ready!(Pin::new(source).poll_read(cx, &mut chunk)).is_err() {
            return Poll::Ready(Progress::Done(Done::Source));
        }
        let chunk = chunk.filled();
        if chunk.is_empty() {
            return Poll::Ready(Progress::Ending(Done::Finished));
        }
        self.has_moved = true;
        let (chunk, progress) = match look(chunk) {
            Ok(Look::Pass) => (chunk, Progress::Open),
            Ok(Look::Leave(count)) => (chunk.get(..count).unwrap_or_default(), Progress::Ending(Done::Left)),
            Ok(Look::Instead(bytes)) => {
                self.pending = bytes;
                return Poll::Ready(Progress::Open);
            }
            Ok(Look::Hold(bytes)) => {
                self.pending = bytes;
                self.is_held = true;
                return Poll::Ready(Progress::Open);
            }
            Err(end) => return Poll::Ready(Progress::Done(Done::Told(end))),
        };
        if chunk.is_empty() {
            return Poll::Ready(progress);
        }
        self.is_unflushed = true;
        match Pin::new(sink).poll_write(cx, chunk) {
            Poll::Ready(Ok(n)) if n == chunk.len() => {}
            Poll::Ready(Ok(n)) => self.pending.extend_from_slice(chunk.get(n..).unwrap_or_default()),
            Poll::Ready(Err(_)) => return Poll::Ready(Progress::Done(Done::Sink)),
            Poll::Pending => self.pending.extend_from_slice(chunk),
        }
        Poll::Ready(progress)
    }

    /// Writes what is pending, and gives its memory back.
    fn poll_flush<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, sink: &mut W) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.pending.get(self.sent..) {
            match ready!(Pin::new(&mut *sink).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.sent += n,
            }
            self.is_unflushed = true;
        }
        if self.is_unflushed {
            ready!(Pin::new(&mut *sink).poll_flush(cx))?;
            self.is_unflushed = false;
        }
        if !self.pending.is_empty() {
            self.pending = Vec::new();
            self.sent = 0;
        }
        Poll::Ready(Ok(()))
    }
}

/// The end of a server's side in tests, which have no server to tell more.
#[cfg(test)]
pub(super) async fn just_close<U>(_: RelayEnd, upstream: U, _: bool) {
    drop(upstream);
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
