//! Limits of sessions, and clients that have not proved anything: they fill none of them.

use std::io::Write;
use std::time::Duration;

use crate::console::{code, console, show, value, with_console};
use crate::support::{
    APP_PASSWORD, Cluster, SHOP, TestProxy, TestResult, WireClient, administered, auth_file, auth_query_options,
    eventually, passthrough_for, proxy, proxy_for, within,
};

/// What an application waits for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Clients that are asked for a proof and stay silent.
async fn silent(proxy: &TestProxy, user: &str, count: usize) -> Vec<WireClient> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = proxy.connect().await;
        client.start(user, &[]).await;
        assert_eq!(client.message().await.map(|(tag, _)| tag), Some(b'R'));
        clients.push(client);
    }
    clients
}

async fn refusal_with(proxy: &TestProxy, user: &str, password: &str) -> Option<String> {
    let error = proxy.config(user).password(password).connect(tokio_postgres::NoTls).await.err()?;
    Some(error.code().map(|code| code.code().to_owned()).unwrap_or_else(|| error.to_string()))
}

/// Logs in with the right password within the time that an application gives it.
async fn get_in(proxy: &TestProxy, user: &str) -> tokio_postgres::Client {
    let logged_in = tokio::time::timeout(CONNECT_TIMEOUT, proxy.try_log_in(user)).await;
    logged_in.expect("within connect_timeout").expect("the right password opens")
}

/// Workers that try again and again with a password that is not right any more.
fn workers(proxy: &TestProxy, user: &str, count: usize) -> Vec<tokio_util::task::AbortOnDropHandle<()>> {
    let config = proxy.config(user).password("old").clone();
    let work = |config: tokio_postgres::Config| async move {
        loop {
            let refused = config.connect(tokio_postgres::NoTls).await.map(|_| ()).expect_err("an old password");
            assert_eq!(refused.code().map(|code| code.code()), Some("28P01"), "{refused}");
        }
    };
    (0..count).map(|_| tokio_util::task::AbortOnDropHandle::new(tokio::spawn(work(config.clone())))).collect()
}

#[tokio::test]
async fn the_console_shows_logins_in_progress_and_not_who_they_say_they_are() -> TestResult {
    let proxy = with_console(&[]).await;
    let says_nothing = proxy.connect().await;
    let mut claims = silent(&proxy, "app_user.acme", 2).await;
    let admin = console(&proxy).await;
    eventually("each has a row", async || show(&admin, "CLIENTS").await.len() == 3).await;
    let rows = show(&admin, "CLIENTS").await;
    for row in &rows {
        for (column, expected) in [("type", "C"), ("state", "login"), ("addr", "127.0.0.1")] {
            assert_eq!(value(row, column), expected, "{row:?}");
        }
        for column in ["user", "database", "tenant", "link", "query_count", "received", "sent"] {
            assert_eq!(value(row, column), "NULL", "{column} in {row:?}");
        }
        assert!(value(row, "connect_time").ends_with(" UTC"), "{row:?}");
    }
    let lists = show(&admin, "LISTS").await;
    let count =
        |list: &str| lists.iter().find(|row| value(row, "list") == list).map(|row| value(row, "items").to_owned());
    assert_eq!((count("login_clients"), count("used_clients")), (Some("3".into()), Some("0".into())));
    // The first has said nothing that it could be told an answer to; those that log in can be ended.
    let numbers: Vec<_> = rows.iter().map(|row| value(row, "ptr").to_owned()).collect();
    assert_eq!(code(&admin, &format!("DISCONNECT SESSION {}", numbers[0])).await, "42704");
    admin.batch_execute(&format!("DISCONNECT SESSION {}", numbers[1])).await?;
    claims.remove(0).refusal().await.assert_is("57P01");
    let session = proxy.log_in("app_user.globex").await;
    eventually("a session is shown with what it has proved", async || {
        let rows = show(&admin, "CLIENTS").await;
        let known: Vec<_> = rows.iter().map(|row| (value(row, "tenant"), value(row, "user"))).collect();
        known == [("NULL", "NULL"), ("NULL", "NULL"), ("globex", "app_user")]
    })
    .await;
    drop((says_nothing, claims, session));
    eventually("nobody is left", async || show(&admin, "CLIENTS").await.is_empty()).await;
    Ok(())
}

#[tokio::test]
async fn silent_clients_take_none_of_a_tenants_connections() -> TestResult {
    let proxy = administered(&[("tenant_max_connections", "5")]).await;
    let strangers = silent(&proxy, "app_user.acme", 5).await;
    let first = get_in(&proxy, "app_user.acme").await;
    // They are shown as what they are, and not as the tenant's.
    let status = proxy.get("/status").await.json();
    assert_eq!(status["stats"]["sessions_active"], 1, "{status}");
    assert_eq!(status["sessions"]["total"], 1, "{status}");
    assert_eq!(status["tenants"]["busiest"][0]["sessions_active"], 1, "{status}");
    assert_eq!(status["logins"]["authenticating"], 5, "{status}");
    assert_eq!(proxy.metric("pgvpd_logins_in_progress{state=\"authenticating\"}").await, Some(5.0));
    drop(strangers);
    eventually("they are gone", async || proxy.get("/status").await.json()["logins"]["total"] == 0).await;
    // Authenticated sessions are what is counted.
    let mut sessions = vec![first];
    for _ in 0..4 {
        sessions.push(get_in(&proxy, "app_user.acme").await);
    }
    let mut sixth = proxy.connect().await;
    sixth.start("app_user.acme", &[]).await;
    sixth.authenticate().await;
    let error = sixth.refusal().await;
    error.assert_is("53300");
    assert!(error.hint.contains("tenant_max_connections"), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn silent_clients_take_no_place_of_all_sessions() {
    let proxy = proxy(&[("max_client_connections", "5")]).await;
    let _strangers = silent(&proxy, "app_user.acme", 5).await;
    let _mine: Vec<_> = [get_in(&proxy, "app_user.acme").await, get_in(&proxy, "app_user.globex").await].into();
}

#[tokio::test]
async fn wrong_passwords_take_none_of_a_tenants_connections() {
    let proxy = proxy(&[("tenant_max_connections", "5")]).await;
    let workers = workers(&proxy, "app_user.acme", 10);
    eventually("they fail", async || proxy.handle.stats().refused_total >= 10).await;
    let mut sessions = Vec::new();
    for _ in 0..5 {
        sessions.push(get_in(&proxy, "app_user.acme").await);
    }
    // Nor were they refused for anything but their password.
    assert!(workers.iter().all(|worker| !worker.is_finished()), "they fail for another reason");
}

#[tokio::test]
async fn logins_that_fail_take_nothing_of_a_tenants_rate() {
    let proxy = proxy(&[("tenant_rate_limit", "1")]).await;
    for _ in 0..5 {
        assert_eq!(refusal_with(&proxy, "app_user.acme", "wrong").await.as_deref(), Some("28P01"));
        let _ = silent(&proxy, "app_user.acme", 1).await;
    }
    get_in(&proxy, "app_user.acme").await;
}

#[tokio::test]
async fn the_right_password_does_not_wait_for_wrong_ones() {
    let proxy = proxy(&[]).await;
    for count in [3, 40] {
        let _workers = workers(&proxy, "app_user.acme", count);
        let before = proxy.handle.stats().refused_total;
        // So many that those which come now are delayed by seconds.
        eventually("they fail", async || proxy.handle.stats().refused_total >= before + 12).await;
        for _ in 0..3 {
            get_in(&proxy, "app_user.acme").await;
        }
    }
}

#[tokio::test]
async fn a_storm_of_logins_from_one_address_is_served() {
    let proxy = proxy(&[("pool_checkout_timeout", "25")]).await;
    let logins: Vec<_> = (0..300)
        .map(|_| {
            let config = proxy.config("app_user.acme");
            tokio::spawn(async move {
                let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
                let connection = tokio::spawn(connection);
                client.batch_execute("SELECT 1").await?;
                drop(client);
                let _ = connection.await;
                Ok::<_, tokio_postgres::Error>(())
            })
        })
        .collect();
    for login in logins {
        within("a login of the storm", login).await.expect("no panic").expect("served");
    }
}

/// Each holds a connection to the server while it is in progress.
#[tokio::test]
async fn logins_that_stop_half_way_leave_the_server_to_others() -> TestResult {
    let own = Cluster::start().await;
    let behind = [("proxy_protocol", "require"), ("proxy_protocol_from", "loopback")];
    let proxy = passthrough_for(&own.postgres, &behind).await?;
    let mut strangers = Vec::new();
    for number in 0..320 {
        let mut client = proxy.connect().await;
        client.send(format!("PROXY TCP4 192.0.2.{} 192.0.2.1 4660 5432\r\n", number % 4).as_bytes()).await;
        client.start("app_user.acme", &[]).await;
        strangers.push(client);
    }
    eventually("they are in progress", async || proxy.handle.status(0).logins.authenticating >= 30).await;
    // The server has 100 connections, and room for those that come to it directly.
    let mut direct = tokio_postgres::Config::new();
    direct.host("127.0.0.1").port(own.postgres.port()).user("app_user").password(APP_PASSWORD).dbname(SHOP);
    let mut others = Vec::new();
    for _ in 0..40 {
        let (client, connection) = direct.connect(tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        others.push(client);
    }
    let mut client = proxy.connect().await;
    client.send(b"PROXY TCP4 198.51.100.7 192.0.2.1 4660 5432\r\n").await;
    let login = tokio::time::timeout(CONNECT_TIMEOUT, client.log_in("app_user.acme", &[])).await;
    assert!(login.is_ok(), "another address gets in");
    // So does the right password from one of theirs.
    let mut client = proxy.connect().await;
    client.send(b"PROXY TCP4 192.0.2.1 192.0.2.1 4660 5432\r\n").await;
    let login = tokio::time::timeout(CONNECT_TIMEOUT, client.log_in("app_user.acme", &[])).await;
    assert!(login.is_ok(), "their own address gets in");
    Ok(())
}

#[tokio::test]
async fn sockets_that_say_nothing_keep_nobody_out() {
    let proxy = proxy(&[("max_client_connections", "50")]).await;
    let mut sockets = Vec::new();
    for _ in 0..200 {
        sockets.push(proxy.connect().await);
    }
    get_in(&proxy, "app_user.acme").await;
    drop(sockets);
}

#[tokio::test]
async fn a_startup_packet_of_many_parameters_is_refused() {
    let proxy = proxy(&[]).await;
    let names: Vec<String> = (0..1500).map(|number| format!("x{number}")).collect();
    let parameters: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    let mut client = proxy.connect().await;
    client.start("app_user.acme", &parameters).await;
    let error = client.refusal().await;
    error.assert_is("08P01");
    assert!(error.message.contains("parameters"), "{error:?}");
}

/// Slow clients of the admin port, and such as keep their connections for requests that come now and then.
#[tokio::test]
async fn a_probe_is_answered_whoever_fills_the_admin_port() {
    let proxy = administered(&[]).await;
    let mut held = Vec::new();
    for number in 0..100 {
        let mut client = WireClient::connect(proxy.admin().port()).await;
        if number % 2 == 0 {
            client.send(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
            assert_eq!(client.byte().await, b'H', "each is answered");
        }
        held.push(client);
    }
    for path in ["/health", "/ready"] {
        assert_eq!(proxy.get(path).await.status, 200, "{path}");
    }
}

/// The number of iterations that a client of this name is asked for.
async fn iterations(proxy: &TestProxy, user: &str) -> String {
    let mut client = proxy.connect().await;
    client.start(user, &[]).await;
    client.until(b'R').await;
    client.send(b"p\0\0\0\x36SCRAM-SHA-256\0\0\0\0\x20n,,n=,r=abcdefghijklmnopqrstuvwx").await;
    let body = client.until(b'R').await;
    let text = String::from_utf8_lossy(&body).into_owned();
    text.rsplit_once("i=").map(|(_, iterations)| iterations.to_owned()).unwrap_or(text)
}

#[tokio::test]
async fn names_that_nobody_has_are_asked_for_as_many_iterations() -> TestResult {
    let mut file = tempfile::NamedTempFile::new()?;
    let keys = "wN56iZgRmJc8bLR+mwOwuVJuCvu3CIrVguKdgdp7J6s=:ywJYVz0nm/y3tcyI3qXB89hBjaX1PJEJLUzrN3+/5aM=";
    writeln!(file, "\"app_user\" \"SCRAM-SHA-256$10000:c2FsdA==${keys}\"\n\"reporting\" \"{APP_PASSWORD}\"")?;
    let path = file.path().display().to_string();
    let proxy = proxy(&[("pool_mode", "session"), ("auth_file", &path)]).await;
    for user in ["app_user.acme", "reporting.acme", "nobody_of_this_name.acme", "nobody_else.acme"] {
        assert_eq!(iterations(&proxy, user).await, "10000", "{user}");
    }
    // From the database: PostgreSQL's own number, whoever is asked about first.
    let own = Cluster::start().await;
    let admin = own.admin().await;
    let verifier = format!("SCRAM-SHA-256$7000:c2FsdA==${keys}");
    admin.batch_execute(&format!("ALTER ROLE app_user PASSWORD '{verifier}'")).await?;
    let proxy = proxy_for(&own.postgres, &auth_query_options()).await?;
    for user in ["nobody_of_this_name.acme", "app_user.acme", "nobody_else.acme"] {
        assert_eq!(iterations(&proxy, user).await, "7000", "{user}");
    }
    Ok(())
}

#[tokio::test]
async fn a_verifier_of_too_many_iterations_opens_nothing() -> TestResult {
    let mut file = tempfile::NamedTempFile::new()?;
    let keys = "wN56iZgRmJc8bLR+mwOwuVJuCvu3CIrVguKdgdp7J6s=:ywJYVz0nm/y3tcyI3qXB89hBjaX1PJEJLUzrN3+/5aM=";
    let verifier = format!("SCRAM-SHA-256$4294967296:c2FsdA==${keys}");
    writeln!(file, "\"app_user\" \"{verifier}\"")?;
    let path = file.path().display().to_string();
    let proxy = proxy(&[("pool_mode", "session"), ("auth_file", &path), ("client_auth", "cleartext")]).await;
    for password in [APP_PASSWORD, &verifier] {
        assert_eq!(refusal_with(&proxy, "app_user.acme", password).await.as_deref(), Some("28P01"));
    }
    Ok(())
}

#[tokio::test]
async fn refused_logins_under_ever_new_names_do_not_fill_the_audit_stream() -> TestResult {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("audit.log");
    let proxy = proxy(&[("audit_log", path.to_str().ok_or("UTF-8")?), ("tenant_allow", "acme")]).await;
    for number in 0..200 {
        let mut client = proxy.connect().await;
        client.start(&format!("app_user.tenant{number}"), &[]).await;
        client.refusal().await.assert_is("28000");
    }
    // Whoever is let in has a line, whatever else there is.
    let client = proxy.log_in("app_user.acme").await;
    proxy.handle.shutdown(Duration::ZERO).await;
    drop(client);
    let text = std::fs::read_to_string(&path)?;
    let events: Vec<serde_json::Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let named = |name: &str| events.iter().filter(|event| event["event"] == name).collect::<Vec<_>>();
    assert_eq!(named("login_accepted").len(), 1);
    let refused = named("login_refused").len() as u64;
    assert!((1..=40).contains(&refused), "{refused} lines");
    let counted: u64 = named("refusals").iter().filter_map(|event| event["refused"].as_u64()).sum();
    assert_eq!(refused + counted, 200, "each is counted");
    assert!(named("refusals").iter().all(|event| event["client"] == "127.0.0.1"), "{text}");
    Ok(())
}

#[tokio::test]
async fn an_administrators_password_does_not_wait_for_wrong_ones() {
    let file = auth_file().display().to_string();
    let proxy = proxy(&[("admin_users", "admin"), ("auth_file", &file)]).await;
    let mut config = proxy.config("admin");
    config.dbname("pgvpd");
    let guess = config.clone().password("guess").clone();
    let _guessers: Vec<_> = (0..5)
        .map(|_| {
            let guess = guess.clone();
            tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
                loop {
                    let _ = guess.connect(tokio_postgres::NoTls).await;
                }
            }))
        })
        .collect();
    eventually("they fail", async || proxy.handle.stats().refused_total >= 12).await;
    let login = tokio::time::timeout(CONNECT_TIMEOUT, config.password(APP_PASSWORD).connect(tokio_postgres::NoTls));
    assert!(login.await.is_ok_and(|login| login.is_ok()), "within connect_timeout");
}
