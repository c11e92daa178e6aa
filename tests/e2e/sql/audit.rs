//! Is `sql/audit.sql` silent where nothing is wrong, does it install everywhere, and whom and what does it look at?

use pgvpd_core::sql::{AUDIT, HELPERS, SETUP};
use tokio_postgres::{Client, error::SqlState};

use crate::support::{TestDatabase, TestResult, catalog, cluster, database_with, refusal};

/// One row of `pgvpd_audit()`.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) id: String,
    pub(crate) severity: String,
    pub(crate) object: String,
    pub(crate) fix: String,
}

/// What the audit finds for these roles and columns.
pub(crate) async fn audit_of(
    admin: &Client,
    roles: &[&str],
    columns: &[&str],
) -> Result<Vec<Finding>, tokio_postgres::Error> {
    let rows =
        admin.query("SELECT id, severity, object, fix FROM public.pgvpd_audit($1, $2)", &[&roles, &columns]).await?;
    rows.iter()
        .map(|row| {
            let text = |at| row.try_get::<_, String>(at);
            Ok(Finding { id: text(0)?, severity: text(1)?, object: text(2)?, fix: text(3)? })
        })
        .collect()
}

/// `id object` of each finding, without those that only `sql/hardening.sql` closes.
async fn findings(admin: &Client, roles: &[&str], columns: &[&str]) -> Result<Vec<String>, tokio_postgres::Error> {
    let found = audit_of(admin, roles, columns).await?;
    Ok(found.into_iter().filter(|f| f.id != "A25").map(|f| format!("{} {}", f.id, f.object)).collect())
}

/// What no file of `sql/` does by itself, because it concerns every user of the database.
pub(crate) async fn close_database(db: &TestDatabase, admin: &Client) -> TestResult {
    admin.batch_execute(&format!("REVOKE TEMPORARY ON DATABASE \"{}\" FROM PUBLIC", db.name())).await?;
    Ok(())
}

async fn installed() -> Result<(TestDatabase, Client), Box<dyn std::error::Error>> {
    let (db, admin) = database_with(&[SETUP, HELPERS, AUDIT]).await;
    close_database(&db, &admin).await?;
    Ok((db, admin))
}

const NOTHING: [String; 0] = [];

/// Protected tables of every kind, and beside them what looks like a hole and is none.
const SOUND: &str = r#"
    CREATE TABLE orders (tenant_id text NOT NULL, id int, note text, PRIMARY KEY (tenant_id, id) INCLUDE (note));
    SELECT pgvpd_protect('orders');
    CREATE TABLE lines (tenant_id text NOT NULL, order_id int, n int, PRIMARY KEY (tenant_id, n),
        FOREIGN KEY (order_id, tenant_id) REFERENCES orders (id, tenant_id) MATCH FULL);
    ALTER TABLE orders ADD UNIQUE (id, tenant_id);
    SELECT pgvpd_protect('lines');
    CREATE TABLE "Wide ""one" ("Org.Id" uuid NOT NULL, n int, PRIMARY KEY ("Org.Id", n));
    SELECT pgvpd_protect('"Wide ""one"', 'Org.Id', 'app.org_id');
    CREATE TABLE events (tenant_id text NOT NULL, day int) PARTITION BY RANGE (day);
    CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (1) TO (2);
    CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (2) TO (3);
    CREATE INDEX ON events_1 (tenant_id);
    CREATE INDEX ON events_2 (tenant_id);
    SELECT pgvpd_protect('events');
    CREATE TABLE docs (id int, owner_id text, kind text, region text);
    SELECT pgvpd_protect_acl('docs', '[{"column": "owner_id", "var": "app.user_id", "type": "text"},
        {"column": "region", "var": "app.regions", "type": "text_array", "when": "kind = ''a OR (b'' OR kind IS NULL"}]');
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app_user;

    -- Nothing that a tenant reaches.
    CREATE VIEW hidden_view AS SELECT * FROM orders;
    CREATE MATERIALIZED VIEW hidden_matview AS SELECT * FROM orders;
    CREATE MATERIALIZED VIEW numbers AS SELECT generate_series(1, 3);
    CREATE VIEW constants AS SELECT 1;
    GRANT SELECT ON numbers, constants TO app_user;
    CREATE TABLE ledger (n int);
    CREATE FUNCTION hidden_definer() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
    REVOKE EXECUTE ON FUNCTION hidden_definer() FROM PUBLIC;
    CREATE FUNCTION careful_definer() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = '' AS 'SELECT 1';
    ALTER FUNCTION careful_definer() OWNER TO pg_monitor;
    CREATE FUNCTION invoker() RETURNS int LANGUAGE sql AS 'SELECT 1';
    ALTER DEFAULT PRIVILEGES GRANT USAGE ON SEQUENCES TO app_user;
    ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO pg_monitor;
"#;

#[tokio::test]
async fn a_sound_database_gives_nothing_with_and_without_a_key() -> TestResult {
    let (_db, admin) = installed().await?;
    assert_eq!(findings(&admin, &["app_user"], &["tenant_id"]).await?, NOTHING, "a fresh installation");
    admin.batch_execute(SOUND).await?;
    if cluster().await.is_at_least(15) {
        admin
            .batch_execute(
                "CREATE VIEW safe WITH (security_invoker) AS SELECT * FROM orders; GRANT SELECT ON safe TO app_user",
            )
            .await?;
    }
    for columns in [&["tenant_id"][..], &["Org.Id", "tenant_id"]] {
        assert_eq!(findings(&admin, &["app_user"], columns).await?, NOTHING, "{columns:?}");
    }
    admin.batch_execute("SELECT pgvpd.install_key('1', decode(repeat('ab', 32), 'hex'))").await?;
    assert_eq!(findings(&admin, &["app_user"], &["tenant_id"]).await?, NOTHING, "with a key");
    Ok(())
}

#[tokio::test]
async fn only_hardening_is_left_to_be_desired_and_no_more_than_warned_of() -> TestResult {
    let (_db, admin) = installed().await?;
    for finding in audit_of(&admin, &["app_user"], &["tenant_id"]).await? {
        assert_eq!((finding.id.as_str(), finding.severity.as_str()), ("A25", "warning"), "{}", finding.object);
    }
    Ok(())
}

#[tokio::test]
async fn audit_can_run_again_and_be_reinstalled_without_changing_anything() -> TestResult {
    let (_db, admin) = installed().await?;
    admin.batch_execute(SOUND).await?;
    let before = catalog(&admin).await?;
    admin.batch_execute(AUDIT).await?;
    findings(&admin, &["app_user"], &["tenant_id"]).await?;
    assert_eq!(catalog(&admin).await?, before);
    Ok(())
}

#[tokio::test]
async fn audit_says_the_same_read_only_and_under_any_setting_of_the_session() -> TestResult {
    let (_db, admin) = installed().await?;
    admin.batch_execute(SOUND).await?;
    admin
        .batch_execute(
            r#"CREATE TABLE "o\pen" (tenant_id text, "T\1" uuid PRIMARY KEY); GRANT ALL ON "o\pen" TO app_user;
            CREATE POLICY bare ON orders USING (tenant_id = current_tenant_id());
            CREATE POLICY quoted ON orders AS RESTRICTIVE USING (note <> E'\\' AND tenant_id = (SELECT current_tenant_id()))"#,
        )
        .await?;
    let all = async || format!("{:#?}", audit_of(&admin, &["app_user"], &["T\\1", "tenant_id"]).await.unwrap());
    let before = all().await;
    assert!(before.contains("(SELECT public.current_tenant_id())"), "{before}");
    admin
        .batch_execute(
            "SET default_transaction_read_only = on; SET search_path = app, public; SET quote_all_identifiers = on;
             SET escape_string_warning = off; SET backslash_quote = off",
        )
        .await?;
    // Only servers before 19 let a session do this.
    let _ = admin.batch_execute("SET standard_conforming_strings = off").await;
    assert_eq!(all().await, before);
    Ok(())
}

/// The condition stands in a permissive policy, where a wrong judgement is A04, and in the guard, where it is A05.
#[tokio::test]
async fn policies_are_trusted_only_where_they_hold_rows_to_the_context() -> TestResult {
    let (_db, admin) = installed().await?;
    admin
        .batch_execute(
            "CREATE SCHEMA app;
             CREATE FUNCTION app.tenant() RETURNS text LANGUAGE sql STABLE AS 'SELECT public.current_tenant_id()';
             CREATE FUNCTION app.current_tenant_id() RETURNS text LANGUAGE sql STABLE AS 'SELECT 1::text';
             CREATE TABLE t (tenant_id text NOT NULL DEFAULT '', n int, note text, PRIMARY KEY (tenant_id, n));
             ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY;
             CREATE POLICY backoffice ON t TO pg_monitor USING (true);
             CREATE POLICY p ON t USING (true); CREATE POLICY g ON t AS RESTRICTIVE USING (true)",
        )
        .await?;
    let judged = async |condition: &str| {
        let alter = format!("ALTER POLICY p ON t USING ({condition}); ALTER POLICY g ON t USING ({condition})");
        admin.batch_execute(&alter).await.expect(condition);
        let mut found = findings(&admin, &["app_user"], &["tenant_id"]).await.unwrap();
        found.retain(|f| !f.starts_with("A06"));
        found
    };
    for sound in [
        "tenant_id = (SELECT current_tenant_id())",
        "(SELECT current_tenant_id()) = tenant_id",
        "(SELECT current_tenant_id())::varchar = tenant_id",
        "tenant_id::varchar = (SELECT current_tenant_id()::varchar)",
        "tenant_id = (SELECT pgvpd_context('app.org_id'))",
        "tenant_id = (SELECT app.tenant())",
        "tenant_id = session_user",
        "n > 1 AND (n < 5 OR note = 'x') AND tenant_id = (SELECT current_tenant_id())",
        "tenant_id = (SELECT current_tenant_id()) OR (tenant_id = (SELECT pgvpd_context('app.second')) AND n > 3)",
        "note IN (') OR (', ' OR ', 'it''s \" AND ') AND tenant_id = (SELECT current_tenant_id())",
        "tenant_id IN (SELECT o.tenant_id FROM t o WHERE o.n = 1 AND o.tenant_id = (SELECT current_tenant_id()))",
    ] {
        assert_eq!(judged(sound).await, NOTHING, "{sound}");
    }
    for open in [
        "true",
        "n > 1",
        "tenant_id = current_setting('app.current_tenant_id', true)",
        "tenant_id = app.current_tenant_id()",
        "tenant_id <> (SELECT current_tenant_id())",
        "tenant_id IS NOT NULL AND (SELECT current_tenant_id()) IS NOT NULL",
        "'acme' = (SELECT current_tenant_id()) AND tenant_id <> ''",
        "(SELECT current_tenant_id()) = 'acme' AND tenant_id <> ''",
        "NOT (tenant_id = (SELECT current_tenant_id()))",
        "(tenant_id = (SELECT current_tenant_id())) IS NOT FALSE",
        "coalesce(tenant_id = (SELECT current_tenant_id()), true)",
        "tenant_id = (SELECT current_tenant_id()) OR n = 7",
        "tenant_id = (SELECT current_tenant_id()) OR (n = 7 AND note = 'b = public.current_tenant_id()')",
        "note = ' = public.current_tenant_id() AND ' AND tenant_id <> ''",
        "tenant_id = ANY (ARRAY[(SELECT current_tenant_id()), 'shared'])",
    ] {
        assert_eq!(judged(open).await, ["A04 policy p on public.t", "A05 public.t"], "{open}");
    }
    Ok(())
}

#[tokio::test]
async fn audit_installs_and_runs_for_an_owner_who_is_not_superuser() -> TestResult {
    let db = TestDatabase::create().await;
    let admin = db.admin().await;
    let owner = format!("owner_of_{}", db.name());
    admin
        .batch_execute(&format!(
            "CREATE ROLE \"{owner}\" LOGIN CREATEROLE PASSWORD 'secret'; ALTER DATABASE \"{}\" OWNER TO \"{owner}\"",
            db.name()
        ))
        .await?;
    // Before 15 schema public is the superuser's; setup.sql says to do this.
    let public = format!("GRANT CREATE ON SCHEMA public TO \"{owner}\"; REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    admin.batch_execute(&public).await?;
    let installer = db.connect_as(&owner, "secret").await;
    for file in [SETUP, HELPERS, AUDIT] {
        installer.batch_execute(file).await?;
    }
    // A superuser's run in between takes nothing away from the owner.
    admin.batch_execute(AUDIT).await?;
    installer.batch_execute(AUDIT).await?;
    close_database(&db, &installer).await?;
    assert_eq!(findings(&installer, &["app_user"], &["tenant_id"]).await?, NOTHING);

    installer.batch_execute("CREATE TABLE bare (tenant_id text, n int); GRANT SELECT ON bare TO app_user").await?;
    let found = audit_of(&installer, &["app_user"], &["tenant_id"]).await?;
    let bare = found.iter().find(|f| f.id == "A01" && f.object == "public.bare").expect("A01");
    installer.batch_execute(&bare.fix).await?;
    let left = findings(&installer, &["app_user"], &["tenant_id"]).await?;
    assert_eq!(left, ["A19 public.bare", "A21 public.bare"]);

    admin
        .batch_execute(&format!(
            "DROP OWNED BY \"{owner}\" CASCADE; ALTER DATABASE \"{}\" OWNER TO CURRENT_USER; DROP ROLE \"{owner}\"",
            db.name()
        ))
        .await?;
    Ok(())
}

#[tokio::test]
async fn audit_looks_at_every_role_and_column_that_it_is_given() -> TestResult {
    let (db, admin) = installed().await?;
    let name = db.name();
    admin
        .batch_execute(&format!(
            r#"CREATE ROLE "Web ""x.{name}"; CREATE ROLE "{name}_jobs" NOINHERIT; CREATE ROLE "{name}_readers";
            GRANT "{name}_readers" TO "{name}_jobs";
            CREATE TABLE one (org_id text); CREATE TABLE two ("Customer.Id" text); CREATE TABLE three (org_id text, c text);
            GRANT SELECT ON one TO "Web ""x.{name}"; GRANT SELECT ON two TO "{name}_readers"; GRANT UPDATE (c) ON three TO PUBLIC"#
        ))
        .await?;
    let (web, jobs) = (format!("Web \"x.{name}"), format!("{name}_jobs"));
    let open = async |roles: &[&str], columns: &[&str]| {
        let mut found = findings(&admin, roles, columns).await.unwrap();
        found.retain(|f| f.starts_with("A01"));
        found
    };
    assert_eq!(open(&["app_user"], &["tenant_id"]).await, NOTHING);
    // Only a superuser can have set this one, and sql/hardening.sql does.
    admin.batch_execute(&format!("ALTER ROLE \"{name}_jobs\" SET track_activities = off")).await?;
    assert!(!findings(&admin, &[&jobs], &["tenant_id"]).await?.iter().any(|f| f.starts_with("A24")));
    assert_eq!(open(&[&web], &["org_id"]).await, ["A01 public.one", "A01 public.three"]);
    assert_eq!(
        open(&[&jobs], &["Customer.Id", "org_id"]).await,
        ["A01 public.three", "A01 public.two"],
        "reached by SET ROLE"
    );
    assert_eq!(
        open(&[&web, &jobs], &["org_id", "Customer.Id"]).await,
        ["A01 public.one", "A01 public.three", "A01 public.two"]
    );
    Ok(())
}

#[tokio::test]
async fn an_owner_has_no_rights_too_many() -> TestResult {
    let (db, admin) = installed().await?;
    let app = format!("{}_app", db.name());
    admin.batch_execute(&format!("CREATE ROLE {app}; CREATE TABLE t (n int); ALTER TABLE t OWNER TO {app}")).await?;
    assert_eq!(findings(&admin, &[&app], &["tenant_id"]).await?, ["A33 public.t"]);
    Ok(())
}

#[tokio::test]
async fn a_membership_that_gives_nothing_reaches_nothing() -> TestResult {
    if !cluster().await.is_at_least(16) {
        return Ok(());
    }
    let (db, admin) = installed().await?;
    let name = db.name();
    admin
        .batch_execute(&format!(
            "CREATE ROLE {name}_app; CREATE ROLE {name}_group; CREATE TABLE t (tenant_id text); GRANT SELECT ON t TO {name}_group;
             GRANT {name}_group TO {name}_app WITH INHERIT FALSE, SET FALSE"
        ))
        .await?;
    let (app, open) = (format!("{name}_app"), "A01 public.t".to_owned());
    assert!(!findings(&admin, &[&app], &["tenant_id"]).await?.contains(&open));
    // With ADMIN it can grant itself the rest.
    admin.batch_execute(&format!("GRANT {name}_group TO {name}_app WITH ADMIN TRUE")).await?;
    assert!(findings(&admin, &[&app], &["tenant_id"]).await?.contains(&open));
    Ok(())
}

#[tokio::test]
async fn a_tenants_own_role_counts_as_the_applications() -> TestResult {
    let (db, admin) = installed().await?;
    let (app, tenant) = (format!("{}_app", db.name()), format!("\"{}_app.acme\"", db.name()));
    admin
        .batch_execute(&format!(
            "CREATE ROLE {app}; SELECT pgvpd.create_tenant_role('acme', '{app}');
             CREATE TABLE t (tenant_id text); GRANT SELECT ON t TO {tenant}"
        ))
        .await?;
    assert!(findings(&admin, &[&app], &["tenant_id"]).await?.contains(&"A01 public.t".to_owned()));
    Ok(())
}

#[tokio::test]
async fn audit_is_for_the_installer_and_refuses_to_look_at_nothing() -> TestResult {
    let (db, admin) = installed().await?;
    let tenant = db.connect_as("app_user", "secret").await;
    assert_eq!(refusal(&tenant, "SELECT public.pgvpd_audit()").await, Some(SqlState::INSUFFICIENT_PRIVILEGE));
    for (arguments, code) in [
        ("'{app_user,nobody_at_all}'", SqlState::UNDEFINED_OBJECT),
        ("'{}'", SqlState::INVALID_PARAMETER_VALUE),
        ("'{app_user}', '{}'", SqlState::INVALID_PARAMETER_VALUE),
        ("NULL", SqlState::INVALID_PARAMETER_VALUE),
        ("'{app_user}', NULL", SqlState::INVALID_PARAMETER_VALUE),
    ] {
        assert_eq!(refusal(&admin, &format!("SELECT pgvpd_audit({arguments})")).await, Some(code), "{arguments}");
    }
    let bare = TestDatabase::create().await.admin().await;
    assert_eq!(refusal(&bare, AUDIT).await, Some(SqlState::UNDEFINED_FUNCTION));
    Ok(())
}

/// A27 and A32 are of the whole server, so their values are arguments of the function that judges them.
#[tokio::test]
async fn the_server_is_judged_by_its_version_and_prepared_transactions() -> TestResult {
    let (_db, admin) = installed().await?;
    let judged = async |version: i32, prepared: i32| {
        let sql = "SELECT coalesce(string_agg(id || ' ' || severity || ' ' || fix, '; '), '') FROM pgvpd.audit_server($1, $2)";
        admin.query_one(sql, &[&version, &prepared]).await.unwrap().get::<_, String>(0)
    };
    for sound in [140_023, 150_018, 160_014, 170_010, 180_004, 190_000, 200_001] {
        assert_eq!(judged(sound, 0).await, "", "{sound}");
    }
    assert!(judged(180_004, 1).await.starts_with("A27 high ALTER SYSTEM SET max_prepared_transactions = 0;"));
    for (version, better) in
        [(140_000, "14.23"), (150_003, "15.18"), (160_013, "16.14"), (170_005, "17.10"), (180_000, "18.4")]
    {
        assert_eq!(judged(version, 0).await, format!("A32 warning -- upgrade to {better} or later"));
    }
    Ok(())
}
