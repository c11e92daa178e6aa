//! Clients that prove themselves to the proxy, and the proxy that proves itself to PostgreSQL.

use std::io::Write;

use tempfile::NamedTempFile;

use crate::support::{
    APP_PASSWORD, Cluster, PgError, SHOP, TestProxy, TestResult, auth_query_options, cluster, eventually, proxy,
    proxy_for,
};

fn file_with(lines: &[&str]) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    for line in lines {
        writeln!(file, "{line}").expect("written");
    }
    file
}

async fn pool_with(lines: &[&str], options: &[(&str, &str)]) -> (TestProxy, NamedTempFile) {
    let file = file_with(lines);
    let path = file.path().display().to_string();
    let own = [("pool_mode", "session"), ("auth_file", &*path)];
    (proxy(&[&own, options].concat()).await, file)
}

async fn refusal_with(proxy: &TestProxy, user: &str, password: &[u8]) -> Option<String> {
    let mut config = proxy.config(user);
    let error = config.password(password).connect(tokio_postgres::NoTls).await.err()?;
    Some(error.code().map(|code| code.code().to_owned()).unwrap_or_else(|| error.to_string()))
}

/// The first request for a proof.
async fn request(proxy: &TestProxy, user: &str) -> Vec<u8> {
    let mut client = proxy.connect().await;
    client.start(user, &[]).await;
    let (tag, body) = client.message().await.expect("a request");
    assert_eq!(tag, b'R', "{:?}", PgError::parse(&body));
    body[..4].to_vec()
}

const SCRAM: &[u8] = &[0, 0, 0, 10];
const MD5: &[u8] = &[0, 0, 0, 5];
const CLEARTEXT: &[u8] = &[0, 0, 0, 3];

/// No password stands anywhere but in the database and in the client.
#[tokio::test]
async fn with_auth_query_a_clients_proof_lets_the_proxy_in_and_no_password_is_stored() -> TestResult {
    let own = Cluster::start().await;
    own.postgres
        .execute(
            SHOP,
            "CREATE ROLE late LOGIN PASSWORD 'secret' VALID UNTIL '2001-01-01';
             CREATE ROLE \"pässwörd\" LOGIN PASSWORD 'pÄssw\u{00f6}rd \u{00a0}I\u{00ad}X\u{2168}'",
        )
        .await?;
    let proxy = proxy_for(&own.postgres, &[&auth_query_options()[..], &[("pool_size", "2")]].concat()).await?;
    for tenant in ["acme", "globex"] {
        let client = proxy.log_in(&format!("app_user.{tenant}")).await;
        let row = client.query_one("SELECT current_tenant_id(), session_user::text", &[]).await?;
        assert_eq!((row.get(0), row.get(1)), (tenant, "app_user"));
    }
    for (user, password) in [
        ("app_user.acme", "wrong"),
        ("app_user.acme", ""),
        ("nobody_of_this_name.acme", APP_PASSWORD),
        // Those that the function does not give.
        ("root_user.acme", APP_PASSWORD),
        ("trust_user.acme", APP_PASSWORD),
        ("late.acme", APP_PASSWORD),
    ] {
        assert_eq!(
            refusal_with(&proxy, user, password.as_bytes()).await.as_deref(),
            Some("28P01"),
            "{user} {password}"
        );
    }
    assert!(proxy.handle.stats().failed_logins_total >= 5);
    let odd = "pÄssw\u{00f6}rd \u{00a0}I\u{00ad}X\u{2168}";
    assert_eq!(refusal_with(&proxy, "pässwörd.acme", odd.as_bytes()).await, None);

    // A changed password is noticed as soon as somebody has failed with it.
    own.postgres.execute(SHOP, "ALTER ROLE app_user PASSWORD 'changed'").await?;
    eventually("the new one opens", async || refusal_with(&proxy, "app_user.globex", b"changed").await.is_none()).await;
    assert_eq!(refusal_with(&proxy, "app_user.acme", b"secret").await.as_deref(), Some("28P01"));
    Ok(())
}

#[tokio::test]
async fn a_verifier_in_auth_file_is_enough_where_it_is_the_servers_own() -> TestResult {
    let admin = cluster().await.admin().await;
    let verifier: String =
        admin.query_one("SELECT rolpassword FROM pg_authid WHERE rolname = 'app_user'", &[]).await?.get(0);
    let (proxy, _file) = pool_with(&[&format!("\"app_user\" \"{verifier}\"")], &[]).await;
    proxy.assert_serves().await;
    assert_eq!(refusal_with(&proxy, "app_user.acme", b"wrong").await.as_deref(), Some("28P01"));

    // Another verifier of the same password proves as much to the proxy, and nothing to the server.
    let foreign = "SCRAM-SHA-256$1:c2FsdA==$wN56iZgRmJc8bLR+mwOwuVJuCvu3CIrVguKdgdp7J6s=:ywJYVz0nm/y3tcyI3qXB89hBjaX1PJEJLUzrN3+/5aM=";
    let (proxy, _file) = pool_with(&[&format!("\"app_user\" \"{foreign}\"")], &[]).await;
    let found = refusal_with(&proxy, "app_user.acme", APP_PASSWORD.as_bytes()).await;
    assert!(matches!(found.as_deref(), Some("28000" | "28P01")), "{found:?}");
    Ok(())
}

#[tokio::test]
async fn each_method_takes_the_right_password_and_no_other() {
    for (method, asked) in [("scram-sha-256", SCRAM), ("md5", MD5), ("cleartext", CLEARTEXT)] {
        let (proxy, _file) = pool_with(&["\"app_user\" \"secret\""], &[("client_auth", method)]).await;
        assert_eq!(request(&proxy, "app_user.acme").await, asked, "{method}");
        assert_eq!(request(&proxy, "nobody_of_this_name.acme").await, asked, "{method}: the same for everybody");
        proxy.assert_serves().await;
        for (user, password) in [
            ("app_user.acme", &b"wrong"[..]),
            ("app_user.acme", b"Secret"),
            ("app_user.acme", b""),
            ("nobody_of_this_name.acme", b"secret"),
            ("nobody_of_this_name.acme", b""),
        ] {
            let found = refusal_with(&proxy, user, password).await;
            assert_eq!(found.as_deref(), Some("28P01"), "{method} {user} {password:?}");
        }
    }
}

/// md5(password + role): a client hashes the name that it typed, tenant included.
#[tokio::test]
async fn an_md5_entry_asks_for_the_password_itself_and_opens_the_server_too() {
    // md5sum of "secretmd5_user".
    let (proxy, _file) = pool_with(&["\"md5_user\" \"md539c4422cad2e8aa743c2904bf0925538\""], &[]).await;
    assert_eq!(request(&proxy, "md5_user.acme").await, CLEARTEXT);
    assert_eq!(refusal_with(&proxy, "md5_user.acme", b"wrong").await.as_deref(), Some("28P01"));
    assert_eq!(refusal_with(&proxy, "md5_user.acme", b"secret").await, None);
}

#[tokio::test]
async fn a_password_in_the_clear_is_not_asked_of_a_client_elsewhere() {
    let behind = [("proxy_protocol", "require"), ("proxy_protocol_from", "127.0.0.1")];
    let header = b"PROXY TCP4 192.0.2.7 192.0.2.1 4660 5432\r\n";
    for (allowed, code) in [("false", Some("28000")), ("true", None)] {
        let options = [&behind[..], &[("client_auth", "cleartext"), ("allow_cleartext", allowed)]].concat();
        let (proxy, _file) = pool_with(&["\"app_user\" \"secret\""], &options).await;
        let mut client = proxy.connect().await;
        client.send(header).await;
        client.start("app_user.acme", &[]).await;
        match code {
            Some(code) => client.refusal().await.assert_is(code),
            None => client.authenticate().await,
        }
    }
}

#[tokio::test]
async fn a_pool_password_opens_the_roles_that_are_named_and_the_proxy_has_its_own() -> TestResult {
    let pool = [("pool_mode", "session"), ("pool_password", "everybody's"), ("upstream_password", APP_PASSWORD)];
    let own = proxy(&pool).await;
    assert_eq!(refusal_with(&own, "app_user.acme", b"everybody's").await, None);
    assert_eq!(refusal_with(&own, "app_user.acme", APP_PASSWORD.as_bytes()).await.as_deref(), Some("28P01"));
    assert_eq!(refusal_with(&own, "md5_user.acme", b"everybody's").await.as_deref(), Some("28000"), "no login_roles");
    let named = proxy(&[&pool[..], &[("login_roles", "md5_user, plain_user")]].concat()).await;
    for role in ["md5_user", "plain_user"] {
        let mut config = named.config(&format!("{role}.globex"));
        let (client, connection) = config.password("everybody's").connect(tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        assert_eq!(client.query_one("SELECT count(*) FROM notes", &[]).await?.get::<_, i64>(0), 2, "{role}");
    }
    Ok(())
}

#[tokio::test]
async fn a_proxy_that_cannot_log_in_says_so_and_not_that_the_clients_password_is_wrong() {
    for (options, code) in
        [(&[("pool_password", "x")][..], "28000"), (&[("pool_password", "x"), ("upstream_password", "wrong")], "08006")]
    {
        let proxy = proxy(&[&[("pool_mode", "session")], options].concat()).await;
        assert_eq!(refusal_with(&proxy, "app_user.acme", b"x").await.as_deref(), Some(code));
        assert_eq!(proxy.handle.stats().failed_logins_total, 0);
    }
}

#[tokio::test]
async fn what_is_no_proof_is_a_protocol_violation() {
    let (proxy, _file) = pool_with(&["\"app_user\" \"secret\""], &[]).await;
    for (sent, code) in [
        (&b"Q\0\0\0\x0dSELECT 1\0"[..], "08P01"),
        (b"p\0\0\0\x19SCRAM-SHA-256\0\0\0\0\x03n,,", "08P01"),
        (b"p\0\0\0\x1dSCRAM-SHA-256-PLUS\0\0\0\0\x02n,", "08P01"),
        (b"p\0\0\0\x04", "08P01"),
        (b"p\0\0\0\x16SCRAM-SHA-256\0\xff\xff\xff\xff", "08P01"),
        (b"p\x7f\xff\xff\xff", "08P01"),
        (b"p\0\0\0\0", "08P01"),
    ] {
        let mut client = proxy.connect().await;
        client.start("app_user.acme", &[]).await;
        client.message().await;
        client.send(sent).await;
        client.refusal().await.assert_is(code);
    }
    proxy.assert_serves().await;
}
