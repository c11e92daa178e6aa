//! The fields of a line for people: `name=value`, with quotes where a value could be taken for more than one. Names of tenants, roles
//! and databases are a client's or a user's, and none of them can look like another field or another line.

use std::fmt::{self, Debug};

use anstyle::Style;
use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

use crate::escape;

/// Formats fields so.
pub(crate) struct Fields;

impl<'w> FormatFields<'w> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut pairs = Pairs { writer, is_first: true, outcome: Ok(()) };
        fields.record(&mut pairs);
        pairs.outcome
    }
}

struct Pairs<'w> {
    writer: Writer<'w>,
    is_first: bool,
    outcome: fmt::Result,
}

impl Pairs<'_> {
    fn add(&mut self, field: &Field, value: impl FnOnce() -> String) {
        if self.outcome.is_ok() {
            self.outcome = self.write(field.name(), &value());
        }
    }

    fn write(&mut self, name: &str, value: &str) -> fmt::Result {
        if !std::mem::take(&mut self.is_first) {
            self.writer.write_char(' ')?;
        }
        let name = name.strip_prefix("r#").unwrap_or(name);
        match name {
            "message" => self.writer.write_str(value),
            _ if self.writer.has_ansi_escapes() => {
                let (italic, dimmed) = (Style::new().italic(), Style::new().dimmed());
                write!(self.writer, "{italic}{name}{italic:#}{dimmed}={dimmed:#}{value}")
            }
            _ => write!(self.writer, "{name}={value}"),
        }
    }
}

impl Visit for Pairs<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.add(field, || escape::visible(value)),
            _ => self.add(field, || quoted(value)),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = || format!("{value:?}");
        match field.name() {
            "message" => self.add(field, || escape::visible(&text())),
            _ => self.add(field, || one_word(text())),
        }
    }
}

/// As it is where it is one word, else with quotes.
fn one_word(text: String) -> String {
    let is_plain = |c: char| !c.is_whitespace() && !matches!(c, '"' | '=' | '\\') && !escape::is_unfit(c);
    if !text.is_empty() && text.chars().all(is_plain) { text } else { quoted(&text) }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escape::visible(&text.replace('\\', "\\\\").replace('"', "\\\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_look_like_another_field_or_another_line() {
        for (text, expected) in [
            ("127.0.0.1", "127.0.0.1"),
            ("30s", "30s"),
            ("", r#""""#),
            ("client disconnected", r#""client disconnected""#),
            (r#"a"b"#, r#""a\"b""#),
            (r"a\nb", r#""a\\nb""#),
            ("x reason=none", r#""x reason=none""#),
            ("a\u{2029}INFO pgvpd", r#""a\u{2029}INFO pgvpd""#),
            ("a\nb\u{2028}\u{1b}[2J\u{202e}", r#""a\nb\u{2028}\u{1b}[2J\u{202e}""#),
        ] {
            assert_eq!(one_word(text.into()), expected);
        }
        assert_eq!(quoted("acme"), r#""acme""#);
    }
}
