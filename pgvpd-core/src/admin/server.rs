//! Connections of administrators: few, and each within limits of time and size, so that slow and hostile clients do no harm. Where all
//! places are taken, a connection that waits for its client gives way to a new one: a probe always gets its answer.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Admin;
use super::pace::Paced;
use crate::logins::Origin;

/// Connections at one time, of all listeners together.
const MAX_CONNECTIONS: usize = 64;

/// Connections of one address.
const MAX_OF_ONE: usize = 32;

/// Connections from which on an answer is the last of its connection.
const MAX_KEPT: usize = 24;

/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client may take to accept more of an answer; `pace` bounds the whole of it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// The most headers of a request.
const MAX_HEADERS: usize = 64;

/// How long accepting pauses when it fails, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who sent a request.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    address: SocketAddr,
    place: Arc<Place>,
}

impl Peer {
    #[cfg(test)]
    fn new(address: SocketAddr) -> Self {
        Self { address, place: Arc::default() }
    }

    /// Its address.
    pub(super) fn ip(&self) -> IpAddr {
        self.address.ip().to_canonical()
    }

    /// Whether it may give way to others from now on: nothing is being done for it.
    pub(super) fn is_waiting(&self, is_waiting: bool) {
        self.place.is_busy.store(!is_waiting, Ordering::Relaxed);
    }
}

/// One connection's place.
#[derive(Debug, Default)]
struct Place {
    /// A request is being answered.
    is_busy: AtomicBool,
    /// It has to give way.
    displaced: CancellationToken,
}

/// The places of all connections, by number.
#[derive(Debug, Default)]
pub(super) struct Places {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    taken: BTreeMap<u64, (Origin, Arc<Place>)>,
}

impl Places {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn taken(&self) -> usize {
        self.state().taken.len()
    }

    /// Takes a place for a connection from this address; the oldest one that waits for its client gives way where there is none. `None`
    /// where all are at work.
    fn take(self: &Arc<Self>, peer: &Peer) -> Option<Taken> {
        let origin = Origin::from(crate::address::ClientAddress::Ip(peer.ip()));
        let state = &mut *self.state();
        let of_it = state.taken.values().filter(|(other, _)| *other == origin).count();
        if of_it >= MAX_OF_ONE || state.taken.len() >= MAX_CONNECTIONS {
            let gives_way = |(other, place): &(Origin, Arc<Place>)| {
                (of_it < MAX_OF_ONE || *other == origin) && !place.is_busy.load(Ordering::Relaxed)
            };
            let oldest = state.taken.iter().find(|(_, entry)| gives_way(entry)).map(|(number, _)| *number)?;
            if let Some((_, place)) = state.taken.remove(&oldest) {
                place.displaced.cancel();
            }
        }
        state.last += 1;
        state.taken.insert(state.last, (origin, Arc::clone(&peer.place)));
        Some(Taken { places: Arc::clone(self), number: state.last })
    }
}

/// A place that is taken. Dropping it gives it back.
#[derive(Debug)]
struct Taken {
    places: Arc<Places>,
    number: u64,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.places.state().taken.remove(&self.number);
    }
}

/// Accepts until the proxy has stopped.
pub(super) async fn accept(listener: TcpListener, app: Router, places: Arc<Places>, admin: Arc<Admin>) {
    let stopped = admin.shared.stopped.clone();
    // A process that takes over the port is the one to ask from then on.
    let closing = if admin.shared.config.load().listen.reuse_port { &admin.shared.draining } else { &stopped };
    while let Some(accepted) = closing.run_until_cancelled(listener.accept()).await {
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(%error, "accept on the admin port");
                closing.run_until_cancelled(tokio::time::sleep(ACCEPT_PAUSE)).await;
                continue;
            }
        };
        let peer = Peer { address, place: Arc::default() };
        let Some(taken) = places.take(&peer) else {
            debug!(client = %address, "too many connections to the admin port");
            continue;
        };
        let (app, stopped) = (app.clone(), stopped.clone());
        admin.shared.background.spawn(async move {
            let displaced = peer.place.displaced.clone();
            let serving = serve(stream, peer, app, Arc::clone(&taken.places));
            stopped.run_until_cancelled(displaced.run_until_cancelled(serving)).await;
            drop(taken);
        });
    }
}

async fn serve<S>(stream: S, peer: Peer, app: Router, places: Arc<Places>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let address = peer.address;
    let app = app.layer(middleware::from_fn_with_state(places, at_work)).layer(Extension(peer));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(Paced::new(Box::pin(stream))), TowerToHyperService::new(app))
        .await;
    if let Err(error) = served {
        debug!(client = %address, %error, "a connection to the admin port ended");
    }
}

/// Notes that a request is being answered, and has its connection closed behind the answer where many are open.
async fn at_work(
    axum::extract::State(places): axum::extract::State<Arc<Places>>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    peer.is_waiting(false);
    let mut response = next.run(request).await;
    peer.is_waiting(true);
    if places.taken() > MAX_KEPT {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::sleep;

    use super::*;

    fn peer(last: u8) -> Peer {
        Peer::new(([192, 0, 2, last], 1).into())
    }

    #[test]
    fn the_oldest_that_waits_gives_way_and_none_that_is_at_work() {
        let places = Arc::new(Places::default());
        let peers: Vec<_> = (0..MAX_CONNECTIONS).map(|number| peer(number as u8 / 16)).collect();
        let _taken: Vec<_> = peers.iter().map(|peer| places.take(peer).expect("a place")).collect();
        peers[0].is_waiting(false);
        let newcomer = peer(9);
        let _one = places.take(&newcomer).expect("another gives way");
        let displaced: Vec<_> = peers.iter().map(|peer| peer.place.displaced.is_cancelled()).collect();
        assert_eq!(displaced.iter().position(|it| *it), Some(1));
        assert_eq!((displaced.iter().filter(|it| **it).count(), places.taken()), (1, MAX_CONNECTIONS));
        peers.iter().for_each(|peer| peer.is_waiting(false));
        newcomer.is_waiting(false);
        assert!(places.take(&peer(10)).is_none());
    }

    #[test]
    fn an_address_has_its_bound_and_gives_way_to_itself() {
        let places = Arc::new(Places::default());
        let peers: Vec<_> = (0..MAX_OF_ONE + 5).map(|_| peer(1)).collect();
        let mut taken: Vec<_> = peers.iter().map(|peer| places.take(peer).expect("a place")).collect();
        assert_eq!(places.taken(), MAX_OF_ONE);
        assert!(peers.iter().take(5).all(|peer| peer.place.displaced.is_cancelled()));
        taken.drain(..5).for_each(drop);
        assert_eq!(places.taken(), MAX_OF_ONE, "a place that was taken over is not given back twice");
        drop(taken);
        assert_eq!(places.taken(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_asks_for_nothing_more_is_closed() {
        let (mut client, server) = tokio::io::duplex(1024);
        let app = Router::new().route("/", get(async || "ok"));
        tokio::spawn(serve(server, peer(1), app, Arc::default()));
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
        let mut answer = String::new();
        let read = tokio::time::timeout(Duration::from_secs(100), client.read_to_string(&mut answer)).await;
        assert!(read.is_ok() && answer.ends_with("ok"), "{answer}");
    }

    /// How much is read of an answer of this size by a client that takes so many bytes every few seconds.
    async fn taken(size: usize, bytes: usize, pause: Duration) -> usize {
        let (mut client, server) = tokio::io::duplex(1024);
        let app = Router::new().route("/", get(async move || "x".repeat(size)));
        let serving = tokio::spawn(serve(server, peer(1), app, Arc::default()));
        // The beginning of another request keeps the connection from being idle.
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\nG").await.expect("sent");
        let (mut buffer, mut taken) = (vec![0; bytes], 0);
        while let Ok(read) = client.read(&mut buffer).await
            && read > 0
        {
            taken += read;
            sleep(pause).await;
        }
        serving.await.expect("served");
        taken
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_trickles_is_left_and_one_that_is_slow_is_not() {
        assert!(taken(100_000, 10, Duration::from_secs(4)).await < 2000);
        let size = 4_000_000;
        assert!(taken(size, 1024, Duration::from_millis(50)).await > size, "20 KiB a second, for three minutes");
    }
}
