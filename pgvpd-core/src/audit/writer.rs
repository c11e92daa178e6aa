//! A thread that writes lines in the order in which they come, and tells each sender whether its line was written. What comes
//! while it writes is written at once with what came before it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::rules::AuditTarget;

/// Lines that wait, at most; who comes then waits for a place.
const QUEUE: usize = 1024;

/// Lines that are written at once, at most.
const BATCH: usize = 256;

/// Why an event is not in the audit stream.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The file cannot be opened.
    #[error("cannot open audit_log {path}: {cause}")]
    Open {
        /// The file.
        path: String,
        /// What the system said.
        cause: Arc<io::Error>,
    },
    /// A line cannot be written.
    #[error("cannot write to audit_log: {0}")]
    Write(Arc<io::Error>),
    /// Writing takes too long.
    #[error("audit_log: nothing was written within {} s", .0.as_secs())]
    Stuck(Duration),
    /// The thread is gone.
    #[error("audit_log: the writer has ended")]
    Ended,
}

/// How long an event may take to be written.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// A stream that is open. Dropping it ends the thread when all that it was given is written.
#[derive(Debug)]
pub(super) struct Writer {
    lines: mpsc::Sender<Line>,
    under_way: Arc<UnderWay>,
    timeout: Duration,
}

struct Line {
    text: Vec<u8>,
    /// What becomes of it when the sender has given up.
    otherwise: Abandoned,
    written: oneshot::Sender<Result<(), AuditError>>,
}

/// The fate of a line whose sender no longer waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abandoned {
    /// It tells of what has happened.
    IsWritten,
    /// It tells of what then does not happen.
    IsDropped,
}

/// When the write that is under way began.
#[derive(Debug, Default)]
struct UnderWay(Mutex<Option<Instant>>);

impl UnderWay {
    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn since(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    pub(super) fn open(target: &AuditTarget) -> Result<Self, AuditError> {
        let sink = match target {
            AuditTarget::Stdout => Sink::Stdout,
            AuditTarget::File(path) => {
                let failed = |cause| AuditError::Open { path: path.display().to_string(), cause: Arc::new(cause) };
                Sink::File(open_for_append(path, true).map_err(failed)?)
            }
        };
        Self::start(sink, WRITE_TIMEOUT)
    }

    fn start(sink: Sink, timeout: Duration) -> Result<Self, AuditError> {
        let (lines, queue) = mpsc::channel(QUEUE);
        let under_way = Arc::<UnderWay>::default();
        let progress = Arc::clone(&under_way);
        let thread = std::thread::Builder::new().name("pgvpd-audit".into()).spawn(move || run(sink, queue, &progress));
        thread.map_err(|cause| AuditError::Write(Arc::new(cause)))?;
        Ok(Self { lines, under_way, timeout })
    }

    /// Returns the error of a target that has taken nothing for so long that the next line would wait in vain, as far as is known. The
    /// write that is under way goes on: when it ends, the target works again.
    pub(super) fn stuck(&self) -> Option<AuditError> {
        let since = self.under_way.since()?;
        (since.elapsed() >= self.timeout).then_some(AuditError::Stuck(self.timeout))
    }

    /// Resolves when the line is written, cannot be, or has waited too long. A line that waits no longer, or whose future is dropped, may
    /// still be written if that has begun; else it is as `otherwise` says.
    pub(super) async fn write(&self, text: Vec<u8>, otherwise: Abandoned) -> Result<(), AuditError> {
        let (written, outcome) = oneshot::channel();
        let sent = async {
            self.lines.send(Line { text, otherwise, written }).await.map_err(|_| AuditError::Ended)?;
            outcome.await.unwrap_or(Err(AuditError::Ended))
        };
        timeout(self.timeout, sent).await.unwrap_or(Err(AuditError::Stuck(self.timeout)))
    }
}

enum Sink {
    Stdout,
    File(File),
}

impl Sink {
    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(text)?;
                stdout.flush()
            }
            Self::File(file) => file.write_all(text),
        }
    }
}

fn run(mut sink: Sink, mut queue: mpsc::Receiver<Line>, under_way: &UnderWay) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut is_torn = false;
    while queue.blocking_recv_many(&mut batch, BATCH) > 0 {
        batch.retain(|line| line.otherwise == Abandoned::IsWritten || !line.written.is_closed());
        if batch.is_empty() {
            continue;
        }
        let mut text = Vec::new();
        if is_torn {
            // A line may have been written in part: what follows must not be read as its end.
            text.push(b'\n');
        }
        batch.iter().for_each(|line| text.extend_from_slice(&line.text));
        under_way.set(Some(Instant::now()));
        let outcome = sink.write(&text).map_err(|error| AuditError::Write(Arc::new(error)));
        under_way.set(None);
        is_torn = outcome.is_err();
        for line in batch.drain(..) {
            let _ = line.written.send(outcome.clone());
        }
    }
}

/// Opens a file that events are appended to, and makes it if `may_create`. Never waits for whatever is to read a named pipe: one that nobody
/// has open for reading is an error.
pub(crate) fn open_for_append(path: &Path, may_create: bool) -> io::Result<File> {
    let flag = OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().append(true).create(may_create).custom_flags(flag).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) {
        true => io::Error::new(error.kind(), "nobody reads this pipe"),
        false => error,
    })?;
    // Writing does wait.
    let flags = fcntl_getfl(&file)?;
    fcntl_setfl(&file, flags.difference(OFlags::NONBLOCK))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read};
    use std::os::fd::OwnedFd;

    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

    use super::*;

    async fn write(writer: &Writer, text: &str) -> Result<(), AuditError> {
        writer.write(text.into(), Abandoned::IsDropped).await
    }

    #[tokio::test]
    async fn every_line_of_many_writers_is_whole_and_one_that_cannot_be_written_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("audit.log");
        let writer = Arc::new(Writer::open(&AuditTarget::File(path.clone())).expect("opened"));
        let writing: Vec<_> = (0..500)
            .map(|number| {
                let writer = Arc::clone(&writer);
                tokio::spawn(async move { write(&writer, &format!("{{\"n\":{number}}}\n")).await })
            })
            .collect();
        for task in writing {
            task.await.expect("joined").expect("written");
        }
        let text = std::fs::read_to_string(&path).expect("read");
        let mut numbers: Vec<u64> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("whole")["n"].as_u64().expect("n"))
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..500).collect::<Vec<_>>());

        let full = Writer::open(&AuditTarget::File("/dev/full".into())).expect("opened");
        assert!(matches!(write(&full, "x\n").await, Err(AuditError::Write(_))));
        let nowhere = Writer::open(&AuditTarget::File("/nowhere/audit.log".into()));
        assert!(nowhere.is_err_and(|error| error.to_string().contains("/nowhere/audit.log")));
    }

    /// A writer to a pipe that has no room, and what is in front of it there.
    fn full_pipe() -> (Writer, PipeReader, usize) {
        let (reader, writer) = io::pipe().expect("a pipe");
        let file = File::from(OwnedFd::from(writer));
        let flags = fcntl_getfl(&file).expect("its flags");
        fcntl_setfl(&file, flags | OFlags::NONBLOCK).expect("set");
        let mut size = 0;
        while let Ok(written) = (&file).write(b".") {
            size += written;
        }
        fcntl_setfl(&file, flags).expect("set");
        (Writer::start(Sink::File(file), Duration::from_millis(20)).expect("started"), reader, size)
    }

    #[tokio::test]
    async fn a_target_that_is_read_again_is_no_longer_stuck() {
        let (writer, mut reader, size) = full_pipe();
        assert!(writer.stuck().is_none());
        let first = writer.write("one\n".into(), Abandoned::IsWritten).await;
        assert!(matches!(first, Err(AuditError::Stuck(_))));
        while writer.stuck().is_none() {
            tokio::task::yield_now().await;
        }
        // The thread cannot take these while it waits.
        assert!(matches!(write(&writer, "two\n").await, Err(AuditError::Stuck(_))));
        let past = writer.write("three\n".into(), Abandoned::IsWritten).await;
        assert!(matches!(past, Err(AuditError::Stuck(_))));
        assert!(matches!(writer.stuck(), Some(AuditError::Stuck(_))));

        let mut before = vec![0; size];
        reader.read_exact(&mut before).expect("read");
        while write(&writer, "four\n").await.is_err() {}
        assert!(writer.stuck().is_none(), "nothing is under way");
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read to the end");
        // On a slow machine the last line may have needed several attempts.
        let is_right = text.starts_with("one\nthree\nfour\n") && !text.contains("two");
        assert!(is_right, "only what was under way, or has happened, is written late: {text}");
    }

    #[tokio::test]
    async fn a_pipe_that_nobody_reads_is_refused_and_not_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
        assert!(made.success());
        let opened = Writer::open(&AuditTarget::File(path));
        assert!(opened.is_err_and(|error| error.to_string().contains("nobody reads this pipe")));
    }
}
