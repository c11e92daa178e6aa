//! What the server of a session has said, and owes.

use std::ops::ControlFlow;

use super::keeper::Keeper;
use super::relay::RelayEnd;
use crate::sessions::SessionState;
use crate::upstream::Parameters;
use crate::wire::{BodyScanner, ParameterStatus, Tracker, TransactionStatus, tag};

/// A session's server, by the messages that have passed.
pub(super) struct Server<'a> {
    pub(super) scanner: BodyScanner,
    pub(super) tracker: Tracker,
    /// Kept true for the connection's next session.
    pub(super) parameters: Option<&'a mut Parameters>,
    pub(super) status: TransactionStatus,
}

/// What is taken from the server's messages as they pass.
pub(super) struct Noted<'w> {
    pub(super) keeper: Option<&'w mut Keeper>,
}

/// What the server's next bytes amount to.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    /// The server has become ready for a query.
    pub(super) is_ready: bool,
    /// Where the answer to a LISTEN ends, the first one.
    pub(super) listen_end: Option<usize>,
    /// The session has changed a role.
    pub(super) role_change: Option<RoleChange>,
}

/// A command about roles that is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RoleChange {
    /// Its tag.
    pub(super) command: &'static str,
    /// Where the message that says so ends. Nothing behind it has been looked at.
    pub(super) end: usize,
}

impl Default for Server<'_> {
    /// A server that has nothing outstanding.
    fn default() -> Self {
        Self {
            scanner: BodyScanner::default(),
            tracker: Tracker::default(),
            parameters: None,
            status: TransactionStatus::Idle,
        }
    }
}

impl Server<'_> {
    /// What the client does.
    pub(super) fn state(&self) -> SessionState {
        match self.status {
            _ if self.tracker.owes_answer() => SessionState::Active,
            TransactionStatus::Idle => SessionState::Idle,
            TransactionStatus::InTransaction => SessionState::IdleInTransaction,
            TransactionStatus::Failed => SessionState::IdleInTransactionAborted,
        }
    }

    /// True if the server owes nothing.
    pub(super) fn is_settled(&self) -> bool {
        !self.tracker.is_outstanding() && self.scanner.is_between_messages()
    }

    /// True if the server has answered every request that it certainly answers.
    pub(super) fn has_answered(&self) -> bool {
        !self.tracker.owes_answer() && self.scanner.is_between_messages()
    }

    /// True while the server waits for the client's data.
    pub(super) fn is_copying_in(&self) -> bool {
        self.tracker.is_copying_in()
    }

    /// True while the server drops what it is sent, up to a Sync.
    pub(super) fn is_skipping(&self) -> bool {
        self.tracker.is_skipping()
    }

    /// True where no Sync of the client's is missing.
    pub(super) fn is_synced(&self) -> bool {
        self.tracker.is_synced()
    }

    /// A message of the client's goes on.
    pub(super) fn request(&mut self, message: u8) {
        self.tracker.request(message);
    }

    /// Walks the server's next bytes, up to a change of a role.
    pub(super) fn scan(&mut self, chunk: &[u8], mut noted: Noted<'_>) -> Result<Scanned, RelayEnd> {
        let mut scanner = std::mem::take(&mut self.scanner);
        let (mut found, mut tracked) = (Scanned::default(), Ok(()));
        let scanned = scanner.scan_until(chunk, is_noted, |tag, body, end| {
            let answered = self.tracker.answer(tag);
            if tracked.is_ok() {
                tracked = answered;
            }
            found.is_ready |= tag == tag::READY_FOR_QUERY;
            self.note(tag, body, noted.reborrow());
            let command = body.filter(|_| tag == tag::COMMAND_COMPLETE);
            if command == Some(b"LISTEN\0") {
                found.listen_end.get_or_insert(end);
            }
            let changed = command.and_then(role_command);
            found.role_change = changed.map(|command| RoleChange { command, end });
            if changed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        self.scanner = scanner;
        scanned.and(tracked).map(|()| found).map_err(RelayEnd::UpstreamProtocol)
    }

    /// Takes in a message.
    pub(super) fn note(&mut self, tag: u8, body: Option<&[u8]>, noted: Noted<'_>) {
        match (tag, body) {
            (tag::COMMAND_COMPLETE, Some(command)) => {
                if let Some(keeper) = noted.keeper {
                    keeper.on_command(command);
                }
            }
            (tag::READY_FOR_QUERY, Some(body)) => {
                self.status = TransactionStatus::parse(body).unwrap_or(TransactionStatus::Failed);
                if let Some(keeper) = noted.keeper {
                    keeper.on_ready(self.status);
                }
            }
            (tag::PARAMETER_STATUS, Some(body)) => {
                if let (Ok(status), Some(parameters)) = (ParameterStatus::parse(body), &mut self.parameters) {
                    parameters.set(status.name, status.value);
                }
            }
            _ => {}
        }
    }
}

impl Noted<'_> {
    fn reborrow(&mut self) -> Noted<'_> {
        Noted { keeper: self.keeper.as_deref_mut() }
    }
}

/// The tag of a command that changes roles, by the body of CommandComplete. `ALTER USER` and `ALTER ROLE … SET` are `ALTER ROLE`.
fn role_command(tag: &[u8]) -> Option<&'static str> {
    match tag {
        b"ALTER ROLE\0" => Some("ALTER ROLE"),
        b"CREATE ROLE\0" => Some("CREATE ROLE"),
        b"DROP ROLE\0" => Some("DROP ROLE"),
        b"GRANT ROLE\0" => Some("GRANT ROLE"),
        b"REVOKE ROLE\0" => Some("REVOKE ROLE"),
        _ => None,
    }
}

/// The messages whose bodies say something.
fn is_noted(tag: u8) -> bool {
    matches!(tag, tag::READY_FOR_QUERY | tag::COMMAND_COMPLETE | tag::PARAMETER_STATUS)
}
