//! What the demonstration prints: colours and a table on a terminal, plain text in a pipe.

use std::fmt::Display;
use std::io::IsTerminal;

use anstyle::{AnsiColor, Style};
use comfy_table::{Table, presets};

fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// A line on standard output; colours are taken off where it is no terminal, or `NO_COLOR` is set.
pub(super) fn note(text: &str) {
    // A reader that has left, as `head` does, is no reason to stop: this macro ignores it, unlike that of std.
    anstream::println!("{text}");
}

pub(super) fn heading(text: &str) {
    note("");
    note(&styled(AnsiColor::Cyan.on_default().bold(), text));
}

pub(super) fn dim(text: &str) -> String {
    styled(Style::new().dimmed(), text)
}

/// The outcome of a check, with its mark.
pub(super) fn verdict(held: bool, text: &str) {
    let mark = if held {
        styled(AnsiColor::Green.on_default().bold(), "ok  ")
    } else {
        styled(AnsiColor::Red.on_default().bold(), "FAIL")
    };
    note(&format!("  {mark} {text}"));
}

/// Rows under a header.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) {
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
