//! Clients that come and go without a login: that is no error, and nobody is told of one.

use support::tls::{client_config, tls_site};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{TestProxy, TestResult, cluster, eventually, proxy, proxy_for, startup_packet, within};

const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
const GSSENC_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x30";
const TERMINATE: &[u8] = b"X\0\0\0\x04";

/// Everything that the proxy answers until it closes.
async fn answers(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = within("the end", stream.read_to_end(&mut all)).await;
    all
}

async fn connect(proxy: &TestProxy) -> TcpStream {
    within("connect", TcpStream::connect(("127.0.0.1", proxy.port()))).await.expect("connected")
}

/// Nothing has been counted as an error, and the proxy serves.
async fn assert_untroubled(proxy: &TestProxy) {
    proxy.assert_serves().await;
    eventually("the connections are gone", async || proxy.handle.stats().sessions_active == 0).await;
    assert_eq!(proxy.handle.stats().refused_total, 0);
}

#[tokio::test]
async fn a_goodbye_before_the_login_is_just_closed() -> TestResult {
    let proxy = proxy(&[]).await;
    for (asked, answer) in [(&b""[..], &b""[..]), (SSL_REQUEST, b"N"), (GSSENC_REQUEST, b"N")] {
        for cut in 0..TERMINATE.len() {
            let mut stream = connect(&proxy).await;
            stream.write_all(asked).await?;
            stream.write_all(&TERMINATE[..cut]).await?;
            stream.flush().await?;
            tokio::task::yield_now().await;
            stream.write_all(&TERMINATE[cut..]).await?;
            assert_eq!(answers(&mut stream).await, answer, "{asked:?} {cut}");
        }
    }
    assert_untroubled(&proxy).await;
    Ok(())
}

#[tokio::test]
async fn a_goodbye_over_tls_before_the_login_is_just_closed() -> TestResult {
    let site = tls_site().await;
    let proxy = proxy_for(&site.cluster.postgres, &site.with_clients()).await?;
    let mut stream = connect(&proxy).await;
    stream.write_all(SSL_REQUEST).await?;
    assert_eq!(stream.read_u8().await?, b'S');
    let connector = TlsConnector::from(std::sync::Arc::new(client_config(&site.authority, None)));
    let mut stream = connector.connect("localhost".try_into()?, stream).await?;
    stream.write_all(TERMINATE).await?;
    assert_eq!(answers(&mut stream).await, b"");
    // Nor is anything wrong where the handshake does not come.
    for (bytes, answered) in [(SSL_REQUEST, true), (b"\x16\x03\x01", false)] {
        let mut stream = connect(&proxy).await;
        stream.write_all(bytes).await?;
        if answered {
            assert_eq!(stream.read_u8().await?, b'S');
        }
        drop(stream);
    }
    assert_untroubled(&proxy).await;
    Ok(())
}

#[tokio::test]
async fn a_client_may_hang_up_at_any_byte_of_its_first_packets() -> TestResult {
    let proxy = proxy(&[]).await;
    let whole = [SSL_REQUEST, &startup_packet(0x3_0000, &[("user", "app_user.acme"), ("database", "shop")])].concat();
    for end in 0..whole.len() {
        let mut stream = connect(&proxy).await;
        stream.write_all(&whole[..end]).await?;
        stream.shutdown().await?;
        let answer: &[u8] = if end >= SSL_REQUEST.len() { b"N" } else { b"" };
        assert_eq!(answers(&mut stream).await, answer, "{end}");
    }
    assert_untroubled(&proxy).await;
    Ok(())
}

/// A resolver's query that a login waits for.
#[tokio::test]
async fn a_login_that_is_given_up_leaves_no_statement() -> TestResult {
    let sleeping = "SELECT pg_sleep(600)::text AS x";
    let file = support::resolving::file_of(&format!(
        "[[resolver]]\nname = \"slow\"\nquery = \"{sleeping}\"\ninject = {{ \"app.x\" = \"x\" }}\n"
    ));
    let proxy = proxy(&[("resolvers", file.path()), ("resolver_timeout", "300"), ("handshake_timeout", "300")]).await;
    let admin = cluster().await.admin().await;
    let running = async || -> i64 {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = $1";
        admin.query_one(sql, &[&sleeping]).await.expect("query").get(0)
    };
    for ended_by_the_client in [true, false] {
        let config = proxy.config("app_user.acme");
        let login = tokio::spawn(async move { config.connect(tokio_postgres::NoTls).await.map(drop) });
        eventually("the query runs", async || running().await == 1).await;
        match ended_by_the_client {
            true => login.abort(),
            false => assert_eq!(proxy.handle.disconnect_tenant("acme"), 1),
        }
        eventually("the query has ended", async || running().await == 0).await;
        assert!(login.await.map_or(true, |login| login.is_err()), "no session");
    }
    Ok(())
}
