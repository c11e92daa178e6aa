//! The report for people, and the script of fixes.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};

use super::Report;
use super::audit::Source;
use super::finding::{Finding, Severity};
use crate::escape::{sql, visible};

/// Prints the report; colours are taken off where standard output is no terminal, or `NO_COLOR` is set.
pub(super) fn print(report: &Report) {
    // A reader that has left, as `head` does, is no reason to stop: this macro ignores it, unlike that of std.
    anstream::print!("{}", render(report));
}

/// The fixes of all findings.
pub(super) fn fixes(report: &Report) -> String {
    let mut text = format!(
        "-- Fixes for what pgvpd check found in database {}. Review each before you run it.\n",
        visible(&report.database)
    );
    let mut seen = Vec::new();
    for finding in &report.findings {
        let Finding { id, severity, object, finding: what, fix } = finding;
        let _ = write!(text, "\n-- {id} {severity}, {}: {}\n", visible(object), visible(what));
        // Findings about one object may share a fix, and to run it twice would be an error.
        if seen.contains(&fix) {
            text.push_str("-- (as above)\n");
        } else if !fix.is_empty() {
            let _ = writeln!(text, "{}", sql(fix));
            seen.push(fix);
        }
    }
    text
}

fn render(report: &Report) -> String {
    let mut text = heading(report);
    for severity in Severity::ALL.into_iter().filter(|severity| report.count(*severity) > 0) {
        let title = format!("{} ({})", severity.name().to_uppercase(), report.count(severity));
        let _ = write!(text, "\n{}\n", styled(style(severity), &title));
        for finding in report.findings.iter().filter(|finding| finding.severity == severity) {
            let _ = write!(text, "\n{}", shown(finding));
        }
    }
    let _ = write!(text, "\n{}\n", summary(report));
    text
}

fn heading(report: &Report) -> String {
    let list = |names: &[String]| names.iter().map(|name| visible(name)).collect::<Vec<_>>().join(", ");
    let mut text = format!(
        "database {} on PostgreSQL {}; application: {}; tenant column: {}\n",
        visible(&report.database),
        visible(&report.server_version),
        list(&report.app_roles),
        list(&report.tenant_columns)
    );
    if report.audit == Source::Program {
        text.push_str(
            "pgvpd_audit() is not installed (sql/audit.sql): it was tried out in a transaction that was rolled back\n",
        );
    }
    text
}

fn shown(finding: &Finding) -> String {
    let Finding { id, severity, object, finding: what, fix } = finding;
    let mut text = format!("  {}  {}\n", styled(style(*severity), id), styled(Style::new().bold(), &visible(object)));
    let _ = writeln!(text, "       {}", visible(what));
    for line in sql(fix).lines() {
        let _ = writeln!(text, "           {line}");
    }
    text
}

fn summary(report: &Report) -> String {
    let ignored = match report.ignored {
        0 => String::new(),
        count => format!(" ({count} ignored)"),
    };
    if report.findings.is_empty() {
        return format!("{}{ignored}", styled(AnsiColor::Green.on_default().bold(), "nothing found"));
    }
    let counts = Severity::ALL.into_iter().map(|severity| (report.count(severity), severity));
    let counts = counts.filter(|(count, _)| *count > 0).map(|(count, severity)| match severity {
        Severity::Warning if count > 1 => format!("{count} warnings"),
        severity => format!("{count} {severity}"),
    });
    format!("found: {}{ignored}", counts.collect::<Vec<_>>().join(", "))
}

fn style(severity: Severity) -> Style {
    match severity {
        Severity::Critical => AnsiColor::Red.on_default().bold(),
        Severity::High => AnsiColor::Red.on_default(),
        Severity::Warning => AnsiColor::Yellow.on_default(),
        Severity::Info => AnsiColor::Cyan.on_default(),
    }
}

fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}
