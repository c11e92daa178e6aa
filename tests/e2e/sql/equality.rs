//! Does the database ever take for one tenant what the proxy takes for two?

use pgvpd_core::sql::{AUDIT, HELPERS, SETUP};
use tokio_postgres::error::SqlState;

use crate::audit::audit_of;
use crate::support::{Cluster, TestResult, count, database_with, passthrough_for, refusal, session, set_context};

const UUID: &str = "a0000000-0000-0000-0000-000000000007";

/// Texts that differ in case alone are equal by it.
const LOOSE: &str = "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);";

#[tokio::test]
async fn another_spelling_of_a_tenant_reads_nothing() -> TestResult {
    let own = Cluster::start().await;
    let admin = own.admin().await;
    admin
        .batch_execute(&format!(
            "CREATE DOMAIN number AS int; CREATE TABLE small (tenant_id smallint); CREATE TABLE whole (tenant_id number);
             CREATE TABLE big (tenant_id bigint); CREATE TABLE ids (tenant_id uuid);
             INSERT INTO small VALUES (7), (0); INSERT INTO whole VALUES (7), (0); INSERT INTO big VALUES (7), (0); INSERT INTO ids VALUES ('{UUID}');
             SELECT pgvpd_protect(t) FROM unnest('{{small,whole,big,ids}}'::regclass[]) t;
             GRANT SELECT ON small, whole, big, ids TO app_user"
        ))
        .await?;
    let proxy = passthrough_for(&own.postgres, &[("tenant_deny", &format!("7,{UUID}"))]).await?;
    for table in ["small", "whole", "big"] {
        for alias in ["07", "007", "-0", "00", "+7", " 7", "7 ", "7.0", "0x7"] {
            let client = proxy.log_in(&format!("app_user.{alias}")).await;
            assert_eq!(count(&client, table).await?, 0, "{table}, {alias:?}");
        }
        assert_eq!(count(&proxy.log_in("app_user.0").await, table).await?, 1, "{table}");
    }
    for alias in [UUID.to_uppercase(), format!("{{{UUID}}}"), UUID.replace('-', ""), format!("{UUID} ")] {
        let client = proxy.log_in(&format!("app_user.{alias}")).await;
        assert_eq!(count(&client, "ids").await?, 0, "{alias:?}");
    }
    assert!(
        proxy.try_log_in("app_user.7").await.is_err() && proxy.try_log_in(&format!("app_user.{UUID}")).await.is_err()
    );
    Ok(())
}

#[tokio::test]
async fn every_value_as_postgresql_prints_it_fits() -> TestResult {
    let (db, admin) = database_with(&[SETUP, HELPERS]).await;
    admin
        .batch_execute(
            "CREATE TABLE ids (tenant_id bigint); GRANT SELECT ON ids TO app_user; SELECT pgvpd_protect('ids')",
        )
        .await?;
    for value in ["0", "7", "-7", "10", "9223372036854775807", "-9223372036854775808"] {
        admin.batch_execute(&format!("INSERT INTO ids VALUES ({value})")).await?;
        assert_eq!(count(&session(&db, value).await?, "ids").await?, 1, "{value}");
    }
    let client = session(&db, "9223372036854775808").await?;
    assert_eq!(count(&client, "ids").await?, 0);
    for (list, read) in [("{7,-1}", true), ("7, 8", true), ("{7,07}", false), ("7,+8", false), ("{-0}", false)] {
        set_context(&client, "app.x", list).await?;
        let sql = "SELECT pgvpd.to_bigint_array(pgvpd_context('app.x')) IS NOT NULL";
        assert_eq!(client.query_one(sql, &[]).await?.get::<_, bool>(0), read, "{list}");
    }
    Ok(())
}

#[tokio::test]
async fn a_column_by_which_names_are_equal_that_differ_is_refused() -> TestResult {
    let (_db, admin) = database_with(&[SETUP, HELPERS, AUDIT]).await;
    admin
        .batch_execute(&format!(
            "{LOOSE} CREATE DOMAIN loose_name AS varchar(20) COLLATE loose;
             CREATE TABLE orders (tenant_id text COLLATE loose); CREATE TABLE padded (tenant_id char(9) COLLATE loose);
             CREATE TABLE named (tenant_id loose_name); CREATE TABLE docs (owner text COLLATE loose, kind text COLLATE loose, team text)"
        ))
        .await?;
    for statement in [
        "SELECT pgvpd_protect('orders')",
        "SELECT pgvpd_protect('padded')",
        "SELECT pgvpd_protect('named')",
        r#"SELECT pgvpd_protect_acl('docs', '[{"column": "owner", "var": "app.user", "type": "text"}]')"#,
        r#"SELECT pgvpd_protect_acl('docs', '[{"column": "owner", "var": "app.users", "type": "text_array"}]')"#,
    ] {
        assert_eq!(refusal(&admin, statement).await, Some(SqlState::DATATYPE_MISMATCH), "{statement}");
    }
    let other = r#"SELECT pgvpd_protect_acl('docs', '[{"column": "team", "var": "app.team", "type": "text", "when": "kind = ''public''"}]')"#;
    assert_eq!(refusal(&admin, other).await, None, "a condition of one's own may use it");
    Ok(())
}

#[tokio::test]
async fn the_audit_finds_such_a_column_behind_earlier_policies() -> TestResult {
    let (db, admin) = database_with(&[SETUP, HELPERS, AUDIT]).await;
    admin
        .batch_execute(&format!(
            "{LOOSE} CREATE TABLE orders (tenant_id text COLLATE loose NOT NULL DEFAULT current_tenant_id());
             CREATE TABLE docs (owner text COLLATE loose);
             INSERT INTO orders VALUES ('acme'); GRANT SELECT ON orders, docs TO app_user;
             ALTER TABLE orders ENABLE ROW LEVEL SECURITY; ALTER TABLE orders FORCE ROW LEVEL SECURITY;
             ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
             CREATE POLICY pgvpd_tenant_isolation ON orders USING (tenant_id = (SELECT current_tenant_id()));
             CREATE POLICY pgvpd_tenant_guard ON orders AS RESTRICTIVE USING (tenant_id = (SELECT current_tenant_id()));
             CREATE POLICY pgvpd_visible ON docs USING (owner = (SELECT pgvpd_context('app.user')))"
        ))
        .await?;
    let client = session(&db, "ACME").await?;
    assert_eq!(count(&client, "orders").await?, 1, "it reads the row of acme");
    let found = audit_of(&admin, &["app_user"], &["tenant_id"]).await?;
    let found: Vec<_> = found.into_iter().filter(|finding| finding.id == "A34").collect();
    let objects: Vec<_> = found.iter().map(|finding| finding.object.as_str()).collect();
    assert_eq!(objects, ["public.docs", "public.orders"]);
    admin.batch_execute(&found.iter().map(|finding| format!("{}\n", finding.fix)).collect::<String>()).await?;
    assert_eq!(count(&client, "orders").await?, 0, "the fix works");
    assert_eq!(count(&session(&db, "acme").await?, "orders").await?, 1);
    Ok(())
}
