//! Exit codes, and the one place that prints why the program ends.

use std::process::ExitCode;
use std::time::Duration;

use crate::log_writer::at_most;

/// How long the reason may take to be printed where somebody else reads standard error, and perhaps does not.
const PRINT_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the program ends other than well.
#[derive(Debug)]
pub(crate) enum Exit {
    /// Code 1.
    Failed(anyhow::Error),
    /// Code 2.
    Usage(anyhow::Error),
    /// Code 3.
    Start(anyhow::Error),
    /// Code 128 + the number of the signal.
    Signal(u8),
}

pub(crate) type Outcome = Result<ExitCode, Exit>;

impl Exit {
    /// Prints the reason and gives the code.
    pub(crate) fn report(self) -> ExitCode {
        let (code, error) = self.into_parts();
        if let Some(error) = error {
            anstream::eprintln!("pgvpd: {error:#}");
        }
        code
    }

    /// The same, for a service: it ends, whether its standard error is read or not.
    pub(crate) fn report_in_time(self) -> ExitCode {
        let (code, error) = self.into_parts();
        if let Some(error) = error {
            at_most(PRINT_TIMEOUT, move || anstream::eprintln!("pgvpd: {error:#}"));
        }
        code
    }

    /// Writes the reason to the log, for those who parse every line of it, and gives the code.
    pub(crate) fn log(self) -> ExitCode {
        let (code, error) = self.into_parts();
        if let Some(error) = error {
            tracing::error!(error = format!("{error:#}"), "pgvpd ends");
        }
        code
    }

    fn into_parts(self) -> (ExitCode, Option<anyhow::Error>) {
        let (code, error) = match self {
            Self::Failed(error) => (1, Some(error)),
            Self::Usage(error) => (2, Some(error)),
            Self::Start(error) => (3, Some(error)),
            Self::Signal(number) => (128 + number, None),
        };
        (ExitCode::from(code), error)
    }
}

impl From<pgvpd_core::ConfigError> for Exit {
    fn from(error: pgvpd_core::ConfigError) -> Self {
        Self::Usage(error.into())
    }
}

impl From<pgvpd_core::StartError> for Exit {
    fn from(error: pgvpd_core::StartError) -> Self {
        match error {
            pgvpd_core::StartError::Config(error) => error.into(),
            error => Self::Start(error.into()),
        }
    }
}

impl From<anyhow::Error> for Exit {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}
