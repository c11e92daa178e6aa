//! `pgvpd check`: the holes that `sql/audit.sql` finds in a database, and those around it that SQL cannot find.

mod audit;
mod command;
mod finding;
mod format;
mod hba;
mod json;
mod key;
mod limits;
mod login;
mod resolvers;
mod rules;
mod sarif;
mod server;
mod text;
mod upstream;

use std::path::Path;
use std::process::ExitCode;

use clap::ArgMatches;
use pgvpd_core::{Config, Settings};

use self::audit::Audit;
pub(crate) use self::command::command;
use self::command::{Form, Options};
use self::finding::{Finding, Severity};
use crate::database::{self, Database, Target, explained};
use crate::escape;
use crate::exit::{Exit, Outcome};
use crate::output;

/// Runs the check.
pub(crate) fn run(matches: &ArgMatches) -> Outcome {
    let options = Options::new(matches);
    let target = Target::new(matches)?;
    let proxy = options.config.as_deref().map(proxy_config).transpose()?;
    let report = database::block_on(examine(&options, &target, proxy.as_ref()))?;
    for unused in &report.unused {
        anstream::eprintln!("pgvpd: note: --ignore {} matches nothing", escape::visible(unused));
    }
    let document = match options.form {
        Form::Text => None,
        Form::Json => Some(json::render(&report)),
        Form::Sarif => Some(sarif::render(&report)),
        Form::FixSql => Some(text::fixes(&report)),
    };
    match document {
        Some(document) => output::print(document.as_bytes()).map(drop)?,
        None => text::print(&report),
    }
    Ok(if report.fails() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What there is to tell.
#[derive(Debug)]
pub(crate) struct Report {
    database: String,
    server_version: String,
    app_roles: Vec<String>,
    tenant_columns: Vec<String>,
    audit: audit::Source,
    fail_on: Option<Severity>,
    /// The worst first.
    findings: Vec<Finding>,
    /// How many findings are left out.
    ignored: usize,
    /// What was to be left out, and was not there.
    unused: Vec<String>,
}

impl Report {
    fn fails(&self) -> bool {
        self.fail_on.is_some_and(|limit| self.findings.iter().any(|finding| finding.severity <= limit))
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

/// The proxy's configuration as it would read it: the environment wins over the file.
fn proxy_config(file: &Path) -> Result<Config, Exit> {
    Ok(Config::from_settings(Settings::from_file(file)?.overlaid_by(Settings::from_env()))?)
}

async fn examine(options: &Options, target: &Target, proxy: Option<&Config>) -> Result<Report, Exit> {
    let mut database = target.connect().await.map_err(unseen)?;
    let Audit { source, server_version, mut findings, app_roles } =
        audit::run(&mut database, &options.app_roles, &options.tenant_columns).await?;
    findings.extend(server::findings(&database, &app_roles).await.map_err(unseen)?);
    if !options.ignored.iter().any(|ignored| ignored.covers_all_of(rules::DEFAULT_PASSWORD)) {
        for role in &app_roles {
            findings.extend(login::finding(target, &database, role).await);
        }
    }
    let open = limits::findings(&database, &app_roles, &options.tenant_columns).await;
    findings.extend(open.map_err(|error| unseen(Exit::Failed(explained(&error))))?);
    if let Some(proxy) = proxy {
        findings.extend(limits::password(proxy, &app_roles));
        findings.extend(upstream::finding(proxy));
        findings.extend(key::finding(&database, proxy).await);
        let found = format::findings(&database, proxy).await;
        findings.extend(found.map_err(|error| unseen(Exit::Failed(explained(&error))))?);
        let found = resolvers::findings(&database, proxy).await;
        findings.extend(found.map_err(|error| unseen(Exit::Failed(explained(&error))))?);
    }
    Ok(report(options, database, source, server_version, findings))
}

fn report(
    options: &Options,
    database: Database,
    audit: audit::Source,
    server_version: String,
    found: Vec<Finding>,
) -> Report {
    let unused = options.ignored.iter().filter(|ignored| !found.iter().any(|finding| ignored.covers(finding)));
    let unused = unused.map(ToString::to_string).collect();
    let is_ignored = |finding: &Finding| options.ignored.iter().any(|ignored| ignored.covers(finding));
    let (ignored, mut findings): (Vec<_>, Vec<_>) = found.into_iter().partition(is_ignored);
    // Stable, so that those of one id keep the order in which they were found.
    findings.sort_by(|a, b| (a.severity, &a.id).cmp(&(b.severity, &b.id)));
    Report {
        database: database.name,
        server_version,
        app_roles: options.app_roles.clone(),
        tenant_columns: options.tenant_columns.clone(),
        audit,
        fail_on: options.fail_on,
        findings,
        ignored: ignored.len(),
        unused,
    }
}

/// Code 3, where the check could not be made: 1 would say that it found something.
fn unseen(exit: Exit) -> Exit {
    match exit {
        Exit::Failed(error) => Exit::Start(error),
        other => other,
    }
}
