//! What a backend still does for a session that is over: it is cancelled, and the backend is closed.
//!
//! ```text
//! end of stream ─► closed by the server? ─► cancel ─► closed? ─► reset, cancel a few times more
//!                        └──────────────── done ────────┘
//! ```
//!
//! PostgreSQL looks at its client only when it reads or writes. A cancel request ends the statement that runs when it
//! arrives, and does nothing to a backend that has yet to read one. So the server's own end of stream is waited for; where
//! it does not come, statements wait behind the one that was cancelled, and the connection is reset: the next answer finds no
//! client, and the backend ends before it begins another statement.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::config::Config;
use crate::net::UpstreamAddress;
use crate::net::{Conn, Socket};
use crate::pool::Lease;
use crate::shared::Shared;
use crate::wire::CancelKey;

/// All of it. A server that is out of reach keeps nobody's place for longer.
const WORK_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a backend that may be idle has to close by itself, so that most sessions end without a cancel request.
const IDLE_GRACE: Duration = Duration::from_millis(20);

/// How long one has to close after a cancel request.
const CANCEL_GRACE: Duration = Duration::from_millis(50);

/// The pauses behind the cancel requests that follow a reset: nothing says when such a backend has ended.
const RESET_PAUSES: [Duration; 4] =
    [Duration::from_millis(20), Duration::from_millis(50), Duration::from_millis(100), Duration::from_millis(200)];

/// A backend of a session that is over.
pub(super) struct Backend<'a> {
    /// Its own cancel key, whatever the client was given.
    pub(super) key: Option<&'a CancelKey>,
    pub(super) address: &'a UpstreamAddress,
    /// It is known that the server owes an answer.
    pub(super) is_busy: bool,
}

impl Backend<'_> {
    /// Ends what it does, and resolves when that is over or after a few seconds. The connection is of no use then.
    pub(super) async fn end(self, upstream: &mut Socket, shared: &Shared) {
        if timeout(WORK_TIMEOUT, self.end_at_last(upstream, shared)).await.is_err() {
            debug!("a backend whose session is over has not ended in time");
        }
        upstream.reset_at_close();
    }

    async fn end_at_last(self, upstream: &mut Socket, shared: &Shared) {
        // Over TLS a goodbye goes first, which a server that does not read keeps waiting.
        let _ = timeout(IDLE_GRACE, upstream.shutdown()).await;
        if !self.is_busy && has_closed_within(IDLE_GRACE, upstream).await {
            return;
        }
        let Some(key) = self.key else { return };
        shared.cancels.cancel_backend(key, self.address).await;
        if has_closed_within(CANCEL_GRACE, upstream).await {
            return;
        }
        upstream.reset_at_close();
        *upstream = Socket::Gone;
        for pause in RESET_PAUSES {
            shared.cancels.cancel_backend(key, self.address).await;
            sleep(pause).await;
        }
    }
}

/// A server connection of the proxy's.
pub(super) trait Connected: Send + 'static {
    /// Its stream, and its backend's own cancel key as far as that is known.
    fn parts(&mut self) -> (&mut Socket, Option<CancelKey>);
}

/// One on which a client logs in.
pub(super) struct Fresh {
    pub(super) conn: Conn<Socket>,
    /// `None` until the server has told it.
    pub(super) key: Option<CancelKey>,
}

impl Connected for Fresh {
    fn parts(&mut self) -> (&mut Socket, Option<CancelKey>) {
        (self.conn.stream_mut(), self.key.clone())
    }
}

impl Connected for Lease {
    fn parts(&mut self) -> (&mut Socket, Option<CancelKey>) {
        let key = self.cancel_key().cloned();
        (Self::parts(self).0.stream_mut(), key)
    }
}

/// The server connection of a login that is not finished. Where it is dropped before that, for whatever reason, what its backend
/// does is ended by a task of its own: a resolver's query, or a lock that a login waits for, must not outlive it.
pub(super) struct Unfinished<T: Connected> {
    connected: Option<T>,
    shared: Arc<Shared>,
    config: Arc<Config>,
}

impl<T: Connected> Unfinished<T> {
    pub(super) fn new(connected: T, shared: &Arc<Shared>, config: &Arc<Config>) -> Self {
        Self { connected: Some(connected), shared: Arc::clone(shared), config: Arc::clone(config) }
    }

    /// The connection, for the session; the login is finished.
    pub(super) fn finish(mut self) -> T {
        self.connected.take().unwrap_or_else(|| unreachable!("only `finish` takes it"))
    }
}

impl<T: Connected> Deref for Unfinished<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.connected.as_ref().unwrap_or_else(|| unreachable!("only `finish` takes it"))
    }
}

impl<T: Connected> DerefMut for Unfinished<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.connected.as_mut().unwrap_or_else(|| unreachable!("only `finish` takes it"))
    }
}

impl<T: Connected> Drop for Unfinished<T> {
    fn drop(&mut self) {
        let Some(mut connected) = self.connected.take() else { return };
        // Before a backend tells its key it runs nothing: it reads what its client says, and finds the end.
        // With a runtime that ends, everything ends.
        if connected.parts().1.is_none() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let (shared, config) = (Arc::clone(&self.shared), Arc::clone(&self.config));
        self.shared.tasks.spawn(async move {
            let (socket, key) = connected.parts();
            let backend = Backend { key: key.as_ref(), address: &config.upstream, is_busy: false };
            backend.end(socket, &shared).await;
        });
    }
}

/// Reads on, since a server that waits to send takes no cancel request. True at the end of the stream.
async fn has_closed_within(limit: Duration, upstream: &mut (impl AsyncRead + Unpin)) -> bool {
    let to_the_end = async {
        let mut dropped = vec![0; 16 * 1024];
        while matches!(upstream.read(&mut dropped).await, Ok(1..)) {}
    };
    timeout(limit, to_the_end).await.is_ok()
}
