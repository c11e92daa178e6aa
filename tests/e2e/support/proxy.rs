//! A proxy before the tests' PostgreSQL.

use std::io::Write;
use std::path::Path;
use std::sync::LazyLock;

use pgvpd_core::testing::Postgres;
use pgvpd_core::{Proxy, ProxyHandle, StartError};
use tempfile::NamedTempFile;
use tokio_postgres::{Client, Config, Error, NoTls};

use crate::{APP_PASSWORD, SHOP, WireClient, cluster, within};

/// A running proxy.
#[derive(Debug)]
pub struct TestProxy {
    /// The library's handle.
    pub handle: ProxyHandle,
}

/// Who may use the console of proxies whose `admin_users` name it; its password is that of all.
pub const ADMINISTRATOR: &str = "admin";

/// A proxy before the shared server, with these options.
pub async fn proxy(options: &[(&str, &str)]) -> TestProxy {
    proxy_for(&cluster().await.postgres, options).await.expect("the proxy starts")
}

/// As [`proxy`], for what only passthrough does: relaying the proof, a server connection for each client.
pub async fn passthrough(options: &[(&str, &str)]) -> TestProxy {
    passthrough_for(&cluster().await.postgres, options).await.expect("the proxy starts")
}

/// As [`proxy_for`], for what only passthrough does.
pub async fn passthrough_for(postgres: &Postgres, options: &[(&str, &str)]) -> Result<TestProxy, StartError> {
    let mode = [("pool_mode", "none")];
    let all = if crate::mode() == Mode::Session { [&mode, options].concat() } else { options.to_vec() };
    proxy_for(postgres, &all).await
}

/// Options that decide the mode of a test that sets one of them.
const OF_A_MODE: &[&str] = &["pool_mode", "relay"];

/// A proxy before a server. The environment variable `PGVPD_TEST_MODE` (`raw`, `framed`, `session`) chooses the mode of tests
/// that do not.
pub async fn proxy_for(postgres: &Postgres, options: &[(&str, &str)]) -> Result<TestProxy, StartError> {
    let builder = Proxy::builder().port(0).upstream_port(postgres.port());
    let is_set = |names: &[&str]| options.iter().any(|(name, _)| names.contains(name));
    let builder = match mode() {
        _ if is_set(OF_A_MODE) => builder,
        Mode::Session => builder.set("pool_mode", "session").set("auth_file", auth_file().display()),
        Mode::Raw if is_set(&["tenant_query_timeout", "context_signing_key", "notifications"]) => builder,
        Mode::Raw => builder.set("relay", "raw"),
        Mode::Framed => builder.set("relay", "framed"),
    };
    let builder = options.iter().fold(builder, |builder, (name, value)| builder.set(name, value));
    Ok(TestProxy { handle: builder.start().await? })
}

/// What a run of the tests is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Passthrough, unread.
    Raw,
    /// Passthrough, message by message.
    Framed,
    /// Session pooling.
    Session,
}

/// The mode of this run.
pub fn mode() -> Mode {
    match std::env::var("PGVPD_TEST_MODE").as_deref() {
        Ok("session") => Mode::Session,
        Ok("framed") => Mode::Framed,
        Ok("raw") | Err(_) => Mode::Raw,
        Ok(other) => panic!("PGVPD_TEST_MODE: {other:?} is not one of raw, framed, session"),
    }
}

/// Options of a pool that knows nobody's password but that of the role which asks the database for verifiers.
pub fn auth_query_options() -> [(&'static str, &'static str); 4] {
    static FILE: LazyLock<(NamedTempFile, String)> = LazyLock::new(|| {
        let mut file = NamedTempFile::new().expect("a temporary file");
        writeln!(file, "\"pgvpd_auth\" \"asker\"\n\"{ADMINISTRATOR}\" \"{APP_PASSWORD}\"").expect("written");
        let path = file.path().display().to_string();
        (file, path)
    });
    [("pool_mode", "session"), ("auth_file", &FILE.1), ("auth_user", "pgvpd_auth"), ("auth_dbname", SHOP)]
}

/// A `userlist.txt` with the tests' password for every role that tests log in as.
pub fn auth_file() -> &'static Path {
    static FILE: LazyLock<NamedTempFile> = LazyLock::new(|| {
        let mut file = NamedTempFile::new().expect("a temporary file");
        for role in [
            "app_user",
            "md5_user",
            "plain_user",
            "trust_user",
            "root_user",
            "swayed",
            "climber",
            "worker",
            "app_user.acme",
            ADMINISTRATOR,
        ] {
            writeln!(file, "\"{role}\" \"{APP_PASSWORD}\"").expect("written");
        }
        file
    });
    FILE.path()
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
