//! Resolvers of a program's own code, beside those that are queries.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use super::definition::{OnChange, Resolver, Source};
use crate::tenant::VariableName;

/// Why a resolver of code has failed. The log gets it; the client learns the resolver's name.
pub type CodeError = Box<dyn std::error::Error + Send + Sync>;

/// What a resolver of code gives: the values of its variables in order, each empty where it is `None`; or nothing, as a query
/// that finds no row.
pub type CodeValues = Option<Vec<Option<String>>>;

/// A resolver that is code. [`Resolver::from_fn`] makes one of a closure.
pub trait CodeResolver: Send + Sync {
    /// Finds the values for these parameters, none of which is empty. `database` is the one that the session is for.
    fn resolve<'a>(
        &'a self,
        database: &'a str,
        params: &'a [String],
    ) -> Pin<Box<dyn Future<Output = Result<CodeValues, CodeError>> + Send + 'a>>;
}

struct Closure<F>(F);

impl<F, R> CodeResolver for Closure<F>
where
    F: Fn(String, Vec<String>) -> R + Send + Sync,
    R: Future<Output = Result<CodeValues, CodeError>> + Send + 'static,
{
    fn resolve<'a>(
        &'a self,
        database: &'a str,
        params: &'a [String],
    ) -> Pin<Box<dyn Future<Output = Result<CodeValues, CodeError>> + Send + 'a>> {
        Box::pin((self.0)(database.to_owned(), params.to_owned()))
    }
}

impl Resolver {
    /// A resolver that asks the database.
    ///
    /// # Errors
    /// Says which name is not one of a variable.
    pub fn from_query(name: &str, query: &str, params: &[&str], inject: &[(&str, &str)]) -> Result<Self, String> {
        Self::new(name, Source::Sql(query.to_owned()), params, inject)
    }

    /// A resolver that is a closure over the session's database and the values of `params`; `inject` are the variables that it
    /// gives, in order.
    ///
    /// ```
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use pgvpd_core::{Proxy, Resolver};
    ///
    /// let plan = Resolver::from_fn("plan", &["app.current_tenant_id"], &["app.plan"], |_database, params| async move {
    ///     let plan = if params.first().is_some_and(|tenant| tenant == "acme") { "gold" } else { "free" };
    ///     Ok(Some(vec![Some(plan.to_owned())]))
    /// })?;
    /// let proxy = Proxy::builder().port(0).resolver(plan).start().await?;
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    ///
    /// # Errors
    /// Says which name is not one of a variable.
    pub fn from_fn<F, R>(name: &str, params: &[&str], inject: &[&str], closure: F) -> Result<Self, String>
    where
        F: Fn(String, Vec<String>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<CodeValues, CodeError>> + Send + 'static,
    {
        let inject: Vec<(&str, &str)> = inject.iter().map(|variable| (*variable, "")).collect();
        Self::new(name, Source::Code(std::sync::Arc::new(Closure(closure))), params, &inject)
    }

    /// A resolver of any source.
    ///
    /// # Errors
    /// Says which name is not one of a variable.
    pub fn new(name: &str, source: Source, params: &[&str], inject: &[(&str, &str)]) -> Result<Self, String> {
        let params = params.iter().map(|variable| VariableName::new(variable)).collect::<Result<_, _>>()?;
        let pair = |(variable, column): &(&str, &str)| Ok((VariableName::new(variable)?, (*column).to_owned()));
        let inject = inject.iter().map(pair).collect::<Result<_, String>>()?;
        Ok(Self {
            name: name.to_owned(),
            source,
            params,
            inject,
            required: false,
            depends_on: Vec::new(),
            cache_ttl: Duration::ZERO,
            cache_negative: false,
            on_change: OnChange::Keep,
        })
    }
}

impl fmt::Debug for dyn CodeResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeResolver")
    }
}
