//! The exceptions, which Python's side defines.

use pyo3::import_exception;
use pyo3::prelude::*;

import_exception!(pgvpd, Error);
import_exception!(pgvpd, ConfigError);
import_exception!(pgvpd, StartError);
import_exception!(pgvpd.testing, PostgresError);
import_exception!(pgvpd.testing, IsolationError);

pub(crate) fn config_error(error: &pgvpd_core::ConfigError) -> PyErr {
    let problems: Vec<String> = error.problems.iter().map(ToString::to_string).collect();
    ConfigError::new_err((error.to_string(), problems))
}

pub(crate) fn start_error(error: &pgvpd_core::StartError) -> PyErr {
    match error {
        pgvpd_core::StartError::Config(error) => config_error(error),
        error => StartError::new_err(error.to_string()),
    }
}
