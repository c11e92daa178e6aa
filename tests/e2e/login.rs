//! What a tenant's login sees, and which logins there are none.

use crate::support::{PgError, TestResult, passthrough, proxy, psql};

async fn tenants_seen(client: &tokio_postgres::Client) -> Vec<String> {
    let rows = client.query("SELECT DISTINCT tenant_id FROM notes ORDER BY 1", &[]).await.expect("query");
    rows.iter().map(|row| row.get(0)).collect()
}

/// How a login is refused.
async fn refusal(options: &[(&str, &str)], user: &str) -> PgError {
    let proxy = proxy(options).await;
    let mut client = proxy.connect().await;
    client.start(user, &[]).await;
    client.refusal().await
}

#[tokio::test]
async fn two_tenants_each_see_their_own_rows_and_no_others() -> TestResult {
    let proxy = proxy(&[]).await;
    for (user, tenant, rows) in [("app_user.acme", "acme", 3_i64), ("app_user.globex", "globex", 2)] {
        let client = proxy.log_in(user).await;
        assert_eq!(tenants_seen(&client).await, [tenant]);
        let count: i64 = client.query_one("SELECT count(*) FROM notes WHERE tenant_id <> ''", &[]).await?.get(0);
        assert_eq!(count, rows);
        let who = client.query_one("SELECT current_user::text, session_user::text, current_tenant_id()", &[]).await?;
        assert_eq!((who.get(0), who.get(1), who.get(2)), ("app_user", "app_user", tenant));
    }
    Ok(())
}

#[tokio::test]
async fn psql_logs_in_as_a_tenant_and_sees_that_tenants_rows() {
    let proxy = proxy(&[]).await;
    for sslmode in ["disable", "prefer"] {
        let target = format!("host=127.0.0.1 port={} user=app_user.acme dbname=shop sslmode={sslmode}", proxy.port());
        let psql = psql(&[&target], "SELECT tenant_id, body FROM notes ORDER BY id;\n").await;
        assert_eq!((psql.code, psql.out.as_str()), (0, "acme|a1\nacme|a2\nacme|a3"), "{}", psql.err);
    }
}

#[tokio::test]
async fn a_write_to_another_tenants_row_fails() -> TestResult {
    let proxy = proxy(&[]).await;
    let client = proxy.log_in("app_user.acme").await;
    assert_eq!(client.execute("UPDATE notes SET body = 'x' WHERE tenant_id = 'globex'", &[]).await?, 0);
    assert_eq!(client.execute("DELETE FROM notes WHERE tenant_id = 'globex'", &[]).await?, 0);
    let error = client.execute("INSERT INTO notes (tenant_id, body) VALUES ('globex', 'x')", &[]).await.unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("42501"));
    Ok(())
}

#[tokio::test]
async fn an_application_that_never_heard_of_tenants_writes_its_own_rows() -> TestResult {
    let proxy = proxy(&[]).await;
    let client = proxy.log_in("app_user.writer").await;
    client.execute("INSERT INTO notes (body) VALUES ($1)", &[&"mine"]).await?;
    assert_eq!(tenants_seen(&client).await, ["writer"]);
    let other = proxy.log_in("app_user.reader").await;
    assert_eq!(tenants_seen(&other).await, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn names_without_role_or_tenant_are_refused() {
    for user in ["app_user", "app_user.", ".acme", "."] {
        let error = refusal(&[], user).await;
        error.assert_is("28000");
        assert!(error.message.contains(user) && !error.hint.is_empty(), "{error:?}");
    }
}

#[tokio::test]
async fn denied_and_unlisted_tenants_read_the_same() {
    let denied = refusal(&[("tenant_deny", "acme, umbrella")], "app_user.acme").await;
    let unlisted = refusal(&[("tenant_allow", "globex")], "app_user.acme").await;
    denied.assert_is("28000");
    assert_eq!(denied, unlisted);
    let proxy = proxy(&[("tenant_allow", "globex")]).await;
    assert_eq!(tenants_seen(&proxy.log_in("app_user.globex").await).await, ["globex"]);
}

#[tokio::test]
async fn only_login_roles_may_be_named() {
    refusal(&[("login_roles", "web")], "app_user.acme").await.assert_is("28000");
    let proxy = proxy(&[("login_roles", "web, app_user")]).await;
    proxy.assert_serves().await;
}

#[tokio::test]
async fn only_the_canonical_spelling_of_a_tenant_is_let_in() {
    for (format, user) in [
        ("integer", "app_user.07"),
        ("integer", "app_user. 7"),
        ("uuid", "app_user.{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"),
    ] {
        refusal(&[("tenant_format", format)], user).await.assert_is("28000");
    }
    let proxy = proxy(&[("tenant_format", "integer")]).await;
    proxy.log_in("app_user.7").await;
}

#[tokio::test]
async fn superusers_are_refused_as_tenants_and_let_through_as_themselves() -> TestResult {
    let proxy = proxy(&[("superuser_bypass", "root_user")]).await;
    let mut client = proxy.connect().await;
    client.start("root_user.acme", &[]).await;
    client.authenticate().await;
    let error = client.refusal().await;
    error.assert_is("28000");
    assert!(error.message.contains("superuser"), "{error:?}");

    let all: i64 =
        proxy.log_in("root_user").await.query_one("SELECT count(DISTINCT tenant_id) FROM notes", &[]).await?.get(0);
    assert!(all > 1, "a bypass user sees every tenant");
    // postgres is not in this list, so that its name is one without a tenant.
    let mut client = proxy.connect().await;
    client.start("postgres", &[]).await;
    client.refusal().await.assert_is("28000");
    Ok(())
}

#[tokio::test]
async fn a_bypass_user_from_elsewhere_is_refused() {
    let error = refusal(&[("superuser_bypass", "root_user"), ("bypass_from", "192.0.2.0/24, unix")], "root_user").await;
    error.assert_is("28000");
    assert!(error.hint.contains("bypass_from"), "{error:?}");
}

#[tokio::test]
async fn a_wrong_password_is_answered_by_postgresql_itself() {
    let proxy = passthrough(&[]).await;
    let mut config = proxy.config("app_user.acme");
    let error = config.password("wrong").connect(tokio_postgres::NoTls).await.map(drop).unwrap_err();
    let error = error.as_db_error().expect("the server's error");
    assert_eq!(
        (error.code().code(), error.message()),
        ("28P01", "password authentication failed for user \"app_user\"")
    );
}

#[tokio::test]
async fn without_a_database_the_one_named_like_the_role_is_meant() {
    let proxy = proxy(&[]).await;
    let target = format!("host=127.0.0.1 port={} user=app_user.acme sslmode=disable", proxy.port());
    let psql = psql(&[&target, "-c", "SELECT 1"], "").await;
    assert!(psql.err.contains("database \"app_user\" does not exist"), "{}", psql.err);
}

#[tokio::test]
async fn prepared_and_pipelined_queries_work() -> TestResult {
    let proxy = proxy(&[]).await;
    let client = proxy.log_in("app_user.acme").await;
    let statement = client.prepare("SELECT $1::int + count(*) FROM notes").await?;
    let numbers: Vec<i32> = (0..100).collect();
    let one = async |n: i32| client.query_one(&statement, &[&n]).await.map(|row| row.get::<_, i64>(0) - i64::from(n));
    // tokio-postgres pipelines what is awaited together.
    let rows = futures_util::future::try_join_all(numbers.into_iter().map(one)).await?;
    assert_eq!(rows, [3; 100]);
    Ok(())
}
