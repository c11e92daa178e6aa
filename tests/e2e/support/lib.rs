//! What the end-to-end tests share: one PostgreSQL, proxies before it, a client that speaks the wire protocol, psql.
#![expect(clippy::expect_used, reason = "a test that cannot be set up fails with the reason")]

mod admin;
mod cluster;
mod fake_server;
mod http;
mod proxy;
mod psql;
pub mod resolving;
pub mod script;
mod sql;
pub mod tls;
mod wire_client;

pub use admin::{ADMIN_TOKEN, administered};
pub use cluster::{APP_PASSWORD, Cluster, SHOP, TestDatabase, cluster};
pub use fake_server::FakeServer;
pub use http::{Answer, http, http_bytes};
pub use proxy::{
    ADMINISTRATOR, Mode, TestProxy, auth_file, auth_query_options, mode, passthrough, passthrough_for, proxy, proxy_for,
};
pub use psql::{Psql, psql};
pub use sql::{catalog, count, database_with, plan, refusal, session, set_context};
pub use wire_client::{PgError, WireClient, startup_packet};

/// How long anything in a test may take before it counts as stuck.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// What a test may give up with.
pub type TestResult = Result<(), Box<dyn std::error::Error>>;

/// The future's value, or a panic that names what was waited for.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: nothing within {} s", PATIENCE.as_secs()),
    }
}

/// Runs a statement of the session whose last one a driver has cancelled, again while it is cancelled as well.
///
/// PostgreSQL's postmaster sends SIGINT to the backend and then to its process group (`signal_child` in postmaster.c). A driver
/// that does not wait for the end of its cancel request, such as tokio-postgres, can have its next statement hit by the second.
pub async fn after_cancel<T>(
    mut statement: impl AsyncFnMut() -> Result<T, tokio_postgres::Error>,
) -> Result<T, tokio_postgres::Error> {
    let is_cancelled =
        |error: &tokio_postgres::Error| error.code() == Some(&tokio_postgres::error::SqlState::QUERY_CANCELED);
    within("a statement behind a cancel request", async {
        loop {
            match statement().await {
                Err(error) if is_cancelled(&error) => {}
                outcome => return outcome,
            }
        }
    })
    .await
}

/// Waits until a condition holds, asking again and again.
pub async fn eventually<F>(what: &str, mut holds: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    within(what, async {
        while !holds().await {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
}
