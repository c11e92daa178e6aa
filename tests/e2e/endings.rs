//! What ends with a session: its query is cancelled and its backend closed, whoever ended it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use crate::support::{
    Mode, TestProxy, TestResult, WireClient, auth_file, cluster, eventually, mode, proxy, proxy_for, within,
};

/// A statement that would write a row after ten minutes, and the row's text.
struct Work {
    sql: String,
    body: String,
}

impl Work {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let body = format!("unfinished {}", NEXT.fetch_add(1, Ordering::Relaxed));
        let sql =
            format!("INSERT INTO notes (tenant_id, body) SELECT 'unfinished', '{body}' FROM pg_sleep(600) /*{body}*/");
        Self { sql, body }
    }

    /// How many backends run it.
    async fn running(&self) -> i64 {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%/*' || $1 || '*/'";
        cluster().await.admin().await.query_one(sql, &[&self.body]).await.expect("query").get(0)
    }

    async fn starts(&self) {
        eventually("the statement runs", async || self.running().await == 1).await;
    }

    /// It ends long before its time, and has written nothing.
    async fn is_gone(&self) {
        eventually("the statement has ended", async || self.running().await == 0).await;
        let sql = "SELECT count(*) FROM notes WHERE body = $1";
        let rows: i64 = cluster().await.admin().await.query_one(sql, &[&self.body]).await.expect("query").get(0);
        assert_eq!(rows, 0, "the row is not written");
    }
}

/// A client in the middle of a statement.
async fn busy(proxy: &TestProxy) -> (WireClient, Work) {
    let work = Work::new();
    let mut client = proxy.connect().await;
    client.log_in("app_user.unfinished", &[]).await;
    client.query(&work.sql).await;
    work.starts().await;
    (client, work)
}

#[tokio::test]
async fn a_disconnected_tenants_statement_is_cancelled() {
    let proxy = proxy(&[]).await;
    let (mut client, work) = busy(&proxy).await;
    assert_eq!(proxy.handle.disconnect_tenant("unfinished"), 1);
    work.is_gone().await;
    while client.message().await.is_some() {}
    proxy.assert_serves().await;
}

#[tokio::test]
async fn a_client_that_is_gone_leaves_no_statement() {
    let proxy = proxy(&[]).await;
    for is_reset in [false, true] {
        let (client, work) = busy(&proxy).await;
        if is_reset {
            client.reset()
        } else {
            drop(client)
        }
        work.is_gone().await;
    }
    eventually("the sessions are gone", async || proxy.handle.stats().sessions_active == 0).await;
    proxy.assert_serves().await;
}

/// The cancel request may be there before the server has read the statement.
#[tokio::test]
async fn a_statement_sent_in_the_last_moment_is_cancelled() {
    let proxy = proxy(&[]).await;
    for _ in 0..10 {
        let work = Work::new();
        let mut client = proxy.connect().await;
        client.log_in("app_user.unfinished", &[]).await;
        client.query(&work.sql).await;
        client.reset();
        eventually("the session is gone", async || proxy.handle.stats().sessions_active == 0).await;
        work.is_gone().await;
    }
}

#[tokio::test]
async fn statements_that_wait_behind_it_do_not_run() {
    let proxy = proxy(&[]).await;
    let (mut client, work) = busy(&proxy).await;
    let behind = [Work::new(), Work::new(), Work::new()];
    let mut batch = BytesMut::new();
    for one in &behind {
        frontend::query(&one.sql, &mut batch).unwrap();
    }
    client.send(&batch).await;
    proxy.handle.disconnect_tenant("unfinished");
    work.is_gone().await;
    eventually("the session is gone", async || proxy.handle.stats().sessions_active == 0).await;
    for one in behind {
        one.is_gone().await;
    }
}

#[tokio::test]
async fn a_shutdown_that_does_not_wait_ends_statements() {
    let proxy = proxy(&[]).await;
    let (_client, work) = busy(&proxy).await;
    within("the end", proxy.handle.shutdown(Duration::ZERO)).await;
    work.is_gone().await;
}

#[tokio::test]
async fn a_session_counts_until_its_statement_has_ended() {
    let proxy = proxy(&[("tenant_max_connections", "1")]).await;
    let (client, work) = busy(&proxy).await;
    client.reset();
    eventually("there is room", async || proxy.try_log_in("app_user.unfinished").await.is_ok()).await;
    assert_eq!(work.running().await, 0);
}

/// With a COPY to a client that reads nothing, the server waits to send and takes no cancel request.
#[tokio::test]
async fn a_backend_that_waits_to_send_ends() {
    let proxy = proxy(&[]).await;
    let mut client = proxy.connect().await;
    client.log_in("app_user.unfinished", &[]).await;
    let sql = "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1000) a, generate_series(1, 100000) b) TO STDOUT";
    client.query(sql).await;
    client.until(b'H').await;
    let admin = cluster().await.admin().await;
    let running = async || -> i64 {
        let asked = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = $1";
        admin.query_one(asked, &[&sql]).await.expect("query").get(0)
    };
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite' AND query = $1";
    eventually("the server waits", async || {
        admin.query_one(waits, &[&sql]).await.expect("query").get::<_, i64>(0) == 1
    })
    .await;
    assert_eq!(proxy.handle.disconnect_tenant("unfinished"), 1);
    eventually("the backend has ended", async || running().await == 0).await;
}

/// A client that keeps its socket open must not keep its connection from others.
#[tokio::test]
async fn a_refused_client_does_not_hold_its_connection() -> TestResult {
    let options = [
        ("pool_mode", "session"),
        ("pool_size", "1"),
        ("pool_checkout_timeout", "0.7"),
        ("auth_file", auth_file().to_str().unwrap()),
    ];
    let proxy = proxy_for(&cluster().await.postgres, &options).await?;
    for _ in 0..5 {
        let mut first = proxy.connect().await;
        first.log_in("app_user.acme", &[]).await;
        assert_eq!(proxy.handle.disconnect_tenant("acme"), 1);
        first.error().await.assert_is("57P01");
        // The first one's socket is still open.
        proxy.try_log_in("app_user.globex").await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_idle_session_of_a_pool_leaves_its_connection_to_others() {
    if mode() != Mode::Session {
        // Only a pool has a connection that outlives its session.
        return;
    }
    let proxy = proxy(&[("pool_size", "1")]).await;
    let mut first = proxy.connect().await;
    first.log_in("app_user.acme", &[]).await;
    let pid = first.value("SELECT pg_backend_pid()").await;
    proxy.handle.disconnect_tenant("acme");
    let mut next = proxy.connect().await;
    next.log_in("app_user.globex", &[]).await;
    assert_eq!(next.value("SELECT pg_backend_pid()").await, pid, "nothing was outstanding");
}
