//! Clients that are programs of their own, in `tests/clients/`.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use crate::{PATIENCE, Target};

fn file(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "clients", name].iter().collect()
}

/// A variable that `tests/run.sh` sets to what it has installed.
fn installed(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set; tests/run.sh installs what this client needs"))
}

pub(super) fn psql() -> Command {
    Command::new(file("psql.sh"))
}

/// psql of the system, with the libpq of PostgreSQL 18.
pub(super) fn psql_libpq18() -> Command {
    let mut command = psql();
    command.env("LD_LIBRARY_PATH", installed("PGVPD_TEST_LIBPQ18")).env("PGVPD_LIBPQ", "18");
    command
}

fn python(script: &str) -> Command {
    let mut command = Command::new(installed("PGVPD_TEST_PYTHON"));
    command.arg(file(script)).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

pub(super) fn psycopg() -> Command {
    python("python/psycopg_client.py")
}

pub(super) fn asyncpg() -> Command {
    python("python/asyncpg_client.py")
}

fn node(script: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(file(script)).env("NODE_PATH", installed("PGVPD_TEST_NODE_MODULES"));
    command
}

pub(super) fn node_postgres() -> Command {
    node("node/pg.cjs")
}

pub(super) fn postgres_js() -> Command {
    node("node/postgres.cjs")
}

pub(super) fn pgjdbc() -> Command {
    let mut command = Command::new("java");
    command.arg("-cp").arg(installed("PGVPD_TEST_JDBC")).arg(file("java/PgJdbc.java"));
    command
}

/// Runs a program; gives its lines, and what it said of its failure.
pub(super) async fn run(mut command: Command, target: &Target) -> (Vec<String>, Result<(), String>) {
    let (scratch, said) = (temporary(), temporary());
    command
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", target.port.to_string())
        .env("PGDATABASE", support::SHOP)
        .env("PGPASSWORD", support::APP_PASSWORD)
        .env("PGVPD_TENANT", &target.tenant)
        .env("PGVPD_OUTPUT", scratch.path())
        .stdin(Stdio::null())
        // A file, so that what a stuck client has said is known.
        .stdout(said.reopen().expect("temporary file"))
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let ended = match command.spawn() {
        Ok(child) => match tokio::time::timeout(PATIENCE, child.wait_with_output()).await {
            Ok(Ok(output)) if output.status.success() => Ok(()),
            Ok(Ok(output)) => Err(format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr))),
            Ok(Err(error)) => Err(format!("cannot wait for it: {error}")),
            Err(_) => Err(format!("not done within {} s", PATIENCE.as_secs())),
        },
        Err(error) => Err(format!("cannot run it: {error}")),
    };
    let said = std::fs::read_to_string(said.path()).unwrap_or_default();
    (said.lines().map(str::to_owned).collect(), ended)
}

fn temporary() -> tempfile::NamedTempFile {
    tempfile::NamedTempFile::new().expect("temporary file")
}
