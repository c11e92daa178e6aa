//! Metrics: their form, and that they count what happens.

use crate::support::{Mode, TestResult, administered, eventually, http, mode};

/// The value of every series, by the text before it.
fn series(text: &str) -> std::collections::BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
        })
        .collect()
}

#[tokio::test]
async fn they_count_what_happens() -> TestResult {
    let proxy = administered(&[("tenant_deny", "mallory"), ("tenant_max_connections", "1")]).await;
    let client = proxy.log_in("app_user.acme").await;
    client.batch_execute("SELECT repeat('x', 100000)").await?;
    for refused in ["app_user.acme", "app_user.mallory", "app_user"] {
        assert!(proxy.try_log_in(refused).await.is_err());
    }
    // A client may have read its error before it is counted.
    eventually("all is counted", async || {
        proxy.metric("pgvpd_logins_refused_total{sqlstate=\"28000\"}").await == Some(2.0)
    })
    .await;
    let found = series(&proxy.get("/metrics").await.body);
    for (name, value) in [
        ("pgvpd_connections_total", 4.0),
        ("pgvpd_connections_active", 1.0),
        ("pgvpd_sessions_total", 1.0),
        ("pgvpd_logins_refused_total{sqlstate=\"53300\"}", 1.0),
        ("pgvpd_tenant_rejected_total{reason=\"deny\"}", 1.0),
        ("pgvpd_tenant_rejected_total{reason=\"limit\"}", 1.0),
        ("pgvpd_tenant_rejected_total{reason=\"rate\"}", 0.0),
        ("pgvpd_tenants_active", 1.0),
        ("pgvpd_tenant_connections_active{tenant=\"acme\"}", 1.0),
        ("pgvpd_tenant_sessions_total{tenant=\"acme\"}", 1.0),
        ("pgvpd_handshake_seconds_count{phase=\"accept\"}", 4.0),
        // The one beyond the tenant's limit has given its password too; in passthrough the server has judged it.
        ("pgvpd_handshake_seconds_count{phase=\"auth\"}", 2.0),
        ("pgvpd_handshake_seconds_count{phase=\"checkout\"}", if mode() == Mode::Session { 1.0 } else { 2.0 }),
        ("pgvpd_handshake_seconds_count{phase=\"inject\"}", 1.0),
        ("pgvpd_handshake_seconds_bucket{phase=\"inject\",le=\"+Inf\"}", 1.0),
        ("pgvpd_draining", 0.0),
    ] {
        assert_eq!(found.get(name), Some(&value), "{name} in {found:#?}");
    }
    let bytes = found["pgvpd_bytes_total{direction=\"to_client\"}"];
    assert!(bytes > 100_000.0 && bytes < 110_000.0, "{bytes}: while the session lasts");
    assert_eq!(found["pgvpd_tenant_bytes_total{tenant=\"acme\",direction=\"to_client\"}"], bytes);
    if mode() != Mode::Raw {
        assert_eq!(found["pgvpd_requests_total"], 1.0);
    }
    if mode() == Mode::Session {
        assert_eq!(found["pgvpd_pool_connections_total{database=\"shop\",role=\"app_user\"}"], 1.0);
        assert_eq!(found["pgvpd_pool_connections_idle{database=\"shop\",role=\"app_user\"}"], 0.0);
        assert_eq!(found["pgvpd_pool_checkouts_total"], 1.0);
        assert_eq!(found["pgvpd_pool_creates_total"], 1.0);
        assert_eq!(found["pgvpd_pool_wait_seconds_count"], 1.0);
        drop(client);
        eventually("it is back", async || proxy.metric("pgvpd_pool_checkins_total").await == Some(1.0)).await;
        drop(proxy.log_in("app_user.globex").await);
        assert_eq!(proxy.metric("pgvpd_pool_reuses_total").await, Some(1.0));
    }
    Ok(())
}

#[tokio::test]
async fn only_the_busiest_tenants_have_series_of_their_own_and_nothing_is_counted_twice() -> TestResult {
    let proxy = administered(&[("metrics_tenants", "2")]).await;
    for tenant in ["one", "two", "three", "four", "other"] {
        let client = proxy.log_in(&format!("app_user.{tenant}")).await;
        client.batch_execute("SELECT 1").await?;
    }
    eventually("all have left", async || proxy.handle.stats().sessions_active == 0).await;
    let found = series(&proxy.get("/metrics").await.body);
    let sessions: Vec<_> = found.iter().filter(|(name, _)| name.starts_with("pgvpd_tenant_sessions_total")).collect();
    assert_eq!(sessions.len(), 3, "{sessions:?}");
    assert_eq!(sessions.iter().map(|(_, value)| **value).sum::<f64>(), 5.0);
    assert_eq!(found["pgvpd_tenant_sessions_total{tenant=\"other\"}"], 3.0);
    let of_tenants: f64 =
        found.iter().filter(|(name, _)| name.starts_with("pgvpd_tenant_bytes_total")).map(|(_, value)| value).sum();
    let all: f64 = found.iter().filter(|(name, _)| name.starts_with("pgvpd_bytes_total")).map(|(_, value)| value).sum();
    assert_eq!(of_tenants, all);
    Ok(())
}

#[tokio::test]
async fn a_tenants_name_is_text_in_a_label_whatever_it_is() {
    let proxy = administered(&[]).await;
    let _client = proxy.log_in("app_user.a\"} 1\\n\u{e9}").await;
    let text = proxy.get("/metrics").await.body;
    assert!(text.contains("pgvpd_tenant_sessions_total{tenant=\"a\\\"} 1\\\\n\u{e9}\"} 1"), "{text}");
}

#[tokio::test]
async fn openmetrics_is_spoken_with_who_asks_for_it() {
    let proxy = administered(&[]).await;
    let accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    let open = http(proxy.admin(), "GET", "/metrics", &[("accept", accept)], "").await;
    assert!(open.head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{}", open.head);
    assert!(open.body.ends_with("# EOF\n") && open.body.contains("# TYPE pgvpd_connections counter\n"));
    let plain = proxy.get("/metrics").await;
    assert!(plain.head.contains("content-type: text/plain; version=0.0.4"), "{}", plain.head);
    assert!(!plain.body.contains("# EOF") && plain.body.contains("# TYPE pgvpd_connections_total counter\n"));
}
