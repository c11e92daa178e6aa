//! What the server owes, and whose answers are whose: requests that look answered and are not, names that users may choose too,
//! requests that end a session, backends that go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pgvpd_core::wire::Tracker;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::support::{TestProxy, TestResult, WireClient, auth_file, cluster, proxy, proxy_for, within};

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body].concat()
}

/// Parse, Bind and Execute of a statement without a name.
fn extended(sql: &str) -> Vec<u8> {
    let parse = message(b'P', &[b"\0", sql.as_bytes(), b"\0\0\0"].concat());
    [parse, message(b'B', &[0; 8]), message(b'E', &[0; 5])].concat()
}

fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

fn call(function: u32, arguments: &[&str]) -> Vec<u8> {
    let mut body =
        [&function.to_be_bytes()[..], &[0, 0], &u16::try_from(arguments.len()).unwrap().to_be_bytes()].concat();
    for argument in arguments {
        body.extend(u32::try_from(argument.len()).unwrap().to_be_bytes());
        body.extend(argument.as_bytes());
    }
    body.extend([0, 0]);
    message(b'F', &body)
}

const SYNC: &[u8] = b"S\0\0\0\x04";
const FLUSH: &[u8] = b"H\0\0\0\x04";
const COPY_DONE: &[u8] = b"c\0\0\0\x04";
const TERMINATE: &[u8] = b"X\0\0\0\x04";

/// Makes what it takes a tenth of a second to drop.
const MUCH_TO_DROP: &str = "DO $$ BEGIN FOR n IN 1..3000 LOOP
    EXECUTE format('CREATE FUNCTION pg_temp.f%s() RETURNS int LANGUAGE sql AS ''SELECT 1''', n); END LOOP; END $$";

/// A pool with one connection for each database.
async fn narrow_pool(options: &[(&str, &str)]) -> TestProxy {
    let one = [
        ("pool_mode", "session"),
        ("pool_size", "1"),
        ("pool_checkout_timeout", "20"),
        ("auth_file", auth_file().to_str().unwrap()),
    ];
    proxy_for(&cluster().await.postgres, &[&one, options].concat()).await.unwrap()
}

#[tokio::test]
async fn a_copy_done_without_a_copy_does_not_blind_the_time_limit() {
    let proxy = proxy(&[("relay", "framed"), ("tenant_query_timeout", "2")]).await;
    let mut client = proxy.connect().await;
    client.log_in("app_user.acme", &[]).await;
    let sleep = extended("SELECT pg_sleep(600)");
    let (parse, rest) = sleep.split_at(sleep.len() - 13 - 10);
    // Taken for idle, the session would end with 57P05.
    client.send(&[parse, FLUSH, rest, &SYNC.repeat(5), COPY_DONE].concat()).await;
    assert_eq!(client.error().await.code, "57014");
    for _ in 0..5 {
        client.until_ready().await;
    }
    assert_eq!(client.value("SELECT count(*) FROM notes").await, "3");
}

/// As many Syncs as the reset has steps are taken back where the client is believed, and requests of the client's own are
/// answered as the reset's would be: the connection would pass for clean, with everything of the reset's still to come.
#[tokio::test]
async fn a_pools_reset_is_not_answered_by_its_client() {
    let proxy = narrow_pool(&[]).await;
    for steps in 1..8 {
        let forged = [
            query("DISCARD ALL"),
            call(1599, &["0.5"]),
            call(3294, &["role", "t"]),
            call(3294, &["app.nothing", "t"]),
            query("SELECT 1"),
            query("SELECT 1"),
            query("SELECT 1"),
        ];
        let mut attacker = proxy.connect().await;
        attacker.log_in("app_user.acme", &[]).await;
        // DISCARD ALL takes its time where there is much to drop: the proxy's own is behind it before it is answered.
        attacker.query(MUCH_TO_DROP).await;
        attacker.until(b'Z').await;
        let syncs = SYNC.repeat(steps);
        let mut bytes = [extended("SELECT 1"), syncs, COPY_DONE.to_vec(), SYNC.to_vec()].concat();
        bytes.extend(forged[..steps.min(7)].concat());
        bytes.extend(TERMINATE);
        attacker.send(&bytes).await;
        while attacker.message().await.is_some() {}
        let mut next = proxy.connect().await;
        next.log_in("app_user.globex", &[]).await;
        assert_eq!(next.value("SELECT current_tenant_id()").await, "globex", "{steps}");
        assert_eq!(next.value("SELECT count(*) FROM notes WHERE tenant_id <> 'globex'").await, "0", "{steps}");
        next.send(TERMINATE).await;
        assert_eq!(next.message().await, None, "{steps}");
    }
    proxy.assert_serves().await;
}

#[tokio::test]
async fn a_statement_called_pgvpd_is_the_clients_own() {
    let framed = proxy(&[("relay", "framed")]).await;
    for proxy in [framed, narrow_pool(&[]).await] {
        let mut client = proxy.connect().await;
        client.log_in("app_user.acme", &[]).await;
        client.query("PREPARE pgvpd AS SELECT 7").await;
        client.until(b'Z').await;
        client.query("DECLARE pgvpd CURSOR WITH HOLD FOR SELECT 8").await;
        client.until(b'Z').await;
        for _ in 0..2 {
            client.query("RESET ALL").await;
            client.until(b'Z').await;
            assert_eq!(client.value("SELECT count(*) FROM notes").await, "3");
            assert_eq!(client.value("EXECUTE pgvpd").await, "7");
        }
        assert_eq!(client.value("FETCH pgvpd").await, "8");
    }
}

/// Everything up to the end of the stream: types of messages, and the last row's first column.
async fn to_the_end(client: &mut WireClient) -> (String, String) {
    let (mut tags, mut value) = (String::new(), String::new());
    while let Some((tag, body)) = client.message().await {
        tags.push(char::from(tag));
        if tag == b'D' {
            value = String::from_utf8_lossy(&body[6..]).into_owned();
        }
    }
    (tags, value)
}

#[tokio::test]
async fn answers_to_requests_before_terminate_are_delivered() {
    let proxy = narrow_pool(&[]).await;
    let count = "SELECT count(*) FROM notes";
    let whole = [query(count), TERMINATE.to_vec()].concat();
    let torn = whole.len() - 3;
    for (requests, expected) in [
        (vec![whole.clone()], "TDCZ"),
        (vec![whole[..torn].to_vec(), whole[torn..].to_vec()], "TDCZ"),
        (vec![[extended(count), SYNC.to_vec(), TERMINATE.to_vec()].concat()], "12DCZ"),
        (vec![[query(count), query(count), TERMINATE.to_vec()].concat()], "TDCZTDCZ"),
        (vec![[query("RESET ALL"), TERMINATE.to_vec()].concat()], "CZ"),
        (vec![[call(3294, &["server_version", "t"]), TERMINATE.to_vec()].concat()], "VZ"),
    ] {
        let mut client = proxy.connect().await;
        client.log_in("app_user.acme", &[]).await;
        for part in &requests {
            client.send(part).await;
        }
        let (tags, value) = within("the end", to_the_end(&mut client)).await;
        assert_eq!(tags, expected);
        assert!(!expected.contains('D') || value == "3", "{value}");
    }
    // The context is put back ahead of a last query, too.
    let mut client = proxy.connect().await;
    client.log_in("app_user.acme", &[]).await;
    client.query("RESET ALL").await;
    client.until(b'Z').await;
    client.send(&whole).await;
    assert_eq!(within("the end", to_the_end(&mut client)).await, ("TDCZ".into(), "3".into()));
    proxy.assert_serves().await;
}

#[tokio::test]
async fn notices_about_what_the_client_asked_for_arrive_at_login() {
    let long = "n".repeat(70);
    let framed = proxy(&[("relay", "framed"), ("pool_mode", "none")]).await;
    for proxy in [framed, narrow_pool(&[]).await] {
        for _ in 0..2 {
            let mut client = proxy.connect().await;
            client.start("app_user.acme", &[("application_name", &long)]).await;
            client.authenticate().await;
            let mut notices = Vec::new();
            loop {
                match client.message().await.expect("ReadyForQuery") {
                    (b'N', body) => notices.push(String::from_utf8_lossy(&body).into_owned()),
                    (b'Z', _) => break,
                    _ => {}
                }
            }
            assert!(matches!(&notices[..], [one] if one.contains("42622")), "{notices:?}");
            assert_eq!(client.value("SELECT current_setting('application_name')").await, "n".repeat(63));
            client.send(TERMINATE).await;
            assert_eq!(client.message().await, None);
        }
    }
}

/// When a connection on its way to PostgreSQL ends.
#[derive(Clone)]
enum Cut {
    /// When a tenant's context is set on it.
    AtContext,
    /// When the server reports its parameters, which is replaced by these bytes.
    AtParameters(Vec<u8>),
}

/// The port of a way to PostgreSQL on which the first `cuts` connections end early, and how many have been made.
async fn cutting_way(cuts: usize, cut: Cut) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, server) = (listener.local_addr().unwrap().port(), cluster().await.postgres.port());
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let is_cut = count.fetch_add(1, Ordering::Relaxed) < cuts;
            let cut = cut.clone();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                match is_cut {
                    true => pass_until(&mut near, &mut far, cut).await,
                    false => drop(tokio::io::copy_bidirectional(&mut near, &mut far).await),
                }
            });
        }
    });
    (port, made)
}

async fn pass_until(near: &mut TcpStream, far: &mut TcpStream, cut: Cut) {
    let (mut asked, mut said) = (vec![0; 65_536], vec![0; 65_536]);
    let has = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    loop {
        tokio::select! {
            read = near.read(&mut asked) => match (read, &cut) {
                (Ok(count @ 1..), Cut::AtContext) if has(&asked[..count], "acme") => return,
                (Ok(count @ 1..), _) => far.write_all(&asked[..count]).await.unwrap(),
                _ => return,
            },
            read = far.read(&mut said) => match (read, &cut) {
                (Ok(count @ 1..), Cut::AtParameters(last)) if has(&said[..count], "server_version") => {
                    return drop(near.write_all(last).await);
                }
                (Ok(count @ 1..), _) => near.write_all(&said[..count]).await.unwrap(),
                _ => return,
            },
        }
    }
}

#[tokio::test]
async fn a_backend_that_goes_while_it_is_bound_is_replaced_once() {
    let (port, made) = cutting_way(1, Cut::AtContext).await;
    let proxy = narrow_pool(&[("upstream_port", &port.to_string())]).await;
    let mut client = proxy.connect().await;
    client.log_in("app_user.acme", &[]).await;
    assert_eq!(client.value("SELECT count(*) FROM notes").await, "3");
    assert_eq!(made.load(Ordering::Relaxed), 2);

    let (port, made) = cutting_way(usize::MAX, Cut::AtContext).await;
    let proxy = narrow_pool(&[("upstream_port", &port.to_string())]).await;
    let mut client = proxy.connect().await;
    client.start("app_user.acme", &[]).await;
    assert_eq!(client.refusal_after_proof().await.code, "08006");
    assert_eq!(made.load(Ordering::Relaxed), 2, "and no more");
}

#[tokio::test]
async fn a_backend_that_goes_while_it_is_made_is_replaced_once() {
    let fatal = |code: &str| message(b'E', format!("SFATAL\0VFATAL\0C{code}\0Mgone\0\0").as_bytes());
    // Killed; terminated by an administrator; ended with others by the crash of one.
    for last in [Vec::new(), fatal("57P01"), fatal("57P02")] {
        let (port, made) = cutting_way(1, Cut::AtParameters(last.clone())).await;
        let proxy = narrow_pool(&[("upstream_port", &port.to_string())]).await;
        let mut client = proxy.connect().await;
        client.log_in("app_user.acme", &[]).await;
        assert_eq!(client.value("SELECT count(*) FROM notes").await, "3");
        assert_eq!(made.load(Ordering::Relaxed), 2);

        let (port, made) = cutting_way(usize::MAX, Cut::AtParameters(last)).await;
        let proxy = narrow_pool(&[("upstream_port", &port.to_string())]).await;
        let mut client = proxy.connect().await;
        client.start("app_user.acme", &[]).await;
        client.refusal_after_proof().await;
        assert_eq!(made.load(Ordering::Relaxed), 2, "and no more");
    }
}

/// What a client might send, by a generator that gives the same each time.
fn script(seed: u64) -> Vec<(u8, Vec<u8>)> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let statements =
        ["SELECT 1", "COPY t FROM STDIN", "SELECT 1/0", "COPY t TO STDOUT", "", "BEGIN", "ROLLBACK", "nonsense"];
    let queries =
        ["SELECT 1", "COPY t FROM STDIN", "COPY t FROM STDIN; COPY t FROM STDIN", "SELECT 1/0", "", "BEGIN", "COMMIT"];
    let mut script = Vec::new();
    for _ in 0..2 + next(14) {
        let statement = statements[next(statements.len())];
        let message = match next(16) {
            0..4 => {
                script.push((b'P', [b"\0", statement.as_bytes(), b"\0\0\0"].concat()));
                script.push((b'B', vec![0; 8]));
                (b'E', vec![0; 5])
            }
            4 => (b'D', b"P\0".to_vec()),
            5 => (b'C', b"P\0".to_vec()),
            6 | 7 => (b'S', vec![]),
            8 => (b'S', vec![]),
            9 => (b'H', vec![]),
            10 => (b'd', b"1\n".to_vec()),
            11 => (b'd', b"wrong\n".to_vec()),
            12 | 13 => (b'c', vec![]),
            14 => (b'f', b"no\0".to_vec()),
            _ => (b'Q', [queries[next(queries.len())].as_bytes(), b"\0"].concat()),
        };
        script.push(message);
    }
    script
}

/// The tracker against PostgreSQL itself: when it says that nothing is outstanding, the next answer is to the next request.
#[tokio::test]
async fn what_the_tracker_takes_for_answered_is_answered() -> TestResult {
    const MARK: &str = "the mark";
    let port = cluster().await.postgres.port();
    let (mut checked, mut ended) = (0, 0);
    for seed in 0..200 {
        let mut client = WireClient::connect(port).await;
        client.log_in("root_user", &[]).await;
        client.query("CREATE TEMP TABLE t (a int)").await;
        client.until_ready().await;
        let (mut tracker, script) = (Tracker::default(), script(seed));
        let mut bytes = Vec::new();
        for (tag, body) in &script {
            tracker.request(*tag);
            bytes.extend(message(*tag, body));
        }
        client.send(&bytes).await;
        // What waits for more is given an end, one of each kind.
        let mut ends = [COPY_DONE, SYNC, COPY_DONE, SYNC, COPY_DONE, SYNC].into_iter();
        while tracker.is_outstanding() {
            match timeout(std::time::Duration::from_millis(150), client.message()).await {
                Ok(Some((tag, _))) => tracker.answer(tag).map_err(|error| format!("{seed}: {error} {script:?}"))?,
                Ok(None) => break,
                Err(_) => {
                    let Some(end) = ends.next() else { break };
                    tracker.request(end[0]);
                    client.send(end).await;
                }
            }
        }
        if tracker.is_outstanding() {
            ended += 1;
            continue;
        }
        // A failed transaction takes no call.
        client
            .send(&[if tracker.is_synced() { &[][..] } else { SYNC }, &query("ROLLBACK"), &call(46, &[MARK])].concat())
            .await;
        let mut found = String::new();
        let is_closed = loop {
            match client.message().await {
                Some((b'V', body)) => {
                    assert_eq!(&body[4..], MARK.as_bytes());
                    break false;
                }
                Some((b'N' | b'A' | b'S', _)) => {}
                Some((tag, _)) => found.push(char::from(tag)),
                None => break true,
            }
        };
        if is_closed {
            // A COPY was broken off by another request: "protocol synchronization was lost".
            assert_eq!(found, "E", "{seed}: {script:?}");
            ended += 1;
            continue;
        }
        let expected = if tracker.is_synced() { "CZ" } else { "ZCZ" };
        assert_eq!(found, expected, "{seed}: {tracker:?} {script:?}");
        checked += 1;
    }
    assert!(checked > 100 && ended < 100, "{checked} {ended}");
    Ok(())
}
