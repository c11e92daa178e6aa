//! What the project's SQL does in a PostgreSQL server, by itself: one run for each version of the server, whatever the proxy's mode.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it cannot go on")]

// `crate::support` in the files below.
use ::support;

mod audit;
mod audit_holes;
mod auth_query;
mod equality;
mod hardening;
mod helpers;
mod helpers_acl;
mod helpers_refused;
mod locks;
mod notify;
mod notify_install;
mod protect_rights;
mod secrets;
mod setup;
mod setup_names;
mod signing;
mod statistics;
