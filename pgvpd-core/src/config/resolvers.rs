//! Options of resolvers.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::pool::secret_text;
use super::reader::{Checked, Reader};
use super::values;
use super::{Config, ConfigError, Problem};
use crate::auth::{Credentials, Secret, Secrets};
use crate::resolve::{OnChange, Plan, Resolver, Source};
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
    /// All resolvers, in no particular order.
    pub fn all(&self) -> &[Resolver] {
        &self.all
    }
}

/// Reads the options. `identity` is told of the variables that clients may not set.
pub(super) fn resolvers(reader: &Reader<'_>, identity: &mut IdentityRules) -> ResolverRules {
    let all = reader.settings.value("resolvers").map_or_else(Vec::new, |path| {
        read(Path::new(path)).unwrap_or_else(|problems| {
            problems.into_iter().for_each(|message| reader.problem("resolvers", message));
            Vec::new()
        })
    });
    let timeout = reader.read("resolver_timeout", values::seconds).unwrap_or(Duration::from_secs(5));
    let user = reader.read("resolver_user", values::role);
    let password = secret_text(reader, "resolver_password", "resolver_password_file", |text| {
        Secret::of(text).ok_or_else(|| "is empty".to_owned())
    });
    let pool_size = reader.read("resolver_pool_size", values::count).unwrap_or(4);
    let notify = reader.read("resolver_notify", values::boolean).unwrap_or(false);
    let cache_bytes = reader.read("resolver_cache_size", mebibytes).unwrap_or(64 << 20);
    for option in ["resolver_password", "resolver_password_file", "resolver_pool_size", "resolver_notify"] {
        let is_on = reader.settings.value(option).is_some() && (option != "resolver_notify" || notify);
        if is_on && reader.settings.value("resolver_user").is_none() && !reader.is_problem(option) {
            let message =
                "needs resolver_user, a role of the proxy's own to ask and to listen as; set it, or remove this";
            reader.problem(option, message.into());
        }
    }
    let account = user.map(|user| Arc::new(ResolverAccount { user, password, pool_size }));
    let mut rules = ResolverRules { all: Vec::new(), plan: Arc::default(), timeout, account, notify, cache_bytes };
    if let Err(problems) = rules.add(all, identity) {
        problems.into_iter().for_each(|message| reader.problem("resolvers", message));
    }
    rules
}

impl ResolverRules {
    /// Takes these too. On an error nothing has changed.
    fn add(&mut self, more: Vec<Resolver>, identity: &mut IdentityRules) -> Result<(), Vec<String>> {
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

impl Config {
    /// Takes resolvers of a program's own beside those of the file.
    ///
    /// # Errors
    /// [`ConfigError`] lists what is wrong with them, or with all together.
    pub fn with_resolvers(mut self, resolvers: Vec<Resolver>) -> Result<Self, ConfigError> {
        self.resolvers.add(resolvers, &mut self.identity).map_err(|problems| {
            let problem = |message| Problem { option: Some("resolvers".to_owned()), origin: None, message };
            ConfigError { problems: problems.into_iter().map(problem).collect() }
        })?;
        Ok(self)
    }
}

fn read(path: &Path) -> Result<Vec<Resolver>, Vec<String>> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| vec![format!("cannot read {shown}: {error}")])?;
    Resolver::from_toml(&text)
        .map_err(|problems| problems.into_iter().map(|problem| format!("{shown}: {problem}")).collect())
}

fn mebibytes(text: &str) -> Checked<u64> {
    match text.parse::<u32>() {
        Ok(number) if number > 0 => Ok(u64::from(number) << 20),
        _ => Err(format!("{text:?} is not a number of MiB; give 1 or more")),
    }
}

#[cfg(test)]
#[path = "resolvers_tests.rs"]
mod tests;
