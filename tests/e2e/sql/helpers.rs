//! Does `sql/helpers.sql` install everywhere it should, and does a context of several values read as written, or not at all?

use pgvpd_core::sql::{HELPERS, SETUP};
use tokio_postgres::{Client, error::SqlState};

use crate::support::{
    APP_PASSWORD, TestDatabase, TestResult, catalog, count, database_with, refusal, session, set_context,
};

const A: &str = "a0000000-0000-0000-0000-000000000001";
const B: &str = "b0000000-0000-0000-0000-000000000002";

/// A table that both kinds of function protect, so that the catalogs hold all they can leave there.
const DOCS: &str = r#"
    CREATE TABLE docs (tenant_id text, team text);
    SELECT pgvpd_protect('docs'), pgvpd_protect_acl('docs', '[{"column": "team", "var": "app.teams", "type": "text_array"}]');"#;

/// What `pgvpd_context_array('app.list')` gives for this value, printed; an error if it raises one.
async fn list(client: &Client, value: &str) -> Result<Option<String>, tokio_postgres::Error> {
    set_context(client, "app.list", value).await?;
    client.query_one("SELECT pgvpd_context_array('app.list')::text", &[]).await?.try_get(0)
}

/// What `pgvpd_context_uuid_array('app.list')` gives for this value, printed; an error if it raises one.
async fn uuids(client: &Client, value: &str) -> Result<Option<String>, tokio_postgres::Error> {
    set_context(client, "app.list", value).await?;
    client.query_one("SELECT pgvpd_context_uuid_array('app.list')::text", &[]).await?.try_get(0)
}

async fn truth(client: &Client, expression: &str) -> Result<Option<bool>, tokio_postgres::Error> {
    client.query_one(&format!("SELECT {expression}"), &[]).await?.try_get(0)
}

#[tokio::test]
async fn helpers_refuse_a_database_without_setup_and_say_what_to_do() -> TestResult {
    let (_db, admin) = database_with(&[]).await;
    let error = admin.batch_execute(HELPERS).await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(*error.code(), SqlState::UNDEFINED_FUNCTION);
    assert!(error.hint().unwrap().contains("setup.sql"), "{error:?}");
    admin.batch_execute("ROLLBACK").await?;
    assert_eq!(count(&admin, "pg_proc WHERE proname LIKE 'pgvpd%'").await?, 0);
    Ok(())
}

#[tokio::test]
async fn helpers_and_setup_can_run_again_in_any_order_without_changing_anything() -> TestResult {
    let (_db, admin) = database_with(&[SETUP, HELPERS]).await;
    admin.batch_execute(DOCS).await?;
    let before = catalog(&admin).await?;
    for file in [HELPERS, SETUP, SETUP, HELPERS] {
        admin.batch_execute(file).await?;
        assert_eq!(catalog(&admin).await?, before);
    }
    Ok(())
}

#[tokio::test]
async fn helpers_can_run_at_the_same_time_as_another_copy() -> TestResult {
    let (db, a) = database_with(&[SETUP]).await;
    let (b, c) = (db.admin().await, db.admin().await);
    for _ in 0..5 {
        tokio::try_join!(a.batch_execute(HELPERS), b.batch_execute(HELPERS), c.batch_execute(SETUP))?;
    }
    Ok(())
}

#[tokio::test]
async fn helpers_work_for_an_owner_who_is_not_superuser() -> TestResult {
    let db = TestDatabase::create().await;
    let admin = db.admin().await;
    let (name, owner) = (db.name(), format!("owner_of_{}", db.name()));
    admin
        .batch_execute(&format!(
            "CREATE ROLE \"{owner}\" LOGIN CREATEROLE PASSWORD 'secret'; ALTER DATABASE \"{name}\" OWNER TO \"{owner}\""
        ))
        .await?;

    let installer = db.connect_as(&owner, APP_PASSWORD).await;
    for sql in [SETUP, HELPERS, DOCS, HELPERS] {
        installer.batch_execute(sql).await?;
    }
    installer.batch_execute("GRANT SELECT ON docs TO app_user").await?;
    admin.batch_execute("INSERT INTO docs VALUES ('acme', 'red'), ('acme', 'blue')").await?;
    let acme = session(&db, "acme").await?;
    set_context(&acme, "app.teams", "{red}").await?;
    assert_eq!(count(&acme, "docs").await?, 1);
    assert_eq!(count(&installer, "docs").await?, 0, "FORCE binds the owner");

    admin
        .batch_execute(&format!(
            "DROP OWNED BY \"{owner}\" CASCADE; ALTER DATABASE \"{name}\" OWNER TO CURRENT_USER; DROP ROLE \"{owner}\""
        ))
        .await?;
    Ok(())
}

#[tokio::test]
async fn helpers_leave_the_body_of_pgvpd_context_to_whoever_replaced_it() -> TestResult {
    let (db, admin) = database_with(&[SETUP]).await;
    admin
        .batch_execute(
            "CREATE OR REPLACE FUNCTION public.pgvpd_context(var text) RETURNS text LANGUAGE plpgsql STABLE
             AS $$ BEGIN RETURN '{signed}'; END $$",
        )
        .await?;
    admin.batch_execute(HELPERS).await?;
    let client = session(&db, "acme").await?;
    assert_eq!(list(&client, "forged").await?.as_deref(), Some("{signed}"));
    assert_eq!(truth(&client, "pgvpd_context_text_contains('app.list', 'forged')").await?, Some(false));
    Ok(())
}

#[tokio::test]
async fn helpers_refuse_a_function_that_app_user_owns() -> TestResult {
    let (_db, admin) = database_with(&[SETUP]).await;
    admin
        .batch_execute(
            "CREATE FUNCTION public.pgvpd_context_array(var text) RETURNS text[] LANGUAGE sql AS 'SELECT NULL::text[]';
             ALTER FUNCTION public.pgvpd_context_array(text) OWNER TO app_user",
        )
        .await?;
    assert_eq!(refusal(&admin, HELPERS).await, Some(SqlState::INVALID_GRANT_OPERATION));
    Ok(())
}

#[tokio::test]
async fn helpers_replace_a_protect_function_that_would_shadow_their_own() -> TestResult {
    let (_db, admin) = database_with(&[SETUP]).await;
    admin
        .batch_execute("CREATE FUNCTION public.pgvpd_protect_acl(text, jsonb) RETURNS void LANGUAGE sql AS ''")
        .await?;
    admin.batch_execute(HELPERS).await?;
    admin.batch_execute(DOCS).await?;
    assert_eq!(count(&admin, "pg_policy WHERE polname = 'pgvpd_visible_guard'").await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_list_is_read_from_an_array_literal_and_from_values_between_commas() -> TestResult {
    let (db, _admin) = database_with(&[SETUP, HELPERS]).await;
    let client = session(&db, "acme").await?;
    for (value, expected) in [
        ("a", "{a}"),
        ("a,b", "{a,b}"),
        ("a, b", r#"{a," b"}"#),
        ("null,NULL", r#"{"null","NULL"}"#),
        (",a,,b,", "{NULL,a,NULL,b,NULL}"),
        ("O'Brien", "{O'Brien}"),
        ("{}", "{}"),
        ("{ }", "{}"),
        ("{a,b}", "{a,b}"),
        ("{ a , b c ,\t\"d\" }", r#"{a,"b c",d}"#),
        (r#"{"a,b","{c}","d\"e\\f",""," "}"#, r#"{"a,b","{c}","d\"e\\f",NULL," "}"#),
        (r#"{a,NULL,null,"NULL"}"#, r#"{a,NULL,NULL,"NULL"}"#),
        ("{müller,東京}", "{müller,東京}"),
        ("{\u{1}\u{7f},a\u{a0}}", "{\u{1}\u{7f},a\u{a0}}"),
    ] {
        assert_eq!(list(&client, value).await?.as_deref(), Some(expected), "{value:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_array_agg_printed_is_read_back_as_it_was() -> TestResult {
    let (db, _admin) = database_with(&[SETUP, HELPERS]).await;
    let client = session(&db, "acme").await?;
    // Every pair of characters that mean something in an array, a quote or a pattern.
    let sql = r#"WITH c AS (SELECT unnest(string_to_array('a N U L { } , " '' \ ( ) [ ] * . $ ^', ' ') || ARRAY[' ', E'\t', E'\n', E'\v', E'\x01']) AS c),
        value AS (SELECT array_agg(x.c || y.c ORDER BY x.c, y.c) AS v FROM c x, c y),
        stored AS MATERIALIZED (SELECT v, set_config('app.list', v::text, false) FROM value)
        SELECT v = pgvpd_context_array('app.list') AND cardinality(v) > 400 FROM stored"#;
    assert!(client.query_one(sql, &[]).await?.try_get::<_, bool>(0)?);
    Ok(())
}

#[tokio::test]
async fn a_value_that_is_no_list_reads_as_null_and_never_as_an_error() -> TestResult {
    let (db, _admin) = database_with(&[SETUP, HELPERS]).await;
    let client = session(&db, "acme").await?;
    assert_eq!(truth(&client, "pgvpd_context_array('app.never_set') IS NULL").await?, Some(true));
    assert_eq!(truth(&client, "pgvpd_context_uuid_array(NULL) IS NULL").await?, Some(true));
    let long = format!("{{{}", "\"a\",".repeat(200_000));
    let malformed = [
        "",
        "{",
        "}",
        "{a",
        "a}",
        "{a,}",
        "{,a}",
        "{a,,b}",
        "{{a},{b}}",
        "{{a}}",
        "[0:1]={a,b}",
        "{a}{b}",
        "{a} ",
        "{\"a\"b}",
        "{a\"b\"}",
        "{\"a",
        "{a\\}",
        "{\"a\\\"}",
        "\"a\"",
        "a,\"b",
        "a\\b",
        "a,{b}",
        "\\",
        "{\\",
        "{\"\"\"\"}",
        " {a}",
        &long,
    ];
    for value in malformed {
        assert_eq!(list(&client, value).await?, None, "{value:.40}");
        assert_eq!(uuids(&client, value).await?, None, "{value:.40}");
    }
    Ok(())
}

#[tokio::test]
async fn a_list_of_uuids_with_one_that_is_none_reads_as_null() -> TestResult {
    let (db, _admin) = database_with(&[SETUP, HELPERS]).await;
    let client = session(&db, "acme").await?;
    for value in [format!("{A},{B}"), format!("{A}, {B}"), format!("{{{A},\"{B}\"}}"), format!("{{ {A} , {B} }}")] {
        assert_eq!(uuids(&client, &value).await?, Some(format!("{{{A},{B}}}")), "{value}");
    }
    assert_eq!(uuids(&client, &format!("{{{A},NULL,\"\"}}")).await?, Some(format!("{{{A},NULL,NULL}}")));
    for value in [
        format!("{A},acme"),
        format!("{A},{}", B.to_uppercase()),
        format!("{A},{B}0"),
        format!("{A}\n"),
        format!("{{{A},\"{B} \"}}"),
        format!("{{\"{A},{B}\"}}"),
        format!("{A} {B}"),
        format!("{A},NULL"),
        A.replace('-', ""),
    ] {
        assert_eq!(uuids(&client, &value).await?, None, "{value}");
    }
    Ok(())
}

#[tokio::test]
async fn a_list_of_a_hundred_thousand_is_read_whole() -> TestResult {
    let (db, _admin) = database_with(&[SETUP, HELPERS]).await;
    let client = session(&db, "acme").await?;
    client
        .batch_execute("SELECT set_config('app.list', array_agg(md5(n::text)::uuid)::text, false) FROM generate_series(1, 100000) n")
        .await?;
    let sql = "cardinality(pgvpd_context_uuid_array('app.list')) = 100000
        AND pgvpd_context_contains('app.list', md5('100000')::uuid)";
    assert_eq!(truth(&client, sql).await?, Some(true));
    Ok(())
}

#[tokio::test]
async fn contains_is_null_and_not_false_where_there_is_no_list() -> TestResult {
    let (db, _admin) = database_with(&[SETUP, HELPERS]).await;
    let client = session(&db, "acme").await?;
    for (value, expected) in
        [(A, Some(true)), (B, Some(false)), ("{}", Some(false)), ("", None), ("{", None), ("{NULL}", None)]
    {
        set_context(&client, "app.list", value).await?;
        let uuid = format!("pgvpd_context_contains('app.list', '{A}')");
        let text = format!("pgvpd_context_text_contains('app.list', '{A}')");
        assert_eq!(truth(&client, &uuid).await?, expected, "{value}");
        assert_eq!(truth(&client, &text).await?, expected, "{value}");
    }
    set_context(&client, "app.list", "acme,globex").await?;
    assert_eq!(truth(&client, "pgvpd_context_text_contains('app.list', 'globex')").await?, Some(true));
    assert_eq!(truth(&client, "pgvpd_context_text_contains('app.list', '')").await?, Some(false));
    assert_eq!(truth(&client, &format!("pgvpd_context_contains('app.list', '{A}')")).await?, None);
    Ok(())
}

#[tokio::test]
async fn contains_compares_bytes_whatever_the_collation() -> TestResult {
    let (db, admin) = database_with(&[SETUP, HELPERS]).await;
    if count(&admin, "pg_collation WHERE collprovider = 'i'").await? == 0 {
        return Ok(()); // a server built without ICU has no such collation
    }
    admin
        .batch_execute(
            "CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
             CREATE TABLE t (c text COLLATE any_case); INSERT INTO t VALUES ('a'), ('B'), ('c'); GRANT SELECT ON t TO app_user",
        )
        .await?;
    let client = session(&db, "acme").await?;
    for value in ["{a,b}", "a,b"] {
        set_context(&client, "app.list", value).await?;
        assert_eq!(count(&client, "t WHERE pgvpd_context_text_contains('app.list', c)").await?, 1, "{value}");
    }
    Ok(())
}

#[tokio::test]
async fn a_sessions_settings_do_not_change_how_a_list_reads() -> TestResult {
    let (db, admin) = database_with(&[SETUP, HELPERS]).await;
    admin
        .batch_execute(&format!(
            "CREATE SCHEMA mine AUTHORIZATION app_user; GRANT TEMP ON DATABASE {} TO app_user",
            db.name()
        ))
        .await?;
    let client = session(&db, "acme").await?;
    client
        .batch_execute(
            "SET standard_conforming_strings = off; SET escape_string_warning = off; SET backslash_quote = on;
             SET array_nulls = off; SET transform_null_equals = on;
             CREATE FUNCTION mine.pgvpd_context(text) RETURNS text LANGUAGE sql AS 'SELECT ''{forged}''::text';
             CREATE FUNCTION mine.nullif(text, text) RETURNS text LANGUAGE sql AS 'SELECT ''{forged}''::text';
             CREATE FUNCTION mine.array_replace(text[], text, text) RETURNS text[] LANGUAGE sql AS 'SELECT ARRAY[''forged'']';
             CREATE FUNCTION mine.yes(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
             CREATE OPERATOR mine.~ (FUNCTION = mine.yes, LEFTARG = text, RIGHTARG = text);
             CREATE OPERATOR mine.= (FUNCTION = mine.yes, LEFTARG = text, RIGHTARG = text);
             CREATE FUNCTION pg_temp.pgvpd_context(text) RETURNS text LANGUAGE sql AS 'SELECT ''{forged}''::text';
             CREATE DOMAIN pg_temp.text AS pg_catalog.text; CREATE DOMAIN pg_temp.uuid AS pg_catalog.text;
             SET search_path = pg_temp, mine, pg_catalog, public",
        )
        .await?;
    for (value, expected) in
        [(r#"{NULL,"a\"b","\\"}"#, Some(r#"{NULL,"a\"b","\\"}"#)), (r"{a\',b}", None), (r"\{a}", None)]
    {
        client.execute("SELECT pg_catalog.set_config('app.list', $1::pg_catalog.text, false)", &[&value]).await?;
        let sql = "SELECT public.pgvpd_context_array('app.list')::pg_catalog.text";
        let found: Option<String> = client.query_one(sql, &[]).await?.try_get(0)?;
        assert_eq!(found.as_deref(), expected, "{value}");
    }
    client.batch_execute("SET app.list = '{NULL}'").await?;
    let sql = "public.pgvpd_context_text_contains('app.list', 'NULL') IS NULL";
    assert_eq!(truth(&client, sql).await?, Some(true), "array_nulls = off must not make it a value");
    Ok(())
}
