//! `pgvpd`: the daemon, from configuration to the last session.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use pgvpd_core::config::{LogFormat, UpstreamAddress};
use pgvpd_core::{Config, ConfigError, Proxy, ProxyHandle, raise_file_limit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::args::Arguments;
use crate::exit::{Exit, Outcome};
use crate::logging;

/// `pgvpd --check-config`.
pub(crate) fn check(arguments: &Arguments) -> Outcome {
    let config = read(arguments)?;
    for notice in &config.notices {
        anstream::println!("pgvpd: note: {notice}");
    }
    anstream::println!("pgvpd: the configuration is valid");
    Ok(ExitCode::SUCCESS)
}

/// `pgvpd`: runs the proxy until a signal ends it.
pub(crate) fn serve(arguments: &Arguments) -> Outcome {
    let config = read(arguments)?;
    logging::install(&config)?;
    let log_format = config.log_format;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let outcome = runtime.block_on(run(arguments, config));
    // Tasks are dropped here; a host name that is still being resolved is not waited for.
    runtime.shutdown_timeout(Duration::from_millis(200));
    match log_format {
        LogFormat::Text => outcome,
        LogFormat::Json => Ok(outcome.unwrap_or_else(Exit::log)),
    }
}

async fn run(arguments: &Arguments, config: Config) -> Outcome {
    // Before the listener opens, so that no signal finds the program without a handler.
    let mut signals = Signals::new().context("cannot handle signals")?;
    warn_of(&config);
    let UpstreamAddress { host, port, .. } = config.upstream.clone();
    let proxy = Proxy::builder().config(config.clone()).start().await?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        address = %proxy.local_addr(),
        tls_address = proxy.tls_addr().map(|address| address.to_string()),
        unix_dir = config.listen.unix_dir.as_ref().map(|dir| dir.display().to_string()),
        upstream = %format_args!("{host}:{port}"),
        "pgvpd is listening"
    );

    let mut timeout = config.shutdown_timeout;
    let name = loop {
        match signals.next().await {
            Received::Reload => {
                if let Some(reloaded) = reload(arguments, &config, &proxy) {
                    timeout = reloaded.shutdown_timeout;
                }
            }
            Received::Stop(name, _) => break name,
        }
    };
    info!(signal = name, sessions = proxy.stats().sessions_active, ?timeout, "stopping; sessions may finish");
    tokio::select! {
        closed = proxy.shutdown(timeout) => info!(sessions_closed = closed, "stopped"),
        number = signals.second_stop() => {
            warn!("stopped at once by a second signal");
            return Err(Exit::Signal(number));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what is not wrong, and not as it should be.
fn warn_of(config: &Config) {
    config.notices.iter().for_each(|notice| warn!("{notice}"));
    let files = raise_file_limit(config);
    if let Some(limit) = files.limit.filter(|_| !files.suffices()) {
        warn!(
            limit,
            needed = files.needed,
            "the limit of open files is too low for max_client_connections; raise it (ulimit -n, LimitNOFILE)"
        );
    }
}

/// Reads the configuration again; a bad one is reported and the old one stays. `first` is the one of the start.
fn reload(arguments: &Arguments, first: &Config, proxy: &ProxyHandle) -> Option<Config> {
    match read(arguments) {
        Ok(config) => {
            warn_of(&config);
            let mut needs_restart = proxy.reload(config.clone()).needs_restart;
            if config.log_level != first.log_level {
                needs_restart.push("log_level");
            }
            if config.log_format != first.log_format {
                needs_restart.push("log_format");
            }
            if !needs_restart.is_empty() {
                warn!(options = ?needs_restart, "these options change only with a restart");
            }
            Some(config)
        }
        Err(error) => {
            error!(%error, "reload failed; the old configuration stays");
            None
        }
    }
}

/// The configuration, with every check that the program makes.
fn read(arguments: &Arguments) -> Result<Config, ConfigError> {
    let config = Config::from_settings(arguments.settings())?;
    logging::filter(&config)?;
    Ok(config)
}

/// The signals that the daemon answers.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

enum Received {
    Reload,
    Stop(&'static str, u8),
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Received {
        tokio::select! {
            _ = self.interrupt.recv() => Received::Stop("SIGINT", 2),
            _ = self.terminate.recv() => Received::Stop("SIGTERM", 15),
            _ = self.hangup.recv() => Received::Reload,
        }
    }

    /// The number of the next signal to stop.
    async fn second_stop(&mut self) -> u8 {
        loop {
            if let Received::Stop(_, number) = self.next().await {
                return number;
            }
        }
    }
}
