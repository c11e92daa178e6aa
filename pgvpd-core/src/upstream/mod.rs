//! The proxy's own connections to the server: dialling and logging in.

mod error;
mod login;
mod parameters;

pub(crate) use error::UpstreamError;
pub(crate) use parameters::Parameters;

use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;
use zeroize::Zeroizing;

use crate::auth::{Credentials, Deriver};
use crate::net::UpstreamAddress;
use crate::net::{Conn, Socket, connect};
use crate::wire::{CancelKey, WireError, tag};
use login::{Account, Channel, Proof, authenticate, log_in};

/// A server connection that is logged in, idle and clean.
pub(crate) struct UpstreamSession {
    pub(crate) conn: Conn<Socket>,
    pub(crate) parameters: Parameters,
    /// What a CancelRequest must carry; poolers may not give one.
    pub(crate) cancel_key: Option<CancelKey>,
}

/// Where and as whom to log in.
pub(crate) struct UpstreamLogin<'a> {
    pub(crate) address: &'a UpstreamAddress,
    /// Let a password cross a network in the clear.
    pub(crate) allow_cleartext: bool,
    pub(crate) role: &'a str,
    pub(crate) database: &'a str,
    /// Startup parameters beside user and database.
    pub(crate) startup: &'a [(String, String)],
    pub(crate) credentials: Credentials,
}

impl UpstreamLogin<'_> {
    /// Connects and logs in. A backend that goes meanwhile is replaced, once: nobody has had it, and nothing is lost with it. Safe to
    /// cancel: the connection is closed. The caller sets the deadline.
    pub(crate) async fn run(self, deriver: &Deriver) -> Result<UpstreamSession, UpstreamError> {
        match self.connect(deriver).await {
            Err(error) if error.is_of_one_backend() => {
                debug!(error = error.for_log(), "a backend has gone during the login; another one is asked for");
                self.connect(deriver).await
            }
            outcome => outcome,
        }
    }

    async fn connect(&self, deriver: &Deriver) -> Result<UpstreamSession, UpstreamError> {
        let socket = connect(self.address).await.map_err(UpstreamError::Connect)?;
        let proof = proof(&socket, self.role, &self.credentials, self.allow_cleartext);
        let account = Account { database: self.database, startup: self.startup, proof };
        let mut conn = Conn::new(socket);
        let reported = log_in(&mut conn, &account, deriver).await?;
        Ok(UpstreamSession { conn, parameters: reported.parameters, cancel_key: reported.cancel_key })
    }
}

fn proof<'a>(socket: &Socket, role: &'a str, credentials: &'a Credentials, allow_cleartext: bool) -> Proof<'a> {
    let may_send_cleartext = allow_cleartext || socket.is_private();
    Proof { role, credentials, may_send_cleartext, channel: Channel::of(socket) }
}

/// Answers a server that was sent a startup packet for this role, until AuthenticationOk. Safe to cancel: the connection is of no
/// use then. The caller sets the deadline.
pub(crate) async fn prove(
    conn: &mut Conn<Socket>,
    role: &str,
    credentials: &Credentials,
    allow_cleartext: bool,
    deriver: &Deriver,
) -> Result<(), UpstreamError> {
    let proof = proof(conn.stream(), role, credentials, allow_cleartext);
    authenticate(conn, &proof, deriver).await
}

/// The longest message that the proxy takes for itself. PostgreSQL's own of a login are below 1 KiB; its errors quote
/// what others wrote.
const MAX_MESSAGE: usize = 256 * 1024;

/// A message of the server's. Wiped on drop: a body may be a verifier.
pub(crate) struct Message {
    pub(crate) tag: u8,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

impl Message {
    /// It has no place here.
    pub(crate) fn unexpected(&self) -> UpstreamError {
        UpstreamError::Protocol(WireError::Malformed(char::from(self.tag)))
    }
}

/// Sends what is queued, and takes the next message that is neither a notice nor an error. Safe to cancel.
pub(crate) async fn next_message<S>(conn: &mut Conn<S>) -> Result<Message, UpstreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // A server that closes instead of reading may have said why: what was received decides.
    let _ = conn.flush().await;
    loop {
        match conn.next_message(MAX_MESSAGE).await.map_err(UpstreamError::Protocol)? {
            None => return Err(UpstreamError::Closed),
            Some((tag::NOTICE_RESPONSE, _)) => {}
            Some((tag::ERROR_RESPONSE, body)) => return Err(UpstreamError::refused(&body)),
            Some((tag, body)) => return Ok(Message { tag, body }),
        }
    }
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod postgres_tests;
