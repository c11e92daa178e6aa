//! Do the objects that show or use a secret look at the caller themselves, or do they rely on access lists alone?

use pgvpd_core::sql::{AUDIT, HELPERS, SETUP};
use tokio_postgres::{Client, Error, error::SqlState};

use crate::audit::audit_of;
use crate::support::{APP_PASSWORD, Cluster, TestDatabase, TestResult, count, database_with, refusal};

/// Rights that a hosted platform gives its roles on whatever is created.
const GENEROUS: &str = "
    ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO plain_user WITH GRANT OPTION;
    ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO plain_user;
    ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO plain_user;
    ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO plain_user, PUBLIC;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT EXECUTE ON FUNCTIONS TO plain_user;";

/// All that is granted on pgvpd's objects, as `grantee object right`, but for what their owners have.
async fn grants(admin: &Client) -> Result<Vec<String>, Error> {
    let sql = "SELECT concat_ws(' ', CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee) END, name, a.privilege_type)
        FROM (
            SELECT nspname::text AS name, nspowner AS owner, coalesce(nspacl, acldefault('n', nspowner)) AS acl FROM pg_namespace
            WHERE nspname IN ('pgvpd', 'pgvpd_private')
            UNION ALL SELECT oid::regclass::text, relowner, relacl FROM pg_class WHERE relnamespace::regnamespace::text LIKE 'pgvpd%'
            UNION ALL SELECT oid::regprocedure::text, proowner, coalesce(proacl, acldefault('f', proowner)) FROM pg_proc
            WHERE pronamespace::regnamespace::text LIKE 'pgvpd%' OR proname LIKE 'pgvpd%' OR proname = 'current_tenant_id'
        ) o, aclexplode(acl) a WHERE a.grantee <> owner ORDER BY 1";
    admin.query(sql, &[]).await?.iter().map(|row| row.try_get(0)).collect()
}

#[tokio::test]
async fn default_privileges_give_nobody_a_right_on_our_objects() -> TestResult {
    let (_db, plain) = database_with(&[SETUP, HELPERS, AUDIT]).await;
    let meant = grants(&plain).await?;
    assert!(meant.iter().all(|grant| grant.starts_with("PUBLIC ") || grant.starts_with("pgvpd_auth ")), "{meant:?}");

    let db = TestDatabase::create().await;
    let admin = db.admin().await;
    admin.batch_execute(GENEROUS).await?;
    for file in [SETUP, HELPERS, AUDIT] {
        admin.batch_execute(file).await?;
    }
    assert_eq!(grants(&admin).await?, meant, "installed under them");

    admin
        .batch_execute(
            "GRANT ALL ON ALL TABLES IN SCHEMA pgvpd, pgvpd_private TO plain_user, PUBLIC;
             GRANT ALL ON ALL SEQUENCES IN SCHEMA pgvpd_private TO plain_user;
             GRANT SELECT (ipad) ON pgvpd_private.signing_key TO app_user;
             GRANT ALL ON ALL FUNCTIONS IN SCHEMA pgvpd, pgvpd_private TO plain_user;
             GRANT EXECUTE ON FUNCTION public.pgvpd_get_auth(text) TO plain_user WITH GRANT OPTION;
             GRANT ALL ON SCHEMA pgvpd, pgvpd_private TO plain_user",
        )
        .await?;
    assert_ne!(grants(&admin).await?, meant);
    for file in [SETUP, HELPERS, AUDIT] {
        admin.batch_execute(file).await?;
    }
    assert_eq!(grants(&admin).await?, meant, "and when they run again");
    let columns =
        count(&admin, "pg_attribute WHERE attacl IS NOT NULL AND attrelid = 'pgvpd_private.signing_key'::regclass");
    assert_eq!(columns.await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_tenant_can_use_what_default_privileges_take_away() -> TestResult {
    let db = TestDatabase::create().await;
    let admin = db.admin().await;
    admin.batch_execute("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC").await?;
    for file in [SETUP, HELPERS] {
        admin.batch_execute(file).await?;
    }
    let tenant = db.connect_as("app_user", APP_PASSWORD).await;
    tenant
        .batch_execute(
            "SELECT current_tenant_id(), pgvpd_context('app.x'), pgvpd_context_uuid_array('app.x'), pgvpd.to_uuid('x'), pgvpd.attach();
             SELECT * FROM pgvpd_status()",
        )
        .await?;
    Ok(())
}

#[tokio::test]
async fn the_audit_reports_rights_on_our_objects_of_any_role() -> TestResult {
    let (_db, admin) = database_with(&[SETUP, HELPERS, AUDIT]).await;
    let found = async || -> Result<Vec<String>, Error> {
        let found = audit_of(&admin, &["app_user"], &["tenant_id"]).await?;
        Ok(found.into_iter().filter(|f| f.id == "A29").map(|f| f.object).collect())
    };
    assert_eq!(found().await?, Vec::<String>::new());
    admin
        .batch_execute(
            "GRANT EXECUTE ON FUNCTION public.pgvpd_get_auth(text) TO plain_user;
             GRANT SELECT ON pgvpd_private.signing_key TO plain_user; GRANT SELECT (ipad) ON pgvpd.signing_key TO plain_user;
             GRANT UPDATE ON SEQUENCE pgvpd_private.session_nonce TO plain_user;
             GRANT USAGE ON SCHEMA pgvpd_private TO plain_user; GRANT CREATE ON SCHEMA pgvpd TO plain_user",
        )
        .await?;
    let expected = [
        "pgvpd",
        "pgvpd.signing_key",
        "pgvpd_private",
        "pgvpd_private.session_nonce",
        "pgvpd_private.signing_key",
        "public.pgvpd_get_auth(text)",
    ];
    assert_eq!(found().await?, expected);
    for finding in audit_of(&admin, &["app_user"], &["tenant_id"]).await?.into_iter().filter(|f| f.id == "A29") {
        assert_eq!(finding.severity, "critical");
        admin.batch_execute(&finding.fix).await?;
    }
    assert_eq!(found().await?, Vec::<String>::new(), "its fixes work");
    Ok(())
}

/// A server of the test's own with a key, whose access lists on pgvpd's objects are gone, as `pg_dump -x` leaves them; and a
/// superuser's connection. With `generous`, they give `plain_user` everything instead, as default privileges do then.
async fn without_rights(generous: bool) -> Result<(Cluster, Client), Error> {
    let own = Cluster::start().await;
    let admin = own.admin().await;
    admin
        .batch_execute(
            "SELECT pgvpd.install_key('1', decode(repeat('ab', 32), 'hex'));
             UPDATE pg_proc SET proacl = NULL WHERE pronamespace::regnamespace::text LIKE 'pgvpd%' OR proname LIKE 'pgvpd%';
             UPDATE pg_class SET relacl = NULL WHERE relnamespace::regnamespace::text LIKE 'pgvpd%';
             UPDATE pg_namespace SET nspacl = NULL WHERE nspname LIKE 'pgvpd%'",
        )
        .await?;
    if generous {
        admin
            .batch_execute(
                "GRANT ALL ON SCHEMA pgvpd, pgvpd_private TO plain_user;
                 GRANT ALL ON ALL TABLES IN SCHEMA pgvpd, pgvpd_private TO plain_user;
                 GRANT ALL ON ALL SEQUENCES IN SCHEMA pgvpd, pgvpd_private TO plain_user;
                 GRANT ALL ON ALL FUNCTIONS IN SCHEMA pgvpd, pgvpd_private, public TO plain_user",
            )
            .await?;
    }
    Ok((own, admin))
}

async fn connect(own: &Cluster, user: &str, password: &str) -> Client {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(own.postgres.port()).user(user).password(password).dbname("shop");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.expect("login");
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn secrets_stay_secret_where_access_lists_are_lost() -> TestResult {
    for generous in [false, true] {
        let (own, admin) = without_rights(generous).await?;
        let stranger = connect(&own, "plain_user", APP_PASSWORD).await;
        for statement in [
            "SELECT * FROM public.pgvpd_get_auth('app_user')",
            "SELECT pgvpd.attach()",
            "SELECT pgvpd.install_key('2', decode(repeat('00', 32), 'hex'))",
            "INSERT INTO pgvpd.signing_key VALUES ('2', decode(repeat('00', 64), 'hex'), decode(repeat('00', 64), 'hex'))",
            "INSERT INTO pgvpd_private.signing_key VALUES ('2', decode(repeat('00', 64), 'hex'), decode(repeat('00', 64), 'hex'))",
            "INSERT INTO pgvpd_private.tenant_role VALUES ('plain_user', 'globex')",
            "TRUNCATE pgvpd_private.signing_key",
        ] {
            let refused = refusal(&stranger, statement).await.map(|state| state.code().to_owned());
            let is_refused = matches!(refused.as_deref(), Some("42501" | "44000"));
            assert!(is_refused, "{statement}, generous: {generous}: {refused:?}");
        }
        for secret in ["pgvpd.signing_key", "pgvpd_private.signing_key", "pgvpd.tenant_role"] {
            let seen = count(&stranger, secret).await.unwrap_or(0);
            assert_eq!(seen, 0, "{secret}, generous: {generous}");
        }
        // With rights they find no row to change; without, they are refused.
        for statement in [
            "DELETE FROM pgvpd_private.signing_key",
            "DELETE FROM pgvpd.signing_key",
            "UPDATE pgvpd_private.signing_key SET not_after = '-infinity'",
            "SELECT pgvpd.retire_key('1')",
        ] {
            let _ = stranger.batch_execute(statement).await;
        }
        assert_eq!(count(&admin, "pgvpd.signing_key WHERE not_after = 'infinity'").await?, 1, "the key is as it was");
        stranger.batch_execute("SET app.current_tenant_id = 'globex'").await?;
        let row = stranger.query_one("SELECT current_tenant_id(), (SELECT count(*) FROM notes)", &[]).await?;
        assert_eq!((row.get::<_, Option<String>>(0), row.get::<_, i64>(1)), (None, 0), "generous: {generous}");

        let asker = connect(&own, "pgvpd_auth", "asker").await;
        assert_eq!(count(&asker, "public.pgvpd_get_auth('app_user')").await?, 1, "generous: {generous}");
        admin.batch_execute(SETUP).await?;
        stranger.batch_execute("SELECT pgvpd.attach()").await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_auth_user_of_another_name_is_a_member_of_pgvpd_auth() -> TestResult {
    let own = Cluster::start().await;
    let admin = own.admin().await;
    admin
        .batch_execute(
            "CREATE ROLE asks LOGIN PASSWORD 'secret'; GRANT EXECUTE ON FUNCTION pgvpd_get_auth TO asks, plain_user",
        )
        .await?;
    let asks = connect(&own, "asks", APP_PASSWORD).await;
    let refused = refusal(&asks, "SELECT * FROM pgvpd_get_auth('app_user')").await;
    assert_eq!(refused, Some(SqlState::INSUFFICIENT_PRIVILEGE), "the right to execute it is not enough");

    // As an earlier release had it: with that right alone. An upgrade locks no proxy out, nor lets anybody in by default privileges.
    admin
        .batch_execute(
            "ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO plain_user;
             CREATE OR REPLACE FUNCTION public.pgvpd_get_auth(role_name text) RETURNS TABLE (role text, verifier text)
             LANGUAGE sql STABLE SECURITY DEFINER AS $$ SELECT rolname::text, rolpassword FROM pg_authid WHERE rolname = role_name $$",
        )
        .await?;
    admin.batch_execute(SETUP).await?;
    assert_eq!(count(&asks, "pgvpd_get_auth('app_user')").await?, 1);
    let plain = connect(&own, "plain_user", APP_PASSWORD).await;
    let refused = refusal(&plain, "SELECT * FROM pgvpd_get_auth('app_user')").await;
    assert_eq!(refused, Some(SqlState::INSUFFICIENT_PRIVILEGE));
    Ok(())
}
