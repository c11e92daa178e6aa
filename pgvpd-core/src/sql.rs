//! The SQL that a database needs, as text.

/// `sql/setup.sql`: the role `app_user`, `current_tenant_id()`, `pgvpd_protect()` and `pgvpd_status()`. Idempotent.
pub const SETUP: &str = include_str!("../sql/setup.sql");

/// `sql/helpers.sql`: contexts that hold several values, and `pgvpd_protect_acl()`. Needs [`SETUP`] first. Idempotent.
pub const HELPERS: &str = include_str!("../sql/helpers.sql");
