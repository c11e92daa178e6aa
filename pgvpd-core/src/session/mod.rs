//! One client connection, from accept to close.
//!
//! ```text
//! accept ─► negotiate ─┬─► cancel: forwarded, end
//!                      ├─► console: authenticate, serve an administrator
//!                      └─► admit ─┬─► passthrough: login, relay, close
//!                                 └─► pooled: authenticate, lease, relay, reset
//! ```

mod admit;
mod authenticate;
mod console;
mod direction;
mod ending;
mod gate;
mod hearing;
mod keeper;
mod leg;
mod login;
mod login_error;
mod login_terms;
mod negotiate;
mod passthrough;
mod pooled;
mod prepared;
mod proved;
mod proxied;
mod relay;
mod server;
mod time_limit;
mod visitor;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::{Instrument, Level, debug, info, warn};

pub(crate) use login_error::LoginError;

use self::admit::{Admission, BypassLogin, Route, TenantLogin};
use self::ending::Backend;
use self::login::Who;
use self::negotiate::Greeting;
use self::passthrough::{Established, Framed, Oversight, RelayedLogin};
use self::pooled::{PooledLogin, PooledSession};
use self::relay::{RelayEnd, Unwatched, relay, stopped};
use self::time_limit::TimeLimit;
use self::visitor::Visitor;
use self::watch::SessionWatch;
use crate::audit::{AuditError, Event, Subject};
use crate::cancel::CancelEntry;
use crate::config::Config;
use crate::console::{Administrator, Console};
use crate::error::Refusal;
use crate::logins::Attempt;
use crate::logins::{Bounds, Displaced};
use crate::net::{Accepted, Conn, Door, Socket};
use crate::repeats::Failure;
use crate::resolve::{Membership, ResolveError};
use crate::sessions::Record;
use crate::shared::Shared;
use crate::tls::HandshakeError;
use crate::wire::{CancelRequest, SqlState};

/// Why a connection ends without having been relayed.
#[derive(Debug)]
enum Ended {
    /// The client is told why.
    Refused { refusal: Refusal, detail: Option<String> },
    /// The server's own error is queued for the client. For the log: what it said.
    PassedOn(String),
    /// The proof was wrong: the client is told so, as this says, when the delay for such attempts is over.
    WrongProof { attempt: Box<Attempt>, told: Box<Ended> },
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

impl From<Displaced> for Ended {
    fn from(_: Displaced) -> Self {
        Refusal::too_many_logins().into()
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
    Console(Box<Console>),
}

/// A client that is not let in.
struct TurnedAway {
    visitor: Visitor,
    ended: Ended,
}

impl Session {
    /// What the audit stream says of it.
    fn event(&self) -> Event<'_> {
        let record = match self {
            Self::Passthrough(established) => established.slots.record(),
            Self::Pooled(session) => session.record(),
            Self::Console(console) => {
                let Administrator { id, user, address, is_tls, .. } = console.who();
                let claims = (Some(&**user), Some(crate::console::DATABASE));
                return Event::ConsoleLogin(Subject::claiming(*id, claims, *address, *is_tls));
            }
        };
        let subject = Subject::of(record);
        match subject.tenant {
            Some(_) => Event::LoginAccepted(subject),
            None => Event::SuperuserBypass(subject),
        }
    }
}

/// Serves one client until it leaves, the server does, or the proxy stops.
pub(crate) async fn serve(accepted: Accepted, shared: Arc<Shared>) {
    let Accepted { socket, address, door } = accepted;
    let visitor = Visitor::new(shared.live.next_id(), address);
    let id = visitor.id;
    // Boxed as well: what a future has moved from still counts for its size.
    let mut client = Box::new(Conn::new(socket));
    // The login's state is large and short-lived: boxed, it does not weigh on the sessions that are relayed.
    match Box::pin(log_in(visitor, &mut client, door, &shared)).instrument(id.span()).await {
        Ok(Session::Passthrough(established)) => run(client, established, &shared).await,
        // Nor does that of pooled sessions weigh on those of passthrough.
        Ok(Session::Pooled(session)) => Box::pin(pooled::run(client, session, &shared)).await,
        // Nobody waits for administrators when the proxy stops; they may see it through.
        Ok(Session::Console(console)) => {
            let serving = crate::console::run(*client, *console, Arc::clone(&shared)).instrument(id.span());
            shared.background.spawn(serving);
        }
        Err(turned_away) => Box::pin(close(*client, *turned_away, &shared)).instrument(id.span()).await,
    }
}

/// A handshake, and the line in the audit stream that its session may not begin without.
async fn log_in(
    mut visitor: Visitor,
    client: &mut Conn<Socket>,
    door: Door,
    shared: &Arc<Shared>,
) -> Result<Session, Box<TurnedAway>> {
    let session = match handshake(&mut visitor, client, door, shared).await {
        Ok(session) => session,
        Err(ended) => return Err(Box::new(TurnedAway { visitor, ended })),
    };
    if let Err(error) = tell_of(&session, shared).await {
        // ReadyForQuery is among what has not been sent.
        client.drop_queued();
        let ended = Ended::Refused { refusal: Refusal::not_audited(), detail: Some(error.to_string()) };
        return Err(Box::new(TurnedAway { visitor, ended }));
    }
    Ok(session)
}

/// Writes into the audit stream that this client is about to be let in.
async fn tell_of(session: &Session, shared: &Shared) -> Result<(), AuditError> {
    match shared.audit.is_open() {
        true => shared.audit(&session.event()).await,
        false => Ok(()),
    }
}

/// Everything up to a ready session, within `handshake_timeout`. The visitor's address becomes that of the client where a load
/// balancer names it.
async fn handshake(
    visitor: &mut Visitor,
    client: &mut Conn<Socket>,
    door: Door,
    shared: &Arc<Shared>,
) -> Result<Session, Ended> {
    let config = shared.config.load_full();
    let bounds = Bounds::of(&config);
    let work = async {
        // By the balancer's address, until its header has given the client's.
        let mut login = visitor.take_place(&shared.logins, bounds)?;
        let address = proxied::client_address(client, visitor.address, &config.proxy_protocol);
        match login.unless_displaced(address).await? {
            Ok(address) if address == visitor.address => {}
            Ok(address) => {
                visitor.address = address;
                login = visitor.take_place(&shared.logins, bounds)?;
            }
            Err(ended) => {
                // A client shows its user no error that answers an SSLRequest (CVE-2024-10977): it is let say first
                // whom it wants to be.
                let greeting = negotiate::negotiate(client, door, &config, &shared.phases);
                let _ = login.unless_displaced(greeting).await?;
                return Err(ended);
            }
        }
        let greeting = negotiate::negotiate(client, door, &config, &shared.phases);
        match login.unless_displaced(greeting).await?? {
            Greeting::Cancel(request) => {
                shared.cancels.forward(request).await;
                Err(Ended::Cancelled)
            }
            Greeting::Startup(message, leg) => {
                if shared.audit.is_open() {
                    visitor.says(&message, &leg);
                }
                if console::is_wanted(&message, &config) {
                    drop(login);
                    let login = visitor.take_place(&shared.console_logins, Bounds::CONSOLE)?;
                    let entering = console::enter(client, (message, leg), (visitor, &login), shared, &config);
                    let entering = Box::pin(login.unless_displaced(entering));
                    return entering.await?.map(|console| Session::Console(Box::new(console)));
                }
                let admission = admit::admit(&message, visitor, leg, shared, &config)?;
                login.start().await?;
                let record = Arc::clone(admission.client().record());
                tokio::select! {
                    biased;
                    () = record.ended() => Err(Refusal::terminated().into()),
                    established = login.unless_displaced(establish(client, admission, shared, &config)) => established?,
                }
            }
        }
    };
    let outcome = tokio::select! {
        biased;
        () = shared.abort.cancelled() => return Err(Refusal::shutting_down().into()),
        outcome = tokio::time::timeout(config.handshake_timeout, work) => outcome,
    };
    outcome.unwrap_or_else(|_| match &visitor.login {
        Some(login) if login.is_queued() => Err(Refusal::too_many_logins().into()),
        _ => Err(Refusal::handshake_timeout().into()),
    })
}

/// Logs an admitted client in to its server, and sets its context.
async fn establish(
    client: &mut Conn<Socket>,
    admission: Admission,
    shared: &Arc<Shared>,
    config: &Arc<Config>,
) -> Result<Session, Ended> {
    let login = match admission {
        Admission::Bypass(BypassLogin { client, packet }) => {
            RelayedLogin { client, who: Who::Bypass, packet, settings: None }
        }
        Admission::Tenant(TenantLogin { client: admitted, identity, injection, route }) => match route {
            Route::Passthrough { packet, settings } => {
                RelayedLogin { client: admitted, who: Who::Tenant { identity, injection }, packet, settings }
            }
            Route::Pool => {
                let login = PooledLogin { client: admitted, identity, injection };
                let established = pooled::establish(client, login, shared, config).await;
                return established.map(|session| Session::Pooled(Box::new(session)));
            }
        },
    };
    let established = passthrough::establish(client, login, shared, config).await;
    established.map(|session| Session::Passthrough(Box::new(session)))
}

/// Relays an established session and closes both sides.
async fn run(client: Box<Conn<Socket>>, established: Box<Established>, shared: &Arc<Shared>) {
    let Established { session, slots, cancel, oversight, membership, config } = *established;
    slots.started(config.log_sessions);
    let record = Arc::clone(slots.record());
    let stop = ends(shared, &record, membership);
    let is_framed = matches!(oversight, Oversight::Framed(_));
    let finish = async |end: RelayEnd, mut upstream: Socket, is_busy| {
        slots.ended(&end, is_framed, config.log_sessions);
        let work = async {
            if end != RelayEnd::Upstream {
                let key = cancel.as_ref().map(CancelEntry::key);
                Backend { key, address: &config.upstream, is_busy }.end(&mut upstream, shared).await;
            }
            // Its place is free when nothing of it runs any more, however long its client takes to leave.
            drop((upstream, slots));
        };
        tokio::join!(work, shared.note_end(&record, &end));
    };
    match oversight {
        Oversight::Raw => relay(*client, session, &mut Unwatched::new(&record.meter), stop, finish).await,
        Oversight::Framed(framed) => {
            let Framed { query_timeout, cancel_timeout, keeper, hearing } = *framed;
            let request = cancel.as_ref().map(CancelEntry::request);
            let limit = query_timeout.map(|timeout| time_limit(timeout, (request, cancel_timeout), &record, shared));
            // Boxed, so that raw sessions do not carry its size.
            let watch =
                SessionWatch::new(limit).keeping(keeper).hearing(hearing, &shared.counters).metering(&record.meter);
            let mut watch = Box::new(watch);
            relay(*client, session, &mut *watch, stop, finish).await
        }
    };
}

/// When a session has to end, and why: the proxy stops, an administrator wants it, or what let the client in has changed.
async fn ends(shared: &Shared, record: &Record, membership: Option<Membership>) -> RelayEnd {
    // Boxed: most sessions have none, and would carry its size.
    let changed = membership.map(|mut membership| Box::pin(async move { _ = membership.changed().await }));
    let changed = async {
        match changed {
            Some(changed) => changed.await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        end = stopped(&shared.abort) => end,
        () = record.ended() => RelayEnd::Refused(Refusal::terminated()),
        () = changed => RelayEnd::Refused(Refusal::context_changed()),
    }
}

/// A session's `tenant_query_timeout`. Its cancel requests go out on connections of their own, beside the session, within
/// the other time.
fn time_limit(
    timeout: Duration,
    (request, cancel_timeout): (Option<CancelRequest>, Duration),
    record: &Arc<Record>,
    shared: &Arc<Shared>,
) -> TimeLimit {
    let (record, shared) = (Arc::clone(record), Arc::clone(shared));
    TimeLimit::new(timeout, move || {
        shared.counters.count_tenant_timeout();
        let request = request.clone()?;
        let (under_way, cancelling_ends) = oneshot::channel();
        let (record, shared) = (Arc::clone(&record), Arc::clone(&shared));
        let (tasks, span) = (shared.tasks.clone(), record.info.id.span());
        let cancelling = async move {
            let reason = Refusal::request_cancelled(timeout);
            let (tenant, info) = (record.tenant(), &record.info);
            info!(tenant, role = %info.role, database = %info.database, client = %info.address, %reason, "request cancelled");
            let forwarded = tokio::time::timeout(cancel_timeout, shared.cancels.forward(request));
            // A proxy that stops does not wait for it.
            if let Some(Err(_)) = shared.abort.run_until_cancelled(forwarded).await {
                warn!("cancel request for tenant_query_timeout: no answer from the upstream server");
            }
            drop(under_way);
            if shared.audit.is_open() {
                let event = Event::TimeLimit { subject: Subject::of(&record), reason: reason.message() };
                shared.audit_past(&event).await;
            }
        };
        tasks.spawn(cancelling.instrument(span));
        Some(cancelling_ends)
    })
}

/// Tells the client why there is no session, writes the log, and closes.
async fn close(mut client: Conn<Socket>, turned_away: TurnedAway, shared: &Shared) {
    let TurnedAway { mut visitor, ended } = turned_away;
    let address = visitor.address;
    let (ended, delay) = match ended {
        Ended::WrongProof { attempt, told } => (*told, shared.penalties.failed(&attempt)),
        ended => (ended, Duration::ZERO),
    };
    // Others need not wait for a client to take its error.
    let login = visitor.login.take().filter(|_| !delay.is_zero()).inspect(|login| login.is_delayed());
    match ended {
        Ended::WrongProof { .. } => return,
        Ended::ClientGone => {
            debug!(client = %address, "client left before the session was ready");
            return;
        }
        Ended::Handshake(error) => {
            shared.counters.count_refused_in_tls();
            if shared.repeats.is_new(Level::INFO, Failure::new(address, &error)) {
                info!(client = %address, %error, "TLS handshake failed");
            }
            visitor.refused(None, &format!("TLS handshake failed: {error}"), shared).await;
            return;
        }
        Ended::Cancelled => {}
        Ended::PassedOn(error) => {
            shared.counters.count_refused_by_server();
            if shared.repeats.is_new(Level::INFO, Failure::new(address, &error)) {
                info!(client = %address, error, "login refused by the upstream server");
            }
            visitor.refused(None, &error, shared).await;
        }
        Ended::Refused { refusal, detail } => {
            shared.counters.count_refused(refusal.code.as_str());
            let level = match refusal.code {
                SqlState::CONNECTION_FAILURE => Level::WARN,
                _ => Level::INFO,
            };
            match refusal.code {
                _ if !shared.repeats.is_new(level, Failure::new(address, &refusal)) => {}
                SqlState::CONNECTION_FAILURE => warn!(client = %address, error = %refusal, detail, "login failed"),
                _ => info!(client = %address, error = %refusal, detail, "login refused"),
            }
            visitor.refused(Some(refusal.code.as_str()), refusal.message(), shared).await;
            let mut message = Vec::new();
            refusal.encode(&mut message);
            client.queue(&message);
        }
    }
    if !delay.is_zero() {
        // The login counts as long as that, whether its client waits or hangs up: a guess takes its time.
        shared.draining.run_until_cancelled(tokio::time::sleep(delay)).await;
        drop(login);
    }
    client.finish().await;
}

impl Shared {
    /// Counts how a session came to its end, and writes it down where its right to go on was taken back.
    async fn note_end(&self, record: &Record, end: &RelayEnd) {
        match end {
            RelayEnd::Refused(refusal) if refusal.code == SqlState::ADMIN_SHUTDOWN && self.audit.is_open() => {
                let event = Event::Revocation { subject: Subject::of(record), reason: refusal.message() };
                self.audit_past(&event).await;
            }
            RelayEnd::Refused(refusal) if is_of_a_role_change(refusal) && self.audit.is_open() => {
                let event = Event::RoleChange { subject: Subject::of(record), reason: refusal.message() };
                self.audit_past(&event).await;
            }
            RelayEnd::Refused(refusal) if is_of_a_time_limit(refusal) => {
                if refusal.code == SqlState::IDLE_SESSION_TIMEOUT {
                    self.counters.count_tenant_timeout();
                }
                if self.audit.is_open() {
                    let event = Event::TimeLimit { subject: Subject::of(record), reason: refusal.message() };
                    self.audit_past(&event).await;
                }
            }
            _ => {}
        }
    }
}

/// True where a session was ended because it has changed a role: no other end of a session has this code.
fn is_of_a_role_change(refusal: &Refusal) -> bool {
    refusal.code == SqlState::INSUFFICIENT_PRIVILEGE
}

/// True where `tenant_query_timeout` has ended a session.
fn is_of_a_time_limit(refusal: &Refusal) -> bool {
    matches!(refusal.code, SqlState::IDLE_SESSION_TIMEOUT | SqlState::QUERY_CANCELED)
}

#[cfg(test)]
mod tests;
