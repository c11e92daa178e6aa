//! A text's tokens, by PostgreSQL's lexical rules (manual, "Lexical Structure"; `scan.l`) with `standard_conforming_strings` on.

/// A token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'t> {
    /// A keyword, or a name without quotes.
    Word(&'t [u8]),
    /// What stands between double quotes.
    Quoted(&'t [u8]),
    /// A name with Unicode escapes.
    Escaped,
    /// A string, of any kind.
    Text,
    /// Digits.
    Number,
    /// The end of a statement.
    Semicolon,
    /// Any other character.
    Symbol(u8),
}

/// A string, a quoted name or a comment has no end: PostgreSQL runs nothing of such a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unclosed;

/// The tokens of a text. Comments and blanks are none.
#[derive(Debug, Clone)]
pub(super) struct Lexer<'t> {
    rest: &'t [u8],
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t [u8]) -> Self {
        Self { rest: text }
    }

    /// The next token; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Token<'t>>, Unclosed> {
        self.skip_blanks()?;
        let Some((&first, after)) = self.rest.split_first() else { return Ok(None) };
        Ok(Some(match first {
            b';' => self.take(after, Token::Semicolon),
            b'\'' => self.string(after, false)?,
            b'"' => Token::Quoted(self.until_quote(after, b'"')?),
            b'$' => self.dollar()?,
            b'0'..=b'9' => {
                self.split_while(|byte| byte.is_ascii_digit());
                Token::Number
            }
            first if starts_word(first) => self.word()?,
            first => self.take(after, Token::Symbol(first)),
        }))
    }

    fn take(&mut self, after: &'t [u8], token: Token<'t>) -> Token<'t> {
        self.rest = after;
        token
    }

    /// Takes the longest front of which every byte is such a one.
    fn split_while(&mut self, is_part: impl Fn(u8) -> bool) -> &'t [u8] {
        let end = self.rest.iter().position(|&byte| !is_part(byte)).unwrap_or(self.rest.len());
        let (front, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, &[]));
        self.rest = rest;
        front
    }

    fn skip_blanks(&mut self) -> Result<(), Unclosed> {
        loop {
            match self.rest {
                [blank, after @ ..] if is_blank(*blank) => self.rest = after,
                [b'-', b'-', ..] => drop(self.split_while(|byte| !is_newline(byte))),
                [b'/', b'*', after @ ..] => self.rest = after_comment(after)?,
                _ => return Ok(()),
            }
        }
    }

    /// A word; or a string or a quoted name with the letters that say how it is to be read.
    fn word(&mut self) -> Result<Token<'t>, Unclosed> {
        let word = self.split_while(|byte| starts_word(byte) || byte.is_ascii_digit() || byte == b'$');
        match (word, self.rest) {
            ([b'e' | b'E'], [b'\'', after @ ..]) => self.string(after, true),
            ([b'b' | b'B' | b'x' | b'X' | b'n' | b'N'], [b'\'', after @ ..]) => self.string(after, false),
            ([b'u' | b'U'], [b'&', b'\'', after @ ..]) => self.string(after, false),
            ([b'u' | b'U'], [b'&', b'"', after @ ..]) => self.until_quote(after, b'"').map(|_| Token::Escaped),
            _ => Ok(Token::Word(word)),
        }
    }

    /// A string behind its first quote. One that goes on in another line (SQL's own rule) is read as it began.
    fn string(&mut self, mut inside: &'t [u8], has_escapes: bool) -> Result<Token<'t>, Unclosed> {
        loop {
            match inside {
                [] => return Err(Unclosed),
                [b'\\', _, after @ ..] if has_escapes => inside = after,
                [b'\'', b'\'', after @ ..] => inside = after,
                [b'\'', after @ ..] => match continued(after) {
                    Some(more) => inside = more,
                    None => return Ok(self.take(after, Token::Text)),
                },
                [_, after @ ..] => inside = after,
            }
        }
    }

    /// What stands up to the closing quote; one that is doubled is none.
    fn until_quote(&mut self, inside: &'t [u8], quote: u8) -> Result<&'t [u8], Unclosed> {
        let mut rest = inside;
        loop {
            match rest {
                [] => return Err(Unclosed),
                [first, second, after @ ..] if [*first, *second] == [quote, quote] => rest = after,
                [first, after @ ..] if *first == quote => {
                    self.rest = after;
                    return Ok(inside.get(..inside.len() - rest.len()).unwrap_or_default());
                }
                [_, after @ ..] => rest = after,
            }
        }
    }

    /// A string between dollar signs, or the sign alone.
    fn dollar(&mut self) -> Result<Token<'t>, Unclosed> {
        let after = self.rest.get(1..).unwrap_or_default();
        let end = after.iter().position(|&byte| !starts_word(byte) && !byte.is_ascii_digit());
        let (Some(end), false) = (end, after.first().is_some_and(u8::is_ascii_digit)) else {
            return Ok(self.take(after, Token::Symbol(b'$')));
        };
        if after.get(end) != Some(&b'$') {
            return Ok(self.take(after, Token::Symbol(b'$')));
        }
        let (Some(delimiter), Some(inside)) = (self.rest.get(..end + 2), self.rest.get(end + 2..)) else {
            return Err(Unclosed);
        };
        let close = inside.windows(delimiter.len()).position(|window| window == delimiter).ok_or(Unclosed)?;
        self.rest = inside.get(close + delimiter.len()..).unwrap_or_default();
        Ok(Token::Text)
    }
}

/// Behind the end of a comment, in which others may stand.
fn after_comment(mut inside: &[u8]) -> Result<&[u8], Unclosed> {
    let mut depth = 1_usize;
    while depth > 0 {
        inside = match inside {
            [] => return Err(Unclosed),
            [b'/', b'*', after @ ..] => {
                depth += 1;
                after
            }
            [b'*', b'/', after @ ..] => {
                depth -= 1;
                after
            }
            [_, after @ ..] => after,
        };
    }
    Ok(inside)
}

/// Behind the quote with which a string goes on: there is a new line between, and nothing else but blanks and comments to the
/// line's end.
fn continued(mut rest: &[u8]) -> Option<&[u8]> {
    let mut has_newline = false;
    loop {
        match rest {
            [b'\'', after @ ..] if has_newline => return Some(after),
            [blank, after @ ..] if is_blank(*blank) => {
                has_newline |= is_newline(*blank);
                rest = after;
            }
            [b'-', b'-', ..] => {
                let end = rest.iter().position(|&byte| is_newline(byte))?;
                rest = rest.get(end..)?;
            }
            _ => return None,
        }
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c')
}

fn is_newline(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Result<Vec<Token<'_>>, Unclosed> {
        let (mut lexer, mut tokens) = (Lexer::new(text.as_bytes()), Vec::new());
        while let Some(token) = lexer.next()? {
            tokens.push(token);
        }
        Ok(tokens)
    }

    #[test]
    fn what_hides_other_text_is_read_to_its_end() {
        let (word, x) = (Token::Word(b"x"), Token::Word(b"x"));
        for text in [
            "/* a; /* b */ ' */ x",
            "/*/ a */ x",
            "/***/x",
            "/**/*/**/ x",
            "-- a'\nx",
            "--\rx",
            "'a;''b' x",
            "'a\\' x",
            "E'a\\'b' x",
            "e'a\\\\' x",
            "E'a'\n'b\\'c' x",
            "E'a' -- c\n 'b\\'c' x",
            "'a'\n'b\\' x",
            "U&'\\' x",
            "x'1f' x",
            "$$ ' $x$ $$ x",
            "$a1$ $$ $a $A1$ $a1$ x",
            "$é$ $$ $é$ x",
            "1$$ ; $$ x",
            "$1$$ ; $$ x",
            "1E'\\'' x",
        ] {
            let found = tokens(text);
            assert_eq!(found.as_ref().map(|tokens| tokens.last().copied()), Ok(Some(word)), "{text}");
            let is_hidden = |token: &Token<'_>| !matches!(token, Token::Semicolon) && *token != Token::Word(b"a");
            assert!(found.is_ok_and(|tokens| tokens.iter().all(is_hidden)), "{text}");
        }
        assert_eq!(tokens("x\"a;\"\"b\"U&\"c\""), Ok(vec![x, Token::Quoted(b"a;\"\"b"), Token::Escaped]));
        // Part of a name, not the beginning of a string; E'' goes on only in another line.
        assert_eq!(tokens("a$b$c"), Ok(vec![Token::Word(b"a$b$c")]));
        assert_eq!(tokens("E'a' 'b\\'"), Ok(vec![Token::Text, Token::Text]));
        assert_eq!(tokens("ee'b\\'"), Ok(vec![Token::Word(b"ee"), Token::Text]));
        assert_eq!(tokens("$1;$"), Ok(vec![Token::Symbol(b'$'), Token::Number, Token::Semicolon, Token::Symbol(b'$')]));
    }

    #[test]
    fn what_has_no_end_is_said_to_have_none() {
        for text in ["'a", "'a''", "E'a\\'", "\"a", "\"a\"\"", "/* /* */", "$$ a $", "$a$ $b$", "U&\"", "E'a'\n'b"] {
            assert_eq!(tokens(text), Err(Unclosed), "{text}");
        }
    }
}
