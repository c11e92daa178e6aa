//! What `pgvpd.testing.Postgres` is made of.

use std::path::PathBuf;

use pgvpd_core::testing::{Postgres, PostgresError};
use pyo3::prelude::*;

use crate::errors;
use crate::process::{Held, Process};
use crate::proxy::Options;

/// A running server, removed when it is garbage-collected.
#[pyclass(frozen)]
pub(crate) struct PostgresHandle(Held<Postgres>);

fn wait<T: Send>(py: Python<'_>, doing: impl Future<Output = Result<T, PostgresError>> + Send) -> PyResult<T> {
    let done = Process::current(py)?.wait(py, doing)?;
    done.map_err(|error| errors::PostgresError::new_err(error.to_string()))
}

#[pyfunction]
pub(crate) fn start_postgres(py: Python<'_>, settings: Options, bin_dir: Option<PathBuf>) -> PyResult<PostgresHandle> {
    let builder = bin_dir.into_iter().fold(Postgres::builder(), |builder, dir| builder.bin_dir(dir));
    let builder = settings.into_iter().fold(builder, |builder, (name, value)| builder.setting(name, value));
    Ok(PostgresHandle(Held::new(wait(py, builder.start())?)))
}

#[pymethods]
impl PostgresHandle {
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        wait(py, self.0.get(py)?.stop())
    }

    fn restart(&self, py: Python<'_>) -> PyResult<()> {
        wait(py, self.0.get(py)?.restart())
    }

    fn kill(&self, py: Python<'_>) -> PyResult<()> {
        wait(py, self.0.get(py)?.kill())
    }

    fn execute(&self, py: Python<'_>, database: &str, sql: &str) -> PyResult<()> {
        wait(py, self.0.get(py)?.execute(database, sql))
    }

    fn create_database(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        wait(py, self.0.get(py)?.create_database(name))
    }

    fn create_app_database(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        wait(py, self.0.get(py)?.create_app_database(name))
    }

    fn address(&self, py: Python<'_>) -> PyResult<(&'static str, u16)> {
        let server = self.0.get(py)?;
        Ok((server.host(), server.port()))
    }

    fn version(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.0.get(py)?.version().1.to_owned())
    }

    fn app_login(&self, py: Python<'_>) -> PyResult<(&'static str, String)> {
        let server = self.0.get(py)?;
        Ok((server.app_user(), server.app_password().to_owned()))
    }

    fn app_url(&self, py: Python<'_>, database: &str) -> PyResult<String> {
        Ok(self.0.get(py)?.app_url(database))
    }

    fn url(&self, py: Python<'_>, database: &str) -> PyResult<String> {
        Ok(self.0.get(py)?.url(database))
    }
}
