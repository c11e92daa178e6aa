//! A connected stream, TCP or Unix, and dialling one.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::config::UpstreamAddress;

/// A dead peer is noticed within about two minutes, which also keeps NAT and firewall state alive.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10));

/// The options that both sides of the proxy have, and its listeners.
pub(super) fn set_options(socket: SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)
}

/// A connected stream.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Wraps a TCP stream with the options that both sides of the proxy have: no delay, keepalive.
    pub(crate) fn tcp(stream: TcpStream) -> io::Result<Self> {
        set_options(SockRef::from(&stream))?;
        Ok(Self::Tcp(stream))
    }

    /// Wraps a TCP stream from a listener that has the options: Linux hands them on, four system calls a client fewer.
    pub(crate) fn accepted(stream: TcpStream) -> io::Result<Self> {
        if cfg!(target_os = "linux") { Ok(Self::Tcp(stream)) } else { Self::tcp(stream) }
    }

    /// True while the peer has neither sent anything that was not read nor closed its side. Asks the kernel, since what the
    /// runtime knows may be older.
    pub(crate) fn is_quiet(&self) -> bool {
        use rustix::io::Errno;
        use rustix::net::{RecvFlags, recv};
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peeked = match self {
            Self::Tcp(stream) => recv(stream, &mut [0; 1], flags),
            Self::Unix(stream) => recv(stream, &mut [0; 1], flags),
        };
        matches!(peeked, Err(Errno::AGAIN | Errno::INTR))
    }

    /// True if nothing between the two ends can listen in: a Unix socket, or a loopback peer.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(stream) => stream.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback()),
        }
    }
}

/// Why the upstream could not be reached. The address is for the log; a client reads only the cause.
#[derive(Debug, thiserror::Error)]
#[error("{}", cause.kind())]
pub(crate) struct ConnectError {
    pub(crate) target: String,
    pub(crate) cause: io::Error,
}

/// Connects to the upstream; of several addresses of a name, the first that answers. The caller sets the deadline.
pub(crate) async fn connect(upstream: &UpstreamAddress) -> Result<Socket, ConnectError> {
    let UpstreamAddress { host, port } = upstream;
    if host.starts_with('/') {
        let path = Path::new(host).join(format!(".s.PGSQL.{port}"));
        let connected = UnixStream::connect(&path).await;
        return connected.map(Socket::Unix).map_err(|cause| ConnectError { target: path.display().to_string(), cause });
    }
    let connected = TcpStream::connect((host.as_str(), *port)).await.and_then(Socket::tcp);
    connected.map_err(|cause| ConnectError { target: format!("{host}:{port}"), cause })
}

macro_rules! either {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Socket::Tcp($stream) => $call,
            Socket::Unix($stream) => $call,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::listen::bind_tcp;

    #[tokio::test]
    async fn both_sides_have_no_delay_and_keepalive() {
        let listener = bind_tcp("127.0.0.1:0".parse().expect("loopback")).expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let upstream = connect(&UpstreamAddress { host: "localhost".into(), port }).await.expect("connected");
        let (accepted, _) = listener.accept().await.expect("accepted");
        for socket in [upstream, Socket::accepted(accepted).expect("options")] {
            let Socket::Tcp(stream) = &socket else { panic!("not TCP") };
            assert!(stream.nodelay().expect("option") && SockRef::from(stream).keepalive().expect("option"));
            assert!(socket.is_local());
        }
    }
}
