//! Whether a role of the application can log in with the password that examples have.

use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::error::SqlState;

use super::finding::{Finding, Severity};
use super::rules;
use crate::database::{Database, Target};

const DEFAULT: &str = "changeme";

/// Nobody's password, to see whether the server asks for one.
const NONSENSE: &str = "pgvpd-check-is-nobodys-password";

/// How long a login may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Tries the default password, which the server's log shows as a failed login where all is well.
pub(super) async fn finding(target: &Target, database: &Database, role: &str) -> Option<Finding> {
    if !may_log_in(database, role).await {
        return None;
    }
    match attempt(target, database, role, DEFAULT).await {
        Attempt::Refused => None,
        Attempt::Accepted => Some(match attempt(target, database, role, NONSENSE).await {
            Attempt::Accepted => {
                let finding = "this role can log in from here, and the server asks it for no password";
                let fix = "-- have pg_hba.conf ask for one: scram-sha-256";
                Finding::new(rules::TRUST, Severity::Warning, format!("role {role}"), finding, fix)
            }
            _ => {
                let finding = format!("whoever reaches the server logs in as this role with the password {DEFAULT}");
                let fix = format!("-- in psql: \\password {role}");
                Finding::new(rules::DEFAULT_PASSWORD, Severity::Critical, format!("role {role}"), finding, fix)
            }
        }),
        Attempt::Unknown(reason) => {
            let finding = format!("whether the default password works could not be tried from here: {reason}");
            Some(Finding::new(rules::UNSEEN, Severity::Info, format!("role {role}"), finding, ""))
        }
    }
}

/// False also for a role that only the audit's transaction had.
async fn may_log_in(database: &Database, role: &str) -> bool {
    let query = "SELECT rolcanlogin FROM pg_catalog.pg_roles WHERE rolname = $1";
    matches!(database.client().query_opt(query, &[&role]).await, Ok(Some(row)) if row.get(0))
}

enum Attempt {
    Accepted,
    /// The password is another one.
    Refused,
    Unknown(String),
}

async fn attempt(target: &Target, database: &Database, role: &str, password: &str) -> Attempt {
    let mut config: Config = target.config().clone();
    config.user(role).password(password).dbname(&database.name).options("");
    let error = match tokio::time::timeout(LIMIT, config.connect(target.tls())).await {
        Ok(Ok(_)) => return Attempt::Accepted,
        Ok(Err(error)) => error,
        Err(_) => return Attempt::Unknown("the server does not answer".into()),
    };
    match error.as_db_error() {
        Some(refusal) if *refusal.code() == SqlState::INVALID_PASSWORD => Attempt::Refused,
        // After the password was accepted.
        Some(refusal) if accepts(refusal.code()) => Attempt::Accepted,
        Some(refusal) => Attempt::Unknown(refusal.message().to_owned()),
        None => Attempt::Unknown(error.to_string()),
    }
}

/// Refusals that come after the proof: no right to connect to the database, or no place left in it.
fn accepts(code: &SqlState) -> bool {
    [SqlState::INSUFFICIENT_PRIVILEGE, SqlState::INVALID_CATALOG_NAME].contains(code)
}
