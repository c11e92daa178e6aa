//! A stream with what was received and not used, and what is to be sent.

use std::io;
use std::time::Duration;

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::Socket;
use super::buffer::Buffer;
use crate::tls::{ClientTls, HandshakeError};
use crate::wire::{Frame, Parsed, WireError, frame};

/// Bytes asked of the stream at once.
const READ_SIZE: usize = 2048;

/// How long and how much a closing connection reads on, so that the peer gets what was sent: closing a socket that
/// holds unread bytes resets it, and a reset throws away what is still on its way (RFC 1122, section 4.2.2.13).
const LINGER_TIME: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;

/// One side of a session. Dropping it closes the stream.
pub(crate) struct Conn<S> {
    stream: S,
    inbox: Buffer,
    outbox: Buffer,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conn<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, inbox: Buffer::default(), outbox: Buffer::default() }
    }

    /// The stream.
    pub(crate) fn stream(&self) -> &S {
        &self.stream
    }

    /// The stream, to be closed.
    pub(crate) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The stream, to be relayed; what was received and not used, and what was queued and not sent.
    pub(crate) fn borrow_parts(&mut self) -> (&mut S, Vec<u8>, Vec<u8>) {
        let (received, queued) = (self.inbox.bytes().to_vec(), self.outbox.bytes().to_vec());
        self.inbox.take(usize::MAX);
        self.outbox.take(usize::MAX);
        (&mut self.stream, received, queued)
    }

    /// Bytes received and not used.
    pub(crate) fn received(&self) -> &[u8] {
        self.inbox.bytes()
    }

    /// Drops `n` received bytes.
    pub(crate) fn consume(&mut self, n: usize) {
        self.inbox.take(n);
    }

    /// The size of the whole message at the front of what was received, if it is there.
    pub(crate) fn whole_message(&self, max: usize) -> Result<Option<usize>, WireError> {
        Ok(match frame(self.received(), max)? {
            Parsed::Complete(_, size) => Some(size),
            Parsed::Incomplete => None,
        })
    }

    /// The next whole message: its type and its body; `None` when the stream has ended. Safe to cancel.
    pub(crate) async fn next_message(&mut self, max: usize) -> Result<Option<(u8, Zeroizing<Vec<u8>>)>, WireError> {
        loop {
            if let Parsed::Complete(Frame { tag, body }, size) = frame(self.received(), max)? {
                let message = (tag, Zeroizing::new(body.to_vec()));
                self.consume(size);
                return Ok(Some(message));
            }
            if !matches!(self.fill().await, Ok(1..)) {
                return Ok(None);
            }
        }
    }

    /// Reads once; 0 at the end of the stream. Safe to cancel.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        let spare = self.inbox.spare(READ_SIZE);
        self.stream.read_buf(&mut spare.limit(READ_SIZE)).await
    }

    /// Adds bytes to what is to be sent.
    pub(crate) fn queue(&mut self, bytes: &[u8]) {
        self.outbox.extend(bytes);
    }

    /// Drops what is queued and not sent: whole messages, since [`flush`](Self::flush) has come to its end.
    pub(crate) fn drop_queued(&mut self) {
        self.outbox.take(usize::MAX);
    }

    /// Sends what is queued. Safe to cancel: what was sent is not sent again.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        while !self.outbox.is_empty() {
            match self.stream.write(self.outbox.bytes()).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => self.outbox.take(n),
            }
        }
        // TLS takes bytes before it has sent them; for other streams this is nothing.
        self.stream.flush().await
    }

    /// Sends what is queued, ends the stream, and reads on for a moment so that the peer can read it.
    pub(crate) async fn finish(mut self) {
        let last_words = async {
            self.flush().await?;
            self.stream.shutdown().await?;
            let mut discarded = 0;
            while discarded < LINGER_BYTES {
                self.inbox.take(usize::MAX);
                match self.fill().await? {
                    0 => break,
                    n => discarded += n,
                }
            }
            io::Result::Ok(())
        };
        let _ = tokio::time::timeout(LINGER_TIME, last_words).await;
    }

    /// The stream, what was received and not used, and what was queued and not sent.
    pub(crate) fn into_parts(self) -> (S, Vec<u8>, Vec<u8>) {
        let (received, queued) = (self.inbox.bytes().to_vec(), self.outbox.bytes().to_vec());
        (self.stream, received, queued)
    }
}

impl Conn<Socket> {
    /// Shakes hands with a client. What was received and not used is the beginning of its ClientHello. Where that fails, the
    /// connection is gone.
    pub(crate) async fn accept_tls(&mut self, tls: &ClientTls) -> Result<(), HandshakeError> {
        let received = self.inbox.bytes().to_vec();
        self.inbox.take(usize::MAX);
        let Socket::Tcp(stream) = std::mem::replace(&mut self.stream, Socket::Gone) else {
            return Err(io::Error::from(io::ErrorKind::NotConnected).into());
        };
        self.stream = Socket::Tls(tls.accept(stream, received).await?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_still_sending_gets_the_last_words() {
        let (mut peer, stream) = duplex(64);
        let mut conn = Conn::new(stream);
        conn.queue(b"FATAL");
        let finished = tokio::spawn(conn.finish());
        peer.write_all(&[0; 10_000]).await.expect("what is sent meanwhile is taken");
        peer.shutdown().await.expect("ended");
        let mut last_words = Vec::new();
        peer.read_to_end(&mut last_words).await.expect("read");
        assert_eq!(last_words, b"FATAL");
        finished.await.expect("finished");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_never_stops_or_never_reads_is_left_after_a_moment() {
        let (mut endless, stream) = duplex(64);
        let sending = tokio::spawn(async move { while endless.write_all(&[0; 64]).await.is_ok() {} });
        Conn::new(stream).finish().await;
        sending.await.expect("cut off");
        let (_deaf, stream) = duplex(4);
        let mut conn = Conn::new(stream);
        conn.queue(b"more than it takes");
        conn.finish().await;
    }
}
