//! A private PostgreSQL's life, and the core's check of a table.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use napi::bindgen_prelude::PromiseRaw;
use napi::{Either, Env};
use napi_derive::napi;
use pgvpd_core::sql::{HELPERS, SETUP};
use pgvpd_core::tenant::TenantFormat;
use pgvpd_core::testing::{self, IsolationCheck, Outcome, Postgres, PostgresError};
use tokio_postgres::NoTls;

use crate::{Failure, either};

/// A private server. To collect it as garbage ends it, so the wrapper keeps it until it is stopped.
#[napi]
pub struct NativePostgres {
    /// None once it is stopped.
    server: Mutex<Option<Arc<Postgres>>>,
    #[napi(readonly)]
    pub port: u16,
    #[napi(readonly)]
    pub version: String,
    #[napi(readonly)]
    pub password: String,
    #[napi(readonly)]
    pub app_user: String,
    #[napi(readonly)]
    pub app_password: String,
}

/// Makes a cluster and starts its server.
#[napi]
pub async fn start_postgres(
    bin_dir: Option<String>,
    settings: BTreeMap<String, String>,
) -> Either<NativePostgres, Failure> {
    let builder = settings.into_iter().fold(Postgres::builder(), |builder, (name, value)| builder.setting(name, value));
    let builder = match bin_dir {
        Some(dir) => builder.bin_dir(dir),
        None => builder,
    };
    either(builder.start().await.map_err(Failure::from).map(|server| NativePostgres {
        port: server.port(),
        version: server.version().1.to_owned(),
        password: server.password().to_owned(),
        app_user: server.app_user().to_owned(),
        app_password: server.app_password().to_owned(),
        server: Mutex::new(Some(Arc::new(server))),
    }))
}

// None of these is an `async fn`: that would borrow what the end of a worker thread frees.
#[napi]
impl NativePostgres {
    #[napi(ts_return_type = "Promise<Failure | null>")]
    pub fn execute<'env>(&self, env: &'env Env, database: String, sql: String) -> Done<'env> {
        let server = self.server();
        done(env, async move { Ok(server?.execute(&database, &sql).await?) })
    }

    #[napi(ts_return_type = "Promise<Failure | null>")]
    pub fn create_app_database<'env>(&self, env: &'env Env, name: String) -> Done<'env> {
        let server = self.server();
        done(env, async move { Ok(server?.create_app_database(&name).await?) })
    }

    /// Ends the server and removes its data; nothing if that was done before.
    #[napi(ts_return_type = "Promise<Failure | null>")]
    pub fn stop<'env>(&self, env: &'env Env) -> Done<'env> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        done(env, async move {
            match server {
                Some(server) => Ok(server.stop().await?),
                None => Ok(()),
            }
        })
    }

    fn server(&self) -> Result<Arc<Postgres>, Failure> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).clone();
        server.ok_or_else(|| Failure::new("ERR_PGVPD_POSTGRES", "this PostgreSQL server has been stopped"))
    }
}

/// A promise of nothing, or of what failed.
type Done<'env> = napi::Result<PromiseRaw<'env, Option<Failure>>>;

fn done(env: &Env, work: impl Future<Output = Result<(), Failure>> + Send + 'static) -> Done<'_> {
    env.spawn_future(async move { Ok(work.await.err()) })
}

/// What makes a database one of pgvpd's.
#[napi]
pub fn setup_sql() -> Vec<String> {
    [SETUP, HELPERS].map(str::to_owned).into()
}

/// Runs statements on a server that is there already.
#[napi]
pub async fn execute_at(url: String, sql: String) -> Option<Failure> {
    let run = async {
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        tokio::spawn(connection);
        client.batch_execute(&sql).await
    };
    let error = run.await.err()?;
    // The library's own message says only "db error".
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Some(Failure::new("ERR_PGVPD_POSTGRES", format_args!("{error}{cause}")))
}

impl From<PostgresError> for Failure {
    fn from(error: PostgresError) -> Self {
        Self::new("ERR_PGVPD_POSTGRES", error)
    }
}

/// What is checked, and how to log in.
#[napi(object)]
pub struct IsolationOptions {
    pub table: String,
    pub column: Option<String>,
    /// Name and URL of the two tenants; where there are none, two new ones by `login`.
    pub tenants: Vec<(String, String)>,
    /// A tenant's URL, in which `{tenant}` stands for its name.
    pub login: Option<String>,
    pub without_context: Option<String>,
    pub admin: Option<String>,
}

/// What a check has found.
#[napi(object)]
pub struct IsolationReport {
    /// The table, with its schema.
    pub table: String,
    /// The role that the tenants' sessions have.
    pub role: String,
    /// Whether nothing leaked.
    pub holds: bool,
    /// Everything that was tried, in order.
    pub attempts: Vec<Attempt>,
    /// All of it for people, in several lines.
    pub text: String,
}

/// One thing that a session tried to do with rows that are not its own.
#[napi(object)]
pub struct Attempt {
    /// Who tried what.
    pub what: String,
    /// What came of it.
    #[napi(ts_type = "'held' | 'leaked' | 'not tried'")]
    pub outcome: String,
    /// By what it was stopped, how far it went, or why it could not be made.
    pub detail: String,
}

/// Tries to read and change one tenant's rows as another.
#[napi]
pub async fn check_isolation(options: IsolationOptions) -> Either<IsolationReport, Failure> {
    let IsolationOptions { table, column, tenants, login, without_context, admin } = options;
    let mut check = IsolationCheck::of(table);
    check = column.into_iter().fold(check, IsolationCheck::column);
    check = tenants.into_iter().fold(check, |check, (name, url)| check.tenant(name, url));
    check = without_context.into_iter().fold(check, IsolationCheck::without_context);
    check = admin.into_iter().fold(check, IsolationCheck::admin);
    if let Some(login) = login {
        // New names are letters, digits, underscores and hyphens: nothing to encode.
        check = check.login(move |tenant| login.replace("{tenant}", tenant));
    }
    let report = check.run().await.map_err(|error| Failure::new("ERR_PGVPD_ISOLATION", error));
    either(report.map(|report| IsolationReport {
        holds: report.holds(),
        text: report.to_string(),
        table: report.table,
        role: report.role,
        attempts: report.attempts.into_iter().map(Attempt::from).collect(),
    }))
}

impl From<testing::Attempt> for Attempt {
    fn from(testing::Attempt { what, outcome, .. }: testing::Attempt) -> Self {
        let (outcome, detail) = match outcome {
            Outcome::Held(detail) => ("held", detail),
            Outcome::Leaked(detail) => ("leaked", detail),
            Outcome::NotTried(detail) => ("not tried", detail),
        };
        Self { what, outcome: outcome.to_owned(), detail }
    }
}

/// The name of a tenant that nobody else uses, in the form that `tenant_format` asks for.
#[napi]
pub fn fresh_tenant(format: String) -> String {
    testing::fresh_tenant(match format.as_str() {
        "uuid" => TenantFormat::Uuid,
        "integer" => TenantFormat::Integer,
        _ => TenantFormat::Text,
    })
}
