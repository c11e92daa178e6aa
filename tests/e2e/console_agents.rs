//! Monitoring agents that were made for PgBouncer's console: what they ask, as they ask it. The columns are those that
//! prometheus-community's pgbouncer_exporter (0.12) and Datadog's pgbouncer integration (8) read.

use std::collections::HashMap;

use pgvpd_core::Proxy;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::support::{ADMINISTRATOR, TestProxy, TestResult, auth_file, cluster, proxy, psql, within};

async fn with_console() -> TestProxy {
    let file = auth_file().display().to_string();
    proxy(&[("auth_file", &file), ("admin_users", ADMINISTRATOR)]).await
}

/// A connection to the database that agents name.
async fn agent(proxy: &TestProxy) -> Client {
    let mut config = proxy.config(ADMINISTRATOR);
    let connecting = config.dbname("pgbouncer").connect(NoTls);
    let (client, connection) = within("the console", connecting).await.expect("let in");
    tokio::spawn(connection);
    client
}

type Row = HashMap<String, Option<String>>;

async fn rows(client: &Client, query: &str) -> Vec<Row> {
    let messages = within(query, client.simple_query(query)).await.unwrap_or_else(|error| panic!("{query}: {error}"));
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => {
            let columns = row.columns().iter().enumerate();
            Some(columns.map(|(at, column)| (column.name().to_owned(), row.get(at).map(str::to_owned))).collect())
        }
        _ => None,
    };
    messages.into_iter().filter_map(row).collect()
}

/// A query, the columns that are labels and never NULL, and those that are figures: numbers, or NULL for what is not measured.
const ASKED: [(&str, &[&str], &[&str]); 5] = [
    (
        "SHOW STATS",
        &["database"],
        &[
            "total_xact_count",
            "total_query_count",
            "total_received",
            "total_sent",
            "total_query_time",
            "total_xact_time",
            "total_wait_time",
            "avg_xact_count",
            "avg_query_count",
            "avg_recv",
            "avg_sent",
            "avg_xact_time",
            "avg_query_time",
            "avg_wait_time",
        ],
    ),
    (
        "SHOW stats_totals;",
        &["database"],
        &["query_count", "query_time", "bytes_received", "bytes_sent", "wait_time", "xact_count", "xact_time"],
    ),
    (
        "SHOW pools;",
        &["database", "user", "pool_mode"],
        &[
            "cl_active",
            "cl_active_cancel_req",
            "cl_waiting",
            "cl_waiting_cancel_req",
            "sv_active",
            "sv_active_cancel",
            "sv_being_canceled",
            "sv_idle",
            "sv_used",
            "sv_tested",
            "sv_login",
            "maxwait",
            "maxwait_us",
        ],
    ),
    (
        "SHOW databases;",
        &["name", "host", "port", "database", "pool_mode"],
        &["pool_size", "reserve_pool_size", "max_connections", "current_connections", "paused", "disabled"],
    ),
    ("SHOW USERS", &["name", "pool_mode"], &["pool_size", "current_connections", "current_client_connections"]),
];

#[tokio::test]
async fn agents_for_pgbouncer_find_what_they_ask_for() -> TestResult {
    let proxy = with_console().await;
    let tenant = proxy.log_in("app_user.acme").await;
    tenant.batch_execute("SELECT 1").await?;
    let agent = agent(&proxy).await;
    for (query, labels, figures) in ASKED {
        let rows = rows(&agent, query).await;
        assert!(!rows.is_empty(), "{query}");
        for row in &rows {
            let cell =
                |name: &str| row.get(name).unwrap_or_else(|| panic!("{query} has no {name}: {row:?}")).as_deref();
            labels.iter().for_each(|name| assert!(cell(name).is_some(), "{query}: {name} is NULL"));
            for name in figures {
                let is_number = cell(name).is_none_or(|value| value.parse::<f64>().is_ok());
                assert!(is_number, "{query}: {name} in {row:?}");
            }
        }
        // The exporter asks by the simple protocol; a driver that prepares sees the same, with types.
        let prepared = within(query, agent.prepare(query)).await?;
        for column in prepared.columns() {
            let expected = if figures.contains(&column.name()) { Type::INT8 } else { column.type_().clone() };
            assert_eq!(*column.type_(), expected, "{query}: {}", column.name());
        }
    }
    let of = |rows: Vec<Row>, column: &str| rows.iter().find_map(|row| row.get(column).cloned().flatten());
    let received = of(rows(&agent, "SHOW STATS_TOTALS").await, "bytes_received").ok_or("a figure")?;
    assert!(received.parse::<u64>()? > 0);
    Ok(())
}

#[tokio::test]
async fn lists_and_options_are_rows_that_agents_can_read() -> TestResult {
    let proxy = with_console().await;
    let _tenant = proxy.log_in("app_user.acme").await;
    let agent = agent(&proxy).await;
    let lists = rows(&agent, "SHOW LISTS;").await;
    let list = |name: &str| lists.iter().find(|row| row["list"].as_deref() == Some(name)).ok_or(name.to_owned());
    for name in ["databases", "users", "pools", "used_clients", "login_clients", "free_servers", "used_servers"] {
        // A list without a number ends the exporter's scrape.
        assert!(list(name)?["items"].as_deref().is_some_and(|items| items.parse::<u64>().is_ok()), "{name}");
    }
    assert_eq!(list("used_clients")?["items"].as_deref(), Some("1"));

    let config = within("SHOW CONFIG", agent.prepare("SHOW CONFIG;")).await?;
    let columns: Vec<_> = config.columns().iter().map(tokio_postgres::Column::name).collect();
    assert_eq!(columns, ["key", "value", "default", "changeable"], "the exporter reads them by place");
    let config = rows(&agent, "SHOW CONFIG;").await;
    assert!(config.iter().all(|row| row["key"].is_some() && row["changeable"].is_some()));
    let clients =
        config.iter().find(|row| row["key"].as_deref() == Some("max_client_conn")).ok_or("max_client_conn")?;
    assert!(clients["value"].as_deref().is_some_and(|value| value.parse::<u64>().is_ok()), "{clients:?}");

    let version = rows(&agent, "SHOW VERSION;").await;
    let version = version.first().and_then(|row| row["version"].clone()).ok_or("a version")?;
    let numbers: Vec<_> = version.split([' ', '.']).filter_map(|part| part.parse::<u32>().ok()).collect();
    assert_eq!(numbers.len(), 3, "Datadog's agent looks for three numbers: {version}");
    let totals = rows(&agent, "SHOW TOTALS").await;
    assert!(totals.iter().any(|row| row["name"].as_deref() == Some("total_received")), "{totals:?}");
    assert!(rows(&agent, "SHOW MEM").await.is_empty());
    for row in rows(&agent, "SHOW CLIENTS").await.into_iter().chain(rows(&agent, "SHOW SERVERS").await) {
        let time = row["connect_time"].as_deref().ok_or("a time")?;
        assert!(time.len() == 23 && time.ends_with(" UTC"), "Datadog's agent reads \"2026-01-31 12:00:00\": {time}");
    }
    Ok(())
}

#[tokio::test]
async fn what_a_drivers_pool_sends_between_two_users_is_answered() -> TestResult {
    let proxy = with_console().await;
    let agent = agent(&proxy).await;
    for sql in [
        "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;",
        "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; SELECT pg_advisory_unlock_all(); \
         DISCARD SEQUENCES; DISCARD TEMP",
        "DISCARD ALL",
        "BEGIN; ROLLBACK",
        "",
    ] {
        within(sql, agent.batch_execute(sql)).await.map_err(|error| format!("{sql}: {error}"))?;
    }
    let row = within("unlock", agent.query_one("SELECT pg_advisory_unlock_all()", &[])).await?;
    assert_eq!(row.columns()[0].name(), "pg_advisory_unlock_all");
    let refused = agent.batch_execute("BEGIN; DISCARD ALL").await.expect_err("as PostgreSQL");
    assert_eq!(refused.code().map(tokio_postgres::error::SqlState::code), Some("25001"));
    Ok(())
}

#[tokio::test]
async fn the_database_pgbouncer_is_as_closed_as_the_console() -> TestResult {
    let with = with_console().await;
    for user in ["app_user.acme", "nobody"] {
        let mut config = with.config(user);
        let error = within("a login", config.dbname("pgbouncer").connect(NoTls)).await.err().ok_or(user)?;
        assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("28P01"), "{user}");
    }
    let without = Proxy::builder().port(0).upstream_port(cluster().await.postgres.port()).start().await?;
    let port = without.local_addr().port().to_string();
    let refused = psql(&["-h", "127.0.0.1", "-p", &port, "-U", "root", "-d", "pgbouncer"], "SELECT 1").await;
    assert!(refused.err.contains("For the admin console set admin_users"), "{}", refused.err);
    Ok(())
}
