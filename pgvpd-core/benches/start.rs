//! How long a proxy takes from start to ready: `cargo bench -p pgvpd-core --bench start`.
//!
//! Prints `rust`, the median and every measurement in microseconds, as the benchmarks of the other languages do; ready is
//! when the call returns, since the listener is open then.
#![expect(clippy::print_stdout, reason = "the result is for a person or a script to read")]

use std::time::{Duration, Instant};

use pgvpd_core::{Proxy, StartError};

/// The first ones warm up and do not count.
const WARM_UP: usize = 5;
const COUNTED: usize = 25;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut measured = Vec::new();
    for _ in 0..WARM_UP + COUNTED {
        measured.push(runtime.block_on(start_to_ready())?);
    }
    let mut counted = measured.split_off(WARM_UP);
    let all: Vec<_> = counted.iter().map(|took| took.as_micros().to_string()).collect();
    counted.sort();
    let median = counted.get(COUNTED / 2).copied().unwrap_or_default();
    println!("rust {} {}", median.as_micros(), all.join(" "));
    Ok(())
}

async fn start_to_ready() -> Result<Duration, StartError> {
    let start = Instant::now();
    let proxy = Proxy::builder().upstream_host("127.0.0.1").upstream_port(5432).port(0).start().await?;
    let took = start.elapsed();
    proxy.shutdown(Duration::ZERO).await;
    Ok(took)
}
