//! SIGHUP: the configuration file is read again.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use rustix::process::Signal;
use tokio_postgres::error::SqlState;

use crate::support::{Server, TestResult, eventually, log_in, orders, write_private};

/// A proxy with a configuration file.
struct Configured {
    server: Server,
    file: PathBuf,
    _directory: tempfile::TempDir,
}

impl Configured {
    async fn start(text: &str, flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("pgvpd.conf");
        write_private(&file, text);
        let arguments = [&["--config", file.to_str().expect("UTF-8")], flags].concat();
        Self { server: Server::start(&arguments).await, file, _directory: directory }
    }

    /// Writes the file and waits until the log says this for the `count`th time.
    async fn reload(&self, text: &str, log: &str, count: usize) -> String {
        write_private(&self.file, text);
        self.server.program.signal(Signal::HUP);
        self.server.program.err.lines(log, count).await.pop().expect("a line")
    }

    async fn admits(&self, tenant: &str) -> bool {
        match log_in(self.server.address, &format!("app_user.{tenant}")).await {
            Ok(_) => true,
            Err(error) if error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => false,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_reload_holds_for_new_logins_and_leaves_open_sessions() -> TestResult {
    let proxy = Configured::start("# nothing\n", &[]).await;
    let open = log_in(proxy.server.address, "app_user.acme").await?;
    proxy.reload("tenant_deny = acme\n", "configuration reloaded", 1).await;
    assert!(!proxy.admits("acme").await && proxy.admits("globex").await);
    assert_eq!(orders(&open).await?, 3);
    proxy.reload("tenant_deny = globex\n", "configuration reloaded", 2).await;
    assert!(proxy.admits("acme").await && !proxy.admits("globex").await);
    Ok(())
}

#[tokio::test]
async fn a_bad_file_is_an_error_in_the_log_and_the_old_configuration_stays() -> TestResult {
    let proxy = Configured::start("tenant_deny = acme\n", &[]).await;
    for (count, bad) in ["tenant_dney = globex\n", "tenant_deny = globex\nhandshake_timeout = x\n", "log_level = a=b\n"]
        .iter()
        .enumerate()
    {
        let line = proxy.reload(bad, "reload failed", count + 1).await;
        assert!(line.contains("ERROR"), "{line}");
        assert!(!proxy.admits("acme").await && proxy.admits("globex").await, "{bad}");
    }
    std::fs::remove_file(&proxy.file)?;
    proxy.server.program.signal(Signal::HUP);
    proxy.server.program.err.lines("reload failed", 4).await;
    assert!(!proxy.admits("acme").await);
    // On one line each, with quotes escaped: a value cannot look like another field.
    for told in
        ["did you mean tenant_deny?", r#"\"x\" is not a time"#, r#"\"a=b\" is not a valid filter"#, "cannot read"]
    {
        proxy.server.program.err.line(told).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_flag_still_wins_after_a_reload() {
    let proxy = Configured::start("tenant_deny = acme\n", &["--tenant-deny", "globex"]).await;
    proxy.reload("tenant_deny = acme, initech\n", "configuration reloaded", 1).await;
    assert!(proxy.admits("acme").await && !proxy.admits("globex").await);
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_the_rest_applies() {
    let proxy = Configured::start("", &[]).await;
    let text = "listen_host = 127.0.0.2\nlog_level = debug\nlog_format = json\ntenant_deny = acme\n";
    let line = proxy.reload(text, "these options change only with a restart", 1).await;
    assert!(line.contains("WARN"), "{line}");
    for option in ["listen_host", "log_format"] {
        assert!(line.contains(option), "{option} is not in {line}");
    }
    assert!(!line.contains("tenant_deny") && !line.contains("log_level"), "{line}");
    assert!(!proxy.admits("acme").await && proxy.admits("globex").await);
}

#[tokio::test]
async fn a_new_shutdown_timeout_holds_after_a_reload() -> TestResult {
    let mut proxy = Configured::start("shutdown_timeout = 3600\n", &[]).await;
    let _open = log_in(proxy.server.address, "app_user.acme").await?;
    proxy.reload("shutdown_timeout = 0\n", "configuration reloaded", 1).await;
    proxy.server.program.signal(Signal::TERM);
    assert_eq!(proxy.server.program.exit_code().await, Some(0));
    Ok(())
}

#[tokio::test]
async fn a_signal_ends_a_proxy_whose_reload_comes_to_no_end() -> TestResult {
    let mut proxy = Configured::start("# nothing\n", &[]).await;
    std::fs::remove_file(&proxy.file)?;
    assert!(std::process::Command::new("mkfifo").arg(&proxy.file).status()?.success());
    proxy.server.program.signal(Signal::HUP);
    // Open as soon as the other side is: it reads, and nothing comes.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let held = OnceLock::new();
    let open = || OpenOptions::new().write(true).custom_flags(nonblocking).open(&proxy.file);
    eventually("the file is read", async || open().is_ok_and(|pipe| held.set(pipe).is_ok())).await;
    assert!(log_in(proxy.server.address, "app_user.acme").await.is_ok());
    proxy.server.program.signal(Signal::TERM);
    assert_eq!(proxy.server.program.exit_code().await, Some(0));
    Ok(())
}
