//! `pgvpd check`: what it finds, what it does not touch, and its exit codes.

use pgvpd_core::sql::{AUDIT, SETUP};
use pgvpd_core::testing::Postgres;

use crate::support::{TestResult, postgres, run};

/// A database of the tests' server.
pub(crate) struct Checked {
    postgres: &'static Postgres,
    name: String,
}

/// What the program said, and its code.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// The object behind each id, of the text.
    pub(crate) fn has(&self, id: &str, object: &str) -> bool {
        self.out.lines().any(|line| line.trim() == format!("{id}  {object}"))
    }
}

impl Checked {
    /// An empty one.
    pub(crate) async fn new(name: &str) -> Self {
        let postgres = postgres().await;
        postgres.create_database(name).await.expect("a database");
        Self { postgres, name: name.to_owned() }
    }

    /// One where nothing is to be found but what every server has.
    pub(crate) async fn installed(name: &str) -> Self {
        let checked = Self::new(name).await;
        for sql in [SETUP, AUDIT, &format!("REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC")] {
            checked.execute(sql).await;
        }
        checked
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.postgres.execute(&self.name, sql).await.expect(sql);
    }

    /// The first value of the first row.
    pub(crate) async fn query<T: for<'a> tokio_postgres::types::FromSql<'a>>(&self, sql: &str) -> T {
        let client = self.postgres.connect(&self.name).await.expect("connects");
        client.query_one(sql, &[]).await.expect(sql).get(0)
    }

    pub(crate) fn server(&self) -> &'static Postgres {
        self.postgres
    }

    pub(crate) fn check(&self, arguments: &[&str]) -> Said {
        self.check_at(&self.postgres.url(&self.name), arguments, &[])
    }

    fn check_at(&self, url: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Said {
        check(&[&["--database", url], arguments].concat(), environment)
    }
}

pub(crate) fn check(arguments: &[&str], environment: &[(&str, &str)]) -> Said {
    let ended = run(&[&["check"], arguments].concat(), environment);
    let output = ended.get_output();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    Said { code: output.status.code().expect("a code"), out: text(&output.stdout), err: text(&output.stderr) }
}

/// A table that all can read.
pub(crate) const OPEN_TABLE: &str =
    "CREATE TABLE orders (tenant_id text NOT NULL DEFAULT current_tenant_id()); CREATE INDEX ON orders (tenant_id);
     GRANT SELECT ON orders TO app_user";

/// What every server has.
const USUAL: [&str; 2] = ["--ignore", "A25"];

#[tokio::test]
async fn a_hole_is_found_with_its_fix_and_gone_after_it() {
    let database = Checked::installed("check_hole").await;
    database.execute(OPEN_TABLE).await;
    let said = database.check(&USUAL);
    assert_eq!((said.code, said.err.as_str()), (1, ""), "{said:?}");
    assert!(said.has("A01", "public.orders"), "{}", said.out);
    assert!(said.out.starts_with("database check_hole on PostgreSQL "), "{}", said.out);
    assert!(said.out.contains("\nCRITICAL ("), "{}", said.out);
    assert!(!said.out.contains('\x1b'), "{}", said.out);
    let fix =
        said.out.lines().find_map(|line| line.trim().strip_prefix("SELECT public.pgvpd_protect(")).expect("a fix");
    database.execute(&format!("SELECT public.pgvpd_protect({fix}")).await;
    let said = database.check(&USUAL);
    assert_eq!(said.code, 0, "{}", said.out);
    assert!(said.out.ends_with("\n\nnothing found (4 ignored)\n"), "{}", said.out);
}

#[tokio::test]
async fn the_code_follows_the_severity_that_is_asked_for() {
    let database = Checked::installed("check_severity").await;
    database.execute("CREATE TABLE t (tenant_id text NOT NULL DEFAULT ''); CREATE INDEX ON t (tenant_id); SELECT pgvpd_protect('t')").await;
    for (fail_on, code) in [("critical", 0), ("high", 0), ("warning", 1), ("info", 1), ("never", 0)] {
        let said = database.check(&["--fail-on", fail_on]);
        assert_eq!(said.code, code, "{fail_on}: {}", said.out);
        assert!(said.out.ends_with("\nfound: 4 warnings\n"), "{}", said.out);
    }
    database.execute("GRANT SELECT ON t TO app_user; ALTER TABLE t DISABLE ROW LEVEL SECURITY").await;
    for (fail_on, code) in [("critical", 1), ("high", 1), ("never", 0)] {
        assert_eq!(database.check(&["--fail-on", fail_on]).code, code, "{fail_on}");
    }
    assert_eq!(check(&["--fail-on", "bad"], &[]).code, 2);
}

#[tokio::test]
async fn what_is_known_is_left_out_by_id_or_object() {
    let database = Checked::installed("check_ignore").await;
    database.execute(OPEN_TABLE).await;
    database.execute("CREATE TABLE items (LIKE orders INCLUDING ALL); GRANT SELECT ON items TO app_user").await;
    let said = database.check(&["--ignore", "A01:public.items", "--ignore", "a25"]);
    assert!(said.has("A01", "public.orders") && !said.has("A01", "public.items"), "{}", said.out);
    let said = database.check(&["--ignore", "A01", "--ignore", "A02:x"]);
    assert!(!said.out.contains("A01"), "{}", said.out);
    assert_eq!(said.err, "pgvpd: note: --ignore A02:x matches nothing\n");
    let refused = check(&["--ignore", "A99"], &[]);
    assert!(refused.code == 2 && refused.err.contains("there is no finding"), "{refused:?}");
}

#[tokio::test]
async fn roles_and_columns_that_are_not_there_are_told() {
    let database = Checked::installed("check_names").await;
    database.execute(OPEN_TABLE).await;
    let said = database.check(&["--app-role", "app_user", "--app-role", "app_usr", "--tenant-column", "org_id"]);
    assert!(said.has("P07", "app_usr") && said.has("P08", "org_id"), "{}", said.out);
    assert!(
        !said.has("P07", "app_user") && !said.has("P08", "tenant_id") && !said.has("A01", "public.orders"),
        "{}",
        said.out
    );
    let both = database.check(&["--tenant-column", "org_id", "--tenant-column", "tenant_id"]);
    assert!(both.has("P08", "org_id") && both.has("A01", "public.orders"), "{}", both.out);
    let refused = database.check(&["--app-role", "app_usr"]);
    assert_eq!((refused.code, refused.out.as_str()), (2, ""));
    assert!(refused.err.contains("no role app_usr"), "{}", refused.err);
}

#[tokio::test]
async fn without_the_audit_in_the_database_it_is_tried_out_and_nothing_stays() {
    let database = Checked::new("check_tried_out").await;
    let objects = "SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                   WHERE n.nspname = 'pgvpd' OR p.proname LIKE 'pgvpd%'";
    let said = database.check(&[]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.has("P06", "database"), "{}", said.out);
    assert_eq!(database.query::<i64>(objects).await, 0);

    for sql in [SETUP, OPEN_TABLE] {
        database.execute(sql).await;
    }
    let before: i64 = database.query(objects).await;
    let said = database.check(&[]);
    assert!(!said.has("P06", "database") && said.has("A01", "public.orders"), "{}", said.out);
    assert!(said.out.contains("rolled back"), "{}", said.out);
    assert_eq!(database.query::<i64>(objects).await, before);

    database.execute(AUDIT).await;
    let installed = database.check(&[]);
    assert!(!installed.out.contains("rolled back"), "{}", installed.out);
    let findings = |said: &Said| said.out.split_once("\nCRITICAL").map(|(_, findings)| findings.to_owned());
    assert_eq!(findings(&installed), findings(&said));
}

#[tokio::test]
async fn a_database_that_may_only_be_read_needs_the_audit_installed() {
    let database = Checked::new("check_read_only").await;
    database.execute(SETUP).await;
    let url = database.postgres.url(&database.name);
    let read_only = [("PGOPTIONS", "-c default_transaction_read_only=on")];
    let refused = database.check_at(&url, &[], &read_only);
    assert_eq!((refused.code, refused.out.as_str()), (3, ""));
    assert!(
        refused.err.contains("sql/audit.sql is not installed") && refused.err.contains("default_transaction_read_only"),
        "{}",
        refused.err
    );
    database.execute(AUDIT).await;
    let said = database.check_at(&url, &[], &read_only);
    assert!(said.code == 1 && said.has("A23", "check_read_only"), "{said:?}");
}

#[tokio::test]
async fn functions_of_a_stranger_are_not_run() {
    let database = Checked::installed("check_stranger").await;
    database
        .execute(
            "CREATE ROLE stranger; DROP FUNCTION public.pgvpd_audit(text[], text[]); CREATE TABLE caught (by name);
             CREATE FUNCTION public.pgvpd_audit(text[] DEFAULT '{}', text[] DEFAULT '{}')
             RETURNS TABLE (id text, severity text, object text, finding text, fix text)
             LANGUAGE sql AS $$ SELECT 'A01', 'info', current_user::text, '', '' $$;
             ALTER FUNCTION public.pgvpd_audit OWNER TO stranger",
        )
        .await;
    let refused = database.check(&[]);
    assert_eq!((refused.code, refused.out.as_str()), (3, ""), "{refused:?}");
    assert!(refused.err.contains("pgvpd_audit") && refused.err.contains("belongs to role stranger"), "{}", refused.err);
    database.execute("ALTER FUNCTION public.pgvpd_audit OWNER TO postgres").await;
    assert!(database.check(&[]).has("A01", "postgres"));
}

#[tokio::test]
async fn a_role_without_the_rights_is_told_to_be_another() -> TestResult {
    let database = Checked::installed("check_rights").await;
    database.execute("CREATE ROLE check_nobody LOGIN PASSWORD 'x'").await;
    let url = format!("postgresql://check_nobody:x@127.0.0.1:{}/check_rights", database.postgres.port());
    let refused = database.check_at(&url, &[], &[]);
    assert_eq!((refused.code, refused.out.as_str()), (3, ""), "{refused:?}");
    assert!(refused.err.contains("connect as a superuser"), "{}", refused.err);
    Ok(())
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_or_refuses_ends_with_3() {
    let unreachable = check(&["--database", "host=127.0.0.1 port=1 user=postgres dbname=x"], &[]);
    assert_eq!((unreachable.code, unreachable.out.as_str()), (3, ""), "{unreachable:?}");
    let url = format!("postgresql://postgres:wrong-9731@127.0.0.1:{}/postgres", postgres().await.port());
    let refused = check(&["--database", &url], &[]);
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(!refused.err.contains("wrong-9731"), "{}", refused.err);
    assert_eq!(check(&["--database", "host="], &[]).code, 2);
}
