//! A real Prometheus scrapes the proxy, evaluates the alert rules and answers the dashboard's queries; promtool finds nothing
//! wrong. Needs both programs on PATH: Debian's
//! package prometheus.
#![expect(clippy::expect_used, reason = "a test fails where it cannot go on")]

mod alerts;
mod queries;
mod server;

use std::io::{Seek, Write};
use std::process::Command;

use server::Prometheus;
use support::{TestResult, administered, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_it_without_an_error_and_sees_what_happens() -> TestResult {
    let proxy = administered(&[("metrics_tenants", "2")]).await;
    for tenant in ["acme", "globex", "initech"] {
        proxy.log_in(&format!("app_user.{tenant}")).await.batch_execute("SELECT 1").await?;
    }
    let prometheus = Prometheus::start(proxy.admin(), &[]);
    eventually("it is up", async || prometheus.value("up").await == Some(1.0)).await;
    for (query, value) in [
        ("pgvpd_sessions_total", 3.0),
        ("pgvpd_tenant_sessions_total{tenant=\"other\"}", 1.0),
        ("pgvpd_handshake_seconds_count{phase=\"inject\"}", 3.0),
        ("count(pgvpd_tenant_sessions_total)", 3.0),
        ("pgvpd_build_info", 1.0),
    ] {
        eventually(query, async || prometheus.value(query).await == Some(value)).await;
    }
    let targets = prometheus.ask("/api/v1/targets").await.ok_or("targets")?;
    assert_eq!(targets["data"]["activeTargets"][0]["lastError"], "", "{targets}");
    Ok(())
}

#[tokio::test]
async fn promtool_finds_nothing_wrong_with_them() -> TestResult {
    let proxy = administered(&[]).await;
    proxy.log_in("app_user.acme").await.batch_execute("SELECT 1").await?;
    let text = proxy.get("/metrics").await.body;
    let mut file = tempfile::tempfile()?;
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    let promtool = Command::new("promtool").args(["check", "metrics"]).stdin(file).output();
    let found = promtool.expect("promtool is on PATH (apt install prometheus)");
    let said = [found.stdout, found.stderr].concat();
    assert!(found.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
    Ok(())
}

/// The deployment files.
fn deploy() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/deploy")
}

#[test]
fn the_alert_rules_are_valid_and_fire_when_they_should() {
    for arguments in [["check", "rules", "prometheus-rules.yml"], ["test", "rules", "prometheus-rules-test.yml"]] {
        let promtool = Command::new("promtool").args(arguments).current_dir(deploy()).output();
        let found = promtool.expect("promtool is on PATH (apt install prometheus)");
        let said = [found.stdout, found.stderr].concat();
        assert!(found.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
    }
}

#[tokio::test]
async fn alert_rules_grafana_and_the_manual_name_metrics_that_there_are() -> TestResult {
    let proxy = administered(&[("pool_mode", "none")]).await;
    let text = proxy.get("/metrics").await.body;
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let known: std::collections::BTreeSet<&str> = types.collect();
    let manual = std::fs::read_to_string(deploy().join("../operations.md"))?;
    let rules = std::fs::read_to_string(deploy().join("prometheus-rules.yml"))?;
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    let grafana = std::fs::read_to_string(deploy().join("grafana.json"))?;
    for name in [&manual, &rules, &grafana].into_iter().flat_map(|text| text.split(|c| !is_part(c))) {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let is_metric = name.starts_with("pgvpd_") && name != "pgvpd_";
        assert!(!is_metric || known.contains(base), "{name} is not among {known:?}");
    }
    for name in known {
        let short = name.strip_prefix("pgvpd_pool").or_else(|| name.strip_prefix("pgvpd_resolver")).unwrap_or(name);
        assert!(
            manual.contains(&format!("`{name}`")) || manual.contains(&format!("`{short}`")),
            "{name} is not in the manual"
        );
    }
    Ok(())
}
