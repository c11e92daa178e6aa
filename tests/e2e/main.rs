//! End-to-end tests: real clients through a real proxy to a real PostgreSQL. Files by topic.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it cannot go on")]

// `crate::support` in the files below.
use ::support;

mod admin;
mod admin_access;
mod audit_log;
mod audit_sql;
mod audit_sql_holes;
mod auth_query_sql;
mod authentication;
mod bad_input;
mod cancel;
mod console;
mod console_access;
mod console_agents;
mod context;
mod faults;
mod framed;
mod hardening_sql;
mod helpers_sql;
mod helpers_sql_acl;
mod helpers_sql_refused;
mod limits;
mod locks_sql;
mod login;
mod metrics;
mod notifications;
mod notify_sql;
mod notify_sql_install;
mod parameters;
mod pool;
mod pool_authentication;
mod pool_endings;
mod pool_fairness;
mod pooler;
mod protect_rights;
mod proxy_protocol;
mod relay;
mod resolvers;
mod resolvers_cache;
mod resolvers_live;
mod secrets_sql;
mod session_database;
mod setup_sql;
mod setup_sql_names;
mod shutdown;
mod signing;
mod signing_live;
mod signing_sql;
mod statistics_sql;
mod tenants;
mod tls;
mod tls_certificates;
mod tls_upstream;
mod unix;
