//! The part of a login that is about settings: its own statements run under no time limit of anybody's, and what the role has set for
//! itself is undone ([`SessionSettings`]).
//!
//! ```text
//! the client's last reply, "SET statement_timeout = 0, …", a note ─► ReadyForQuery ─► the login's statements
//!      the context is confirmed ─┬─► RESET, which went with the last statement ─► ready
//!                                └─► survey ─► undo, RESET ─► ready                (the note says that something is new)
//! ```
//!
//! The limits are lifted together with the client's reply, so that the server never waits for the proxy under one. The note comes later
//! where the server's version is not known, since `transaction_timeout` has to be lifted ahead of it where there is one.

use std::collections::VecDeque;

use super::context::wrong_reply;
use super::{Frame, Login, LoginEnd, LoginError, State, unexpected};
use crate::context::{NOTE, SessionSettings, has_transaction_timeout, survey_settings, undo_settings};
use crate::session::login_terms::{LoggedIn, Permit};
use crate::wire::{Answer, DataRow, ErrorFields, Replies, bind_values, query, tag};

/// What there is to know of the settings, and how far the server has come with it.
#[derive(Debug)]
pub(super) struct Settings {
    session: SessionSettings,
    server_version: Vec<u8>,
    /// What the server has yet to answer, in this order.
    due: VecDeque<Due>,
    /// The limits that are lifted.
    lifted: Vec<&'static str>,
    /// One of them came before that.
    is_cancelled: bool,
    is_note_asked: bool,
    note: Option<String>,
    needs_survey: bool,
    /// What the survey has found to be undone.
    undone: Vec<(String, String)>,
    attempts: u8,
    /// The context is confirmed.
    permit: Option<Permit>,
}

#[derive(Debug)]
enum Due {
    /// A statement of the login's own.
    Login,
    /// A query that lifts limits, and whether one of them came before it.
    Lift,
    Note,
    Survey(Replies),
    Undo(Replies),
    Reset,
}

/// How often a limit of a millisecond may come before the statement that lifts it.
const MAX_ATTEMPTS: u8 = 100;

impl Settings {
    fn new(session: SessionSettings) -> Self {
        Self {
            server_version: session.server_version().to_vec(),
            session,
            due: VecDeque::new(),
            lifted: Vec::new(),
            is_cancelled: false,
            is_note_asked: false,
            note: None,
            needs_survey: false,
            undone: Vec::new(),
            attempts: 0,
            permit: None,
        }
    }

    pub(super) fn set_version(&mut self, version: &[u8]) {
        self.server_version = version.to_vec();
    }

    /// Lifts the limits that are not lifted yet.
    fn lift(&mut self, out: &mut Vec<u8>) {
        let has_third = has_transaction_timeout(Some(&self.server_version));
        let limits = ["statement_timeout", "idle_session_timeout"].into_iter();
        let limits = limits.chain(Some("transaction_timeout").filter(|_| has_third));
        let limits: Vec<_> = limits.filter(|limit| !self.lifted.contains(limit)).collect();
        if !limits.is_empty() {
            let sets: Vec<String> = limits.iter().map(|limit| format!("SET {limit} = 0")).collect();
            query(out, &sets.join("; "));
            self.lifted.extend(limits);
            self.due.push_back(Due::Lift);
        }
    }

    fn ask_for_note(&mut self, out: &mut Vec<u8>) {
        self.is_note_asked = true;
        query(out, NOTE);
        self.due.push_back(Due::Note);
    }

    /// Goes on until the limits are lifted and the note is there. True then.
    fn is_begun(&mut self, out: &mut Vec<u8>) -> bool {
        if std::mem::take(&mut self.is_cancelled) {
            self.lifted.clear();
            self.is_note_asked = false;
        }
        self.lift(out);
        if !self.is_note_asked {
            self.ask_for_note(out);
        }
        self.due.is_empty()
    }

    /// Puts the limits in force again, but for those that have been undone. False if there are none.
    fn reset(&mut self, out: &mut Vec<u8>) -> bool {
        let mut lifted = std::mem::take(&mut self.lifted);
        lifted.retain(|name| self.undone.iter().all(|(other, _)| other != name));
        if !lifted.is_empty() {
            query(out, &resets(lifted));
            self.due.push_back(Due::Reset);
            return true;
        }
        false
    }

    fn survey(&mut self, out: &mut Vec<u8>) {
        self.needs_survey = false;
        bind_values(out, &survey_settings(Some(&self.server_version)), &[]);
        self.due.push_back(Due::Survey(Replies::statement()));
    }

    fn noted(&mut self, note: &str) {
        self.session.set_server_version(&self.server_version);
        self.needs_survey = self.session.noted(note);
    }

    fn surveyed(&mut self, answer: Option<&[u8]>) -> Result<(), LoginError> {
        let answer = std::str::from_utf8(answer.unwrap_or_default()).unwrap_or_default();
        self.undone = self.session.surveyed(answer).ok_or(LoginError::NotConfirmed)?;
        Ok(())
    }

    /// A server's error that leaves the session as it was.
    fn may_go_on_after(error: Frame<'_>) -> bool {
        let fields = ErrorFields::new(error.body);
        fields.field(b'V').or_else(|| fields.field(b'S')).is_some_and(|severity| severity == "ERROR")
    }

    /// Takes an answer to what has been asked about settings. True once all of it has come.
    fn on_answer(&mut self, message: Frame<'_>, out: &mut Vec<u8>) -> Result<bool, LoginError> {
        let Some(due) = self.due.front_mut() else { return Err(unexpected(message)) };
        match (due, message.tag) {
            (Due::Lift, tag::ERROR_RESPONSE) if self.attempts < MAX_ATTEMPTS => {
                self.attempts += 1;
                self.is_cancelled = true;
            }
            (Due::Lift | Due::Reset, tag::COMMAND_COMPLETE)
            | (Due::Note, tag::ROW_DESCRIPTION | tag::COMMAND_COMPLETE) => {}
            (Due::Note, tag::ERROR_RESPONSE) if self.is_cancelled => {}
            // Such as a server on which not everybody may read what is set for roles.
            (Due::Note, tag::ERROR_RESPONSE) => {
                let error = ErrorFields::new(message.body).summary();
                tracing::warn!(error, "cannot ask for what roles have set for themselves");
            }
            (Due::Note, tag::DATA_ROW) => {
                let row = DataRow::parse(message.body).map_err(LoginError::UpstreamProtocol)?;
                self.note = row.first().copied().flatten().map(|note| String::from_utf8_lossy(note).into_owned());
            }
            (Due::Survey(replies) | Due::Undo(replies), _) => {
                let answer = replies.on(message).map_err(|error| wrong_reply(error, message))?;
                let Some(answer) = answer else { return Ok(false) };
                let Answer::Row(row) = answer else { return Err(unexpected(message)) };
                if let Some(Due::Survey(_)) = self.due.pop_front() {
                    self.surveyed(row.first().and_then(Option::as_deref))?;
                    if !self.undone.is_empty() {
                        undo_settings(&self.undone, out);
                        self.due.push_back(Due::Undo(Replies::statement()));
                    }
                }
                return Ok(true);
            }
            (due, tag::READY_FOR_QUERY) => {
                if let (Due::Note, Some(note)) = (due, self.note.take()) {
                    self.noted(&note);
                }
                self.due.pop_front();
                return Ok(true);
            }
            _ => return Err(unexpected(message)),
        }
        Ok(false)
    }
}

/// A query that puts limits in force.
fn resets(mut limits: Vec<&'static str>) -> String {
    // Last: it would be in force from the next statement on, and counts from where the whole query began.
    limits.sort_by_key(|name| *name == "statement_timeout");
    limits.iter().map(|name| format!("RESET {name}")).collect::<Vec<_>>().join("; ")
}

impl Login {
    /// Has the role's own settings undone.
    pub(in crate::session) fn settling(mut self, settings: Option<SessionSettings>) -> Self {
        self.settings = settings.map(Settings::new).map(Box::new);
        if matches!(self.state, State::Starting) {
            self.lift();
        }
        self
    }

    /// Lifts the limits with the next write. The server has all that it needs to begin the session.
    pub(super) fn lift(&mut self) {
        if let Some(settings) = &mut self.settings {
            settings.lift(&mut self.to_upstream);
            if !settings.server_version.is_empty() {
                settings.ask_for_note(&mut self.to_upstream);
            }
        }
    }

    /// Goes on with the login's statements, once the limits are lifted.
    pub(super) fn begin(&mut self) {
        let Some(settings) = &mut self.settings else { return self.ask() };
        self.state = State::Lifting;
        // Where the server asked for no proof, there was nothing to send it with.
        if settings.due.is_empty() {
            settings.is_begun(&mut self.to_upstream);
        }
    }

    /// What is sent next is a statement of the login's own.
    pub(super) fn will_send(&mut self) {
        let Some(settings) = &mut self.settings else { return };
        settings.lift(&mut self.to_upstream);
        settings.due.push_back(Due::Login);
    }

    /// What has been sent is the last, if it goes as it should: the limits are put in force with it.
    pub(super) fn has_sent_last(&mut self) {
        if let Some(settings) = self.settings.as_mut().filter(|settings| !settings.needs_survey) {
            settings.reset(&mut self.to_upstream);
        }
    }

    /// Takes a message that is an answer to what has been asked about settings; `None` where it is not.
    pub(super) fn on_settings(&mut self, message: Frame<'_>) -> Option<Result<Option<LoggedIn>, LoginEnd>> {
        if matches!(self.state, State::Authenticating | State::Starting) {
            return None;
        }
        let settings = self.settings.as_mut()?;
        match settings.due.front() {
            Some(Due::Login) => {
                if message.tag == tag::READY_FOR_QUERY {
                    settings.due.pop_front();
                }
                None
            }
            None => None,
            Some(Due::Survey(_) | Due::Undo(_)) if message.tag == tag::ERROR_RESPONSE => None,
            Some(_) if message.tag == tag::ERROR_RESPONSE && !Settings::may_go_on_after(message) => None,
            Some(_) => Some(self.on_settings_answer(message)),
        }
    }

    fn on_settings_answer(&mut self, message: Frame<'_>) -> Result<Option<LoggedIn>, LoginEnd> {
        let Some(settings) = &mut self.settings else { return Err(unexpected(message).into()) };
        if !settings.on_answer(message, &mut self.to_upstream)? {
            return Ok(None);
        }
        if !matches!(self.state, State::Lifting) {
            return Ok(self.conclude(message));
        }
        if settings.due.is_empty() && settings.is_begun(&mut self.to_upstream) {
            self.ask();
        }
        Ok(None)
    }

    /// The context is confirmed.
    pub(super) fn confirmed(&mut self, permit: Permit, ready: Frame<'_>) -> Option<LoggedIn> {
        match &mut self.settings {
            None => Some(self.finish(permit, ready)),
            Some(settings) => {
                settings.permit = Some(permit);
                self.conclude(ready)
            }
        }
    }

    /// Has the session surveyed, where that is needed and nothing is outstanding. True if so.
    pub(super) fn surveys(&mut self) -> bool {
        let Some(settings) = self.settings.as_mut().filter(|settings| settings.due.is_empty()) else { return false };
        if settings.needs_survey {
            settings.lift(&mut self.to_upstream);
            settings.survey(&mut self.to_upstream);
        }
        !settings.due.is_empty()
    }

    /// Does what is left to do when everything has been answered.
    fn conclude(&mut self, ready: Frame<'_>) -> Option<LoggedIn> {
        let settings = self.settings.as_mut().filter(|settings| settings.due.is_empty())?;
        settings.permit.as_ref()?;
        if self.surveys() {
            return None;
        }
        let settings = self.settings.as_mut()?;
        if settings.reset(&mut self.to_upstream) {
            return None;
        }
        let permit = settings.permit.take()?;
        Some(self.finish(permit, ready))
    }

    /// True while there is something that the server has yet to answer about settings, or to be asked.
    pub(super) fn is_settling(&self) -> bool {
        self.settings.as_ref().is_some_and(|settings| !settings.due.is_empty() || settings.needs_survey)
    }

    /// The server has ended the login with this error.
    pub(super) fn note_end(&self, error: &ErrorFields<'_>) {
        if let (Some(settings), Some(code)) = (&self.settings, error.code()) {
            settings.session.ended_by(&code);
        }
    }

    /// What has been undone, and would be brought back by a RESET.
    pub(super) fn take_undone(&mut self) -> Vec<(String, String)> {
        self.settings.as_mut().map(|settings| std::mem::take(&mut settings.undone)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_statement_of_the_login_runs_under_the_statement_timeout_that_it_puts_in_force() {
        let sql = resets(vec!["statement_timeout", "idle_session_timeout", "transaction_timeout"]);
        assert_eq!(sql, "RESET idle_session_timeout; RESET transaction_timeout; RESET statement_timeout");
    }
}
