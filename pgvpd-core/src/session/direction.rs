//! One direction of a relay: bytes are read, looked at, written, and kept where the receiver does not take them.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::relay::{AtEnd, Look, RelayEnd, Watch};

/// Bytes read at once, and the most that a direction ever holds.
const CHUNK: usize = 64 * 1024;

/// How a direction came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Done {
    /// The source ended its stream and the sink has taken everything.
    Finished,
    /// Reading failed.
    Source,
    /// Writing failed.
    Sink,
    /// The watch ended it; the bytes have not been passed on.
    Told(RelayEnd),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    /// Bytes flow.
    Open,
    /// The source is at its end, or has said so; the sink has yet to take everything.
    Ending(Done),
    Done(Done),
}

/// One direction of a relay.
pub(super) struct Direction {
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
    pub(super) has_moved: bool,
}

impl Direction {
    pub(super) fn new(pending: Vec<u8>) -> Self {
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

    /// Goes on with what the watch gives, and reads on where that says so.
    pub(super) fn release(&mut self, look: Look) {
        self.is_held = false;
        if self.has_ended() {
            // The sink has not taken everything, after all.
            self.progress = Progress::Ending(Done::Finished);
        }
        self.pass_on(&[], look);
    }

    /// True when the source has ended and the sink has taken everything.
    pub(super) fn has_ended(&self) -> bool {
        self.progress == Progress::Done(Done::Finished)
    }

    /// Takes bytes in that were read before.
    pub(super) fn take(
        &mut self,
        chunk: &[u8],
        look: impl FnOnce(&[u8]) -> Result<Look, RelayEnd>,
    ) -> Result<(), RelayEnd> {
        if chunk.is_empty() {
            return Ok(());
        }
        let look = look(chunk)?;
        self.pass_on(chunk, look);
        Ok(())
    }

    /// Keeps for the sink what of this chunk is passed on.
    fn pass_on(&mut self, chunk: &[u8], look: Look) {
        match look {
            Look::Pass => self.pending.extend_from_slice(chunk),
            Look::Front(count) => self.pending.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Look::Instead(bytes) => self.pending.extend(bytes),
            Look::Hold(bytes) => {
                self.pending.extend(bytes);
                self.is_held = true;
            }
            Look::Leave(bytes) => {
                self.pending.extend(bytes);
                self.progress = Progress::Ending(Done::Finished);
            }
        }
    }

    /// Ends the sink's stream, once, where it is to be ended.
    pub(super) fn poll_end<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut W,
        watch: &mut impl Watch,
    ) {
        self.sink_is_ended = self.sink_is_ended
            || match watch.at_client_end() {
                AtEnd::EndSink => Pin::new(sink).poll_shutdown(cx).is_ready(),
                AtEnd::LeaveSink => true,
                AtEnd::Later => false,
            };
    }

    /// True while the sink has not taken everything.
    pub(super) fn holds_bytes(&self) -> bool {
        !self.pending.is_empty() || self.is_unflushed
    }

    /// What the sink has not taken.
    pub(super) fn undelivered(&self) -> &[u8] {
        self.pending.get(self.sent..).unwrap_or_default()
    }

    /// Moves bytes until one side has to wait; `look` sees them first.
    pub(super) fn poll<R, W>(
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
        let chunk = match look(chunk) {
            Ok(Look::Pass) => chunk,
            Ok(Look::Front(count)) => chunk.get(..count).unwrap_or_default(),
            Ok(look) => {
                self.pass_on(&[], look);
                return Poll::Ready(std::mem::replace(&mut self.progress, Progress::Open));
            }
            Err(end) => return Poll::Ready(Progress::Done(Done::Told(end))),
        };
        if chunk.is_empty() {
            return Poll::Ready(Progress::Open);
        }
        self.is_unflushed = true;
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
