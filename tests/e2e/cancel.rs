//! Cancel requests reach the query they are for, and no other.

use crate::support::{
    Cluster, Mode, TestResult, WireClient, after_cancel, cluster, eventually, mode, proxy, proxy_for, startup_packet,
    within,
};

async fn sleeps_on(pid: &str) -> bool {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1::text::int AND wait_event = 'PgSleep'";
    let sleeping: i64 = cluster().await.admin().await.query_one(sql, &[&pid]).await.expect("query").get(0);
    sleeping == 1
}

#[tokio::test]
async fn a_running_query_is_cancelled() -> TestResult {
    let proxy = proxy(&[]).await;
    let client = proxy.log_in("app_user.acme").await;
    let pid: String = client.query_one("SELECT pg_backend_pid()::text", &[]).await?.get(0);
    let token = client.cancel_token();
    let query = tokio::spawn(async move { (client.batch_execute("SELECT pg_sleep(600)").await, client) });
    eventually("the query runs", async || sleeps_on(&pid).await).await;
    token.cancel_query(tokio_postgres::NoTls).await?;
    let (outcome, client) = within("the query ends", query).await?;
    assert_eq!(outcome.unwrap_err().code().map(|code| code.code()), Some("57014"));
    after_cancel(async || client.batch_execute("SELECT 1").await).await?;
    Ok(())
}

#[tokio::test]
async fn keys_of_ended_sessions_and_made_up_ones_cancel_nothing() {
    let proxy = proxy(&[]).await;
    let mut first = proxy.connect().await;
    let late_key = first.log_in("app_user.acme", &[]).await;
    drop(first);
    eventually("the session has ended", async || proxy.handle.stats().sessions_active == 0).await;

    let mut victim = proxy.connect().await;
    let key = victim.log_in("app_user.globex", &[]).await;
    let pid = victim.value("SELECT pg_backend_pid()").await;
    victim.query("SELECT pg_sleep(600)").await;
    eventually("the query runs", async || sleeps_on(&pid).await).await;
    let guessed = [&key[..4], &[0, 1, 2, 3]].concat();
    for wrong in [&late_key, &guessed, &vec![0; 8], &vec![7; 260]] {
        WireClient::cancel(proxy.port(), wrong).await;
        assert!(sleeps_on(&pid).await, "the query goes on");
    }
    WireClient::cancel(proxy.port(), &key).await;
    eventually("the right key cancels", async || !sleeps_on(&pid).await).await;
    while victim.message().await.is_some_and(|(tag, _)| tag != b'Z') {}
}

#[tokio::test]
async fn a_server_that_is_down_leaves_no_cancel_hanging() -> TestResult {
    let own = Cluster::start().await;
    let proxy = proxy_for(&own.postgres, &[]).await?;
    let mut client = proxy.connect().await;
    let key = client.log_in("app_user.acme", &[]).await;
    own.postgres.kill().await?;
    WireClient::cancel(proxy.port(), &key).await;
    Ok(())
}

/// Protocol 3.2 came with PostgreSQL 18: its cancel keys have 32 bytes.
#[tokio::test]
async fn long_cancel_keys_of_protocol_3_2_work() -> TestResult {
    let own;
    let server = match std::env::var("PGVPD_TEST_PG18_BINDIR") {
        Ok(bin_dir) => {
            own = Cluster::start_in(&bin_dir).await;
            &own
        }
        Err(_) => cluster().await,
    };
    let proxy = proxy_for(&server.postgres, &[]).await?;
    let mut client = proxy.connect().await;
    client.send(&startup_packet(0x3_0002, &[("user", "app_user.acme"), ("database", "shop")])).await;
    client.authenticate().await;
    let key = client.until(b'K').await;
    client.until(b'Z').await;
    // An older server negotiates 3.0, whose keys have 4 bytes. Those of a pool are the proxy's own.
    assert_eq!(key.len(), if server.is_at_least(18) || mode() == Mode::Session { 36 } else { 8 });
    let pid = client.value("SELECT pg_backend_pid()").await;
    client.query("SELECT pg_sleep(600)").await;
    let admin = server.admin().await;
    eventually("the query runs", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1::text::int AND wait_event = 'PgSleep'";
        admin.query_one(sql, &[&pid]).await.is_ok_and(|row| row.get::<_, i64>(0) == 1)
    })
    .await;
    WireClient::cancel(proxy.port(), &key).await;
    let (mut tag, mut body) = client.message().await.expect("an answer");
    while tag != b'E' {
        (tag, body) = client.message().await.expect("an error");
    }
    assert!(String::from_utf8_lossy(&body).contains("57014"));
    Ok(())
}

/// Drivers show it as the server process's, and their tests compare it with `pg_backend_pid()`.
#[tokio::test]
async fn a_cancel_keys_number_is_the_backends() {
    let proxy = proxy(&[]).await;
    for tenant in ["acme", "globex"] {
        let mut client = proxy.connect().await;
        let key = client.log_in(&format!("app_user.{tenant}"), &[]).await;
        let pid = client.value("SELECT pg_backend_pid()").await;
        assert_eq!(i32::from_be_bytes(key[..4].try_into().unwrap()).to_string(), pid);
    }
}
