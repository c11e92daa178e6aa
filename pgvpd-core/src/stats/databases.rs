//! What the clients of each database have done: in all, and in the last minute.

use std::collections::BTreeMap;
use std::time::Duration;

/// Databases that have figures of their own; what is beyond counts together.
const MOST_DATABASES: usize = 200;

/// What the clients of a database have done.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct DatabaseUse {
    /// Sessions that were started.
    pub sessions: u64,
    /// Requests, of sessions whose messages are seen.
    pub requests: u64,
    /// Bytes that clients sent.
    pub from_client: u64,
    /// Bytes that the server sent.
    pub to_client: u64,
    /// How long clients waited for a connection of a pool, all of them together, in seconds.
    pub waited: f64,
}

/// The figures of a database.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct DatabaseStatus {
    /// Its name; empty for all beyond the first 200 together.
    pub database: String,
    /// Since the start.
    pub total: DatabaseUse,
    /// In the last whole minute, of those that are counted from the proxy's start.
    pub last_minute: DatabaseUse,
}

/// The books. A name comes into them with a session that its server has let in.
#[derive(Debug, Default)]
pub(super) struct Databases {
    all: BTreeMap<Box<str>, Figures>,
}

#[derive(Debug, Default)]
struct Figures {
    total: DatabaseUse,
    /// `total` when the present minute began.
    before: DatabaseUse,
    last_minute: DatabaseUse,
}

impl DatabaseUse {
    /// A session that was started.
    pub(crate) const SESSION: Self = Self { sessions: 1, ..Self::NOTHING };

    const NOTHING: Self = Self { sessions: 0, requests: 0, from_client: 0, to_client: 0, waited: 0.0 };

    /// A client that has waited.
    pub(crate) fn wait(time: Duration) -> Self {
        Self { waited: time.as_secs_f64(), ..Self::NOTHING }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.sessions += other.sessions;
        self.requests = self.requests.wrapping_add(other.requests);
        self.from_client = self.from_client.wrapping_add(other.from_client);
        self.to_client = self.to_client.wrapping_add(other.to_client);
        self.waited += other.waited;
    }

    fn since(self, before: Self) -> Self {
        Self {
            sessions: self.sessions.wrapping_sub(before.sessions),
            requests: self.requests.wrapping_sub(before.requests),
            from_client: self.from_client.wrapping_sub(before.from_client),
            to_client: self.to_client.wrapping_sub(before.to_client),
            waited: self.waited - before.waited,
        }
    }
}

impl Databases {
    pub(super) fn note(&mut self, database: &str, done: DatabaseUse) {
        let database = if self.all.len() < MOST_DATABASES || self.all.contains_key(database) { database } else { "" };
        match self.all.get_mut(database) {
            Some(figures) => figures.total.add(done),
            None => {
                let figures = Figures { total: done, ..Figures::default() };
                self.all.insert(database.into(), figures);
            }
        }
    }

    /// A minute is over.
    pub(super) fn turn(&mut self) {
        for figures in self.all.values_mut() {
            figures.last_minute = figures.total.since(figures.before);
            figures.before = figures.total;
        }
    }

    pub(super) fn figures(&self) -> Vec<DatabaseStatus> {
        let all = self.all.iter().map(|(database, figures)| DatabaseStatus {
            database: database.to_string(),
            total: figures.total,
            last_minute: figures.last_minute,
        });
        all.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(requests: u64) -> DatabaseUse {
        DatabaseUse { requests, ..DatabaseUse::default() }
    }

    #[test]
    fn what_was_done_in_a_minute_is_known_when_it_is_over() {
        let mut databases = Databases::default();
        databases.note("shop", requests(5));
        let first = |databases: &Databases| databases.figures().swap_remove(0);
        assert_eq!(first(&databases).last_minute, DatabaseUse::default());
        databases.turn();
        databases.note("shop", requests(2));
        assert_eq!((first(&databases).total, first(&databases).last_minute), (requests(7), requests(5)));
        databases.turn();
        databases.turn();
        assert_eq!((first(&databases).total, first(&databases).last_minute), (requests(7), requests(0)));
    }

    #[test]
    fn databases_without_end_take_bounded_memory_and_each_event_counts() {
        let mut databases = Databases::default();
        (0..1000).for_each(|number| databases.note(&format!("database-{number:03}"), DatabaseUse::SESSION));
        let figures = databases.figures();
        assert_eq!(figures.len(), MOST_DATABASES + 1);
        assert_eq!(figures.iter().map(|one| one.total.sessions).sum::<u64>(), 1000);
    }
}
