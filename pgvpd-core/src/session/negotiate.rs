//! The first packets of a client: encryption requests are answered, then comes a startup or a cancel request.

use std::time::{Duration, Instant};

use super::Ended;
use super::leg::Leg;
use super::relay::TERMINATE;
use crate::config::Config;
use crate::error::Refusal;
use crate::net::{Conn, Door, Socket};
use crate::stats::{Phase, Phases};
use crate::tls::ClientTls;
use crate::tls::ClientTlsMode;
use crate::wire::{CancelRequest, FirstPacket, Parsed, SqlState, StartupMessage, first_packet};

/// The first byte of a TLS connection: a handshake record (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// What a client came for.
pub(super) enum Greeting {
    /// To start a session.
    Startup(StartupMessage, Leg),
    /// To cancel a query.
    Cancel(CancelRequest),
}

/// Reads the first packets, and shakes hands where the client asks for TLS, or begins with it. `SSLRequest` and `GSSENCRequest` are
/// answered once each, as PostgreSQL does.
pub(super) async fn negotiate(
    client: &mut Conn<Socket>,
    door: Door,
    config: &Config,
    phases: &Phases,
) -> Result<Greeting, Ended> {
    let (since, mut in_tls) = (Instant::now(), Duration::ZERO);
    let is_tcp = matches!(client.stream(), Socket::Tcp(_));
    let is_spoken = is_tcp && (door == Door::Tls || config.tls.mode != ClientTlsMode::Disable);
    let tls = config.tls.clients.as_ref().filter(|_| is_spoken);
    let (mut ssl_asked, mut gss_asked) = (false, false);
    loop {
        if let Some(tls) = tls.filter(|_| !ssl_asked)
            && client.received().first() == Some(&TLS_HANDSHAKE)
        {
            ssl_asked = true;
            in_tls = accept_tls(client, tls, phases).await?;
            // What another protocol's client was made to send must not be taken for ours.
            if !client.stream().tls().is_some_and(|stream| stream.has_protocol()) {
                return Err(Refusal::no_alpn().into());
            }
        }
        // Drivers that close a connection before its login say goodbye in the usual way, which is no packet of this place.
        let goodbye = TERMINATE.get(..client.received().len().min(TERMINATE.len()));
        let parsed = match goodbye.is_some_and(|part| !part.is_empty() && client.received().starts_with(part)) {
            true if client.received().len() >= TERMINATE.len() => return Err(Ended::ClientGone),
            true => Parsed::Incomplete,
            false => first_packet(client.received()).map_err(Refusal::from)?,
        };
        let (packet, size) = match parsed {
            Parsed::Complete(packet, size) => (packet, size),
            Parsed::Incomplete => {
                if matches!(client.fill().await, Ok(0) | Err(_)) {
                    return Err(Ended::ClientGone);
                }
                continue;
            }
        };
        client.consume(size);
        let (asked, name) = match packet {
            FirstPacket::Startup(message) => {
                let leg = Leg::of(client.stream());
                let is_required = door == Door::Tls || config.tls.mode == ClientTlsMode::Require;
                if is_tcp && is_required && !leg.is_tls {
                    return Err(Refusal::no_tls().into());
                }
                phases.observe(Phase::Accept, since.elapsed().saturating_sub(in_tls));
                return Ok(Greeting::Startup(message, leg));
            }
            FirstPacket::Cancel(request) => return Ok(Greeting::Cancel(request)),
            FirstPacket::SslRequest => (&mut ssl_asked, "SSLRequest"),
            FirstPacket::GssEncRequest => (&mut gss_asked, "GSSENCRequest"),
        };
        if std::mem::replace(asked, true) {
            return Err(Refusal::asked_twice(name).into());
        }
        match tls.filter(|_| name == "SSLRequest") {
            // What came with it is not encrypted, and would be taken for something that is (CVE-2021-23214).
            Some(_) if !client.received().is_empty() => return Err(Refusal::unencrypted_data().into()),
            Some(tls) => {
                answer(client, b"S").await?;
                in_tls = accept_tls(client, tls, phases).await?;
            }
            None => answer(client, b"N").await?,
        }
    }
}

async fn answer(client: &mut Conn<Socket>, byte: &[u8]) -> Result<(), Ended> {
    client.queue(byte);
    client.flush().await.map_err(|_| Ended::ClientGone)
}

/// Gives how long it took.
async fn accept_tls(client: &mut Conn<Socket>, tls: &ClientTls, phases: &Phases) -> Result<Duration, Ended> {
    let since = Instant::now();
    // Boxed: most connections have none, and would carry its size.
    Box::pin(client.accept_tls(tls)).await.map_err(|error| match error.is_hang_up() {
        true => Ended::ClientGone,
        false => Ended::Handshake(error),
    })?;
    let took = since.elapsed();
    phases.observe(Phase::Tls, took);
    Ok(took)
}

impl Refusal {
    fn asked_twice(name: &str) -> Self {
        Self::new(SqlState::PROTOCOL_VIOLATION, format_args!("{name} sent twice"))
    }

    fn unencrypted_data() -> Self {
        Self::new(SqlState::PROTOCOL_VIOLATION, "received unencrypted data after SSL request").hint(
            "This is either a bug in the client, or somebody between it and the proxy who tries to put words in its mouth.",
        )
    }

    fn no_alpn() -> Self {
        Self::new(SqlState::PROTOCOL_VIOLATION, "direct TLS connection without the ALPN protocol \"postgresql\"")
            .hint("sslnegotiation=direct of libpq 17 or later sends it; other clients begin with SSLRequest.")
    }
}
