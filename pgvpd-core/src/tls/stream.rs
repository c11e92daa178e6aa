//! A TLS stream over TCP. It reads in large pieces, since rustls asks for small ones, and says goodbye when it is dropped.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::ALPN;
use super::certificate;

use crate::tenant::CertificateNames;

/// Bytes asked of the socket at once: four records, which have 16 KiB at most (RFC 8446, section 5.1).
const READ_AHEAD: usize = 64 * 1024;

/// A TLS stream whose handshake is done.
pub(crate) struct TlsSocket {
    stream: Box<TlsStream<ReadAhead>>,
    /// `tls-server-end-point` of the server's certificate (RFC 5929, section 4), where it has one.
    end_point: Option<Arc<[u8]>>,
}

impl std::fmt::Debug for TlsSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsSocket(…)")
    }
}

impl TlsSocket {
    pub(super) fn new(stream: impl Into<TlsStream<ReadAhead>>, end_point: Option<Arc<[u8]>>) -> Self {
        Self { stream: Box::new(stream.into()), end_point }
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.stream.get_ref().0.stream
    }

    /// What a proof is bound to: the data of `tls-server-end-point`, where the certificate has one.
    pub(crate) fn end_point(&self) -> Option<&Arc<[u8]>> {
        self.end_point.as_ref()
    }

    /// What the client's certificate names, where it has shown one that is valid now. It has been verified; where a session is
    /// resumed that was before, and its time may be over since.
    pub(crate) fn peer_names(&self) -> Option<CertificateNames> {
        let (_, session) = self.stream.get_ref();
        let certificate = session.peer_certificates()?.first()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        certificate::check_time(certificate, now).ok().and_then(|()| certificate::names(certificate))
    }

    /// True if both have agreed that this is PostgreSQL's protocol.
    pub(crate) fn has_protocol(&self) -> bool {
        self.stream.get_ref().1.alpn_protocol() == Some(ALPN)
    }

    /// True if nothing that was received is there to be read, and the peer has not said that it leaves.
    pub(crate) fn has_no_plaintext(&self) -> bool {
        let (ahead, session) = self.stream.get_ref();
        session.wants_read() && ahead.is_empty()
    }
}

/// Without a goodbye a server would take its client's end for an attack, and write so in its log.
impl Drop for TlsSocket {
    fn drop(&mut self) {
        match &mut *self.stream {
            TlsStream::Client(stream) => {
                let (ahead, session) = stream.get_mut();
                session.send_close_notify();
                let _ = session.write_tls(&mut AtOnce(&ahead.stream));
            }
            TlsStream::Server(stream) => {
                let (ahead, session) = stream.get_mut();
                session.send_close_notify();
                let _ = session.write_tls(&mut AtOnce(&ahead.stream));
            }
        }
    }
}

/// Writes what the socket takes without waiting.
struct AtOnce<'a>(&'a TcpStream);

impl io::Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for TlsSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = &mut self.get_mut().stream;
        ready!(Pin::new(&mut *stream).poll_read(cx, buf))?;
        // Each read gives one record. Those that have come with it go on with it: fewer, fuller writes.
        while buf.remaining() > 0 && !buf.filled().is_empty() && !stream.get_ref().0.is_empty() {
            let before = buf.filled().len();
            match Pin::new(&mut *stream).poll_read(cx, buf) {
                Poll::Ready(Ok(())) if buf.filled().len() > before => {}
                // What went wrong is found again by the next read: the stream is at its end.
                Poll::Ready(_) | Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TlsSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// A TCP stream that is read in large pieces. It holds a buffer only while that has bytes.
pub(super) struct ReadAhead {
    stream: TcpStream,
    ahead: Vec<u8>,
    taken: usize,
}

impl ReadAhead {
    /// A stream from which these bytes have been read.
    pub(super) fn new(stream: TcpStream, ahead: Vec<u8>) -> Self {
        Self { stream, ahead, taken: 0 }
    }

    fn is_empty(&self) -> bool {
        self.ahead.is_empty()
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, ahead, taken } = self.get_mut();
        if ahead.is_empty() {
            let mut space = [const { MaybeUninit::<u8>::uninit() }; READ_AHEAD];
            let mut chunk = ReadBuf::uninit(&mut space);
            ready!(Pin::new(stream).poll_read(cx, &mut chunk))?;
            let (now, later) = chunk.filled().split_at(chunk.filled().len().min(buf.remaining()));
            buf.put_slice(now);
            ahead.extend_from_slice(later);
            return Poll::Ready(Ok(()));
        }
        let rest = ahead.get(*taken..).unwrap_or_default();
        let now = rest.get(..rest.len().min(buf.remaining())).unwrap_or_default();
        buf.put_slice(now);
        *taken += now.len();
        if *taken >= ahead.len() {
            (*ahead, *taken) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReadAhead {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
