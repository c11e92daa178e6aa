//! Servers that answer the reset as they should, and in every other way.

use std::sync::LazyLock;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::wire::test_message as message;

fn variables() -> Vec<VariableName> {
    vec![VariableName::current_tenant_id()]
}

/// FunctionCallResponse and ReadyForQuery.
fn result(value: &[u8]) -> Vec<u8> {
    let size = u32::try_from(value.len()).expect("short").to_be_bytes();
    [message(b'V', &[&size[..], value].concat()), ready(b'I')].concat()
}

fn ready(status: u8) -> Vec<u8> {
    message(b'Z', &[status])
}

fn done(command: &[u8], status: u8) -> Vec<u8> {
    [message(b'C', &[command, b"\0"].concat()), ready(status)].concat()
}

/// What a server says of a reset outside of a transaction.
fn right() -> Vec<Vec<u8>> {
    echoed(vec![done(b"DISCARD ALL", b'I'), result(b""), result(b"none"), result(b"")])
}

fn echo() -> Echo {
    static ECHO: LazyLock<Echo> = LazyLock::new(Echo::new);
    ECHO.clone()
}

fn echoed(answers: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let echo = || vec![result(echo().text().as_bytes())];
    [echo(), answers, echo()].concat()
}

async fn clean(conn: &mut Conn<DuplexStream>, left: LeftBehind, attach: Option<Function>) -> Result<Clean, ResetError> {
    clean_up_with(conn, &mut Parameters::default(), left, (&variables(), attach), ("0.5", &echo())).await
}

/// The reset of a connection whose server says this, and then closes or stays.
async fn reset(status: TransactionStatus, said: &[Vec<u8>], stays: bool) -> Result<Clean, ResetError> {
    let (mut server, stream) = duplex(100_000);
    let mut conn = Conn::new(stream);
    server.write_all(&said.concat()).await.expect("said");
    let kept: Option<DuplexStream> = if stays {
        Some(server)
    } else {
        drop(server);
        None
    };
    let left = LeftBehind { status, spare_ready: 0 };
    let outcome = clean(&mut conn, left, None).await;
    drop(kept);
    outcome
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_clean_when_every_step_is_answered_as_it_should_be() {
    assert!(reset(TransactionStatus::Idle, &right(), true).await.is_ok());
    for status in [TransactionStatus::InTransaction, TransactionStatus::Failed] {
        let said = [vec![done(b"ROLLBACK", b'I')], right()].concat();
        assert!(reset(status, &said, true).await.is_ok());
    }
    // What comes aside: settings that go back, a notification that was on its way, a notice.
    let asides = [message(b'S', b"TimeZone\0UTC\0"), message(b'A', b"\0\0\0\x01c\0\0"), message(b'N', b"SNOTICE\0\0")];
    assert!(reset(TransactionStatus::Idle, &[asides.to_vec(), right()].concat(), true).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn whatever_else_the_server_says_the_connection_is_not_clean() {
    let error = message(b'E', b"SERROR\0C57014\0Mcancelled\0\0");
    let with = |index: usize, answer: Vec<u8>| {
        let mut said = right();
        said[index] = answer;
        said
    };
    for (what, said) in [
        ("an error", with(1, [error.clone(), ready(b'I')].concat())),
        ("another command", with(1, done(b"DISCARD TEMP", b'I'))),
        ("still in a transaction", with(1, done(b"DISCARD ALL", b'T'))),
        ("a row of somebody's query", [vec![message(b'D', b"\0\x01\0\0\0\x01x")], right()].concat()),
        ("an answer of somebody's", [vec![done(b"SELECT 1", b'I')], right()].concat()),
        ("copy data", [vec![message(b'd', b"x")], right()].concat()),
        ("an error of setseed", with(2, [error.clone(), ready(b'I')].concat())),
        ("no echo", right()[1..].to_vec()),
        ("no echo at the end", right()[..5].to_vec()),
        ("another echo", with(0, result(Echo::new().text().as_bytes()))),
        ("another echo at the end", with(5, result(Echo::new().text().as_bytes()))),
        ("an answer less", with(3, vec![])),
        ("all that a reset is answered with, ahead of it", [right()[1..].to_vec(), right()].concat()),
        ("a role", with(3, result(b"reporting"))),
        ("a tenant", with(4, result(b"acme"))),
        ("an error where the context is", with(4, [error.clone(), ready(b'I')].concat())),
        ("a message too many", [right(), vec![ready(b'I')]].concat()),
        ("a byte too many", [right(), vec![b"D".to_vec()]].concat()),
        ("what is no message", with(2, b"V\0\0\0\x03".to_vec())),
        ("a length that is none", with(2, [message(b'V', &[0, 0, 0, 9]), ready(b'I')].concat())),
    ] {
        for stays in [true, false] {
            assert!(reset(TransactionStatus::Idle, &said, stays).await.is_err(), "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ready_for_query_may_come_first_as_often_as_the_session_left_open() {
    for (spare_ready, found, is_clean) in [(0, 0, true), (2, 0, true), (2, 2, true), (2, 3, false), (0, 1, false)] {
        let (mut server, stream) = duplex(100_000);
        let mut conn = Conn::new(stream);
        let said = [ready(b'I').repeat(found), right().concat()].concat();
        server.write_all(&said).await.expect("said");
        let left = LeftBehind { spare_ready, ..LeftBehind::IDLE };
        let outcome = clean(&mut conn, left, None).await;
        assert_eq!(outcome.is_ok(), is_clean, "{found} of {spare_ready}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_goes_or_says_nothing_more_ends_the_reset() {
    let whole = right().concat();
    for end in 0..whole.len() {
        let said = [whole[..end].to_vec()];
        let gone = reset(TransactionStatus::Idle, &said, false).await;
        assert!(matches!(gone, Err(ResetError::Exchange(ExchangeError::Closed))), "{end}: {gone:?}");
    }
    let silent = reset(TransactionStatus::Idle, &right()[..2], true).await;
    assert!(matches!(silent, Err(ResetError::Timeout)), "{silent:?}");
}

#[tokio::test(start_paused = true)]
async fn where_contexts_are_signed_a_connection_is_clean_only_with_a_new_nonce_and_no_token() {
    let reset = async |facts: &[u8], token: &[u8]| {
        let said =
            vec![done(b"DISCARD ALL", b'I'), result(b""), result(facts), result(b"none"), result(token), result(b"")];
        let said = echoed(said);
        let (mut server, stream) = duplex(100_000);
        let mut conn = Conn::new(stream);
        server.write_all(&said.concat()).await.expect("said");
        let attach = Some(Function(16_384));
        clean(&mut conn, LeftBehind::IDLE, attach).await
    };
    let clean = reset(b"(7,1700000000000000,42)", b"").await.expect("clean");
    assert_eq!(clean.facts, Some(Facts { pid: 7, backend_start: 1_700_000_000_000_000, nonce: 42 }));
    assert!(matches!(reset(b"(7,1700000000000000,0)", b"").await, Err(ResetError::NotVoid)));
    assert!(matches!(reset(b"", b"").await, Err(ResetError::NotVoid)));
    assert!(matches!(reset(b"(7,1,42)", b"v1.1.7").await, Err(ResetError::NotBlank)));
}

#[tokio::test]
async fn the_reset_is_one_write_and_each_has_a_seed_of_its_own() {
    let mut sent = Vec::new();
    for _ in 0..2 {
        let (mut server, stream) = duplex(100_000);
        let mut conn = Conn::new(stream);
        server.write_all(&right().concat()).await.expect("said");
        let outcome = clean_up(&mut conn, &mut Parameters::default(), LeftBehind::IDLE, &variables(), None).await;
        // Nothing that was said before it was asked for has its echo.
        assert!(matches!(outcome, Err(ResetError::Exchange(ExchangeError::Foreign))), "{outcome:?}");
        drop(conn);
        let mut bytes = Vec::new();
        server.read_to_end(&mut bytes).await.expect("read");
        sent.push(bytes);
    }
    assert_ne!(sent[0], sent[1]);
    let seeds: Vec<f64> = (0..1000).map(|_| seed().parse().expect("a number")).collect();
    assert!(seeds.iter().all(|seed| (-1.0..=1.0).contains(seed)));
    assert!(seeds.iter().any(|seed| *seed < -0.5) && seeds.iter().any(|seed| *seed > 0.5));
}
