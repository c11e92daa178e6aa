//! What to say of a command line that is not understood: the name that was most likely meant.

use std::ffi::OsString;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use pgvpd_core::config::OPTIONS;

use crate::args;
use crate::database::quoted;

/// Adds a tip to the error where clap has none, or none that helps.
pub(crate) fn explained(mut error: clap::Error, arguments: &[OsString]) -> clap::Error {
    let tip = match (error.kind(), error.get(ContextKind::InvalidArg), error.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(flag)), _) => unknown_flag(flag, arguments),
        (ErrorKind::InvalidSubcommand, _, Some(ContextValue::String(word))) => unknown_word(word),
        (ErrorKind::ArgumentConflict, ..) => before_command(arguments),
        _ => None,
    };
    if error.kind() == ErrorKind::UnknownArgument && error.get(ContextKind::SuggestedArg).is_some() {
        // It would show the suggested option as if it had to be there.
        error.remove(ContextKind::Usage);
    }
    if let Some(tip) = tip {
        error.remove(ContextKind::SuggestedArg);
        error.remove(ContextKind::SuggestedSubcommand);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
    }
    error
}

fn unknown_flag(flag: &str, arguments: &[OsString]) -> Option<String> {
    if !flag.starts_with('-') {
        return bare_word(flag, arguments);
    }
    let Some(name) = flag.strip_prefix("--") else {
        return one_dash(flag, arguments).or_else(|| before_command(arguments));
    };
    let has = |command: &clap::Command| command.get_arguments().any(|argument| argument.get_long() == Some(name));
    let root = args::command();
    // Where it exists it is known, so it was given to another command.
    if has(&root) {
        return Some(format!("'{flag}' is an option of the proxy itself: 'pgvpd {flag}'"));
    }
    if let Some(tip) = before_command(arguments) {
        return Some(tip);
    }
    let owner = root.get_subcommands().find_map(|command| {
        let nested = command.get_subcommands().find(|nested| has(nested)).map(clap::Command::get_name);
        let names = nested.map(|nested| format!("{} {nested}", command.get_name()));
        has(command).then(|| command.get_name().to_owned()).or(names)
    })?;
    Some(format!("'pgvpd {owner} {flag}' exists"))
}

/// `pgvpd check shop`, as psql would take it: here a database and a file are named with an option.
fn bare_word(word: &str, arguments: &[OsString]) -> Option<String> {
    let root = args::command();
    let command = arguments.iter().skip(1).find_map(|argument| root.find_subcommand(argument.to_str()?))?;
    let (name, word, is_file) = (command.get_name(), quoted(word), is_file(word));
    let has = |id: &str| command.get_arguments().any(|argument| argument.get_id() == id);
    match is_file {
        true if has("config") => {
            Some(format!("a configuration file is named with --config: 'pgvpd {name} --config {word}'"))
        }
        false if has("database") => Some(format!("a database is named with -d: 'pgvpd {name} -d {word}'")),
        _ => None,
    }
}

fn is_file(word: &str) -> bool {
    word.ends_with(".conf") || std::path::Path::new(word).is_file()
}

/// `pgvpd -c FILE check`: what stands ahead of a command belongs to the proxy, and a command has options of its own.
fn before_command(arguments: &[OsString]) -> Option<String> {
    let root = args::command();
    let words: Vec<&str> = arguments.iter().skip(1).filter_map(|argument| argument.to_str()).collect();
    let (place, command) =
        words.iter().enumerate().find_map(|(place, word)| Some((place, root.find_subcommand(word)?)))?;
    let (ahead, behind) = words.split_at(place);
    // `key rotate` has what `key` has not.
    let nested = behind.get(1).and_then(|word| command.find_subcommand(word));
    let (command, name, behind) = match nested {
        Some(nested) => (nested, format!("{} {}", command.get_name(), nested.get_name()), behind.get(2..)),
        None => (command, command.get_name().to_owned(), behind.get(1..)),
    };
    ahead.first()?;
    let has = |command: &clap::Command, flag: &str| {
        command.get_arguments().any(|argument| {
            let short = argument.get_short().map(|short| format!("-{short}"));
            argument.get_long().is_some_and(|long| format!("--{long}") == flag) || short.as_deref() == Some(flag)
        })
    };
    let flags = ahead.iter().filter(|word| word.starts_with('-')).map(|word| word.split('=').next().unwrap_or(word));
    match flags.clone().find(|flag| !has(command, flag)) {
        None => {
            let rest = behind.into_iter().flatten().chain(ahead).map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
            Some(format!("options of a command stand behind its name: 'pgvpd {name} {rest}'"))
        }
        Some(flag) if has(&root, flag) => {
            Some(format!("'{flag}' is an option of the proxy itself, and '{name}' does not have it; leave it out"))
        }
        Some(_) => None,
    }
}

/// `-tenant-deny`: clap reads one letter an option and complains about `-t`.
fn one_dash(flag: &str, arguments: &[OsString]) -> Option<String> {
    let words = arguments.iter().filter_map(|argument| argument.to_str());
    let mut meant =
        words.filter(|word| word.starts_with(flag)).filter_map(|word| option_named(word.strip_prefix('-')?));
    Some(format!("a long option has two dashes: '--{}'", meant.next()?))
}

/// A word where a command is expected.
fn unknown_word(word: &str) -> Option<String> {
    let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
    if let Some(option) = option_named(name) {
        let value = value.map(|value| format!("={value}")).unwrap_or_default();
        return Some(format!("options begin with two dashes: '--{option}{value}'"));
    }
    is_file(word).then(|| format!("to read a configuration file: 'pgvpd --config {word}'"))
}

/// The flag of the option that is written like this, with dashes or underscores.
fn option_named(name: &str) -> Option<String> {
    let name = name.trim().replace('-', "_");
    OPTIONS.iter().find(|option| option.name == name).map(|option| option.flag())
}
