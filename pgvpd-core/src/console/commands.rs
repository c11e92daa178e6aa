//! Does what the console is told. What changes something is written into the audit stream first, and into the log.

use std::sync::Arc;

use tokio::sync::Notify;
use tracing::info;

use super::exchange::Run;
use super::parameters::Parameters;
use super::show;
use super::statement::{Command, Operand};
use super::table::{Outcome, Table, int, number, text};
use super::{Administrator, MAX_MESSAGE};
use crate::audit::{AdminOutcome, Event};
use crate::error::Refusal;
use crate::net::{Conn, Socket};
use crate::pool::PoolMode;
use crate::pool::{Pools, Retired};
use crate::reload::ReloadError;
use crate::sessions::SessionId;
use crate::shared::Shared;
use crate::wire::{Cell, Column, SqlState};

/// One administrator's commands.
pub(super) struct Commands<'a> {
    pub(super) who: &'a Administrator,
    pub(super) shared: &'a Arc<Shared>,
    pub(super) parameters: &'a Parameters,
    /// A cancel request has come.
    pub(super) cancelled: &'a Notify,
    /// Who may leave while something lasts.
    pub(super) client: &'a mut Conn<Socket>,
}

impl Run for Commands<'_> {
    fn columns(&self, command: &Command) -> Option<Vec<Column>> {
        match command {
            Command::Show(topic) => Some(show::columns(*topic)),
            Command::ShowOption(option) => Some(vec![text(option.name)]),
            Command::ShowParameter(name) => Some(vec![text(name)]),
            Command::SelectNumber(_) => Some(vec![int("?column?")]),
            Command::SelectVersion => Some(vec![text("version")]),
            Command::SelectNothing => Some(vec![text("pg_advisory_unlock_all")]),
            _ => None,
        }
    }

    async fn run(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        let row = |cell| Table { columns: self.columns(command).unwrap_or_default(), rows: vec![vec![cell]] };
        match command {
            Command::Show(topic) => Ok(Outcome::table("SHOW", show::table(*topic, self.shared))),
            Command::ShowOption(option) => {
                let value = self.shared.config.load().shown(option);
                Ok(Outcome::table("SHOW", row(Cell::Text(value))))
            }
            Command::ShowParameter(name) => {
                let value = self.parameters.value(name).to_owned();
                Ok(Outcome::table("SHOW", row(Cell::Text(value))))
            }
            Command::SelectNumber(value) => Ok(Outcome::table("SELECT 1", row(number(*value)))),
            Command::SelectVersion => Ok(Outcome::table("SELECT 1", row(Cell::Text(show::version().into())))),
            Command::SelectNothing => Ok(Outcome::table("SELECT 1", row(Cell::Text(String::new())))),
            Command::Setting(tag) => Ok(Outcome::done(*tag)),
            Command::Reload => self.reload().await,
            Command::Pause => self.pause().await,
            Command::Resume => self.resume().await,
            Command::Reconnect(None) => self.reconnect(None).await,
            Command::Reconnect(Some(Operand::Given(database))) => self.reconnect(Some(database)).await,
            Command::CloseDatabase(Operand::Given(database)) => self.close_database(database).await,
            Command::Drain => self.drain().await,
            Command::DisconnectTenant(Operand::Given(tenant)) => self.disconnect_tenant(tenant).await,
            Command::DisconnectSession(Operand::Given(session)) => self.disconnect_session(session).await,
            // The exchange knows what these are.
            Command::DisconnectTenant(Operand::Parameter)
            | Command::DisconnectSession(Operand::Parameter)
            | Command::Reconnect(Some(Operand::Parameter))
            | Command::CloseDatabase(Operand::Parameter)
            | Command::Begin
            | Command::Commit
            | Command::Rollback
            | Command::DiscardAll
            | Command::Deallocate(_) => Err(Refusal::new(SqlState::FEATURE_NOT_SUPPORTED, "not here")),
        }
    }
}

impl Commands<'_> {
    /// Tells of a change that is about to be made; it is not, where that cannot be written.
    async fn tell(&self, action: &str) -> Result<(), Refusal> {
        let Administrator { user, address, .. } = self.who;
        let (client, outcome) = (address.to_string(), AdminOutcome::Accepted);
        let event = Event::AdminAction { action, client: &client, user: Some(user), outcome, reason: None };
        self.shared.audit(&event).await.map_err(|_| not_audited())?;
        info!(action, client, %user, "an administrator's request");
        Ok(())
    }

    async fn reload(&self) -> Result<Outcome, Refusal> {
        self.tell("RELOAD").await?;
        match Shared::reload_again(self.shared).await {
            Ok(reloaded) if reloaded.needs_restart.is_empty() => Ok(Outcome::done("RELOAD")),
            Ok(reloaded) => {
                let options = reloaded.needs_restart.join(", ");
                Ok(Outcome::done("RELOAD").noticing(format!("a restart is needed for: {options}")))
            }
            Err(error) => {
                tracing::error!(%error, "reload failed; the old configuration stays");
                let code = match error {
                    ReloadError::NoSource => SqlState::FEATURE_NOT_SUPPORTED,
                    _ => SqlState::CONFIG_FILE_ERROR,
                };
                Err(Refusal::new(code, error).hint("Nothing has changed."))
            }
        }
    }

    /// As PgBouncer's: it returns when all server connections are closed. Who cancels it, or leaves, has the pools go on.
    async fn pause(&mut self) -> Result<Outcome, Refusal> {
        self.expect_pools()?;
        let pools = &self.shared.pools;
        if pools.is_paused() {
            return Err(Refusal::new(SqlState::NOT_IN_PREREQUISITE_STATE, "the pools are paused already"));
        }
        self.tell("PAUSE").await?;
        pools.pause();
        let pausing = Pausing { pools, is_paused: false };
        let pause = async move {
            let was_emptied = pausing.pools.emptied().await;
            let mut pausing = pausing;
            pausing.is_paused = was_emptied;
            was_emptied
        };
        tokio::select! {
            biased;
            () = self.shared.stopped.cancelled() => Err(Refusal::shutting_down()),
            was_emptied = pause => match was_emptied {
                true => Ok(Outcome::done("PAUSE")),
                false => Err(Refusal::new(SqlState::NOT_IN_PREREQUISITE_STATE, "the pools have been resumed meanwhile")),
            },
            () = self.cancelled.notified() => {
                let refusal = Refusal::new(SqlState::QUERY_CANCELED, "canceling statement due to user request");
                Err(refusal.hint("The pools go on."))
            }
            () = leaves(self.client) => Err(Refusal::terminated()),
        }
    }

    async fn resume(&self) -> Result<Outcome, Refusal> {
        self.expect_pools()?;
        if !self.shared.pools.is_paused() {
            return Err(Refusal::new(SqlState::NOT_IN_PREREQUISITE_STATE, "the pools are not paused"));
        }
        self.tell("RESUME").await?;
        self.shared.pools.resume();
        Ok(Outcome::done("RESUME"))
    }

    /// As PgBouncer's: it waits for nothing. Connections that are in use are closed when their sessions end.
    async fn reconnect(&self, database: Option<&str>) -> Result<Outcome, Refusal> {
        self.expect_pools()?;
        let action = database.map_or("RECONNECT".into(), |database| format!("RECONNECT {database}"));
        self.tell(&action).await?;
        Ok(retired("RECONNECT", self.shared.reconnect(database)))
    }

    async fn close_database(&self, database: &str) -> Result<Outcome, Refusal> {
        self.expect_pools()?;
        self.tell(&format!("CLOSE DATABASE {database}")).await?;
        Ok(retired("CLOSE DATABASE", self.shared.close_database(database)))
    }

    fn expect_pools(&self) -> Result<(), Refusal> {
        if self.shared.config.load().pool_mode != PoolMode::None {
            return Ok(());
        }
        Err(Refusal::new(SqlState::NOT_IN_PREREQUISITE_STATE, "there are no pools: pool_mode is none"))
    }

    async fn drain(&self) -> Result<Outcome, Refusal> {
        self.tell("DRAIN").await?;
        let (sessions, timeout) = Shared::begin_to_drain(self.shared);
        let seconds = timeout.as_secs_f64();
        let notice = format!("no more clients; {sessions} sessions may finish within {seconds} s, then the proxy ends");
        Ok(Outcome::done("DRAIN").noticing(notice))
    }

    async fn disconnect_tenant(&self, tenant: &str) -> Result<Outcome, Refusal> {
        self.tell(&format!("DISCONNECT TENANT {tenant}")).await?;
        Ok(Outcome::done(format!("DISCONNECT {}", self.shared.disconnect_tenant(tenant))))
    }

    async fn disconnect_session(&self, session: &str) -> Result<Outcome, Refusal> {
        let Ok(number) = session.parse() else {
            let message = format_args!("{session:?} is not the number of a session");
            return Err(Refusal::new(SqlState::SYNTAX_ERROR, message).hint("SHOW CLIENTS has it, as ptr."));
        };
        self.tell(&format!("DISCONNECT SESSION {number}")).await?;
        match self.shared.disconnect_session(SessionId(number)) {
            true => Ok(Outcome::done("DISCONNECT 1")),
            false => Err(Refusal::new(SqlState::UNDEFINED_OBJECT, format_args!("there is no session {number}"))),
        }
    }
}

/// Done, with a notice of how many connections it was about.
fn retired(tag: &str, Retired { closed, follow }: Retired) -> Outcome {
    Outcome::done(tag).noticing(format!(
        "server connections closed: {closed}; in use or being made, and closed when they are released: {follow}"
    ))
}

/// A PAUSE that is not over. Dropping it has the pools go on.
struct Pausing<'a> {
    pools: &'a Pools,
    is_paused: bool,
}

impl Drop for Pausing<'_> {
    fn drop(&mut self) {
        if !self.is_paused && self.pools.is_paused() {
            self.pools.resume();
        }
    }
}

/// Resolves only when the client leaves, or sends more than is held back.
async fn leaves(client: &mut Conn<Socket>) {
    while matches!(client.fill().await, Ok(1..)) && client.received().len() <= MAX_MESSAGE {}
}

fn not_audited() -> Refusal {
    Refusal::new(SqlState::IO_ERROR, "what an administrator does cannot be recorded")
        .hint("The proxy's log says why; see audit_log.")
}
