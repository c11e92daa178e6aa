//! Conversations of the proxy's own on a connection that nobody else uses at the moment. Every answer is expected; one that is not
//! ends the connection's use.

use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use crate::net::Conn;
use crate::upstream::Parameters;
use crate::wire::{
    DataRow, ErrorFields, FunctionCallResponse, ParameterStatus, TransactionStatus, WireError, sync as sync_message,
    tag,
};

/// The longest message that an answer may have.
const MAX_MESSAGE: usize = 256 * 1024;

/// Notices, notifications and reports that may come before one answer.
const MAX_ASIDES: usize = 10_000;

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
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Answers<'a, S> {
    pub(crate) fn new(conn: &'a mut Conn<S>, parameters: &'a mut Parameters) -> Self {
        Self { conn, parameters, spare_ready: 0 }
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

    /// The results of so many calls as a row, or the first error.
    pub(super) async fn expect_results(&mut self, count: usize) -> Result<Answer, ExchangeError> {
        let (mut row, mut error) = (Vec::with_capacity(count), None);
        for _ in 0..count {
            match self.expect_result().await? {
                Ok(value) => row.push(value),
                Err(body) => error = error.or(Some(body)),
            }
        }
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

/// Sends the bytes of a statement with one row, outside of a transaction, and reads what comes of it.
pub(crate) async fn run_statement<S>(
    conn: &mut Conn<S>,
    parameters: &mut Parameters,
    messages: &[u8],
) -> Result<Answer, ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    send(conn, messages).await?;
    let mut answers = Answers::new(conn, parameters);
    let answer = answers.expect_row().await?;
    answers.expect_silence()?;
    Ok(answer)
}

/// Sends so many calls, outside of a transaction, and reads what comes of them.
pub(crate) async fn run_calls<S>(
    conn: &mut Conn<S>,
    parameters: &mut Parameters,
    messages: &[u8],
    count: usize,
) -> Result<Answer, ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    send(conn, messages).await?;
    let mut answers = Answers::new(conn, parameters);
    let answer = answers.expect_results(count).await?;
    answers.expect_silence()?;
    Ok(answer)
}

/// One round trip without effect.
pub(super) async fn sync<S>(conn: &mut Conn<S>, parameters: &mut Parameters) -> Result<(), ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut message = Vec::new();
    sync_message(&mut message);
    send(conn, &message).await?;
    let mut answers = Answers::new(conn, parameters);
    answers.expect_idle().await?;
    answers.expect_silence()
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
