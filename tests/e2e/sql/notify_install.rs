//! Does `pgvpd_notify_on_change` install its triggers once, take them back, and refuse what it cannot mean?

use pgvpd_core::sql::{HELPERS, SETUP};
use serde_json::json;
use tokio_postgres::error::SqlState;

use crate::notify::{MEMBERS, members};
use crate::support::{TestResult, cluster, count, database_with, refusal};

#[tokio::test]
async fn a_second_call_replaces_the_first_and_off_takes_it_back() -> TestResult {
    let (db, mut ear, acme) = members("SELECT pgvpd_notify_on_change('members', 'orgs', 'org')").await?;
    let admin = db.admin().await;
    let (org, user) =
        ("SELECT pgvpd_notify_on_change('members', 'orgs', 'org')", "pg_trigger WHERE tgname ~ '^pgvpd_notify_'");
    let other = "o.-".repeat(21);
    admin.batch_execute(&format!("{org}; {org}; SELECT pgvpd_notify_on_change('members', '{other}', 'org')")).await?;
    assert_eq!(count(&admin, user).await?, 8);
    admin.batch_execute("SELECT pgvpd_notify_on_change('members', 'orgs', 'user_id')").await?;
    admin.batch_execute(&format!("SELECT pgvpd_notify_off('members', '{other}')")).await?;
    assert_eq!(count(&admin, user).await?, 4);
    let insert = "INSERT INTO members (user_id, org) VALUES ('ann', 7)";
    assert_eq!(ear.hears(&acme, insert).await?, json!([["ann"]]));
    admin.batch_execute("SELECT pgvpd_notify_off('members', 'orgs'), pgvpd_notify_off('members', 'orgs')").await?;
    assert_eq!(count(&admin, user).await?, 0);
    assert_eq!(ear.hears(&acme, insert).await?, json!([]));
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_notified_is_refused_with_a_reason() -> TestResult {
    let (_db, admin) = database_with(&[SETUP, HELPERS, MEMBERS]).await;
    admin
        .batch_execute(
            "CREATE VIEW v AS SELECT * FROM members; CREATE TEMP TABLE t (org int); CREATE TABLE p (org int) PARTITION BY LIST (org);
             CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE f (org int) SERVER s;
             CREATE FOREIGN TABLE part PARTITION OF p DEFAULT SERVER s; GRANT ALL ON members TO app_user",
        )
        .await?;
    if cluster().await.is_at_least(18) {
        admin.batch_execute("ALTER TABLE members ADD nope text GENERATED ALWAYS AS (org::text) VIRTUAL").await?;
    }
    for (arguments, code, part) in [
        (
            "'members', 'orgs', ARRAY['org', 'nope', 'No']",
            SqlState::UNDEFINED_COLUMN,
            "members has no column nope, \"No\"",
        ),
        ("'members', 'orgs', 'ctid'", SqlState::UNDEFINED_COLUMN, "ctid"),
        ("'members', 'orgs', '{}'", SqlState::NULL_VALUE_NOT_ALLOWED, "orgs"),
        ("'members', 'orgs', NULL::text", SqlState::NULL_VALUE_NOT_ALLOWED, "orgs"),
        ("'members', NULL, 'org'", SqlState::NULL_VALUE_NOT_ALLOWED, "resolver"),
        ("'members', 'o rgs', 'org'", SqlState::INVALID_PARAMETER_VALUE, "o rgs"),
        ("'v', 'orgs', 'org'", SqlState::WRONG_OBJECT_TYPE, "v is not a table"),
        ("'t', 'orgs', 'org'", SqlState::WRONG_OBJECT_TYPE, "t is not a table"),
        ("'f', 'orgs', 'org'", SqlState::WRONG_OBJECT_TYPE, "f is not a table"),
        ("'p', 'orgs', 'org'", SqlState::WRONG_OBJECT_TYPE, "part is not a table"),
    ] {
        let error =
            admin.batch_execute(&format!("SELECT pgvpd_notify_on_change({arguments})")).await.expect_err(arguments);
        let error = error.as_db_error().unwrap();
        assert_eq!(*error.code(), code, "{arguments}: {error}");
        assert!(error.message().contains(part), "{arguments}: {error}");
    }
    // Neither the right to call it nor all rights on the table make an owner.
    let call = "SET ROLE app_user; SELECT pgvpd_notify_on_change('members', 'orgs', ARRAY['org'])";
    for rights in ["", "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public, pgvpd TO app_user"] {
        admin.batch_execute(rights).await?;
        assert_eq!(refusal(&admin, call).await, Some(SqlState::INSUFFICIENT_PRIVILEGE));
        admin.batch_execute("RESET ROLE").await?;
    }
    assert_eq!(count(&admin, "pg_trigger WHERE tgname ~ '^pgvpd_notify_'").await?, 0);
    Ok(())
}
