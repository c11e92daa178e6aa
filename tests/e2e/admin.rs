//! The admin API: what it shows, and what it changes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::support::{
    ADMIN_TOKEN, FakeServer, Mode, TestResult, administered, cluster, eventually, http, mode, proxy, proxy_for, within,
};

#[tokio::test]
async fn a_proxy_that_serves_is_alive_and_ready() {
    let proxy = administered(&[]).await;
    let health = proxy.get("/health").await;
    assert_eq!((health.status, &*health.body), (200, "ok\n"));
    let ready = proxy.get("/ready").await;
    assert_eq!((ready.status, &*ready.body), (200, "ready\n"));
    let index = proxy.get("/").await;
    for path in
        ["/health", "/ready", "/metrics", "/status", "/reload", "/drain", "/pools/pause", "/resolvers/invalidate"]
    {
        assert!(index.body.contains(path), "{path}");
    }
    assert!(index.head.contains("cache-control: no-store") && index.head.contains("nosniff"), "{}", index.head);
    assert_eq!(proxy.get("/nothing").await.status, 404);
    assert_eq!(http(proxy.admin(), "DELETE", "/status", &[], "").await.status, 405);
}

#[tokio::test]
async fn it_is_not_ready_without_its_server_and_says_why() {
    // Nobody listens there: it is bound and not listening.
    let nobody = tokio::net::TcpSocket::new_v4().expect("a socket");
    nobody.bind("127.0.0.1:0".parse().expect("loopback")).expect("bound");
    let port = nobody.local_addr().expect("bound").port().to_string();
    let proxy = administered(&[("upstream_port", &port)]).await;
    let ready = proxy.get("/ready").await;
    assert_eq!(ready.status, 503);
    assert!(ready.body.starts_with("not ready: the upstream server is not reachable: "), "{}", ready.body);
    assert_eq!(proxy.get("/health").await.status, 200, "it is alive all the same");
}

#[tokio::test]
async fn a_server_that_starts_up_is_not_ready() {
    let server = FakeServer::start().await;
    let port = server.port().to_string();
    let proxy = administered(&[("upstream_port", &port), ("pool_mode", "none")]).await;
    let starting = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let (mut stream, _) = server.accept().await;
        let text = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0";
        let mut message = vec![b'E'];
        message.extend(u32::try_from(text.len() + 4).expect("small").to_be_bytes());
        message.extend(text);
        stream.write_all(&message).await.expect("said");
    });
    let ready = proxy.get("/ready").await;
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("the database system is starting up"), "{}", ready.body);
    starting.await.expect("said");
}

#[tokio::test]
async fn status_shows_the_proxy_its_sessions_and_no_secret() -> TestResult {
    let proxy = administered(&[("tenant_deny", "mallory")]).await;
    let client = proxy.log_in("app_user.acme").await;
    client.batch_execute("BEGIN").await?;
    assert!(proxy.try_log_in("app_user.mallory").await.is_err());
    let answer = proxy.get("/status").await;
    assert_eq!(answer.status, 200);
    assert!(!answer.body.contains(ADMIN_TOKEN));
    let status = answer.json();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&status["state"], &status["stats"]["sessions_active"]), (&"running".into(), &1.into()));
    assert_eq!((&status["refused"]["28000"], &status["tenant_rejections"]["deny"]), (&1.into(), &1.into()));
    assert_eq!(
        (&status["config"]["tenant_deny"], &status["config"]["admin_token"]),
        (&"mallory".into(), &"***".into())
    );
    let session = &status["sessions"]["shown"][0];
    for (field, value) in [("tenant", "acme"), ("role", "app_user"), ("database", "shop"), ("client", "127.0.0.1")] {
        assert_eq!(session[field], value, "{session}");
    }
    let state = if mode() == Mode::Raw { "open" } else { "idle_in_transaction" };
    assert_eq!((&session["state"], &session["tls"]), (&state.into(), &false.into()));
    assert!(session["bytes_from_client"].as_u64() > Some(0) && session["bytes_to_client"].as_u64() > Some(0));
    assert_eq!(status["tenants"]["busiest"][0]["tenant"], "acme");
    let none = proxy.get("/status?sessions=0").await.json();
    assert_eq!((&none["sessions"]["total"], &none["sessions"]["shown"]), (&1.into(), &serde_json::json!([])));
    for wrong in ["/status?sessions=-1", "/status?session=1"] {
        assert_eq!(proxy.get(wrong).await.status, 400, "{wrong}");
    }
    // The library's own users see the same.
    let own = serde_json::to_value(proxy.handle.status(100))?;
    assert_eq!(own["sessions"]["shown"][0]["session"], session["session"]);
    Ok(())
}

#[tokio::test]
async fn a_tenants_sessions_end_and_those_of_others_go_on() -> TestResult {
    let proxy = administered(&[]).await;
    let mut ended = proxy.connect().await;
    ended.log_in("app_user.a/b c", &[]).await;
    let other = proxy.log_in("app_user.globex").await;
    let answer = proxy.post("/tenants/a%2Fb%20c/disconnect").await;
    assert_eq!((answer.status, answer.json()), (200, serde_json::json!({ "tenant": "a/b c", "sessions": 1 })));
    if mode() == Mode::Raw {
        assert_eq!(ended.message().await, None, "raw bytes have flowed: it closes without a word");
    } else {
        ended.refusal().await.assert_is("57P01");
    }
    other.batch_execute("SELECT 1").await?;
    assert_eq!(proxy.post("/tenants/nobody/disconnect").await.json()["sessions"], 0);
    let status = proxy.get("/status").await.json();
    let shown = status["sessions"]["shown"].as_array().ok_or("a list")?;
    let session =
        shown.iter().find(|session| session["tenant"] == "globex").ok_or("it is there")?["session"].to_string();
    assert_eq!(proxy.post(&format!("/sessions/{session}/disconnect")).await.status, 200);
    eventually("the other one ends", async || other.batch_execute("SELECT 1").await.is_err()).await;
    assert_eq!(proxy.post("/sessions/999/disconnect").await.status, 404);
    assert_eq!(proxy.post("/sessions/x/disconnect").await.status, 400);
    proxy.assert_serves().await;
    Ok(())
}

#[tokio::test]
async fn a_client_that_logs_in_is_ended_too() -> TestResult {
    let proxy = administered(&[]).await;
    let mut client = proxy.connect().await;
    client.start("app_user.acme", &[]).await;
    client.until(b'R').await;
    assert_eq!(proxy.post("/tenants/acme/disconnect").await.json()["sessions"], 1);
    client.refusal().await.assert_is("57P01");
    Ok(())
}

#[tokio::test]
async fn draining_lets_sessions_finish_and_the_proxy_end() -> TestResult {
    let proxy = administered(&[("shutdown_timeout", "600")]).await;
    let client = proxy.log_in("app_user.acme").await;
    let answer = proxy.post("/drain").await;
    assert_eq!((answer.status, &answer.json()["sessions"]), (202, &1.into()));
    let port = proxy.port();
    eventually("no more clients", async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err()).await;
    let ready = proxy.get("/ready").await;
    assert_eq!((ready.status, &*ready.body), (503, "not ready: draining\n"));
    assert_eq!(proxy.get("/status").await.json()["state"], "draining");
    client.batch_execute("SELECT 1").await?;
    drop(client);
    within("the end", proxy.handle.closed()).await;
    Ok(())
}

#[tokio::test]
async fn a_reload_needs_to_know_where_the_configuration_comes_from() -> TestResult {
    let proxy = administered(&[]).await;
    let answer = proxy.post("/reload").await;
    assert_eq!(answer.status, 501);
    assert!(answer.body.contains("has not said where its configuration comes from"), "{}", answer.body);
    Ok(())
}

#[tokio::test]
async fn resolvers_are_made_void_by_name_and_a_bad_body_is_refused() {
    let proxy = administered(&[]).await;
    for (body, status) in [
        ("", 200),
        ("{}", 200),
        (r#"{"resolver": "orgs"}"#, 200),
        (r#"{"resolver": "orgs", "params": ["42"]}"#, 200),
        (r#"{"params": ["42"]}"#, 400),
        (r#"{"resolver": 1}"#, 400),
        (r#"{"resolvr": "orgs"}"#, 400),
        ("{", 400),
    ] {
        let answer = proxy.post_body("/resolvers/invalidate", body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
    }
}

#[tokio::test]
async fn paused_pools_let_clients_wait_and_close_what_nobody_uses() -> TestResult {
    let proxy = administered(&[("pool_checkout_timeout", "600")]).await;
    if mode() != Mode::Session {
        assert_eq!(proxy.post("/pools/pause").await.status, 409, "there are no pools");
        return Ok(());
    }
    let used = proxy.log_in("app_user.acme").await;
    drop(proxy.log_in("app_user.globex").await);
    eventually("one is idle", async || proxy.handle.stats().pool_idle == 1).await;
    let paused = proxy.post("/pools/pause").await.json();
    assert_eq!((&paused["paused"], &paused["connections_in_use"]), (&true.into(), &1.into()));
    assert_eq!(proxy.get("/ready").await.body, "not ready: the pools are paused\n");
    used.batch_execute("SELECT 1").await?;
    drop(used);
    eventually("no connection is left", async || proxy.handle.stats().pool_connections == 0).await;
    let config = proxy.config("app_user.acme");
    let waiting = tokio::spawn(async move { config.connect(tokio_postgres::NoTls).await });
    eventually("a client waits", async || proxy.handle.stats().pool_waiting == 1).await;
    assert_eq!(proxy.post("/pools/resume").await.json()["paused"], false);
    let (client, connection) = within("the client", waiting).await??;
    tokio::spawn(connection);
    client.batch_execute("SELECT 1").await?;
    Ok(())
}

#[tokio::test]
async fn a_client_that_has_waited_too_long_is_told_that_the_pools_are_paused() {
    let proxy = proxy(&[("pool_checkout_timeout", "0.05")]).await;
    if mode() != Mode::Session {
        return;
    }
    proxy.handle.pause_pools();
    let error = proxy.try_log_in("app_user.acme").await.expect_err("nobody resumes them");
    let error = error.as_db_error().expect("an error of the proxy's");
    assert_eq!((error.code().code(), error.message()), ("53300", "pgvpd: the pools are paused"));
}

#[tokio::test]
async fn an_admin_port_that_is_taken_stops_the_start() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let port = taken.local_addr().expect("bound").port().to_string();
    let error = proxy_for(&cluster().await.postgres, &[("admin_port", &port)]).await.expect_err("taken");
    assert!(error.to_string().contains(&port), "{error}");
}

#[tokio::test]
async fn a_browser_gets_a_page_that_asks_nobody_but_this_proxy() {
    let proxy = administered(&[]).await;
    let page = http(proxy.admin(), "GET", "/", &[("accept", "text/html,*/*;q=0.8")], "").await;
    assert_eq!(page.status, 200);
    assert!(page.head.contains("content-type: text/html; charset=utf-8"), "{}", page.head);
    let policy = page.head.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).expect("a policy");
    assert!(policy.starts_with("default-src 'none'; ") && policy.contains("connect-src 'self'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    // The policy's digests are those of what stands in the page.
    let inside = |from: &str, to: &str| {
        let text = page.body.split_once(from).expect(from).1.split_once(to).expect(to).0;
        STANDARD.encode(Sha256::digest(text.as_bytes()))
    };
    assert!(policy.contains(&format!("style-src 'sha256-{}'", inside("<style>", "</style>"))), "{policy}");
    assert!(policy.contains(&format!("script-src 'sha256-{}'", inside("<script>", "</script>"))), "{policy}");
    let foreign = page.body.split(['"', '\'', '(']).find(|text| {
        (text.starts_with("http") || text.starts_with("//")) && !text.starts_with("http://www.w3.org/2000/svg")
    });
    assert_eq!(foreign, None);
    assert!(!page.body.contains("innerHTML") && !page.body.contains("style=\""), "names are text, never markup");
}
