//! Documents on standard output.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use anyhow::Context;

use crate::exit::{Exit, Outcome};

/// Prints all of it. A reader that has seen enough, such as `head`, is no failure.
pub(crate) fn print(text: &[u8]) -> Outcome {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output").map_err(Exit::Failed)
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}
