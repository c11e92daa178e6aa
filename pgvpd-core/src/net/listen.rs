//! Binding the listeners and accepting from them.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, UnixListener, lookup_host};
use tracing::{debug, warn};

use super::address::{Listen, TcpTimes};
use super::socket::set_options;
use super::{Socket, steering};
use crate::address::ClientAddress;

/// Connections that the kernel may hold until they are accepted; it caps this at `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The host name has no address.
    #[error("cannot resolve listen_host {host:?}: {cause}; give an address such as 127.0.0.1")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        cause: io::Error,
    },
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {cause}; change port, tls_port or listen_host, or stop what uses it")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        cause: io::Error,
    },
    /// The socket file cannot be made.
    #[error("cannot listen on Unix socket {}: {cause}; check listen_unix_dir and its permissions", path.display())]
    Unix {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

/// How a TCP port is listened on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PortRules {
    /// Other processes may, too.
    pub(crate) reuse_port: bool,
    /// When connections count as lost.
    pub(crate) tcp: TcpTimes,
}

impl PortRules {
    /// Those of the listeners, the administrators' too.
    pub(crate) fn of(listen: &Listen) -> Self {
        Self { reuse_port: listen.reuse_port, tcp: listen.tcp }
    }
}

/// An open listener.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp { listener: TcpListener, tcp: TcpTimes },
    Unix { listener: UnixListener, _file: SocketFile },
}

/// A client that has connected.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) socket: Socket,
    pub(crate) address: ClientAddress,
    pub(crate) door: Door,
}

/// Where a client came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// `port`, or the Unix socket.
    Main,
    /// `tls_port`.
    Tls,
}

/// Everything that is listened on.
#[derive(Debug)]
pub(crate) struct Bound {
    /// The first address of `listen_host`, with the port that was chosen where 0 was asked for.
    pub(crate) address: SocketAddr,
    /// The same of `tls_port`.
    pub(crate) tls_address: Option<SocketAddr>,
    pub(crate) listeners: Vec<(Listener, Door)>,
}

/// Opens a listener for each address of the host, then those of `tls_port`, then the Unix socket.
pub(crate) async fn bind(listen: &Listen) -> Result<Bound, BindError> {
    let main = |listener| (listener, Door::Main);
    let rules = PortRules::of(listen);
    let (address, found) = bind_port(&listen.host, listen.port, rules).await?;
    let mut listeners: Vec<_> = found.into_iter().map(main).collect();
    let mut tls_address = None;
    if let Some(port) = listen.tls_port {
        let (address, found) = bind_port(&listen.host, port, rules).await?;
        tls_address = Some(address);
        listeners.extend(found.into_iter().map(|listener| (listener, Door::Tls)));
    }
    // Last, since it takes the place of another process's where the port is shared.
    if let Some(directory) = &listen.unix_dir {
        let path = directory.join(format!(".s.PGSQL.{}", address.port()));
        let (listener, file) = bind_unix(&path, listen.reuse_port).map_err(|cause| BindError::Unix { path, cause })?;
        listeners.push(main(Listener::Unix { listener, _file: file }));
    }
    Ok(Bound { address, tls_address, listeners })
}

/// The listener of administrators.
#[derive(Debug)]
pub(crate) struct BoundAdmin {
    /// Its first address.
    pub(crate) address: SocketAddr,
    #[cfg_attr(not(feature = "admin"), expect(dead_code, reason = "nothing is served there without the feature"))]
    pub(crate) listeners: Vec<TcpListener>,
}

/// Opens the listener of administrators, where there is to be one.
pub(crate) async fn bind_admin(
    host: &str,
    port: Option<u16>,
    rules: PortRules,
) -> Result<Option<BoundAdmin>, BindError> {
    let Some(port) = port else { return Ok(None) };
    let (address, listeners) = bind_port(host, port, rules).await?;
    let tcp = |listener| match listener {
        Listener::Tcp { listener, .. } => Some(listener),
        Listener::Unix { .. } => None,
    };
    Ok(Some(BoundAdmin { address, listeners: listeners.into_iter().filter_map(tcp).collect() }))
}

async fn bind_port(host: &str, port: u16, rules: PortRules) -> Result<(SocketAddr, Vec<Listener>), BindError> {
    let resolve = |cause| BindError::Resolve { host: host.into(), cause };
    let mut addresses: Vec<SocketAddr> = lookup_host((host, port)).await.map_err(resolve)?.collect();
    addresses.sort_by_key(|address| address.is_ipv6());
    addresses.dedup();
    bind_addresses(addresses, rules, || resolve(io::ErrorKind::NotFound.into()))
}

/// Binds them all to one port. An address that this machine does not have is passed over as long as there is another:
/// `localhost` names `::1` in containers without IPv6 too.
fn bind_addresses(
    addresses: Vec<SocketAddr>,
    rules: PortRules,
    no_address: impl FnOnce() -> BindError,
) -> Result<(SocketAddr, Vec<Listener>), BindError> {
    let mut listeners = Vec::new();
    let mut first: Option<SocketAddr> = None;
    let mut absent = None;
    for mut address in addresses {
        if let Some(first) = first {
            address.set_port(first.port());
        }
        let bound = bind_tcp(address, rules).and_then(|listener| Ok((listener.local_addr()?, listener)));
        match bound {
            Ok((local, listener)) => {
                first.get_or_insert(local);
                listeners.push(Listener::Tcp { listener, tcp: rules.tcp });
            }
            Err(cause) if is_absent(&cause) => {
                warn!(%address, %cause, "not listening on an address that this machine does not have");
                absent = Some(BindError::Tcp { address, cause });
            }
            Err(cause) => return Err(BindError::Tcp { address, cause }),
        }
    }
    match first {
        Some(first) => Ok((first, listeners)),
        None => Err(absent.unwrap_or_else(no_address)),
    }
}

fn is_absent(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT))
}

pub(super) fn bind_tcp(address: SocketAddr, rules: PortRules) -> io::Result<TcpListener> {
    let PortRules { reuse_port, tcp } = rules;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    set_options(SockRef::from(&socket), &tcp)?;
    socket.set_reuseaddr(true)?;
    if reuse_port {
        socket.set_reuseport(true)?;
    }
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    if reuse_port && let Err(error) = steering::to_all(&listener) {
        debug!(%error, "connections cannot be steered among processes");
    }
    Ok(listener)
}

/// A socket file left by a process that died is replaced; one that somebody answers on only where the port is shared.
fn bind_unix(path: &Path, reuse_port: bool) -> io::Result<(UnixListener, SocketFile)> {
    if reuse_port {
        return bind_unix_over(path);
    }
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            _ => return Err(io::ErrorKind::AddrInUse.into()),
        }
    }
    let listener = UnixListener::bind(path)?;
    permit_all(path)?;
    Ok((listener, SocketFile::new(path)?))
}

/// Takes the place of a socket file without a moment in which there is none. Who has connected to the other one is its owner's.
fn bind_unix_over(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let is_other = std::fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket());
    // PostgreSQL's own sockets have a lock file beside them.
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    if is_other || Path::new(&lock).exists() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    if std::fs::symlink_metadata(&beside).is_ok_and(|found| found.file_type().is_socket()) {
        std::fs::remove_file(&beside)?;
    }
    let listener = UnixListener::bind(&beside)?;
    let placed = permit_all(&beside).and_then(|()| std::fs::rename(&beside, path));
    if let Err(error) = placed {
        let _ = std::fs::remove_file(&beside);
        return Err(error);
    }
    Ok((listener, SocketFile::new(path)?))
}

fn permit_all(path: &Path) -> io::Result<()> {
    // PostgreSQL's own default, unix_socket_permissions = 0777: the login decides, not the file.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))
}

/// Removes the socket file when dropped, unless another process has put its own there since.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.into(), inode: std::fs::symlink_metadata(path)?.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Listener {
    /// Has other processes that listen on the port get the next connections: the one in this place of the port's. False where
    /// that is not possible, or not needed.
    pub(crate) fn steer_to(&self, place: u32) -> bool {
        match self {
            Self::Tcp { listener, .. } => steering::to_place(listener, place)
                .inspect_err(|error| debug!(%error, "connections cannot be steered to another process"))
                .is_ok(),
            Self::Unix { .. } => false,
        }
    }

    /// The next client, which comes in by this door. Safe to cancel.
    pub(crate) async fn accept(&self, door: Door) -> io::Result<Accepted> {
        match self {
            Self::Tcp { listener, tcp } => {
                let (stream, peer) = listener.accept().await?;
                Ok(Accepted { socket: Socket::accepted(stream, tcp)?, address: ClientAddress::Ip(peer.ip()), door })
            }
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok(Accepted { socket: Socket::Unix(stream), address: ClientAddress::Unix, door })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the range kept for documentation (RFC 5737), so that no machine has it.
    const ABSENT: &str = "192.0.2.1:0";

    fn bind_these(addresses: &[&str]) -> Result<(SocketAddr, Vec<Listener>), BindError> {
        let addresses = addresses.iter().map(|address| address.parse().expect("address")).collect();
        bind_addresses(addresses, PortRules::default(), || panic!("there are addresses"))
    }

    #[tokio::test]
    async fn an_address_that_the_machine_does_not_have_is_passed_over_only_beside_another() {
        for addresses in [["127.0.0.1:0", ABSENT], [ABSENT, "127.0.0.1:0"]] {
            let (first, listeners) = bind_these(&addresses).expect("the other one is bound");
            assert!(first.ip().is_loopback() && first.port() != 0 && listeners.len() == 1);
        }
        assert!(matches!(bind_these(&[ABSENT]), Err(BindError::Tcp { .. })));
    }

    #[tokio::test]
    async fn only_a_socket_that_is_not_postgresqls_is_taken_over() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(".s.PGSQL.1");
        std::fs::write(&path, "a file").expect("written");
        assert!(bind_unix(&path, true).is_err(), "somebody's file");
        std::fs::remove_file(&path).expect("removed");
        let first = bind_unix(&path, true).expect("the first");
        let second = bind_unix(&path, true).expect("it takes over");
        drop(first);
        assert!(path.exists(), "the file is the second one's");
        std::fs::write(directory.path().join(".s.PGSQL.1.lock"), "1").expect("written");
        assert!(bind_unix(&path, true).is_err(), "PostgreSQL's");
        drop(second);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn several_addresses_share_a_port_and_one_that_is_taken_is_an_error() {
        let (first, listeners) = bind_these(&["127.0.0.1:0", "127.0.0.2:0"]).expect("bound");
        assert_eq!(listeners.len(), 2);
        let taken = format!("127.0.0.2:{}", first.port());
        assert!(bind_these(&["127.0.0.3:0", &taken]).is_ok(), "the port follows the first address");
        assert!(matches!(bind_these(&[&taken]), Err(BindError::Tcp { .. })));
    }
}
