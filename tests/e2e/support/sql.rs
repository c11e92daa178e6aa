//! What the tests of `sql/` ask a database of their own.

use tokio_postgres::{Client, Error, error::SqlState};

use crate::{APP_PASSWORD, TestDatabase};

/// A fresh database in which these files of `sql/` have run, and a superuser's connection to it.
pub async fn database_with(files: &[&str]) -> (TestDatabase, Client) {
    let db = TestDatabase::create().await;
    let admin = db.admin().await;
    for file in files {
        admin.batch_execute(file).await.expect("sql installs");
    }
    (db, admin)
}

/// A session of `app_user` with `app.current_tenant_id` set to `tenant`.
pub async fn session(db: &TestDatabase, tenant: &str) -> Result<Client, Error> {
    let client = db.connect_as("app_user", APP_PASSWORD).await;
    set_context(&client, "app.current_tenant_id", tenant).await?;
    Ok(client)
}

/// Sets a context variable for the session.
pub async fn set_context(client: &Client, variable: &str, value: &str) -> Result<(), Error> {
    client.execute("SELECT set_config($1, $2, false)", &[&variable, &value]).await?;
    Ok(())
}

/// How many rows there are of what stands behind FROM.
pub async fn count(client: &Client, from: &str) -> Result<i64, Error> {
    let row = client.query_one(&format!("SELECT count(*) FROM {from}"), &[]).await?;
    row.try_get(0)
}

/// The SQLSTATE with which a statement fails; `None` when it succeeds.
pub async fn refusal(client: &Client, sql: &str) -> Option<SqlState> {
    let error = client.batch_execute(sql).await.err()?;
    error.code().cloned()
}

/// What EXPLAIN prints, without costs.
pub async fn plan(client: &Client, query: &str) -> Result<String, Error> {
    let rows = client.query(&format!("EXPLAIN (COSTS OFF) {query}"), &[]).await?;
    let lines: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
    Ok(lines?.join("\n"))
}

/// Everything that the files of `sql/` and their functions leave in the catalogs, as text.
pub async fn catalog(client: &Client) -> Result<String, Error> {
    let row = client
        .query_one(
            "SELECT concat_ws(E'\\n',
               (SELECT string_agg(concat_ws(' ', p.oid::regprocedure, proacl, proconfig, prosrc), E'\\n' ORDER BY p.oid)
                FROM pg_proc p WHERE pronamespace IN ('public'::regnamespace, 'pgvpd'::regnamespace, to_regnamespace('pgvpd_private'))),
               (SELECT string_agg(concat_ws(' ', oid, nspacl, nspowner), E'\\n' ORDER BY oid) FROM pg_namespace),
               (SELECT string_agg(p::text, E'\\n' ORDER BY tablename, policyname) FROM pg_policies p),
               (SELECT string_agg(concat_ws(' ', oid, relacl, relrowsecurity, relforcerowsecurity), E'\\n' ORDER BY oid)
                FROM pg_class WHERE relnamespace IN ('public'::regnamespace, to_regnamespace('pgvpd'), to_regnamespace('pgvpd_private'))),
               (SELECT string_agg(pg_get_expr(adbin, adrelid), E'\\n' ORDER BY adrelid, adnum) FROM pg_attrdef))",
            &[],
        )
        .await?;
    row.try_get(0)
}
