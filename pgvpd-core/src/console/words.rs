//! A text's statements, and their words: the console's lexical rules, which are PostgreSQL's as far as they go (manual, "Lexical
//! Structure"). Bare words may hold what names of tenants do: `acme-corp:1`. Pure.

use std::iter::Peekable;
use std::str::Chars;

/// A word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// Without its quotes.
    pub(super) text: String,
    is_quoted: bool,
}

/// Why a text has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum WordError {
    #[error("a quoted name or value has no end")]
    Quote,
    #[error("a comment has no end")]
    Comment,
}

impl Word {
    /// In upper case where it can be a keyword, else as nothing that one can be taken for.
    pub(super) fn keyword(&self) -> String {
        if self.is_quoted { "'".into() } else { self.text.to_ascii_uppercase() }
    }

    /// True for `$1`.
    pub(super) fn is_parameter(&self) -> bool {
        !self.is_quoted && self.text == "$1"
    }

    /// For an error: short, and without what writes to a terminal.
    pub(super) fn shown(&self) -> String {
        let text: String = self.text.chars().filter(|c| !c.is_control()).take(40).collect();
        if self.is_quoted { format!("'{text}'") } else { text }
    }
}

/// Characters that end a bare word, and are words of their own but for `;`.
fn stands_alone(c: char) -> bool {
    matches!(c, ';' | ',' | '=' | '(' | ')' | '*')
}

/// The statements, each a list of words. Nothing behind the last `;` is no statement; an empty text is one.
pub(super) fn statements(text: &str) -> Result<Vec<Vec<Word>>, WordError> {
    let mut rest = text.chars().peekable();
    let mut all = vec![Vec::new()];
    while let Some(c) = rest.next() {
        let mut ahead = rest.clone();
        let word = match (c, ahead.next()) {
            (c, _) if c.is_whitespace() => continue,
            (';', _) => {
                all.push(Vec::new());
                continue;
            }
            ('-', Some('-')) => {
                while rest.next_if(|c| *c != '\n').is_some() {}
                continue;
            }
            ('/', Some('*')) => {
                rest.next();
                skip_comment(&mut rest)?;
                continue;
            }
            (quote @ ('\'' | '"'), _) => Word { text: quoted(&mut rest, quote)?, is_quoted: true },
            (c, _) if stands_alone(c) => Word { text: c.into(), is_quoted: false },
            (c, _) => {
                let mut text = String::from(c);
                let is_more = |c: &char| !c.is_whitespace() && !stands_alone(*c) && !matches!(c, '\'' | '"');
                while let Some(c) = rest.next_if(is_more) {
                    text.push(c);
                }
                Word { text, is_quoted: false }
            }
        };
        if let Some(statement) = all.last_mut() {
            statement.push(word);
        }
    }
    if all.len() > 1 {
        all.pop_if(|last| last.is_empty());
    }
    Ok(all)
}

/// Reads on to the end of a comment, and of those inside it.
fn skip_comment(rest: &mut Peekable<Chars<'_>>) -> Result<(), WordError> {
    let mut depth = 1;
    while depth > 0 {
        match rest.next().ok_or(WordError::Comment)? {
            '*' if rest.next_if_eq(&'/').is_some() => depth -= 1,
            '/' if rest.next_if_eq(&'*').is_some() => depth += 1,
            _ => {}
        }
    }
    Ok(())
}

/// The text up to the closing quote; a doubled one stands for itself.
fn quoted(rest: &mut Peekable<Chars<'_>>, quote: char) -> Result<String, WordError> {
    let mut text = String::new();
    loop {
        match rest.next().ok_or(WordError::Quote)? {
            c if c == quote && rest.next_if_eq(&quote).is_none() => return Ok(text),
            c => text.push(c),
        }
    }
}
