//! What `pgvpd.testing.assert_isolated` is made of.

use std::sync::{Arc, OnceLock};

use pgvpd_core::testing::{self, IsolationCheck};
use pyo3::prelude::*;

use crate::errors::IsolationError;
use crate::process::Process;
use crate::proxy::{Options, config};

/// Tries to reach one tenant's rows as another. Gives whether nothing leaked, and the report.
#[pyfunction]
pub(crate) fn check_isolation(
    py: Python<'_>,
    table: &str,
    column: &str,
    login: Py<PyAny>,
    tenants: Option<Vec<String>>,
    without_context: Option<String>,
    admin: Option<String>,
) -> PyResult<(bool, String)> {
    let mut check = IsolationCheck::of(table).column(column);
    for tenant in tenants.into_iter().flatten() {
        let url: String = login.call1(py, (&tenant,))?.extract(py)?;
        check = check.tenant(tenant, url);
    }
    let raised = Arc::new(OnceLock::new());
    let raised_by_login = Arc::clone(&raised);
    check = check.login(move |tenant| {
        let url = Python::attach(|py| login.call1(py, (tenant,))?.extract(py));
        url.unwrap_or_else(|error| {
            // Nobody can log in by an empty URL, and the caller learns why.
            let _ = raised_by_login.set(error);
            String::new()
        })
    });
    check = without_context.into_iter().fold(check, IsolationCheck::without_context);
    check = admin.into_iter().fold(check, IsolationCheck::admin);
    let checked = Process::current(py)?.wait(py, check.run())?;
    if let Some(error) = raised.get() {
        return Err(error.clone_ref(py));
    }
    let report = checked.map_err(|error| IsolationError::new_err(error.to_string()))?;
    Ok((report.holds(), report.to_string()))
}

/// The name of a tenant that nobody else uses, in the form that these options' `tenant_format` asks for.
#[pyfunction]
pub(crate) fn fresh_tenant(options: Options) -> PyResult<String> {
    Ok(testing::fresh_tenant(config(options)?.identity.format))
}
