//! The SQL that a database needs, as text.

/// `sql/setup.sql`: the role `app_user`, `current_tenant_id()`, `pgvpd_protect()` and `pgvpd_status()`. Idempotent.
pub const SETUP: &str = include_str!("../sql/setup.sql");

/// `sql/helpers.sql`: contexts that hold several values, `pgvpd_protect_acl()` and `pgvpd_notify_on_change()`. Needs [`SETUP`]
/// first. Idempotent.
pub const HELPERS: &str = include_str!("../sql/helpers.sql");

/// `sql/audit.sql`: `pgvpd_audit()`, which lists what could let one tenant reach what is another's. Needs [`SETUP`] first. Idempotent.
pub const AUDIT: &str = include_str!("../sql/audit.sql");

/// `sql/hardening.sql`: closes what sessions of one role can see of each other. Needs a superuser, and [`SETUP`] first. Idempotent.
pub const HARDENING: &str = include_str!("../sql/hardening.sql");
