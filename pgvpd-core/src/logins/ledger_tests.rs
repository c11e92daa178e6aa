use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds { running: 4, running_per_origin: 2, connections: 300 };

fn origin(last: u8) -> Origin {
    ClientAddress::Ip([192, 0, 2, last].into()).into()
}

#[test]
fn addresses_of_one_customer_are_one_origin() {
    let of = |text: &str| Origin::from(ClientAddress::Ip(text.parse().expect("address")));
    assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
    assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
}

#[test]
fn an_origin_has_its_bound_and_the_latest_is_next() {
    let mut ledger = Ledger::default();
    for id in 1..=5 {
        assert_eq!(ledger.enter(id, origin(1), id, BOUNDS), Ok(None));
    }
    assert!(ledger.start(1, origin(1), BOUNDS) && ledger.start(2, origin(1), BOUNDS));
    assert!(!ledger.start(3, origin(1), BOUNDS) && !ledger.start(4, origin(1), BOUNDS));
    assert_eq!(ledger.counts(), [1, 2, 2, 0, 1]);
    // Another has room.
    assert_eq!(ledger.enter(9, origin(2), 9, BOUNDS), Ok(None));
    assert!(ledger.start(9, origin(2), BOUNDS));
    assert_eq!(ledger.leave(1, origin(1), BOUNDS), [4]);
    assert_eq!(ledger.leave(2, origin(1), BOUNDS), [3]);
    assert_eq!(ledger.leave(2, origin(1), BOUNDS), [] as [u64; 0], "it has left");
}

#[test]
fn slots_of_all_are_given_to_each_origin_in_turn() {
    let mut ledger = Ledger::default();
    let mut next = 0;
    for last in 1..=3 {
        for _ in 0..4 {
            next += 1;
            assert_eq!(ledger.enter(next, origin(last), (last, next), BOUNDS), Ok(None));
            ledger.start(next, origin(last), BOUNDS);
        }
    }
    // Each of the first two has two; the third waits.
    assert_eq!(ledger.leave(1, origin(1), BOUNDS), [(1, 4)]);
    let mut given = Vec::new();
    for (id, last) in [(2, 1), (5, 2), (6, 2)] {
        given.extend(ledger.leave(id, origin(last), BOUNDS).into_iter().map(|(last, _)| last));
    }
    assert_eq!(given, [3, 1, 2]);
}

#[test]
fn a_delayed_refusal_frees_its_slot_until_there_are_too_many() {
    let mut ledger = Ledger::default();
    let bounds = Bounds { running_per_origin: 1, ..BOUNDS };
    for id in 0..7 {
        assert_eq!(ledger.enter(id, origin(1), id, bounds), Ok(None));
        assert!(id == 6 || ledger.start(id, origin(1), bounds), "{id}");
        if id < 5 {
            assert!(ledger.refuse(id, origin(1), bounds).is_empty());
        }
    }
    assert!(!ledger.start(6, origin(1), bounds));
    assert!(ledger.refuse(5, origin(1), bounds).is_empty(), "it holds its slot");
    assert_eq!(ledger.counts(), [0, 1, 1, 5, 1]);
    assert_eq!(ledger.leave(5, origin(1), bounds), [6]);
}

#[test]
fn the_oldest_silent_connection_of_the_busiest_origin_gives_way() {
    let mut ledger = Ledger::default();
    let bounds = Bounds { connections: 5, ..BOUNDS };
    for (id, last) in [(1, 1), (2, 2), (3, 2), (4, 2), (5, 3)] {
        assert_eq!(ledger.enter(id, origin(last), id, bounds), Ok(None));
    }
    assert_eq!(ledger.enter(6, origin(4), 6, bounds), Ok(Some(2)));
    assert_eq!(ledger.enter(7, origin(4), 7, bounds), Ok(Some(3)));
    // One origin alone, at its own bound.
    let bounds = Bounds { running_per_origin: 1, connections: 1000, running: 4 };
    let mut ledger = Ledger::default();
    for id in 0..100 {
        assert_eq!(ledger.enter(id, origin(1), id, bounds), Ok(None));
    }
    assert_eq!(ledger.enter(100, origin(1), 100, bounds), Ok(Some(0)));
    // All are at work: the newcomer has to leave.
    let bounds = Bounds { connections: 2, ..BOUNDS };
    let mut ledger = Ledger::default();
    for id in 0..2 {
        assert_eq!(ledger.enter(id, origin(1), id, bounds), Ok(None));
        assert!(ledger.start(id, origin(1), bounds));
    }
    assert_eq!(ledger.enter(2, origin(2), 2, bounds), Err(()));
}

#[test]
fn a_login_that_keeps_others_waiting_gives_way_once() {
    let mut ledger = Ledger::default();
    for id in 0..4_u64 {
        assert_eq!(ledger.enter(id, origin(1), id, BOUNDS), Ok(None));
        ledger.start(id, origin(1), BOUNDS);
    }
    let slow = |id: &u64| (*id == 1).then_some((*id, Held::Server));
    assert_eq!(ledger.hurry(origin(1), BOUNDS, slow), Some(Hurried::Leaves(1)));
    assert_eq!(ledger.hurry(origin(1), BOUNDS, slow), None, "it leaves already");
    assert_eq!(ledger.leave(1, origin(1), BOUNDS), [3]);
}

#[test]
fn a_slow_login_that_holds_nothing_goes_on_without_a_slot() {
    let mut ledger = Ledger::default();
    for id in 0..4_u64 {
        assert_eq!(ledger.enter(id, origin(1), id, BOUNDS), Ok(None));
        ledger.start(id, origin(1), BOUNDS);
    }
    let slow = |id: &u64| (*id == 1).then_some((*id, Held::Nothing));
    assert_eq!(ledger.hurry(origin(1), BOUNDS, slow), Some(Hurried::Granted(vec![3])));
    assert_eq!(ledger.counts(), [0, 1, 3, 0, 1]);
    assert!(ledger.refuse(1, origin(1), BOUNDS).is_empty());
    assert_eq!(ledger.counts(), [0, 1, 2, 1, 1]);
    assert!(ledger.leave(1, origin(1), BOUNDS).is_empty(), "it had no slot to give");
    assert_eq!(ledger.counts(), [0, 1, 2, 0, 1]);
}

proptest! {
    #[test]
    fn what_is_counted_is_what_is_there(steps in prop::collection::vec((0_u8..6, 0_u64..30), 0..300)) {
        let bounds = Bounds { running: 3, running_per_origin: 2, connections: 20 };
        let mut ledger = Ledger::default();
        let home = |id: u64| origin((id % 3) as u8);
        let mut inside = std::collections::HashSet::new();
        for (what, id) in steps {
            match what {
                0 if !inside.contains(&id) => {
                    if let Ok(displaced) = ledger.enter(id, home(id), id, bounds) {
                        inside.insert(id);
                        displaced.map(|gone| inside.remove(&gone));
                    }
                }
                1 => _ = ledger.start(id, home(id), bounds),
                2 => _ = ledger.refuse(id, home(id), bounds),
                4 => {
                    // The one that leaves goes at once.
                    let slow = |id: &u64| Some((*id, if id.is_multiple_of(2) { Held::Server } else { Held::Nothing }));
                    if let Some(Hurried::Leaves(gone)) = ledger.hurry(home(id), bounds, slow) {
                        ledger.leave(gone, home(gone), bounds);
                        inside.remove(&gone);
                    }
                }
                3 => {
                    ledger.leave(id, home(id), bounds);
                    inside.remove(&id);
                }
                _ => {}
            }
            let [greeting, queued, running, refusing, _] = ledger.counts();
            prop_assert_eq!(greeting + queued + running + refusing, inside.len());
            prop_assert!(ledger.running.len() <= bounds.running && inside.len() <= bounds.connections);
            let of_one = |origin: Origin| ledger.groups.get(&origin).map_or(0, |group| group.running);
            prop_assert!((0..3).all(|last| of_one(origin(last)) <= bounds.running_per_origin));
            // Nobody waits while there is a slot that it may have.
            let may_start = |group: &Group<u64>| !group.queued.is_empty() && group.running < bounds.running_per_origin;
            prop_assert!(ledger.running.len() == bounds.running || !ledger.groups.values().any(may_start));
        }
    }
}
