//! Real clients: each logs in as two tenants, queries, prepares, pipelines, copies, cancels and reconnects, on each server
//! and in each mode. Ends with a table of client and server.
//!
//! | variable | meaning |
//! |---|---|
//! | `PGVPD_TEST_SERVERS` | program directories of the servers, separated by colons; without it the one that is found |
//! | `PGVPD_TEST_CLIENTS` | names of [`CLIENTS`], separated by blanks; without it those that need nothing but psql |
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it cannot go on")]
#![expect(clippy::print_stdout, reason = "the table is for whoever runs the tests")]

mod program;
mod rust;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use comfy_table::Table;
use libtest_mimic::{Arguments, Failed, Trial};
use support::{ADMINISTRATOR, Cluster, TestProxy, auth_file, auth_query_options, proxy_for};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

/// What each client does, in order.
const STEPS: &[&str] = &[
    "isolation",
    "foreign_write",
    "parameters",
    "prepared",
    "pipeline",
    "transaction",
    "copy",
    "cancel",
    "reconnect",
    "no_tenant",
    "console",
];

/// What a client cannot do, and says so.
const NONE: &[(&str, &str)] = &[("psql", "pipeline"), ("psql-libpq18", "pipeline"), ("sqlx", "pipeline")];

/// How long a client may take before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(120);

/// Passthrough by each relay, and a pool that lets itself in with what a client's proof gave away.
const MODES: &[&str] = &["raw", "framed", "session"];

/// A file that has the administrator's secret.
fn administrators() -> &'static str {
    auth_file().to_str().unwrap()
}

fn options(mode: &'static str) -> Vec<(&'static str, &'static str)> {
    match mode {
        "session" => [&auth_query_options()[..], &[("admin_users", ADMINISTRATOR)]].concat(),
        relay => vec![("relay", relay), ("auth_file", administrators()), ("admin_users", ADMINISTRATOR)],
    }
}

/// Every client, and how it is run.
const CLIENTS: &[(&str, Kind)] = &[
    ("psql", Kind::Program(program::psql)),
    ("psql-libpq18", Kind::Program(program::psql_libpq18)),
    ("psycopg", Kind::Program(program::psycopg)),
    ("asyncpg", Kind::Program(program::asyncpg)),
    ("node-postgres", Kind::Program(program::node_postgres)),
    ("postgres.js", Kind::Program(program::postgres_js)),
    ("pgjdbc", Kind::Program(program::pgjdbc)),
    ("tokio-postgres", Kind::TokioPostgres),
    ("sqlx", Kind::Sqlx),
];

const NEED_NOTHING: &str = "psql tokio-postgres sqlx";

#[derive(Clone, Copy)]
enum Kind {
    Program(fn() -> tokio::process::Command),
    TokioPostgres,
    Sqlx,
}

/// Where a client connects, and the tenant of its own.
struct Target {
    port: u16,
    tenant: String,
}

/// One server, started by the first trial that needs it.
struct Server {
    bin_dir: Option<String>,
    running: OnceCell<Running>,
}

struct Running {
    cluster: Cluster,
    /// One for each mode.
    proxies: Vec<TestProxy>,
}

impl Server {
    async fn running(&self) -> &Running {
        let start = async || {
            let cluster = match &self.bin_dir {
                Some(bin_dir) => Cluster::start_in(bin_dir).await,
                None => Cluster::start().await,
            };
            let mut proxies = Vec::new();
            for mode in MODES {
                proxies.push(proxy_for(&cluster.postgres, &options(mode)).await.expect("the proxy starts"));
            }
            Running { cluster, proxies }
        };
        self.running.get_or_init(start).await
    }
}

/// Cells by row and column, of the trials that have run.
type Results = Arc<Mutex<BTreeMap<(String, String), String>>>;

fn main() {
    let runtime = Arc::new(Runtime::new().expect("threads"));
    let listed = std::env::var("PGVPD_TEST_SERVERS").unwrap_or_default();
    let listed: Vec<_> = listed.split(':').filter(|dir| !dir.is_empty()).map(|dir| Some(dir.to_owned())).collect();
    let bin_dirs = if listed.is_empty() { vec![None] } else { listed };
    let server = |bin_dir| Server { bin_dir, running: OnceCell::new() };
    let servers: Arc<Vec<Server>> = Arc::new(bin_dirs.into_iter().map(server).collect());
    let wanted = std::env::var("PGVPD_TEST_CLIENTS").unwrap_or_else(|_| NEED_NOTHING.into());

    let results = Results::default();
    let mut trials = Vec::new();
    for name in wanted.split_whitespace() {
        let client = *CLIENTS.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no client {name}"));
        for server in 0..servers.len() {
            for (mode, mode_name) in MODES.iter().enumerate() {
                let (runtime, servers, results) = (Arc::clone(&runtime), Arc::clone(&servers), Arc::clone(&results));
                let title = format!("{name}, server {}, {}", server + 1, mode_name);
                trials.push(Trial::test(title, move || {
                    runtime.block_on(trial(client, &servers[server], mode, &results))
                }));
            }
        }
    }
    // Two at once: the machine is not to decide how long a step takes.
    let arguments = Arguments { test_threads: Some(2), ..Arguments::from_args() };
    let conclusion = libtest_mimic::run(&arguments, trials);
    println!("{}", table(&results.lock().unwrap()));
    // The servers are stopped here; the exit itself would leave that to their supervisors.
    runtime.block_on(async { drop(servers) });
    conclusion.exit();
}

async fn trial((name, kind): (&str, Kind), server: &Server, mode: usize, results: &Results) -> Result<(), Failed> {
    let Running { cluster, proxies } = server.running().await;
    let (major, version) = cluster.postgres.version();
    let column = format!("{version}\n{}", MODES[mode]);
    let target = Target { port: proxies[mode].port(), tenant: format!("{name}-{major}-{}", MODES[mode]) };
    let (said, ended) = match kind {
        Kind::Program(command) => program::run(command(), &target).await,
        Kind::TokioPostgres => rust::tokio_postgres(&target).await,
        Kind::Sqlx => rust::sqlx(&target).await,
    };
    let version = said.iter().find_map(|line| line.strip_prefix("client ")).unwrap_or("?");
    let is_done = |step: &str| {
        let word = if NONE.contains(&(name, step)) { "none" } else { "ok" };
        said.iter().any(|line| *line == format!("{word} {step}"))
    };
    let missing = STEPS.iter().copied().find(|step| !is_done(step));
    let outcome = match (ended, missing) {
        (Ok(()), None) => Ok(()),
        (Ok(()), Some(step)) => Err((step, "the client left it out".to_owned())),
        (Err(reason), step) => Err((step.unwrap_or("the end"), reason)),
    };
    let cell = outcome.as_ref().err().map_or("ok", |(step, _)| step);
    results.lock().unwrap().insert((format!("{name} {version}"), column), cell.to_owned());
    outcome.map_err(|(step, reason)| format!("{step}: {reason}").into())
}

fn table(results: &BTreeMap<(String, String), String>) -> Table {
    let mut columns: Vec<&String> = results.keys().map(|(_, column)| column).collect();
    columns.sort();
    columns.dedup();
    let mut rows: Vec<&String> = results.keys().map(|(row, _)| row).collect();
    rows.dedup();
    let mut table = Table::new();
    table.set_header(std::iter::once("client").chain(columns.iter().map(|column| column.as_str())));
    for row in rows {
        let cell = |column: &&String| results.get(&(row.clone(), (*column).clone())).map_or("", String::as_str);
        table.add_row(std::iter::once(row.as_str()).chain(columns.iter().map(cell)));
    }
    table
}
