//! A proxy before a private PostgreSQL, with a database that is ready for tenants.

use std::time::Duration;

use tokio_postgres::{Client, NoTls};

use super::{
    IsolationCheck, IsolationError, IsolationReport, Postgres, PostgresBuilder, PostgresError, causes, fresh_tenant,
};
use crate::tenant::TenantFormat;
use crate::{Config, ConfigError, Proxy, ProxyHandle, Settings, StartError};

/// A proxy with a PostgreSQL of its own, for tests: everything that an application's test suite needs.
///
/// It holds one database with `sql/setup.sql`, `sql/helpers.sql` and the application's own schema. The server asks for
/// SCRAM passwords, and URLs contain them. When this is dropped, the proxy stops and the server is removed.
///
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use pgvpd_core::testing::TestProxy;
///
/// let schema = "CREATE TABLE orders (tenant_id text NOT NULL DEFAULT current_tenant_id(), item text);
///               SELECT pgvpd_protect('orders');
///               GRANT SELECT, INSERT, UPDATE, DELETE ON orders TO app_user";
/// let proxy = TestProxy::builder().schema(schema).start().await?;
///
/// let acme = proxy.connect("acme").await?;
/// acme.execute("INSERT INTO orders (item) VALUES ('anvil')", &[]).await?;
/// let globex = proxy.connect("globex").await?;
/// assert!(globex.query("SELECT * FROM orders", &[]).await?.is_empty());
///
/// proxy.assert_isolated("orders").await?;
/// proxy.stop().await?;
/// # Ok(())
/// # }
/// # tokio::runtime::Runtime::new()?.block_on(example())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TestProxy {
    proxy: ProxyHandle,
    postgres: Postgres,
    database: String,
    format: TenantFormat,
    /// What follows a tenant's name where the context has further variables: as many empty values.
    further_values: String,
}

/// What a [`TestProxy`] shall be like. Made by [`TestProxy::builder`].
///
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use pgvpd_core::testing::{Postgres, TestProxy};
///
/// let proxy = TestProxy::builder()
///     .postgres(Postgres::builder().setting("log_statement", "all"))
///     .database("shop")
///     .set("context_variables", "app.list_id,app.user_id")
///     .set("tenant_deny", "mallory")
///     .start()
///     .await?;
/// let client = proxy.connect("list1:user7").await?;
/// let row = client.query_one("SELECT pgvpd_context('app.user_id')", &[]).await?;
/// assert_eq!(row.get::<_, &str>(0), "user7");
/// assert!(proxy.connect("mallory:user7").await.is_err());
/// # Ok(())
/// # }
/// # tokio::runtime::Runtime::new()?.block_on(example())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct TestProxyBuilder {
    postgres: PostgresBuilder,
    database: Option<String>,
    schema: Vec<String>,
    options: Vec<(String, String)>,
}

/// Why a [`TestProxy`] could not be started or used, or that a table is not isolated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TestProxyError {
    /// The private server.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The proxy did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A login through the proxy failed.
    #[error("logging in as tenant {tenant}: {}", causes(source))]
    Login {
        /// The tenant.
        tenant: String,
        /// What the client library reports.
        source: tokio_postgres::Error,
    },
    /// The check of a table could not be made.
    #[error(transparent)]
    Isolation(#[from] IsolationError),
    /// A tenant reaches what belongs to another.
    #[error("{0}")]
    Leaked(IsolationReport),
}

impl TestProxyBuilder {
    /// How the server shall be; without this, as [`Postgres::builder`] has it.
    #[must_use]
    pub fn postgres(mut self, postgres: PostgresBuilder) -> Self {
        self.postgres = postgres;
        self
    }

    /// The database's name; `app` without this.
    #[must_use]
    pub fn database(mut self, name: impl Into<String>) -> Self {
        self.database = Some(name.into());
        self
    }

    /// SQL that is run in the database as superuser, after pgvpd's own; any number of times, in order.
    #[must_use]
    pub fn schema(mut self, sql: impl Into<String>) -> Self {
        self.schema.push(sql.into());
        self
    }

    /// An option of the proxy, by its name in the configuration file. The address of the server is set already.
    #[must_use]
    pub fn set(mut self, option: &str, value: impl std::fmt::Display) -> Self {
        self.options.push((option.into(), value.to_string()));
        self
    }

    /// Starts the server, furnishes the database, starts the proxy on a free port of 127.0.0.1. Takes about a second.
    ///
    /// # Errors
    /// [`TestProxyError`]; options of the proxy are checked before anything is started.
    pub async fn start(self) -> Result<TestProxy, TestProxyError> {
        let mut settings = Settings::new();
        settings.set("port", 0).map_err(StartError::from)?;
        for (option, value) in &self.options {
            settings.set(option, value).map_err(StartError::from)?;
        }
        let config = Config::from_settings(settings.clone()).map_err(StartError::from)?;
        let database = self.database.unwrap_or_else(|| "app".into());
        let postgres = self.postgres.start().await?;
        postgres.create_app_database(&database).await?;
        for sql in &self.schema {
            postgres.execute(&database, sql).await?;
        }
        let upstream = upstream_of(&postgres, &self.options).map_err(StartError::from)?;
        let proxy = Proxy::builder().settings(upstream.overlaid_by(settings)).start().await?;
        let further = config.identity.variables.len().saturating_sub(1);
        let further_values = config.identity.value_separator.repeat(further);
        Ok(TestProxy { proxy, postgres, database, format: config.identity.format, further_values })
    }
}

/// The server's address, by TCP unless the options name its socket directory or something between.
fn upstream_of(postgres: &Postgres, options: &[(String, String)]) -> Result<Settings, ConfigError> {
    let mut settings = Settings::new();
    if !options.iter().any(|(name, _)| name == "upstream_host") {
        settings.set("upstream_host", postgres.host())?;
    }
    if !options.iter().any(|(name, _)| name == "upstream_port") {
        settings.set("upstream_port", postgres.port())?;
    }
    Ok(settings)
}

impl TestProxy {
    /// Describes a proxy and its server; [`TestProxyBuilder::start`] starts them.
    pub fn builder() -> TestProxyBuilder {
        TestProxyBuilder::default()
    }

    /// Starts one as it comes: an empty database `app`, the defaults of every option.
    ///
    /// # Errors
    /// [`TestProxyError`] where the server or the proxy does not start.
    pub async fn start() -> Result<Self, TestProxyError> {
        Self::builder().start().await
    }

    /// A URL for a tenant, through the proxy, with the password. Where there are several context variables, `tenant`
    /// is all values, separated.
    pub fn url(&self, tenant: &str) -> String {
        self.proxy.url_with_password(tenant, &self.database, self.postgres.app_password())
    }

    /// A superuser's URL, past the proxy.
    pub fn admin_url(&self) -> String {
        self.postgres.url(&self.database)
    }

    /// The name of a tenant that nobody else uses, in the form that `tenant_format` asks for.
    pub fn tenant(&self) -> String {
        fresh_tenant(self.format)
    }

    /// A connection as a tenant, driven by a task of the current runtime until the client is dropped.
    ///
    /// # Errors
    /// [`TestProxyError::Login`] with what the proxy or the server says.
    pub async fn connect(&self, tenant: &str) -> Result<Client, TestProxyError> {
        let (client, connection) = tokio_postgres::connect(&self.url(tenant), NoTls)
            .await
            .map_err(|source| TestProxyError::Login { tenant: tenant.into(), source })?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Runs statements in the database as superuser, past the proxy.
    ///
    /// # Errors
    /// [`PostgresError::Sql`] with what PostgreSQL says.
    pub async fn execute(&self, sql: &str) -> Result<(), PostgresError> {
        self.postgres.execute(&self.database, sql).await
    }

    /// Describes a check of a table whose tenants are in the column `tenant_id`: as two new tenants, as a session without
    /// context, with the superuser to add their rows.
    pub fn isolation_of(&self, table: &str) -> IsolationCheck {
        let password = self.postgres.app_password().to_owned();
        let (proxy, database, further) = (self.proxy.urls(), self.database.clone(), self.further_values.clone());
        IsolationCheck::of(table)
            .format(self.format)
            .login(move |tenant| proxy.url(&format!("{tenant}{further}"), &database, Some(&password)))
            .without_context(self.postgres.app_url(&self.database))
            .admin(self.admin_url())
    }

    /// Holds that no tenant can read or change rows of another in this table, whose tenants are in the column
    /// `tenant_id`; for another column there is [`isolation_of`](Self::isolation_of).
    ///
    /// # Errors
    /// [`TestProxyError::Leaked`] with the report; [`TestProxyError::Isolation`] where the check would prove nothing.
    pub async fn assert_isolated(&self, table: &str) -> Result<(), TestProxyError> {
        let report = self.isolation_of(table).run().await?;
        if report.holds() { Ok(()) } else { Err(TestProxyError::Leaked(report)) }
    }

    /// The server.
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// The proxy.
    pub fn proxy(&self) -> &ProxyHandle {
        &self.proxy
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Stops the proxy at once, then the server in good order, and removes it.
    ///
    /// # Errors
    /// [`PostgresError::Stop`] if the server does not end.
    pub async fn stop(self) -> Result<(), PostgresError> {
        self.proxy.shutdown(Duration::ZERO).await;
        self.postgres.stop().await
    }
}
