//! Session pooling: who gets a connection, and what the next session finds on it.

use std::collections::HashSet;

use tokio_postgres::Client;

use crate::support::{
    Cluster, TestDatabase, TestProxy, TestResult, WireClient, auth_file, cluster, eventually, proxy, proxy_for, within,
};

/// A proxy with a pool of this size and these options.
async fn pool_of(size: usize, options: &[(&str, &str)]) -> TestProxy {
    let (size, file) = (size.to_string(), auth_file().display().to_string());
    let own = [("pool_mode", "session"), ("auth_file", &*file), ("pool_size", &*size)];
    proxy(&[&own, options].concat()).await
}

async fn pid(client: &Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.expect("a session").get(0)
}

/// Waits until nobody has a connection of the pool.
async fn all_are_back(proxy: &TestProxy) {
    eventually("all connections are back", async || {
        let stats = proxy.handle.stats();
        stats.sessions_active == 0 && stats.pool_idle == stats.pool_connections
    })
    .await;
}

/// Runs a statement in a session of a tenant's, which then ends.
async fn visit(proxy: &TestProxy, tenant: &str, sql: &str) -> i32 {
    let client = proxy.log_in(&format!("app_user.{tenant}")).await;
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let pid = pid(&client).await;
    drop(client);
    all_are_back(proxy).await;
    pid
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_clients_makes_as_many_connections_as_the_pool_has() -> TestResult {
    let proxy = std::sync::Arc::new(pool_of(20, &[("pool_checkout_timeout", "30")]).await);
    let clients: Vec<_> = (0..500)
        .map(|n| {
            let proxy = std::sync::Arc::clone(&proxy);
            tokio::spawn(async move {
                let client = proxy.log_in(&format!("app_user.t{}", n % 50)).await;
                let row = client.query_one("SELECT pg_backend_pid(), current_tenant_id()", &[]).await.expect("row");
                assert_eq!(row.get::<_, String>(1), format!("t{}", n % 50));
                assert!(proxy.handle.stats().pool_connections <= 20);
                row.get::<_, i32>(0)
            })
        })
        .collect();
    let mut backends = HashSet::new();
    for client in clients {
        backends.insert(within("a client of the burst", client).await?);
    }
    assert_eq!(backends.len(), 20);
    all_are_back(&proxy).await;
    assert_eq!(proxy.handle.stats().pool_connections, 20);
    Ok(())
}

#[tokio::test]
async fn a_client_that_waits_too_long_is_told_what_to_change_and_takes_no_place_with_it() {
    let proxy = pool_of(1, &[("pool_checkout_timeout", "0.5")]).await;
    let holder = proxy.log_in("app_user.acme").await;
    for _ in 0..3 {
        let mut client = proxy.connect().await;
        client.start("app_user.globex", &[]).await;
        let error = client.refusal_after_proof().await;
        error.assert_is("53300");
        assert!(error.hint.contains("pool_size"), "{error:?}");
    }
    drop(holder);
    all_are_back(&proxy).await;
    proxy.assert_serves().await;
    assert_eq!(proxy.handle.stats().pool_waiting, 0);
}

#[tokio::test]
async fn nothing_of_a_session_is_left_for_the_next_on_its_connection() -> TestResult {
    let proxy = pool_of(1, &[]).await;
    let first = visit(&proxy, "acme", "SELECT 1").await;
    for residue in [
        "CREATE TEMP TABLE left_over (i int)",
        "PREPARE left_over AS SELECT 1",
        "DECLARE left_over CURSOR WITH HOLD FOR SELECT 1",
        "LISTEN left_over",
        "SELECT pg_advisory_lock(4711)",
        "SET search_path = pg_temp; SET statement_timeout = 1; SET application_name = 'left over'; SET my.own = 'x'",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SELECT set_config('app.current_tenant_id', 'globex', false)",
        "SET ROLE reporting",
        "BEGIN; SET LOCAL app.current_tenant_id = 'globex'; CREATE TEMP TABLE left_over (i int)",
        "CREATE TEMP SEQUENCE s; SELECT nextval('s')",
        "DISCARD ALL",
    ] {
        assert_eq!(visit(&proxy, "globex", residue).await, first, "the same connection, after {residue}");
        let client = proxy.log_in("app_user.acme").await;
        let row = client
            .query_one(
                "SELECT current_tenant_id(), (SELECT count(*) FROM notes), current_user::text,
                   concat_ws(',', current_setting('search_path'), current_setting('statement_timeout'),
                     current_setting('application_name'), current_setting('transaction_read_only')),
                   coalesce(current_setting('my.own', true), ''),
                   (SELECT count(*) FROM pg_prepared_statements WHERE name = 'left_over')
                   + (SELECT count(*) FROM pg_cursors WHERE name = 'left_over')
                   + (SELECT count(*) FROM pg_listening_channels())
                   + (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())
                   + (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema())",
                &[],
            )
            .await?;
        assert_eq!((row.get(0), row.get(1), row.get(2)), ("acme", 3_i64, "app_user"), "{residue}");
        assert_eq!((row.get(3), row.get(4)), ("\"$user\", public,0,,off", ""), "{residue}");
        assert_eq!(row.get::<_, i64>(5), 0, "{residue}");
        let unused = client.query_one("SELECT lastval()", &[]).await.unwrap_err();
        assert_eq!(unused.code().map(|code| code.code()), Some("55000"), "{residue}");
        assert_eq!(pid(&client).await, first);
        drop(client);
        all_are_back(&proxy).await;
    }
    assert_eq!(proxy.handle.stats().failed_resets_total, 0);
    Ok(())
}

/// `setseed()` survives DISCARD ALL, so that who seeds could foresee what `random()` gives the next tenant.
#[tokio::test]
async fn random_numbers_of_the_next_session_are_not_those_that_the_last_one_seeded() -> TestResult {
    let proxy = pool_of(1, &[]).await;
    let client = proxy.log_in("app_user.acme").await;
    client.batch_execute("SELECT setseed(0.5)").await?;
    let foreseen: f64 = client.query_one("SELECT random()", &[]).await?.get(0);
    client.batch_execute("SELECT setseed(0.5)").await?;
    drop(client);
    all_are_back(&proxy).await;
    let client = proxy.log_in("app_user.globex").await;
    let found: f64 = client.query_one("SELECT random()", &[]).await?.get(0);
    assert_ne!(found, foreseen);
    Ok(())
}

/// Bytes of messages, each a type and a body.
fn messages(all: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (tag, body) in all {
        bytes.push(*tag);
        bytes.extend(u32::try_from(body.len() + 4).expect("short").to_be_bytes());
        bytes.extend(*body);
    }
    bytes
}

#[tokio::test]
async fn however_a_client_leaves_the_next_one_gets_its_own_replies_and_no_place_is_lost() {
    let proxy = pool_of(1, &[]).await;
    let bind: &[u8] = b"\0\0\0\0\0\0\0\0";
    let execute: &[u8] = b"\0\0\0\0\0";
    for (what, sent) in [
        ("a query that nobody reads", messages(&[(b'Q', b"SELECT generate_series(1, 100000)\0")])),
        ("a query and goodbye", messages(&[(b'Q', b"SELECT 4711\0"), (b'X', b"")])),
        ("many queries", messages(&[(b'Q', &b"SELECT 4711\0"[..]); 200])),
        ("an open transaction", messages(&[(b'Q', b"BEGIN; SELECT 4711\0")])),
        ("a failed transaction", messages(&[(b'Q', b"BEGIN\0"), (b'Q', b"SELECT 1/0\0")])),
        ("half a message", b"Q\0\0\0\x20SELECT 47".to_vec()),
        ("half a header", b"Q\0\0".to_vec()),
        ("half a goodbye", b"X\0\0".to_vec()),
        ("a query and half a goodbye", [messages(&[(b'Q', b"SELECT 4711\0")]), b"X\0".to_vec()].concat()),
        ("what is no message", b"Q\0\0\0\x01".to_vec()),
        ("parse without sync", messages(&[(b'P', b"\0SELECT 4711\0\0\0")])),
        ("an error without sync", messages(&[(b'P', b"\0SELEKT\0\0\0"), (b'H', b"")])),
        (
            "execute without sync",
            messages(&[(b'P', b"\0SELECT 4711\0\0\0"), (b'B', bind), (b'E', execute), (b'H', b"")]),
        ),
        ("a copy in that has begun", messages(&[(b'Q', b"COPY uploads FROM STDIN\0"), (b'd', b"half")])),
        (
            "a copy in in half a message",
            [messages(&[(b'Q', b"COPY uploads FROM STDIN\0")]), b"d\0\0\x01\0ha".to_vec()].concat(),
        ),
        ("a copy out", messages(&[(b'Q', b"COPY (SELECT generate_series(1, 100000)) TO STDOUT\0")])),
        ("a listener", messages(&[(b'Q', b"LISTEN gone; NOTIFY gone\0")])),
    ] {
        for reset in [false, true] {
            let mut client = proxy.connect().await;
            client.log_in("app_user.globex", &[]).await;
            client.send(&sent).await;
            if reset {
                client.reset();
            } else {
                drop(client);
            }
            let mut next = proxy.connect().await;
            next.log_in("app_user.acme", &[]).await;
            let found = next.value("SELECT 'mine ' || current_tenant_id() || (SELECT count(*) FROM notes)").await;
            assert_eq!(found, "mine acme3", "after {what}");
            next.send(&messages(&[(b'X', b"")])).await;
            drop(next);
            all_are_back(&proxy).await;
            assert!(proxy.handle.stats().pool_connections <= 1, "after {what}");
        }
    }
}

#[tokio::test]
async fn what_a_client_sends_before_its_goodbye_is_done() -> TestResult {
    let db = TestDatabase::create().await;
    let admin = db.admin().await;
    admin.batch_execute("CREATE TABLE done (i int); GRANT INSERT ON done TO app_user").await?;
    let proxy = pool_of(1, &[("context_variables", "app.x")]).await;
    let mut client = proxy.connect().await;
    client.start("app_user.acme", &[("database", db.name())]).await;
    drop(client);
    let mut client = proxy.connect().await;
    client.log_in_to(db.name(), "app_user.acme").await;
    let late = b"INSERT INTO done SELECT 1 FROM pg_sleep(0.2)\0";
    client.send(&messages(&[(b'Q', late), (b'X', b"")])).await;
    drop(client);
    all_are_back(&proxy).await;
    let rows: i64 = admin.query_one("SELECT count(*) FROM done", &[]).await?.get(0);
    assert_eq!(rows, 1);
    Ok(())
}

#[tokio::test]
async fn a_key_of_a_session_that_is_over_does_not_cancel_the_next_on_its_connection() {
    let proxy = pool_of(1, &[]).await;
    let mut first = proxy.connect().await;
    let late_key = first.log_in("app_user.globex", &[]).await;
    let backend = first.value("SELECT pg_backend_pid()").await;
    drop(first);
    all_are_back(&proxy).await;

    let mut next = proxy.connect().await;
    let key = next.log_in("app_user.acme", &[]).await;
    assert_eq!(next.value("SELECT pg_backend_pid()").await, backend);
    assert_eq!(key[..4], backend.parse::<i32>().expect("a number").to_be_bytes());
    assert_ne!(key[4..], late_key[4..], "the secret is this session's");
    next.query("SELECT pg_sleep(600)").await;
    let admin = cluster().await.admin().await;
    let sleeps = async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1::text::int AND wait_event = 'PgSleep'";
        admin.query_one(sql, &[&backend]).await.expect("query").get::<_, i64>(0) == 1
    };
    eventually("the query runs", sleeps).await;
    for wrong in [&late_key, &vec![0; 8]] {
        WireClient::cancel(proxy.port(), wrong).await;
        assert!(sleeps().await, "the query goes on");
    }
    WireClient::cancel(proxy.port(), &key).await;
    assert_eq!(next.error().await.code, "57014");
}

#[tokio::test]
async fn what_a_client_asks_for_at_its_start_is_its_own_survives_a_reset_and_is_reported() -> TestResult {
    let proxy = pool_of(1, &[]).await;
    let ask = "SELECT concat_ws('|', current_setting('search_path'), current_setting('TimeZone'),
        current_setting('application_name'), current_setting('work_mem'), nullif(current_setting('my.own', true), ''))";
    let defaults = {
        let mut plain = proxy.connect().await;
        plain.log_in("app_user.acme", &[]).await;
        plain.value(ask).await
    };
    all_are_back(&proxy).await;
    let mut client = proxy.connect().await;
    let parameters = [
        ("application_name", "my app"),
        ("TimeZone", "Asia/Tokyo"),
        ("options", "-c search_path=one,two -c work_mem=7MB -c my.own=x -c TimeZone=UTC"),
    ];
    let reported = client.log_in_reporting("app_user.acme", &parameters).await;
    let value = |name: &str| reported.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
    assert_eq!((value("application_name"), value("TimeZone")), (Some("my app"), Some("Asia/Tokyo")));
    assert_eq!(value("is_superuser"), Some("off"));
    let version = cluster().await.postgres.version();
    assert!(value("server_version").is_some_and(|found| found.starts_with(&version.0.to_string())), "{reported:?}");
    let asked_for = "one,two|Asia/Tokyo|my app|7MB|x";
    for reset in ["SELECT", "RESET ALL", "DISCARD ALL", "BEGIN; RESET ALL; COMMIT", "RESET work_mem"] {
        client.query(reset).await;
        client.until(b'Z').await;
        assert_eq!(client.value(ask).await, asked_for, "after {reset}");
        assert_eq!(client.value("SELECT public.current_tenant_id()").await, "acme");
    }
    client.query("SET search_path = three").await;
    client.until(b'Z').await;
    client.query("RESET work_mem").await;
    client.until(b'Z').await;
    assert_eq!(client.value("SHOW search_path").await, "three", "what else was set stays");
    drop(client);
    all_are_back(&proxy).await;
    let mut next = proxy.connect().await;
    next.log_in("app_user.globex", &[]).await;
    assert_eq!(next.value(ask).await, defaults);
    Ok(())
}

#[tokio::test]
async fn a_context_that_is_lost_in_a_transaction_comes_back_and_a_rollback_does_not_lose_it() {
    let proxy = pool_of(1, &[]).await;
    let mut client = proxy.connect().await;
    client.log_in("app_user.acme", &[]).await;
    for statements in [
        &["BEGIN", "RESET ALL", "SELECT 1", "ROLLBACK"][..],
        &["BEGIN", "SELECT 1", "RESET ALL", "SELECT 1/0", "ROLLBACK"],
        &["RESET ALL", "BEGIN", "SELECT 1/0", "ROLLBACK"],
        &["BEGIN; RESET ALL; SELECT 1/0", "ROLLBACK"],
        &["BEGIN", "RESET app.current_tenant_id", "COMMIT"],
    ] {
        for statement in statements {
            client.query(statement).await;
            client.until_ready().await;
        }
        assert_eq!(client.value("SELECT current_tenant_id()").await, "acme", "{statements:?}");
    }
}

#[tokio::test]
async fn a_parameter_that_the_server_refuses_is_its_own_error_and_costs_no_connection() {
    let proxy = pool_of(1, &[]).await;
    for (parameters, code) in [
        (&[("work_mem", "much")][..], "22023"),
        (&[("no_such_parameter", "x")], "42704"),
        (&[("options", "-c log_connections=on")], "55P02"),
    ] {
        let mut client = proxy.connect().await;
        client.start("app_user.acme", parameters).await;
        let error = client.refusal_after_proof().await;
        assert_eq!((error.severity.as_str(), error.code.as_str()), ("FATAL", code), "{error:?}");
    }
    let mut client = proxy.connect().await;
    client.start("app_user.acme", &[("database", "no_such_database")]).await;
    drop(client);
    all_are_back(&proxy).await;
    proxy.assert_serves().await;
}

#[tokio::test]
async fn an_idle_connection_that_dies_is_not_given_to_anybody() -> TestResult {
    let proxy = pool_of(2, &[]).await;
    let mut last = visit(&proxy, "acme", "SELECT 1").await;
    let admin = cluster().await.admin().await;
    for _ in 0..5 {
        admin.batch_execute(&format!("SELECT pg_terminate_backend({last})")).await?;
        let next = visit(&proxy, "globex", "SELECT 1").await;
        assert_ne!(next, last);
        last = next;
    }
    Ok(())
}

/// With a delay of zero each idle connection is tried, by a round trip that does nothing.
#[tokio::test]
async fn a_connection_that_was_idle_for_long_is_tried_first() -> TestResult {
    let proxy = pool_of(1, &[("server_check_delay", "0")]).await;
    let first = visit(&proxy, "acme", "SELECT 1").await;
    for _ in 0..3 {
        assert_eq!(visit(&proxy, "globex", "SELECT 1").await, first);
    }
    Ok(())
}

#[tokio::test]
async fn all_pools_together_keep_to_their_limit_and_idle_connections_make_room() -> TestResult {
    let others = [TestDatabase::create().await, TestDatabase::create().await, TestDatabase::create().await];
    let proxy = pool_of(2, &[("max_upstream_connections", "2"), ("pool_checkout_timeout", "20")]).await;
    for round in 0..2 {
        for db in &others {
            let mut client = proxy.connect().await;
            client.log_in_to(db.name(), "app_user.acme").await;
            assert_eq!(client.value("SELECT current_database()").await, db.name(), "{round}");
            assert!(proxy.handle.stats().pool_connections <= 2);
        }
        all_are_back(&proxy).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_pool_keeps_its_least_number_and_lets_the_rest_go() -> TestResult {
    let options = [("min_pool_size", "2"), ("pool_idle_timeout", "0.1"), ("server_lifetime", "3600")];
    let proxy = pool_of(5, &options).await;
    let sessions =
        [proxy.log_in("app_user.a").await, proxy.log_in("app_user.b").await, proxy.log_in("app_user.c").await];
    assert_eq!(proxy.handle.stats().pool_connections, 3);
    drop(sessions);
    eventually("two are left", async || proxy.handle.stats().pool_connections == 2).await;
    let short = pool_of(5, &[("server_lifetime", "0.001")]).await;
    let first = visit(&short, "a", "SELECT 1").await;
    assert_eq!(short.handle.stats().pool_connections, 0, "too old for another session");
    assert_ne!(visit(&short, "a", "SELECT 1").await, first);
    Ok(())
}

#[tokio::test]
async fn bypass_users_have_connections_of_their_own() -> TestResult {
    let proxy = pool_of(1, &[("superuser_bypass", "root_user")]).await;
    let (first, second) = (proxy.log_in("root_user").await, proxy.log_in("root_user").await);
    assert_ne!(pid(&first).await, pid(&second).await);
    assert_eq!(proxy.handle.stats().pool_connections, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_down_under_load_is_reported_and_found_again_when_it_is_back() -> TestResult {
    let own = Cluster::start().await;
    let file = auth_file().display().to_string();
    let options = [("pool_mode", "session"), ("auth_file", &*file), ("pool_size", "5"), ("pool_checkout_timeout", "5")];
    let proxy = std::sync::Arc::new(proxy_for(&own.postgres, &options).await?);
    let stop = tokio_util::sync::CancellationToken::new();
    let clients: Vec<_> = (0..20)
        .map(|n| {
            let (proxy, stop) = (std::sync::Arc::clone(&proxy), stop.clone());
            tokio::spawn(async move {
                let mut served = 0;
                while !stop.is_cancelled() {
                    let outcome = async {
                        let client = proxy.try_log_in(&format!("app_user.t{n}")).await?;
                        client.query_one("SELECT pg_backend_pid()", &[]).await
                    };
                    match within("a client under load", outcome).await {
                        Ok(_) => served += 1,
                        Err(error) => {
                            let code = error.code().map(|code| code.code().to_owned());
                            let is_right =
                                code.as_deref().is_none_or(|code| ["08006", "57P01", "57P02", "57P03"].contains(&code));
                            assert!(is_right, "{error:?}");
                        }
                    }
                }
                served
            })
        })
        .collect();
    eventually("the pool is in use", async || proxy.handle.stats().sessions_total > 100).await;
    own.postgres.kill().await?;
    let before = proxy.handle.stats().refused_total;
    eventually("clients are refused", async || proxy.handle.stats().refused_total > before + 100).await;
    own.postgres.restart().await?;
    let before = proxy.handle.stats().sessions_total;
    eventually("clients are served again", async || proxy.handle.stats().sessions_total > before + 100).await;
    stop.cancel();
    for client in clients {
        // Not each of them has to be refused: one may not have tried in between.
        assert!(within("a client stops", client).await? > 0);
    }
    let started =
        "SELECT min(backend_start) > pg_postmaster_start_time() FROM pg_stat_activity WHERE usename = 'app_user'";
    let row = own.admin().await.query_one(started, &[]).await?;
    assert!(row.get::<_, Option<bool>>(0).unwrap_or(true));
    Ok(())
}
