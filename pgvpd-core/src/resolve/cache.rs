//! Results that may be used again, and what has made them void.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;

use super::batch::{Question, Verdict};
use crate::net::UpstreamAddress;

/// Everything that a result depends on. In full: two tenants must never share one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) upstream: UpstreamAddress,
    pub(super) database: Arc<str>,
    /// As whom the query runs.
    pub(super) role: Arc<str>,
    /// The context under which it runs, which row-level security goes by: names, each with its value.
    pub(super) context: Arc<[String]>,
    pub(super) question: Question,
}

/// An answer, and the moment before it was asked for.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) verdict: Verdict,
    asked: u64,
    /// How long it may be used; zero for nobody but those who have waited for it.
    ttl: Duration,
}

/// How often an answer that has become void before it came is asked for again.
const ATTEMPTS: usize = 5;

/// Bytes of memory that a small entry takes beside its texts.
const ENTRY: usize = 300;

/// What has been found, by everything it depends on.
#[derive(Debug)]
pub(super) struct Results {
    kept: Cache<Key, Kept>,
    pub(super) voided: Voided,
}

/// Where an answer has come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It was there, or another login was asking for it.
    Cache,
    /// It was asked for.
    Asked,
}

struct ByTtl;

impl Expiry<Key, Kept> for ByTtl {
    fn expire_after_create(&self, _: &Key, kept: &Kept, _: Instant) -> Option<Duration> {
        Some(kept.ttl)
    }

    fn expire_after_update(&self, _: &Key, kept: &Kept, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(kept.ttl)
    }
}

impl Results {
    /// Room for so many bytes.
    pub(super) fn new(bytes: u64) -> Self {
        let weigh = |key: &Key, kept: &Kept| u32::try_from(ENTRY + key.size() + kept.size()).unwrap_or(u32::MAX);
        Self {
            kept: Cache::builder().max_capacity(bytes).weigher(weigh).expire_after(ByTtl).build(),
            voided: Voided::default(),
        }
    }

    /// The answer: one that is there, that another login is waiting for, or that `ask` gives.
    pub(super) async fn get<F>(&self, key: &Key, ask: impl Fn() -> F) -> (Verdict, Origin)
    where
        F: Future<Output = Verdict>,
    {
        let (database, question) = (&*key.database, &key.question);
        for _ in 0..ATTEMPTS {
            let is_stale = |kept: &Kept| kept.ttl.is_zero() || self.voided.is_void(database, question, kept.asked);
            let entry = self.kept.entry(key.clone()).or_insert_with_if(self.asking(key, &ask), is_stale).await;
            let is_fresh = entry.is_fresh();
            let Kept { verdict, asked, .. } = entry.into_value();
            let origin = if is_fresh { Origin::Asked } else { Origin::Cache };
            // What another login was waiting for may have become void before it came, or have failed with its connection.
            let is_void = self.voided.is_void(database, question, asked);
            let is_lost = !is_fresh && matches!(&verdict, Err(fault) if fault.is_of_the_connection());
            if !is_void && !is_lost {
                return (verdict, origin);
            }
        }
        (ask().await, Origin::Asked)
    }

    async fn asking<F>(&self, key: &Key, ask: &impl Fn() -> F) -> Kept
    where
        F: Future<Output = Verdict>,
    {
        let asked = self.voided.now();
        let verdict = ask().await;
        let resolver = &key.question.resolver;
        let may_stay = match &verdict {
            Ok(Some(_)) => true,
            Ok(None) => resolver.cache_negative,
            Err(_) => false,
        };
        let ttl = if may_stay { resolver.cache_ttl } else { Duration::ZERO };
        Kept { verdict, asked, ttl }
    }
}

impl Key {
    fn size(&self) -> usize {
        let texts = self.context.iter().chain(self.question.params.iter());
        self.database.len() + self.role.len() + texts.map(|text| text.len() + 24).sum::<usize>()
    }
}

impl Kept {
    fn size(&self) -> usize {
        match &self.verdict {
            Ok(Some(values)) => values.iter().map(|value| value.len() + 24).sum(),
            Ok(None) | Err(_) => 0,
        }
    }
}

/// What has been made void, and when, on a clock that counts such events.
#[derive(Debug, Default)]
pub(super) struct Voided {
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    now: u64,
    /// Everything from before is void.
    floor: u64,
    /// By database, or any where that is empty, and resolver.
    resolvers: HashMap<(Box<str>, Box<str>), Voids>,
    entries: usize,
}

#[derive(Debug, Default)]
struct Voids {
    /// With any parameters.
    all: u64,
    by_params: HashMap<Box<[String]>, u64>,
}

/// Entries that are kept apart; beyond, everything from before is void.
const MAX_ENTRIES: usize = 10_000;

impl Voided {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present moment.
    pub(super) fn now(&self) -> u64 {
        self.book().now
    }

    /// Makes what a resolver has found void: for these parameters, or for all.
    pub(super) fn void(&self, database: Option<&str>, resolver: &str, params: Option<&[String]>) {
        let mut book = self.book();
        book.now += 1;
        if book.entries >= MAX_ENTRIES {
            *book = Book { now: book.now, floor: book.now, ..Book::default() };
            return;
        }
        let Book { now, resolvers, entries, .. } = &mut *book;
        let voids = resolvers.entry((database.unwrap_or_default().into(), resolver.into())).or_insert_with(|| {
            *entries += 1;
            Voids::default()
        });
        match params {
            None => {
                *entries -= voids.by_params.len();
                *voids = Voids { all: *now, by_params: HashMap::new() };
            }
            Some(params) => {
                let before = voids.by_params.insert(params.into(), *now);
                *entries += usize::from(before.is_none());
            }
        }
    }

    /// Makes everything void.
    pub(super) fn void_all(&self) {
        let mut book = self.book();
        let now = book.now + 1;
        *book = Book { now, floor: now, ..Book::default() };
    }

    /// True if an answer that was asked for at this moment is void.
    pub(super) fn is_void(&self, database: &str, question: &Question, asked: u64) -> bool {
        let book = self.book();
        // Nothing has happened since, as nearly always.
        if asked == book.now {
            return false;
        }
        let since = |database: &str| {
            let voids = book.resolvers.get(&(database.into(), question.resolver.name.as_str().into()));
            voids.map_or(0, |voids| voids.all.max(voids.by_params.get(&*question.params).copied().unwrap_or(0)))
        };
        asked < book.floor.max(since(database)).max(since(""))
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
