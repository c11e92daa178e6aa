//! What a process has once: the runtime and the log. And that a fork of it has neither.

use std::mem;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pyo3::prelude::*;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::errors::Error;
use crate::logs::Logs;

/// Made by the first start in a process, with the GIL, and never dropped.
static PROCESS: OnceLock<Process> = OnceLock::new();

/// How often a wait looks for Ctrl-C.
const SIGNAL_CHECK: Duration = Duration::from_millis(100);

pub(crate) struct Process {
    id: u32,
    runtime: Runtime,
    pub(crate) logs: Logs,
}

impl Process {
    /// This process's, made where there is none. Fails in a fork.
    pub(crate) fn current(py: Python<'_>) -> PyResult<&'static Self> {
        if PROCESS.get().is_none() {
            let runtime = Builder::new_multi_thread().enable_all().thread_name("pgvpd").build()?;
            let made = Self { id: std::process::id(), runtime, logs: Logs::install(py)? };
            let _ = PROCESS.set(made);
        }
        let forked = || {
            Error::new_err(
                "pgvpd runs in the process that this one was forked from, and its threads do not exist here; give forked \
                 children URLs instead of proxies and servers, or start them by spawn or forkserver",
            )
        };
        let process = Self::started().ok_or_else(forked)?;
        process.logs.refresh_levels();
        Ok(process)
    }

    /// This process's, if it has one.
    pub(crate) fn started() -> Option<&'static Self> {
        PROCESS.get().filter(|_| !Self::is_fork())
    }

    /// True in a fork of a process that has one.
    pub(crate) fn is_fork() -> bool {
        PROCESS.get().is_some_and(|process| process.id != std::process::id())
    }

    /// Waits without the GIL, until done, or interrupted by a signal whose handler raises.
    pub(crate) fn wait<F: Future<Output: Send> + Send>(&self, py: Python<'_>, future: F) -> PyResult<F::Output> {
        let mut future = pin!(future);
        loop {
            let round = py.detach(|| self.runtime.block_on(async { timeout(SIGNAL_CHECK, future.as_mut()).await }));
            match round {
                Ok(done) => return Ok(done),
                Err(_) => py.check_signals()?,
            }
        }
    }
}

/// Something that runs, as an object of Python has it.
pub(crate) struct Held<T>(Arc<T>);

impl<T> Held<T> {
    pub(crate) fn new(running: T) -> Self {
        Self(Arc::new(running))
    }

    /// Fails in a fork.
    pub(crate) fn get(&self, py: Python<'_>) -> PyResult<&T> {
        Process::current(py)?;
        Ok(&self.0)
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        // In a fork this is a copy of what the parent runs, with locks of threads that are not here: never dropped.
        if Process::is_fork() {
            mem::forget(Arc::clone(&self.0));
        }
    }
}
