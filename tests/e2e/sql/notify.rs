//! Do the triggers of `pgvpd_notify_on_change` say what a change makes void, all of it and once?

use futures_util::{StreamExt, stream};
use pgvpd_core::sql::{HELPERS, SETUP};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::support::{APP_PASSWORD, TestDatabase, TestResult, cluster, count, database_with, session, within};

/// A session that listens, and what it has heard.
pub(crate) struct Ear {
    heard: UnboundedReceiver<String>,
    admin: Client,
    _listener: Client,
}

impl Ear {
    pub(crate) async fn open(db: &TestDatabase) -> Result<Self, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(cluster().await.postgres.port()).dbname(db.name());
        let (listener, mut connection) = config.user("app_user").password(APP_PASSWORD).connect(NoTls).await?;
        let (mouth, heard) = unbounded_channel();
        tokio::spawn(async move {
            let mut messages = stream::poll_fn(move |cx| connection.poll_message(cx));
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notification(notification) = message {
                    let _ = mouth.send(notification.payload().to_owned());
                }
            }
        });
        listener.batch_execute("LISTEN pgvpd_invalidate").await?;
        Ok(Self { heard, admin: db.admin().await, _listener: listener })
    }

    /// What this statement makes void, in an order of its own: params, or null for all of the resolver's results.
    pub(crate) async fn hears(&mut self, writer: &Client, sql: &str) -> Result<Value, Box<dyn std::error::Error>> {
        writer.batch_execute(sql).await?;
        // Heard in the order of the commits.
        self.admin.batch_execute("NOTIFY pgvpd_invalidate, 'end'").await?;
        let mut params = Vec::new();
        loop {
            let payload = within("a notification", self.heard.recv()).await.unwrap();
            if payload == "end" {
                params.sort_by_key(Value::to_string);
                return Ok(params.into());
            }
            let mut said: Value = serde_json::from_str(&payload)?;
            let found = said.get_mut("params").map(Value::take).unwrap_or_default();
            assert!(payload.len() < 8000);
            assert_eq!(
                said,
                if found.is_null() { json!({"resolver": "orgs"}) } else { json!({"resolver": "orgs", "params": null}) }
            );
            params.push(found);
        }
    }
}

/// Members of organisations, protected, and a session of acme's that may write them.
pub(crate) const MEMBERS: &str = "
    CREATE TABLE members (tenant_id text, user_id text, org int, role text, r json, params text);
    SELECT pgvpd_protect('members'); GRANT SELECT, INSERT, UPDATE, DELETE ON members TO app_user;";

/// A database with them, who listens there, and that session.
pub(crate) async fn members(install: &str) -> Result<(TestDatabase, Ear, Client), tokio_postgres::Error> {
    let (db, admin) = database_with(&[SETUP, HELPERS, MEMBERS]).await;
    admin.batch_execute(install).await?;
    let (ear, writer) = (Ear::open(&db).await?, session(&db, "acme").await?);
    Ok((db, ear, writer))
}

#[tokio::test]
async fn every_change_of_a_row_is_said_with_the_values_before_and_after() -> TestResult {
    let (db, mut ear, acme) = members("SELECT pgvpd_notify_on_change('members', 'orgs', 'org')").await?;
    let admin = db.admin().await;
    for (sql, expected) in [
        ("INSERT INTO members (user_id, org) VALUES ('ann', 7), ('bob', 7), ('cid', 8)", json!([["7"], ["8"]])),
        ("UPDATE members SET org = 9 WHERE user_id = 'bob'", json!([["7"], ["9"]])),
        ("UPDATE members SET role = 'admin' WHERE user_id = 'bob'", json!([["9"]])),
        ("UPDATE members SET r = '{ }', params = 'x' WHERE user_id = 'cid'", json!([["8"]])),
        ("UPDATE members SET role = role, r = '{ }' WHERE user_id IN ('bob', 'cid')", json!([["9"]])),
        ("UPDATE members SET role = role, org = org", json!([])),
        ("UPDATE members SET org = 10 WHERE user_id = 'nobody'", json!([])),
        ("BEGIN; DELETE FROM members; ROLLBACK", json!([])),
        (
            "BEGIN; UPDATE members SET org = 1; UPDATE members SET org = 2; COMMIT",
            json!([["1"], ["2"], ["7"], ["8"], ["9"]]),
        ),
        ("DELETE FROM members WHERE user_id = 'ann'", json!([["2"]])),
    ] {
        assert_eq!(ear.hears(&acme, sql).await?, expected, "{sql}");
    }
    assert_eq!(ear.hears(&admin, "COPY members (org) FROM PROGRAM 'echo 5'").await?, json!([["5"]]));
    assert_eq!(ear.hears(&admin, "TRUNCATE members").await?, json!([null]));
    Ok(())
}

#[tokio::test]
async fn params_are_the_columns_in_order_and_none_is_null_or_empty() -> TestResult {
    let both = "SELECT pgvpd_notify_on_change('members', 'orgs', '{user_id,org}')";
    let (_db, mut ear, acme) = members(both).await?;
    let rows = "INSERT INTO members (user_id, org) VALUES ('b', 2), ('a', 1), (NULL, 3), ('c', NULL), ('', 4)";
    assert_eq!(ear.hears(&acme, rows).await?, json!([["a", "1"], ["b", "2"]]));
    assert_eq!(ear.hears(&acme, "UPDATE members SET org = 5 WHERE user_id = 'c'").await?, json!([["c", "5"]]));
    Ok(())
}

#[tokio::test]
async fn any_text_is_said_as_it_is() -> TestResult {
    let (db, mut ear, acme) = members("SELECT pgvpd_notify_on_change('members', 'orgs', ARRAY['user_id'])").await?;
    acme.batch_execute("SET standard_conforming_strings = off; SET quote_all_identifiers = on; SET array_nulls = off")
        .await?;
    let forged = "CREATE TEMP TABLE pgvpd_new (user_id text); CREATE FUNCTION pg_temp.pg_notify(text, text) RETURNS void LANGUAGE sql AS ''";
    ear.admin.batch_execute(&format!("GRANT TEMP ON DATABASE {} TO app_user", db.name())).await?;
    acme.batch_execute(forged).await?;
    for text in
        ["O'Brien\"; --", r#"\"\\u0041\"#, "a\nb\tc\u{1}\u{7f}", "müller 東京 \u{1f600}", "{a,b}", "%s $1 $$", "null"]
    {
        let sql = format!(
            "INSERT INTO public.members (user_id) VALUES (E'{}')",
            text.replace('\\', "\\\\").replace('\'', "''")
        );
        assert_eq!(ear.hears(&acme, &sql).await?, json!([[text]]), "{text}");
    }
    // Two values and not an empty one, whatever the column's collation says.
    if count(&ear.admin, "pg_collation WHERE collprovider = 'i'").await? > 0 {
        let collation =
            "CREATE COLLATION any_case (provider = icu, locale = 'und-u-ka-shifted-ks-level2', deterministic = false);
            ALTER TABLE members ALTER user_id TYPE text COLLATE any_case";
        ear.admin.batch_execute(collation).await?;
        let sql = "INSERT INTO members (user_id) VALUES ('x'), ('X'), ('-')";
        assert_eq!(ear.hears(&acme, sql).await?, json!([["-"], ["X"], ["x"]]));
        assert_eq!(
            ear.hears(&acme, "UPDATE members SET user_id = 'X' WHERE user_id = 'x'").await?,
            json!([["X"], ["x"]])
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_is_too_long_or_too_much_is_said_of_all_results() -> TestResult {
    let (_db, mut ear, acme) = members("SELECT pgvpd_notify_on_change('members', 'orgs', 'user_id')").await?;
    let insert = |value: &str, rows: u32| {
        format!("INSERT INTO members (user_id) SELECT {value} FROM generate_series(1, {rows}) n")
    };
    let envelope = json!({"resolver": "orgs", "params": [""]}).to_string().len();
    let longest = "x".repeat(7999 - envelope);
    assert_eq!(ear.hears(&acme, &insert(&format!("'{longest}'"), 1)).await?, json!([[longest]]));
    assert_eq!(ear.hears(&acme, &insert(&format!("'{longest}x'"), 1)).await?, json!([null]));
    assert_eq!(ear.hears(&acme, &insert(&format!("repeat('é', {})", longest.len() - 100), 1)).await?, json!([null]));
    assert_eq!(ear.hears(&acme, &insert("'one'", 5000)).await?, json!([["one"]]));
    assert_eq!(ear.hears(&acme, &insert("n::text", 1000)).await?.as_array().unwrap().len(), 1000);
    assert_eq!(ear.hears(&acme, &insert("n::text", 5000)).await?, json!([null]));
    // As after a change of the schema.
    ear.admin.batch_execute("ALTER TABLE members RENAME user_id TO member").await?;
    assert_eq!(ear.hears(&acme, "INSERT INTO members (member) VALUES ('a')").await?, json!([null]));
    Ok(())
}

#[tokio::test]
async fn partitions_and_children_say_what_changes_in_them() -> TestResult {
    let (db, admin) = database_with(&[SETUP, HELPERS]).await;
    admin
        .batch_execute(
            "CREATE TABLE parent (gone int, org text, region text) PARTITION BY LIST (region);
             ALTER TABLE parent DROP gone;
             CREATE TABLE \"Eu\" (region text, dropped int, org text); ALTER TABLE \"Eu\" DROP dropped;
             ALTER TABLE parent ATTACH PARTITION \"Eu\" FOR VALUES IN ('eu');
             CREATE TABLE rest PARTITION OF parent DEFAULT PARTITION BY LIST (org);
             CREATE TABLE rest_all PARTITION OF rest DEFAULT;
             CREATE TABLE base (org text); CREATE TABLE child (extra int) INHERITS (base);
             SELECT pgvpd_notify_on_change('parent', 'orgs', 'org'), pgvpd_notify_on_change('base', 'orgs', 'org')",
        )
        .await?;
    let mut ear = Ear::open(&db).await?;
    for (sql, expected) in [
        ("INSERT INTO parent VALUES ('1', 'eu'), ('2', 'us')", json!([["1"], ["2"]])),
        ("INSERT INTO \"Eu\" VALUES ('eu', '3'); INSERT INTO rest_all VALUES ('4', 'us')", json!([["3"], ["4"]])),
        ("UPDATE parent SET region = 'eu' WHERE org = '2'", json!([["2"]])),
        ("UPDATE parent SET region = 'us', org = '5' WHERE org = '1'", json!([["1"], ["5"]])),
        ("UPDATE \"Eu\" SET org = '6' WHERE org = '3'", json!([["3"], ["6"]])),
        ("DELETE FROM parent", json!([["2"], ["4"], ["5"], ["6"]])),
        ("TRUNCATE rest_all", json!([null])),
        ("TRUNCATE parent", json!([null])),
        ("INSERT INTO child VALUES ('7', 1); UPDATE base SET org = '8'; DELETE FROM child", json!([["7"], ["8"]])),
    ] {
        assert_eq!(ear.hears(&admin, sql).await?, expected, "{sql}");
    }
    Ok(())
}
