//! The daemon while it runs: where it listens, what it logs, and how it says that it cannot start.

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use rustix::process::Signal;
use tokio_postgres::error::SqlState;

use crate::support::{
    PASSWORD, Program, Server, TestResult, address, bare_command, eventually, log_in, log_in_with, orders, postgres,
    run, within,
};

#[tokio::test]
async fn each_tenant_sees_its_own_rows() -> TestResult {
    let server = Server::start(&[]).await;
    for (user, expected) in [("app_user.acme", 3), ("app_user.globex", 2), ("app_user.nobody", 0)] {
        assert_eq!(orders(&log_in(server.address, user).await?).await?, expected, "{user}");
    }
    Ok(())
}

#[test]
fn a_port_in_use_ends_with_3_and_one_line() -> TestResult {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?;
    let port = address.port().to_string();
    let arguments = ["--port", &port, "--max-client-connections", "10"];
    let refused = run(&arguments, &[]).code(3);
    let said = String::from_utf8(refused.get_output().stderr.clone())?;
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with(&format!("pgvpd: cannot listen on {address}: Address already in use")), "{said}");

    let refused = run(&[&arguments[..], &["--log-format", "json"]].concat(), &[]).code(3);
    let line: serde_json::Value = serde_json::from_slice(&refused.get_output().stderr)?;
    assert_eq!(line["level"], "ERROR");
    assert!(line["error"].as_str().is_some_and(|error| error.contains(&address.to_string())), "{line}");
    Ok(())
}

#[test]
fn a_bad_configuration_ends_with_2_before_anything_is_opened() {
    run(&["--port", "0", "--tenant-format", "hex"], &[]).code(2);
    run(&["--port", "0", "--config", "/nowhere/pgvpd.conf"], &[]).code(2);
}

#[tokio::test]
async fn every_line_of_a_json_log_is_json() -> TestResult {
    let mut server = Server::start(&["--log-format", "json", "--log-level", "trace"]).await;
    let client = log_in(server.address, "app_user.acme").await?;
    assert!(log_in(server.address, "app_user").await.is_err());
    assert!(log_in_with(server.address, "app_user.\"a\\b\"", "wrong").await.is_err());
    server.program.signal(Signal::HUP);
    server.program.err.line("configuration reloaded").await;
    drop(client);
    server.program.signal(Signal::TERM);
    assert_eq!(server.program.exit_code().await, Some(0));

    let log = server.program.err.text();
    for line in log.lines() {
        let parsed: serde_json::Value = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
        assert!(parsed["level"].is_string() && parsed["timestamp"].is_string(), "{line}");
    }
    for part in ["pgvpd is listening", "session started", "login refused", "stopped"] {
        assert!(log.contains(part), "{part:?} is not in:\n{log}");
    }
    assert_eq!(server.program.out.text(), "", "standard output is not the log's");
    Ok(())
}

/// The server has 200 connections, 3 of them for superusers.
#[tokio::test]
async fn options_that_exceed_the_servers_connections_are_named() -> TestResult {
    postgres().await.execute("shop", &format!("ALTER ROLE pgvpd_auth PASSWORD '{PASSWORD}'")).await?;
    let mut file = tempfile::NamedTempFile::new()?;
    writeln!(file, "\"pgvpd_auth\" \"{PASSWORD}\"")?;
    let path = file.path().display().to_string();
    let asking = ["--pool-mode", "session", "--auth-file", &path, "--auth-user", "pgvpd_auth", "--auth-dbname", "shop"];
    let server = Server::start(&[&asking[..], &["--max-upstream-connections", "198"]].concat()).await;
    let line = server.program.err.line("more than the server has connections for").await;
    assert!(line.contains("\"max_upstream_connections\" value=198 connections=197"), "{line}");
    Ok(())
}

#[tokio::test]
async fn a_text_log_in_a_pipe_has_no_colours() {
    let mut server = Server::start(&[]).await;
    server.program.signal(Signal::TERM);
    assert_eq!(server.program.exit_code().await, Some(0));
    assert!(!server.program.err.text().contains('\x1b'), "{:?}", server.program.err.text());
}

#[tokio::test]
async fn no_log_level_shows_a_password() -> TestResult {
    for format in ["text", "json"] {
        let mut server = Server::start(&["--log-level", "trace", "--log-format", format]).await;
        for role in ["app_user", "plain_user", "md5_user"] {
            let user = format!("{role}.acme");
            assert_eq!(orders(&log_in(server.address, &user).await?).await?, 3, "{user}");
            let wrong = format!("not-{PASSWORD}");
            let refused = log_in_with(server.address, &user, &wrong).await.map(drop).expect_err("a wrong password");
            assert_eq!(refused.code(), Some(&SqlState::INVALID_PASSWORD), "{user}: {refused}");
        }
        server.program.signal(Signal::TERM);
        assert_eq!(server.program.exit_code().await, Some(0));
        let log = server.program.err.text();
        assert!(log.contains("session started") && log.contains("plain_user"), "the log says something:\n{log}");
        assert!(!log.contains(PASSWORD), "a password in the log:\n{log}");
    }
    Ok(())
}

#[tokio::test]
async fn the_socket_file_is_there_while_it_runs_and_removed_at_the_end() -> TestResult {
    let directory = tempfile::tempdir()?;
    let mut server = Server::start(&["--listen-unix-dir", directory.path().to_str().ok_or("not UTF-8")?]).await;
    let socket = directory.path().join(format!(".s.PGSQL.{}", server.address.port()));
    let mut config = tokio_postgres::Config::new();
    config.host_path(directory.path()).port(server.address.port());
    config.user("app_user.acme").password(PASSWORD).dbname("shop");
    let (client, connection) = within("login", config.connect(tokio_postgres::NoTls)).await?;
    tokio::spawn(connection);
    assert_eq!(orders(&client).await?, 3);
    drop(client);
    assert!(socket.exists());
    server.program.signal(Signal::TERM);
    assert_eq!(server.program.exit_code().await, Some(0));
    assert!(!socket.exists());
    Ok(())
}

#[tokio::test]
async fn a_log_that_nobody_reads_any_more_stops_nothing() -> TestResult {
    let mut server = Server::start(&["--log-level", "debug"]).await;
    server.program.err.close().await;
    assert!(log_in(server.address, "app_user").await.is_err(), "a refusal, which is logged");
    let client = log_in(server.address, "app_user.acme").await?;
    assert_eq!(orders(&client).await?, 3);
    drop(client);
    server.program.signal(Signal::TERM);
    assert_eq!(server.program.exit_code().await, Some(0));
    Ok(())
}

#[tokio::test]
async fn a_limit_of_open_files_that_is_too_low_is_a_warning_with_both_numbers() {
    // The shell's limit is the program's hard limit, above which it cannot go.
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "ulimit -n 64 && exec \"$0\" --port 0 --max-client-connections 1000"]);
    shell.arg(bare_command().get_program());
    let mut program = Program::start(shell);
    let warning = program.err.line("limit of open files").await;
    assert!(warning.contains("WARN") && warning.contains("limit=64") && warning.contains("needed=2064"), "{warning}");
    program.err.line("pgvpd is listening").await;
    program.signal(Signal::TERM);
    assert_eq!(program.exit_code().await, Some(0));
}

#[tokio::test]
async fn out_of_file_descriptors_it_pauses_says_so_once_and_goes_on() -> TestResult {
    let upstream_port = postgres().await.port().to_string();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "ulimit -n 40 && exec \"$0\" --port 0 --upstream-port \"$1\""]);
    shell.arg(bare_command().get_program()).arg(upstream_port);
    let mut program = Program::start(shell);
    let address = address(&program.err.line("pgvpd is listening").await);
    // The kernel completes these connections; the program finds no descriptor for some of them.
    let idle: Vec<TcpStream> = (0..60).map(|_| TcpStream::connect(address)).collect::<Result<_, _>>()?;
    program.err.line("cannot accept clients for now").await;
    drop(idle);
    program.err.line("accepting clients again").await;
    eventually("the next client is served", async || {
        let client = log_in(address, "app_user.acme").await;
        matches!(client, Ok(client) if orders(&client).await.is_ok_and(|orders| orders == 3))
    })
    .await;
    let said = program.err.text();
    let (paused, resumed) = (said.matches("cannot accept").count(), said.matches("accepting clients again").count());
    assert!(paused <= resumed + 1, "once an episode: {said}");
    program.signal(Signal::TERM);
    assert_eq!(program.exit_code().await, Some(0));
    Ok(())
}
