//! Which tenants use the proxy most, in memory that does not grow with their number.
//!
//! A few tenants have figures of their own; what the others do is counted together. Each event counts once, in the figures
//! of the tenant if it has some at that moment, else in those of the others, so that nothing ever counts backwards. Tenants without
//! figures are candidates: an estimate of their use (Space-Saving: Metwally, Agrawal, El Abbadi, "Efficient Computation of Frequent
//! and Top-k Elements in Data Streams", 2005) decides who is given some. Who has figures changes slowly: a monitoring system keeps
//! each name that it has seen.

use std::collections::HashMap;
use std::sync::Arc;

/// Candidates that are estimated, for each tenant that has figures.
const CANDIDATES: usize = 4;

/// Tenants whose names are longer than this count with the others.
const MAX_NAME: usize = 256;

/// The use that a login stands for, in bytes.
const LOGIN: u64 = 1024;

/// What a tenant, or the others together, have done since it has figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct TenantUse {
    /// Sessions that were started.
    pub sessions_total: u64,
    /// Bytes that clients sent.
    pub from_client: u64,
    /// Bytes that the server sent.
    pub to_client: u64,
}

/// The books.
#[derive(Debug, Default)]
pub(super) struct Usage {
    tenants: HashMap<Arc<str>, Figures>,
    candidates: HashMap<Arc<str>, Estimate>,
    others: TenantUse,
}

#[derive(Debug, Default)]
struct Figures {
    total: TenantUse,
    /// Of late: halved at each turn.
    recent: u64,
}

/// How much a candidate has used: at most `most`, of which `error` may be others'.
#[derive(Debug, Clone, Copy)]
struct Estimate {
    most: u64,
    error: u64,
}

impl Estimate {
    /// What it has used at least.
    fn least(self) -> u64 {
        self.most - self.error
    }
}

impl TenantUse {
    /// A session that was started.
    pub(crate) const SESSION: Self = Self { sessions_total: 1, from_client: 0, to_client: 0 };

    /// Bytes that were relayed.
    pub(crate) fn bytes(from_client: u64, to_client: u64) -> Self {
        Self { sessions_total: 0, from_client, to_client }
    }

    fn weight(&self) -> u64 {
        (self.sessions_total * LOGIN).saturating_add(self.from_client).saturating_add(self.to_client)
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.sessions_total += other.sessions_total;
        self.from_client = self.from_client.wrapping_add(other.from_client);
        self.to_client = self.to_client.wrapping_add(other.to_client);
    }
}

impl Usage {
    /// A tenant has done this. `limit`: how many may have figures.
    pub(super) fn note(&mut self, tenant: &Arc<str>, done: TenantUse, limit: usize) {
        if let Some(figures) = self.tenants.get_mut(tenant) {
            figures.total.add(done);
            figures.recent = figures.recent.saturating_add(done.weight());
            return;
        }
        if tenant.len() > MAX_NAME || limit == 0 {
            return self.others.add(done);
        }
        if self.tenants.len() < limit {
            let figures = Figures { total: done, recent: done.weight() };
            self.tenants.insert(Arc::clone(tenant), figures);
            return;
        }
        self.others.add(done);
        self.estimate(tenant, done.weight(), limit.saturating_mul(CANDIDATES));
    }

    fn estimate(&mut self, tenant: &Arc<str>, weight: u64, capacity: usize) {
        if let Some(estimate) = self.candidates.get_mut(tenant) {
            estimate.most = estimate.most.saturating_add(weight);
            return;
        }
        let mut error = 0;
        if self.candidates.len() >= capacity {
            // Whoever takes the place of the least used one may have been there before it, with as much.
            let least = self.candidates.iter().min_by_key(|(_, estimate)| estimate.most);
            if let Some((name, most)) = least.map(|(name, estimate)| (Arc::clone(name), estimate.most)) {
                self.candidates.remove(&name);
                error = most;
            }
        }
        self.candidates.insert(Arc::clone(tenant), Estimate { most: error.saturating_add(weight), error });
    }

    /// Gives the candidates with the most use the figures of tenants with far less: a tenth of them at once.
    pub(super) fn turn(&mut self, limit: usize) {
        let mut left = (limit / 10).max(1);
        while self.tenants.len() > limit {
            self.remove_least();
        }
        while left > 0
            && let Some((name, used)) = self.busiest_candidate()
        {
            let least = self.tenants.values().map(|figures| figures.recent).min().unwrap_or(0);
            if limit == 0 || (self.tenants.len() >= limit && used / 2 < least.max(1)) {
                break;
            }
            if self.tenants.len() >= limit {
                self.remove_least();
            }
            self.candidates.remove(&name);
            self.tenants.insert(name, Figures { total: TenantUse::default(), recent: used });
            left -= 1;
        }
        self.tenants.values_mut().for_each(|figures| figures.recent /= 2);
        self.candidates.retain(|_, estimate| {
            *estimate = Estimate { most: estimate.most / 2, error: estimate.error / 2 };
            estimate.most > 0
        });
        if self.candidates.len() < self.candidates.capacity() / 4 {
            self.candidates.shrink_to_fit();
        }
    }

    fn busiest_candidate(&self) -> Option<(Arc<str>, u64)> {
        let (name, estimate) = self.candidates.iter().max_by_key(|(_, estimate)| estimate.least())?;
        Some((Arc::clone(name), estimate.least()))
    }

    fn remove_least(&mut self) {
        let least = self.tenants.iter().min_by_key(|(_, figures)| figures.recent).map(|(name, _)| Arc::clone(name));
        least.map(|name| self.tenants.remove(&name));
    }

    /// Those that have figures, the most used first, and the others.
    pub(super) fn figures(&self) -> (Vec<(Arc<str>, TenantUse)>, TenantUse) {
        let mut all: Vec<_> = self.tenants.iter().map(|(name, figures)| (Arc::clone(name), figures)).collect();
        all.sort_by(|(one, a), (other, b)| b.recent.cmp(&a.recent).then_with(|| one.cmp(other)));
        (all.into_iter().map(|(name, figures)| (name, figures.total)).collect(), self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(number: usize) -> Arc<str> {
        format!("tenant-{number}").into()
    }

    fn names(usage: &Usage) -> Vec<String> {
        let mut names: Vec<String> = usage.figures().0.iter().map(|(name, _)| name.to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_hundred_thousand_tenants_take_the_memory_of_a_few_and_every_event_counts_once() {
        let mut usage = Usage::default();
        for number in 0..100_000 {
            usage.note(&tenant(number), TenantUse::SESSION, 20);
            usage.note(&tenant(number), TenantUse::bytes(3, 4), 20);
            assert!(usage.tenants.len() <= 20 && usage.candidates.len() <= 80);
        }
        let (tenants, others) = usage.figures();
        let sum = tenants.iter().fold(others, |mut sum, (_, done)| {
            sum.add(*done);
            sum
        });
        assert_eq!(sum, TenantUse { sessions_total: 100_000, from_client: 300_000, to_client: 400_000 });
        for _ in 0..64 {
            usage.turn(20);
        }
        assert!(usage.candidates.is_empty() && usage.candidates.capacity() < 80, "given back");
    }

    #[test]
    fn a_busy_tenant_that_comes_late_gets_figures_and_a_crowd_of_small_ones_does_not() {
        let mut usage = Usage::default();
        (0..4).for_each(|number| usage.note(&tenant(number), TenantUse::bytes(100_000, 0), 4));
        let first = names(&usage);
        for number in 100..10_000 {
            usage.note(&tenant(number), TenantUse::SESSION, 4);
            usage.note(&tenant(99), TenantUse::bytes(0, 200), 4);
        }
        usage.turn(4);
        assert!(names(&usage).contains(&"tenant-99".to_owned()), "{:?}", names(&usage));
        assert_eq!(names(&usage).iter().filter(|name| first.contains(name)).count(), 3, "one at a time");
    }

    #[test]
    fn what_others_have_done_never_counts_backwards() {
        let mut usage = Usage::default();
        let mut before = TenantUse::default();
        for number in 0..2_000 {
            usage.note(&tenant(number % 37), TenantUse::bytes(u64::try_from(number).unwrap_or(0), 1), 5);
            if number % 50 == 0 {
                usage.turn(5);
            }
            let others = usage.figures().1;
            assert!(others.from_client >= before.from_client && others.to_client >= before.to_client);
            before = others;
        }
    }

    #[test]
    fn a_lower_limit_holds_from_the_next_turn_and_none_leaves_no_names() {
        let mut usage = Usage::default();
        (0..10).for_each(|number| usage.note(&tenant(number), TenantUse::SESSION, 10));
        usage.turn(3);
        assert_eq!(names(&usage).len(), 3);
        usage.turn(0);
        usage.note(&tenant(1), TenantUse::SESSION, 0);
        assert!(names(&usage).is_empty());
        let long: Arc<str> = "x".repeat(MAX_NAME + 1).into();
        usage.note(&long, TenantUse::SESSION, 10);
        assert!(names(&usage).is_empty());
    }
}
