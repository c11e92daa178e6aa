//! SIGTERM and SIGINT, once and twice.

use rustix::process::Signal;
use tokio::net::TcpStream;

use crate::support::{Server, TestResult, eventually, log_in, orders, within};

/// Longer than any test may take.
const NEVER: [&str; 2] = ["--shutdown-timeout", "3600"];

#[tokio::test]
async fn a_signal_without_sessions_ends_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::start(&NEVER).await;
        server.program.signal(signal);
        assert_eq!(server.program.exit_code().await, Some(0), "{signal:?}");
        server.program.err.line("stopped").await;
    }
}

#[tokio::test]
async fn an_open_session_goes_on_while_new_connections_are_refused() -> TestResult {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::start(&NEVER).await;
        let client = log_in(server.address, "app_user.acme").await?;
        server.program.signal(signal);
        eventually("no new connections", async || TcpStream::connect(server.address).await.is_err()).await;
        assert_eq!(orders(&client).await?, 3, "{signal:?}");
        drop(client);
        assert_eq!(server.program.exit_code().await, Some(0), "{signal:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_second_signal_ends_at_once_with_128_plus_its_number() -> TestResult {
    for (first, second, code) in
        [(Signal::TERM, Signal::TERM, 143), (Signal::INT, Signal::INT, 130), (Signal::TERM, Signal::INT, 130)]
    {
        let mut server = Server::start(&NEVER).await;
        let client = log_in(server.address, "app_user.acme").await?;
        server.program.signal(first);
        // Two signals that come at one time are one signal.
        server.program.err.line("stopping; sessions may finish").await;
        server.program.signal(second);
        assert_eq!(server.program.exit_code().await, Some(code), "{first:?}, then {second:?}");
        assert!(orders(&client).await.is_err(), "the session is closed");
    }
    Ok(())
}

#[tokio::test]
async fn a_session_that_does_not_end_in_time_is_closed_and_counted() -> TestResult {
    let mut server = Server::start(&["--shutdown-timeout", "0.05"]).await;
    let client = log_in(server.address, "app_user.acme").await?;
    server.program.signal(Signal::TERM);
    assert_eq!(server.program.exit_code().await, Some(0));
    within("the end of the session", async {
        while !client.is_closed() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.program.err.line("sessions_closed=1").await;
    Ok(())
}

#[tokio::test]
async fn a_reload_while_it_stops_does_not_end_it() -> TestResult {
    let mut server = Server::start(&NEVER).await;
    let client = log_in(server.address, "app_user.acme").await?;
    server.program.signal(Signal::TERM);
    server.program.err.line("stopping; sessions may finish").await;
    server.program.signal(Signal::HUP);
    assert_eq!(orders(&client).await?, 3);
    drop(client);
    assert_eq!(server.program.exit_code().await, Some(0));
    Ok(())
}
