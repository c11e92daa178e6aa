//! Can a tenant lock what every other tenant's statements need? And does an upgrade of such objects let sessions go on?

use pgvpd_core::sql::{AUDIT, HELPERS, SETUP};
use tokio_postgres::{Client, Error, error::SqlState};

use crate::support::{APP_PASSWORD, TestDatabase, TestResult, database_with, refusal};

/// What locks the relation `{}` before it looks at rights, or could.
const RELATION: &[&str] = &[
    "CREATE RULE r AS ON INSERT TO {} DO NOTHING",
    "CREATE RULE \"_RETURN\" AS ON SELECT TO {} DO INSTEAD SELECT 1",
    "CREATE TRIGGER t BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE CONSTRAINT TRIGGER t AFTER INSERT ON {} FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE TEMP TABLE x (k text REFERENCES {})",
    "CREATE TEMP TABLE x () INHERITS ({})",
    "CREATE TEMP TABLE x (LIKE {})",
    "CREATE TEMP TABLE x PARTITION OF {} DEFAULT",
    "CREATE TEMP VIEW x AS SELECT * FROM {}",
    "CREATE POLICY p ON {}",
    "CREATE STATISTICS pg_temp.s ON a, b FROM {}",
    "CREATE INDEX ON {} (kid)",
    "CREATE PUBLICATION p FOR TABLE {}",
    "ALTER TABLE {} ADD COLUMN x int",
    "ALTER TABLE {} DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE {} RENAME TO x",
    "ALTER TABLE {} SET SCHEMA public",
    "ALTER TABLE {} OWNER TO app_user",
    "ALTER VIEW {} SET (security_barrier = off)",
    "ALTER SEQUENCE {} RESTART",
    "ALTER SEQUENCE {} OWNED BY NONE",
    "ALTER TRIGGER key_changed ON {} RENAME TO x",
    "ALTER POLICY p ON {} RENAME TO q",
    "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE",
    "LOCK TABLE {} IN ACCESS SHARE MODE NOWAIT",
    "TRUNCATE {}",
    "DROP TABLE {}",
    "DROP VIEW {}",
    "DROP SEQUENCE {}",
    "DROP RULE r ON {}",
    "DROP TRIGGER key_changed ON {}",
    "DROP POLICY p ON {}",
    "COMMENT ON TABLE {} IS ''",
    "COMMENT ON SEQUENCE {} IS ''",
    "COMMENT ON TRIGGER key_changed ON {} IS ''",
    "SECURITY LABEL ON TABLE {} IS ''",
    "GRANT SELECT ON {} TO app_user",
    "REVOKE ALL ON {} FROM PUBLIC",
    "ANALYZE {}",
    "REINDEX TABLE {}",
    "SELECT * FROM {} FOR UPDATE",
    "DELETE FROM {}",
    "COPY {} TO STDOUT",
    "SELECT nextval('{}')",
    "SELECT setval('{}', 1)",
    "SELECT currval('{}')",
    "SELECT pg_relation_size('{}')",
    "SELECT pg_get_viewdef('{}')",
    "SELECT table_to_xml('{}', true, false, '')",
    "SELECT has_table_privilege('{}', 'SELECT')",
    "SELECT pgvpd_protect('{}')",
];

/// The same by its number, which asks for no right on the schema.
const NUMBER: &[&str] = &[
    "SELECT nextval({}::regclass)",
    "SELECT setval({}::regclass, 1)",
    "SELECT currval({}::regclass)",
    "SELECT pg_relation_size({}::regclass)",
    "SELECT pg_sequence_last_value({}::regclass)",
    "SELECT pg_get_viewdef({}::regclass)",
    "SELECT table_to_xml({}::regclass, true, false, '')",
];

/// What names a function.
const FUNCTION: &[&str] = &[
    "ALTER FUNCTION {} STABLE",
    "ALTER FUNCTION {} OWNER TO app_user",
    "ALTER FUNCTION {} RENAME TO x",
    "ALTER FUNCTION {} SET SCHEMA public",
    "ALTER FUNCTION {} DEPENDS ON EXTENSION plpgsql",
    "DROP FUNCTION {}",
    "COMMENT ON FUNCTION {} IS ''",
    "SECURITY LABEL ON FUNCTION {} IS ''",
    "GRANT EXECUTE ON FUNCTION {} TO app_user",
    "REVOKE EXECUTE ON FUNCTION {} FROM PUBLIC",
    "SELECT pg_get_functiondef('{}'::regprocedure)",
];

const ELSE: &[&str] = &[
    "CREATE OR REPLACE FUNCTION pgvpd.attach(OUT pid int, OUT backend_start_us bigint, OUT nonce bigint) LANGUAGE sql AS 'SELECT 1, 1::bigint, 1::bigint'",
    "CREATE OR REPLACE FUNCTION public.current_tenant_id() RETURNS text LANGUAGE sql AS $$ SELECT 'globex' $$",
    "CREATE TABLE pgvpd.x (n int)",
    "CREATE TABLE pgvpd_private.x (n int)",
    "ALTER SCHEMA pgvpd RENAME TO x",
    "ALTER SCHEMA pgvpd_private RENAME TO x",
    "DROP SCHEMA pgvpd_private CASCADE",
    "COMMENT ON SCHEMA pgvpd IS ''",
    "COMMENT ON SCHEMA pgvpd_private IS ''",
    "GRANT ALL ON SCHEMA pgvpd_private TO app_user",
    "GRANT SELECT ON ALL TABLES IN SCHEMA pgvpd_private TO app_user",
    "REINDEX SCHEMA pgvpd_private",
    "DROP OWNED BY app_user",
    "ANALYZE",
];

async fn texts(admin: &Client, sql: &str) -> Result<Vec<String>, Error> {
    admin.query(sql, &[]).await?.iter().map(|row| row.try_get(0)).collect()
}

#[tokio::test]
async fn no_statement_of_a_tenant_makes_another_one_wait() -> TestResult {
    let (db, admin) = database_with(&[SETUP, HELPERS, AUDIT]).await;
    admin.batch_execute("SELECT pgvpd.install_key('1', sha256('a key'))").await?;
    let ours = "(SELECT oid FROM pg_namespace WHERE nspname IN ('pgvpd', 'pgvpd_private'))";
    let relations = texts(
        &admin,
        &format!(
            "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'v', 'S', 'i') AND relnamespace IN {ours}"
        ),
    )
    .await?;
    let numbers = texts(
        &admin,
        &format!("SELECT oid::text FROM pg_class WHERE relkind IN ('r', 'v', 'S') AND relnamespace IN {ours}"),
    )
    .await?;
    let functions = texts(
        &admin,
        &format!("SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace IN {ours} OR proname ~ '^(pgvpd_|current_tenant_id)'"),
    )
    .await?;
    assert!(relations.len() > 6 && functions.len() > 30, "{relations:?}, {functions:?}");
    let mut statements: Vec<String> = ELSE.iter().map(|&statement| statement.to_owned()).collect();
    for (templates, names) in [(RELATION, relations), (NUMBER, numbers), (FUNCTION, functions)] {
        statements
            .extend(names.iter().flat_map(|name| templates.iter().map(move |template| template.replace("{}", name))));
    }

    let open = db.connect_as("app_user", APP_PASSWORD).await;
    open.batch_execute("BEGIN; SELECT pgvpd.attach(), current_tenant_id(), pgvpd_context('app.x')").await?;
    let (attacker, other) =
        (db.connect_as("app_user", APP_PASSWORD).await, db.connect_as("app_user", APP_PASSWORD).await);
    for client in [&attacker, &other] {
        client.batch_execute("SET lock_timeout = '2s'").await?;
    }
    for statement in &statements {
        attacker.batch_execute("BEGIN").await?;
        let outcome = attacker.simple_query(statement).await.err();
        let code = outcome.as_ref().and_then(|error| error.code());
        assert_ne!(code, Some(&SqlState::LOCK_NOT_AVAILABLE), "it waits for a lock: {statement}");
        // Holding what it has got.
        let served = other.batch_execute("SELECT pgvpd.attach(), current_tenant_id(), pgvpd_context('app.x')").await;
        assert!(served.is_ok(), "others wait behind: {statement}");
        attacker.batch_execute("ROLLBACK").await?;
    }
    Ok(())
}

/// The places of things in releases before there was schema `pgvpd_private`, with functions that do as theirs did.
const FORMER: &str = "
    DROP VIEW pgvpd.signing_key, pgvpd.tenant_role;
    DROP TRIGGER key_changed ON pgvpd_private.signing_key;
    DROP TRIGGER refuse_truncate ON pgvpd_private.signing_key; DROP TRIGGER refuse_truncate ON pgvpd_private.tenant_role;
    ALTER TABLE pgvpd_private.signing_key DISABLE ROW LEVEL SECURITY; ALTER TABLE pgvpd_private.tenant_role DISABLE ROW LEVEL SECURITY;
    ALTER TABLE pgvpd_private.signing_key SET SCHEMA pgvpd; ALTER TABLE pgvpd_private.tenant_role SET SCHEMA pgvpd;
    DROP SEQUENCE pgvpd_private.session_nonce; CREATE SEQUENCE pgvpd.session_nonce AS bigint NO CYCLE;
    ALTER SEQUENCE pgvpd.session_nonce OWNER TO pgvpd_owner;
    DROP FUNCTION pgvpd.close_objects(), pgvpd.own_objects();
    DROP SCHEMA pgvpd_private CASCADE;
    CREATE OR REPLACE FUNCTION pgvpd.nonce() RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER AS
        $$ BEGIN RETURN currval('pgvpd.session_nonce'); END $$;
    CREATE OR REPLACE FUNCTION pgvpd.attach(OUT pid int, OUT backend_start_us bigint, OUT nonce bigint)
        LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN pid := pg_backend_pid(); nonce := nextval('pgvpd.session_nonce'); END $$;
    CREATE OR REPLACE FUNCTION public.pgvpd_context(var text) RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER AS
        $$ DECLARE key pgvpd.signing_key; BEGIN SELECT * INTO key FROM pgvpd.signing_key; RETURN key.kid; END $$;";

/// A database as an earlier release has left it, with a key.
async fn former() -> Result<(TestDatabase, Client), Error> {
    let (db, admin) = database_with(&[SETUP]).await;
    admin
        .batch_execute(
            "SELECT pgvpd.install_key('1', sha256('a key')); SELECT pgvpd.create_tenant_role(current_database())",
        )
        .await?;
    admin.batch_execute(FORMER).await?;
    Ok((db, admin))
}

#[tokio::test]
async fn an_upgrade_keeps_keys_tenants_roles_and_nonces() -> TestResult {
    let (db, admin) = former().await?;
    let client = db.connect_as("app_user", APP_PASSWORD).await;
    let before: i64 = client.query_one("SELECT nonce FROM pgvpd.attach()", &[]).await?.get(0);
    client.batch_execute("SELECT current_tenant_id()").await?;
    admin.batch_execute(SETUP).await?;
    let state = "SELECT (SELECT string_agg(kid, ',') FROM pgvpd.signing_key), (SELECT string_agg(tenant, ',') FROM pgvpd.tenant_role),
        (SELECT count(*) FROM pg_class WHERE relnamespace = 'pgvpd'::regnamespace AND relkind IN ('r', 'S'))";
    let row = admin.query_one(state, &[]).await?;
    assert_eq!((row.get(0), row.get(1), row.get::<_, i64>(2)), ("1", db.name(), 0));
    // What the session has is a value of the sequence that was moved.
    admin.batch_execute("GRANT USAGE ON SCHEMA pgvpd_private TO app_user; GRANT SELECT ON SEQUENCE pgvpd_private.session_nonce TO app_user").await?;
    let after: i64 = client.query_one("SELECT currval('pgvpd_private.session_nonce')", &[]).await?.get(0);
    assert_eq!(after, before);
    admin.batch_execute(SETUP).await?;
    assert_eq!(client.query_one("SELECT current_tenant_id()", &[]).await?.get::<_, Option<&str>>(0), None);
    admin.batch_execute(&format!("DROP ROLE \"app_user.{}\"", db.name())).await?;
    Ok(())
}

#[tokio::test]
async fn an_upgrade_waits_for_open_transactions_without_stopping_others() -> TestResult {
    let (db, admin) = former().await?;
    let (open, other) = (db.connect_as("app_user", APP_PASSWORD).await, db.connect_as("app_user", APP_PASSWORD).await);
    open.batch_execute("BEGIN; SELECT pgvpd.attach(), current_tenant_id()").await?;
    other.batch_execute("SET lock_timeout = '5s'").await?;
    let upgrade = admin.batch_execute(SETUP);
    let meanwhile = async {
        // Sooner or later each of these comes upon an attempt.
        for _ in 0..20 {
            other.batch_execute("SELECT pgvpd.attach(), current_tenant_id()").await?;
        }
        open.batch_execute("COMMIT").await
    };
    let (upgraded, served) = tokio::join!(upgrade, meanwhile);
    served?;
    upgraded?;
    assert_eq!(refusal(&other, "SELECT pgvpd.attach(), current_tenant_id()").await, None);
    admin.batch_execute(&format!("DROP ROLE \"app_user.{}\"", db.name())).await?;
    Ok(())
}
