//! TLS with clients.

use std::sync::Arc;

use pgvpd_core::rustls::ClientConnection;
use pgvpd_core::rustls::pki_types::ServerName;
use support::tls::{TlsSite, client_config, log_in_over_tls, tls_site};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::config::SslNegotiation;
use tokio_postgres::error::SqlState;
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::TlsConnector;

use crate::support::{SHOP, TestProxy, TestResult, after_cancel, eventually, proxy_for, psql, startup_packet, within};

const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";

/// A proxy whose server is reached without TLS.
async fn proxy(site: &TlsSite, options: &[(&str, &str)]) -> TestProxy {
    let options = [&site.with_clients()[..], options].concat();
    proxy_for(&site.cluster.postgres, &options).await.expect("the proxy starts")
}

async fn tenants(client: &tokio_postgres::Client) -> Vec<String> {
    let rows = client.query("SELECT DISTINCT tenant_id FROM notes", &[]).await.expect("rows");
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_client_over_tls_has_its_tenants_rows_by_every_way_in() -> TestResult {
    let site = tls_site().await;
    let proxy = proxy(site, &[("tls_port", "0")]).await;
    let tls_port = proxy.handle.tls_addr().expect("a TLS listener").port();
    for port in [proxy.port(), tls_port] {
        for negotiation in [SslNegotiation::Postgres, SslNegotiation::Direct] {
            let mut config = proxy.config("app_user.acme");
            config.ssl_negotiation(negotiation);
            // The one with the port that was asked for, not a second host.
            let mut own = tokio_postgres::Config::new();
            own.host("localhost").hostaddr([127, 0, 0, 1].into()).port(port).dbname(SHOP);
            own.user("app_user.acme").password("secret").ssl_negotiation(negotiation);
            let client = log_in_over_tls(&own, client_config(&site.authority, None)).await?;
            assert_eq!(tenants(&client).await, ["acme"], "{port} {negotiation:?}");
        }
    }
    // Beside them, as before.
    assert_eq!(tenants(&proxy.log_in("app_user.globex").await).await, ["globex"]);
    Ok(())
}

#[tokio::test]
async fn every_sslmode_of_libpq_means_what_it_says() -> TestResult {
    let site = tls_site().await;
    for (client_tls, refused) in
        [("allow", &[][..]), ("require", &["disable"]), ("disable", &["require", "verify-ca", "verify-full"])]
    {
        let tls_port = [("tls_port", "0")];
        let more: &[_] = if client_tls == "disable" { &tls_port } else { &[] };
        let proxy = proxy(site, &[&[("client_tls", client_tls)], more].concat()).await;
        for sslmode in ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] {
            let conninfo = format!(
                "host=localhost hostaddr=127.0.0.1 port={} user=app_user.acme dbname={SHOP} sslmode={sslmode} sslrootcert={}",
                proxy.port(),
                site.ca()
            );
            let said = psql(&[&conninfo, "-c", "SELECT DISTINCT tenant_id FROM notes"], "").await;
            if refused.contains(&sslmode) {
                assert_ne!(said.code, 0, "{client_tls} {sslmode}");
                let expected =
                    if client_tls == "require" { "this server takes no other" } else { "server does not support SSL" };
                assert!(said.err.contains(expected), "{client_tls} {sslmode}: {}", said.err);
            } else {
                assert_eq!((said.code, said.out.as_str()), (0, "acme"), "{client_tls} {sslmode}: {}", said.err);
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_login_without_tls_is_refused_where_it_is_required_and_over_a_unix_socket_it_is_not() -> TestResult {
    let site = tls_site().await;
    let directory = tempfile::tempdir()?;
    let proxy = proxy(
        site,
        &[("client_tls", "require"), ("tls_port", "0"), ("listen_unix_dir", directory.path().to_str().expect("UTF-8"))],
    )
    .await;
    for port in [proxy.port(), proxy.handle.tls_addr().expect("a TLS listener").port()] {
        for user in ["app_user.acme", "postgres"] {
            let mut client = support::WireClient::connect(port).await;
            client.send(&startup_packet(196_608, &[("user", user), ("database", SHOP)])).await;
            let error = client.error().await;
            assert_eq!((error.severity.as_str(), error.code.as_str()), ("FATAL", "28000"), "{user}");
            assert!(error.hint.contains("sslmode=require"), "{}", error.hint);
        }
    }
    let conninfo =
        format!("host={} port={} user=app_user.acme dbname={SHOP}", directory.path().display(), proxy.port());
    let said = psql(&[&conninfo, "-c", "SELECT DISTINCT tenant_id FROM notes"], "").await;
    assert_eq!(said.out, "acme", "{}", said.err);
    Ok(())
}

/// CVE-2021-23214: what somebody puts before the handshake must not be taken for the client's.
#[tokio::test]
async fn what_comes_before_the_handshake_is_never_processed_after_it() -> TestResult {
    let site = tls_site().await;
    let proxy = proxy(site, &[]).await;
    let startup = startup_packet(196_608, &[("user", "app_user.globex"), ("database", SHOP)]);
    for injected in [&startup[..], b"Q", b"\x16\x03\x01"] {
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await?;
        stream.write_all(&[SSL_REQUEST, injected].concat()).await?;
        let mut said = Vec::new();
        within("the end", stream.read_to_end(&mut said)).await?;
        let text = String::from_utf8_lossy(&said);
        assert!(said.first() == Some(&b'E') && text.contains("unencrypted data after SSL request"), "{text}");
    }
    // In a segment of its own it is no handshake either.
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await?;
    stream.write_all(SSL_REQUEST).await?;
    assert_eq!(stream.read_u8().await?, b'S');
    stream.write_all(&startup).await?;
    let mut said = Vec::new();
    within("the end", stream.read_to_end(&mut said)).await?;
    assert!(!said.contains(&b'R'), "an alert at the most: {said:?}");
    // Nor is TLS asked for within TLS.
    let mut tls = shake_hands(site, proxy.port(), true, b"postgresql").await?;
    tls.write_all(SSL_REQUEST).await?;
    let mut said = Vec::new();
    let _ = within("the end", tls.read_to_end(&mut said)).await;
    assert!(String::from_utf8_lossy(&said).contains("SSLRequest sent twice"));
    Ok(())
}

/// A TLS connection, asked for or begun at once.
async fn shake_hands(
    site: &TlsSite,
    port: u16,
    asks: bool,
    alpn: &[u8],
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Box<dyn std::error::Error>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    if asks {
        stream.write_all(SSL_REQUEST).await?;
        assert_eq!(stream.read_u8().await?, b'S');
    }
    let mut config = client_config(&site.authority, None);
    config.alpn_protocols = if alpn.is_empty() { vec![] } else { vec![alpn.to_vec()] };
    let name = ServerName::try_from("localhost")?;
    Ok(within("handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await?)
}

#[tokio::test]
async fn a_direct_connection_names_the_protocol() -> TestResult {
    let site = tls_site().await;
    let proxy = proxy(site, &[]).await;
    let mut tls = shake_hands(site, proxy.port(), false, b"").await?;
    let mut said = Vec::new();
    let _ = within("the end", tls.read_to_end(&mut said)).await;
    let text = String::from_utf8_lossy(&said);
    assert!(text.contains("08P01") && text.contains("ALPN"), "{text}");
    let other = shake_hands(site, proxy.port(), false, b"http/1.1").await;
    assert!(other.is_err(), "another protocol is refused by the handshake");
    assert!(shake_hands(site, proxy.port(), true, b"").await.is_ok(), "older clients name none");
    Ok(())
}

#[tokio::test]
async fn sessions_are_resumed_with_tickets() -> TestResult {
    let site = tls_site().await;
    let proxy = proxy(site, &[]).await;
    let config = Arc::new(client_config(&site.authority, None));
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await?;
        stream.write_all(SSL_REQUEST).await?;
        assert_eq!(stream.read_u8().await?, b'S');
        let connector = TlsConnector::from(Arc::clone(&config));
        let mut tls = connector.connect(ServerName::try_from("localhost")?, stream).await?;
        tls.write_all(&startup_packet(196_608, &[("user", "nobody")])).await?;
        let mut said = Vec::new();
        // With the answer come the tickets.
        let _ = within("the end", tls.read_to_end(&mut said)).await;
        let session: &ClientConnection = tls.get_ref().1;
        kinds.push(format!("{:?}", session.handshake_kind()));
    }
    assert_eq!(kinds, ["Some(Full)", "Some(Resumed)"]);
    Ok(())
}

/// Large and many messages both ways, over TLS on both legs: nothing is lost, nothing waits for ever.
#[tokio::test]
async fn much_passes_both_ways_over_tls() -> TestResult {
    let site = tls_site().await;
    let proxy = proxy(site, &[&site.with_upstream()[..], &[("auth_file", auth_file())]].concat()).await;
    let client = Arc::new(proxy.log_in_secured(site, "app_user.acme").await?);
    let rows = "SELECT repeat('x', 1000) || n FROM generate_series(1, 20000) n";
    let found = within("20 MB", client.query(rows, &[])).await?;
    assert_eq!(found.len(), 20_000);
    assert!(
        found
            .iter()
            .enumerate()
            .all(|(index, row)| row.get::<_, &str>(0).len() == 1000 + (index + 1).to_string().len())
    );
    // Deep pipelines of large requests and large answers.
    let pipelined = (0..500).map(|number| {
        let client = Arc::clone(&client);
        async move {
            let text = format!("{number}{}", "y".repeat(20_000));
            let row = client.query_one("SELECT $1::text || $1", &[&text]).await?;
            assert_eq!(row.get::<_, &str>(0).len(), 2 * text.len());
            Ok::<_, tokio_postgres::Error>(())
        }
    });
    within("a pipeline", futures_util::future::try_join_all(pipelined)).await?;
    let sink = client.copy_in("COPY uploads FROM STDIN").await?;
    let mut sink = std::pin::pin!(sink);
    for _ in 0..200 {
        let line = bytes::Bytes::from(format!("{}\n", "z".repeat(50_000)));
        futures_util::SinkExt::send(&mut sink, line).await?;
    }
    assert_eq!(within("COPY", sink.finish()).await?, 200);
    Ok(())
}

fn auth_file() -> &'static str {
    support::auth_file().to_str().expect("UTF-8")
}

#[tokio::test]
async fn a_query_is_cancelled_over_tls() -> TestResult {
    let site = tls_site().await;
    let proxy = proxy(site, &[&site.with_upstream()[..], &[("auth_file", auth_file())]].concat()).await;
    let client = proxy.log_in_secured(site, "app_user.acme").await?;
    let token = client.cancel_token();
    let tls = MakeRustlsConnect::new(client_config(&site.authority, None));
    let cancel = async {
        let admin = site.cluster.admin().await;
        let sleeps = "SELECT FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(33%' AND state = 'active' AND usename = 'app_user'";
        eventually("it runs", async || !admin.query(sleeps, &[]).await.expect("asked").is_empty()).await;
        token.cancel_query(tls).await
    };
    let (slept, cancelled) =
        within("the end", async { tokio::join!(client.batch_execute("SELECT pg_sleep(33)"), cancel) }).await;
    cancelled?;
    assert_eq!(slept.expect_err("cancelled").code(), Some(&SqlState::QUERY_CANCELED));
    let row = after_cancel(async || client.query_one("SELECT current_tenant_id()", &[]).await).await?;
    assert_eq!(row.get::<_, &str>(0), "acme");
    Ok(())
}

/// A client that goes without a goodbye, within a handshake or a session, leaves nothing behind.
#[tokio::test]
async fn a_client_that_vanishes_frees_its_place() -> TestResult {
    let site = tls_site().await;
    let proxy = proxy(site, &[]).await;
    for sent in [&b"\x16\x03\x01\x02\x00\x01"[..], b"\x16", b"\x16\x03\x01\xff\xff", &[0x16; 3000]] {
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await?;
        stream.write_all(sent).await?;
    }
    let client = proxy.log_in_secured(site, "app_user.acme").await?;
    assert_eq!(proxy.handle.stats().sessions_active, 1);
    drop(client);
    eventually("nobody is left", async || proxy.handle.stats().sessions_active == 0).await;
    Ok(())
}

#[tokio::test]
async fn a_handshake_that_does_not_go_on_ends_with_handshake_timeout() -> TestResult {
    let site = tls_site().await;
    let proxy = proxy(site, &[("handshake_timeout", "0.5")]).await;
    for sent in [&SSL_REQUEST[..7], SSL_REQUEST, b"\x16\x03\x01\x02\x00\x01\x00"] {
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await?;
        stream.write_all(sent).await?;
        let mut said = Vec::new();
        let _ = within("the end", stream.read_to_end(&mut said)).await;
        assert!(!said.contains(&b'R'), "{said:?}");
    }
    eventually("they are counted", async || proxy.handle.stats().refused_total == 3).await;
    assert_eq!(tenants(&proxy.log_in_secured(site, "app_user.acme").await?).await, ["acme"]);
    Ok(())
}

/// The PROXY header is in the clear, and TLS begins behind it.
#[tokio::test]
async fn tls_begins_behind_a_proxy_header() -> TestResult {
    let site = tls_site().await;
    let balanced = [("proxy_protocol", "require"), ("proxy_protocol_from", "loopback")];
    let proxy = proxy(site, &balanced).await;
    for asks in [true, false] {
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await?;
        stream.write_all(b"PROXY TCP4 127.0.0.1 127.0.0.1 4660 5432\r\n").await?;
        if asks {
            stream.write_all(SSL_REQUEST).await?;
            assert_eq!(stream.read_u8().await?, b'S');
        }
        let connector = TlsConnector::from(Arc::new(client_config(&site.authority, None)));
        let mut tls = connector.connect(ServerName::try_from("localhost")?, stream).await?;
        tls.write_all(&startup_packet(196_608, &[("user", "app_user"), ("database", SHOP)])).await?;
        let mut said = Vec::new();
        let _ = within("the end", tls.read_to_end(&mut said)).await;
        assert!(String::from_utf8_lossy(&said).contains("names no tenant"));
    }
    Ok(())
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_and_nothing_older() -> TestResult {
    let site = tls_site().await;
    let proxy = proxy(site, &[]).await;
    for (newest, is_spoken) in [("TLSv1.3", true), ("TLSv1.2", true), ("TLSv1.1", false)] {
        let conninfo = format!(
            "host=localhost hostaddr=127.0.0.1 port={} user=app_user.acme dbname={SHOP} sslmode=verify-full sslrootcert={} \
             ssl_min_protocol_version=TLSv1 ssl_max_protocol_version={newest}",
            proxy.port(),
            site.ca()
        );
        let said = psql(&[&conninfo, "-c", "\\conninfo"], "").await;
        assert_eq!(said.code == 0, is_spoken, "{newest}: {} {}", said.out, said.err);
        assert!(!is_spoken || said.out.contains(&format!("protocol: {newest}")), "{}", said.out);
    }
    Ok(())
}
