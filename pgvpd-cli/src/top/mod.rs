//! `pgvpd top`: what a running proxy does, in the terminal, over its admin API.

mod client;
mod model;
mod screen;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};
use pgvpd_core::{Config, Settings};

use self::client::Client;
use self::model::Model;
use crate::config_file;
use crate::exit::{Exit, Outcome};
use crate::print;

const LONG_ABOUT: &str = "\
Shows the sessions, pools and tenants of a running proxy, over its admin API: where admin_port and admin_host of the configuration \
say, or --url. The token is that of the configuration, or of PGVPD_ADMIN_TOKEN. In a pipe, or with --once, it prints everything \
once.

Keys: Tab, or 1 to 3, another table; arrows and Page keys scroll; s the next column to sort by; space holds still; q leaves.

Exit codes: 0 left, 1 the proxy did not answer, 2 bad command line or configuration.";

/// The command as clap sees it.
pub(crate) fn command() -> Command {
    Command::new("top")
        .about("Watch the sessions, pools and tenants of a running proxy")
        .long_about(LONG_ABOUT)
        .arg(
            Arg::new("url")
                .long("url")
                .value_name("URL")
                .value_hint(ValueHint::Url)
                .help("Where its admin API is, such as http://127.0.0.1:9090"),
        )
        .arg(
            Arg::new("interval")
                .long("interval")
                .short('n')
                .value_name("SECONDS")
                .value_hint(ValueHint::Other)
                .value_parser(interval)
                .help("Time between two looks [default: 1]"),
        )
        .arg(
            Arg::new("once")
                .long("once")
                .action(ArgAction::SetTrue)
                .help("Print everything once, after two looks, and exit"),
        )
        .arg(
            config_file::argument()
                .value_parser(value_parser!(PathBuf))
                .help("The proxy's configuration; PGVPD_* variables win over it, as they do for the proxy"),
        )
}

fn interval(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or("give seconds from 0.1 to 3600")
}

/// Runs the command.
pub(crate) fn run(matches: &ArgMatches) -> Outcome {
    let client = client(matches)?;
    let interval = matches.get_one("interval").copied().unwrap_or(Duration::from_secs(1));
    if matches.get_flag("once") || !std::io::stdout().is_terminal() {
        let mut model = Model::default();
        model.take(client.status()?);
        // What happens each second takes two looks.
        std::thread::sleep(interval);
        model.take(client.status()?);
        once(&model);
        return Ok(ExitCode::SUCCESS);
    }
    screen::run(&client, interval)?;
    Ok(ExitCode::SUCCESS)
}

/// The proxy that is meant, and what it wants to be shown.
fn client(matches: &ArgMatches) -> Result<Client, Exit> {
    let settings = match matches.get_one::<PathBuf>("config") {
        Some(file) => Settings::from_file(file)?,
        None => Settings::new(),
    };
    let mut settings = settings.overlaid_by(Settings::from_env());
    let url = matches.get_one::<String>("url");
    if url.is_some() && settings.value("admin_port").is_none() {
        // A token alone would be a mistake for the proxy itself.
        settings.set("admin_port", 0)?;
    }
    let config = Config::from_settings(settings)?;
    let url = match (url, config.admin.port) {
        (Some(url), _) => url.trim_end_matches('/').to_owned(),
        (None, Some(port)) if port > 0 => {
            let host = match config.admin.host.as_str() {
                "0.0.0.0" => "127.0.0.1",
                "::" => "::1",
                host => host,
            };
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            format!("http://{host}:{port}")
        }
        _ => {
            let error = anyhow!("no admin_port is known: name the proxy's configuration by --config, or its --url");
            return Err(Exit::Usage(error));
        }
    };
    if !url.starts_with("http://") {
        return Err(Exit::Usage(anyhow!("{url:?} is not a URL such as http://127.0.0.1:9090")));
    }
    Ok(Client::new(&url, config.admin.token.as_ref()))
}

/// Everything, as text.
fn once(model: &Model) {
    for line in model.summary() {
        print::note(&line);
    }
    for table in model::Table::ALL {
        print::heading(table.title());
        let rows = model.rows(table, None);
        match rows.is_empty() {
            true => print::note("  none"),
            false => print::table(table.columns(), &rows),
        }
    }
}

/// Reads a status, or says why there is none.
fn parse(text: &str) -> anyhow::Result<serde_json::Value> {
    serde_json::from_str(text).context("the answer is not that of a proxy's /status")
}
