//! Who logs in: from a user name to a role and a tenant's context, and whether that is permitted. No I/O.

mod identity;
mod parameters;
mod policy;

pub use identity::{Identity, IdentityError, IdentityRules, TenantFormat, VariableName};
pub use parameters::{ParameterError, bypass_startup, tenant_startup, unknown_protocol_options};
pub use policy::{BypassRules, BypassSource, PolicyError, TenantPolicy};
