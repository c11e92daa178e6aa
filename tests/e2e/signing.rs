//! The signed context, end to end: what a session of a tenant sees, and what it cannot make itself see.

use pgvpd_core::sql::SETUP;
use pgvpd_core::{ProbeError, StartError};
use tokio::net::TcpListener;
use tokio_postgres::Client;

use crate::support::{
    Cluster, SHOP, TestProxy, TestResult, auth_file, auth_query_options, count, eventually, proxy_for, refusal,
};

/// 32 bytes.
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const OTHER: &str = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

const INSTALL: &str =
    "SELECT pgvpd.install_key('1', decode('000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f', 'hex'))";

/// A server of this test's own whose database `shop` has the key, and an administrator's connection to it.
async fn signed_cluster() -> (Cluster, Client) {
    let own = Cluster::start().await;
    let admin = own.admin().await;
    admin.batch_execute(INSTALL).await.expect("a key");
    (own, admin)
}

async fn signing_proxy(own: &Cluster, options: &[(&str, &str)]) -> TestProxy {
    let options = [&[("context_signing_key", KEY)], options].concat();
    proxy_for(&own.postgres, &options).await.expect("it starts")
}

async fn tenants(client: &Client) -> (Option<String>, i64) {
    let row = client.query_one("SELECT current_tenant_id(), (SELECT count(*) FROM notes)", &[]).await.expect("a row");
    (row.get(0), row.get(1))
}

fn acme() -> (Option<String>, i64) {
    (Some("acme".into()), 3)
}

#[tokio::test]
async fn a_tenant_sees_its_rows_and_a_forged_context_none() -> TestResult {
    let (own, _admin) = signed_cluster().await;
    let proxy = signing_proxy(&own, &[]).await;
    let client = proxy.log_in("app_user.acme").await;
    assert_eq!(tenants(&client).await, acme());
    client.batch_execute("SET app.current_tenant_id = 'globex'").await?;
    assert_eq!(tenants(&client).await, acme(), "the plain setting says nothing any more");
    for forged in ["'globex'", "''", "'v1.1.1.0.0.0.00.00.00.00'", "repeat('.', 9)", "repeat('x', 100000)", "NULL"] {
        client.batch_execute(&format!("SELECT set_config('pgvpd.context', {forged}, false)")).await?;
        assert_eq!(tenants(&client).await, (None, 0), "{forged}");
    }
    Ok(())
}

#[tokio::test]
async fn a_proxy_with_a_login_of_its_own_does_not_start_before_a_database_that_verifies_otherwise() -> TestResult {
    let own = Cluster::start().await;
    let admin = own.admin().await;
    let start = async |options: &[(&str, &str)]| {
        proxy_for(&own.postgres, &[&auth_query_options(), options].concat()).await.map(drop)
    };
    let both = [("context_signing_key", OTHER), ("context_key_id", "2"), ("context_previous_signing_key", KEY)];
    let both = [&both[..], &[("context_previous_key_id", "1")]].concat();
    let not_verified = |started: Result<(), StartError>| {
        let Err(StartError::Probe(error)) = started else { panic!("{started:?}") };
        assert!(matches!(&error, ProbeError::NotVerified(database) if database == SHOP), "{error}");
        assert!(error.to_string().contains("pgvpd key install"), "{error}");
    };
    not_verified(start(&[("context_signing_key", KEY)]).await);
    start(&[("context_signing_key", KEY), ("context_signing", "prefer")]).await?;
    start(&[]).await?;

    admin.batch_execute(INSTALL).await?;
    start(&[("context_signing_key", KEY)]).await?;
    start(&both).await?;
    not_verified(start(&[("context_signing_key", OTHER)]).await);
    not_verified(start(&[("context_signing_key", KEY), ("context_key_id", "2")]).await);

    // Sessions tell where it cannot be asked: the proxy may be there before the server is.
    let nobody = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port().to_string();
    start(&[("context_signing_key", OTHER), ("upstream_port", &nobody)]).await?;
    start(&[("context_signing_key", OTHER), ("auth_dbname", "postgres")]).await?;
    Ok(())
}

#[tokio::test]
async fn a_database_with_another_key_or_none_is_refused_and_with_prefer_one_without_a_key_is_served() -> TestResult {
    let own = Cluster::start().await;
    let admin = own.admin().await;
    let refused = |proxy: TestProxy| async move {
        let error = proxy.try_log_in("app_user.acme").await.map(drop).expect_err("no session");
        let error = error.as_db_error().expect("an error of the proxy's").clone();
        assert_eq!(error.code().code(), "08006", "{error:?}");
        assert!(error.message().contains("does not verify"), "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("pgvpd key install")), "{error:?}");
    };
    refused(signing_proxy(&own, &[]).await).await;
    let preferring = signing_proxy(&own, &[("context_signing", "prefer")]).await;
    assert_eq!(tenants(&preferring.log_in("app_user.acme").await).await, acme());

    admin.batch_execute(INSTALL).await?;
    assert_eq!(tenants(&preferring.log_in("app_user.acme").await).await, acme());
    refused(proxy_for(&own.postgres, &[("context_signing_key", OTHER)]).await?).await;
    refused(signing_proxy(&own, &[("context_key_id", "2")]).await).await;
    // A proxy that does not sign has sessions without rows.
    let plain = proxy_for(&own.postgres, &[]).await?;
    assert_eq!(tenants(&plain.log_in("app_user.acme").await).await, (None, 0));
    Ok(())
}

#[tokio::test]
async fn a_database_whose_setup_is_older_is_named() -> TestResult {
    let own = Cluster::start().await;
    own.admin().await.batch_execute("DROP FUNCTION pgvpd.attach()").await?;
    let proxy = signing_proxy(&own, &[("context_signing", "prefer")]).await;
    let error = proxy.try_log_in("app_user.acme").await.map(drop).expect_err("no session");
    let error = error.as_db_error().expect("an error of the proxy's").clone();
    assert!(error.hint().is_some_and(|hint| hint.contains("setup.sql")), "{error:?}");
    own.admin().await.batch_execute(SETUP).await?;
    assert_eq!(tenants(&proxy.log_in("app_user.acme").await).await, acme());
    Ok(())
}

#[tokio::test]
async fn what_a_client_resets_is_put_back() -> TestResult {
    let (own, _admin) = signed_cluster().await;
    let proxy = signing_proxy(&own, &[]).await;
    let client = proxy.log_in("app_user.acme").await;
    for reset in [
        "RESET ALL",
        "DISCARD ALL",
        "DISCARD SEQUENCES",
        "RESET pgvpd.context",
        "RESET ROLE",
        "SET pgvpd.context = 'x'; RESET ALL",
        "SELECT pgvpd.attach(); DISCARD ALL",
    ] {
        // DISCARD ALL stands alone.
        for statement in reset.split("; ") {
            client.batch_execute(statement).await?;
        }
        assert_eq!(tenants(&client).await, acme(), "{reset}");
        // And the pipeline is in step.
        let (a, b) = tokio::try_join!(client.query_one("SELECT 1", &[]), client.query_one("SELECT 2", &[]))?;
        assert_eq!((a.get::<_, i32>(0), b.get::<_, i32>(0)), (1, 2), "{reset}");
    }
    // Inside a transaction, and after it was rolled back.
    client.batch_execute("BEGIN; RESET ALL").await?;
    assert_eq!(tenants(&client).await, acme());
    client.batch_execute("ROLLBACK").await?;
    assert_eq!(tenants(&client).await, acme());
    client.batch_execute("BEGIN; DISCARD SEQUENCES").await?;
    assert_eq!(tenants(&client).await, acme());
    client.batch_execute("RESET ALL").await?;
    assert_eq!(tenants(&client).await, acme(), "again in one transaction");
    client.batch_execute("ROLLBACK").await?;
    assert_eq!(tenants(&client).await, acme());
    Ok(())
}

#[tokio::test]
async fn a_role_that_is_reset_is_put_back_and_one_that_is_chosen_stays() -> TestResult {
    let (own, admin) = signed_cluster().await;
    admin.batch_execute("CREATE ROLE other; GRANT other TO app_user; GRANT SELECT ON notes TO other").await?;
    let proxy = signing_proxy(&own, &[("set_role", "reporting")]).await;
    let client = proxy.log_in("app_user.acme").await;
    for (statement, role) in [("RESET ROLE", "reporting"), ("SET ROLE other; RESET work_mem", "other")] {
        client.batch_execute(statement).await?;
        let row = client.query_one("SELECT current_user::text, current_tenant_id()", &[]).await?;
        assert_eq!((row.get(0), row.get(1)), (role, "acme"), "{statement}");
    }
    Ok(())
}

#[tokio::test]
async fn a_saved_token_is_of_no_use_in_another_session_nor_after_the_connection_was_reset() -> TestResult {
    let (own, _admin) = signed_cluster().await;
    let (file, modes) = (auth_file().display().to_string(), ["none", "session"]);
    for pool_mode in modes {
        let pool =
            [("pool_mode", "session"), ("auth_file", &*file), ("pool_size", "1"), ("max_upstream_connections", "1")];
        let proxy = signing_proxy(&own, if pool_mode == "session" { &pool } else { &[] }).await;
        let token = "SELECT current_setting('pgvpd.context'), pg_backend_pid()";
        let victim = proxy.log_in("app_user.globex").await;
        let row = victim.query_one(token, &[]).await?;
        let (stolen, pid): (String, i32) = (row.get(0), row.get(1));
        if pool_mode == "session" {
            drop(victim);
            eventually("the connection is free", async || proxy.handle.stats().pool_idle == 1).await;
        }
        let attacker = proxy.log_in("app_user.acme").await;
        let row = attacker.query_one(token, &[]).await?;
        assert_eq!(row.get::<_, i32>(1) == pid, pool_mode == "session", "the same backend in a pool");
        let replay = "SELECT set_config('pgvpd.context', $1, false)";
        attacker.query_one(replay, &[&stolen]).await?;
        assert_eq!(tenants(&attacker).await, (None, 0), "{pool_mode}");
        // Nor one of its own, once the session's nonce has moved.
        attacker.batch_execute("RESET ALL").await?;
        assert_eq!(tenants(&attacker).await, acme());
        if pool_mode == "session" {
            let own_token: String = attacker.query_one(token, &[]).await?.get(0);
            attacker.batch_execute("SELECT pgvpd.attach()").await?;
            attacker.query_one(replay, &[&own_token]).await?;
            assert_eq!(tenants(&attacker).await, (None, 0), "its nonce has moved");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_key_is_rotated_with_no_login_and_no_query_failing() -> TestResult {
    let (own, admin) = signed_cluster().await;
    // The database does not know the new key yet: the one before signs.
    let rotated = [
        ("context_signing_key", OTHER),
        ("context_key_id", "2"),
        ("context_previous_signing_key", KEY),
        ("context_previous_key_id", "1"),
    ];
    let proxy = proxy_for(&own.postgres, &rotated).await?;
    let before = proxy.log_in("app_user.acme").await;
    assert_eq!(tenants(&before).await, acme());
    admin.batch_execute(&format!("SELECT pgvpd.install_key('2', decode('{OTHER}', 'hex'))")).await?;
    admin.batch_execute("SELECT pgvpd.retire_key('1')").await?;
    let after = proxy.log_in("app_user.acme").await;
    assert_eq!(tenants(&after).await, acme());
    assert_eq!(tenants(&before).await, (None, 0), "the expired key's context is void");
    before.batch_execute("RESET ALL").await?;
    Ok(())
}

#[tokio::test]
async fn a_plan_is_parallel_and_sees_all_rows() -> TestResult {
    let (own, admin) = signed_cluster().await;
    admin
        .batch_execute(
            "CREATE TABLE big (tenant_id text, n int);
             INSERT INTO big SELECT CASE WHEN n % 3 = 0 THEN 'acme' ELSE 'globex' END, n FROM generate_series(1, 60000) n;
             SELECT pgvpd_protect('big'); GRANT SELECT ON big TO app_user; ANALYZE big",
        )
        .await?;
    let proxy = signing_proxy(&own, &[]).await;
    let client = proxy.log_in("app_user.acme").await;
    client
        .batch_execute(
            "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
             SET parallel_leader_participation = off",
        )
        .await?;
    let plan = client.query("EXPLAIN SELECT count(*) FROM big", &[]).await?;
    let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    assert!(plan.iter().any(|line| line.contains("Parallel Seq Scan")), "{plan:?}");
    assert_eq!(count(&client, "big").await?, 20_000);
    Ok(())
}

#[tokio::test]
async fn sessions_that_may_not_write_are_signed_too() -> TestResult {
    let (own, admin) = signed_cluster().await;
    admin.batch_execute("ALTER DATABASE shop SET default_transaction_read_only = on").await?;
    let proxy = signing_proxy(&own, &[]).await;
    for _ in 0..2 {
        let client = proxy.log_in("app_user.acme").await;
        assert_eq!(tenants(&client).await, acme());
        client.batch_execute("RESET ALL").await?;
        assert_eq!(tenants(&client).await, acme());
    }
    Ok(())
}

#[tokio::test]
async fn nobody_but_its_owner_reads_or_makes_a_key() -> TestResult {
    let (own, _admin) = signed_cluster().await;
    let proxy = signing_proxy(&own, &[]).await;
    let client = proxy.log_in("app_user.acme").await;
    for statement in [
        "SELECT * FROM pgvpd.signing_key",
        "SELECT * FROM pgvpd_private.signing_key",
        "INSERT INTO pgvpd.signing_key VALUES ('2', '', '')",
        "SELECT pgvpd.install_key('2', decode(repeat('00', 32), 'hex'))",
        "SELECT pgvpd.retire_key('1')",
        "SELECT pgvpd.nonce()",
        "SELECT setval('pgvpd_private.session_nonce', 1)",
        "SELECT nextval('pgvpd_private.session_nonce')",
        "SELECT * FROM pgvpd.tenant_role",
        "SELECT pgvpd.create_tenant_role('x')",
        "SET ROLE pgvpd_owner",
    ] {
        assert_eq!(refusal(&client, statement).await.as_ref().map(|code| code.code()), Some("42501"), "{statement}");
    }
    Ok(())
}

#[tokio::test]
async fn a_role_that_owns_a_protected_table_is_refused() -> TestResult {
    let own = Cluster::start().await;
    let admin = own.admin().await;
    admin
        .batch_execute(
            "CREATE ROLE boss; CREATE ROLE worker LOGIN PASSWORD 'secret' IN ROLE boss;
             CREATE TABLE owned (tenant_id text); SELECT pgvpd_protect('owned'); ALTER TABLE owned OWNER TO boss",
        )
        .await?;
    let refusing = proxy_for(&own.postgres, &[]).await?;
    let error = refusing.try_log_in("worker.acme").await.map(drop).expect_err("an owner");
    let error = error.as_db_error().expect("an error of the proxy's").clone();
    assert_eq!(error.code().code(), "28000");
    assert!(
        error.message().contains("owned") && error.hint().is_some_and(|hint| hint.contains("role_check")),
        "{error:?}"
    );
    let warning = proxy_for(&own.postgres, &[("role_check", "warn")]).await?;
    warning.log_in("worker.acme").await;
    Ok(())
}

#[tokio::test]
async fn with_a_role_of_its_own_a_tenant_cannot_be_another_one() -> TestResult {
    let own = Cluster::start().await;
    let admin = own.admin().await;
    admin
        .batch_execute("SELECT pgvpd.create_tenant_role('acme'); ALTER ROLE \"app_user.acme\" PASSWORD 'secret'")
        .await?;
    for signing in [&[][..], &[("context_signing_key", KEY)]] {
        if !signing.is_empty() {
            admin.batch_execute(INSTALL).await?;
        }
        let options = [&[("isolation", "role")], signing].concat();
        let proxy = proxy_for(&own.postgres, &options).await?;
        let client = proxy.log_in("app_user.acme").await;
        client.batch_execute("SET app.current_tenant_id = 'globex'; SET pgvpd.context = ''; SET ROLE app_user").await?;
        assert_eq!(tenants(&client).await, acme());
        let row = client.query_one("SELECT session_user::text", &[]).await?;
        assert_eq!(row.get::<_, &str>(0), "app_user.acme");
        let none = proxy.try_log_in("app_user.globex").await.map(drop).expect_err("no such role");
        assert_eq!(none.code().map(|code| code.code()), Some("28P01"), "{none}");
        let long = proxy.try_log_in(&format!("app_user.{}", "x".repeat(60))).await.map(drop).expect_err("too long");
        assert_eq!(long.code().map(|code| code.code()), Some("28000"), "{long}");
    }
    Ok(())
}

#[tokio::test]
async fn settings_that_a_role_gave_itself_do_not_reach_the_next_session() -> TestResult {
    let own = Cluster::start().await;
    let proxy = proxy_for(&own.postgres, &[("pin_settings", "statement_timeout=0; local_preload_libraries=")]).await?;
    for setting in ["local_preload_libraries = 'none_such'", "statement_timeout = '1ms'"] {
        let attacker = proxy.log_in("app_user.acme").await;
        // Where the proxy sees messages, it ends the session with the answer.
        let _ = attacker.batch_execute(&format!("ALTER ROLE app_user SET {setting}")).await;
    }
    let made = "SELECT count(*) FROM pg_db_role_setting, unnest(setconfig) WHERE setrole = 'app_user'::regrole";
    let made: i64 = own.admin().await.query_one(made, &[]).await?.get(0);
    assert_eq!(made, 2, "both are there");
    // With a key that is the default.
    let next = proxy_for(&own.postgres, &[("context_signing_key", KEY), ("context_signing", "prefer")]).await?;
    let client = next.log_in("app_user.globex").await;
    let row = client.query_one("SELECT current_setting('statement_timeout'), pg_sleep(0.01)::text", &[]).await?;
    assert_eq!(row.get::<_, &str>(0), "0");
    Ok(())
}
