//! Whether a startup message may go on to a login: identity, policy, parameters. And, once its client is authenticated, whether there is
//! a place for its session: strangers take none.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::console;
use super::leg::Leg;
use super::login::{Negotiation, Who};
use super::relay::RelayEnd;
use super::visitor::Visitor;
use super::{Ended, LoginError};
use crate::auth::Attempt;
use crate::config::{ClientAddress, Config, PoolMode, TenantLimits};
use crate::context::{Injection, SessionSettings, SettingsKey};
use crate::error::Refusal;
use crate::limits::Slot;
use crate::logins::Login;
use crate::sessions::{self, Claimed, Presence, Record, SessionState, Sessions};
use crate::shared::Shared;
use crate::tenant::{
    Identity, PolicyError, TenantSlot, bypass_startup, pinned_settings, tenant_preferences, tenant_startup,
    unknown_protocol_options, with_tenant_as_application_name,
};
use crate::wire::{ProtocolVersion, StartupMessage};

/// A login that the rules permit. It has no place among sessions: its client may be anybody.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) address: ClientAddress,
    pub(super) leg: Leg,
    client: StartupMessage,
    /// `None` for a bypass user.
    identity: Option<(Identity, Injection)>,
    route: Option<Route>,
    /// What its tenant may take.
    limits: TenantLimits,
    claimed: Claimed,
    /// Its place among logins in progress.
    pub(super) login: Arc<Login>,
}

/// How a session comes to its server connection.
#[derive(Debug)]
pub(super) enum Route {
    /// It gets one of its own to this database, with this startup packet.
    Passthrough { packet: Vec<u8>, database: Box<str>, settings: Option<Box<SessionSettings>> },
    /// It gets one from the pool of its role in this database.
    Pool { database: Box<str> },
}

impl Route {
    /// The database that it leads to.
    fn database(&self) -> &str {
        match self {
            Self::Passthrough { database, .. } | Self::Pool { database } => database,
        }
    }
}

/// An authenticated client's place among sessions. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct Seat {
    presence: Presence,
    /// `None` for a bypass user.
    _tenant: Option<TenantSlot>,
    _slot: Slot,
}

/// Checks a startup message against every rule that needs no server.
pub(super) fn admit(
    client: StartupMessage,
    visitor: &Visitor,
    leg: Leg,
    shared: &Arc<Shared>,
    config: &Config,
) -> Result<Admission, Ended> {
    let Some(login) = visitor.login.clone() else { return Err(Refusal::too_many_logins().into()) };
    let (id, address) = (visitor.id, visitor.address);
    let user = client.parameter("user").unwrap_or_default();
    let mut limits = TenantLimits::default();
    let (identity, route) = if config.bypass.applies(user, address).map_err(Refusal::from)? {
        leg.admit_bypass(address, config)?;
        let startup = bypass_startup(&client);
        // PostgreSQL takes the user's name where the client names none.
        let named = startup.parameter("database").filter(|database| !database.is_empty());
        let database = named.unwrap_or(user).into();
        let packet = startup.encode().ok_or(LoginError::StartupTooLong)?;
        (None, Route::Passthrough { packet, database, settings: None })
    } else {
        let identified = leg.identify(user, config);
        let identity = identified
            .map_err(|(refusal, detail)| Ended::Refused { refusal: console::hint(refusal, &client, config), detail })?;
        limits = config.limits_of(identity.tenant());
        admit_tenant(identity.tenant(), limits, shared, config)?;
        let (injection, route) = route(&client, &identity, shared, config)?;
        (Some((identity, injection)), route)
    };
    let who = sessions::Who {
        id,
        tenant: identity.as_ref().map(|(identity, _)| shared.tenants.name(identity.tenant())),
        role: identity.as_ref().map_or(user, |(identity, _)| identity.role()).into(),
        database: route.database().into(),
        address,
        is_tls: leg.is_tls,
    };
    let claimed = Sessions::claim(shared, who);
    Ok(Admission { address, leg, client, identity, route: Some(route), limits, claimed, login })
}

/// What is to be in force for a tenant's session, and how it gets its connection.
fn route(
    client: &StartupMessage,
    identity: &Identity,
    shared: &Shared,
    config: &Config,
) -> Result<(Injection, Route), Ended> {
    let role = config.set_role.as_deref().unwrap_or(identity.role());
    let named = config.tenant_application_name.then(|| with_tenant_as_application_name(client, identity.tenant()));
    let client = named.as_ref().unwrap_or(client);
    match config.pool_mode {
        PoolMode::None => {
            let injection = Injection::new(identity, role, config.context_in_startup);
            let mut own = injection.startup_parameters();
            if config.context_in_startup {
                // No default that somebody has given the role, or the database, counts.
                own.extend(identity.resolved().iter().map(|name| (name.as_str().to_owned(), String::new())));
                own.extend(pinned_settings(client, &config.pin_settings).map_err(Refusal::from)?);
            }
            let mut startup = tenant_startup(client, identity, own).map_err(Refusal::from)?;
            let database: Box<str> = startup.parameter("database").unwrap_or(identity.named_role()).into();
            let injection = injection.signed(config.signing.as_ref(), &database, identity.role());
            if *database == *identity.role() {
                // The server takes it from the user's name, and the client's packet may have no room for it.
                startup.parameters.retain(|(name, _)| name != "database");
            }
            let settings = match config.context_in_startup {
                false => None,
                true => Some(Box::new(session_settings(&startup, identity, &database, shared, config)?)),
            };
            startup.parameters.extend(settings.iter().flat_map(|settings| settings.pins()).cloned());
            let packet = startup.encode().ok_or(LoginError::StartupTooLong)?;
            Ok((injection, Route::Passthrough { packet, database, settings }))
        }
        PoolMode::Session => {
            let startup = tenant_startup(client, identity, Vec::new()).map_err(Refusal::from)?;
            let preferences = tenant_preferences(&startup).map_err(Refusal::from)?;
            let database = startup.parameter("database").unwrap_or(identity.named_role());
            let injection = Injection::on_pooled(identity, role, preferences);
            let injection = injection.signed(config.signing.as_ref(), database, identity.role());
            Ok((injection, Route::Pool { database: database.into() }))
        }
    }
}

/// What is known of the role's own settings, for a session that begins with this startup message.
fn session_settings(
    startup: &StartupMessage,
    identity: &Identity,
    database: &str,
    shared: &Shared,
    config: &Config,
) -> Result<SessionSettings, Refusal> {
    let (upstream, role) = (config.upstream.clone(), identity.role().into());
    let key = SettingsKey { upstream, database: database.into(), role };
    let chosen = tenant_preferences(startup)?;
    Ok(SessionSettings::new(&shared.role_settings, key, chosen.iter().map(|(name, _)| name.as_str())))
}

/// Whether a tenant may log in at all. A client cannot tell which rule says that it may not.
fn admit_tenant(tenant: &str, limits: TenantLimits, shared: &Shared, config: &Config) -> Result<(), Refusal> {
    let admitted = match limits.is_denied {
        true => Err(PolicyError::Tenant(tenant.into())),
        false => config.policy.admit(tenant),
    };
    admitted.map_err(|error| {
        shared.tenants.count_denied();
        error.into()
    })
}

impl Admission {
    /// The way to go on; it is taken once.
    pub(super) fn take_route(&mut self) -> Route {
        self.route.take().unwrap_or(Route::Passthrough { packet: Vec::new(), database: Box::default(), settings: None })
    }

    /// The protocol version that the client asked for.
    pub(super) fn protocol(&self) -> ProtocolVersion {
        self.client.version
    }

    /// A tenant's identity, and what is to be in force; `None` for a bypass user.
    pub(super) fn tenant(&self) -> Option<&(Identity, Injection)> {
        self.identity.as_ref()
    }

    /// The user name as the client typed it.
    pub(super) fn typed_user(&self) -> &str {
        self.client.parameter("user").unwrap_or_default()
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

    /// The client's record.
    pub(super) fn record(&self) -> &Arc<Record> {
        self.claimed.record()
    }

    /// How long its session may be idle, or a request outstanding.
    pub(super) fn query_timeout(&self) -> Option<Duration> {
        self.limits.query_timeout
    }

    /// What a wrong proof is counted against.
    pub(super) fn attempt(&self) -> Attempt {
        let (role, tenant) = match &self.identity {
            Some((identity, _)) => (identity.role(), identity.tenant()),
            None => (self.typed_user(), ""),
        };
        Attempt { address: self.address, role: role.into(), tenant: tenant.into() }
    }

    /// Takes a place among sessions, for a client that has proved who it is; from now on it is one of its tenant's.
    ///
    /// # Errors
    /// A [`Refusal`] where the tenant, or the proxy, has as many as it may.
    pub(super) fn take_seat(&self, shared: &Arc<Shared>, config: &Config) -> Result<Seat, Refusal> {
        self.login.is_authenticated();
        let enter = |(identity, _): &(Identity, Injection)| shared.tenants.enter(identity.tenant(), self.limits);
        let tenant = self.identity.as_ref().map(enter).transpose()?;
        let Some(slot) = shared.sessions.enter(config.max_client_connections) else {
            return Err(Refusal::too_many_clients(config.max_client_connections));
        };
        let presence = Sessions::enter(shared, self.record());
        Ok(Seat { presence, _tenant: tenant, _slot: slot })
    }
}

impl Seat {
    /// What is known of the client.
    pub(super) fn record(&self) -> &Arc<Record> {
        self.presence.record()
    }

    /// Writes the log of a session's start.
    pub(super) fn started(&self, is_logged: bool) {
        let sessions::Who { id, role, database, address, is_tls, .. } = &self.record().who;
        self.record().meter.set_state(SessionState::Open);
        if is_logged {
            let tenant = self.tenant();
            id.span_of_info().in_scope(|| {
                info!(tenant, %role, %database, client = %address, tls = is_tls, "session started");
            });
        }
    }

    /// Writes the log of a session's end.
    pub(super) fn ended(&self, end: &RelayEnd, is_framed: bool, is_logged: bool) {
        let Record { who, since, meter, .. } = &**self.record();
        let sessions::Who { id, role, database, address, is_tls, .. } = who;
        let relayed = meter.relayed();
        let requests = is_framed.then_some(relayed.requests);
        let duration = (since.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        let (tenant, reason) = (self.tenant(), end);
        let (bytes_from_client, bytes_to_client) = (relayed.from_client, relayed.to_client);
        macro_rules! say {
            ($level:ident) => {
                $level!(
                    tenant, %role, %database, client = %address, tls = is_tls, duration, bytes_from_client,
                    bytes_to_client, requests, %reason, "session ended"
                )
            };
        }
        match end {
            RelayEnd::UpstreamProtocol(_) => id.span().in_scope(|| say!(warn)),
            RelayEnd::Refused(refusal) if super::is_of_a_role_change(refusal) => id.span().in_scope(|| say!(warn)),
            RelayEnd::Refused(_) => id.span_of_info().in_scope(|| say!(info)),
            _ if is_logged => id.span_of_info().in_scope(|| say!(info)),
            _ => {}
        }
    }

    /// The tenant, empty for a bypass user.
    pub(super) fn tenant(&self) -> &str {
        self.record().tenant()
    }
}
