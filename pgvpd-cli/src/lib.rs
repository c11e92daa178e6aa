//! The `pgvpd` command: arguments, logs, signals, check, demo, completions, manual page. [`main`] is the whole program.

mod args;
mod check;
mod completions;
mod config_file;
mod database;
mod database_tls;
mod demo;
mod escape;
mod exit;
mod hints;
mod init;
mod key;
mod key_table;
mod log_text;
mod log_writer;
mod logging;
mod manual;
mod mistakes;
mod output;
mod print;
mod protect;
mod resolve;
mod serve;
mod signing_key;
mod systemd;
#[cfg(feature = "top")]
mod top;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::args::{Action, Arguments};
use crate::exit::Exit;

/// Runs the program with these arguments, the first being its own name, and gives its exit code:
///
/// | code | meaning |
/// |---|---|
/// | 0 | done; for the proxy: stopped as it was told to |
/// | 1 | something failed; for `demo`: the isolation did not hold; for `check`: something was found |
/// | 2 | the command line or the configuration is not valid |
/// | 3 | the proxy could not start: a listener could not be opened; for `check`: the database could not be looked at |
/// | 128 + n | a second signal n ended it at once |
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::parse(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // `--help` and `--version` come this way too; clap knows which stream each goes to.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let outcome = match &arguments.action {
        Action::Serve => serve::serve(arguments.clone()),
        Action::CheckConfig => serve::check(&arguments),
        Action::Check(matches) => check::run(matches),
        Action::Demo(options) => demo::run(options),
        Action::Init(matches) => init::run(matches),
        Action::Key(matches) => key::run(matches),
        Action::Protect(matches) => protect::run(matches),
        Action::Resolve(matches) => resolve::run(matches),
        #[cfg(feature = "top")]
        Action::Top(matches) => top::run(matches),
        Action::Completions(shell) => completions::print(*shell),
        Action::Man => manual::print(),
    };
    outcome.unwrap_or_else(Exit::report)
}
