//! What a pool is held to.

use std::time::Duration;

/// Whether sessions share upstream connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolMode {
    /// Each session has one of its own, and the server judges the client's proof.
    None,
    /// A session has one for as long as it lasts, from a pool; the proxy judges the client's proof.
    Session,
}

/// How many upstream connections a pool has, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// Connections of one pool: a role in a database.
    pub size: usize,
    /// Connections of all pools together.
    pub max_upstream_connections: usize,
    /// Connections that each pool keeps open once it has been used.
    pub min_size: usize,
    /// How long a connection may be idle before it is closed.
    pub idle_timeout: Duration,
    /// How long a client waits for a connection.
    pub checkout_timeout: Duration,
    /// The age at which a connection is closed, less up to a tenth.
    pub server_lifetime: Duration,
    /// A connection that has been idle for longer is tried before a client gets it.
    pub server_check_delay: Duration,
}
