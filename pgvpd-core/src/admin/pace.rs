//! How long an admin connection may last between two requests, and while its client takes an answer: a client that takes a few bytes now
//! and then must not keep it for good.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// How long a connection may be silent between two requests; scrapers come every minute or more often.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// How long a client may take to accept an answer, whatever its size.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// So many bytes that are taken add a second to it: slow links have the time that large answers need.
const SLOWEST: u64 = 16 * 1024;

/// A stream that fails where these times have passed. An answer lasts from its first write until a flush finds nothing left.
#[derive(Debug)]
pub(super) struct Paced<S> {
    stream: S,
    answer: Option<Answer>,
    /// There while the client is silent, and has no answer to take.
    idle: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
struct Answer {
    begun: Instant,
    taken: u64,
    /// There once the answer has had to wait.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, answer: None, idle: None }
    }

    fn answer(&mut self) -> &mut Answer {
        self.answer.get_or_insert_with(|| Answer { begun: Instant::now(), taken: 0, timer: None })
    }

    fn wrote(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => self.answer().taken += bytes as u64,
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.answer().may_wait(cx)?,
        }
        written
    }
}

impl Answer {
    /// An error when its time is over; until then the task is woken when it will be.
    fn may_wait(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let deadline = self.begun + ANSWER_TIMEOUT + Duration::from_secs(self.taken / SLOWEST);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::TimedOut, "the answer is taken too slowly")),
            Poll::Pending => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_ready() || self.answer.is_some() {
            self.idle = None;
            return read;
        }
        let idle = self.idle.get_or_insert_with(|| Box::pin(sleep(IDLE_TIMEOUT)));
        match idle.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing is asked for"))),
            Poll::Pending => read,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.wrote(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        match flushed {
            Poll::Ready(_) => self.answer = None,
            Poll::Pending => self.answer().may_wait(cx)?,
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
