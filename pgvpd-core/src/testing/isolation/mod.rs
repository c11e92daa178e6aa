//! Does row-level security hold on a table of the application's own schema?
//!
//! The check logs in through the proxy as two tenants and has each try to read and change what belongs to the other, in
//! transactions that are rolled back. It refuses to run where it would prove nothing.

mod attempts;
mod report;
mod rows;
mod session;

use std::fmt;

use self::rows::AddedRows;
use self::session::{Session, Target};
use super::fresh_tenant;
use crate::tenant::TenantFormat;

pub use self::report::{Attempt, IsolationReport, Outcome};

/// A table to be tried, and how to log in. [`IsolationCheck::run`] does it.
///
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use pgvpd_core::testing::{IsolationCheck, TestProxy};
///
/// let proxy = TestProxy::start().await?;
/// proxy.execute("CREATE TABLE notes (tenant_id text, body text); SELECT pgvpd_protect('notes')").await?;
/// proxy.execute("GRANT SELECT, INSERT ON notes TO app_user").await?;
/// let report = IsolationCheck::of("notes")
///     .tenant("acme", proxy.url("acme"))
///     .tenant("globex", proxy.url("globex"))
///     .admin(proxy.admin_url())
///     .run()
///     .await?;
/// assert!(report.holds(), "{report}");
/// # proxy.stop().await?;
/// # Ok(())
/// # }
/// # tokio::runtime::Runtime::new()?.block_on(example())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct IsolationCheck {
    table: String,
    column: String,
    tenants: Vec<Tenant>,
    format: TenantFormat,
    login: Option<Box<Login>>,
    without_context: Option<String>,
    admin: Option<String>,
}

/// Makes the URL of a tenant.
type Login = dyn Fn(&str) -> String + Send + Sync;

impl fmt::Debug for IsolationCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // URLs hold passwords.
        let Self { table, column, .. } = self;
        f.debug_struct("IsolationCheck").field("table", table).field("column", column).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Tenant {
    name: String,
    url: String,
}

/// Why a check could not be made, or would have proved nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IsolationError {
    /// The session's role, or one that it can become, is a superuser.
    #[error(
        "role {role} is a superuser, whom row-level security does not bind, so the check would prove nothing; log in as \
         the application's role"
    )]
    Superuser {
        /// The role.
        role: String,
    },
    /// The session's role, or one that it can become, has BYPASSRLS.
    #[error(
        "role {role} has BYPASSRLS, so row-level security does not bind it and the check would prove nothing; log in as \
         the application's role, or ALTER ROLE {role} NOBYPASSRLS"
    )]
    BypassRls {
        /// The role.
        role: String,
    },
    /// The session's role owns the table, or can become the owner, who may switch its protection off.
    #[error(
        "role {role} owns {table}, or is a member of its owner, who can switch row-level security off, so the check would \
         prove nothing; let another role own the tables than the one that the application logs in as"
    )]
    Owner {
        /// The session's role.
        role: String,
        /// The table.
        table: String,
    },
    /// The session sees no table of that name.
    #[error("{0:?} is no table that the tenants' role can see; check the name, the schema and the search_path")]
    NoTable(String),
    /// The table has no such column.
    #[error("table {table} has no column {column:?}; name the one that holds the tenant")]
    NoColumn {
        /// The table.
        table: String,
        /// The column that was asked for.
        column: String,
    },
    /// The role may not read the table at all.
    #[error("role {role} may not SELECT from {table}, so there is nothing to try; GRANT it what the application has")]
    NoRight {
        /// The session's role.
        role: String,
        /// The table.
        table: String,
    },
    /// There have to be two tenants, with different names.
    #[error(
        "the check needs two tenants with different names, and got {0}; give two, or a way to log in and an administrator"
    )]
    Tenants(String),
    /// A tenant has no row in the table, and there is no administrator to add one.
    #[error("tenant {tenant} has no row in {table}, and without one there is nothing to try; insert a row first")]
    NoRows {
        /// The table.
        table: String,
        /// The tenant.
        tenant: String,
    },
    /// A tenant does not see the row that carries its name.
    #[error(
        "tenant {tenant} does not see its own row in {table}; check that the policy compares this column with the context \
         of the session"
    )]
    OwnRowHidden {
        /// The table.
        table: String,
        /// The tenant.
        tenant: String,
    },
    /// No row could be made up.
    #[error("cannot add a row for tenant {tenant} to {table}: {reason}; insert one first, and name its tenant")]
    Row {
        /// The table.
        table: String,
        /// The tenant.
        tenant: String,
        /// What is in the way.
        reason: String,
    },
    /// A connection could not be made, or a statement that must not fail failed.
    #[error("{doing}: {}", super::causes(source))]
    Sql {
        /// What was being done.
        doing: String,
        /// What the client library reports.
        source: tokio_postgres::Error,
    },
}

impl IsolationError {
    fn sql(doing: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Sql { doing, source }
    }
}

impl IsolationCheck {
    /// A table, by a name as SQL has it: `orders`, `sales.orders`, `"Order"`.
    pub fn of(table: impl Into<String>) -> Self {
        Self {
            table: table.into(),
            column: "tenant_id".into(),
            tenants: Vec::new(),
            format: TenantFormat::Text,
            login: None,
            without_context: None,
            admin: None,
        }
    }

    /// The column that holds the tenant; `tenant_id` without this.
    #[must_use]
    pub fn column(mut self, column: impl Into<String>) -> Self {
        self.column = column.into();
        self
    }

    /// One of the two tenants: its value in the column, and a URL that logs in as it through the proxy. To be called
    /// twice, or not at all where [`login`](Self::login) is given.
    #[must_use]
    pub fn tenant(mut self, name: impl Into<String>, url: impl Into<String>) -> Self {
        self.tenants.push(Tenant { name: name.into(), url: url.into() });
        self
    }

    /// The form that the proxy asks of a tenant, its option `tenant_format`; without this, names fit the column's type only.
    #[must_use]
    pub fn format(mut self, format: TenantFormat) -> Self {
        self.format = format;
        self
    }

    /// Makes the URL of any tenant. Where no tenant is named, the check takes two new names that fit the column's type,
    /// and has the administrator add their rows.
    #[must_use]
    pub fn login(mut self, url_of: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        self.login = Some(Box::new(url_of));
        self
    }

    /// A URL past the proxy as the application's role: a session without context, which must see nothing.
    #[must_use]
    pub fn without_context(mut self, url: impl Into<String>) -> Self {
        self.without_context = Some(url.into());
        self
    }

    /// A URL of the table's owner or a superuser, past the proxy: adds a row where a tenant has none, and removes it
    /// again.
    #[must_use]
    pub fn admin(mut self, url: impl Into<String>) -> Self {
        self.admin = Some(url.into());
        self
    }

    /// Makes the attempts. Nothing that they do stays; dropping this half-way may leave a row that was added.
    ///
    /// # Errors
    /// [`IsolationError`] where the check cannot be made or would prove nothing. That something leaks is no error but
    /// in the report.
    pub async fn run(self) -> Result<IsolationReport, IsolationError> {
        let admin = match &self.admin {
            Some(url) => Some(Session::connect("the administrator", url).await?),
            None => None,
        };
        let [first, second] = self.two_tenants(admin.as_ref()).await?;
        let mut first = Session::as_tenant(&first.name, &first.url).await?;
        let mut second = Session::as_tenant(&second.name, &second.url).await?;
        let target = Target::find(&first, &self.table, &self.column).await?;
        target.refuse_vacuous(&first).await?;
        let mut without_context = match &self.without_context {
            Some(url) => Some(Session::connect("a session without context", url).await?),
            None => None,
        };

        let mut added = AddedRows::default();
        let tried = async {
            for tenant in [&first, &second] {
                added.ensure(&target, tenant, admin.as_ref()).await?;
            }
            attempts::try_all(&target, &mut first, &mut second, without_context.as_mut()).await
        }
        .await;
        let removed = added.remove(&target, admin.as_ref()).await;
        let attempts = tried?;
        removed?;
        Ok(IsolationReport { table: target.table, role: target.role, attempts })
    }

    async fn two_tenants(&self, admin: Option<&Session>) -> Result<[Tenant; 2], IsolationError> {
        if let [first, second] = &*self.tenants
            && first.name != second.name
        {
            return Ok([first, second].map(|tenant| Tenant { name: tenant.name.clone(), url: tenant.url.clone() }));
        }
        let (Some(login), Some(admin), []) = (&self.login, admin, &*self.tenants) else {
            let names: Vec<_> = self.tenants.iter().map(|tenant| tenant.name.as_str()).collect();
            let names = if names.is_empty() { "none".into() } else { names.join(" and ") };
            return Err(IsolationError::Tenants(names));
        };
        let target = Target::find(admin, &self.table, &self.column).await?;
        let format = match target.column_type.as_str() {
            "uuid" => TenantFormat::Uuid,
            "smallint" | "integer" | "bigint" => TenantFormat::Integer,
            _ => self.format,
        };
        Ok([(); 2].map(|()| {
            let name = fresh_tenant(format);
            Tenant { url: login(&name), name }
        }))
    }
}
