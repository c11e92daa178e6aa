//! A running proxy: accepting, reloading, stopping.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tracing::{debug, info, warn};

use crate::builder::ProxyBuilder;
use crate::config::Config;
use crate::net::{Bound, Door, Listener, bind};
use crate::pool;
use crate::probe::{self, ProbeError};
use crate::resolve::{self, ResolverStats};
use crate::session;
use crate::shared::{Shared, Stats};
use crate::tls;
use crate::{BindError, ConfigError};

/// How long accepting pauses when the process or the system is out of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Characters that a URL's user name and path may hold as they are (RFC 3986, section 2.3).
const URL_ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where a proxy begins: [`Proxy::builder`].
#[derive(Debug)]
pub struct Proxy;

impl Proxy {
    /// Starts to describe a proxy.
    ///
    /// ```
    /// # async fn example() -> Result<(), pgvpd_core::StartError> {
    /// use pgvpd_core::Proxy;
    ///
    /// let proxy = Proxy::builder().upstream_host("127.0.0.1").port(0).start().await?;
    /// println!("{}", proxy.url("acme", "mydb"));
    /// proxy.shutdown(std::time::Duration::from_secs(5)).await;
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    pub fn builder() -> ProxyBuilder {
        ProxyBuilder::default()
    }
}

/// Why a proxy did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The settings are not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A listener could not be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The database does not verify what the proxy signs.
    #[error(transparent)]
    Probe(#[from] ProbeError),
}

/// A running proxy. Dropping the handle stops it at once; [`ProxyHandle::shutdown`] lets sessions finish.
///
/// ```
/// # async fn example() -> Result<(), pgvpd_core::StartError> {
/// use std::time::Duration;
/// use pgvpd_core::{Config, Proxy, Settings};
///
/// let proxy = Proxy::builder().port(0).start().await?;
/// let mut settings = Settings::new();
/// settings.set("port", 6432)?;
/// settings.set("login_roles", "web")?;
/// // New sessions have the new settings; the port stays as it is.
/// let reloaded = proxy.reload(Config::from_settings(settings)?);
/// assert_eq!(reloaded.needs_restart, ["port"]);
/// assert!(proxy.url("acme", "mydb").starts_with("postgresql://web.acme@127.0.0.1:"));
/// assert_eq!(proxy.stats().sessions_active, 0);
///
/// let closed_by_force = proxy.shutdown(Duration::from_secs(30)).await;
/// assert_eq!(closed_by_force, 0);
/// proxy.closed().await;
/// # Ok(())
/// # }
/// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
/// ```
#[derive(Debug)]
pub struct ProxyHandle {
    shared: Arc<Shared>,
    address: SocketAddr,
    tls_address: Option<SocketAddr>,
}

/// What a reload could not change in a running proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// Options whose new value needs a restart; the old one stays in force.
    pub needs_restart: Vec<&'static str>,
}

pub(crate) async fn start(config: Config) -> Result<ProxyHandle, StartError> {
    let Bound { address, tls_address, listeners } = bind(&config.listen).await?;
    let shared = Arc::new(Shared::new(config));
    probe::run(&shared, &shared.config.load_full()).await?;
    for (listener, door) in listeners {
        shared.tasks.spawn(accept(listener, door, Arc::clone(&shared)));
    }
    shared.background.spawn(tls::keep(Arc::clone(&shared)));
    shared.background.spawn(pool::keep(Arc::clone(&shared)));
    shared.background.spawn(resolve::keep(Arc::clone(&shared)));
    Ok(ProxyHandle { shared, address, tls_address })
}

/// Accepts until the proxy drains. The listener is closed, and a socket file removed, when it returns.
async fn accept(listener: Listener, door: Door, shared: Arc<Shared>) {
    let mut starved = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.draining.cancelled() => return,
            accepted = listener.accept(door) => accepted,
        };
        match accepted {
            Ok(client) => {
                if std::mem::take(&mut starved) {
                    info!("accepting clients again");
                }
                shared.counters.count_connection();
                shared.tasks.spawn(session::serve(client, Arc::clone(&shared)));
            }
            Err(error) if out_of_resources(&error) => {
                // Said once, not ten times a second.
                if !std::mem::replace(&mut starved, true) {
                    let sessions = shared.sessions.taken();
                    warn!(%error, sessions, "cannot accept clients for now; raise the limit of open files");
                }
                tokio::select! {
                    () = shared.draining.cancelled() => return,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
            // The client was gone before it was accepted.
            Err(error) => debug!(%error, "accept"),
        }
    }
}

fn out_of_resources(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

impl ProxyHandle {
    /// The address that clients connect to, with the port that was taken where 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The address of the TLS listener, `tls_port`; `None` where there is none.
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls_address
    }

    /// The address of the admin listener; `None` where there is none, as always in this release.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        None
    }

    /// A connection URL for a tenant: `postgresql://<role>.<tenant>@<host>:<port>/<database>`. The role is the first of
    /// `login_roles`, or `app_user`. Where there are several context variables, `tenant` holds all values, separated.
    /// The password is the application's to add.
    pub fn url(&self, tenant: &str, database: &str) -> String {
        self.urls().url(tenant, database, None)
    }

    /// As [`url`](Self::url), with the role's password.
    ///
    /// ```
    /// # async fn example() -> Result<(), pgvpd_core::StartError> {
    /// let proxy = pgvpd_core::Proxy::builder().port(0).start().await?;
    /// let url = proxy.url_with_password("acme", "mydb", "p@ss");
    /// assert!(url.starts_with("postgresql://app_user.acme:p%40ss@127.0.0.1:"));
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    pub fn url_with_password(&self, tenant: &str, database: &str, password: &str) -> String {
        self.urls().url(tenant, database, Some(password))
    }

    pub(crate) fn urls(&self) -> Urls {
        Urls { shared: Arc::clone(&self.shared), address: self.address }
    }

    /// What the proxy has done and does.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// What each resolver has done, by name; those that have not run yet are not in it.
    pub fn resolver_stats(&self) -> Vec<ResolverStats> {
        self.shared.resolving_so_far().map(|resolving| resolving.stats()).unwrap_or_default()
    }

    /// Makes void what a resolver has found for these parameters, or for any, in every database, as `NOTIFY pgvpd_invalidate` does
    /// in one. Sessions that go by it and have an `on_change` are resolved again.
    ///
    /// ```
    /// # async fn example() -> Result<(), pgvpd_core::StartError> {
    /// let proxy = pgvpd_core::Proxy::builder().port(0).start().await?;
    /// proxy.invalidate_resolver("org_membership", Some(&["42".to_owned()]));
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    pub fn invalidate_resolver(&self, resolver: &str, params: Option<&[String]>) {
        if let Some(resolving) = self.shared.resolving_so_far() {
            resolving.invalidate(None, Some(resolver), params, &self.shared);
        }
    }

    /// Replaces the configuration for new sessions, in whole. Sessions keep the one they started with. Options of the
    /// listener stay as they are and are named in the result.
    pub fn reload(&self, mut config: Config) -> Reloaded {
        let current = self.shared.config.load();
        let mut needs_restart = Vec::new();
        for (option, differs) in [
            ("listen_host", config.listen.host != current.listen.host),
            ("port", config.listen.port != current.listen.port),
            ("listen_unix_dir", config.listen.unix_dir != current.listen.unix_dir),
            ("tls_port", config.listen.tls_port != current.listen.tls_port),
        ] {
            if differs {
                needs_restart.push(option);
            }
        }
        config.listen = current.listen.clone();
        config.keep_tls_of(&current);
        drop(current);
        self.shared.config.store(Arc::new(config));
        self.shared.reloaded.notify_one();
        info!(?needs_restart, "configuration reloaded");
        Reloaded { needs_restart }
    }

    /// Stops: no client is accepted any more, sessions may go on for `timeout`, then they are closed. Gives the number
    /// of sessions that had to be closed.
    pub async fn shutdown(&self, timeout: Duration) -> usize {
        self.shared.draining.cancel();
        self.shared.tasks.close();
        let mut closed_by_force = 0;
        if tokio::time::timeout(timeout, self.shared.tasks.wait()).await.is_err() {
            closed_by_force = self.shared.sessions.taken();
            self.shared.abort.cancel();
            self.shared.tasks.wait().await;
        }
        self.shared.stopped.cancel();
        self.shared.background.close();
        self.shared.background.wait().await;
        closed_by_force
    }

    /// Resolves when the proxy has stopped and every session is closed.
    pub async fn closed(&self) {
        self.shared.tasks.wait().await;
        self.shared.background.wait().await;
    }
}

/// Makes URLs of a proxy, by the configuration that is in force.
#[derive(Debug)]
pub(crate) struct Urls {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Urls {
    pub(crate) fn url(&self, tenant: &str, database: &str, password: Option<&str>) -> String {
        let config = self.shared.config.load();
        let rules = &config.identity;
        let role = rules.login_roles.iter().flatten().next().map_or("app_user", String::as_str);
        let host = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let encode = |text: &str| utf8_percent_encode(text, URL_ENCODED).to_string();
        let user = encode(&format!("{role}{}{tenant}", rules.separator));
        let password = password.map(|password| format!(":{}", encode(password))).unwrap_or_default();
        format!("postgresql://{user}{password}@{}/{}", SocketAddr::new(host, self.address.port()), encode(database))
    }
}

impl Drop for ProxyHandle {
    fn drop(&mut self) {
        self.shared.draining.cancel();
        self.shared.abort.cancel();
        self.shared.stopped.cancel();
        self.shared.tasks.close();
        self.shared.background.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_url_encodes_what_a_tenant_may_hold_and_names_a_reachable_host() -> Result<(), StartError> {
        let proxy = Proxy::builder().listen_host("0.0.0.0").port(0).start().await?;
        let port = proxy.local_addr().port();
        let url = proxy.url("a@b:c/ü", "my db");
        assert_eq!(url, format!("postgresql://app_user.a%40b%3Ac%2F%C3%BC@127.0.0.1:{port}/my%20db"));
        Ok(())
    }

    #[tokio::test]
    async fn a_reload_names_what_needs_a_restart_and_keeps_it() -> Result<(), StartError> {
        let proxy = Proxy::builder().port(0).start().await?;
        let mut settings = crate::Settings::new();
        settings.set("port", 1)?;
        settings.set("login_roles", "web, admin")?;
        let reloaded = proxy.reload(Config::from_settings(settings)?);
        assert_eq!(reloaded.needs_restart, ["port"]);
        assert!(proxy.url("acme", "d").contains("web.acme@"), "the first, not that of the alphabet");
        Ok(())
    }
}
