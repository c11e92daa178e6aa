//! What commands tell people: colours and a table on a terminal, plain text in a pipe.

use std::fmt::Display;
use std::io::IsTerminal;

use anstyle::{AnsiColor, Style};
use comfy_table::{Table, presets};
use tokio_postgres::error::DbError;

pub(crate) fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// A line on standard output; colours are taken off where it is no terminal, or `NO_COLOR` is set.
pub(crate) fn note(text: &str) {
    // A reader that has left, as `head` does, is no reason to stop: this macro ignores it, unlike that of std.
    anstream::println!("{text}");
}

pub(crate) fn heading(text: &str) {
    note("");
    note(&styled(AnsiColor::Cyan.on_default().bold(), text));
}

pub(crate) fn dim(text: &str) -> String {
    styled(Style::new().dimmed(), text)
}

/// The outcome of a check, with its mark.
pub(crate) fn verdict(held: bool, text: &str) {
    let mark = if held {
        styled(AnsiColor::Green.on_default().bold(), "ok  ")
    } else {
        styled(AnsiColor::Red.on_default().bold(), "FAIL")
    };
    note(&format!("  {mark} {text}"));
}

/// Rows under a header.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) {
    let mut table = Table::new();
    table.load_style(if std::io::stdout().is_terminal() {
        presets::UTF8_FULL_CONDENSED
    } else {
        presets::ASCII_MARKDOWN
    });
    table.set_header(header.iter().copied()).add_rows(rows);
    for line in table.lines() {
        note(&format!("  {}", line.trim_end()));
    }
}

/// What the server said beside its answers, as `psql` shows it; to standard error.
pub(crate) fn server_said(notices: &[DbError]) {
    for notice in notices {
        let colour = match notice.severity() {
            "WARNING" => AnsiColor::Yellow.on_default().bold(),
            _ => Style::new().bold(),
        };
        let parts = [("DETAIL", notice.detail()), ("HINT", notice.hint())];
        anstream::eprintln!("{}  {}", styled(colour, format!("{}:", notice.severity())), notice.message());
        for (label, text) in parts.into_iter().filter_map(|(label, text)| Some((label, text?))) {
            anstream::eprintln!("{label}:  {text}");
        }
    }
}

/// Something that was done, or would be.
pub(crate) fn done(is_dry: bool, text: &str) {
    let mark = if is_dry {
        styled(AnsiColor::Cyan.on_default().bold(), "would")
    } else {
        styled(AnsiColor::Green.on_default().bold(), "ok   ")
    };
    note(&format!("  {mark} {text}"));
}

/// What is left to do, numbered.
pub(crate) fn steps(steps: &[String]) {
    for (step, number) in steps.iter().zip(1..) {
        note(&format!("  {number}. {}", step.replace('\n', "\n     ")));
    }
}
