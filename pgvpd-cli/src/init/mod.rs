//! `pgvpd init`: from a database to a proxy that can start.
//!
//! The order is such that an end half-way leaves nothing that a second run does not complete, and never a database that
//! demands a key which no file has:
//!
//! 1. everything that can be refused is refused before anything changes;
//! 2. the SQL, all files in one transaction, and idempotent; without a key, sessions are served as before;
//! 3. the file, which appears complete or not at all. A proxy that reads it now finds a database that does not verify
//!    yet, and says so. A second run finds the file and takes its key;
//! 4. the key in the database.

mod args;
mod password;
mod plan;
mod steps;

use std::process::ExitCode;

use anyhow::anyhow;
use clap::ArgMatches;
use pgvpd_core::sql;
use tokio_postgres::IsolationLevel;
use tokio_postgres::error::SqlState;

use self::args::InitOptions;
pub(crate) use self::args::command;
use self::password::AppPassword;
use self::plan::Plan;
use crate::database::{Database, Target, block_on, explained};
use crate::exit::Outcome;
use crate::key_table;
use crate::print::{done, heading, server_said};

/// The files of SQL, in their order.
const FILES: &[(&str, &str, &str)] = &[
    ("setup.sql", sql::SETUP, "roles, context, protection by tenant"),
    ("helpers.sql", sql::HELPERS, "contexts of several values, protection by access list"),
    ("audit.sql", sql::AUDIT, "what could let one tenant reach what is another's"),
];

/// Runs the command.
pub(crate) fn run(matches: &ArgMatches) -> Outcome {
    let (target, options) = (Target::new(matches)?, InitOptions::new(matches));
    block_on(async {
        let mut database = target.connect().await?;
        Ok(initialize(&mut database, &target, &options).await?)
    })
}

async fn initialize(database: &mut Database, target: &Target, options: &InitOptions) -> anyhow::Result<ExitCode> {
    heading(&format!("pgvpd init: database {}, as {}, PostgreSQL {}", database.name, database.user, database.major));
    refuse_standby(database).await?;
    let known = key_table::known(database.client()).await?;
    let mut plan = Plan::new(options, &known)?;
    let password = match options.app_password_file.as_deref().map(AppPassword::read).transpose()? {
        Some(password) => Some(password.plan(database, target, options.force).await?),
        None => None,
    };

    let is_live = install_sql(database, options.dry_run).await?;
    // The first key ends what a running proxy that does not sign yet can see.
    plan.waits = is_live && known.is_empty() && !options.install_key && plan.key().is_some();

    let upstream = plan::upstream(database).await?;
    plan.write_file(&upstream, &database.name, options.dry_run)?;
    install_key(database, &plan, options.dry_run).await?;
    if let Some(password) = password {
        password.carry_out(database, options.dry_run).await?;
    }
    steps::print(database, options, &plan).await?;
    Ok(ExitCode::SUCCESS)
}

async fn refuse_standby(database: &Database) -> anyhow::Result<()> {
    let standby = database.client().query_one("SELECT pg_is_in_recovery()", &[]).await;
    if standby.map_err(|error| explained(&error))?.get(0) {
        return Err(anyhow!(
            "this server is a standby, where nothing can be written; name the primary with --database"
        ));
    }
    Ok(())
}

/// Installs the SQL, all of it or nothing; a dry run takes it back. True if there are protected tables.
async fn install_sql(database: &mut Database, is_dry: bool) -> anyhow::Result<bool> {
    let begin = database.client_mut().build_transaction().isolation_level(IsolationLevel::ReadCommitted);
    let transaction = begin.start().await.map_err(|error| explained(&error))?;
    let mut installed = Ok(());
    for (name, text, _) in FILES {
        if installed.is_ok() {
            installed = transaction.batch_execute(&inside(text)).await.map_err(|error| refused(name, &error));
        }
    }
    let is_live = match installed {
        Ok(()) => has_protected_tables(transaction.client()).await,
        Err(error) => Err(error),
    };
    let ended = match is_live {
        Ok(_) if !is_dry => transaction.commit().await,
        _ => transaction.rollback().await,
    };
    server_said(&database.notices());
    let is_live = is_live?;
    ended.map_err(|error| explained(&error))?;
    for (name, _, meaning) in FILES {
        done(is_dry, &format!("{}{name}: {meaning}", if is_dry { "run " } else { "" }));
    }
    Ok(is_live)
}

/// A file's text without the transaction that it begins and commits.
fn inside(text: &str) -> String {
    text.replacen("\nBEGIN ISOLATION LEVEL READ COMMITTED;\n", "\n", 1).replacen("\nCOMMIT;\n", "\n", 1)
}

async fn has_protected_tables(client: &tokio_postgres::Client) -> anyhow::Result<bool> {
    let protected =
        "SELECT EXISTS (SELECT FROM public.pgvpd_status() WHERE rls_enabled AND (policy_present OR guard_present))";
    Ok(client.query_one(protected, &[]).await.map_err(|error| explained(&error))?.get(0))
}

async fn install_key(database: &mut Database, plan: &Plan, is_dry: bool) -> anyhow::Result<()> {
    let Some(key) = plan.key().filter(|_| plan.is_key_missing && !plan.waits) else {
        return Ok(());
    };
    if !is_dry {
        let transaction = database.client_mut().transaction().await.map_err(|error| explained(&error))?;
        key_table::install(&transaction, key).await?;
        transaction.commit().await.map_err(|error| explained(&error))?;
    }
    let verb = if is_dry { "install key" } else { "key" };
    let done_so = if is_dry { "" } else { " installed" };
    done(is_dry, &format!("{verb} {:?}{done_so}: only contexts that the proxy has signed count from then on", key.id));
    Ok(())
}

fn refused(name: &str, error: &tokio_postgres::Error) -> anyhow::Error {
    let said = explained(error);
    match error.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => anyhow!(
            "{name}: {said}\n  Run this as a superuser, or as a role that owns the database and has CREATEROLE. Nothing was changed."
        ),
        _ => anyhow!("{name}: {said}"),
    }
}
