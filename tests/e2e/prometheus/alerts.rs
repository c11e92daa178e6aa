//! Prometheus evaluates `docs/deploy/prometheus-rules.yml`, and a real fault raises the alert that is for it.

use std::time::Duration;

use serde_json::Value;
use support::{ADMIN_TOKEN, Cluster, TestProxy, TestResult, auth_file, eventually, proxy_for};

use crate::deploy;
use crate::server::Prometheus;

/// The alerts of all rules by group, name and state.
async fn states(prometheus: &Prometheus) -> Vec<(String, String, String, Value)> {
    let answer = prometheus.ask("/api/v1/rules?type=alert").await.unwrap_or_default();
    let groups = answer["data"]["groups"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of_group = |group: &Value| {
        let rules = group["rules"].as_array().cloned().unwrap_or_default();
        let file = text(&group["file"]);
        rules
            .into_iter()
            .map(move |rule| (file.clone(), text(&rule["name"]), text(&rule["state"]), rule))
            .collect::<Vec<_>>()
    };
    groups.iter().flat_map(of_group).collect()
}

/// Waits until this alert is pending or firing by the rules as they are, and firing by those that wait for nothing.
async fn raised(prometheus: &Prometheus, alert: &str, meanwhile: impl AsyncFn()) {
    eventually(alert, async || {
        meanwhile().await;
        let states = states(prometheus).await;
        let state = |is_real: bool| {
            let of = |(file, name, ..): &&(String, String, String, Value)| {
                name == alert && file.ends_with("prometheus-rules.yml") == is_real
            };
            states.iter().find(of).map_or("", |(_, _, state, _)| state)
        };
        matches!(state(true), "pending" | "firing") && state(false) == "firing"
    })
    .await;
}

/// These are not even pending, by either of the files.
async fn assert_quiet(prometheus: &Prometheus, alerts: &[&str]) {
    let states = states(prometheus).await;
    let quiet = states.iter().filter(|(_, name, state, _)| alerts.contains(&&**name) && state == "inactive");
    assert_eq!(quiet.count(), 2 * alerts.len(), "{states:?}");
}

fn is_ok(rule: &Value) -> bool {
    rule["health"] == "ok" && rule["lastError"].as_str().unwrap_or_default().is_empty()
}

/// A login that finds no server. While that ends it may say so itself (57P03), which is no failure to reach it.
async fn refused(proxy: &TestProxy) {
    let error = proxy.try_log_in("app_user.acme").await.expect_err("the server is down");
    let code = error.code().map(|code| code.code());
    assert!(matches!(code, Some("08006" | "57P03")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_is_evaluated_and_a_fault_raises_its_alert() -> TestResult {
    let own = Cluster::start().await;
    let options = [
        ("pool_mode", "session"),
        ("pool_size", "1"),
        ("pool_checkout_timeout", "600"),
        ("auth_file", auth_file().to_str().ok_or("a path")?),
        ("admin_port", "0"),
        ("admin_token", ADMIN_TOKEN),
    ];
    let proxy = proxy_for(&own.postgres, &options).await?;
    let real = deploy().join("prometheus-rules.yml").canonicalize()?;
    // The same without a time that a fault has to last.
    let at_once = tempfile::NamedTempFile::with_suffix(".yml")?;
    let text = std::fs::read_to_string(&real)?;
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("for:"));
    std::fs::write(at_once.path(), lines.collect::<Vec<_>>().join("\n"))?;
    let prometheus = Prometheus::start(proxy.admin(), &[&real, at_once.path()]);

    let count = text.matches("- alert:").count();
    proxy.log_in("app_user.acme").await.batch_execute("SELECT 1").await?;
    eventually("it scrapes", async || prometheus.value("pgvpd_sessions_total").await == Some(1.0)).await;
    let is_evaluated =
        async || states(&prometheus).await.iter().filter(|(_, _, _, rule)| is_ok(rule)).count() == 2 * count;
    eventually("every rule is evaluated", is_evaluated).await;
    let alerts = ["PgvpdClientsWait", "PgvpdServerUnreachable", "PgvpdDown"];
    assert_quiet(&prometheus, &alerts).await;

    let held = proxy.log_in("app_user.acme").await;
    let config = proxy.config("app_user.globex");
    let waiting = tokio::spawn(async move { config.connect(tokio_postgres::NoTls).await.is_ok() });
    raised(&prometheus, "PgvpdClientsWait", async || {}).await;
    // By now all have been evaluated on what was scraped; at first there was nothing to fail on.
    assert!(is_evaluated().await, "{:?}", states(&prometheus).await);
    assert_quiet(&prometheus, &["PgvpdServerUnreachable", "PgvpdDown"]).await;

    own.postgres.stop().await?;
    drop(held);
    assert!(!waiting.await?, "the server is down");
    raised(&prometheus, "PgvpdServerUnreachable", async || refused(&proxy).await).await;
    assert_quiet(&prometheus, &["PgvpdDown"]).await;

    proxy.handle.shutdown(Duration::ZERO).await;
    raised(&prometheus, "PgvpdDown", async || {}).await;
    Ok(())
}
