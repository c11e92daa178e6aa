//! The context goes to PostgreSQL as startup parameters or as bound parameters of one statement; and the proof that it
//! is in force.

use std::fmt::Write as _;
use std::ops::Range;

use super::signature::{Signature, Token};
use super::signing::ContextSigning;
use super::token::Facts;
use crate::random::Echo;
use crate::resets::{Loss, Reset};
use crate::tenant::{Identity, VariableName};
use crate::wire::{
    BuiltIn, ErrorFields, Function, bind_and_run, bind_and_run_named, function_call, normalize_setting_name, query,
};

/// Proof that PostgreSQL has confirmed an identity's context on a session. Only the methods of
/// [`Injection`] that compare what the server answered make one.
#[derive(Debug)]
pub(crate) struct Confirmed(());

/// What must be in force before a session is the client's.
#[derive(Debug, Clone)]
pub(crate) struct Injection {
    /// What the client asked for at its start, where that has not gone to the server in a startup packet.
    preferences: Vec<(String, String)>,
    /// Names and values: the context, then the role.
    settings: Vec<(String, String)>,
    /// How many of them the user name gives.
    given: usize,
    startup: Startup,
    /// `None` where the context is plain settings.
    signature: Option<Box<Signature>>,
}

/// What of it goes as startup parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Startup {
    Nothing,
    Context,
    /// The role too. Only where it is the login role: switched to another role, a session no longer shows whether its login
    /// role is a superuser.
    ContextAndRole,
}

/// What an answer amounts to.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Everything is in force.
    Confirmed(Confirmed),
    /// Everything but the signed context is, which these facts are needed for.
    Attached(Facts),
    /// The database has not verified the context: it knows another key, or none.
    Unverified,
}

/// Calls of functions, to be sent outside of a transaction.
#[derive(Debug)]
pub(crate) struct Calls {
    /// Their messages.
    pub(crate) messages: Vec<u8>,
    /// How many they are.
    pub(crate) count: usize,
    /// Those whose notices are the client's to see.
    pub(crate) noted: Range<usize>,
}

/// Why a session cannot be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InjectionError {
    /// The session has superuser rights, to which row-level security does not apply.
    Superuser,
    /// The answer is not the values that were sent.
    NotConfirmed,
    /// Nothing distinguishes the backend from another one with its pid, so that a context could be used again there.
    NoFacts,
    /// The database does not verify what the proxy signs.
    NotVerified,
    /// There is nothing in the database that a context could be signed for.
    NotInstalled,
}

impl InjectionError {
    /// True for the error of a server that has no such function, table or schema.
    pub(crate) fn is_missing(error: &ErrorFields<'_>) -> bool {
        const MISSING: &[&str] = &["42883", "3F000", "42P01"];
        error.code().is_some_and(|code| MISSING.contains(&&*code))
    }
}

/// What is asked for beside the settings.
#[derive(Debug, Clone, Copy)]
enum Extra<'t> {
    Nothing,
    Facts,
    Token(&'t Token),
}

impl Injection {
    /// The identity's context, then the role: what needs the login role's rights comes before the switch.
    pub(crate) fn new(identity: &Identity, role: &str, context_in_startup: bool) -> Self {
        let context = identity.context().map(|(name, value)| (name.as_str().to_owned(), value.to_owned()));
        let startup = match context_in_startup {
            false => Startup::Nothing,
            true if role == identity.role() => Startup::ContextAndRole,
            true => Startup::Context,
        };
        let settings: Vec<_> = context.chain([("role".to_owned(), role.to_owned())]).collect();
        Self { preferences: Vec::new(), given: settings.len() - 1, settings, startup, signature: None }
    }

    /// As [`Injection::new`], for a connection that has been another session's: nothing is in its startup packet, and what
    /// the client asked for in its own is set before the context, in the same statement.
    pub(crate) fn on_pooled(identity: &Identity, role: &str, mut preferences: Vec<(String, String)>) -> Self {
        // Time limits come last, and of them the one that holds for the statement behind it.
        preferences.sort_by_key(|(name, _)| (is_limit(name), normalize_setting_name(name) == "statement_timeout"));
        Self { preferences, ..Self::new(identity, role, false) }
    }

    /// The same, with settings that a RESET must not take away.
    pub(crate) fn preferring(mut self, settings: Vec<(String, String)>) -> Self {
        self.preferences.extend(settings);
        self
    }

    /// The same, with the context signed for sessions of this user in this database.
    pub(crate) fn signed(mut self, signing: Option<&ContextSigning>, database: &str, session_user: &str) -> Self {
        self.signature =
            signing.map(|signing| Box::new(Signature::new(signing, database, session_user, self.context())));
        self
    }

    /// The same, with what resolvers have found.
    pub(crate) fn with_found(mut self, found: &[(VariableName, String)]) -> Self {
        let found = found.iter().map(|(name, value)| (name.as_str().to_owned(), value.clone()));
        let found: Vec<_> = found.collect();
        self.signature = self.signature.map(|signature| Box::new(signature.with(self.given, &found)));
        let role = self.settings.pop();
        self.settings.truncate(self.given);
        self.settings.extend(found.into_iter().chain(role));
        self
    }

    /// What signs the context, where it is signed.
    pub(crate) fn signature(&self) -> Option<&Signature> {
        self.signature.as_deref()
    }

    /// True if a session of passthrough could lose any of it by `RESET ALL`, `RESET ROLE` or `DISCARD ALL`.
    pub(crate) fn can_be_lost(&self) -> bool {
        let is_in_startup = self.startup == Startup::ContextAndRole && !self.has_found();
        self.signature.is_some() || !is_in_startup || !self.preferences.is_empty()
    }

    /// What a reset of the client's costs the session, while it lasts. The role is not the context.
    pub(crate) fn loss(&self, reset: &Reset<'_>, is_nonce_bound: bool) -> Loss {
        let is_default = |index: usize| self.startup != Startup::Nothing && index < self.given;
        let has_lost = match reset {
            Reset::Role => false,
            Reset::Sequences => return if is_nonce_bound { Loss::ForGood } else { Loss::None },
            Reset::All | Reset::Everything => {
                self.signature.is_some() || (0..self.context().len()).any(|index| !is_default(index))
            }
            Reset::Setting(None) => true,
            Reset::Setting(Some(name)) => {
                let is_own = |(index, (own, _)): (usize, &(String, String))| {
                    own.eq_ignore_ascii_case(name) && !is_default(index)
                };
                (self.signature.is_some() && **name == *TOKEN) || self.context().iter().enumerate().any(is_own)
            }
        };
        match (has_lost, reset) {
            (false, _) => Loss::None,
            (true, Reset::Everything) => Loss::ForGood,
            (true, _) => Loss::UntilRollback,
        }
    }

    fn has_found(&self) -> bool {
        self.settings.len() > self.given + 1
    }

    /// What the StartupMessage is to carry.
    pub(crate) fn startup_parameters(&self) -> Vec<(String, String)> {
        let (count, role) = match self.startup {
            Startup::Nothing => (0, None),
            Startup::Context => (self.given, None),
            Startup::ContextAndRole => (self.given, self.settings.last()),
        };
        self.settings.iter().take(count).chain(role).cloned().collect()
    }

    /// Appends the message that asks what is in force, where the startup parameters have set all of it. `None` where
    /// they have not, or where the client's `client_encoding` would change the answer.
    ///
    /// Three SHOWs cost a fresh server process a quarter of what one SELECT of functions does: they need no catalog. To sign
    /// needs one, and [`Injection::request`] brings both.
    pub(crate) fn show(&self, out: &mut Vec<u8>) -> Option<()> {
        let is_sent_and_plain = self.startup == Startup::ContextAndRole
            && self.signature.is_none()
            && !self.has_found()
            && self.settings.iter().all(|(_, v)| v.is_ascii());
        is_sent_and_plain.then(|| {
            let mut sql = String::new();
            for (name, _) in &self.settings {
                // A VariableName has letters, digits, underscores and dots: quoted, no part of it is a keyword.
                let _ = write!(sql, "SHOW \"{}\"; ", name.replace('.', "\".\""));
            }
            query(out, &(sql + "SHOW is_superuser"));
        })
    }

    /// Compares the rows that came back for [`Injection::show`], one value each, with what was asked for.
    pub(crate) fn confirm_shown(&self, rows: &[Vec<u8>]) -> Result<Confirmed, InjectionError> {
        let Some((is_superuser, values)) = rows.split_last() else { return Err(InjectionError::NotConfirmed) };
        let values: Vec<_> = values.iter().map(|value| Some(value.as_slice())).collect();
        compare(&[is_superuser], &values, &self.settings)?;
        if self.signature.is_some() { Err(InjectionError::NotConfirmed) } else { Ok(Confirmed(())) }
    }

    /// Appends the messages that set all of it, one round trip, to `out`; a signed context with this token, or else what is needed
    /// to sign one is asked for.
    ///
    /// Values travel as binary `bytea` in both directions: a client that chose another `client_encoding` at startup
    /// must not decide which characters a tenant's name is made of. Functions are qualified: so must a `search_path`
    /// that it chose not decide which function runs.
    pub(crate) fn request(&self, token: Option<&Token>, out: &mut Vec<u8>) {
        let extra = self.extra(token);
        let mut pairs: Vec<_> = self.preferences.iter().chain(&self.settings).map(pair).collect();
        let mut sql = format!("SELECT {IS_SUPERUSER}");
        for index in 0..pairs.len() {
            let _ = write!(sql, ", {}", set_config(2 * index + 1, 2 * index + 2));
        }
        extra.ask(&mut sql, &mut pairs);
        let _ = write!(sql, ", {IS_SUPERUSER}");
        bind_and_run(out, &sql, &pairs);
    }

    /// Compares what came back for [`Injection::request`] or [`Injection::calls`] with what was asked for.
    pub(crate) fn confirm(&self, row: &[Option<&[u8]>], token: Option<&Token>) -> Result<Outcome, InjectionError> {
        self.confirm_row(row, self.preferences.len(), &self.settings, self.extra(token))
    }

    /// Appends the messages that set only the token, where all else is in force.
    pub(crate) fn sign(&self, token: &Token, out: &mut Vec<u8>) {
        let (mut sql, mut pairs) = (format!("SELECT {IS_SUPERUSER}"), Vec::new());
        Extra::Token(token).ask(&mut sql, &mut pairs);
        let _ = write!(sql, ", {IS_SUPERUSER}");
        bind_and_run(out, &sql, &pairs);
    }

    /// Compares what came back for [`Injection::sign`].
    pub(crate) fn confirm_signed(&self, row: &[Option<&[u8]>], token: &Token) -> Result<Outcome, InjectionError> {
        self.confirm_row(row, 0, &[], Extra::Token(token))
    }

    /// Calls that set all of it, with this token where the context is signed. `None` where a value is
    /// not ASCII: what it means would depend on an encoding, and [`Injection::request`] is the way.
    ///
    /// Their results are for [`Injection::confirm_calls`]. `verifier` is the number of `public.pgvpd_context`. The time limits that the
    /// client asked for are set last: the calls are not under them.
    pub(crate) fn calls(&self, token: Option<(&Token, Function)>) -> Option<Calls> {
        let (preferences, limits) = self.preferences.split_at(self.preferences.len() - self.limits());
        let settings = || preferences.iter().chain(&self.settings);
        if !self.preferences.iter().chain(&self.settings).all(|(name, value)| name.is_ascii() && value.is_ascii()) {
            return None;
        }
        let is_superuser =
            |out: &mut Vec<u8>| function_call(out, BuiltIn::CurrentSetting.into(), &[b"is_superuser", b"f"]);
        let set = |name: &str, value: &str, out: &mut Vec<u8>| {
            function_call(out, BuiltIn::SetConfig.into(), &[name.as_bytes(), value.as_bytes(), b"f"]);
        };
        let out = &mut Vec::with_capacity(1024);
        is_superuser(out);
        settings().for_each(|(name, value)| set(name, value, out));
        if let Some((token, verifier)) = token {
            set(TOKEN, token.text(), out);
            function_call(out, verifier, &[token.probe().as_bytes()]);
        }
        is_superuser(out);
        limits.iter().for_each(|(name, value)| set(name, value, out));
        let count = 2 + self.preferences.len() + self.settings.len() + 2 * usize::from(token.is_some());
        // What the client asked for it is told of as a server of its own would.
        Some(Calls { messages: std::mem::take(out), count, noted: 1..1 + preferences.len() })
    }

    /// Compares the results of [`Injection::calls`] with what was asked for.
    pub(crate) fn confirm_calls(
        &self,
        mut results: Vec<Option<&[u8]>>,
        token: Option<&Token>,
    ) -> Result<Outcome, InjectionError> {
        let limits = self.limits();
        let first = 1 + self.preferences.len() - limits;
        results.get_mut(first..).into_iter().for_each(|behind| behind.rotate_right(limits.min(behind.len())));
        self.confirm(&results, token)
    }

    /// How many of the preferences are time limits; they are the last ones.
    fn limits(&self) -> usize {
        self.preferences.iter().rev().take_while(|(name, _)| is_limit(name)).count()
    }

    /// Appends the messages that put back what a reset of the client's own has taken away: the context, signed again with this token,
    /// what the client asked for at its start, where it is as if it had not asked, and the role where there is none.
    ///
    /// The statement has a name, and so leaves an unnamed one of the client's alone; the name is the echo's, so that the client has
    /// none like it.
    pub(crate) fn restore(&self, token: Option<&Token>, echo: &Echo, out: &mut Vec<u8>) {
        let mut pairs: Vec<_> = self.preferences.iter().chain(&self.settings).map(pair).collect();
        let mut sql = format!("SELECT {IS_SUPERUSER}");
        for index in 0..pairs.len() {
            let (name, value) = (2 * index + 1, 2 * index + 2);
            let set = set_config(name, value);
            let _ = match index {
                _ if index < self.preferences.len() => write!(
                    sql,
                    ", CASE WHEN COALESCE((SELECT setting OPERATOR(pg_catalog.=) reset_val FROM pg_catalog.pg_settings \
                     WHERE pg_catalog.lower(name) OPERATOR(pg_catalog.=) pg_catalog.lower(${name})), \
                     COALESCE(pg_catalog.current_setting(${name}, true), '') OPERATOR(pg_catalog.=) '') \
                     THEN {set} END"
                ),
                // The role comes last. One that the client has switched to stays.
                _ if index + 1 == pairs.len() => write!(
                    sql,
                    ", CASE WHEN pg_catalog.current_setting(${name}) OPERATOR(pg_catalog.=) 'none' THEN {set} \
                     ELSE pg_catalog.convert_to(pg_catalog.convert_from(${value}, 'UTF8'), 'UTF8') END"
                ),
                _ => write!(sql, ", {set}"),
            };
        }
        self.extra(token).ask(&mut sql, &mut pairs);
        let _ = write!(sql, ", {IS_SUPERUSER}");
        run_echoed(sql, pairs, echo, out);
    }

    /// Compares the row that came back for [`Injection::restore`] with what was asked for.
    pub(crate) fn confirm_restored(
        &self,
        row: &[Option<&[u8]>],
        token: Option<&Token>,
        echo: &Echo,
    ) -> Result<Outcome, InjectionError> {
        self.confirm(echo.between(row).ok_or(InjectionError::NotConfirmed)?, token)
    }

    /// Appends the messages that ask for what is needed to sign anew, ahead of [`Injection::restore`].
    pub(crate) fn attach(&self, echo: &Echo, out: &mut Vec<u8>) {
        let (mut sql, mut pairs) = (format!("SELECT {IS_SUPERUSER}"), Vec::new());
        Extra::Facts.ask(&mut sql, &mut pairs);
        let _ = write!(sql, ", {IS_SUPERUSER}");
        run_echoed(sql, pairs, echo, out);
    }

    /// Reads what came back for [`Injection::attach`].
    pub(crate) fn attached(row: &[Option<&[u8]>], echo: &Echo) -> Result<Facts, InjectionError> {
        match echo.between(row).unwrap_or_default() {
            [Some(_), facts, Some(_)] => facts.and_then(Facts::parse).ok_or(InjectionError::NoFacts),
            _ => Err(InjectionError::NotConfirmed),
        }
    }

    /// True if the server's error says that `sql/setup.sql` is missing, or older than signed contexts.
    pub(crate) fn is_not_installed(&self, error: &ErrorFields<'_>) -> bool {
        self.signature.is_some() && InjectionError::is_missing(error)
    }

    /// The role that sessions are switched to.
    pub(crate) fn role(&self) -> &str {
        self.settings.last().map_or("", |(_, role)| role)
    }

    /// The settings without the role.
    fn context(&self) -> &[(String, String)] {
        self.settings.split_last().map_or(&[], |(_, context)| context)
    }

    fn extra<'t>(&self, token: Option<&'t Token>) -> Extra<'t> {
        match (&self.signature, token) {
            (None, _) => Extra::Nothing,
            (Some(_), None) => Extra::Facts,
            (Some(_), Some(token)) => Extra::Token(token),
        }
    }

    /// The row: is_superuser, what became of the preferences (PostgreSQL writes some in its own way), settings, what else was asked
    /// for, is_superuser.
    fn confirm_row(
        &self,
        row: &[Option<&[u8]>],
        preferences: usize,
        settings: &[(String, String)],
        extra: Extra<'_>,
    ) -> Result<Outcome, InjectionError> {
        let [Some(before), values @ .., Some(after)] = row else {
            return Err(InjectionError::NotConfirmed);
        };
        let values = values.get(preferences..).unwrap_or_default();
        let (values, rest) = values.split_at_checked(settings.len()).ok_or(InjectionError::NotConfirmed)?;
        compare(&[before, after], values, settings)?;
        match (extra, rest) {
            (Extra::Nothing, []) => Ok(Outcome::Confirmed(Confirmed(()))),
            (Extra::Facts, [facts]) => {
                facts.and_then(Facts::parse).map(Outcome::Attached).ok_or(InjectionError::NoFacts)
            }
            (Extra::Token(token), [found, verified]) if *found == Some(token.text().as_bytes()) => {
                match verified.is_some_and(|value| value == token.answer().as_bytes()) {
                    true => {
                        self.signature.iter().for_each(|signature| signature.verified(token));
                        Ok(Outcome::Confirmed(Confirmed(())))
                    }
                    false => Ok(Outcome::Unverified),
                }
            }
            _ => Err(InjectionError::NotConfirmed),
        }
    }
}

impl<'t> Extra<'t> {
    /// Adds its columns and their parameters.
    fn ask<'p>(self, sql: &mut String, pairs: &mut Vec<(&'p str, &'p [u8])>)
    where
        't: 'p,
    {
        let next = 2 * pairs.len() + 1;
        match self {
            Self::Nothing => {}
            Self::Facts => {
                let _ = write!(sql, ", pg_catalog.convert_to(pgvpd.attach()::pg_catalog.text, 'UTF8')");
            }
            Self::Token(token) => {
                let _ = write!(
                    sql,
                    ", {}, pg_catalog.convert_to(public.pgvpd_context(${}), 'UTF8')",
                    set_config(next, next + 1),
                    next + 2
                );
                pairs.extend([(TOKEN, token.text().as_bytes()), (token.probe(), b"")]);
            }
        }
    }
}

/// The setting that holds a signed context.
pub(crate) const TOKEN: &str = "pgvpd.context";

const IS_SUPERUSER: &str = "pg_catalog.convert_to(pg_catalog.current_setting('is_superuser'), 'UTF8')";

/// Sets what the parameter `name` names to the value of the parameter `value`, and gives what is in force then.
fn set_config(name: usize, value: usize) -> String {
    format!(
        "pg_catalog.convert_to(pg_catalog.set_config(${name}, pg_catalog.convert_from(${value}, 'UTF8'), false), 'UTF8')"
    )
}

/// True for `statement_timeout` and its like.
fn is_limit(name: &str) -> bool {
    normalize_setting_name(name).ends_with("_timeout")
}

/// Appends a statement that begins and ends its row with an echo, and has the echo's name.
fn run_echoed<'p>(sql: String, mut pairs: Vec<(&'p str, &'p [u8])>, echo: &'p Echo, out: &mut Vec<u8>) {
    pairs.push(("", echo.text().as_bytes()));
    let (place, columns) = (2 * pairs.len(), sql.strip_prefix("SELECT ").unwrap_or(&sql));
    bind_and_run_named(out, &echo.name(), &format!("SELECT ${place}, {columns}, ${place}"), &pairs);
}

fn pair((name, value): &(String, String)) -> (&str, &[u8]) {
    (name, value.as_bytes())
}

fn compare(
    is_superuser: &[&[u8]],
    values: &[Option<&[u8]>],
    settings: &[(String, String)],
) -> Result<(), InjectionError> {
    if is_superuser.iter().any(|&reading| reading != b"off") {
        return Err(InjectionError::Superuser);
    }
    let confirmed = values.len() == settings.len()
        && values.iter().zip(settings).all(|(found, (_, value))| *found == Some(value.as_bytes()));
    if confirmed { Ok(()) } else { Err(InjectionError::NotConfirmed) }
}

#[cfg(test)]
#[path = "injection_tests.rs"]
mod tests;
