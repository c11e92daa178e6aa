//! The console: what it shows, and what it changes. Who may use it is in `console_access`.

use std::collections::HashMap;

use pgvpd_core::{Config, Proxy, Settings};
use tokio_postgres::{Client, NoTls, Row, SimpleQueryMessage};

use crate::support::{
    ADMINISTRATOR, APP_PASSWORD, Mode, TestProxy, TestResult, WireClient, auth_file, cluster, eventually, mode, proxy,
    psql, startup_packet, within,
};

/// A proxy with a console.
pub(crate) async fn with_console(options: &[(&str, &str)]) -> TestProxy {
    let file = auth_file().display().to_string();
    proxy(&[&[("auth_file", &*file), ("admin_users", ADMINISTRATOR)], options].concat()).await
}

/// An administrator at it.
pub(crate) async fn console(proxy: &TestProxy) -> Client {
    let mut config = proxy.config(ADMINISTRATOR);
    let (client, connection) = within("the console", config.dbname("pgvpd").connect(NoTls)).await.expect("let in");
    tokio::spawn(connection);
    client
}

/// The rows of a SHOW by the simple protocol, by the names of their columns.
pub(crate) async fn show(client: &Client, what: &str) -> Vec<HashMap<String, Option<String>>> {
    let messages = within(what, client.simple_query(&format!("SHOW {what}"))).await.expect(what);
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => {
            let cell = |(at, column): (usize, &tokio_postgres::SimpleColumn)| {
                (column.name().to_owned(), row.get(at).map(str::to_owned))
            };
            Some(row.columns().iter().enumerate().map(cell).collect())
        }
        _ => None,
    };
    messages.into_iter().filter_map(row).collect()
}

pub(crate) fn value<'r>(row: &'r HashMap<String, Option<String>>, column: &str) -> &'r str {
    row.get(column).unwrap_or_else(|| panic!("no {column} in {row:?}")).as_deref().unwrap_or("NULL")
}

pub(crate) async fn code(client: &Client, sql: &str) -> String {
    let error = within(sql, client.batch_execute(sql)).await.expect_err(sql);
    error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned())
}

#[tokio::test]
async fn it_shows_clients_servers_pools_and_what_they_have_done() -> TestResult {
    let proxy = with_console(&[]).await;
    let (acme, globex) = (proxy.log_in("app_user.acme").await, proxy.log_in("app_user.globex").await);
    acme.batch_execute("BEGIN").await?;
    let pid: i32 = acme.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    globex.batch_execute("SELECT 1").await?;
    let admin = console(&proxy).await;

    let clients = show(&admin, "CLIENTS").await;
    assert_eq!(clients.len(), 2, "the console itself is no client of the database: {clients:?}");
    let mine = clients.iter().find(|row| value(row, "tenant") == "acme").ok_or("acme")?;
    for (column, expected) in
        [("type", "C"), ("user", "app_user"), ("database", "shop"), ("addr", "127.0.0.1"), ("tls", "")]
    {
        assert_eq!(value(mine, column), expected, "{mine:?}");
    }
    assert_eq!(value(mine, "link"), pid.to_string());
    assert!(value(mine, "connect_time").ends_with(" UTC"));
    let is_seen = mode() != Mode::Raw;
    assert_eq!(value(mine, "state"), if is_seen { "idle_in_transaction" } else { "open" });
    assert_eq!(value(mine, "query_count") == "NULL", !is_seen);

    let servers = show(&admin, "SERVERS").await;
    assert_eq!(servers.len(), 2, "{servers:?}");
    let its = servers.iter().find(|row| value(row, "remote_pid") == pid.to_string()).ok_or("its server")?;
    assert_eq!((value(its, "link"), value(its, "state")), (value(mine, "ptr"), "active"));

    let pools = show(&admin, "POOLS").await;
    let [pool] = &pools[..] else { panic!("{pools:?}") };
    let pooled = if mode() == Mode::Session { "session" } else { "none" };
    for (column, expected) in [
        ("database", "shop"),
        ("user", "app_user"),
        ("cl_active", "2"),
        ("cl_waiting", "0"),
        ("sv_active", "2"),
        ("pool_mode", pooled),
    ] {
        assert_eq!(value(pool, column), expected, "{pool:?}");
    }
    let databases = show(&admin, "DATABASES").await;
    assert_eq!((value(&databases[0], "name"), value(&databases[0], "current_connections")), ("shop", "2"));
    let stats = show(&admin, "STATS").await;
    assert_eq!((value(&stats[0], "database"), value(&stats[0], "total_session_count")), ("shop", "2"));
    assert!(value(&stats[0], "total_received").parse::<u64>()? > 20, "while the sessions last: {stats:?}");
    if is_seen {
        assert!(value(&stats[0], "total_query_count").parse::<u64>()? >= 3, "{stats:?}");
    }
    let tenants = show(&admin, "TENANTS").await;
    let named: Vec<_> = tenants.iter().map(|row| value(row, "tenant")).collect();
    assert!(named.contains(&"acme") && named.contains(&"globex") && named.last() == Some(&"NULL"), "{named:?}");
    let lists: HashMap<_, _> = show(&admin, "LISTS")
        .await
        .into_iter()
        .map(|row| (value(&row, "list").to_owned(), value(&row, "items").to_owned()))
        .collect();
    assert_eq!((&*lists["used_clients"], &*lists["used_servers"], &*lists["tenants"]), ("2", "2", "2"));

    drop((acme, globex));
    eventually("they have left", async || show(&admin, "CLIENTS").await.is_empty()).await;
    let idle = if mode() == Mode::Session { 2 } else { 0 };
    eventually("what is left are idle connections of pools", async || {
        let servers = show(&admin, "SERVERS").await;
        servers.len() == idle && servers.iter().all(|row| (value(row, "state"), value(row, "link")) == ("idle", "NULL"))
    })
    .await;
    assert_eq!(value(&show(&admin, "STATS").await[0], "total_session_count"), "2");
    Ok(())
}

#[tokio::test]
async fn psql_reads_every_table_and_is_told_what_it_cannot_do() {
    let proxy = with_console(&[]).await;
    let port = proxy.port().to_string();
    let target = ["-h", "127.0.0.1", "-p", &port, "-U", ADMINISTRATOR, "-d", "pgvpd"];
    let everything = "SHOW POOLS; SHOW CLIENTS; SHOW SERVERS; SHOW DATABASES; SHOW LISTS; SHOW TENANTS; SHOW STATS;
        SHOW RESOLVERS; SHOW CONFIG; SHOW VERSION; SHOW HELP;";
    let all = psql(&[&target[..], &["-v", "ON_ERROR_STOP=1"]].concat(), everything).await;
    assert_eq!((all.code, &*all.err), (0, ""), "{}", all.out);
    let version = format!("pgvpd {}", env!("CARGO_PKG_VERSION"));
    for expected in
        ["used_clients|0", "pool_size|20|20|yes", "port|0|6432|no", &version, "SHOW POOLS|clients and server"]
    {
        assert!(all.out.contains(expected), "{expected} in {}", all.out);
    }
    assert!(!all.out.contains(APP_PASSWORD));
    let option = psql(&[&target[..], &["-c", "show pool_size"]].concat(), "").await;
    assert_eq!(&*option.out, "20");
    let wrong = psql(&[&target[..], &["-c", "DROP TABLE orders"]].concat(), "").await;
    assert_eq!(wrong.code, 1);
    assert!(wrong.err.contains("ERROR:  pgvpd: the console has no command DROP TABLE orders"), "{}", wrong.err);
    assert!(wrong.err.contains("HINT:  SHOW HELP lists what there is."), "{}", wrong.err);
}

#[tokio::test]
async fn the_extended_protocol_gives_typed_values_and_takes_a_tenants_name_as_a_parameter() -> TestResult {
    let proxy = with_console(&[]).await;
    let hostile = "it's \"; DROP TABLE x; --";
    let victim = proxy.log_in(&format!("app_user.{hostile}")).await;
    let other = proxy.log_in("app_user.globex").await;
    let admin = console(&proxy).await;
    // In binary: tokio-postgres asks for nothing else.
    let rows = admin.query("SHOW CLIENTS", &[]).await?;
    let tenants: Vec<(&str, i64)> = rows.iter().map(|row: &Row| (row.get("tenant"), row.get("ptr"))).collect();
    assert_eq!(tenants.len(), 2);
    assert!(tenants.iter().any(|(tenant, ptr)| *tenant == hostile && *ptr > 0), "{tenants:?}");
    let globex = tenants.iter().find(|(tenant, _)| *tenant == "globex").map(|(_, ptr)| *ptr).ok_or("globex")?;

    let disconnect = admin.prepare("DISCONNECT TENANT $1").await?;
    assert_eq!(admin.execute(&disconnect, &[&"nobody"]).await?, 0);
    assert_eq!(admin.execute(&disconnect, &[&hostile]).await?, 1);
    eventually("its session is ended", async || victim.is_closed()).await;
    assert!(!other.is_closed());
    assert_eq!(code(&admin, &format!("DISCONNECT SESSION {}", globex + 1000)).await, "42704");
    assert_eq!(code(&admin, "DISCONNECT SESSION globex").await, "42601");
    admin.batch_execute(&format!("DISCONNECT SESSION {globex}")).await?;
    eventually("and the other by its number", async || other.is_closed()).await;
    Ok(())
}

#[tokio::test]
async fn a_transaction_of_a_drivers_is_taken_and_changes_nothing() -> TestResult {
    let proxy = with_console(&[]).await;
    let mut admin = console(&proxy).await;
    let transaction = admin.transaction().await?;
    assert!(transaction.query("SHOW LISTS", &[]).await?.len() > 5);
    assert!(transaction.batch_execute("nonsense").await.is_err());
    let failed = transaction.query("SHOW LISTS", &[]).await.expect_err("it has failed");
    assert_eq!(failed.code().map(tokio_postgres::error::SqlState::code), Some("25P02"));
    transaction.rollback().await?;
    assert_eq!(
        admin.query_one("SELECT version()", &[]).await?.get::<_, &str>(0),
        format!("pgvpd {}", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(admin.query_one("SELECT 1", &[]).await?.get::<_, i64>(0), 1);
    Ok(())
}

#[tokio::test]
async fn pause_waits_for_the_last_session_and_resume_lets_clients_go_on() -> TestResult {
    if mode() != Mode::Session {
        let proxy = with_console(&[]).await;
        assert_eq!(code(&console(&proxy).await, "PAUSE").await, "55000", "there are no pools");
        return Ok(());
    }
    let proxy = with_console(&[("pool_checkout_timeout", "30")]).await;
    let (session, admin, other) = (proxy.log_in("app_user.acme").await, console(&proxy).await, console(&proxy).await);
    assert_eq!(code(&admin, "RESUME").await, "55000");
    let pausing = tokio::spawn(async move {
        admin.batch_execute("PAUSE").await.expect("paused");
        admin
    });
    let is_paused = async || value(&show(&other, "DATABASES").await[0], "paused") == "1";
    eventually("pools are paused", is_paused).await;
    assert!(!pausing.is_finished(), "a session has a connection");
    assert_eq!(code(&other, "PAUSE").await, "55000", "once is enough");
    // It goes on with what it has.
    session.batch_execute("SELECT 1").await?;
    drop(session);
    let admin = within("the last session leaves", pausing).await?;
    let config = proxy.config("app_user.globex");
    let waiting = tokio::spawn(async move { config.connect(NoTls).await.map(|_| ()) });
    eventually("a client waits", async || value(&show(&other, "POOLS").await[0], "cl_waiting") == "1").await;
    assert_eq!(value(&show(&other, "CLIENTS").await[0], "state"), "waiting");
    admin.batch_execute("RESUME").await?;
    within("it gets its connection", waiting).await??;
    Ok(())
}

#[tokio::test]
async fn a_pause_that_is_cancelled_or_left_alone_has_the_pools_go_on() -> TestResult {
    if mode() != Mode::Session {
        return Ok(());
    }
    let proxy = with_console(&[]).await;
    let session = proxy.log_in("app_user.acme").await;
    let other = console(&proxy).await;
    let paused = async |expected: &str| {
        eventually("pools", async || value(&show(&other, "DATABASES").await[0], "paused") == expected).await;
    };
    let admin = console(&proxy).await;
    let cancel = admin.cancel_token();
    let pausing = tokio::spawn(async move { admin.batch_execute("PAUSE").await });
    paused("1").await;
    cancel.cancel_query(NoTls).await?;
    let cancelled = within("the cancelled command", pausing).await?.expect_err("cancelled");
    assert_eq!(cancelled.code().map(tokio_postgres::error::SqlState::code), Some("57014"));
    paused("0").await;

    let mut admin = WireClient::connect(proxy.port()).await;
    admin.log_in_to("pgvpd", ADMINISTRATOR).await;
    admin.query("PAUSE").await;
    paused("1").await;
    drop(admin);
    paused("0").await;

    let admin = console(&proxy).await;
    let pausing = tokio::spawn(async move { code(&admin, "PAUSE").await });
    paused("1").await;
    other.batch_execute("RESUME").await?;
    assert_eq!(within("a pause that another one has ended", pausing).await?, "55000");
    session.batch_execute("SELECT 1").await?;
    Ok(())
}

#[tokio::test]
async fn reload_reads_the_configuration_and_says_what_is_wrong_with_it() -> TestResult {
    let settings = |extra: &[(&str, &str)]| -> Result<Settings, pgvpd_core::ConfigError> {
        let mut settings = Settings::new();
        settings.set("auth_file", auth_file().display())?;
        settings.set("admin_users", ADMINISTRATOR)?;
        settings.set("port", 0)?;
        extra.iter().try_for_each(|(name, value)| settings.set(name, value))?;
        Ok(settings)
    };
    let next = std::sync::Arc::new(std::sync::Mutex::new(settings(&[])?));
    let source = std::sync::Arc::clone(&next);
    let builder =
        Proxy::builder().config(Config::from_settings(settings(&[])?)?).upstream_port(cluster().await.postgres.port());
    let builder = builder.reload_from(move || Config::from_settings(source.lock().expect("one at a time").clone()));
    let proxy = TestProxy { handle: builder.start().await? };
    let admin = console(&proxy).await;
    *next.lock().expect("free") = settings(&[("handshake_timeout", "7"), ("port", "6543")])?;
    admin.batch_execute("RELOAD").await?;
    assert_eq!(admin.query_one("SHOW handshake_timeout", &[]).await?.get::<_, &str>(0), "7");
    let mut broken = settings(&[])?;
    broken.set("handshake_timeout", "never")?;
    broken.set("pool_size", "none")?;
    *next.lock().expect("free") = broken;
    let refused = admin.batch_execute("RELOAD").await.expect_err("not valid");
    let error = refused.as_db_error().ok_or("an error of the console")?;
    assert_eq!(error.code().code(), "F0000");
    assert!(error.message().contains("handshake_timeout") && error.message().contains("pool_size"), "{error}");
    assert_eq!(admin.query_one("SHOW handshake_timeout", &[]).await?.get::<_, &str>(0), "7", "the old one stays");

    // Who is no longer named does not come in again; who is in may stay.
    *next.lock().expect("free") = settings(&[("admin_users", "trust_user")])?;
    admin.batch_execute("RELOAD").await?;
    let mut again = proxy.config(ADMINISTRATOR);
    assert!(again.dbname("pgvpd").connect(NoTls).await.is_err());
    Ok(())
}

#[tokio::test]
async fn drain_lets_sessions_finish_while_the_console_watches_and_then_ends_it() -> TestResult {
    let proxy = with_console(&[]).await;
    let session = proxy.log_in("app_user.acme").await;
    let mut admin = WireClient::connect(proxy.port()).await;
    admin.log_in_to("pgvpd", ADMINISTRATOR).await;
    admin.query("DRAIN").await;
    let notice = String::from_utf8_lossy(&admin.until(b'N').await).into_owned();
    assert!(notice.contains("1 sessions may finish within 30 s"), "{notice}");
    admin.until(b'Z').await;
    session.batch_execute("SELECT 1").await?;
    admin.query("SHOW CLIENTS").await;
    admin.until(b'D').await;
    admin.until(b'Z').await;
    drop(session);
    // No console keeps a proxy from its end.
    let end = admin.error().await;
    assert_eq!((&*end.code, &*end.severity), ("57P01", "FATAL"));
    within("the proxy has ended", proxy.handle.closed()).await;
    Ok(())
}

#[tokio::test]
async fn what_is_no_message_ends_the_session_and_no_other() {
    let proxy = with_console(&[]).await;
    let witness = console(&proxy).await;
    let broken: [&[u8]; 6] = [
        b"z\0\0\0\x04",
        b"Q\0\0\0\x03",
        b"Q\x7f\xff\xff\xff",
        b"Q\0\0\0\x07ab\xff",
        b"P\0\0\0\x06ab",
        b"B\0\0\0\x0e\0\0\0\0\xff\xff\0\0\0\x01",
    ];
    for bytes in broken {
        let mut client = WireClient::connect(proxy.port()).await;
        client.log_in_to("pgvpd", ADMINISTRATOR).await;
        client.send(bytes).await;
        client.refusal().await.assert_is("08P01");
    }
    let mut client = WireClient::connect(proxy.port()).await;
    client.log_in_to("pgvpd", ADMINISTRATOR).await;
    // A COPY that nobody has begun, and a function.
    client.send(b"d\0\0\0\x08dataF\0\0\0\x04").await;
    client.until(b'E').await;
    client.until(b'Z').await;
    client.query("SHOW VERSION").await;
    client.until(b'D').await;
    assert_eq!(show(&witness, "VERSION").await.len(), 1);
    proxy.assert_serves().await;
}

#[tokio::test]
async fn protocol_3_2_and_options_that_nobody_knows_are_negotiated() {
    let proxy = with_console(&[]).await;
    let mut client = WireClient::connect(proxy.port()).await;
    let parameters = [("user", ADMINISTRATOR), ("database", "pgvpd"), ("_pq_.what", "x"), ("options", "-c anything=1")];
    client.send(&startup_packet(0x3_0009, &parameters)).await;
    let negotiated = client.until(b'v').await;
    assert!(negotiated.starts_with(&[0, 3, 0, 2]) && negotiated.ends_with(b"_pq_.what\0"), "{negotiated:?}");
    client.authenticate().await;
    client.until(b'Z').await;
}

#[tokio::test]
async fn the_manual_has_every_column_of_every_table_and_no_other() -> TestResult {
    let manual = include_str!("../../docs/console.md");
    let proxy = with_console(&[]).await;
    let admin = console(&proxy).await;
    let tables = ["POOLS", "CLIENTS", "SERVERS", "DATABASES", "TENANTS", "STATS", "RESOLVERS", "CONFIG"];
    for table in tables {
        let (_, section) = manual.split_once(&format!("### SHOW {table}\n")).ok_or(table)?;
        let section = section.split("\n##").next().unwrap_or_default();
        let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
        let mut documented: Vec<String> =
            cells.flat_map(|cell| cell.split(", ").map(|name| name.replace('`', ""))).collect();
        let statement = admin.prepare(&format!("SHOW {table}")).await?;
        let mut shown: Vec<String> = statement.columns().iter().map(|column| column.name().to_owned()).collect();
        documented.sort();
        shown.sort();
        assert_eq!(documented, shown, "{table}");
    }
    let (_, lists) = manual.split_once("### SHOW LISTS\n").ok_or("LISTS")?;
    for row in show(&admin, "LISTS").await {
        assert!(lists.contains(&format!("`{}`", value(&row, "list"))), "{row:?}");
    }
    for row in show(&admin, "HELP").await {
        let command = value(&row, "command").split(['<', ' ']).next().unwrap_or_default().to_owned();
        assert!(manual.contains(&format!("`{command}")), "{row:?}");
    }
    Ok(())
}
