//! `reuse_port`: a new process takes over from the old one, and no client notices.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_postgres::{Config, NoTls};

use crate::support::{PASSWORD, Program, TestResult, address, bare_command, postgres, run, within, write_private};

/// Processes that follow each other in one test.
const GENERATIONS: usize = 4;

/// Clients that come and go, each after the other, in several places.
struct Load {
    is_over: Arc<AtomicBool>,
    logins: Arc<AtomicUsize>,
    places: Vec<JoinHandle<Result<(), tokio_postgres::Error>>>,
}

impl Load {
    fn start(places: usize, config: &Config) -> Self {
        let (is_over, logins) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let place = |_| {
            let (is_over, logins, config) = (Arc::clone(&is_over), Arc::clone(&logins), config.clone());
            tokio::spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    let (client, connection) = config.connect(NoTls).await?;
                    let connection = tokio::spawn(connection);
                    let row = client.query_one("SELECT count(*) FROM orders", &[]).await?;
                    assert_eq!(row.get::<_, i64>(0), 3, "acme's");
                    drop(client);
                    let _ = connection.await;
                    logins.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        };
        let places = (0..places).map(place).collect();
        Self { is_over, logins, places }
    }

    /// Waits for so many more logins.
    async fn go_on_for(&self, logins: usize) {
        let enough = self.logins.load(Ordering::Relaxed) + logins;
        within("logins", async {
            while self.logins.load(Ordering::Relaxed) < enough && !self.places.iter().any(JoinHandle::is_finished) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// The first failure, if there was one.
    async fn end(self) -> Result<usize, tokio_postgres::Error> {
        self.is_over.store(true, Ordering::Relaxed);
        for place in self.places {
            place.await.expect("no panic")?;
        }
        Ok(self.logins.load(Ordering::Relaxed))
    }
}

async fn start(port: u16, arguments: &[&str]) -> (Program, SocketAddr) {
    let (port, upstream_port) = (port.to_string(), postgres().await.port().to_string());
    let mut command = bare_command();
    // A pool, so that more logins come in a second.
    let options = ["--port", &port, "--upstream-port", &upstream_port, "--max-client-connections", "200"];
    command.args(options).args(["--log-sessions", "false", "--reuse-port"]).args(arguments);
    let program = Program::start(command);
    let address = address(&program.err.line("pgvpd is listening").await);
    (program, address)
}

fn client() -> Config {
    let mut config = Config::new();
    config.user("app_user.acme").password(PASSWORD).dbname("shop");
    config
}

/// Starts the next process and ends the one before it, several times, while clients come and go.
async fn follow_each_other(first: Program, port: u16, arguments: &[&str], config: &Config) -> TestResult {
    let load = Load::start(8, config);
    let mut current = first;
    for _ in 0..GENERATIONS {
        load.go_on_for(20).await;
        let (next, _) = start(port, arguments).await;
        load.go_on_for(20).await;
        current.signal(Signal::TERM);
        assert_eq!(current.exit_code().await, Some(0), "{}", current.err.text());
        current = next;
    }
    load.go_on_for(20).await;
    let logins = load.end().await?;
    assert!(logins >= GENERATIONS * 40, "{logins}");
    Ok(())
}

fn pool(directory: &Path) -> String {
    let file = directory.join("users.txt");
    write_private(&file, format!("\"app_user\" \"{PASSWORD}\"\n"));
    file.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_login_fails_while_processes_follow_each_other() -> TestResult {
    let directory = tempfile::tempdir()?;
    let users = pool(directory.path());
    let arguments = ["--pool-mode", "session", "--auth-file", &users];
    let (first, address) = start(0, &arguments).await;
    let mut config = client();
    config.host("127.0.0.1").port(address.port());
    follow_each_other(first, address.port(), &arguments, &config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_one_over_the_unix_socket() -> TestResult {
    let (directory, sockets) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let users = pool(directory.path());
    let place = sockets.path().to_str().ok_or("UTF-8")?;
    let arguments = ["--pool-mode", "session", "--auth-file", &users, "--listen-unix-dir", place];
    let (first, address) = start(0, &arguments).await;
    let mut config = client();
    config.host_path(sockets.path()).port(address.port());
    follow_each_other(first, address.port(), &arguments, &config).await?;
    Ok(())
}

/// Asks whether TLS is spoken, and reads the answer.
async fn is_answered(mut client: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<u8> {
    client.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await?;
    within("an answer", client.read_u8()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_in_the_queue_of_a_process_that_leaves_is_served() -> TestResult {
    let sockets = tempfile::tempdir()?;
    let arguments = ["--listen-unix-dir", sockets.path().to_str().ok_or("UTF-8")?];
    let (mut old, address) = start(0, &arguments).await;
    let path = sockets.path().join(format!(".s.PGSQL.{}", address.port()));
    // While it stands still the kernel completes their connections, and it accepts none.
    old.signal(Signal::STOP);
    let (mut over_tcp, mut over_unix) = (Vec::new(), Vec::new());
    for _ in 0..30 {
        over_tcp.push(TcpStream::connect(address).await?);
        over_unix.push(UnixStream::connect(&path).await?);
    }
    let (_next, _) = start(address.port(), &arguments).await;
    old.signal(Signal::TERM);
    old.signal(Signal::CONT);
    for client in over_tcp {
        assert_eq!(is_answered(client).await?, b'N');
    }
    for client in over_unix {
        assert_eq!(is_answered(client).await?, b'N');
    }
    assert_eq!(old.exit_code().await, Some(0));
    assert!(UnixStream::connect(&path).await.is_ok(), "the socket file is the next one's");
    Ok(())
}

#[tokio::test]
async fn a_process_that_does_not_share_its_port_keeps_it() {
    let (_first, address) = start(0, &[]).await;
    let port = address.port().to_string();
    let refused = run(&["--port", &port], &[]).code(3);
    let said = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(said.contains("cannot listen on") && said.contains(&port), "{said}");
}

#[tokio::test]
async fn a_process_that_is_alone_ends_as_well() {
    let (mut alone, _) = start(0, &[]).await;
    alone.signal(Signal::TERM);
    assert_eq!(alone.exit_code().await, Some(0));
}
