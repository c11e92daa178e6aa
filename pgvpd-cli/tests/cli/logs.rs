//! The log: a line for each session's start and end, one number through all of them, and no flood.

use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{PASSWORD, Server, TestResult, eventually, log_in, log_in_with, orders};

/// The objects of a JSON log whose message is this.
async fn lines(server: &Server, message: &str, count: usize) -> Vec<Value> {
    let lines = server.program.err.lines(&format!("\"message\":\"{message}\""), count).await;
    lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))).collect()
}

#[tokio::test]
async fn a_session_has_a_line_at_its_start_and_one_at_its_end_with_one_number() -> TestResult {
    let server = Server::start(&["--log-format", "json", "--relay", "framed"]).await;
    let client = log_in(server.address, "app_user.acme").await?;
    assert_eq!(orders(&client).await?, 3);
    let started = lines(&server, "session started", 1).await.remove(0);
    drop(client);
    let ended = lines(&server, "session ended", 1).await.remove(0);
    for line in [&started, &ended] {
        for (field, value) in [("tenant", "acme"), ("role", "app_user"), ("database", "shop"), ("client", "127.0.0.1")]
        {
            assert_eq!(line[field], value, "{line}");
        }
        assert_eq!((&line["tls"], &line["level"]), (&false.into(), &"INFO".into()));
    }
    assert!(started["session"].is_u64() && started["session"] == ended["session"], "{started} {ended}");
    assert!(ended["duration"].is_f64() && ended["reason"] == "client disconnected", "{ended}");
    assert!(ended["bytes_from_client"].as_u64() > Some(0) && ended["bytes_to_client"].as_u64() > Some(0), "{ended}");
    assert!(ended["requests"].as_u64() > Some(0), "{ended}");
    let refused = log_in_with(server.address, "app_user.globex", "wrong").await;
    assert!(refused.is_err());
    let refused = lines(&server, "login refused by the upstream server", 1).await.remove(0);
    assert!(refused["session"].as_u64() > started["session"].as_u64(), "a refused login has a number too: {refused}");
    Ok(())
}

#[tokio::test]
async fn sessions_have_no_lines_where_that_is_not_wanted() -> TestResult {
    let mut server = Server::start(&["--log-sessions", "false"]).await;
    drop(log_in(server.address, "app_user.acme").await?);
    server.program.signal(Signal::TERM);
    assert_eq!(server.program.exit_code().await, Some(0));
    assert!(!server.program.err.text().contains("session started"), "{}", server.program.err.text());
    Ok(())
}

#[tokio::test]
async fn the_same_failure_again_and_again_is_said_once_and_counted() -> TestResult {
    let mut server = Server::start(&["--tenant-deny", "mallory"]).await;
    for _ in 0..25 {
        assert!(log_in(server.address, "app_user.mallory").await.is_err());
    }
    assert!(log_in(server.address, "app_user").await.is_err(), "another failure");
    server.program.signal(Signal::TERM);
    assert_eq!(server.program.exit_code().await, Some(0));
    let said = server.program.err.text();
    let about = |part: &str| said.lines().filter(|line| line.contains("mallory") && line.contains(part)).count();
    assert_eq!((about("login refused client"), about("again and again")), (1, 1), "{said}");
    assert!(said.contains("repeated=24"), "{said}");
    assert_eq!(said.matches("names no tenant").count(), 1, "{said}");
    Ok(())
}

#[tokio::test]
async fn the_level_changes_with_a_reload() -> TestResult {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("pgvpd.conf");
    std::fs::write(&file, "")?;
    let server = Server::start(&["--config", file.to_str().ok_or("UTF-8")?]).await;
    std::fs::write(&file, "log_level = warn\ntenant_deny = acme\n")?;
    server.program.signal(Signal::HUP);
    eventually("it has been read", async || log_in(server.address, "app_user.acme").await.is_err()).await;
    std::fs::write(&file, "log_level = info\n")?;
    server.program.signal(Signal::HUP);
    server.program.err.line("configuration reloaded").await;
    let said = server.program.err.text();
    assert!(!said.contains("is not permitted"), "nothing below a warning was said meanwhile: {said}");
    assert_eq!(said.matches("configuration reloaded").count(), 1, "{said}");
    Ok(())
}

#[tokio::test]
async fn a_databases_name_cannot_look_like_a_field_or_a_line() -> TestResult {
    let directory = tempfile::tempdir()?;
    let users = directory.path().join("users.txt");
    std::fs::write(&users, format!("\"app_user\" \"{PASSWORD}\"\n"))?;
    std::fs::set_permissions(&users, std::fs::Permissions::from_mode(0o600))?;
    let users = users.to_str().ok_or("UTF-8")?;
    let server = Server::start(&["--pool-mode", "session", "--auth-file", users]).await;
    let mut config = tokio_postgres::Config::new();
    config.host(server.address.ip().to_string()).port(server.address.port()).user("app_user.acme").password(PASSWORD);
    config.dbname("x\" tenant=\"globex\" y=\u{2029}2026-01-01T00:00:00Z\u{2028}ERROR");
    assert!(config.connect(tokio_postgres::NoTls).await.is_err(), "there is no such database");
    let line = server.program.err.line("cannot make an upstream connection").await;
    assert!(
        line.contains(r#"pool="app_user@x\" tenant=\"globex\" y=\u{2029}2026-01-01T00:00:00Z\u{2028}ERROR" "#),
        "{line}"
    );
    Ok(())
}
