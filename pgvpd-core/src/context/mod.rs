//! The tenant's context on a server session: signing it, setting it and having it confirmed. No I/O.

mod injection;
mod role_check;
mod role_settings;
mod scope;
mod signature;
mod token;

pub(crate) use injection::{Calls, Confirmed, Injection, InjectionError, Outcome, TOKEN};
pub(crate) use role_check::{RoleChecks, RoleFault, RoleKey, ask as ask_about_role, read as read_about_role};
pub(crate) use role_settings::{
    NOTE, RoleSettings, SessionSettings, SettingsKey, has_transaction_timeout, survey as survey_settings,
    undo as undo_settings,
};
pub(crate) use scope::Scope;
pub(crate) use signature::Token;
pub(crate) use token::{Binding, Facts, SigningKey, is_key_id, unhex};
