//! The tenants that are connected now, and what each may take: concurrent connections, and new ones in a second.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use governor::clock::MonotonicClock;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};

/// Tenants whose rate is remembered before those that are at rest are forgotten.
const FIRST_SWEEP: usize = 1024;

/// Counts per tenant, the first context value, whatever its role and database. Counted also while there is no limit,
/// so that one set by a reload finds the sessions that are open.
#[derive(Debug, Default)]
pub(crate) struct TenantRegistry {
    live: Mutex<HashMap<Arc<str>, usize>>,
    rates: Mutex<Option<Rates>>,
}

/// What one tenant may take; `None` is no limit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TenantLimits {
    pub(crate) connections: Option<usize>,
    pub(crate) per_second: Option<NonZeroU32>,
}

/// A tenant that has reached a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TenantLimitError {
    #[error("too many connections for this tenant ({0})")]
    Connections(usize),
    #[error("too many new connections for this tenant ({0} a second)")]
    Rate(NonZeroU32),
}

/// One connection of a tenant. Dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct TenantSlot {
    registry: Arc<TenantRegistry>,
    tenant: Arc<str>,
}

#[derive(Debug)]
struct Rates {
    per_second: NonZeroU32,
    limiter: RateLimiter<Box<str>, DefaultKeyedStateStore<Box<str>>, MonotonicClock>,
    next_sweep: usize,
}

impl TenantRegistry {
    /// Counts one more connection of a tenant.
    ///
    /// The rate comes first: a refused attempt counts as an attempt.
    pub(crate) fn enter(self: &Arc<Self>, tenant: &str, limits: TenantLimits) -> Result<TenantSlot, TenantLimitError> {
        self.check_rate(tenant, limits.per_second)?;
        let mut live = self.live();
        let tenant = match live.get_key_value(tenant) {
            Some((name, count)) => match limits.connections {
                Some(limit) if *count >= limit => return Err(TenantLimitError::Connections(limit)),
                _ => Arc::clone(name),
            },
            None => Arc::from(tenant),
        };
        *live.entry(Arc::clone(&tenant)).or_default() += 1;
        Ok(TenantSlot { registry: Arc::clone(self), tenant })
    }

    fn check_rate(&self, tenant: &str, per_second: Option<NonZeroU32>) -> Result<(), TenantLimitError> {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(per_second) = per_second else {
            *rates = None;
            return Ok(());
        };
        match &mut *rates {
            Some(rates) if rates.per_second == per_second => rates,
            stale => stale.insert(Rates::new(per_second)),
        }
        .check(tenant)
    }

    fn live(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rates {
    fn new(per_second: NonZeroU32) -> Self {
        Self { per_second, limiter: RateLimiter::keyed(Quota::per_second(per_second)), next_sweep: FIRST_SWEEP }
    }

    fn check(&mut self, tenant: &str) -> Result<(), TenantLimitError> {
        // Anybody can name tenants: those whose second is over are forgotten, so that names do not pile up.
        if self.limiter.len() >= self.next_sweep {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
            self.next_sweep = FIRST_SWEEP.max(self.limiter.len().saturating_mul(2));
        }
        self.limiter.check_key(&tenant.into()).map_err(|_| TenantLimitError::Rate(self.per_second))
    }
}

impl TenantSlot {
    /// The tenant.
    pub(crate) fn tenant(&self) -> &str {
        &self.tenant
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
        assert_eq!(registry.enter("acme", connections(2)).err(), Some(TenantLimitError::Connections(2)));
        let other = registry.enter("globex", connections(2)).expect("another tenant");
        drop(first);
        let third = registry.enter("acme", connections(2)).expect("a place came back");
        assert_eq!(third.tenant(), "acme");
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
                            most.fetch_max(now, std::sync::atomic::Ordering::Relaxed);
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
        assert_eq!(refused.err(), NonZeroU32::new(2).map(TenantLimitError::Rate));
        assert!(registry.enter("globex", rate(2)).is_ok());
        assert!(registry.enter("acme", rate(3)).is_ok());
        assert!(registry.enter("acme", TenantLimits::default()).is_ok());
    }

    #[test]
    fn names_that_anybody_can_invent_do_not_pile_up() {
        let rate = NonZeroU32::new(1_000_000).expect("not zero");
        let mut rates = Rates::new(rate);
        for n in 0..100_000 {
            rates.check(&format!("tenant {n}")).expect("its first");
        }
        // Each is at rest after a millionth of a second.
        assert!(rates.limiter.len() <= 2 * FIRST_SWEEP, "{}", rates.limiter.len());
    }
}
