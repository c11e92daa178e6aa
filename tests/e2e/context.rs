//! What the context is, and what it survives.

use crate::support::{TestDatabase, TestResult, cluster, passthrough, proxy, psql, startup_packet};

#[tokio::test]
async fn the_context_survives_the_resets_that_clients_pools_send() -> TestResult {
    let proxy = proxy(&[]).await;
    let client = proxy.log_in("app_user.acme").await;
    for reset in [
        "RESET ALL",
        "DISCARD ALL",
        "BEGIN; SET LOCAL app.current_tenant_id = ''; ROLLBACK",
        "RESET app.current_tenant_id",
    ] {
        client.batch_execute(reset).await?;
        let row = client.query_one("SELECT current_tenant_id(), count(*) FROM notes", &[]).await?;
        assert_eq!((row.get(0), row.get(1)), ("acme", 3_i64), "{reset}");
    }
    Ok(())
}

#[tokio::test]
async fn without_context_in_startup_a_reset_leaves_no_rows_but_where_messages_are_seen() -> TestResult {
    for (relay, after) in [("raw", (None, 0)), ("framed", (Some("acme".to_owned()), 3_i64))] {
        let proxy = passthrough(&[("context_in_startup", "false"), ("relay", relay)]).await;
        let client = proxy.log_in("app_user.acme").await;
        let before: i64 = client.query_one("SELECT count(*) FROM notes", &[]).await?.get(0);
        client.batch_execute("RESET ALL").await?;
        let found = client.query_one("SELECT current_tenant_id(), count(*) FROM notes", &[]).await?;
        assert_eq!((before, (found.get(0), found.get(1))), (3, after), "{relay}");
    }
    Ok(())
}

#[tokio::test]
async fn several_variables_are_set_and_an_empty_one_reads_as_null() -> TestResult {
    let proxy = proxy(&[("context_variables", "app.list_id,app.user_id,app.region")]).await;
    let client = proxy.log_in("app_user.l1::eu.west").await;
    let row = client
        .query_one(
            "SELECT current_setting('app.list_id'), current_setting('app.user_id'), current_setting('app.region'), \
             pgvpd_context('app.user_id')",
            &[],
        )
        .await?;
    assert_eq!((row.get(0), row.get(1), row.get(2)), ("l1", "", "eu.west"));
    assert_eq!(row.get::<_, Option<String>>(3), None);
    for user in ["app_user.l1", "app_user.l1:u", "app_user.l1:u:r:x", "app_user.:u:r"] {
        let error = proxy.try_log_in(user).await.map(drop).unwrap_err();
        assert_eq!(error.code().map(|code| code.code()), Some("28000"), "{user}");
    }
    Ok(())
}

#[tokio::test]
async fn hostile_tenant_names_are_values_and_nothing_else() -> TestResult {
    let proxy = proxy(&[]).await;
    let long = "x".repeat(5000);
    for tenant in [
        "x'; SET app.current_tenant_id = 'globex'; --",
        r"x\'; SET app.current_tenant_id = 'globex'; --",
        "$1",
        "$$; drop table notes; $$",
        "\"quoted\"",
        "a.b:c@d/e?f#g%h",
        "  spaces  ",
        "日本語🦀",
        "app_user.globex",
        long.as_str(),
    ] {
        let client = proxy.log_in(&format!("app_user.{tenant}")).await;
        let row = client.query_one("SELECT current_tenant_id(), (SELECT count(*) FROM notes)", &[]).await?;
        assert_eq!((row.get(0), row.get(1)), (tenant, 0_i64));
        client.batch_execute("RESET ALL").await?;
        let row = client.query_one("SELECT current_tenant_id()", &[]).await?;
        assert_eq!(row.get::<_, &str>(0), tenant, "as the session's default");
    }
    Ok(())
}

#[tokio::test]
async fn the_clients_encoding_does_not_decide_which_tenant_a_name_means() {
    let proxy = proxy(&[]).await;
    // The bytes of "müller" read as LATIN1 are another tenant's name, which has a row too.
    for encoding in ["UTF8", "LATIN1", "SJIS"] {
        let mut client = proxy.connect().await;
        client.log_in("app_user.müller", &[("client_encoding", encoding)]).await;
        assert_eq!(client.value("SELECT body FROM notes").await, "m1", "{encoding}");
        assert_eq!(client.value("SHOW client_encoding").await, encoding);
    }
}

#[tokio::test]
async fn a_tenant_outside_ascii_is_refused_where_the_servers_encoding_would_change_it() -> TestResult {
    let server = &cluster().await.postgres;
    let sql = "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'";
    server.connect("postgres").await?.batch_execute(sql).await?;
    let log_in = async |options: &[(&str, &str)]| {
        let proxy = passthrough(options).await;
        let target = format!("host=127.0.0.1 port={} user=app_user.müller dbname=latin sslmode=disable", proxy.port());
        psql(&[&target, "-c", "SELECT length(current_setting('app.current_tenant_id'))"], "").await
    };
    let refused = log_in(&[]).await;
    assert!(refused.err.contains("not ASCII") && refused.err.contains("context_in_startup"), "{}", refused.err);
    let bound = log_in(&[("context_in_startup", "false")]).await;
    assert_eq!(bound.out, "6", "converted, not reinterpreted: {}", bound.err);
    Ok(())
}

#[tokio::test]
async fn a_search_path_of_the_clients_does_not_decide_which_functions_set_the_context() -> TestResult {
    let db = TestDatabase::create().await;
    let admin = db.admin().await;
    admin
        .batch_execute(
            "CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC;
             CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT $2 $$;
             CREATE FUNCTION evil.convert_from(bytea, name) RETURNS text LANGUAGE sql AS $$ SELECT 'globex' $$;
             CREATE FUNCTION evil.current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT 'off' $$;",
        )
        .await?;
    let proxy = proxy(&[("context_in_startup", "false")]).await;
    let mut client = proxy.connect().await;
    let parameters = [("database", db.name()), ("options", "-c search_path=evil,pg_catalog")];
    let packet = startup_packet(0x3_0000, &[&[("user", "app_user.acme")], &parameters[..]].concat());
    client.send(&packet).await;
    client.authenticate().await;
    client.until(b'Z').await;
    assert_eq!(client.value("SELECT pg_catalog.current_setting('app.current_tenant_id')").await, "acme");
    Ok(())
}

#[tokio::test]
async fn the_role_is_switched_after_the_login() -> TestResult {
    let proxy = proxy(&[("set_role", "reporting")]).await;
    let client = proxy.log_in("app_user.acme").await;
    let row = client.query_one("SELECT current_user::text, session_user::text, count(*) FROM notes", &[]).await?;
    assert_eq!((row.get(0), row.get(1), row.get(2)), ("reporting", "app_user", 3_i64));
    Ok(())
}

/// Switched to a role without them, its superuser rights would be a `RESET ROLE` away.
#[tokio::test]
async fn a_superuser_that_is_switched_to_a_lesser_role_is_refused() {
    for role in ["app_user", "reporting"] {
        let proxy = proxy(&[("set_role", role)]).await;
        let mut client = proxy.connect().await;
        client.start("root_user.acme", &[]).await;
        client.authenticate().await;
        client.refusal().await.assert_is("28000");
    }
}

/// A default of the role's loses to what the proxy sends, and what it sends is what RESET brings back.
#[tokio::test]
async fn a_default_that_the_role_has_for_the_context_or_the_role_does_not_count() -> TestResult {
    let admin = cluster().await.admin().await;
    admin
        .batch_execute(
            "CREATE ROLE swayed LOGIN PASSWORD 'secret'; GRANT reporting TO swayed; GRANT SELECT ON notes TO swayed;
             ALTER ROLE swayed SET app.current_tenant_id = 'globex'; ALTER ROLE swayed SET role = 'reporting'",
        )
        .await?;
    let proxy = proxy(&[]).await;
    let client = proxy.log_in("swayed.acme").await;
    for reset in ["SELECT", "RESET ALL", "RESET ROLE", "RESET app.current_tenant_id"] {
        client.batch_execute(reset).await?;
        let row = client.query_one("SELECT min(tenant_id), max(tenant_id), current_user::text FROM notes", &[]).await?;
        assert_eq!((row.get(0), row.get(1), row.get(2)), ("acme", "acme", "swayed"), "{reset}");
    }
    Ok(())
}

#[tokio::test]
async fn a_role_that_the_login_role_may_not_take_ends_the_login_with_postgresqls_error() {
    for (role, code) in [("root_user", "42501"), ("no_such_role", "22023")] {
        let proxy = proxy(&[("set_role", role), ("role_check", "warn")]).await;
        let mut client = proxy.connect().await;
        client.start("app_user.acme", &[]).await;
        client.authenticate().await;
        assert_eq!(client.refusal().await.code, code, "{role}");
    }
}

#[tokio::test]
async fn a_session_that_switches_to_superuser_rights_never_becomes_ready() -> TestResult {
    let admin = cluster().await.admin().await;
    admin
        .batch_execute(
            "CREATE ROLE climber LOGIN PASSWORD 'secret'; CREATE ROLE summit SUPERUSER; GRANT summit TO climber",
        )
        .await?;
    let proxy = proxy(&[("set_role", "summit")]).await;
    let mut client = proxy.connect().await;
    client.start("climber.acme", &[]).await;
    client.authenticate().await;
    client.refusal().await.assert_is("28000");
    Ok(())
}
