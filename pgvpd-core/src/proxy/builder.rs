//! Assembly of a proxy from settings.

use super::{ProxyHandle, StartError, start};
use crate::config::{Config, Settings};
use crate::config::{ConfigError, Origin};
use crate::reload::ConfigSource;
use crate::resolve::Resolver;
use crate::stats::LostLogLines;
use crate::tls::TlsConfigs;
use crate::tls::{ClientTls, UpstreamTls};

/// Describes a proxy; made by [`Proxy::builder`](crate::Proxy::builder). Later calls win over earlier ones.
///
/// ```
/// # async fn example() -> Result<(), pgvpd_core::StartError> {
/// use pgvpd_core::{Config, Proxy, Settings, StartError};
///
/// // As from a file, the environment or anywhere else.
/// let config = Config::from_settings(Settings::from_env())?;
/// let builder = Proxy::builder().config(config).listen_host("127.0.0.1").port(0).set("tenant_deny", "mallory");
/// let proxy = builder.start().await?;
/// assert_ne!(proxy.local_addr().port(), 0);
///
/// let refused = Proxy::builder().port(0).set("tenant_dney", "mallory").start().await;
/// assert!(matches!(refused, Err(StartError::Config(error)) if error.to_string().contains("did you mean tenant_deny?")));
/// # Ok(())
/// # }
/// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
/// ```
#[derive(Debug, Default)]
pub struct ProxyBuilder {
    settings: Settings,
    resolvers: Vec<Resolver>,
    tls: TlsConfigs,
    source: ConfigSource,
    lost_log_lines: LostLogLines,
}

impl ProxyBuilder {
    /// Takes every option that this configuration sets.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        let TlsConfigs { clients, upstream } = config.own_tls().clone();
        self.tls.clients = clients.or(self.tls.clients);
        self.tls.upstream = upstream.or(self.tls.upstream);
        self.settings = self.settings.overlaid_by(config.settings().clone());
        self
    }

    /// Takes every option that is set here; they are checked at the start.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = self.settings.overlaid_by(settings);
        self
    }

    /// Sets any option by its name in the configuration file.
    #[must_use]
    pub fn set(mut self, option: &str, value: impl std::fmt::Display) -> Self {
        self.settings.gather(option, value.to_string(), Origin::Code);
        self
    }

    /// Adds a resolver of the program's own, beside those of the file that `resolvers` names. A reload takes those of its own
    /// configuration: see [`Config::with_resolvers`].
    #[must_use]
    pub fn resolver(mut self, resolver: Resolver) -> Self {
        self.resolvers.push(resolver);
        self
    }

    /// Speaks TLS with clients by a configuration of the program's own, instead of by `tls_cert`. A reload takes that of its own
    /// configuration: see [`Config::from_settings_and_tls`].
    #[must_use]
    pub fn client_tls(mut self, tls: ClientTls) -> Self {
        self.tls.clients = Some(tls);
        self
    }

    /// Speaks TLS with PostgreSQL by a configuration of the program's own, instead of by `upstream_tls_ca`.
    #[must_use]
    pub fn upstream_tls(mut self, tls: UpstreamTls) -> Self {
        self.tls.upstream = Some(tls);
        self
    }

    /// Where the configuration is read again when [`ProxyHandle::reload_again`] or `POST /reload` asks for it. It may block.
    ///
    /// ```
    /// # async fn example() -> Result<(), pgvpd_core::StartError> {
    /// use pgvpd_core::{Config, Proxy};
    ///
    /// let read = || Config::from_env();
    /// let proxy = Proxy::builder().config(read()?).port(0).reload_from(read).start().await?;
    /// let reloaded = proxy.reload_again().await.expect("the environment is as it was");
    /// assert_eq!(reloaded.needs_restart, ["port"]);
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    #[must_use]
    pub fn reload_from(mut self, read: impl Fn() -> Result<Config, ConfigError> + Send + Sync + 'static) -> Self {
        self.source = self.source.reading(read);
        self
    }

    /// What is to be done with each configuration that a reload has put in force, such as to adapt the program's log.
    #[must_use]
    pub fn on_reload(mut self, applied: impl Fn(&Config) + Send + Sync + 'static) -> Self {
        self.source = self.source.telling(applied);
        self
    }

    /// How many lines are missing from the program's log, for `pgvpd_log_lines_lost_total`. The library writes no log itself: it gives
    /// its events to the subscriber of [`tracing`] that the program has installed, and waits for it.
    #[must_use]
    pub fn lost_log_lines(mut self, count: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.lost_log_lines = LostLogLines::counted_by(count);
        self
    }

    /// TCP port to listen on; 0 takes a free one.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        self.set("port", port)
    }

    /// Address or host name to bind.
    #[must_use]
    pub fn listen_host(self, host: &str) -> Self {
        self.set("listen_host", host)
    }

    /// PostgreSQL host, or the absolute path of a Unix socket directory.
    #[must_use]
    pub fn upstream_host(self, host: &str) -> Self {
        self.set("upstream_host", host)
    }

    /// PostgreSQL port.
    #[must_use]
    pub fn upstream_port(self, port: u16) -> Self {
        self.set("upstream_port", port)
    }

    /// Checks the settings, opens the listeners and starts to serve, on the tokio runtime of the caller.
    ///
    /// # Errors
    /// [`StartError`] where a setting is not valid or a listener cannot be opened.
    pub async fn start(self) -> Result<ProxyHandle, StartError> {
        let config = Config::from_settings_and_tls(self.settings, self.tls)?.with_resolvers(self.resolvers)?;
        start(config, self.source, self.lost_log_lines).await
    }
}
