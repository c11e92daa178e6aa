//! Does `pgvpd_protect_acl` refuse paths that it cannot mean, with a reason, and before it has done anything?

use pgvpd_core::sql::{HELPERS, SETUP};
use tokio_postgres::error::SqlState;

use crate::support::{TestResult, count, database_with, refusal};

/// A call of `pgvpd_protect_acl('t', …)` with one path, its members given as SQL.
pub(crate) fn one_path(members: &str) -> String {
    format!("SELECT pgvpd_protect_acl('t', jsonb_build_array(jsonb_build_object({members})))")
}

#[tokio::test]
async fn a_when_that_is_not_one_condition_is_refused_and_not_run() -> TestResult {
    let (_db, admin) = database_with(&[SETUP, HELPERS]).await;
    admin.batch_execute("CREATE TABLE t (c text, n int); CREATE TABLE victim ()").await?;
    for when in [
        "true) OR (true",
        "true)) OR ((true",
        "true) OR true --",
        "true); DROP TABLE victim; SELECT (true",
        "true; DROP TABLE victim",
        "true;",
        "true)) WITH CHECK ((true",
        "",
        " ",
        "-- true",
        "true /*",
        "c = 'x",
        "c = $q$x",
        "\"c",
        "true ORDER BY 1",
        "true UNION SELECT",
        "true FOR UPDATE",
        "SELECT true",
        "true, true",
        "true AS x",
        "n",
        "nope",
        "count(*) > 0",
        "$1",
        "generate_series(1, 2) = 1",
    ] {
        let call = one_path(&format!("'column', 'c', 'var', 'app.v', 'type', 'text', 'when', {}", quoted(when)));
        let error = admin.batch_execute(&call).await.expect_err(when);
        let error = error.as_db_error().unwrap();
        assert_eq!(*error.code(), SqlState::INVALID_PARAMETER_VALUE, "{when}");
        assert!(error.message().starts_with("path 1: \"when\""), "{error}");
        assert!(error.hint().is_some(), "{when}");
    }
    assert_eq!(count(&admin, "victim").await?, 0);
    assert_eq!(count(&admin, "pg_policy").await?, 0);
    Ok(())
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[tokio::test]
async fn protect_acl_refuses_what_it_cannot_mean_and_says_why() -> TestResult {
    let (_db, admin) = database_with(&[SETUP, HELPERS]).await;
    admin
        .batch_execute("CREATE TABLE t (c text, u uuid, tags text[], doc jsonb); CREATE VIEW v AS SELECT * FROM t")
        .await?;
    let good = r#"'[{"column": "c", "var": "app.v", "type": "text"}]'"#;
    for (arguments, code) in [
        (format!("'v', {good}"), SqlState::WRONG_OBJECT_TYPE),
        (format!("NULL, {good}"), SqlState::NULL_VALUE_NOT_ALLOWED),
        ("'t', NULL".to_owned(), SqlState::NULL_VALUE_NOT_ALLOWED),
    ] {
        assert_eq!(refusal(&admin, &format!("SELECT pgvpd_protect_acl({arguments})")).await, Some(code), "{arguments}");
    }
    for (paths, code) in [
        (r"[]", SqlState::INVALID_PARAMETER_VALUE),
        (r#"{"column": "c", "var": "app.v", "type": "text"}"#, SqlState::INVALID_PARAMETER_VALUE),
        (r#""c""#, SqlState::INVALID_PARAMETER_VALUE),
        (r"null", SqlState::INVALID_PARAMETER_VALUE),
        (r"[null]", SqlState::INVALID_PARAMETER_VALUE),
        (r#"[["c"]]"#, SqlState::INVALID_PARAMETER_VALUE),
        (r"[{}]", SqlState::INVALID_PARAMETER_VALUE),
        (r#"[{"column": "c", "var": "app.v"}]"#, SqlState::INVALID_PARAMETER_VALUE),
        (r#"[{"column": "c", "type": "text"}]"#, SqlState::INVALID_PARAMETER_VALUE),
        (r#"[{"var": "app.v", "type": "text"}]"#, SqlState::INVALID_PARAMETER_VALUE),
        (r#"[{"column": "c", "var": "app.v", "type": "text", "When": "true"}]"#, SqlState::INVALID_PARAMETER_VALUE),
        (r#"[{"column": "c", "var": "app.v", "type": "text", "when": null}]"#, SqlState::INVALID_PARAMETER_VALUE),
        (r#"[{"column": "c", "var": "app.v", "type": "text", "when": true}]"#, SqlState::INVALID_PARAMETER_VALUE),
        (r#"[{"column": "c", "var": null, "type": "text"}]"#, SqlState::INVALID_PARAMETER_VALUE),
        (r#"[{"column": "c", "var": "v", "type": "text"}]"#, SqlState::INVALID_PARAMETER_VALUE),
        (r#"[{"column": "c", "var": "app.v'", "type": "text"}]"#, SqlState::INVALID_PARAMETER_VALUE),
        (r#"[{"column": "c", "var": "pgvpd.context", "type": "text"}]"#, SqlState::INVALID_PARAMETER_VALUE),
        (r#"[{"column": "c", "var": "app.v", "type": "integer"}]"#, SqlState::INVALID_PARAMETER_VALUE),
        (r#"[{"column": "nope", "var": "app.v", "type": "text"}]"#, SqlState::UNDEFINED_COLUMN),
        (r#"[{"column": "ctid", "var": "app.v", "type": "text"}]"#, SqlState::UNDEFINED_COLUMN),
        (r#"[{"column": "c", "var": "app.v", "type": "uuid"}]"#, SqlState::DATATYPE_MISMATCH),
        (r#"[{"column": "c", "var": "app.v", "type": "uuid_array"}]"#, SqlState::DATATYPE_MISMATCH),
        (r#"[{"column": "tags", "var": "app.v", "type": "text_array"}]"#, SqlState::DATATYPE_MISMATCH),
        (r#"[{"column": "doc", "var": "app.v", "type": "text"}]"#, SqlState::DATATYPE_MISMATCH),
        // The second path is as wrong as the first would be.
        (
            r#"[{"column": "c", "var": "app.v", "type": "text"}, {"column": "u", "var": "app.v", "type": "uuids"}]"#,
            SqlState::INVALID_PARAMETER_VALUE,
        ),
    ] {
        let call = format!("SELECT pgvpd_protect_acl('t', {})", quoted(paths));
        let error = admin.batch_execute(&call).await.expect_err(paths);
        let error = error.as_db_error().unwrap();
        assert_eq!(*error.code(), code, "{paths}: {error}");
        assert!(error.hint().is_some(), "{paths}");
    }
    assert_eq!(count(&admin, "pg_policy").await?, 0);
    Ok(())
}
