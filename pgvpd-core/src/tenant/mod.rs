//! Who logs in: from a user name to a role and a tenant's context, whether that is permitted, and who is there. No I/O.

mod certificates;
mod identity;
mod limits;
mod overrides;
mod parameters;
mod policy;
mod registry;

pub use certificates::CertMap;
pub(crate) use certificates::CertificateNames;
pub use identity::{Identity, IdentityError, IdentityRules, TenantFormat, VariableName};
pub use limits::TenantLimits;
pub use overrides::{TenantOverride, TenantOverrides};
pub use parameters::{
    ParameterError, bypass_startup, pinned_settings, tenant_preferences, tenant_startup, unknown_protocol_options,
    with_tenant_as_application_name,
};
pub use policy::{BypassRules, Network, PolicyError, TenantPolicy};
pub use registry::TenantRejections;
pub(crate) use registry::{TenantLimitError, TenantRegistry, TenantSlot};
