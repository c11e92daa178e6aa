//! A proxy that is started while the one before it lets its sessions finish.

use std::net::SocketAddr;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Server, TestResult, address, eventually, log_in, orders, within};

/// What `/ready` says; nothing where nobody answers.
async fn ready(admin: SocketAddr) -> String {
    let ask = async {
        let mut stream = TcpStream::connect(admin).await?;
        stream.write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    within("an answer", ask).await.unwrap_or_default()
}

#[tokio::test]
async fn it_takes_the_admin_port_over_when_the_old_one_ends() -> TestResult {
    let mut old = Server::start(&["--admin-port", "0", "--shutdown-timeout", "3600"]).await;
    let line = old.program.err.line("pgvpd is listening").await;
    let admin = address(line.split_once("admin_").ok_or("an admin address")?.1);
    let open = log_in(old.address, "app_user.acme").await?;
    old.program.signal(Signal::TERM);
    eventually("it drains", async || ready(admin).await.contains("not ready: draining")).await;

    let port = admin.port().to_string();
    let new = Server::start(&["--admin-port", &port]).await;
    assert_eq!(orders(&log_in(new.address, "app_user.globex").await?).await?, 2, "it serves clients at once");
    assert!(ready(admin).await.contains("draining"), "the old one can still be watched");
    assert_eq!(orders(&open).await?, 3);
    drop(open);
    assert_eq!(old.program.exit_code().await, Some(0));
    eventually("the new one answers", async || ready(admin).await.ends_with("\r\n\r\nready\n")).await;
    new.program.err.line("the admin port is this proxy's now").await;
    Ok(())
}
