//! `pgvpd protect`: all tables or none, with a look before it.

use crate::support::{Site, TestResult};

const TABLES: &str = "
    CREATE TABLE orders (id int, tenant_id text, PRIMARY KEY (tenant_id, id));
    GRANT SELECT, TRUNCATE ON orders TO app_user;
    CREATE SCHEMA sales;
    CREATE TABLE sales.\"Odd Name\" (org_id uuid, tenant_id text);
    CREATE TABLE events (tenant_id text, day date) PARTITION BY RANGE (day);
    CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
    CREATE INDEX ON events (tenant_id);
    CREATE TABLE plain (id int);";

/// A database with tables and pgvpd.
async fn site(name: &str) -> Site {
    let site = Site::new(name).await;
    site.done(&["init"]);
    site.execute(TABLES).await;
    site
}

/// Everything that protecting could change.
async fn catalogs(site: &Site) -> Vec<String> {
    site.column(
        "SELECT concat_ws(' ', c.oid::regclass, relrowsecurity, relforcerowsecurity, relacl,
                          (SELECT string_agg(p::text, ' ' ORDER BY polname) FROM pg_policy p WHERE polrelid = c.oid),
                          (SELECT string_agg(pg_get_expr(adbin, adrelid), ' ') FROM pg_attrdef WHERE adrelid = c.oid))
         FROM pg_class c WHERE relkind IN ('r', 'p') AND relnamespace IN ('public'::regnamespace, 'sales'::regnamespace) ORDER BY c.oid",
    )
    .await
}

async fn protected(site: &Site) -> Vec<String> {
    site.column("SELECT table_name FROM pgvpd_status() WHERE status LIKE 'protected%' ORDER BY 1").await
}

#[tokio::test]
async fn tables_are_protected_with_all_below_them_and_the_warnings_are_shown() {
    let site = site("protect_all").await;
    let done = site.pgvpd(&["protect", "orders", "events", "sales.\"Odd Name\""]).code(0);
    let (shown, said) = (&done.get_output().stdout, &done.get_output().stderr);
    let (shown, said) = (String::from_utf8_lossy(shown), String::from_utf8_lossy(said));
    assert_eq!(protected(&site).await, ["public.events", "public.events_2024", "public.orders", "sales.\"Odd Name\""]);
    for part in [
        "WARNING:  table sales.\"Odd Name\" has no index that starts with tenant_id",
        "HINT:  On a table in use, CREATE INDEX CONCURRENTLY",
        "NOTICE:  role app_user may now read and write the rows of public.events",
        "NOTICE:  role app_user cannot reach schema sales yet: GRANT USAGE ON SCHEMA sales TO app_user;",
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
    for part in [
        "- row-level security: off",
        "+ row-level security: on, also for the owner",
        "+ restrictive policy pgvpd_tenant_guard, for ALL, to PUBLIC: (tenant_id = ",
        "- app_user may SELECT, TRUNCATE",
        "+ app_user may SELECT",
        "+ app_user may DELETE, INSERT, SELECT, UPDATE",
        "+ default of tenant_id: current_tenant_id()",
        "| public.orders ",
        "protected, but slow",
        "and 1 partitions or children, all protected",
    ] {
        assert!(shown.contains(part), "{part:?} is not in:\n{shown}");
    }
    let again = site.done(&["protect", "orders"]);
    assert!(again.contains("public.orders: nothing; it was protected like this before"), "{again}");
}

#[tokio::test]
async fn another_column_and_variable_are_taken() {
    let site = site("protect_column").await;
    let shown = site.done(&["protect", "sales.\"Odd Name\"", "--column", "org_id", "--variable", "app.org_id"]);
    assert!(shown.contains("| org_id | app.org_id |"), "{shown}");
}

#[tokio::test]
async fn a_dry_run_shows_the_same_and_changes_nothing() {
    let site = site("protect_dry").await;
    let before = catalogs(&site).await;
    let dry = site.done(&["protect", "orders", "events", "--dry-run"]);
    assert_eq!(catalogs(&site).await, before);
    assert!(dry.contains("what would change") && dry.contains("Nothing was changed."), "{dry}");
    let done = site.done(&["protect", "orders", "events"]);
    assert_ne!(catalogs(&site).await, before);
    let changes =
        |text: &str| text.lines().filter(|line| line.starts_with("    ")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(changes(&dry), changes(&done));
    assert!(changes(&dry).len() > 12, "{dry}");
}

#[tokio::test]
async fn one_bad_table_and_none_is_protected() {
    let site = site("protect_none").await;
    let before = catalogs(&site).await;
    site.execute("CREATE VIEW seen AS SELECT 1 AS tenant_id; CREATE TABLE typed (tenant_id jsonb)").await;
    for (table, complaint) in [
        ("nothing", "relation \"nothing\" does not exist"),
        ("nowhere.orders", "does not exist"),
        ("a.b.c.d", "a.b.c.d: "),
        ("plain", "table public.plain has no column tenant_id\n  hint: Name the column"),
        ("seen", "is not a table that row-level security can protect"),
        ("typed", "has type jsonb, which cannot be compared with a tenant"),
        ("x'; DROP TABLE orders; --", "invalid name syntax"),
    ] {
        let said = site.refused(&["protect", "orders", table]);
        assert!(said.starts_with(&format!("pgvpd: {table}: ")) && said.contains(complaint), "{table}:\n{said}");
    }
    site.execute("DROP VIEW seen; DROP TABLE typed").await;
    let said = site.refused(&["protect", "orders", "--variable", "Bad Name"]);
    assert!(said.contains("cannot be a context variable"), "{said}");
    assert_eq!(catalogs(&site).await, before);
}

#[tokio::test]
async fn without_a_table_those_that_are_open_are_listed() {
    let site = site("protect_list").await;
    site.done(&["protect", "events"]);
    let said = site.pgvpd(&["protect"]).code(2);
    let said = String::from_utf8_lossy(&said.get_output().stderr).into_owned();
    assert_eq!(
        said,
        "pgvpd: name a table to protect; these have a column tenant_id and are not protected:\n  orders\n  'sales.\"Odd Name\"'\n"
    );
    let said = site.pgvpd(&["protect", "--column", "org_id"]).code(2);
    assert!(String::from_utf8_lossy(&said.get_output().stderr).contains("Odd Name"));
    let said = site.pgvpd(&["protect", "--column", "nothing"]).code(2);
    assert!(String::from_utf8_lossy(&said.get_output().stderr).contains("every table with a column nothing"));
}

#[tokio::test]
async fn a_table_in_use_is_not_waited_for_without_end() -> TestResult {
    let site = site("protect_lock").await;
    let client = site.client().await;
    client.batch_execute("BEGIN; SELECT FROM events").await?;
    let said = site.refused(&["protect", "orders", "events", "--lock-timeout", "20ms"]);
    assert!(said.contains("events is in use and was not free in time; nothing was changed"), "{said}");
    assert!(protected(&site).await.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_table_that_stays_open_in_spite_of_it_is_a_failure() {
    let site = site("protect_owned").await;
    site.execute("GRANT CREATE ON SCHEMA sales TO app_user; ALTER TABLE sales.\"Odd Name\" OWNER TO app_user").await;
    let said = site.pgvpd(&["protect", "sales.\"Odd Name\""]).code(1);
    let shown = String::from_utf8_lossy(&said.get_output().stdout).into_owned();
    assert!(shown.contains("NOT PROTECTED: app_user can act as the owner"), "{shown}");
}

#[tokio::test]
async fn who_may_not_and_where_there_is_nothing_installed_is_said() {
    let site = site("protect_refused").await;
    site.execute(
        "DO $$ BEGIN CREATE ROLE stranger LOGIN PASSWORD 's3cret'; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
    )
    .await;
    let stranger = Site::of(site.postgres, &site.name, "stranger", "s3cret");
    let said = stranger.refused(&["protect", "orders"]);
    assert!(
        said.contains("permission denied for function pgvpd_protect") && said.contains("hint: Run this as"),
        "{said}"
    );
    let said = stranger.refused(&["key", "list"]);
    assert!(said.contains("permission denied") && said.contains("the role that ran pgvpd init"), "{said}");
    let bare = Site::new("protect_bare").await;
    let said = bare.refused(&["protect", "orders"]);
    assert!(
        said.contains("pgvpd is not installed in database protect_bare; run: pgvpd init -d protect_bare"),
        "{said}"
    );
}

#[tokio::test]
async fn rights_go_to_the_role_that_is_named_or_to_nobody() {
    let site = site("protect_rights").await;
    site.execute(
        "DO $$ BEGIN CREATE ROLE \"web-app\" LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
         CREATE TABLE items (id serial, tenant_id text); CREATE TABLE closed (tenant_id text, secret text)",
    )
    .await;
    let said = site.done(&["protect", "closed", "--no-grant", "--statistics", "tenant"]);
    assert!(said.contains("role app_user has no rights on public.closed yet"), "{said}");
    assert!(!said.contains("may DELETE"), "{said}");
    let target = "SELECT attname::text FROM pg_attribute WHERE attrelid = 'closed'::regclass AND attnum > 0 AND attstattarget = 0";
    assert_eq!(site.column(target).await, ["secret"]);
    let said = site.done(&["protect", "items", "--app-role", "web-app"]);
    for part in [
        "+ \"web-app\" may DELETE, INSERT, SELECT, UPDATE",
        "+ \"web-app\" may use sequence items_id_seq",
        "role \"web-app\" may now",
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
    let said = site.refused(&["protect", "plain", "--app-role", "nobody at all"]);
    assert!(said.contains("there is no role \"nobody at all\""), "{said}");
    // What an earlier release has left.
    site.execute("DROP FUNCTION pgvpd_protect; CREATE FUNCTION pgvpd_protect(regclass, name, text) RETURNS void LANGUAGE sql AS ''").await;
    let said = site.refused(&["protect", "items"]);
    assert!(
        said.contains(
            "pgvpd is installed by an earlier release in database protect_rights; run: pgvpd init -d protect_rights"
        ),
        "{said}"
    );
}
