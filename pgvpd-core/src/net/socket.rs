//! A connected stream, TCP, TLS or Unix, and dialling one.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::address::{TcpTimes, UpstreamAddress};
use crate::tls::{HandshakeError, TlsSocket};

/// The options that both sides of the proxy have, and its listeners. Keepalive also keeps NAT and firewall state alive.
pub(super) fn set_options(socket: SockRef<'_>, tcp: &TcpTimes) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    // Keepalive sees nothing while sent bytes wait for their acknowledgement; this does.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(seconds(tcp.user_timeout)))?;
    if tcp.keepalive_idle == 0 {
        return socket.set_keepalive(false);
    }
    let keepalive = TcpKeepalive::new()
        .with_time(seconds(tcp.keepalive_idle))
        .with_interval(seconds(tcp.keepalive_interval))
        .with_retries(tcp.keepalive_count.into());
    socket.set_tcp_keepalive(&keepalive)
}

fn seconds(count: u16) -> Duration {
    Duration::from_secs(count.into())
}

/// A connected stream.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(TlsSocket),
    /// A TLS handshake has failed, or is under way.
    Gone,
}

impl Socket {
    /// Wraps a TCP stream from a listener that has the options: Linux hands them on, some system calls a client fewer.
    pub(crate) fn accepted(stream: TcpStream, tcp: &TcpTimes) -> io::Result<Self> {
        if !cfg!(target_os = "linux") {
            set_options(SockRef::from(&stream), tcp)?;
        }
        Ok(Self::Tcp(stream))
    }

    /// True while the peer has neither sent anything that was not read nor closed its side. Asks the kernel, since what the
    /// runtime knows may be older.
    pub(crate) fn is_quiet(&self) -> bool {
        match self {
            Self::Tcp(stream) => has_nothing_to_read(stream),
            Self::Unix(stream) => has_nothing_to_read(stream),
            Self::Tls(stream) => stream.has_no_plaintext() && has_nothing_to_read(stream.tcp()),
            Self::Gone => false,
        }
    }

    /// True if nothing between the two ends can listen in because there is nothing in between: a Unix socket, or a loopback
    /// peer.
    pub(crate) fn is_local(&self) -> bool {
        let is_loopback =
            |stream: &TcpStream| stream.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback());
        match self {
            Self::Unix(_) => true,
            Self::Tcp(stream) => is_loopback(stream),
            Self::Tls(stream) => is_loopback(stream.tcp()),
            Self::Gone => false,
        }
    }

    /// True if a secret may cross it as it is.
    pub(crate) fn is_private(&self) -> bool {
        matches!(self, Self::Tls(_)) || self.is_local()
    }

    /// Has it reset when it is dropped: what the peer still sends finds nobody.
    pub(crate) fn reset_at_close(&self) {
        let linger = |stream: &TcpStream| SockRef::from(stream).set_linger(Some(Duration::ZERO));
        // A Unix socket that is closed takes nothing more.
        let _ = match self {
            Self::Tcp(stream) => linger(stream),
            Self::Tls(stream) => linger(stream.tcp()),
            Self::Unix(_) | Self::Gone => Ok(()),
        };
    }

    /// The TLS stream, if it is one.
    pub(crate) fn tls(&self) -> Option<&TlsSocket> {
        match self {
            Self::Tls(stream) => Some(stream),
            _ => None,
        }
    }
}

fn has_nothing_to_read(socket: impl AsFd) -> bool {
    use rustix::io::Errno;
    use rustix::net::{RecvFlags, recv};
    let peeked = recv(socket, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    matches!(peeked, Err(Errno::AGAIN | Errno::INTR))
}

/// Why the upstream could not be reached. The address is for the log; a client reads only the cause.
#[derive(Debug, thiserror::Error)]
#[error("{}", cause.for_clients())]
pub(crate) struct ConnectError {
    pub(crate) target: String,
    pub(crate) cause: ConnectCause,
}

impl ConnectError {
    /// What to change.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match &self.cause {
            ConnectCause::Io(_) | ConnectCause::Resolve(_) => None,
            ConnectCause::Tls(error) => error.hint(),
        }
    }
}

/// What went wrong on the way.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectCause {
    #[error("cannot resolve the host name: {0}")]
    Resolve(#[source] io::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Tls(#[from] HandshakeError),
}

impl ConnectCause {
    /// Without the server's address, which a certificate's names give away too.
    fn for_clients(&self) -> String {
        match self {
            Self::Resolve(_) => "its host name cannot be resolved".into(),
            Self::Io(error) => described(error),
            Self::Tls(error) => error.for_clients().into(),
        }
    }
}

/// What the system said, in words that hold no address. Some of its errors have a number alone, and no kind.
pub(crate) fn described(error: &io::Error) -> String {
    let kind = error.kind().to_string();
    match error.raw_os_error() {
        Some(number) if kind.starts_with("uncategorized") => io::Error::from_raw_os_error(number).to_string(),
        _ => kind,
    }
}

/// Connects to the upstream; of several addresses of a name, the first that answers. The caller sets the deadline.
pub(crate) async fn connect(upstream: &UpstreamAddress) -> Result<Socket, ConnectError> {
    let UpstreamAddress { host, port, tls, tcp } = upstream;
    if host.starts_with('/') {
        let path = Path::new(host).join(format!(".s.PGSQL.{port}"));
        let connected = UnixStream::connect(&path).await;
        let failed = |cause: io::Error| ConnectError { target: path.display().to_string(), cause: cause.into() };
        return connected.map(Socket::Unix).map_err(failed);
    }
    let failed = |cause| ConnectError { target: format!("{host}:{port}"), cause };
    let resolved = tokio::net::lookup_host((host.as_str(), *port)).await;
    let addresses: Vec<_> = resolved.map_err(|error| failed(ConnectCause::Resolve(error)))?.collect();
    let connected = TcpStream::connect(addresses.as_slice()).await;
    let stream = connected.and_then(|stream| set_options(SockRef::from(&stream), tcp).map(|()| stream));
    let stream = stream.map_err(|error| failed(error.into()))?;
    match tls {
        None => Ok(Socket::Tcp(stream)),
        // Boxed: most connections have none, and would carry its size.
        Some(tls) => {
            let secured = Box::pin(tls.connect(stream, host)).await;
            secured.map(Socket::Tls).map_err(|error| failed(error.into()))
        }
    }
}

macro_rules! either {
    ($self:expr, $stream:ident => $call:expr, $gone:expr) => {
        match $self.get_mut() {
            Socket::Tcp($stream) => $call,
            Socket::Unix($stream) => $call,
            Socket::Tls($stream) => $call,
            Socket::Gone => Poll::Ready($gone),
        }
    };
}

fn gone() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_read(cx, buf), Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write(cx, buf), Err(gone()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_flush(cx), Err(gone()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(cx), Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::listen::{PortRules, bind_tcp};

    #[tokio::test]
    async fn both_sides_have_no_delay_and_the_times_of_the_configuration() {
        let tcp = TcpTimes { keepalive_idle: 7, keepalive_interval: 3, keepalive_count: 2, user_timeout: 11 };
        let rules = PortRules { reuse_port: false, tcp };
        let listener = bind_tcp("127.0.0.1:0".parse().expect("loopback"), rules).expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let upstream =
            connect(&UpstreamAddress { host: "localhost".into(), port, tls: None, tcp }).await.expect("connected");
        let (accepted, _) = listener.accept().await.expect("accepted");
        for socket in [upstream, Socket::accepted(accepted, &tcp).expect("options")] {
            let Socket::Tcp(stream) = &socket else { panic!("not TCP") };
            let options = SockRef::from(stream);
            assert!(stream.nodelay().expect("option") && options.keepalive().expect("option"));
            assert_eq!(options.tcp_keepalive_time().expect("option"), seconds(7));
            assert_eq!(options.tcp_keepalive_interval().expect("option"), seconds(3));
            assert_eq!(options.tcp_keepalive_retries().expect("option"), 2);
            #[cfg(target_os = "linux")]
            assert_eq!(options.tcp_user_timeout().expect("option"), Some(seconds(11)));
            assert!(socket.is_local());
        }
    }
}
