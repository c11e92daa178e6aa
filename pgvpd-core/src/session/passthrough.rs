//! Passthrough: a server connection of the client's own, logged in by relaying the client's proof.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};

use super::Ended;
use super::admit::{AdmittedClient, SessionSlots};
use super::ending::{Fresh, Unfinished};
use super::hearing::Hearing;
use super::keeper::Keeper;
use super::login::{Legs, LoggedIn, Login, Permit, Who};
use super::login_error::{LoginEnd, LoginError, MAX_HELD_BACK};
use super::proved::prove_client;
use crate::cancel::CancelEntry;
use crate::config::{Config, Relay};
use crate::context::{Facts, Injection, InjectionError, RoleKey, SessionSettings, Token};
use crate::error::Refusal;
use crate::logins;
use crate::net::Conn;
use crate::net::{Socket, connect};
use crate::resolve::{Found, Job, Membership, OwnSite};
use crate::sessions::SessionInfo;
use crate::shared::Shared;
use crate::stats::{Phase, Phases};
use crate::upstream::Parameters;
use crate::wire::{CancelKey, Frame, Reader};

/// The longest message of a server's that a login may bring.
const MAX_UPSTREAM_MESSAGE: usize = 256 * 1024;

/// A server connection that may be relayed: its context is confirmed, or its user needs none. Only a finished login
/// makes one.
pub(super) struct BoundUpstream<U> {
    pub(super) conn: Conn<U>,
    _permit: Permit,
}

#[cfg(test)]
impl<U> BoundUpstream<U> {
    /// A connection to relay in tests of the relay, with no server behind it.
    pub(super) fn for_tests(conn: Conn<U>) -> Self {
        Self { conn, _permit: Permit::Bypass }
    }
}

/// A session that is ready to be relayed; ReadyForQuery is queued for the client.
pub(super) struct Established {
    pub(super) session: BoundUpstream<Socket>,
    pub(super) slots: SessionSlots,
    pub(super) cancel: Option<CancelEntry>,
    pub(super) oversight: Oversight,
    /// Where the session is to be told when its context has changed.
    pub(super) membership: Option<Membership>,
    /// What it started with.
    pub(super) config: Arc<Config>,
}

/// The login of a client that gets a server connection of its own.
pub(super) struct RelayedLogin {
    pub(super) client: AdmittedClient,
    pub(super) who: Who,
    /// Startup packet for the server.
    pub(super) packet: Vec<u8>,
    /// The role's own settings, to be undone; `None` if they are left in force.
    pub(super) settings: Option<Box<SessionSettings>>,
}

/// How much of a session the relay looks at.
pub(super) enum Oversight {
    /// Nothing: `relay = raw`, and bypass users, who are passed through untouched.
    Raw,
    /// Message headers, and a few small messages.
    Framed(Box<Framed>),
}

/// What is done with the messages of a session.
pub(super) struct Framed {
    /// `tenant_query_timeout`, where it is set.
    pub(super) query_timeout: Option<Duration>,
    /// The time that a cancel request may take.
    pub(super) cancel_timeout: Duration,
    /// `None` where no reset takes the context away.
    pub(super) keeper: Option<Keeper>,
    pub(super) hearing: Hearing,
}

impl Oversight {
    fn of(
        client: &AdmittedClient,
        config: &Config,
        injection: Option<Arc<Injection>>,
        token: Option<Token>,
        client_encoding: &[u8],
    ) -> Self {
        let Some(injection) = injection.filter(|_| config.relay == Relay::Framed) else { return Self::Raw };
        let keeper = injection.can_be_lost().then(|| Keeper::new(injection, token, true));
        Self::Framed(Box::new(Framed {
            query_timeout: client.query_timeout(),
            cancel_timeout: config.handshake_timeout,
            keeper,
            hearing: Hearing::new(config.notifications, client.record().tenant(), Some(client_encoding)),
        }))
    }
}

/// Connects, logs in, sets the context.
pub(super) async fn establish(
    client: &mut Conn<Socket>,
    login: RelayedLogin,
    shared: &Arc<Shared>,
    config: &Arc<Config>,
) -> Result<Established, Ended> {
    // Boxed: most logins have no need of it, and would carry its size.
    let since = Instant::now();
    let RelayedLogin { client: admitted, who, packet, settings } = login;
    let proved = match &who {
        Who::Tenant { .. } => Box::pin(prove_client(client, &admitted, shared, config)).await?,
        Who::Bypass => None,
    };
    let mut slots = None;
    if proved.is_some() {
        shared.phases.observe(Phase::Auth, since.elapsed());
        slots = Some(admitted.take_slots(shared, config)?);
    }
    admitted.login.holds_server();
    let socket = tokio::select! {
        connected = shared.phases.time(Phase::Checkout, connect(&config.upstream)) => connected.map_err(LoginError::Connect)?,
        ended = client_leaves(client) => return Err(ended),
    };
    let legs = Legs {
        client_is_local: admitted.info().address.is_local(),
        upstream_is_local: socket.is_local(),
        client_is_tls: admitted.leg.is_tls,
        upstream_is_tls: socket.tls().is_some(),
        allow_trust: config.allow_trust,
        allow_cleartext: config.allow_cleartext,
    };
    let mut unfinished = Unfinished::new(Fresh { conn: Conn::new(socket), key: None }, shared, config);
    let Fresh { conn: upstream, key } = &mut *unfinished;
    upstream.queue(&packet);
    drop(packet);
    let (unchecked, job) = match &who {
        Who::Bypass => (None, None),
        Who::Tenant { identity, injection } => {
            let key = role_key(admitted.info(), injection, config);
            let job = Job::new(identity, &admitted.info().database, config, shared);
            (Some(key).filter(|key| !shared.role_checks.is_known(key)), job)
        }
    };
    let mut login = Login::new(who, legs, admitted.negotiation.clone())
        .checking(unchecked.as_ref().map(|_| config.role_check))
        .resolving(job.is_some());
    if let Some(role) = proved {
        Box::pin(role.prove_upstream(client, upstream, shared, config)).await?;
        login = login.authenticated();
    }
    login = login.settling(settings.map(|settings| *settings));
    let mut resolved = None;
    let resolve = async |upstream: &mut Conn<Socket>| {
        let Some(job) = &job else { return Err(Refusal::from(InjectionError::NotConfirmed).into()) };
        let own = OwnSite { conn: upstream, parameters: &mut Parameters::default(), facts: None };
        let resolving = shared.resolving(config).resolve(job, Some(own), shared);
        let found = shared.phases.time(Phase::Resolve, resolving).await.map_err(Ended::from)?;
        let context = (found.found.clone(), found.facts);
        resolved = Some(found);
        Ok(context)
    };
    let authenticated = || {
        slots = Some(admitted.take_slots(shared, config)?);
        Ok(())
    };
    let hooks = Hooks { login: &admitted.login, authenticated, resolve, phases: &shared.phases };
    let driven = drive(login, client, (upstream, key), hooks).await;
    let LoggedIn { permit, cancel_key, client_encoding, injection } = match driven {
        // The server has judged a proof that was relayed.
        Err(Ended::PassedOn(error)) if slots.is_none() && error.starts_with(WRONG_PASSWORD) => {
            let attempt = Box::new(admitted.attempt());
            return Err(Ended::WrongProof { attempt, told: Box::new(Ended::PassedOn(error)) });
        }
        driven => driven?,
    };
    let upstream = unfinished.finish().conn;
    let Some(slots) = slots else { return Err(Refusal::from(InjectionError::NotConfirmed).into()) };
    let membership =
        job.zip(resolved).and_then(|(job, resolved)| shared.resolving(config).follow(job, &resolved, shared));
    let record = admitted.record();
    record.has_backend(cancel_key.as_ref());
    let cancel = cancel_key.map(|key| shared.cancels.register(key, config.upstream.clone()));
    shared.counters.count_session(record.info.tenant.as_ref(), record.database(), config.metrics_tenants);
    unchecked.into_iter().for_each(|key| shared.role_checks.passed(key));
    let token = match &permit {
        Permit::Context(_, token) => token.clone(),
        Permit::Bypass => None,
    };
    let session = BoundUpstream { conn: upstream, _permit: permit };
    let oversight = Oversight::of(&admitted, config, injection, token, &client_encoding);
    Ok(Established { session, slots, cancel, oversight, membership, config: Arc::clone(config) })
}

/// What is to be known of a tenant's role.
fn role_key(info: &SessionInfo, injection: &Injection, config: &Config) -> RoleKey {
    RoleKey {
        upstream: config.upstream.clone(),
        database: info.database.clone(),
        login: info.role.clone(),
        role: injection.role().into(),
    }
}

/// How what the server says of a wrong password begins in the log.
const WRONG_PASSWORD: &str = "28P01";

/// Steps of a login that are not the state machine's.
struct Hooks<'a, A, R> {
    /// The client's place among logins in progress.
    login: &'a logins::Login,
    /// When the client is authenticated.
    authenticated: A,
    /// When its context is to be worked out.
    resolve: R,
    phases: &'a Phases,
}

/// Moves messages between the two connections and the state machine until the login is finished. ReadyForQuery and
/// what comes with it are left queued for the client. The backend's key is put where it is wanted as soon as it is known.
async fn drive<C, U>(
    mut login: Login,
    client: &mut Conn<C>,
    (upstream, key): (&mut Conn<U>, &mut Option<CancelKey>),
    hooks: Hooks<
        '_,
        impl FnOnce() -> Result<(), Ended>,
        impl AsyncFnOnce(&mut Conn<U>) -> Result<(Found, Option<Facts>), Ended>,
    >,
) -> Result<LoggedIn, Ended>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let Hooks { login: in_progress, authenticated, resolve, phases } = hooks;
    let (mut authenticated, mut resolve) = (Some(authenticated), Some(resolve));
    let (mut since, mut is_authenticated) = (Instant::now(), login.is_authenticated());
    loop {
        let progress = step(&mut login, client, upstream);
        if key.is_none() {
            *key = login.cancel_key.clone();
        }
        let progress = progress?;
        if !is_authenticated && login.is_authenticated() {
            is_authenticated = true;
            phases.observe(Phase::Auth, since.elapsed());
            authenticated.take().map_or(Ok(()), |authenticated| authenticated())?;
            since = Instant::now();
        }
        if let Some(logged_in) = progress {
            phases.observe(Phase::Inject, since.elapsed());
            return Ok(logged_in);
        }
        if login.awaits_context()
            && let Some(resolve) = resolve.take()
        {
            let (found, facts) = tokio::select! {
                resolved = resolve(upstream) => resolved?,
                ended = client_leaves(client) => return Err(ended),
            };
            // Resolving has figures of its own.
            since = Instant::now();
            login.resolved(&found, facts);
            continue;
        }
        if upstream.flush().await.is_err() {
            // The server is gone; its last words may still be there to read.
            read_last_words(upstream).await;
            step(&mut login, client, upstream)?;
            return Err(LoginError::UpstreamClosed.into());
        }
        // What the server says goes out when the client is to answer, and with ReadyForQuery: fewer, fuller writes.
        if login.awaits_client() {
            client.flush().await.map_err(|_| Ended::ClientGone)?;
            in_progress.client_is_asked();
        }
        tokio::select! {
            biased;
            read = upstream.fill() => match read {
                Ok(0) | Err(_) => return Err(LoginError::UpstreamClosed.into()),
                Ok(_) => {}
            },
            read = client.fill() => held_back(client, read)?,
        }
        in_progress.client_has_answered();
    }
}

/// Hands on what is there, and queues what the state machine has to say.
fn step<C, U>(login: &mut Login, client: &mut Conn<C>, upstream: &mut Conn<U>) -> Result<Option<LoggedIn>, Ended>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let progress = advance(login, client, upstream);
    client.queue(&login.to_client);
    upstream.queue(&login.to_upstream);
    login.to_client.clear();
    login.to_upstream.clear();
    progress.map_err(|end| match end {
        LoginEnd::Refused(error) => error.into(),
        LoginEnd::PassedOn(error) => Ended::PassedOn(error),
    })
}

/// Hands every whole message to the state machine.
fn advance<C, U>(login: &mut Login, client: &mut Conn<C>, upstream: &mut Conn<U>) -> Result<Option<LoggedIn>, LoginEnd>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        if let Some(size) = upstream.whole_message(MAX_UPSTREAM_MESSAGE).map_err(LoginError::UpstreamProtocol)? {
            let finished = login.on_upstream(message(upstream.received(), size));
            upstream.consume(size);
            match finished? {
                None => continue,
                finished => return Ok(finished),
            }
        }
        if login.awaits_client()
            && let Some(size) = client.whole_message(MAX_HELD_BACK).map_err(LoginError::ClientProtocol)?
        {
            let taken = login.on_client(message(client.received(), size));
            client.consume(size);
            taken?;
            continue;
        }
        return Ok(None);
    }
}

/// The whole message of `size` bytes at the front of `bytes`.
fn message(bytes: &[u8], size: usize) -> Frame<'_> {
    let mut reader = Reader::new(bytes.get(..size).unwrap_or_default());
    let tag = reader.u8().unwrap_or_default();
    let _length = reader.i32();
    Frame { tag, body: reader.rest() }
}

/// Judges a read of the client's: what it sends ahead is held back, within a bound.
fn held_back<C>(client: &Conn<C>, read: std::io::Result<usize>) -> Result<(), Ended>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    match read {
        Ok(0) | Err(_) => Err(Ended::ClientGone),
        Ok(_) if client.received().len() > MAX_HELD_BACK => Err(LoginError::HeldBack.into()),
        Ok(_) => Ok(()),
    }
}

/// Resolves only when the client leaves, or sends more than is held back.
pub(super) async fn client_leaves<C>(client: &mut Conn<C>) -> Ended
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let read = client.fill().await;
        if let Err(ended) = held_back(client, read) {
            return ended;
        }
    }
}

async fn read_last_words<U: AsyncRead + AsyncWrite + Unpin>(upstream: &mut Conn<U>) {
    while upstream.received().len() < MAX_UPSTREAM_MESSAGE && matches!(upstream.fill().await, Ok(n) if n > 0) {}
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;
    use crate::session::login::{Negotiation, Who};
    use crate::wire::ProtocolVersion;

    /// A bypass user's login to a server that said this and is gone before the startup packet can be written.
    async fn login_to_a_dead_server(said: &[u8]) -> Result<LoggedIn, Ended> {
        let (mut server, upstream) = duplex(1000);
        server.write_all(said).await.expect("said");
        drop(server);
        let (_client, client_side) = duplex(1000);
        let (mut client, mut upstream) = (Conn::new(client_side), Conn::new(upstream));
        upstream.queue(b"startup packet");
        let negotiation = Negotiation { version: ProtocolVersion::V3_0, unknown_options: vec![] };
        let (login, phases, mut key) = (Login::new(Who::Bypass, Legs::LOCAL, negotiation), Phases::default(), None);
        let logins = Arc::new(logins::Logins::default());
        let bounds = logins::Bounds::CONSOLE;
        let in_progress =
            logins.enter(crate::sessions::SessionId(1), crate::address::ClientAddress::Unix, bounds).expect("room");
        let resolve = async |_: &mut Conn<_>| Err(Ended::ClientGone);
        let hooks = Hooks { login: &in_progress, authenticated: || Ok(()), resolve, phases: &phases };
        let driven = drive(login, &mut client, (&mut upstream, &mut key), hooks);
        let driven = tokio::time::timeout(Duration::from_secs(60), driven);
        driven.await.expect("a login to a dead server ends")
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_gone_ends_the_login_whatever_it_left_half_said() {
        for said in [&b""[..], b"R\0\0", b"R\0\0\0\x08\0\0\0\x03E\0"] {
            let ended = login_to_a_dead_server(said).await.expect_err("no session");
            assert!(matches!(ended, Ended::Refused { .. }), "{ended:?}");
        }
        let too_many = b"E\0\0\0\x25SFATAL\0C53300\0Mtoo many clients\0\0";
        let ended = login_to_a_dead_server(too_many).await.expect_err("no session");
        assert!(matches!(ended, Ended::PassedOn(_)), "{ended:?}");
    }
}
