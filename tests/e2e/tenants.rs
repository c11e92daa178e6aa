//! Limits of single tenants, and what of a tenant is seen in the database.

use std::io::Write;

use tempfile::NamedTempFile;

use crate::support::{Mode, TestProxy, TestResult, cluster, eventually, mode, proxy};

const FILE: &str = r#"
    [[tenant]]
    name = "trial-*"
    max_connections = 1
    query_timeout = 0.2
    [[tenant]]
    name = "big"
    max_connections = "none"
    [[tenant]]
    name = "mallory"
    deny = true
"#;

async fn limited(options: &[(&str, &str)]) -> (TestProxy, NamedTempFile) {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(FILE.as_bytes()).expect("written");
    let path = file.path().display().to_string();
    // The file has a time limit, which the raw relay cannot keep.
    let relay = if mode() == Mode::Raw { &[("relay", "framed")][..] } else { &[] };
    (proxy(&[&[("tenants", &*path)], relay, options].concat()).await, file)
}

/// The code and the hint of a login that is refused.
async fn refused(proxy: &TestProxy, tenant: &str) -> (String, String) {
    let mut client = proxy.connect().await;
    client.start(&format!("app_user.{tenant}"), &[]).await;
    let error = client.refusal_after_proof().await;
    (error.code, error.hint)
}

#[tokio::test]
async fn a_tenants_own_limits_count_instead_of_those_of_all() -> TestResult {
    let (proxy, _file) = limited(&[("tenant_max_connections", "2")]).await;
    let _trial = proxy.log_in("app_user.trial-a").await;
    let (code, hint) = refused(&proxy, "trial-a").await;
    assert_eq!(code, "53300");
    assert!(hint.contains("max_connections of this tenant in the file that tenants names"), "{hint}");
    let _other_trial = proxy.log_in("app_user.trial-b").await;
    let _acme = [proxy.log_in("app_user.acme").await, proxy.log_in("app_user.acme").await];
    let (code, hint) = refused(&proxy, "acme").await;
    assert!(code == "53300" && hint.contains("raise tenant_max_connections"), "{hint}");
    let mut big = Vec::new();
    for _ in 0..5 {
        big.push(proxy.log_in("app_user.big").await);
    }
    assert_eq!(proxy.handle.status(0).tenant_rejections.limit, 2);
    Ok(())
}

#[tokio::test]
async fn a_tenant_that_the_file_denies_reads_what_any_denied_tenant_reads() {
    let (by_file, _file) = limited(&[]).await;
    let by_option = proxy(&[("tenant_deny", "mallory")]).await;
    let mut texts = Vec::new();
    for proxy in [&by_file, &by_option] {
        let mut client = proxy.connect().await;
        client.start("app_user.mallory", &[]).await;
        let error = client.refusal().await;
        error.assert_is("28000");
        texts.push((error.message, error.hint));
    }
    assert_eq!(texts[0], texts[1]);
    assert_eq!(by_file.handle.status(0).tenant_rejections.deny, 1);
}

#[tokio::test]
async fn a_tenants_own_time_limit_ends_its_idle_session_and_no_other() -> TestResult {
    let (proxy, _file) = limited(&[]).await;
    let mut trial = proxy.connect().await;
    trial.log_in("app_user.trial-a", &[]).await;
    let acme = proxy.log_in("app_user.acme").await;
    trial.error().await.assert_is("57P05");
    acme.batch_execute("SELECT 1").await?;
    eventually("counted", async || proxy.handle.stats().tenant_timeouts_total == 1).await;
    Ok(())
}

#[tokio::test]
async fn pg_stat_activity_shows_the_tenant_where_that_is_wanted() -> TestResult {
    let admin = cluster().await.admin().await;
    let name = async |proxy: &TestProxy| -> Result<String, Box<dyn std::error::Error>> {
        let mut config = proxy.config("app_user.acme");
        let (client, connection) = config.application_name("the-client").connect(tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
        let row = admin.query_one("SELECT application_name FROM pg_stat_activity WHERE pid = $1", &[&pid]).await?;
        Ok(row.get(0))
    };
    assert_eq!(name(&proxy(&[]).await).await?, "the-client");
    let named = proxy(&[("tenant_application_name", "true")]).await;
    assert_eq!(name(&named).await?, "pgvpd:acme");
    // The next session of a pool has its own.
    let client = named.log_in("app_user.globex").await;
    let row = client.query_one("SELECT current_setting('application_name')", &[]).await?;
    assert_eq!(row.get::<_, String>(0), "pgvpd:globex");
    Ok(())
}
