//! Does a table under `pgvpd_protect_acl` show the rows that a path leads to, and no others, whatever the context holds?

use pgvpd_core::sql::{HELPERS, SETUP};
use tokio_postgres::{Client, error::SqlState};

use crate::helpers_refused::one_path;
use crate::support::{TestDatabase, TestResult, catalog, count, database_with, plan, refusal, session, set_context};

const ANN: &str = "a0000000-0000-0000-0000-00000000000a";
const BOB: &str = "b0000000-0000-0000-0000-00000000000b";
const RED: &str = "c0000000-0000-0000-0000-00000000000c";
const BLUE: &str = "d0000000-0000-0000-0000-00000000000d";

const NONE: [i32; 0] = [];

/// Four documents: Ann's own, Bob's of team red, Bob's private one of team red, and Bob's that nobody shares.
const DOCS: &str = r#"
    CREATE TABLE docs (id int, owner_id uuid, team_id uuid, visibility text, tenant_id text DEFAULT 'acme');
    INSERT INTO docs VALUES
        (1, 'a0000000-0000-0000-0000-00000000000a', NULL, 'private'),
        (2, 'b0000000-0000-0000-0000-00000000000b', 'c0000000-0000-0000-0000-00000000000c', 'team'),
        (3, 'b0000000-0000-0000-0000-00000000000b', 'c0000000-0000-0000-0000-00000000000c', 'private'),
        (4, 'b0000000-0000-0000-0000-00000000000b', NULL, NULL);
    CREATE INDEX ON docs (owner_id); CREATE INDEX ON docs (team_id); CREATE INDEX ON docs (tenant_id);
    GRANT ALL ON docs TO app_user;
    SELECT pgvpd_protect_acl('docs', '[
        {"column": "owner_id", "var": "app.user_id", "type": "uuid"},
        {"column": "team_id", "var": "app.team_ids", "type": "uuid_array", "when": "visibility = ''team''"}]');"#;

async fn installed() -> (TestDatabase, Client) {
    database_with(&[SETUP, HELPERS]).await
}

/// The ids of the documents that a session sees.
async fn ids(client: &Client) -> Result<Vec<i32>, tokio_postgres::Error> {
    client.query("SELECT id FROM docs ORDER BY id", &[]).await?.iter().map(|row| row.try_get(0)).collect()
}

#[tokio::test]
async fn a_row_shows_where_any_path_leads_to_it() -> TestResult {
    let (db, admin) = installed().await;
    admin.batch_execute(DOCS).await?;
    let client = session(&db, "acme").await?;
    let reds = format!("{{{BLUE},{RED}}}");
    for (user, teams, expected) in [
        ("", "", &[][..]),
        (ANN, "", &[1]),
        (BOB, "", &[2, 3, 4]),
        ("", &reds, &[2]),
        (ANN, &reds, &[1, 2]),
        (ANN, RED, &[1, 2]),
        (ANN, BLUE, &[1]),
        (ANN, "{}", &[1]),
        (ANN, "{NULL}", &[1]),
        (RED, ANN, &[]),
    ] {
        set_context(&client, "app.user_id", user).await?;
        set_context(&client, "app.team_ids", teams).await?;
        assert_eq!(ids(&client).await?, expected, "{user:?} {teams:?}");
    }
    Ok(())
}

#[tokio::test]
async fn without_context_nothing_is_read_or_written() -> TestResult {
    let (db, admin) = installed().await;
    admin.batch_execute(DOCS).await?;
    let client = session(&db, "acme").await?;
    assert_eq!(ids(&client).await?, NONE);
    assert_eq!(client.execute("DELETE FROM docs", &[]).await?, 0);
    assert_eq!(refusal(&client, "INSERT INTO docs VALUES (5)").await, Some(SqlState::INSUFFICIENT_PRIVILEGE));
    assert_eq!(refusal(&client, "TRUNCATE docs").await, Some(SqlState::INSUFFICIENT_PRIVILEGE));
    Ok(())
}

#[tokio::test]
async fn each_type_fits_each_column_it_should() -> TestResult {
    let (db, admin) = installed().await;
    admin.batch_execute("CREATE DOMAIN key AS uuid").await?;
    let client = session(&db, "acme").await?;
    let no_number = ["7x", "9999999999999999999", "99999999999999999999", "7;8", "0x7", " "];
    let no_uuid = ["a0000000", "acme", "a0000000-0000-0000-0000-00000000000g", "%"];
    let text = ["nobody", "ann ", "'", "ann' OR 'a'='a", "{ann", "\"ann\"", "\\", "\u{1}", "%"];
    for (column_type, mine, other, misfits) in [
        ("text", "ann", "bob", &text[..]),
        ("varchar(20)", "ann", "bob", &text),
        ("char(8)", "ann", "bob", &text),
        ("uuid", ANN, BOB, &no_uuid),
        ("key", ANN, BOB, &no_uuid),
        ("smallint", "7", "8", &no_number),
        ("integer", "7", "8", &no_number),
        ("bigint", "-7", "8", &no_number),
    ] {
        admin
            .batch_execute(&format!(
                "DROP TABLE IF EXISTS t; CREATE TABLE t (c {column_type}); GRANT SELECT ON t TO app_user;
                 INSERT INTO t VALUES ('{mine}'), ('{other}'), ('{other}'), (NULL)"
            ))
            .await?;
        let types: &[&str] = match column_type {
            "uuid" | "key" => &["text", "text_array", "uuid", "uuid_array"],
            _ => &["text", "text_array"],
        };
        for path_type in types {
            admin.batch_execute(&one_path(&format!("'column', 'c', 'var', 'app.v', 'type', '{path_type}'"))).await?;
            let mut cases = vec![(mine.to_owned(), 1), (other.to_owned(), 2), (String::new(), 0)];
            cases.extend(misfits.iter().map(|misfit| ((*misfit).to_owned(), 0)));
            if path_type.ends_with("_array") {
                cases.extend([
                    (format!("{mine},{other}"), 3),
                    (format!("{{{mine},{other},NULL}}"), 3),
                    ("{}".to_owned(), 0),
                ]);
                if !text.contains(&misfits[0]) {
                    cases.push((format!("{mine},{}", misfits[0]), 0));
                }
            } else {
                cases.push((format!("{mine},{other}"), 0));
            }
            for (value, expected) in cases {
                set_context(&client, "app.v", &value).await?;
                assert_eq!(count(&client, "t").await?, expected, "{column_type} as {path_type}: {value:?}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_row_can_be_written_only_where_a_path_leads_to_it() -> TestResult {
    let (db, admin) = installed().await;
    admin.batch_execute(DOCS).await?;
    let ann = session(&db, "acme").await?;
    set_context(&ann, "app.user_id", ANN).await?;
    set_context(&ann, "app.team_ids", RED).await?;
    ann.batch_execute(&format!(
        "INSERT INTO docs VALUES (5, '{ANN}'); INSERT INTO docs VALUES (6, NULL, '{RED}', 'team');
         UPDATE docs SET id = 7 WHERE id = 2"
    ))
    .await?;
    for statement in [
        format!("INSERT INTO docs VALUES (8, '{BOB}')"),
        format!("INSERT INTO docs VALUES (8, NULL, '{RED}', 'private')"),
        format!("INSERT INTO docs VALUES (8, NULL, '{RED}', NULL)"),
        format!("INSERT INTO docs VALUES (8, NULL, '{BLUE}', 'team')"),
        format!("UPDATE docs SET owner_id = '{BOB}' WHERE id = 1"),
        "UPDATE docs SET visibility = NULL WHERE id = 7".to_owned(),
    ] {
        assert_eq!(refusal(&ann, &statement).await, Some(SqlState::INSUFFICIENT_PRIVILEGE), "{statement}");
    }
    assert_eq!(ann.execute("DELETE FROM docs WHERE id IN (3, 4)", &[]).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_when_with_or_and_a_comment_stays_within_its_path() -> TestResult {
    let (db, admin) = installed().await;
    admin
        .batch_execute(&format!(
            "CREATE TABLE t (c text, open boolean, \"Odd Name\" text); GRANT SELECT ON t TO app_user;
             INSERT INTO t VALUES ('ann', true), ('ann', NULL), ('bob', true), ('bob', NULL); {}",
            one_path("'column', 'c', 'var', 'app.v', 'type', 'text', 'when', 'open OR \"Odd Name\" = ''%s'' OR true = open -- )('")
        ))
        .await?;
    let client = session(&db, "acme").await?;
    assert_eq!(count(&client, "t").await?, 0);
    set_context(&client, "app.v", "ann").await?;
    assert_eq!(count(&client, "t").await?, 1);
    Ok(())
}

#[tokio::test]
async fn protect_acl_again_changes_nothing_or_follows_the_new_paths() -> TestResult {
    let (db, admin) = installed().await;
    admin.batch_execute(DOCS).await?;
    let paths = "obj_description(oid, 'pg_policy')::jsonb FROM pg_policy WHERE polname = 'pgvpd_visible_guard'";
    let before = catalog(&admin).await?;
    admin.batch_execute(&format!("SELECT pgvpd_protect_acl('docs', {paths}")).await.unwrap_err();
    admin.batch_execute(&format!("DO $$ BEGIN PERFORM pgvpd_protect_acl('docs', (SELECT {paths})); END $$")).await?;
    assert_eq!(catalog(&admin).await?, before);

    admin
        .batch_execute(r#"SELECT pgvpd_protect_acl('docs', '[{"column": "team_id", "var": "app.team_ids", "type": "uuid_array"}]')"#)
        .await?;
    let client = session(&db, "acme").await?;
    set_context(&client, "app.user_id", ANN).await?;
    set_context(&client, "app.team_ids", RED).await?;
    assert_eq!(ids(&client).await?, [2, 3]);
    Ok(())
}

#[tokio::test]
async fn with_both_kinds_of_protection_both_must_hold() -> TestResult {
    let (db, admin) = installed().await;
    admin.batch_execute(DOCS).await?;
    admin
        .batch_execute("UPDATE docs SET tenant_id = 'globex' WHERE id IN (1, 4); SELECT pgvpd_protect('docs')")
        .await?;
    let client = session(&db, "acme").await?;
    assert_eq!(ids(&client).await?, NONE, "the tenant alone is not enough");
    set_context(&client, "app.user_id", ANN).await?;
    assert_eq!(ids(&client).await?, NONE, "nor a path alone");
    set_context(&client, "app.user_id", BOB).await?;
    assert_eq!(ids(&client).await?, [2, 3]);
    let insert = format!("INSERT INTO docs (owner_id, tenant_id) VALUES ('{BOB}', 'globex')");
    assert_eq!(refusal(&client, &insert).await, Some(SqlState::INSUFFICIENT_PRIVILEGE));
    set_context(&client, "app.current_tenant_id", "").await?;
    assert_eq!(ids(&client).await?, NONE);
    Ok(())
}

#[tokio::test]
async fn with_both_kinds_a_when_never_meets_a_row_of_another_tenant() -> TestResult {
    let (db, admin) = installed().await;
    admin
        .batch_execute(&format!(
            "CREATE TABLE t (tenant_id text, c text, flags jsonb); GRANT SELECT ON t TO app_user;
             INSERT INTO t VALUES ('acme', 'ann', 'true'), ('globex', 'ann', '\"x\"');
             SELECT pgvpd_protect('t'); {}",
            one_path("'column', 'c', 'var', 'app.v', 'type', 'text', 'when', 'flags::boolean'")
        ))
        .await?;
    let client = session(&db, "acme").await?;
    set_context(&client, "app.v", "ann").await?;
    assert_eq!(count(&client, "t").await?, 1, "the cast fails on globex's row");
    Ok(())
}

#[tokio::test]
async fn the_guard_holds_against_a_further_permissive_policy_on_the_list() -> TestResult {
    let (db, admin) = installed().await;
    admin.batch_execute(DOCS).await?;
    admin.batch_execute("CREATE POLICY open_to_all ON docs USING (true)").await?;
    let client = session(&db, "acme").await?;
    assert_eq!(ids(&client).await?, NONE);
    set_context(&client, "app.user_id", ANN).await?;
    assert_eq!(ids(&client).await?, [1]);
    Ok(())
}

#[tokio::test]
async fn protect_acl_covers_partitions_and_inheritance_children_and_quoted_names() -> TestResult {
    let (db, admin) = installed().await;
    let paths = r#"'[{"column": "Team", "var": "app.teams", "type": "text_array", "when": "day >= 0"}]'"#;
    admin
        .batch_execute(&format!(
            "CREATE SCHEMA \"My Schema\"; GRANT USAGE ON SCHEMA \"My Schema\" TO app_user; SET search_path = \"My Schema\";
             CREATE TABLE \"Ev-ents\" (\"Team\" text, day int, kind int) PARTITION BY RANGE (day);
             CREATE TABLE week PARTITION OF \"Ev-ents\" FOR VALUES FROM (0) TO (7) PARTITION BY LIST (kind);
             CREATE TABLE leaf PARTITION OF week FOR VALUES IN (1);
             INSERT INTO \"Ev-ents\" VALUES ('red', 1, 1), ('blue', 1, 1);
             CREATE TABLE parent (\"Team\" text, day int); CREATE TABLE child (more int) INHERITS (parent);
             INSERT INTO child VALUES ('red', 1), ('blue', 1);
             SELECT public.pgvpd_protect_acl('\"Ev-ents\"', {paths}), public.pgvpd_protect_acl('\"My Schema\".parent', {paths});
             GRANT SELECT ON ALL TABLES IN SCHEMA \"My Schema\" TO app_user"
        ))
        .await?;
    let client = session(&db, "acme").await?;
    client.batch_execute("SET app.teams = 'red'; SET search_path = \"My Schema\"").await?;
    for table in ["\"Ev-ents\"", "week", "leaf", "parent", "child"] {
        assert_eq!(count(&client, table).await?, 1, "{table}");
    }
    Ok(())
}

#[tokio::test]
async fn a_session_of_app_user_can_neither_call_protect_acl_nor_shadow_what_policies_call() -> TestResult {
    let (db, admin) = installed().await;
    admin.batch_execute(DOCS).await?;
    let callable =
        "pg_proc WHERE proname IN ('pgvpd_protect_acl', 'path_condition', 'check_when', 'set_policies', 'lock_tree')
        AND has_function_privilege('app_user', oid, 'EXECUTE')";
    assert_eq!(count(&admin, callable).await?, 0);
    let client = session(&db, "acme").await?;
    for statement in [
        r#"SELECT pgvpd_protect_acl('docs', '[{"column": "id", "var": "app.v", "type": "text"}]')"#,
        "SELECT pgvpd.set_policies('docs', 'pgvpd_visible', 'pgvpd_visible_guard', 'true')",
        "SELECT pgvpd.path_condition('docs', '{}', 1)",
        "SELECT pgvpd.check_when('docs', 'true', 1)",
        "ALTER TABLE docs DISABLE ROW LEVEL SECURITY",
        "DROP POLICY pgvpd_visible_guard ON docs",
        "COMMENT ON POLICY pgvpd_visible_guard ON docs IS 'x'",
        "CREATE FUNCTION public.mine() RETURNS text LANGUAGE sql AS 'SELECT 1::text'",
        "CREATE OR REPLACE FUNCTION pgvpd.to_uuid(value text) RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'",
    ] {
        assert_eq!(refusal(&client, statement).await, Some(SqlState::INSUFFICIENT_PRIVILEGE), "{statement}");
    }
    client
        .batch_execute(&format!(
            "CREATE FUNCTION pg_temp.pgvpd_context(text) RETURNS text LANGUAGE sql AS 'SELECT ''{BOB}''::text';
             CREATE FUNCTION pg_temp.pgvpd_context_uuid_array(text) RETURNS uuid[] LANGUAGE sql AS 'SELECT ARRAY[''{RED}''::uuid]';
             CREATE FUNCTION pg_temp.always(uuid, uuid) RETURNS boolean LANGUAGE sql AS 'SELECT true';
             CREATE OPERATOR pg_temp.= (FUNCTION = pg_temp.always, LEFTARG = uuid, RIGHTARG = uuid);
             SET search_path = pg_temp, public"
        ))
        .await?;
    assert_eq!(ids(&client).await?, NONE);
    assert_eq!(
        refusal(&client, "SET row_security = off; SELECT FROM docs").await,
        Some(SqlState::INSUFFICIENT_PRIVILEGE)
    );
    Ok(())
}

/// 50,000 rows where each of the paths below leads to some fifty.
const BIG: &str = "
    CREATE TABLE big (owner uuid, team uuid, grp varchar(20), num int, flag char(8), body text);
    INSERT INTO big SELECT md5((n % 1000)::text)::uuid, md5((n % 999)::text)::uuid, 'g' || n % 998, n % 997, 'f' || n % 996,
        repeat('x', 100) FROM generate_series(1, 50000) n;
    CREATE INDEX ON big (owner); CREATE INDEX ON big (team); CREATE INDEX ON big (grp); CREATE INDEX ON big (num);
    CREATE INDEX ON big (flag); ANALYZE big; GRANT SELECT ON big TO app_user;";

#[tokio::test]
async fn every_path_uses_its_index_alone_and_beside_others() -> TestResult {
    let (db, admin) = installed().await;
    admin.batch_execute(BIG).await?;
    let client = session(&db, "acme").await?;
    let paths = [
        ("owner", "uuid", "md5('1')::uuid::text"),
        ("team", "uuid_array", "ARRAY[md5('2')::uuid, md5('3')::uuid]::text"),
        ("grp", "text_array", "'{g4,g5}'"),
        ("num", "text_array", "'6,7'"),
        ("flag", "text_array", "'f8'"),
        ("num", "text", "'9'"),
    ]
    .map(|(column, path_type, value)| {
        (column, value, format!(r#"{{"column": "{column}", "var": "app.v_{column}", "type": "{path_type}"}}"#))
    });
    let all = paths.each_ref().map(|(_, _, path)| path.as_str()).join(", ");
    let when = all.replace('}', r#", "when": "body IS NOT NULL"}"#);
    let singles = paths.iter().map(|(column, _, path)| (vec![*column], path.clone()));
    let columns: Vec<&str> = paths.iter().map(|(column, ..)| *column).collect();
    for (columns, paths) in singles.chain([(columns.clone(), all), (columns, when)]) {
        admin.batch_execute(&format!("SELECT pgvpd_protect_acl('big', '[{paths}]')")).await?;
        let plan = plan(&client, "SELECT * FROM big").await?;
        assert!(!plan.contains("Seq Scan"), "{paths}\n{plan}");
        for column in columns {
            assert!(plan.contains(&format!("big_{column}_idx")), "{paths}\n{plan}");
        }
        assert!(plan.contains("InitPlan"), "{plan}");
    }
    // And the plan finds the right rows.
    for (column, value, _) in &paths {
        client.batch_execute(&format!("SELECT set_config('app.v_{column}', {value}, false)")).await?;
    }
    let expected = "big WHERE owner = md5('1')::uuid OR team IN (md5('2')::uuid, md5('3')::uuid) OR grp IN ('g4', 'g5')
        OR num = 9 OR flag = 'f8'";
    assert_eq!(count(&client, "big").await?, count(&admin, expected).await?);
    Ok(())
}

#[tokio::test]
async fn the_tenants_index_is_used_under_both_kinds_of_protection() -> TestResult {
    let (db, admin) = installed().await;
    admin.batch_execute(BIG).await?;
    admin
        .batch_execute(
            r#"SELECT pgvpd_protect('big', 'owner'), pgvpd_protect_acl('big',
               '[{"column": "body", "var": "app.v", "type": "text", "when": "lower(body) = body"}]')"#,
        )
        .await?;
    let plan = plan(&session(&db, "acme").await?, "SELECT * FROM big").await?;
    assert!(plan.contains("big_owner_idx"), "{plan}");
    Ok(())
}

#[tokio::test]
async fn a_parallel_scan_returns_every_row_that_a_path_leads_to() -> TestResult {
    let (db, admin) = installed().await;
    admin
        .batch_execute(&format!(
            r#"{BIG} SELECT pgvpd_protect_acl('big', '[{{"column": "team", "var": "app.teams", "type": "uuid_array"}},
                {{"column": "body", "var": "app.body", "type": "text_array"}}]')"#
        ))
        .await?;
    let client = session(&db, "acme").await?;
    client
        .batch_execute(
            "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
             SET max_parallel_workers_per_gather = 2;
             SELECT set_config('app.body', ARRAY[repeat('x', 100)]::text, false)",
        )
        .await?;
    let plan = plan(&client, "SELECT count(*) FROM big").await?;
    assert!(plan.contains("Parallel Seq Scan on big"), "{plan}");
    assert_eq!(count(&client, "big").await?, 50_000);
    Ok(())
}

#[tokio::test]
async fn status_reports_an_access_list_and_what_is_wrong_with_it() -> TestResult {
    let (_db, admin) = installed().await;
    admin.batch_execute(DOCS).await?;
    let sql = "SELECT tenant_column, variable, index_present FROM pgvpd_status()";
    let row = admin.query_one(sql, &[]).await?;
    assert_eq!(row.try_get::<_, &str>(0)?, "owner_id, team_id");
    assert_eq!(row.try_get::<_, &str>(1)?, "app.user_id, app.team_ids");
    assert!(row.try_get::<_, bool>(2)?);

    let status = "SELECT string_agg(status, ' + ' ORDER BY status COLLATE \"C\") FROM pgvpd_status()";
    let again = "DO $$ BEGIN PERFORM pgvpd_protect_acl('docs', (SELECT max(obj_description(oid, 'pg_policy'))::jsonb FROM pg_policy)); END $$;";
    for (change, expected) in [
        ("", "protected"),
        ("DROP INDEX docs_team_id_idx", "protected, but slow: no index starts with team_id"),
        ("SELECT pgvpd_protect('docs')", "protected + protected, but slow: no index starts with team_id"),
        ("GRANT TRUNCATE ON docs TO app_user", "NOT PROTECTED: app_user has a right"),
        (
            "REVOKE TRUNCATE ON docs FROM app_user; ALTER POLICY pgvpd_visible ON docs USING (true)",
            "NOT PROTECTED: the policy is missing or altered. Run",
        ),
        (
            &format!("{again} ALTER POLICY pgvpd_visible ON docs USING (true) WITH CHECK (true)"),
            "NOT PROTECTED: the policy is",
        ),
        (&format!("{again} DROP POLICY pgvpd_visible_guard ON docs"), "NOT PROTECTED: the guard is"),
        (
            &format!("{again} ALTER TABLE docs NO FORCE ROW LEVEL SECURITY"),
            "NOT PROTECTED: row-level security does not",
        ),
    ] {
        admin.batch_execute(change).await?;
        let found: String = admin.query_one(status, &[]).await?.try_get(0)?;
        assert!(found.starts_with(expected), "{change}: {found}");
    }
    Ok(())
}

#[tokio::test]
async fn status_names_the_call_that_protects_a_partition_added_later() -> TestResult {
    let (_db, admin) = installed().await;
    admin
        .batch_execute(
            r#"CREATE TABLE events (team text, day int) PARTITION BY RANGE (day);
             SELECT pgvpd_protect_acl('events', '[{"column": "team", "var": "app.teams", "type": "text_array", "when": "day > 0"}]');
             CREATE TABLE late PARTITION OF events FOR VALUES FROM (0) TO (7); CREATE INDEX ON late (team)"#,
        )
        .await?;
    let sql = "SELECT status FROM pgvpd_status() WHERE table_name = 'public.late'";
    let found: String = admin.query_one(sql, &[]).await?.try_get(0)?;
    let (wrong, remedy) = found.split_once(" Run: ").unwrap();
    assert!(wrong.starts_with("NOT PROTECTED"), "{found}");
    admin.batch_execute(remedy).await?;
    let found: String = admin.query_one(sql, &[]).await?.try_get(0)?;
    assert_eq!(found, "protected");
    Ok(())
}
