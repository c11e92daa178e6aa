//! Bytes that are no login. Each gets the right error, and the next client is served.

use crate::support::{FakeServer, PgError, TestProxy, eventually, passthrough, proxy, startup_packet};

async fn refused_with(proxy: &TestProxy, bytes: &[u8], code: &str) -> PgError {
    let mut client = proxy.connect().await;
    client.send(bytes).await;
    let error = client.refusal().await;
    error.assert_is(code);
    proxy.assert_serves().await;
    error
}

#[tokio::test]
async fn an_http_request_is_told_so() {
    let proxy = proxy(&[]).await;
    let error = refused_with(&proxy, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "08P01").await;
    assert!(error.message.contains("HTTP"), "{error:?}");
}

#[tokio::test]
async fn a_tls_client_hello_on_the_plain_port_is_told_so() {
    let proxy = proxy(&[]).await;
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 506]].concat();
    let error = refused_with(&proxy, &hello, "08P01").await;
    assert!(error.message.contains("TLS") && error.hint.contains("sslmode"), "{error:?}");
}

#[tokio::test]
async fn lengths_that_no_startup_packet_has_are_refused_at_once() {
    let proxy = proxy(&[]).await;
    for length in [0_i32, 4, -1, i32::MAX, i32::MIN, 10_001] {
        refused_with(&proxy, &length.to_be_bytes(), "08P01").await;
    }
}

/// A valid startup packet of this many bytes.
fn packet_of(size: usize) -> Vec<u8> {
    let with = |note: &str| startup_packet(0x3_0000, &[("user", "app_user.acme"), ("application_name", note)]);
    with(&"x".repeat(size - with("").len()))
}

#[tokio::test]
async fn a_startup_packet_of_10001_bytes_is_refused_and_one_of_10000_is_read() {
    let proxy = proxy(&[("context_in_startup", "false")]).await;
    refused_with(&proxy, &packet_of(10_001), "08P01").await;
    let mut client = proxy.connect().await;
    client.send(&packet_of(10_000)).await;
    client.until(b'R').await;
}

#[tokio::test]
async fn a_packet_that_the_context_makes_too_long_is_refused() {
    let proxy = passthrough(&[]).await;
    let error = refused_with(&proxy, &packet_of(10_000), "08P01").await;
    assert!(error.message.contains("10000 bytes together with the tenant's context"), "{error:?}");
}

#[tokio::test]
async fn random_bytes_never_hang_or_crash_the_proxy() {
    let proxy = proxy(&[("handshake_timeout", "1")]).await;
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..200_usize {
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .take(round)
        .collect();
        let mut client = proxy.connect().await;
        client.send(&bytes).await;
        client.half_close().await;
        while client.message().await.is_some() {}
    }
    proxy.assert_serves().await;
}

#[tokio::test]
async fn malformed_parameters_are_refused() {
    let proxy = proxy(&[]).await;
    let packet = |parameters: &[(&str, &str)]| startup_packet(0x3_0000, parameters);
    let user = ("user", "app_user.acme");
    refused_with(&proxy, &packet(&[("database", "shop")]), "08P01").await;
    refused_with(&proxy, &packet(&[("user", "")]), "08P01").await;
    refused_with(&proxy, &packet(&[user, ("user", "app_user.globex")]), "08P01").await;
    refused_with(&proxy, &packet(&[user, ("DateStyle", "ISO"), ("datestyle", "ISO")]), "08P01").await;
    refused_with(&proxy, &packet(&[user, ("application_name", "a\nb")]), "08P01").await;
    refused_with(&proxy, &packet(&[("user", "app_user.ac\x7fme")]), "08P01").await;
    let mut not_utf8 = packet(&[("user", "app_user.xx")]);
    let tail = not_utf8.len() - 4;
    not_utf8[tail..tail + 2].copy_from_slice(&[0xc3, 0x28]);
    refused_with(&proxy, &not_utf8, "08P01").await;
    let mut no_terminator = packet(&[user]);
    *no_terminator.last_mut().unwrap() = b'x';
    refused_with(&proxy, &no_terminator, "08P01").await;
}

#[tokio::test]
async fn other_major_versions_are_refused_and_higher_minors_negotiated() {
    let proxy = proxy(&[]).await;
    refused_with(&proxy, &startup_packet(0x2_0000, &[("user", "app_user.acme")]), "0A000").await;
    refused_with(&proxy, &startup_packet(0x4_0000, &[("user", "app_user.acme")]), "0A000").await;

    let mut client = proxy.connect().await;
    let parameters = [("user", "app_user.acme"), ("database", "shop"), ("_pq_.test_option", "1")];
    client.send(&startup_packet(0x3_270f, &parameters)).await;
    let (tag, body) = client.message().await.expect("negotiation");
    assert_eq!(tag, b'v', "NegotiateProtocolVersion comes first");
    assert!(matches!(body[..4], [0, 3, 0, 0 | 2]), "{body:?}");
    assert!(body.ends_with(b"\0\0\0\x01_pq_.test_option\0"), "{body:?}");
    client.authenticate().await;
    client.until(b'Z').await;
    assert_eq!(client.value("SELECT count(*) FROM notes").await, "3");
}

#[tokio::test]
async fn encryption_requests_are_answered_once_each() {
    let proxy = proxy(&[]).await;
    let (ssl, gss) = ([0, 0, 0, 8, 4, 210, 22, 47], [0, 0, 0, 8, 4, 210, 22, 48]);
    let mut client = proxy.connect().await;
    client.send(&gss).await;
    assert_eq!(client.byte().await, b'N');
    client.send(&ssl).await;
    assert_eq!(client.byte().await, b'N');
    client.log_in("app_user.acme", &[]).await;

    for request in [ssl, gss] {
        let mut client = proxy.connect().await;
        client.send(&request).await;
        assert_eq!(client.byte().await, b'N');
        client.send(&request).await;
        client.refusal().await.assert_is("08P01");
    }
}

#[tokio::test]
async fn a_startup_that_stalls_is_cut_at_the_handshake_timeout() {
    let proxy = proxy(&[("handshake_timeout", "0.3")]).await;
    let whole = startup_packet(0x3_0000, &[("user", "app_user.acme"), ("database", "shop")]);
    // Nothing, half a length, half a packet, and a whole one whose password never comes.
    for sent in [0, 2, 20, whole.len()] {
        let mut client = proxy.connect().await;
        client.send(&whole[..sent]).await;
        client.refusal().await.assert_is("57014");
    }
    let mut slow = proxy.connect().await;
    slow.send(&[0, 0, 0, 8, 4, 210, 22, 47]).await;
    assert_eq!(slow.byte().await, b'N');
    slow.refusal().await.assert_is("57014");
    eventually_serves(&proxy).await;
}

/// As `assert_serves`, for a proxy whose handshake timeout may be too short for a busy machine.
async fn eventually_serves(proxy: &TestProxy) {
    eventually("the next client is served", async || proxy.try_log_in("app_user.acme").await.is_ok()).await;
}

#[tokio::test]
async fn bytes_sent_ahead_are_held_back_until_the_session_is_ready() {
    let proxy = passthrough(&[]).await;
    // A query right behind the startup is answered once the session is ready.
    let mut client = proxy.connect().await;
    let mut bytes = startup_packet(0x3_0000, &[("user", "trust_user.acme"), ("database", "shop")]);
    bytes.extend(b"Q\0\0\0\x1fSELECT count(*) FROM notes\0");
    client.send(&bytes).await;
    let row = client.until(b'D').await;
    assert!(row.ends_with(b"3"), "{row:?}");
    drop(client);

    let mut client = proxy.connect().await;
    client.start("app_user.acme", &[]).await;
    client.until(b'R').await;
    client.send(b"Q\0\0\0\x0dselect 1\0").await;
    client.refusal().await.assert_is("08P01");
    proxy.assert_serves().await;
}

#[tokio::test]
async fn more_bytes_ahead_than_are_held_back_are_refused() {
    let server = FakeServer::start().await;
    let proxy = passthrough(&[("upstream_port", &server.port().to_string())]).await;
    let mut client = proxy.connect().await;
    client.start("app_user.acme", &[]).await;
    let _silent = server.accept().await;
    client.send(&b"Q\0\0\0\x0dselect 1\0".repeat(5000)).await;
    let error = client.refusal().await;
    error.assert_is("08P01");
    assert!(error.message.contains("65536 bytes before the session was ready"), "{error:?}");
}
