//! What the core reports goes to Python's `logging`, below the logger `pgvpd`.

use std::sync::RwLock;

use log::{LevelFilter, Log, Metadata, Record};
use pyo3::prelude::*;
use pyo3_log::{Caching, Logger, ResetHandle};

use crate::process::Process;

/// False when the interpreter goes away: a thread that asks it for the GIL then fails or never comes back.
static OPEN: RwLock<bool> = RwLock::new(true);

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
        // Fails only where the command has run in this process, whose own log then stays.
        if log::set_boxed_logger(Box::new(Bridge { logger })).is_ok() {
            log::set_max_level(LevelFilter::Debug);
        }
        Ok(Self { levels })
    }

    /// Levels are kept, so that a thread of the proxy need not wait for the GIL to learn that nobody wants its record.
    pub(crate) fn refresh_levels(&self) {
        self.levels.reset();
    }
}

struct Bridge {
    logger: Logger,
}

impl Log for Bridge {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        if is_about_a_span(metadata.target()) {
            return false;
        }
        let target = python_name(metadata.target());
        self.logger.enabled(&Metadata::builder().level(metadata.level()).target(&target).build())
    }

    fn log(&self, record: &Record<'_>) {
        // Never waits: the one who closes may wait for a record that waits for the GIL, which we may hold.
        let Ok(open) = OPEN.try_read() else { return };
        if *open && !is_about_a_span(record.target()) {
            let target = python_name(record.target());
            let (level, text) = (record.level(), *record.args());
            let (file, line) = (record.file(), record.line());
            self.logger.log(&Record::builder().args(text).level(level).target(&target).file(file).line(line).build());
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

/// Makes the proxy's threads ask `logging` for its levels anew. Every use of a proxy or server does that, too.
#[pyfunction]
pub(crate) fn refresh_log_levels() {
    if let Some(process) = Process::started() {
        process.logs.refresh_levels();
    }
}

/// Ends the log for good, and waits for a record that is being written.
#[pyfunction]
pub(crate) fn close_log(py: Python<'_>) {
    // Where a thread of the parent's may have been writing one for good.
    if Process::is_fork() {
        return;
    }
    // That record may need the GIL.
    py.detach(|| {
        if let Ok(mut open) = OPEN.write() {
            *open = false;
        }
    });
}
