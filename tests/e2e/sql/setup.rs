//! Does `sql/setup.sql` install everywhere it should, and do its policies hold a tenant to its own rows?

use pgvpd_core::sql::SETUP;
use tokio_postgres::{Client, error::SqlState};

use crate::support::{TestDatabase, TestResult, catalog, count, database_with, plan, refusal, session, set_context};

/// A fresh database with setup.sql installed, and a superuser's connection to it.
async fn installed() -> (TestDatabase, Client) {
    database_with(&[SETUP]).await
}

/// `orders` with one row of acme's and two of globex's, granted to `app_user` beyond what is safe, then protected.
const ORDERS: &str = "
    CREATE TABLE orders (tenant_id text, item int PRIMARY KEY);
    INSERT INTO orders VALUES ('acme', 1), ('globex', 2), ('globex', 3);
    CREATE INDEX ON orders (tenant_id);
    GRANT ALL ON orders TO app_user;
    SELECT pgvpd_protect('orders');";

#[tokio::test]
async fn setup_can_run_again_without_changing_anything() -> TestResult {
    let (_db, admin) = installed().await;
    admin.batch_execute(ORDERS).await?;
    let before = catalog(&admin).await?;
    admin.batch_execute(SETUP).await?;
    assert_eq!(catalog(&admin).await?, before);
    Ok(())
}

#[tokio::test]
async fn setup_works_for_an_owner_who_is_not_superuser() -> TestResult {
    let db = TestDatabase::create().await;
    let admin = db.admin().await;
    let owner = format!("owner_of_{}", db.name());
    admin
        .batch_execute(&format!(
            "CREATE ROLE \"{owner}\" LOGIN CREATEROLE PASSWORD 'secret';
             ALTER DATABASE \"{}\" OWNER TO \"{owner}\"",
            db.name()
        ))
        .await?;

    let installer = db.connect_as(&owner, "secret").await;
    installer.batch_execute(SETUP).await?;
    installer.batch_execute(SETUP).await?;
    installer.batch_execute(ORDERS).await?;
    let get_auth = installer.query_one("SELECT to_regprocedure('public.pgvpd_get_auth(text)') IS NULL", &[]).await?;
    assert!(get_auth.get::<_, bool>(0), "its owner could not read pg_authid");
    assert_eq!(count(&installer, "orders").await?, 0, "FORCE binds the owner");
    assert_eq!(count(&session(&db, "acme").await?, "orders").await?, 1);

    admin
        .batch_execute(&format!(
            "DROP OWNED BY \"{owner}\" CASCADE;
             ALTER DATABASE \"{}\" OWNER TO CURRENT_USER; DROP ROLE \"{owner}\"",
            db.name()
        ))
        .await?;
    Ok(())
}

#[tokio::test]
async fn setup_can_run_at_the_same_time_as_another_copy() -> TestResult {
    let (one, other) = (TestDatabase::create().await, TestDatabase::create().await);
    let (a, b, c) = (one.admin().await, one.admin().await, other.admin().await);
    // The first round creates, the others replace, and each round is one more chance for the copies to meet.
    for _ in 0..10 {
        tokio::try_join!(a.batch_execute(SETUP), b.batch_execute(SETUP), c.batch_execute(SETUP))?;
    }
    Ok(())
}

#[tokio::test]
async fn setup_refuses_an_app_user_that_policies_cannot_hold() -> TestResult {
    let db = TestDatabase::create().await;
    let admin = db.admin().await;
    // Never committed, not even if the refusal is missing: the role belongs to the whole cluster.
    let without_commit = SETUP.replace("\nCOMMIT;", "");
    for attribute in ["SUPERUSER", "BYPASSRLS", "REPLICATION", "CREATEROLE"] {
        admin.batch_execute(&format!("BEGIN; ALTER ROLE app_user {attribute}")).await?;
        let refused = refusal(&admin, &without_commit).await;
        admin.batch_execute("ROLLBACK").await?;
        assert_eq!(refused, Some(SqlState::INVALID_GRANT_OPERATION), "{attribute}");
    }
    Ok(())
}

#[tokio::test]
async fn setup_refuses_a_function_of_its_own_that_app_user_owns() -> TestResult {
    let (_db, admin) = installed().await;
    admin.batch_execute("ALTER FUNCTION pgvpd.to_uuid(text) OWNER TO app_user").await?;
    assert_eq!(refusal(&admin, SETUP).await, Some(SqlState::INVALID_GRANT_OPERATION));
    Ok(())
}

#[tokio::test]
async fn an_empty_context_reads_as_null() -> TestResult {
    let (db, _admin) = installed().await;
    let client = session(&db, "").await?;
    let sql = "SELECT current_tenant_id() IS NULL AND pgvpd_context('app.never_set') IS NULL";
    let row = client.query_one(sql, &[]).await?;
    assert!(row.try_get::<_, bool>(0)?);
    Ok(())
}

#[tokio::test]
async fn tenant_sees_only_its_rows_whatever_the_type_of_the_column() -> TestResult {
    const ACME: &str = "a0000000-0000-0000-0000-000000000001";
    const GLOBEX: &str = "b0000000-0000-0000-0000-000000000002";
    let (db, admin) = installed().await;
    admin.batch_execute("CREATE DOMAIN tenant_key AS uuid").await?;
    let client = session(&db, "").await?;
    let wide = ["70000", "9999999999", "99999999999999999999", "acme", "7 "];
    let text = ["nobody", "acme "];
    let no_uuid = ["a0000000", "7", "a0000000-0000-0000-0000-00000000000g"];
    for (column_type, acme, globex, misfits) in [
        ("text", "acme", "globex", &text[..]),
        ("varchar(20)", "acme", "globex", &text),
        ("char(8)", "acme", "globex", &text),
        ("uuid", ACME, GLOBEX, &no_uuid),
        ("tenant_key", ACME, GLOBEX, &no_uuid),
        ("smallint", "7", "8", &wide),
        ("integer", "7", "8", &wide),
        ("bigint", "7", "8", &wide),
    ] {
        admin
            .batch_execute(&format!(
                "DROP TABLE IF EXISTS t; CREATE TABLE t (tenant_id {column_type});
                 INSERT INTO t VALUES ('{acme}'), ('{globex}'), ('{globex}');
                 SELECT pgvpd_protect('t'); GRANT SELECT ON t TO app_user"
            ))
            .await?;
        set_context(&client, "app.current_tenant_id", acme).await?;
        assert_eq!(count(&client, "t").await?, 1, "{column_type}");
        set_context(&client, "app.current_tenant_id", globex).await?;
        assert_eq!(count(&client, "t").await?, 2, "{column_type}");
        for misfit in misfits.iter().chain(&[""]) {
            set_context(&client, "app.current_tenant_id", misfit).await?;
            assert_eq!(count(&client, "t").await?, 0, "{column_type}: {misfit:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_session_without_context_reads_and_writes_nothing() -> TestResult {
    let (db, admin) = installed().await;
    admin.batch_execute(ORDERS).await?;
    let client = db.connect_as("app_user", "secret").await;
    assert_eq!(count(&client, "orders").await?, 0);
    assert_eq!(client.execute("DELETE FROM orders", &[]).await?, 0);
    let insert = "INSERT INTO orders (item) VALUES (9)";
    assert_eq!(refusal(&client, insert).await, Some(SqlState::INSUFFICIENT_PRIVILEGE));
    Ok(())
}

#[tokio::test]
async fn tenant_cannot_write_rows_of_another() -> TestResult {
    let (db, admin) = installed().await;
    admin.batch_execute(ORDERS).await?;
    let acme = session(&db, "acme").await?;
    for statement in [
        "INSERT INTO orders VALUES ('globex', 9)",
        "UPDATE orders SET tenant_id = 'globex'",
        "INSERT INTO orders VALUES ('acme', 2) ON CONFLICT (item) DO UPDATE SET tenant_id = 'acme'",
        "TRUNCATE orders",
    ] {
        let refused = refusal(&acme, statement).await;
        assert_eq!(refused, Some(SqlState::INSUFFICIENT_PRIVILEGE), "{statement}");
    }
    let touched = acme.execute("DELETE FROM orders WHERE item = 2", &[]).await;
    assert_eq!(touched?, 0);
    Ok(())
}

#[tokio::test]
async fn a_new_row_takes_its_tenant_from_the_context() -> TestResult {
    let (db, admin) = installed().await;
    admin.batch_execute(ORDERS).await?;
    let acme = session(&db, "acme").await?;
    acme.batch_execute("INSERT INTO orders (item) VALUES (9)").await?;
    assert_eq!(count(&admin, "orders WHERE item = 9 AND tenant_id = 'acme'").await?, 1);
    Ok(())
}

#[tokio::test]
async fn protect_covers_partitions_at_every_level_and_inheritance_children() -> TestResult {
    let (db, admin) = installed().await;
    admin
        .batch_execute(
            "CREATE TABLE events (tenant_id text, day int, kind int) PARTITION BY RANGE (day);
             CREATE TABLE week PARTITION OF events FOR VALUES FROM (0) TO (7) PARTITION BY LIST (kind);
             CREATE TABLE leaf PARTITION OF week FOR VALUES IN (1);
             INSERT INTO events VALUES ('acme', 1, 1), ('globex', 1, 1);
             CREATE TABLE parent (tenant_id text); CREATE TABLE child () INHERITS (parent);
             INSERT INTO child VALUES ('acme'), ('globex');
             SELECT pgvpd_protect('events'), pgvpd_protect('parent');
             GRANT SELECT ON ALL TABLES IN SCHEMA public TO app_user",
        )
        .await?;
    let acme = session(&db, "acme").await?;
    for table in ["events", "week", "leaf", "parent", "child"] {
        assert_eq!(count(&acme, table).await?, 1, "{table}");
    }
    Ok(())
}

#[tokio::test]
async fn protect_takes_quoted_names_and_follows_the_callers_search_path() -> TestResult {
    let (db, admin) = installed().await;
    admin
        .batch_execute(
            "CREATE SCHEMA \"My Schema\"; GRANT USAGE ON SCHEMA \"My Schema\" TO app_user;
             SET search_path = \"My Schema\";
             CREATE TABLE \"Order-Items\" (\"Tenant Id\" text);
             INSERT INTO \"Order-Items\" VALUES ('acme'), ('globex');
             SELECT public.pgvpd_protect('\"Order-Items\"', 'Tenant Id');
             GRANT SELECT ON \"Order-Items\" TO app_user",
        )
        .await?;
    let acme = session(&db, "acme").await?;
    assert_eq!(count(&acme, "\"My Schema\".\"Order-Items\"").await?, 1);
    Ok(())
}

#[tokio::test]
async fn protect_refuses_what_it_cannot_protect() -> TestResult {
    let (_db, admin) = installed().await;
    admin.batch_execute("CREATE TABLE t (tenant_id text, doc jsonb); CREATE VIEW v AS SELECT * FROM t").await?;
    for (arguments, expected) in [
        ("'v'", SqlState::WRONG_OBJECT_TYPE),
        ("'t', 'nope'", SqlState::UNDEFINED_COLUMN),
        ("'t', 'ctid'", SqlState::UNDEFINED_COLUMN),
        ("'t', 'doc'", SqlState::DATATYPE_MISMATCH),
        ("NULL", SqlState::NULL_VALUE_NOT_ALLOWED),
        ("'t', 'tenant_id', 'App.Tenant'", SqlState::INVALID_PARAMETER_VALUE),
        ("'t', 'tenant_id', 'tenant'", SqlState::INVALID_PARAMETER_VALUE),
        ("'t', 'tenant_id', 'pgvpd.context'", SqlState::INVALID_PARAMETER_VALUE),
    ] {
        let refused = refusal(&admin, &format!("SELECT pgvpd_protect({arguments})")).await;
        assert_eq!(refused, Some(expected), "{arguments}");
    }
    Ok(())
}

#[tokio::test]
async fn protect_again_changes_nothing() -> TestResult {
    let (_db, admin) = installed().await;
    admin.batch_execute(ORDERS).await?;
    let before = catalog(&admin).await?;
    admin.batch_execute("SELECT pgvpd_protect('orders')").await?;
    assert_eq!(catalog(&admin).await?, before);
    Ok(())
}

#[tokio::test]
async fn protect_again_follows_a_changed_variable() -> TestResult {
    let (db, admin) = installed().await;
    admin.batch_execute(ORDERS).await?;
    admin.batch_execute("SELECT pgvpd_protect('orders', 'tenant_id', 'app.org_id')").await?;
    let client = session(&db, "acme").await?;
    client.batch_execute("SET app.org_id = 'globex'; INSERT INTO orders (item) VALUES (9)").await?;
    assert_eq!(count(&client, "orders WHERE tenant_id = 'globex'").await?, 3);
    assert_eq!(count(&client, "orders").await?, 3);
    Ok(())
}

#[tokio::test]
async fn the_guard_holds_against_a_further_permissive_policy() -> TestResult {
    let (db, admin) = installed().await;
    admin.batch_execute(ORDERS).await?;
    admin.batch_execute("CREATE POLICY open_to_all ON orders USING (true)").await?;
    assert_eq!(count(&session(&db, "acme").await?, "orders").await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_tenant_may_not_execute_protect() -> TestResult {
    let (_db, admin) = installed().await;
    let sql = "SELECT has_function_privilege('app_user', 'pgvpd_protect(regclass, name, text, name, boolean, text)', 'EXECUTE')";
    assert!(!admin.query_one(sql, &[]).await?.try_get::<_, bool>(0)?);
    Ok(())
}

#[tokio::test]
async fn the_policy_is_evaluated_once_and_uses_the_index() -> TestResult {
    let (db, admin) = installed().await;
    admin.batch_execute(ORDERS).await?;
    let acme = session(&db, "acme").await?;
    acme.batch_execute("SET enable_seqscan = off").await?;
    let plan = plan(&acme, "SELECT * FROM orders").await?;
    assert!(plan.contains("InitPlan"), "{plan}");
    assert!(plan.contains("Index Cond: (tenant_id = "), "{plan}");
    Ok(())
}

#[tokio::test]
async fn a_parallel_scan_returns_every_row_of_the_tenant() -> TestResult {
    let (db, admin) = installed().await;
    admin
        .batch_execute(
            "CREATE TABLE big (tenant_id uuid);
             INSERT INTO big SELECT md5((n % 4)::text)::uuid FROM generate_series(1, 200000) n;
             SELECT pgvpd_protect('big'); GRANT SELECT ON big TO app_user; ANALYZE big",
        )
        .await?;
    // md5('1') as a uuid
    let client = session(&db, "c4ca4238-a0b9-2382-0dcc-509a6f75849b").await?;
    client
        .batch_execute(
            "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
             SET max_parallel_workers_per_gather = 2",
        )
        .await?;
    let plan = plan(&client, "SELECT count(*) FROM big").await?;
    assert!(plan.contains("Parallel Seq Scan on big"), "{plan}");
    assert_eq!(count(&client, "big").await?, 50_000);
    Ok(())
}

#[tokio::test]
async fn status_says_protected_or_what_is_wrong() -> TestResult {
    let (_db, admin) = installed().await;
    let status = "SELECT status FROM pgvpd_status() WHERE table_name = 'public.orders'";
    for (change, expected) in [
        (ORDERS, "protected"),
        ("DROP INDEX orders_tenant_id_idx", "protected, but slow: no index"),
        ("GRANT TRUNCATE ON orders TO app_user", "NOT PROTECTED: app_user has a right"),
        ("ALTER TABLE orders OWNER TO app_user", "NOT PROTECTED: app_user can act as the owner"),
        ("ALTER POLICY pgvpd_tenant_isolation ON orders USING (true)", "NOT PROTECTED: the policy is"),
        ("SELECT pgvpd_protect('orders'); DROP POLICY pgvpd_tenant_guard ON orders", "NOT PROTECTED: the guard is"),
        ("ALTER TABLE orders DISABLE ROW LEVEL SECURITY", "NOT PROTECTED: row-level security is off"),
    ] {
        admin.batch_execute(change).await?;
        let found: String = admin.query_one(status, &[]).await?.try_get(0)?;
        assert!(found.starts_with(expected), "{change}: {found}");
    }
    Ok(())
}

#[tokio::test]
async fn status_lists_a_partition_added_after_protect() -> TestResult {
    let (_db, admin) = installed().await;
    admin
        .batch_execute(
            "CREATE TABLE events (org text, day int) PARTITION BY RANGE (day);
             SELECT pgvpd_protect('events', 'org', 'app.org_id');
             CREATE TABLE late PARTITION OF events FOR VALUES FROM (0) TO (7)",
        )
        .await?;
    let sql = "SELECT status FROM pgvpd_status() WHERE table_name = 'public.late'";
    let found: String = admin.query_one(sql, &[]).await?.try_get(0)?;
    let remedy = "SELECT pgvpd_protect('public.late', 'org', 'app.org_id')";
    assert!(found.starts_with("NOT PROTECTED") && found.contains(remedy), "{found}");
    Ok(())
}
