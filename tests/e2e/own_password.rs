//! A tenant whose SQL sets the password that all tenants log in with: what that opens, and what closes it.

use std::io::Write;

use tempfile::NamedTempFile;
use tokio_postgres::NoTls;

use crate::support::{Cluster, SHOP, TestProxy, TestResult, count, proxy_for};

const SET: &str = "ALTER ROLE app_user PASSWORD 'x'";

/// The SQLSTATE with which a login is refused; `None` when it succeeds.
async fn refusal_with(proxy: &TestProxy, user: &str, password: &str) -> Option<String> {
    let mut config = proxy.config(user);
    let error = config.password(password).connect(NoTls).await.err()?;
    Some(error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned()))
}

/// In passthrough PostgreSQL asks for the password that it has: docs/security.md says so.
#[tokio::test]
async fn in_passthrough_it_opens_every_tenant() -> TestResult {
    let own = Cluster::start().await;
    let proxy = proxy_for(&own.postgres, &[("relay", "framed")]).await?;
    let acme = proxy.log_in("app_user.acme").await;
    // Whether or not the session survives it.
    let _ = acme.batch_execute(SET).await;
    assert_eq!(refusal_with(&proxy, "app_user.globex", "secret").await.as_deref(), Some("28P01"));
    let mut config = proxy.config("app_user.globex");
    let (globex, connection) = config.password("x").connect(NoTls).await?;
    tokio::spawn(connection);
    assert_eq!(count(&globex, "notes").await?, 2, "globex's rows");
    Ok(())
}

/// With secrets of the proxy's own, what the database has for a password opens nothing; `pgvpd check` then has nothing to say.
#[tokio::test]
async fn with_secrets_of_the_proxys_own_it_opens_nothing() -> TestResult {
    let own = Cluster::start().await;
    let mut users = NamedTempFile::new()?;
    writeln!(users, "\"app_user\" \"secret\"")?;
    let path = users.path().display().to_string();
    let proxy = proxy_for(&own.postgres, &[("pool_mode", "session"), ("auth_file", &path)]).await?;
    let acme = proxy.log_in("app_user.acme").await;
    let _ = acme.batch_execute(SET).await;
    drop(acme);
    let kept = "SELECT rolpassword FROM pg_authid WHERE rolname = 'app_user'";
    let kept: String = own.postgres.connect(SHOP).await?.query_one(kept, &[]).await?.get(0);
    assert!(pgvpd_core::is_password_of(&kept, "app_user", "x"), "the role has it");
    for tenant in ["acme", "globex"] {
        let refused = refusal_with(&proxy, &format!("app_user.{tenant}"), "x").await;
        assert_eq!(refused.as_deref(), Some("28P01"), "{tenant}");
    }
    Ok(())
}
