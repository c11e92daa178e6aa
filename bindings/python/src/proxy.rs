//! What `pgvpd.Proxy` is made of.

use std::collections::BTreeMap;
use std::time::Duration;

use pgvpd_core::config::OPTIONS;
use pgvpd_core::{Config, Origin, Proxy, Settings};
use pyo3::prelude::*;

use crate::errors::{Error, config_error, start_error};
use crate::process::{Held, Process};

/// Options by name, as the configuration file would have them.
pub(crate) type Options = BTreeMap<String, String>;

fn settings(options: Options) -> Settings {
    let mut settings = Settings::new();
    for (name, text) in options {
        if let Err(problem) = settings.set_from(&name, text, Origin::Code) {
            settings.reject(problem);
        }
    }
    settings
}

pub(crate) fn config(options: Options) -> PyResult<Config> {
    Config::from_settings(settings(options)).map_err(|error| config_error(&error))
}

/// Raises ConfigError where an option is not valid.
#[pyfunction]
pub(crate) fn check_options(options: Options) -> PyResult<()> {
    config(options).map(drop)
}

/// Every option, with its default as the manual words it.
#[pyfunction]
pub(crate) fn default_options() -> BTreeMap<&'static str, &'static str> {
    OPTIONS.iter().map(|option| (option.name, option.default)).collect()
}

/// A running proxy, stopped when it is garbage-collected.
#[pyclass(frozen)]
pub(crate) struct ProxyHandle(Held<pgvpd_core::ProxyHandle>);

#[pyfunction]
pub(crate) fn start_proxy(py: Python<'_>, options: Options) -> PyResult<ProxyHandle> {
    let start = Proxy::builder().settings(settings(options)).start();
    let process = Process::current(py)?;
    let started = process.wait(py, start)?;
    process.logs.flush(py);
    Ok(ProxyHandle(Held::new(started.map_err(|error| start_error(&error))?)))
}

#[pymethods]
impl ProxyHandle {
    fn shutdown(&self, py: Python<'_>, timeout: Duration) -> PyResult<usize> {
        let process = Process::current(py)?;
        let closed = process.wait(py, self.0.get(py)?.shutdown(timeout))?;
        process.logs.flush(py);
        Ok(closed)
    }

    fn closed(&self, py: Python<'_>, timeout: Duration) -> PyResult<bool> {
        let closed = self.0.get(py)?.closed();
        Process::current(py)?.wait(py, async { tokio::time::timeout(timeout, closed).await.is_ok() })
    }

    fn address(&self, py: Python<'_>) -> PyResult<(String, u16)> {
        let address = self.0.get(py)?.local_addr();
        Ok((address.ip().to_string(), address.port()))
    }

    fn tls_port(&self, py: Python<'_>) -> PyResult<Option<u16>> {
        Ok(self.0.get(py)?.tls_addr().map(|address| address.port()))
    }

    fn admin_port(&self, py: Python<'_>) -> PyResult<Option<u16>> {
        Ok(self.0.get(py)?.admin_addr().map(|address| address.port()))
    }

    fn url(&self, py: Python<'_>, tenant: &str, database: &str, password: Option<&str>) -> PyResult<String> {
        let proxy = self.0.get(py)?;
        Ok(match password {
            Some(password) => proxy.url_with_password(tenant, database, password),
            None => proxy.url(tenant, database),
        })
    }

    fn stats(&self, py: Python<'_>) -> PyResult<BTreeMap<&'static str, u64>> {
        let stats = self.0.get(py)?.stats();
        Ok(BTreeMap::from([
            ("connections_total", stats.connections_total),
            ("sessions_total", stats.sessions_total),
            ("refused_total", stats.refused_total),
            ("sessions_active", stats.sessions_active as u64),
        ]))
    }

    fn reload(&self, py: Python<'_>, options: Options) -> PyResult<Vec<&'static str>> {
        let (process, proxy, config) = (Process::current(py)?, self.0.get(py)?, config(options)?);
        // It may wait for a reload that is under way.
        let reloaded = py.detach(|| proxy.reload(config));
        process.logs.flush(py);
        Ok(reloaded.map_err(|error| Error::new_err(error.to_string()))?.needs_restart)
    }
}
