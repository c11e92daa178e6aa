//! Works out further values of a tenant's context from those in the user name: by queries in the database, or by code.
//!
//! ```text
//! plan (pure) ─► level by level: results that may be used again, or one batch on the session's own connection,
//!                or on one of the proxy's (`resolver_user`) ─► values, which are signed and set with the tenant
//!
//! NOTIFY pgvpd_invalidate ─► listen ─► results void, sessions that go by them resolved again and told (live)
//! ```

mod batch;
mod cache;
mod code;
mod definition;
mod engine;
mod fault;
mod figures;
mod job;
mod listen;
mod live;
mod plan;
mod questions;
mod rules;
mod sites;
mod trace;

pub use code::{CodeError, CodeResolver, CodeValues};
pub use definition::{OnChange, Resolver, Source};
pub(crate) use engine::{OwnSite, Resolved, Resolving, keep};
pub(crate) use fault::Fault;
pub use fault::ResolveError;
pub use figures::{RESOLVER_LATENCY_BOUNDS, ResolverStats};
pub(crate) use job::Job;
pub(crate) use live::{Change, Found, Membership};
pub(crate) use rules::ResolverAccount;
pub use rules::ResolverRules;
pub use trace::{Trace, TraceError, TraceOutcome, trace};
