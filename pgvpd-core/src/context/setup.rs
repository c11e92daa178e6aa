//! Sets a tenant's context on a server session, has it confirmed, and tries the next key if the database does not verify the
//! signature. There is no other place that does: relayed logins, connections of a pool, restores after a reset and the probe at the
//! start all drive this state machine. No I/O.
//!
//! ```text
//!        ┌─► Showing ────────── as the startup packet has set it ───────────────────────► Confirmed
//!        │      │ other values, or an error                                                  ▲
//! start ─┤      ▼                                                                            │
//!        ├─► Setting ─┬─ the row has every value, and the signature is verified ─────────────┘
//!        │    ▲  ▲    ├─ the row has what to sign for ─► signed, Setting the signature alone
//!        │    │  └────┴─ not verified ─► the next key; none left ─► error
//!        └─► Attaching ─ the row has what to sign for
//! ```
//!
//! A driver sends what it is given, hands in every message that is an answer, and stops at the first error: the session is of no
//! use then, or, after [`SetupError::Refused`], has to be reset.

use std::sync::Arc;

use super::exchange::{Exchange, ExchangeFault};
use super::injection::{Confirmed, Injection, InjectionError, Outcome};
use super::signature::Token;
use super::token::Facts;
use crate::random::Echo;
use crate::wire::{
    Answer, DataRow, ErrorFields, Frame, Function, Replies, ReplyError, TransactionStatus, WireError, bind_values,
    flush, notice_response, sync, tag,
};

/// Rows that are kept of the answer to SHOW: 32 context variables, role and is_superuser are fewer.
const MAX_SHOWN: usize = 64;

/// The most that is kept of notices.
const MAX_NOTICES: usize = 16 * 1024;

/// Asks for the facts that contexts on a connection are signed for. What was signed before is invalid then.
pub(crate) const ATTACH: &str = "SELECT pgvpd.attach()::pg_catalog.text";

/// The same, with the numbers of the functions that [`Attachment`] has.
const ATTACH_WITH_FUNCTIONS: &str = "SELECT pgvpd.attach()::pg_catalog.text, \
    'pgvpd.attach()'::pg_catalog.regprocedure::pg_catalog.oid::pg_catalog.text, \
    'public.pgvpd_context(text)'::pg_catalog.regprocedure::pg_catalog.oid::pg_catalog.text";

/// What contexts on a connection are signed for, and the functions that change and read it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attachment {
    pub(crate) facts: Facts,
    /// `pgvpd.attach()`
    pub(crate) attach: Function,
    /// `public.pgvpd_context(text)`
    pub(crate) verifier: Function,
}

/// The state machine.
#[derive(Debug)]
pub(crate) struct ContextSetup {
    injection: Arc<Injection>,
    way: Way,
    /// Signed contexts that may be tried, the current one at the end. Empty if contexts are plain, or nothing is signed yet.
    tokens: Vec<Token>,
    state: State,
    /// Notices about the settings that the client asked for, as messages.
    notices: Vec<u8>,
}

/// How requests travel.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// On the connection on which the client is logging in: nothing else has been asked.
    Login,
    /// On a connection of the proxy's own, between two echoes.
    Lease(Option<Attachment>),
    /// Among the client's own requests, with the echo in the row. Without `is_synced` the exchange ends with a Flush, so that the client's
    /// transaction stays one.
    Restore { is_own: bool, is_synced: bool },
}

#[derive(Debug)]
enum State {
    Idle,
    /// Values as far as they have come; `None` once it is clear that they are not as they should be.
    Showing(Option<Vec<Vec<u8>>>),
    Attaching(Exchange),
    Setting {
        exchange: Exchange,
        request: Request,
    },
}

/// The request that is being answered.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Request {
    /// Everything, by one statement.
    Whole,
    /// Everything, by calls of functions; the notices that come with these are the client's to see.
    Calls(std::ops::Range<usize>),
    /// The signature alone: the rest is in force.
    Signature,
}

/// What a restore has to bring back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lost {
    Context,
    /// And the nonce that the signed context was bound to.
    Nonce,
}

/// How far a message has brought the setup.
#[derive(Debug)]
pub(crate) enum Progress {
    /// More messages have to come.
    More,
    Send(ToSend),
    /// The context is in force.
    Confirmed(Confirmed),
}

/// Messages that the server is to be sent.
#[derive(Debug)]
pub(crate) struct ToSend {
    pub(crate) messages: Vec<u8>,
    /// If it is answered as it should be, nothing more has to be sent.
    pub(crate) may_be_last: bool,
}

/// Why the context is not in force.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SetupError {
    /// The server refuses what is to be set: the body of its ErrorResponse. All answers have come.
    Refused(Vec<u8>),
    Context(InjectionError),
    /// What came is no answer to what was asked.
    Exchange(ExchangeFault),
}

impl From<InjectionError> for SetupError {
    fn from(error: InjectionError) -> Self {
        Self::Context(error)
    }
}

impl From<ExchangeFault> for SetupError {
    fn from(fault: ExchangeFault) -> Self {
        Self::Exchange(fault)
    }
}

impl From<WireError> for SetupError {
    fn from(error: WireError) -> Self {
        Self::Exchange(ExchangeFault::Reply(ReplyError::Malformed(error)))
    }
}

fn unexpected(message: Frame<'_>) -> SetupError {
    SetupError::Exchange(ExchangeFault::Reply(ReplyError::Unexpected(char::from(message.tag))))
}

impl ContextSetup {
    fn new(injection: &Arc<Injection>, way: Way, tokens: Vec<Token>) -> Self {
        Self { injection: Arc::clone(injection), way, tokens, state: State::Idle, notices: Vec::new() }
    }

    /// Begins on the connection on which the client is logging in, whose startup packet may have set everything.
    pub(crate) fn at_login(injection: &Arc<Injection>) -> (Self, ToSend) {
        let mut setup = Self::new(injection, Way::Login, Vec::new());
        let mut messages = Vec::new();
        if injection.show(&mut messages).is_some() {
            setup.state = State::Showing(Some(Vec::new()));
            return (setup, ToSend { messages, may_be_last: true });
        }
        let request = setup.set();
        (setup, request)
    }

    /// The same, after other requests on that connection; `facts`: what contexts are to be signed for, if that is known.
    pub(crate) fn at_login_with(injection: &Arc<Injection>, facts: Option<Facts>) -> (Self, ToSend) {
        let mut setup = Self::new(injection, Way::Login, Vec::new());
        facts.into_iter().for_each(|facts| setup.sign_for(facts));
        let request = setup.set();
        (setup, request)
    }

    /// Begins on a connection of the proxy's own, with what is known of it.
    pub(crate) fn on_lease(injection: &Arc<Injection>, attachment: Option<Attachment>) -> (Self, ToSend) {
        let mut setup = Self::new(injection, Way::Lease(attachment), Vec::new());
        let request = match attachment {
            None if injection.signature().is_some() => setup.attach(),
            None => setup.set(),
            Some(Attachment { facts, .. }) => {
                setup.sign_for(facts);
                setup.set()
            }
        };
        (setup, request)
    }

    /// Begins among the requests of a client that has reset its session. `tokens` have been signed before, the one in force at the
    /// end; `is_own`: the connection goes with its session.
    pub(crate) fn restore(
        injection: &Arc<Injection>,
        tokens: Vec<Token>,
        lost: Lost,
        is_own: bool,
        is_synced: bool,
    ) -> (Self, ToSend) {
        let mut setup = Self::new(injection, Way::Restore { is_own, is_synced }, tokens);
        let request = match lost {
            Lost::Context => setup.set(),
            Lost::Nonce => setup.attach(),
        };
        (setup, request)
    }

    /// Returns the facts about the connection that contexts on it are signed for, if they are signed.
    pub(crate) fn attachment(&self) -> Option<Attachment> {
        match self.way {
            Way::Lease(attachment) => attachment,
            _ => None,
        }
    }

    /// The signed contexts that may still be tried, the one in force at the end; and the notices for the client, as messages.
    pub(crate) fn into_parts(self) -> (Vec<Token>, Vec<u8>) {
        (self.tokens, self.notices)
    }

    /// True if the exchange ends with a Sync.
    pub(crate) fn is_synced(&self) -> bool {
        !matches!(self.way, Way::Restore { is_synced: false, .. })
    }

    /// True if an error of the server's leaves everything to be set, as if nothing had been asked.
    pub(crate) fn tolerates(&self, error: &ErrorFields<'_>) -> bool {
        // `S` may be translated; poolers have only `S`.
        let severity = error.field(b'V').or_else(|| error.field(b'S'));
        matches!(self.state, State::Showing(_)) && severity.is_some_and(|severity| severity == "ERROR")
    }

    /// True if an error of the server's now would be about what is to be set.
    pub(crate) fn is_setting(&self) -> bool {
        matches!(self.state, State::Setting { .. })
    }

    /// Takes a message that comes between answers.
    pub(crate) fn on_notice(&mut self, body: &[u8]) {
        if let State::Setting { exchange, request: Request::Calls(noted) } = &self.state
            && exchange.call().is_some_and(|call| noted.contains(&call))
            && self.notices.len() + body.len() < MAX_NOTICES
        {
            notice_response(&mut self.notices, body);
        }
    }

    /// Takes the server's next answer.
    ///
    /// # Errors
    /// [`SetupError`] if the context is not in force and cannot be set.
    pub(crate) fn on(&mut self, message: Frame<'_>) -> Result<Progress, SetupError> {
        match &mut self.state {
            State::Idle => Err(unexpected(message)),
            State::Showing(_) => self.on_showing(message),
            State::Attaching(exchange) => match exchange.on(message)? {
                None => Ok(Progress::More),
                Some(answer) => self.on_attached(answer).map(Progress::Send),
            },
            State::Setting { exchange, .. } => match exchange.on(message)? {
                None => Ok(Progress::More),
                Some(answer) => self.on_set(answer),
            },
        }
    }

    fn on_showing(&mut self, message: Frame<'_>) -> Result<Progress, SetupError> {
        let State::Showing(rows) = &mut self.state else { return Err(unexpected(message)) };
        match message.tag {
            tag::ROW_DESCRIPTION | tag::COMMAND_COMPLETE => {}
            // The server does not know a variable, or does not show it: the statement has yet to set it.
            tag::ERROR_RESPONSE => *rows = None,
            tag::DATA_ROW => match (DataRow::parse(message.body)?.as_slice(), &mut *rows) {
                ([Some(value)], Some(values)) if values.len() < MAX_SHOWN => values.push(value.to_vec()),
                _ => *rows = None,
            },
            tag::READY_FOR_QUERY => {
                if TransactionStatus::parse(message.body)? != TransactionStatus::Idle {
                    return Err(unexpected(message));
                }
                return match self.injection.confirm_shown(rows.as_deref().unwrap_or_default()) {
                    Ok(confirmed) => Ok(self.confirmed(confirmed)),
                    Err(InjectionError::Superuser) => Err(InjectionError::Superuser.into()),
                    Err(_) => Ok(Progress::Send(self.set())),
                };
            }
            _ => return Err(unexpected(message)),
        }
        Ok(Progress::More)
    }

    fn on_attached(&mut self, answer: Answer) -> Result<ToSend, SetupError> {
        let row = match answer {
            Answer::Error(body) if InjectionError::is_missing(&ErrorFields::new(&body)) => {
                return Err(InjectionError::NotInstalled.into());
            }
            Answer::Error(body) => return Err(SetupError::Refused(body)),
            Answer::Row(row) => row,
        };
        let State::Attaching(exchange) = &self.state else { return Err(InjectionError::NotConfirmed.into()) };
        let facts = match &mut self.way {
            Way::Lease(attachment) => attachment.insert(read_attachment(&row)?).facts,
            Way::Restore { is_own, .. } => {
                let facts =
                    Injection::attached(&columns(&row), exchange.echo_in_row().ok_or(InjectionError::NotConfirmed)?)?;
                // A pool's next session must not be able to use the contexts signed now.
                if !*is_own && !facts.can_be_voided() {
                    return Err(InjectionError::NoFacts.into());
                }
                facts
            }
            Way::Login => return Err(InjectionError::NotConfirmed.into()),
        };
        self.sign_for(facts);
        Ok(self.set())
    }

    fn on_set(&mut self, answer: Answer) -> Result<Progress, SetupError> {
        let row = match answer {
            Answer::Error(body) => return Err(SetupError::Refused(body)),
            Answer::Row(row) => row,
        };
        let State::Setting { exchange, request } = &self.state else {
            return Err(InjectionError::NotConfirmed.into());
        };
        let (row, token) = (columns(&row), self.tokens.last());
        let outcome = match (request, self.way, token) {
            (Request::Signature, _, Some(token)) => self.injection.confirm_signed(&row, token),
            (Request::Signature, _, None) => Err(InjectionError::NotConfirmed),
            (Request::Calls(_), ..) => self.injection.confirm_calls(row, token),
            (Request::Whole, ..) => match exchange.echo_in_row() {
                Some(echo) => self.injection.confirm_restored(&row, token, echo),
                None => self.injection.confirm(&row, token),
            },
        };
        match outcome? {
            Outcome::Confirmed(confirmed) => return Ok(self.confirmed(confirmed)),
            Outcome::Attached(facts) if matches!(self.way, Way::Login) => self.sign_for(facts),
            Outcome::Attached(_) => return Err(InjectionError::NotConfirmed.into()),
            // Its key has expired, or is not known any more.
            Outcome::Unverified => _ = self.tokens.pop(),
        }
        if self.tokens.is_empty() {
            return Err(InjectionError::NotVerified.into());
        }
        Ok(Progress::Send(match self.way {
            Way::Login => self.set_signature(),
            Way::Lease(_) | Way::Restore { .. } => self.set(),
        }))
    }

    fn confirmed(&mut self, confirmed: Confirmed) -> Progress {
        self.state = State::Idle;
        Progress::Confirmed(confirmed)
    }

    /// Signs the context with each key.
    fn sign_for(&mut self, facts: Facts) {
        self.tokens = self.injection.signature().map(|signature| signature.tokens(facts)).unwrap_or_default();
    }

    /// Asks what contexts are to be signed for.
    fn attach(&mut self) -> ToSend {
        let mut messages = Vec::new();
        let exchange = match self.way {
            Way::Restore { is_synced, .. } => {
                let echo = Echo::new();
                self.injection.attach(&echo, &mut messages);
                end_with_flush(&mut messages, is_synced);
                Exchange::with_echo_in_row(echo, Replies::named(is_synced))
            }
            Way::Login | Way::Lease(_) => {
                bind_values(&mut messages, ATTACH_WITH_FUNCTIONS, &[]);
                Exchange::between_echoes(&mut messages, Replies::statement())
            }
        };
        self.state = State::Attaching(exchange);
        ToSend { messages, may_be_last: false }
    }

    /// Sets everything.
    fn set(&mut self) -> ToSend {
        // With the next key, the server says the same again.
        self.notices.clear();
        let (token, mut messages) = (self.tokens.last(), Vec::with_capacity(1024));
        let (exchange, request) = match self.way {
            Way::Login => {
                self.injection.request(token, &mut messages);
                (Exchange::plain(Replies::statement()), Request::Whole)
            }
            Way::Lease(attachment) => {
                let verifier = attachment.map(|attachment| attachment.verifier);
                match self.injection.calls(token.zip(verifier)) {
                    Some(calls) => {
                        messages = calls.messages;
                        let exchange = Exchange::between_echoes(&mut messages, Replies::calls(calls.count));
                        (exchange, Request::Calls(calls.noted))
                    }
                    None => {
                        self.injection.request(token, &mut messages);
                        (Exchange::between_echoes(&mut messages, Replies::statement()), Request::Whole)
                    }
                }
            }
            Way::Restore { is_synced, .. } => {
                let echo = Echo::new();
                self.injection.restore(token, &echo, &mut messages);
                end_with_flush(&mut messages, is_synced);
                (Exchange::with_echo_in_row(echo, Replies::named(is_synced)), Request::Whole)
            }
        };
        let may_be_last = self.injection.signature().is_none() || token.is_some();
        self.state = State::Setting { exchange, request };
        ToSend { messages, may_be_last }
    }

    /// Sets the signature alone.
    fn set_signature(&mut self) -> ToSend {
        let mut messages = Vec::new();
        if let Some(token) = self.tokens.last() {
            self.injection.sign(token, &mut messages);
        }
        self.state = State::Setting { exchange: Exchange::plain(Replies::statement()), request: Request::Signature };
        ToSend { messages, may_be_last: true }
    }
}

/// Reads the row of [`ATTACH`].
///
/// # Errors
/// [`InjectionError::NoFacts`] if the row does not have what a signature is bound to.
pub(crate) fn read_facts(row: &[Option<Vec<u8>>]) -> Result<Facts, InjectionError> {
    let facts = row.first().and_then(Option::as_deref).and_then(Facts::parse);
    facts.ok_or(InjectionError::NoFacts)
}

/// Reads the row of [`ATTACH_WITH_FUNCTIONS`].
fn read_attachment(row: &[Option<Vec<u8>>]) -> Result<Attachment, InjectionError> {
    let number = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).map(Function);
    let [Some(_), Some(attach), Some(verifier)] = row else { return Err(InjectionError::NotConfirmed) };
    let (Some(attach), Some(verifier)) = (number(attach), number(verifier)) else {
        return Err(InjectionError::NotConfirmed);
    };
    Ok(Attachment { facts: read_facts(row)?, attach, verifier })
}

fn columns(row: &[Option<Vec<u8>>]) -> Vec<Option<&[u8]>> {
    row.iter().map(Option::as_deref).collect()
}

/// Replaces the Sync at the end of the messages with a Flush, unless they are to end with a Sync.
fn end_with_flush(messages: &mut Vec<u8>, is_synced: bool) {
    if !is_synced {
        let mut last = Vec::new();
        sync(&mut last);
        messages.truncate(messages.len().saturating_sub(last.len()));
        flush(messages);
    }
}

#[cfg(test)]
#[path = "setup_tests.rs"]
mod tests;
