//! The console's commands for the pools' server connections: RECONNECT and CLOSE DATABASE.

use support::resolving::{file, site};
use tokio_postgres::{Client, NoTls};

use crate::console::{code, console, show, value, with_console};
use crate::support::{
    ADMINISTRATOR, TestDatabase, TestProxy, TestResult, auth_query_options, cluster, eventually, proxy_for, within,
};

/// A proxy with pools and a console.
async fn pooled(options: &[(&str, &str)]) -> TestProxy {
    with_console(&[&[("pool_mode", "session"), ("role_check", "warn")], options].concat()).await
}

/// A tenant's session in a database.
async fn session(proxy: &TestProxy, database: &str) -> Client {
    let mut config = proxy.config("app_user.acme");
    let (client, connection) = within("login", config.dbname(database).connect(NoTls)).await.expect("login");
    tokio::spawn(connection);
    client
}

async fn pid(client: &Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.expect("a session").get(0)
}

/// The backends of the proxy's pools, with their states.
async fn servers(admin: &Client) -> Vec<(i32, String)> {
    let row = |row| (value(&row, "remote_pid").parse().expect("a number"), value(&row, "state").to_owned());
    show(admin, "SERVERS").await.into_iter().map(row).collect()
}

/// Leaves a session; its backend is idle then. Gives its number.
async fn leave(session: Client, admin: &Client) -> i32 {
    let pid = pid(&session).await;
    drop(session);
    eventually("the connection is back", async || servers(admin).await.contains(&(pid, "idle".into()))).await;
    pid
}

#[tokio::test]
async fn reconnect_closes_idle_connections_and_others_when_released() -> TestResult {
    let (proxy, shop, other) = (pooled(&[]).await, TestDatabase::create().await, TestDatabase::create().await);
    let admin = console(&proxy).await;
    for command in ["RECONNECT".to_owned(), format!("RECONNECT {}", shop.name()), "reconnect 'nothing'".into()] {
        admin.batch_execute(&command).await?;
    }
    let elsewhere = leave(session(&proxy, other.name()).await, &admin).await;
    let (held, idle) = (session(&proxy, shop.name()).await, session(&proxy, shop.name()).await);
    let (held_pid, idle_pid) = (pid(&held).await, leave(idle, &admin).await);
    // What a connection began with stays.
    let postgres = &cluster().await.postgres;
    postgres.execute("postgres", &format!("ALTER DATABASE {} SET work_mem = '7MB'", shop.name())).await?;
    let again = session(&proxy, shop.name()).await;
    assert_eq!(again.query_one("SHOW work_mem", &[]).await?.get::<_, &str>(0), "4MB");
    assert_eq!(leave(again, &admin).await, idle_pid);

    admin.batch_execute(&format!("RECONNECT {}", shop.name())).await?;
    let mut left = servers(&admin).await;
    left.sort_unstable();
    let mut expected = [(elsewhere, "idle".to_owned()), (held_pid, "active".to_owned())];
    expected.sort_unstable();
    assert_eq!(left, expected, "at once, without waiting for sessions");
    let next = session(&proxy, shop.name()).await;
    assert_eq!(next.query_one("SHOW work_mem", &[]).await?.get::<_, &str>(0), "7MB");
    assert!(![held_pid, idle_pid].contains(&pid(&next).await));
    let next_pid = leave(next, &admin).await;
    // The session goes on; its connection is nobody's after it.
    assert_eq!(pid(&held).await, held_pid);
    drop(held);
    eventually("it is closed", async || servers(&admin).await.iter().all(|(pid, _)| *pid != held_pid)).await;
    assert_eq!(pid(&session(&proxy, shop.name()).await).await, next_pid, "what is newer is used again");
    assert_eq!(pid(&session(&proxy, other.name()).await).await, elsewhere);

    eventually("all are back", async || servers(&admin).await.iter().all(|(_, state)| state == "idle")).await;
    admin.execute("RECONNECT $1", &[&other.name()]).await?;
    assert_eq!(servers(&admin).await.iter().map(|(pid, _)| *pid).collect::<Vec<_>>(), [next_pid]);
    admin.batch_execute("RECONNECT").await?;
    assert_eq!(servers(&admin).await, []);
    Ok(())
}

#[tokio::test]
async fn a_database_can_be_dropped_once_it_is_closed() -> TestResult {
    let (proxy, database) = (pooled(&[("min_pool_size", "1")]).await, TestDatabase::create().await);
    let admin = console(&proxy).await;
    leave(session(&proxy, database.name()).await, &admin).await;
    let drop_it = format!("DROP DATABASE {}", database.name());
    let postgres = cluster().await.postgres.connect("postgres").await?;
    // PostgreSQL waits for 5 s before it says so.
    assert_eq!(code(&postgres, &drop_it).await, "55006");

    let held = session(&proxy, database.name()).await;
    let held_pid = pid(&held).await;
    admin.batch_execute(&format!("CLOSE DATABASE '{}'", database.name())).await?;
    assert_eq!(servers(&admin).await, [(held_pid, "active".into())]);
    assert_eq!(pid(&held).await, held_pid, "a session is not ended");
    drop(held);
    eventually("the last one is closed", async || servers(&admin).await.is_empty()).await;
    postgres.batch_execute(&drop_it).await?;
    // Nobody has one made for `min_pool_size`, and a database of the same name is a new one.
    postgres.batch_execute(&format!("CREATE DATABASE {}", database.name())).await?;
    session(&proxy, database.name()).await.batch_execute("SELECT 1").await?;
    Ok(())
}

#[tokio::test]
async fn connections_for_authentication_and_resolvers_are_closed_too() -> TestResult {
    let (own, postgres) = site().await;
    let resolvers = file("");
    let options = [
        &auth_query_options()[..],
        &[("admin_users", ADMINISTRATOR), ("resolvers", resolvers.path()), ("resolver_user", "resolver")],
        &[("resolver_password", "secret"), ("context_variables", "app.current_tenant_id,app.user_id")],
        &[("auth_query_ttl", "0")],
    ];
    let proxy = proxy_for(&own.postgres, &options.concat()).await?;
    let admin = console(&proxy).await;
    let backends = async || -> Vec<String> {
        let all = "SELECT DISTINCT usename::text FROM pg_stat_activity WHERE usename <> 'postgres' ORDER BY 1";
        let rows = postgres.query(all, &[]).await.expect("backends");
        rows.iter().map(|row| row.get(0)).collect()
    };
    // Another user each time, about whom resolvers have to be asked.
    for (user, command) in [(1, "RECONNECT"), (2, "RECONNECT shop"), (3, "CLOSE DATABASE shop")] {
        drop(proxy.log_in(&format!("app_user.acme:{user}")).await);
        eventually("nobody has a connection", async || servers(&admin).await.iter().all(|(_, state)| state == "idle"))
            .await;
        assert_eq!(backends().await, ["app_user", "pgvpd_auth", "resolver"], "{command}");
        admin.batch_execute("RECONNECT elsewhere").await?;
        assert_eq!(backends().await.len(), 3, "{command}");
        admin.batch_execute(command).await?;
        eventually(command, async || backends().await.is_empty()).await;
    }
    Ok(())
}

#[tokio::test]
async fn without_pools_there_is_nothing_to_close() {
    let proxy = with_console(&[("pool_mode", "none")]).await;
    let admin = console(&proxy).await;
    for command in ["RECONNECT", "RECONNECT shop", "CLOSE DATABASE shop"] {
        assert_eq!(code(&admin, command).await, "55000", "{command}");
    }
}
