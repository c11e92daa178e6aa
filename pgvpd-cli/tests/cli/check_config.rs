//! `pgvpd --check-config`: which value counts, and how problems are told.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::support::{TestResult, bare_command, run, write_private};

/// A configuration file, removed when dropped.
struct File {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pgvpd.conf");
        write_private(&path, text);
        Self { _directory: directory, path }
    }
}

fn check(file: &Path, flags: &[&str], environment: &[(&str, &str)]) -> assert_cmd::assert::Assert {
    let path = file.to_str().expect("UTF-8");
    run(&[&["--check-config", "--config", path], flags].concat(), environment)
}

/// What stands on standard error of a check that must fail.
fn problems(file: &Path, flags: &[&str], environment: &[(&str, &str)]) -> String {
    let refused = check(file, flags, environment).code(2);
    assert!(refused.get_output().stdout.is_empty());
    String::from_utf8(refused.get_output().stderr.clone()).expect("UTF-8")
}

#[test]
fn a_valid_configuration_is_said_to_be_valid() {
    let file = File::new("# comment\nport = 7000\ntenant_deny = \"acme, globex\"\nallow_trust = on\n");
    check(&file.path, &[], &[]).code(0).stdout("pgvpd: the configuration is valid\n").stderr("");
    run(&["--check-config"], &[]).code(0);
}

#[test]
fn all_bad_values_are_reported_in_one_go_with_key_and_line() {
    let file = File::new("port = x\n\nallow_trust = maybe\ntenant_allow = a\ntenant_deny = b\nlog_level = lots\n");
    let said = problems(&file.path, &["--handshake-timeout", "0"], &[("PGVPD_TENANT_FORMAT", "hex")]);
    for (key, origin) in [
        ("port: ", "pgvpd.conf, line 1)"),
        ("allow_trust: ", "pgvpd.conf, line 3)"),
        ("tenant_deny: ", "pgvpd.conf, line 5)"),
        ("log_level: ", "pgvpd.conf, line 6)"),
        ("handshake_timeout: ", "(flag --handshake-timeout)"),
        ("tenant_format: ", "(environment variable PGVPD_TENANT_FORMAT)"),
    ] {
        let line = said.lines().find(|line| line.trim_start().starts_with(key));
        assert!(line.is_some_and(|line| line.ends_with(origin)), "{key}{origin} is not in:\n{said}");
    }
    assert_eq!(said.lines().count(), 7, "a heading and one line a problem:\n{said}");
}

#[test]
fn all_bad_lines_and_values_of_every_source_are_reported_in_one_go_with_suggestions() {
    let file = File::new("port = 1\ntenant-dney = acme\nno value here\nport = 2\nadmin_port = x\nrelay = warp\n");
    let said = problems(&file.path, &["--tenant-format", "hex"], &[("PGVPD_ALLOW_TRUST", "perhaps")]);
    for part in [
        "relay: \"warp\" is not one of raw, framed (",
        "tenant_format: \"hex\" is not one of text, uuid, integer (flag --tenant-format)",
        "allow_trust: \"perhaps\" is neither true nor false (environment variable PGVPD_ALLOW_TRUST)",
        "tenant-dney: unknown option; did you mean tenant_deny? (",
        "pgvpd.conf, line 2)",
        "pgvpd.conf, line 3)",
        "port: set twice; the first is in ",
        "pgvpd.conf, line 4)",
        "admin_port: \"x\" is not a port; give a number from 0 to 65535, or off (",
        "pgvpd.conf, line 5)",
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
    assert!(!said.contains("no value here"), "a line that is not understood may be a secret:\n{said}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let said = problems(Path::new("/nowhere/pgvpd.conf"), &[], &[]);
    assert!(said.contains("cannot read configuration file /nowhere/pgvpd.conf: No such file"), "{said}");
}

#[test]
fn the_file_can_be_named_by_the_environment_and_the_flag_wins() {
    let (good, bad) = (File::new("port = 7000\n"), File::new("port = x\n"));
    let bad = bad.path.to_str().expect("UTF-8");
    run(&["--check-config"], &[("PGVPD_CONFIG", bad)]).code(2);
    check(&good.path, &[], &[("PGVPD_CONFIG", bad)]).code(0);
}

#[test]
fn the_environment_wins_over_the_file_and_a_flag_over_both() {
    let bad = File::new("port = of-the-file\n");
    assert!(problems(&bad.path, &[], &[]).contains("pgvpd.conf, line 1)"));
    check(&bad.path, &[], &[("PGVPD_PORT", "7000")]).code(0);
    check(&bad.path, &["--port", "7000"], &[]).code(0);
    check(&bad.path, &["--port=7000"], &[("PGVPD_PORT", "of-the-environment")]).code(0);

    let good = File::new("port = 7000\n");
    let said = problems(&good.path, &[], &[("PGVPD_PORT", "of-the-environment")]);
    assert!(said.contains("\"of-the-environment\"") && said.contains("(environment variable PGVPD_PORT)"), "{said}");
    let said = problems(&good.path, &["--port", "of-the-flag"], &[("PGVPD_PORT", "7000")]);
    assert!(said.contains("\"of-the-flag\"") && said.contains("(flag --port)"), "{said}");
}

#[test]
fn a_switch_stands_alone_or_takes_a_value() {
    for flags in [&["--allow-trust"][..], &["--allow-trust=no"], &["--allow-trust", "false", "--allow-cleartext"]] {
        run(&[&["--check-config"], flags].concat(), &[]).code(0);
    }
    run(&["--check-config", "--allow-trust", "maybe"], &[]).code(2);
}

#[test]
fn a_log_filter_that_nobody_understands_is_a_problem_of_its_option() {
    let file = File::new("\nlog_level = pgvpd_core=loud\n");
    let said = problems(&file.path, &[], &[]);
    assert!(said.contains("log_level: \"pgvpd_core=loud\" is not a valid filter"), "{said}");
    assert!(said.contains("pgvpd.conf, line 2)"), "{said}");
}

#[test]
fn an_md5_entry_is_said_and_is_no_problem() -> TestResult {
    use std::os::unix::fs::PermissionsExt;

    let users = tempfile::NamedTempFile::new()?;
    std::fs::write(users.path(), "\"old\" \"md5d41d8cd98f00b204e9800998ecf8427e\"\n\"app_user\" \"s3cret\"\n")?;
    std::fs::set_permissions(users.path(), std::fs::Permissions::from_mode(0o640))?;
    let path = users.path().to_str().ok_or("not UTF-8")?;
    let said = run(&["--check-config", "--pool-mode", "session", "--auth-file", path], &[]).code(0);
    let said = String::from_utf8(said.get_output().stdout.clone())?;
    assert!(said.contains("the entries of old are MD5") && said.contains("allow_cleartext"), "{said}");
    assert!(!said.contains("s3cret") && !said.contains("d41d8cd9"), "{said}");
    std::fs::write(users.path(), "\"old\" \"s3cret\nnonsense\n")?;
    let said = run(&["--check-config", "--pool-mode", "session", "--auth-file", path], &[]).code(2);
    let said = String::from_utf8(said.get_output().stderr.clone())?;
    assert!(said.contains("line 1") && said.contains("line 2") && !said.contains("s3cret"), "{said}");
    Ok(())
}

#[test]
fn a_variable_that_somebody_meant_is_refused_and_one_of_somebody_elses_is_not() {
    let file = File::new("admin_host = 127.0.0.1\nadmin_port = 9090\n");
    let said = problems(&file.path, &[], &[("PGVPD_ADMIN_TOKN", "5"), ("PGVPD_SERVICE_HOST", "10.0.0.1")]);
    assert!(said.contains("did you mean admin_token? (environment variable PGVPD_ADMIN_TOKN)"), "{said}");
    assert!(!said.contains("SERVICE_HOST"), "{said}");
}

#[test]
fn a_value_that_is_not_utf8_is_blamed_on_its_variable() -> TestResult {
    let output = bare_command().arg("--check-config").env("PGVPD_PORT", OsStr::from_bytes(b"\xff")).output()?;
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr)?;
    assert!(said.contains("port: the value is not valid UTF-8 (environment variable PGVPD_PORT)"), "{said}");
    Ok(())
}
