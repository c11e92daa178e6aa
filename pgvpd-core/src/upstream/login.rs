//! The login as a client of the server's (manual, "Message Flow", "Start-up").
//!
//! ```text
//! StartupMessage ─► [NegotiateProtocolVersion] ─► AuthenticationOk ─────────────────────────────────┐
//!                                              ├► cleartext, MD5 ─► password ─► AuthenticationOk ───┤
//!                                              └► SASL ─► client-first ─► SASLContinue ─► proof     │
//!                                                 ─► SASLFinal, signature right ─► AuthenticationOk ┤
//!                                ParameterStatus*, BackendKeyData?, ReadyForQuery (idle) ◄──────────┘
//!
//! in every state: ErrorResponse ─► Refused.  Anything unexpected ─► end.
//! ```

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::{Message, Parameters, UpstreamError, next_message};
use crate::auth::{
    Binding, ClientFirst, Credentials, Deriver, Keys, Nonce, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramError, Secret,
    md5_answer, md5_password,
};
use crate::net::{Conn, Socket};
use crate::wire::{
    Authentication, BackendKeyData, CancelKey, ParameterStatus, ProtocolVersion, StartupMessage, TransactionStatus,
    password_message, sasl_initial_response, sasl_response, tag,
};

/// What the log and a client may read of a method's name that the server sent.
const MAX_METHOD_NAME: usize = 100;

/// Messages between AuthenticationOk and ReadyForQuery; PostgreSQL sends some fifteen.
const MAX_REPORTS: usize = 1000;

/// As whom to log in, and what may be said for it.
pub(super) struct Account<'a> {
    pub(super) database: &'a str,
    pub(super) startup: &'a [(String, String)],
    pub(super) proof: Proof<'a>,
}

/// What may be said for a role.
pub(super) struct Proof<'a> {
    pub(super) role: &'a str,
    pub(super) credentials: &'a Credentials,
    /// Nothing can listen in between, or that is allowed.
    pub(super) may_send_cleartext: bool,
    pub(super) channel: Channel,
}

/// What a proof can be bound to.
#[derive(Debug, Clone)]
pub(super) enum Channel {
    /// The connection is not TLS.
    Plain,
    /// It is, to a server whose certificate has no hash to bind to.
    Unbindable,
    /// It is, to a server whose certificate has this hash.
    EndPoint(Arc<[u8]>),
}

impl Channel {
    pub(super) fn of(socket: &Socket) -> Self {
        match socket.tls().map(|tls| tls.end_point()) {
            None => Self::Plain,
            Some(None) => Self::Unbindable,
            Some(Some(hash)) => Self::EndPoint(Arc::clone(hash)),
        }
    }

    /// The mechanism to choose of those offered, and what is said of binding; `None` where there is none.
    fn choose(&self, offered: &[&str]) -> Option<(&'static str, Binding)> {
        match self {
            Self::EndPoint(hash) if offered.contains(&SCRAM_SHA_256_PLUS) => {
                Some((SCRAM_SHA_256_PLUS, Binding::EndPoint(Arc::clone(hash))))
            }
            // Signed by the proof: a server that did offer it, and was robbed of that on the way, refuses.
            Self::EndPoint(_) if offered.contains(&SCRAM_SHA_256) => Some((SCRAM_SHA_256, Binding::NotOffered)),
            _ if offered.contains(&SCRAM_SHA_256) => Some((SCRAM_SHA_256, Binding::None)),
            _ => None,
        }
    }
}

/// What the server said of a session that is ready.
#[derive(Debug, Default)]
pub(super) struct Reported {
    pub(super) parameters: Parameters,
    pub(super) cancel_key: Option<CancelKey>,
}

/// Logs in on a fresh connection.
pub(super) async fn log_in<S>(
    conn: &mut Conn<S>,
    account: &Account<'_>,
    deriver: &Deriver,
) -> Result<Reported, UpstreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    start(conn, account)?;
    authenticate(conn, &account.proof, deriver).await?;
    let reported = collect(conn).await?;
    if reported.parameters.get(b"is_superuser") == Some(b"on") {
        return Err(UpstreamError::Superuser);
    }
    // What is left over would be taken for the answer to the first request.
    if conn.received().is_empty() { Ok(reported) } else { Err(UpstreamError::Unread) }
}

fn start<S>(conn: &mut Conn<S>, account: &Account<'_>) -> Result<(), UpstreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let own = [("user", account.proof.role), ("database", account.database)];
    let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let parameters = own.into_iter().chain(account.startup.iter().cloned()).collect();
    let message = StartupMessage { version: ProtocolVersion::V3_0, parameters };
    conn.queue(&message.encode().ok_or(UpstreamError::StartupTooLong)?);
    Ok(())
}

/// Answers the server's request until AuthenticationOk.
pub(super) async fn authenticate<S>(
    conn: &mut Conn<S>,
    proof: &Proof<'_>,
    deriver: &Deriver,
) -> Result<(), UpstreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = next_message(conn).await?;
    if request.tag == tag::NEGOTIATE_PROTOCOL_VERSION {
        request = next_message(conn).await?;
    }
    let password = proof.credentials.password.as_ref();
    match authentication(&request)? {
        Authentication::Ok => return Ok(()),
        Authentication::CleartextPassword if !proof.may_send_cleartext => return Err(UpstreamError::Cleartext),
        Authentication::CleartextPassword => match password {
            Some(Secret::Plain(password)) => send_password(conn, password),
            _ => return Err(UpstreamError::NoSecret("a password")),
        },
        Authentication::Md5Password { salt } => match password {
            Some(Secret::Plain(password)) => {
                send_password(conn, &md5_password(proof.role, password.as_bytes(), salt));
            }
            Some(Secret::Md5(stored)) => send_password(conn, &md5_answer(stored, salt)),
            _ => return Err(UpstreamError::NoSecret("a password hashed with MD5")),
        },
        Authentication::Sasl { mechanisms } => match proof.channel.choose(&mechanisms) {
            Some(chosen) => exchange(conn, proof.credentials, chosen, deriver).await?,
            None => return Err(UpstreamError::Method(printable(&mechanisms.join(", ")))),
        },
        Authentication::Other(code) => return Err(UpstreamError::Method(Authentication::method_name(code))),
        Authentication::SaslContinue(_) | Authentication::SaslFinal(_) => return Err(request.unexpected()),
    }
    let answer = next_message(conn).await?;
    match authentication(&answer)? {
        Authentication::Ok => Ok(()),
        _ => Err(answer.unexpected()),
    }
}

/// SCRAM up to the server's signature, which is right when this is `Ok`.
async fn exchange<S>(
    conn: &mut Conn<S>,
    credentials: &Credentials,
    (mechanism, binding): (&str, Binding),
    deriver: &Deriver,
) -> Result<(), UpstreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Credentials { password, recovered } = credentials;
    let password = match password {
        Some(Secret::Plain(password)) => Some(password),
        _ => None,
    };
    if password.is_none() && recovered.is_none() {
        return Err(UpstreamError::NoSecret(SCRAM_SHA_256));
    }
    let first = ClientFirst::new(Nonce::random(), binding);
    let mut out = Vec::new();
    sasl_initial_response(&mut out, mechanism, first.message().as_bytes());
    conn.queue(&out);

    let challenge = next_message(conn).await?;
    let challenged = match authentication(&challenge)? {
        Authentication::SaslContinue(data) => first.challenged(data).map_err(UpstreamError::Scram)?,
        Authentication::Ok => return Err(UpstreamError::Impostor),
        _ => return Err(challenge.unexpected()),
    };
    let keys = match (password, recovered) {
        (Some(password), _) => deriver.keys(password.as_bytes(), &challenged.salt, challenged.iterations).await,
        (None, Some((verifier, key))) if verifier.is_twin_of(&challenged.salt, challenged.iterations) => {
            Keys::recovered(key.clone(), verifier)
        }
        _ => return Err(UpstreamError::NoSecret(SCRAM_SHA_256)),
    };
    let signed = challenged.prove(&keys);
    let mut out = Vec::new();
    sasl_response(&mut out, signed.message.as_bytes());
    conn.queue(&out);

    let last = next_message(conn).await?;
    match authentication(&last)? {
        Authentication::SaslFinal(data) => signed.judge(data).map_err(|error| match error {
            ScramError::Signature => UpstreamError::Impostor,
            other => UpstreamError::Scram(other),
        }),
        Authentication::Ok => Err(UpstreamError::Impostor),
        _ => Err(last.unexpected()),
    }
}

/// Reads what the server reports, up to its ReadyForQuery.
async fn collect<S>(conn: &mut Conn<S>) -> Result<Reported, UpstreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut reported = Reported::default();
    for _ in 0..MAX_REPORTS {
        let message = next_message(conn).await?;
        match message.tag {
            tag::PARAMETER_STATUS => {
                let status = ParameterStatus::parse(&message.body).map_err(UpstreamError::Protocol)?;
                reported.parameters.set(status.name, status.value);
            }
            tag::BACKEND_KEY_DATA => {
                reported.cancel_key = Some(BackendKeyData::parse(&message.body).map_err(UpstreamError::Protocol)?);
            }
            tag::READY_FOR_QUERY => {
                return match TransactionStatus::parse(&message.body) {
                    Ok(TransactionStatus::Idle) => Ok(reported),
                    _ => Err(message.unexpected()),
                };
            }
            _ => return Err(message.unexpected()),
        }
    }
    Err(UpstreamError::Unread)
}

fn send_password<S>(conn: &mut Conn<S>, password: &str)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // With room for type, length and terminator: a vector that grows leaves copies behind that nobody wipes.
    let mut out = Zeroizing::new(Vec::with_capacity(password.len().saturating_add(6)));
    password_message(&mut out, password.as_bytes());
    conn.queue(&out);
}

fn authentication(message: &Message) -> Result<Authentication<'_>, UpstreamError> {
    if message.tag != tag::AUTHENTICATION {
        return Err(message.unexpected());
    }
    Authentication::parse(&message.body).map_err(UpstreamError::Protocol)
}

fn printable(name: &str) -> String {
    name.chars().filter(|character| !character.is_control()).take(MAX_METHOD_NAME).collect()
}

#[cfg(test)]
#[path = "login_tests.rs"]
mod tests;
