//! A real Prometheus.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use support::{ADMIN_TOKEN, http};

/// A running Prometheus, which ends with the test.
pub(crate) struct Prometheus {
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
    /// Scrapes this address each second, with the token, and evaluates the rules of these files as often.
    pub(crate) fn start(target: SocketAddr, rules: &[&Path]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("prometheus.yml");
        let text = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: {rules:?}\n\
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

    /// What its API says; `None` as long as it does not answer.
    pub(crate) async fn ask(&self, path: &str) -> Option<Value> {
        if tokio::net::TcpStream::connect(self.address).await.is_err() {
            return None;
        }
        let answer = http(self.address, "GET", path, &[], "").await;
        let is_chunked = answer.head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = if is_chunked { joined(&answer.body)? } else { answer.body };
        serde_json::from_str(&body).ok()
    }

    /// The series that a query gives, with the value of each.
    pub(crate) async fn series(&self, query: &str) -> Option<Vec<(Value, f64)>> {
        let path: String = query.bytes().map(encoded).collect();
        let answer = self.ask(&format!("/api/v1/query?query={path}")).await?;
        let series = answer["data"]["result"].as_array()?.iter();
        Some(series.filter_map(|one| Some((one["metric"].clone(), one["value"][1].as_str()?.parse().ok()?))).collect())
    }

    /// What a query gives that has one result.
    pub(crate) async fn value(&self, query: &str) -> Option<f64> {
        Some(self.series(query).await?.first()?.1)
    }
}

/// A byte of a query in an address.
fn encoded(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
}

/// The body of an answer that came in chunks, each behind a line with its size.
fn joined(mut chunks: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, rest) = chunks.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body += rest.get(..size)?;
        chunks = rest.get(size..)?.strip_prefix("\r\n")?;
    }
}
