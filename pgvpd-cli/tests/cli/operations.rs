//! What an operator does to a running proxy: reloads with good and bad files, under load, while clients are killed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{PASSWORD, Server, TestResult, eventually, log_in, orders, within, write_private};

const TOKEN: &str = "a-token-for-tests";

/// A proxy with a file, a token and a list of tenants.
struct Operated {
    server: Server,
    admin: SocketAddr,
    file: PathBuf,
    directory: tempfile::TempDir,
}

impl Operated {
    async fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("pgvpd.conf");
        write_private(directory.path().join("users.txt"), format!("\"app_user\" \"{PASSWORD}\"\n"));
        let operated = |text: &str| write_private(&file, text);
        operated(&Self::text(&directory, ""));
        let path = file.display().to_string();
        let server = Server::start(&[&["--config", &path], arguments].concat()).await;
        let line = server.program.err.line("pgvpd is listening").await;
        let admin = line.split_once("admin_address").expect("an admin address").1.trim_start_matches(['"', ':', '=']);
        let admin = admin.split([' ', '"']).next().expect("an address").parse().expect("an address");
        Self { server, admin, file, directory }
    }

    /// A file that is valid, with this in it.
    fn text(directory: &tempfile::TempDir, more: &str) -> String {
        let users = directory.path().join("users.txt");
        format!(
            "admin_port = 0\nadmin_token = {TOKEN}\npool_mode = session\nauth_file = {}\npool_size = 4\n\
             pool_checkout_timeout = 60\n{more}\n",
            users.display()
        )
    }

    fn write(&self, more: &str) {
        write_private(&self.file, Self::text(&self.directory, more));
    }

    /// Sends a request with the token; gives status and body.
    async fn post(&self, path: &str) -> (u16, String) {
        within("an answer", async {
            let mut stream = TcpStream::connect(self.admin).await.expect("the admin port");
            let request = format!(
                "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await.expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("read");
            let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
            (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
        })
        .await
    }
}

#[tokio::test]
async fn a_reload_by_http_reads_the_files_again_and_says_what_is_wrong_with_them() -> TestResult {
    let proxy = Operated::start(&[]).await;
    let tenants = proxy.directory.path().join("tenants.toml");
    let named = format!("tenants = {}", tenants.display());
    std::fs::write(&tenants, "[[tenant]]\nname = \"acme\"\ndeny = true\n")?;
    proxy.write(&named);
    assert_eq!(proxy.post("/reload").await, (200, "{\"needs_restart\":[]}".into()));
    assert!(log_in(proxy.server.address, "app_user.acme").await.is_err());
    // The file that the file names.
    std::fs::write(&tenants, "[[tenant]]\nname = \"globex\"\nmax_connections = 1\n")?;
    assert_eq!(proxy.post("/reload").await.0, 200);
    let _open = log_in(proxy.server.address, "app_user.globex").await?;
    assert!(log_in(proxy.server.address, "app_user.globex").await.is_err(), "the one that is open counts");
    assert!(log_in(proxy.server.address, "app_user.acme").await.is_ok());
    std::fs::write(&tenants, "[[tenant]]\nname = \"globex\"\n")?;
    let (status, body) = proxy.post("/reload").await;
    assert!(status == 422 && body.contains("the block says nothing"), "{status} {body}");
    proxy.write("port = 1\ntenant_dney = x");
    let (status, body) = proxy.post("/reload").await;
    assert!(status == 422 && body.contains("did you mean tenant_deny?") && !body.contains(TOKEN), "{status} {body}");
    assert!(log_in(proxy.server.address, "app_user.globex").await.is_err(), "the old one is whole");
    proxy.write("port = 1");
    // The flag that gives the port wins over the file.
    assert_eq!(proxy.post("/reload").await, (200, "{\"needs_restart\":[]}".into()));
    proxy.write("admin_host = 127.0.0.2\nlog_format = json");
    assert_eq!(proxy.post("/reload").await, (200, "{\"needs_restart\":[\"admin_host\",\"log_format\"]}".into()));
    Ok(())
}

#[tokio::test]
async fn draining_by_http_ends_the_program() -> TestResult {
    let mut proxy = Operated::start(&[]).await;
    let open = log_in(proxy.server.address, "app_user.acme").await?;
    assert_eq!(proxy.post("/drain").await.0, 202);
    eventually("no more clients", async || TcpStream::connect(proxy.server.address).await.is_err()).await;
    assert_eq!(orders(&open).await?, 3);
    drop(open);
    assert_eq!(proxy.server.program.exit_code().await, Some(0));
    Ok(())
}

/// Clients of both tenants that come, see their own rows and go, until it is over.
fn load(address: SocketAddr, is_over: &Arc<AtomicBool>, done: &Arc<AtomicUsize>) -> Vec<tokio::task::JoinHandle<()>> {
    let client = |number: usize| {
        let (is_over, done) = (Arc::clone(is_over), Arc::clone(done));
        tokio::spawn(async move {
            let (tenant, rows) = if number.is_multiple_of(2) { ("acme", 3) } else { ("globex", 2) };
            while !is_over.load(Ordering::Relaxed) {
                let client = log_in(address, &format!("app_user.{tenant}")).await.expect("a login");
                for _ in 0..3 {
                    assert_eq!(orders(&client).await.expect("rows"), rows, "{tenant}");
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    (0..6).map(client).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_and_killed_clients_under_load_cost_no_row_no_client_and_no_line() -> TestResult {
    let mut proxy = Operated::start(&["--log-format", "json", "--log-level", "debug"]).await;
    let address = proxy.server.address;
    let (is_over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients = load(address, &is_over, &done);
    let files = [
        "tenant_deny = mallory",
        "nonsense = 1",
        "pool_size = 3\ntenant_max_connections = 500",
        "handshake_timeout = soon\ntenants = /nowhere",
        "tenant_query_timeout = 600\nlog_sessions = false",
        "= =\n\u{1b}[2J",
    ];
    for round in 0..42 {
        // Somebody in the middle of a query, who is then gone without a word.
        let mut killed = tokio::process::Command::new("psql")
            .args(["-X", "-c", "SELECT pg_sleep(600)", "-d"])
            .arg(format!("host=127.0.0.1 port={} user=app_user.acme dbname=shop", address.port()))
            .env("PGPASSWORD", PASSWORD)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        files.get(round % files.len()).into_iter().for_each(|more| proxy.write(more));
        if round % 2 == 0 {
            proxy.server.program.signal(Signal::HUP);
        } else {
            let (status, body) = proxy.post("/reload").await;
            assert!([200, 422].contains(&status), "{status} {body}");
        }
        let enough = done.load(Ordering::Relaxed) + 2;
        eventually("clients come and go", async || {
            done.load(Ordering::Relaxed) >= enough || clients.iter().any(tokio::task::JoinHandle::is_finished)
        })
        .await;
        killed.kill().await?;
    }
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        within("a client", client).await?;
    }
    proxy.server.program.signal(Signal::TERM);
    assert_eq!(proxy.server.program.exit_code().await, Some(0));
    let said = proxy.server.program.err.text();
    for line in said.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
        assert!(line["timestamp"].is_string() && line["message"].is_string(), "{line}");
    }
    assert!(said.contains("configuration reloaded") && said.contains("reload failed"), "{said}");
    Ok(())
}
