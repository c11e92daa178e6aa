//! The part of a login that sets the context, and has it confirmed: Checking, Showing and Injecting.

use super::{Frame, Login, LoginEnd, LoginError, MAX_SHOWN, State, unexpected};
use crate::context::RoleCheck;
use crate::context::{Facts, InjectionError, Outcome, Token, ask_about_role, read_about_role};
use crate::session::login_statement::{Progress, Statement};
use crate::session::login_terms::{LoggedIn, Permit, Who, warn_of_role};
use crate::wire::{DataRow, ErrorFields, tag};

impl Login {
    /// Asks about the role where that is due, or for the context.
    pub(super) fn ask(&mut self) {
        if self.role_check.is_none() {
            return self.set_context();
        }
        self.will_send();
        if let Who::Tenant { injection, .. } = &self.who {
            ask_about_role(injection.role(), &mut self.to_upstream);
        }
        self.state = State::Checking { statement: Statement::default(), fault: None };
    }

    pub(super) fn on_checking(&mut self, message: Frame<'_>) -> Result<Option<LoggedIn>, LoginEnd> {
        let State::Checking { statement, fault } = &mut self.state else { return Err(unexpected(message).into()) };
        match statement.on(message).ok_or_else(|| unexpected(message))? {
            Progress::Waits => {}
            Progress::Row => {
                let row = DataRow::parse(message.body).map_err(LoginError::UpstreamProtocol)?;
                *fault = Some(read_about_role(&row).ok_or_else(|| unexpected(message))?);
            }
            Progress::Ready => {
                let fault = fault.take().ok_or_else(|| unexpected(message))?;
                self.require_idle(message)?;
                match (fault, self.role_check) {
                    (Err(fault), Some(RoleCheck::Warn)) => warn_of_role(self.who.role(), &fault),
                    (Err(fault), _) => return Err(LoginError::Role(fault).into()),
                    (Ok(()), _) => {}
                }
                self.set_context();
            }
        }
        Ok(None)
    }

    /// Asks what the startup packet has set, or sets it.
    fn set_context(&mut self) {
        if self.resolves {
            self.state = State::Resolving;
            // They are not asked under what the role has set.
            self.surveys();
            return;
        }
        let mut question = Vec::new();
        if let Who::Tenant { injection, .. } = &self.who
            && injection.show(&mut question).is_some()
        {
            self.will_send();
            self.to_upstream.extend(question);
            self.has_sent_last();
            self.state = State::Showing { rows: Some(Vec::new()) };
        } else {
            self.inject(None);
        }
    }

    /// The server does not know a variable that it was sent, or will not show it: the statement has yet to set it.
    pub(super) fn may_go_on_after(&self, error: Frame<'_>) -> bool {
        let fields = ErrorFields::new(error.body);
        // `S` may be translated; poolers have only `S`.
        let severity = fields.field(b'V').or_else(|| fields.field(b'S'));
        matches!(self.state, State::Showing { .. }) && severity.is_some_and(|severity| severity == "ERROR")
    }

    pub(super) fn on_showing(&mut self, message: Frame<'_>) -> Result<Option<LoggedIn>, LoginEnd> {
        let (State::Showing { rows }, Who::Tenant { injection, .. }) = (&mut self.state, &self.who) else {
            return Err(unexpected(message).into());
        };
        match message.tag {
            tag::ROW_DESCRIPTION | tag::COMMAND_COMPLETE => Ok(None),
            tag::DATA_ROW => {
                let row = DataRow::parse(message.body).map_err(LoginError::UpstreamProtocol)?;
                match (row.as_slice(), &mut *rows) {
                    ([Some(value)], Some(values)) if values.len() < MAX_SHOWN => values.push(value.to_vec()),
                    _ => *rows = None,
                }
                Ok(None)
            }
            tag::READY_FOR_QUERY => {
                let confirmed = injection.confirm_shown(rows.as_deref().unwrap_or_default());
                self.require_idle(message)?;
                match confirmed {
                    Ok(confirmed) => Ok(self.confirmed(Permit::Context(confirmed, None), message)),
                    Err(InjectionError::Superuser) => Err(LoginError::Superuser.into()),
                    Err(_) => {
                        self.inject(None);
                        Ok(None)
                    }
                }
            }
            _ => Err(unexpected(message).into()),
        }
    }

    pub(super) fn inject(&mut self, facts: Option<Facts>) {
        self.will_send();
        if let Who::Tenant { injection, .. } = &self.who {
            let tokens = injection.signature().zip(facts).map(|(signature, facts)| signature.tokens(facts));
            let tokens = tokens.unwrap_or_default();
            injection.request(tokens.last(), &mut self.to_upstream);
            if injection.signature().is_none() || !tokens.is_empty() {
                self.has_sent_last();
            }
            let statement = Statement::default();
            self.state = State::Injecting { statement, outcome: None, tokens, is_whole: true };
        }
    }

    pub(super) fn on_injecting(&mut self, message: Frame<'_>) -> Result<Option<LoggedIn>, LoginEnd> {
        let (State::Injecting { statement, outcome, tokens, is_whole }, Who::Tenant { injection, .. }) =
            (&mut self.state, &self.who)
        else {
            return Err(unexpected(message).into());
        };
        match statement.on(message).ok_or_else(|| unexpected(message))? {
            Progress::Waits => Ok(None),
            Progress::Row => {
                let row = DataRow::parse(message.body).map_err(LoginError::UpstreamProtocol)?;
                let confirmed = match tokens.last() {
                    token if *is_whole => injection.confirm(&row, token),
                    None => Err(InjectionError::NotConfirmed),
                    Some(token) => injection.confirm_signed(&row, token),
                };
                *outcome = Some(confirmed.map_err(LoginError::from)?);
                Ok(None)
            }
            Progress::Ready => {
                let outcome = outcome.take().ok_or(LoginError::NotConfirmed)?;
                let left = std::mem::take(tokens);
                self.require_idle(message)?;
                self.on_outcome(outcome, left, message)
            }
        }
    }

    /// Finishes, or goes on to the context that is to be signed.
    fn on_outcome(
        &mut self,
        outcome: Outcome,
        mut tokens: Vec<Token>,
        ready: Frame<'_>,
    ) -> Result<Option<LoggedIn>, LoginEnd> {
        let Who::Tenant { injection, .. } = &self.who else { return Err(unexpected(ready).into()) };
        match outcome {
            Outcome::Confirmed(confirmed) => {
                let token = tokens.pop();
                return Ok(self.confirmed(Permit::Context(confirmed, token), ready));
            }
            Outcome::Attached(facts) => {
                tokens = injection.signature().map(|it| it.tokens(facts)).unwrap_or_default();
            }
            Outcome::Unverified => {
                tokens.pop();
            }
        }
        let token = tokens.last().ok_or(LoginError::NotVerified)?;
        let mut signing = Vec::new();
        injection.sign(token, &mut signing);
        self.will_send();
        self.to_upstream.extend(signing);
        self.has_sent_last();
        self.state = State::Injecting { statement: Statement::default(), outcome: None, tokens, is_whole: false };
        Ok(None)
    }
}
