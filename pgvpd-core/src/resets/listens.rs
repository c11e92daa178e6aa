//! Which channels a query listens to.

use std::borrow::Cow;

use super::lexer::{Lexer, Token};

/// The longest name of PostgreSQL's; it cuts longer ones off.
const MAX_NAME: usize = 63;

/// The channels of the `LISTEN` statements with which a query begins.
///
/// ```
/// use pgvpd_core::resets::channels;
///
/// let found: Vec<_> = channels(b"listen Jobs; LISTEN \"acme:jobs\"").collect();
/// assert_eq!(found, [&b"jobs"[..], b"acme:jobs"]);
/// assert_eq!(channels(b"SELECT 'LISTEN jobs'").count(), 0);
/// ```
pub fn channels(text: &[u8]) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let mut lexer = Some(Lexer::new(text));
    std::iter::from_fn(move || {
        loop {
            match statement(lexer.as_mut()?) {
                Some(Statement::Listen(channel)) => return Some(channel),
                Some(Statement::Unread) => {}
                None => lexer = None,
            }
        }
    })
}

/// False where a text begins so that [`channels`] finds nothing in it. It looks at the first letter alone.
pub fn may_listen(text: &[u8]) -> bool {
    let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
    matches!(first, Some(b'l' | b'L' | b'-' | b'/' | b';'))
}

enum Statement<'t> {
    Listen(Cow<'t, [u8]>),
    /// A LISTEN whose channel cannot be told.
    Unread,
}

/// The next statement, with its semicolon, if it is a LISTEN.
fn statement<'t>(lexer: &mut Lexer<'t>) -> Option<Statement<'t>> {
    let first = loop {
        match lexer.next().ok()?? {
            Token::Semicolon => {}
            first => break first,
        }
    };
    if !matches!(first, Token::Word(word) if word.eq_ignore_ascii_case(b"listen")) {
        return None;
    }
    let channel = match lexer.next().ok()?? {
        Token::Word(name) => Statement::Listen(cut_off(Cow::Owned(name.to_ascii_lowercase()))),
        Token::Quoted(name) => Statement::Listen(cut_off(unquoted(name))),
        _ => Statement::Unread,
    };
    match lexer.next().ok()? {
        None | Some(Token::Semicolon) => Some(channel),
        // No LISTEN that PostgreSQL takes.
        Some(_) => None,
    }
}

/// With each doubled quote as one.
fn unquoted(name: &[u8]) -> Cow<'_, [u8]> {
    if !name.contains(&b'"') {
        return Cow::Borrowed(name);
    }
    let mut was_quote = false;
    let kept = name.iter().copied().filter(|&byte| {
        was_quote = byte == b'"' && !was_quote;
        byte != b'"' || was_quote
    });
    Cow::Owned(kept.collect())
}

fn cut_off(mut name: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    if name.len() > MAX_NAME {
        name.to_mut().truncate(MAX_NAME);
    }
    name
}

#[cfg(test)]
mod tests {
    #[test]
    fn channels_are_named_as_the_server_names_them() {
        let long = "x".repeat(70);
        for (text, channels) in [
            ("LISTEN jobs", &["jobs"][..]),
            (" \n\tlisten JoBs ;", &["jobs"]),
            ("-- mine\n/* and; */ LISTEN \"JoBs\"", &["JoBs"]),
            ("LISTEN \"a\"\"b\"\"\"\"c\"", &["a\"b\"\"c"]),
            ("LISTEN a;; LISTEN b; LISTEN \"c\"", &["a", "b", "c"]),
            ("LISTEN a; SELECT 1; LISTEN b", &["a"]),
            ("LISTEN U&\"a\"; LISTEN b", &["b"]),
            ("LISTEN", &[]),
            ("LISTEN 'a'", &[]),
            ("LISTEN a b", &[]),
            ("LISTEN \"a", &[]),
            ("LISTENER a", &[]),
            ("UNLISTEN a", &[]),
            ("lock table a", &[]),
            ("SELECT 'LISTEN a'; LISTEN b", &[]),
            ("", &[]),
        ] {
            let found: Vec<_> = super::channels(text.as_bytes()).collect();
            assert!(found.is_empty() || super::may_listen(text.as_bytes()), "{text}");
            assert_eq!(found, channels.iter().map(|name| name.as_bytes()).collect::<Vec<_>>(), "{text}");
        }
        let text = format!("LISTEN {long}");
        assert_eq!(super::channels(text.as_bytes()).next().map(|name| name.len()), Some(63));
    }
}
