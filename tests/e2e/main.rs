//! End-to-end tests: real clients through a real proxy to a real PostgreSQL. Files by topic.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it cannot go on")]

// `crate::support` in the files below.
use ::support;

mod authentication;
mod bad_input;
mod cancel;
mod context;
mod faults;
mod framed;
mod helpers_sql;
mod helpers_sql_acl;
mod helpers_sql_refused;
mod limits;
mod login;
mod parameters;
mod pooler;
mod proxy_protocol;
mod relay;
mod setup_sql;
mod shutdown;
mod unix;
