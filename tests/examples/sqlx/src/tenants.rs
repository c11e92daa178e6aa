//! Which tenant a request is for, and the pool of that tenant's connections.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::header::HOST;
use axum::http::request::Parts;
use moka::sync::Cache;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

/// Connections of one tenant; the sum over all tenants is what `max_connections` of the server has to hold.
const CONNECTIONS_PER_TENANT: u32 = 4;
/// Pools of tenants that nobody asks for any more are closed.
const IDLE: Duration = Duration::from_secs(300);
/// Tenants with a pool at one time.
const POOLS: u64 = 100;

/// A pool for each tenant, made when it is first asked for.
#[derive(Debug, Clone)]
pub struct Tenants {
    /// Everything but the user name: the proxy's address, database, password.
    options: PgConnectOptions,
    role: String,
    pools: Cache<String, PgPool>,
}

impl Tenants {
    /// `url` is the proxy's, with the role and its password: `postgresql://app_user:secret@127.0.0.1:6432/shop`.
    ///
    /// # Errors
    /// Where that is no URL.
    pub fn new(url: &str) -> Result<Self, sqlx::Error> {
        let options: PgConnectOptions = url.parse()?;
        let role = options.get_username().to_owned();
        Ok(Self { options, role, pools: Cache::builder().max_capacity(POOLS).time_to_idle(IDLE).build() })
    }

    /// The pool of one tenant, or of one combination of values (`list1:user7`). Connects when it is first used.
    pub fn pool(&self, tenant: &str) -> PgPool {
        self.pools.get_with_by_ref(tenant, || {
            let options = self.options.clone().username(&format!("{}.{tenant}", self.role));
            PgPoolOptions::new().max_connections(CONNECTIONS_PER_TENANT).idle_timeout(IDLE).connect_lazy_with(options)
        })
    }
}

/// The pool of the tenant that a request is for. A handler that takes this cannot reach any other tenant.
pub(crate) struct TenantPool(pub(crate) PgPool);

impl FromRequestParts<Tenants> for TenantPool {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, tenants: &Tenants) -> Result<Self, StatusCode> {
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let tenant = tenant_of(host).ok_or(StatusCode::NOT_FOUND)?;
        Ok(Self(tenants.pool(tenant)))
    }
}

/// The first label of `acme.shop.example`, if it is one that a tenant may have: a host name comes from the client.
fn tenant_of(host: &str) -> Option<&str> {
    let (tenant, _) = host.split_once('.')?;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (!tenant.is_empty() && tenant.len() <= 63 && tenant.bytes().all(plain)).then_some(tenant)
}
