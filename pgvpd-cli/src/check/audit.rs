//! `pgvpd_audit()`, as installed in the database, or else tried out in a transaction that is rolled back.

use anyhow::{Context, anyhow};
use pgvpd_core::sql::{AUDIT, SETUP};
use tokio_postgres::Transaction;

use super::finding::{Finding, Severity};
use super::{rules, unseen};
use crate::database::{Database, explained};
use crate::escape::visible;
use crate::exit::Exit;

/// Where the audit that ran came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The database.
    Installed,
    /// This program.
    Program,
}

/// What the audit says.
#[derive(Debug)]
pub(super) struct Audit {
    pub(super) source: Source,
    pub(super) server_version: String,
    pub(super) findings: Vec<Finding>,
    /// Those of the roles that exist.
    pub(super) app_roles: Vec<String>,
}

/// Runs the audit for these roles and columns.
///
/// # Errors
/// [`Exit::Usage`] if no role exists, [`Exit::Start`] where the audit cannot run.
pub(super) async fn run(database: &mut Database, roles: &[String], columns: &[String]) -> Result<Audit, Exit> {
    let user = database.user.clone();
    // Dropping the transaction rolls it back, and nothing here commits it.
    let transaction = database.client_mut().transaction().await.map_err(|error| Exit::Start(explained(&error)))?;
    let state = State::look(&transaction).await.map_err(Exit::Start)?;
    state.trusted(&transaction, &user, roles).await.map_err(Exit::Start)?;
    let mut findings = state.prepare(&transaction).await.map_err(Exit::Start)?;

    let unknown = unknown_roles(&transaction, roles).await.map_err(Exit::Start)?;
    let known: Vec<String> = roles.iter().filter(|role| !unknown.contains(role)).cloned().collect();
    if known.is_empty() {
        let names = unknown.iter().map(|name| visible(name)).collect::<Vec<_>>().join(", ");
        return Err(Exit::Usage(anyhow!(
            "--app-role: the database has no role {names}; name one that the application logs in as"
        )));
    }
    findings.extend(unknown.into_iter().map(|role| {
        let finding = "this role does not exist, so that nothing was found about it";
        Finding::new(rules::UNKNOWN_ROLE, Severity::High, role, finding, "-- correct --app-role, or leave it out")
    }));
    for column in unknown_columns(&transaction, columns).await.map_err(Exit::Start)? {
        let finding = "no table has this column, so that no table counts as a tenant's by it";
        let fix = "-- name the column that holds the tenant with --tenant-column";
        findings.push(Finding::new(rules::UNKNOWN_COLUMN, Severity::Warning, column, finding, fix));
    }
    findings.extend(audited(&transaction, &known, columns).await.map_err(|error| unseen(error.into()))?);
    let source = if state.runs_as_installed() { Source::Installed } else { Source::Program };
    Ok(Audit { source, server_version: state.server_version, findings, app_roles: known })
}

/// What the database has.
struct State {
    server_version: String,
    read_only: bool,
    standby: bool,
    has_setup: bool,
    has_audit: bool,
}

impl State {
    async fn look(transaction: &Transaction<'_>) -> anyhow::Result<Self> {
        // Bounded, for whatever else goes on in the database comes first.
        let settings = "SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL standard_conforming_strings = on;
                        SET LOCAL lock_timeout = '5s'; SET LOCAL statement_timeout = '10min'";
        transaction.batch_execute(settings).await.map_err(|error| explained(&error))?;
        let query = "SELECT current_setting('server_version'), current_setting('transaction_read_only') = 'on', pg_is_in_recovery(),
                            to_regprocedure('pgvpd.parse_condition(text)') IS NOT NULL AND to_regprocedure('pgvpd.check_owners()') IS NOT NULL,
                            to_regprocedure('public.pgvpd_audit(text[], text[])') IS NOT NULL";
        let row = transaction.query_one(query, &[]).await.map_err(|error| explained(&error))?;
        Ok(Self {
            server_version: row.get(0),
            read_only: row.get(1),
            standby: row.get(2),
            has_setup: row.get(3),
            has_audit: row.get(4),
        })
    }

    fn runs_as_installed(&self) -> bool {
        self.has_setup && self.has_audit
    }

    /// The audit runs with the rights of whoever calls it, often a superuser's. So that this is no way to get them, its functions
    /// have to be those of somebody who has them anyway: not everybody who may create a function in schema public.
    async fn trusted(&self, transaction: &Transaction<'_>, user: &str, roles: &[String]) -> anyhow::Result<()> {
        let query = "SELECT i.object, r.rolname::text FROM (
                SELECT 'schema pgvpd', nspowner FROM pg_namespace WHERE nspname = 'pgvpd' UNION ALL
                SELECT 'function ' || oid::regprocedure, proowner FROM pg_proc WHERE pronamespace = to_regnamespace('pgvpd')
                    OR oid = to_regprocedure('public.pgvpd_audit(text[], text[])')
            ) i (object, owner) JOIN pg_roles r ON r.oid = i.owner
            WHERE NOT r.rolsuper AND r.rolname <> current_user AND (
                (r.rolname <> 'pgvpd_owner' AND r.oid <> (SELECT datdba FROM pg_database WHERE datname = current_database()))
                OR EXISTS (SELECT FROM pg_roles a WHERE a.rolname = ANY ($1) AND pg_has_role(a.oid, r.oid, 'MEMBER')))
            ORDER BY i.object LIMIT 1";
        match transaction.query_opt(query, &[&roles]).await.map_err(|error| explained(&error))? {
            None => Ok(()),
            Some(row) => {
                let (object, owner) = (visible(row.get(0)), visible(row.get(1)));
                Err(anyhow!(
                    "{object} belongs to role {owner}, which is neither a superuser nor the database's owner, or which the application \
                     can act as. To run it as {} could give {owner} the same rights: give it another owner, or, if it is to be \
                     trusted, connect as {owner}",
                    visible(user)
                ))
            }
        }
    }

    /// Makes the audit's functions where they are not installed, until the transaction ends.
    async fn prepare(&self, transaction: &Transaction<'_>) -> anyhow::Result<Vec<Finding>> {
        if self.runs_as_installed() {
            transaction
                .batch_execute("SET LOCAL transaction_read_only = on")
                .await
                .map_err(|error| explained(&error))?;
            return Ok(Vec::new());
        }
        let (files, command) = if self.has_setup {
            ("sql/audit.sql", "psql -v ON_ERROR_STOP=1 -f sql/audit.sql")
        } else {
            ("pgvpd", "pgvpd init")
        };
        if self.read_only {
            let place =
                if self.standby { "this is a standby" } else { "default_transaction_read_only is on for this session" };
            return Err(anyhow!(
                "{files} is not installed in this database, and cannot be tried out where nothing may be written: {place}. \
                 Install it on the primary ({command}); it can be read here then"
            ));
        }
        let mut findings = Vec::new();
        for (name, file, is_there) in [("sql/setup.sql", SETUP, self.has_setup), ("sql/audit.sql", AUDIT, false)] {
            if is_there {
                continue;
            }
            let run = transaction.batch_execute(body(file)?).await.map_err(|error| explained(&error));
            run.with_context(|| {
                format!("{name} is not installed in this database, and to try it out in a transaction fails; install it ({command}). It says")
            })?;
            if name == "sql/setup.sql" {
                let finding = "pgvpd is not installed here; the other findings are what would be left after it";
                findings.push(Finding::new(
                    rules::NOT_INSTALLED,
                    Severity::Critical,
                    "database",
                    finding,
                    "-- pgvpd init",
                ));
            }
        }
        Ok(findings)
    }
}

/// A file without the transaction that it is in, so that it is part of ours and ends with it.
fn body(file: &str) -> anyhow::Result<&str> {
    let inside = file.split_once("\nBEGIN ISOLATION LEVEL READ COMMITTED;\n").map(|(_, inside)| inside);
    let inside = inside.and_then(|inside| inside.trim_end().strip_suffix("\nCOMMIT;"));
    inside.filter(|inside| !inside.contains("\nCOMMIT")).context("the SQL of this program has no transaction around it")
}

async fn unknown_roles(transaction: &Transaction<'_>, roles: &[String]) -> anyhow::Result<Vec<String>> {
    let query = "SELECT DISTINCT r FROM unnest($1::text[]) r WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) ORDER BY r";
    let rows = transaction.query(query, &[&roles]).await.map_err(|error| explained(&error))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn unknown_columns(transaction: &Transaction<'_>, columns: &[String]) -> anyhow::Result<Vec<String>> {
    let query = "SELECT DISTINCT t FROM unnest($1::text[]) t WHERE NOT EXISTS (
            SELECT FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE a.attname = t AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'f')
              AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgvpd')) ORDER BY t";
    let rows = transaction.query(query, &[&columns]).await.map_err(|error| explained(&error))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn audited(transaction: &Transaction<'_>, roles: &[String], columns: &[String]) -> anyhow::Result<Vec<Finding>> {
    let query = "SELECT id, severity, object, finding, coalesce(fix, '') FROM public.pgvpd_audit($1, $2)";
    let rows = transaction.query(query, &[&roles, &columns]).await.map_err(|error| {
        explained(&error).context(
            "the audit cannot run; connect as a superuser, or as the role that installed pgvpd. PostgreSQL says",
        )
    })?;
    let finding = |row: &tokio_postgres::Row| {
        let severity: &str = row.get(1);
        // One of a later release is better taken too seriously.
        let severity = Severity::named(severity).unwrap_or(Severity::Critical);
        Finding::new(row.get(0), severity, row.get::<_, &str>(2), row.get::<_, &str>(3), row.get::<_, &str>(4))
    };
    Ok(rows.iter().map(finding).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_run_inside_of_a_transaction_of_ours() {
        for file in [SETUP, AUDIT] {
            let body = body(file).expect("a body");
            let alone = |word: &str| body.lines().any(|line| line.trim_end_matches(';') == word);
            assert!(!alone("COMMIT") && !alone("ROLLBACK"), "{body}");
            assert!(body.len() > file.len() / 2);
        }
        assert!(body("SELECT 1; COMMIT;").is_err());
    }
}
