//! `pgvpd key`: the keys that sign contexts, in the file and in the database.

mod list;
mod rotate;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint};

use crate::config_file::{self, ConfigFile, FileKey};
use crate::database::{self, Database, Target, block_on, explained};
use crate::exit::{Exit, Outcome};
use crate::key_table::{self, KnownKey, Standing, standing};
use crate::print::{done, heading, note};

pub(crate) fn command() -> Command {
    let config = || config_file::argument().required(true).help("The proxy's configuration file");
    let dry_run = Arg::new("dry_run").long("dry-run").action(ArgAction::SetTrue);
    Command::new("key")
        .about("Replace, install and list the keys that sign contexts")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand_value_name("COMMAND")
        .subcommand(
            Command::new("rotate")
                .about("Replace the key in the configuration file and in the database")
                .long_about(
                    "Makes a new key, installs it in the database, writes it to the configuration file with the one before as the \
                     previous key, and lets that expire. Reload every proxy (SIGHUP) before that: until then old and new \
                     signatures both count. A session keeps the signature it began with, so that one which lasts longer than \
                     --keep sees no rows after it. Keys that expired earlier are removed from the database.",
                )
                .arg(database::argument())
                .arg(config())
                .arg(
                    Arg::new("keep")
                        .long("keep")
                        .value_name("DURATION")
                        .value_hint(ValueHint::Other)
                        .default_value("24h")
                        .value_parser(duration)
                        .help("How long the old key stays valid: a number with s, m, h or d"),
                )
                .arg(dry_run.help("Try it in the database, take it back, and say what would be done")),
        )
        .subcommand(
            Command::new("install")
                .about("Install the key of the configuration file in the database")
                .long_about(
                    "Installs the key of the configuration file in the database, where pgvpd init has left that to a later moment, or \
                     in a further database of the same proxy. With the first key, only contexts count that a proxy has signed: \
                     sessions of one that does not sign see no rows from then on.",
                )
                .arg(database::argument())
                .arg(config()),
        )
        .subcommand(
            Command::new("list")
                .about("List the keys that the database knows")
                .arg(database::argument())
                .arg(config_file::argument().help("Also say which of them this configuration file holds")),
        )
}

/// Runs the command.
pub(crate) fn run(matches: &ArgMatches) -> Outcome {
    let Some((name, matches)) = matches.subcommand() else {
        return Err(Exit::Usage(anyhow!("pgvpd key needs a command: rotate, install or list")));
    };
    let target = Target::new(matches)?;
    let config = matches.get_one::<PathBuf>("config");
    block_on(async {
        let mut database = target.connect().await?;
        match name {
            "rotate" => {
                let keep = matches.get_one("keep").copied().unwrap_or_default();
                rotate::rotate(&mut database, &file(config)?, keep, matches.get_flag("dry_run")).await?;
            }
            "install" => install(&mut database, &file(config)?).await?,
            _ => list::list(&database, config.map(|_| file(config)).transpose()?.as_ref()).await?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn file(path: Option<&PathBuf>) -> anyhow::Result<ConfigFile> {
    let path = path.cloned().unwrap_or_default();
    ConfigFile::read(&path)?.ok_or_else(|| anyhow!("there is no {}; `pgvpd init` makes one", path.display()))
}

/// The key that the file holds.
fn held(file: &ConfigFile) -> anyhow::Result<FileKey> {
    let path = file.path().display();
    file.key()?
        .ok_or_else(|| anyhow!("{path} holds no context_signing_key; `pgvpd init --force --config {path}` adds one"))
}

async fn refuse_uninstalled(database: &Database) -> anyhow::Result<()> {
    match key_table::is_installed(database.client()).await? {
        true => Ok(()),
        false => Err(anyhow!(
            "pgvpd is not installed in database {}, or an older release is; run: pgvpd init -d {}",
            database.name,
            database.conninfo()
        )),
    }
}

async fn install(database: &mut Database, file: &ConfigFile) -> anyhow::Result<()> {
    let key = held(file)?.key;
    refuse_uninstalled(database).await?;
    heading(&format!("pgvpd key install: database {}", database.name));
    let known = key_table::known(database.client()).await?;
    match standing(&known, &key) {
        Standing::Valid => done(false, &format!("key {:?} was installed before", key.id)),
        Standing::Unknown => {
            let transaction = database.client_mut().transaction().await.map_err(|error| explained(&error))?;
            key_table::install(&transaction, &key).await?;
            transaction.commit().await.map_err(|error| explained(&error))?;
            done(
                false,
                &format!("key {:?} is installed: only contexts that a proxy has signed count from now on", key.id),
            );
        }
        wrong => return Err(unusable(file, &key.id, &wrong)),
    }
    let previous = file.previous_key().ok().flatten().map(|held| held.key);
    let lasts = |known: &&KnownKey| previous.as_ref().is_some_and(|key| known.is(key)) && known.expires.is_none();
    if let Some(previous) = known.iter().find(lasts) {
        note(&format!(
            "Key {:?}, the previous one, is still valid here. To let it expire: SELECT pgvpd.retire_key('{}', now() + interval '24 h');",
            previous.id, previous.id
        ));
    }
    if file.value("context_signing") == Some("prefer") {
        note(&format!(
            "Now set context_signing = require in {} for every proxy, and reload it (SIGHUP).",
            file.path().display()
        ));
    }
    Ok(())
}

fn unusable(file: &ConfigFile, id: &str, standing: &Standing) -> anyhow::Error {
    let path = file.path().display();
    match standing {
        Standing::Expired => {
            anyhow!("key {id:?} of {path} has expired in the database; `pgvpd key rotate` makes a new one")
        }
        Standing::Unknown => anyhow!("the database does not know key {id:?} of {path}; run `pgvpd key install` first"),
        _ => anyhow!(
            "the database knows another key by the id {id:?} than {path} holds: the file belongs to another database; name \
             another with --config or --database"
        ),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let unit = |unit: char| match unit {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(3600),
        'd' => Some(86400),
        _ => None,
    };
    let parsed = text.char_indices().last().and_then(|(end, last)| {
        let number: u64 = text.get(..end)?.parse().ok()?;
        number.checked_mul(unit(last)?)
    });
    // PostgreSQL's calendar ends; nobody keeps a key for a century.
    parsed
        .filter(|seconds| *seconds <= 36_525 * 86400)
        .map(Duration::from_secs)
        .ok_or_else(|| "give a number with s, m, h or d, such as 90s, 30m, 24h or 7d".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_number_and_a_unit() {
        for (text, seconds) in [("0s", 0), ("90s", 90), ("30m", 1800), ("24h", 86400), ("7d", 604_800)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "10", "-1s", "1.5h", "1 h", "1w", "99999999d", "18446744073709551615d", "1é"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
