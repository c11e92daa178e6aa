//! Accepting clients, until the proxy drains, and leaving the port to another process.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use crate::net::{Accepted, Door, Listener};
use crate::session;
use crate::shared::Shared;

/// How long accepting pauses when the process or the system is out of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a listener that leaves its port must be quiet: handshakes that have begun there end there.
const HAND_OVER_QUIET: Duration = Duration::from_millis(300);

/// After which connections are steered elsewhere, and then it is closed in any case.
const HAND_OVER_AT_LAST: Duration = Duration::from_secs(1);

/// Accepts until the proxy drains. The listener is closed, and a socket file removed, when it returns.
pub(crate) async fn accept(listener: Listener, door: Door, shared: Arc<Shared>) {
    let mut starved = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.draining.cancelled() => break,
            accepted = listener.accept(door) => accepted,
        };
        match accepted {
            Ok(client) => {
                if std::mem::take(&mut starved) {
                    info!("accepting clients again");
                }
                welcome(client, &shared);
            }
            Err(error) if out_of_resources(&error) => {
                // Said once, not ten times a second.
                if !std::mem::replace(&mut starved, true) {
                    let sessions = shared.sessions.taken();
                    warn!(%error, sessions, "cannot accept clients for now; raise the limit of open files");
                }
                shared.logins.make_room();
                tokio::select! {
                    () = shared.draining.cancelled() => break,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
            // The client was gone before it was accepted.
            Err(error) => debug!(%error, "accept"),
        }
    }
    if shared.config.load().listen.reuse_port {
        // Who stops at once waits for nobody.
        shared.abort.run_until_cancelled(hand_over(&listener, door, &shared)).await;
    }
}

fn welcome(client: Accepted, shared: &Arc<Shared>) {
    shared.counters.count_connection();
    shared.tasks.spawn(session::serve(client, Arc::clone(shared)));
}

/// Leaves the port to another process: new connections are steered there, and those that are this listener's already are served.
/// Closing it would reset them.
async fn hand_over(listener: &Listener, door: Door, shared: &Arc<Shared>) {
    // The second place is that of the process which came after this one. Where connections go on coming, this one is the
    // second itself, and the first is to have them; or it is alone.
    for place in [1, 0] {
        listener.steer_to(place);
        let enough = Instant::now() + HAND_OVER_AT_LAST;
        while Instant::now() < enough {
            match timeout(HAND_OVER_QUIET, listener.accept(door)).await {
                Ok(Ok(client)) => welcome(client, shared),
                Ok(Err(error)) => debug!(%error, "accept"),
                Err(_) => return,
            }
        }
    }
}

fn out_of_resources(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}
