//! Names from the database, made fit for a terminal. Whoever may create a table may give it a name that moves the cursor, or that
//! ends a comment and goes on with a statement.

use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

/// The text on one line, with everything in it to be seen.
pub(crate) fn visible(text: &str) -> String {
    escaped(text, |out, c| match c {
        '\n' => out.push_str("\\n"),
        '\t' => out.push_str("\\t"),
        c => out.extend(c.escape_unicode()),
    })
}

/// JSON that has nothing to be hidden in it. Such characters stand only inside of its strings, for which JSON has an escape.
pub(crate) fn json(text: &str) -> String {
    let layout = |c| c == '\n';
    text.chars().fold(String::new(), |mut out, c| {
        if is_unfit(c) && !layout(c) {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().for_each(|unit| push(&mut out, format_args!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
        out
    })
}

/// SQL that means the same, with everything in it to be seen: names and literals get PostgreSQL's Unicode escapes where they need
/// them (chapter "Lexical Structure"). A text that begins as a comment stays one, whatever names stand in it.
pub(crate) fn sql(text: &str) -> String {
    if text.starts_with("--") {
        return visible(text);
    }
    let mut out = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            // `E'…'`, where a backslash already escapes: it keeps the quotes from ending the literal.
            'E' if rest.peek() == Some(&'\'') => {
                rest.next();
                let literal = quoted(&mut rest, '\'', true);
                push(&mut out, format_args!("E'{}'", escaped(&literal, unicode_in_e)));
            }
            '\'' | '"' => {
                let inner = quoted(&mut rest, c, false);
                if inner.chars().any(is_unfit) {
                    let inner = escaped(&inner.replace('\\', "\\\\"), unicode);
                    push(&mut out, format_args!("U&{c}{inner}{c}"));
                } else {
                    push(&mut out, format_args!("{c}{inner}{c}"));
                }
            }
            '-' if rest.peek() == Some(&'-') => {
                let comment: String = rest.by_ref().collect();
                push(&mut out, format_args!("-{}", visible(&comment)));
            }
            '\n' => out.push('\n'),
            c if is_unfit(c) => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// What stands before the closing quote, doubled quotes as they are.
fn quoted(rest: &mut Peekable<Chars<'_>>, quote: char, backslashes: bool) -> String {
    let mut inner = String::new();
    while let Some(c) = rest.next() {
        if c == quote && rest.peek() != Some(&quote) {
            break;
        }
        inner.push(c);
        if c == quote || (backslashes && c == '\\') {
            inner.extend(rest.next());
        }
    }
    inner
}

fn escaped(text: &str, escape: impl Fn(&mut String, char)) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| if is_unfit(c) { escape(&mut out, c) } else { out.push(c) });
    out
}

fn unicode(out: &mut String, c: char) {
    match u32::from(c) {
        code @ ..=0xffff => push(out, format_args!("\\{code:04X}")),
        code => push(out, format_args!("\\+{code:06X}")),
    }
}

fn unicode_in_e(out: &mut String, c: char) {
    match u32::from(c) {
        code @ ..=0xffff => push(out, format_args!("\\u{code:04X}")),
        code => push(out, format_args!("\\U{code:08X}")),
    }
}

/// Characters that control a terminal, change the direction of what follows, or cannot be seen.
pub(crate) fn is_unfit(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Memory takes any text.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visible_text_is_one_line_without_control_characters() {
        assert_eq!(visible("a\x1b[2J\u{9b}b\n\u{202e}ü"), "a\\u{1b}[2J\\u{9b}b\\n\\u{202e}ü");
    }

    #[test]
    fn json_stays_the_same_value() {
        let name = "a\u{9b}\u{202e}\u{e0041}\x1b\n";
        let value = serde_json::json!({ "object": name });
        let text = json(&serde_json::to_string_pretty(&value).expect("JSON"));
        assert!(!text.chars().any(|c| is_unfit(c) && c != '\n'), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("JSON"), value);
    }

    #[test]
    fn sql_keeps_its_meaning() {
        for (sql_text, expected) in [
            (r#"ALTER TABLE public."a b" ENABLE;"#, r#"ALTER TABLE public."a b" ENABLE;"#),
            ("DROP TABLE \"a\x1b\"\"\\b\nc\";", r#"DROP TABLE U&"a\001B""\\b\000Ac";"#),
            ("SELECT f('it''s\n', 'x\\y')", r"SELECT f(U&'it''s\000A', 'x\y')"),
            ("SELECT f(E'a\\\\\x1b\\'' , 'b')", r"SELECT f(E'a\\\u001B\'' , 'b')"),
            ("SELECT 1\nFROM \"\u{e0041}\"", "SELECT 1\nFROM U&\"\\+0E0041\""),
        ] {
            assert_eq!(sql(sql_text), expected);
        }
    }

    #[test]
    fn a_name_in_a_comment_cannot_end_it() {
        assert_eq!(sql("-- REVOKE ON \"a\nDROP TABLE b\""), r#"-- REVOKE ON "a\nDROP TABLE b""#);
        assert_eq!(sql("SELECT 1; -- then\nrestart"), r"SELECT 1; -- then\nrestart");
    }
}
