//! Puts a session's context back when a reset of the client's own has taken it away, ahead of the client's next request that
//! needs it. What waits meanwhile is the [`Gate`](super::gate::Gate)'s matter.
//!
//! ```text
//!           RESET, or a rollback of what was put back             the next request: a ContextSetup
//! InForce ──────────────────────────────────────────► Lost ─────────────────────────────────────► Restoring
//!    ▲                                                                                                │
//!    └────────────────────────────────────────────────────────────────────────────────── confirmed ───┘
//! ```
//!
//! Where the client's extended queries are not followed by a Sync yet, the exchange has none either: its end is a Flush's, so
//! that the client's transaction stays one.

use std::sync::Arc;

use super::relay::RelayEnd;
use crate::context::{ContextSetup, ExchangeFault, Injection, InjectionError, Lost, Progress, SetupError, Token};
use crate::error::Refusal;
use crate::resets::{Loss, Reset};
use crate::tenant::VariableName;
use crate::wire::{ErrorFields, Frame, Parsed, ReplyError, Severity, TransactionStatus, frame, query, tag};

/// The longest message while the context is put back.
const MAX_MESSAGE: usize = 256 * 1024;

/// The answers to a query that fails, and the code with which this one does.
const REFUSED: [u8; 2] = [tag::ERROR_RESPONSE, tag::READY_FOR_QUERY];

const SYNTAX_ERROR: &str = "42601";

/// What the server is sent in place of a query that is refused: it fails there, so that what an error does to a transaction is done.
/// The server's log has it.
const REFUSED_QUERY: &str = "pgvpd refused a query with statements that need the context after a RESET";

/// The context of one session.
pub(super) struct Keeper {
    injection: Arc<Injection>,
    /// Signed contexts, the one in force at the end.
    tokens: Vec<Token>,
    /// The connection is this session's own, and goes with it.
    is_own: bool,
    lost: Option<Lost>,
    /// It was put back inside a transaction: a rollback takes it away again.
    is_put_back_inside: bool,
    state: State,
    /// Bytes of the server's that are no whole message yet.
    received: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Settled,
    /// The context is being put back.
    Restoring(Box<ContextSetup>),
    /// A query of the client's is refused; so many of the messages that answer it have come.
    Refusing(usize),
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
    pub(super) fn new(injection: Arc<Injection>, token: Option<Token>, is_own: bool) -> Self {
        Self {
            injection,
            tokens: token.into_iter().collect(),
            is_own,
            lost: None,
            is_put_back_inside: false,
            state: State::Settled,
            received: Vec::new(),
        }
    }

    /// Puts this context in the place of the one in force, ahead of the client's next request. False where what was signed for the
    /// one before could not be made void.
    pub(super) fn replace(&mut self, found: &[(VariableName, String)]) -> bool {
        if self.injection.signature().is_some() && !self.is_nonce_bound() {
            return false;
        }
        self.injection = Arc::new(Injection::clone(&self.injection).with_found(found));
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
        !matches!(self.state, State::Settled)
    }

    /// The messages that put the context back, or ask for what is needed to, where it is lost. Only to be sent where messages may be
    /// put in, with a Sync at the end or a Flush.
    pub(super) fn restoration(&mut self, is_synced: bool) -> Option<Vec<u8>> {
        let (lost, tokens) = (self.lost.take()?, self.tokens.clone());
        let (setup, request) = ContextSetup::restore(&self.injection, tokens, lost, self.is_own, is_synced);
        self.state = State::Restoring(Box::new(setup));
        Some(request.messages)
    }

    /// What is sent in place of a query that is refused.
    pub(super) fn refuse(&mut self) -> Vec<u8> {
        let mut message = Vec::new();
        query(&mut message, REFUSED_QUERY);
        self.state = State::Refusing(0);
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
        let mut received = std::mem::take(&mut self.received);
        received.extend_from_slice(chunk);
        let mut used = 0;
        while self.is_busy() {
            let rest = received.get(used..).unwrap_or_default();
            let (message, size) = match frame(rest, MAX_MESSAGE).map_err(RelayEnd::UpstreamProtocol)? {
                Parsed::Complete(message, size) => (message, size),
                Parsed::Incomplete => {
                    received.drain(..used);
                    self.received = received;
                    return Ok(restored);
                }
            };
            let bytes = rest.get(..size).unwrap_or_default();
            match message.tag {
                tag::NOTICE_RESPONSE | tag::NOTIFICATION_RESPONSE | tag::PARAMETER_STATUS => {
                    aside(message);
                    restored.for_client.extend_from_slice(bytes);
                }
                _ if matches!(self.state, State::Refusing(_)) => {
                    aside(message);
                    self.on_refused(message, bytes, &mut restored.for_client)?;
                }
                _ => restored.for_server = self.on_restoring(message, status)?.or(restored.for_server),
            }
            used += size;
        }
        restored.rest = Some(received.split_off(used));
        Ok(restored)
    }

    /// Takes an answer while the context is put back. Returns what the server is to be sent next.
    fn on_restoring(&mut self, message: Frame<'_>, status: TransactionStatus) -> Result<Option<Vec<u8>>, RelayEnd> {
        let State::Restoring(setup) = &mut self.state else { return Ok(None) };
        match setup.on(message).map_err(|error| failed(error, message))? {
            Progress::More => Ok(None),
            Progress::Send(request) => Ok(Some(request.messages)),
            Progress::Confirmed(_) => {
                self.is_put_back_inside |= !setup.is_synced() || status != TransactionStatus::Idle;
                if let State::Restoring(setup) = std::mem::replace(&mut self.state, State::Settled) {
                    (self.tokens, _) = setup.into_parts();
                }
                Ok(None)
            }
        }
    }

    /// Takes an answer to a query that is refused.
    fn on_refused(&mut self, message: Frame<'_>, bytes: &[u8], for_client: &mut Vec<u8>) -> Result<(), RelayEnd> {
        let State::Refusing(step) = &mut self.state else { return Ok(()) };
        if REFUSED.get(*step) != Some(&message.tag) {
            return Err(RelayEnd::Refused(Refusal::context_lost(char::from(message.tag))));
        }
        match ErrorFields::new(message.body).code().as_deref() {
            Some(SYNTAX_ERROR) if message.tag == tag::ERROR_RESPONSE => {
                Refusal::cut_off().encode_as(Severity::Error, for_client);
            }
            // Its own words: the transaction had failed already, or somebody has cancelled it.
            _ => for_client.extend_from_slice(bytes),
        }
        *step += 1;
        if *step == REFUSED.len() {
            self.state = State::Settled;
        }
        Ok(())
    }
}

/// The end of a session whose context cannot be put back.
fn failed(error: SetupError, message: Frame<'_>) -> RelayEnd {
    match error {
        SetupError::Context(error) => RelayEnd::Refused(error.into()),
        SetupError::Exchange(ExchangeFault::Reply(ReplyError::Malformed(error))) => RelayEnd::UpstreamProtocol(error),
        SetupError::Exchange(_) => RelayEnd::Refused(Refusal::context_lost(char::from(message.tag))),
        SetupError::Refused(_) => RelayEnd::Refused(Refusal::context_lost(char::from(tag::ERROR_RESPONSE))),
    }
}

impl Refusal {
    fn context_lost(found: char) -> Self {
        tracing::warn!(found = %found, "the context could not be put back");
        Self::from(InjectionError::NotConfirmed)
    }
}
