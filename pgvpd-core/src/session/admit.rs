//! Decides whether a startup message may go on to a login: identity, policy, parameters. Once its client is authenticated, takes the
//! slots for its session; clients that are not authenticated take none.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::console;
use super::leg::Leg;
use super::login::Negotiation;
use super::relay::RelayEnd;
use super::visitor::Visitor;
use super::{Ended, LoginError};
use crate::address::ClientAddress;
use crate::config::Config;
use crate::context::{Injection, SessionSettings, SettingsKey};
use crate::error::Refusal;
use crate::limits::Slot;
use crate::logins::Attempt;
use crate::logins::Login;
use crate::pool::PoolMode;
use crate::sessions::{LoginGuard, Record, SessionGuard, SessionId, SessionInfo, SessionState, Sessions};
use crate::shared::Shared;
use crate::tenant::TenantLimits;
use crate::tenant::{
    Identity, PolicyError, TenantSlot, bypass_startup, pinned_settings, tenant_preferences, tenant_startup,
    unknown_protocol_options, with_tenant_as_application_name,
};
use crate::wire::StartupMessage;

/// A login that the rules permit. It takes no slot among sessions: its client may be anybody.
#[derive(Debug)]
pub(super) enum Admission {
    /// A tenant's session.
    Tenant(TenantLogin),
    /// A user of `superuser_bypass`, whose messages pass unchanged.
    Bypass(BypassLogin),
}

/// The login of a tenant's client.
#[derive(Debug)]
pub(super) struct TenantLogin {
    pub(super) client: AdmittedClient,
    pub(super) identity: Identity,
    /// The context, role and settings to be in force.
    pub(super) injection: Arc<Injection>,
    pub(super) route: Route,
}

/// The login of a bypass user.
#[derive(Debug)]
pub(super) struct BypassLogin {
    pub(super) client: AdmittedClient,
    /// Startup packet for the server.
    pub(super) packet: Vec<u8>,
}

/// A client whose login the rules permit.
#[derive(Debug)]
pub(super) struct AdmittedClient {
    pub(super) leg: Leg,
    /// What the client asked of the protocol.
    pub(super) negotiation: Negotiation,
    /// Slot among logins in progress.
    pub(super) login: Arc<Login>,
    /// Limits of its tenant.
    limits: TenantLimits,
    guard: LoginGuard,
}

/// How a tenant's session gets its server connection.
#[derive(Debug)]
pub(super) enum Route {
    /// A connection of its own, begun with this startup packet.
    Passthrough { packet: Vec<u8>, settings: Option<Box<SessionSettings>> },
    /// A connection of the pool of its role and database.
    Pool,
}

/// The slots of an authenticated client's session. Dropping them frees them.
#[derive(Debug)]
pub(super) struct SessionSlots {
    guard: SessionGuard,
    /// `None` for a bypass user.
    _tenant: Option<TenantSlot>,
    _slot: Slot,
}

/// A client that has sent its startup message.
struct Arrival {
    id: SessionId,
    address: ClientAddress,
    leg: Leg,
    login: Arc<Login>,
}

/// Checks a startup message against every rule that needs no server.
///
/// # Errors
/// A refusal for the client.
pub(super) fn admit(
    startup: &StartupMessage,
    visitor: &Visitor,
    leg: Leg,
    shared: &Arc<Shared>,
    config: &Config,
) -> Result<Admission, Ended> {
    let Some(login) = visitor.login.clone() else { return Err(Refusal::too_many_logins().into()) };
    let arrival = Arrival { id: visitor.id, address: visitor.address, leg, login };
    let user = startup.parameter("user").unwrap_or_default();
    if config.bypass.applies(user, arrival.address).map_err(Refusal::from)? {
        admit_bypass(startup, user, arrival, shared, config).map(Admission::Bypass)
    } else {
        admit_tenant(startup, user, arrival, shared, config).map(Admission::Tenant)
    }
}

fn admit_bypass(
    startup: &StartupMessage,
    user: &str,
    arrival: Arrival,
    shared: &Arc<Shared>,
    config: &Config,
) -> Result<BypassLogin, Ended> {
    arrival.leg.admit_bypass(arrival.address, config)?;
    let upstream = bypass_startup(startup);
    // PostgreSQL takes the user's name if the client names no database.
    let named = upstream.parameter("database").filter(|database| !database.is_empty());
    let database = named.unwrap_or(user).into();
    let packet = upstream.encode().ok_or(LoginError::StartupTooLong)?;
    let info = arrival.info(user, user.into(), database, None);
    Ok(BypassLogin { client: arrival.admitted(startup, info, TenantLimits::default(), shared), packet })
}

fn admit_tenant(
    startup: &StartupMessage,
    user: &str,
    arrival: Arrival,
    shared: &Arc<Shared>,
    config: &Config,
) -> Result<TenantLogin, Ended> {
    let identified = arrival.leg.identify(user, config);
    let identity = identified
        .map_err(|(refusal, detail)| Ended::Refused { refusal: console::hint(refusal, startup, config), detail })?;
    let limits = config.limits_of(identity.tenant());
    check_tenant(identity.tenant(), limits, shared, config)?;
    let Routed { injection, database, route } = route(startup, &identity, shared, config)?;
    let tenant = shared.tenants.name(identity.tenant());
    let info = arrival.info(user, identity.role().into(), database, Some(tenant));
    Ok(TenantLogin { client: arrival.admitted(startup, info, limits, shared), identity, injection, route })
}

impl Arrival {
    fn info(&self, user: &str, role: Box<str>, database: Box<str>, tenant: Option<Arc<str>>) -> SessionInfo {
        let (id, address, is_tls) = (self.id, self.address, self.leg.is_tls);
        SessionInfo { id, address, is_tls, user: user.into(), role, database, tenant }
    }

    fn admitted(
        self,
        startup: &StartupMessage,
        info: SessionInfo,
        limits: TenantLimits,
        shared: &Arc<Shared>,
    ) -> AdmittedClient {
        let negotiation = Negotiation { version: startup.version, unknown_options: unknown_protocol_options(startup) };
        let guard = Sessions::claim(shared, info);
        AdmittedClient { leg: self.leg, negotiation, login: self.login, limits, guard }
    }
}

/// What a tenant's session is to have.
struct Routed {
    injection: Arc<Injection>,
    database: Box<str>,
    route: Route,
}

/// Works out the context of a tenant's session, its database, and how it gets its connection.
fn route(client: &StartupMessage, identity: &Identity, shared: &Shared, config: &Config) -> Result<Routed, Ended> {
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
            Ok(Routed { injection: Arc::new(injection), database, route: Route::Passthrough { packet, settings } })
        }
        PoolMode::Session => {
            let startup = tenant_startup(client, identity, Vec::new()).map_err(Refusal::from)?;
            let preferences = tenant_preferences(&startup).map_err(Refusal::from)?;
            let database: Box<str> = startup.parameter("database").unwrap_or(identity.named_role()).into();
            let injection = Injection::on_pooled(identity, role, preferences);
            let injection = injection.signed(config.signing.as_ref(), &database, identity.role());
            Ok(Routed { injection: Arc::new(injection), database, route: Route::Pool })
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

/// Checks that a tenant may log in at all. A client cannot tell which rule refuses it.
fn check_tenant(tenant: &str, limits: TenantLimits, shared: &Shared, config: &Config) -> Result<(), Refusal> {
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
    /// The client, whichever way it is let in.
    pub(super) fn client(&self) -> &AdmittedClient {
        match self {
            Self::Tenant(login) => &login.client,
            Self::Bypass(login) => &login.client,
        }
    }
}

impl AdmittedClient {
    /// The client's entry in the registry.
    pub(super) fn record(&self) -> &Arc<Record> {
        self.guard.record()
    }

    /// The facts about the session.
    pub(super) fn info(&self) -> &SessionInfo {
        &self.record().info
    }

    /// How long the session may be idle, or a request outstanding.
    pub(super) fn query_timeout(&self) -> Option<Duration> {
        self.limits.query_timeout
    }

    /// What a wrong password is counted against.
    pub(super) fn attempt(&self) -> Attempt {
        let SessionInfo { address, role, .. } = self.info();
        Attempt { address: *address, role: role.clone(), tenant: self.record().tenant().into() }
    }

    /// Takes slots for the session of a client that is authenticated; from now on it is one of its tenant's.
    ///
    /// # Errors
    /// A [`Refusal`] if the tenant, or the proxy, has as many sessions as it may.
    pub(super) fn take_slots(&self, shared: &Arc<Shared>, config: &Config) -> Result<SessionSlots, Refusal> {
        self.login.is_authenticated();
        let enter = |tenant: &Arc<str>| shared.tenants.enter(tenant, self.limits);
        let tenant = self.info().tenant.as_ref().map(enter).transpose()?;
        let Some(slot) = shared.sessions.enter(config.max_client_connections) else {
            return Err(Refusal::too_many_clients(config.max_client_connections));
        };
        let guard = Sessions::enter(shared, self.record());
        Ok(SessionSlots { guard, _tenant: tenant, _slot: slot })
    }
}

impl SessionSlots {
    /// The client's entry in the registry.
    pub(super) fn record(&self) -> &Arc<Record> {
        self.guard.record()
    }

    /// Writes the log of a session's start.
    pub(super) fn started(&self, is_logged: bool) {
        let SessionInfo { id, role, database, address, is_tls, .. } = &self.record().info;
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
        let Record { info, since, meter, .. } = &**self.record();
        let SessionInfo { id, role, database, address, is_tls, .. } = info;
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
