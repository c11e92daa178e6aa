//! A server that says what a test wants, to show what the proxy makes of it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::within;

/// A listener that a proxy takes for PostgreSQL.
#[derive(Debug)]
pub struct FakeServer {
    listener: TcpListener,
}

impl FakeServer {
    /// Listens on a free port of loopback.
    pub async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.expect("loopback") }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.listener.local_addr().expect("bound").port()
    }

    /// The next connection, its startup packet read.
    pub async fn accept(&self) -> (TcpStream, Vec<u8>) {
        within("the proxy connects", async {
            let (mut stream, _) = self.listener.accept().await.expect("accepted");
            let size = stream.read_u32().await.expect("startup packet");
            let mut packet = vec![0; usize::try_from(size).expect("small") - 4];
            stream.read_exact(&mut packet).await.expect("startup packet");
            (stream, packet)
        })
        .await
    }

    /// Answers the next connection with these bytes and keeps it open.
    pub async fn answer(&self, bytes: &[u8]) -> TcpStream {
        let (mut stream, _) = self.accept().await;
        stream.write_all(bytes).await.expect("sent");
        stream
    }
}
