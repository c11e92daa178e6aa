//! End-to-end tests: real clients through a real proxy to a real PostgreSQL. Files by topic.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it cannot go on")]

// `crate::support` in the files below.
use ::support;

mod accounting;
mod admin;
mod admin_access;
mod audit_log;
mod authentication;
mod bad_input;
mod cancel;
mod console;
mod console_access;
mod console_agents;
mod console_pools;
mod context;
mod endings;
mod faults;
mod framed;
mod hang_ups;
mod limits;
mod listens;
mod login;
mod lost_links;
mod metrics;
mod notifications;
mod own_password;
mod parameters;
mod pool;
mod pool_authentication;
mod pool_endings;
mod pool_fairness;
mod pooler;
mod proxy_protocol;
mod relay;
mod resets;
mod resolvers;
mod resolvers_cache;
mod resolvers_live;
mod role_changes;
mod role_settings;
mod server_words;
mod session_database;
mod shutdown;
mod signing;
mod signing_live;
mod strangers;
mod tenants;
mod tls;
mod tls_certificates;
mod tls_upstream;
mod unix;
