//! The tenant's context on a server session: signing it, setting it and having it confirmed. No I/O.

mod exchange;
mod injection;
mod role_check;
mod role_settings;
mod scope;
mod setup;
mod signature;
mod signing;
mod token;

pub(crate) use exchange::{Exchange, ExchangeFault, ask_echo, check_echo};
pub(crate) use injection::{Confirmed, Injection, InjectionError, TOKEN};
pub use role_check::RoleCheck;
pub(crate) use role_check::{RoleChecks, RoleFault, RoleKey, ask as ask_about_role, read as read_about_role};
pub(crate) use role_settings::{
    NOTE, RoleSettings, SessionSettings, SettingsKey, has_transaction_timeout, survey as survey_settings,
    undo as undo_settings,
};
pub(crate) use scope::Scope;
pub(crate) use setup::{ATTACH, Attachment, ContextSetup, Lost, Progress, SetupError, ToSend, read_facts};
pub(crate) use signature::Token;
pub use signing::{ContextSigning, SigningMode};
pub(crate) use signing::{key_bytes, key_id};
pub(crate) use token::{Facts, SigningKey};
