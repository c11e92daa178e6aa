//! Every query of `docs/deploy/grafana.json`, asked of a Prometheus that scrapes a proxy under load.

use std::collections::BTreeSet;

use serde_json::Value;
use support::resolving::{file_of, site};
use support::{ADMIN_TOKEN, TestProxy, TestResult, auth_file, eventually, proxy_for};
use tokio_postgres::NoTls;

use crate::deploy;
use crate::server::Prometheus;

/// One whose results are used again, and one that is asked at each login.
const RESOLVERS: &str = "
    [[resolver]]
    name = \"org_membership\"
    query = \"SELECT CASE WHEN is_admin THEN org END AS admin_of FROM members WHERE org = $1 AND user_id = $2\"
    params = [\"app.current_tenant_id\", \"app.user_id\"]
    inject = { \"app.admin_of\" = \"admin_of\" }
    cache_ttl = 60
    [[resolver]]
    name = \"teams\"
    query = \"SELECT array_agg(team_id)::text AS ids FROM team_members WHERE org = $1 AND user_id = $2\"
    params = [\"app.current_tenant_id\", \"app.user_id\"]
    inject = { \"app.team_ids\" = \"ids\" }";

/// Logins that work, one that is denied, one whose password is wrong.
async fn visit(proxy: &TestProxy) {
    for user in ["app_user.acme:3", "app_user.globex:5"] {
        proxy.log_in(user).await.batch_execute("SELECT count(*) FROM docs").await.expect("an answer");
    }
    assert!(proxy.try_log_in("app_user.mallory:1").await.is_err(), "it is denied");
    assert!(proxy.config("app_user.acme:3").password("wrong").connect(NoTls).await.is_err(), "it is wrong");
}

/// The panels' queries, with the panel's title, and with values for the dashboard's variables.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    let targets = panels.flat_map(|panel| {
        let title = panel["title"].as_str().unwrap_or_default().to_owned();
        panel["targets"].as_array().into_iter().flatten().map(move |target| (title.clone(), target))
    });
    let filled =
        |text: &str| text.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$job", "pgvpd");
    targets.filter_map(|(title, target)| Some((title, filled(target["expr"].as_str()?)))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_the_dashboard_gives_data() -> TestResult {
    let (own, _admin) = site().await;
    let file = file_of(RESOLVERS);
    let options = [
        ("pool_mode", "session"),
        ("auth_file", auth_file().to_str().ok_or("a path")?),
        ("context_variables", "app.current_tenant_id,app.user_id"),
        ("resolvers", file.path()),
        ("tenant_deny", "mallory"),
        ("admin_port", "0"),
        ("admin_token", ADMIN_TOKEN),
    ];
    let proxy = proxy_for(&own.postgres, &options).await?;
    let prometheus = Prometheus::start(proxy.admin(), &[]);
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(deploy().join("grafana.json"))?)?;
    let all = queries(&dashboard);
    assert!(all.len() > 25, "{all:?}");
    // A rate takes two scrapes, and something that happens between them.
    for (title, query) in &all {
        eventually(&format!("data for {title:?}: {query}"), async || {
            visit(&proxy).await;
            prometheus.series(query).await.is_some_and(|series| series.iter().any(|(_, value)| value.is_finite()))
        })
        .await;
    }
    // What a variable of the dashboard offers.
    let names = prometheus.ask("/api/v1/label/instance/values?match[]=pgvpd_build_info").await.ok_or("instances")?;
    assert_eq!(names["data"], serde_json::json!([proxy.admin().to_string()]));
    // The labels that legends name are there.
    for (query, label, expected) in [
        ("sum by (tenant) (pgvpd_tenant_sessions_total)", "tenant", &["acme", "globex"][..]),
        ("sum by (reason) (pgvpd_tenant_rejected_total)", "reason", &["deny"]),
        ("sum by (sqlstate) (pgvpd_logins_refused_total)", "sqlstate", &["28000", "28P01"]),
        ("sum by (database, role) (pgvpd_pool_connections_total)", "role", &["app_user"]),
        ("sum by (resolver) (pgvpd_resolver_hits_total)", "resolver", &["org_membership"]),
    ] {
        let series = prometheus.series(query).await.ok_or(query)?;
        let found: BTreeSet<&str> = series.iter().filter_map(|(labels, _)| labels[label].as_str()).collect();
        assert!(expected.iter().all(|name| found.contains(name)), "{query}: {found:?}");
    }
    Ok(())
}
