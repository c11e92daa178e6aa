//! Everything that is shown of a proxy, at one moment: what `/status` gives as JSON, and what metrics are made from.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::config::{Config, OPTIONS, OptionSpec, Relay};
use crate::logins::LoginsStatus;
use crate::net::Addresses;
use crate::pool::{PoolStats, PoolStatus};
use crate::resolve::ResolverStats;
use crate::sessions::{Record, SessionId, SessionState};
use crate::shared::Shared;
use crate::stats::{DatabaseStatus, Phase, Stats, TIME_BOUNDS, TenantUse, Timing};
use crate::tenant::TenantRejections;

/// A proxy at one moment. As JSON it is what `GET /status` answers; `docs/operations.md` describes it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// The release.
    pub version: &'static str,
    /// When it started, by RFC 3339, in UTC.
    pub started: String,
    /// Seconds since then.
    pub uptime: f64,
    /// Whether it takes clients.
    pub state: ProxyState,
    /// Where it listens, and the server.
    pub addresses: AddressesStatus,
    /// What has happened since the start, and what is so now.
    pub stats: Stats,
    /// Refused logins by SQLSTATE; `server` stands for those that the server refused, `tls` for failed TLS handshakes.
    pub refused: BTreeMap<&'static str, u64>,
    /// Logins refused for their tenant, by reason.
    pub tenant_rejections: TenantRejections,
    /// How long the phases of logins took.
    pub phases: BTreeMap<&'static str, Timing>,
    /// Upper bounds of the classes of `phases` and `pool_wait`, in seconds; the last class has none.
    pub time_bounds: [f64; TIME_BOUNDS.len()],
    /// What all pools have done since the start.
    pub pool_stats: PoolStats,
    /// How long clients waited for a connection of a pool.
    pub pool_wait: Timing,
    /// Whether pools give no connections: `POST /pools/pause`.
    pub pools_paused: bool,
    /// Each pool.
    pub pools: Vec<PoolStatus>,
    /// What each resolver has done, by name.
    pub resolvers: Vec<ResolverStats>,
    /// What the clients of each database have done, by name.
    pub databases: Vec<DatabaseStatus>,
    /// The tenants.
    pub tenants: TenantsStatus,
    /// Connections whose client is not authenticated yet.
    pub logins: LoginsStatus,
    /// The clients that are authenticated.
    pub sessions: SessionsStatus,
    /// How contexts are protected: `off`, `prefer` or `require`.
    pub context_signing: &'static str,
    /// Every option's value: as it was set, or its default; `***` for a secret that is set.
    pub config: BTreeMap<&'static str, String>,
}

/// Whether a proxy takes clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProxyState {
    /// It does.
    Running,
    /// No more; sessions may finish.
    Draining,
}

/// Where a proxy listens, and the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AddressesStatus {
    /// Of clients.
    pub listen: String,
    /// Of clients that speak TLS alone.
    pub tls: Option<String>,
    /// Of administrators.
    pub admin: Option<String>,
    /// The server.
    pub upstream: String,
}

/// The tenants at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TenantsStatus {
    /// How many have a session.
    pub live: usize,
    /// Those that have used the proxy most of late, at most `metrics_tenants`, the most used first.
    pub busiest: Vec<TenantStatus>,
    /// What all others have done.
    pub others: TenantStatus,
}

/// The pools of one role in one database: several where tenants have roles of their own.
#[cfg(feature = "admin")]
#[derive(Debug, Default)]
pub(crate) struct PoolStatusByRole {
    pub(crate) database: String,
    pub(crate) role: String,
    pub(crate) total: usize,
    pub(crate) idle: usize,
    pub(crate) waiting: usize,
}

/// Pools that metrics tell apart, at most; what is beyond counts together.
#[cfg(feature = "admin")]
const MOST_POOLS: usize = 200;

#[cfg(feature = "admin")]
impl Status {
    /// The pools, with those of tenants' own roles taken together: their names would be tenants'.
    pub(crate) fn pools_by_role(&self) -> Vec<PoolStatusByRole> {
        let is_role_each = self.config.get("isolation").is_some_and(|isolation| isolation == "role");
        let separator = self.config.get("tenant_separator").map_or(".", String::as_str);
        let mut by_role = BTreeMap::<(&str, &str), PoolStatusByRole>::new();
        for pool in &self.pools {
            let named = pool.role.split_once(separator).filter(|_| is_role_each).map_or(&*pool.role, |(role, _)| role);
            let key = (&*pool.database, named);
            let key = if by_role.len() < MOST_POOLS || by_role.contains_key(&key) { key } else { ("other", "other") };
            let sum = by_role.entry(key).or_default();
            (sum.database, sum.role) = (key.0.into(), key.1.into());
            sum.total += pool.total;
            sum.idle += pool.idle;
            sum.waiting += pool.waiting;
        }
        by_role.into_values().collect()
    }
}

#[cfg(feature = "admin")]
impl TenantStatus {
    /// Counts another one with it.
    pub(crate) fn add(&mut self, other: &Self) {
        self.sessions_active += other.sessions_active;
        self.done.add(other.done);
    }
}

/// What a tenant has done since it is among the busiest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TenantStatus {
    /// Its name; empty for all others together.
    pub tenant: String,
    /// Its sessions now.
    pub sessions_active: usize,
    /// What it has done.
    #[serde(flatten)]
    pub done: TenantUse,
}

/// The clients that are authenticated, at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SessionsStatus {
    /// How many.
    pub total: usize,
    /// How many are in each state.
    pub by_state: BTreeMap<&'static str, usize>,
    /// Those that came first, as many as were asked for.
    pub shown: Vec<SessionStatus>,
}

/// A client that is authenticated.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SessionStatus {
    /// Its number, as in the log.
    pub session: SessionId,
    /// Its tenant; empty for a bypass user.
    pub tenant: String,
    /// The role that it has in the database.
    pub role: String,
    /// The database that it is in, also where the client has named none.
    pub database: String,
    /// Where it is: an address, or `unix`.
    pub client: String,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// The process id of its backend, as `pg_stat_activity` has it; `None` while it logs in.
    pub backend_pid: Option<i32>,
    /// What it does.
    pub state: SessionState,
    /// Seconds since it began to log in.
    pub age: f64,
    /// Bytes that it has sent.
    pub bytes_from_client: u64,
    /// Bytes that the server has sent it.
    pub bytes_to_client: u64,
    /// Its requests, where messages are seen.
    pub requests: u64,
}

impl SessionStatus {
    fn of(record: &Record) -> Self {
        let relayed = record.meter.relayed();
        Self {
            session: record.info.id,
            tenant: record.tenant().into(),
            role: record.info.role.to_string(),
            database: record.info.database.to_string(),
            client: record.info.address.to_string(),
            tls: record.info.is_tls,
            backend_pid: record.backend(),
            state: record.meter.state(),
            age: milliseconds(record.since.elapsed()),
            bytes_from_client: relayed.from_client,
            bytes_to_client: relayed.to_client,
            requests: relayed.requests,
        }
    }
}

/// Seconds, to the millisecond.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

impl SessionState {
    /// Its name, as metrics and JSON have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Waiting => "waiting",
            Self::Open => "open",
            Self::Idle => "idle",
            Self::Active => "active",
            Self::IdleInTransaction => "idle_in_transaction",
            Self::IdleInTransactionAborted => "idle_in_transaction_aborted",
        }
    }

    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Login,
        Self::Waiting,
        Self::Open,
        Self::Idle,
        Self::Active,
        Self::IdleInTransaction,
        Self::IdleInTransactionAborted,
    ];
}

impl Shared {
    /// What is so at this moment, with this many sessions one by one.
    pub(crate) fn status(&self, addresses: &Addresses, sessions: usize) -> Status {
        let stats = self.stats();
        let config = self.config.load();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            started: humantime::format_rfc3339_seconds(self.started).to_string(),
            uptime: milliseconds(SystemTime::now().duration_since(self.started).unwrap_or_default()),
            state: if self.draining.is_cancelled() { ProxyState::Draining } else { ProxyState::Running },
            addresses: AddressesStatus {
                listen: addresses.main.to_string(),
                tls: addresses.tls.map(|address| address.to_string()),
                admin: addresses.admin.map(|address| address.to_string()),
                upstream: format!("{}:{}", config.upstream.host, config.upstream.port),
            },
            stats,
            refused: self.counters.refused(),
            tenant_rejections: self.tenants.rejections(),
            time_bounds: TIME_BOUNDS,
            pool_stats: self.pools.stats(),
            pool_wait: self.pools.waits(),
            pools_paused: self.pools.is_paused(),
            pools: self.pools.status(&config.pool),
            databases: self.counters.databases_status(),
            phases: self.phases.timings().into_iter().map(|(phase, timing)| (Phase::name(phase), timing)).collect(),
            resolvers: self.resolving_so_far().map(|resolving| resolving.stats()).unwrap_or_default(),
            tenants: self.tenants_status(),
            logins: self.logins.status().and(self.console_logins.status()),
            sessions: self.sessions_status(sessions),
            context_signing: config.signing.as_ref().map_or("off", |signing| signing.mode.name()),
            config: shown(&config),
        }
    }

    /// The tenants.
    pub(crate) fn tenants_status(&self) -> TenantsStatus {
        let (busiest, others) = self.counters.tenants();
        let (live, all) = self.tenants.live_counts(busiest.iter().map(|(tenant, _)| &**tenant));
        let counted: usize = live.iter().sum();
        let sessions: usize = all.sessions;
        let busiest = busiest.into_iter().zip(live).map(|((tenant, done), sessions_active)| TenantStatus {
            tenant: tenant.to_string(),
            sessions_active,
            done,
        });
        TenantsStatus {
            live: all.tenants,
            busiest: busiest.collect(),
            others: TenantStatus {
                tenant: String::new(),
                sessions_active: sessions.saturating_sub(counted),
                done: others,
            },
        }
    }

    fn sessions_status(&self, limit: usize) -> SessionsStatus {
        let all = self.live.all();
        let mut by_state: BTreeMap<_, _> = SessionState::ALL.into_iter().map(|state| (state.name(), 0)).collect();
        for record in &all {
            *by_state.entry(record.meter.state().name()).or_default() += 1;
        }
        let shown = all.iter().take(limit).map(|record| SessionStatus::of(record)).collect();
        SessionsStatus { total: all.len(), by_state, shown }
    }
}

/// Every option's value, without secrets.
fn shown(config: &Config) -> BTreeMap<&'static str, String> {
    OPTIONS.iter().map(|option| (option.name, config.shown(option))).collect()
}

impl Config {
    /// An option's value for people: as it was set, or its default; `***` for a secret that is set.
    pub(crate) fn shown(&self, option: &OptionSpec) -> String {
        match self.settings().value(option.name) {
            Some(_) if option.secret => "***".into(),
            Some(value) => value.into(),
            // Other options turn it on.
            None if option.name == "relay" && self.relay == Relay::Framed => "framed".into(),
            None => option.default.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    #[test]
    fn every_option_is_shown_and_no_secret() {
        let mut settings = Settings::new();
        for (name, value) in [("pool_mode", "session"), ("pool_password", "s3cret"), ("port", "7000")] {
            settings.set(name, value).expect("known");
        }
        let config = Config::from_settings(settings).expect("valid");
        let shown = shown(&config);
        assert_eq!(shown.len(), OPTIONS.len());
        let value = |name: &str| shown.get(name).map(String::as_str);
        assert_eq!((value("port"), value("pool_size")), (Some("7000"), Some("20")));
        assert_eq!(value("pool_password"), Some("***"));
        assert!(!format!("{shown:?}").contains("s3cret"));
    }
}
