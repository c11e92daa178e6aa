//! Running a client: the programs in `tests/clients/tls/`, and tokio-postgres.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use support::tls::{client_config, log_in_over_tls, tls_site};
use support::{APP_PASSWORD, SHOP};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio_postgres::{Config, NoTls};

/// How long one client may take for all its logins.
const PATIENCE: Duration = Duration::from_secs(240);

/// What logs in.
#[derive(Clone, Copy)]
pub(crate) enum Program {
    Psql,
    /// psql of the system, with the libpq of PostgreSQL 18.
    PsqlLibpq18,
    /// With this library.
    Python(&'static str),
    Node(&'static str),
    PgJdbc,
    TokioPostgres,
}

/// A port, a user and a way in.
pub(crate) type Login = (u16, String, &'static str);

fn file(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "clients", "tls", name].iter().collect()
}

/// A variable that `tests/run.sh` sets to what it has installed.
fn installed(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set; tests/run.sh installs what this client needs"))
}

impl Program {
    fn command(self) -> Option<Command> {
        Some(match self {
            Self::Psql => Command::new(file("psql.sh")),
            Self::PsqlLibpq18 => {
                let mut command = Command::new(file("psql.sh"));
                command.env("LD_LIBRARY_PATH", installed("PGVPD_TEST_LIBPQ18"));
                command
            }
            Self::Python(library) => {
                let mut command = Command::new(installed("PGVPD_TEST_PYTHON"));
                command.arg(file("python_client.py")).arg(library).env("PYTHONDONTWRITEBYTECODE", "1");
                command
            }
            Self::Node(library) => {
                let mut command = Command::new("node");
                command.arg(file("node_client.cjs")).arg(library);
                command.env("NODE_PATH", installed("PGVPD_TEST_NODE_MODULES"));
                command
            }
            Self::PgJdbc => {
                let mut command = Command::new("java");
                command.arg("-cp").arg(installed("PGVPD_TEST_JDBC")).arg(file("PgJdbcTls.java"));
                command
            }
            Self::TokioPostgres => return None,
        })
    }

    /// Logs in as often as there are logins. What came of each, in order.
    pub(crate) async fn run(self, logins: &[Login]) -> Result<Vec<String>, String> {
        let Some(command) = self.command() else {
            let mut said = Vec::new();
            for login in logins {
                said.push(tokio_postgres(login).await);
            }
            return Ok(said);
        };
        let ended = tokio::time::timeout(PATIENCE, run(command, logins)).await;
        let said = ended.map_err(|_| format!("not done within {} s", PATIENCE.as_secs()))??;
        if said.len() == logins.len() { Ok(said) } else { Err(format!("{} answers to {}", said.len(), logins.len())) }
    }
}

async fn run(mut command: Command, logins: &[Login]) -> Result<Vec<String>, String> {
    let input: String = logins.iter().map(|(port, user, way)| format!("{port} {user} {way}\n")).collect();
    command
        .env("PGDATABASE", SHOP)
        .env("PGPASSWORD", APP_PASSWORD)
        .env("PGVPD_CA", tls_site().await.ca())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("cannot run it: {error}"))?;
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).await.map_err(|error| error.to_string())?;
    drop(stdin);
    let output = child.wait_with_output().await.map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

async fn tokio_postgres((port, user, way): &Login) -> String {
    let mut config = Config::new();
    config.host("localhost").hostaddr([127, 0, 0, 1].into()).port(*port);
    config.user(user).password(APP_PASSWORD).dbname(SHOP);
    let client = match *way {
        "disable" => config.connect(NoTls).await.map(|(client, connection)| {
            tokio::spawn(connection);
            client
        }),
        _ => log_in_over_tls(&config, client_config(&tls_site().await.authority, None)).await,
    };
    let answer = match client {
        Ok(client) => client.query_one("SELECT current_tenant_id()", &[]).await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(row) => format!("ok {}", row.get::<_, &str>(0)),
        Err(error) => match error.as_db_error() {
            Some(said) => format!("error {} {}", said.message(), said.hint().unwrap_or_default()),
            None => format!(
                "error {error} {}",
                std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default()
            ),
        },
    }
}
