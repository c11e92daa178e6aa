//! A running proxy, and what can be asked of it.

mod builder;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

pub use self::builder::ProxyBuilder;
use crate::accept::accept;
use crate::admin_port::AdminPort;
use crate::audit::{AdminOutcome, Audit, AuditError, Event};
use crate::capacity;
use crate::config::Config;
use crate::config::ConfigError;
use crate::net::BindError;
use crate::net::{Addresses, Bound, bind};
use crate::pool;
use crate::probe::{self, ProbeError};
use crate::reload::{self, ConfigSource, ReloadError, Reloaded};
use crate::repeats;
use crate::resolve::{self, ResolverStats};
use crate::sessions::{self, SessionId};
use crate::shared::Shared;
use crate::stats::{LostLogLines, Stats};
use crate::status::Status;

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
    /// The audit stream cannot be opened.
    #[error(transparent)]
    Audit(#[from] AuditError),
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
/// let reloaded = proxy.reload(Config::from_settings(settings)?).expect("there is no audit stream to open");
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
    addresses: Addresses,
}

async fn start(config: Config, source: ConfigSource, lost_log_lines: LostLogLines) -> Result<ProxyHandle, StartError> {
    let audit = Audit::open(&config.audit)?;
    let mut shared = Shared::new(config);
    shared.source = source;
    shared.counters.lost_log_lines = lost_log_lines;
    let shared = Arc::new(shared);
    shared.audit.use_opened(audit);
    let config = shared.config.load_full();
    // Before the first listener: where the port is shared, whoever listens is given clients.
    probe::run(&shared, &config).await?;
    let admin = AdminPort::open(&config).await?;
    let Bound { address, tls_address, listeners } = bind(&config.listen).await?;
    let admin_address = admin.address();
    let addresses = Addresses { main: address, tls: tls_address, admin: admin_address };
    for (listener, door) in listeners {
        shared.tasks.spawn(accept(listener, door, Arc::clone(&shared)));
    }
    shared.background.spawn(reload::keep_certificates(Arc::clone(&shared)));
    shared.background.spawn(pool::keep(Arc::clone(&shared)));
    shared.background.spawn(resolve::keep(Arc::clone(&shared)));
    shared.background.spawn(repeats::keep(Arc::clone(&shared)));
    shared.background.spawn(sessions::keep(Arc::clone(&shared)));
    shared.background.spawn(capacity::check(Arc::clone(&shared)));
    admin.serve(addresses, &shared);
    Ok(ProxyHandle { shared, addresses })
}

impl ProxyHandle {
    /// The address that clients connect to, with the port that was taken where 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.addresses.main
    }

    /// The address of the TLS listener, `tls_port`; `None` where there is none.
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.addresses.tls
    }

    /// The address of the admin listener, `admin_port`; `None` where there is none.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.addresses.admin
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
        Urls { shared: Arc::clone(&self.shared), address: self.addresses.main }
    }

    /// What the proxy has done and does.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Everything that is shown of the proxy, with this many sessions one by one: those that came first.
    ///
    /// ```
    /// # async fn example() -> Result<(), pgvpd_core::StartError> {
    /// let proxy = pgvpd_core::Proxy::builder().port(0).start().await?;
    /// let status = proxy.status(100);
    /// assert_eq!((status.sessions.total, status.tenants.live), (0, 0));
    /// assert_eq!(status.config["pool_size"], "20");
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    pub fn status(&self, sessions: usize) -> Status {
        self.shared.status(&self.addresses, sessions)
    }

    /// Has pools give no connection any more, as PgBouncer's PAUSE does: clients wait, those that are in a session stay in it, and
    /// connections are closed as soon as nobody uses them. So a server can be restarted.
    ///
    /// ```
    /// # async fn example() -> Result<(), pgvpd_core::StartError> {
    /// let proxy = pgvpd_core::Proxy::builder().port(0).start().await?;
    /// proxy.pause_pools();
    /// assert!(proxy.status(0).pools_paused);
    /// proxy.resume_pools();
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    pub fn pause_pools(&self) {
        self.shared.pools.pause();
    }

    /// Has pools go on after [`pause_pools`](Self::pause_pools).
    pub fn resume_pools(&self) {
        self.shared.pools.resume();
    }

    /// Ends the sessions of a tenant, those that log in as well; each is told (57P01). Gives how many. To keep it out, deny it
    /// first.
    ///
    /// ```
    /// # async fn example() -> Result<(), pgvpd_core::StartError> {
    /// let proxy = pgvpd_core::Proxy::builder().port(0).start().await?;
    /// assert_eq!(proxy.disconnect_tenant("acme"), 0);
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    pub fn disconnect_tenant(&self, tenant: &str) -> usize {
        self.shared.disconnect_tenant(tenant)
    }

    /// Ends one session. False where there is none of that number.
    pub fn disconnect_session(&self, session: SessionId) -> bool {
        self.shared.disconnect_session(session)
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
    /// listeners stay as they are and are named in the result.
    ///
    /// # Errors
    /// [`ReloadError`] where the audit stream cannot be opened: then nothing has changed.
    pub fn reload(&self, config: Config) -> Result<Reloaded, ReloadError> {
        self.shared.reload(config)
    }

    /// Reads the configuration again, from where [`ProxyBuilder::reload_from`] says, and replaces the one in force.
    ///
    /// # Errors
    /// [`ReloadError`]: then nothing has changed.
    pub async fn reload_again(&self) -> Result<Reloaded, ReloadError> {
        let (action, client, outcome) = ("reload", "program", AdminOutcome::Accepted);
        let event = Event::AdminAction { action, client, user: None, outcome, reason: None };
        self.shared.audit(&event).await?;
        Shared::reload_again(&self.shared).await
    }

    /// Begins to stop, as `POST /drain` does: no client is accepted any more, sessions may go on for `shutdown_timeout`, then they
    /// are closed. [`closed`](Self::closed) resolves at the end of it.
    pub fn drain(&self) {
        Shared::drain(&self.shared);
    }

    /// How long sessions may go on when the proxy is told to stop: `shutdown_timeout`, as it is in force.
    pub fn shutdown_timeout(&self) -> Duration {
        self.shared.config.load().shutdown_timeout
    }

    /// Resolves when the proxy no longer accepts clients.
    pub async fn draining(&self) {
        self.shared.draining.cancelled().await;
    }

    /// Stops: no client is accepted any more, sessions may go on for `timeout`, then they are closed. Gives the number
    /// of sessions that had to be closed.
    pub async fn shutdown(&self, timeout: Duration) -> usize {
        self.shared.shutdown(timeout).await
    }

    /// Resolves when the proxy has stopped and every session is closed.
    pub async fn closed(&self) {
        self.ended().await;
    }

    /// The same, for who must not keep the proxy: it does not borrow the handle, whose drop stops it.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let shared = Arc::clone(&self.shared);
        async move {
            shared.tasks.wait().await;
            shared.background.wait().await;
        }
    }
}

impl Shared {
    pub(crate) async fn shutdown(&self, timeout: Duration) -> usize {
        self.draining.cancel();
        self.tasks.close();
        let mut closed_by_force = 0;
        if tokio::time::timeout(timeout, self.tasks.wait()).await.is_err() {
            closed_by_force = self.sessions.taken();
            self.abort.cancel();
            self.tasks.wait().await;
        }
        self.stopped.cancel();
        self.background.close();
        self.background.wait().await;
        closed_by_force
    }

    /// Stops within `shutdown_timeout`, in a task of its own: whoever asked for it is told before it is over.
    pub(crate) fn drain(shared: &Arc<Self>) {
        let timeout = shared.config.load().shutdown_timeout;
        shared.draining.cancel();
        let shared = Arc::clone(shared);
        // Not one of those that are waited for: it waits for them.
        tokio::spawn(async move { shared.shutdown(timeout).await });
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
        let reloaded = proxy.reload(Config::from_settings(settings)?).expect("no audit stream");
        assert_eq!(reloaded.needs_restart, ["port"]);
        assert!(proxy.url("acme", "d").contains("web.acme@"), "the first, not that of the alphabet");
        Ok(())
    }
}
