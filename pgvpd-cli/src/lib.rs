//! The `pgvpd` command: arguments, logs, signals, demo, completions, manual page. [`main`] is the whole program.

mod args;
mod completions;
mod demo;
mod exit;
mod hints;
mod logging;
mod manual;
mod mistakes;
mod output;
mod serve;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::args::{Action, Arguments};
use crate::exit::Exit;

/// Runs the program with these arguments, the first being its own name, and gives its exit code:
///
/// | code | meaning |
/// |---|---|
/// | 0 | done; for the proxy: stopped as it was told to |
/// | 1 | something failed; for `demo`: the isolation did not hold |
/// | 2 | the command line or the configuration is not valid |
/// | 3 | the proxy could not start: a listener could not be opened |
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
        Action::Serve => serve::serve(&arguments),
        Action::CheckConfig => serve::check(&arguments),
        Action::Demo(options) => demo::run(options),
        Action::Completions(shell) => completions::print(*shell),
        Action::Man => manual::print(),
    };
    outcome.unwrap_or_else(Exit::report)
}
