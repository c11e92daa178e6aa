//! What the functions that sign and verify contexts do in SQL: with the clock, with NULL, and what they leave for others to see.

use pgvpd_core::sql::{AUDIT, HELPERS, SETUP};
use tokio_postgres::{Client, Error, error::SqlState};

use crate::support::{
    APP_PASSWORD, TestDatabase, TestResult, cluster, count, database_with, eventually, psql, refusal,
};

/// Bytes that no object of the server's has by chance, as hexadecimal digits.
const KEY: &str = "5b9d3c7e11a2f4088637d4c9e0715af26b1c8d92a3f5e407185c69da7b2e3f40";

/// A database with a key, a table of two tenants, and an administrator's connection to it.
async fn signed() -> Result<(TestDatabase, Client), Error> {
    let (db, admin) = database_with(&[SETUP, HELPERS, AUDIT]).await;
    admin
        .batch_execute(&format!(
            "SELECT pgvpd.install_key('1', decode('{KEY}', 'hex'));
             CREATE TABLE orders (tenant_id text, item int); CREATE INDEX ON orders (tenant_id);
             INSERT INTO orders VALUES ('acme', 1), ('globex', 2); GRANT SELECT, INSERT ON orders TO app_user;
             SELECT pgvpd_protect('orders')",
        ))
        .await?;
    Ok((db, admin))
}

/// Signs a context for a session, as a proxy does, and sets it there.
async fn sign(admin: &Client, client: &Client, context: &str) -> TestResult {
    let row = client
        .query_one("SELECT pid, backend_start_us::text, nonce::text, current_database()::text, session_user::text FROM pgvpd.attach()", &[])
        .await?;
    let (pid, start, nonce): (i32, &str, &str) = (row.get(0), row.get(1), row.get(2));
    let (database, user): (&str, &str) = (row.get(3), row.get(4));
    let sql = "SELECT t || '.' || encode(sha256(opad || sha256(ipad || convert_to(t, 'UTF8'))), 'hex')
        FROM pgvpd.signing_key, concat_ws('.', 'v1.1', $1::text, $2::text, $3::text, '0', encode(convert_to($4, 'UTF8'), 'hex'),
            encode(convert_to($5, 'UTF8'), 'hex'), encode(convert_to($6, 'UTF8'), 'hex')) t WHERE kid = '1'";
    let token: String =
        admin.query_one(sql, &[&pid.to_string(), &start, &nonce, &database, &user, &context]).await?.get(0);
    client.execute("SELECT set_config('pgvpd.context', $1, false)", &[&token]).await?;
    Ok(())
}

async fn signed_session(db: &TestDatabase, admin: &Client, tenant: &str) -> Result<Client, Box<dyn std::error::Error>> {
    let client = db.connect_as("app_user", APP_PASSWORD).await;
    sign(admin, &client, &format!(r#"{{"app.current_tenant_id":"{tenant}"}}"#)).await?;
    assert_eq!(count(&client, "orders").await?, 1);
    Ok(client)
}

#[tokio::test]
async fn a_key_ends_within_a_transaction_too() -> TestResult {
    for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        for end in [
            "SELECT pgvpd.retire_key('1')",
            "UPDATE pgvpd.signing_key SET not_after = now()",
            "DELETE FROM pgvpd.signing_key WHERE kid = '1'",
        ] {
            let (db, admin) = signed().await?;
            admin.batch_execute("SELECT pgvpd.install_key('2', sha256('another'))").await?;
            let client = signed_session(&db, &admin, "acme").await?;
            client.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}")).await?;
            assert_eq!(count(&client, "orders").await?, 1, "{level}");
            admin.batch_execute(end).await?;
            match count(&client, "orders").await {
                Ok(rows) => assert_eq!((rows, level), (0, "READ COMMITTED"), "{end}"),
                Err(error) => assert_eq!(error.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE), "{level}, {end}"),
            }
            client.batch_execute("ROLLBACK").await?;
            assert_eq!(count(&client, "orders").await?, 0, "{level}, {end}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_key_that_is_to_end_later_counts_in_a_snapshot_until_then() -> TestResult {
    let (db, admin) = signed().await?;
    let client = signed_session(&db, &admin, "acme").await?;
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    assert_eq!(count(&client, "orders").await?, 1);
    admin.batch_execute("BEGIN; SELECT pgvpd.install_key('2', sha256('another')); SELECT pgvpd.retire_key('1', now() + interval '1 day'); COMMIT").await?;
    assert_eq!(count(&client, "orders").await?, 1, "it has a day left");
    client.batch_execute("COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    assert_eq!(count(&client, "orders").await?, 1);
    admin.batch_execute("SELECT pgvpd.retire_key('1', clock_timestamp() + interval '1 second')").await?;
    eventually("the end of the key", || async { client.query_one("SELECT current_tenant_id()", &[]).await.is_err() })
        .await;
    client.batch_execute("ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    assert_eq!(count(&client, "orders").await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_change_of_keys_that_is_rolled_back_changes_nothing() -> TestResult {
    let (db, admin) = signed().await?;
    let client = signed_session(&db, &admin, "acme").await?;
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    assert_eq!(count(&client, "orders").await?, 1);
    admin.batch_execute("BEGIN; SELECT pgvpd.retire_key('1'); ROLLBACK").await?;
    assert_eq!(count(&client, "orders").await?, 1);
    admin.batch_execute("SELECT pgvpd.install_key('2', sha256('another'))").await?;
    assert_eq!(count(&client, "orders").await?, 1, "nor does a further key");
    Ok(())
}

#[tokio::test]
async fn lastval_is_the_sessions_own() -> TestResult {
    let (db, admin) = signed().await?;
    admin.batch_execute("CREATE SEQUENCE mine; GRANT USAGE ON SEQUENCE mine TO app_user").await?;
    let client = signed_session(&db, &admin, "acme").await?;
    let none = client.query_one("SELECT lastval()", &[]).await.map(drop).expect_err("no nextval yet");
    assert_eq!(none.code(), Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE), "{none}");
    let row = client.query_one("SELECT nextval('mine'), pgvpd.attach()::text, lastval()", &[]).await?;
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(2)), (1, 1));
    Ok(())
}

#[tokio::test]
async fn every_nonce_is_new_and_fits() -> TestResult {
    let (db, admin) = signed().await?;
    let client = signed_session(&db, &admin, "acme").await?;
    let row = client
        .query_one("SELECT count(DISTINCT nonce), min(nonce) > 0 FROM (SELECT (pgvpd.attach()).nonce FROM generate_series(1, 200)) a", &[])
        .await?;
    assert_eq!((row.get::<_, i64>(0), row.get::<_, bool>(1)), (200, true));
    assert_eq!(count(&client, "orders").await?, 0, "what was signed before is void");
    Ok(())
}

/// Every call of pgvpd's functions that has NULL for one argument, or for all: the function's name and the statement.
async fn calls_with_null(admin: &Client) -> Result<Vec<String>, Error> {
    let sql = r#"
        SELECT format('SELECT * FROM %s(%s)', p.oid::regproc::text, (
            SELECT string_agg(CASE WHEN a.at = n OR n = 0 THEN 'NULL::' || a.type ELSE CASE a.type
                WHEN 'regclass' THEN '''orders''::regclass' WHEN 'oid' THEN '25::oid' WHEN 'name' THEN '''tenant_id''::name'
                WHEN 'jsonb' THEN '''[{"column": "tenant_id", "var": "app.x", "type": "text"}]''::jsonb'
                WHEN 'bytea' THEN 'sha256(''k'')' WHEN 'timestamp with time zone' THEN 'now()'
                WHEN 'uuid' THEN 'gen_random_uuid()' WHEN 'bigint' THEN '1::bigint' WHEN 'integer' THEN '1'
                WHEN 'text[]' THEN '''{app_user}''::text[]' WHEN 'boolean' THEN 'true'
                ELSE CASE WHEN a.name IN ('var', 'variable_name') THEN '''app.current_tenant_id''' ELSE '''app_user''' END || '::text' END
                END, ', ' ORDER BY a.at)
            FROM (SELECT at, format_type(t, NULL) AS type, p.proargnames[at] AS name
                  FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY u (t, at)) a))
        FROM pg_proc p, generate_series(0, p.pronargs) n
        WHERE p.pronargs > 0 AND p.prorettype <> 'trigger'::regtype
          AND (p.pronamespace::regnamespace::text LIKE 'pgvpd%' OR p.proname LIKE 'pgvpd%')"#;
    admin.query(sql, &[]).await?.iter().map(|row| row.try_get(0)).collect()
}

#[tokio::test]
async fn null_in_any_argument_gives_no_data() -> TestResult {
    let (db, admin) = signed().await?;
    let client = signed_session(&db, &admin, "acme").await?;
    client.batch_execute("SET pgvpd.context = ''").await?;
    let calls = calls_with_null(&admin).await?;
    assert!(calls.len() > 80, "{calls:#?}");
    for call in &calls {
        // The audit's own helpers and what reads lists are pure; what matters is the context, verifiers and the key.
        if let Ok(rows) = client.query(call, &[]).await {
            let text = format!("{rows:?}");
            assert!(!text.contains("SCRAM") && !text.contains("scram"), "{call}: {text}");
        }
        let row = client.query_one("SELECT current_tenant_id(), (SELECT count(*) FROM orders)", &[]).await?;
        assert_eq!((row.get::<_, Option<String>>(0), row.get::<_, i64>(1)), (None, 0), "behind {call}");
    }
    let left = count(&admin, "pgvpd.signing_key WHERE kid = '1' AND not_after = 'infinity'").await?;
    assert_eq!(left, 1, "the key is as it was");
    for call in ["check_variable(NULL)", "check_table(NULL)", "check_notify(NULL, 'x')", "check_notify('orders', NULL)"]
    {
        assert!(refusal(&admin, &format!("SELECT pgvpd.{call}")).await.is_some(), "{call} passes");
    }
    Ok(())
}

#[tokio::test]
async fn no_plan_or_notice_shows_a_key() -> TestResult {
    let (db, admin) = signed().await?;
    let port = cluster().await.postgres.port();
    let settings = "SET client_min_messages = debug5; SET debug_print_parse = on; SET debug_print_rewritten = on;
        SET debug_print_plan = on; SET debug_pretty_print = off; SET log_min_duration_statement = 0; SET log_parameter_max_length_on_error = -1;";
    // The key's bytes, padded and masked, as PostgreSQL prints the value of a constant, and as hexadecimal digits.
    let row = admin
        .query_one(
            "SELECT array_agg(substr(encode(pad, 'hex'), 1, 24)), array_agg((SELECT string_agg(CASE WHEN b > 127 THEN b - 256 ELSE b END::text, ' ' ORDER BY i)
                 FROM generate_series(0, 9) i, get_byte(pad, i) b))
             FROM (SELECT ipad FROM pgvpd.signing_key UNION ALL SELECT opad FROM pgvpd.signing_key UNION ALL SELECT decode($1, 'hex')) k (pad)",
            &[&KEY],
        )
        .await?;
    let traces = [row.get::<_, Vec<String>>(0), row.get::<_, Vec<String>>(1)].concat();
    let shown = |err: &str, who: &str| {
        assert!(err.contains("targetList") && err.contains("pgvpd"), "{who}: the settings show plans");
        for trace in &traces {
            assert!(!err.contains(trace.as_str()), "{who} reads {trace}");
        }
    };

    let place = |user: &str| format!("host=127.0.0.1 port={port} dbname={} user={user}", db.name());
    let calls = calls_with_null(&admin).await?.join(";\n");
    // A token that gets as far as the key: its id is right.
    let token =
        "SET pgvpd.context = 'v1.1.1.0.0.0.00.00.00.0000000000000000000000000000000000000000000000000000000000000000';";
    let input = format!(
        "{settings}\n{token}\nSELECT current_tenant_id(), pgvpd_context('x'), pgvpd.attach();\n{calls};\nSELECT count(*) FROM orders;"
    );
    shown(&psql(&["-d", &place("app_user")], &input).await.err, "a tenant");

    // An administrator, who hands a key over as `pgvpd key` does.
    let input = format!(
        "CREATE TEMP TABLE new_key (kid text, key bytea);\nCOPY new_key FROM STDIN;\n2\t\\\\x{KEY}\n\\.\n{settings}
         SELECT pgvpd.install_key(kid, key) FROM new_key;\nSELECT pgvpd.retire_key('2');"
    );
    let installed = psql(&["-d", &place("root_user")], &input).await;
    assert_eq!(count(&admin, "pgvpd.signing_key WHERE kid = '2'").await?, 1, "{}", installed.err);
    shown(&installed.err, "an administrator");
    Ok(())
}
