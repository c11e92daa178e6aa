//! The manual and the example file, held against the table of options.

use std::path::Path;

use pgvpd_core::config::{OPTIONS, OptionSpec, Topic};
use pgvpd_core::{Config, Settings};

use crate::support::{TestResult, run};

const MANUAL: &str = include_str!("../../../docs/configuration.md");
const EXAMPLE: &str = include_str!("../../../pgvpd.conf.example");

/// A row of one of the manual's tables of options.
struct Row {
    topic: String,
    cells: Vec<String>,
}

fn rows() -> Vec<Row> {
    let mut topic = "";
    let mut in_table = false;
    let mut rows = Vec::new();
    for line in MANUAL.lines() {
        topic = line.strip_prefix("### ").unwrap_or(topic);
        let cells: Vec<String> = line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
        match cells.first().map(String::as_str) {
            _ if !line.starts_with('|') => in_table = false,
            Some("option") => in_table = true,
            Some(rule) if rule.starts_with("---") => {}
            _ if in_table => rows.push(Row { topic: topic.into(), cells }),
            _ => {}
        }
    }
    rows
}

/// Topics in the table's order, each once.
fn topics() -> Vec<Topic> {
    let mut topics: Vec<_> = OPTIONS.iter().map(|option| option.topic).collect();
    topics.dedup();
    topics
}

#[test]
fn the_manual_has_every_option_with_its_topic_default_and_variable_and_no_other() {
    let documented: Vec<_> =
        rows().iter().map(|row| [std::slice::from_ref(&row.topic), &row.cells[..3]].concat()).collect();
    let expected: Vec<_> = OPTIONS
        .iter()
        .map(|option| [option.topic.title(), option.name, option.default, option.env].map(str::to_owned).to_vec())
        .collect();
    assert_eq!(documented, expected);
    assert!(rows().iter().all(|row| row.cells.get(3).is_some_and(|meaning| !meaning.is_empty())));
}

#[test]
fn the_manual_names_no_variable_that_the_program_does_not_read() {
    let is_part = |c: char| c.is_ascii_uppercase() || c == '_';
    for name in MANUAL.split(|c| !is_part(c)).filter(|word| word.starts_with("PGVPD_") && *word != "PGVPD_") {
        let known = name == "PGVPD_CONFIG" || OPTIONS.iter().any(|option| option.env == name);
        assert!(known, "{name}");
    }
}

#[test]
fn the_options_that_the_manual_calls_planned_are_refused_as_such() {
    let (_, section) = MANUAL.split_once("\n## Options that are still to come\n").expect("the section");
    let (list, _) = section.split_once(" are planned").expect("the list");
    let names: Vec<_> = list.split('`').skip(1).step_by(2).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let refused = Settings::new().set(name, "1").expect_err(name).to_string();
        assert!(refused.contains("does not have this option yet"), "{refused}");
    }
}

#[test]
fn the_manual_tells_every_exit_code_of_the_help() {
    for code in ["0", "1", "2", "3", "128 + n"] {
        assert!(MANUAL.contains(&format!("\n| {code} | ")), "{code}");
    }
}

/// The example's option lines, without the `# ` that switches them off, and what stands above each.
fn example() -> Vec<(&'static str, &'static str, &'static str)> {
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    let option = |pair: &[&'static str]| {
        let [above, line] = pair else { return None };
        let (name, value) = line.strip_prefix("# ")?.split_once(" = ")?;
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_').then_some((name, value, *above))
    };
    lines.windows(2).filter_map(option).collect()
}

#[test]
fn the_example_has_every_option_once_in_order_with_its_default_and_a_comment() {
    let names: Vec<_> = example().iter().map(|(name, ..)| *name).collect();
    assert_eq!(names, OPTIONS.iter().map(|option| option.name).collect::<Vec<_>>());
    for (option, (name, value, above)) in OPTIONS.iter().zip(example()) {
        assert!(above.starts_with("# ") && above.ends_with('.'), "{name} has no comment: {above:?}");
        if is_word_for_not_set(option) {
            assert!(above.ends_with(&format!("Not set: {}.", option.default)), "{above}");
        } else {
            assert_eq!(value, option.default, "{name}");
        }
    }
}

#[test]
fn the_example_has_a_heading_for_every_topic_in_order() {
    let headings: Vec<_> = EXAMPLE.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(headings, topics().into_iter().map(Topic::title).collect::<Vec<_>>());
}

#[test]
fn the_example_as_it_is_sets_nothing() -> TestResult {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("pgvpd.conf");
    std::fs::write(&path, EXAMPLE)?;
    assert_eq!(Config::from_file(&path)?.settings(), &Settings::new());
    Ok(())
}

#[test]
fn each_option_of_the_example_passes_the_check_and_so_do_all_together() -> TestResult {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("pgvpd.conf");
    let lines: Vec<_> =
        example().into_iter().map(|(name, value, _)| (name, line(name, value, directory.path()))).collect();
    // These two exclude each other.
    let without =
        |left_out: &str| lines.iter().filter(|(name, _)| *name != left_out).map(|(_, line)| line.as_str()).collect();
    let both: [String; 2] = [without("tenant_allow"), without("tenant_deny")];
    // And these two need each other.
    let alone = |name: &str| {
        let is_part =
            |other: &str| other == name || [name, other].iter().all(|name| name.starts_with("proxy_protocol"));
        lines.iter().filter(|(other, _)| is_part(other)).map(|(_, line)| line.as_str()).collect::<String>()
    };
    for text in lines.iter().map(|(name, _)| alone(name)).chain(both) {
        std::fs::write(&file, text)?;
        run(&["--check-config", "--config", file.to_str().ok_or("not UTF-8")?], &[]).code(0);
    }
    Ok(())
}

fn is_word_for_not_set(option: &OptionSpec) -> bool {
    matches!(option.default, "any" | "all" | "none" | "off" | "the login role") && option.name != "pool_mode"
}

/// The option's line, with a directory that exists where one must, and the relay that every other option can have.
fn line(name: &str, value: &str, directory: &Path) -> String {
    match name {
        "listen_unix_dir" => format!("{name} = {}\n", directory.display()),
        "relay" => "relay = framed\n".into(),
        _ => format!("{name} = {value}\n"),
    }
}
