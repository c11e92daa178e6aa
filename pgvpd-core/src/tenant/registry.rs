//! The tenants that are connected now, and what each may take: concurrent connections, and new ones in a second.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use governor::clock::MonotonicClock;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};

use super::limits::TenantLimits;

/// Tenants whose rate is remembered before those that are at rest are forgotten.
const FIRST_SWEEP: usize = 1024;

/// Counts per tenant, the first context value, whatever its role and database. Counted also while there is no limit,
/// so that one set by a reload finds the sessions that are open.
#[derive(Debug, Default)]
pub(crate) struct TenantRegistry {
    live: Mutex<HashMap<Arc<str>, usize>>,
    /// By connections a second: tenants may have rates of their own.
    rates: Mutex<HashMap<NonZeroU32, Rates>>,
    denied: AtomicU64,
    limited: AtomicU64,
    slowed: AtomicU64,
}

/// Logins refused for their tenant since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct TenantRejections {
    /// The tenant is denied, or not among those that may log in.
    pub deny: u64,
    /// It has as many connections as it may have.
    pub limit: u64,
    /// It has made as many in a second as it may make.
    pub rate: u64,
}

/// A tenant that has reached a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TenantLimitError {
    #[error("too many connections for this tenant ({limit})")]
    Connections { limit: usize, is_own: bool },
    #[error("too many new connections for this tenant ({limit} a second)")]
    Rate { limit: NonZeroU32, is_own: bool },
}

/// One connection of a tenant. Dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct TenantSlot {
    registry: Arc<TenantRegistry>,
    tenant: Arc<str>,
}

/// All tenants that have a session, and their sessions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LiveCounts {
    pub(crate) tenants: usize,
    pub(crate) sessions: usize,
}

#[derive(Debug)]
struct Rates {
    limiter: RateLimiter<Box<str>, DefaultKeyedStateStore<Box<str>>, MonotonicClock>,
    next_sweep: usize,
}

impl TenantRegistry {
    /// Counts one more session of a tenant, whose client is authenticated.
    ///
    /// The rate comes first: a refused attempt counts as an attempt.
    pub(crate) fn enter(self: &Arc<Self>, tenant: &str, limits: TenantLimits) -> Result<TenantSlot, TenantLimitError> {
        self.check_rate(tenant, limits)?;
        let mut live = self.live();
        let tenant = match live.get_key_value(tenant) {
            Some((name, count)) => match limits.connections {
                Some(limit) if *count >= limit => {
                    self.limited.fetch_add(1, Ordering::Relaxed);
                    return Err(TenantLimitError::Connections { limit, is_own: limits.is_own });
                }
                _ => Arc::clone(name),
            },
            None => Arc::from(tenant),
        };
        *live.entry(Arc::clone(&tenant)).or_default() += 1;
        Ok(TenantSlot { registry: Arc::clone(self), tenant })
    }

    /// The tenant's name, as its sessions share it.
    pub(crate) fn name(&self, tenant: &str) -> Arc<str> {
        self.live().get_key_value(tenant).map_or_else(|| Arc::from(tenant), |(name, _)| Arc::clone(name))
    }

    /// A tenant has been refused because it is denied.
    pub(crate) fn count_denied(&self) {
        self.denied.fetch_add(1, Ordering::Relaxed);
    }

    /// Logins refused for their tenant since the start.
    pub(crate) fn rejections(&self) -> TenantRejections {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TenantRejections { deny: read(&self.denied), limit: read(&self.limited), rate: read(&self.slowed) }
    }

    fn check_rate(&self, tenant: &str, limits: TenantLimits) -> Result<(), TenantLimitError> {
        let Some(limit) = limits.per_second else { return Ok(()) };
        let checked = self.rates().entry(limit).or_insert_with(|| Rates::new(limit)).check(tenant);
        if checked {
            return Ok(());
        }
        self.slowed.fetch_add(1, Ordering::Relaxed);
        Err(TenantLimitError::Rate { limit, is_own: limits.is_own })
    }

    /// Forgets what was counted for other rates than these: the configuration has no others any more.
    pub(crate) fn keep_rates(&self, kept: &[NonZeroU32]) {
        self.rates().retain(|rate, _| kept.contains(rate));
    }

    fn rates(&self) -> MutexGuard<'_, HashMap<NonZeroU32, Rates>> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many sessions these tenants have, and how many there are in all.
    pub(crate) fn live_counts<'t>(&self, tenants: impl Iterator<Item = &'t str>) -> (Vec<usize>, LiveCounts) {
        let live = self.live();
        let counts = tenants.map(|tenant| live.get(tenant).copied().unwrap_or(0)).collect();
        (counts, LiveCounts { tenants: live.len(), sessions: live.values().sum() })
    }

    fn live(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rates {
    fn new(per_second: NonZeroU32) -> Self {
        Self { limiter: RateLimiter::keyed(Quota::per_second(per_second)), next_sweep: FIRST_SWEEP }
    }

    /// True if the tenant may make one more.
    fn check(&mut self, tenant: &str) -> bool {
        // Anybody can name tenants: those whose second is over are forgotten, so that names do not pile up.
        if self.limiter.len() >= self.next_sweep {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
            self.next_sweep = FIRST_SWEEP.max(self.limiter.len().saturating_mul(2));
        }
        self.limiter.check_key(&tenant.into()).is_ok()
    }
}

impl Drop for TenantSlot {
    fn drop(&mut self) {
        let mut live = self.registry.live();
        if let Some(count) = live.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                live.remove(&self.tenant);
                // A burst of tenants leaves its table behind; an eighth in use is little enough to move what is left.
                if live.len() < live.capacity() / 8 {
                    live.shrink_to_fit();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(limit: usize) -> TenantLimits {
        TenantLimits { connections: Some(limit), ..TenantLimits::default() }
    }

    #[test]
    fn a_tenants_places_are_its_own_and_come_back() {
        let registry = Arc::new(TenantRegistry::default());
        // Entered while there was no limit.
        let first = registry.enter("acme", TenantLimits::default()).expect("no limit");
        let second = registry.enter("acme", connections(2)).expect("second");
        assert_eq!(
            registry.enter("acme", connections(2)).err(),
            Some(TenantLimitError::Connections { limit: 2, is_own: false })
        );
        let other = registry.enter("globex", connections(2)).expect("another tenant");
        drop(first);
        let third = registry.enter("acme", connections(2)).expect("a place came back");
        assert_eq!(&*registry.name("acme"), "acme");
        drop((second, other, third));
        assert!(registry.live().is_empty(), "no tenant is remembered without a session");
    }

    #[test]
    fn places_stay_right_when_many_come_and_go_at_once() {
        let registry = Arc::new(TenantRegistry::default());
        let most = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        if let Ok(slot) = registry.enter("acme", connections(3)) {
                            let now = registry.live().get("acme").copied().unwrap_or(0);
                            most.fetch_max(now, Ordering::Relaxed);
                            drop(slot);
                        }
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.into_inner()));
        assert!(registry.live().is_empty());
    }

    #[test]
    fn a_tenants_rate_is_its_own_and_a_new_limit_begins_anew() {
        let registry = Arc::new(TenantRegistry::default());
        let rate = |per_second| TenantLimits { per_second: NonZeroU32::new(per_second), ..TenantLimits::default() };
        // So many that a slow machine does not earn the next one while the loop runs.
        let (_, refused) = (0..1_000_000)
            .map(|n| (n, registry.enter("acme", rate(2))))
            .find(|(_, result)| result.is_err())
            .expect("refused");
        let limit = NonZeroU32::new(2).expect("not zero");
        assert_eq!(refused.err(), Some(TenantLimitError::Rate { limit, is_own: false }));
        assert!(registry.enter("globex", rate(2)).is_ok());
        assert!(registry.enter("acme", rate(3)).is_ok());
        assert!(registry.enter("acme", TenantLimits::default()).is_ok());
        assert_eq!(registry.rejections(), TenantRejections { rate: 1, ..TenantRejections::default() });
        registry.keep_rates(&[limit]);
        assert_eq!(registry.rates().len(), 1, "what no configuration has any more is forgotten");
    }

    #[test]
    fn names_that_anybody_can_invent_do_not_pile_up() {
        let rate = NonZeroU32::new(1_000_000).expect("not zero");
        let mut rates = Rates::new(rate);
        for n in 0..100_000 {
            assert!(rates.check(&format!("tenant {n}")), "its first");
        }
        // Each is at rest after a millionth of a second.
        assert!(rates.limiter.len() <= 2 * FIRST_SWEEP, "{}", rates.limiter.len());
    }
}
