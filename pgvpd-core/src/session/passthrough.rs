//! Passthrough: a server connection of the client's own, logged in by relaying the client's proof.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::Ended;
use super::admit::{Admission, Seat};
use super::conn::Conn;
use super::login::{Legs, LoggedIn, Login, Permit};
use super::login_error::{LoginEnd, LoginError, MAX_HELD_BACK};
use crate::cancel::CancelEntry;
use crate::config::{Config, Relay};
use crate::net::{Socket, connect};
use crate::shared::Shared;
use crate::wire::{Frame, Reader};

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
    pub(super) seat: Seat,
    pub(super) cancel: Option<CancelEntry>,
    pub(super) oversight: Oversight,
}

/// How much of a session the relay looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Oversight {
    /// Nothing: `relay = raw`, and bypass users, who are passed through untouched.
    Raw,
    /// Message headers; with `tenant_query_timeout`, where it is set, and the time that a cancel request may take.
    Framed { query_timeout: Option<Duration>, cancel_timeout: Duration },
}

impl Oversight {
    fn of(admission: &Admission, config: &Config) -> Self {
        match config.relay {
            Relay::Framed if !admission.is_bypass() => {
                Self::Framed { query_timeout: config.tenant_query_timeout, cancel_timeout: config.handshake_timeout }
            }
            Relay::Raw | Relay::Framed => Self::Raw,
        }
    }
}

/// Connects, logs in, sets the context.
pub(super) async fn establish(
    client: &mut Conn<Socket>,
    admission: Admission,
    shared: &Arc<Shared>,
    config: &Config,
) -> Result<Established, Ended> {
    let socket = tokio::select! {
        connected = connect(&config.upstream) => connected.map_err(LoginError::Connect)?,
        ended = client_leaves(client) => return Err(ended),
    };
    let legs = Legs {
        client_is_local: admission.address.is_local(),
        upstream_is_local: socket.is_local(),
        allow_trust: config.allow_trust,
        allow_cleartext: config.allow_cleartext,
    };
    let mut upstream = Conn::new(socket);
    upstream.queue(&admission.packet);
    let login = Login::new(admission.who(), legs, admission.negotiation());
    let LoggedIn { permit, cancel_key } = drive(login, client, &mut upstream).await?;
    let cancel = cancel_key.map(|key| shared.cancels.register(key, config.upstream.clone()));
    shared.counters.count_session();
    let session = BoundUpstream { conn: upstream, _permit: permit };
    let oversight = Oversight::of(&admission, config);
    Ok(Established { session, seat: admission.into_seat(), cancel, oversight })
}

/// Moves messages between the two connections and the state machine until the login is finished. ReadyForQuery and
/// what comes with it are left queued for the client.
async fn drive<C, U>(mut login: Login, client: &mut Conn<C>, upstream: &mut Conn<U>) -> Result<LoggedIn, Ended>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        if let Some(logged_in) = step(&mut login, client, upstream)? {
            return Ok(logged_in);
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
        }
        tokio::select! {
            biased;
            read = upstream.fill() => match read {
                Ok(0) | Err(_) => return Err(LoginError::UpstreamClosed.into()),
                Ok(_) => {}
            },
            read = client.fill() => held_back(client, read)?,
        }
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
async fn client_leaves(client: &mut Conn<Socket>) -> Ended {
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
        let legs = Legs { client_is_local: true, upstream_is_local: true, allow_trust: false, allow_cleartext: false };
        let negotiation = Negotiation { version: ProtocolVersion::V3_0, unknown_options: vec![] };
        let login = Login::new(Who::Bypass, legs, negotiation);
        let driven = tokio::time::timeout(Duration::from_secs(60), drive(login, &mut client, &mut upstream));
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
