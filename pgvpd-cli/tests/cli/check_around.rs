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
