//! Another configuration for a running proxy: in whole, or not at all.

mod certificates;

use std::sync::{Arc, PoisonError};

pub(crate) use certificates::keep as keep_certificates;
use tracing::info;

use crate::administrators::AdminRules;
use crate::audit::{Audit, AuditError};
use crate::config::Config;
use crate::config::ConfigError;
use crate::shared::Shared;

/// Options whose new value needs a restart.
const FIXED: [&str; 12] = [
    "listen_host",
    "port",
    "listen_unix_dir",
    "reuse_port",
    "tls_port",
    "tcp_keepalive_idle",
    "tcp_keepalive_interval",
    "tcp_keepalive_count",
    "tcp_user_timeout",
    "admin_port",
    "admin_host",
    "log_format",
];

/// True for an option that a reload does not change in a running proxy.
pub(crate) fn needs_restart(option: &str) -> bool {
    FIXED.contains(&option)
}

/// What a reload could not change in a running proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// Options whose new value needs a restart; the old one stays in force.
    pub needs_restart: Vec<&'static str>,
}

/// Why a running proxy did not take another configuration. The old one stays in force, whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// The settings are not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The audit stream cannot be opened.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Reading it came to no end.
    #[error("the configuration could not be read: {0}")]
    Read(String),
    /// Nobody has told the proxy where its configuration comes from: see [`ProxyBuilder::reload_from`](crate::ProxyBuilder::reload_from).
    #[error("the program that runs this proxy has not said where its configuration comes from")]
    NoSource,
}

/// Where a configuration is read from again.
#[derive(Default)]
pub(crate) struct ConfigSource {
    read: Option<Read>,
    applied: Option<Tell>,
}

type Read = Box<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>;
type Tell = Box<dyn Fn(&Config) + Send + Sync>;

impl std::fmt::Debug for ConfigSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConfigSource")
    }
}

impl ConfigSource {
    pub(crate) fn reading(self, read: impl Fn() -> Result<Config, ConfigError> + Send + Sync + 'static) -> Self {
        Self { read: Some(Box::new(read)), ..self }
    }

    pub(crate) fn telling(self, applied: impl Fn(&Config) + Send + Sync + 'static) -> Self {
        Self { applied: Some(Box::new(applied)), ..self }
    }

    fn read(&self) -> Result<Config, ReloadError> {
        let read = self.read.as_ref().ok_or(ReloadError::NoSource)?;
        Ok(read()?)
    }
}

impl Shared {
    /// Takes a configuration in whole, or nothing of it.
    pub(crate) fn reload(&self, config: Config) -> Result<Reloaded, ReloadError> {
        self.reload_with(|| Ok(config))
    }

    /// Of two at once, one's configuration and the other's audit stream could be in force, or what was read first.
    fn reload_with(&self, read: impl FnOnce() -> Result<Config, ReloadError>) -> Result<Reloaded, ReloadError> {
        let _one = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let mut config = read()?;
        let audit = Audit::open(&config.audit)?;
        let current = self.config.load();
        let mut needs_restart = Vec::new();
        for (option, differs) in FIXED.into_iter().zip([
            config.listen.host != current.listen.host,
            config.listen.port != current.listen.port,
            config.listen.unix_dir != current.listen.unix_dir,
            config.listen.reuse_port != current.listen.reuse_port,
            config.listen.tls_port != current.listen.tls_port,
            config.listen.tcp.keepalive_idle != current.listen.tcp.keepalive_idle,
            config.listen.tcp.keepalive_interval != current.listen.tcp.keepalive_interval,
            config.listen.tcp.keepalive_count != current.listen.tcp.keepalive_count,
            config.listen.tcp.user_timeout != current.listen.tcp.user_timeout,
            config.admin.port != current.admin.port,
            config.admin.host != current.admin.host,
            config.log_format != current.log_format,
        ]) {
            if differs {
                needs_restart.push(option);
            }
        }
        config.listen = current.listen.clone();
        config.upstream.tcp = current.upstream.tcp;
        config.log_format = current.log_format;
        config.admin = AdminRules { token: config.admin.token.take(), ..current.admin.clone() };
        config.keep_tls_of(&current);
        drop(current);
        self.tenants.keep_rates(&config.tenant_rates());
        self.config.store(Arc::new(config));
        self.audit.use_opened(audit);
        self.reloaded.notify_one();
        if let Some(applied) = &self.source.applied {
            applied(&self.config.load());
        }
        info!(?needs_restart, "configuration reloaded");
        Ok(Reloaded { needs_restart })
    }

    /// Reads the configuration where that may take its time.
    pub(crate) async fn reload_again(shared: &Arc<Self>) -> Result<Reloaded, ReloadError> {
        let shared = Arc::clone(shared);
        let reloaded = tokio::task::spawn_blocking(move || shared.reload_with(|| shared.source.read())).await;
        reloaded.unwrap_or_else(|failed| Err(ReloadError::Read(failed.to_string())))
    }
}
