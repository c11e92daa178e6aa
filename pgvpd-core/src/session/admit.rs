//! Whether a startup message may go on to a login: identity, policy, parameters, limits.

use std::sync::Arc;

use super::login::{Negotiation, Who};
use super::{Ended, LoginError};
use crate::config::{ClientAddress, Config};
use crate::context::Injection;
use crate::error::Refusal;
use crate::limits::Slot;
use crate::shared::Shared;
use crate::tenant::{Identity, bypass_startup, tenant_startup, unknown_protocol_options};
use crate::wire::StartupMessage;

/// A login that the rules permit. Dropping it frees its place.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) address: ClientAddress,
    client: StartupMessage,
    /// `None` for a bypass user.
    identity: Option<Identity>,
    /// The startup packet for the server.
    pub(super) packet: Vec<u8>,
    context_in_startup: bool,
    set_role: Option<String>,
    _slot: Slot,
}

/// What is kept of an admission while its session is relayed. Dropping it frees its place.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) address: ClientAddress,
    /// Empty for a bypass user.
    pub(super) tenant: Box<str>,
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
    let (identity, upstream) = if config.bypass.applies(user, address).map_err(Refusal::from)? {
        (None, bypass_startup(&client))
    } else {
        let identity = config.identity.identify(user).map_err(Refusal::from)?;
        config.policy.admit(identity.tenant()).map_err(Refusal::from)?;
        let startup = tenant_startup(&client, &identity, config.context_in_startup).map_err(Refusal::from)?;
        (Some(identity), startup)
    };
    let packet = upstream.encode().ok_or(LoginError::StartupTooLong)?;
    let Some(slot) = shared.sessions.enter(config.max_client_connections) else {
        return Err(Refusal::too_many_clients(config.max_client_connections).into());
    };
    Ok(Admission {
        address,
        client,
        identity,
        packet,
        context_in_startup: config.context_in_startup,
        set_role: config.set_role.clone(),
        _slot: slot,
    })
}

impl Admission {
    /// Who logs in, for the login.
    pub(super) fn who(&self) -> Who {
        match &self.identity {
            None => Who::Bypass,
            Some(identity) => Who::Tenant {
                identity: identity.clone(),
                injection: Injection::new(identity, self.set_role.as_deref().unwrap_or(identity.role())),
                context_in_startup: self.context_in_startup,
            },
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
            tenant: self.identity.as_ref().map_or("", Identity::tenant).into(),
            role: self.identity.as_ref().map_or(user, Identity::role).into(),
            database: self.client.parameter("database").unwrap_or_default().into(),
            _slot: self._slot,
        }
    }
}
