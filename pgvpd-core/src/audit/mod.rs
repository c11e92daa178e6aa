//! The audit stream: who was let in and who was not, what administrators did, what was revoked. One JSON object a line.
//!
//! An event is written before what it tells of takes effect, and whoever waits for it learns whether it was: a login is not
//! ready before its line is.

mod event;
mod refusals;
mod rules;
mod writer;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tracing::{Level, error};

#[cfg(feature = "admin")]
pub(crate) use event::shortened;
pub(crate) use event::{AdminOutcome, Event, Subject};
pub(crate) use refusals::Refusals;
pub use rules::{AuditOnError, AuditRules, AuditTarget};
pub use writer::AuditError;
pub(crate) use writer::open_for_append;
use writer::{Abandoned, Writer};

use crate::repeats::Failure;
use crate::shared::Shared;

/// The stream of one proxy.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    writer: ArcSwapOption<Writer>,
}

/// A stream that is open and not yet in use. Dropped, nothing has changed.
pub(crate) struct Opened(Option<Writer>);

impl Audit {
    /// Opens what these rules say, anew where it is open already: a file that was moved away is not written to any more.
    pub(crate) fn open(rules: &AuditRules) -> Result<Opened, AuditError> {
        rules.target.as_ref().map(Writer::open).transpose().map(Opened)
    }

    /// True where there is somebody to tell.
    pub(crate) fn is_open(&self) -> bool {
        self.writer.load().is_some()
    }

    /// Writes to this from now on.
    pub(crate) fn use_opened(&self, opened: Opened) {
        self.writer.store(opened.0.map(Arc::new));
    }
}

impl Shared {
    /// Writes an event of what is about to happen. An error: it must not happen, since nobody would know of it.
    pub(crate) async fn audit(&self, event: &Event<'_>) -> Result<(), AuditError> {
        match self.config.load().audit.on_error {
            AuditOnError::Refuse => self.write_event(event, Abandoned::IsDropped).await,
            AuditOnError::Continue => {
                self.audit_past(event).await;
                Ok(())
            }
        }
    }

    /// Writes an event of what has happened, whether it can be written or not.
    pub(crate) async fn audit_past(&self, event: &Event<'_>) {
        let _ = self.write_event(event, Abandoned::IsWritten).await;
    }

    async fn write_event(&self, event: &Event<'_>, otherwise: Abandoned) -> Result<(), AuditError> {
        let Some(writer) = self.audit.writer.load_full() else { return Ok(()) };
        let waits = self.config.load().audit.on_error == AuditOnError::Refuse;
        let written = match writer.stuck().filter(|_| !waits) {
            Some(error) => Err(error),
            None => writer.write(event.line(), otherwise).await,
        };
        if let Err(error) = &written {
            self.counters.count_lost_event();
            if self.repeats.is_new(Level::ERROR, Failure::new("audit_log", error)) {
                error!(%error, event = event.name(), "an event is missing from the audit stream");
            }
        }
        written
    }
}
