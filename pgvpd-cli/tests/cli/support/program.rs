//! The program as a child process: started, read line by line, signalled, and never left behind.

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::{PATIENCE, postgres, within};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pgvpd");

/// The program with this machine's `PGVPD_*` taken away, but for those that say where PostgreSQL is.
pub(crate) fn bare_command() -> std::process::Command {
    let mut command = std::process::Command::new(PROGRAM);
    let ours = std::env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("PGVPD_") && name != "PGVPD_PG_BINDIR" && name != "PGVPD_CACHE_DIR"
    });
    ours.for_each(|name| {
        command.env_remove(name);
    });
    command.env_remove("CLICOLOR_FORCE");
    command
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str], environment: &[(&str, &str)]) -> assert_cmd::assert::Assert {
    let mut command = bare_command();
    command.args(arguments).envs(environment.iter().copied());
    assert_cmd::Command::from_std(command).timeout(PATIENCE).assert()
}

/// A running program. Dropping it kills it.
pub(crate) struct Program {
    child: Child,
    pub(crate) out: Lines,
    pub(crate) err: Lines,
}

impl Program {
    pub(crate) fn start(mut command: std::process::Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self::spawn(command)
    }

    /// The same, with the streams that the command has; one that is not piped has no lines.
    pub(crate) fn spawn(command: std::process::Command) -> Self {
        let mut child = Command::from(command).kill_on_drop(true).spawn().expect("the program runs");
        let out = child.stdout.take().map_or_else(|| Lines::of(tokio::io::empty()), Lines::of);
        let err = child.stderr.take().map_or_else(|| Lines::of(tokio::io::empty()), Lines::of);
        Self { child, out, err }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("not waited for yet")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a process id")).expect("a process id");
        kill_process(pid, signal).expect("signalled");
    }

    /// The status it ends with, whether what it wrote is read or not.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        self.child.wait().await.expect("waited for")
    }

    /// The status it ends with, once all that it wrote is read.
    pub(crate) async fn end(&mut self) -> ExitStatus {
        let status = within("the end of the program", self.child.wait()).await.expect("waited for");
        self.out.end().await;
        self.err.end().await;
        status
    }

    /// The code it ends with; `None` if a signal killed it.
    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        self.end().await.code()
    }
}

/// The lines of a stream, as they come.
pub(crate) struct Lines {
    lines: watch::Receiver<Vec<String>>,
    is_read: watch::Sender<bool>,
    reader: tokio::task::JoinHandle<()>,
}

impl Lines {
    fn of(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let (sender, lines) = watch::channel(Vec::new());
        let (is_read, mut reads) = watch::channel(true);
        let reader = tokio::spawn(async move {
            let mut stream = BufReader::new(stream).lines();
            while reads.wait_for(|reads| *reads).await.is_ok()
                && let Ok(Some(line)) = stream.next_line().await
            {
                sender.send_modify(|lines: &mut Vec<String>| lines.push(line));
            }
        });
        Self { lines, is_read, reader }
    }

    /// The first line that contains `part`, waited for.
    pub(crate) async fn line(&self, part: &str) -> String {
        self.lines(part, 1).await.remove(0)
    }

    /// The first `count` lines that contain `part`, waited for.
    pub(crate) async fn lines(&self, part: &str, count: usize) -> Vec<String> {
        let matching = |lines: &Vec<String>| lines.iter().filter(|line| line.contains(part)).cloned().collect();
        let mut lines = self.lines.clone();
        let waited = lines.wait_for(|lines| Vec::<String>::len(&matching(lines)) >= count);
        match tokio::time::timeout(PATIENCE, waited).await {
            Ok(Ok(lines)) => matching(&lines),
            _ => panic!("{count} lines with {part:?} did not come in:\n{}", self.text()),
        }
    }

    /// All that came so far.
    pub(crate) fn text(&self) -> String {
        self.lines.borrow().join("\n")
    }

    /// Reads no more, and keeps the pipe open; or reads on.
    pub(crate) fn read_on(&self, reads: bool) {
        let _ = self.is_read.send(reads);
    }

    /// Closes this end of the pipe.
    pub(crate) async fn close(&mut self) {
        self.reader.abort();
        let _ = (&mut self.reader).await;
    }

    async fn end(&mut self) {
        if !self.reader.is_finished() {
            let _ = within("the end of the stream", &mut self.reader).await;
        }
    }
}

/// A running proxy before the tests' PostgreSQL, on a free port.
pub(crate) struct Server {
    pub(crate) program: Program,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts one with these arguments and waits until it listens.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let upstream_port = postgres().await.port().to_string();
        let mut command = bare_command();
        // Few enough clients for any limit of open files, so that no warning about it gets between.
        command.args(["--port", "0", "--upstream-port", &upstream_port, "--max-client-connections", "100"]);
        command.args(arguments);
        let program = Program::start(command);
        let line = program.err.line("pgvpd is listening").await;
        Self { program, address: address(&line) }
    }
}

/// The address in the log's line, of either format.
pub(crate) fn address(line: &str) -> SocketAddr {
    let rest = line.split_once("address").expect("an address").1.trim_start_matches(['"', ':', '=']);
    let end = rest.find([' ', '"']).unwrap_or(rest.len());
    rest.get(..end).and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("no address in {line}"))
}
