//! Session pooling: the client proves itself to the proxy, gets a connection of its pool for as long as it stays, and leaves it
//! as if it had never been there.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tracing::{debug, warn};

use super::Ended;
use super::LoginError;
use super::admit::{AdmittedClient, SessionSlots};
use super::authenticate::{Claim, authenticate};
use super::ending::{Backend, Unfinished};
use super::hearing::Hearing;
use super::keeper::Keeper;
use super::login::warn_of_role;
use super::proved::{self, is_about_the_proxy, pass_on};
use super::relay::{RelayEnd, Relaying, Watch};
use super::watch::{Left, SessionWatch};
use crate::cancel::CancelEntry;
use crate::config::Config;
use crate::context::RoleCheck;
use crate::context::{
    Attachment, Confirmed, ContextSetup, Injection, InjectionError, RoleFault, RoleKey, Token, ask_about_role,
    read_about_role,
};
use crate::error::Refusal;
use crate::net::{Conn, Socket};
use crate::pool::{
    ExchangeError, Lease, LeftBehind, PoolError, PoolKey, SetContextError, clean_up, run_statement, set_context,
};
use crate::resolve::{Job, Membership, OwnSite, ResolveError, Resolved};
use crate::sessions::{Record, SessionInfo, SessionState};
use crate::shared::Shared;
use crate::stats::Phase;
use crate::tenant::Identity;
use crate::wire::{
    Answer, ErrorFields, ProtocolVersion, SqlState, TransactionStatus, backend_key_data, parameter_status,
    ready_for_query,
};

/// How long what a client has left outstanding may go on before it is cancelled.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(300);

/// How long a cancel request of the client's own may be under way.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a cancel key's secret: for protocol 3.2, and before.
const LONG_SECRET: usize = 32;
const SHORT_SECRET: usize = 4;

/// A connection on which this client's context is confirmed.
pub(super) struct BoundLease {
    lease: Lease,
    /// What resolvers have found, where there are some, and how.
    resolved: Option<(Job, Resolved)>,
    injection: Arc<Injection>,
    /// The signed context that the database has verified, where contexts are signed.
    token: Option<Token>,
    /// The server's notices about what the client asked for at its start, as messages.
    notices: Vec<u8>,
    _confirmed: Confirmed,
}

impl BoundLease {
    /// What the session needs; the rest was for its login.
    fn into_parts(self) -> (Lease, Arc<Injection>, Option<Token>) {
        (self.lease, self.injection, self.token)
    }
}

/// What has been set on a connection.
struct Bound {
    confirmed: Confirmed,
    token: Option<Token>,
    notices: Vec<u8>,
}

/// A session that is ready to be relayed; ReadyForQuery is queued for the client.
pub(super) struct PooledSession {
    bound: BoundLease,
    membership: Option<Membership>,
    slots: SessionSlots,
    query_timeout: Option<Duration>,
    cancel: Option<CancelEntry>,
    config: Arc<Config>,
}

/// The login of a client that gets a connection of a pool.
pub(super) struct PooledLogin {
    pub(super) client: AdmittedClient,
    pub(super) identity: Identity,
    pub(super) injection: Arc<Injection>,
}

/// Authenticates the client, takes a connection of its pool, and sets the context on it.
pub(super) async fn establish(
    client: &mut Conn<Socket>,
    login: PooledLogin,
    shared: &Arc<Shared>,
    config: &Arc<Config>,
) -> Result<PooledSession, Ended> {
    let PooledLogin { client: admitted, identity, injection } = login;
    shared.phases.time(Phase::Auth, authenticate(client, Claim::of(&admitted), shared, config)).await?;
    let slots = admitted.take_slots(shared, config)?;
    let record = Arc::clone(admitted.record());
    let SessionInfo { role, database, .. } = &record.info;
    let (role, upstream) = (role.clone(), config.upstream.clone());
    let key = Arc::new(PoolKey { role, database: database.clone(), upstream });
    let job = Job::new(&identity, database, config, shared);
    let bound = tokio::select! {
        bound = bind_one((&key, &record), injection, job, shared, config) => bound,
        ended = super::passthrough::client_leaves(client) => return Err(ended),
    };
    let mut bound = match bound {
        Ok(bound) => bound,
        Err(failure) => return Err(failure.end(client)),
    };
    let membership =
        bound.resolved.take().and_then(|(job, resolved)| shared.resolving(config).follow(job, &resolved, shared));
    let secret_bytes = if admitted.negotiation.version >= ProtocolVersion::LATEST { LONG_SECRET } else { SHORT_SECRET };
    bound.lease.is_of(record.info.id);
    record.has_backend(bound.lease.cancel_key());
    let cancel = bound.lease.cancel_key().cloned();
    let cancel = cancel.map(|backend| shared.cancels.issue(secret_bytes, backend, config.upstream.clone()));
    client.queue(&greeting(&bound, cancel.as_ref()));
    shared.counters.count_session(record.info.tenant.as_ref(), record.database(), config.metrics_tenants);
    let (query_timeout, config) = (admitted.query_timeout(), Arc::clone(config));
    Ok(PooledSession { bound, membership, slots, query_timeout, cancel, config })
}

/// What stands between AuthenticationOk and the first query.
fn greeting(bound: &BoundLease, cancel: Option<&CancelEntry>) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(&bound.notices);
    for (name, value) in bound.lease.parameters().iter() {
        parameter_status(&mut out, name, value);
    }
    if let Some(entry) = cancel {
        backend_key_data(&mut out, entry.key());
    }
    ready_for_query(&mut out, TransactionStatus::Idle);
    out
}

/// Why a client that has proved itself gets no session.
enum Failure {
    Pool(PoolError),
    /// The body of the server's error about what is to be set.
    Refused(Vec<u8>),
    Injection(InjectionError),
    Role(RoleFault),
    Exchange(ExchangeError),
    Resolve(ResolveError),
}

impl Failure {
    fn end(self, client: &mut Conn<Socket>) -> Ended {
        match self {
            Self::Refused(body) => pass_on(client, &body),
            Self::Pool(PoolError::Upstream(error)) => proved::end(client, &error),
            Self::Pool(error) => Refusal::from(&error).into(),
            Self::Injection(error) => Refusal::from(error).into(),
            Self::Role(fault) => LoginError::Role(fault).into(),
            // Such as a database that does not exist: the proxy was there before the client could be.
            Self::Resolve(error) => match error.login_refused().filter(|body| !is_about_the_proxy(body)) {
                Some(body) => pass_on(client, body),
                None => error.into(),
            },
            Self::Exchange(error) => {
                Ended::Refused { refusal: Refusal::from(InjectionError::NotConfirmed), detail: Some(error.to_string()) }
            }
        }
    }
}

/// Takes connections until one can be bound: one that had been idle may have died.
async fn bind_one(
    (key, record): (&Arc<PoolKey>, &Record),
    injection: Arc<Injection>,
    job: Option<Job>,
    shared: &Arc<Shared>,
    config: &Arc<Config>,
) -> Result<BoundLease, Failure> {
    let tenant = record.info.tenant.clone().unwrap_or_default();
    let deadline = Instant::now() + config.pool.checkout_timeout;
    // Those who are asked on connections of the proxy's own are asked before one of the pool is taken.
    let ahead = match job.as_ref().filter(|job| !job.needs_own_site()) {
        None => None,
        Some(job) => Some(resolve(job, None, shared, config).await?),
    };
    // A backend may go at any time. One that had been idle is replaced, and so is one that has just been made, once.
    let mut may_try_again = true;
    let mut is_worth_another = |lease: &Lease| lease.is_reused() || std::mem::take(&mut may_try_again);
    loop {
        let since = Instant::now();
        record.meter.set_state(SessionState::Waiting);
        let leased =
            shared.phases.time(Phase::Checkout, shared.pools.lease(key, &tenant, &config.pool, deadline.into())).await;
        record.meter.set_state(SessionState::Login);
        let mut lease = Unfinished::new(leased.map_err(Failure::Pool)?, shared, config);
        shared.counters.count_wait(&key.database, since.elapsed());
        let patience = patience(&lease, deadline);
        match timeout(patience, check_role(&mut lease, &injection, shared, config)).await.unwrap_or(SILENT) {
            Ok(()) => {}
            Err(Failure::Exchange(error)) if is_worth_another(&lease) => {
                debug!(pool = %key, %error, "a connection failed");
                drop(lease.finish());
                continue;
            }
            Err(failure) => return Err(failure),
        }
        let resolved = match &job {
            Some(job) if ahead.is_none() => match resolve(job, Some(&mut lease), shared, config).await {
                Ok(resolved) => Some(resolved),
                Err(Failure::Resolve(error)) if error.is_of_the_connection() && is_worth_another(&lease) => {
                    debug!(pool = %key, %error, "a connection failed");
                    continue;
                }
                // Who is refused again and again must not keep the pool making connections.
                Err(Failure::Resolve(error)) if error.is_an_answer() => {
                    reset_aside(lease.finish(), shared, config);
                    return Err(Failure::Resolve(error));
                }
                Err(failure) => return Err(failure),
            },
            _ => None,
        };
        let found = resolved.as_ref().or(ahead.as_ref());
        let injection = match found {
            Some(resolved) => Arc::new(Injection::clone(&injection).with_found(&resolved.found)),
            None => Arc::clone(&injection),
        };
        let injecting = bind(&mut lease, &injection);
        let injected = timeout(patience, shared.phases.time(Phase::Inject, injecting)).await;
        match injected.unwrap_or(Err(ExchangeError::Silent.into())) {
            Ok(Bound { confirmed, token, notices }) => {
                let (resolved, lease) = (job.zip(resolved.or(ahead)), lease.finish());
                return Ok(BoundLease { lease, resolved, injection, token, notices, _confirmed: confirmed });
            }
            Err(SetContextError::Exchange(error)) if is_worth_another(&lease) => {
                debug!(pool = %key, %error, "a connection failed");
                drop(lease.finish());
            }
            // The functions have other numbers since.
            Err(SetContextError::Refused(body))
                if lease.is_reused() && injection.is_not_installed(&ErrorFields::new(&body)) =>
            {
                debug!(pool = %key, "the functions that verify a context have been installed anew");
            }
            Err(SetContextError::Exchange(error)) => return Err(Failure::Exchange(error)),
            Err(SetContextError::Context(error)) => return Err(Failure::Injection(error)),
            Err(SetContextError::Refused(body)) => {
                reset_aside(lease.finish(), shared, config);
                return Err(Failure::Refused(body));
            }
        }
    }
}

/// Nothing has come back from an idle connection: what is between it and the proxy may be gone without a word.
const SILENT: Result<(), Failure> = Err(Failure::Exchange(ExchangeError::Silent));

/// How long the server may take to answer on a connection that had been idle. Another one is to have the rest of the time.
fn patience(lease: &Lease, deadline: Instant) -> Duration {
    match lease.is_reused() {
        true => deadline.saturating_duration_since(Instant::now()) / 2,
        // `handshake_timeout` bounds all of it.
        false => Duration::MAX,
    }
}

/// Makes a connection ready for the next session, while this client is told why it gets none.
fn reset_aside(lease: Lease, shared: &Arc<Shared>, config: &Arc<Config>) {
    let (shared, config) = (Arc::clone(shared), Arc::clone(config));
    let tasks = shared.tasks.clone();
    tasks.spawn(async move { reset(lease, LeftBehind::IDLE, &shared, &config).await });
}

/// Works out the rest of the context: on this connection, or on one of the proxy's.
async fn resolve(
    job: &Job,
    lease: Option<&mut Lease>,
    shared: &Arc<Shared>,
    config: &Config,
) -> Result<Resolved, Failure> {
    let resolving = shared.resolving(config);
    let Some(lease) = lease else {
        let resolving = resolving.resolve(job, None::<OwnSite<'_, Socket>>, shared);
        return shared.phases.time(Phase::Resolve, resolving).await.map_err(Failure::Resolve);
    };
    let attachment = lease.attachment();
    let (conn, parameters) = lease.parts();
    let own = OwnSite { conn, parameters, facts: attachment.map(|attachment| attachment.facts) };
    let resolving = resolving.resolve(job, Some(own), shared);
    let resolved = shared.phases.time(Phase::Resolve, resolving).await.map_err(Failure::Resolve)?;
    if let (Some(attachment), Some(facts)) = (attachment, resolved.facts) {
        lease.set_attachment(Attachment { facts, ..attachment });
    }
    Ok(resolved)
}

/// Asks whether policies hold the role, where that has not been asked of late.
async fn check_role(lease: &mut Lease, injection: &Injection, shared: &Shared, config: &Config) -> Result<(), Failure> {
    let PoolKey { role, database, upstream } = &**lease.key();
    let (login, database, upstream) = (role.clone(), database.clone(), upstream.clone());
    let key = RoleKey { upstream, database, login, role: injection.role().into() };
    if shared.role_checks.is_known(&key) {
        return Ok(());
    }
    let mut messages = Vec::new();
    ask_about_role(injection.role(), &mut messages);
    let (conn, parameters) = lease.parts();
    let row = match run_statement(conn, parameters, &messages).await.map_err(Failure::Exchange)? {
        Answer::Error(body) => return Err(Failure::Refused(body)),
        Answer::Row(row) => row,
    };
    let row: Vec<Option<&[u8]>> = row.iter().map(Option::as_deref).collect();
    match (read_about_role(&row), config.role_check) {
        (None, _) => return Err(Failure::Injection(InjectionError::NotConfirmed)),
        (Some(Err(fault)), RoleCheck::Warn) => warn_of_role(&key.login, &fault),
        (Some(Err(fault)), RoleCheck::Refuse) => return Err(Failure::Role(fault)),
        (Some(Ok(())), _) => {}
    }
    shared.role_checks.passed(key);
    Ok(())
}

/// Sets what the client asked for, the context and the role, and has them confirmed. Not to be cancelled without dropping the
/// lease.
async fn bind(lease: &mut Lease, injection: &Arc<Injection>) -> Result<Bound, SetContextError> {
    let (mut setup, first) = ContextSetup::on_lease(injection, lease.attachment());
    let (conn, parameters) = lease.parts();
    let outcome = set_context(conn, parameters, &mut setup, first).await;
    // Known even if the context is not in force: the reset invalidates what was signed.
    if let Some(attachment) = setup.attachment() {
        lease.set_attachment(attachment);
    }
    let confirmed = outcome?;
    let (mut tokens, notices) = setup.into_parts();
    Ok(Bound { confirmed, token: tokens.pop(), notices })
}

/// Relays a session, and makes its connection ready for the next.
pub(super) async fn run(client: Box<Conn<Socket>>, session: Box<PooledSession>, shared: &Arc<Shared>) {
    let PooledSession { bound, membership, slots, query_timeout, cancel, config } = *session;
    let (mut lease, injection, token) = bound.into_parts();
    slots.started(config.log_sessions);
    let record = Arc::clone(slots.record());
    let request = || (cancel.as_ref().map(CancelEntry::request), config.handshake_timeout);
    let limit = query_timeout.map(|timeout| super::time_limit(timeout, request(), &record, shared));
    let (conn, parameters) = lease.parts();
    // The login's buffers are of no use to the relay.
    let (socket, from_upstream, _) = conn.borrow_parts();
    let hearing = Hearing::new(config.notifications, slots.tenant(), parameters.get(b"client_encoding"));
    let keeper = Keeper::new(injection, token, false);
    let watch = SessionWatch::new(limit)
        .keeping(Some(keeper))
        .hearing(hearing, &shared.counters)
        .leaving(parameters)
        .following(membership)
        .metering(&record.meter);
    let mut watch = Box::new(watch);
    let mut relaying = Relaying::new(*client, socket, from_upstream);
    let end = relaying.run(&mut *watch, pin!(super::ends(shared, &record, None))).await;
    let (last_words, is_busy) = (watch.last_words(&end), watch.is_busy());
    let left = watch.left(&end, relaying.has_delivered_requests());
    // What others have ended is not waited for.
    let left = left.filter(|_| end == RelayEnd::Client || !is_busy);
    let (client, _) = relaying.part(&end, last_words);
    slots.ended(&end, true, config.log_sessions);
    // A proxy that stops closes the connection instead.
    let release = async {
        let drained = shared.abort.run_until_cancelled(drain(&mut lease, left, cancel)).await.flatten();
        if drained.is_none() && end != RelayEnd::Upstream {
            debug!(pool = %lease.key(), "an upstream connection is closed with its session");
            let key = lease.cancel_key().cloned();
            let backend = Backend { key: key.as_ref(), address: &config.upstream, is_busy };
            backend.end(lease.parts().0.stream_mut(), shared).await;
        }
        drop(slots);
        if let Some(left) = drained {
            let _ = shared.abort.run_until_cancelled(reset(lease, left.behind(), shared, &config)).await;
        }
    };
    // The connection is the next client's, however long this one takes to leave.
    // Boxed, so that a session does not carry the size of its end.
    Box::pin(async { tokio::join!(client.close(), release, shared.note_end(&record, &end)) }).await;
}

/// Waits for what is under way on a connection. `None` where it does not come to an end soon, or cannot.
async fn drain(lease: &mut Lease, left: Option<Left>, cancel: Option<CancelEntry>) -> Option<Left> {
    let mut left = left?;
    if let Some(entry) = cancel {
        timeout(CANCEL_TIMEOUT, entry.retire()).await.ok()?;
    }
    let is_drained = timeout(DRAIN_TIMEOUT, left.drain(lease)).await == Ok(true);
    is_drained.then_some(left)
}

/// Resets a connection on which nothing is outstanding, and gives it back; or closes it.
async fn reset(mut lease: Lease, left: LeftBehind, shared: &Shared, config: &Config) {
    let key = Arc::clone(lease.key());
    let attachment = lease.attachment();
    if attachment.is_some_and(|attachment| !attachment.facts.can_be_voided()) {
        debug!(pool = %key, "closed a connection on which a signed context cannot be made void");
        return;
    }
    let (conn, parameters) = lease.parts();
    let attach = attachment.map(|attachment| attachment.attach);
    let variables: Vec<_> = config.identity.variables.iter().chain(config.identity.resolved.iter()).cloned().collect();
    match clean_up(conn, parameters, left, &variables, attach).await {
        Ok(clean) => lease.give_back(clean, &shared.config.load().pool),
        Err(error) => {
            shared.counters.count_failed_reset();
            warn!(pool = %key, %error, "closed an upstream connection that could not be reset");
        }
    }
}

impl PooledSession {
    /// What is known of the client.
    pub(super) fn record(&self) -> &Arc<Record> {
        self.slots.record()
    }
}

impl From<&PoolError> for Refusal {
    fn from(error: &PoolError) -> Self {
        match error {
            PoolError::Exhausted(_) => Self::new(SqlState::TOO_MANY_CONNECTIONS, error)
                .hint("Close idle sessions, or raise pool_size, max_upstream_connections or pool_checkout_timeout."),
            PoolError::Unanswered(_) => Self::new(SqlState::CONNECTION_FAILURE, error),
            PoolError::Upstream(error) => Self::from(&**error),
            PoolError::Paused => Self::new(SqlState::TOO_MANY_CONNECTIONS, error)
                .hint("An administrator has paused them; connect again when they are resumed."),
            PoolError::Stopped => Self::shutting_down(),
        }
    }
}
