//! The Rust clients.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, TryStreamExt, future};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, Row};
use support::{ADMINISTRATOR, APP_PASSWORD, SHOP, after_cancel};
use tokio_postgres::{Client, NoTls};

use crate::{PATIENCE, Target};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const ROWS: &str = "SELECT DISTINCT tenant_id || ' ' || count(*) OVER () FROM notes";
const FOREIGN: &str = "INSERT INTO notes (tenant_id, body) VALUES ('globex', 'x')";

/// What a client says, line by line.
struct Lines(Vec<String>);

impl Lines {
    fn ok(&mut self, step: &str) {
        self.0.push(format!("ok {step}"));
    }
}

/// The line that names the version of a crate.
fn version_of(name: &str) -> String {
    let lock = include_str!("../../../Cargo.lock");
    let package =
        lock.split_once(&format!("name = \"{name}\"\nversion = \"")).and_then(|(_, rest)| rest.split('"').next());
    format!("client {}", package.unwrap_or("?"))
}

fn same<T: PartialEq + std::fmt::Debug>(expected: T, found: T) -> Result<(), Failure> {
    if expected == found { Ok(()) } else { Err(format!("expected {expected:?}, got {found:?}").into()) }
}

fn sleep(tenant: &str) -> String {
    format!("SELECT pg_sleep(60) /* {tenant} */")
}

fn running(tenant: &str) -> String {
    format!("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = '{}'", sleep(tenant))
}

async fn in_time(client: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let stuck = || format!("not done within {} s", PATIENCE.as_secs());
    tokio::time::timeout(PATIENCE, client).await.map_err(|_| stuck())?
}

fn ended(lines: Lines, result: Result<(), Failure>) -> (Vec<String>, Result<(), String>) {
    (lines.0, result.map_err(|error| error.to_string()))
}

pub(super) async fn tokio_postgres(target: &Target) -> (Vec<String>, Result<(), String>) {
    let mut lines = Lines(vec![version_of("tokio-postgres")]);
    let result = in_time(with_tokio_postgres(target, &mut lines)).await;
    ended(lines, result)
}

async fn log_in(target: &Target, user: &str) -> Result<Client, tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(target.port).dbname(SHOP).user(user).password(APP_PASSWORD);
    let (client, connection) = config.connect_timeout(Duration::from_secs(30)).connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn code(error: &tokio_postgres::Error) -> &str {
    error.code().map_or("", |code| code.code())
}

async fn with_tokio_postgres(target: &Target, lines: &mut Lines) -> Result<(), Failure> {
    let tenant = target.tenant.as_str();
    let acme = log_in(target, "app_user.acme").await?;
    let globex = log_in(target, "app_user.globex").await?;
    let mut own = log_in(target, &format!("app_user.{tenant}")).await?;
    same("acme 3", acme.query_one(ROWS, &[]).await?.get(0))?;
    same("globex 2", globex.query_one(ROWS, &[]).await?.get(0))?;
    lines.ok("isolation");

    let refused = acme.execute(FOREIGN, &[]).await.err().ok_or("a foreign row was written")?;
    same("42501", code(&refused))?;
    same(0, acme.execute("UPDATE notes SET body = 'x' WHERE tenant_id = 'globex'", &[]).await?)?;
    lines.ok("foreign_write");

    let row = acme.query_one("SELECT $1::text, $2::int", &[&"it's", &7]).await?;
    same(("it's", 7), (row.get(0), row.get(1)))?;
    lines.ok("parameters");

    let statement = acme.prepare("SELECT $1::int + 1").await?;
    for number in 0..5 {
        same(number + 1, acme.query_one(&statement, &[&number]).await?.get(0))?;
    }
    lines.ok("prepared");

    let answers = (0..200).map(|_| acme.query_one("SELECT current_tenant_id()", &[]));
    for row in future::try_join_all(answers).await? {
        same("acme", row.get(0))?;
    }
    lines.ok("pipeline");

    for (body, kept) in [("kept", true), ("lost", false)] {
        let transaction = own.transaction().await?;
        transaction.execute("INSERT INTO notes (body) VALUES ($1)", &[&body]).await?;
        if kept {
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
    }
    same("kept", own.query_one("SELECT string_agg(body, ' ') FROM notes", &[]).await?.get(0))?;
    lines.ok("transaction");

    let sink = own.copy_in("COPY uploads FROM STDIN").await?;
    let mut sink = std::pin::pin!(sink);
    for number in 0..1000 {
        sink.send(Bytes::from(format!("{tenant} {number}\n"))).await?;
    }
    same(1000, sink.as_mut().finish().await?)?;
    let copy = format!("COPY (SELECT body FROM uploads WHERE body LIKE '{tenant} %') TO STDOUT");
    let copied: Vec<Bytes> = own.copy_out(&copy).await?.try_collect().await?;
    same(1000, copied.concat().split(|&byte| byte == b'\n').count() - 1)?;
    lines.ok("copy");

    let token = own.cancel_token();
    let (query, running) = (sleep(tenant), running(tenant));
    let cancel = async {
        while acme.query_one(&running, &[]).await?.get::<_, i64>(0) != 1 {}
        token.cancel_query(NoTls).await
    };
    let (slept, cancelled) = tokio::join!(own.simple_query(&query), cancel);
    cancelled?;
    same("57014", code(&slept.err().ok_or("the query was not cancelled")?))?;
    let row = after_cancel(async || own.query_one("SELECT current_tenant_id()", &[]).await).await?;
    same(tenant, row.get(0))?;
    lines.ok("cancel");

    drop(own);
    let again = log_in(target, &format!("app_user.{tenant}")).await?;
    same(tenant, again.query_one("SELECT current_tenant_id()", &[]).await?.get(0))?;
    lines.ok("reconnect");

    let refused = log_in(target, "app_user").await.err().ok_or("a login without a tenant succeeded")?;
    let said = refused.as_db_error().map_or("", |error| error.message());
    same(("28000", true), (code(&refused), said.starts_with("pgvpd: ")))?;
    lines.ok("no_tenant");

    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(target.port).dbname("pgvpd").user(ADMINISTRATOR).password(APP_PASSWORD);
    let (console, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    let lists = console.query("SHOW LISTS", &[]).await?;
    let used = lists.iter().find(|row| row.get::<_, &str>("list") == "used_clients").ok_or("no used_clients")?;
    same(true, used.get::<_, i64>("items") >= 2)?;
    same(0, console.execute("DISCONNECT TENANT $1", &[&"nobody"]).await?)?;
    lines.ok("console");
    Ok(())
}

pub(super) async fn sqlx(target: &Target) -> (Vec<String>, Result<(), String>) {
    let mut lines = Lines(vec![version_of("sqlx")]);
    let result = in_time(with_sqlx(target, &mut lines)).await;
    ended(lines, result)
}

async fn sqlx_connect(target: &Target, user: &str) -> Result<PgConnection, sqlx::Error> {
    let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(target.port).database(SHOP);
    options.username(user).password(APP_PASSWORD).ssl_mode(PgSslMode::Disable).connect().await
}

async fn value(connection: &mut PgConnection, sql: &str) -> Result<String, sqlx::Error> {
    connection.fetch_one(sql).await?.try_get(0)
}

fn sqlx_code(error: &sqlx::Error) -> String {
    error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned()
}

async fn with_sqlx(target: &Target, lines: &mut Lines) -> Result<(), Failure> {
    let tenant = target.tenant.as_str();
    let mut acme = sqlx_connect(target, "app_user.acme").await?;
    let mut globex = sqlx_connect(target, "app_user.globex").await?;
    let mut own = sqlx_connect(target, &format!("app_user.{tenant}")).await?;
    same("acme 3".to_owned(), value(&mut acme, ROWS).await?)?;
    same("globex 2".to_owned(), value(&mut globex, ROWS).await?)?;
    lines.ok("isolation");

    let refused = acme.execute(FOREIGN).await.err().ok_or("a foreign row was written")?;
    same("42501".to_owned(), sqlx_code(&refused))?;
    same(0, acme.execute("UPDATE notes SET body = 'x' WHERE tenant_id = 'globex'").await?.rows_affected())?;
    lines.ok("foreign_write");

    let row = sqlx::query("SELECT $1::text, $2::int").bind("it's").bind(7).fetch_one(&mut acme).await?;
    same(("it's", 7), (row.try_get(0)?, row.try_get(1)?))?;
    lines.ok("parameters");

    for number in 0..5 {
        let row = sqlx::query("SELECT $1::int + 1").bind(number).fetch_one(&mut acme).await?;
        same(number + 1, row.try_get(0)?)?;
    }
    let named = "SELECT count(*)::text FROM pg_prepared_statements WHERE statement = 'SELECT $1::int + 1'";
    same("1".to_owned(), value(&mut acme, named).await?)?;
    lines.ok("prepared");

    lines.0.push("none pipeline".into());

    for (body, kept) in [("kept", true), ("lost", false)] {
        let mut transaction = own.begin().await?;
        sqlx::query("INSERT INTO notes (body) VALUES ($1)").bind(body).execute(&mut *transaction).await?;
        if kept {
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
    }
    same("kept".to_owned(), value(&mut own, "SELECT string_agg(body, ' ') FROM notes").await?)?;
    lines.ok("transaction");

    let mut sink = own.copy_in_raw("COPY uploads FROM STDIN").await?;
    for number in 0..1000 {
        sink.send(format!("{tenant} {number}\n").as_bytes()).await?;
    }
    same(1000, sink.finish().await?)?;
    let copy = format!("COPY (SELECT body FROM uploads WHERE body LIKE '{tenant} %') TO STDOUT");
    let mut copied = Vec::new();
    {
        let mut stream = own.copy_out_raw(&copy).await?;
        while let Some(chunk) = stream.next().await {
            copied.extend(chunk?);
        }
    }
    same(1000, copied.split(|&byte| byte == b'\n').count() - 1)?;
    lines.ok("copy");

    // sqlx sends no cancel request; the server's own function does the same to the backend.
    let pid = value(&mut own, "SELECT pg_backend_pid()::text").await?;
    let (query, running) = (sleep(tenant), running(tenant));
    let stop = format!("SELECT pg_cancel_backend({pid})");
    let cancel = async {
        while acme.fetch_one(running.as_str()).await?.try_get::<i64, _>(0)? != 1 {}
        acme.execute(stop.as_str()).await
    };
    let (slept, cancelled) = tokio::join!(own.execute(query.as_str()), cancel);
    cancelled?;
    same("57014".to_owned(), sqlx_code(&slept.err().ok_or("the query was not cancelled")?))?;
    same(tenant.to_owned(), value(&mut own, "SELECT current_tenant_id()").await?)?;
    lines.ok("cancel");

    own.close().await?;
    let mut again = sqlx_connect(target, &format!("app_user.{tenant}")).await?;
    same(tenant.to_owned(), value(&mut again, "SELECT current_tenant_id()").await?)?;
    lines.ok("reconnect");

    let refused = sqlx_connect(target, "app_user").await.err().ok_or("a login without a tenant succeeded")?;
    let said = refused.as_database_error().map_or("", |error| error.message());
    same(("28000".to_owned(), true), (sqlx_code(&refused), said.starts_with("pgvpd: ")))?;
    lines.ok("no_tenant");

    let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(target.port).database("pgvpd");
    let options = options.username(ADMINISTRATOR).password(APP_PASSWORD).ssl_mode(PgSslMode::Disable);
    let mut console = options.connect().await?;
    let lists = sqlx::query("SHOW LISTS").fetch_all(&mut console).await?;
    let used = lists.iter().find(|row| row.get::<&str, _>("list") == "used_clients").ok_or("no used_clients")?;
    same(true, used.get::<i64, _>("items") >= 2)?;
    sqlx::query("DISCONNECT TENANT $1").bind("nobody").execute(&mut console).await?;
    lines.ok("console");
    Ok(())
}
