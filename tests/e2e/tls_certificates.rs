//! Certificates that clients show, and what they may claim by them; and files that change while the proxy runs.

use support::tls::{Authority, Files, Issued, TlsSite, client_config, log_in_over_tls, out_of_time, params, tls_site};
use tokio_postgres::{Client, Error};

use crate::support::{Mode, SHOP, TestProxy, TestResult, eventually, mode, proxy_for, psql, startup_packet, within};

const MAP: &str = "
[[identity]]
uri = 'spiffe://example.org/tenant/*'
role = 'app_user'
tenant = '$1'

[[identity]]
cn = 'operations'
role = '*'
tenant = '*'
";

async fn log_in(proxy: &TestProxy, site: &TlsSite, user: &str, shown: Option<&Issued>) -> Result<Client, Error> {
    let client = log_in_over_tls(&proxy.config(user), client_config(&site.authority, shown)).await?;
    // With TLS 1.3 a client learns only now what the server thinks of its certificate.
    client.batch_execute("SELECT").await.map(|()| client)
}

fn refused(login: Result<Client, Error>) -> String {
    let error = login.map(drop).expect_err("no session");
    match error.as_db_error() {
        Some(error) => format!("{} {} {}", error.code().code(), error.message(), error.hint().unwrap_or_default()),
        None => format!("{error:?}"),
    }
}

#[tokio::test]
async fn a_password_alone_opens_nothing_where_certificates_are_asked_for() -> TestResult {
    let site = tls_site().await;
    let (authority, files) = (Authority::new("clients"), Files::new());
    let (ca, map) = (files.write("clients.crt", &authority.pem), files.write("map.toml", MAP));
    let sockets = tempfile::tempdir()?;
    let (acme, other) = (
        authority.client("acme-app", &["spiffe://example.org/tenant/acme"]),
        authority.client("somebody", &["spiffe://example.com/tenant/acme"]),
    );
    let expired = {
        let mut params = params(&[], rcgen::ExtendedKeyUsagePurpose::ClientAuth);
        params.distinguished_name.push(rcgen::DnType::CommonName, "operations");
        authority.issue(out_of_time(params, 2020, 2021))
    };
    let foreign = Authority::new("theirs").client("operations", &["spiffe://example.org/tenant/acme"]);
    for (client_cert, more) in [("verify", &[][..]), ("tenant", &[("cert_map", map.as_str())])] {
        let asked = [("tls_client_ca", ca.as_str()), ("client_cert", client_cert)];
        let socket = [("listen_unix_dir", sockets.path().to_str().expect("UTF-8"))];
        let options = [&site.with_clients()[..], &asked, more, &socket].concat();
        let proxy = proxy_for(&site.cluster.postgres, &options).await?;
        // TLS without a certificate, and no TLS at all.
        let text = refused(log_in(&proxy, site, "app_user.acme", None).await);
        assert!(text.contains("28000") && text.contains("requires a valid client certificate"), "{text}");
        let text = refused(proxy.try_log_in("app_user.acme").await);
        assert!(text.contains("28000") && text.contains("takes no other"), "{text}");
        // Nor is a bypass user let in over TCP without one.
        let text = refused(log_in(&proxy, site, "postgres", None).await);
        assert!(text.contains("requires a valid client certificate"), "{text}");
        // One that is over, or of an authority that nobody has named: the handshake fails.
        for bad in [&expired, &foreign] {
            let text = refused(log_in(&proxy, site, "app_user.acme", Some(bad)).await);
            assert!(!text.starts_with("28") && !text.is_empty(), "{text}");
        }
        let client = log_in(&proxy, site, "app_user.acme", Some(&acme)).await?;
        let tenant = client.query_one("SELECT current_tenant_id()", &[]).await?;
        assert_eq!(tenant.get::<_, &str>(0), "acme");
        // A password is needed as before.
        let mut config = proxy.config("app_user.acme");
        config.password("wrong");
        let text = refused(log_in_over_tls(&config, client_config(&site.authority, Some(&acme))).await);
        assert!(text.contains("28P01"), "{text}");
        for (user, shown, is_claimed) in [("app_user.globex", &acme, false), ("app_user.acme", &other, false)] {
            let login = log_in(&proxy, site, user, Some(shown)).await;
            if client_cert == "verify" {
                assert!(login.is_ok(), "any certificate is one: {:?}", login.err());
            } else {
                let text = refused(login);
                assert!(!is_claimed && text.contains("28000") && text.contains("does not permit"), "{text}");
                assert!(text.contains("cert_map") && !text.contains("spiffe"), "{text}");
            }
        }
        // Over a Unix socket nobody has one.
        let conninfo =
            format!("host={} port={} user=app_user.acme dbname={SHOP}", sockets.path().display(), proxy.port());
        let said = psql(&[&conninfo, "-c", "SELECT"], "").await;
        assert!(said.err.contains("requires a valid client certificate"), "{}", said.err);
    }
    Ok(())
}

#[tokio::test]
async fn a_certificate_supplies_the_tenant_where_it_stands_for_one() -> TestResult {
    let site = tls_site().await;
    let (authority, files) = (Authority::new("clients"), Files::new());
    let (ca, map) = (files.write("clients.crt", &authority.pem), files.write("map.toml", MAP));
    let asked = [("tls_client_ca", ca.as_str()), ("client_cert", "tenant"), ("cert_map", map.as_str())];
    let proxy = proxy_for(&site.cluster.postgres, &[&site.with_clients()[..], &asked].concat()).await?;
    let globex = authority.client("x", &["spiffe://example.org/tenant/globex"]);
    let client = log_in(&proxy, site, "app_user", Some(&globex)).await?;
    let rows = client.query("SELECT DISTINCT tenant_id FROM notes", &[]).await?;
    assert_eq!(rows.iter().map(|row| row.get::<_, &str>(0)).collect::<Vec<_>>(), ["globex"]);
    // One that may claim any tenant stands for none.
    let text = refused(log_in(&proxy, site, "app_user", Some(&authority.client("operations", &[]))).await);
    assert!(text.contains("names no tenant"), "{text}");
    assert!(log_in(&proxy, site, "app_user.acme", Some(&authority.client("operations", &[]))).await.is_ok());
    Ok(())
}

/// What names a proxy's certificate has.
async fn presented(proxy: &TestProxy, authority: &Authority) -> bool {
    log_in_over_tls(&proxy.config("app_user.acme"), client_config(authority, None)).await.is_ok()
}

#[tokio::test]
async fn certificates_are_read_again_when_their_files_change_and_bad_ones_are_not_taken() -> TestResult {
    let site = tls_site().await;
    let (before, after, files) = (Authority::new("before"), Authority::new("after"), Files::new());
    let write = |issued: &Issued| (files.write("tls.key", &issued.key), files.write("tls.crt", &issued.cert));
    let (key, cert) = write(&before.server(&["localhost", "127.0.0.1"]));
    let options = [("tls_cert", cert.as_str()), ("tls_key", key.as_str())];
    let proxy = proxy_for(&site.cluster.postgres, &options).await?;
    let session = log_in_over_tls(&proxy.config("app_user.acme"), client_config(&before, None)).await?;
    assert!(!presented(&proxy, &after).await);

    // Half of it, and then nonsense: what was in force stays.
    files.write("tls.crt", "no certificate");
    // With the key, then, all of it.
    let renewed = after.server(&["localhost", "127.0.0.1"]);
    assert!(presented(&proxy, &before).await);
    write(&renewed);
    eventually("the new one is shown", async || presented(&proxy, &after).await).await;
    assert!(!presented(&proxy, &before).await);
    // Sessions go on, and a reload is not a restart.
    assert!(session.batch_execute("SELECT").await.is_ok());

    // By a reload at once, without waiting for the files to be noticed.
    write(&before.server(&["localhost", "127.0.0.1"]));
    let mut settings = pgvpd_core::Settings::new();
    let config = proxy.handle.stats();
    assert!(config.sessions_active >= 1);
    for (name, value) in options.iter().chain(&[("upstream_port", &*site.cluster.postgres.port().to_string())]) {
        settings.set(name, *value)?;
    }
    if mode() == Mode::Session {
        settings.set("pool_mode", "session")?;
        settings.set("auth_file", support::auth_file().display())?;
    }
    proxy.handle.reload(pgvpd_core::Config::from_settings(settings)?)?;
    assert!(presented(&proxy, &before).await);
    assert!(session.batch_execute("SELECT").await.is_ok());
    Ok(())
}

/// A program's own configuration of rustls, which asks for nothing of files.
#[tokio::test]
async fn a_program_brings_its_own_configurations() -> TestResult {
    use std::sync::Arc;

    use pgvpd_core::rustls::ServerConfig;
    use pgvpd_core::rustls::crypto::ring;
    use pgvpd_core::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    use pgvpd_core::{ClientTls, Proxy, UpstreamTls};
    use tokio_postgres::config::ChannelBinding;

    let site = tls_site().await;
    let authority = Authority::new("program");
    let own = authority.server(&["localhost", "127.0.0.1"]);
    let cert = CertificateDer::from_pem_slice(own.cert.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes())?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![cert.clone()], key)?;
    let proxy = Proxy::builder()
        .port(0)
        .upstream_port(site.cluster.postgres.port())
        .set("pool_mode", "session")
        .set("auth_file", support::auth_file().display())
        .set("tls_port", "0")
        .client_tls(ClientTls::new(Arc::new(config)).bound_to(&cert))
        .upstream_tls(UpstreamTls::new(Arc::new(client_config(&site.authority, None))))
        .start()
        .await?;
    let proxy = TestProxy { handle: proxy };
    assert!(proxy.handle.tls_addr().is_some());
    let mut config = proxy.config("app_user.acme");
    config.channel_binding(ChannelBinding::Require);
    let client = log_in_over_tls(&config, client_config(&authority, None)).await?;
    let row = client.query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).await?;
    assert!(row.get::<_, bool>(0));
    Ok(())
}

/// With a ticket no certificate is shown again: it is that of the first time which counts.
#[tokio::test]
async fn a_session_that_is_resumed_is_still_that_certificates() -> TestResult {
    use std::sync::Arc;

    use pgvpd_core::rustls::pki_types::ServerName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsConnector;

    let site = tls_site().await;
    let (authority, files) = (Authority::new("clients"), Files::new());
    let (ca, map) = (files.write("clients.crt", &authority.pem), files.write("map.toml", MAP));
    let asked = [("tls_client_ca", ca.as_str()), ("client_cert", "tenant"), ("cert_map", map.as_str())];
    let proxy = proxy_for(&site.cluster.postgres, &[&site.with_clients()[..], &asked].concat()).await?;
    let globex = authority.client("x", &["spiffe://example.org/tenant/globex"]);
    let config = Arc::new(client_config(&site.authority, Some(&globex)));
    for (kind, user, answer) in [
        ("Some(Full)", "app_user.globex", b'R'),
        ("Some(Resumed)", "app_user.globex", b'R'),
        ("Some(Resumed)", "app_user.acme", b'E'),
    ] {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", proxy.port())).await?;
        stream.write_all(b"\0\0\0\x08\x04\xd2\x16\x2f").await?;
        assert_eq!(stream.read_u8().await?, b'S');
        let connector = TlsConnector::from(Arc::clone(&config));
        let mut tls = connector.connect(ServerName::try_from("localhost")?, stream).await?;
        tls.write_all(&startup_packet(196_608, &[("user", user), ("database", SHOP)])).await?;
        let mut said = [0; 200];
        let count = within("an answer", tls.read(&mut said)).await?;
        assert_eq!(format!("{:?}", tls.get_ref().1.handshake_kind()), kind, "{user}");
        assert!(count > 0 && said[0] == answer, "{user}: {}", String::from_utf8_lossy(&said[..count]));
    }
    Ok(())
}
