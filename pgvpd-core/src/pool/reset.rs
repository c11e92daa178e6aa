//! The boundary between two sessions on one connection: what the first has left is drained, undone and seen to be gone, or the
//! connection is closed.
//!
//! ```text
//! session over ─► cancel requests done ─► answers drained ─► ROLLBACK ─► echo, DISCARD ALL, setseed, attach, blank context, echo ─► Clean
//!                        └────────────────────┴── too long, unexpected ─► closed
//! ```

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::exchange::{Answers, ExchangeError, send};
use crate::context::{Facts, TOKEN, ask_echo};
use crate::net::Conn;
use crate::random::{Echo, random_bytes};
use crate::tenant::VariableName;
use crate::upstream::Parameters;
use crate::wire::{Answer, BuiltIn, ErrorFields, Function, TransactionStatus, function_call, query};

/// How long all of it may take.
const RESET_TIMEOUT: Duration = Duration::from_secs(5);

/// Proof that a connection is as it was when it was made, but for its age. Only [`clean_up`] makes one.
#[derive(Debug)]
pub(crate) struct Clean {
    /// What the next context is to be signed for; every earlier one is void. `None` where contexts are not signed.
    pub(super) facts: Option<Facts>,
}

/// Why a connection cannot be used again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResetError {
    /// The conversation went wrong.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The context is still there.
    #[error("the session's context is not blank after DISCARD ALL")]
    NotBlank,
    /// What was signed for this session would be good for the next one too.
    #[error("the session's signed context cannot be made void")]
    NotVoid,
    /// The server took too long.
    #[error("the reset took longer than {} s", RESET_TIMEOUT.as_secs())]
    Timeout,
}

/// How a session has left its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeftBehind {
    /// The state that the server was in last.
    pub(crate) status: TransactionStatus,
    /// ReadyForQuery messages that may still come ([`Tracker::spare_ready`](crate::wire::Tracker::spare_ready)).
    pub(crate) spare_ready: u32,
}

impl LeftBehind {
    /// Nothing but settings.
    pub(crate) const IDLE: Self = Self { status: TransactionStatus::Idle, spare_ready: 0 };
}

/// Undoes what a session has left on a connection that has answered everything.
pub(crate) async fn clean_up<S>(
    conn: &mut Conn<S>,
    parameters: &mut Parameters,
    left: LeftBehind,
    variables: &[VariableName],
    attach: Option<Function>,
) -> Result<Clean, ResetError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    clean_up_with(conn, parameters, left, (variables, attach), (&seed(), &Echo::new())).await
}

async fn clean_up_with<S>(
    conn: &mut Conn<S>,
    parameters: &mut Parameters,
    left: LeftBehind,
    context: (&[VariableName], Option<Function>),
    random: (&str, &Echo),
) -> Result<Clean, ResetError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    tokio::time::timeout(RESET_TIMEOUT, undo(conn, parameters, left, context, random))
        .await
        .unwrap_or(Err(ResetError::Timeout))
}

async fn undo<S>(
    conn: &mut Conn<S>,
    parameters: &mut Parameters,
    LeftBehind { status, spare_ready }: LeftBehind,
    (variables, attach): (&[VariableName], Option<Function>),
    (seed, echo): (&str, &Echo),
) -> Result<Clean, ResetError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut messages = Vec::with_capacity(256);
    if status != TransactionStatus::Idle {
        query(&mut messages, "ROLLBACK");
    }
    // A failed transaction takes no call. What comes before the echo cannot be taken for what comes after it.
    ask_echo(echo, &mut messages);
    query(&mut messages, "DISCARD ALL");
    // `random()` survives DISCARD ALL: who seeded it would know what it gives the next session.
    function_call(&mut messages, BuiltIn::SetSeed.into(), &[seed.as_bytes()]);
    if let Some(attach) = attach {
        function_call(&mut messages, attach, &[]);
    }
    let names = variables.iter().map(VariableName::as_str);
    for name in std::iter::once("role").chain(attach.map(|_| TOKEN)).chain(names) {
        function_call(&mut messages, BuiltIn::CurrentSetting.into(), &[name.as_bytes(), b"t"]);
    }
    ask_echo(echo, &mut messages);
    send(conn, &messages).await?;

    let mut answers = Answers::new(conn, parameters).after_spare_ready(spare_ready);
    if status != TransactionStatus::Idle {
        answers.expect_command(b"ROLLBACK").await?;
    }
    answers.expect_echo(echo).await?;
    answers.expect_command(b"DISCARD ALL").await?;
    let row = match answers.expect_results(2 + 2 * usize::from(attach.is_some()) + variables.len()).await? {
        Answer::Row(row) => row,
        Answer::Error(body) => return Err(ExchangeError::Failed(ErrorFields::new(&body).summary()).into()),
    };
    answers.expect_echo(echo).await?;
    answers.expect_silence()?;
    let (facts, row) = match (attach, row.as_slice()) {
        (None, [_seeded, row @ ..]) => (None, row),
        (Some(_), [_seeded, Some(facts), row @ ..]) => {
            let facts = Facts::parse(facts).filter(|facts| facts.can_be_voided());
            (Some(facts.ok_or(ResetError::NotVoid)?), row)
        }
        _ => return Err(ResetError::NotVoid),
    };
    // A role that is not switched is "none"; what has been set and reset is empty.
    match row {
        [Some(role), context @ ..]
            if role == b"none" && context.iter().all(|value| value.as_ref().is_none_or(Vec::is_empty)) =>
        {
            Ok(Clean { facts })
        }
        _ => Err(ResetError::NotBlank),
    }
}

/// A number from -1 to 1 from the system's generator.
fn seed() -> String {
    let random =
        f64::from(i32::from_ne_bytes(random_bytes())) + f64::from(u32::from_ne_bytes(random_bytes())) / TWO_TO_32;
    format!("{}", random / (TWO_TO_32 / 2.0))
}

const TWO_TO_32: f64 = 4_294_967_296.0;

#[cfg(test)]
#[path = "reset_tests.rs"]
mod tests;
