//! The module `pgvpd._pgvpd` of the Python package: what is started, waited for and stopped, around [`pgvpd_core`]. What
//! Python's users see of it is written in Python, in `python/pgvpd`.

mod errors;
mod isolation;
mod log_queue;
mod logs;
mod postgres;
mod process;
mod proxy;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use pyo3::prelude::*;

/// The compiled part of the package.
#[pymodule]
mod _pgvpd {
    #[pymodule_export]
    use super::isolation::{check_isolation, fresh_tenant};
    #[pymodule_export]
    use super::logs::{close_log, refresh_log_levels};
    #[pymodule_export]
    use super::postgres::{PostgresHandle, start_postgres};
    #[pymodule_export]
    use super::proxy::{ProxyHandle, check_options, default_options, start_proxy};
    #[pymodule_export]
    use super::run_command;

    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "Python's name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}

/// Runs the `pgvpd` program with these arguments, the first being its own name, and gives its exit code.
#[pyfunction]
fn run_command(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| {
        let code = pgvpd_cli::main(arguments);
        // The last line may lack its end; a program in Rust would flush it on its way out.
        let _ = std::io::stdout().flush();
        // There is no other way to look into an `ExitCode`.
        (0..=u8::MAX).find(|number| ExitCode::from(*number) == code).unwrap_or(1)
    })
}
