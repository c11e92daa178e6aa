//! Sessions with a console whose commands do nothing.

use proptest::prelude::*;

use super::*;
use crate::console::table::{Table, int};
use crate::wire::TaggedFrames;

/// Counts what is run. SHOW gives three rows, everything else fails.
#[derive(Default)]
struct Counting {
    runs: usize,
}

impl Run for Counting {
    fn columns(&self, command: &Command) -> Option<Vec<Column>> {
        matches!(command, Command::Show(_)).then(|| vec![int("n")])
    }

    async fn run(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        self.runs += 1;
        let rows = (1..=3).map(|n| vec![Cell::Int(n)]).collect();
        match self.columns(command) {
            Some(columns) => Ok(Outcome::table("SHOW", Table { columns, rows })),
            None => Err(Refusal::new(SqlState::NOT_IN_PREREQUISITE_STATE, "not now")),
        }
    }
}

/// Takes messages given as a type and a body. Gives the types of the answers; with the status behind a `Z`, and the code behind an `E`.
fn answers(exchange: &mut Exchange, runner: &mut Counting, messages: &[(u8, &[u8])]) -> String {
    let mut out = Vec::new();
    for (tag, body) in messages {
        let take = exchange.take(Frame { tag: *tag, body }, runner, &mut out);
        let flow = futures_now(take).expect("a message");
        assert_eq!(flow, Flow::GoesOn);
    }
    let mut said = String::new();
    for frame in TaggedFrames::new(&out, out.len()) {
        said.push(char::from(frame.tag));
        match frame.tag {
            b'Z' => said.extend(frame.body.iter().map(|byte| char::from(*byte))),
            b'E' => said.push_str(&crate::wire::ErrorFields::new(frame.body).code().expect("a code")),
            _ => {}
        }
    }
    said
}

/// What a future gives that waits for nothing.
fn futures_now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("it waits"),
    }
}

fn all(messages: &[(u8, &[u8])]) -> (String, usize) {
    let mut runner = Counting::default();
    (answers(&mut Exchange::default(), &mut runner, messages), runner.runs)
}

const PARSE: (u8, &[u8]) = (b'P', b"\0SHOW POOLS\0\0\0");
const BIND: (u8, &[u8]) = (b'B', b"\0\0\0\0\0\0\0\0");
const DESCRIBE: (u8, &[u8]) = (b'D', b"P\0");
const EXECUTE: (u8, &[u8]) = (b'E', b"\0\0\0\0\0");
const SYNC: (u8, &[u8]) = (b'S', b"");

#[test]
fn a_query_gives_each_statements_rows_and_stops_at_the_first_that_fails() {
    assert_eq!(all(&[(b'Q', b"SHOW POOLS; show lists\0")]), ("TDDDCTDDDCZI".into(), 2));
    assert_eq!(all(&[(b'Q', b"SHOW POOLS; RELOAD; SHOW LISTS\0")]), ("TDDDCE55000ZI".into(), 2));
    assert_eq!(all(&[(b'Q', b"SHOW POOLS; nonsense\0")]), ("E42601ZI".into(), 0));
    assert_eq!(all(&[(b'Q', b" ; -- nothing\0")]), ("IZI".into(), 0));
    assert_eq!(all(&[(b'Q', b"DISCONNECT TENANT $1\0")]), ("E42601ZI".into(), 0));
}

#[test]
fn the_extended_protocol_describes_before_it_runs_and_gives_as_many_rows_as_are_wanted() {
    assert_eq!(all(&[PARSE, (b'D', b"S\0"), BIND, DESCRIBE, EXECUTE, SYNC]), ("1tT2TDDDCZI".into(), 1));
    let two_at_once: (u8, &[u8]) = (b'E', b"\0\0\0\0\x02");
    assert_eq!(all(&[PARSE, BIND, two_at_once, two_at_once, SYNC]), ("12DDsDCZI".into(), 1));
    assert_eq!(
        all(&[PARSE, BIND, SYNC, EXECUTE, SYNC]),
        ("12ZIE34000ZI".into(), 0),
        "portals end with the transaction"
    );
    let begin: (u8, &[u8]) = (b'Q', b"BEGIN\0");
    assert_eq!(all(&[begin, PARSE, BIND, SYNC, EXECUTE, SYNC]), ("CZT12ZTDDDCZT".into(), 1));
    assert_eq!(all(&[(b'P', b"\0\0\0\0"), BIND, DESCRIBE, EXECUTE, SYNC]), ("12nIZI".into(), 0));
}

#[test]
fn after_an_error_nothing_is_done_until_a_sync() {
    let wrong: (u8, &[u8]) = (b'P', b"\0nonsense\0\0\0");
    assert_eq!(
        all(&[wrong, PARSE, BIND, EXECUTE, (b'Q', b"SHOW POOLS\0"), SYNC, PARSE, SYNC]),
        ("E42601ZI1ZI".into(), 0)
    );
    assert_eq!(all(&[PARSE, (b'B', b"\0other\0\0\0\0\0\0\0"), SYNC]), ("1E26000ZI".into(), 0));
    assert_eq!(all(&[PARSE, (b'B', b"\0\0\0\0\0\x01\0\0\0\x01x\0\0"), SYNC]), ("1E08P01ZI".into(), 0));
    assert_eq!(all(&[(b'P', b"\0SHOW POOLS; SHOW LISTS\0\0\0"), SYNC]), ("E42601ZI".into(), 0));
    assert_eq!(all(&[(b'F', b""), (b'd', b"data"), (b'c', b""), (b'f', b"\0")]), ("E0A000ZI".into(), 0));
}

#[test]
fn a_transaction_means_nothing_but_what_drivers_take_it_for() {
    let query = |text: &'static [u8]| (b'Q', text);
    assert_eq!(all(&[query(b"BEGIN\0"), query(b"SHOW POOLS\0"), query(b"COMMIT\0")]), ("CZTTDDDCZTCZI".into(), 1));
    let failed =
        [query(b"BEGIN\0"), query(b"RELOAD\0"), query(b"SHOW POOLS\0"), query(b"COMMIT\0"), query(b"SHOW POOLS\0")];
    assert_eq!(all(&failed), ("CZTE55000ZEE25P02ZECZITDDDCZI".into(), 2));
}

#[test]
fn names_are_bounded() {
    let (mut exchange, mut runner) = (Exchange::default(), Counting::default());
    for number in 0..MOST_NAMES {
        let body = format!("s{number}\0SHOW POOLS\0\0\0");
        assert_eq!(answers(&mut exchange, &mut runner, &[(b'P', body.as_bytes())]), "1");
    }
    assert_eq!(answers(&mut exchange, &mut runner, &[PARSE, SYNC]), "E54000ZI");
    assert_eq!(answers(&mut exchange, &mut runner, &[(b'Q', b"DEALLOCATE s7\0"), PARSE, SYNC]), "CZI1ZI");
    assert_eq!(answers(&mut exchange, &mut runner, &[(b'Q', b"DISCARD ALL\0"), BIND, SYNC]), "CZIE26000ZI");
}

#[test]
fn a_parameter_reaches_its_command_and_nothing_else_has_one() {
    let prepared = (b'P', &b"\0DISCONNECT TENANT $1\0\0\0"[..]);
    let bound = (b'B', &b"\0\0\0\0\0\x01\0\0\0\x04acme\0\0"[..]);
    assert_eq!(all(&[prepared, (b'D', b"S\0"), bound, EXECUTE, SYNC]), ("1tn2E55000ZI".into(), 1));
    assert_eq!(all(&[prepared, (b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xff\0\0"), SYNC]), ("1E42601ZI".into(), 0));
    assert_eq!(all(&[(b'P', b"\0SHOW POOLS\0\0\x01\0\0\0\x19"), SYNC]), ("E42601ZI".into(), 0));
}

fn message() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let tag =
        prop_oneof![Just(b'Q'), Just(b'P'), Just(b'B'), Just(b'D'), Just(b'E'), Just(b'C'), Just(b'S'), any::<u8>()];
    let real = prop_oneof![
        Just(PARSE),
        Just(BIND),
        Just(DESCRIBE),
        Just(EXECUTE),
        Just(SYNC),
        Just((b'Q', &b"SHOW POOLS; BEGIN\0"[..])),
    ];
    prop_oneof![(tag, proptest::collection::vec(any::<u8>(), 0..40)), real.prop_map(|(tag, body)| (tag, body.to_vec())),]
}

proptest! {
    /// A client that speaks the protocol can always tell where it is: each Query and each Sync has one ReadyForQuery.
    #[test]
    fn any_messages_are_answered_or_end_the_session(messages in proptest::collection::vec(message(), 0..60)) {
        let (mut exchange, mut runner, mut out) = (Exchange::default(), Counting::default(), Vec::new());
        for (tag, body) in &messages {
            let was_skipping = exchange.is_skipping;
            out.clear();
            match futures_now(exchange.take(Frame { tag: *tag, body }, &mut runner, &mut out)) {
                Err(_) | Ok(Flow::Ends) => break,
                Ok(Flow::GoesOn) => {}
            }
            let answered = TaggedFrames::new(&out, out.len()).filter(|frame| frame.tag == b'Z').count();
            let whole: usize = TaggedFrames::new(&out, out.len()).map(|frame| frame.body.len() + 5).sum();
            prop_assert_eq!(whole, out.len());
            let is_due = *tag == b'S' || (matches!(tag, b'Q' | b'F') && !was_skipping);
            prop_assert_eq!(answered, usize::from(is_due));
        }
    }
}
