//! Conversations by hand, and a model of a server that is given every message in every order.

use proptest::prelude::*;

use super::*;

/// Plays a conversation: upper part of a step is what the client sends, lower what the server answers, and after it whether
/// anything is outstanding.
fn play(steps: &[(&[u8], &[u8], bool)]) -> Tracker {
    let mut tracker = Tracker::default();
    for (number, (requests, answers, outstanding)) in steps.iter().enumerate() {
        requests.iter().for_each(|&message| tracker.request(message));
        for &message in *answers {
            assert_eq!(tracker.answer(message), Ok(()), "step {number}: {tracker:?}");
        }
        assert_eq!(tracker.is_outstanding(), *outstanding, "step {number}: {tracker:?}");
    }
    tracker
}

#[test]
fn simple_queries_are_outstanding_until_their_last_ready_for_query() {
    play(&[(b"Q", b"", true), (b"", b"TDDC", true), (b"", b"Z", false)]);
    play(&[(b"QQQ", b"TDCZTDCZ", true), (b"", b"EZ", false)]);
    play(&[(b"F", b"VZ", false), (b"", b"AAN", false)]);
}

#[test]
fn extended_queries_are_outstanding_until_each_message_or_the_sync_is_answered() {
    play(&[(b"PBDES", b"12TDDC", true), (b"", b"Z", false)]);
    play(&[
        (b"PDH", b"1", true),
        (b"", b"tT", false),
        (b"BEH", b"2Ds", false),
        (b"ES", b"C", true),
        (b"", b"Z", false),
    ]);
    play(&[(b"PBESPBESPBES", b"12CZ12CZ", true), (b"", b"E", true), (b"", b"Z", false)]);
    // Flushed behind a Sync: the answers to what came before do not count for it.
    play(&[(b"PBESPBEH", b"12C", true), (b"", b"Z", true), (b"", b"12C", false), (b"S", b"Z", false)]);
}

#[test]
fn after_an_error_the_server_skips_to_the_sync() {
    play(&[(b"PBEH", b"E", false), (b"PBE", b"", false), (b"S", b"", true), (b"", b"Z", false)]);
    play(&[(b"PBEH", b"E", false), (b"S", b"Z", false), (b"PBEH", b"12", true), (b"", b"C", false)]);
    // A query, too, is skipped there.
    play(&[(b"PBEQ", b"E", false), (b"QF", b"", false), (b"S", b"Z", false)]);
    play(&[(b"PBEQPBES", b"E", true), (b"", b"Z", false)]);
}

#[test]
fn syncs_are_owed_for_where_no_copy_has_begun() {
    let answers = [b"12".to_vec(), vec![b'C'], b"Z".repeat(49)].concat();
    for end in [b'c', b'f'] {
        let requests = [b"PBE".to_vec(), b"S".repeat(50), vec![end]].concat();
        play(&[(&requests, b"", true), (&[end], &answers, true), (&[end], b"Z", false)]);
        play(&[(&requests, b"12E", true), (b"", &b"Z".repeat(49), true), (b"", b"Z", false)]);
    }
    play(&[(b"PBESSc", b"12", true), (b"Sc", b"C", true), (b"", b"ZZ", true), (b"", b"Z", false)]);
    // The client says so, and another request is what copies.
    play(&[(b"PBESSc", b"12", true), (b"PBES", b"CZ", true), (b"", b"Z", true), (b"", b"12G", true)]);
}

#[test]
fn a_sync_that_copy_mode_ignores_does_not_stay_outstanding() {
    play(&[(b"PBES", b"12G", true), (b"dddcS", b"C", true), (b"", b"Z", false)]);
    play(&[(b"Q", b"G", true), (b"ddc", b"C", true), (b"", b"Z", false)]);
    play(&[(b"Q", b"G", true), (b"df", b"E", true), (b"", b"Z", false)]);
    play(&[(b"Q", b"G", true), (b"SdSdScSS", b"C", true), (b"", b"ZZ", true), (b"", b"Z", false)]);
    play(&[(b"PBES", b"12HdddcC", true), (b"", b"Z", false)]);
    // Sent ahead of CopyInResponse.
    play(&[(b"PBESdSdScS", b"12", true), (b"", b"GC", true), (b"", b"Z", false)]);
    play(&[(b"QScSScPBES", b"G", true), (b"", b"CGC", true), (b"", b"Z12CZ", false)]);
}

#[test]
fn a_sync_that_a_failed_copy_may_have_ignored_stays_until_the_next_answer() {
    for end in [b"c", b"f"] {
        let failed = play(&[(b"PBES", b"12G", true), (b"d", b"", true), (end, b"", true), (b"S", b"EZ", true)]);
        assert!(!failed.owes_answer() && failed.is_synced());
        assert_eq!(failed.spare_ready(), 1);
        // The COPY had read it.
        let mut read = failed.clone();
        b"PBES".iter().for_each(|&message| read.request(message));
        b"12CZ".iter().for_each(|&message| read.answer(message).expect("expected"));
        assert!(!read.is_outstanding());
        // It had not: a trigger for the statement failed before the first row.
        let mut unread = failed;
        b"PBES".iter().for_each(|&message| unread.request(message));
        b"Z12C".iter().for_each(|&message| unread.answer(message).expect("expected"));
        assert!(unread.is_outstanding());
        assert_eq!(unread.answer(b'Z'), Ok(()));
        assert!(!unread.is_outstanding());
    }
    let gone = play(&[(b"PBES", b"12G", true), (b"d", b"E", true)]);
    assert!(!gone.owes_answer() && !gone.is_synced() && !gone.is_copying_in());
}

#[test]
fn flush_asks_for_nothing_and_a_query_ends_what_was_not_synced() {
    assert!(play(&[(b"PBESH", b"12CZ", false)]).is_synced());
    assert!(!play(&[(b"PBEH", b"12C", false)]).is_synced());
    assert!(play(&[(b"PBEHQ", b"12CCZ", false)]).is_synced());
    assert!(!play(&[(b"PBEHQ", b"E", false)]).is_synced());
    assert!(!play(&[(b"PBES", b"12G", true), (b"c", b"C", false)]).is_synced());
}

#[test]
fn what_nobody_asked_for_is_an_error() {
    for (requests, answers) in [
        (&b""[..], &b"Z"[..]),
        (b"Q", b"CZZ"),
        (b"", b"C"),
        (b"S", b"1"),
        (b"PBE", b"12Z"),
        (b"PBES", b"12CC"),
        (b"Q", b"GZ"),
        (b"Q", b"GC"),
        (b"Qc", b"GGC"),
        (b"S", b"G"),
    ] {
        let mut tracker = Tracker::default();
        requests.iter().for_each(|&message| tracker.request(message));
        let (last, before) = answers.split_last().expect("some");
        let taken = before.iter().map(|&message| tracker.answer(message)).find(Result::is_err);
        let taken = taken.unwrap_or_else(|| tracker.answer(*last));
        assert!(matches!(taken, Err(WireError::Unasked(_))), "{requests:?} {answers:?} {tracker:?}");
    }
}

#[test]
fn deep_pipelines_take_no_room_and_copies_a_bounded_one() {
    let mut tracker = Tracker::default();
    for _ in 0..100_000 {
        b"PBDESPDSQFSBE".iter().for_each(|&message| tracker.request(message));
        tracker.request(b'S');
        assert!(tracker.queue.len() <= 3, "{tracker:?}");
    }
    let mut tracker = Tracker::default();
    for _ in 0..MAX_ENTRIES {
        b"Qc".iter().for_each(|&message| tracker.request(message));
        assert!(tracker.queue.len() <= MAX_ENTRIES && tracker.is_outstanding());
    }
    assert!(tracker.has_lost_count());
    b"CZZZ".iter().for_each(|&message| tracker.answer(message).expect("nothing is known"));
    assert!(tracker.is_outstanding() && tracker.owes_answer());
    // One CopyDone is all that an Execute can have.
    let mut tracker = Tracker::default();
    b"PBES".iter().for_each(|&it| tracker.request(it));
    (0..100_000).for_each(|_| tracker.request(b'c'));
    assert_eq!(tracker.queue.len(), 3);
}

#[test]
fn terminate_and_a_closing_error_are_remembered() {
    let mut tracker = Tracker::default();
    tracker.answer(b'E').expect("at any time");
    assert!(tracker.ended_with_error() && !tracker.is_terminated());
    tracker.answer(b'N').expect("at any time");
    tracker.request(b'X');
    assert!(!tracker.ended_with_error() && tracker.is_terminated());
}

/// A server, as PostgreSQL's `postgres.c` and `copyfromparse.c` are: what it reads, and what it answers.
#[derive(Debug, Clone, Default)]
struct Server {
    unread: VecDeque<u8>,
    /// Written, and not seen by the tracker yet.
    written: VecDeque<u8>,
    copying: Option<Copying>,
    is_skipping: bool,
    is_closed: bool,
    never_copies: bool,
    has_failed_copy: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copying {
    ForExecute,
    /// And so many COPYs follow in the same string.
    ForQuery(u8),
}

impl Server {
    /// Does the next thing, which `chance` decides where a statement does.
    fn go_on(&mut self, chance: u8) {
        if self.is_closed {
            return;
        }
        if chance.is_multiple_of(11) {
            self.written.push_back([b'N', b'A', b'S'][usize::from(chance % 3)]);
        }
        match self.copying {
            // A trigger for the statement, a row that is wrong, a timeout.
            Some(_) if chance.is_multiple_of(5) => self.fail(),
            Some(_) => self.copy(chance),
            None => self.serve(chance),
        }
    }

    fn copy(&mut self, chance: u8) {
        match (self.unread.pop_front(), self.copying) {
            (Some(b'd' | b'H' | b'S') | None, _) => {}
            (Some(b'f'), _) => self.fail(),
            (Some(b'c'), Some(Copying::ForExecute)) => {
                self.written.push_back(b'C');
                self.copying = None;
            }
            (Some(b'c'), Some(Copying::ForQuery(more))) => {
                self.written.push_back(b'C');
                self.copying = None;
                self.run_query(more, chance);
            }
            // ERROR, then FATAL: "terminating connection because protocol synchronization was lost".
            _ => {
                self.written.extend(b"EE");
                self.is_closed = true;
            }
        }
    }

    fn fail(&mut self) {
        self.has_failed_copy = true;
        self.written.push_back(b'E');
        match self.copying.take() {
            Some(Copying::ForQuery(_)) => self.written.push_back(b'Z'),
            _ => self.is_skipping = true,
        }
    }

    fn run_query(&mut self, copies: u8, chance: u8) {
        match copies {
            0 => self.written.extend([&b"Z"[..], b"EZ", b"TDCZ", b"CCZ", b"HdcCZ"][usize::from(chance % 5)]),
            more => {
                self.written.push_back(b'G');
                self.copying = Some(Copying::ForQuery(more - 1));
            }
        }
    }

    fn serve(&mut self, chance: u8) {
        let Some(message) = self.unread.pop_front() else { return };
        if self.is_skipping && message != b'S' {
            return;
        }
        let fails = chance.is_multiple_of(7);
        match message {
            b'S' => {
                self.is_skipping = false;
                self.written.extend(if fails { &b"EZ"[..] } else { b"Z" });
            }
            b'Q' => match chance % 4 {
                // At least one answer comes before ReadyForQuery.
                0 => self.written.extend(b"IZ"),
                copies @ 1..3 if !self.never_copies => self.run_query(copies, chance / 4),
                _ => self.written.extend(if fails { &b"EZ"[..] } else { b"TDDCZ" }),
            },
            b'F' => self.written.extend(if fails { &b"EZ"[..] } else { b"VZ" }),
            b'P' | b'B' | b'D' | b'C' | b'E' if fails => {
                self.written.push_back(b'E');
                self.is_skipping = true;
            }
            b'P' => self.written.push_back(b'1'),
            b'B' => self.written.push_back(b'2'),
            b'C' => self.written.push_back(b'3'),
            b'D' => self.written.extend([&b"tT"[..], b"tn", b"T", b"n"][usize::from(chance % 4)]),
            b'E' => match chance % 6 {
                0 | 1 if !self.never_copies => {
                    self.written.push_back(b'G');
                    self.copying = Some(Copying::ForExecute);
                }
                other => self.written.extend([&b"DDC"[..], b"I", b"s", b"HddcC", b"C", b"DC"][usize::from(other)]),
            },
            _ => {}
        }
    }

    /// True if anything will be answered, or a COPY waits for data.
    fn owes(&self) -> bool {
        let reads = self.unread.iter().any(|message| match message {
            b'S' => true,
            b'Q' | b'F' | b'P' | b'B' | b'D' | b'C' | b'E' => !self.is_skipping,
            _ => false,
        });
        let says = self.written.iter().any(|message| !matches!(message, b'N' | b'A' | b'S'));
        !self.is_closed && (says || self.copying.is_some() || reads)
    }
}

#[derive(Debug, Clone)]
enum Move {
    Client(u8),
    Server(u8),
    /// The tracker sees so many answers.
    Deliver(u8),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let client = prop::sample::select(&b"QFPBDDEEECSSSSHdccff"[..]);
    let any_move = prop_oneof![
        4 => client.prop_map(Move::Client),
        4 => any::<u8>().prop_map(Move::Server),
        3 => (1_u8..6).prop_map(Move::Deliver),
    ];
    prop::collection::vec(any_move, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    /// Every message in every order, answers as late as may be: nothing is ever taken for answered that is not, no answer for
    /// one that nobody asked for; and as long as no COPY has failed, what is answered counts as that.
    #[test]
    fn what_a_server_owes_is_outstanding(moves in moves(), rest in prop::collection::vec(any::<u8>(), 200)) {
        let (mut tracker, mut server) = (Tracker::default(), Server::default());
        // In the end, everything is read and seen.
        let to_the_end = rest.into_iter().flat_map(|chance| [Move::Server(chance), Move::Deliver(9)]);
        for step in moves.into_iter().chain(to_the_end) {
            match step {
                Move::Client(message) => {
                    server.unread.push_back(message);
                    tracker.request(message);
                }
                Move::Server(chance) => server.go_on(chance),
                Move::Deliver(count) => {
                    let count = usize::from(count).min(server.written.len());
                    for message in server.written.drain(..count) {
                        prop_assert_eq!(tracker.answer(message), Ok(()), "{:?}", tracker);
                    }
                }
            }
            if server.is_closed {
                break;
            }
            let owes = server.owes();
            prop_assert!(tracker.is_outstanding() || !owes, "{:?} {:?}", tracker, server);
            prop_assert!(tracker.is_outstanding() == owes || server.has_failed_copy, "{:?} {:?}", tracker, server);
            let is_unready = server.is_skipping && server.unread.is_empty() && server.written.is_empty();
            prop_assert!(!is_unready || !tracker.is_synced(), "{:?} {:?}", tracker, server);
        }
    }

    /// Clients as they are, with a COPY that fails or does not: once all is answered, or the next query is, they are not
    /// outstanding.
    #[test]
    fn well_behaved_clients_are_not_stuck(
        talks in prop::collection::vec((0_usize..TALKS.len(), prop::collection::vec(any::<u8>(), 40)), 1..6),
    ) {
        let (mut tracker, mut server) = (Tracker::default(), Server::default());
        for (talk, chances) in talks {
            server.never_copies = talk >= COPIES;
            let mut chances = chances.into_iter().cycle();
            for part in TALKS[talk] {
                for &message in *part {
                    server.unread.push_back(message);
                    tracker.request(message);
                }
                // The client waits for whatever comes.
                for chance in chances.by_ref().take(12) {
                    server.go_on(chance);
                    for message in server.written.drain(..) {
                        prop_assert_eq!(tracker.answer(message), Ok(()), "{:?}", tracker);
                    }
                }
            }
            while server.owes() {
                server.unread.push_back(b'c');
                tracker.request(b'c');
                server.go_on(1);
                server.written.drain(..).for_each(|message| tracker.answer(message).expect("expected"));
            }
            if server.is_closed {
                break;
            }
            prop_assert!(!tracker.owes_answer(), "{:?}", tracker);
            for message in b"SQ" {
                tracker.request(*message);
            }
            for message in b"ZTDCZ" {
                prop_assert_eq!(tracker.answer(*message), Ok(()));
            }
            server.is_skipping = false;
            prop_assert!(!tracker.is_outstanding() && tracker.is_synced(), "{:?}", tracker);
        }
    }
}

/// So many of them copy.
const COPIES: usize = 7;

/// What clients send, and where they wait.
const TALKS: &[&[&[u8]]] = &[
    // psql, pgjdbc, asyncpg, Npgsql, node's pg-copy-streams
    &[b"Q", b"dddd", b"c"],
    &[b"Q", b"dd", b"f"],
    // libpq with parameters, psycopg, tokio-postgres
    &[b"PBDES", b"ddd", b"cS"],
    &[b"PBES", b"dd", b"fS"],
    // pgx: the data does not wait
    &[b"Qdddd", b"c"],
    // all in one write
    &[b"PBESdddcS"],
    &[b"PBEdddcS"],
    // those that do not copy
    &[b"PDS", b"BES", b"CS"],
    &[b"PBDEHS", b"PBDEPBDES"],
    &[b"QQQ", b"F", b"S"],
];
