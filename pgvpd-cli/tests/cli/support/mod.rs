//! What the tests share: running the program, reading what it prints, a PostgreSQL behind it.

mod database;
mod program;
mod site;

use std::time::Duration;

pub(crate) use database::{PASSWORD, log_in, log_in_with, orders, postgres};
pub(crate) use program::{Program, Server, address, bare_command, run};
pub(crate) use site::{Site, hex, logging, unhex};

/// How long anything may take before it counts as stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a test may give up with.
pub(crate) type TestResult = Result<(), Box<dyn std::error::Error>>;

/// The future's value, or a panic that names what was waited for.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: nothing within {} s", PATIENCE.as_secs()),
    }
}

/// Waits until a condition holds, asking again and again.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    within(what, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Writes a file that may hold a secret, for its owner alone.
pub(crate) fn write_private(path: impl AsRef<std::path::Path>, text: impl AsRef<[u8]>) {
    let path = path.as_ref();
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("permissions");
}
