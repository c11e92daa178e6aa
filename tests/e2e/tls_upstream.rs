//! TLS with PostgreSQL, and what becomes of proofs that are bound to a TLS connection.

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use support::resolving::{INSTALL, KEY};
use support::tls::{Authority, Files, Issued, client_config, log_in_over_tls, out_of_time, params, secure, tls_site};
use tokio_postgres::Client;
use tokio_postgres::config::ChannelBinding;
use tokio_postgres::error::SqlState;

use crate::support::{Cluster, Mode, SHOP, TestResult, eventually, mode, passthrough_for, proxy_for};

/// Version of TLS of the server's connection of a session; `None` where it is not TLS.
async fn upstream_tls(client: &Client) -> Option<String> {
    let row =
        client.query_one("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).await.expect("asked");
    row.get(0)
}

#[tokio::test]
async fn a_session_reaches_the_server_over_tls_and_only_so() -> TestResult {
    let site = tls_site().await;
    let proxy = proxy_for(&site.cluster.postgres, &site.with_upstream()).await?;
    let client = proxy.log_in("app_user.acme").await;
    assert_eq!(upstream_tls(&client).await.as_deref(), Some("TLSv1.3"));
    let rows = client.query("SELECT DISTINCT tenant_id FROM notes", &[]).await?;
    assert_eq!(rows.iter().map(|row| row.get::<_, &str>(0)).collect::<Vec<_>>(), ["acme"]);
    let plain = proxy_for(&site.cluster.postgres, &[]).await?;
    assert_eq!(upstream_tls(&plain.log_in("app_user.acme").await).await, None);
    Ok(())
}

#[tokio::test]
async fn an_idle_connection_over_tls_is_used_again_and_a_dead_one_is_not() -> TestResult {
    if mode() != Mode::Session {
        return Ok(());
    }
    let site = tls_site().await;
    let options = [&site.with_upstream()[..], &[("server_check_delay", "3600"), ("pool_size", "1")]].concat();
    let proxy = proxy_for(&site.cluster.postgres, &options).await?;
    let pid = async |client: &Client| -> i32 {
        client.query_one("SELECT pg_backend_pid()", &[]).await.expect("asked").get(0)
    };
    let mut pids = Vec::new();
    for tenant in ["acme", "globex", "acme"] {
        let client = proxy.log_in(&format!("app_user.{tenant}")).await;
        pids.push(pid(&client).await);
        drop(client);
        eventually("it is idle", async || proxy.handle.stats().pool_idle == 1).await;
    }
    assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
    let admin = site.cluster.admin().await;
    admin.execute("SELECT pg_terminate_backend($1)", &[&pids[0]]).await?;
    let gone = "SELECT FROM pg_stat_activity WHERE pid = $1";
    eventually("it is gone", async || admin.query(gone, &[&pids[0]]).await.expect("asked").is_empty()).await;
    assert_ne!(pid(&proxy.log_in("app_user.acme").await).await, pids[0]);
    Ok(())
}

/// What a client reads when the server's certificate, or what is trusted, is this.
async fn refusal(cluster: &Cluster, options: &[(&str, &str)]) -> (SqlState, String, String) {
    let proxy = proxy_for(&cluster.postgres, options).await.expect("the proxy starts");
    let error = proxy.try_log_in("app_user.acme").await.map(drop).expect_err("no session");
    let error = error.as_db_error().expect("an answer").clone();
    (error.code().clone(), error.message().to_owned(), error.hint().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_server_that_does_not_prove_itself_gets_no_login() -> TestResult {
    let (cluster, authority, files) = (Cluster::start().await, Authority::new("ours"), Files::new());
    let ca = files.write("ca.crt", &authority.pem);
    let other = files.write("other.crt", &Authority::new("theirs").pem);
    let trusting = |ca: &str| [("upstream_tls".to_owned(), "true".to_owned()), ("upstream_tls_ca".into(), ca.into())];
    let refused = async |cluster: &Cluster, ca: &str| {
        let options = trusting(ca);
        let options: Vec<(&str, &str)> = options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        refusal(cluster, &options).await
    };
    // It does not speak TLS: the login does not go on without.
    let (code, message, hint) = refused(&cluster, &ca).await;
    assert_eq!(code.code(), "08006");
    assert!(message.contains("does not speak TLS") && hint.contains("ssl = on"), "{message} {hint}");

    let server = || params(&["localhost", "127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth);
    for (issued, ca, expected, expected_hint) in [
        (authority.issue(out_of_time(server(), 2020, 2021)), &ca, "has expired", "Renew"),
        (authority.issue(out_of_time(server(), 2100, 2101)), &ca, "not valid yet", "Renew"),
        (authority.server(&["db.example.org"]), &ca, "is for another name", "subjectAltName"),
        (
            authority.issue(params(&["localhost", "127.0.0.1"], ExtendedKeyUsagePurpose::ClientAuth)),
            &ca,
            "not valid",
            "upstream_tls_ca",
        ),
        (authority.server(&["localhost", "127.0.0.1"]), &other, "does not trust", "upstream_tls_ca"),
    ] {
        secure(&cluster, &issued, &authority).await;
        let (code, message, hint) = refused(&cluster, ca).await;
        assert_eq!(code.code(), "08006", "{message}");
        assert!(message.contains(expected) && hint.contains(expected_hint), "{expected}: {message} {hint}");
        assert!(!message.contains("example.org"), "{message}");
        // Without verification, none of this matters; that it is TLS does.
        let unverified = [("upstream_tls", "true"), ("upstream_tls_verify", "false")];
        let proxy = proxy_for(&cluster.postgres, &unverified).await?;
        assert!(upstream_tls(&proxy.log_in("app_user.acme").await).await.is_some());
    }
    // The system's authorities know none of them.
    let (code, message, _) = refusal(&cluster, &[("upstream_tls", "true")]).await;
    assert!(code.code() == "08006" && message.contains("does not trust"), "{message}");
    Ok(())
}

/// As the PostgreSQL manual makes one ("Creating Certificates"), with the names that clients other than libpq need.
#[tokio::test]
async fn a_servers_own_certificate_can_be_the_one_that_is_trusted() -> TestResult {
    let (cluster, files) = (Cluster::start().await, Files::new());
    let key = KeyPair::generate()?;
    let own = |names: &[&str]| {
        let mut params = params(names, ExtendedKeyUsagePurpose::ServerAuth);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
    };
    let issued = |params: CertificateParams| -> Issued {
        let cert = params.self_signed(&key).expect("a certificate");
        Issued { cert: cert.pem(), key: key.serialize_pem() }
    };
    let good = issued(own(&["localhost", "127.0.0.1"]));
    let path = files.write("server.crt", &good.cert);
    secure(&cluster, &good, &Authority::new("unused")).await;
    let proxy = proxy_for(&cluster.postgres, &[("upstream_tls", "true"), ("upstream_tls_ca", &path)]).await?;
    assert!(upstream_tls(&proxy.log_in("app_user.acme").await).await.is_some());
    for (bad, expected) in [
        (issued(own(&["db.example.org"])), "another name"),
        (issued(out_of_time(own(&["localhost", "127.0.0.1"]), 2020, 2021)), "has expired"),
        (issued(out_of_time(own(&["localhost", "127.0.0.1"]), 2100, 2101)), "not valid yet"),
    ] {
        let path = files.write("bad.crt", &bad.cert);
        secure(&cluster, &bad, &Authority::new("unused")).await;
        let (_, message, _) = refusal(&cluster, &[("upstream_tls", "true"), ("upstream_tls_ca", &path)]).await;
        assert!(message.contains(expected), "{expected}: {message}");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_is_shown_the_proxys() -> TestResult {
    let (cluster, authority, files) = (Cluster::start().await, Authority::new("ours"), Files::new());
    secure(&cluster, &authority.server(&["localhost", "127.0.0.1"]), &authority).await;
    let rules = [
        "hostssl all app_user 127.0.0.1/32 scram-sha-256 clientcert=verify-ca",
        "host all all 127.0.0.1/32 scram-sha-256",
    ];
    cluster.postgres.set_hba(rules).await?;
    let ca = files.write("ca.crt", &authority.pem);
    let trusting = [("upstream_tls", "true"), ("upstream_tls_ca", ca.as_str())];
    // What PostgreSQL says of it is the client's own in passthrough; of a pool's connection it is for the log.
    let (code, message, _) = refusal(&cluster, &trusting).await;
    let expected =
        if mode() == Mode::Session { ("08006", "refused the proxy") } else { ("28000", "valid client certificate") };
    assert!(code.code() == expected.0 && message.contains(expected.1), "{message}");

    for (authority, is_good) in [(&authority, true), (&Authority::new("theirs"), false)] {
        let own = authority.client("pgvpd", &[]);
        let (cert, key) = (files.write("own.crt", &own.cert), files.write("own.key", &own.key));
        let showing = [&trusting[..], &[("upstream_tls_cert", &*cert), ("upstream_tls_key", &*key)]].concat();
        let proxy = proxy_for(&cluster.postgres, &showing).await?;
        let logged_in = proxy.try_log_in("app_user.acme").await;
        assert_eq!(logged_in.is_ok(), is_good, "{:?}", logged_in.err());
    }
    Ok(())
}

/// Legs, and what a client that can bind its proof does there.
#[tokio::test]
async fn a_proof_is_relayed_given_anew_or_refused_by_what_the_legs_are() -> TestResult {
    let site = tls_site().await;
    let knowing = support::auth_query_options();
    let knowing: Vec<_> = knowing.into_iter().filter(|(name, _)| *name != "pool_mode").collect();
    for upstream_is_tls in [false, true] {
        for knows in [false, true] {
            if mode() == Mode::Session && !knows {
                continue;
            }
            let mut options = site.with_clients().to_vec();
            options.extend(site.with_upstream().iter().filter(|_| upstream_is_tls));
            options.extend(knowing.iter().filter(|_| knows));
            if mode() == Mode::Session {
                options.push(("pool_mode", "session"));
            }
            let proxy = proxy_for(&site.cluster.postgres, &options).await?;
            for binding in [ChannelBinding::Disable, ChannelBinding::Prefer, ChannelBinding::Require] {
                let case = format!("upstream TLS {upstream_is_tls}, knows verifiers {knows}, {binding:?}");
                let mut config = proxy.config("app_user.acme");
                config.channel_binding(binding);
                let secured = log_in_over_tls(&config, client_config(&site.authority, None)).await;
                match (knows, upstream_is_tls, binding) {
                    (true, _, _) | (false, _, ChannelBinding::Disable) | (false, false, ChannelBinding::Prefer) => {
                        let client = secured.unwrap_or_else(|error| panic!("{case}: {error:?}"));
                        assert_eq!(upstream_tls(&client).await.is_some(), upstream_is_tls, "{case}");
                        let tenant = client.query_one("SELECT current_tenant_id()", &[]).await?;
                        assert_eq!(tenant.get::<_, &str>(0), "acme", "{case}");
                    }
                    (false, true, ChannelBinding::Prefer) => {
                        let error = secured.map(drop).expect_err(&case);
                        let error = error.as_db_error().expect("an answer");
                        assert_eq!(error.code().code(), "28000", "{case}");
                        let hint = error.hint().unwrap_or_default();
                        assert!(hint.contains("auth_user") && hint.contains("channel_binding=disable"), "{hint}");
                    }
                    // The client's own refusal: it was not offered.
                    _ => assert!(secured.map(drop).expect_err(&case).as_db_error().is_none(), "{case}"),
                }
                // On a connection without TLS nothing can be bound, and a client that insists is right to refuse.
                let plain = config.connect(tokio_postgres::NoTls).await;
                assert_eq!(plain.is_ok(), binding != ChannelBinding::Require, "{case}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_role_read_the_same_over_tls() -> TestResult {
    let site = tls_site().await;
    let knowing = support::auth_query_options();
    let options: Vec<_> = knowing.into_iter().filter(|(name, _)| *name != "pool_mode").collect();
    let options = [&site.with_clients()[..], &site.with_upstream(), &options].concat();
    let proxy = passthrough_for(&site.cluster.postgres, &options).await?;
    for user in ["app_user.acme", "nobody.acme"] {
        let mut config = proxy.config(user);
        config.password("wrong").channel_binding(ChannelBinding::Require);
        let error = log_in_over_tls(&config, client_config(&site.authority, None)).await.map(drop).expect_err(user);
        assert_eq!(error.code(), Some(&SqlState::INVALID_PASSWORD), "{error:?}");
    }
    // With the startup packet's parameters as the client's own, and errors of the server's unchanged.
    let mut config = proxy.config("app_user.acme");
    config.application_name("checkout").dbname("no_such_database");
    let error =
        log_in_over_tls(&config, client_config(&site.authority, None)).await.map(drop).expect_err("no database");
    assert_eq!(error.code(), Some(&SqlState::UNDEFINED_DATABASE));
    config.dbname(SHOP);
    let client = log_in_over_tls(&config, client_config(&site.authority, None)).await?;
    let row = client.query_one("SHOW application_name", &[]).await?;
    assert_eq!(row.get::<_, &str>(0), "checkout");
    Ok(())
}

/// Whoever has judged the proof, the context is signed, verified and confirmed before the session begins.
#[tokio::test]
async fn a_context_is_signed_over_tls_as_without() -> TestResult {
    let (cluster, authority, files) = (Cluster::start().await, Authority::new("signed"), Files::new());
    let own = authority.server(&["localhost", "127.0.0.1"]);
    secure(&cluster, &own, &authority).await;
    cluster.admin().await.batch_execute(INSTALL).await?;
    let ca = files.write("ca.crt", &authority.pem);
    let (cert, key) = (files.write("own.crt", &own.cert), files.write("own.key", &own.key));
    let mut options = vec![("tls_cert", cert.as_str()), ("tls_key", key.as_str()), ("context_signing_key", KEY)];
    options.extend([("upstream_tls", "true"), ("upstream_tls_ca", ca.as_str())]);
    let is_pooled = mode() == Mode::Session;
    options.extend(support::auth_query_options().into_iter().filter(|(name, _)| is_pooled || *name != "pool_mode"));
    let proxy = proxy_for(&cluster.postgres, &options).await?;
    let client = log_in_over_tls(&proxy.config("app_user.acme"), client_config(&authority, None)).await?;
    let tenant = async || client.query_one("SELECT current_tenant_id()", &[]).await.map(|row| row.get::<_, String>(0));
    assert_eq!(tenant().await?, "acme");
    client.batch_execute("SET app.current_tenant_id = 'globex'").await?;
    assert_eq!(tenant().await?, "acme", "what SQL sets is not what counts");
    client.batch_execute("RESET ALL").await?;
    assert_eq!(tenant().await?, "acme", "put back");
    Ok(())
}
