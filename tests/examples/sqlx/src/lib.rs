//! A small shop for many tenants with axum and sqlx, behind pgvpd. `docs/sqlx.md` explains it.

mod orders;
mod tenants;

use axum::{Router, routing};
use sqlx::PgConnection;

pub use tenants::Tenants;

/// The application's routes.
pub fn application(tenants: Tenants) -> Router {
    Router::new().route("/orders", routing::get(orders::list).post(orders::create)).with_state(tenants)
}

/// Brings the schema up to date. The connection goes through the proxy as a user of `superuser_bypass`.
///
/// # Errors
/// What sqlx reports.
pub async fn migrate(administrator: &mut PgConnection) -> Result<(), sqlx::migrate::MigrateError> {
    sqlx::migrate!().run(administrator).await
}
