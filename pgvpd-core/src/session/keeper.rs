//! Puts a session's context back when a reset of the client's own has taken it away, ahead of the client's next request that
//! needs it. What waits meanwhile is the [`Gate`](super::gate::Gate)'s matter.
//!
//! ```text
//!           RESET, or a rollback of what was put back             the next request: the context
//! InForce ──────────────────────────────────────────► Lost ────────────────────────────────────► Restoring
//!    ▲                                                 │                                           │   ▲
//!    │                              DISCARD ALL, where │ the next request:               confirmed │   │ a new signature
//!    │                             a nonce is bound to ▼ a new nonce                               │   │
//!    │                                             Attaching ──────────────────────────────────────┼───┘
//!    └─────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Where the client's extended queries are not followed by a Sync yet, the exchange has none either: its end is a Flush's, so
//! that the client's transaction stays one.

use super::relay::RelayEnd;
use crate::context::{Injection, InjectionError, Outcome, Token};
use crate::error::Refusal;
use crate::random::Echo;
use crate::resets::{Loss, Reset};
use crate::tenant::VariableName;
use crate::wire::{DataRow, ErrorFields, Frame, Parsed, Severity, TransactionStatus, flush, frame, query, sync, tag};

/// The longest message while the context is put back.
const MAX_MESSAGE: usize = 256 * 1024;

/// The answers to [`Injection::attach`] and [`Injection::restore`].
const ANSWERS: [u8; 7] = [
    tag::PARSE_COMPLETE,
    tag::BIND_COMPLETE,
    tag::DATA_ROW,
    tag::COMMAND_COMPLETE,
    tag::CLOSE_COMPLETE,
    tag::CLOSE_COMPLETE,
    tag::READY_FOR_QUERY,
];

/// The same without the last, which is a Sync's.
const UNSYNCED_ANSWERS: &[u8] = match ANSWERS.split_last() {
    Some((_, answers)) => answers,
    None => &[],
};

/// The answers to a query that fails, and the code with which this one does.
const REFUSED: [u8; 2] = [tag::ERROR_RESPONSE, tag::READY_FOR_QUERY];

const SYNTAX_ERROR: &str = "42601";

/// What the server is sent in place of a query that is refused: it fails there, so that what an error does to a transaction is done.
/// The server's log has it.
const REFUSED_QUERY: &str = "pgvpd refused a query with statements that need the context after a RESET";

/// The context of one session.
pub(super) struct Keeper {
    injection: Injection,
    /// Signed contexts, the one in force at the end.
    tokens: Vec<Token>,
    /// The connection is this session's own, and goes with it.
    is_own: bool,
    lost: Option<Lost>,
    /// It was put back inside a transaction: a rollback takes it away again.
    is_put_back_inside: bool,
    state: State,
}

/// What a statement of the client's has taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lost {
    Context,
    /// And the nonce, to which the signed context was bound.
    Nonce,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Settled,
    Attaching(Exchange),
    Restoring(Exchange),
    /// A query of the client's is refused.
    Refusing(Exchange),
}

/// The server's answers so far, and how many of them were due.
#[derive(Debug, PartialEq, Eq)]
struct Exchange {
    /// What the row has to bring back.
    echo: Echo,
    received: Vec<u8>,
    due: &'static [u8],
    step: usize,
    row: Vec<u8>,
    /// It ends with a Sync.
    is_synced: bool,
}

/// The row of a statement whose answers have all come, and what follows them.
struct Answered {
    row: Vec<u8>,
    rest: Vec<u8>,
    is_synced: bool,
}

/// What the server's bytes amount to while the context is put back.
pub(super) struct Restored {
    /// What is for the client.
    pub(super) for_client: Vec<u8>,
    /// The client's own answers, if there are some already.
    pub(super) rest: Option<Vec<u8>>,
    /// What the server is to be sent.
    pub(super) for_server: Option<Vec<u8>>,
}

impl Keeper {
    /// For a session whose context is confirmed; `is_own` where its connection goes with it.
    pub(super) fn new(injection: Injection, token: Option<Token>, is_own: bool) -> Self {
        Self {
            injection,
            tokens: token.into_iter().collect(),
            is_own,
            lost: None,
            is_put_back_inside: false,
            state: State::Settled,
        }
    }

    /// Puts this context in the place of the one in force, ahead of the client's next request. False where what was signed for the
    /// one before could not be made void.
    pub(super) fn replace(&mut self, found: &[(VariableName, String)]) -> bool {
        if self.injection.signature().is_some() && !self.is_nonce_bound() {
            return false;
        }
        self.injection = self.injection.clone().with_found(found);
        let lost = if self.injection.signature().is_some() { Lost::Nonce } else { Lost::Context };
        self.lost = self.lost.max(Some(lost));
        true
    }

    /// True where it is to be put back and has not been yet.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// True where a rollback would take it away again.
    pub(super) fn is_put_back_inside(&self) -> bool {
        self.is_put_back_inside
    }

    /// What a reset of the client's takes away.
    pub(super) fn loss(&self, reset: &Reset<'_>) -> Loss {
        self.injection.loss(reset, self.is_nonce_bound())
    }

    /// Something may have taken the context away that no answer shows.
    pub(super) fn lose(&mut self) {
        self.lost = self.lost.max(Some(Lost::Context));
    }

    /// A command of the client's is complete.
    pub(super) fn on_command(&mut self, command: &[u8]) {
        let lost = match command {
            b"RESET\0" => Lost::Context,
            b"DISCARD ALL\0" | b"DISCARD SEQUENCES\0" if self.is_nonce_bound() => Lost::Nonce,
            b"DISCARD ALL\0" => Lost::Context,
            b"ROLLBACK\0" if self.is_put_back_inside => Lost::Context,
            _ => return,
        };
        self.lost = self.lost.max(Some(lost));
    }

    /// The server is ready for a query. A transaction can have ended in a rollback with any word, or none.
    pub(super) fn on_ready(&mut self, status: TransactionStatus) {
        if status == TransactionStatus::Idle && std::mem::take(&mut self.is_put_back_inside) {
            self.lose();
        }
    }

    fn is_nonce_bound(&self) -> bool {
        self.tokens.last().is_some_and(Token::is_nonce_bound)
    }

    /// True while answers are the keeper's.
    pub(super) fn is_busy(&self) -> bool {
        self.state != State::Settled
    }

    /// The messages that put the context back, or ask for what is needed to, where it is lost. Only to be sent where messages may be
    /// put in, with a Sync at the end or a Flush.
    pub(super) fn restoration(&mut self, is_synced: bool) -> Option<Vec<u8>> {
        let (exchange, mut messages) = (Exchange::new(is_synced), Vec::new());
        match self.lost.take()? {
            Lost::Context => {
                self.injection.restore(self.tokens.last(), &exchange.echo, &mut messages);
                self.state = State::Restoring(exchange);
            }
            Lost::Nonce => {
                self.injection.attach(&exchange.echo, &mut messages);
                self.state = State::Attaching(exchange);
            }
        }
        Some(ended(messages, is_synced))
    }

    /// What is sent in place of a query that is refused.
    pub(super) fn refuse(&mut self) -> Vec<u8> {
        let mut message = Vec::new();
        query(&mut message, REFUSED_QUERY);
        self.state = State::Refusing(Exchange { due: &REFUSED, ..Exchange::new(true) });
        message
    }

    /// Takes answers while the context is put back. `aside` is shown what is not an answer to that.
    pub(super) fn take(
        &mut self,
        chunk: &[u8],
        status: TransactionStatus,
        mut aside: impl FnMut(Frame<'_>),
    ) -> Result<Restored, RelayEnd> {
        let mut restored = Restored { for_client: Vec::new(), rest: None, for_server: None };
        let mut chunk = chunk.to_vec();
        loop {
            let (State::Attaching(exchange) | State::Restoring(exchange) | State::Refusing(exchange)) = &mut self.state
            else {
                restored.rest = Some(chunk);
                return Ok(restored);
            };
            exchange.received.append(&mut chunk);
            let Some(Answered { row, rest, is_synced }) = exchange.read(&mut restored.for_client, &mut aside)? else {
                return Ok(restored);
            };
            chunk = rest;
            let refused = |error: InjectionError| RelayEnd::Refused(Refusal::from(error));
            let state = std::mem::replace(&mut self.state, State::Settled);
            let (State::Attaching(Exchange { echo, .. }) | State::Restoring(Exchange { echo, .. })) = &state else {
                continue;
            };
            let row = DataRow::parse(&row).map_err(RelayEnd::UpstreamProtocol)?;
            if let State::Attaching(_) = state {
                let facts = Injection::attached(&row, echo).map_err(refused)?;
                // A pool's next session must not be able to use what is signed now.
                if !self.is_own && !facts.can_be_voided() {
                    return Err(refused(InjectionError::NoFacts));
                }
                self.tokens = self.injection.signature().map(|it| it.tokens(facts)).unwrap_or_default();
                self.lose();
                restored.for_server = self.restoration(is_synced);
                continue;
            }
            match self.injection.confirm_restored(&row, self.tokens.last(), echo).map_err(refused)? {
                Outcome::Confirmed(_) => {
                    self.is_put_back_inside |= !is_synced || status != TransactionStatus::Idle;
                }
                // The key has expired, or is known no more.
                Outcome::Unverified if self.tokens.len() > 1 => {
                    self.tokens.pop();
                    self.lose();
                }
                Outcome::Unverified => return Err(refused(InjectionError::NotVerified)),
                Outcome::Attached(_) => return Err(refused(InjectionError::NotConfirmed)),
            }
        }
    }
}

/// The messages, with a Sync at their end or a Flush.
fn ended(mut messages: Vec<u8>, is_synced: bool) -> Vec<u8> {
    if !is_synced {
        let mut last = Vec::new();
        sync(&mut last);
        messages.truncate(messages.len().saturating_sub(last.len()));
        flush(&mut messages);
    }
    messages
}

impl Exchange {
    fn new(is_synced: bool) -> Self {
        let due: &[u8] = if is_synced { &ANSWERS } else { UNSYNCED_ANSWERS };
        Self { echo: Echo::new(), received: Vec::new(), due, step: 0, row: Vec::new(), is_synced }
    }

    /// Reads on. Gives the row and what follows the last answer once all have come.
    fn read(
        &mut self,
        for_client: &mut Vec<u8>,
        aside: &mut impl FnMut(Frame<'_>),
    ) -> Result<Option<Answered>, RelayEnd> {
        let (mut used, is_refusal) = (0, self.due == REFUSED);
        while let Some(&due) = self.due.get(self.step) {
            let rest = self.received.get(used..).unwrap_or_default();
            let (message, size) = match frame(rest, MAX_MESSAGE).map_err(RelayEnd::UpstreamProtocol)? {
                Parsed::Complete(message, size) => (message, size),
                Parsed::Incomplete => {
                    self.received.drain(..used);
                    return Ok(None);
                }
            };
            let bytes = rest.get(..size).unwrap_or_default();
            match message.tag {
                tag::NOTICE_RESPONSE | tag::NOTIFICATION_RESPONSE | tag::PARAMETER_STATUS => {
                    aside(message);
                    for_client.extend_from_slice(bytes);
                }
                tag::ERROR_RESPONSE if is_refusal && due == tag::ERROR_RESPONSE => {
                    aside(message);
                    match ErrorFields::new(message.body).code().as_deref() {
                        Some(SYNTAX_ERROR) => Refusal::cut_off().encode_as(Severity::Error, for_client),
                        // Its own words: the transaction had failed already, or somebody has cancelled it.
                        _ => for_client.extend_from_slice(bytes),
                    }
                    self.step += 1;
                }
                found if found == due => {
                    if is_refusal {
                        aside(message);
                        for_client.extend_from_slice(bytes);
                    } else if found == tag::DATA_ROW {
                        self.row = message.body.to_vec();
                    }
                    self.step += 1;
                }
                found => return Err(RelayEnd::Refused(Refusal::context_lost(char::from(found)))),
            }
            used += size;
        }
        let (rest, row) = (self.received.split_off(used), std::mem::take(&mut self.row));
        Ok(Some(Answered { row, rest, is_synced: self.is_synced }))
    }
}

impl Refusal {
    fn context_lost(found: char) -> Self {
        tracing::warn!(found = %found, "the context could not be put back");
        Self::from(InjectionError::NotConfirmed)
    }
}
