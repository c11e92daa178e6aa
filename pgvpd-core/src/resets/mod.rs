//! Which statements of a query take settings of the session back, and which of those after them miss what is gone. Pure.
//!
//! PostgreSQL takes the statements of one query to be a list and runs them to the end: nothing can be put in between. So what a
//! query does is to be known before it is sent. What a text does not show, such as a `RESET` inside a `DO` block, is not found.

mod lexer;
mod listens;

use std::borrow::Cow;

use lexer::{Lexer, Token, Unclosed};
pub use listens::{channels, may_listen};

/// The words without one of which no statement is a reset.
const WORDS: [&[u8]; 4] = [b"reset", b"discard", b"default", b"authorization"];

/// The most tokens of a statement that are looked at.
const MAX_TOKENS: usize = 12;

/// What is taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reset<'t> {
    /// `RESET ALL`.
    All,
    /// The role: `RESET ROLE`, `RESET SESSION AUTHORIZATION`, `SET SESSION AUTHORIZATION DEFAULT`.
    Role,
    /// One setting, by its name in lower case: `RESET name`, `SET name TO DEFAULT`. `None` where the name cannot be told.
    Setting(Option<Cow<'t, str>>),
    /// `DISCARD ALL`.
    Everything,
    /// `DISCARD SEQUENCES`.
    Sequences,
}

/// What a reset costs a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// Nothing.
    None,
    /// The context, until its transaction is rolled back.
    UntilRollback,
    /// The context, whatever becomes of the transaction.
    ForGood,
}

/// What a query does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Something is taken back.
    pub resets: bool,
    /// And the answer to the statement does not say so: its tag is `SET`.
    pub is_silent: bool,
    /// A statement that may need the context stands after one that takes it away.
    pub is_cut_off: bool,
    /// No statement needs the context.
    pub is_neutral: bool,
}

impl Summary {
    /// A statement that takes nothing back.
    pub(crate) const PLAIN: Self = Self { resets: false, is_silent: false, is_cut_off: false, is_neutral: false };
    /// A text that is not read: it may do anything.
    pub(crate) const UNREAD: Self = Self { resets: true, is_silent: true, is_cut_off: false, is_neutral: false };
}

/// A statement, by what it does to the context and needs of it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Statement<'t> {
    Reset(Reset<'t>, Way),
    /// The transaction's end, both ways.
    Commit,
    Rollback,
    /// A value given to a setting that is the application's own: its name has a dot.
    SetOwn,
    /// A setting's value is asked for. `None` for all, or a name that cannot be told.
    Show(Option<Cow<'t, str>>),
    /// It reads and writes no row.
    Neutral,
    Other,
}

/// How a reset is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Reset,
    SetToDefault,
}

/// True where one of the words is in a text without which nothing is reset. [`summarize`] says whether it means anything.
pub fn may_reset(text: &[u8]) -> bool {
    let starts_with =
        |at: usize, word: &[u8]| text.get(at..at + word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word));
    text.iter().enumerate().any(|(at, first)| match first | 0x20 {
        first @ (b'r' | b'd' | b'a') => WORDS.iter().any(|word| word.first() == Some(&first) && starts_with(at, word)),
        _ => false,
    })
}

/// [`may_reset`] of a text that comes in pieces.
#[derive(Debug, Clone, Default)]
pub struct Finder {
    /// The end of what has come: one of the words may begin in it.
    end: Vec<u8>,
    has_found: bool,
}

impl Finder {
    /// Takes the next piece.
    pub fn look(&mut self, piece: &[u8]) {
        const LONGEST: usize = 13;
        let (front, _) = piece.split_at_checked(LONGEST).unwrap_or((piece, &[]));
        self.end.extend_from_slice(front);
        self.has_found = self.has_found || may_reset(&self.end) || may_reset(piece);
        let whole = if piece.len() > LONGEST { piece } else { &self.end };
        self.end = whole.get(whole.len().saturating_sub(LONGEST - 1)..).unwrap_or_default().to_vec();
    }

    /// True once a word has been found.
    pub fn has_found(&self) -> bool {
        self.has_found
    }
}

/// What the statements of a query do, where `loss` says what a reset costs.
///
/// ```
/// use pgvpd_core::resets::{Loss, summarize};
///
/// let found = summarize(b"RESET ALL; SELECT pg_advisory_unlock_all()", |_| Loss::UntilRollback);
/// assert!(found.resets && !found.is_cut_off);
/// assert!(summarize(b"RESET ALL; SELECT 1 FROM orders", |_| Loss::UntilRollback).is_cut_off);
/// assert!(!summarize(b"SELECT '; RESET ALL; SELECT 1'", |_| Loss::UntilRollback).resets);
/// ```
pub fn summarize(text: &[u8], loss: impl Fn(&Reset<'_>) -> Loss) -> Summary {
    // In an encoding where a letter's second byte can be a backslash, strings may end elsewhere.
    if std::str::from_utf8(text).is_err() {
        return if may_reset(text) { Summary::UNREAD } else { Summary::PLAIN };
    }
    let mut summary = Summary { resets: false, is_silent: false, is_cut_off: false, is_neutral: true };
    let mut lost = Loss::None;
    let read = each(text, |statement| match statement {
        Statement::Reset(reset, way) => {
            summary.resets = true;
            summary.is_silent |= way == Way::SetToDefault;
            lost = lost.max(loss(&reset));
        }
        Statement::Commit => {
            summary.is_neutral = false;
            if lost == Loss::UntilRollback {
                lost = Loss::ForGood;
            }
        }
        Statement::Rollback => {
            if lost == Loss::UntilRollback {
                lost = Loss::None;
            }
        }
        Statement::SetOwn => summary.is_neutral = false,
        Statement::Show(name) => {
            summary.is_neutral = false;
            summary.is_cut_off |=
                lost > Loss::None && name.is_some_and(|name| loss(&Reset::Setting(Some(name))) > Loss::None);
        }
        Statement::Neutral => {}
        Statement::Other => {
            summary.is_neutral = false;
            summary.is_cut_off |= lost > Loss::None;
        }
    });
    if read.is_err() {
        // PostgreSQL says so itself, and runs nothing.
        summary.is_cut_off = false;
        summary.is_neutral = false;
    }
    summary
}

/// Shows `look` each statement of a text.
fn each<'t>(text: &'t [u8], mut look: impl FnMut(Statement<'t>)) -> Result<(), Unclosed> {
    let (mut lexer, mut tokens) = (Lexer::new(text), Tokens::default());
    loop {
        match lexer.next()? {
            Some(Token::Semicolon) => {}
            Some(token) => {
                tokens.push(token);
                continue;
            }
            None => {
                tokens.statement().into_iter().for_each(look);
                return Ok(());
            }
        }
        tokens.statement().into_iter().for_each(&mut look);
        tokens = Tokens::default();
    }
}

/// The tokens of one statement: the first ones, and the last.
#[derive(Debug, Default)]
struct Tokens<'t> {
    first: Vec<Token<'t>>,
    last: Option<Token<'t>>,
    is_longer: bool,
}

impl<'t> Tokens<'t> {
    fn push(&mut self, token: Token<'t>) {
        self.last = Some(token);
        if self.first.len() < MAX_TOKENS {
            self.first.push(token);
        } else {
            self.is_longer = true;
        }
    }

    /// `None` where nothing stands between two semicolons.
    fn statement(&self) -> Option<Statement<'t>> {
        let (first, rest) = self.first.split_first()?;
        let Token::Word(first) = first else { return Some(Statement::Other) };
        Some(match first.to_ascii_lowercase().as_slice() {
            b"reset" => Statement::Reset(reset(rest), Way::Reset),
            b"discard" => match rest {
                [word] if is(word, "plans") || is(word, "temp") || is(word, "temporary") => Statement::Neutral,
                [word] if is(word, "sequences") => Statement::Reset(Reset::Sequences, Way::Reset),
                _ => Statement::Reset(Reset::Everything, Way::Reset),
            },
            b"set" => self.set(rest),
            b"show" => match rest {
                [Token::Word(word), ..] if is_of_transaction(word) => Statement::Neutral,
                [all] if is(all, "all") => Statement::Show(None),
                rest => Statement::Show(name(rest)),
            },
            b"commit" | b"rollback" if rest.first().is_some_and(|word| is(word, "prepared")) => Statement::Neutral,
            b"commit" | b"end" => Statement::Commit,
            b"prepare" if rest.first().is_some_and(|word| is(word, "transaction")) => Statement::Commit,
            b"rollback" if rest.iter().any(|word| is(word, "to")) => Statement::Neutral,
            b"rollback" | b"abort" => Statement::Rollback,
            b"begin" | b"start" | b"savepoint" | b"release" | b"close" | b"listen" | b"unlisten" | b"notify"
            | b"deallocate" | b"lock" | b"checkpoint" => Statement::Neutral,
            b"select" if !self.is_longer && reads_no_table(rest) => Statement::Neutral,
            _ => Statement::Other,
        })
    }

    /// A SET, by what stands after that word.
    fn set(&self, rest: &[Token<'t>]) -> Statement<'t> {
        let rest = match rest {
            [scope, second, ..] if is(scope, "session") && (is(second, "authorization")) => rest,
            [scope, second, ..] if is(scope, "session") && is(second, "characteristics") => return Statement::Neutral,
            [scope, rest @ ..] if is(scope, "session") || is(scope, "local") => rest,
            rest => rest,
        };
        let is_default = self.last.is_some_and(|last| is(&last, "default"));
        match rest {
            [first, second, ..] if is(first, "session") && is(second, "authorization") => {
                Statement::Reset(Reset::Role, Way::SetToDefault)
            }
            [first, ..] if is(first, "constraints") => Statement::Other,
            [first, ..] if is(first, "transaction") => Statement::Neutral,
            rest if is_default => {
                let end = rest.iter().position(|token| is(token, "to") || *token == Token::Symbol(b'='));
                let named = rest.get(..end.unwrap_or(rest.len().saturating_sub(1))).unwrap_or_default();
                Statement::Reset(reset(named), Way::SetToDefault)
            }
            [_, Token::Symbol(b'.'), ..] | [Token::Quoted(_) | Token::Escaped, ..] => Statement::SetOwn,
            _ => Statement::Neutral,
        }
    }
}

/// What is named behind RESET.
fn reset<'t>(named: &[Token<'t>]) -> Reset<'t> {
    match named {
        [all] if is(all, "all") => Reset::All,
        [first, second] if is(first, "session") && is(second, "authorization") => Reset::Role,
        [first, second] if is(first, "time") && is(second, "zone") => Reset::Setting(Some("timezone".into())),
        [first, ..] if is(first, "transaction") => Reset::Setting(Some("transaction_isolation".into())),
        named => match name(named) {
            Some(name) if name == "role" || name == "session_authorization" => Reset::Role,
            name => Reset::Setting(name),
        },
    }
}

/// A setting's name, in lower case: its parts, with dots between.
fn name<'t>(tokens: &[Token<'t>]) -> Option<Cow<'t, str>> {
    let mut name = String::new();
    for (index, token) in tokens.iter().enumerate() {
        match token {
            Token::Word(part) | Token::Quoted(part) if index % 2 == 0 => {
                name.push_str(&std::str::from_utf8(part).ok()?.to_ascii_lowercase());
            }
            Token::Symbol(b'.') if index % 2 == 1 => name.push('.'),
            _ => return None,
        }
    }
    (tokens.len() % 2 == 1).then_some(Cow::Owned(name))
}

/// `TRANSACTION ISOLATION LEVEL`, `transaction_read_only` and the like.
fn is_of_transaction(word: &[u8]) -> bool {
    word.get(..11).is_some_and(|front| front.eq_ignore_ascii_case(b"transaction"))
}

/// What is selected is a literal, or what pools call to free a session's locks.
fn reads_no_table(selected: &[Token<'_>]) -> bool {
    let call = match selected {
        [schema, Token::Symbol(b'.'), call @ ..] if is(schema, "pg_catalog") => call,
        call => call,
    };
    let is_unlock =
        matches!(call, [function, Token::Symbol(b'('), Token::Symbol(b')')] if is(function, "pg_advisory_unlock_all"));
    is_unlock || selected.iter().all(|token| matches!(token, Token::Number | Token::Text | Token::Symbol(b',')))
}

/// True for this word, in any case, without quotes.
fn is(token: &Token<'_>, word: &str) -> bool {
    matches!(token, Token::Word(found) if found.eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
