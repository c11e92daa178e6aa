//! The tenant's context on a server session: setting it and having it confirmed. No I/O.

mod injection;

pub(crate) use injection::{Confirmed, Injection, InjectionError};
