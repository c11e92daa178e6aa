//! The command line of `pgvpd init`.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};

use crate::{config_file, database};

/// What `pgvpd init` was asked.
pub(super) struct InitOptions {
    pub(super) config: PathBuf,
    pub(super) app_password_file: Option<PathBuf>,
    pub(super) signing: bool,
    pub(super) install_key: bool,
    pub(super) dry_run: bool,
    pub(super) force: bool,
}

impl InitOptions {
    pub(super) fn new(matches: &ArgMatches) -> Self {
        Self {
            config: matches.get_one("config").cloned().unwrap_or_default(),
            app_password_file: matches.get_one("app_password_file").cloned(),
            signing: !matches.get_flag("no_signing"),
            install_key: matches.get_flag("install_key"),
            dry_run: matches.get_flag("dry_run"),
            force: matches.get_flag("force"),
        }
    }
}

pub(crate) fn command() -> Command {
    let flag = |id: &'static str, long: &'static str| Arg::new(id).long(long).action(ArgAction::SetTrue);
    Command::new("init")
        .about("Install pgvpd in a database and write a configuration with a key that signs contexts")
        .long_about(
            "Installs pgvpd's SQL in a database, as a superuser or as the database's owner with CREATEROLE; makes a key that \
             signs contexts, installs it, and writes it to a new configuration file that only its owner can read. Can be run \
             again: to upgrade the SQL, to complete what was interrupted, or for a further database with the same file. On a \
             database with protected tables and no key the key is not installed, since sessions of a running proxy would see \
             nothing: the steps are printed instead.",
        )
        .arg(database::argument())
        .arg(config_file::argument().default_value("pgvpd.conf").help(
            "The configuration file to write; one that holds a key is kept, and its key installed",
        ))
        .arg(
            Arg::new("app_password_file")
                .long("app-password-file")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .value_hint(ValueHint::FilePath)
                .help("Give app_user the password in this file; where there is no such file, make one and write it there. Refused where \
                     the role has another one already, since roles belong to the whole server"),
        )
        .arg(
            flag("no_signing", "no-signing")
                .conflicts_with("install_key")
                .help("Make no key: contexts stay plain settings, which SQL in a session can change"),
        )
        .arg(
            flag("install_key", "install-key")
                .help("Install the key although tables are protected and no proxy may be signing yet"),
        )
        .arg(flag("force", "force").help(
            "Add a key to a configuration file that has none, a further key to a database whose key no file here holds, and \
             give app_user a new password although it has one, with which applications of the whole server log in",
        ))
        .arg(flag("dry_run", "dry-run").help("Try the SQL, take it back, and say what would be done"))
}
