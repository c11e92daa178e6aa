//! `pgvpd protect`: `pgvpd_protect()` for several tables, all or none, with a look before it.

mod changes;
mod tables;

use std::process::ExitCode;

use anyhow::anyhow;
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint};
use tokio_postgres::error::SqlState;
use tokio_postgres::{IsolationLevel, Transaction};

pub(crate) use self::tables::candidates;
use self::tables::{Protected, statuses};
use crate::database::{self, Database, Target, block_on, explained, quoted};
use crate::exit::{Exit, Outcome};
use crate::print::{dim, heading, note, server_said, table};

/// What was asked.
struct Options {
    tables: Vec<String>,
    column: String,
    variable: String,
    app_role: String,
    grants: bool,
    statistics: String,
    lock_timeout: String,
    is_dry: bool,
}

pub(crate) fn command() -> Command {
    let option = |name: &'static str, long: &'static str, value: &'static str, default: &'static str| {
        Arg::new(name).long(long).value_name(value).value_hint(ValueHint::Other).default_value(default)
    };
    Command::new("protect")
        .about("Protect tables, so that a session sees only its tenant's rows")
        .long_about(
            "Calls pgvpd_protect() for each table, in one transaction: all of them are protected, or none. Each is locked for a \
             moment, together with its partitions. A table on which nobody but its owner has been granted anything is given to \
             the application's role, to read and to write. Says what the server warns of, and then what is protected and what is \
             left to do. Without a table it lists those that have the column and are not protected.",
        )
        .arg(database::argument())
        .arg(
            Arg::new("tables")
                .value_name("TABLE")
                .num_args(0..)
                .value_hint(ValueHint::Other)
                .help("A table, with its schema where the search path does not find it"),
        )
        .arg(option("column", "column", "NAME", "tenant_id").help("The column that holds the tenant"))
        .arg(
            option("variable", "variable", "NAME", "app.current_tenant_id")
                .help("The context variable that the column has to equal"),
        )
        .arg(
            option("app_role", "app-role", "NAME", "app_user")
                .help("The role that the application logs in as"),
        )
        .arg(
            Arg::new("no_grant")
                .long("no-grant")
                .action(ArgAction::SetTrue)
                .help("Give the application's role no rights; say what it lacks"),
        )
        .arg(
            option("statistics", "statistics", "WHICH", "all")
                .value_parser(PossibleValuesParser::new(["all", "tenant"]))
                .help("Which columns keep the planner's statistics, whose values EXPLAIN can tell: all, or the tenant's alone"),
        )
        .arg(
            option("lock_timeout", "lock-timeout", "TIME", "10s")
                .help("How long to wait for a table that is in use, as PostgreSQL's lock_timeout: those who come after wait behind"),
        )
        .arg(Arg::new("dry_run").long("dry-run").action(ArgAction::SetTrue).help(
            "Do it, show what has changed, and take it back; the tables are locked for that moment",
        ))
}

/// Runs the command.
pub(crate) fn run(matches: &ArgMatches) -> Outcome {
    let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let options = Options {
        tables: matches.get_many("tables").into_iter().flatten().cloned().collect(),
        column: text("column"),
        variable: text("variable"),
        app_role: text("app_role"),
        grants: !matches.get_flag("no_grant"),
        statistics: text("statistics"),
        lock_timeout: text("lock_timeout"),
        is_dry: matches.get_flag("dry_run"),
    };
    let target = Target::new(matches)?;
    block_on(async {
        let mut database = target.connect().await?;
        refuse_uninstalled(&database).await?;
        if options.tables.is_empty() {
            return Err(Exit::Usage(no_table(&database, &options.column).await?));
        }
        Ok(protect(&mut database, &options).await?)
    })
}

async fn protect(database: &mut Database, options: &Options) -> anyhow::Result<ExitCode> {
    let client = database.client_mut();
    // READ COMMITTED, so that each look sees what was done before it.
    let begin = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await;
    let transaction = begin.map_err(|error| explained(&error))?;
    let outcome = inside(&transaction, options).await;
    let ended = match (&outcome, options.is_dry) {
        (Ok(_), false) => transaction.commit().await,
        _ => transaction.rollback().await,
    };
    server_said(&database.notices());
    let (changes, statuses) = outcome?;
    ended.map_err(|error| explained(&error))?;
    let word = if options.is_dry { "would change" } else { "changed" };
    heading(&format!("pgvpd protect: what {word} in database {}", database.name));
    changes.print();
    Ok(report(&statuses, options.is_dry))
}

/// Everything that happens to the tables, with the catalogs before and after it, and the status.
async fn inside(
    transaction: &Transaction<'_>,
    options: &Options,
) -> anyhow::Result<(changes::Changes, Vec<Protected>)> {
    let timeout = "SELECT set_config('lock_timeout', $1, true)";
    transaction.execute(timeout, &[&options.lock_timeout]).await.map_err(|error| explained(&error))?;
    let mut roots = Vec::new();
    for table in &options.tables {
        roots.push(found(transaction, table).await?);
    }
    let before = changes::facts(transaction, &roots, &options.column).await?;
    for (table, root) in options.tables.iter().zip(&roots) {
        let protect = "SELECT public.pgvpd_protect($1::oid::regclass, $2::text::name, $3, $4::text::name, $5, $6)";
        let Options { column, variable, app_role, grants, statistics, .. } = options;
        let protected = transaction.execute(protect, &[root, column, variable, app_role, grants, statistics]).await;
        protected.map_err(|error| refused(table, &error))?;
    }
    let after = changes::facts(transaction, &roots, &options.column).await?;
    Ok((changes::Changes::between(before, after), statuses(transaction, &roots).await?))
}

/// The table that a name means, as psql would find it.
async fn found(transaction: &Transaction<'_>, table: &str) -> anyhow::Result<u32> {
    let row = transaction.query_one("SELECT $1::text::regclass::oid", &[&table]).await;
    Ok(row.map_err(|error| anyhow!("{table}: {}", explained(&error)))?.get(0))
}

fn refused(table: &str, error: &tokio_postgres::Error) -> anyhow::Error {
    let said = explained(error);
    match error.code() {
        Some(&SqlState::LOCK_NOT_AVAILABLE) => anyhow!(
            "{table} is in use and was not free in time; nothing was changed. Run this again at a quieter time, end the \
             transaction that holds it, or wait longer with --lock-timeout"
        ),
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => anyhow!(
            "{table}: {said}; nothing was changed\n  hint: Run this as a superuser, or as the owner of the table who also ran pgvpd init."
        ),
        _ => anyhow!("{table}: {said}\n  nothing was changed"),
    }
}

/// Prints what is protected. The code is a failure where a table is not after all.
fn report(statuses: &[Protected], is_dry: bool) -> ExitCode {
    heading("Status");
    let (shown, quiet): (Vec<_>, Vec<_>) =
        statuses.iter().partition(|status| status.is_root || status.status != "protected");
    let rows: Vec<_> = shown.iter().map(|status| status.row()).collect();
    table(&["table", "column", "variable", "status"], &rows);
    if !quiet.is_empty() {
        note(&format!("  and {} partitions or children, all protected", quiet.len()));
    }
    if is_dry {
        note(&dim("Nothing was changed."));
    }
    let is_open = |status: &Protected| !status.status.starts_with("protected");
    if statuses.iter().any(is_open) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn refuse_uninstalled(database: &Database) -> anyhow::Result<()> {
    let there = "SELECT to_regprocedure('public.pgvpd_protect(regclass, name, text, name, boolean, text)') IS NOT NULL,
                        to_regprocedure('public.pgvpd_protect(regclass, name, text)') IS NOT NULL";
    let there = database.client().query_one(there, &[]).await.map_err(|error| explained(&error))?;
    let state = match (there.get(0), there.get(1)) {
        (true, _) => return Ok(()),
        (false, true) => "installed by an earlier release",
        (false, false) => "not installed",
    };
    Err(anyhow!("pgvpd is {state} in database {}; run: pgvpd init -d {}", database.name, database.conninfo()))
}

async fn no_table(database: &Database, column: &str) -> anyhow::Result<anyhow::Error> {
    let open = candidates(database.client(), column).await?;
    let listed = open.iter().map(|table| format!("\n  {}", quoted(table))).collect::<String>();
    Ok(match open.len() {
        0 => anyhow!("name a table to protect; every table with a column {column} that this role can see is protected"),
        _ => anyhow!("name a table to protect; these have a column {column} and are not protected:{listed}"),
    })
}
