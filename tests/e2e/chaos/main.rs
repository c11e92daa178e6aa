//! Many clients of many tenants on a few connections, doing everything that could leave something behind: no foreign row, no
//! left-over state, no reply of another's, nobody stuck, and in the end every place is there.
//!
//! | variable | meaning |
//! |---|---|
//! | `PGVPD_TEST_CHAOS_SECONDS` | how long; 10 without it |
//! | `PGVPD_TEST_CHAOS_SEED` | what the random choices begin with; without it another one each time, which is printed |
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it cannot go on")]
#![expect(clippy::print_stdout, reason = "a failure is repeated with what is printed")]

mod actions;
mod client;
mod dice;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::{Cluster, TestProxy, TestResult, auth_file, eventually, proxy_for, within};
use tokio_util::sync::CancellationToken;

use crate::actions::Action;
use crate::client::{Over, Session};
use crate::dice::Dice;

const CLIENTS: u64 = 200;
const TENANTS: u64 = 50;
const CONNECTIONS: usize = 5;

/// How long a session may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a login may take: the checkout's own timeout, and some.
const LOGIN: Duration = Duration::from_secs(75);

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}: {text:?}")))
}

/// What all clients share.
struct Chaos {
    port: u16,
    /// Keys of sessions that are over, or soon will be.
    keys: Mutex<Vec<Vec<u8>>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    stop: CancellationToken,
    /// What a fresh session of the server itself reports, and what random() gives first there after setseed(0.5).
    defaults: BTreeMap<String, String>,
    seeded: String,
}

impl Chaos {
    fn count(&self, what: &'static str) {
        *self.counts.lock().unwrap().entry(what).or_default() += 1;
    }

    fn counted(&self, what: &str) -> u64 {
        self.counts.lock().unwrap().get(what).copied().unwrap_or_default()
    }

    fn old_key(&self, dice: &mut Dice) -> Vec<u8> {
        let keys = self.keys.lock().unwrap();
        if keys.is_empty() { vec![0; 8] } else { keys[usize::try_from(dice.below(keys.len() as u64)).unwrap()].clone() }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_clients_do_the_next_one_on_a_connection_sees_nothing_of_it() -> TestResult {
    let seconds = number("PGVPD_TEST_CHAOS_SECONDS").unwrap_or(10);
    let seed = number("PGVPD_TEST_CHAOS_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("PGVPD_TEST_CHAOS_SEED={seed}, {seconds} s");
    let own = Cluster::start().await;
    let admin = own.admin().await;
    admin
        .batch_execute(&format!(
            "INSERT INTO notes (tenant_id, body) SELECT t, t FROM generate_series(0, {}) n, concat('t', lpad(n::text, 2, '0')) t;
             CREATE SEQUENCE ticket; GRANT USAGE, UPDATE ON SEQUENCE ticket TO app_user, reporting",
            TENANTS - 1
        ))
        .await?;
    let (file, connections) = (auth_file().display().to_string(), CONNECTIONS.to_string());
    let options = [
        ("pool_mode", "session"),
        ("auth_file", &*file),
        ("pool_size", &*connections),
        ("max_upstream_connections", &*connections),
        ("pool_checkout_timeout", "60"),
        ("handshake_timeout", "90"),
    ];
    let proxy = proxy_for(&own.postgres, &options).await?;
    let mut direct = Session::log_in(own.postgres.port(), "").await.expect("a login at the server");
    let seeded = direct.run("SELECT setseed(0.5); SELECT random()", &[]).await.expect("random()").remove(1);
    let chaos = Arc::new(Chaos {
        port: proxy.port(),
        keys: Mutex::default(),
        counts: Mutex::default(),
        stop: CancellationToken::new(),
        defaults: direct.parameters.clone(),
        seeded,
    });
    drop(direct);
    let clients: Vec<_> =
        (0..CLIENTS).map(|n| tokio::spawn(play(Arc::clone(&chaos), seed.wrapping_add(n), n))).collect();

    let end = Instant::now() + Duration::from_secs(seconds);
    let mut dice = Dice::new(seed);
    while Instant::now() < end && !clients.iter().any(|client| client.is_finished()) {
        // Not one that still starts: where it is the only one, all who wait for it are told.
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE usename = 'app_user' AND state IS NOT NULL AND state <> 'starting' ORDER BY md5(pid::text || $1) LIMIT 1";
        // Before it is done: a client that loses its session looks here.
        chaos.count("kill a backend");
        admin.query(kill, &[&dice.below(1000).to_string()]).await?;
        admin.query("SELECT pg_sleep(0.3)", &[]).await?;
        assert!(proxy.handle.stats().pool_connections <= CONNECTIONS);
    }
    chaos.stop.cancel();
    for client in clients {
        within("a client ends", client).await?;
    }
    chaos.counts.lock().unwrap().iter().for_each(|(what, count)| println!("{count:8} {what}"));
    let failed_resets = proxy.handle.stats().failed_resets_total;
    println!("{failed_resets:8} reset that failed");

    assert_all_places_are_there(&proxy).await;
    let left = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app_user' AND state <> 'idle'";
    let busy = async || admin.query_one(left, &[]).await.expect("an answer").get::<_, i64>(0);
    eventually("no connection is in a transaction", async || busy().await == 0).await;
    let kills = chaos.counted("kill a backend");
    assert!(chaos.counted(LOST) <= kills, "sessions were lost that nobody killed");
    // What a client leaves outstanding is drained: a pool that closes every such connection is none.
    assert!(failed_resets <= kills, "connections were closed that nobody killed");
    for action in Action::ALL {
        assert!(chaos.counted(action.name()) > 0, "{} has not happened", action.name());
    }
    Ok(())
}

/// As many sessions as there are connections can be had at once, and the next one waits.
async fn assert_all_places_are_there(proxy: &TestProxy) {
    eventually("every connection is idle", async || {
        let stats = proxy.handle.stats();
        stats.sessions_active == 0 && stats.pool_waiting == 0 && stats.pool_idle == stats.pool_connections
    })
    .await;
    let mut held = Vec::new();
    for n in 0..CONNECTIONS {
        held.push(within("a place", Session::log_in(proxy.port(), &format!("t0{n}"))).await.expect("a session"));
    }
    let next = tokio::spawn(Session::log_in(proxy.port(), "t09"));
    eventually("the next client waits", async || proxy.handle.stats().pool_waiting == 1).await;
    assert!(!next.is_finished() && proxy.handle.stats().pool_connections == CONNECTIONS);
    held.pop();
    within("a place", next).await.expect("it has not failed").expect("a session");
}

const LOST: &str = "session that was lost";

/// One client: session after session, each checked at its beginning.
async fn play(chaos: Arc<Chaos>, seed: u64, n: u64) {
    let mut dice = Dice::new(seed);
    // The first one of each client differs from its neighbours', so that all happen in a short run too.
    let mut first = Some(Action::ALL[usize::try_from(n).unwrap() % Action::ALL.len()]);
    while !chaos.stop.is_cancelled() {
        let tenant = format!("t{:02}", (n + dice.below(TENANTS)) % TENANTS);
        if first.is_none() && dice.below(8) == 0 {
            chaos.count("leave during the login");
            Session::give_up_login(chaos.port, &tenant, &mut dice).await;
        }
        // Most of them wait for a place most of the time: the end is not to wait for all.
        let login = tokio::time::timeout(LOGIN, Session::log_in(chaos.port, &tenant));
        let Some(login) = chaos.stop.run_until_cancelled(login).await else { return };
        let mut session = match login.unwrap_or_else(|_| panic!("{tenant} is stuck in its login")) {
            Ok(session) => session,
            Err(over) => {
                chaos.count(over.name());
                continue;
            }
        };
        chaos.count("session");
        let mut done = Vec::new();
        let lived = tokio::time::timeout(PATIENCE, async {
            session.assert_clean(&chaos.defaults, &chaos.seeded).await?;
            for _ in 0..1 + dice.below(3) {
                let action = first.take().unwrap_or_else(|| dice.of(Action::ALL));
                chaos.count(action.name());
                done.push(action.name());
                action.run(&mut session, &tenant, &mut dice, &chaos).await?;
                session.assert_mine().await?;
            }
            Ok::<(), Over>(())
        });
        if let Err(over) = lived.await.unwrap_or_else(|_| panic!("{tenant} is stuck, having done {done:?}")) {
            chaos.count(over.name());
        }
        chaos.keys.lock().unwrap().push(session.key.clone());
        within("a client leaves", session.leave(&mut dice)).await;
    }
}

impl Over {
    fn name(&self) -> &'static str {
        match self {
            Self::Left => "session that ended in the middle",
            Self::Lost => LOST,
            Self::Exhausted => "login without a free connection",
        }
    }
}
