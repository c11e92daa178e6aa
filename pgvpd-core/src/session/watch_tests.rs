use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use tokio::time::Instant;

use super::*;
use crate::net::Conn;
use crate::session::passthrough::BoundUpstream;
use crate::session::relay::{just_close, relay, stopped};
use crate::session::time_limit::Cancelling;
use crate::wire::test_message as message;
use crate::wire::{ErrorFields, TaggedFrames};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A framed relay between two in-memory pipes, in paused time.
struct Rig {
    client: DuplexStream,
    server: DuplexStream,
    cancels: Arc<AtomicUsize>,
    /// The last cancel request, until the server has acted on it.
    cancelling: Arc<Mutex<Option<oneshot::Sender<std::convert::Infallible>>>>,
    stop: CancellationToken,
    relay: JoinHandle<RelayEnd>,
}

fn rig(timeout: Option<Duration>) -> Rig {
    let (client, client_side) = duplex(100_000);
    let (server, upstream_side) = duplex(100_000);
    let cancels = Arc::new(AtomicUsize::new(0));
    let stop = CancellationToken::new();
    let cancelling = Arc::new(Mutex::new(None));
    let (counter, token, under_way) = (Arc::clone(&cancels), stop.clone(), Arc::clone(&cancelling));
    let relay = tokio::spawn(async move {
        let limit = timeout.map(|timeout| {
            TimeLimit::new(timeout, move || {
                counter.fetch_add(1, Ordering::Relaxed);
                let (sender, receiver): (_, Cancelling) = oneshot::channel();
                *under_way.lock().expect("lock") = Some(sender);
                Some(receiver)
            })
        });
        let upstream = BoundUpstream::for_tests(Conn::new(upstream_side));
        relay(Conn::new(client_side), upstream, &mut SessionWatch::new(limit), stopped(&token), just_close).await
    });
    Rig { client, server, cancels, cancelling, stop, relay }
}

impl Rig {
    /// Sends from the client, and sees it arrive.
    async fn request(&mut self, tag: u8) {
        self.client.write_all(&message(tag, b"body")).await.expect("sent");
        self.server.read_exact(&mut [0; 9]).await.expect("arrived");
    }

    /// Sends from the server, and sees it arrive.
    async fn answer(&mut self, tag: u8) {
        self.server.write_all(&message(tag, b"body")).await.expect("sent");
        self.client.read_exact(&mut [0; 9]).await.expect("arrived");
    }

    /// The server has acted on the last cancel request.
    fn cancel_is_through(&self) {
        drop(self.cancelling.lock().expect("lock").take().expect("a cancel request"));
    }

    /// SQLSTATE of the error that the client gets last, and how the relay ended. Empty without an error.
    async fn end(mut self) -> (String, RelayEnd) {
        let mut last = Vec::new();
        self.client.read_to_end(&mut last).await.expect("closed");
        drop(self.client);
        let code = TaggedFrames::new(&last, 100_000).last().map(|frame| {
            assert_eq!(frame.tag, b'E');
            ErrorFields::new(frame.body).field(b'C').unwrap_or_default().into_owned()
        });
        (code.unwrap_or_default(), self.relay.await.expect("relay"))
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_ends_with_57p05_once_its_time_has_passed_since_the_last_byte() {
    let mut rig = rig(Some(TIMEOUT));
    for tag in [b'Q', b'Q', b'Q'] {
        tokio::time::advance(TIMEOUT - Duration::from_secs(1)).await;
        rig.request(tag).await;
        rig.answer(b'Z').await;
    }
    // A notification is a byte too.
    tokio::time::advance(TIMEOUT - Duration::from_secs(1)).await;
    rig.answer(b'A').await;
    let last_byte = Instant::now();
    let cancels = Arc::clone(&rig.cancels);
    let (code, end) = rig.end().await;
    assert_eq!(code, "57P05", "{end:?}");
    assert_eq!((Instant::now() - last_byte).as_secs(), TIMEOUT.as_secs());
    assert_eq!(cancels.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_outstanding_for_too_long_is_cancelled_once_and_the_session_goes_on() {
    let mut rig = rig(Some(TIMEOUT));
    rig.request(b'Q').await;
    for _ in 0..3 {
        // Rows on their way do not make the request younger.
        sleep(TIMEOUT / 4).await;
        rig.answer(b'D').await;
        assert_eq!(rig.cancels.load(Ordering::Relaxed), 0);
    }
    sleep(TIMEOUT / 2).await;
    assert_eq!(rig.cancels.load(Ordering::Relaxed), 1);
    rig.cancel_is_through();
    rig.answer(b'E').await;
    rig.answer(b'Z').await;
    rig.request(b'Q').await;
    sleep(TIMEOUT / 2).await;
    rig.answer(b'Z').await;
    assert_eq!(rig.cancels.load(Ordering::Relaxed), 1);
    assert_eq!(rig.end().await.0, "57P05");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_request_is_answered_once_the_server_can_cancel_nothing_more() {
    let mut rig = rig(Some(TIMEOUT));
    rig.request(b'Q').await;
    sleep(TIMEOUT + Duration::from_secs(1)).await;
    rig.server.write_all(&message(b'Z', b"body")).await.expect("sent");
    let mut answer = [0; 9];
    let early = tokio::time::timeout(TIMEOUT / 2, rig.client.read_exact(&mut answer)).await;
    assert!(early.is_err(), "its next statement would be cancelled too");
    rig.cancel_is_through();
    rig.client.read_exact(&mut answer).await.expect("arrived");
    assert_eq!(answer.first(), Some(&b'Z'));
}

#[tokio::test(start_paused = true)]
async fn each_of_several_requests_has_its_own_time() {
    let mut rig = rig(Some(TIMEOUT));
    for _ in 0..5 {
        rig.request(b'Q').await;
    }
    for _ in 0..5 {
        sleep(TIMEOUT - Duration::from_secs(1)).await;
        rig.answer(b'Z').await;
    }
    assert_eq!(rig.cancels.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_outlives_its_cancelling_ends_the_session_with_57014() {
    let mut rig = rig(Some(TIMEOUT));
    rig.request(b'P').await;
    let sent = Instant::now();
    let cancels = Arc::clone(&rig.cancels);
    let (code, end) = rig.end().await;
    assert_eq!(code, "57014", "{end:?}");
    assert_eq!((Instant::now() - sent).as_secs(), 2 * TIMEOUT.as_secs());
    assert_eq!(cancels.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn rows_that_the_client_has_yet_to_read_keep_the_session() {
    let mut rig = rig(Some(TIMEOUT));
    rig.request(b'Q').await;
    let (big, ready) = (message(b'D', &[7; 120_000]), message(b'Z', b"I"));
    rig.server.write_all(&[big.clone(), ready.clone()].concat()).await.expect("taken by relay and pipes");
    sleep(TIMEOUT * 5).await;
    let mut all = vec![0; big.len() + ready.len()];
    rig.client.read_exact(&mut all).await.expect("still there");
    assert!(all.ends_with(&ready));
    assert_eq!(rig.end().await.0, "57P05");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_inside_a_message() {
    let mut rig = rig(Some(TIMEOUT));
    let half = &message(b'D', b"a row")[..7];
    rig.server.write_all(half).await.expect("sent");
    let mut all = Vec::new();
    rig.client.read_to_end(&mut all).await.expect("closed");
    assert_eq!(all, half);
    drop(rig.client);
    assert!(matches!(rig.relay.await.expect("relay"), RelayEnd::Refused(_)));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_goes_without_a_word_is_named_and_one_that_said_why_is_not() {
    let silent = rig(None);
    drop(silent.server);
    let mut all = Vec::new();
    let Rig { mut client, .. } = silent;
    client.read_to_end(&mut all).await.expect("closed");
    assert!(all.starts_with(b"E") && String::from_utf8_lossy(&all).contains("C08006"));

    let said = message(b'E', b"SFATAL\0C57P01\0\0");
    for (requests, answers) in [(vec![], said), (message(b'X', b""), vec![])] {
        let mut rig = rig(None);
        rig.client.write_all(&requests).await.expect("sent");
        rig.server.read_exact(&mut vec![0; requests.len()]).await.expect("arrived");
        rig.server.write_all(&answers).await.expect("sent");
        drop(rig.server);
        let mut all = Vec::new();
        rig.client.read_to_end(&mut all).await.expect("closed");
        assert_eq!(all, answers);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopping_proxy_says_so_between_messages() {
    let mut rig = rig(None);
    rig.request(b'Q').await;
    rig.answer(b'Z').await;
    rig.stop.cancel();
    assert_eq!(rig.end().await, ("57P01".to_owned(), RelayEnd::Stopped));
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_messages_end_the_session_and_do_not_pass() {
    let mut from_client = rig(None);
    from_client.request(b'Q').await;
    from_client.client.write_all(b"Q\0\0\0\x03").await.expect("sent");
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(TIMEOUT, from_client.server.read_to_end(&mut rest)).await;
    closed.expect("in time").expect("closed");
    assert!(rest.is_empty());
    assert_eq!(from_client.end().await.0, "08P01");

    let mut from_server = rig(None);
    from_server.server.write_all(b"Z\xff\xff\xff\xff").await.expect("sent");
    let (code, end) = from_server.end().await;
    assert!(code.is_empty() && matches!(end, RelayEnd::UpstreamProtocol(_)), "{code} {end:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_held_back_during_the_login_is_looked_at_too() {
    let (mut client, client_side) = duplex(1000);
    let (mut server, upstream_side) = duplex(1000);
    let mut conn = Conn::new(client_side);
    client.write_all(&message(b'Q', b"early")[..6]).await.expect("sent");
    conn.fill().await.expect("read");
    let task = tokio::spawn(async move {
        let limit = TimeLimit::new(TIMEOUT, || None);
        let upstream = BoundUpstream::for_tests(Conn::new(upstream_side));
        relay(conn, upstream, &mut SessionWatch::new(Some(limit)), std::future::pending(), just_close).await
    });
    client.write_all(&message(b'Q', b"early")[6..]).await.expect("sent");
    server.read_exact(&mut [0; 10]).await.expect("arrived");
    let sent = Instant::now();
    client.read_to_end(&mut Vec::new()).await.expect("closed");
    drop(client);
    // Outstanding, so cancelled first.
    assert_eq!((Instant::now() - sent).as_secs(), 2 * TIMEOUT.as_secs());
    assert!(matches!(task.await.expect("relay"), RelayEnd::Refused(_)));
}

/// Whatever the pieces, the client gets the answer and the error, and nothing behind it.
#[tokio::test(start_paused = true)]
async fn a_change_of_a_role_ends_a_session_in_any_pieces() {
    let row = message(b'D', &[&[0, 1, 0, 0, 0, 16][..], &message(b'C', b"ALTER ROLE\0")].concat());
    let before = [row, message(b'C', b"ALTER TABLE\0"), message(b'C', b"ALTER ROLE\0")].concat();
    let answers = [before.clone(), message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat();
    for cut in 1..answers.len() {
        let mut rig = rig(None);
        rig.request(b'Q').await;
        let (first, second) = answers.split_at(cut);
        rig.server.write_all(first).await.expect("sent");
        tokio::task::yield_now().await;
        // It may be closed by then.
        let _ = rig.server.write_all(second).await;
        let mut received = Vec::new();
        rig.client.read_to_end(&mut received).await.expect("the end");
        assert!(received.starts_with(&before), "cut at {cut}");
        let last: Vec<_> = TaggedFrames::new(&received[before.len()..], 1000).collect();
        let [error] = &last[..] else { panic!("{last:?}") };
        assert_eq!((error.tag, ErrorFields::new(error.body).code().as_deref()), (b'E', Some("42501")));
        assert_eq!(rig.relay.await.expect("ended"), RelayEnd::Refused(Refusal::role_changed("ALTER ROLE")));
    }
}
