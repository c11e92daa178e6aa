//! Links that are lost without a word: nothing comes back, and nothing says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::copy;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::support::{PgError, TestResult, WireClient, auth_file, cluster, eventually, proxy_for};

/// What is between a proxy and its server, and can be cut.
struct Link {
    port: u16,
    /// New connections come to nothing either.
    is_down: Arc<AtomicBool>,
    cut: Arc<Notify>,
}

impl Link {
    async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let (is_down, cut) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let (is_down_here, cut_here) = (Arc::clone(&is_down), Arc::clone(&cut));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (is_down, cut) = (Arc::clone(&is_down_here), Arc::clone(&cut_here));
                tokio::spawn(async move {
                    // Both stay open, and silent.
                    let far = TcpStream::connect(("127.0.0.1", server)).await.expect("the server");
                    let (mut near_in, mut near_out) = near.into_split();
                    let (mut far_in, mut far_out) = far.into_split();
                    if !is_down.load(Ordering::SeqCst) {
                        tokio::select! {
                            () = cut.notified() => {}
                            _ = async { tokio::join!(copy(&mut near_in, &mut far_out), copy(&mut far_in, &mut near_out)) } => return,
                        }
                    }
                    std::future::pending::<()>().await;
                });
            }
        });
        Self { port, is_down, cut }
    }

    /// What is open passes nothing any more.
    fn cut(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::SeqCst);
        self.cut.notify_waiters();
    }
}

#[tokio::test]
async fn a_login_waits_for_a_lost_connection_no_longer_than_for_one() -> TestResult {
    let link = Link::to(cluster().await.postgres.port()).await;
    let port = link.port.to_string();
    let options = [
        ("pool_mode", "session"),
        ("auth_file", auth_file().to_str().unwrap()),
        ("upstream_port", &port),
        ("pool_checkout_timeout", "2"),
        ("handshake_timeout", "600"),
    ];
    let proxy = proxy_for(&cluster().await.postgres, &options).await?;
    let idle = async || {
        drop(proxy.try_log_in("app_user.acme").await.expect("a login"));
        eventually("a connection is idle", async || proxy.handle.stats().pool_idle == 1).await;
    };
    idle().await;
    link.cut(false);
    // The lost one is found out, and another one is made.
    idle().await;
    link.cut(true);
    let mut client: WireClient = proxy.connect().await;
    client.start("app_user.acme", &[]).await;
    let error: PgError = client.refusal_after_proof().await;
    assert!(["08006", "53300"].contains(&&*error.code), "{error:?}");
    Ok(())
}
