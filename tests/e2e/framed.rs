//! The framed relay: time limits on sessions and requests, and errors said between messages.

use std::time::Duration;

use futures_util::SinkExt;

use crate::support::{PgError, TestProxy, TestResult, WireClient, cluster, proxy, within};

/// Short enough to wait for, long enough for a login and a query on a busy machine.
const SHORT: (&str, &str) = ("tenant_query_timeout", "2");

async fn logged_in(options: &[(&str, &str)]) -> (TestProxy, WireClient) {
    let proxy = proxy(options).await;
    let mut client = proxy.connect().await;
    client.log_in("app_user.acme", &[]).await;
    (proxy, client)
}

/// The server's own error for a query, and the ReadyForQuery behind it.
async fn error_of(client: &mut WireClient, sql: &str) -> PgError {
    client.query(sql).await;
    let error = client.error().await;
    client.until(b'Z').await;
    error
}

#[tokio::test]
async fn a_session_that_is_idle_for_too_long_is_told_so() {
    let (proxy, mut client) = logged_in(&[SHORT]).await;
    assert_eq!(client.value("SELECT count(*) FROM notes").await, "3");
    let error = client.refusal().await;
    error.assert_is("57P05");
    assert!(error.hint.contains("tenant_query_timeout"), "{error:?}");
    proxy.assert_serves().await;
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_cancelled_and_the_session_goes_on() {
    let (_proxy, mut client) = logged_in(&[SHORT]).await;
    let error = error_of(&mut client, "SELECT pg_sleep(600)").await;
    assert_eq!((&*error.severity, &*error.code), ("ERROR", "57014"));
    let message = "pgvpd: the request was cancelled: it took longer than tenant_query_timeout, 2 s";
    assert!(error.message == message && error.hint.contains("query_timeout"), "{error:?}");
    assert_eq!(client.value("SELECT count(*) FROM notes").await, "3");
}

/// Somebody else's cancel request is not the proxy's.
#[tokio::test]
async fn a_cancel_request_of_the_clients_own_reads_as_postgresqls() {
    let proxy = proxy(&[("tenant_query_timeout", "600")]).await;
    let mut client = proxy.connect().await;
    let key = client.log_in("app_user.acme", &[]).await;
    client.query("SELECT pg_sleep(600)").await;
    let error = within("the answer", async {
        tokio::select! {
            error = client.error() => error,
            () = async { loop { WireClient::cancel(proxy.port(), &key).await } } => unreachable!("it goes on"),
        }
    })
    .await;
    assert_eq!(error.message, "canceling statement due to user request");
}

#[tokio::test]
async fn one_tenants_time_limit_cancels_no_other_session() -> TestResult {
    let (_proxy, mut slow) = logged_in(&[SHORT]).await;
    let unlimited = proxy(&[("relay", "framed")]).await;
    let other = unlimited.log_in("app_user.acme").await;
    let sleep = tokio::spawn(async move { other.batch_execute("SELECT pg_sleep(4)").await });
    error_of(&mut slow, "SELECT pg_sleep(600)").await;
    Ok(within("the other query", sleep).await??)
}

#[tokio::test]
async fn a_bypass_user_has_no_time_limit() -> TestResult {
    let proxy = proxy(&[("tenant_query_timeout", "0.05"), ("superuser_bypass", "root_user")]).await;
    let client = proxy.log_in("root_user").await;
    client.batch_execute("SELECT pg_sleep(0.5)").await?;
    Ok(())
}

/// The Sync that a driver sends behind Execute is ignored in copy mode: counted, it would leave the session outstanding.
#[tokio::test]
async fn after_a_copy_by_extended_query_the_session_is_idle_not_outstanding() -> TestResult {
    let proxy = proxy(&[SHORT]).await;
    let (client, mut connection) = proxy.config("app_user.bulk").connect(tokio_postgres::NoTls).await?;
    let ended = tokio::spawn(async move { std::future::poll_fn(|cx| connection.poll_message(cx)).await });
    let sink = client.copy_in("COPY uploads FROM STDIN").await?;
    let mut sink = std::pin::pin!(sink);
    sink.send(bytes::Bytes::from_static(b"framed\n")).await?;
    assert_eq!(sink.as_mut().finish().await?, 1);
    let error = within("the end", ended).await?.expect("an error").expect_err("the session ends");
    assert_eq!(error.code().map(|code| code.code()), Some("57P05"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_shutdown_says_so_to_framed_sessions() {
    let (proxy, mut client) = logged_in(&[("relay", "framed")]).await;
    assert_eq!(client.value("SELECT count(*) FROM notes").await, "3");
    let (closed, error) = tokio::join!(proxy.handle.shutdown(Duration::ZERO), client.refusal());
    assert_eq!(closed, 1);
    error.assert_is("57P01");
}

#[tokio::test]
async fn a_message_that_cannot_be_one_ends_the_session_and_reaches_no_server() {
    for header in [*b"Q\0\0\0\x03", *b"Q\xff\xff\xff\xff", *b"d\0\0\0\0"] {
        let (proxy, mut client) = logged_in(&[("relay", "framed")]).await;
        client.send(&header).await;
        client.refusal().await.assert_is("08P01");
        proxy.assert_serves().await;
    }
}

#[tokio::test]
async fn the_servers_own_last_words_are_passed_on_alone() {
    let (_proxy, mut client) = logged_in(&[("relay", "framed")]).await;
    let pid = client.value("SELECT pg_backend_pid()").await;
    let admin = cluster().await.admin().await;
    admin.execute(&format!("SELECT pg_terminate_backend({pid})"), &[]).await.unwrap();
    let error = client.error().await;
    assert_eq!((&*error.code, error.message.starts_with("pgvpd:")), ("57P01", false), "{error:?}");
    assert_eq!(client.message().await, None);
}
