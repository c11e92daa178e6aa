//! The SQL that a database needs, as text.

/// `sql/setup.sql`: the role `app_user`, `current_tenant_id()`, `pgvpd_protect()` and `pgvpd_status()`. Idempotent.
pub const SETUP: &str = include_str!("../sql/setup.sql");
