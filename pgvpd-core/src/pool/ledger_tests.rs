//! The books, move by move, and under any sequence of moves.

use proptest::prelude::*;

use super::*;

type Books = Ledger<String, u32, u32, &'static str>;

fn limits(size: usize, max: usize) -> PoolLimits {
    let seconds = Duration::from_secs;
    PoolLimits {
        size,
        max_upstream_connections: max,
        min_size: 0,
        idle_timeout: seconds(300),
        checkout_timeout: seconds(5),
        server_lifetime: seconds(3600),
        server_check_delay: seconds(30),
    }
}

fn key(name: &str) -> Arc<String> {
    Arc::new(name.into())
}

fn tenant() -> Arc<str> {
    "acme".into()
}

fn later(seconds: f64) -> Instant {
    *START + Duration::from_secs_f64(seconds)
}

static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);

fn until(seconds: f64) -> Term {
    Term { epoch: 0, expires: later(seconds) }
}

fn never() -> Term {
    until(1e6)
}

impl<C, E> Turn<C, E> {
    fn ticket(&self) -> Option<u64> {
        match self {
            Self::Wait(ticket) => Some(*ticket),
            _ => None,
        }
    }
}

/// Asks for a connection that there is not; gives the ticket.
fn wait(books: &mut Books, pool: &Arc<String>, waiter: u32) -> u64 {
    wait_from(books, pool, waiter, 0.0)
}

fn wait_from(books: &mut Books, pool: &Arc<String>, waiter: u32, now: f64) -> u64 {
    match books.ask(pool, &tenant(), || waiter, later(now)) {
        Turn::Wait(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

fn planned(books: &mut Books, limits: &PoolLimits, now: f64) -> (Vec<String>, Vec<u32>) {
    let plan = books.plan(limits, later(now));
    (plan.connect.iter().map(|key| key.to_string()).collect(), plan.close)
}

#[test]
fn a_burst_makes_as_many_connections_as_the_pool_has_and_serves_in_order() {
    let (mut books, limits, pool) = (Books::default(), limits(20, 100), key("a"));
    for waiter in 0..500 {
        wait(&mut books, &pool, waiter);
    }
    assert_eq!(planned(&mut books, &limits, 0.0).0.len(), 20);
    assert_eq!(planned(&mut books, &limits, 0.0).0.len(), 0, "no more while they are being made");
    for connection in 0..20 {
        books.connected(&pool);
        let offer = books.offer(&pool, connection, never(), &limits, later(0.0));
        assert!(matches!(offer, Offer::Hand(_, waiter) if waiter == connection), "{offer:?}");
    }
    // The twenty are used over and over.
    for waiter in 20..500 {
        let offer = books.offer(&pool, waiter % 20, never(), &limits, later(0.0));
        assert!(matches!(offer, Offer::Hand(_, served) if served == waiter), "{offer:?}");
    }
    assert_eq!(books.figures(), PoolFigures { total: 20, idle: 0, waiting: 0 });
}

#[test]
fn the_connection_used_last_is_used_next() {
    let (mut books, limits, pool) = (Books::default(), limits(2, 2), key("a"));
    wait(&mut books, &pool, 1);
    wait(&mut books, &pool, 2);
    planned(&mut books, &limits, 0.0);
    for connection in [10, 20] {
        books.connected(&pool);
        books.offer(&pool, connection, never(), &limits, later(0.0));
    }
    for connection in [20, 10] {
        assert!(matches!(books.offer(&pool, connection, never(), &limits, later(1.0)), Offer::Kept { .. }));
    }
    assert!(matches!(books.ask(&pool, &tenant(), || 0, later(2.0)), Turn::Reuse(Idle { connection: 10, .. })));
}

#[test]
fn a_waiter_that_leaves_takes_its_demand_along() {
    let (mut books, limits, pool) = (Books::default(), limits(5, 5), key("a"));
    let tickets: Vec<u64> = (0..5).map(|waiter| wait(&mut books, &pool, waiter)).collect();
    assert!(books.leave(&pool, tickets[0]) && books.leave(&pool, tickets[3]));
    assert!(!books.leave(&pool, tickets[0]), "once");
    assert_eq!(planned(&mut books, &limits, 0.0).0.len(), 3);
    books.connected(&pool);
    assert!(matches!(books.offer(&pool, 7, never(), &limits, later(0.0)), Offer::Hand(7, 1)));
    assert!(!books.leave(&pool, tickets[1]), "its turn has come");
}

#[test]
fn room_is_made_by_closing_what_other_pools_have_idle_longest() {
    let (mut books, limits) = (Books::default(), limits(2, 3));
    let (a, b, c) = (key("a"), key("b"), key("c"));
    let made = [(&a, 1, 1.0), (&b, 2, 2.0), (&b, 3, 3.0)];
    for (pool, connection, _) in made {
        wait(&mut books, pool, 0);
        planned(&mut books, &limits, 0.0);
        books.connected(pool);
        books.offer(pool, connection, never(), &limits, later(0.0));
    }
    for (pool, connection, at) in made {
        assert!(matches!(books.offer(pool, connection, never(), &limits, later(at)), Offer::Kept { .. }));
    }
    wait(&mut books, &c, 9);
    assert_eq!(planned(&mut books, &limits, 4.0), (vec!["c".to_owned()], vec![1]));
    assert_eq!(books.figures().total, 3);
}

#[test]
fn the_pool_whose_tenants_turn_is_next_gets_the_room() {
    let (mut books, limits) = (Books::default(), limits(5, 2));
    let (a, b) = (key("a"), key("b"));
    for waiter in 0..2 {
        wait(&mut books, &a, waiter);
    }
    assert_eq!(planned(&mut books, &limits, 0.0).0, ["a", "a"]);
    wait(&mut books, &b, 5);
    wait(&mut books, &a, 6);
    books.connected(&a);
    assert!(matches!(books.offer(&a, 0, never(), &limits, later(0.0)), Offer::Hand(0, 0)));
    // The next one of `a` comes to be when the tenant of `b`, which has none at all, has its turn.
    books.connected(&a);
    assert!(matches!(books.offer(&a, 1, never(), &limits, later(0.0)), Offer::Close(1)));
    assert_eq!(planned(&mut books, &limits, 0.0).0, ["b"]);
    // Now it has one, and `a` keeps its own.
    assert!(matches!(books.offer(&a, 0, never(), &limits, later(0.0)), Offer::Hand(0, 1)));
}

#[test]
fn while_the_server_is_down_it_is_tried_one_at_a_time_with_growing_pauses() {
    let (mut books, limits, pool) = (Books::default(), limits(5, 5), key("a"));
    let error = Arc::new("down");
    for waiter in 0..3 {
        wait(&mut books, &pool, waiter);
    }
    assert_eq!(planned(&mut books, &limits, 0.0).0.len(), 3);
    assert_eq!(books.failed(&pool, &error, false, later(0.0)), (vec![], true), "others are still being made");
    assert_eq!(books.failed(&pool, &error, false, later(0.0)), (vec![], false));
    assert_eq!(books.failed(&pool, &error, false, later(0.0)), (vec![0, 1, 2], false));
    assert!(matches!(books.ask(&pool, &tenant(), || 3, later(0.1)), Turn::Failed(_)), "at once, while the pause lasts");
    let mut pauses = Vec::new();
    let mut now = 0.2;
    for waiter in 4..9 {
        assert!(books.ask(&pool, &tenant(), || waiter, later(now)).ticket().is_some());
        assert!(books.ask(&pool, &tenant(), || 100 + waiter, later(now)).ticket().is_some());
        assert_eq!(planned(&mut books, &limits, now).0.len(), 1, "one tries for both");
        assert_eq!(books.failed(&pool, &error, false, later(now)).0.len(), 2);
        let until = books.pools.get(&pool).and_then(|pool| pool.failure.as_ref()).expect("failure").until;
        pauses.push(until.duration_since(later(now)).as_millis());
        now += 1.0;
    }
    assert_eq!(pauses, [400, 500, 500, 500, 500]);
    assert!(books.ask(&pool, &tenant(), || 9, later(now)).ticket().is_some());
    planned(&mut books, &limits, now);
    assert!(books.connected(&pool), "it had failed before");
    assert_eq!(books.figures().total, 1);
}

#[test]
fn a_pause_that_is_over_is_no_time_to_wake_at_while_the_next_attempt_lasts() {
    let (mut books, limits, pool) = (Books::default(), limits(5, 5), key("a"));
    wait(&mut books, &pool, 0);
    planned(&mut books, &limits, 0.0);
    books.failed(&pool, &Arc::new("down"), false, later(0.0));
    for waiter in 1..3 {
        wait_from(&mut books, &pool, waiter, 0.06);
    }
    assert_eq!(books.next_attempt(later(0.01)), Some(later(0.05)), "not planned since");
    assert_eq!(planned(&mut books, &limits, 0.06).0.len(), 1);
    assert_eq!(books.next_attempt(later(0.06)), None, "it would be over at once, again and again");
    books.failed(&pool, &Arc::new("down"), false, later(7.0));
    wait_from(&mut books, &pool, 3, 7.2);
    assert_eq!(books.next_attempt(later(7.0)), Some(later(7.1)));
}

#[test]
fn those_who_can_still_get_a_connection_are_not_told_of_a_failure() {
    let (mut books, limits, pool) = (Books::default(), limits(5, 5), key("a"));
    wait(&mut books, &pool, 1);
    planned(&mut books, &limits, 0.0);
    books.connected(&pool);
    books.offer(&pool, 10, never(), &limits, later(0.0));
    wait(&mut books, &pool, 2);
    planned(&mut books, &limits, 0.0);
    assert_eq!(books.failed(&pool, &Arc::new("too many"), true, later(0.0)).0, [0_u32; 0]);
    assert!(matches!(books.offer(&pool, 10, never(), &limits, later(0.0)), Offer::Hand(10, 2)));
}

#[test]
fn what_is_old_idle_for_long_or_dead_is_closed_and_a_pool_with_nothing_is_forgotten() {
    let mut limits = limits(5, 5);
    let (mut books, pool) = (Books::default(), key("a"));
    for connection in 0..4 {
        wait(&mut books, &pool, connection);
    }
    planned(&mut books, &limits, 0.0);
    for connection in 0..4 {
        books.connected(&pool);
        books.offer(&pool, connection, never(), &limits, later(0.0));
    }
    assert!(matches!(books.offer(&pool, 0, until(5.0), &limits, later(10.0)), Offer::Close(0)), "past its lifetime");
    for (connection, term) in [(1, until(50.0)), (2, never()), (3, never())] {
        books.offer(&pool, connection, term, &limits, later(10.0));
    }
    limits.min_size = 1;
    assert_eq!(books.sweep(&limits, later(20.0), |connection| *connection != 3), [3]);
    assert_eq!(books.sweep(&limits, later(60.0), |_| true), [1]);
    assert_eq!(books.sweep(&limits, later(1000.0), |_| true), [0; 0], "kept warm");
    limits.min_size = 0;
    assert_eq!(books.sweep(&limits, later(1000.0), |_| true), [2]);
    assert!(books.pools.is_empty() && books.total == 0);
}

#[test]
fn a_pool_that_worked_is_kept_warm_and_one_that_is_refused_is_not() {
    let mut limits = limits(5, 5);
    limits.min_size = 3;
    let (mut books, pool) = (Books::default(), key("a"));
    wait(&mut books, &pool, 0);
    assert_eq!(planned(&mut books, &limits, 0.0).0.len(), 1, "not before the first one works");
    books.connected(&pool);
    books.offer(&pool, 0, never(), &limits, later(0.0));
    assert_eq!(planned(&mut books, &limits, 0.0).0.len(), 2);
    let error = Arc::new("no such role");
    books.failed(&pool, &error, true, later(0.0));
    books.failed(&pool, &error, true, later(0.0));
    assert_eq!(planned(&mut books, &limits, 10.0).0.len(), 0);
}

#[test]
fn retired_connections_are_neither_given_nor_kept_and_newer_ones_are() {
    let mut limits = limits(4, 8);
    let (mut books, a, b) = (Books::default(), key("a"), key("b"));
    for pool in [&a, &a, &a, &b] {
        wait(&mut books, pool, 0);
    }
    planned(&mut books, &limits, 0.0);
    for (pool, connection) in [(&a, 1), (&a, 2), (&b, 4)] {
        books.connected(pool);
        assert!(matches!(books.offer(pool, connection, never(), &limits, later(0.0)), Offer::Hand(_, 0)));
    }
    books.offer(&b, 4, never(), &limits, later(0.0));
    // One of `a` is being made, with somebody waiting for it, two are in use.
    books.connected(&a);
    let handed = books.offer(&a, 3, never(), &limits, later(0.0));
    assert!(matches!(handed, Offer::Hand(3, 0)));
    books.offer(&a, 3, never(), &limits, later(0.0));
    assert_eq!(books.retire(|pool| pool == "a", false), (vec![3], 2));
    assert!(books.is_retired(&a, 0) && !books.is_retired(&b, 0) && !books.is_retired(&a, books.epoch()));
    let newer = Term { epoch: books.epoch(), ..never() };
    assert!(matches!(books.offer(&a, 1, never(), &limits, later(0.0)), Offer::Close(1)), "in use until now");
    wait(&mut books, &a, 7);
    assert_eq!(planned(&mut books, &limits, 0.0).0, ["a"]);
    books.connected(&a);
    assert!(matches!(books.offer(&a, 2, never(), &limits, later(0.0)), Offer::Close(2)), "though somebody waits");
    assert!(matches!(books.offer(&a, 5, newer, &limits, later(0.0)), Offer::Hand(5, 7)));
    assert!(matches!(books.offer(&a, 5, newer, &limits, later(0.0)), Offer::Kept { .. }));
    assert!(matches!(books.ask(&b, &tenant(), || 0, later(0.0)), Turn::Reuse(Idle { connection: 4, .. })), "not meant");

    // Of a database that is closed none is made in advance, and its pool is forgotten.
    limits.min_size = 2;
    let mut warm = planned(&mut books, &limits, 0.0).0;
    warm.sort_unstable();
    assert_eq!(warm, ["a", "b"]);
    assert_eq!(books.retire(|pool| pool == "a", true), (vec![5], 1));
    assert_eq!(books.failed(&a, &Arc::new("down"), false, later(0.0)).0, [0; 0]);
    assert_eq!(planned(&mut books, &limits, 10.0).0, [""; 0]);
    books.sweep(&limits, later(10.0), |_| true);
    assert!(!books.pools.contains_key(&a));
}

#[derive(Debug, Clone)]
enum Move {
    Ask(usize),
    Leave(usize),
    Plan,
    Made(usize),
    NotMade(usize, bool),
    GiveBack(usize),
    Drop(usize),
    Sweep(u32),
    Retire(usize, bool),
    Wait(u16),
}

fn any_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        4 => (0_usize..3).prop_map(Move::Ask),
        1 => any::<usize>().prop_map(Move::Leave),
        3 => Just(Move::Plan),
        3 => any::<usize>().prop_map(Move::Made),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(which, refused)| Move::NotMade(which, refused)),
        3 => any::<usize>().prop_map(Move::GiveBack),
        1 => any::<usize>().prop_map(Move::Drop),
        1 => any::<u32>().prop_map(Move::Sweep),
        1 => (0_usize..3, any::<bool>()).prop_map(|(pool, is_closing)| Move::Retire(pool, is_closing)),
        1 => any::<u16>().prop_map(Move::Wait),
    ]
}

/// Takes one of them, if there is any.
fn take<T>(of: &mut Vec<T>, which: usize) -> Option<T> {
    (!of.is_empty()).then(|| of.swap_remove(which % of.len()))
}

proptest! {
    #[test]
    fn no_place_is_lost_or_made_up_whatever_happens(
        moves in prop::collection::vec(any_move(), 1..200),
        size in 1_usize..4,
        max in 1_usize..8,
        min in 0_usize..2,
    ) {
        let limits = PoolLimits { min_size: min.min(size), ..limits(size, max) };
        let (mut books, pools) = (Books::default(), [key("a"), key("b"), key("c")]);
        let (mut connecting, mut leased, mut tickets) = (Vec::new(), Vec::new(), Vec::new());
        let (mut next, mut now) = (0_u32, 0.0);
        for step in moves {
            let mut offered = None;
            match step {
                Move::Ask(pool) => match books.ask(&pools[pool], &tenant(), || next, later(now)) {
                    Turn::Reuse(idle) => leased.push((Arc::clone(&pools[pool]), idle.connection)),
                    Turn::Wait(ticket) => tickets.push((Arc::clone(&pools[pool]), ticket, next)),
                    Turn::Failed(_) => {}
                },
                Move::Leave(which) => if let Some((pool, ticket, _)) = take(&mut tickets, which) {
                    prop_assert!(books.leave(&pool, ticket));
                },
                Move::Plan => connecting.extend(books.plan(&limits, later(now)).connect),
                Move::Made(which) => if let Some(pool) = take(&mut connecting, which) {
                    books.connected(&pool);
                    offered = Some((pool, next));
                },
                Move::NotMade(which, refused) => if let Some(pool) = take(&mut connecting, which) {
                    let (told, _) = books.failed(&pool, &Arc::new("no"), refused, later(now));
                    tickets.retain(|(_, _, waiter)| !told.contains(waiter));
                },
                Move::GiveBack(which) => offered = take(&mut leased, which),
                Move::Drop(which) => if let Some((pool, _)) = take(&mut leased, which) {
                    books.vacate(&pool, false);
                },
                Move::Sweep(dead) => drop(books.sweep(&limits, later(now), |connection| connection % 5 != dead % 5)),
                Move::Retire(pool, is_closing) => {
                    let (idle, follow) = books.retire(|key| *key == *pools[pool], is_closing);
                    let used = leased.iter().map(|(of, _)| of).chain(&connecting).filter(|of| **of == pools[pool]).count();
                    prop_assert_eq!(follow, used);
                    prop_assert!(idle.iter().all(|connection| leased.iter().all(|(_, other)| other != connection)));
                }
                Move::Wait(milliseconds) => now += f64::from(milliseconds) / 100.0,
            }
            if let Some((pool, connection)) = offered {
                let first = tickets.iter().filter(|(of, ..)| *of == pool).min_by_key(|(_, ticket, _)| *ticket);
                let first = first.map(|(_, _, waiter)| *waiter);
                match books.offer(&pool, connection, never(), &limits, later(now)) {
                    Offer::Hand(connection, waiter) => {
                        prop_assert_eq!(Some(waiter), first, "who came first is served first");
                        tickets.retain(|(_, _, other)| *other != waiter);
                        leased.push((pool, connection));
                    }
                    Offer::Kept { .. } => prop_assert_eq!(first, None, "nobody waits beside an idle connection"),
                    Offer::Close(_) => {}
                }
            }
            next += 1;
            let figures = books.figures();
            prop_assert_eq!(figures.total, figures.idle + connecting.len() + leased.len());
            prop_assert_eq!(figures.waiting, tickets.len());
            prop_assert!(figures.total <= max);
            for pool in books.pools.values() {
                prop_assert!(pool.size() <= size && pool.connecting <= pool.places);
                prop_assert!(pool.idle.is_empty() || pool.waiting.is_empty());
            }
        }
        // When everybody has gone, nothing is left.
        for (pool, ticket, _) in tickets {
            books.leave(&pool, ticket);
        }
        leased.iter().for_each(|(pool, _)| books.vacate(pool, false));
        connecting.iter().for_each(|pool| books.vacate(pool, true));
        books.drain();
        prop_assert_eq!(books.figures(), PoolFigures::default());
    }
}

/// Asks for a connection that there is not, for this tenant.
fn wait_as(books: &mut Books, pool: &Arc<String>, tenant: &str, waiter: u32) {
    assert!(books.ask(pool, &tenant.into(), || waiter, later(0.0)).ticket().is_some());
}

/// Who gets the connection that is offered.
fn handed(books: &mut Books, pool: &Arc<String>, limits: &PoolLimits) -> Option<u32> {
    match books.offer(pool, 7, never(), limits, later(0.0)) {
        Offer::Hand(_, waiter) => Some(waiter),
        Offer::Close(_) | Offer::Kept { .. } => None,
    }
}

#[test]
fn a_tenant_with_500_waiters_delays_another_ones_only_waiter_by_one_turn() {
    let (mut books, limits, pool) = (Books::default(), limits(1, 1), key("a"));
    (0..500).for_each(|waiter| wait_as(&mut books, &pool, "acme", waiter));
    assert_eq!(planned(&mut books, &limits, 0.0).0, ["a"]);
    books.connected(&pool);
    wait_as(&mut books, &pool, "globex", 1000);
    let order: Vec<_> = (0..4).map(|_| handed(&mut books, &pool, &limits)).collect();
    assert_eq!(order, [Some(0), Some(1000), Some(1), Some(2)]);
}

#[test]
fn the_same_holds_where_each_tenant_has_a_pool_of_its_own() {
    let (mut books, limits, acme, globex) = (Books::default(), limits(1, 1), key("acme"), key("globex"));
    (0..500).for_each(|waiter| wait_as(&mut books, &acme, "acme", waiter));
    assert_eq!(planned(&mut books, &limits, 0.0).0, ["acme"]);
    books.connected(&acme);
    wait_as(&mut books, &globex, "globex", 1000);
    assert_eq!(handed(&mut books, &acme, &limits), Some(0));
    // The place of acme's connection is globex's now.
    assert_eq!(handed(&mut books, &acme, &limits), None);
    assert_eq!(planned(&mut books, &limits, 0.0).0, ["globex"]);
    books.connected(&globex);
    assert_eq!(handed(&mut books, &globex, &limits), Some(1000));
}

#[test]
fn paused_pools_give_and_keep_nothing_and_go_on_where_they_were() {
    let (mut books, limits, pool) = (Books::default(), limits(2, 2), key("a"));
    wait(&mut books, &pool, 1);
    wait(&mut books, &pool, 2);
    planned(&mut books, &limits, 0.0);
    (0..2).for_each(|_| _ = books.connected(&pool));
    assert_eq!(handed(&mut books, &pool, &limits), Some(1));
    books.offer(&pool, 20, never(), &limits, later(0.0));
    books.offer(&pool, 20, never(), &limits, later(0.0));
    assert_eq!(books.pause(), [20], "what was idle");
    wait(&mut books, &pool, 3);
    assert_eq!(planned(&mut books, &limits, 0.0).0.len(), 0);
    assert!(matches!(books.offer(&pool, 10, never(), &limits, later(0.0)), Offer::Close(10)));
    assert_eq!(books.figures(), PoolFigures { total: 0, idle: 0, waiting: 1 });
    books.resume();
    assert_eq!(planned(&mut books, &limits, 0.0).0, ["a"]);
    books.connected(&pool);
    assert_eq!(handed(&mut books, &pool, &limits), Some(3));
}

#[test]
fn connections_to_be_made_are_shared_out_in_turn() {
    let (mut books, limits, acme, globex) = (Books::default(), limits(5, 4), key("acme"), key("globex"));
    (0..500).for_each(|waiter| wait_as(&mut books, &acme, "acme", waiter));
    (0..2).for_each(|waiter| wait_as(&mut books, &globex, "globex", waiter));
    assert_eq!(planned(&mut books, &limits, 0.0).0, ["acme", "globex", "acme", "globex"]);
}
