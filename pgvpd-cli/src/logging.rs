//! The log: lines for people or JSON, to standard error.

use std::io::IsTerminal;

use pgvpd_core::config::LogFormat;
use pgvpd_core::{Config, ConfigError, Problem};
use tracing_subscriber::EnvFilter;

/// Checks the filter, which only this part of the program understands.
pub(crate) fn filter(config: &Config) -> Result<EnvFilter, ConfigError> {
    EnvFilter::try_new(&config.log_level).map_err(|error| {
        ConfigError::from(Problem {
            option: Some("log_level".into()),
            origin: config.settings().origin("log_level").cloned(),
            message: format!("{:?} is not a valid filter: {error}", config.log_level),
        })
    })
}

/// Installs the log for the process.
pub(crate) fn install(config: &Config) -> Result<(), ConfigError> {
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter(config)?)
        .with_writer(std::io::stderr)
        // It would be reported to standard error, too, and panic where nobody reads that any more.
        .log_internal_errors(false);
    match config.log_format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}
