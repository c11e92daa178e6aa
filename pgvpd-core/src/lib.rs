//! pgvpd: Virtual Private Database for PostgreSQL.
//!
//! A proxy that makes tenant identity part of the connection. A client that logs in as `app_user.acme` gets a session
//! as `app_user` in which `app.current_tenant_id` is `acme`; row-level security does the rest. Every error on the way
//! to a ready session ends the connection: no context, no data.
//!
//! ```no_run
//! # async fn example() -> Result<(), pgvpd_core::StartError> {
//! use pgvpd_core::Proxy;
//!
//! let proxy = Proxy::builder().upstream_host("db.internal").port(6432).start().await?;
//! proxy.closed().await;
//! # Ok(())
//! # }
//! ```
//!
//! The library has no global state: it installs no logger and no signal handler, never ends the process, and reads a
//! file or an environment variable only when asked. Many proxies can run in one process. It logs through [`tracing`].

mod auth;
mod builder;
mod cancel;
pub mod config;
mod context;
mod error;
mod limits;
mod net;
mod proxy;
mod session;
mod shared;
pub mod sql;
pub mod tenant;
#[cfg(feature = "testing")]
pub mod testing;
pub mod wire;

pub use builder::ProxyBuilder;
pub use config::{Config, ConfigError, Origin, Problem, Settings};
pub use net::{BindError, FileLimit, raise_file_limit};
pub use proxy::{Proxy, ProxyHandle, Reloaded, StartError};
pub use shared::Stats;
