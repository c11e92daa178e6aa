//! The log on standard error, where the environment asks for one. A thread of its own writes it, so that neither a proxy nor JavaScript waits
//! for whoever reads it: lines that find no room are dropped and counted.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use napi_derive::napi;
use tracing_subscriber::EnvFilter;

/// Lines that wait to be written, at most.
const QUEUE: usize = 4096;

/// How long the last lines may take when a thread of Node's ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The process's, where it has one.
static LINES: OnceLock<Lines> = OnceLock::new();

enum Message {
    Line(Vec<u8>),
    /// Answered when what came before it is written.
    Flush(SyncSender<()>),
}

/// The way to the thread that writes. Whole lines only.
#[derive(Clone)]
struct Lines {
    messages: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

impl Lines {
    /// Starts the thread. It ends with the process.
    fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (messages, waiting) = sync_channel(QUEUE);
        let lost = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&lost);
        std::thread::Builder::new().name("pgvpd-log".into()).spawn(move || run(out, &waiting, &counted))?;
        Ok(Self { messages, lost })
    }

    fn flush(&self) {
        let (done, is_done) = sync_channel(1);
        // Without room it would be in vain.
        if self.messages.try_send(Message::Flush(done)).is_ok() {
            let _ = is_done.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.messages.try_send(Message::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn run(mut out: impl Write, waiting: &Receiver<Message>, lost: &AtomicU64) {
    // What follows a line that was written in part must not be read as its end.
    let mut is_torn = false;
    loop {
        let message = match waiting.try_recv() {
            Ok(message) => message,
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => {
                // There is room for a line that tells of those that were lost, if lines can be written at all.
                let lines = if is_torn { 0 } else { lost.swap(0, Ordering::Relaxed) };
                if lines > 0 {
                    tracing::warn!(target: "pgvpd_core", lines, "log lines are missing here: nothing took them in time");
                }
                let Ok(message) = waiting.recv() else { return };
                message
            }
        };
        match message {
            Message::Line(line) => {
                let mend: &[u8] = if is_torn { b"\n" } else { b"" };
                is_torn = out.write_all(mend).and_then(|()| out.write_all(&line)).is_err();
                lost.fetch_add(u64::from(is_torn), Ordering::Relaxed);
            }
            Message::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}

/// Writes the log to standard error where `PGVPD_LOG` asks for it, as in `PGVPD_LOG=debug`.
#[napi_derive::module_init]
fn log_where_asked() {
    let Some(filter) = std::env::var("PGVPD_LOG").ok().and_then(|filter| EnvFilter::try_new(filter).ok()) else {
        return;
    };
    let Ok(lines) = Lines::start(io::stderr()) else { return };
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || writer.clone());
    // Fails where another copy of the addon's code has set it, whose log this then is.
    if log.try_init().is_ok() {
        let _ = LINES.set(lines);
    }
}

/// Writes the lines that wait, where there is a log.
#[napi]
pub fn flush_log() {
    if let Some(lines) = LINES.get() {
        lines.flush();
    }
}
