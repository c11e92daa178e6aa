//! What a check has found, for a program and for a person.

use std::fmt;

/// What was tried on a table, and what came of it.
///
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use pgvpd_core::testing::TestProxy;
///
/// // Somebody granted everything, and with it TRUNCATE.
/// let schema = "CREATE TABLE orders (tenant_id text); SELECT pgvpd_protect('orders'); GRANT ALL ON orders TO app_user";
/// let proxy = TestProxy::builder().schema(schema).start().await?;
/// let report = proxy.isolation_of("orders").run().await?;
/// assert!(!report.holds());
/// let leak = report.leaks().next().ok_or("no leak")?;
/// assert_eq!(leak.what, "role app_user has the right TRUNCATE");
/// println!("{report}");
/// # Ok(())
/// # }
/// # tokio::runtime::Runtime::new()?.block_on(example())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IsolationReport {
    /// The table, with its schema.
    pub table: String,
    /// The role that the tenants' sessions have.
    pub role: String,
    /// Everything that was tried, in order.
    pub attempts: Vec<Attempt>,
}

/// One thing that a session tried to do with rows that are not its own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// Who tried what.
    pub what: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was stopped; says by what.
    Held(String),
    /// It went through; says how far, and what to change.
    Leaked(String),
    /// It could not be made; says why.
    NotTried(String),
}

impl IsolationReport {
    /// True if nothing leaked.
    pub fn holds(&self) -> bool {
        self.leaks().next().is_none()
    }

    /// The attempts that went through.
    pub fn leaks(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|attempt| matches!(attempt.outcome, Outcome::Leaked(_)))
    }
}

impl fmt::Display for IsolationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, role, attempts } = self;
        match self.leaks().count() {
            0 => write!(f, "{table} is isolated: {} attempts as role {role}", attempts.len())?,
            leaks => write!(f, "{table} leaks: {leaks} of {} attempts as role {role} went through", attempts.len())?,
        }
        attempts.iter().try_for_each(|attempt| write!(f, "\n  {attempt}"))
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mark, detail) = match &self.outcome {
            Outcome::Held(detail) => ("held", detail),
            Outcome::Leaked(detail) => ("LEAK", detail),
            Outcome::NotTried(detail) => ("-   ", detail),
        };
        write!(f, "{mark}  {}: {detail}", self.what)
    }
}
