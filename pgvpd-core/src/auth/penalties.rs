//! Growing delays for those who give wrong passwords.

use std::time::Duration;

use moka::sync::Cache;

use crate::config::ClientAddress;

/// Who is slowed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    pub(crate) address: ClientAddress,
    pub(crate) role: Box<str>,
    pub(crate) tenant: Box<str>,
}

/// The delay after the second failure; each further one doubles it.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// The longest, well below `handshake_timeout`, so that a right password always comes through.
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// How long a failure is remembered.
const REST: Duration = Duration::from_secs(600);

/// Who is remembered at one time: names can be made up, memory cannot.
const MAX_REMEMBERED: u64 = 10_000;

/// Failures of late. A proof is never refused for them, only judged later; and before it is known whether it is right, so that
/// hanging up early gains nothing.
#[derive(Debug, Clone)]
pub(crate) struct Penalties {
    failures: Cache<Attempt, u32>,
}

impl Penalties {
    pub(crate) fn new() -> Self {
        Self { failures: Cache::builder().max_capacity(MAX_REMEMBERED).time_to_idle(REST).build() }
    }

    /// How long this attempt has to wait. One mistake costs nothing.
    pub(crate) fn delay(&self, attempt: &Attempt) -> Duration {
        match self.failures.get(attempt).and_then(|failures| failures.checked_sub(2)) {
            None => Duration::ZERO,
            Some(doublings) => FIRST_DELAY.saturating_mul(1 << doublings.min(16)).min(LONGEST_DELAY),
        }
    }

    /// The proof was wrong.
    pub(crate) fn failed(&self, attempt: &Attempt) {
        let one_more =
            |entry: Option<moka::Entry<Attempt, u32>>| entry.map_or(1, |entry| entry.into_value().saturating_add(1));
        self.failures.entry_by_ref(attempt).and_upsert_with(one_more);
    }

    /// The proof was right.
    pub(crate) fn succeeded(&self, attempt: &Attempt) {
        self.failures.invalidate(attempt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(tenant: &str) -> Attempt {
        Attempt { address: ClientAddress::Unix, role: "app_user".into(), tenant: tenant.into() }
    }

    #[test]
    fn delays_grow_to_a_bound_for_those_who_fail_alone_and_end_with_a_success() {
        let penalties = Penalties::new();
        let mut delays = Vec::new();
        for _ in 0..10 {
            delays.push(penalties.delay(&attempt("acme")).as_millis());
            penalties.failed(&attempt("acme"));
        }
        assert_eq!(delays, [0, 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(penalties.delay(&attempt("globex")), Duration::ZERO);
        let elsewhere = ClientAddress::Ip([192, 0, 2, 1].into());
        assert_eq!(penalties.delay(&Attempt { address: elsewhere, ..attempt("acme") }), Duration::ZERO);
        penalties.succeeded(&attempt("acme"));
        assert_eq!(penalties.delay(&attempt("acme")), Duration::ZERO);
    }

    #[test]
    fn names_that_are_made_up_do_not_pile_up() {
        let penalties = Penalties::new();
        for n in 0..3 * MAX_REMEMBERED {
            penalties.failed(&attempt(&n.to_string()));
        }
        penalties.failures.run_pending_tasks();
        assert!(penalties.failures.entry_count() <= MAX_REMEMBERED);
    }
}
