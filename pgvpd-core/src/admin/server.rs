//! Connections of administrators: few, and each within limits of time and size, so that slow and hostile clients do no harm.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tracing::debug;

use super::Admin;

/// Connections at one time, of all listeners together; who comes then is closed.
const MAX_CONNECTIONS: usize = 64;

/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may be silent between two requests; scrapers come every minute or more often.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// How long a client may take to accept more of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// The most headers of a request.
const MAX_HEADERS: usize = 64;

/// How long accepting pauses when it fails, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who sent a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// The places of all connections.
pub(super) fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_CONNECTIONS))
}

/// Accepts until the proxy has stopped.
pub(super) async fn accept(listener: TcpListener, app: Router, places: Arc<Semaphore>, admin: Arc<Admin>) {
    let stopped = admin.shared.stopped.clone();
    // A process that takes over the port is the one to ask from then on.
    let closing = if admin.shared.config.load().listen.reuse_port { &admin.shared.draining } else { &stopped };
    while let Some(accepted) = closing.run_until_cancelled(listener.accept()).await {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(%error, "accept on the admin port");
                closing.run_until_cancelled(tokio::time::sleep(ACCEPT_PAUSE)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            debug!(client = %peer, "too many connections to the admin port");
            continue;
        };
        let (app, stopped) = (app.clone(), stopped.clone());
        admin.shared.background.spawn(async move {
            stopped.run_until_cancelled(serve(stream, peer, app)).await;
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, app: Router) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_read_timeout(Some(IDLE_TIMEOUT));
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let app = app.layer(Extension(Peer(peer)));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(app))
        .await;
    if let Err(error) = served {
        debug!(client = %peer, %error, "a connection to the admin port ended");
    }
}
