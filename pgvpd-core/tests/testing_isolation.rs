//! The check of a table's isolation: it finds each kind of hole, and refuses to run where it would prove nothing.
#![cfg(feature = "testing")]

use pgvpd_core::testing::{IsolationError, IsolationReport, TestProxy, TestProxyError};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A shop as applications have it: foreign keys, constraints, required columns of many types.
const SHOP: &str = "
    CREATE TYPE state AS ENUM ('new', 'paid');
    CREATE DOMAIN amount AS numeric(10, 2) CHECK (VALUE >= 0);
    CREATE TABLE customers (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id text NOT NULL);
    CREATE TABLE orders (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id text NOT NULL, number text NOT NULL,
        customer uuid NOT NULL REFERENCES customers, state state NOT NULL, total amount NOT NULL, code varchar(5) NOT NULL,
        at timestamptz NOT NULL, tags text[] NOT NULL, extra jsonb NOT NULL, paid boolean NOT NULL, period int4range NOT NULL,
        half numeric GENERATED ALWAYS AS (total / 2) STORED, UNIQUE (tenant_id, number));
    SELECT pgvpd_protect('customers'), pgvpd_protect('orders');
    GRANT SELECT, INSERT, UPDATE, DELETE ON customers, orders TO app_user;
";

async fn shop() -> Result<TestProxy> {
    Ok(TestProxy::builder().schema(SHOP).start().await?)
}

async fn report(proxy: &TestProxy, table: &str) -> Result<IsolationReport> {
    Ok(proxy.isolation_of(table).run().await?)
}

#[tokio::test]
async fn a_protected_table_holds_and_is_left_as_it_was() -> Result {
    let proxy = shop().await?;
    let client = proxy.postgres().connect(proxy.database()).await?;
    for table in ["customers", "orders", "public.orders"] {
        let report = report(&proxy, table).await?;
        assert!(report.holds(), "{report}");
        // Two tenants and a session without context, each kind of attempt.
        assert!(report.attempts.len() >= 15, "{report}");
        let count: i64 = client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await?.get(0);
        assert_eq!(count, 0, "{table}");
    }
    proxy.assert_isolated("orders").await?;
    Ok(())
}

#[tokio::test]
async fn each_kind_of_hole_is_found() -> Result {
    const POLICY: &str = "USING (tenant_id = current_tenant_id())";
    let proxy = shop().await?;
    let holes = [
        ("reads rows of t", "CREATE POLICY hole ON t FOR SELECT USING (true)".to_owned()),
        ("takes over rows", "CREATE POLICY hole ON t FOR UPDATE USING (true) WITH CHECK (true)".into()),
        ("inserts a row of t", "CREATE POLICY hole ON t FOR INSERT WITH CHECK (true)".into()),
        ("turns rows into rows of t", format!("CREATE POLICY hole ON t FOR UPDATE {POLICY} WITH CHECK (true)")),
        ("a session without context reads", "CREATE POLICY hole ON t FOR SELECT USING (current_tenant_id() IS NULL)".into()),
        ("deletes rows of t", "CREATE POLICY hole ON t FOR SELECT USING (true); CREATE POLICY hole2 ON t FOR DELETE USING (true)".into()),
        ("deletes rows (DELETE without WHERE)", "CREATE POLICY hole ON t FOR DELETE USING (true)".into()),
        ("updates rows of t", "CREATE POLICY hole ON t FOR SELECT USING (true); CREATE POLICY hole2 ON t FOR UPDATE USING (true)".into()),
        ("from view public.leaky", "CREATE VIEW leaky AS SELECT * FROM t; GRANT SELECT ON leaky TO app_user".into()),
        ("from view public.outer_view", "CREATE VIEW inner_view AS SELECT * FROM t; CREATE VIEW outer_view AS SELECT * FROM inner_view;
            GRANT SELECT ON outer_view TO app_user".into()),
        ("from materialized view public.copied", "ALTER TABLE t DISABLE ROW LEVEL SECURITY; INSERT INTO t (tenant_id) VALUES ('initech');
            CREATE MATERIALIZED VIEW copied AS SELECT * FROM t; GRANT SELECT ON copied TO app_user; ALTER TABLE t ENABLE ROW LEVEL SECURITY".into()),
        ("has the right TRUNCATE", "GRANT ALL ON t TO app_user".into()),
        ("has the right TRIGGER", "GRANT TRIGGER ON t TO app_user".into()),
        ("reads rows of any other tenant", "ALTER TABLE t DISABLE ROW LEVEL SECURITY".into()),
    ];
    for (found, hole) in holes {
        proxy
            .execute(&format!(
                "DROP TABLE IF EXISTS t CASCADE; CREATE TABLE t (tenant_id text, body text UNIQUE);
             ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY tenant ON t {POLICY};
             GRANT SELECT, INSERT, UPDATE, DELETE ON t TO app_user"
            ))
            .await?;
        let before = report(&proxy, "t").await?;
        assert!(before.holds(), "before {hole}: {before}");
        proxy.execute(&hole).await?;
        let after = report(&proxy, "t").await?;
        assert!(after.leaks().any(|leak| leak.what.contains(found)), "{hole}: {after}");
        let refused = proxy.assert_isolated("t").await;
        assert!(
            matches!(&refused, Err(TestProxyError::Leaked(report)) if report.to_string().contains("LEAK")),
            "{hole}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_row_that_only_a_constraint_stopped_is_a_leak() -> Result {
    let proxy = shop().await?;
    // The reference is to a row that no tenant has, so that no insert can succeed.
    proxy
        .execute("DROP POLICY pgvpd_tenant_guard ON orders; CREATE POLICY hole ON orders FOR INSERT WITH CHECK (true)")
        .await?;
    let report = report(&proxy, "orders").await?;
    let leak = report.leaks().find(|leak| leak.what.contains("inserts a row"));
    assert!(leak.is_some_and(|leak| leak.to_string().contains("only a constraint stopped it")), "{report}");
    Ok(())
}

#[tokio::test]
async fn it_is_the_table_that_the_tenants_see() -> Result {
    let proxy = TestProxy::builder()
        .schema(
            // The administrator's own of that name is another.
            "CREATE SCHEMA sales; GRANT USAGE ON SCHEMA sales TO app_user;
             DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = sales', current_database()); END $$;
             ALTER ROLE CURRENT_USER SET search_path = public;
             CREATE TABLE t (tenant_id text); SELECT pgvpd_protect('t'); GRANT SELECT ON t TO app_user;
             CREATE TABLE sales.t (tenant_id text, \"Note\" text NOT NULL); GRANT SELECT ON sales.t TO app_user",
        )
        .start()
        .await?;
    let before = report(&proxy, "t").await?;
    assert!(before.table == "sales.t" && !before.holds(), "{before}");
    proxy.execute("SELECT pgvpd_protect('sales.t')").await?;
    let after = report(&proxy, "t").await?;
    assert!(after.holds(), "{after}");
    Ok(())
}

#[tokio::test]
async fn a_sequence_that_the_role_may_not_use_hides_no_hole() -> Result {
    let proxy = shop().await?;
    proxy
        .execute(
            "CREATE TABLE t (id bigserial PRIMARY KEY, small smallserial, tenant_id text); ALTER TABLE t ENABLE ROW LEVEL SECURITY;
             CREATE POLICY tenant ON t USING (tenant_id = current_tenant_id()) WITH CHECK (true);
             GRANT SELECT, INSERT ON t TO app_user",
        )
        .await?;
    let report = report(&proxy, "t").await?;
    assert!(report.leaks().any(|leak| leak.what.contains("inserts a row of t")), "{report}");
    Ok(())
}

#[tokio::test]
async fn a_partition_with_rights_of_its_own_is_found() -> Result {
    let proxy = shop().await?;
    proxy
        .execute(
            "CREATE TABLE events (tenant_id integer NOT NULL, body text) PARTITION BY HASH (tenant_id);
         CREATE TABLE events_0 PARTITION OF events FOR VALUES WITH (MODULUS 1, REMAINDER 0);
         SELECT pgvpd_protect('events'); GRANT SELECT, INSERT ON events TO app_user",
        )
        .await?;
    let before = report(&proxy, "events").await?;
    assert!(before.holds(), "{before}");
    proxy.execute("ALTER TABLE events_0 DISABLE ROW LEVEL SECURITY; GRANT SELECT ON events_0 TO app_user").await?;
    let after = report(&proxy, "events").await?;
    assert!(after.leaks().any(|leak| leak.what.contains("from partition or child public.events_0")), "{after}");
    Ok(())
}

#[tokio::test]
async fn columns_of_other_types_and_names_are_tried_as_well() -> Result {
    let proxy = TestProxy::builder().set("context_variables", "app.current_tenant_id,app.user_id").start().await?;
    for column_type in ["uuid", "integer", "bigint", "varchar(40)", "text"] {
        proxy
            .execute(&format!(
                "DROP TABLE IF EXISTS t; CREATE TABLE t (\"Org\" {column_type}); SELECT pgvpd_protect('t', 'Org');
             GRANT SELECT, INSERT, UPDATE, DELETE ON t TO app_user"
            ))
            .await?;
        let report = proxy.isolation_of("t").column("Org").run().await?;
        assert!(report.holds(), "{column_type}: {report}");
        proxy.execute("ALTER TABLE t DISABLE ROW LEVEL SECURITY").await?;
        assert!(!proxy.isolation_of("t").column("Org").run().await?.holds(), "{column_type}");
    }
    Ok(())
}

#[tokio::test]
async fn fresh_tenants_have_the_form_that_the_proxy_asks_for() -> Result {
    for format in ["text", "uuid", "integer"] {
        let proxy = TestProxy::builder().set("tenant_format", format).schema(SHOP).start().await?;
        proxy.assert_isolated("customers").await?;
        proxy.connect(&proxy.tenant()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_check_that_would_prove_nothing_is_refused() -> Result {
    let proxy = shop().await?;
    proxy.execute(
        "CREATE ROLE boss LOGIN SUPERUSER PASSWORD 'secret'; CREATE ROLE bypasser LOGIN BYPASSRLS PASSWORD 'secret';
         CREATE ROLE owner_role LOGIN PASSWORD 'secret'; CREATE ROLE in_disguise LOGIN PASSWORD 'secret'; CREATE ROLE nobody_here LOGIN PASSWORD 'secret';
         GRANT bypasser TO in_disguise; GRANT ALL ON customers TO boss, bypasser, in_disguise;
         CREATE TABLE owned (tenant_id text); ALTER TABLE owned OWNER TO owner_role; ALTER TABLE owned ENABLE ROW LEVEL SECURITY",
    ).await?;
    let port = proxy.postgres().port();
    // Past the proxy, which refuses superusers itself.
    let attempt = async |role: &str, table: &str| {
        let url = format!("postgresql://{role}:secret@127.0.0.1:{port}/app");
        proxy.isolation_of(table).tenant("acme", &url).tenant("globex", &url).run().await
    };
    assert!(matches!(attempt("boss", "customers").await, Err(IsolationError::Superuser { role }) if role == "boss"));
    assert!(matches!(attempt("bypasser", "customers").await, Err(IsolationError::BypassRls { .. })));
    assert!(
        matches!(attempt("in_disguise", "customers").await, Err(IsolationError::BypassRls { role }) if role == "bypasser")
    );
    assert!(matches!(attempt("owner_role", "owned").await, Err(IsolationError::Owner { .. })));
    assert!(matches!(attempt("nobody_here", "customers").await, Err(IsolationError::NoRight { .. })));
    // Without a context, nobody sees the row that carries the name.
    proxy.execute("CREATE ROLE lost LOGIN PASSWORD 'secret'; GRANT SELECT ON customers TO lost").await?;
    assert!(matches!(attempt("lost", "customers").await, Err(IsolationError::OwnRowHidden { .. })));

    let check = |table: &str| proxy.isolation_of(table);
    assert!(matches!(check("nowhere").run().await, Err(IsolationError::NoTable(_))));
    assert!(matches!(check("orders").column("org_id").run().await, Err(IsolationError::NoColumn { .. })));
    let same = check("orders").tenant("acme", proxy.url("acme")).tenant("acme", proxy.url("acme"));
    assert!(matches!(same.run().await, Err(IsolationError::Tenants(_))));
    let no_admin = pgvpd_core::testing::IsolationCheck::of("customers")
        .tenant("acme", proxy.url("acme"))
        .tenant("globex", proxy.url("globex"));
    assert!(matches!(no_admin.run().await, Err(IsolationError::NoRows { .. })));
    let client = proxy.postgres().connect(proxy.database()).await?;
    let count: i64 = client.query_one("SELECT count(*) FROM customers", &[]).await?.get(0);
    assert_eq!(count, 0, "rows are removed on errors, too");
    Ok(())
}
