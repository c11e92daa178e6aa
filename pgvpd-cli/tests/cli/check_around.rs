//! `pgvpd check`: what is around the database: passwords, `pg_hba.conf`, the proxy's way to the server.

use pgvpd_core::sql::{AUDIT, SETUP};
use pgvpd_core::testing::Postgres;

use crate::check::{Checked, check};
use crate::support::TestResult;

#[tokio::test]
async fn the_default_password_is_found_where_it_works() {
    let database = Checked::installed("check_password").await;
    database
        .execute(
            "CREATE ROLE lazy LOGIN PASSWORD 'changeme'; CREATE ROLE careful LOGIN PASSWORD 'x'; CREATE ROLE asleep PASSWORD 'changeme'",
        )
        .await;
    let roles = ["--app-role", "lazy", "--app-role", "careful", "--app-role", "asleep"];
    let said = database.check(&roles);
    assert_eq!(said.code, 1);
    assert!(said.has("P01", "role lazy"), "{}", said.out);
    assert_eq!(said.out.matches("P01").count(), 1, "{}", said.out);
    assert!(!said.out.contains("P09"), "{}", said.out);
    database.execute("ALTER ROLE lazy PASSWORD 'x'").await;
    assert!(!database.check(&roles).out.contains("P01"));
}

#[tokio::test]
async fn rules_of_pg_hba_that_let_too_many_in_are_found() -> TestResult {
    let rules = [
        "local all all trust",
        "host shop trusting 127.0.0.1/32 trust",
        "host all postgres 127.0.0.1/32 scram-sha-256",
        "host all all 0.0.0.0/0 scram-sha-256",
    ];
    let postgres = Postgres::builder().setting("listen_addresses", "127.0.0.1, 127.0.0.2").hba(rules).start().await?;
    postgres.create_database("shop").await?;
    let roles = "CREATE ROLE trusting LOGIN; CREATE ROLE watcher LOGIN PASSWORD 'x';
                 GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public, pgvpd TO watcher";
    for sql in [SETUP, AUDIT, roles] {
        postgres.execute("shop", sql).await?;
    }
    let url = postgres.url("shop");
    let roles = ["--database", &url, "--app-role", "app_user", "--app-role", "trusting"];
    let said = check(&roles, &[]);
    assert!(said.has("P02", "local all all trust"), "{}", said.out);
    assert!(said.has("P02", "host shop trusting 127.0.0.1/32 trust"), "{}", said.out);
    assert!(said.has("P02", "role trusting"), "a login without a password: {}", said.out);
    assert!(!said.out.contains("P01"), "no password is no default password: {}", said.out);
    // It listens on this machine alone.
    assert!(!said.out.contains("P03"), "{}", said.out);

    let everywhere = Postgres::builder().setting("listen_addresses", "0.0.0.0").hba(rules).start().await?;
    everywhere.create_database("shop").await?;
    for sql in [SETUP, AUDIT] {
        everywhere.execute("shop", sql).await?;
    }
    let url = everywhere.url("shop");
    let severity_of = |said: &crate::check::Said| {
        let (before, _) = said.out.split_once("P03").unwrap_or_else(|| panic!("no P03: {}", said.out));
        before.lines().rfind(|line| !line.starts_with(' ') && line.contains('(')).unwrap_or_default().to_owned()
    };
    let said = check(&["--database", &url], &[]);
    assert!(said.has("P03", "host all all 0.0.0.0/0 scram-sha-256"), "{}", said.out);
    assert!(severity_of(&said).starts_with("HIGH"), "{}", said.out);
    // A session that no proxy has made sees nothing then.
    everywhere.execute("shop", "SELECT pgvpd.install_key('1', sha256('a'))").await?;
    let said = check(&["--database", &url], &[]);
    assert!(severity_of(&said).starts_with("WARNING"), "{}", said.out);
    everywhere.stop().await?;

    let url = format!("postgresql://watcher:x@127.0.0.1:{}/shop", postgres.port());
    let said = check(&["--database", &url], &[]);
    assert!(said.has("P09", "pg_hba.conf"), "{said:?}");
    postgres.stop().await?;
    Ok(())
}

#[tokio::test]
async fn the_proxys_way_to_the_server_is_checked_with_its_configuration() -> TestResult {
    let database = Checked::installed("check_upstream").await;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("pgvpd.conf");
    let path = file.to_str().ok_or("not UTF-8")?;
    for (line, found) in [("upstream_host = db.internal", true), ("upstream_host = 127.0.0.1", false)] {
        std::fs::write(&file, line)?;
        let said = database.check(&["--config", path]);
        assert_eq!(said.has("P04", "upstream_host db.internal"), found, "{said:?}");
    }
    std::fs::write(&file, "port = x")?;
    let refused = database.check(&["--config", path]);
    assert!(refused.code == 2 && refused.err.contains("invalid configuration"), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn limits_of_a_shared_role_are_listed_with_what_closes_them() -> TestResult {
    let database = Checked::installed("check_limits").await;
    database
        .execute(
            "CREATE TABLE orders (tenant_id text, item text, price int, note text); INSERT INTO orders SELECT 'acme', n::text, n FROM generate_series(1, 9) n;
             SELECT pgvpd_protect('orders'); REVOKE SELECT ON orders FROM app_user; GRANT SELECT (tenant_id, item, price) ON orders TO app_user;
             CREATE TABLE plain (tenant_id text, item text); SELECT pgvpd_protect('plain'); CREATE SCHEMA ext; ANALYZE orders",
        )
        .await;
    let said = database.check(&[]);
    assert!(said.has("P12", "orders"), "{}", said.out);
    assert!(said.out.contains("SELECT public.pgvpd_hide_statistics('orders', 'item', 'price');"), "{}", said.out);
    assert!(!said.has("P12", "plain"), "nothing was found in it yet: {}", said.out);
    assert!(!said.out.contains("P11"), "only the proxy's configuration says: {}", said.out);
    database.execute("SELECT public.pgvpd_hide_statistics('orders', 'item', 'price')").await;
    assert!(!database.check(&[]).out.contains("P12"));

    let directory = tempfile::tempdir()?;
    let file = directory.path().join("pgvpd.conf");
    let path = file.to_str().ok_or("not UTF-8")?;
    for (lines, found) in [("port = 1", true), ("pool_mode = session\nauth_file = users.txt", false)] {
        std::fs::write(directory.path().join("users.txt"), "\"app_user\" \"secret\"\n")?;
        std::fs::set_permissions(
            directory.path().join("users.txt"),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )?;
        std::fs::write(&file, lines)?;
        let said = database.check(&["--config", path]);
        assert_eq!(said.has("P11", "role app_user"), found, "{said:?}");
    }
    Ok(())
}

/// A server that has the extension, which a build without contrib does not.
#[tokio::test]
async fn statements_that_a_tenant_can_read_are_found() {
    let database = Checked::installed("check_statements").await;
    if !database
        .query::<bool>("SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_stat_statements')")
        .await
    {
        return;
    }
    database
        .execute(
            "CREATE SCHEMA ext; CREATE EXTENSION pg_stat_statements SCHEMA ext; GRANT USAGE ON SCHEMA ext TO app_user",
        )
        .await;
    let said = database.check(&[]);
    assert!(said.has("P13", "ext.pg_stat_statements"), "{}", said.out);
    let fix = database.check(&["--fix-sql"]).out;
    let fix = fix
        .lines()
        .find(|line| line.starts_with("REVOKE ALL ON ext.pg_stat_statements"))
        .unwrap_or_else(|| panic!("{fix}"));
    database.execute(fix).await;
    assert!(!database.check(&[]).out.contains("P13"));
}

#[tokio::test]
async fn a_tenant_format_that_does_not_fit_the_columns_is_found() -> TestResult {
    let database = Checked::installed("check_format").await;
    database
        .execute(
            "CREATE DOMAIN number AS bigint; CREATE TABLE orders (tenant_id number NOT NULL); CREATE TABLE notes (tenant_id text NOT NULL);
             SELECT pgvpd_protect('orders'), pgvpd_protect('notes')",
        )
        .await;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("pgvpd.conf");
    let path = file.to_str().ok_or("not UTF-8")?;
    for (line, found) in
        [("tenant_format = text", true), ("tenant_format = uuid", true), ("tenant_format = integer", false)]
    {
        std::fs::write(&file, line)?;
        let said = database.check(&["--config", path]);
        assert_eq!(said.has("P14", "public.orders.tenant_id"), found, "{line}: {said:?}");
        assert!(!said.has("P14", "public.notes.tenant_id"), "{line}: {said:?}");
    }
    Ok(())
}
