//! The relay: bytes pass both ways until a side goes; then both are closed.
//!
//! Each direction makes progress by itself: a write that has to wait never keeps the other direction from being
//! read, so deep pipelines cannot deadlock. An idle session holds no buffer: bytes are read into the stack and
//! written at once, and only what the receiver does not take is kept.
//!
//! Per read: one `read` and one `write`, no allocation unless the receiver is slower than the sender.
//!
//! What is done with the bytes on their way is a [`Watch`]'s matter: `raw` has [`Unwatched`], which costs nothing;
//! `framed` has [`Framed`](super::framed::Framed).

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::conn::Conn;
use super::passthrough::BoundUpstream;
use crate::error::Refusal;
use crate::wire::WireError;

/// Bytes read at once, and the most that a direction ever holds.
const CHUNK: usize = 64 * 1024;

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

/// What looks at a session's bytes while they are relayed.
pub(super) trait Watch {
    /// The client has sent these bytes; an error ends the session before they are passed on.
    fn requests(&mut self, chunk: &[u8]) -> Result<(), WireError>;

    /// The server has sent these bytes; an error ends the session before they are passed on.
    fn answers(&mut self, chunk: &[u8]) -> Result<(), WireError>;

    /// Ready when a time limit has passed. `undelivered`: the client has not taken all that the server said.
    fn poll_expired(&mut self, cx: &mut Context<'_>, undelivered: bool) -> Poll<Refusal>;

    /// What may be said to the client before it is closed, behind everything that the server said.
    fn last_words(&self, end: &RelayEnd) -> Option<Refusal>;
}

/// The `raw` relay's: nothing is looked at, so nothing can be said.
pub(super) struct Unwatched;

impl Watch for Unwatched {
    fn requests(&mut self, _: &[u8]) -> Result<(), WireError> {
        Ok(())
    }

    fn answers(&mut self, _: &[u8]) -> Result<(), WireError> {
        Ok(())
    }

    fn poll_expired(&mut self, _: &mut Context<'_>, _: bool) -> Poll<Refusal> {
        Poll::Pending
    }

    fn last_words(&self, _: &RelayEnd) -> Option<Refusal> {
        None
    }
}

/// Relays until the server has closed, the client is gone, the watch says so, or `stop` resolves. Both sides are
/// closed when it returns.
pub(super) async fn relay<C, U>(
    client: Conn<C>,
    upstream: BoundUpstream<U>,
    watch: &mut impl Watch,
    stop: impl Future<Output = ()>,
) -> RelayEnd
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    // What the login left over goes first: held-back bytes one way, ReadyForQuery the other.
    let (mut client, from_client, mut for_client) = client.into_parts();
    let (mut upstream, from_upstream, _) = upstream.conn.into_parts();
    let looked_at = watch
        .answers(&from_upstream)
        .map_err(RelayEnd::UpstreamProtocol)
        .and_then(|()| watch.requests(&from_client).map_err(|error| RelayEnd::Refused(error.into())));
    for_client.extend(from_upstream);
    let mut requests = Direction::new(from_client, AtEnd::EndSink);
    let mut answers = Direction::new(for_client, AtEnd::LeaveSink);
    let mut stop = pin!(stop);

    let relayed = poll_fn(|cx| {
        // A server that no longer reads may still have said why: only its own end of stream ends the session.
        match requests.poll(cx, &mut client, &mut upstream, |chunk| watch.requests(chunk)) {
            Poll::Ready(Done::Source) => return Poll::Ready(RelayEnd::Client),
            Poll::Ready(Done::Malformed(error)) => return Poll::Ready(RelayEnd::Refused(error.into())),
            Poll::Ready(Done::Finished | Done::Sink) | Poll::Pending => {}
        }
        match answers.poll(cx, &mut upstream, &mut client, |chunk| watch.answers(chunk)) {
            Poll::Ready(Done::Finished | Done::Source) => return Poll::Ready(RelayEnd::Upstream),
            Poll::Ready(Done::Sink) => return Poll::Ready(RelayEnd::Client),
            Poll::Ready(Done::Malformed(error)) => return Poll::Ready(RelayEnd::UpstreamProtocol(error)),
            Poll::Pending => {}
        }
        if stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(RelayEnd::Stopped);
        }
        watch.poll_expired(cx, answers.holds_bytes()).map(RelayEnd::Refused)
    });
    let end = match looked_at {
        Ok(()) => relayed.await,
        Err(end) => end,
    };

    drop(upstream);
    let last_words = watch.last_words(&end);
    if end == RelayEnd::Upstream || last_words.is_some() {
        let mut client = Conn::new(client);
        client.queue(answers.undelivered());
        if let Some(refusal) = last_words {
            let mut message = Vec::new();
            refusal.encode(&mut message);
            client.queue(&message);
        }
        client.finish().await;
    }
    end
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
    /// The bytes are not messages; they have not been passed on.
    Malformed(WireError),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Progress {
    /// Bytes flow.
    Open,
    /// The source is at its end; the sink has yet to take everything.
    Ending,
    Done(Done),
}

/// What becomes of the sink's stream when the source has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AtEnd {
    /// It is ended too, as the other direction may go on.
    EndSink,
    /// It stays open for last words.
    LeaveSink,
}

/// One direction of a relay.
struct Direction {
    /// Bytes the sink has not taken, from `sent` on. Empty, and without an allocation, while bytes flow freely.
    pending: Vec<u8>,
    sent: usize,
    progress: Progress,
    at_end: AtEnd,
}

impl Direction {
    fn new(pending: Vec<u8>, at_end: AtEnd) -> Self {
        Self { pending, sent: 0, progress: Progress::Open, at_end }
    }

    /// True while the sink has not taken everything.
    fn holds_bytes(&self) -> bool {
        !self.pending.is_empty()
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
        mut look: impl FnMut(&[u8]) -> Result<(), WireError>,
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
            if self.progress == Progress::Ending {
                if self.at_end == AtEnd::EndSink {
                    let _ = ready!(Pin::new(&mut *sink).poll_shutdown(cx));
                }
                self.progress = Progress::Done(Done::Finished);
                continue;
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
        look: impl FnOnce(&[u8]) -> Result<(), WireError>,
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
            return Poll::Ready(Progress::Ending);
        }
        if let Err(error) = look(chunk) {
            return Poll::Ready(Progress::Done(Done::Malformed(error)));
        }
        match Pin::new(sink).poll_write(cx, chunk) {
            Poll::Ready(Ok(n)) if n == chunk.len() => {}
            Poll::Ready(Ok(n)) => self.pending.extend_from_slice(chunk.get(n..).unwrap_or_default()),
            Poll::Ready(Err(_)) => return Poll::Ready(Progress::Done(Done::Sink)),
            Poll::Pending => self.pending.extend_from_slice(chunk),
        }
        Poll::Ready(Progress::Open)
    }

    /// Writes what is pending, and gives its memory back.
    fn poll_flush<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, sink: &mut W) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.pending.get(self.sent..) {
            match ready!(Pin::new(&mut *sink).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.sent += n,
            }
        }
        if !self.pending.is_empty() {
            self.pending = Vec::new();
            self.sent = 0;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
