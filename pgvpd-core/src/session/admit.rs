//! Whether a startup message may go on to a login: identity, policy, parameters, limits.

use std::sync::Arc;

use super::login::{Negotiation, Who};
use super::{Ended, LoginError};
use crate::config::{ClientAddress, Config};
use crate::context::Injection;
use crate::error::Refusal;
use crate::limits::Slot;
use crate::shared::Shared;
use crate::tenant::{Identity, TenantLimits, TenantSlot, bypass_startup, tenant_startup, unknown_protocol_options};
use crate::wire::StartupMessage;

/// A login that the rules permit. Dropping it frees its place.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) address: ClientAddress,
    client: StartupMessage,
    /// `None` for a bypass user.
    identity: Option<(Identity, Injection)>,
    /// The startup packet for the server.
    pub(super) packet: Vec<u8>,
    tenant: Option<TenantSlot>,
    _slot: Slot,
}

/// What is kept of an admission while its session is relayed. Dropping it frees its place.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) address: ClientAddress,
    /// `None` for a bypass user.
    tenant: Option<TenantSlot>,
    pub(super) role: Box<str>,
    pub(super) database: Box<str>,
    _slot: Slot,
}

/// Checks a startup message against every rule that needs no server.
pub(super) fn admit(
    client: StartupMessage,
    address: ClientAddress,
    shared: &Arc<Shared>,
    config: &Config,
) -> Result<Admission, Ended> {
    let user = client.parameter("user").unwrap_or_default();
    let (identity, upstream, tenant) = if config.bypass.applies(user, address).map_err(Refusal::from)? {
        (None, bypass_startup(&client), None)
    } else {
        let identity = config.identity.identify(user).map_err(Refusal::from)?;
        config.policy.admit(identity.tenant()).map_err(Refusal::from)?;
        let role = config.set_role.as_deref().unwrap_or(identity.role());
        let injection = Injection::new(&identity, role, config.context_in_startup);
        let own = injection.startup_parameters();
        let startup = tenant_startup(&client, &identity, own).map_err(Refusal::from)?;
        let tenant = shared.tenants.enter(identity.tenant(), limits(config)).map_err(Refusal::from)?;
        (Some((identity, injection)), startup, Some(tenant))
    };
    let packet = upstream.encode().ok_or(LoginError::StartupTooLong)?;
    let Some(slot) = shared.sessions.enter(config.max_client_connections) else {
        return Err(Refusal::too_many_clients(config.max_client_connections).into());
    };
    Ok(Admission { address, client, identity, packet, tenant, _slot: slot })
}

fn limits(config: &Config) -> TenantLimits {
    TenantLimits { connections: config.tenant_max_connections, per_second: config.tenant_rate_limit }
}

impl Admission {
    /// True for a bypass user.
    pub(super) fn is_bypass(&self) -> bool {
        self.identity.is_none()
    }

    /// Who logs in, for the login.
    pub(super) fn who(&self) -> Who {
        match &self.identity {
            None => Who::Bypass,
            Some((identity, injection)) => Who::Tenant { identity: identity.clone(), injection: injection.clone() },
        }
    }

    /// What the client asked of the protocol.
    pub(super) fn negotiation(&self) -> Negotiation {
        Negotiation { version: self.client.version, unknown_options: unknown_protocol_options(&self.client) }
    }

    /// Lets go of everything that only the login needs: an idle session should weigh little.
    pub(super) fn into_seat(self) -> Seat {
        let user = self.client.parameter("user").unwrap_or_default();
        Seat {
            address: self.address,
            tenant: self.tenant,
            role: self.identity.as_ref().map_or(user, |(identity, _)| identity.role()).into(),
            database: self.client.parameter("database").unwrap_or_default().into(),
            _slot: self._slot,
        }
    }
}

impl Seat {
    /// The tenant, empty for a bypass user.
    pub(super) fn tenant(&self) -> &str {
        self.tenant.as_ref().map_or("", TenantSlot::tenant)
    }
}
