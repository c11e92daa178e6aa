//! Stopping and reloading, as the library does it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgvpd_core::{Config, Proxy, ReloadError, Settings};
use tokio::net::TcpStream;

use crate::support::{TestProxy, TestResult, cluster, eventually, proxy, within};

#[tokio::test]
async fn a_shutdown_lets_sessions_finish_and_accepts_no_more() -> TestResult {
    let proxy = proxy(&[]).await;
    let client = proxy.log_in("app_user.acme").await;
    let port = proxy.port();
    let handle = Arc::new(proxy.handle);
    let stopping = tokio::spawn({
        let handle = handle.clone();
        async move { handle.shutdown(Duration::from_secs(600)).await }
    });
    eventually("no more clients", async || TcpStream::connect(("127.0.0.1", port)).await.is_err()).await;
    client.batch_execute("SELECT 1").await?;
    drop(client);
    assert_eq!(within("the end", stopping).await?, 0);
    within("closed", handle.closed()).await;
    Ok(())
}

#[tokio::test]
async fn a_shutdown_closes_what_does_not_finish_in_time_and_counts_it() -> TestResult {
    let proxy = proxy(&[("relay", "raw")]).await;
    let mut idle = proxy.connect().await;
    idle.log_in("app_user.acme", &[]).await;
    let mut greeting = proxy.connect().await;
    greeting.start("app_user.acme", &[]).await;
    greeting.until(b'R').await;
    // A login in progress is ended too, and is no session.
    assert_eq!(within("the end", proxy.handle.shutdown(Duration::ZERO)).await, 1);
    assert_eq!(idle.message().await, None, "raw bytes have flowed: it closes without a word");
    greeting.refusal().await.assert_is("57P01");
    Ok(())
}

#[tokio::test]
async fn dropping_the_handle_stops_the_proxy() {
    let proxy = proxy(&[]).await;
    let mut client = proxy.connect().await;
    client.log_in("app_user.acme", &[]).await;
    drop(proxy);
    while client.message().await.is_some() {}
}

#[tokio::test]
async fn a_reload_holds_for_new_sessions_and_leaves_open_ones() -> TestResult {
    let proxy = proxy(&[]).await;
    let open = proxy.log_in("app_user.acme").await;
    let mut settings = Settings::new();
    settings.set("upstream_port", cluster().await.postgres.port())?;
    settings.set("tenant_deny", "acme")?;
    proxy.handle.reload(Config::from_settings(settings)?)?;
    assert!(proxy.try_log_in("app_user.acme").await.is_err());
    proxy.log_in("app_user.globex").await;
    open.batch_execute("SELECT 1").await?;
    Ok(())
}

#[tokio::test]
async fn a_source_that_panics_is_a_failed_reload_and_the_next_is_read() -> TestResult {
    let mut settings = Settings::new();
    settings.set("port", 0)?;
    settings.set("upstream_port", cluster().await.postgres.port())?;
    let config = Config::from_settings(settings)?;
    let broken = Arc::new(AtomicBool::new(true));
    let read = {
        let (broken, config) = (Arc::clone(&broken), config.clone());
        move || if broken.load(Ordering::Relaxed) { panic!("a source that is broken") } else { Ok(config.clone()) }
    };
    let proxy = TestProxy { handle: Proxy::builder().config(config).reload_from(read).start().await? };
    let failed = proxy.handle.reload_again().await;
    assert!(matches!(failed, Err(ReloadError::Read(_))), "{failed:?}");
    proxy.log_in("app_user.acme").await;
    broken.store(false, Ordering::Relaxed);
    proxy.handle.reload_again().await?;
    Ok(())
}

#[tokio::test]
async fn several_proxies_run_in_one_process() {
    let (first, second) = (proxy(&[("tenant_deny", "acme")]).await, proxy(&[]).await);
    assert!(first.try_log_in("app_user.acme").await.is_err());
    second.assert_serves().await;
    drop(first);
    second.assert_serves().await;
}
