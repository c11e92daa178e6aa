//! What the service manager is told.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{PATIENCE, Program, TestResult, bare_command, postgres};

/// A service manager that listens.
struct Manager {
    socket: UnixDatagram,
    _directory: tempfile::TempDir,
    path: String,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bound");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        Self { socket, path: path.display().to_string(), _directory: directory }
    }

    async fn start(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Program {
        let upstream_port = postgres().await.port().to_string();
        let mut command = bare_command();
        command.args(["--port", "0", "--upstream-port", &upstream_port, "--max-client-connections", "100"]);
        command.args(arguments).env("NOTIFY_SOCKET", &self.path).envs(environment.iter().copied());
        Program::start(command)
    }

    /// The next message.
    fn told(&self) -> String {
        let mut message = [0; 4096];
        let size = self.socket.recv(&mut message).expect("a message");
        String::from_utf8_lossy(message.get(..size).unwrap_or_default()).into_owned()
    }

    /// The next message that has this line; others are skipped.
    fn told_of(&self, line: &str) -> String {
        loop {
            let message = self.told();
            if message.lines().any(|other| other == line) {
                return message;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_told_of_readiness_reloads_and_the_end() -> TestResult {
    let manager = Manager::new();
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("pgvpd.conf");
    std::fs::write(&file, "")?;
    let mut program = manager.start(&[], &["--config", file.to_str().ok_or("UTF-8")?]).await;
    let ready = manager.told();
    assert!(ready.contains("READY=1") && ready.contains("STATUS=Listening on 127.0.0.1:"), "{ready}");
    for text in ["tenant_deny = acme\n", "nonsense = 1\n"] {
        std::fs::write(&file, text)?;
        program.signal(Signal::HUP);
        let reloading = manager.told();
        assert!(reloading.contains("RELOADING=1") && reloading.contains("MONOTONIC_USEC="), "{reloading}");
        assert!(manager.told().contains("READY=1"), "also where the old configuration stays");
    }
    program.signal(Signal::TERM);
    assert!(manager.told().contains("STOPPING=1"));
    assert_eq!(program.exit_code().await, Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn its_watchdog_is_told_again_and_again_that_the_proxy_works() {
    let manager = Manager::new();
    let mut program = manager.start(&[("WATCHDOG_USEC", "20000")], &[]).await;
    manager.told_of("READY=1");
    for _ in 0..3 {
        let alive = manager.told_of("WATCHDOG=1");
        assert!(alive.contains("STATUS=0 sessions of 0 tenants"), "{alive}");
    }
    program.signal(Signal::TERM);
    assert_eq!(program.exit_code().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_of_another_process_is_not_ours() -> TestResult {
    let manager = Manager::new();
    let mut program = manager.start(&[("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")], &[]).await;
    manager.told_of("READY=1");
    program.signal(Signal::TERM);
    let next = manager.told();
    assert!(next.contains("STOPPING=1"), "{next}");
    assert_eq!(program.exit_code().await, Some(0));
    manager.socket.set_read_timeout(Some(Duration::from_millis(1)))?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_manager_that_reads_nothing_holds_up_nothing() -> TestResult {
    let manager = Manager::new();
    let other = UnixDatagram::unbound()?;
    other.set_nonblocking(true)?;
    while other.send_to(b"X_FULL=1", &manager.path).is_ok() {}
    let mut program = manager.start(&[], &[]).await;
    program.err.line("pgvpd is listening").await;
    program.signal(Signal::HUP);
    program.err.line("configuration reloaded").await;
    program.signal(Signal::TERM);
    assert_eq!(program.exit_code().await, Some(0));
    Ok(())
}
