//! The first packets of a client: encryption requests are answered, then comes a startup or a cancel request.

use tokio::io::{AsyncRead, AsyncWrite};

use super::Ended;
use crate::error::Refusal;
use crate::net::Conn;
use crate::wire::{CancelRequest, FirstPacket, Parsed, SqlState, StartupMessage, first_packet};

/// What a client came for.
pub(super) enum Greeting {
    /// To start a session.
    Startup(StartupMessage),
    /// To cancel a query.
    Cancel(CancelRequest),
}

/// Reads the first packets. `SSLRequest` and `GSSENCRequest` are answered once each, as PostgreSQL does.
pub(super) async fn negotiate<S>(client: &mut Conn<S>) -> Result<Greeting, Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut ssl_asked, mut gss_asked) = (false, false);
    loop {
        let (packet, size) = match first_packet(client.received()).map_err(Refusal::from)? {
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
            FirstPacket::Startup(message) => return Ok(Greeting::Startup(message)),
            FirstPacket::Cancel(request) => return Ok(Greeting::Cancel(request)),
            FirstPacket::SslRequest => (&mut ssl_asked, "SSLRequest"),
            FirstPacket::GssEncRequest => (&mut gss_asked, "GSSENCRequest"),
        };
        if std::mem::replace(asked, true) {
            return Err(Refusal::asked_twice(name).into());
        }
        client.queue(b"N");
        client.flush().await.map_err(|_| Ended::ClientGone)?;
    }
}

impl Refusal {
    fn asked_twice(name: &str) -> Self {
        Self::new(SqlState::PROTOCOL_VIOLATION, format_args!("{name} sent twice"))
    }
}
