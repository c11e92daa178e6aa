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
use crate::logging::{self, Log};
use crate::systemd;

/// `pgvpd --check-config`.
pub(crate) fn check(arguments: &Arguments) -> Outcome {
    let config = read(arguments)?;
    for notice in &config.notices {
        anstream::println!("pgvpd: note: {notice}");
    }
    anstream::println!("pgvpd: the configuration is valid");
    Ok(ExitCode::SUCCESS)
}

/// `pgvpd`: runs the proxy until a signal, or an administrator, ends it.
pub(crate) fn serve(arguments: Arguments) -> Outcome {
    let config = read(&arguments)?;
    let (log, flush) = Log::install(&config)?;
    let log_format = config.log_format;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let outcome = runtime.block_on(run(arguments, config, log));
    // Tasks are dropped here; a host name that is still being resolved is not waited for.
    runtime.shutdown_timeout(Duration::from_millis(200));
    let outcome = match log_format {
        LogFormat::Text => outcome,
        LogFormat::Json => Ok(outcome.unwrap_or_else(Exit::log)),
    };
    drop(flush);
    Ok(outcome.unwrap_or_else(Exit::report_in_time))
}

async fn run(arguments: Arguments, config: Config, log: Log) -> Outcome {
    // Before the listener opens, so that no signal finds the program without a handler.
    let mut signals = Signals::new().context("cannot handle signals")?;
    warn_of(&config);
    let UpstreamAddress { host, port, .. } = config.upstream.clone();
    let proxy = Proxy::builder()
        .config(config.clone())
        .reload_from(move || read(&arguments))
        .lost_log_lines({
            let log = log.clone();
            move || log.lost_lines()
        })
        .on_reload(move |config| {
            warn_of(config);
            log.adapt(config);
        })
        .start()
        .await?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        address = %proxy.local_addr(),
        tls_address = proxy.tls_addr().map(|address| address.to_string()),
        admin_address = proxy.admin_addr().map(|address| address.to_string()),
        unix_dir = config.listen.unix_dir.as_ref().map(|dir| dir.display().to_string()),
        upstream = %format_args!("{host}:{port}"),
        "pgvpd is listening"
    );
    systemd::ready(&proxy);
    tokio::select! {
        outcome = until_stopped(&proxy, &mut signals) => outcome,
        () = systemd::watchdog(&proxy) => Ok(ExitCode::SUCCESS),
    }
}

/// Does what signals say, to the end of the proxy.
async fn until_stopped(proxy: &ProxyHandle, signals: &mut Signals) -> Outcome {
    let name = loop {
        tokio::select! {
            received = signals.next() => match received {
                // Reading the files again may come to no end.
                Received::Reload => tokio::select! {
                    () = reload(proxy) => {}
                    (name, _) = signals.next_stop() => break name,
                },
                Received::Stop(name) => break name,
            },
            () = proxy.draining() => break "POST /drain",
        }
    };
    let (sessions, timeout) = (proxy.stats().sessions_active, proxy.shutdown_timeout());
    info!(signal = name, sessions, ?timeout, "stopping; sessions may finish");
    systemd::stopping(sessions);
    tokio::select! {
        closed = proxy.shutdown(timeout) => info!(sessions_closed = closed, "stopped"),
        (_, number) = signals.next_stop() => {
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
    let Some(limit) = files.limit.filter(|_| !files.suffices()) else { return };
    if config.settings().origin("max_client_connections").is_some() {
        warn!(
            limit,
            needed = files.needed,
            "the limit of open files is too low for max_client_connections; raise it (ulimit -n, LimitNOFILE)"
        );
    } else {
        // Nobody has asked for as many as the default permits.
        info!(limit, clients = files.clients(), "the limit of open files is enough for this many clients");
    }
}

/// Reads the configuration again; a bad one is reported and the old one stays.
async fn reload(proxy: &ProxyHandle) {
    systemd::reloading();
    match proxy.reload_again().await {
        Ok(reloaded) if reloaded.needs_restart.is_empty() => {}
        Ok(reloaded) => warn!(options = reloaded.needs_restart.join(", "), "these options change only with a restart"),
        Err(error) => error!(%error, "reload failed; the old configuration stays"),
    }
    systemd::reloaded();
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
    Stop(&'static str),
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
            _ = self.interrupt.recv() => Received::Stop("SIGINT"),
            _ = self.terminate.recv() => Received::Stop("SIGTERM"),
            _ = self.hangup.recv() => Received::Reload,
        }
    }

    /// Name and number of the next signal to stop. Others are still there afterwards.
    async fn next_stop(&mut self) -> (&'static str, u8) {
        tokio::select! {
            _ = self.interrupt.recv() => ("SIGINT", 2),
            _ = self.terminate.recv() => ("SIGTERM", 15),
        }
    }
}
