//! `pgvpd demo`: the main job, shown on a private PostgreSQL, with no set-up.

mod checks;
mod data;
mod install;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use pgvpd_core::testing::{Postgres, PostgresError};
use pgvpd_core::{BindError, Proxy, ProxyHandle, StartError};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Outcome;
use crate::print::{dim, heading, note};

/// Name of the demonstration's database.
pub(crate) const DATABASE: &str = "shop";

/// What `pgvpd demo` was asked.
#[derive(Debug, Clone)]
pub(crate) struct DemoOptions {
    pub(crate) once: bool,
    pub(crate) port: Option<u16>,
    pub(crate) bin_dir: Option<PathBuf>,
    pub(crate) install: bool,
}

/// Runs the demonstration.
pub(crate) fn run(options: &DemoOptions) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    Ok(runtime.block_on(demonstrate(options))?)
}

async fn demonstrate(options: &DemoOptions) -> Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stopped = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::pin!(stopped);

    // What a signal interrupts is dropped, and dropping removes it: server, data, proxy.
    let stage = tokio::select! {
        stage = Stage::set(options) => stage?,
        () = &mut stopped => return Ok(ExitCode::FAILURE),
    };
    let held = tokio::select! {
        held = stage.show() => held?,
        () = &mut stopped => return stage.clear(ExitCode::FAILURE).await,
    };
    let code = if held { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if !options.once {
        stage.invite();
        stopped.await;
        note("");
        note("Stopping and removing everything.");
    }
    stage.clear(code).await
}

/// A server with data, and a proxy before it.
struct Stage {
    postgres: Postgres,
    proxy: ProxyHandle,
}

impl Stage {
    async fn set(options: &DemoOptions) -> Result<Self> {
        heading("pgvpd demo: one table, three tenants, one PostgreSQL role");
        note("Starting a private PostgreSQL ...");
        let postgres = start_postgres(options).await?;
        let key = data::load(&postgres).await?;
        let proxy = start_proxy(options, &postgres, &key).await?;
        let (_, version) = postgres.version();
        note(&format!("  PostgreSQL {version} on 127.0.0.1:{}", postgres.port()));
        note(&format!("  pgvpd {} on {}", env!("CARGO_PKG_VERSION"), proxy.local_addr()));
        Ok(Self { postgres, proxy })
    }

    /// Shows and checks. True if the isolation held.
    async fn show(&self) -> Result<bool> {
        checks::Checks::new(self.proxy.local_addr(), self.postgres.app_password()).run().await
    }

    /// Prints what a person can try.
    fn invite(&self) {
        heading("Try it yourself");
        for tenant in data::TENANTS {
            note(&format!("  psql '{}'", self.url(tenant)));
        }
        note(&dim("  as the administrator, past the proxy's tenants:"));
        note(&format!("  psql '{}'", self.postgres.url(DATABASE)));
        note("");
        note("In a session, try:  SELECT * FROM orders;   SELECT current_tenant_id();");
        note(&dim("And try to be another tenant:  SET app.current_tenant_id = 'globex';  SET pgvpd.context = '...';"));
        note("Ctrl-C stops and removes everything.");
    }

    fn url(&self, tenant: &str) -> String {
        self.proxy.url_with_password(tenant, DATABASE, self.postgres.app_password())
    }

    async fn clear(self, code: ExitCode) -> Result<ExitCode> {
        self.proxy.shutdown(Duration::ZERO).await;
        self.postgres.stop().await?;
        Ok(code)
    }
}

async fn start_postgres(options: &DemoOptions) -> Result<Postgres> {
    let start = || {
        let builder = Postgres::builder();
        let builder = match &options.bin_dir {
            Some(directory) => builder.bin_dir(directory),
            None => builder,
        };
        builder.start()
    };
    match start().await {
        Err(PostgresError::NotFound { .. }) if options.install => {
            install::install().await?;
            Ok(start().await?)
        }
        started => Ok(started?),
    }
}

/// On the port that was asked for, or on 6432 or any free one.
async fn start_proxy(options: &DemoOptions, postgres: &Postgres, key: &str) -> Result<ProxyHandle> {
    let signing = || Proxy::builder().upstream_port(postgres.port()).set("context_signing_key", key);
    let start = |port: u16| signing().port(port).start();
    let taken = |error: &StartError| matches!(error, StartError::Bind(BindError::Tcp { .. }));
    match start(options.port.unwrap_or(6432)).await {
        Err(error) if options.port.is_none() && taken(&error) => Ok(start(0).await?),
        started => Ok(started?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hole_in_the_isolation_is_found() -> Result<()> {
        let options = DemoOptions { once: true, port: Some(0), bin_dir: None, install: false };
        for hole in [
            "ALTER TABLE orders DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE orders ENABLE ROW LEVEL SECURITY; DROP POLICY pgvpd_tenant_guard ON orders;
             CREATE POLICY hole ON orders USING (true)",
        ] {
            let stage = Stage::set(&options).await?;
            assert!(stage.show().await?, "it holds as it is");
            stage.postgres.execute(DATABASE, hole).await?;
            assert!(!stage.show().await?, "{hole}");
            stage.clear(ExitCode::SUCCESS).await?;
        }
        Ok(())
    }
}
