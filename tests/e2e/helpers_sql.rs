//! Do the contexts of `sql/helpers.sql` read what they are given, and do its paths show the rows they name and no others?

use pgvpd_core::sql::{HELPERS, SETUP};
use tokio_postgres::{Client, error::SqlState};

use crate::support::{TestDatabase, TestResult};

const ALICE: &str = "11111111-1111-4111-8111-111111111111";
const BOB: &str = "22222222-2222-4222-8222-222222222222";

/// A fresh database with both files installed, and a superuser's connection to it.
async fn installed() -> Result<(TestDatabase, Client), Box<dyn std::error::Error>> {
    let db = TestDatabase::create().await;
    let admin = db.admin().await;
    admin.batch_execute(SETUP).await?;
    admin.batch_execute(HELPERS).await?;
    Ok((db, admin))
}

/// `app_user` with these session variables.
async fn session(db: &TestDatabase, context: &[(&str, &str)]) -> Result<Client, tokio_postgres::Error> {
    let client = db.connect_as("app_user", "secret").await;
    for (name, value) in context {
        client.execute("SELECT set_config($1, $2, false)", &[name, value]).await?;
    }
    Ok(client)
}

/// Ids of the rows that are seen, in order, as text.
async fn seen(client: &Client) -> Result<String, tokio_postgres::Error> {
    let row = client.query_one("SELECT coalesce(string_agg(id::text, ' ' ORDER BY id), '') FROM docs", &[]).await?;
    row.try_get(0)
}

async fn refusal(client: &Client, sql: &str) -> Option<SqlState> {
    client.batch_execute(sql).await.err()?.code().cloned()
}

/// What a refusal says: its message and its hint.
async fn refused(client: &Client, sql: &str) -> String {
    let error = client.batch_execute(sql).await.expect_err(sql);
    let error = error.as_db_error().expect("of the server");
    format!("{} / {}", error.message(), error.hint().unwrap_or_default())
}

/// A table whose rows have owners of every type that a path can compare.
async fn docs(admin: &Client, paths: &str) -> Result<(), tokio_postgres::Error> {
    admin
        .batch_execute(&format!(
            "CREATE TABLE docs (id int PRIMARY KEY, owner uuid, team text, org bigint, code varchar(20), grp char(4), shared bool);
             INSERT INTO docs VALUES
                 (1, '{ALICE}', 'red', 10, 'a', 'g1', true), (2, '{BOB}', 'blue', 20, 'b', 'g2', false),
                 (3, '{ALICE}', 'green', 30, 'c', 'g3', false), (4, NULL, NULL, NULL, NULL, NULL, NULL);
             GRANT ALL ON docs TO app_user;
             SET client_min_messages = error;
             SELECT pgvpd_protect_acl('docs', $paths${paths}$paths$)"
        ))
        .await
}

#[tokio::test]
async fn arrays_are_read_from_literals_and_from_lists_and_from_nothing_else() -> TestResult {
    let (db, _admin) = installed().await?;
    let client = session(&db, &[]).await?;
    let long = vec!["x"; 20_000].join(",");
    for (context, expected) in [
        ("", None),
        ("{}", Some(vec![])),
        ("a", Some(vec!["a"])),
        (" a , b,,c ", Some(vec!["a", "b", "c"])),
        (",", Some(vec![])),
        ("{a,b}", Some(vec!["a", "b"])),
        (r#"{a,"b,c","d\"e","f\\g",""}"#, Some(vec!["a", "b,c", "d\"e", "f\\g", ""])),
        (r#"{NULL,null,"NULL"}"#, Some(vec!["NULL"])),
        ("{a[1],é}", Some(vec!["a[1]", "é"])),
        ("{a", None),
        ("{a}}", None),
        ("{{a}}", None),
        ("{a,,b}", None),
        ("{a b}", None),
        (" {a}", None),
        (r#"{"a}"#, None),
        (r#"{a\}"#, None),
        ("{a};{b}", None),
        ("[1:1]={a}", Some(vec!["[1:1]={a}"])),
        ("x\u{1}'\"y", Some(vec!["x\u{1}'\"y"])),
        (&long, Some(vec!["x"; 20_000])),
    ] {
        client.execute("SELECT set_config('app.list', $1, false)", &[&context]).await?;
        for conforming in ["on", "off"] {
            client.batch_execute(&format!("SET standard_conforming_strings = {conforming}")).await?;
            let row = client.query_one("SELECT pgvpd_context_array('app.list')", &[]).await?;
            assert_eq!(row.get::<_, Option<Vec<&str>>>(0), expected, "{context:.50}");
        }
    }
    // What array_out writes is read back, whatever is in it.
    let row = client
        .query_one(
            "SELECT bool_and(pgvpd_context_array('app.list') IS NOT DISTINCT FROM items) FROM (
                 SELECT items, set_config('app.list', items::text, false) FROM (
                     SELECT ARRAY[chr(n), 'a' || chr(n) || 'b', 'NULL', ''] AS items FROM generate_series(1, 2000) n
                 ) made OFFSET 0
             ) set",
            &[],
        )
        .await?;
    assert!(row.get::<_, bool>(0));
    Ok(())
}

#[tokio::test]
async fn contains_is_never_null_and_knows_only_whole_values() -> TestResult {
    let (db, _admin) = installed().await?;
    let list = format!("{ALICE}, not-a-uuid, {}", BOB.to_uppercase());
    let client = session(&db, &[("app.ids", &list), ("app.empty", ""), ("app.names", "{red,blue}")]).await?;
    for (call, expected) in [
        (format!("pgvpd_context_contains('app.ids', '{ALICE}')"), true),
        (format!("pgvpd_context_contains('app.ids', '{BOB}')"), true),
        ("pgvpd_context_contains('app.ids', gen_random_uuid())".into(), false),
        ("pgvpd_context_contains('app.ids', NULL)".into(), false),
        (format!("pgvpd_context_contains('app.empty', '{ALICE}')"), false),
        (format!("pgvpd_context_contains('app.unset', '{ALICE}')"), false),
        ("pgvpd_context_text_contains('app.names', 'red')".into(), true),
        ("pgvpd_context_text_contains('app.names', 're')".into(), false),
        ("pgvpd_context_text_contains('app.names', 'RED')".into(), false),
        ("pgvpd_context_text_contains('app.names', NULL)".into(), false),
        ("pgvpd_context_text_contains('app.unset', '')".into(), false),
    ] {
        let row = client.query_one(&format!("SELECT {call}"), &[]).await?;
        assert_eq!(row.get::<_, Option<bool>>(0), Some(expected), "{call}");
    }
    let row = client.query_one("SELECT pgvpd_context_uuid_array('app.ids')::text[]", &[]).await?;
    assert_eq!(row.get::<_, Vec<&str>>(0), [ALICE, BOB]);
    Ok(())
}

#[tokio::test]
async fn each_type_of_path_shows_the_rows_whose_column_has_the_contexts_value() -> TestResult {
    let cases = [
        ("owner", "uuid", ALICE, "1 3"),
        ("owner", "text", BOB, "2"),
        ("team", "text", "red", "1"),
        ("org", "text", "20", "2"),
        ("code", "text", "c", "3"),
        ("grp", "text", "g2", "2"),
        ("owner", "uuid_array", &format!("{{{ALICE},{BOB}}}"), "1 2 3"),
        ("owner", "text_array", BOB, "2"),
        ("team", "text_array", "red,green", "1 3"),
        ("code", "text_array", "{a,b}", "1 2"),
        ("org", "text_array", "{10,30,x,99999999999999999999}", "1 3"),
    ];
    let (db, admin) = installed().await?;
    docs(&admin, r#"[{"column": "team", "var": "app.x", "type": "text"}]"#).await?;
    for (column, kind, context, expected) in cases {
        let path = format!(r#"[{{"column": "{column}", "var": "app.x", "type": "{kind}"}}]"#);
        admin.execute("SELECT pgvpd_protect_acl('public.docs', $1::text::jsonb)", &[&path]).await?;
        assert_eq!(seen(&session(&db, &[("app.x", context)]).await?).await?, expected, "{kind} {column}");
        // No context, an empty one, and one that does not fit: no rows, and no error.
        assert_eq!(seen(&session(&db, &[]).await?).await?, "", "{kind} {column}");
        for nothing in ["", "{}", "{", "'", "nobody", "NULL", "{NULL}", "%", "-1", "\u{1}", "1e3", "g2  "] {
            let rows = seen(&session(&db, &[("app.x", nothing)]).await?).await?;
            assert_eq!(rows, "", "{kind} {column} {nothing:?}");
        }
    }
    Ok(())
}

const TWO_PATHS: &str = r#"[
    {"column": "owner", "var": "app.user_id", "type": "uuid"},
    {"column": "team", "var": "app.teams", "type": "text_array", "when": "shared"}
]"#;

#[tokio::test]
async fn a_row_needs_one_path_and_the_paths_own_condition() -> TestResult {
    let (db, admin) = installed().await?;
    docs(&admin, TWO_PATHS).await?;
    for (context, expected) in [
        (&[("app.user_id", BOB)][..], "2"),
        (&[("app.teams", "red,blue,green")], "1"),
        (&[("app.user_id", BOB), ("app.teams", "red,blue,green")], "1 2"),
        (&[("app.user_id", ""), ("app.teams", "")], ""),
        (&[], ""),
    ] {
        assert_eq!(seen(&session(&db, context).await?).await?, expected, "{context:?}");
    }
    // Writing is held to the same.
    let bob = session(&db, &[("app.user_id", BOB)]).await?;
    let insert =
        |owner: &str| format!("INSERT INTO docs (id, owner) VALUES ((SELECT max(id) + 100 FROM docs), '{owner}')");
    assert_eq!(refusal(&bob, &insert(BOB)).await, None);
    assert_eq!(refusal(&bob, &insert(ALICE)).await, Some(SqlState::INSUFFICIENT_PRIVILEGE));
    assert_eq!(bob.execute("UPDATE docs SET shared = true WHERE id IN (1, 2, 3)", &[]).await?, 1);
    assert_eq!(
        refusal(&bob, &format!("UPDATE docs SET owner = '{ALICE}'")).await,
        Some(SqlState::INSUFFICIENT_PRIVILEGE)
    );
    assert_eq!(refusal(&bob, "TRUNCATE docs").await, Some(SqlState::INSUFFICIENT_PRIVILEGE));
    Ok(())
}

#[tokio::test]
async fn a_further_permissive_policy_adds_no_rows_and_tenant_isolation_holds_too() -> TestResult {
    let (db, admin) = installed().await?;
    docs(&admin, TWO_PATHS).await?;
    admin.batch_execute("CREATE POLICY everything ON docs USING (true)").await?;
    assert_eq!(seen(&session(&db, &[("app.user_id", ALICE)]).await?).await?, "1 3");
    // Both kinds of protection on one table: both must hold.
    admin.batch_execute("SELECT pgvpd_protect('docs', 'team')").await?;
    let alice_of_red = [("app.user_id", ALICE), ("app.current_tenant_id", "red")];
    assert_eq!(seen(&session(&db, &alice_of_red).await?).await?, "1");
    assert_eq!(seen(&session(&db, &alice_of_red[..1]).await?).await?, "");
    assert_eq!(seen(&session(&db, &alice_of_red[1..]).await?).await?, "");
    Ok(())
}

#[tokio::test]
async fn partitions_and_their_parts_are_protected_under_their_own_names() -> TestResult {
    let (db, admin) = installed().await?;
    admin
        .batch_execute(
            "CREATE SCHEMA \"My Schema\"; GRANT USAGE ON SCHEMA \"My Schema\" TO app_user;
             CREATE TABLE \"My Schema\".\"Docs\" (\"the id\" int, team text) PARTITION BY LIST (team);
             CREATE TABLE docs_red PARTITION OF \"My Schema\".\"Docs\" FOR VALUES IN ('red');
             CREATE TABLE docs_rest PARTITION OF \"My Schema\".\"Docs\" DEFAULT;
             INSERT INTO \"My Schema\".\"Docs\" VALUES (1, 'red'), (2, 'blue');
             GRANT ALL ON \"My Schema\".\"Docs\", docs_red, docs_rest TO app_user;
             SELECT pgvpd_protect_acl('\"My Schema\".\"Docs\"', '[{\"column\": \"the id\", \"var\": \"app.x\", \"type\": \"text\"}]')",
        )
        .await?;
    let client = session(&db, &[("app.x", "1")]).await?;
    for (table, rows) in [("\"My Schema\".\"Docs\"", 1), ("docs_red", 1), ("docs_rest", 0)] {
        let row = client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await?;
        assert_eq!(row.get::<_, i64>(0), rows, "{table}");
    }
    Ok(())
}

#[tokio::test]
async fn indexes_are_used_for_each_path_and_for_several() -> TestResult {
    let (db, admin) = installed().await?;
    admin
        .batch_execute(
            "CREATE TABLE big (id int, owner uuid, team text, org bigint);
             INSERT INTO big SELECT n, gen_random_uuid(), 'team ' || n, n FROM generate_series(1, 20000) n;
             CREATE INDEX by_owner ON big (owner); CREATE INDEX by_team ON big (team); CREATE INDEX by_org ON big (org);
             GRANT SELECT ON big TO app_user; ANALYZE big",
        )
        .await?;
    let path =
        |column: &str, kind: &str| format!(r#"{{"column": "{column}", "var": "app.{column}", "type": "{kind}"}}"#);
    let client = session(&db, &[("app.owner", ALICE), ("app.team", "team 7"), ("app.org", "7")]).await?;
    for paths in [
        vec![("owner", "uuid")],
        vec![("owner", "uuid_array")],
        vec![("team", "text")],
        vec![("team", "text_array")],
        vec![("org", "text")],
        vec![("org", "text_array")],
        vec![("owner", "uuid_array"), ("team", "text_array"), ("org", "text")],
    ] {
        let list: Vec<String> = paths.iter().map(|(column, kind)| path(column, kind)).collect();
        let acl = format!("[{}]", list.join(","));
        admin.execute("SELECT pgvpd_protect_acl('big', $1::text::jsonb)", &[&acl]).await?;
        let rows = client.query("EXPLAIN (COSTS OFF) SELECT * FROM big", &[]).await?;
        let plan: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
        let plan = plan.join("\n");
        assert!(!plan.contains("Seq Scan"), "{plan}");
        for (column, _) in &paths {
            assert!(plan.contains(&format!("by_{column}")), "{plan}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_condition_cannot_break_out_of_its_path() -> TestResult {
    let (db, admin) = installed().await?;
    docs(&admin, TWO_PATHS).await?;
    for when in [
        "true) OR (true",
        "true)) OR ((true",
        "shared THEN true END OR true OR CASE WHEN shared",
        "SELECT true",
        "true, true",
        "",
        "--",
        "true /*",
        "true; DROP TABLE docs",
        "true THEN true END; DROP TABLE docs; SELECT CASE WHEN true",
        "1",
        "no_such_column",
        "count(*) > 0",
        "$1",
        "'unterminated",
    ] {
        let sql = format!(
            "SELECT pgvpd_protect_acl('docs', jsonb_build_array(jsonb_build_object(
                'column', 'team', 'var', 'app.x', 'type', 'text', 'when', $when${when}$when$)))"
        );
        let said = refused(&admin, &sql).await;
        assert!(said.contains("path 1 of table public.docs has no valid \"when\""), "{when:?}: {said}");
    }
    // Refused whole: the old paths still hold.
    assert_eq!(seen(&session(&db, &[("app.user_id", BOB), ("app.x", "red")]).await?).await?, "2");
    // What only looks dangerous is one expression.
    for when in ["shared OR true", "shared -- a comment", "(SELECT true)", "team <> ')' AND true"] {
        let path = format!(r#"[{{"column": "team", "var": "app.x", "type": "text", "when": "{when}"}}]"#);
        admin.execute("SELECT pgvpd_protect_acl('docs', $1::text::jsonb)", &[&path]).await?;
        assert_eq!(seen(&session(&db, &[("app.x", "red")]).await?).await?, "1", "{when}");
        assert_eq!(seen(&session(&db, &[]).await?).await?, "", "{when}");
    }
    Ok(())
}

#[tokio::test]
async fn mistakes_in_paths_are_named() -> TestResult {
    let (_db, admin) = installed().await?;
    docs(&admin, TWO_PATHS).await?;
    admin.batch_execute("CREATE VIEW docs_view AS SELECT * FROM docs").await?;
    for (table, paths, expected) in [
        ("docs", "null", "not an array"),
        ("docs", "[]", "not an array of at least one path"),
        ("docs", "{}", "not an array"),
        ("docs", "[1]", "path 1 of table public.docs is not an object"),
        ("docs", r#"[{"column": "team", "var": "app.x"}]"#, "lacks \"column\", \"var\" or \"type\""),
        ("docs", r#"[{"column": "team", "var": "app.x", "type": "text", "wehn": "shared"}]"#, "has \"wehn\""),
        ("docs", r#"[{"column": "team", "var": "app.x", "type": "text", "when": null}]"#, "has \"when\": null"),
        ("docs", r#"[{"column": "team", "var": "app.x", "type": "json"}]"#, "the unknown type \"json\""),
        ("docs", r#"[{"column": "nope", "var": "app.x", "type": "text"}]"#, "no column \"nope\""),
        ("docs", r#"[{"column": "ctid", "var": "app.x", "type": "text"}]"#, "no column \"ctid\""),
        ("docs", r#"[{"column": "team", "var": "search_path", "type": "text"}]"#, "cannot be a context variable"),
        ("docs", r#"[{"column": "team", "var": "pgvpd.x", "type": "text"}]"#, "cannot be a context variable"),
        (
            "docs",
            r#"[{"column": "team", "var": "app.x", "type": "uuid"}]"#,
            "type text, which a path of type uuid cannot",
        ),
        ("docs", r#"[{"column": "grp", "var": "app.x", "type": "text_array"}]"#, "cannot compare"),
        ("docs", r#"[{"column": "shared", "var": "app.x", "type": "text"}]"#, "type boolean"),
        ("docs_view", r#"[{"column": "team", "var": "app.x", "type": "text"}]"#, "security_invoker"),
    ] {
        let said = refused(&admin, &format!("SELECT pgvpd_protect_acl('{table}', $p${paths}$p$)")).await;
        assert!(said.contains(expected), "{paths}: {said}");
    }
    for call in ["NULL, '[]'", "'docs', NULL"] {
        assert!(refused(&admin, &format!("SELECT pgvpd_protect_acl({call})")).await.contains("got NULL"));
    }
    Ok(())
}

#[tokio::test]
async fn a_session_cannot_change_paths_or_what_they_call() -> TestResult {
    let (db, admin) = installed().await?;
    docs(&admin, TWO_PATHS).await?;
    let bob = session(&db, &[("app.user_id", BOB)]).await?;
    for sql in [
        "SELECT pgvpd_protect_acl('docs', '[{\"column\": \"team\", \"var\": \"app.x\", \"type\": \"text\"}]')",
        "SELECT pgvpd.require_condition('docs', 'true', 'x')",
        "SELECT pgvpd.enforce('docs', 'a', 'b', 'true')",
        "ALTER TABLE docs DISABLE ROW LEVEL SECURITY",
        "DROP POLICY pgvpd_acl_guard ON docs",
        "CREATE OR REPLACE FUNCTION public.pgvpd_context_array(var text) RETURNS text[] LANGUAGE sql AS 'SELECT NULL::text[]'",
    ] {
        assert_eq!(refusal(&bob, sql).await, Some(SqlState::INSUFFICIENT_PRIVILEGE), "{sql}");
    }
    // Objects of its own in place of the built-in ones.
    bob.batch_execute(
        "CREATE FUNCTION pg_temp.unnest(text[]) RETURNS SETOF text LANGUAGE sql AS $$ SELECT team FROM docs $$;
         CREATE FUNCTION pg_temp.true_eq(uuid, uuid) RETURNS bool LANGUAGE sql AS $$ SELECT true $$;
         CREATE OPERATOR pg_temp.= (LEFTARG = uuid, RIGHTARG = uuid, PROCEDURE = pg_temp.true_eq);
         SET search_path = pg_temp, pg_catalog, public",
    )
    .await?;
    assert_eq!(seen(&bob).await?, "2");
    Ok(())
}

#[tokio::test]
async fn helpers_need_setup_run_again_and_leave_the_context_function_alone() -> TestResult {
    let db = TestDatabase::create().await;
    let admin = db.admin().await;
    let said = refused(&admin, HELPERS).await;
    assert!(said.contains("setup.sql") && said.contains("psql -v ON_ERROR_STOP=1"), "{said}");
    admin.batch_execute("ROLLBACK").await?;
    admin.batch_execute(SETUP).await?;
    // A signed context stands in this function's body.
    let signed =
        "CREATE OR REPLACE FUNCTION public.pgvpd_context(var text) RETURNS text LANGUAGE sql AS $$ SELECT 'signed' $$";
    admin.batch_execute(signed).await?;
    admin.batch_execute(HELPERS).await?;
    admin.batch_execute(HELPERS).await?;
    let row = admin.query_one("SELECT pgvpd_context_array('app.x')", &[]).await?;
    assert_eq!(row.get::<_, Vec<&str>>(0), ["signed"]);
    docs(&admin, TWO_PATHS).await?;
    admin.batch_execute(SETUP).await?;
    assert_eq!(seen(&session(&db, &[("app.user_id", BOB)]).await?).await?, "2");
    // Another signature would win in a call with plain literals.
    admin.batch_execute("CREATE FUNCTION public.pgvpd_protect_acl(text, text) RETURNS void LANGUAGE sql AS ''").await?;
    admin.batch_execute(HELPERS).await?;
    let row = admin.query_one("SELECT count(*) FROM pg_proc WHERE proname = 'pgvpd_protect_acl'", &[]).await?;
    assert_eq!(row.get::<_, i64>(0), 1);
    Ok(())
}

#[tokio::test]
async fn helpers_work_for_an_owner_who_is_not_superuser() -> TestResult {
    let db = TestDatabase::create().await;
    let admin = db.admin().await;
    let owner = format!("owner_of_{}", db.name());
    admin
        .batch_execute(&format!(
            "CREATE ROLE \"{owner}\" LOGIN CREATEROLE PASSWORD 'secret'; ALTER DATABASE \"{}\" OWNER TO \"{owner}\"",
            db.name()
        ))
        .await?;
    let installer = db.connect_as(&owner, "secret").await;
    for file in [SETUP, HELPERS, HELPERS] {
        installer.batch_execute(file).await?;
    }
    installer.batch_execute("CREATE SCHEMA own; SET search_path = own, public").await?;
    installer.batch_execute("GRANT USAGE ON SCHEMA own TO app_user").await?;
    docs(&installer, TWO_PATHS).await?;
    assert_eq!(seen(&installer).await?, "", "FORCE binds the owner");
    let bob = session(&db, &[("app.user_id", BOB), ("search_path", "own")]).await?;
    assert_eq!(seen(&bob).await?, "2");
    admin
        .batch_execute(&format!(
            "DROP OWNED BY \"{owner}\" CASCADE; ALTER DATABASE \"{}\" OWNER TO CURRENT_USER; DROP ROLE \"{owner}\"",
            db.name()
        ))
        .await?;
    Ok(())
}
