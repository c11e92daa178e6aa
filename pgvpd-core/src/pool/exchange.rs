//! Conversations of the proxy's own on a connection that nobody else uses at the moment. Every answer is expected; one that is not
//! ends the connection's use.
//!
//! Each begins and ends with a call whose result is a random value ([`Echo`]): the server answers in order, so that what comes
//! between the two is the answer to what was asked between them, whatever was outstanding before.

use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use crate::context::{
    Confirmed, ContextSetup, Exchange, ExchangeFault, InjectionError, Progress, SetupError, ToSend, ask_echo,
    check_echo,
};
use crate::net::Conn;
use crate::random::Echo;
use crate::upstream::Parameters;
use crate::wire::{
    Answer, ErrorFields, Frame, ParameterStatus, Replies, ReplyError, TransactionStatus, WireError, tag,
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
    /// What came answers something that was asked before.
    #[error("an answer to another request")]
    Foreign,
    /// An error where none may be.
    #[error("{0}")]
    Failed(String),
}

impl From<ExchangeFault> for ExchangeError {
    fn from(fault: ExchangeFault) -> Self {
        match fault {
            ExchangeFault::Foreign => Self::Foreign,
            ExchangeFault::Failed(error) => Self::Failed(error),
            ExchangeFault::Reply(ReplyError::Unexpected(found)) => Self::Unexpected(found),
            ExchangeFault::Reply(ReplyError::Malformed(error)) => error.into(),
        }
    }
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

    /// The same; notices that come before it are shown to `on_notice`.
    async fn next_noting(&mut self, on_notice: impl FnMut(&[u8])) -> Result<(u8, Zeroizing<Vec<u8>>), ExchangeError> {
        self.next_of(MAX_MESSAGE, on_notice).await
    }

    /// The next message that is an answer, of no more bytes than these.
    pub(crate) async fn next_up_to(&mut self, max: usize) -> Result<(u8, Zeroizing<Vec<u8>>), ExchangeError> {
        self.next_of(max, |_| {}).await
    }

    async fn next_of(
        &mut self,
        max: usize,
        mut on_notice: impl FnMut(&[u8]),
    ) -> Result<(u8, Zeroizing<Vec<u8>>), ExchangeError> {
        for _ in 0..MAX_ASIDES {
            let (found, body) = self.conn.next_message(max).await?.ok_or(ExchangeError::Closed)?;
            match found {
                tag::PARAMETER_STATUS => {
                    let status = ParameterStatus::parse(&body)?;
                    self.parameters.set(status.name, status.value);
                }
                tag::NOTICE_RESPONSE => on_notice(&body),
                tag::NOTIFICATION_RESPONSE => {}
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

    /// Reads what a statement of [`bind_and_run`](crate::wire::bind_and_run) leads to: one row, or an error.
    pub(crate) async fn expect_row(&mut self) -> Result<Answer, ExchangeError> {
        self.read(Replies::statement()).await
    }

    /// Reads the results of so many calls as a row, or the first error.
    pub(super) async fn expect_results(&mut self, count: usize) -> Result<Answer, ExchangeError> {
        self.read(Replies::calls(count)).await
    }

    /// Reads the result of [`ask_echo`].
    pub(crate) async fn expect_echo(&mut self, echo: &Echo) -> Result<(), ExchangeError> {
        let answer = self.read(Replies::calls(1)).await?;
        Ok(check_echo(echo, &answer)?)
    }

    async fn read(&mut self, mut replies: Replies) -> Result<Answer, ExchangeError> {
        loop {
            let (tag, body) = self.next().await?;
            if let Some(answer) = replies.on(Frame { tag, body: &body }).map_err(ExchangeFault::from)? {
                return Ok(answer);
            }
        }
    }

    async fn read_exchange(&mut self, mut exchange: Exchange) -> Result<Answer, ExchangeError> {
        loop {
            let (tag, body) = self.next().await?;
            if let Some(answer) = exchange.on(Frame { tag, body: &body })? {
                self.expect_silence()?;
                return Ok(answer);
            }
        }
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
    let mut messages = messages.to_vec();
    let exchange = Exchange::between_echoes(&mut messages, Replies::statement());
    send(conn, &messages).await?;
    Answers::new(conn, parameters).read_exchange(exchange).await
}

/// Why a context is not in force on a connection.
#[derive(Debug)]
pub(crate) enum SetContextError {
    /// The connection is of no use; another one may be.
    Exchange(ExchangeError),
    /// The server refuses what is to be set: the body of its ErrorResponse. The connection has to be reset.
    Refused(Vec<u8>),
    Context(InjectionError),
}

impl From<ExchangeError> for SetContextError {
    fn from(error: ExchangeError) -> Self {
        Self::Exchange(error)
    }
}

impl From<SetupError> for SetContextError {
    fn from(error: SetupError) -> Self {
        match error {
            SetupError::Exchange(fault) => Self::Exchange(fault.into()),
            SetupError::Refused(body) => Self::Refused(body),
            SetupError::Context(error) => Self::Context(error),
        }
    }
}

/// Sends what the setup asks for, beginning with `first`, until the context is in force. Not to be cancelled without closing the
/// connection.
pub(crate) async fn set_context<S>(
    conn: &mut Conn<S>,
    parameters: &mut Parameters,
    setup: &mut ContextSetup,
    first: ToSend,
) -> Result<Confirmed, SetContextError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    send(conn, &first.messages).await?;
    let mut answers = Answers::new(conn, parameters);
    loop {
        let (tag, body) = answers.next_noting(|notice| setup.on_notice(notice)).await?;
        let progress = setup.on(Frame { tag, body: &body });
        if !matches!(progress, Ok(Progress::More)) {
            answers.expect_silence()?;
        }
        match progress? {
            Progress::More => {}
            Progress::Send(next) => send(answers.conn, &next.messages).await?,
            Progress::Confirmed(confirmed) => return Ok(confirmed),
        }
    }
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

pub(crate) async fn send<S>(conn: &mut Conn<S>, messages: &[u8]) -> Result<(), ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    conn.queue(messages);
    // A server that is gone may still have said why; reading finds that.
    let _ = conn.flush().await;
    Ok(())
}
