//! Conversations of the proxy's own on a connection that nobody else uses at the moment. Every answer is expected; one that is not
//! ends the connection's use.
//!
//! Each begins and ends with a call whose result is a random value ([`Echo`]): the server answers in order, so that what comes
//! between the two is the answer to what was asked between them, whatever was outstanding before.

use std::ops::Range;

use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use crate::context::Calls;
use crate::net::Conn;
use crate::random::Echo;
use crate::upstream::Parameters;
use crate::wire::{
    BuiltIn, DataRow, ErrorFields, FunctionCallResponse, ParameterStatus, TransactionStatus, WireError, function_call,
    notice_response, tag,
};

/// The longest message that an answer may have.
const MAX_MESSAGE: usize = 256 * 1024;

/// Notices, notifications and reports that may come before one answer.
const MAX_ASIDES: usize = 10_000;

/// The most that is kept of notices.
const MAX_NOTICES: usize = 16 * 1024;

/// Why a conversation is no basis for going on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExchangeError {
    /// The server is gone.
    #[error("the upstream server closed the connection")]
    Closed,
    /// It has not answered in time.
    #[error("the upstream server did not answer")]
    Silent,
    /// These bytes are no messages.
    #[error(transparent)]
    Malformed(#[from] WireError),
    /// Another message than the one that was due.
    #[error("unexpected message of type {0:?}")]
    Unexpected(char),
    /// What came answers something that was asked before.
    #[error("an answer to another request")]
    Foreign,
    /// An error where none may be.
    #[error("{0}")]
    Failed(String),
}

/// What a bound statement led to; the connection is ready for the next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The first column set of its one row.
    Row(Vec<Option<Vec<u8>>>),
    /// The body of the server's ErrorResponse.
    Error(Vec<u8>),
}

/// Reads what the server sends, message by message; what it says aside is taken in.
pub(crate) struct Answers<'a, S> {
    conn: &'a mut Conn<S>,
    parameters: &'a mut Parameters,
    /// ReadyForQuery messages that may come first, and are somebody else's.
    spare_ready: u32,
    /// Notices that are the client's to see, as messages.
    notices: Vec<u8>,
    keeps_notices: bool,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Answers<'a, S> {
    pub(crate) fn new(conn: &'a mut Conn<S>, parameters: &'a mut Parameters) -> Self {
        Self { conn, parameters, spare_ready: 0, notices: Vec::new(), keeps_notices: false }
    }

    /// The same, after so many ReadyForQuery messages at most that belong to what was asked before.
    pub(super) fn after_spare_ready(self, spare_ready: u32) -> Self {
        Self { spare_ready, ..self }
    }

    /// The next message that is an answer: its type and its body.
    pub(super) async fn next(&mut self) -> Result<(u8, Zeroizing<Vec<u8>>), ExchangeError> {
        self.next_up_to(MAX_MESSAGE).await
    }

    /// The next message that is an answer, of no more bytes than these.
    pub(crate) async fn next_up_to(&mut self, max: usize) -> Result<(u8, Zeroizing<Vec<u8>>), ExchangeError> {
        for _ in 0..MAX_ASIDES {
            let (found, body) = self.conn.next_message(max).await?.ok_or(ExchangeError::Closed)?;
            match found {
                tag::PARAMETER_STATUS => {
                    let status = ParameterStatus::parse(&body)?;
                    self.parameters.set(status.name, status.value);
                }
                tag::NOTICE_RESPONSE if self.keeps_notices && self.notices.len() + body.len() < MAX_NOTICES => {
                    notice_response(&mut self.notices, &body);
                }
                tag::NOTICE_RESPONSE | tag::NOTIFICATION_RESPONSE => {}
                tag::READY_FOR_QUERY if self.spare_ready > 0 => self.spare_ready -= 1,
                found => {
                    self.spare_ready = 0;
                    return Ok((found, body));
                }
            }
        }
        Err(ExchangeError::Unexpected(char::from(tag::NOTICE_RESPONSE)))
    }

    /// The next answer has to be of this type.
    pub(super) async fn expect(&mut self, expected: u8) -> Result<Zeroizing<Vec<u8>>, ExchangeError> {
        match self.next().await? {
            (found, body) if found == expected => Ok(body),
            (tag::ERROR_RESPONSE, body) => Err(ExchangeError::Failed(ErrorFields::new(&body).summary())),
            (found, _) => Err(ExchangeError::Unexpected(char::from(found))),
        }
    }

    /// A command has to be complete, and the session to be idle after it.
    pub(crate) async fn expect_command(&mut self, name: &[u8]) -> Result<(), ExchangeError> {
        let body = self.expect(tag::COMMAND_COMPLETE).await?;
        if body.strip_suffix(b"\0") != Some(name) {
            return Err(ExchangeError::Unexpected(char::from(tag::COMMAND_COMPLETE)));
        }
        self.expect_idle().await
    }

    /// ReadyForQuery outside of a transaction.
    pub(super) async fn expect_idle(&mut self) -> Result<(), ExchangeError> {
        let body = self.expect(tag::READY_FOR_QUERY).await?;
        match TransactionStatus::parse(&body)? {
            TransactionStatus::Idle => Ok(()),
            _ => Err(ExchangeError::Unexpected(char::from(tag::READY_FOR_QUERY))),
        }
    }

    /// What a statement of [`bind_and_run`](crate::wire::bind_and_run) leads to: one row, or an error.
    pub(crate) async fn expect_row(&mut self) -> Result<Answer, ExchangeError> {
        let steps = [tag::PARSE_COMPLETE, tag::BIND_COMPLETE, tag::DATA_ROW, tag::COMMAND_COMPLETE];
        let mut row = Vec::new();
        for step in steps {
            match self.next().await? {
                (tag::DATA_ROW, body) if step == tag::DATA_ROW => {
                    row = DataRow::parse(&body)?.into_iter().map(|column| column.map(<[u8]>::to_vec)).collect();
                }
                (found, _) if found == step => {}
                (tag::ERROR_RESPONSE, body) => {
                    self.expect_idle().await?;
                    return Ok(Answer::Error(body.to_vec()));
                }
                (found, _) => return Err(ExchangeError::Unexpected(char::from(found))),
            }
        }
        self.expect_idle().await?;
        Ok(Answer::Row(row))
    }

    /// The result of one FunctionCall, or an error.
    pub(super) async fn expect_result(&mut self) -> Result<Result<Option<Vec<u8>>, Vec<u8>>, ExchangeError> {
        let result = match self.next().await? {
            (tag::FUNCTION_CALL_RESPONSE, body) => Ok(FunctionCallResponse::parse(&body)?.map(<[u8]>::to_vec)),
            (tag::ERROR_RESPONSE, body) => Err(body.to_vec()),
            (found, _) => return Err(ExchangeError::Unexpected(char::from(found))),
        };
        self.expect_idle().await?;
        Ok(result)
    }

    /// The result of [`ask_echo`].
    pub(crate) async fn expect_echo(&mut self, echo: &Echo) -> Result<(), ExchangeError> {
        match self.expect_result().await? {
            Ok(Some(value)) if echo.is(&value) => Ok(()),
            Ok(_) => Err(ExchangeError::Foreign),
            Err(body) => Err(ExchangeError::Failed(ErrorFields::new(&body).summary())),
        }
    }

    /// The results of so many calls as a row, or the first error.
    pub(super) async fn expect_results(&mut self, count: usize) -> Result<Answer, ExchangeError> {
        self.expect_results_noting(count, 0..0).await
    }

    /// The same, with the notices of some of them kept.
    async fn expect_results_noting(&mut self, count: usize, noted: Range<usize>) -> Result<Answer, ExchangeError> {
        let (mut row, mut error) = (Vec::with_capacity(count), None);
        for call in 0..count {
            self.keeps_notices = noted.contains(&call);
            match self.expect_result().await? {
                Ok(value) => row.push(value),
                Err(body) => error = error.or(Some(body)),
            }
        }
        self.keeps_notices = false;
        Ok(error.map_or(Answer::Row(row), Answer::Error))
    }

    /// Nothing may be left.
    pub(crate) fn expect_silence(&self) -> Result<(), ExchangeError> {
        match self.conn.received().first() {
            None => Ok(()),
            Some(byte) => Err(ExchangeError::Unexpected(char::from(*byte))),
        }
    }
}

/// Appends the call with which an exchange begins and ends.
pub(crate) fn ask_echo(echo: &Echo, out: &mut Vec<u8>) {
    function_call(out, BuiltIn::TextIn.into(), &[echo.text().as_bytes()]);
}

/// Sends the bytes of a statement with one row, outside of a transaction, and reads what comes of it.
pub(crate) async fn run_statement<S>(
    conn: &mut Conn<S>,
    parameters: &mut Parameters,
    messages: &[u8],
) -> Result<Answer, ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let echo = Echo::new();
    send(conn, &between_echoes(&echo, messages)).await?;
    let mut answers = Answers::new(conn, parameters);
    answers.expect_echo(&echo).await?;
    let answer = answers.expect_row().await?;
    answers.expect_echo(&echo).await?;
    answers.expect_silence()?;
    Ok(answer)
}

/// Sends calls, and reads what comes of them, and the notices that the client is to see.
pub(crate) async fn run_calls<S>(
    conn: &mut Conn<S>,
    parameters: &mut Parameters,
    calls: &Calls,
) -> Result<(Answer, Vec<u8>), ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let echo = Echo::new();
    send(conn, &between_echoes(&echo, &calls.messages)).await?;
    let mut answers = Answers::new(conn, parameters);
    answers.expect_echo(&echo).await?;
    let answer = answers.expect_results_noting(calls.count, calls.noted.clone()).await?;
    answers.expect_echo(&echo).await?;
    answers.expect_silence()?;
    Ok((answer, answers.notices))
}

/// One round trip without effect.
pub(super) async fn check<S>(conn: &mut Conn<S>, parameters: &mut Parameters) -> Result<(), ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (echo, mut message) = (Echo::new(), Vec::new());
    ask_echo(&echo, &mut message);
    send(conn, &message).await?;
    let mut answers = Answers::new(conn, parameters);
    answers.expect_echo(&echo).await?;
    answers.expect_silence()
}

fn between_echoes(echo: &Echo, messages: &[u8]) -> Vec<u8> {
    let mut all = Vec::with_capacity(messages.len() + 128);
    ask_echo(echo, &mut all);
    all.extend_from_slice(messages);
    ask_echo(echo, &mut all);
    all
}

pub(crate) async fn send<S>(conn: &mut Conn<S>, messages: &[u8]) -> Result<(), ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    conn.queue(messages);
    // A server that is gone may still have said why; reading finds that.
    let _ = conn.flush().await;
    Ok(())
}
