//! Failures that come again and again: said once, then counted, and the count said every few seconds as long as they come. Those of
//! one client that differ each time, such as refused logins under ever new names, are counted by client.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tracing::{Level, enabled, info, warn};

use crate::shared::Shared;

/// How often counts are said.
const PERIOD: Duration = Duration::from_secs(10);

/// Different failures that are remembered; further ones are counted together.
const MOST: usize = 256;

/// Different failures of one client that are said in a period.
const MOST_OF_ONE: usize = 10;

/// Characters of an error that are kept.
const MOST_TEXT: usize = 300;

/// What was said, and how often it has come since.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    state: Mutex<State>,
    /// There is something to count.
    begun: Notify,
}

#[derive(Debug, Default)]
struct State {
    said: HashMap<Failure, Said>,
    /// The clients of this period.
    clients: HashMap<String, OfClient>,
    /// What could not be remembered.
    beyond: u64,
}

/// Different failures of one client, in one period.
#[derive(Debug, Default)]
struct OfClient {
    said: usize,
    unsaid: u64,
}

/// The counts that are said at the end of a period.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    again: Vec<(Failure, Said)>,
    /// Clients, each with the number of its different failures that were not said.
    unsaid: Vec<(String, u64)>,
    /// Those of further clients.
    beyond: u64,
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
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let state = &mut *self.state();
        if let Some(said) = state.said.get_mut(&failure) {
            said.again += 1;
            return false;
        }
        if state.is_empty() {
            self.begun.notify_one();
        }
        // Strangers must not drown what the proxy has to say of itself.
        let most = if level == Level::INFO { MOST } else { 2 * MOST };
        if state.said.len() >= most {
            state.beyond += 1;
            return false;
        }
        let of_client = state.clients.entry(failure.client.clone()).or_default();
        if of_client.said >= MOST_OF_ONE {
            of_client.unsaid += 1;
            return false;
        }
        of_client.said += 1;
        state.said.insert(failure, Said { level, again: 0 });
        true
    }

    /// What has come again since this was called last; what has not is forgotten.
    fn take(&self) -> Counts {
        let state = &mut *self.state();
        state.said.retain(|_, said| said.again > 0);
        let take = |said: &mut Said| std::mem::replace(said, Said { again: 0, ..*said });
        let mut again: Vec<_> = state.said.iter_mut().map(|(failure, said)| (failure.clone(), take(said))).collect();
        if state.said.is_empty() {
            state.said.shrink_to_fit();
        }
        again.sort_by(|(one, a), (other, b)| b.again.cmp(&a.again).then_with(|| one.client.cmp(&other.client)));
        let clients = std::mem::take(&mut state.clients).into_iter().map(|(client, of)| (client, of.unsaid));
        let mut unsaid: Vec<_> = clients.filter(|(_, unsaid)| *unsaid > 0).collect();
        unsaid.sort_by(|(one, a), (other, b)| b.cmp(a).then_with(|| one.cmp(other)));
        Counts { again, unsaid, beyond: std::mem::take(&mut state.beyond) }
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.said.is_empty() && self.clients.is_empty() && self.beyond == 0
    }
}

/// Says the counts, until the proxy has stopped; then those that are left.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let repeats = &shared.repeats;
    loop {
        let is_quiet = repeats.state().is_empty() && shared.refusals.is_empty();
        let is_over = tokio::select! {
            () = shared.stopped.cancelled() => true,
            // With nothing to count there is nothing to wake up for.
            () = repeats.begun.notified(), if is_quiet => false,
            () = shared.refusals.begun(), if is_quiet => false,
            () = tokio::time::sleep(PERIOD), if !is_quiet => false,
        };
        if is_quiet && !is_over {
            continue;
        }
        let period = PERIOD.as_secs();
        let Counts { again, unsaid, beyond } = repeats.take();
        for (Failure { client, error }, Said { level, again }) in again {
            match level {
                Level::INFO => info!(client, error, repeated = again, period, "refused again and again"),
                _ => warn!(client, error, repeated = again, period, "failed again and again"),
            }
        }
        for (client, refused) in unsaid {
            info!(client, refused, period, "refused for further reasons or names, which are not logged one by one");
        }
        if beyond > 0 {
            warn!(refused = beyond, period, "further clients were refused, which are not logged one by one");
        }
        shared.audit_summaries(PERIOD).await;
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
        assert_eq!(repeats.take().again, [(failure("a", "wrong"), said(2))]);
        assert!(!repeats.is_first(Level::INFO, failure("a", "wrong")), "it has just been said that it comes");
        assert_eq!(repeats.take().again, [(failure("a", "wrong"), said(1))]);
        assert_eq!(repeats.take(), Counts::default());
        assert!(repeats.is_first(Level::INFO, failure("a", "wrong")));
    }

    #[test]
    fn failures_of_one_client_that_differ_each_time_are_counted() {
        let repeats = Repeats::default();
        let is_first = |client: &str, number: usize| {
            repeats.is_first(Level::INFO, failure(client, &format!("password for \"user {number}\"")))
        };
        assert_eq!((0..1000).filter(|number| is_first("a", *number)).count(), MOST_OF_ONE);
        assert!(is_first("b", 1), "another client has its own");
        assert_eq!(repeats.take().unsaid, [("a".to_owned(), 1000 - MOST_OF_ONE as u64)]);
        assert!(is_first("a", 5000), "a new period");
    }

    #[test]
    fn more_failures_than_can_be_remembered_are_counted() {
        let repeats = Repeats::default();
        let is_first = |number: usize, level| repeats.is_first(level, failure(&number.to_string(), "wrong"));
        assert_eq!((0..MOST + 10).filter(|number| is_first(*number, Level::INFO)).count(), MOST);
        assert!(is_first(MOST + 20, Level::ERROR), "the proxy's own are still said");
        assert_eq!(repeats.take().beyond, 10);
        assert_eq!(failure("a", &"é".repeat(10_000)).error.chars().count(), MOST_TEXT);
    }
}
