//! The log: lines for people or JSON, to standard error.

use std::io::IsTerminal;

use anyhow::Context;
use pgvpd_core::Config;
use pgvpd_core::config::LogFormat;
use tracing_subscriber::EnvFilter;

use crate::exit::Exit;

/// Checks the filter, which only this part of the program understands.
pub(crate) fn filter(config: &Config) -> Result<EnvFilter, Exit> {
    EnvFilter::try_new(&config.log_level)
        .with_context(|| format!("log_level: {:?} is not a valid filter", config.log_level))
        .map_err(Exit::Usage)
}

/// Installs the log for the process.
pub(crate) fn install(config: &Config) -> Result<(), Exit> {
    let log = tracing_subscriber::fmt().with_env_filter(filter(config)?).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}
