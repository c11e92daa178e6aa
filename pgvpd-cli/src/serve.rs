//! `pgvpd`: the daemon, from configuration to the last session.

use std::process::ExitCode;

use anyhow::Context;
use pgvpd_core::config::UpstreamAddress;
use pgvpd_core::{Config, Proxy, ProxyHandle, raise_file_limit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::args::Arguments;
use crate::exit::{Exit, Outcome};
use crate::logging;

/// `pgvpd --check-config`.
pub(crate) fn check(arguments: &Arguments) -> Outcome {
    let config = Config::from_settings(arguments.settings()?)?;
    logging::filter(&config)?;
    anstream::println!("pgvpd: the configuration is valid");
    Ok(ExitCode::SUCCESS)
}

/// `pgvpd`: runs the proxy until a signal ends it.
pub(crate) fn serve(arguments: &Arguments) -> Outcome {
    let config = Config::from_settings(arguments.settings()?)?;
    logging::install(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    runtime.block_on(run(arguments, config))
}

async fn run(arguments: &Arguments, config: Config) -> Outcome {
    // Before the listener opens, so that no signal finds the program without a handler.
    let mut signals = Signals::new().context("cannot handle signals")?;
    warn_of_file_limit(&config);
    let UpstreamAddress { host, port } = config.upstream.clone();
    let proxy = Proxy::builder().config(config.clone()).start().await?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        address = %proxy.local_addr(),
        unix_dir = config.listen.unix_dir.as_ref().map(|dir| dir.display().to_string()),
        upstream = %format_args!("{host}:{port}"),
        "pgvpd is listening"
    );

    let mut timeout = config.shutdown_timeout;
    let name = loop {
        match signals.next().await {
            Received::Reload => {
                if let Some(config) = reload(arguments, &proxy) {
                    timeout = config.shutdown_timeout;
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

fn warn_of_file_limit(config: &Config) {
    let files = raise_file_limit(config);
    if let Some(limit) = files.limit.filter(|_| !files.suffices()) {
        warn!(
            limit,
            needed = files.needed,
            "the limit of open files is too low for max_client_connections; raise it (ulimit -n, LimitNOFILE)"
        );
    }
}

/// Reads the configuration again; a bad one is reported and the old one stays.
fn reload(arguments: &Arguments, proxy: &ProxyHandle) -> Option<Config> {
    match arguments.settings().and_then(Config::from_settings) {
        Ok(config) => {
            let reloaded = proxy.reload(config.clone());
            if !reloaded.needs_restart.is_empty() {
                warn!(options = ?reloaded.needs_restart, "these options change only with a restart");
            }
            Some(config)
        }
        Err(error) => {
            error!(%error, "reload failed; the old configuration stays");
            None
        }
    }
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
