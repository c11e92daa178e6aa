//! What a client reads where the server cannot be had: the cause, in words that say what to change.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use crate::support::{APP_PASSWORD, TestResult, cluster, passthrough, proxy};

#[tokio::test]
async fn a_host_name_that_cannot_be_resolved_is_called_that() {
    // No resolver asks another one for a label of this length.
    let host = format!("{}.invalid", "x".repeat(64));
    let proxy = passthrough(&[("upstream_host", &host)]).await;
    let error = proxy.try_log_in("app_user.acme").await.expect_err("nowhere");
    let error = error.as_db_error().expect("an error of the proxy's");
    let expected = "pgvpd: cannot connect to the upstream server: its host name cannot be resolved";
    assert_eq!((error.code().code(), error.message()), ("08006", expected));
}

#[tokio::test]
async fn a_roles_connection_limit_is_told_in_the_servers_words() -> TestResult {
    let sql = format!("CREATE ROLE narrow LOGIN PASSWORD '{APP_PASSWORD}' CONNECTION LIMIT 1");
    cluster().await.postgres.execute("postgres", &sql).await?;
    let mut file = tempfile::NamedTempFile::new()?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o600))?;
    writeln!(file, "\"narrow\" \"{APP_PASSWORD}\"")?;
    let file = file.path().display().to_string();
    let pool = [("pool_mode", "session"), ("auth_file", &*file), ("pool_size", "5"), ("pool_checkout_timeout", "1")];
    let proxy = proxy(&[&pool[..], &[("login_roles", "narrow")]].concat()).await;
    let holder = proxy.log_in("narrow.acme").await;
    let error = proxy.try_log_in("narrow.globex").await.expect_err("one connection is allowed");
    let error = error.as_db_error().expect("an error of the server's");
    assert_eq!((error.code().code(), error.message()), ("53300", "too many connections for role \"narrow\""));
    holder.batch_execute("SELECT 1").await?;
    Ok(())
}
