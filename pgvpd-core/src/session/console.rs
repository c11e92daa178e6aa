//! Administrators who log in to the console: the database `pgvpd`, or `pgbouncer`, where `admin_users` are set.
//!
//! Nobody finds out here who they are: a name that is not among them is asked for a proof as theirs are, and fails at the end of it.

use std::sync::Arc;

use tracing::{Level, info};

use super::Ended;
use super::authenticate::{Claim, Purpose, authenticate};
use super::leg::Leg;
use super::login::Negotiation;
use super::visitor::Visitor;
use crate::config::Config;
use crate::console::{Administrator, Console, DATABASES};
use crate::error::Refusal;
use crate::logins::Attempt;
use crate::logins::Login;
use crate::net::{Conn, Socket};
use crate::repeats::Failure;
use crate::shared::Shared;
use crate::tenant::{PolicyError, unknown_protocol_options};
use crate::wire::{SqlState, StartupMessage};

/// Console sessions at one time. They have places of their own: an administrator must get in where clients cannot.
const MOST_CONSOLES: usize = 100;

/// True where a client asks for the console, and there is one.
pub(super) fn is_wanted(message: &StartupMessage, config: &Config) -> bool {
    !config.admin_users.is_empty() && names_console(message)
}

fn names_console(message: &StartupMessage) -> bool {
    message.parameter("database").is_some_and(|database| DATABASES.contains(&database))
}

/// Says what is missing to who looks for the console where there is none.
pub(super) fn hint(refusal: Refusal, message: &StartupMessage, config: &Config) -> Refusal {
    let names_tenant = message.parameter("user").is_some_and(|user| user.contains(&config.identity.separator));
    match names_console(message) && !names_tenant {
        true => refusal.hint("For the admin console set admin_users and auth_file."),
        false => refusal,
    }
}

/// Lets an administrator in.
pub(super) async fn enter(
    client: &mut Conn<Socket>,
    (message, leg): (StartupMessage, Leg),
    (visitor, login): (&Visitor, &Arc<Login>),
    shared: &Arc<Shared>,
    config: &Config,
) -> Result<Console, Ended> {
    let (user, address) = (message.parameter("user").unwrap_or_default(), visitor.address);
    if !config.bypass.permits(address) {
        return Err(Refusal::from(PolicyError::BypassAddress(user.into())).into());
    }
    leg.admit_bypass(address, config)?;
    if message.parameter("replication").is_some() {
        return Err(Refusal::new(SqlState::FEATURE_NOT_SUPPORTED, "the console has nothing to replicate").into());
    }
    let is_tls = leg.is_tls;
    let claim = Claim {
        // No tenant's name is empty.
        attempt: Attempt { address, role: user.into(), tenant: Box::default() },
        typed_user: user.into(),
        negotiation: Negotiation { version: message.version, unknown_options: unknown_protocol_options(&message) },
        leg,
        purpose: Purpose::Console,
        login: Arc::clone(login),
    };
    login.start().await?;
    let is_stranger = config.admin_users.secret(user).is_none();
    if is_stranger && shared.repeats.is_new(Level::INFO, Failure::new(address, "not in admin_users")) {
        info!(user, client = %address, "a login to the console by a user that is not in admin_users");
    }
    authenticate(client, claim, shared, config).await?;
    login.is_authenticated();
    let Some(slot) = shared.consoles.enter(MOST_CONSOLES) else {
        return Err(
            Refusal::new(SqlState::TOO_MANY_CONNECTIONS, format_args!("too many consoles ({MOST_CONSOLES})")).into()
        );
    };
    let application_name = message.parameter("application_name").unwrap_or_default().into();
    let who = Administrator { id: visitor.id, user: user.into(), address, is_tls, application_name };
    Ok(Console::open(client, who, slot, shared))
}
