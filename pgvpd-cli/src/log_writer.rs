//! Where the log's lines go: a thread of their own writes them, so that nothing waits for whoever reads them. Lines that find no
//! room are dropped and counted, and so are lines that cannot be written.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Lines that wait to be written, at most: about a MiB, and more than a burst of logins brings at once.
const QUEUE: usize = 4096;

/// How long the last lines may take when the program ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Starts the thread. Lines are written as long as the [`Flush`] lives, whose drop writes those that wait.
pub(crate) fn start(out: impl Write + Send + 'static) -> (NonBlocking, Flush, LostLines) {
    let lost = LostLines::default();
    let sink = Sink { out, lost: lost.clone(), reported: 0, is_torn: false };
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(QUEUE).thread_name("pgvpd-log");
    let (lines, guard) = builder.finish(sink);
    let _ = lost.0.dropped.set(lines.error_counter());
    (lines, Flush(Some(guard)), lost)
}

/// How many lines are not in the log.
#[derive(Clone, Default)]
pub(crate) struct LostLines(Arc<Lost>);

#[derive(Default)]
struct Lost {
    /// For want of room.
    dropped: OnceLock<ErrorCounter>,
    /// Because writing failed.
    unwritten: AtomicU64,
}

impl LostLines {
    /// Since the start.
    pub(crate) fn total(&self) -> u64 {
        let dropped = self.0.dropped.get().map_or(0, ErrorCounter::dropped_lines);
        self.0.unwritten.load(Ordering::Relaxed).saturating_add(u64::try_from(dropped).unwrap_or(u64::MAX))
    }
}

/// Writes what waits when it is dropped, within [`FLUSH_TIMEOUT`].
pub(crate) struct Flush(Option<WorkerGuard>);

impl Drop for Flush {
    fn drop(&mut self) {
        let guard = self.0.take();
        // The guard has a bound of its own, and then tells standard output, which may be the same pipe.
        at_most(FLUSH_TIMEOUT, move || drop(guard));
    }
}

/// Runs it in a thread of its own and gives its result, if there is one in time. Else it is left behind.
pub(crate) fn at_most<T: Send + 'static>(time: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, result) = mpsc::sync_channel(1);
    let work = move || {
        let _ = sender.send(work());
    };
    std::thread::Builder::new().spawn(work).ok()?;
    result.recv_timeout(time).ok()
}

/// Writes lines and never fails: what cannot be written is counted.
struct Sink<W> {
    out: W,
    lost: LostLines,
    /// Lost lines that the log has told of.
    reported: u64,
    /// The last line may have been written in part.
    is_torn: bool,
}

impl<W: Write> Write for Sink<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // What follows a torn line must not be read as its end.
        let mend: &[u8] = if self.is_torn { b"\n" } else { b"" };
        let written = self.out.write_all(mend).and_then(|()| self.out.write_all(line)).and_then(|()| self.out.flush());
        self.is_torn = written.is_err();
        if written.is_err() {
            self.lost.0.unwritten.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    /// Called when no line waits: there is room for one that tells of those that were lost.
    fn flush(&mut self) -> io::Result<()> {
        let lost = self.lost.total();
        if !self.is_torn && lost > self.reported {
            let lines = lost.saturating_sub(self.reported);
            self.reported = lost;
            tracing::warn!(lines, "log lines are missing here: nothing took them in time");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// A disk that is full at first.
    struct Disk {
        is_full: Arc<AtomicBool>,
        text: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Half a line fits.
            let is_full = self.is_full.load(Ordering::Relaxed);
            if is_full && !self.text.is_empty() && self.text.last() != Some(&b'\n') {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let taken = if is_full { bytes.len().min(2) } else { bytes.len() };
            self.text.extend_from_slice(bytes.get(..taken).unwrap_or_default());
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_on_a_full_disk_is_counted_and_the_next_is_whole() {
        let is_full = Arc::new(AtomicBool::new(true));
        let disk = Disk { is_full: Arc::clone(&is_full), text: Vec::new() };
        let mut sink = Sink { out: disk, lost: LostLines::default(), reported: 0, is_torn: false };
        sink.write_all(b"one\n").expect("never fails");
        sink.flush().expect("never fails");
        assert_eq!((sink.lost.total(), sink.reported), (1, 0), "nothing is told while nothing can be written");
        is_full.store(false, Ordering::Relaxed);
        sink.write_all(b"two\n").expect("never fails");
        sink.flush().expect("never fails");
        assert_eq!((sink.lost.total(), sink.reported), (1, 1));
        assert_eq!(sink.out.text, b"on\ntwo\n");
    }

    /// A pipe that nobody reads.
    struct Stuck(mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_for_a_reader_that_does_not_read() {
        let (_reads, stuck) = mpsc::channel();
        let (mut lines, flush, lost) = start(Stuck(stuck));
        for _ in 0..QUEUE + 10 {
            lines.write_all(b"line\n").expect("never fails");
        }
        assert!(lost.total() >= 9, "{}", lost.total());
        drop(flush);
    }
}
