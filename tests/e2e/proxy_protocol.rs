//! PROXY headers: what they change, and who may send them.

use crate::support::{PgError, TestProxy, WireClient, passthrough, proxy, psql};

/// This machine's balancer, as far as the proxy is told.
const REQUIRE: &[(&str, &str)] = &[("proxy_protocol", "require"), ("proxy_protocol_from", "loopback")];

/// From an address of the range kept for documentation (RFC 5737).
const ELSEWHERE: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 4660 5432\r\n";
const HERE: &[u8] = b"PROXY TCP4 127.0.0.1 127.0.0.1 4660 5432\r\n";

/// A version 2 header: PROXY, TCP over IPv4, from 192.0.2.7, with one TLV.
const ELSEWHERE_V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xc0\0\x02\x07\xc0\0\x02\x01\x12\x34\x15\x38\x04\0\x01\0";
/// A balancer's health check.
const LOCAL_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

async fn connect_behind(proxy: &TestProxy, header: &[u8]) -> WireClient {
    let mut client = proxy.connect().await;
    client.send(header).await;
    client
}

async fn refusal_of(proxy: &TestProxy, header: &[u8], user: &str) -> PgError {
    let mut client = connect_behind(proxy, header).await;
    client.start(user, &[]).await;
    client.refusal().await
}

#[tokio::test]
async fn a_login_behind_a_header_is_a_login() {
    let proxy = proxy(REQUIRE).await;
    for header in [ELSEWHERE, HERE, ELSEWHERE_V2, LOCAL_V2, b"PROXY UNKNOWN\r\n"] {
        let mut client = connect_behind(&proxy, header).await;
        client.log_in("app_user.acme", &[]).await;
        assert_eq!(client.value("SELECT count(*) FROM notes").await, "3");
    }
}

#[tokio::test]
async fn rules_of_place_see_the_client_behind_the_balancer() {
    let proxy = passthrough(&[REQUIRE, &[("superuser_bypass", "root_user")]].concat()).await;
    for header in [ELSEWHERE, ELSEWHERE_V2] {
        // Not from bypass_from; not where trust is for; not where a password may be in the clear.
        for user in ["root_user", "trust_user.acme", "plain_user.acme"] {
            refusal_of(&proxy, header, user).await.assert_is("28000");
        }
    }
    for user in ["root_user", "trust_user.acme", "plain_user.acme"] {
        connect_behind(&proxy, HERE).await.log_in(user, &[]).await;
    }
}

#[tokio::test]
async fn a_connection_without_a_header_is_refused_with_a_hint() {
    let proxy = proxy(REQUIRE).await;
    let error = refusal_of(&proxy, b"", "app_user.acme").await;
    error.assert_is("08P01");
    assert!(error.hint.contains("send-proxy"), "{error:?}");
    for broken in [&b"PROXY TCP4 nonsense\r\n"[..], b"PROXY TCP4 ", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut client = connect_behind(&proxy, broken).await;
        client.send(&[b'x'; 200]).await;
        client.refusal().await.assert_is("08P01");
    }
}

#[tokio::test]
async fn nobody_but_the_balancers_may_connect_or_send_a_header() {
    let proxy = proxy(&[("proxy_protocol", "require"), ("proxy_protocol_from", "192.0.2.1")]).await;
    for header in [&b""[..], HERE] {
        let error = refusal_of(&proxy, header, "app_user.acme").await;
        error.assert_is("28000");
        assert!(error.hint.contains("proxy_protocol_from"), "{error:?}");
    }
}

/// libpq begins with SSLRequest, and shows no error that comes in answer to it.
#[tokio::test]
async fn psql_shows_why_it_may_not_connect() {
    for (from, reason) in [("loopback", "PROXY header"), ("192.0.2.1", "proxy_protocol_from")] {
        let proxy = proxy(&[("proxy_protocol", "require"), ("proxy_protocol_from", from)]).await;
        let target = format!("host=127.0.0.1 port={} user=app_user.acme dbname=shop", proxy.port());
        let refused = psql(&["-d", &target, "-c", "SELECT 1"], "").await;
        assert!(refused.code == 2 && refused.err.contains(reason), "{refused:?}");
    }
}

#[tokio::test]
async fn a_header_is_no_startup_packet_where_none_is_expected() {
    let proxy = proxy(&[]).await;
    refusal_of(&proxy, HERE, "app_user.acme").await.assert_is("08P01");
}

#[tokio::test]
async fn the_unix_socket_needs_no_header() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let proxy = proxy(&[REQUIRE, &[("listen_unix_dir", path)]].concat()).await;
    let target = format!("host={path} port={} user=app_user.acme dbname=shop", proxy.port());
    let answer = psql(&["-d", &target, "-c", "SELECT count(*) FROM notes"], "").await;
    assert_eq!((answer.code, &*answer.out), (0, "3"), "{}", answer.err);
}
