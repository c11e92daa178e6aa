//! Keeps a session's context in force: puts it back when a reset of the client's own has taken it away, ahead of the client's next
//! request.
//!
//! ```text
//!           RESET, or a rollback of what          next request, nothing outstanding:
//!           was put back                          the context, and the request behind it
//! InForce ─────────────────────────────► Lost ──────────────────────────────────────────► Restoring
//!    ▲                                     │                                                │   ▲
//!    │                  DISCARD ALL, where │ next request: held back          confirmed     │   │ a new signature, and
//!    │                 a nonce is bound to ▼ until there is a new nonce                     │   │ the request behind it
//!    │                                Attaching ────────────────────────────────────────────┼───┘
//!    └──────────────────────────────────────────────────────────────────────────────────────┘
//! ```

use super::relay::RelayEnd;
use crate::context::{Injection, InjectionError, Outcome, Token};
use crate::error::Refusal;
use crate::tenant::VariableName;
use crate::wire::{DataRow, Frame, Parsed, TransactionStatus, frame, tag};

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

/// The context of one session.
pub(super) struct Keeper {
    injection: Injection,
    /// Signed contexts, the one in force at the end.
    tokens: Vec<Token>,
    /// The connection is this session's own, and goes with it.
    is_own: bool,
    lost: Option<Lost>,
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
    /// Put back inside a transaction: a rollback takes it away again.
    InTransaction,
    Attaching(Exchange),
    Restoring(Exchange),
}

/// The server's answers so far, and how many of them were due.
#[derive(Debug, Default, PartialEq, Eq)]
struct Exchange {
    received: Vec<u8>,
    step: usize,
    row: Option<Vec<u8>>,
    /// The client's requests that wait for it.
    held: Vec<u8>,
}

/// The row of a statement whose answers have all come, and what follows them.
struct Answered {
    row: Vec<u8>,
    rest: Vec<u8>,
}

/// How the context is put back.
pub(super) enum Restoration {
    /// By these messages, ahead of the request.
    Ahead(Vec<u8>),
    /// These messages come first, and the request waits for their answers.
    Hold(Vec<u8>),
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
        Self { injection, tokens: token.into_iter().collect(), is_own, lost: None, state: State::Settled }
    }

    /// Puts this context in the place of the one in force, ahead of the client's next request. False where what was signed for the
    /// one before could not be made void.
    pub(super) fn replace(&mut self, found: &[(VariableName, String)]) -> bool {
        if self.injection.signature().is_some() && !self.tokens.last().is_some_and(Token::is_nonce_bound) {
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

    /// A command of the client's is complete.
    pub(super) fn on_command(&mut self, command: &[u8]) {
        let is_nonce_bound = self.tokens.last().is_some_and(Token::is_nonce_bound);
        let lost = match command {
            b"RESET\0" => Lost::Context,
            b"DISCARD ALL\0" if is_nonce_bound => Lost::Nonce,
            b"DISCARD ALL\0" => Lost::Context,
            b"DISCARD SEQUENCES\0" if is_nonce_bound => Lost::Nonce,
            b"ROLLBACK\0" if self.state == State::InTransaction => {
                self.state = State::Settled;
                Lost::Context
            }
            _ => return,
        };
        self.lost = self.lost.max(Some(lost));
    }

    /// True while answers are the keeper's.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.state, State::Attaching(_) | State::Restoring(_))
    }

    /// How the context is to be put back, where it is lost. Only to be asked where messages may be put in.
    pub(super) fn restoration(&mut self) -> Option<Restoration> {
        let lost = self.lost.take()?;
        let mut messages = Vec::new();
        Some(match lost {
            Lost::Context => {
                self.injection.restore(self.tokens.last(), &mut messages);
                self.state = State::Restoring(Exchange::default());
                Restoration::Ahead(messages)
            }
            Lost::Nonce => {
                self.injection.attach(&mut messages);
                self.state = State::Attaching(Exchange::default());
                Restoration::Hold(messages)
            }
        })
    }

    /// Keeps a request until there is a new nonce.
    pub(super) fn hold(&mut self, request: &[u8]) {
        if let State::Attaching(exchange) = &mut self.state {
            exchange.held.extend_from_slice(request);
        }
    }

    /// Nobody needs the context any more, and nothing has been asked for yet.
    pub(super) fn give_up(&mut self) {
        self.state = State::Settled;
    }

    /// Takes answers while the context is put back. `aside` is shown what the server says beside them.
    pub(super) fn take(
        &mut self,
        chunk: &[u8],
        status: TransactionStatus,
        mut aside: impl FnMut(Frame<'_>),
    ) -> Result<Restored, RelayEnd> {
        let mut restored = Restored { for_client: Vec::new(), rest: None, for_server: None };
        let mut chunk = chunk.to_vec();
        loop {
            let (State::Attaching(exchange) | State::Restoring(exchange)) = &mut self.state else {
                restored.rest = Some(chunk);
                return Ok(restored);
            };
            exchange.received.append(&mut chunk);
            let Some(Answered { row, rest }) = exchange.read(&mut restored.for_client, &mut aside)? else {
                return Ok(restored);
            };
            chunk = rest;
            let row = DataRow::parse(&row).map_err(RelayEnd::UpstreamProtocol)?;
            let refused = |error: InjectionError| RelayEnd::Refused(Refusal::from(error));
            match std::mem::replace(&mut self.state, State::Settled) {
                State::Attaching(exchange) => {
                    let facts = Injection::attached(&row).map_err(refused)?;
                    // A pool's next session must not be able to use what is signed now.
                    if !self.is_own && !facts.can_be_voided() {
                        return Err(refused(InjectionError::NoFacts));
                    }
                    self.tokens = self.injection.signature().map(|it| it.tokens(facts)).unwrap_or_default();
                    let mut messages = Vec::new();
                    self.injection.restore(self.tokens.last(), &mut messages);
                    messages.extend(exchange.held);
                    restored.for_server = Some(messages);
                    self.state = State::Restoring(Exchange::default());
                }
                _ => match self.injection.confirm_restored(&row, self.tokens.last()).map_err(refused)? {
                    Outcome::Confirmed(_) => {
                        if status != TransactionStatus::Idle {
                            self.state = State::InTransaction;
                        }
                    }
                    // The key has expired, or is known no more.
                    Outcome::Unverified if self.tokens.len() > 1 => {
                        self.tokens.pop();
                        self.lost = Some(Lost::Context);
                    }
                    Outcome::Unverified => return Err(refused(InjectionError::NotVerified)),
                    Outcome::Attached(_) => return Err(refused(InjectionError::NotConfirmed)),
                },
            }
        }
    }
}

impl Exchange {
    /// Reads on. Gives the row and what follows the last answer once all have come.
    fn read(
        &mut self,
        for_client: &mut Vec<u8>,
        aside: &mut impl FnMut(Frame<'_>),
    ) -> Result<Option<Answered>, RelayEnd> {
        let mut used = 0;
        while self.step < ANSWERS.len() {
            let rest = self.received.get(used..).unwrap_or_default();
            let (message, size) = match frame(rest, MAX_MESSAGE).map_err(RelayEnd::UpstreamProtocol)? {
                Parsed::Complete(message, size) => (message, size),
                Parsed::Incomplete => {
                    self.received.drain(..used);
                    return Ok(None);
                }
            };
            match message.tag {
                tag::NOTICE_RESPONSE | tag::NOTIFICATION_RESPONSE | tag::PARAMETER_STATUS => {
                    aside(message);
                    for_client.extend_from_slice(rest.get(..size).unwrap_or_default());
                }
                found if ANSWERS.get(self.step) == Some(&found) => {
                    if found == tag::DATA_ROW {
                        self.row = Some(message.body.to_vec());
                    }
                    self.step += 1;
                }
                found => return Err(RelayEnd::Refused(Refusal::context_lost(char::from(found)))),
            }
            used += size;
        }
        let rest = self.received.split_off(used);
        Ok(self.row.take().map(|row| Answered { row, rest }))
    }
}

impl Refusal {
    fn context_lost(found: char) -> Self {
        tracing::warn!(found = %found, "the context could not be put back");
        Self::from(InjectionError::NotConfirmed)
    }
}
