//! The admin API: who may, and what slow and hostile clients can do.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{ADMIN_TOKEN, TestResult, administered, eventually, http, http_bytes, proxy, within};

const CHANGES: [&str; 7] = [
    "/reload",
    "/drain",
    "/pools/pause",
    "/pools/resume",
    "/tenants/acme/disconnect",
    "/sessions/1/disconnect",
    "/resolvers/invalidate",
];

#[tokio::test]
async fn nothing_is_changed_without_the_token() -> TestResult {
    let proxy = administered(&[]).await;
    let client = proxy.log_in("app_user.acme").await;
    for path in CHANGES {
        let wrong = format!("Bearer {ADMIN_TOKEN}x");
        for headers in [&[][..], &[("authorization", &*wrong)], &[("authorization", ADMIN_TOKEN)]] {
            let answer = http(proxy.admin(), "POST", path, headers, "").await;
            assert_eq!(answer.status, 401, "{path} {headers:?}");
            assert!(answer.head.contains("www-authenticate: Bearer"), "{}", answer.head);
        }
        assert_eq!(proxy.get(path).await.status, 405, "{path} by GET, which a link can do");
    }
    client.batch_execute("SELECT 1").await?;
    proxy.assert_serves().await;
    Ok(())
}

#[tokio::test]
async fn where_no_token_is_set_nothing_is_changed_at_all() {
    let proxy = proxy(&[("admin_port", "0")]).await;
    for path in CHANGES {
        let answer = http(proxy.admin(), "POST", path, &[("authorization", "Bearer ")], "").await;
        assert_eq!(answer.status, 403, "{path}");
        assert!(answer.body.contains("needs admin_token, and none is set"), "{}", answer.body);
    }
    assert_eq!(proxy.get("/status").await.status, 200);
}

#[tokio::test]
async fn off_loopback_only_health_and_readiness_are_told_without_the_token() {
    let open = administered(&[("admin_host", "0.0.0.0")]).await;
    let closed = proxy(&[("admin_port", "0"), ("admin_host", "0.0.0.0")]).await;
    for path in ["/health", "/ready"] {
        assert_eq!((open.get(path).await.status, closed.get(path).await.status), (200, 200), "{path}");
    }
    let token = format!("Bearer {ADMIN_TOKEN}");
    for path in ["/metrics", "/status"] {
        assert_eq!((open.get(path).await.status, closed.get(path).await.status), (401, 403), "{path}");
        let shown = http(open.admin(), "GET", path, &[("authorization", &token)], "").await;
        assert_eq!(shown.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_web_page_that_has_given_its_name_this_address_reads_no_names_of_tenants() {
    let proxy = administered(&[]).await;
    for path in ["/metrics", "/status"] {
        let rebound = http(proxy.admin(), "GET", path, &[("host", "evil.example")], "").await;
        assert_eq!(rebound.status, 403, "{path}");
        assert_eq!(http(proxy.admin(), "GET", path, &[("host", "localhost:9")], "").await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn bytes_that_are_no_request_and_requests_that_are_too_large_are_refused() {
    let proxy = administered(&[]).await;
    let token = format!("authorization: Bearer {ADMIN_TOKEN}\r\n");
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(64 * 1024));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(1000));
    let body = format!(
        "POST /resolvers/invalidate HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{token}content-type: application/json\r\n\
         content-length: 1000000\r\n\r\n{}",
        "x".repeat(1_000_000)
    );
    for (what, bytes, statuses) in [
        ("a PostgreSQL client", &b"\0\0\0\x08\x04\xd2\x16\x2f"[..], &[0, 400][..]),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &[0, 400]),
        ("no request", b"hello\r\n\r\n", &[400]),
        ("a long path", long.as_bytes(), &[0, 414, 431]),
        ("many headers", many.as_bytes(), &[0, 431]),
        ("a large body", body.as_bytes(), &[0, 400, 413]),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0, 400, 505]),
    ] {
        let answer = http_bytes(proxy.admin(), bytes).await;
        assert!(statuses.contains(&answer.status), "{what}: {} {}", answer.status, answer.head);
    }
    assert_eq!(proxy.get("/health").await.status, 200);
}

#[tokio::test]
async fn clients_that_say_nothing_take_the_admin_port_for_a_moment_and_nothing_else() -> TestResult {
    let proxy = administered(&[]).await;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(proxy.admin()).await?;
        // Half a head, and no more.
        let _ = stream.write_all(b"GET /status HTTP/1.1\r\nhost: ").await;
        slow.push(stream);
    }
    // Clients of the database do not notice.
    proxy.assert_serves().await;
    // Who had no place is closed at once, and the others after a few seconds.
    for mut stream in slow {
        let mut rest = Vec::new();
        let _ = within("the slow client is closed", stream.read_to_end(&mut rest)).await;
    }
    eventually("there is room again", async || proxy.get("/health").await.status == 200).await;
    Ok(())
}

#[tokio::test]
async fn a_client_that_does_not_read_is_left() -> TestResult {
    let proxy = administered(&[]).await;
    let mut deaf = TcpStream::connect(proxy.admin()).await?;
    // Many answers that it never reads.
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {}\r\n\r\n", proxy.admin()).repeat(400_000);
    let sent = within("it is cut off", deaf.write_all(request.as_bytes())).await;
    assert!(sent.is_err(), "the proxy closed it");
    assert_eq!(proxy.get("/health").await.status, 200);
    Ok(())
}
