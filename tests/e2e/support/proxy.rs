//! A proxy before the tests' PostgreSQL.

use pgvpd_core::testing::Postgres;
use pgvpd_core::{Proxy, ProxyHandle, StartError};
use tokio_postgres::{Client, Config, Error, NoTls};

use crate::{APP_PASSWORD, SHOP, WireClient, cluster, within};

/// A running proxy.
#[derive(Debug)]
pub struct TestProxy {
    /// The library's handle.
    pub handle: ProxyHandle,
}

/// A proxy before the shared server, with these options.
pub async fn proxy(options: &[(&str, &str)]) -> TestProxy {
    proxy_for(&cluster().await.postgres, options).await.expect("the proxy starts")
}

/// A proxy before a server. The environment variable `PGVPD_TEST_RELAY` chooses the relay of tests that do not.
pub async fn proxy_for(postgres: &Postgres, options: &[(&str, &str)]) -> Result<TestProxy, StartError> {
    let builder = Proxy::builder().port(0).upstream_port(postgres.port());
    let relay = std::env::var("PGVPD_TEST_RELAY").unwrap_or_else(|_| "raw".into());
    let chosen = options.iter().any(|(name, _)| ["relay", "tenant_query_timeout"].contains(name));
    let builder = if chosen { builder } else { builder.set("relay", relay) };
    let builder = options.iter().fold(builder, |builder, (name, value)| builder.set(name, value));
    Ok(TestProxy { handle: builder.start().await? })
}

impl TestProxy {
    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.handle.local_addr().port()
    }

    /// What tokio-postgres needs to log in as this user.
    pub fn config(&self, user: &str) -> Config {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port()).user(user).password(APP_PASSWORD).dbname(SHOP);
        config
    }

    /// Logs in with tokio-postgres.
    pub async fn try_log_in(&self, user: &str) -> Result<Client, Error> {
        let (client, connection) = within("login", self.config(user).connect(NoTls)).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Logs in with tokio-postgres; the login must succeed.
    pub async fn log_in(&self, user: &str) -> Client {
        self.try_log_in(user).await.expect("login")
    }

    /// A bare connection.
    pub async fn connect(&self) -> WireClient {
        WireClient::connect(self.port()).await
    }

    /// Shows that the proxy still serves the next client, with its own rows.
    pub async fn assert_serves(&self) {
        let client = self.log_in("app_user.acme").await;
        let row = client.query_one("SELECT count(*), min(tenant_id), max(tenant_id) FROM notes", &[]).await;
        let row = row.expect("the next client is served");
        assert_eq!((row.get(0), row.get(1), row.get(2)), (3_i64, "acme", "acme"));
    }
}
