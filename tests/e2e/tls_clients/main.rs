//! Real clients over TLS: each in every way that it has to ask for it, on every pair of legs, whoever judges its proof. Ends with
//! a table; a cell is what came of the login, and an error only where that is what docs/tls.md says.
//!
//! `PGVPD_TEST_CLIENTS`: names of [`CLIENTS`], separated by blanks; without it those that need nothing but psql.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it cannot go on")]
#![expect(clippy::print_stdout, reason = "the table is for whoever runs the tests")]

mod expected;
mod logins;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use comfy_table::Table;
use libtest_mimic::{Arguments, Failed, Trial};
use support::tls::tls_site;
use support::{TestProxy, auth_file, auth_query_options, proxy_for};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use expected::{Judge, Lane, Method, Outcome, Way, Wish};
use logins::Program;

const fn way(name: &'static str, tls: Wish) -> Way {
    Way { name, tls, insists_on_binding: false }
}

/// libpq's own.
const LIBPQ: &[Way] = &[
    way("disable", Wish::Never),
    way("allow", Wish::Never),
    way("prefer", Wish::IfThere),
    way("require", Wish::Always),
    way("verify-ca", Wish::Always),
    way("verify-full", Wish::Always),
    Way { name: "binding", tls: Wish::Always, insists_on_binding: true },
];

/// Those that libpq has since PostgreSQL 17.
const LIBPQ18: &[Way] = &[way("prefer", Wish::IfThere), way("verify-full", Wish::Always), way("direct", Wish::Always)];

/// Others': without TLS, and with the server verified.
const OTHERS: &[Way] = &[way("disable", Wish::Never), way("verify-full", Wish::Always)];

/// A client.
#[derive(Clone, Copy)]
struct Client {
    name: &'static str,
    ways: &'static [Way],
    /// It says in a proof on TLS that it could bind it.
    can_bind: bool,
    program: Program,
}

const CLIENTS: &[Client] = &[
    Client { name: "psql", ways: LIBPQ, can_bind: true, program: Program::Psql },
    Client { name: "psql-libpq18", ways: LIBPQ18, can_bind: true, program: Program::PsqlLibpq18 },
    Client { name: "psycopg", ways: OTHERS, can_bind: true, program: Program::Python("psycopg") },
    Client { name: "asyncpg", ways: OTHERS, can_bind: false, program: Program::Python("asyncpg") },
    Client { name: "node-postgres", ways: OTHERS, can_bind: false, program: Program::Node("pg") },
    Client { name: "postgres.js", ways: OTHERS, can_bind: false, program: Program::Node("postgres") },
    Client { name: "pgjdbc", ways: OTHERS, can_bind: false, program: Program::PgJdbc },
    Client { name: "tokio-postgres", ways: OTHERS, can_bind: true, program: Program::TokioPostgres },
];

const NEED_NOTHING: &str = "psql tokio-postgres";

/// One for each lane, before one server, started by the first trial.
static PROXIES: OnceCell<Vec<(Lane, TestProxy)>> = OnceCell::const_new();

async fn proxies() -> &'static [(Lane, TestProxy)] {
    let start = async || {
        let mut proxies = Vec::new();
        for lane in Lane::all() {
            proxies.push((lane, start(lane).await));
        }
        proxies
    };
    PROXIES.get_or_init(start).await
}

async fn start(lane: Lane) -> TestProxy {
    let site = tls_site().await;
    let mut options: Vec<(&str, &str)> = vec![];
    if lane.client_tls {
        options.extend(site.with_clients());
    }
    if lane.upstream_tls {
        options.extend(site.with_upstream());
    }
    if lane.judge == Judge::Pool {
        options.push(("pool_mode", "session"));
    }
    match (lane.judge, lane.method) {
        (Judge::Postgres, _) => options.push(("relay", "framed")),
        // A pool, and the proxy where it judges, let themselves in with what the client's proof gave away; for MD5 a password has
        // to be known.
        (_, Method::Scram) => options.extend(auth_query_options().into_iter().filter(|(name, _)| *name != "pool_mode")),
        (_, Method::Md5) => options.push(("auth_file", auth_file().to_str().expect("UTF-8"))),
    }
    if lane.judge == Judge::Proxy {
        options.push(("relay", "framed"));
    }
    proxy_for(&site.cluster.postgres, &options).await.expect("the proxy starts")
}

/// Cells by row and column, of the trials that have run.
type Results = Arc<Mutex<BTreeMap<(usize, usize), &'static str>>>;

/// Every client with every way, in the order of the table.
fn rows() -> Vec<(Client, Way)> {
    CLIENTS.iter().flat_map(|client| client.ways.iter().map(|way| (*client, *way))).collect()
}

fn main() {
    let runtime = Arc::new(Runtime::new().expect("threads"));
    let wanted = std::env::var("PGVPD_TEST_CLIENTS").unwrap_or_else(|_| NEED_NOTHING.into());
    let wanted: Vec<&str> = wanted.split_whitespace().collect();
    let results = Results::default();
    let trials = CLIENTS.iter().filter(|client| wanted.contains(&client.name)).map(|client| {
        let (runtime, results) = (Arc::clone(&runtime), Arc::clone(&results));
        Trial::test(client.name, move || runtime.block_on(trial(*client, &results)))
    });
    let arguments = Arguments { test_threads: Some(2), ..Arguments::from_args() };
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    println!("{}", table(&results.lock().unwrap()));
    conclusion.exit();
}

async fn trial(client: Client, results: &Results) -> Result<(), Failed> {
    let proxies = proxies().await;
    let cells: Vec<(usize, usize)> = (0..proxies.len())
        .flat_map(|column| (0..rows().len()).map(move |row| (row, column)))
        .filter(|(row, _)| rows()[*row].0.name == client.name)
        .collect();
    let logins: Vec<_> = cells
        .iter()
        .map(|(row, column)| {
            let (lane, proxy) = &proxies[*column];
            let role = if lane.method == Method::Md5 { "md5_user" } else { "app_user" };
            (proxy.port(), format!("{role}.acme"), rows()[*row].1.name)
        })
        .collect();
    let said = client.program.run(&logins).await.map_err(|error| format!("{}: {error}", client.name))?;
    let mut wrong = Vec::new();
    for (((row, column), (port, ..)), said) in cells.into_iter().zip(&logins).zip(said) {
        let (lane, way) = (proxies[column].0, rows()[row].1);
        let (expected, found) = (lane.expected(way, client.can_bind), Outcome::of(&said, "acme"));
        results.lock().unwrap().insert((row, column), found.map_or("?", Outcome::cell));
        if found != Some(expected) {
            wrong.push(format!("{} {lane:?} (port {port}): expected {expected:?}, got {said}", way.name));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

fn table(results: &BTreeMap<(usize, usize), &'static str>) -> Table {
    let lanes = Lane::all();
    let mut table = Table::new();
    let titles = lanes.iter().map(|lane| lane.title());
    table.set_header(std::iter::once("client TLS\nupstream TLS\nwho judges\nmethod".to_owned()).chain(titles));
    for (row, (client, way)) in rows().iter().enumerate() {
        if results.keys().any(|(found, _)| *found == row) {
            let cell = |column| results.get(&(row, column)).copied().unwrap_or_default().to_owned();
            let title = format!("{} {}", client.name, way.name);
            table.add_row(std::iter::once(title).chain((0..lanes.len()).map(cell)));
        }
    }
    table
}
