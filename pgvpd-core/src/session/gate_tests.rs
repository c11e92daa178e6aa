use proptest::prelude::*;

use super::*;
use crate::context::Injection;
use crate::tenant::IdentityRules;
use crate::wire::test_message as message;
use crate::wire::{query, ready_for_query};

/// A session whose context a reset takes away.
fn keeper() -> Keeper {
    let identity = IdentityRules::for_tests(&["app.current_tenant_id"]).identify("app.acme").expect("valid");
    Keeper::new(Injection::new(&identity, identity.role(), false).into(), None, true)
}

/// A gate, and what is on its two sides.
struct Rig {
    gate: Gate,
    server: Server<'static>,
    keeper: Keeper,
}

impl Rig {
    fn new() -> Self {
        Self { gate: Gate::default(), server: Server::default(), keeper: keeper() }
    }

    /// What of these bytes goes on.
    fn send(&mut self, chunk: &[u8]) -> Vec<u8> {
        let Self { gate, server, keeper } = self;
        let ends = Ends { server, keeper, hearing: None, may_put_back_inside: true, is_pooled: false };
        let Walked { front, instead, .. } = gate.walk(chunk, ends).expect("messages");
        instead.unwrap_or_else(|| chunk.get(..front).expect("no more than there is").to_vec())
    }

    /// The server's answer to a query with this word.
    fn answer(&mut self, command: &str) {
        let mut answer = Vec::new();
        crate::wire::command_complete(&mut answer, command);
        ready_for_query(&mut answer, TransactionStatus::Idle);
        let noted = super::super::server::Noted { keeper: Some(&mut self.keeper) };
        self.server.scan(&answer, noted).expect("an answer");
    }
}

fn queries(texts: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    texts.iter().for_each(|text| query(&mut out, text));
    out
}

#[test]
fn what_follows_a_reset_waits_for_the_context() {
    let mut rig = Rig::new();
    let (reset, next) = (queries(&["RESET ALL"]), queries(&["SELECT 1 FROM t"]));
    assert_eq!(rig.send(&[&reset[..], &next].concat()), reset);
    assert!(rig.gate.holds_requests() && !rig.gate.may_open(&rig.server, &rig.keeper));
    rig.answer("RESET");
    assert!(rig.gate.may_open(&rig.server, &rig.keeper));
    let put_in = rig.send(&[]);
    assert!(put_in.starts_with(b"P") && put_in.ends_with(b"S\0\0\0\x04"), "the proxy's own statement");
    assert!(rig.keeper.is_busy() && rig.gate.holds_requests());
    assert_eq!(rig.send(&next), b"", "nothing goes on before it is confirmed");
}

#[test]
fn a_reset_that_fails_loses_nothing_and_what_follows_goes_on() {
    let mut rig = Rig::new();
    let (reset, next) = (queries(&["RESET no.such"]), queries(&["SELECT 1 FROM t", "RESET ALL"]));
    assert_eq!(rig.send(&[&reset[..], &next, &next].concat()), reset);
    rig.answer("SET");
    assert_eq!(rig.send(&[]), next, "up to the next reset");
    assert!(rig.gate.holds_requests());
}

#[test]
fn no_more_is_kept_than_has_to_be() {
    let mut rig = Rig::new();
    rig.send(&queries(&["RESET ALL"]));
    let next = queries(&[&"x".repeat(1000)]);
    let mut sent = 0;
    while !rig.gate.is_full() {
        assert_eq!(rig.send(&next), b"");
        sent += next.len();
    }
    assert!((MAX_KEPT..MAX_KEPT + 2000).contains(&sent), "{sent}");
    // A text too long to be kept passes in the pieces in which it comes.
    let mut rig = Rig::new();
    let long = queries(&[&"x".repeat(MAX_KEPT * 3)]);
    for piece in long.chunks(1000) {
        assert_eq!(rig.send(piece), piece);
    }
}

proptest! {
    #[test]
    fn without_resets_every_byte_goes_on_in_any_pieces(
        messages in prop::collection::vec(
            (prop::sample::select(b"QPBDECSHFdcf".to_vec()), "[a-z; '\0]{0,30}"),
            0..12,
        ),
        sizes in prop::collection::vec(1_usize..40, 1..6),
    ) {
        let stream: Vec<u8> = messages.iter().flat_map(|(tag, body)| message(*tag, body.as_bytes())).collect();
        prop_assume!(!may_reset(&stream));
        let (mut rig, mut rest, mut passed) = (Rig::new(), stream.as_slice(), Vec::new());
        for size in sizes.iter().cycle() {
            let (piece, after) = rest.split_at(rest.len().min(*size));
            passed.extend(rig.send(piece));
            rest = after;
            if rest.is_empty() { break }
        }
        prop_assert_eq!(passed, stream);
        prop_assert!(!rig.gate.holds_requests() && rig.gate.is_between_messages());
    }
}
