//! Sessions of tenants that change a role: they end there, and the audit stream says so.

use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;
use tokio_postgres::NoTls;

use crate::support::{
    Cluster, PgError, TestResult, WireClient, auth_file, cluster, eventually, proxy, proxy_for, within,
};

/// Ways to run in which messages are seen.
fn seen() -> [Vec<(&'static str, &'static str)>; 2] {
    let passwords = auth_file().to_str().expect("UTF-8");
    [vec![("relay", "framed")], vec![("pool_mode", "session"), ("auth_file", passwords)]]
}

/// The tag of the command that is answered next, and the error with which the session ends then.
async fn last_answer(client: &mut WireClient) -> (String, PgError) {
    let body = client.until(b'C').await;
    let command = String::from_utf8_lossy(&body).trim_end_matches('\0').to_owned();
    (command, client.refusal().await)
}

fn assert_ended_by(error: &PgError, command: &str) {
    assert_eq!((error.severity.as_str(), error.code.as_str()), ("FATAL", "42501"), "{error:?}");
    assert!(error.message.ends_with(command) && !error.hint.is_empty(), "{error:?}");
}

#[tokio::test]
async fn a_session_that_changes_a_role_ends_with_the_answer() -> TestResult {
    for options in seen() {
        let proxy = proxy(&options).await;
        for sql in [
            "ALTER ROLE app_user RESET ALL",
            "ALTER USER app_user RESET ALL",
            "ALTER ROLE app_user IN DATABASE shop RESET ALL; SELECT 1",
            "SELECT 1; ALTER ROLE CURRENT_USER RESET ALL",
        ] {
            let mut client = proxy.connect().await;
            client.log_in("app_user.acme", &[]).await;
            client.query(sql).await;
            // Requests behind it are not answered either.
            client.query("SELECT 1").await;
            if sql.starts_with("SELECT") {
                assert_eq!(client.until(b'C').await, b"SELECT 1\0");
            }
            let (command, error) = last_answer(&mut client).await;
            assert_eq!(command, "ALTER ROLE", "{sql} {options:?}");
            assert_ended_by(&error, "ALTER ROLE");
        }
        proxy.assert_serves().await;
    }
    Ok(())
}

/// A change in an open transaction is never committed.
#[tokio::test]
async fn a_password_set_in_an_open_transaction_is_rolled_back() -> TestResult {
    let own = Cluster::start().await;
    const SET: &str = "ALTER ROLE app_user PASSWORD 'x'";
    for options in seen() {
        let proxy = proxy_for(&own.postgres, &options).await?;
        for is_extended in [false, true] {
            let mut client = proxy.connect().await;
            client.log_in("app_user.acme", &[]).await;
            if is_extended {
                let mut out = BytesMut::new();
                frontend::parse("", SET, [], &mut out)?;
                let text = |(): (), _: &mut BytesMut| Ok(IsNull::No);
                frontend::bind("", "", [], [], text, [], &mut out).map_err(|_| "bind")?;
                frontend::execute("", 0, &mut out)?;
                frontend::flush(&mut out);
                client.send(&out).await;
            } else {
                client.query("BEGIN").await;
                client.until(b'Z').await;
                client.query(SET).await;
            }
            let (_, error) = last_answer(&mut client).await;
            assert_ended_by(&error, "ALTER ROLE");
            let kept = "SELECT rolpassword FROM pg_authid WHERE rolname = 'app_user'";
            let kept: String = own.admin().await.query_one(kept, &[]).await?.get(0);
            assert!(pgvpd_core::is_password_of(&kept, "app_user", "secret"), "{options:?}");
        }
    }
    Ok(())
}

/// Roles that a session makes, drops, gives or takes back.
#[tokio::test]
async fn each_command_about_roles_ends_a_session() -> TestResult {
    let own = Cluster::start().await;
    own.admin()
        .await
        .batch_execute(
            "CREATE ROLE maker LOGIN CREATEROLE PASSWORD 'secret'; CREATE ROLE spare; CREATE ROLE group_role;
             GRANT group_role TO maker WITH ADMIN OPTION; GRANT spare TO maker WITH ADMIN OPTION",
        )
        .await?;
    let proxy = proxy_for(&own.postgres, &[("relay", "framed"), ("role_check", "warn")]).await?;
    for (sql, command) in [
        ("CREATE ROLE made", "CREATE ROLE"),
        ("CREATE USER made_user", "CREATE ROLE"),
        ("GRANT group_role TO spare", "GRANT ROLE"),
        ("REVOKE group_role FROM spare", "REVOKE ROLE"),
        ("DROP ROLE made, made_user", "DROP ROLE"),
    ] {
        let mut client = proxy.connect().await;
        client.log_in("maker.acme", &[]).await;
        client.query(sql).await;
        let (answered, error) = last_answer(&mut client).await;
        assert_eq!(answered, command, "{sql}");
        assert_ended_by(&error, command);
    }
    Ok(())
}

#[tokio::test]
async fn nothing_that_only_looks_like_it_ends_a_session() -> TestResult {
    for options in seen() {
        let proxy = proxy(&options).await;
        let client = proxy.log_in("app_user.acme").await;
        // Byte by byte what the server says when it has altered a role.
        let message: &[u8] = b"C\0\0\0\x0fALTER ROLE\0";
        let row = client.query_one("SELECT $1::bytea, 'ALTER ROLE'", &[&[message, message].concat()]).await?;
        assert_eq!(row.get::<_, &[u8]>(0).len(), 2 * message.len());
        client.batch_execute("DO $$ BEGIN RAISE NOTICE 'ALTER ROLE'; END $$").await?;
        let refused = client.batch_execute("ALTER ROLE postgres RESET ALL").await.expect_err("not its own");
        assert_eq!(refused.code().map(|code| code.code()), Some("42501"), "{options:?}");
        client
            .batch_execute(
                "GRANT SELECT ON notes TO app_user; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO app_user",
            )
            .await
            .ok();
        client.batch_execute("SELECT 1").await?;
    }
    Ok(())
}

#[tokio::test]
async fn administrators_past_the_tenants_may() -> TestResult {
    for options in seen() {
        let proxy = proxy(&options).await;
        let mut bypass = proxy.config("postgres");
        let bypass = bypass.password(cluster().await.postgres.password());
        let (client, connection) = bypass.connect(NoTls).await?;
        tokio::spawn(connection);
        for _ in 0..2 {
            client.batch_execute("ALTER ROLE app_user RESET ALL").await?;
        }
    }
    Ok(())
}

/// Also where the client leaves with the same bytes.
#[tokio::test]
async fn the_audit_stream_tells_of_it() -> TestResult {
    for options in seen() {
        for leaves in [false, true] {
            let directory = tempfile::tempdir()?;
            let path = directory.path().join("audit.log");
            let audit = [("audit_log", path.to_str().ok_or("UTF-8")?)];
            let proxy = proxy(&[&options[..], &audit].concat()).await;
            let mut client = proxy.connect().await;
            client.log_in("app_user.acme", &[]).await;
            let mut out = BytesMut::new();
            frontend::query("ALTER ROLE app_user RESET ALL", &mut out)?;
            if leaves {
                frontend::terminate(&mut out);
            }
            client.send(&out).await;
            while within("the end", client.message()).await.is_some() {}
            let told = || {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                let events = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
                events.filter(|event| event["event"] == "role_change").collect::<Vec<_>>()
            };
            eventually("it is told", async || !told().is_empty()).await;
            let [event] = &told()[..] else { panic!("{:?}", told()) };
            for (field, value) in
                [("tenant", "acme"), ("role", "app_user"), ("database", "shop"), ("client", "127.0.0.1")]
            {
                assert_eq!(event[field], value, "{event}");
            }
            assert!(event["reason"].as_str().is_some_and(|reason| reason.ends_with("after ALTER ROLE")), "{event}");
        }
    }
    Ok(())
}
