//! `pgvpd resolve`: how the context of a login is worked out, for the person who wonders why a policy shows no rows.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anstyle::AnsiColor;
use clap::{Arg, ArgMatches, Command, ValueHint};
use pgvpd_core::{Config, Settings, Trace, TraceError, TraceOutcome};

use crate::config_file;
use crate::database::block_on;
use crate::escape::visible;
use crate::exit::{Exit, Outcome};
use crate::print::{dim, note, styled};

const LONG_ABOUT: &str = "\
Runs the resolvers of a configuration as a login of USER would: prints each one's parameters, what it found, how long that took, \
and how long the proxy may use it again. Logs in to the server that the configuration names, as resolver_user or, where there is \
none, as the role that USER names; that role's password is taken from PGPASSWORD, auth_file or upstream_password. Nothing that a running proxy \
has kept is used.

Exit codes: 0 the login would have a context, 1 a resolver refuses it or fails, 2 bad command line or configuration, 3 the server \
could not be asked.";

/// The command as clap sees it.
pub(crate) fn command() -> Command {
    Command::new("resolve")
        .about("Show what the resolvers find for a login, step by step")
        .long_about(LONG_ABOUT)
        .arg(
            Arg::new("user")
                .value_name("USER")
                .required(true)
                .value_hint(ValueHint::Other)
                .help("The user name as a client gives it, such as app_user.acme:42"),
        )
        .arg(
            Arg::new("database")
                .long("database")
                .short('d')
                .value_name("DBNAME")
                .value_hint(ValueHint::Other)
                .help("The database to log in to [default: the role's name]"),
        )
        .arg(
            config_file::argument()
                .help("The proxy's configuration; PGVPD_* variables win over it, as they do for the proxy"),
        )
}

/// Runs the command.
pub(crate) fn run(matches: &ArgMatches) -> Outcome {
    let settings = match matches.get_one::<PathBuf>("config") {
        Some(file) => Settings::from_file(file)?,
        None => Settings::new(),
    };
    let config = Config::from_settings(settings.overlaid_by(Settings::from_env()))?;
    let user = matches.get_one::<String>("user").map_or("", String::as_str);
    let identity = config.identity.identify(user).map_err(|error| Exit::Usage(error.into()))?;
    let database = matches.get_one::<String>("database").map_or(identity.named_role(), String::as_str);
    let password = std::env::var("PGPASSWORD").ok();
    let traced = block_on(async {
        pgvpd_core::trace(&config, user, database, password.as_deref()).await.map_err(|error| match error {
            TraceError::Login { .. } => Exit::Start(error.into()),
            _ => Exit::Usage(error.into()),
        })
    })?;
    let asks = match config.settings().value("resolver_user") {
        Some(role) => format!("as {role} (resolver_user)"),
        None => format!("as {}, on the session's own connection", identity.role()),
    };
    note(&format!("{} in database {}: resolvers run {}", visible(user), visible(database), visible(&asks)));
    traced.iter().for_each(show);
    note("");
    let bad = traced.iter().find(|trace| is_bad(trace));
    match bad {
        None => note("The login would have this context."),
        Some(trace) => note(&format!("The login would be refused because of {}.", visible(&trace.resolver))),
    }
    Ok(if bad.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn is_bad(trace: &Trace) -> bool {
    match trace.outcome {
        TraceOutcome::Found(_) => false,
        TraceOutcome::Nothing | TraceOutcome::NotRun => trace.required,
        TraceOutcome::Failed(_) => true,
    }
}

fn show(trace: &Trace) {
    let mark = match is_bad(trace) {
        true => AnsiColor::Red.on_default().bold(),
        false => AnsiColor::Green.on_default().bold(),
    };
    let required = if trace.required { ", required" } else { "" };
    let kept = match trace.cache_ttl {
        Duration::ZERO => "never cached".to_owned(),
        ttl => format!("not cached here; the proxy keeps it for {} s", ttl.as_secs_f64()),
    };
    let took = match trace.outcome {
        TraceOutcome::NotRun => "not run".to_owned(),
        _ => format!("{:.1} ms", trace.took.as_secs_f64() * 1000.0),
    };
    note("");
    note(&format!("{}  {}", styled(mark, visible(&trace.resolver)), dim(&format!("{took}{required}, {kept}"))));
    for (place, (variable, value)) in trace.params.iter().enumerate() {
        note(&format!("  ${} {variable} = {}", place + 1, shown(value)));
    }
    match &trace.outcome {
        TraceOutcome::Found(values) => {
            for (variable, value) in values {
                note(&format!("  -> {variable} = {}", shown(value)));
            }
        }
        TraceOutcome::Nothing => note("  -> no row: its variables are empty, which policies read as NULL"),
        TraceOutcome::NotRun => note("  -> not run, since a parameter is empty: its variables are empty"),
        TraceOutcome::Failed(cause) => note(&format!("  -> {}", visible(cause))),
    }
}

/// The value as far as a person reads one.
fn shown(value: &str) -> String {
    const LONGEST: usize = 200;
    match value.char_indices().nth(LONGEST) {
        _ if value.is_empty() => dim("(empty)"),
        Some((end, _)) => {
            format!("{}… ({} bytes)", visible(value.get(..end).unwrap_or_default()), value.len())
        }
        None => visible(value),
    }
}
