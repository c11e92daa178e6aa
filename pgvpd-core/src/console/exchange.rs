//! The protocol of a console's session: messages in, answers out, by the manual's chapter "Message Flow". Commands are run by
//! whoever drives it; nothing here knows what they do.
//!
//! ```text
//! simple:    Query ─► each statement: rows, CommandComplete ─► ReadyForQuery
//! extended:  Parse, Bind, Describe, Execute … ─► Sync ─► ReadyForQuery; after an error all is skipped up to the Sync
//! ```

use std::collections::HashMap;

use super::statement::{Command, parse};
use super::table::Outcome;
use crate::error::Refusal;
use crate::wire::{
    Bind, Cell, Column, ErrorResponse, Format, Frame, FrontendMessage, Severity, SqlState, Target, TransactionStatus,
    WireError, bind_complete, close_complete, command_complete, data_row, empty_query_response, no_data,
    parameter_description, parse_complete, portal_suspended, ready_for_query, row_description, tag,
};

/// Prepared statements, and portals, that a session may have at one time.
const MOST_NAMES: usize = 1000;

/// Whether a session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    GoesOn,
    Ends,
}

/// What is remembered of a session.
#[derive(Debug)]
pub(super) struct Exchange {
    transaction: TransactionStatus,
    statements: HashMap<String, Option<Command>>,
    portals: HashMap<String, Portal>,
    /// An error has come, and no Sync yet.
    is_skipping: bool,
}

/// A statement that is bound.
#[derive(Debug)]
struct Portal {
    /// `None` for an empty text.
    command: Option<Command>,
    formats: Vec<Format>,
    /// It has been run: the rows that are left, and the tag.
    left: Option<(std::vec::IntoIter<Vec<Cell>>, String)>,
}

/// Runs a command.
pub(super) trait Run {
    /// The columns of its result; `None` where it has none.
    fn columns(&self, command: &Command) -> Option<Vec<Column>>;
    /// Does it.
    fn run(&mut self, command: &Command) -> impl Future<Output = Result<Outcome, Refusal>> + Send;
}

impl Default for Exchange {
    fn default() -> Self {
        Self {
            transaction: TransactionStatus::Idle,
            statements: HashMap::new(),
            portals: HashMap::new(),
            is_skipping: false,
        }
    }
}

impl Exchange {
    /// Takes a message, and appends the answer to `out`.
    ///
    /// # Errors
    /// [`WireError`] for a message that is none: the session is over.
    pub(super) async fn take(
        &mut self,
        frame: Frame<'_>,
        runner: &mut impl Run,
        out: &mut Vec<u8>,
    ) -> Result<Flow, WireError> {
        let message = FrontendMessage::parse(frame)?;
        if self.is_skipping && !matches!(message, FrontendMessage::Sync | FrontendMessage::Terminate) {
            return Ok(Flow::GoesOn);
        }
        let done = match message {
            FrontendMessage::Terminate => return Ok(Flow::Ends),
            FrontendMessage::Sync => {
                self.is_skipping = false;
                // Portals last as long as the transaction.
                if self.transaction == TransactionStatus::Idle {
                    self.portals.clear();
                }
                ready_for_query(out, self.transaction);
                Ok(())
            }
            FrontendMessage::Query(text) => {
                if let Err(refusal) = self.simple(text, runner, out).await {
                    self.failed(&refusal, out);
                }
                ready_for_query(out, self.transaction);
                return Ok(Flow::GoesOn);
            }
            FrontendMessage::Flush => Ok(()),
            FrontendMessage::Parse { statement, text, types } => self.prepare(statement, text, types, out),
            FrontendMessage::Bind(bind) => self.bind(bind, out),
            FrontendMessage::Describe(target) => self.describe(target, runner, out),
            FrontendMessage::Execute { portal, max_rows } => self.execute(portal, max_rows, runner, out).await,
            FrontendMessage::Close(target) => {
                match target {
                    Target::Statement(name) => drop(self.statements.remove(name)),
                    Target::Portal(name) => drop(self.portals.remove(name)),
                }
                close_complete(out);
                Ok(())
            }
            // What is still on its way after a COPY that has failed; PostgreSQL takes no notice of it either.
            FrontendMessage::Other(tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL) => Ok(()),
            FrontendMessage::Other(tag::FUNCTION_CALL) => {
                let refusal = Refusal::new(SqlState::FEATURE_NOT_SUPPORTED, "the console has no functions");
                self.failed(&refusal, out);
                ready_for_query(out, self.transaction);
                return Ok(Flow::GoesOn);
            }
            FrontendMessage::Other(kind) => return Err(WireError::Malformed(char::from(kind))),
        };
        if let Err(refusal) = done {
            self.failed(&refusal, out);
            self.is_skipping = true;
        }
        Ok(Flow::GoesOn)
    }

    fn failed(&mut self, refusal: &Refusal, out: &mut Vec<u8>) {
        if self.transaction == TransactionStatus::InTransaction {
            self.transaction = TransactionStatus::Failed;
        }
        refusal.encode_as(Severity::Error, out);
    }

    async fn simple(&mut self, text: &str, runner: &mut impl Run, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let commands = parse(text)?;
        if commands.iter().any(|command| command.as_ref().is_some_and(|command| command.parameters() > 0)) {
            return Err(no_parameter());
        }
        let is_empty = commands.iter().all(Option::is_none);
        for command in commands.iter().flatten() {
            let outcome = self.run(command, runner).await?;
            say(&outcome.notices, out);
            if let Some(table) = outcome.table {
                row_description(out, &table.columns, &[]);
                table.rows.iter().for_each(|row| data_row(out, row, &[]));
            }
            command_complete(out, &outcome.tag);
        }
        if is_empty {
            empty_query_response(out);
        }
        Ok(())
    }

    fn prepare(&mut self, name: &str, text: &str, types: usize, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let mut commands = parse(text)?;
        let command = commands.pop().flatten();
        if !commands.is_empty() {
            let message = "cannot insert multiple commands into a prepared statement";
            return Err(Refusal::new(SqlState::SYNTAX_ERROR, message));
        }
        if types > command.as_ref().map_or(0, Command::parameters) {
            return Err(Refusal::new(SqlState::SYNTAX_ERROR, "types are given for more parameters than there are"));
        }
        room_for(name, &self.statements)?;
        self.statements.insert(name.into(), command);
        parse_complete(out);
        Ok(())
    }

    fn bind(&mut self, bind: Bind<'_>, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let Bind { portal, statement, values, formats } = bind;
        let mut command = self.statements.get(statement).ok_or_else(|| no_statement(statement))?.clone();
        let wanted = command.as_ref().map_or(0, Command::parameters);
        if values.len() != wanted {
            let message = format_args!("{} values are bound to {wanted} parameters", values.len());
            return Err(Refusal::new(SqlState::PROTOCOL_VIOLATION, message));
        }
        if let Some(value) = values.first() {
            let value = value.and_then(|value| std::str::from_utf8(value).ok());
            let value = value.ok_or_else(|| Refusal::new(SqlState::SYNTAX_ERROR, "the value names nobody"))?;
            command = command.map(|command| command.with(value));
        }
        room_for(portal, &self.portals)?;
        self.portals.insert(portal.into(), Portal { command, formats, left: None });
        bind_complete(out);
        Ok(())
    }

    fn describe(&self, target: Target<'_>, runner: &impl Run, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let (command, formats): (_, &[Format]) = match target {
            Target::Statement(name) => {
                let command = self.statements.get(name).ok_or_else(|| no_statement(name))?;
                parameter_description(out, command.as_ref().map_or(0, Command::parameters));
                (command, &[])
            }
            Target::Portal(name) => {
                let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
                (&portal.command, &portal.formats)
            }
        };
        match command.as_ref().and_then(|command| runner.columns(command)) {
            Some(columns) => row_description(out, &columns, formats),
            None => no_data(out),
        }
        Ok(())
    }

    async fn execute(
        &mut self,
        name: &str,
        max_rows: usize,
        runner: &mut impl Run,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let mut portal = self.portals.remove(name).ok_or_else(|| no_portal(name))?;
        let Some(command) = &portal.command else {
            self.portals.insert(name.into(), portal);
            empty_query_response(out);
            return Ok(());
        };
        let (mut rows, tag) = match portal.left.take() {
            Some(left) => left,
            None => {
                let outcome = self.run(command, runner).await?;
                say(&outcome.notices, out);
                (outcome.table.map(|table| table.rows).unwrap_or_default().into_iter(), outcome.tag)
            }
        };
        let limit = if max_rows == 0 { usize::MAX } else { max_rows };
        rows.by_ref().take(limit).for_each(|row| data_row(out, &row, &portal.formats));
        match rows.len() {
            0 => command_complete(out, &tag),
            _ => portal_suspended(out),
        }
        portal.left = Some((rows, tag));
        self.portals.insert(name.into(), portal);
        Ok(())
    }

    /// Runs a command, where the transaction permits it.
    async fn run(&mut self, command: &Command, runner: &mut impl Run) -> Result<Outcome, Refusal> {
        use TransactionStatus::{Failed, Idle, InTransaction};
        match (command, self.transaction) {
            (Command::Commit, Failed) | (Command::Rollback, _) => {
                self.transaction = Idle;
                Ok(Outcome::done("ROLLBACK"))
            }
            (Command::Commit, _) => {
                self.transaction = Idle;
                Ok(Outcome::done("COMMIT"))
            }
            (_, Failed) => {
                let message = "current transaction is aborted, commands ignored until end of transaction block";
                Err(Refusal::new(SqlState::IN_FAILED_TRANSACTION, message))
            }
            (Command::Begin, _) => {
                self.transaction = InTransaction;
                Ok(Outcome::done("BEGIN"))
            }
            (Command::DiscardAll, InTransaction) => {
                let message = "DISCARD ALL cannot run inside a transaction block";
                Err(Refusal::new(SqlState::ACTIVE_TRANSACTION, message))
            }
            (Command::DiscardAll, _) => {
                self.statements.clear();
                Ok(Outcome::done("DISCARD ALL"))
            }
            (Command::Deallocate(None), _) => {
                self.statements.clear();
                Ok(Outcome::done("DEALLOCATE ALL"))
            }
            (Command::Deallocate(Some(name)), _) => {
                self.statements.remove(name).ok_or_else(|| no_statement(name))?;
                Ok(Outcome::done("DEALLOCATE"))
            }
            (command, _) => runner.run(command).await,
        }
    }
}

fn say(notices: &[String], out: &mut Vec<u8>) {
    for message in notices {
        let (severity, code) = (Severity::Notice, SqlState::SUCCESSFUL_COMPLETION);
        ErrorResponse { severity, code, message, hint: None }.encode(out);
    }
}

fn room_for<T>(name: &str, names: &HashMap<String, T>) -> Result<(), Refusal> {
    if names.len() < MOST_NAMES || names.contains_key(name) {
        return Ok(());
    }
    let message = format_args!("more than {MOST_NAMES} prepared statements or portals");
    Err(Refusal::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message).hint("Close those that are not needed."))
}

fn no_statement(name: &str) -> Refusal {
    Refusal::new(SqlState::INVALID_STATEMENT_NAME, format_args!("prepared statement {name:?} does not exist"))
}

fn no_portal(name: &str) -> Refusal {
    Refusal::new(SqlState::INVALID_CURSOR_NAME, format_args!("portal {name:?} does not exist"))
}

fn no_parameter() -> Refusal {
    Refusal::new(SqlState::SYNTAX_ERROR, "there is no parameter $1")
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
