//! Failures that come again and again: said once, then counted, and the count said every few seconds as long as they come.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tracing::{Level, enabled, info, warn};

use crate::shared::Shared;

/// How often counts are said.
const PERIOD: Duration = Duration::from_secs(10);

/// Different failures that are remembered; what comes beside them is said each time.
const MOST: usize = 1024;

/// Characters of an error that are kept.
const MOST_TEXT: usize = 300;

/// What was said, and how often it has come since.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    said: Mutex<HashMap<Failure, Said>>,
    /// There is something to count.
    begun: Notify,
}

/// At which level a failure is said, and how often it has come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Said {
    level: Level,
    again: u64,
}

/// A failure as the log has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Failure {
    /// Whose.
    client: String,
    /// What.
    error: String,
}

impl Failure {
    /// A failure of this client's. What clients call themselves stands in errors: a long text is cut.
    pub(crate) fn new(client: impl Display, error: impl Display) -> Self {
        let mut error = error.to_string();
        if let Some((end, _)) = error.char_indices().nth(MOST_TEXT) {
            error.truncate(end);
        }
        Self { client: client.to_string(), error }
    }
}

impl Repeats {
    fn said(&self) -> MutexGuard<'_, HashMap<Failure, Said>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if it is to be said now, at this level; else it is counted. Where nobody reads lines of that level, or reads them by other
    /// means than a subscriber of `tracing`, it is always to be said: what nobody has read has not been said.
    pub(crate) fn is_new(&self, level: Level, failure: Failure) -> bool {
        let is_read = match level {
            Level::ERROR => enabled!(Level::ERROR),
            Level::WARN => enabled!(Level::WARN),
            _ => enabled!(Level::INFO),
        };
        !is_read || self.is_first(level, failure)
    }

    fn is_first(&self, level: Level, failure: Failure) -> bool {
        let mut said = self.said();
        if let Some(said) = said.get_mut(&failure) {
            said.again += 1;
            return false;
        }
        if said.len() < MOST {
            if said.is_empty() {
                self.begun.notify_one();
            }
            said.insert(failure, Said { level, again: 0 });
        }
        true
    }

    /// What has come again since this was called last; what has not is forgotten.
    fn take(&self) -> Vec<(Failure, Said)> {
        let mut said = self.said();
        said.retain(|_, said| said.again > 0);
        let take = |said: &mut Said| std::mem::replace(said, Said { again: 0, ..*said });
        let mut again: Vec<_> = said.iter_mut().map(|(failure, said)| (failure.clone(), take(said))).collect();
        if said.is_empty() {
            said.shrink_to_fit();
        }
        again.sort_by(|(one, a), (other, b)| b.again.cmp(&a.again).then_with(|| one.client.cmp(&other.client)));
        again
    }
}

/// Says the counts, until the proxy has stopped; then those that are left.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let repeats = &shared.repeats;
    loop {
        let is_quiet = repeats.said().is_empty();
        let is_over = tokio::select! {
            () = shared.stopped.cancelled() => true,
            // With nothing to count there is nothing to wake up for.
            () = repeats.begun.notified(), if is_quiet => false,
            () = tokio::time::sleep(PERIOD), if !is_quiet => false,
        };
        if is_quiet && !is_over {
            continue;
        }
        let period = PERIOD.as_secs();
        for (Failure { client, error }, Said { level, again }) in repeats.take() {
            match level {
                Level::INFO => info!(client, error, repeated = again, period, "refused again and again"),
                _ => warn!(client, error, repeated = again, period, "failed again and again"),
            }
        }
        if is_over {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(client: &str, error: &str) -> Failure {
        Failure::new(client, error)
    }

    fn said(again: u64) -> Said {
        Said { level: Level::INFO, again }
    }

    #[test]
    fn what_nobody_reads_has_not_been_said() {
        // No subscriber is there in this test.
        let repeats = Repeats::default();
        assert!(
            repeats.is_new(Level::WARN, failure("a", "wrong")) && repeats.is_new(Level::WARN, failure("a", "wrong"))
        );
    }

    #[test]
    fn a_failure_is_said_once_then_counted_and_forgotten_when_it_no_longer_comes() {
        let repeats = Repeats::default();
        assert!(repeats.is_first(Level::INFO, failure("a", "wrong")));
        assert!(
            repeats.is_first(Level::INFO, failure("b", "wrong"))
                && repeats.is_first(Level::INFO, failure("a", "other"))
        );
        assert!(
            !repeats.is_first(Level::INFO, failure("a", "wrong"))
                && !repeats.is_first(Level::INFO, failure("a", "wrong"))
        );
        assert_eq!(repeats.take(), [(failure("a", "wrong"), said(2))]);
        assert!(!repeats.is_first(Level::INFO, failure("a", "wrong")), "it has just been said that it comes");
        assert_eq!(repeats.take(), [(failure("a", "wrong"), said(1))]);
        assert!(repeats.take().is_empty());
        assert!(repeats.is_first(Level::INFO, failure("a", "wrong")));
    }

    #[test]
    fn more_failures_than_can_be_remembered_are_said() {
        let repeats = Repeats::default();
        for number in 0..MOST + 10 {
            assert!(repeats.is_first(Level::INFO, failure(&number.to_string(), "wrong")));
        }
        assert!(repeats.said().len() <= MOST && repeats.is_first(Level::INFO, failure("again", "wrong")));
        assert_eq!(failure("a", &"é".repeat(10_000)).error.chars().count(), MOST_TEXT);
    }
}
