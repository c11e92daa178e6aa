//! `pgvpd man`: that the page has what a page must have.

use pgvpd_core::config::OPTIONS;

use crate::support::run;

/// The page as roff, without the backslashes that keep hyphens.
fn page() -> String {
    let page = run(&["man"], &[("PGVPD_PORT", "x")]).code(0).stderr("");
    String::from_utf8(page.get_output().stdout.clone()).expect("UTF-8").replace("\\-", "-")
}

#[test]
fn the_page_has_its_sections_in_the_usual_order() {
    let page = page();
    let sections: Vec<_> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
    let usual = [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "OPTIONS",
        "COMMANDS",
        "ENVIRONMENT",
        "FILES",
        "SIGNALS",
        "\"EXIT STATUS\"",
        "EXAMPLES",
        "\"SEE ALSO\"",
    ];
    assert_eq!(sections, usual);
    let version = env!("CARGO_PKG_VERSION");
    assert!(page.contains(&format!("\n.TH PGVPD 1 \"\" \"pgvpd {version}\" \"pgvpd manual\"\n")), "{page}");
    assert_eq!(page.matches(".ds Aq").count(), 2, "the definition of the apostrophe stands once, for both roffs");
}

#[test]
fn the_page_has_every_option_under_its_topic_and_every_command() {
    let page = page();
    for option in OPTIONS {
        let heading = format!("\n.SS \"{}\"\n", option.topic.title());
        let (_, topic) = page.split_once(&heading).unwrap_or_else(|| panic!("no heading {heading:?}"));
        let topic = topic.split("\n.S").next().unwrap_or_default();
        assert!(topic.contains(&format!("\\fB--{}\\fR ", option.flag())), "{}", option.name);
        let default = format!("\n.br\n[default: {}] [env: {}]", option.default, option.env);
        assert!(topic.contains(&default), "{default:?} is not in {topic}");
    }
    let commands = [
        "check [OPTIONS]",
        "demo [OPTIONS]",
        "init [OPTIONS]",
        "key rotate [OPTIONS] --config <FILE>",
        "key install [OPTIONS] --config <FILE>",
        "key list [OPTIONS]",
        "protect [OPTIONS] [TABLE]...",
        "resolve [OPTIONS] <USER>",
        "top [OPTIONS]",
        "completions <SHELL>",
        "man",
    ];
    for command in commands {
        let heading = format!("\n.SS \"pgvpd {command}\"\n");
        assert!(page.contains(&heading), "{heading:?}");
    }
    assert_eq!(page.matches("\n.SS \"pgvpd ").count(), commands.len());
    assert!(page.contains("\\fB--pg-bindir\\fR "));
}

#[test]
fn the_page_tells_signals_and_exit_codes_as_the_manual_does() {
    const MANUAL: &str = include_str!("../../../docs/configuration.md");
    let page = page();
    let section = |title: &str| {
        let (_, section) = MANUAL.split_once(&format!("\n## {title}\n")).expect(title);
        let cells = section.split("\n## ").next().unwrap_or_default().lines().filter_map(|line| line.split('|').nth(1));
        cells.map(|cell| cell.trim().to_owned()).skip(2).collect::<Vec<_>>()
    };
    for code in section("Exit codes") {
        assert!(page.contains(&format!("\n.TP\n\\fB{code}\\fR\n")), "{code}");
    }
    let signals = section("Signals").join(" ").replace(',', " ");
    for signal in signals.split_whitespace().filter(|word| word.starts_with("SIG")) {
        assert!(page.contains(signal), "{signal}");
    }
}
