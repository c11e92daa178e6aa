//! What resolvers have done.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::cache::Origin;

/// Upper bounds of the classes of time that [`ResolverStats::latency`] counts, in seconds.
pub const RESOLVER_LATENCY_BOUNDS: [f64; 12] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0];

/// What one resolver has done since the start.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct ResolverStats {
    /// Its name.
    pub name: String,
    /// How often it was asked.
    pub executions: u64,
    /// Results that were in the cache, or that another login was asking for.
    pub hits: u64,
    /// Results that were looked for in the cache and were not there.
    pub misses: u64,
    /// How often it failed.
    pub errors: u64,
    /// Executions by the time that they took: up to each bound of [`RESOLVER_LATENCY_BOUNDS`], and more.
    pub latency: [u64; RESOLVER_LATENCY_BOUNDS.len() + 1],
    /// The sum of those times, in seconds.
    pub latency_sum: f64,
}

/// The books of all resolvers.
#[derive(Debug, Default)]
pub(super) struct Figures {
    by_name: Mutex<HashMap<String, ResolverStats>>,
}

impl Figures {
    /// An answer has come from here.
    pub(super) fn answered(&self, name: &str, origin: Origin, is_cached: bool) {
        self.note(name, |stats| match origin {
            Origin::Cache => stats.hits += 1,
            Origin::Asked => stats.misses += u64::from(is_cached),
        });
    }

    /// It was asked, which took this long.
    pub(super) fn executed(&self, name: &str, took: Duration, has_failed: bool) {
        let seconds = took.as_secs_f64();
        let class = RESOLVER_LATENCY_BOUNDS.iter().position(|bound| seconds <= *bound);
        self.note(name, |stats| {
            stats.executions += 1;
            stats.errors += u64::from(has_failed);
            stats.latency_sum += seconds;
            if let Some(count) = stats.latency.get_mut(class.unwrap_or(RESOLVER_LATENCY_BOUNDS.len())) {
                *count += 1;
            }
        });
    }

    fn note(&self, name: &str, note: impl FnOnce(&mut ResolverStats)) {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        match by_name.get_mut(name) {
            Some(stats) => note(stats),
            None => note(
                by_name.entry(name.to_owned()).or_insert(ResolverStats { name: name.to_owned(), ..Default::default() }),
            ),
        }
    }

    /// All of them, by name.
    pub(super) fn all(&self) -> Vec<ResolverStats> {
        let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = by_name.values().cloned().collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }
}
