//! What a resolver is, and the file that describes some. No I/O.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::code::CodeResolver;
use crate::tenant::VariableName;

/// Finds values of a tenant's context by others: who is a member of what, and may see what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resolver {
    /// Its name, in messages, notifications and metrics.
    pub name: String,
    /// What it asks.
    pub source: Source,
    /// The context variables whose values are `$1`, `$2` and so on.
    pub params: Vec<VariableName>,
    /// The variables that it gives, each with the column of the result that holds its value.
    pub inject: Vec<(VariableName, String)>,
    /// Without a result there is no session.
    pub required: bool,
    /// Resolvers that come before it, beside those whose variables are among its parameters.
    pub depends_on: Vec<String>,
    /// How long a result may be used again; zero for not at all.
    pub cache_ttl: Duration,
    /// Whether "no row" may be used again too.
    pub cache_negative: bool,
    /// What becomes of open sessions when the result has changed.
    pub on_change: OnChange,
}

/// What a resolver asks.
#[derive(Clone)]
pub enum Source {
    /// The database, by a query.
    Sql(String),
    /// A program's own code.
    Code(Arc<dyn CodeResolver>),
}

/// What becomes of open sessions when a result has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnChange {
    /// They keep what they have.
    #[default]
    Keep,
    /// Those of a pool go on with the new context, between two transactions; those of passthrough end.
    Refresh,
    /// They end, with 57P01.
    Terminate,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sql(_) => "Sql",
            Self::Code(_) => "Code",
        })
    }
}

// Two pieces of code are the same only if they are one.
impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sql(own), Self::Sql(other)) => own == other,
            (Self::Code(own), Self::Code(other)) => Arc::ptr_eq(own, other),
            _ => false,
        }
    }
}

impl Eq for Source {}

impl Hash for Source {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Sql(query) => query.hash(state),
            Self::Code(code) => Arc::as_ptr(code).cast::<()>().hash(state),
        }
    }
}

/// The longest time that a result may be used again: a year.
const MAX_TTL: f64 = 31_536_000.0;

/// A file of resolvers, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "resolver")]
    resolvers: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    query: String,
    #[serde(default)]
    params: Vec<String>,
    inject: BTreeMap<String, String>,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    depends_on: Vec<String>,
    #[serde(default)]
    cache_ttl: f64,
    #[serde(default)]
    cache_negative: bool,
    #[serde(default)]
    on_change: OnChange,
}

impl Entry {
    fn check(self, problems: &mut Vec<String>) -> Resolver {
        let Self { name, query, params, inject, required, depends_on, cache_ttl, cache_negative, on_change } = self;
        let mut problem = |message: String| problems.push(format!("resolver {name:?}: {message}"));
        let mut variable = |text: &str| match VariableName::new(text) {
            Ok(variable) => Some(variable),
            Err(message) => {
                problem(message);
                None
            }
        };
        let params = params.iter().filter_map(|text| variable(text)).collect();
        let inject = inject.into_iter().filter_map(|(text, column)| Some((variable(&text)?, column))).collect();
        if query.trim().is_empty() || query.contains('\0') {
            problem("query is empty, or has a NUL character".into());
        }
        if !(0.0..=MAX_TTL).contains(&cache_ttl) {
            problem(format!("cache_ttl = {cache_ttl} is not a number of seconds between 0 and a year"));
        }
        if cache_negative && cache_ttl == 0.0 {
            problem("cache_negative has no effect without cache_ttl; set it, or remove this".into());
        }
        let cache_ttl = Duration::try_from_secs_f64(cache_ttl).unwrap_or_default();
        let source = Source::Sql(query);
        Resolver { name, source, params, inject, required, depends_on, cache_ttl, cache_negative, on_change }
    }
}

impl Resolver {
    /// Reads `[[resolver]]` blocks, as a file that the option `resolvers` names has them.
    ///
    /// ```
    /// let text = r#"
    /// [[resolver]]
    /// name = "plan"
    /// query = "SELECT plan FROM plans WHERE tenant_id = $1"
    /// params = ["app.current_tenant_id"]
    /// inject = { "app.plan" = "plan" }
    /// "#;
    /// let resolvers = pgvpd_core::Resolver::from_toml(text).unwrap();
    /// assert_eq!(resolvers[0].name, "plan");
    /// ```
    ///
    /// # Errors
    /// All that is wrong, each naming its resolver or line.
    pub fn from_toml(text: &str) -> Result<Vec<Self>, Vec<String>> {
        let file: File = toml::from_str(text).map_err(|error| vec![error.to_string().trim_end().to_owned()])?;
        let mut problems = Vec::new();
        let resolvers = file.resolvers.into_iter().map(|entry| entry.check(&mut problems)).collect();
        if problems.is_empty() { Ok(resolvers) } else { Err(problems) }
    }

    /// What is wrong with it by itself, whatever else there is.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if !(1..=63).contains(&self.name.len()) || !self.name.chars().all(is_word) {
            problems.push("its name is not 1 to 63 letters, digits, _, - or .".to_owned());
        }
        if self.inject.is_empty() {
            problems.push("inject is empty: it would give nothing".to_owned());
        }
        if self.params.len() > MAX_PARAMS {
            problems.push(format!("it has more than {MAX_PARAMS} params"));
        }
        problems
    }
}

/// More context variables than there can be.
const MAX_PARAMS: usize = 100;
