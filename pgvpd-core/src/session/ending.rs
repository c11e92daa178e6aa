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

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::config::UpstreamAddress;
use crate::net::Socket;
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

/// Reads on, since a server that waits to send takes no cancel request. True at the end of the stream.
async fn has_closed_within(limit: Duration, upstream: &mut (impl AsyncRead + Unpin)) -> bool {
    let to_the_end = async {
        let mut dropped = vec![0; 16 * 1024];
        while matches!(upstream.read(&mut dropped).await, Ok(1..)) {}
    };
    timeout(limit, to_the_end).await.is_ok()
}
