//! One client connection, from accept to close.
//!
//! ```text
//! accept ─► negotiate ─┬─► cancel: forwarded, end
//!                      └─► admit ─┬─► passthrough: login, relay, close
//!                                 └─► pooled: authenticate, lease, relay, reset
//! ```

mod admit;
mod authenticate;
mod hearing;
mod keeper;
mod leg;
mod login;
mod login_error;
mod login_statement;
mod login_terms;
mod negotiate;
mod passthrough;
mod pooled;
mod proved;
mod proxied;
mod relay;
mod time_limit;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info, warn};

pub(crate) use login_error::LoginError;

use self::admit::Route;
use self::negotiate::Greeting;
use self::passthrough::{Established, Framed, Oversight};
use self::pooled::PooledSession;
use self::relay::{RelayEnd, Unwatched, relay, stopped};
use self::time_limit::TimeLimit;
use self::watch::SessionWatch;
use crate::cancel::CancelEntry;
use crate::config::ClientAddress;
use crate::error::Refusal;
use crate::net::{Accepted, Conn, Door, Socket};
use crate::resolve::{Membership, ResolveError};
use crate::shared::Shared;
use crate::tls::HandshakeError;
use crate::wire::SqlState;

/// Why a connection ends without having been relayed.
#[derive(Debug)]
enum Ended {
    /// The client is told why.
    Refused { refusal: Refusal, detail: Option<String> },
    /// The server's own error is queued for the client. For the log: what it said.
    PassedOn(String),
    /// The client is gone with its TLS handshake, which has told it.
    Handshake(HandshakeError),
    /// Nobody is left to tell.
    ClientGone,
    /// A cancel request was served.
    Cancelled,
}

impl From<Refusal> for Ended {
    fn from(refusal: Refusal) -> Self {
        Self::Refused { refusal, detail: None }
    }
}

impl From<LoginError> for Ended {
    fn from(error: LoginError) -> Self {
        // Where the upstream is, and what the system said of it, is for the log alone.
        let detail = match &error {
            LoginError::Connect(connect) => Some(format!("{}: {}", connect.target, connect.cause)),
            _ => None,
        };
        Self::Refused { refusal: Refusal::from(&error), detail }
    }
}

impl From<ResolveError> for Ended {
    fn from(error: ResolveError) -> Self {
        Self::Refused { refusal: Refusal::from(&error), detail: Some(error.to_string()) }
    }
}

/// A session that is ready to be relayed.
enum Session {
    Passthrough(Box<Established>),
    Pooled(Box<PooledSession>),
}

/// Serves one client until it leaves, the server does, or the proxy stops.
pub(crate) async fn serve(accepted: Accepted, shared: Arc<Shared>) {
    let Accepted { socket, mut address, door } = accepted;
    let mut client = Conn::new(socket);
    // The login's state is large and short-lived: boxed, it does not weigh on the sessions that are relayed.
    match Box::pin(handshake(&mut client, &mut address, door, &shared)).await {
        Ok(Session::Passthrough(established)) => run(client, *established, &shared).await,
        // Nor does that of pooled sessions weigh on those of passthrough.
        Ok(Session::Pooled(session)) => Box::pin(pooled::run(client, *session, &shared)).await,
        Err(ended) => close(client, ended, address, &shared).await,
    }
}

/// Everything up to a ready session, within `handshake_timeout`. `address` becomes that of the client where a load
/// balancer names it.
async fn handshake(
    client: &mut Conn<Socket>,
    address: &mut ClientAddress,
    door: Door,
    shared: &Arc<Shared>,
) -> Result<Session, Ended> {
    let config = shared.config.load_full();
    let Some(_greeting) = shared.greetings.enter(config.max_client_connections) else {
        return Err(Refusal::too_many_clients(config.max_client_connections).into());
    };
    let work = async {
        match proxied::client_address(client, *address, &config.proxy_protocol).await {
            Ok(client_address) => *address = client_address,
            Err(ended) => {
                // A client shows its user no error that answers an SSLRequest (CVE-2024-10977): it is let say first
                // whom it wants to be.
                let _ = negotiate::negotiate(client, door, &config).await;
                return Err(ended);
            }
        }
        match negotiate::negotiate(client, door, &config).await? {
            Greeting::Cancel(request) => {
                shared.cancels.forward(request).await;
                Err(Ended::Cancelled)
            }
            Greeting::Startup(message, leg) => {
                let mut admission = admit::admit(message, *address, leg, shared, &config)?;
                match admission.take_route() {
                    Route::Passthrough { packet, database } => {
                        let way = passthrough::Way { packet: &packet, database: &database };
                        let established = passthrough::establish(client, admission, way, shared, &config).await;
                        established.map(|session| Session::Passthrough(Box::new(session)))
                    }
                    Route::Pool { database } => {
                        let established = pooled::establish(client, admission, &database, shared, &config).await;
                        established.map(|session| Session::Pooled(Box::new(session)))
                    }
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = shared.abort.cancelled() => Err(Refusal::shutting_down().into()),
        outcome = tokio::time::timeout(config.handshake_timeout, work) => {
            outcome.unwrap_or_else(|_| Err(Refusal::handshake_timeout().into()))
        }
    }
}

/// Relays an established session and closes both sides.
async fn run(client: Conn<Socket>, established: Established, shared: &Arc<Shared>) {
    let Established { session, seat, cancel, oversight, membership } = established;
    seat.started();
    let stop = ends(shared, membership);
    let end = match oversight {
        Oversight::Raw => relay(client, session, &mut Unwatched, stop).await,
        Oversight::Framed(framed) => {
            let Framed { query_timeout, cancel_timeout, keeper, hearing } = *framed;
            let canceller = canceller(cancel.as_ref(), cancel_timeout, shared);
            let limit = query_timeout.map(|timeout| TimeLimit::new(timeout, canceller));
            // Boxed, so that raw sessions do not carry its size.
            let mut watch = Box::new(SessionWatch::new(limit).keeping(keeper).hearing(hearing));
            relay(client, session, &mut *watch, stop).await
        }
    };
    seat.ended(&end);
}

/// When a session of passthrough has to end, and why: the proxy stops, or what let the client in has changed.
async fn ends(shared: &Shared, membership: Option<Membership>) -> RelayEnd {
    let changed = async {
        match membership {
            Some(mut membership) => _ = membership.changed().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        end = stopped(&shared.abort) => end,
        () = changed => RelayEnd::Refused(Refusal::context_changed()),
    }
}

/// What cancels a session's query when it is called. The request goes out on a connection of its own, beside the session.
fn canceller(entry: Option<&CancelEntry>, timeout: Duration, shared: &Arc<Shared>) -> impl Fn() + Send + 'static {
    let (request, shared) = (entry.map(CancelEntry::request), Arc::clone(shared));
    move || {
        let Some(request) = request.clone() else { return };
        let (cancels, stop) = (Arc::clone(&shared.cancels), shared.abort.clone());
        shared.tasks.spawn(async move {
            let forwarded = tokio::time::timeout(timeout, cancels.forward(request));
            // A proxy that stops does not wait for it.
            if let Some(Err(_)) = stop.run_until_cancelled(forwarded).await {
                warn!("cancel request for tenant_query_timeout: no answer from the upstream server");
            }
        });
    }
}

/// Tells the client why there is no session, writes the log, and closes.
async fn close(mut client: Conn<Socket>, ended: Ended, address: ClientAddress, shared: &Shared) {
    match ended {
        Ended::ClientGone => {
            debug!(client = %address, "client left before the session was ready");
            return;
        }
        Ended::Handshake(error) => {
            shared.counters.count_refused();
            info!(client = %address, %error, "TLS handshake failed");
            return;
        }
        Ended::Cancelled => {}
        Ended::PassedOn(error) => {
            shared.counters.count_refused();
            info!(client = %address, error, "login refused by the upstream server");
        }
        Ended::Refused { refusal, detail } => {
            shared.counters.count_refused();
            let detail = detail.unwrap_or_default();
            match refusal.code {
                SqlState::CONNECTION_FAILURE => warn!(client = %address, error = %refusal, detail, "login failed"),
                _ => info!(client = %address, error = %refusal, detail, "login refused"),
            }
            let mut message = Vec::new();
            refusal.encode(&mut message);
            client.queue(&message);
        }
    }
    client.finish().await;
}

#[cfg(test)]
mod tests;
