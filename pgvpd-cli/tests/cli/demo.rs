//! `pgvpd demo`: what it shows, that what it prints works, and that it leaves nothing behind.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustix::process::Signal;
use tokio_postgres::NoTls;

use crate::support::{Program, TestResult, bare_command, eventually, within};

/// A demonstration whose private directories are in one of our own.
struct Demo {
    program: Program,
    temporary: tempfile::TempDir,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let builder = |mode| tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(mode)).tempdir();
        // As root, the server runs as a user who must be able to work in there; the path of a socket must be short.
        let temporary = builder(0o777).expect("a directory");
        // The mode above is cut by the umask.
        std::fs::set_permissions(temporary.path(), std::fs::Permissions::from_mode(0o777)).expect("permissions");
        let mut command = bare_command();
        command.args(["demo", "--port", "0"]).args(arguments).env("TMPDIR", temporary.path());
        // Not the demonstration's business: it has a server of its own.
        command.env("PGVPD_UPSTREAM_PORT", "1").env("PGVPD_CONFIG", "/nowhere/pgvpd.conf");
        Self { program: Program::start(command), temporary }
    }

    /// Waits until it has nothing more to say.
    async fn invited(&self) {
        self.program.out.line("Ctrl-C stops and removes everything.").await;
    }

    /// Private directories of the server's.
    fn directories(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.temporary.path()).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }

    /// Command lines of processes that work in the private directories: supervisor, postmaster and its children.
    fn processes(&self) -> Vec<String> {
        let ours = self.temporary.path().to_string_lossy().into_owned();
        let process = |entry: std::fs::DirEntry| {
            let command = std::fs::read(entry.path().join("cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            let works_there = std::fs::read_link(entry.path().join("cwd"))
                .is_ok_and(|directory| directory.to_string_lossy().starts_with(&ours));
            (works_there || command.contains(&ours)).then_some(command)
        };
        std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(process).collect()
    }

    fn assert_is_up(&self) {
        assert_eq!(self.directories().len(), 1, "{:?}", self.directories());
        if cfg!(target_os = "linux") {
            assert!(self.processes().iter().any(|command| command.contains("postgres")), "{:?}", self.processes());
        }
    }

    /// Waits until nothing is left. The supervisor may outlive the program by a moment.
    async fn is_gone(&self) {
        eventually("nothing left", async || self.directories().is_empty() && self.processes().is_empty()).await;
    }
}

#[tokio::test]
async fn once_shows_the_isolation_in_plain_text_and_leaves_nothing() {
    let mut demo = Demo::start(&["--once"]);
    assert_eq!(demo.program.exit_code().await, Some(0), "{}", demo.program.err.text());
    demo.is_gone().await;
    let shown = demo.program.out.text();
    assert!(!shown.contains('\x1b'), "{shown:?}");
    let count_of = |part: &str| shown.lines().filter(|line| line.contains(part)).count();
    assert_eq!((count_of("| acme "), count_of("| globex ")), (3, 2), "the rows of two tenants:\n{shown}");
    assert!(shown.contains("rocket skates"), "{shown}");
    assert!(!shown.contains("FAIL"), "{shown}");
    let verdict = shown.lines().last().expect("a verdict");
    let (held, made) = verdict
        .split_once("isolation: ")
        .and_then(|(_, counts)| counts.strip_suffix(" checks held")?.split_once(" of "))
        .unwrap_or_else(|| panic!("no counts in {verdict:?}"));
    assert_eq!(held, made);
    assert!(made.parse::<u32>().is_ok_and(|made| made >= 7), "{verdict}");
}

#[tokio::test]
async fn the_printed_urls_work_until_a_signal_ends_it_and_removes_everything() -> TestResult {
    for signal in [Signal::INT, Signal::TERM] {
        let mut demo = Demo::start(&[]);
        demo.invited().await;
        demo.assert_is_up();
        let shown = demo.program.out.text();
        let urls: Vec<&str> =
            shown.lines().filter_map(|line| line.trim().strip_prefix("psql '")?.strip_suffix('\'')).collect();
        assert_eq!(urls.len(), 4, "three tenants and the administrator:\n{shown}");
        for (url, expected) in urls.into_iter().zip([3_i64, 2, 2, 7]) {
            let (client, connection) = within("login", tokio_postgres::connect(url, NoTls)).await?;
            tokio::spawn(connection);
            let count: i64 = client.query_one("SELECT count(*) FROM orders", &[]).await?.get(0);
            assert_eq!(count, expected, "{url}");
        }
        demo.program.signal(signal);
        assert_eq!(demo.program.exit_code().await, Some(0), "{signal:?}");
        demo.is_gone().await;
    }
    Ok(())
}

#[tokio::test]
async fn a_signal_while_it_starts_leaves_nothing() {
    let mut demo = Demo::start(&[]);
    demo.program.out.line("Starting a private PostgreSQL").await;
    eventually("a private directory", async || !demo.directories().is_empty()).await;
    demo.program.signal(Signal::INT);
    assert_eq!(demo.program.exit_code().await, Some(1));
    demo.is_gone().await;
}

#[tokio::test]
async fn a_killed_demo_leaves_no_server_behind_after_a_moment() {
    let mut demo = Demo::start(&[]);
    demo.invited().await;
    demo.assert_is_up();
    demo.program.signal(Signal::KILL);
    assert_eq!(demo.program.exit_code().await, None);
    demo.is_gone().await;
}

#[tokio::test]
async fn a_reader_that_leaves_early_does_not_break_it() {
    let mut demo = Demo::start(&["--once"]);
    demo.program.out.line("Starting a private PostgreSQL").await;
    demo.program.out.close().await;
    assert_eq!(demo.program.exit_code().await, Some(0), "{}", demo.program.err.text());
    assert_eq!(demo.program.err.text(), "");
    demo.is_gone().await;
}

#[test]
fn a_program_directory_that_holds_no_server_is_named() {
    let refused = crate::support::run(&["demo", "--once", "--port", "0", "--pg-bindir", "/nowhere"], &[]).code(1);
    let said = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(said.starts_with("pgvpd: /nowhere cannot be used as PostgreSQL's program directory"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
