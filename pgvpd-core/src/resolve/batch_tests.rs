use std::collections::VecDeque;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::tenant::IdentityRules;
use crate::wire::test_message as message;
use crate::wire::{Frame, TaggedFrames};

/// A server that answers only when so many Syncs have come, with these bytes for each, between the echoes that are asked for.
async fn server(mut stream: DuplexStream, answers: Vec<Vec<u8>>) -> usize {
    let (mut received, mut answers, mut reads) = (Vec::new(), VecDeque::from(answers), 0);
    let syncs = |bytes: &[u8]| TaggedFrames::new(bytes, 100_000).filter(|Frame { tag, .. }| *tag == tag::SYNC).count();
    let echoes = |bytes: &[u8]| {
        let calls = TaggedFrames::new(bytes, 100_000).filter(|Frame { tag, .. }| *tag == tag::FUNCTION_CALL);
        // The number of the function, no formats, one argument and its length come before it.
        calls.map(|call| call.body[12..44].to_vec()).collect::<Vec<_>>()
    };
    while syncs(&received) < answers.len() || echoes(&received).len() < 2 {
        assert_ne!(stream.read_buf(&mut received).await.expect("read"), 0, "it asks for all at once");
        reads += 1;
    }
    let echo = |value: &Vec<u8>| {
        let result = [&32_u32.to_be_bytes()[..], value].concat();
        [message(b'V', &result), message(b'Z', b"I")].concat()
    };
    let [first, last] = &echoes(&received)[..] else { panic!("two echoes") };
    stream.write_all(&echo(first)).await.expect("written");
    while let Some(answer) = answers.pop_front() {
        stream.write_all(&answer).await.expect("written");
    }
    stream.write_all(&echo(last)).await.expect("written");
    reads
}

fn row(columns: &[&[u8]]) -> Vec<u8> {
    let mut body = u16::try_from(columns.len()).expect("few").to_be_bytes().to_vec();
    for column in columns {
        body.extend(u32::try_from(column.len()).expect("short").to_be_bytes());
        body.extend(*column);
    }
    message(b'D', &body)
}

/// What follows the statement that sets the context.
fn scoped(rest: &[Vec<u8>]) -> Vec<u8> {
    // The marker, each pin, statement_timeout, and the tenant.
    let mut columns: Vec<&[u8]> = vec![b"\x01"; 18];
    columns.push(b"acme");
    let scope = [message(b'1', b""), message(b'2', b""), row(&columns), message(b'C', b"SELECT 1\0")].concat();
    [&scope, &message(b'1', b"")[..], &message(b'2', b""), &rest.concat(), &message(b'Z', b"I")].concat()
}

fn described(name: &str) -> Vec<u8> {
    message(b'T', &[&1_u16.to_be_bytes()[..], name.as_bytes(), &[0; 19]].concat())
}

fn questions(count: usize) -> Vec<Question> {
    let question = |number: usize| {
        let source = Source::Sql("SELECT 1 AS x".into());
        let resolver = Resolver::new(&format!("r{number}"), source, &[], &[("app.x", "x")]).expect("valid");
        Question { resolver: Arc::new(resolver), params: Arc::from([]) }
    };
    (0..count).map(question).collect()
}

async fn asked(answers: Vec<Vec<u8>>) -> (Result<Vec<Verdict>, Fault>, bool) {
    let identity = IdentityRules::for_tests(&["app.tenant"]).identify("app_user.acme").expect("a tenant");
    let scope = Scope::new(&identity, None, "shop", "app_user");
    let (client, far) = duplex(1 << 20);
    let questions = questions(answers.len());
    let serving = tokio::spawn(server(far, answers));
    let (mut conn, mut parameters) = (Conn::new(client), Parameters::default());
    let mut site =
        Site { conn: &mut conn, parameters: &mut parameters, facts: None, moves_nonce: false, is_lost: false };
    let verdicts = ask(&mut site, &scope, &questions, Duration::from_secs(5)).await;
    let is_lost = site.is_lost;
    drop(serving.await);
    (verdicts, is_lost)
}

fn found(verdict: &Verdict) -> Option<&str> {
    verdict.as_ref().ok()?.as_ref()?.first().map(String::as_str)
}

#[tokio::test]
async fn questions_of_one_level_go_out_before_any_answer_comes_and_fail_by_themselves() {
    let failed = message(b'E', b"SERROR\0C22012\0Mdivision by zero\0\0");
    let failed = [&scoped(&[])[..scoped(&[]).len() - 6], &failed, &message(b'Z', b"I")].concat();
    let (verdicts, is_lost) = asked(vec![
        scoped(&[described("x"), row(&[b"one"]), message(b'C', b"SELECT 1\0")]),
        failed,
        scoped(&[described("x"), row(&[b"two"]), row(&[b"three"]), message(b's', b"")]),
        scoped(&[described("y"), row(&[b"four"]), message(b'C', b"SELECT 1\0")]),
        scoped(&[described("x"), message(b'C', b"SELECT 0\0")]),
    ])
    .await;
    let verdicts = verdicts.expect("answers");
    assert_eq!(found(&verdicts[0]), Some("one"));
    assert!(matches!(&verdicts[1], Err(Fault::Failed(cause)) if cause.contains("division by zero")), "{verdicts:?}");
    assert_eq!(found(&verdicts[2]), Some("two"), "the first of several");
    assert!(matches!(&verdicts[3], Err(Fault::NoColumn(_))), "{verdicts:?}");
    assert!(matches!(&verdicts[4], Ok(None)), "{verdicts:?}");
    assert!(!is_lost);
}

#[tokio::test]
async fn a_server_that_goes_half_way_has_answered_what_it_has() {
    let (verdicts, is_lost) =
        asked(vec![scoped(&[described("x"), row(&[b"one"]), message(b'C', b"SELECT 1\0")]), b"1\0\0".to_vec()]).await;
    let verdicts = verdicts.expect("one answer");
    assert_eq!(found(&verdicts[0]), Some("one"));
    assert!(matches!(&verdicts[1], Err(fault) if fault.is_of_the_connection()), "{verdicts:?}");
    assert!(is_lost);
}

#[tokio::test]
async fn a_context_that_is_not_what_was_set_is_no_context() {
    let mut answer = scoped(&[described("x"), row(&[b"one"]), message(b'C', b"SELECT 1\0")]);
    let place = answer.windows(4).position(|window| window == b"acme").expect("the tenant");
    answer[place] = b'A';
    let (verdicts, is_lost) = asked(vec![answer]).await;
    assert!(matches!(verdicts.as_deref(), Ok([Err(Fault::Context(InjectionError::NotConfirmed))])), "{verdicts:?}");
    assert!(is_lost);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_given_up() {
    let (client, far) = duplex(1 << 20);
    let identity = IdentityRules::for_tests(&["app.tenant"]).identify("app_user.acme").expect("a tenant");
    let scope = Scope::new(&identity, None, "shop", "app_user");
    let (mut conn, mut parameters) = (Conn::new(client), Parameters::default());
    let mut site =
        Site { conn: &mut conn, parameters: &mut parameters, facts: None, moves_nonce: false, is_lost: false };
    let verdicts = ask(&mut site, &scope, &questions(2), Duration::from_secs(5)).await;
    assert!(matches!(verdicts, Err(Fault::Slow(_))), "{verdicts:?}");
    drop(far);
}
