//! The bytes after the login: deep pipelines, bulk transfer, half-close.

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use postgres_protocol::message::frontend;

use crate::support::{TestResult, proxy, within};

/// 8 MB of queries and 80 MB of answers, the queries written without a look at the answers.
#[tokio::test]
async fn four_thousand_pipelined_queries_are_all_answered() -> TestResult {
    const QUERIES: usize = 4000;
    let proxy = proxy(&[]).await;
    let client = proxy.log_in("app_user.acme").await;
    let sql = format!("SELECT repeat('x', 20000) /*{}*/", "y".repeat(2000));
    let one = async |_| client.simple_query(&sql).await.map(|messages| messages.len());
    let answers = futures_util::future::try_join_all((0..QUERIES).map(one));
    assert_eq!(within("every answer", answers).await?.len(), QUERIES);
    Ok(())
}

/// The same, by a client that reads nothing until it has written everything; the proxy and the kernel hold what fits.
#[tokio::test]
async fn a_client_that_writes_far_ahead_gets_every_answer() {
    let proxy = proxy(&[]).await;
    let mut client = proxy.connect().await;
    client.log_in("app_user.acme", &[]).await;
    let mut batch = BytesMut::new();
    for _ in 0..500 {
        frontend::query("SELECT 1", &mut batch).unwrap();
    }
    client.send(&batch).await;
    for _ in 0..500 {
        client.until(b'Z').await;
    }
}

#[tokio::test]
async fn copy_moves_bulk_both_ways_unchanged() -> TestResult {
    let proxy = proxy(&[]).await;
    let client = proxy.log_in("app_user.bulk").await;
    let sink = client.copy_in("COPY uploads FROM STDIN").await?;
    let mut sink = std::pin::pin!(sink);
    let chunk = bytes::Bytes::from(format!("{}\n", "z".repeat(999)).repeat(1000));
    for _ in 0..20 {
        sink.send(chunk.clone()).await?;
    }
    assert_eq!(sink.as_mut().finish().await?, 20_000);
    let mut rows =
        std::pin::pin!(client.copy_out("COPY (SELECT body FROM uploads WHERE body LIKE 'zz%') TO STDOUT").await?);
    let mut size = 0;
    while let Some(data) = within("data", rows.next()).await {
        size += data?.len();
    }
    assert_eq!(size, 20_000_000);
    Ok(())
}

#[tokio::test]
async fn a_client_that_half_closes_gets_the_answer_and_then_the_end() {
    let proxy = proxy(&[]).await;
    let mut client = proxy.connect().await;
    client.log_in("app_user.acme", &[]).await;
    client.query("SELECT count(*) FROM notes").await;
    client.half_close().await;
    assert!(client.until(b'D').await.ends_with(b"3"));
    while client.message().await.is_some() {}
}
