//! A proxy that is started and stopped leaves nothing behind. Alone in its process, because it counts what that holds.
#![cfg(target_os = "linux")]

use std::fs;
use std::time::Duration;

use pgvpd_core::Proxy;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Threads, open files, and resident memory in KiB.
fn held() -> Result<(usize, usize, i64)> {
    let count = |directory: &str| Ok::<_, std::io::Error>(fs::read_dir(directory)?.count());
    let status = fs::read_to_string("/proc/self/status")?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok((count("/proc/self/task")?, count("/proc/self/fd")?, resident.trim_end_matches("kB").trim().parse()?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_starts_and_stops_leave_no_thread_socket_or_memory() -> Result {
    let mut early = (0, 0, 0);
    for cycle in 1..=1000 {
        let proxy = Proxy::builder().upstream_host("127.0.0.1").port(0).start().await?;
        if cycle % 2 == 0 {
            proxy.shutdown(Duration::ZERO).await;
        } else {
            // Dropped while it runs; its tasks end by themselves.
            let closed = proxy.local_addr();
            drop(proxy);
            while tokio::net::TcpStream::connect(closed).await.is_ok() {
                tokio::task::yield_now().await;
            }
        }
        if cycle == 200 {
            early = held()?;
        }
    }
    let late = held()?;
    assert_eq!((late.0, late.1), (early.0, early.1), "threads and files");
    assert!(late.2 - early.2 < 1024, "resident memory grew from {} to {} KiB", early.2, late.2);
    Ok(())
}
