//! Settings that SQL in one session leaves for later ones (`ALTER ROLE … SET`), and those of the server, which stay in force.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use crate::support::{Cluster, TestProxy, TestResult, auth_file, eventually, proxy_for};

/// 32 bytes.
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const INSTALL: &str =
    "SELECT pgvpd.install_key('1', decode('000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f', 'hex'))";

/// The deployments that all of this holds for: with a key and without one, with a connection for each session and with a pool.
async fn deployments(own: &Cluster) -> Vec<(&'static str, TestProxy)> {
    own.admin().await.batch_execute(INSTALL).await.expect("a key");
    let file = auth_file().display().to_string();
    let key = [("context_signing_key", KEY)];
    let mut all = Vec::new();
    for (name, options) in [
        ("raw", &[("pool_mode", "none"), ("relay", "raw")][..]),
        ("framed", &[("pool_mode", "none"), ("relay", "framed")]),
        ("signed", &[("pool_mode", "none"), ("relay", "framed"), key[0]]),
        ("pool", &[("pool_mode", "session"), ("auth_file", &*file)]),
        ("signed pool", &[("pool_mode", "session"), ("auth_file", &*file), key[0]]),
    ] {
        all.push((name, proxy_for(&own.postgres, options).await.expect("it starts")));
    }
    all
}

/// Every setting that a session can make, as it is in force.
async fn settings(client: &Client) -> BTreeMap<String, String> {
    // With PL/pgSQL, which has some of its own.
    client.batch_execute("DO $$ BEGIN END $$").await.expect("PL/pgSQL");
    let rows = client.query("SELECT name, setting FROM pg_settings WHERE context = 'user'", &[]).await.expect("rows");
    let shown = rows.iter().map(|row| (row.get(0), row.get(1)));
    // But for what the client says itself.
    let shown = shown.filter(|(name, _): &(String, String)| name != "application_name");
    // PostgreSQL quotes the name of a configuration that was set, and not one from its file.
    shown.map(|(name, value)| (name, value.replace('"', ""))).collect()
}

async fn show(client: &Client, name: &str) -> String {
    let row = client.query_one(&format!("SELECT current_setting('{name}')"), &[]).await.expect("a row");
    row.get(0)
}

/// A new connection to the server for the next session: a pool's would still have what the role had set when it was made.
async fn close_idle(own: &Cluster) {
    let admin = own.admin().await;
    let close = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app_user'";
    admin.execute(close, &[]).await.expect("closed");
    let left = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app_user'";
    eventually("they are gone", async || admin.query_one(left, &[]).await.is_ok_and(|row| row.get::<_, i64>(0) == 0))
        .await;
}

#[tokio::test]
async fn no_setting_of_a_role_reaches_a_later_session() -> TestResult {
    let own = Cluster::start().await;
    let admin = own.admin().await;
    let proxies = deployments(&own).await;
    let mut before = Vec::new();
    for (_, proxy) in &proxies {
        before.push(settings(&proxy.log_in("app_user.globex").await).await);
    }
    // As SQL in a tenant's session could, every one to another value than it has.
    let attacker = own_session(&own).await;
    attacker.batch_execute("DO $$ BEGIN END $$").await?;
    let rows = attacker
        .query(
            "SELECT name, CASE vartype
               WHEN 'bool' THEN CASE setting WHEN 'on' THEN 'off' ELSE 'on' END
               WHEN 'enum' THEN (SELECT e FROM unnest(enumvals) e WHERE e <> setting LIMIT 1)
               WHEN 'integer' THEN CASE WHEN setting = min_val THEN (min_val::bigint + 1)::text ELSE min_val END
               WHEN 'real' THEN CASE WHEN setting = min_val THEN max_val ELSE min_val END
               ELSE CASE name WHEN 'DateStyle' THEN 'German' WHEN 'client_encoding' THEN 'LATIN1' WHEN 'TimeZone' THEN 'Asia/Tokyo'
                 WHEN 'search_path' THEN 'pg_temp, pg_catalog' WHEN 'default_text_search_config' THEN 'pg_catalog.german'
                 WHEN 'local_preload_libraries' THEN 'none_such' WHEN 'plpgsql.extra_errors' THEN 'all'
                 WHEN 'plpgsql.extra_warnings' THEN 'all' END END
             FROM pg_settings WHERE context = 'user' AND name <> 'application_name'",
            &[],
        )
        .await?;
    let mut made = 0;
    for row in rows {
        let (name, value): (String, Option<String>) = (row.get(0), row.get(1));
        let Some(value) = value else { continue };
        let set = format!(
            "ALTER ROLE app_user SET {name} = {}",
            if name == "search_path" { value } else { format!("'{value}'") }
        );
        made += u32::from(attacker.batch_execute(&set).await.is_ok());
        let in_database = "ALTER ROLE app_user IN DATABASE shop SET array_nulls = off";
        attacker.batch_execute(in_database).await?;
    }
    assert!(made > 100, "{made} settings made");
    for round in 0..3 {
        close_idle(&own).await;
        for ((name, proxy), before) in proxies.iter().zip(&before) {
            if round == 0 {
                // Among them are limits of a millisecond: a busy server can reach each of them before the proxy's first message.
                eventually("a login", async || proxy.try_log_in("app_user.globex").await.is_ok()).await;
            }
            let client = proxy.log_in("app_user.globex").await;
            let differing: Vec<_> =
                settings(&client).await.into_iter().filter(|(name, value)| before.get(name) != Some(value)).collect();
            assert_eq!(differing, [], "{name}, login {round}");
            let rows = client.query_one("SELECT count(*) FROM notes", &[]).await?;
            // The database has a key, and knows no context that is not signed.
            assert_eq!(rows.get::<_, i64>(0), if name.starts_with("signed") { 2 } else { 0 }, "{name}");
        }
    }
    // A reset brings nothing of it back.
    for ((name, proxy), before) in proxies.iter().zip(&before) {
        let client = proxy.log_in("app_user.globex").await;
        client.batch_execute("RESET ALL").await?;
        let differing: Vec<_> =
            settings(&client).await.into_iter().filter(|(name, value)| before.get(name) != Some(value)).collect();
        assert_eq!(differing, [], "{name}, after RESET ALL");
    }
    drop(admin);
    Ok(())
}

/// A session of the role's own, past the proxy: what a tenant's SQL does to the role, it could do through any of them.
async fn own_session(own: &Cluster) -> Client {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(own.postgres.port()).user("app_user").password("secret").dbname("shop");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.expect("login");
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn no_time_limit_of_a_role_ends_a_later_login() -> TestResult {
    let own = Cluster::start().await;
    let mut limits = vec![
        "statement_timeout",
        "lock_timeout",
        "idle_session_timeout",
        "idle_in_transaction_session_timeout",
        "client_connection_check_interval",
    ];
    if own.is_at_least(17) {
        limits.push("transaction_timeout");
    }
    for limit in limits {
        // These proxies have seen nothing of this server.
        let proxies = deployments(&own).await;
        own_session(&own).await.batch_execute(&format!("ALTER ROLE app_user SET {limit} = 1")).await?;
        for (name, proxy) in &proxies {
            // A busy server can come to the limit before the proxy's first word; after that it is pinned.
            drop(proxy.try_log_in("app_user.globex").await);
            for _ in 0..3 {
                let client = proxy.log_in("app_user.globex").await;
                assert_eq!(show(&client, limit).await, "0", "{name}");
            }
        }
        close_idle(&own).await;
        own.admin().await.batch_execute("ALTER ROLE app_user RESET ALL").await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_the_server_says_is_in_force() -> TestResult {
    let own = Cluster::start().await;
    let admin = own.admin().await;
    let proxies = deployments(&own).await;
    for (_, proxy) in &proxies {
        proxy.log_in("app_user.acme").await;
    }
    for setting in [
        "default_transaction_read_only = on",
        "statement_timeout = '30s'",
        "lock_timeout = '20s'",
        "idle_session_timeout = '10min'",
        "idle_in_transaction_session_timeout = '5min'",
        "search_path = public",
        "default_transaction_isolation = 'repeatable read'",
    ] {
        admin.batch_execute(&format!("ALTER SYSTEM SET {setting}")).await?;
    }
    admin.batch_execute("ALTER DATABASE shop SET work_mem = '7MB'").await?;
    admin.batch_execute("SELECT pg_reload_conf()").await?;
    close_idle(&own).await;
    for (name, proxy) in &proxies {
        let client = proxy.log_in("app_user.acme").await;
        for (setting, value) in [
            ("default_transaction_read_only", "on"),
            ("statement_timeout", "30s"),
            ("lock_timeout", "20s"),
            ("idle_session_timeout", "10min"),
            ("idle_in_transaction_session_timeout", "5min"),
            ("search_path", "public"),
            ("default_transaction_isolation", "repeatable read"),
            ("work_mem", "7MB"),
        ] {
            assert_eq!(show(&client, setting).await, value, "{name}: {setting}");
        }
        let insert = client.batch_execute("INSERT INTO notes (tenant_id, body) VALUES ('acme', 'x')").await;
        let error = insert.expect_err("read-only");
        assert_eq!(error.code().map(|code| code.code()), Some("25006"), "{name}");
    }
    // And a role that sets itself free is as little heard.
    let attacker = own_session(&own).await;
    attacker.batch_execute("SET default_transaction_read_only = off").await?;
    attacker.batch_execute("ALTER ROLE app_user SET statement_timeout = 0").await?;
    attacker.batch_execute("ALTER ROLE app_user SET default_transaction_read_only = off").await?;
    close_idle(&own).await;
    for (name, proxy) in &proxies {
        for _ in 0..2 {
            let client = proxy.log_in("app_user.acme").await;
            assert_eq!(show(&client, "statement_timeout").await, "30s", "{name}");
            assert_eq!(show(&client, "default_transaction_read_only").await, "on", "{name}");
        }
    }
    Ok(())
}

/// What is in force, asked until a limit of a millisecond does not come before the answer.
async fn show_in_time(client: &Client, name: &str) -> String {
    for _ in 0..1000 {
        let shown = client.query_one(&format!("SELECT current_setting('{name}')"), &[]).await;
        match shown {
            Ok(row) => return row.get(0),
            Err(error) => assert_eq!(error.code().map(|code| code.code()), Some("57014"), "{error}"),
        }
    }
    panic!("no answer within a millisecond");
}

#[tokio::test]
async fn a_clients_own_limits_begin_after_its_login() -> TestResult {
    let own = Cluster::start().await;
    for (name, proxy) in deployments(&own).await {
        for _ in 0..10 {
            let mut config = proxy.config("app_user.acme");
            config.options("-c statement_timeout=1");
            let (client, connection) = config.connect(tokio_postgres::NoTls).await.expect(name);
            tokio::spawn(connection);
            assert_eq!(show_in_time(&client, "statement_timeout").await, "1ms", "{name}");
        }
        let mut config = proxy.config("app_user.acme");
        let (client, connection) = config.options("-c statement_timeout=9s").connect(tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        client.batch_execute("RESET ALL").await?;
        assert_eq!(show(&client, "statement_timeout").await, "9s", "{name}, after RESET ALL");
    }
    Ok(())
}
