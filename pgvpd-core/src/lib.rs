//! pgvpd: Virtual Private Database for PostgreSQL.
//!
//! A proxy that makes tenant identity part of the connection. A client that logs in as `app_user.acme` gets a session
//! as `app_user` in which `app.current_tenant_id` is `acme`; row-level security does the rest. Every error on the way
//! to a ready session ends the connection: no context, no data.
//!
//! ```
//! # async fn example() -> Result<(), pgvpd_core::StartError> {
//! use pgvpd_core::Proxy;
//!
//! let proxy = Proxy::builder().upstream_host("127.0.0.1").upstream_port(5432).port(0).start().await?;
//! println!("log in at {}", proxy.url("acme", "mydb"));
//! # proxy.shutdown(std::time::Duration::ZERO).await;
//! proxy.closed().await;
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
//! ```
//!
//! The library has no global state: it installs no logger and no signal handler, never ends the process, and reads a
//! file or an environment variable only when asked. Many proxies can run in one process. It logs through [`tracing`].

#[cfg(all(doctest, feature = "testing"))]
#[doc = include_str!("../README.md")]
mod readme {}

mod accept;
mod address;
#[cfg(feature = "admin")]
mod admin;
mod admin_port;
mod administrators;
mod audit;
mod auth;
mod cancel;
mod capacity;
pub mod config;
mod console;
mod context;
mod control;
mod error;
mod file_limit;
mod limits;
mod logins;
mod net;
mod pool;
mod probe;
mod proxy;
mod random;
mod reload;
mod repeats;
pub mod resets;
mod resolve;
mod secrets;
mod session;
mod sessions;
mod shared;
pub mod sql;
mod stats;
mod status;
pub mod tenant;
#[cfg(feature = "testing")]
pub mod testing;
mod tls;
mod upstream;
pub mod wire;

pub use audit::AuditError;
pub use auth::is_password_of;
pub use config::{Config, ConfigError, Origin, Problem, Settings};
pub use file_limit::{FileLimit, raise_file_limit};
pub use logins::LoginsStatus;
pub use net::BindError;
pub use pool::{PoolStats, PoolStatus, ServerState, ServerStatus};
pub use probe::ProbeError;
pub use proxy::{Proxy, ProxyBuilder, ProxyHandle, StartError};
pub use reload::{ReloadError, Reloaded};
pub use resolve::{
    CodeError, CodeResolver, CodeValues, OnChange, RESOLVER_LATENCY_BOUNDS, ResolveError, Resolver, ResolverStats,
    Source, Trace, TraceError, TraceOutcome, trace,
};
pub use rustls;
pub use sessions::{SessionId, SessionState};
pub use stats::{DatabaseStatus, DatabaseUse, Phase, Stats, TIME_BOUNDS, TenantUse, Timing};
pub use status::{AddressesStatus, ProxyState, SessionStatus, SessionsStatus, Status, TenantStatus, TenantsStatus};
pub use tenant::TenantRejections;
pub use tls::{ClientTls, UpstreamTls};
