//! What the core reports goes to Python's `logging`, below the logger `pgvpd`. A thread of its own waits for the GIL and for handlers, so
//! that no thread of the proxy does.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record};
use pyo3::prelude::*;
use pyo3_log::{Caching, Logger, ResetHandle};

use crate::log_queue::{Entry, LogQueue, Next};
use crate::process::Process;

/// How long a call waits for the records that it has caused.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the last records may take when the interpreter exits.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

thread_local! {
    /// True in the thread that hands records over, where handlers run.
    static HANDS_OVER: Cell<bool> = const { Cell::new(false) };
}

/// The process's. It can be closed before anything has been started, since the interpreter may be exiting by then.
static QUEUE: LogQueue = LogQueue::new();

/// The process's bridge to `logging`.
pub(crate) struct Logs {
    levels: ResetHandle,
}

impl Logs {
    /// Once in a process.
    pub(crate) fn install(py: Python<'_>) -> PyResult<Self> {
        // No other crate's records: a database client's may hold passwords.
        let logger = Logger::new(py, Caching::LoggersAndLevels)?
            .filter(LevelFilter::Off)
            .filter_target("pgvpd".into(), LevelFilter::Debug);
        let levels = logger.reset_handle();
        let logger = Arc::new(logger);
        // Fails only where the command has run in this process, whose own log then stays.
        if log::set_boxed_logger(Box::new(Bridge(Arc::clone(&logger)))).is_ok() {
            log::set_max_level(LevelFilter::Debug);
            let run = move || {
                HANDS_OVER.set(true);
                QUEUE.run(|next| hand_over(&logger, next));
            };
            std::thread::Builder::new().name("pgvpd-log".into()).spawn(run)?;
        }
        Ok(Self { levels })
    }

    /// Levels are kept, so that a thread of the proxy need not wait for the GIL to learn that nobody wants its record.
    pub(crate) fn refresh_levels(&self) {
        self.levels.reset();
    }

    /// Gives handlers a moment for what this thread has caused to be logged. Not from within a handler.
    pub(crate) fn flush(&self, py: Python<'_>) {
        if !HANDS_OVER.get() {
            py.detach(|| QUEUE.flush(FLUSH_TIMEOUT));
        }
    }
}

/// Waits for the GIL, and for handlers.
fn hand_over(logger: &Logger, next: Next) {
    match next {
        Next::HandOver(Entry { level, target, text, file, line }) => {
            let mut record = Record::builder();
            record.level(level).target(&target).file(file.as_deref()).line(line);
            logger.log(&record.args(format_args!("{text}")).build());
        }
        Next::ReportLost(lines) => {
            let mut record = Record::builder();
            record.level(Level::Warn).target("pgvpd::log").file(Some(file!())).line(Some(line!()));
            let text = format_args!("log lines are missing here: nothing took them in time lines={lines}");
            logger.log(&record.args(text).build());
        }
    }
}

struct Bridge(Arc<Logger>);

impl Log for Bridge {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        if is_about_a_span(metadata.target()) {
            return false;
        }
        let target = python_name(metadata.target());
        self.0.enabled(&Metadata::builder().level(metadata.level()).target(&target).build())
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            QUEUE.push(Entry {
                level: record.level(),
                target: python_name(record.target()),
                text: record.args().to_string(),
                file: record.file().map(str::to_owned),
                line: record.line(),
            });
        }
    }

    fn flush(&self) {}
}

/// That a span begins is no news.
fn is_about_a_span(target: &str) -> bool {
    target.ends_with("::span")
}

/// `pgvpd::session` for `pgvpd_core::session`: who uses the package need not know how it is made.
fn python_name(target: &str) -> String {
    target.replacen("pgvpd_core", "pgvpd", 1)
}

/// Has the proxy's threads ask `logging` for its levels again. Every use of a proxy or server does that, too.
#[pyfunction]
pub(crate) fn refresh_log_levels() {
    if let Some(process) = Process::started() {
        process.logs.refresh_levels();
    }
}

/// Hands over what waits, and ends the log for good. A thread that asks for the GIL when the interpreter goes away fails or never comes
/// back; a handler that blocks does not keep the interpreter, though.
#[pyfunction]
pub(crate) fn close_log(py: Python<'_>) {
    // Not in a fork: threads of the parent's are not there, and what they held stays locked.
    if !Process::is_fork() {
        py.detach(|| QUEUE.close(CLOSE_TIMEOUT));
    }
}
