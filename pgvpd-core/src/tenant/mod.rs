//! Who logs in: from a user name to a role and a tenant's context, whether that is permitted, and who is there. No I/O.

mod certificates;
mod identity;
mod parameters;
mod policy;
mod registry;

pub use certificates::CertMap;
pub(crate) use certificates::CertificateNames;
pub use identity::{Identity, IdentityError, IdentityRules, TenantFormat, VariableName};
pub use parameters::{
    ParameterError, bypass_startup, pinned_settings, tenant_preferences, tenant_startup, unknown_protocol_options,
};
pub use policy::{BypassRules, Network, PolicyError, TenantPolicy};
pub(crate) use registry::{TenantLimitError, TenantLimits, TenantRegistry, TenantSlot};
