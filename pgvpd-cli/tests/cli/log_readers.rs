//! Whoever reads the log may stop, leave, or have no room left: clients notice nothing, and the count of lost lines is shown.

use std::fs::{File, OpenOptions, Permissions};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::{Client, NoTls};

use crate::support::{
    PASSWORD, Program, Server, TestResult, address, bare_command, eventually, log_in, orders, postgres, within,
};

/// The files of a proxy with an administrator.
struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let users = directory.path().join("users.txt");
        std::fs::write(&users, format!("\"root\" \"{PASSWORD}\"\n")).expect("written");
        std::fs::set_permissions(&users, Permissions::from_mode(0o600)).expect("set");
        let text = format!("admin_users = root\nauth_file = {}\n", users.display());
        std::fs::write(directory.path().join("pgvpd.conf"), text).expect("written");
        Self { directory }
    }

    fn config(&self) -> String {
        self.directory.path().join("pgvpd.conf").display().to_string()
    }
}

/// Has more lines written than a pipe and a queue take.
async fn write_many_lines(proxy: SocketAddr) {
    let mut config = tokio_postgres::Config::new();
    config.host(proxy.ip().to_string()).port(proxy.port()).user("root").password(PASSWORD).dbname("pgvpd");
    let (console, connection) = within("login", config.connect(NoTls)).await.expect("a console");
    tokio::spawn(connection);
    for _ in 0..8 {
        within("reloads", console.batch_execute(&"RELOAD;".repeat(500))).await.expect("reloaded");
    }
}

async fn get(admin: SocketAddr, path: &str) -> String {
    within(path, async {
        let mut stream = TcpStream::connect(admin).await.expect("the admin port");
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("read");
        answer
    })
    .await
}

async fn lost_lines(admin: SocketAddr) -> u64 {
    let metrics = get(admin, "/metrics").await;
    let line = metrics.lines().find_map(|line| line.strip_prefix("pgvpd_log_lines_lost_total "));
    line.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no figure in {metrics}"))
}

/// Everything that a client and a probe want.
async fn serves(proxy: SocketAddr, admin: SocketAddr, open: &Client) -> TestResult {
    assert_eq!(orders(open).await?, 3, "an open session");
    assert_eq!(orders(&log_in(proxy, "app_user.globex").await?).await?, 2, "a new one");
    assert!(get(admin, "/health").await.starts_with("HTTP/1.1 200"));
    Ok(())
}

fn admin_address(line: &str) -> SocketAddr {
    address(line.split_once("admin_").expect("an admin address").1)
}

#[tokio::test]
async fn a_log_that_nobody_reads_stops_nobody() -> TestResult {
    for format in ["text", "json"] {
        let files = Files::new();
        let arguments = ["--config", &files.config(), "--admin-port", "0", "--log-format", format];
        let mut server = Server::start(&arguments).await;
        let admin = admin_address(&server.program.err.line("pgvpd is listening").await);
        let open = log_in(server.address, "app_user.acme").await?;
        server.program.err.read_on(false);
        write_many_lines(server.address).await;
        serves(server.address, admin, &open).await?;
        assert!(lost_lines(admin).await > 0);

        server.program.err.read_on(true);
        server.program.err.line("log lines are missing here").await;
        server.program.signal(Signal::TERM);
        drop(open);
        assert_eq!(server.program.exit_code().await, Some(0));
        let last = server.program.err.text();
        assert!(last.lines().last().is_some_and(|line| line.contains("stopped")), "the last lines are written: {last}");
    }
    Ok(())
}

#[tokio::test]
async fn a_proxy_whose_log_nobody_reads_ends_in_time() -> TestResult {
    let files = Files::new();
    let mut server = Server::start(&["--config", &files.config()]).await;
    server.program.err.read_on(false);
    write_many_lines(server.address).await;
    server.program.signal(Signal::TERM);
    let status = within("the end", server.program.wait()).await;
    assert_eq!(status.code(), Some(0));
    Ok(())
}

/// A proxy that logs to this, and its two ports, which no log tells.
async fn start_logging_to(err: Stdio) -> (Program, SocketAddr, SocketAddr) {
    let free = || TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let (proxy, admin) = (free(), free());
    let ports = [proxy.port(), admin.port(), postgres().await.port()].map(|port| port.to_string());
    let mut command = bare_command();
    command.args(["--port", &ports[0], "--admin-port", &ports[1], "--upstream-port", &ports[2]]);
    command.args(["--max-client-connections", "100"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(err);
    let program = Program::spawn(command);
    eventually("it listens", async || TcpStream::connect(admin).await.is_ok()).await;
    (program, proxy, admin)
}

#[tokio::test]
async fn a_full_disk_under_the_log_stops_nobody() -> TestResult {
    let full: File = OpenOptions::new().write(true).open("/dev/full")?;
    let (mut program, proxy, admin) = start_logging_to(full.into()).await;
    let open = log_in(proxy, "app_user.acme").await?;
    serves(proxy, admin, &open).await?;
    eventually("the losses are counted", async || lost_lines(admin).await >= 3).await;
    program.signal(Signal::TERM);
    drop(open);
    assert_eq!(program.exit_code().await, Some(0));
    Ok(())
}

#[tokio::test]
async fn a_reader_of_the_log_that_has_left_stops_nobody() -> TestResult {
    let (reader, writer) = std::io::pipe()?;
    let (mut program, proxy, admin) = start_logging_to(writer.into()).await;
    let open = log_in(proxy, "app_user.acme").await?;
    drop(reader);
    serves(proxy, admin, &open).await?;
    eventually("the losses are counted", async || lost_lines(admin).await > 0).await;
    program.signal(Signal::TERM);
    drop(open);
    assert_eq!(program.exit_code().await, Some(0));
    Ok(())
}
