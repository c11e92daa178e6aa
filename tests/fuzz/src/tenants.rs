//! A file of tenants' limits: read, and looked up.

use pgvpd_core::tenant::{TenantFormat, TenantOverrides};

/// Reads the bytes up to a NUL as the file, and looks up what follows it as a tenant.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (file, tenant) = text.split_once('\0').unwrap_or((text, "acme"));
    let overrides = match TenantOverrides::parse(file, TenantFormat::Text) {
        Ok(overrides) => overrides,
        Err(problems) => {
            assert!(!problems.is_empty() && problems.iter().all(|problem| !problem.is_empty()), "{problems:?}");
            return;
        }
    };
    assert_eq!(TenantOverrides::parse(file, TenantFormat::Text).as_ref(), Ok(&overrides), "read twice");
    let Some(own) = overrides.of(tenant) else { return };
    let has_limits = own.max_connections.is_some() || own.rate_limit.is_some() || own.query_timeout.is_some();
    assert!(!(own.deny && has_limits), "one or the other");
    assert!(own.max_connections.flatten() != Some(0), "a limit lets somebody in");
    assert!(own.query_timeout.flatten().is_none_or(|time| !time.is_zero()));
    assert_eq!(overrides.of(tenant), Some(own), "the same each time");
}
