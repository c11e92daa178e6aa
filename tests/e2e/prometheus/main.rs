//! A real Prometheus scrapes the proxy, and promtool finds nothing wrong with its metrics. Needs both programs on PATH: Debian's
//! package prometheus.
#![expect(clippy::expect_used, reason = "a test fails where it cannot go on")]

use std::io::{Seek, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use support::{ADMIN_TOKEN, TestResult, administered, eventually, http};

/// A running Prometheus, which ends with the test.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// Scrapes this address each second, with the token.
    fn start(target: SocketAddr) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("prometheus.yml");
        let text = format!(
            "global: {{ scrape_interval: 1s }}\n\
             scrape_configs:\n\
             - job_name: pgvpd\n  authorization: {{ credentials: {ADMIN_TOKEN} }}\n  static_configs: [ {{ targets: ['{target}'] }} ]\n"
        );
        std::fs::write(&file, text).expect("written");
        // Free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus is on PATH (apt install prometheus)");
        Self { child, address, _directory: directory }
    }

    async fn ask(&self, path: &str) -> Option<Value> {
        if tokio::net::TcpStream::connect(self.address).await.is_err() {
            return None;
        }
        let answer = http(self.address, "GET", path, &[], "").await;
        // Its bodies are chunked: the object is between the sizes.
        let (from, to) = (answer.body.find('{')?, answer.body.rfind('}')?);
        serde_json::from_str(answer.body.get(from..=to)?).ok()
    }

    /// What a query gives: each series with its value.
    async fn value(&self, query: &str) -> Option<f64> {
        let answer = self.ask(&format!("/api/v1/query?query={query}")).await?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_it_without_an_error_and_sees_what_happens() -> TestResult {
    let proxy = administered(&[("metrics_tenants", "2")]).await;
    for tenant in ["acme", "globex", "initech"] {
        proxy.log_in(&format!("app_user.{tenant}")).await.batch_execute("SELECT 1").await?;
    }
    let prometheus = Prometheus::start(proxy.admin());
    eventually("it is up", async || prometheus.value("up").await == Some(1.0)).await;
    for (query, value) in [
        ("pgvpd_sessions_total", 3.0),
        ("pgvpd_tenant_sessions_total%7Btenant%3D%22other%22%7D", 1.0),
        ("pgvpd_handshake_seconds_count%7Bphase%3D%22inject%22%7D", 3.0),
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

/// Lets promtool read a query of the dashboard's, with values for its variables.
fn parse(expression: &str) {
    let expression = expression.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$job", "pgvpd");
    let rules = serde_json::json!({ "groups": [{ "name": "g", "rules": [{ "record": "r", "expr": expression }] }] });
    let file = tempfile::NamedTempFile::with_suffix(".yml").expect("a file");
    // JSON is YAML.
    std::fs::write(file.path(), rules.to_string()).expect("written");
    let promtool = Command::new("promtool").args(["check", "rules"]).arg(file.path()).output();
    let found = promtool.expect("promtool is on PATH (apt install prometheus)");
    assert!(found.status.success(), "{expression}: {}", String::from_utf8_lossy(&found.stderr));
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
    let panels: Value = serde_json::from_str(&grafana)?;
    for panel in panels["panels"].as_array().ok_or("panels")? {
        let expressions =
            panel["targets"].as_array().into_iter().flatten().filter_map(|target| target["expr"].as_str());
        for expression in expressions {
            parse(expression);
        }
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
