//! Whose verifier does `pgvpd_get_auth` of `sql/setup.sql` give, and to whom?

use pgvpd_core::sql::SETUP;
use tokio_postgres::{Client, Error, error::SqlState};

use crate::support::{APP_PASSWORD, TestDatabase, TestResult, catalog, cluster, count, database_with, psql, refusal};

/// The verifier that the function gives; `None` when it gives no row.
async fn verifier_of(client: &Client, role: &str) -> Result<Option<String>, Error> {
    let rows = client.query("SELECT role, verifier FROM public.pgvpd_get_auth($1)", &[&role]).await?;
    assert!(rows.len() <= 1);
    let Some(row) = rows.first() else { return Ok(None) };
    assert_eq!(row.try_get::<_, &str>(0)?, role);
    row.try_get(1)
}

/// What stands in pg_authid.
async fn stored_verifier(admin: &Client, role: &str) -> Result<Option<String>, Error> {
    admin.query_one("SELECT rolpassword FROM pg_authid WHERE rolname = $1", &[&role]).await?.try_get(0)
}

/// The start of a transaction that ends in nothing: roles belong to the whole cluster, which other tests share.
async fn begin(admin: &Client) -> TestResult {
    admin.batch_execute("BEGIN; CREATE ROLE subject LOGIN PASSWORD 'secret'").await?;
    assert_eq!(verifier_of(admin, "subject").await?, stored_verifier(admin, "subject").await?);
    Ok(())
}

/// A role that owns the database and has CREATEROLE.
struct Owner {
    name: String,
    client: Client,
}

impl Owner {
    async fn of(db: &TestDatabase, admin: &Client) -> Result<Self, Error> {
        let name = format!("installer_of_{}", db.name());
        admin
            .batch_execute(&format!(
                "CREATE ROLE {name} LOGIN CREATEROLE PASSWORD '{APP_PASSWORD}'; ALTER DATABASE {} OWNER TO {name};
                 -- As setup.sql tells an owner on PostgreSQL 14, where schema public is a superuser's.
                 GRANT CREATE ON SCHEMA public TO {name}; REVOKE CREATE ON SCHEMA public FROM PUBLIC",
                db.name()
            ))
            .await?;
        let client = db.connect_as(&name, APP_PASSWORD).await;
        Ok(Self { name, client })
    }

    async fn drop(self, db: &TestDatabase, admin: &Client) -> Result<(), Error> {
        let Self { name, .. } = self;
        let sql = format!(
            "DROP OWNED BY {name} CASCADE; ALTER DATABASE {} OWNER TO CURRENT_USER; DROP ROLE {name}",
            db.name()
        );
        admin.batch_execute(&sql).await
    }
}

/// Whether the function is there.
async fn exists(client: &Client) -> Result<bool, Error> {
    Ok(count(client, "pg_proc WHERE proname = 'pgvpd_get_auth'").await? == 1)
}

#[tokio::test]
async fn get_auth_gives_the_verifier_of_a_role_that_may_log_in() -> TestResult {
    let (_db, admin) = database_with(&[SETUP]).await;
    for role in ["app_user", "md5_user"] {
        let verifier = verifier_of(&admin, role).await?;
        assert!(verifier.is_some());
        assert_eq!(verifier, stored_verifier(&admin, role).await?);
    }
    Ok(())
}

#[tokio::test]
async fn get_auth_leaves_out_roles_that_policies_cannot_hold() -> TestResult {
    let (_db, admin) = database_with(&[SETUP]).await;
    for change in [
        "ALTER ROLE subject NOLOGIN",
        "ALTER ROLE subject SUPERUSER",
        "ALTER ROLE subject BYPASSRLS",
        "ALTER ROLE subject REPLICATION",
        "ALTER ROLE subject CREATEROLE",
        "GRANT postgres TO subject",
        "CREATE ROLE between; GRANT postgres TO between; ALTER ROLE subject NOINHERIT; GRANT between TO subject",
    ] {
        begin(&admin).await?;
        admin.batch_execute(change).await?;
        let verifier = verifier_of(&admin, "subject").await;
        admin.batch_execute("ROLLBACK").await?;
        assert_eq!(verifier?, None, "{change}");
    }
    Ok(())
}

#[tokio::test]
async fn get_auth_leaves_out_an_expired_password() -> TestResult {
    let (_db, admin) = database_with(&[SETUP]).await;
    for (until, valid) in
        [("-infinity", false), ("yesterday", false), ("now", false), ("tomorrow", true), ("infinity", true)]
    {
        begin(&admin).await?;
        admin.batch_execute(&format!("ALTER ROLE subject VALID UNTIL '{until}'")).await?;
        let verifier = verifier_of(&admin, "subject").await;
        admin.batch_execute("ROLLBACK").await?;
        assert_eq!(verifier?.is_some(), valid, "{until}");
    }
    Ok(())
}

#[tokio::test]
async fn get_auth_has_no_row_for_a_role_without_password_and_for_no_role() -> TestResult {
    let (_db, admin) = database_with(&[SETUP]).await;
    for role in ["trust_user", "nobody", "", "%", "APP_USER", "app_user ", "app_user' OR 'a' = 'a"] {
        assert_eq!(verifier_of(&admin, role).await?, None, "{role}");
    }
    assert_eq!(count(&admin, "pgvpd_get_auth(NULL)").await?, 0);
    Ok(())
}

#[tokio::test]
async fn get_auth_takes_a_name_as_it_is() -> TestResult {
    let (_db, admin) = database_with(&[SETUP]).await;
    let names = ["O'Brien", "a \"b\"", "back\\slash", "müller", "MixedCase"];
    admin.batch_execute("BEGIN").await?;
    for name in names {
        let quoted = name.replace('"', "\"\"");
        admin.batch_execute(&format!("CREATE ROLE \"{quoted}\" LOGIN PASSWORD 'secret'")).await?;
    }
    let found = async {
        for name in names {
            let verifier = verifier_of(&admin, name).await?;
            assert!(verifier.is_some(), "{name}");
            assert_eq!(verifier, stored_verifier(&admin, name).await?, "{name}");
        }
        Ok::<_, Error>(())
    };
    let found = found.await;
    admin.batch_execute("ROLLBACK").await?;
    Ok(found?)
}

#[tokio::test]
async fn only_pgvpd_auth_may_execute_get_auth() -> TestResult {
    let (db, admin) = database_with(&[SETUP]).await;
    for role in ["app_user", "md5_user", "plain_user"] {
        let client = db.connect_as(role, APP_PASSWORD).await;
        let refused = refusal(&client, "SELECT * FROM public.pgvpd_get_auth('app_user')").await;
        assert_eq!(refused, Some(SqlState::INSUFFICIENT_PRIVILEGE), "{role}");
    }
    admin.batch_execute("SET ROLE pgvpd_auth").await?;
    assert!(verifier_of(&admin, "app_user").await?.is_some());
    let refused = refusal(&admin, "SELECT rolpassword FROM pg_authid").await;
    assert_eq!(refused, Some(SqlState::INSUFFICIENT_PRIVILEGE));
    Ok(())
}

#[tokio::test]
async fn a_session_cannot_shadow_what_get_auth_reads() -> TestResult {
    let (_db, admin) = database_with(&[SETUP]).await;
    admin
        .batch_execute(
            "SET ROLE pgvpd_auth;
             CREATE TEMP TABLE pg_authid (oid oid, rolname name, rolcanlogin bool, rolpassword text, rolvaliduntil timestamptz,
                 rolsuper bool, rolbypassrls bool, rolreplication bool, rolcreaterole bool);
             INSERT INTO pg_authid VALUES (1, 'app_user', true, 'forged');
             CREATE FUNCTION pg_temp.pg_has_role(oid, oid, text) RETURNS bool LANGUAGE sql AS 'SELECT false';
             SET search_path = pg_temp, pg_catalog",
        )
        .await?;
    assert_eq!(count(&admin, "pg_authid WHERE rolpassword = 'forged'").await?, 1, "the session itself is fooled");
    let found = verifier_of(&admin, "app_user").await?;
    let root = verifier_of(&admin, "root_user").await?;
    admin.batch_execute("RESET ROLE; RESET search_path").await?;
    assert_eq!(root, None);
    assert!(found.is_some_and(|verifier| verifier != "forged"));
    Ok(())
}

#[tokio::test]
async fn who_cannot_read_verifiers_installs_everything_else() -> TestResult {
    let db = TestDatabase::create().await;
    let admin = db.admin().await;
    let owner = Owner::of(&db, &admin).await?;
    let port = cluster().await.postgres.port();
    let place = format!("host=127.0.0.1 port={port} dbname={} user={}", db.name(), owner.name);
    let psql = psql(&["-v", "ON_ERROR_STOP=1", "-d", &place], SETUP).await;
    assert_eq!(psql.code, 0, "{psql:?}");
    assert!(psql.err.contains("cannot read pg_authid") && psql.err.contains("auth_file"), "{psql:?}");
    assert!(!exists(&admin).await?);
    owner.drop(&db, &admin).await?;
    Ok(())
}

#[tokio::test]
async fn who_was_granted_the_right_to_read_verifiers_installs_get_auth() -> TestResult {
    for right in ["GRANT pg_read_all_data TO", "GRANT SELECT ON pg_authid TO"] {
        let db = TestDatabase::create().await;
        let admin = db.admin().await;
        let owner = Owner::of(&db, &admin).await?;
        admin.batch_execute(&format!("{right} {}", owner.name)).await?;
        owner.client.batch_execute(SETUP).await?;
        let before = catalog(&admin).await?;
        owner.client.batch_execute(SETUP).await?;
        assert_eq!(catalog(&admin).await?, before, "{right}");
        // A superuser may give to pgvpd_owner what the owner could not.
        admin.batch_execute(SETUP).await?;
        let before = catalog(&admin).await?;
        owner.client.batch_execute(SETUP).await?;
        admin.batch_execute(SETUP).await?;
        assert_eq!(catalog(&admin).await?, before, "{right}");
        admin.batch_execute("SET ROLE pgvpd_auth").await?;
        assert!(verifier_of(&admin, "app_user").await?.is_some(), "{right}");
        admin.batch_execute("RESET ROLE").await?;
        owner.drop(&db, &admin).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_owner_runs_setup_again_after_a_superuser() -> TestResult {
    let db = TestDatabase::create().await;
    let admin = db.admin().await;
    let owner = Owner::of(&db, &admin).await?;
    owner.client.batch_execute(SETUP).await?;
    admin.batch_execute(SETUP).await?;
    assert!(exists(&admin).await?);
    let before = catalog(&admin).await?;
    owner.client.batch_execute(SETUP).await?;
    assert_eq!(catalog(&admin).await?, before);
    assert!(verifier_of(&admin, "app_user").await?.is_some());
    owner.drop(&db, &admin).await?;
    Ok(())
}

#[tokio::test]
async fn a_superuser_takes_over_a_get_auth_whose_owner_could_forge_answers() -> TestResult {
    let db = TestDatabase::create().await;
    let admin = db.admin().await;
    let owner = Owner::of(&db, &admin).await?;
    owner.client.batch_execute(SETUP).await?;
    let forged = "CREATE FUNCTION public.pgvpd_get_auth(role_name text) RETURNS TABLE (role text, verifier text)
                  LANGUAGE sql AS 'SELECT $1, ''forged'''";
    owner.client.batch_execute(forged).await?;
    admin.batch_execute(SETUP).await?;
    assert_eq!(count(&admin, "pg_proc WHERE proname = 'pgvpd_get_auth' AND proowner = 10").await?, 1);
    assert_eq!(verifier_of(&admin, "app_user").await?, stored_verifier(&admin, "app_user").await?);
    owner.drop(&db, &admin).await?;
    Ok(())
}

#[tokio::test]
async fn setup_refuses_a_pgvpd_auth_that_is_more_and_an_app_user_that_can_call_get_auth() -> TestResult {
    let (_db, admin) = database_with(&[SETUP]).await;
    // Never committed, not even if the refusal is missing.
    let without_commit = SETUP.replace("\nCOMMIT;", "");
    for change in [
        "ALTER ROLE pgvpd_auth SUPERUSER",
        "GRANT postgres TO pgvpd_auth",
        "GRANT pgvpd_auth TO app_user",
        "CREATE ROLE between; GRANT pgvpd_auth TO between; GRANT between TO app_user",
    ] {
        admin.batch_execute(&format!("BEGIN; {change}")).await?;
        let refused = refusal(&admin, &without_commit).await;
        admin.batch_execute("ROLLBACK").await?;
        assert_eq!(refused, Some(SqlState::INVALID_GRANT_OPERATION), "{change}");
    }
    Ok(())
}
