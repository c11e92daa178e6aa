//! How soon the pool has a connection again whose client has closed in the middle of something.

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use crate::support::{auth_file, cluster, proxy_for};

/// The next client gets in sooner than answers that cannot come are waited for. True if it gets the same connection.
async fn is_reused_at_once_after(last_bytes: &[u8]) -> bool {
    let options = [
        ("pool_mode", "session"),
        ("pool_size", "1"),
        ("pool_checkout_timeout", "2"),
        ("auth_file", auth_file().to_str().unwrap()),
    ];
    let proxy = proxy_for(&cluster().await.postgres, &options).await.unwrap();
    let mut first = proxy.connect().await;
    first.log_in("app_user.acme", &[]).await;
    let pid = first.value("SELECT pg_backend_pid()").await;
    first.send(last_bytes).await;
    drop(first);

    let mut next = proxy.connect().await;
    next.log_in("app_user.globex", &[]).await;
    next.value("SELECT pg_backend_pid()").await == pid
}

#[tokio::test]
async fn a_client_that_closes_without_a_sync_frees_its_connection_at_once() {
    let mut parse = BytesMut::new();
    frontend::parse("", "SELECT 1", [], &mut parse).unwrap();
    assert!(is_reused_at_once_after(&parse).await, "the connection is reset");
}

/// A short query goes to the server when all of it is there, so that nothing is left of one that is not.
#[tokio::test]
async fn half_a_query_that_its_client_leaves_costs_no_connection() {
    let mut query = BytesMut::new();
    frontend::query("SELECT 1", &mut query).unwrap();
    assert!(is_reused_at_once_after(&query[..query.len() - 1]).await, "the server has seen nothing of it");
}

#[tokio::test]
async fn a_client_that_closes_in_the_middle_of_a_message_frees_its_place_at_once() {
    let mut query = BytesMut::new();
    frontend::query(&"x".repeat(100_000), &mut query).unwrap();
    assert!(!is_reused_at_once_after(&query[..query.len() - 1]).await, "the server waits for the rest");
}
