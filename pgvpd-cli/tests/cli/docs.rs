//! The manual and the example file, held against the table of options.

use std::path::Path;
use std::sync::LazyLock;

use pgvpd_core::config::{OPTIONS, OptionSpec, Topic};
use pgvpd_core::{Config, Settings};

use crate::support::{TestResult, run, write_private};

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
    let text = |is_part: &dyn Fn(&str) -> bool| {
        lines.iter().filter(|(name, _)| is_part(name)).map(|(_, line)| line.as_str()).collect::<String>()
    };
    // Each pair excludes each other.
    let all = |left_out: [&str; 7]| text(&|name| !left_out.contains(&name));
    let both = [
        all([
            "tenant_allow",
            "pool_password",
            "upstream_password",
            "context_signing_key",
            "context_previous_signing_key",
            "resolver_password",
            "admin_token",
        ]),
        all([
            "tenant_deny",
            "pool_password_file",
            "upstream_password_file",
            "context_signing_key_file",
            "context_previous_signing_key_file",
            "resolver_password_file",
            "admin_token_file",
        ]),
    ];
    let alone = |name: &str| text(&|other| other == name || needed_by(name).contains(&other));
    for text in lines.iter().map(|(name, _)| alone(name)).chain(both) {
        write_private(&file, text);
        run(&["--check-config", "--config", file.to_str().ok_or("not UTF-8")?], &[]).code(0);
    }
    Ok(())
}

fn is_word_for_not_set(option: &OptionSpec) -> bool {
    const WORDS: &[&str] = &[
        "any",
        "all",
        "none",
        "off",
        "the login role",
        "require with a key, else off",
        "allow with tls_cert, else disable",
    ];
    WORDS.contains(&option.default) && option.name != "pool_mode"
}

/// The options that must stand beside this one.
fn needed_by(name: &str) -> &'static [&'static str] {
    match name {
        "proxy_protocol" | "proxy_protocol_from" => &["proxy_protocol", "proxy_protocol_from"],
        "auth_user" | "auth_dbname" | "auth_query" => &["pool_mode", "auth_user", "auth_dbname"],
        "upstream_password" | "upstream_password_file" => &["pool_mode", "auth_file"],
        "pool_mode" => &["auth_file"],
        "context_signing"
        | "context_key_id"
        | "context_previous_signing_key"
        | "context_previous_signing_key_file"
        | "context_previous_key_id" => &["context_signing_key"],
        "resolver_password" | "resolver_password_file" | "resolver_pool_size" | "resolver_notify" => &["resolver_user"],
        "auth_file" | "pool_password" | "pool_password_file" => &["pool_mode"],
        "tls_cert" | "tls_key" | "client_tls" | "tls_port" => &["tls_cert", "tls_key"],
        "tls_client_ca" | "client_cert" | "cert_map" => {
            &["tls_cert", "tls_key", "tls_client_ca", "client_cert", "cert_map"]
        }
        "admin_host" | "admin_token" | "admin_token_file" => &["admin_port"],
        "admin_users" => &["auth_file"],
        "audit_on_error" => &["audit_log"],
        "upstream_tls" | "upstream_tls_ca" => &["upstream_tls", "upstream_tls_ca"],
        "upstream_tls_cert" | "upstream_tls_key" => {
            &["upstream_tls", "upstream_tls_ca", "upstream_tls_cert", "upstream_tls_key"]
        }
        _ => &[],
    }
}

/// The option's line, with a directory and files that exist where they must, and what every other option can have.
fn line(name: &str, value: &str, directory: &Path) -> String {
    match name {
        "listen_unix_dir" => format!("{name} = {}\n", directory.display()),
        "relay" => "relay = framed\n".into(),
        "pool_mode" => "pool_mode = session\n".into(),
        "resolvers" => {
            let file = directory.join(name);
            let resolver = "[[resolver]]\nname = \"a\"\nquery = \"SELECT 1 AS x\"\ninject = { \"app.x\" = \"x\" }\n";
            std::fs::write(&file, resolver).expect("a file");
            format!("{name} = {}\n", file.display())
        }
        "admin_port" => "admin_port = 9090\n".into(),
        "audit_log" => format!("{name} = {}\n", directory.join(name).display()),
        "admin_token_file" => {
            let file = directory.join(name);
            write_private(&file, "a-long-random-text\n");
            format!("{name} = {}\n", file.display())
        }
        "tenants" => {
            let file = directory.join(name);
            std::fs::write(&file, "[[tenant]]\nname = \"acme\"\nmax_connections = 5\n").expect("a file");
            format!("{name} = {}\n", file.display())
        }
        "auth_file" => {
            let file = directory.join(name);
            write_private(&file, "\"app_user\" \"secret\"\n\"root\" \"secret of its own\"\n");
            format!("{name} = {}\n", file.display())
        }
        "pool_password_file" | "upstream_password_file" | "resolver_password_file" => {
            let file = directory.join(name);
            write_private(&file, "\"app_user\" \"secret\"\n");
            format!("{name} = {}\n", file.display())
        }
        "context_signing_key_file" | "context_previous_signing_key_file" => {
            let file = directory.join(name);
            write_private(&file, "00".repeat(32) + "\n");
            format!("{name} = {}\n", file.display())
        }
        "upstream_tls" => "upstream_tls = true\n".into(),
        "cert_map" => {
            let file = directory.join(name);
            std::fs::write(&file, "[[identity]]\ncn = \"a\"\nrole = \"r\"\ntenant = \"t\"\n").expect("a file");
            format!("{name} = {}\n", file.display())
        }
        "tls_cert" | "tls_key" | "tls_client_ca" | "upstream_tls_ca" | "upstream_tls_cert" | "upstream_tls_key" => {
            let (certificate, key) = certificate();
            let file = directory.join(name);
            write_private(&file, if name.ends_with("key") { key } else { certificate });
            format!("{name} = {}\n", file.display())
        }
        _ => format!("{name} = {value}\n"),
    }
}

/// A certificate and its key, in PEM.
fn certificate() -> &'static (String, String) {
    static MADE: LazyLock<(String, String)> = LazyLock::new(|| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    });
    &MADE
}
