//! Who has the admin port: this process, or for a while one that it follows. A proxy that drains answers there to its end, so that it
//! can be watched; the one that is started meanwhile serves clients, and takes the port over when that has ended.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::config::Config;
use crate::net::Addresses;
use crate::net::BindError;
use crate::net::{BoundAdmin, PortRules, bind_admin};
use crate::shared::Shared;

/// How long the process that has the port may take to say what it is.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the port is tried while another process has it.
const RETRY: Duration = Duration::from_millis(200);

/// What `/ready` answers in a proxy that drains.
const DRAINING: &str = "not ready: draining";

/// Where the admin API is.
pub(crate) enum AdminPort {
    /// Nowhere.
    None,
    /// On these listeners.
    Open(BoundAdmin),
    /// At this address, when the proxy that drains there has ended.
    Later(SocketAddr),
}

impl AdminPort {
    /// Opens it where the configuration says.
    pub(crate) async fn open(config: &Config) -> Result<Self, BindError> {
        match bind_admin(&config.admin.host, config.admin.port, PortRules::of(&config.listen)).await {
            Ok(bound) => Ok(bound.map_or(Self::None, Self::Open)),
            Err(BindError::Tcp { address, cause })
                if cause.kind() == ErrorKind::AddrInUse && is_of_a_draining_proxy(address).await =>
            {
                Ok(Self::Later(address))
            }
            Err(error) => Err(error),
        }
    }

    /// The address that is, or will be, listened on.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::None => None,
            Self::Open(bound) => Some(bound.address),
            Self::Later(address) => Some(*address),
        }
    }

    /// Serves, from now on or as soon as the port is free.
    pub(crate) fn serve(self, addresses: Addresses, shared: &Arc<Shared>) {
        match self {
            Self::None => {}
            Self::Open(bound) => serve(bound, addresses, shared),
            Self::Later(address) => {
                info!(%address, "the admin port is still that of a proxy that drains; this one answers there when it has ended");
                let following = follow(addresses, Arc::clone(shared));
                let stopped = shared.stopped.clone();
                shared.background.spawn(async move { stopped.run_until_cancelled(following).await });
            }
        }
    }
}

/// Waits for the port, and serves.
async fn follow(addresses: Addresses, shared: Arc<Shared>) {
    let config = shared.config.load_full();
    loop {
        sleep(RETRY).await;
        match bind_admin(&config.admin.host, config.admin.port, PortRules::of(&config.listen)).await {
            Ok(Some(bound)) => {
                info!(address = %bound.address, "the admin port is this proxy's now");
                return serve(bound, addresses, &shared);
            }
            Ok(None) => return,
            Err(BindError::Tcp { cause, .. }) if cause.kind() == ErrorKind::AddrInUse => {}
            Err(error) => return warn!(%error, "the admin port cannot be opened"),
        }
    }
}

#[cfg(feature = "admin")]
fn serve(bound: BoundAdmin, addresses: Addresses, shared: &Arc<Shared>) {
    crate::admin::serve(bound, addresses, shared);
}

#[cfg(not(feature = "admin"))]
fn serve(_: BoundAdmin, _: Addresses, _: &Arc<Shared>) {}

/// True where what listens there says that it is a proxy that drains. What else it may be keeps the port, and the start fails.
async fn is_of_a_draining_proxy(address: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.take(4096).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).contains(DRAINING))
    };
    matches!(timeout(ASK_TIMEOUT, ask).await, Ok(Ok(true)))
}
