//! The command line of `pgvpd check`.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};

use super::finding::{Ignored, Severity};
use crate::database;

const LONG_ABOUT: &str = "\
Looks for what could let one tenant reach what is another's: tables, policies, views, functions, roles and settings of the \
database, the server's pg_hba.conf, the application's password, and with --config the proxy's way to the server. Changes \
nothing. Connect as a superuser, or as the role that installed pgvpd in the database. docs/check.md explains each finding.

Exit codes: 0 nothing as bad as --fail-on says, 1 something as bad or worse, 2 bad command line or configuration, 3 the \
database could not be looked at.";

/// What was asked, but for the database.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) app_roles: Vec<String>,
    pub(super) tenant_columns: Vec<String>,
    pub(super) config: Option<PathBuf>,
    pub(super) form: Form,
    /// The mildest severity that counts as a failure.
    pub(super) fail_on: Option<Severity>,
    pub(super) ignored: Vec<Ignored>,
}

/// In which form to print the findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Json,
    Sarif,
    /// The fixes alone, as a script.
    FixSql,
}

impl Options {
    pub(super) fn new(matches: &ArgMatches) -> Self {
        let texts = |name| matches.get_many::<String>(name).unwrap_or_default().cloned().collect();
        let text = |name| matches.get_one::<String>(name).map_or("", String::as_str);
        Self {
            app_roles: texts("app_role"),
            tenant_columns: texts("tenant_column"),
            config: matches.get_one("config").cloned(),
            form: match text("format") {
                _ if matches.get_flag("fix_sql") => Form::FixSql,
                "json" => Form::Json,
                "sarif" => Form::Sarif,
                _ => Form::Text,
            },
            fail_on: Severity::named(text("fail_on")),
            ignored: matches.get_many("ignore").unwrap_or_default().cloned().collect(),
        }
    }
}

/// The command as clap sees it.
pub(crate) fn command() -> Command {
    let named = |name: &'static str, flag: &'static str, value: &'static str| {
        Arg::new(name).long(flag).value_name(value).value_hint(ValueHint::Other)
    };
    let choice = |name, flag, value, values: &[&'static str]| {
        named(name, flag, value).value_parser(PossibleValuesParser::new(values))
    };
    Command::new("check")
        .visible_alias("doctor")
        .about("Look for holes in the isolation of a database, and say how to close them")
        .long_about(LONG_ABOUT)
        .arg(database::argument())
        .arg(
            named("app_role", "app-role", "NAME")
                .action(ArgAction::Append)
                .default_value("app_user")
                .help("A role that the application logs in as; may be given several times"),
        )
        .arg(
            named("tenant_column", "tenant-column", "NAME")
                .action(ArgAction::Append)
                .default_value("tenant_id")
                .help("A column that holds the tenant; may be given several times"),
        )
        .arg(
            Arg::new("config")
                .long("config")
                .short('c')
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .value_hint(ValueHint::FilePath)
                .help("The proxy's configuration file, to check its way to the server too"),
        )
        .arg(
            choice("format", "format", "FORMAT", &["text", "json", "sarif"])
                .default_value("text")
                .help("What to print"),
        )
        .arg(
            Arg::new("fix_sql")
                .long("fix-sql")
                .action(ArgAction::SetTrue)
                .conflicts_with("format")
                .help("Print the fixes alone, as an SQL script to review"),
        )
        .arg(
            choice("fail_on", "fail-on", "SEVERITY", &["critical", "high", "warning", "info", "never"])
                .default_value("high")
                .help("End with code 1 if there is a finding as bad as this, or worse"),
        )
        .arg(
            named("ignore", "ignore", "ID[:OBJECT]")
                .action(ArgAction::Append)
                .value_parser(|text: &str| text.parse::<Ignored>())
                .help("Leave out a finding that is known: all of this id, or that of one object"),
        )
}
