//! Limits of tenants: those of every tenant, and what the file `tenants` says of some.

use std::num::NonZeroU32;
use std::path::Path;

use super::Config;
use super::reader::Reader;
use crate::tenant::{TenantFormat, TenantLimits, TenantOverrides};

/// Reads the option, and the file.
pub(super) fn tenants(reader: &Reader<'_>, format: TenantFormat) -> TenantOverrides {
    let Some(path) = reader.settings.value("tenants") else { return TenantOverrides::default() };
    read(Path::new(path), format).unwrap_or_else(|problems| {
        problems.into_iter().for_each(|message| reader.problem("tenants", message));
        TenantOverrides::default()
    })
}

fn read(path: &Path, format: TenantFormat) -> Result<TenantOverrides, Vec<String>> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| vec![format!("cannot read {shown}: {error}")])?;
    TenantOverrides::parse(&text, format)
        .map_err(|problems| problems.into_iter().map(|problem| format!("{shown}: {problem}")).collect())
}

impl Config {
    /// What this tenant may take.
    pub fn limits_of(&self, tenant: &str) -> TenantLimits {
        let own = self.tenants.of(tenant).copied().unwrap_or_default();
        TenantLimits {
            connections: own.max_connections.unwrap_or(self.tenant_max_connections),
            per_second: own.rate_limit.unwrap_or(self.tenant_rate_limit),
            query_timeout: own.query_timeout.unwrap_or(self.tenant_query_timeout),
            is_own: own.max_connections.is_some() || own.rate_limit.is_some(),
            is_denied: own.deny,
        }
    }

    /// Every rate of new connections that some tenant is held to.
    pub(crate) fn tenant_rates(&self) -> Vec<NonZeroU32> {
        self.tenants.rates().chain(self.tenant_rate_limit).collect()
    }
}
