//! One request of the proxy's own and the answers to it, told from the answers to anything else by an echo. No I/O.

use crate::random::Echo;
use crate::wire::{Answer, BuiltIn, ErrorFields, Frame, Replies, ReplyError, function_call};

/// The answers to one request, as far as they have come.
#[derive(Debug)]
pub(crate) struct Exchange {
    replies: Replies,
    guard: Guard,
}

/// How the answers are told from those to other requests.
#[derive(Debug)]
enum Guard {
    /// Nothing else has been asked.
    None,
    /// The row has the echo.
    InRow(Echo),
    /// Two calls that bring the echo back stand around them: the one before is being answered, or the request, or the one after.
    Opening(Echo, Replies),
    Between(Echo),
    Closing(Echo, Replies, Answer),
}

/// Why a message is no basis for going on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ExchangeFault {
    /// It answers another request.
    Foreign,
    /// The echo failed: the server's words.
    Failed(String),
    Reply(ReplyError),
}

impl From<ReplyError> for ExchangeFault {
    fn from(error: ReplyError) -> Self {
        Self::Reply(error)
    }
}

/// Appends the call with which an exchange begins and ends.
pub(crate) fn ask_echo(echo: &Echo, out: &mut Vec<u8>) {
    function_call(out, BuiltIn::TextIn.into(), &[echo.text().as_bytes()]);
}

impl Exchange {
    /// Expects the answers alone: nothing else has been asked on the connection.
    pub(crate) fn plain(replies: Replies) -> Self {
        Self { replies, guard: Guard::None }
    }

    /// Expects the answers alone; their row has the echo.
    pub(crate) fn with_echo_in_row(echo: Echo, replies: Replies) -> Self {
        Self { replies, guard: Guard::InRow(echo) }
    }

    /// Puts the messages of a request between two echoes: the server answers in order, so that what comes between them is the
    /// answer to the request, whatever was outstanding before.
    pub(crate) fn between_echoes(messages: &mut Vec<u8>, replies: Replies) -> Self {
        let (echo, mut all) = (Echo::new(), Vec::with_capacity(messages.len() + 128));
        ask_echo(&echo, &mut all);
        all.append(messages);
        ask_echo(&echo, &mut all);
        *messages = all;
        Self { replies, guard: Guard::Opening(echo, Replies::calls(1)) }
    }

    /// The echo that the row has, if it has one.
    pub(crate) fn echo_in_row(&self) -> Option<&Echo> {
        match &self.guard {
            Guard::InRow(echo) => Some(echo),
            _ => None,
        }
    }

    /// Number of the call of the request that is answered next; `None` while an echo is awaited.
    pub(crate) fn call(&self) -> Option<usize> {
        matches!(self.guard, Guard::None | Guard::Between(_)).then(|| self.replies.calls_answered())
    }

    /// Takes the next answer. Returns what the request led to with the last one.
    ///
    /// # Errors
    /// [`ExchangeFault`] if the message is not an answer to this request.
    pub(crate) fn on(&mut self, message: Frame<'_>) -> Result<Option<Answer>, ExchangeFault> {
        match &mut self.guard {
            Guard::None | Guard::InRow(_) => Ok(self.replies.on(message)?),
            Guard::Opening(echo, replies) => {
                if let Some(answer) = replies.on(message)? {
                    check_echo(echo, &answer)?;
                    self.guard = Guard::Between(echo.clone());
                }
                Ok(None)
            }
            Guard::Between(echo) => {
                if let Some(answer) = self.replies.on(message)? {
                    self.guard = Guard::Closing(echo.clone(), Replies::calls(1), answer);
                }
                Ok(None)
            }
            Guard::Closing(echo, replies, answer) => {
                let Some(last) = replies.on(message)? else { return Ok(None) };
                check_echo(echo, &last)?;
                Ok(Some(std::mem::replace(answer, Answer::Row(Vec::new()))))
            }
        }
    }
}

/// Checks that an echo has come back.
pub(crate) fn check_echo(echo: &Echo, answer: &Answer) -> Result<(), ExchangeFault> {
    match answer {
        Answer::Row(row) => match row.as_slice() {
            [Some(value)] if echo.is(value) => Ok(()),
            _ => Err(ExchangeFault::Foreign),
        },
        Answer::Error(body) => Err(ExchangeFault::Failed(ErrorFields::new(body).summary())),
    }
}
