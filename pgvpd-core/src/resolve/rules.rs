//! Which resolvers there are, and as whom they ask.

use std::sync::Arc;
use std::time::Duration;

use super::definition::{OnChange, Resolver, Source};
use super::plan::Plan;
use crate::auth::{Credentials, Secret};
use crate::config::Config;
use crate::secrets::Secrets;
use crate::tenant::IdentityRules;

/// How further values of a tenant's context are worked out.
#[derive(Debug, Clone)]
pub struct ResolverRules {
    /// All resolvers, those of the file first.
    all: Vec<Resolver>,
    pub(crate) plan: Arc<Plan>,
    /// For one query.
    pub(crate) timeout: Duration,
    /// As whom the proxy asks, on connections of its own; `None`: on the session's.
    pub(crate) account: Option<Arc<ResolverAccount>>,
    /// Results become void by `NOTIFY pgvpd_invalidate`.
    pub(crate) notify: bool,
    /// Bytes that results may take.
    pub(crate) cache_bytes: u64,
}

/// A login of the proxy's own.
#[derive(Debug)]
pub(crate) struct ResolverAccount {
    pub(crate) user: String,
    pub(crate) password: Option<Secret>,
    /// Connections in one database.
    pub(crate) pool_size: usize,
}

impl ResolverAccount {
    /// What the proxy can prove to the server: its own password, else as for any role.
    pub(crate) fn credentials(&self, secrets: &Secrets, config: &Config) -> Credentials {
        let mut credentials = secrets.for_upstream(&self.user, config);
        credentials.password = self.password.clone().or(credentials.password);
        credentials
    }
}

impl ResolverRules {
    /// None yet.
    pub(crate) fn new(
        timeout: Duration,
        account: Option<Arc<ResolverAccount>>,
        notify: bool,
        cache_bytes: u64,
    ) -> Self {
        Self { all: Vec::new(), plan: Arc::default(), timeout, account, notify, cache_bytes }
    }

    /// All resolvers, in no particular order.
    pub fn all(&self) -> &[Resolver] {
        &self.all
    }

    /// Takes these too. On an error nothing has changed.
    pub(crate) fn add(&mut self, more: Vec<Resolver>, identity: &mut IdentityRules) -> Result<(), Vec<String>> {
        let all: Vec<Resolver> = self.all.iter().cloned().chain(more).collect();
        let mut problems = Vec::new();
        // A session's own connection is its client's: nothing can be asked on it later.
        let needs_account =
            self.account.is_none() && all.iter().any(|resolver| matches!(resolver.source, Source::Sql(_)));
        for resolver in &all {
            if resolver.on_change != OnChange::Keep && needs_account {
                problems.push(format!(
                    "resolver {:?}: on_change needs resolver_user, a role of the proxy's own to ask again as",
                    resolver.name
                ));
            }
        }
        let plan = Plan::new(all.clone(), &identity.variables);
        match plan {
            Ok(plan) if problems.is_empty() => {
                identity.resolved = Arc::clone(plan.outputs());
                self.plan = Arc::new(plan);
                self.all = all;
                Ok(())
            }
            Ok(_) => Err(problems),
            Err(more) => Err(problems.into_iter().chain(more).collect()),
        }
    }
}
