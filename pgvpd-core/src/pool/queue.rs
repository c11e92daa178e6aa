//! Who waits for a connection of one pool: tenant by tenant in turn, and within a tenant who came first.
//!
//! A tenant with waiters has one turn. When it is served, its next turn is behind those of all tenants that wait then, in this pool
//! and in others: numbers of turns are one sequence for all pools. So a tenant with hundreds of waiters delays another tenant's
//! one waiter by one turn. Coming, leaving and being served take logarithmic time; a tenant without waiters takes no memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

/// The queue of one pool.
#[derive(Debug)]
pub(super) struct Queue<W> {
    /// By ticket.
    waiters: BTreeMap<u64, Waiting<W>>,
    tenants: HashMap<Arc<str>, Line>,
    /// Whose turn it is, by the turn's number.
    turns: BTreeMap<u64, Arc<str>>,
}

/// One who waits.
#[derive(Debug)]
struct Waiting<W> {
    tenant: Arc<str>,
    since: Instant,
    waiter: W,
}

/// Those who wait for one tenant.
#[derive(Debug)]
struct Line {
    turn: u64,
    tickets: BTreeSet<u64>,
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Self { waiters: BTreeMap::new(), tenants: HashMap::new(), turns: BTreeMap::new() }
    }
}

impl<W> Queue<W> {
    /// Enters a waiter. The ticket is greater than any number before; it is the tenant's turn where it has none.
    pub(super) fn enter(&mut self, ticket: u64, tenant: &Arc<str>, since: Instant, waiter: W) {
        let turns = &mut self.turns;
        let line = self.tenants.entry(Arc::clone(tenant)).or_insert_with(|| {
            turns.insert(ticket, Arc::clone(tenant));
            Line { turn: ticket, tickets: BTreeSet::new() }
        });
        line.tickets.insert(ticket);
        self.waiters.insert(ticket, Waiting { tenant: Arc::clone(tenant), since, waiter });
    }

    /// Takes out the waiter whose turn it is. Its tenant's next turn has this number.
    pub(super) fn serve(&mut self, next_turn: u64) -> Option<W> {
        let (_, tenant) = self.turns.pop_first()?;
        let line = self.tenants.get_mut(&tenant)?;
        let ticket = line.tickets.pop_first()?;
        if line.tickets.is_empty() {
            self.tenants.remove(&tenant);
        } else {
            line.turn = next_turn;
            self.turns.insert(next_turn, tenant);
        }
        self.waiters.remove(&ticket).map(|waiting| waiting.waiter)
    }

    /// Takes out a waiter that leaves. False where it is not there any more.
    pub(super) fn leave(&mut self, ticket: u64) -> bool {
        let Some(Waiting { tenant, .. }) = self.waiters.remove(&ticket) else { return false };
        if let Some(line) = self.tenants.get_mut(&tenant) {
            line.tickets.remove(&ticket);
            if line.tickets.is_empty() {
                self.turns.remove(&line.turn);
                self.tenants.remove(&tenant);
            }
        }
        true
    }

    /// Takes out everybody, in the order in which they came.
    pub(super) fn take(&mut self) -> Vec<W> {
        std::mem::take(self).waiters.into_values().map(|waiting| waiting.waiter).collect()
    }

    /// The number of the turn that is next.
    pub(super) fn first_turn(&self) -> Option<u64> {
        self.turns.first_key_value().map(|(turn, _)| *turn)
    }

    /// Since when the one waits that came first.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.waiters.first_key_value().map(|(_, waiting)| waiting.since)
    }

    /// Tenants that wait.
    pub(super) fn tenants(&self) -> usize {
        self.tenants.len()
    }

    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn tenant(number: usize) -> Arc<str> {
        format!("tenant-{number}").into()
    }

    #[test]
    fn one_tenant_with_many_waiters_delays_another_ones_only_waiter_by_one_turn() {
        let mut queue = Queue::default();
        (1..=500).for_each(|ticket| queue.enter(ticket, &tenant(0), Instant::now(), ticket));
        queue.enter(501, &tenant(1), Instant::now(), 501);
        assert_eq!(queue.serve(502), Some(1));
        assert_eq!(queue.serve(503), Some(501));
        assert_eq!(queue.serve(504), Some(2));
    }

    #[derive(Debug, Clone)]
    enum Move {
        Enter(usize),
        Serve,
        Leave(usize),
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let one = prop_oneof![
            3 => (0_usize..4).prop_map(Move::Enter),
            2 => Just(Move::Serve),
            1 => (0_usize..8).prop_map(Move::Leave),
        ];
        proptest::collection::vec(one, 0..200)
    }

    proptest! {
        #[test]
        fn it_serves_as_a_ring_of_lines_does_and_keeps_nothing(moves in moves()) {
            let mut queue = Queue::default();
            // The same, told plainly: tenants in a ring, each with its waiters.
            let mut ring: VecDeque<(usize, VecDeque<u64>)> = VecDeque::new();
            let mut number = 0;
            for step in moves {
                number += 1;
                match step {
                    Move::Enter(name) => {
                        queue.enter(number, &tenant(name), Instant::now(), number);
                        match ring.iter_mut().find(|(other, _)| *other == name) {
                            Some((_, line)) => line.push_back(number),
                            None => ring.push_back((name, VecDeque::from([number]))),
                        }
                    }
                    Move::Serve => {
                        let expected = ring.pop_front().and_then(|(name, mut line)| {
                            let waiter = line.pop_front();
                            if !line.is_empty() {
                                ring.push_back((name, line));
                            }
                            waiter
                        });
                        prop_assert_eq!(queue.serve(number), expected);
                    }
                    Move::Leave(which) => {
                        let all: Vec<u64> = ring.iter().flat_map(|(_, line)| line.iter().copied()).collect();
                        if let Some(ticket) = all.get(which) {
                            prop_assert!(queue.leave(*ticket));
                            prop_assert!(!queue.leave(*ticket));
                            ring.iter_mut().for_each(|(_, line)| line.retain(|waiter| waiter != ticket));
                            ring.retain(|(_, line)| !line.is_empty());
                        }
                    }
                }
                prop_assert_eq!(queue.len(), ring.iter().map(|(_, line)| line.len()).sum::<usize>());
                prop_assert_eq!((queue.tenants.len(), queue.turns.len()), (ring.len(), ring.len()));
            }
        }
    }
}
