//! The `raw` relay: bytes pass both ways, unread, until a side goes; then both are closed.
//!
//! Each direction makes progress by itself: a write that has to wait never keeps the other direction from being
//! read, so deep pipelines cannot deadlock. An idle session holds no buffer: bytes are read into the stack and
//! written at once, and only what the receiver does not take is kept.
//!
//! Per read: one `read` and one `write`, no allocation unless the receiver is slower than the sender.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::conn::Conn;
use super::passthrough::BoundUpstream;

/// Bytes read at once, and the most that a direction ever holds.
const CHUNK: usize = 64 * 1024;

/// Why a relay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RelayEnd {
    /// The server closed its side; everything it sent has been passed on.
    Upstream,
    /// The client is gone.
    Client,
}

impl RelayEnd {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "server closed the connection",
            Self::Client => "client disconnected",
        }
    }
}

/// Relays until the server has closed or the client is gone. Both sides are closed when it returns.
pub(super) async fn relay<C, U>(client: Conn<C>, upstream: BoundUpstream<U>) -> RelayEnd
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    // What the login left over goes first: held-back bytes one way, ReadyForQuery the other.
    let (mut client, from_client, mut for_client) = client.into_parts();
    let (mut upstream, from_upstream, _) = upstream.conn.into_parts();
    for_client.extend(from_upstream);
    let mut requests = Direction::starting_with(from_client);
    let mut answers = Direction::starting_with(for_client);

    let end = poll_fn(|cx| {
        // A server that no longer reads may still have said why: only its own end of stream ends the session.
        if let Poll::Ready(Done::Source) = requests.poll(cx, &mut client, &mut upstream) {
            return Poll::Ready(RelayEnd::Client);
        }
        answers.poll(cx, &mut upstream, &mut client).map(|done| match done {
            Done::Finished | Done::Source => RelayEnd::Upstream,
            Done::Sink => RelayEnd::Client,
        })
    })
    .await;

    drop(upstream);
    if end == RelayEnd::Upstream {
        Conn::new(client).finish().await;
    }
    end
}

/// How a direction came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    /// The source ended its stream and the sink has taken everything.
    Finished,
    /// Reading failed.
    Source,
    /// Writing failed.
    Sink,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Bytes flow.
    Open,
    /// The source is at its end, the sink has everything, and its stream is to be ended.
    Ending,
    Done(Done),
}

/// One direction of a relay.
struct Direction {
    /// Bytes the sink has not taken, from `sent` on. Empty, and without an allocation, while bytes flow freely.
    pending: Vec<u8>,
    sent: usize,
    progress: Progress,
}

impl Direction {
    fn starting_with(pending: Vec<u8>) -> Self {
        Self { pending, sent: 0, progress: Progress::Open }
    }

    /// Moves bytes until one side has to wait.
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, source: &mut R, sink: &mut W) -> Poll<Done>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            if let Progress::Done(done) = self.progress {
                return Poll::Ready(done);
            }
            if ready!(self.poll_flush(cx, sink)).is_err() {
                self.progress = Progress::Done(Done::Sink);
                continue;
            }
            if self.progress == Progress::Ending {
                let _ = ready!(Pin::new(&mut *sink).poll_shutdown(cx));
                self.progress = Progress::Done(Done::Finished);
                continue;
            }
            self.progress = ready!(self.poll_transfer(cx, source, sink));
        }
    }

    /// One read, and the write of it.
    fn poll_transfer<R, W>(&mut self, cx: &mut Context<'_>, source: &mut R, sink: &mut W) -> Poll<Progress>
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
