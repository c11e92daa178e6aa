//! Either side going away, at every point. The next client is served.

use tokio::io::AsyncWriteExt;

use crate::support::{
    Cluster, FakeServer, TestResult, cluster, eventually, passthrough, passthrough_for, proxy, within,
};

/// Sessions of a role and application name that the server has.
async fn backends(application: &str) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1";
    cluster().await.admin().await.query_one(sql, &[&application]).await.expect("query").get(0)
}

#[tokio::test]
async fn an_upstream_that_is_down_is_reported_without_its_address() {
    let server = FakeServer::start().await;
    let port = server.port();
    drop(server);
    let proxy = proxy(&[("upstream_port", &port.to_string())]).await;
    let mut client = proxy.connect().await;
    client.start("app_user.acme", &[]).await;
    let error = client.refusal_after_proof().await;
    error.assert_is("08006");
    assert!(!error.message.contains(&port.to_string()) && !error.message.contains("127.0.0.1"), "{error:?}");
}

#[tokio::test]
async fn an_upstream_that_closes_during_the_login_is_reported() {
    let server = FakeServer::start().await;
    let proxy = passthrough(&[("upstream_port", &server.port().to_string())]).await;
    for said in
        [&b""[..], b"R\0\0\0\x08\0\0\0\x03", b"R\0\0\0\x08\0\0\0\0", b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I", b"R\0\0"]
    {
        let mut client = proxy.connect().await;
        client.start("app_user.acme", &[]).await;
        drop(server.answer(said).await);
        client.refusal().await.assert_is("08006");
    }
}

#[tokio::test]
async fn an_upstream_that_is_no_postgresql_is_reported() {
    let server = FakeServer::start().await;
    let proxy = passthrough(&[("upstream_port", &server.port().to_string())]).await;
    for said in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"R\0\0\0\x03",
        b"R\x7f\xff\xff\xff",
        b"Z\0\0\0\x05I",
        b"D\0\0\0\x06\0\0",
    ] {
        let mut client = proxy.connect().await;
        client.start("app_user.acme", &[]).await;
        let _open = server.answer(said).await;
        client.refusal().await.assert_is("08006");
    }
}

#[tokio::test]
async fn a_context_that_the_server_does_not_confirm_makes_no_session() {
    let server = FakeServer::start().await;
    let proxy = passthrough(&[("upstream_port", &server.port().to_string())]).await;
    let message = |tag: u8, columns: &[&str]| {
        let mut body = u16::try_from(columns.len()).unwrap().to_be_bytes().to_vec();
        for column in columns {
            body.extend(u32::try_from(column.len()).unwrap().to_be_bytes());
            body.extend(column.as_bytes());
        }
        [&[tag][..], &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), &body].concat()
    };
    let ready = b"Z\0\0\0\x05I";
    let started = [&b"R\0\0\0\x08\0\0\0\0S\0\0\0\x19server_encoding\0UTF8\0"[..], ready].concat();
    let done = [&b"C\0\0\0\x08SET\0"[..], ready].concat();
    // The limits are lifted; what the role has set for itself is not to be asked here.
    let unasked = [&done[..], b"E\0\0\0\x13SERROR\0C42501\0\0", ready].concat();
    let shown = |tenant: &str| {
        let one = |value: &str| [&message(b'D', &[value]), &b"C\0\0\0\x09SHOW\0"[..]].concat();
        [&one(tenant), &one("app_user"), &one("off"), &ready[..]].concat()
    };
    let set = |tenant: &str| {
        let row = message(b'D', &["off", tenant, "app_user", "off"]);
        [b"1\0\0\0\x042\0\0\0\x04", &row[..], b"C\0\0\0\x0dSELECT 1\0", ready].concat()
    };
    // Whether policies hold the role is asked once.
    let held = [b"1\0\0\0\x042\0\0\0\x04", &message(b'D', &["", ""])[..], b"C\0\0\0\x0dSELECT 1\0", ready].concat();
    for (answers, confirmed) in [
        ([held, shown("acme"), done.clone()].concat(), true),
        ([shown("globex"), done.clone(), done.clone(), set("globex")].concat(), false),
        ([shown("globex"), done.clone(), done.clone(), set("acme"), done.clone()].concat(), true),
        // Shown again where it is to be set.
        ([shown("globex"), done.clone(), done.clone(), shown("acme")].concat(), false),
    ] {
        let mut client = proxy.connect().await;
        client.start("app_user.acme", &[]).await;
        let _open = server.answer(&[&started[..], &unasked, &answers].concat()).await;
        if confirmed {
            client.until(b'Z').await;
        } else {
            client.refusal().await.assert_is("08006");
        }
    }
}

#[tokio::test]
async fn a_server_killed_in_queries_and_logins_ends_them_and_a_restart_is_served() -> TestResult {
    let own = Cluster::start().await;
    let proxy = passthrough_for(&own.postgres, &[]).await?;
    let mut in_query = proxy.connect().await;
    in_query.log_in("app_user.acme", &[]).await;
    in_query.query("SELECT pg_sleep(600)").await;
    let mut in_login = proxy.connect().await;
    in_login.start("app_user.acme", &[]).await;
    in_login.until(b'R').await;
    own.postgres.kill().await?;
    while in_query.message().await.is_some() {}
    // Either the server still said why, or the proxy does.
    let error = in_login.refusal().await;
    assert!(matches!(error.code.as_str(), "08006" | "57P01"), "{error:?}");
    let mut refused = proxy.connect().await;
    refused.start("app_user.acme", &[]).await;
    refused.refusal().await.assert_is("08006");
    own.postgres.restart().await?;
    proxy.assert_serves().await;
    Ok(())
}

#[tokio::test]
async fn the_servers_last_words_reach_the_client() {
    let proxy = proxy(&[]).await;
    let mut client = proxy.connect().await;
    client.log_in("app_user.acme", &[]).await;
    let pid = client.value("SELECT pg_backend_pid()").await;
    let admin = cluster().await.admin().await;
    admin.batch_execute(&format!("SELECT pg_terminate_backend({pid})")).await.expect("terminated");
    let (tag, body) = client.message().await.expect("the error");
    assert_eq!(tag, b'E');
    assert!(String::from_utf8_lossy(&body).contains("57P01"));
    assert_eq!(client.message().await, None);
    proxy.assert_serves().await;
}

#[tokio::test]
async fn a_client_that_vanishes_mid_copy_leaves_no_backend_and_no_rows() -> TestResult {
    let proxy = proxy(&[]).await;
    for (application, reset) in [("copy_fin", false), ("copy_rst", true)] {
        let mut client = proxy.connect().await;
        client.log_in("app_user.copier", &[("application_name", application)]).await;
        client.query("COPY uploads FROM STDIN").await;
        client.until(b'G').await;
        client.send(b"d\0\0\0\x09half ").await;
        assert_eq!(backends(application).await, 1);
        if reset {
            client.reset();
        } else {
            drop(client);
        }
        eventually("the backend is gone", async || backends(application).await == 0).await;
    }
    let copier = proxy.log_in("app_user.copier").await;
    let rows: i64 = copier.query_one("SELECT count(*) FROM uploads WHERE body LIKE 'half%'", &[]).await?.get(0);
    assert_eq!(rows, 0);
    eventually("the sessions are gone", async || proxy.handle.stats().sessions_active <= 1).await;
    Ok(())
}

#[tokio::test]
async fn a_client_that_vanishes_during_the_login_frees_its_server_connection() -> TestResult {
    let server = FakeServer::start().await;
    let proxy = passthrough(&[("upstream_port", &server.port().to_string())]).await;
    for said in [&b""[..], b"R\0\0\0\x08\0\0\0\x03", b"R\0\0\0\x08\0\0\0\0"] {
        let mut client = proxy.connect().await;
        client.start("app_user.acme", &[]).await;
        let mut stream = server.answer(said).await;
        drop(client);
        let mut rest = Vec::new();
        within("the proxy closes", tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest)).await?;
        let _ = stream.shutdown().await;
    }
    eventually("nothing is left", async || proxy.handle.stats().sessions_active == 0).await;
    Ok(())
}
