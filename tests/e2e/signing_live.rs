//! What changes on a live system: from plain contexts to signed ones, and from one key to the next, with no query failing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pgvpd_core::{Config, Settings};
use tokio::task::JoinHandle;

use crate::support::{Cluster, TestProxy, TestResult, auth_file, eventually, proxy_for};

const FIRST: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const SECOND: &str = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A client, until it stops or something fails.
type Playing = JoinHandle<Result<(), String>>;

/// Clients that log in and query, again and again, and see exactly their own rows.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<(Arc<AtomicU64>, Playing)>,
}

impl Load {
    fn start(proxy: &Arc<TestProxy>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |tenant: &'static str, expected: i64| {
            let (proxy, stop, rounds) = (Arc::clone(proxy), Arc::clone(&stop), Arc::new(AtomicU64::new(0)));
            let counter = Arc::clone(&rounds);
            let client = tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let client = proxy
                        .try_log_in(&format!("app_user.{tenant}"))
                        .await
                        .map_err(|error| format!("login: {error}"))?;
                    for _ in 0..5 {
                        let row = client.query_one("SELECT count(*), min(tenant_id) FROM notes", &[]).await;
                        let row = row.map_err(|error| format!("query: {error}"))?;
                        let found = (row.get::<_, i64>(0), row.get::<_, Option<String>>(1));
                        if found != (expected, Some(tenant.to_owned())) {
                            return Err(format!("{tenant} sees {found:?}"));
                        }
                    }
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            });
            (rounds, client)
        };
        let clients = vec![client("acme", 3), client("globex", 2), client("acme", 3), client("globex", 2)];
        Self { stop, clients }
    }

    /// Waits until all sessions that began before now are over, and others were served. A client that failed does not go on.
    async fn goes_on(&self) {
        let rounds = || self.clients.iter().map(|(rounds, _)| rounds.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let before = rounds();
        let has_failed = || self.clients.iter().any(|(_, client)| client.is_finished());
        let all = || rounds().iter().zip(&before).all(|(now, before)| *now > before + 2);
        eventually("the clients go on", async || has_failed() || all()).await;
    }

    async fn end(self) -> Result<u64, String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = 0;
        for (rounds, client) in self.clients {
            client.await.map_err(|error| error.to_string())??;
            total += rounds.load(Ordering::Relaxed);
        }
        Ok(total)
    }
}

fn reload(proxy: &TestProxy, port: u16, options: &[(&str, &str)]) -> TestResult {
    let mut settings = Settings::new();
    settings.set("port", proxy.port())?;
    settings.set("upstream_port", port)?;
    for (name, value) in options {
        settings.set(name, value)?;
    }
    proxy.handle.reload(Config::from_settings(settings)?)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_system_goes_from_plain_to_signed_and_to_another_key_with_no_query_failing() -> TestResult {
    let file = auth_file().display().to_string();
    let pooled = [("pool_mode", "session"), ("auth_file", &*file), ("pool_size", "3")];
    for mode in [&[("relay", "framed")][..], &pooled] {
        let own = Cluster::start().await;
        let (admin, port) = (own.admin().await, own.postgres.port());
        let proxy = Arc::new(proxy_for(&own.postgres, mode).await?);
        let load = Load::start(&proxy);
        load.goes_on().await;

        let with = |options: &[(&'static str, &'static str)]| reload(&proxy, port, &[mode, options].concat());
        with(&[("context_signing", "prefer"), ("context_signing_key", FIRST)])?;
        load.goes_on().await;
        admin.batch_execute(&format!("SELECT pgvpd.install_key('1', decode('{FIRST}', 'hex'))")).await?;
        load.goes_on().await;
        with(&[("context_signing", "require"), ("context_signing_key", FIRST)])?;
        load.goes_on().await;

        // The proxy knows the second key before the database does.
        with(&[
            ("context_signing_key", SECOND),
            ("context_key_id", "2"),
            ("context_previous_signing_key", FIRST),
            ("context_previous_key_id", "1"),
        ])?;
        load.goes_on().await;
        admin.batch_execute(&format!("SELECT pgvpd.install_key('2', decode('{SECOND}', 'hex'))")).await?;
        load.goes_on().await;
        // The present key is tried again after a while, and no session is left that was signed with the first.
        eventually("new sessions have the second key", async || {
            let client = proxy.log_in("app_user.acme").await;
            let token = client.query_one("SELECT current_setting('pgvpd.context')", &[]).await.expect("a token");
            token.get::<_, &str>(0).starts_with("v1.2.")
        })
        .await;
        load.goes_on().await;
        admin.batch_execute("SELECT pgvpd.retire_key('1')").await?;
        load.goes_on().await;
        with(&[("context_signing_key", SECOND), ("context_key_id", "2")])?;
        load.goes_on().await;
        let rounds = load.end().await?;
        assert!(rounds > 70, "{rounds}");
        // And it is signed: the plain setting says nothing.
        let client = proxy.log_in("app_user.acme").await;
        client.batch_execute("SET pgvpd.context = ''").await?;
        assert_eq!(client.query_one("SELECT count(*) FROM notes", &[]).await?.get::<_, i64>(0), 0);
    }
    Ok(())
}
