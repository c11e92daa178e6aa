//! Names that `sql/setup.sql` needs and that somebody else has: it stops, says whose they are, and changes nothing.

use pgvpd_core::sql::{AUDIT, HELPERS, SETUP};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{Client, NoTls};

use crate::support::{TestDatabase, TestResult, count, database_with, session};

/// An application that has its own function of this name.
const OWN: &str = "
    CREATE FUNCTION public.current_tenant_id() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_setting('shop.tenant', true) $$;
    CREATE TABLE orders (tenant_id text DEFAULT public.current_tenant_id(), item int);
    INSERT INTO orders VALUES ('acme', 1), ('globex', 2);
    ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own_tenant ON orders USING (tenant_id = public.current_tenant_id());
    CREATE VIEW mine AS SELECT public.current_tenant_id() AS tenant;
    CREATE FUNCTION whoami() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN current_tenant_id(); END $$;
    GRANT SELECT ON orders TO app_user;";

async fn refused(client: &Client, sql: &str) -> DbError {
    let error = client.batch_execute(sql).await.expect_err("a refusal");
    client.batch_execute("ROLLBACK").await.expect("rolled back");
    error.as_db_error().unwrap_or_else(|| panic!("{error}")).clone()
}

#[tokio::test]
async fn the_applications_own_context_function_is_not_replaced() -> TestResult {
    let db = TestDatabase::create().await;
    let admin = db.admin().await;
    admin.batch_execute(OWN).await?;
    let refused = refused(&admin, SETUP).await;
    assert_eq!(*refused.code(), SqlState::DUPLICATE_FUNCTION);
    let expected =
        "function public.current_tenant_id() is not one of pgvpd's own: it belongs to role postgres and returns text";
    assert_eq!(refused.message(), expected);
    assert_eq!(
        refused.detail(),
        Some(
            "Used by default value for column tenant_id of table public.orders, function public.whoami(), \
             policy own_tenant on table public.orders, view public.mine."
        )
    );
    assert!(refused.hint().is_some_and(|hint| hint.contains("RENAME TO app_current_tenant_id")), "{refused:?}");

    assert_eq!(count(&admin, "pg_namespace WHERE nspname = 'pgvpd'").await?, 0, "nothing was installed");
    let app = db.connect_as("app_user", "secret").await;
    app.batch_execute("SET shop.tenant = 'globex'").await?;
    assert_eq!(count(&app, "orders").await?, 1, "the application is served as before");

    // What the hint says.
    admin.batch_execute("ALTER ROUTINE public.current_tenant_id() RENAME TO app_current_tenant_id").await?;
    admin.batch_execute(SETUP).await?;
    assert_eq!(count(&app, "orders").await?, 1, "the policy follows the new name");
    Ok(())
}

#[tokio::test]
async fn each_name_of_pgvpds_that_is_taken_is_refused() -> TestResult {
    for (taken, message) in [
        ("CREATE FUNCTION current_tenant_id() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'", "returns uuid"),
        // With its default it is called in the same way.
        (
            "CREATE FUNCTION current_tenant_id(n int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "returns integer",
        ),
        ("CREATE PROCEDURE current_tenant_id() LANGUAGE sql AS 'SELECT 1'", "procedure public.current_tenant_id()"),
        ("CREATE FUNCTION pgvpd_context(name text) RETURNS text LANGUAGE sql AS 'SELECT name'", "pgvpd_context(text)"),
        ("CREATE FUNCTION pgvpd_protect(text) RETURNS void LANGUAGE sql AS ''", "pgvpd_protect(text)"),
        ("CREATE FUNCTION pgvpd_audit() RETURNS int LANGUAGE sql AS 'SELECT 1'", "pgvpd_audit()"),
        ("CREATE FUNCTION pgvpd_notify_off(int) RETURNS int LANGUAGE sql AS 'SELECT 1'", "pgvpd_notify_off(integer)"),
        ("CREATE SCHEMA pgvpd; CREATE TABLE pgvpd.settings (x int)", "schema pgvpd is not one of pgvpd's own"),
        (
            "CREATE FUNCTION current_tenant_id() RETURNS text LANGUAGE sql AS $$ SELECT 'globex' $$;
             ALTER FUNCTION current_tenant_id() OWNER TO app_user",
            "belongs to role app_user",
        ),
    ] {
        let db = TestDatabase::create().await;
        let admin = db.admin().await;
        admin.batch_execute(taken).await?;
        let refused = refused(&admin, SETUP).await;
        assert!(refused.message().contains(message), "{taken}: {refused:?}");
        assert!([SqlState::DUPLICATE_FUNCTION, SqlState::DUPLICATE_SCHEMA].contains(refused.code()), "{refused:?}");
        assert!(refused.hint().is_some_and(|hint| hint.starts_with("Nothing was changed.")), "{refused:?}");
        assert_eq!(count(&admin, "pg_proc WHERE proname = 'pgvpd_status'").await?, 0, "{taken}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_pgvpds_own_is_replaced_whoever_has_altered_it() -> TestResult {
    let (db, admin) = database_with(&[SETUP, HELPERS, AUDIT]).await;
    // As a release before the comments has left it, and with another text.
    admin
        .batch_execute(
            "COMMENT ON FUNCTION current_tenant_id() IS NULL; COMMENT ON SCHEMA pgvpd IS NULL;
             CREATE OR REPLACE FUNCTION current_tenant_id() RETURNS text LANGUAGE sql AS $$ SELECT 'globex' $$;",
        )
        .await?;
    for file in [SETUP, HELPERS, AUDIT] {
        admin.batch_execute(file).await?;
    }
    let acme = session(&db, "acme").await?;
    assert_eq!(acme.query_one("SELECT current_tenant_id()", &[]).await?.get::<_, &str>(0), "acme");
    // Restored without owners and comments, as pg_dump --no-owner --no-comments leaves it.
    admin
        .batch_execute(
            "DO $$ DECLARE f regprocedure; BEGIN
                 FOR f IN SELECT oid FROM pg_proc WHERE pronamespace IN ('public'::regnamespace, 'pgvpd'::regnamespace) LOOP
                     EXECUTE format('COMMENT ON FUNCTION %s IS NULL', f);
                     EXECUTE format('ALTER FUNCTION %s OWNER TO postgres', f);
                 END LOOP;
             END $$; COMMENT ON SCHEMA pgvpd IS NULL",
        )
        .await?;
    admin.batch_execute(SETUP).await?;
    let owner = "SELECT proowner::regrole::text FROM pg_proc WHERE proname = 'current_tenant_id'";
    assert_eq!(admin.query_one(owner, &[]).await?.get::<_, &str>(0), "pgvpd_owner");
    Ok(())
}

#[test]
fn every_public_function_is_among_the_names_that_are_looked_at() {
    let list = SETUP.split_once("p.proname IN (").and_then(|(_, rest)| rest.split_once("))")).expect("the list").0;
    let created =
        [SETUP, HELPERS, AUDIT].into_iter().flat_map(|file| file.split("CREATE OR REPLACE FUNCTION public.").skip(1));
    let mut names: Vec<&str> = created.filter_map(|text| text.split('(').next()).collect();
    names.dedup();
    assert!(names.len() > 10, "{names:?}");
    for name in names.iter().filter(|name| **name != "current_tenant_id") {
        assert!(list.contains(&format!("'{name}'")), "{name} is not in the list of sql/setup.sql");
    }
}

/// Roles belong to the whole server, and so does what may be done as one of them.
#[tokio::test]
async fn an_installer_of_one_database_gets_no_rights_in_another() -> TestResult {
    let postgres = pgvpd_core::testing::Postgres::builder().start().await?;
    for (role, database) in [("first", "one"), ("second", "two")] {
        postgres.execute("postgres", &format!("CREATE ROLE {role} LOGIN CREATEROLE PASSWORD 'secret'")).await?;
        postgres.execute("postgres", &format!("CREATE DATABASE {database} OWNER {role}")).await?;
        let mut config = tokio_postgres::Config::new();
        config.host(postgres.host()).port(postgres.port()).user(role).password("secret").dbname(database);
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        client.batch_execute(SETUP).await?;
        client.batch_execute(SETUP).await?;
    }
    // A superuser who runs it again gives it to nobody, either.
    postgres.execute("two", SETUP).await?;
    let admin = postgres.connect("one").await?;
    let members = "SELECT array_agg(r.rolname::text) FROM pg_roles r WHERE r.rolname IN ('first', 'second') AND pg_has_role(r.oid, 'pgvpd_owner', 'MEMBER')";
    assert_eq!(admin.query_one(members, &[]).await?.get::<_, Vec<String>>(0), ["first"]);
    postgres.stop().await?;
    Ok(())
}

#[tokio::test]
async fn roles_that_were_there_before_are_never_altered() -> TestResult {
    let postgres = pgvpd_core::testing::Postgres::builder().start().await?;
    postgres.create_database("shop").await?;
    let attributes = "SELECT string_agg(concat_ws(' ', rolname, rolcanlogin, rolcreatedb, rolpassword), ', ' ORDER BY rolname) FROM pg_authid
                      WHERE rolname IN ('app_user', 'pgvpd_owner')";
    postgres
        .execute("shop", "CREATE ROLE app_user LOGIN CREATEDB PASSWORD 'theirs'; CREATE ROLE pgvpd_owner LOGIN; CREATE TABLE orders (tenant_id text); ALTER TABLE orders OWNER TO app_user")
        .await?;
    let admin = postgres.connect("shop").await?;
    let before: String = admin.query_one(attributes, &[]).await?.get(0);
    let refused = refused(&admin, SETUP).await;
    assert!(refused.message().starts_with("role pgvpd_owner can log in"), "{refused:?}");
    assert_eq!(admin.query_one(attributes, &[]).await?.get::<_, String>(0), before);

    admin.batch_execute("ALTER ROLE pgvpd_owner NOLOGIN").await?;
    let mut config = tokio_postgres::Config::new();
    config.host(postgres.host()).port(postgres.port()).user(postgres.superuser()).password(postgres.password());
    let (client, mut connection) = config.dbname("shop").connect(NoTls).await?;
    let (sender, mut notices) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let tokio_postgres::AsyncMessage::Notice(notice) = message {
                let _ = sender.send(notice.message().to_owned());
            }
        }
    });
    client.batch_execute(SETUP).await?;
    let said: Vec<String> = std::iter::from_fn(|| notices.try_recv().ok()).collect();
    for part in [
        "role app_user owns tables here, and an owner can take the protection away: public.orders",
        "role app_user may create databases",
    ] {
        assert!(said.iter().any(|line| line == part), "{part:?} is not in {said:?}");
    }
    let after: String = admin.query_one(attributes, &[]).await?.get(0);
    assert_eq!(after, before.replace("pgvpd_owner t", "pgvpd_owner f"), "never altered");
    postgres.stop().await?;
    Ok(())
}
