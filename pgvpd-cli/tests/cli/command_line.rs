//! `--help`, `--version` and mistakes on the command line.

use pgvpd_core::config::OPTIONS;

use crate::support::run;

fn stdout(assert: &assert_cmd::assert::Assert) -> String {
    String::from_utf8(assert.get_output().stdout.clone()).expect("UTF-8")
}

fn stderr(assert: &assert_cmd::assert::Assert) -> String {
    String::from_utf8(assert.get_output().stderr.clone()).expect("UTF-8")
}

#[test]
fn the_version_goes_to_standard_output() {
    let shown = run(&["--version"], &[]).code(0);
    assert_eq!(stdout(&shown), format!("pgvpd {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(stderr(&shown), "");
}

#[test]
fn help_goes_to_standard_output_without_colours() {
    for arguments in [&["--help"][..], &["-h"], &["demo", "--help"], &["help"]] {
        let shown = run(arguments, &[]).code(0);
        assert!(stdout(&shown).contains("Usage: pgvpd"), "{arguments:?}");
        assert!(!stdout(&shown).contains('\x1b'), "{arguments:?}");
        assert_eq!(stderr(&shown), "", "{arguments:?}");
    }
}

#[test]
fn help_shows_every_option_with_variable_default_and_meaning_under_its_topic() {
    let help = stdout(&run(&["--help"], &[]));
    // Wrapping puts line ends between words.
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for option in OPTIONS {
        let title = format!("\n{}:\n", option.topic.title());
        let (_, topic) = help.split_once(&title).unwrap_or_else(|| panic!("no heading {title:?}"));
        let topic = words(topic.split("\n\n").next().unwrap_or_default());
        let value = format!("<{}>", option.value);
        let value = if option.switch { format!("[{value}]") } else { value };
        let expected =
            format!("--{} {value} {} [default: {}] [env: {}]", option.flag(), option.help, option.default, option.env);
        assert!(topic.contains(&words(&expected)), "{expected}\nis not in\n{topic}");
    }
}

#[test]
fn the_short_help_fits_a_screen_and_names_the_long_one() {
    let short = stdout(&run(&["-h"], &[]).code(0));
    assert!(short.lines().count() <= 50, "{} lines:\n{short}", short.lines().count());
    for part in ["Usage: pgvpd", "  init ", "  protect ", "--config <FILE>", "--upstream-host", "pgvpd --help"] {
        assert!(short.contains(part), "{part:?} is not in:\n{short}");
    }
    assert!(!short.contains("[default: "), "{short}");
    assert!(stdout(&run(&["--help"], &[])).lines().count() > 200);
}

#[test]
fn help_shows_no_value_of_the_environment() {
    let help = stdout(&run(&["--help"], &[("PGVPD_SET_ROLE", "from-the-environment")]).code(0));
    assert!(!help.contains("from-the-environment"));
}

#[test]
fn an_unknown_flag_ends_with_2_and_a_suggestion() {
    let refused = run(&["--tenant-dney", "acme"], &[]).code(2);
    assert!(stderr(&refused).contains("--tenant-deny"), "{}", stderr(&refused));
    assert_eq!(stdout(&refused), "");
    run(&["nonsense"], &[]).code(2);
    run(&["--port", "1", "demo"], &[]).code(2);
    run(&["demo", "--tenant-deny", "acme"], &[]).code(2);
}

#[test]
fn a_mistake_is_answered_with_what_was_most_likely_meant() {
    for (arguments, tip) in [
        (&["--tenant-dney", "acme"][..], "a similar argument exists: '--tenant-deny'"),
        (&["--tenant_deny=acme"], "a similar argument exists: '--tenant-deny'"),
        (&["--check_config"], "a similar argument exists: '--check-config'"),
        (&["-tenant-deny", "acme"], "a long option has two dashes: '--tenant-deny'"),
        (&["tenant_deny=acme"], "options begin with two dashes: '--tenant-deny=acme'"),
        (&["port", "6432"], "options begin with two dashes: '--port'"),
        (&["etc/pgvpd.conf"], "to read a configuration file: 'pgvpd --config etc/pgvpd.conf'"),
        (&["--once"], "'pgvpd demo --once' exists"),
        (&["--keep", "1h"], "'pgvpd key rotate --keep' exists"),
        (&["-c", "x", "check"], "options of a command stand behind its name: 'pgvpd check -c x'"),
        (
            &["--config", "a b", "check", "--fix-sql"],
            "options of a command stand behind its name: 'pgvpd check --fix-sql --config 'a b''",
        ),
        (
            &["-d", "shop", "protect", "orders"],
            "options of a command stand behind its name: 'pgvpd protect orders -d shop'",
        ),
        (
            &["-c", "x", "key", "rotate", "--keep", "1h"],
            "options of a command stand behind its name: 'pgvpd key rotate --keep 1h -c x'",
        ),
        (&["--database=shop", "init"], "options of a command stand behind its name: 'pgvpd init --database=shop'"),
        (&["--port", "1", "demo"], "options of a command stand behind its name: 'pgvpd demo --port 1'"),
        (
            &["--tenant-deny", "x", "demo"],
            "'--tenant-deny' is an option of the proxy itself, and 'demo' does not have it; leave it out",
        ),
        (&["key", "rotat"], "a similar subcommand exists: 'rotate'"),
        (&["protct", "orders"], "a similar subcommand exists: 'protect'"),
        (&["demo", "--tenant-deny", "acme"], "'--tenant-deny' is an option of the proxy itself: 'pgvpd --tenant-deny'"),
        (&["check", "shop"], "a database is named with -d: 'pgvpd check -d shop'"),
        (&["init", "my shop"], "a database is named with -d: 'pgvpd init -d 'my shop''"),
        (
            &["check", "/etc/pgvpd.conf"],
            "a configuration file is named with --config: 'pgvpd check --config /etc/pgvpd.conf'",
        ),
        (&["demo", "--onse"], "a similar argument exists: '--once'"),
        (&["dmeo"], "a similar subcommand exists: 'demo'"),
        (&["completion", "bash"], "a similar subcommand exists: 'completions'"),
        (&["completions", "bahs"], "a similar value exists: 'bash'"),
    ] {
        let said = stderr(&run(arguments, &[]).code(2));
        let tips: Vec<_> = said.lines().filter_map(|line| line.trim_start().strip_prefix("tip: ")).collect();
        assert_eq!(tips, [tip], "{arguments:?}:\n{said}");
    }
    let said = stderr(&run(&["--nonsense"], &[]).code(2));
    assert!(!said.contains("tip:"), "{said}");
}

#[test]
fn a_suggested_option_is_not_shown_as_if_it_were_required() {
    let said = stderr(&run(&["--tenant-dney", "acme"], &[]).code(2));
    assert!(!said.contains("Usage: pgvpd --"), "{said}");
}

#[test]
fn a_bad_port_of_the_demo_is_explained() {
    let refused = run(&["demo", "--port", "65536"], &[]).code(2);
    assert!(stderr(&refused).contains("give a number from 0 to 65535"), "{}", stderr(&refused));
}
