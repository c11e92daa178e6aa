//! The database of a session whose client names none, or, as libpq does then, the whole user name: it is the one named like the role,
//! and everything that shows or asks for it says so.

use serde_json::Value;
use tokio_postgres::{Client, NoTls};

use crate::support::{ADMINISTRATOR, APP_PASSWORD, TestProxy, TestResult, auth_file, cluster, proxy, within};

const DATABASE: &str = "app_user";

async fn log_in(proxy: &TestProxy, user: &str, database: Option<&str>) -> Client {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(proxy.port()).user(user).password(APP_PASSWORD);
    database.map(|database| config.dbname(database));
    let (client, connection) = within("login", config.connect(NoTls)).await.expect("login");
    tokio::spawn(connection);
    client
}

/// How often the server was asked whether policies hold a role, in the database that logs its statements. The errors of other
/// tests, on the same server, show statements with that name too.
fn role_checks(log: &str) -> usize {
    log.lines().filter(|line| line.contains("LOG:  execute ") && line.contains("pgvpd_tenant_isolation")).count()
}

#[tokio::test]
async fn a_login_without_a_database_has_one_name_for_it_everywhere() -> TestResult {
    let postgres = &cluster().await.postgres;
    postgres.create_database(DATABASE).await?;
    postgres.execute("postgres", "ALTER DATABASE app_user SET log_statement = 'all'").await?;
    let directory = tempfile::tempdir()?;
    let audit = directory.path().join("audit.log");
    let (file, log) = (auth_file().display().to_string(), audit.display().to_string());
    let options = [("auth_file", &*file), ("admin_users", ADMINISTRATOR), ("audit_log", &*log), ("role_check", "warn")];
    let proxy = proxy(&options).await;
    let clients = [
        log_in(&proxy, "app_user.a", Some("app_user.a")).await,
        log_in(&proxy, "app_user.b", Some("app_user.b")).await,
        log_in(&proxy, "app_user.c", None).await,
    ];
    for client in &clients {
        let row = client.query_one("SELECT current_database()", &[]).await?;
        assert_eq!(row.get::<_, String>(0), DATABASE);
    }

    let status = proxy.handle.status(10);
    let shown: Vec<_> = status.sessions.shown.iter().map(|session| &*session.database).collect();
    assert_eq!(shown, [DATABASE; 3]);
    let used: Vec<_> = status.databases.iter().map(|one| (&*one.database, one.total.sessions)).collect();
    assert_eq!(used, [(DATABASE, 3)]);
    for pool in &status.pools {
        assert_eq!((&*pool.database, pool.used), (DATABASE, 3), "one pool for all");
    }

    let events = std::fs::read_to_string(&audit)?;
    let events = events.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    let databases: Vec<Value> = events.map(|event: Value| event["database"].clone()).collect();
    assert_eq!(databases, [DATABASE; 3]);

    let mut config = proxy.config(ADMINISTRATOR);
    let (console, connection) = within("the console", config.dbname("pgvpd").connect(NoTls)).await?;
    tokio::spawn(connection);
    for (query, column) in [
        ("SHOW CLIENTS", "database"),
        ("SHOW SERVERS", "database"),
        ("SHOW STATS", "database"),
        ("SHOW DATABASES", "name"),
    ] {
        let rows = within(query, console.query(query, &[])).await?;
        assert!(!rows.is_empty() && rows.iter().all(|row| row.get::<_, String>(column) == DATABASE), "{query}");
    }

    let log = String::from_utf8_lossy(&std::fs::read(postgres.socket_dir().join("log"))?).into_owned();
    assert_eq!(role_checks(&log), 1, "one answer is good for all tenants of the role");
    Ok(())
}

#[tokio::test]
async fn names_that_postgresql_would_cut_off_are_refused() {
    let proxy = proxy(&[]).await;
    let (role, database) = ("r".repeat(64), "d".repeat(64));
    for (user, database, named) in [(&*format!("{role}.acme"), "shop", &role), ("app_user.acme", &*database, &database)]
    {
        let mut config = proxy.config(user);
        let error = within("a login", config.dbname(database).connect(NoTls)).await.err().expect("refused");
        let error = error.as_db_error().expect("the proxy's");
        assert_eq!(error.code().code(), "28000");
        assert!(error.message().contains(named) && error.message().contains("63 bytes"), "{}", error.message());
    }
}
