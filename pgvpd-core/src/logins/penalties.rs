//! Growing delays of refusals for wrong passwords. A proof is verified at once, and the right one never waits: what is delayed is the
//! answer to a wrong one.

use std::hash::{BuildHasher, Hash, RandomState};
use std::time::Duration;

use moka::sync::Cache;

use super::Origin;
use crate::address::ClientAddress;

/// Who is slowed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    pub(crate) address: ClientAddress,
    pub(crate) role: Box<str>,
    pub(crate) tenant: Box<str>,
}

/// The delay of the second failure; each further one doubles it.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// The longest.
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// How long a failure is remembered.
const REST: Duration = Duration::from_secs(600);

/// Entries that are remembered at one time: names can be made up, memory cannot.
const MAX_REMEMBERED: u64 = 40_000;

/// What failures are counted by. One person's mistakes are those of an address, a role and a tenant; a guesser changes any of them.
#[derive(Debug, Hash)]
enum Key<'a> {
    Attempt(Origin, &'a str, &'a str),
    AddressAndRole(Origin, &'a str),
    Address(Origin),
    Role(&'a str),
    Tenant(&'a str, &'a str),
}

impl Key<'_> {
    /// Failures that cost nothing. Several people share an address, a role and a tenant.
    fn free(&self) -> u32 {
        match self {
            Self::Attempt(..) => 1,
            Self::AddressAndRole(..) => 3,
            Self::Address(_) | Self::Role(_) | Self::Tenant(..) => 10,
        }
    }
}

/// Recent failures.
#[derive(Debug, Clone)]
pub(crate) struct Penalties {
    /// By a keyed hash: names have any length.
    failures: Cache<u64, u32>,
    hasher: RandomState,
}

impl Penalties {
    pub(crate) fn new() -> Self {
        let failures = Cache::builder().max_capacity(MAX_REMEMBERED).time_to_idle(REST).build();
        Self { failures, hasher: RandomState::new() }
    }

    /// Counts a wrong proof, and returns how long its refusal is to be delayed.
    pub(crate) fn failed(&self, attempt: &Attempt) -> Duration {
        let Attempt { address, role, tenant } = attempt;
        let origin = Origin::from(*address);
        let keys = [
            Key::Attempt(origin, role, tenant),
            Key::AddressAndRole(origin, role),
            Key::Address(origin),
            Key::Role(role),
            Key::Tenant(role, tenant),
        ];
        let delays = keys.iter().map(|key| {
            let one_more =
                |entry: Option<moka::Entry<u64, u32>>| entry.map_or(1, |entry| entry.into_value().saturating_add(1));
            let failures = self.failures.entry(self.hash(key)).and_upsert_with(one_more).into_value();
            delay_after(failures.saturating_sub(key.free()))
        });
        delays.max().unwrap_or(LONGEST_DELAY)
    }

    /// The proof was right: the mistakes before it were its owner's. Those that are counted for others as well stay.
    pub(crate) fn succeeded(&self, attempt: &Attempt) {
        let key = Key::Attempt(attempt.address.into(), &attempt.role, &attempt.tenant);
        self.failures.invalidate(&self.hash(&key));
    }

    fn hash(&self, key: &Key<'_>) -> u64 {
        self.hasher.hash_one(key)
    }
}

/// The delay after this many failures too many.
fn delay_after(failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => FIRST_DELAY.saturating_mul(1 << doublings.min(16)).min(LONGEST_DELAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a guesser changes, and its attempts.
    type Changing = (&'static str, fn(u32) -> Attempt);

    fn attempt(tenant: &str) -> Attempt {
        Attempt { address: ClientAddress::Unix, role: "app_user".into(), tenant: tenant.into() }
    }

    fn elsewhere(last: u8) -> ClientAddress {
        ClientAddress::Ip([192, 0, 2, last].into())
    }

    #[test]
    fn delays_grow_to_a_bound_and_end_with_a_success() {
        let penalties = Penalties::new();
        let delays: Vec<_> = (0..9).map(|_| penalties.failed(&attempt("acme")).as_millis()).collect();
        assert_eq!(delays, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        let other = Attempt { address: elsewhere(1), role: "reporting".into(), tenant: "globex".into() };
        assert_eq!(penalties.failed(&other), Duration::ZERO, "nothing of it is the same");

        let forgiven = Penalties::new();
        forgiven.failed(&attempt("acme"));
        forgiven.succeeded(&attempt("acme"));
        assert_eq!(forgiven.failed(&attempt("acme")), Duration::ZERO);
    }

    #[test]
    fn a_guesser_is_slowed_whatever_it_changes() {
        let of = |role: String, tenant: String, last: u8| Attempt {
            address: elsewhere(last),
            role: role.into(),
            tenant: tenant.into(),
        };
        let fixed = |text: &str| text.to_owned();
        let changing: [Changing; 4] = [
            ("the tenant", |n| Attempt {
                address: elsewhere(1),
                role: "app_user".into(),
                tenant: n.to_string().into(),
            }),
            ("role and tenant", |n| Attempt {
                address: elsewhere(1),
                role: n.to_string().into(),
                tenant: n.to_string().into(),
            }),
            ("address and tenant", |n| Attempt {
                address: elsewhere(n as u8),
                role: "app_user".into(),
                tenant: n.to_string().into(),
            }),
            ("the address", |n| Attempt {
                address: elsewhere(n as u8),
                role: "app_user".into(),
                tenant: "acme".into(),
            }),
        ];
        for (what, attempt) in changing {
            let penalties = Penalties::new();
            let delays: Vec<_> = (0..30).map(|n| penalties.failed(&attempt(n))).collect();
            assert_eq!(delays.last(), Some(&LONGEST_DELAY), "{what}");
        }
        // Nor does a credential of its own help.
        let penalties = Penalties::new();
        for n in 0..30 {
            penalties.failed(&of(fixed("app_user"), n.to_string(), 1));
            penalties.succeeded(&of(fixed("app_user"), fixed("own"), 1));
        }
        assert_eq!(penalties.failed(&of(fixed("app_user"), fixed("next"), 1)), LONGEST_DELAY);
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
