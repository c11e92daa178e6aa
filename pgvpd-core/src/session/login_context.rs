//! The part of a login that asks about the role and has the context set: Checking and Setting.

use std::sync::Arc;

use super::{Frame, Login, LoginEnd, LoginError, State, unexpected};
use crate::context::{
    ContextSetup, ExchangeFault, Injection, Progress, RoleCheck, SetupError, ToSend, ask_about_role, read_about_role,
};
use crate::session::login_terms::{LoggedIn, Permit, Who, warn_of_role};
use crate::wire::{Answer, ErrorFields, Replies, ReplyError};

impl Login {
    /// Asks about the role where that is due, or for the context.
    pub(super) fn ask(&mut self) {
        if self.role_check.is_none() {
            return self.go_on();
        }
        self.will_send();
        if let Who::Tenant { injection, .. } = &self.who {
            ask_about_role(injection.role(), &mut self.to_upstream);
        }
        self.state = State::Checking(Replies::statement());
    }

    pub(super) fn on_checking(&mut self, message: Frame<'_>) -> Result<Option<LoggedIn>, LoginEnd> {
        let State::Checking(replies) = &mut self.state else { return Err(unexpected(message).into()) };
        let Some(answer) = replies.on(message).map_err(|error| wrong_reply(error, message))? else { return Ok(None) };
        let Answer::Row(row) = answer else { return Err(unexpected(message).into()) };
        let row: Vec<Option<&[u8]>> = row.iter().map(Option::as_deref).collect();
        match (read_about_role(&row).ok_or_else(|| unexpected(message))?, self.role_check) {
            (Err(fault), Some(RoleCheck::Warn)) => warn_of_role(self.who.role(), &fault),
            (Err(fault), _) => return Err(LoginError::Role(fault).into()),
            (Ok(()), _) => {}
        }
        self.go_on();
        Ok(None)
    }

    /// Begins to set the context, or waits for what resolvers find.
    fn go_on(&mut self) {
        if self.resolves {
            self.state = State::Resolving;
            // They are not asked under what the role has set.
            self.surveys();
        } else {
            self.set_context(ContextSetup::at_login);
        }
    }

    /// Begins to set the context.
    pub(super) fn set_context(&mut self, begin: impl FnOnce(&Arc<Injection>) -> (ContextSetup, ToSend)) {
        let Who::Tenant { injection, .. } = &self.who else { return };
        let (setup, first) = begin(injection);
        self.state = State::Setting(Box::new(setup));
        self.send(&first);
    }

    fn send(&mut self, request: &ToSend) {
        self.will_send();
        self.to_upstream.extend_from_slice(&request.messages);
        if request.may_be_last {
            self.has_sent_last();
        }
    }

    /// True if the context can still be set after this error.
    pub(super) fn tolerates(&self, error: Frame<'_>) -> bool {
        matches!(&self.state, State::Setting(setup) if setup.tolerates(&ErrorFields::new(error.body)))
    }

    pub(super) fn on_setting(&mut self, message: Frame<'_>) -> Result<Option<LoggedIn>, LoginEnd> {
        let State::Setting(setup) = &mut self.state else { return Err(unexpected(message).into()) };
        match setup.on(message).map_err(|error| refusal(error, message))? {
            Progress::More => Ok(None),
            Progress::Send(request) => {
                self.send(&request);
                Ok(None)
            }
            Progress::Confirmed(confirmed) => {
                let token = match std::mem::replace(&mut self.state, State::Ended) {
                    State::Setting(setup) => setup.into_parts().0.pop(),
                    _ => None,
                };
                Ok(self.confirmed(Permit::Context(confirmed, token), message))
            }
        }
    }
}

/// Why a login ends whose context cannot be set.
fn refusal(error: SetupError, message: Frame<'_>) -> LoginError {
    match error {
        SetupError::Context(error) => error.into(),
        SetupError::Exchange(ExchangeFault::Reply(error)) => wrong_reply(error, message),
        // The login passes the server's errors on before they come here, and has no echoes.
        SetupError::Exchange(_) | SetupError::Refused(_) => unexpected(message),
    }
}

/// Why a login ends whose server answers something else.
pub(super) fn wrong_reply(error: ReplyError, message: Frame<'_>) -> LoginError {
    match error {
        ReplyError::Malformed(error) => LoginError::UpstreamProtocol(error),
        ReplyError::Unexpected(_) => unexpected(message),
    }
}
