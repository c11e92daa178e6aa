//! A thread that writes lines in the order in which they come, and tells each sender whether its line was written. What comes
//! while it writes is written at once with what came before it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::config::AuditTarget;

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

/// A stream that is open. Dropping it ends the thread when all that it was given is written.
#[derive(Debug)]
pub(super) struct Writer {
    lines: mpsc::Sender<Line>,
}

struct Line {
    text: Vec<u8>,
    written: oneshot::Sender<Result<(), AuditError>>,
}

impl Writer {
    pub(super) fn open(target: &AuditTarget) -> Result<Self, AuditError> {
        let sink = match target {
            AuditTarget::Stdout => Sink::Stdout,
            AuditTarget::File(path) => {
                let opened = OpenOptions::new().append(true).create(true).open(path);
                let failed = |cause| AuditError::Open { path: path.display().to_string(), cause: Arc::new(cause) };
                Sink::File(opened.map_err(failed)?)
            }
        };
        let (lines, queue) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name("pgvpd-audit".into()).spawn(move || run(sink, queue));
        thread.map_err(|cause| AuditError::Write(Arc::new(cause)))?;
        Ok(Self { lines })
    }

    /// Resolves when the line is written, or cannot be. Safe to cancel; the line may be written then.
    pub(super) async fn write(&self, text: Vec<u8>) -> Result<(), AuditError> {
        let (written, outcome) = oneshot::channel();
        self.lines.send(Line { text, written }).await.map_err(|_| AuditError::Ended)?;
        outcome.await.unwrap_or(Err(AuditError::Ended))
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

fn run(mut sink: Sink, mut queue: mpsc::Receiver<Line>) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut is_torn = false;
    while queue.blocking_recv_many(&mut batch, BATCH) > 0 {
        let mut text = Vec::new();
        if is_torn {
            // A line may have been written in part: what follows must not be read as its end.
            text.push(b'\n');
        }
        batch.iter().for_each(|line| text.extend_from_slice(&line.text));
        let outcome = sink.write(&text).map_err(|error| AuditError::Write(Arc::new(error)));
        is_torn = outcome.is_err();
        for line in batch.drain(..) {
            let _ = line.written.send(outcome.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_line_of_many_writers_is_whole_and_one_that_cannot_be_written_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("audit.log");
        let writer = Arc::new(Writer::open(&AuditTarget::File(path.clone())).expect("opened"));
        let writing: Vec<_> = (0..500)
            .map(|number| {
                let writer = Arc::clone(&writer);
                tokio::spawn(async move { writer.write(format!("{{\"n\":{number}}}\n").into_bytes()).await })
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
        assert!(matches!(full.write(b"x\n".to_vec()).await, Err(AuditError::Write(_))));
        let nowhere = Writer::open(&AuditTarget::File("/nowhere/audit.log".into()));
        assert!(nowhere.is_err_and(|error| error.to_string().contains("/nowhere/audit.log")));
    }
}
