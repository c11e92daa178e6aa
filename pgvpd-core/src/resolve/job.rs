//! What is to be worked out for one login, and as whom.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::plan::Plan;
use super::rules::{ResolverAccount, ResolverRules};
use super::sites::Access;
use crate::auth::Credentials;
use crate::config::Config;
use crate::context::ContextSigning;
use crate::context::Scope;
use crate::net::UpstreamAddress;
use crate::shared::Shared;
use crate::tenant::Identity;

/// How the context of one login is worked out. It is kept as long as its session, where the session is told of changes.
#[derive(Clone)]
pub(crate) struct Job {
    pub(super) plan: Arc<Plan>,
    pub(super) database: Arc<str>,
    pub(super) identity: Identity,
    pub(super) upstream: UpstreamAddress,
    signing: Option<ContextSigning>,
    pub(super) limit: Duration,
    /// `None` where the session's own connection is asked.
    pub(super) access: Option<Access>,
    pub(super) notify: bool,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("database", &self.database).finish_non_exhaustive()
    }
}

impl Job {
    /// For a login of this identity to this database; `None` where there are no resolvers.
    pub(crate) fn new(identity: &Identity, database: &str, config: &Config, shared: &Shared) -> Option<Self> {
        let access = config.resolvers.account.as_ref().map(|account| {
            let credentials = account.credentials(&shared.secrets, config);
            (Arc::clone(account), credentials)
        });
        Self::with(identity, database, config, access)
    }

    pub(super) fn with(
        identity: &Identity,
        database: &str,
        config: &Config,
        access: Option<(Arc<ResolverAccount>, Credentials)>,
    ) -> Option<Self> {
        let ResolverRules { plan, timeout, notify, .. } = &config.resolvers;
        if plan.levels().is_empty() {
            return None;
        }
        let database: Arc<str> = database.into();
        let access = access.map(|(account, credentials)| Access {
            upstream: config.upstream.clone(),
            database: Arc::clone(&database),
            account,
            credentials,
            allow_cleartext: config.allow_cleartext,
            login_timeout: config.handshake_timeout,
            limit: *timeout,
        });
        Some(Self {
            plan: Arc::clone(plan),
            database,
            identity: identity.clone(),
            upstream: config.upstream.clone(),
            signing: config.signing.clone(),
            limit: *timeout,
            access,
            notify: *notify,
        })
    }

    /// True where the session's own connection is asked.
    pub(crate) fn needs_own_site(&self) -> bool {
        self.access.is_none()
    }

    /// As whom queries run.
    pub(super) fn role(&self) -> &str {
        self.access.as_ref().map_or(self.identity.role(), |access| &access.account.user)
    }

    pub(super) fn scope(&self) -> Scope {
        Scope::new(&self.identity, self.signing.as_ref(), &self.database, self.role())
    }
}
