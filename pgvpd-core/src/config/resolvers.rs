//! Options of resolvers.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::pool::secret_text;
use super::reader::{Checked, Reader};
use super::values;
use super::{Config, ConfigError, Problem};
use crate::auth::Secret;
use crate::resolve::{Resolver, ResolverAccount, ResolverRules};
use crate::tenant::IdentityRules;

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
    let mut rules = ResolverRules::new(timeout, account, notify, cache_bytes);
    if let Err(problems) = rules.add(all, identity) {
        problems.into_iter().for_each(|message| reader.problem("resolvers", message));
    }
    rules
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
