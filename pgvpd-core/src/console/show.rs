//! The tables that SHOW gives. Columns that PgBouncer's console has too have its names and meanings ("Admin console" in its
//! manual); what pgvpd does not measure is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::statement::Topic;
use super::table::{Table, int, microseconds, number, number_if, text};
use crate::config::{Config, OPTIONS, OptionSpec, PoolMode, Relay};
use crate::pool::ServerState;
use crate::reload::needs_restart;
use crate::sessions::{Record, SessionState};
use crate::shared::Shared;
use crate::stats::{DatabaseStatus, DatabaseUse};
use crate::wire::{Cell, Column};

/// The columns of a table.
pub(super) fn columns(topic: Topic) -> Vec<Column> {
    match topic {
        Topic::Pools => vec![
            text("database"),
            text("user"),
            int("cl_active"),
            int("cl_waiting"),
            int("sv_active"),
            int("sv_idle"),
            int("sv_used"),
            int("sv_login"),
            int("maxwait"),
            int("maxwait_us"),
            text("pool_mode"),
        ],
        Topic::Clients => vec![
            text("type"),
            text("user"),
            text("database"),
            text("state"),
            text("addr"),
            text("connect_time"),
            int("ptr"),
            int("link"),
            text("tls"),
            text("tenant"),
            int("query_count"),
            int("received"),
            int("sent"),
        ],
        Topic::Servers => vec![
            text("type"),
            text("user"),
            text("database"),
            text("state"),
            text("addr"),
            int("port"),
            text("connect_time"),
            int("link"),
            int("remote_pid"),
            text("tls"),
        ],
        Topic::Databases => vec![
            text("name"),
            text("host"),
            int("port"),
            text("database"),
            text("force_user"),
            int("pool_size"),
            int("min_pool_size"),
            text("pool_mode"),
            int("max_connections"),
            int("current_connections"),
            int("paused"),
            int("disabled"),
        ],
        Topic::Lists => vec![text("list"), int("items")],
        Topic::Tenants => vec![
            text("tenant"),
            int("cl_active"),
            int("total_session_count"),
            int("total_received"),
            int("total_sent"),
            int("max_connections"),
            int("rate_limit"),
            text("query_timeout"),
        ],
        Topic::Stats => vec![
            text("database"),
            int("total_query_count"),
            int("total_received"),
            int("total_sent"),
            int("total_wait_time"),
            int("avg_query_count"),
            int("avg_recv"),
            int("avg_sent"),
            int("avg_wait_time"),
            int("total_session_count"),
        ],
        Topic::Resolvers => vec![
            text("name"),
            int("total_query_count"),
            int("total_query_time"),
            int("avg_query_time"),
            int("errors"),
            int("hits"),
            int("misses"),
        ],
        Topic::Config => vec![text("key"), text("value"), text("default"), text("changeable")],
        Topic::Version => vec![text("version")],
        Topic::Help => vec![text("command"), text("meaning")],
    }
}

/// A table as it is now.
pub(super) fn table(topic: Topic, shared: &Shared) -> Table {
    let config = shared.config.load_full();
    let rows = match topic {
        Topic::Pools => pools(shared, &config),
        Topic::Clients => clients(shared),
        Topic::Servers => servers(shared, &config),
        Topic::Databases => databases(shared, &config),
        Topic::Lists => lists(shared, &config),
        Topic::Tenants => tenants(shared, &config),
        Topic::Stats => stats(shared, &config),
        Topic::Resolvers => resolvers(shared),
        Topic::Config => OPTIONS.iter().map(|option| option_row(option, &config)).collect(),
        Topic::Version => vec![vec![word(version())]],
        Topic::Help => HELP.iter().map(|(command, meaning)| vec![word(*command), word(*meaning)]).collect(),
    };
    Table { columns: columns(topic), rows }
}

/// What this is.
pub(super) fn version() -> &'static str {
    concat!("pgvpd ", env!("CARGO_PKG_VERSION"))
}

const HELP: &[(&str, &str)] = &[
    ("SHOW POOLS", "clients and server connections of each pool: a role in a database"),
    ("SHOW CLIENTS", "each client: tenant, state, since when, its backend"),
    ("SHOW SERVERS", "each server connection, and whose it is"),
    ("SHOW DATABASES", "each database that has been used"),
    ("SHOW LISTS", "how many of everything"),
    ("SHOW TENANTS", "the busiest tenants, and their limits"),
    ("SHOW STATS", "what each database's clients have done, in all and per second of the last minute"),
    ("SHOW RESOLVERS", "what each resolver has done"),
    ("SHOW CONFIG", "each option's value; SHOW <option> shows one"),
    ("SHOW VERSION", "the release"),
    ("RELOAD", "read the configuration again"),
    ("PAUSE", "close server connections, let clients wait; returns when all are closed"),
    ("RESUME", "go on"),
    ("DRAIN", "no more clients; sessions may finish, then the proxy ends"),
    ("DISCONNECT TENANT <name>", "end a tenant's sessions"),
    ("DISCONNECT SESSION <ptr>", "end one session, by its number in SHOW CLIENTS"),
];

fn word(word: impl Into<String>) -> Cell {
    Cell::Text(word.into())
}

fn mode_name(mode: PoolMode) -> &'static str {
    match mode {
        PoolMode::None => "none",
        PoolMode::Session => "session",
    }
}

/// As PgBouncer has times: in UTC, to the second.
fn time(time: SystemTime) -> Cell {
    let mut shown = humantime::format_rfc3339_seconds(time).to_string();
    shown.truncate(19);
    word(format!("{} UTC", shown.replace('T', " ")))
}

fn begun(record: &Record) -> SystemTime {
    SystemTime::now().checked_sub(record.since.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Whether a session has a connection of a pool, or one of its own.
fn is_pooled(record: &Record, config: &Config) -> bool {
    config.pool_mode == PoolMode::Session && record.who.tenant.is_some()
}

/// Sessions that have a backend, by database and role; whether they are pooled is part of it.
fn linked(shared: &Shared, config: &Config) -> BTreeMap<(String, String, bool), usize> {
    let mut counts = BTreeMap::new();
    let has_begun =
        |record: &&Arc<Record>| !matches!(record.meter.state(), SessionState::Login | SessionState::Waiting);
    for record in shared.live.all().iter().filter(has_begun) {
        let key = (record.database().to_owned(), record.who.role.to_string(), is_pooled(record, config));
        *counts.entry(key).or_default() += 1;
    }
    counts
}

fn pools(shared: &Shared, config: &Config) -> Vec<Vec<Cell>> {
    let mut linked = linked(shared, config);
    let mut rows = Vec::new();
    for pool in shared.pools.status(&config.pool) {
        let active = linked.remove(&(pool.database.clone(), pool.role.clone(), true)).unwrap_or(0);
        let waited = Duration::try_from_secs_f64(pool.longest_wait).unwrap_or_default();
        rows.push(vec![
            word(pool.database),
            word(pool.role),
            number(active),
            number(pool.waiting),
            number(pool.used),
            number(pool.idle.saturating_sub(pool.unchecked)),
            number(pool.unchecked),
            number(pool.connecting),
            number(waited.as_secs()),
            number(waited.subsec_micros()),
            word(mode_name(PoolMode::Session)),
        ]);
    }
    // Those that share nothing: a server connection each.
    for ((database, role, _), count) in linked {
        let mut row = vec![word(database), word(role), number(count), number(0), number(count)];
        row.extend((0..5).map(|_| number(0)));
        row.push(word(mode_name(PoolMode::None)));
        rows.push(row);
    }
    rows
}

fn clients(shared: &Shared) -> Vec<Vec<Cell>> {
    let row = |record: &Record| {
        let relayed = record.meter.relayed();
        vec![
            word("C"),
            word(&*record.who.role),
            word(record.database()),
            word(record.meter.state().name()),
            word(record.who.address.to_string()),
            time(begun(record)),
            number(record.who.id.0),
            number_if(record.backend()),
            word(if record.who.is_tls { "TLS" } else { "" }),
            record.who.tenant.as_deref().map_or(Cell::Null, word),
            if sees_messages(record) { number(relayed.requests) } else { Cell::Null },
            number(relayed.from_client),
            number(relayed.to_client),
        ]
    };
    shared.live.all().iter().map(|record| row(record)).collect()
}

fn sees_messages(record: &Record) -> bool {
    record.meter.state() != SessionState::Open
}

fn servers(shared: &Shared, config: &Config) -> Vec<Vec<Cell>> {
    let upstream = |row: &mut Vec<Cell>| {
        row.push(word(&*config.upstream.host));
        row.push(number(config.upstream.port));
    };
    let tls = |is_tls: bool| word(if is_tls { "TLS" } else { "" });
    let mut rows = Vec::new();
    for server in shared.pools.servers() {
        let (state, link) = match server.state {
            ServerState::Active(session) => ("active", number(session.0)),
            ServerState::Idle => ("idle", Cell::Null),
        };
        let mut row = vec![word("S"), word(server.role), word(server.database), word(state)];
        upstream(&mut row);
        row.extend([time(server.connected), link, number_if(server.backend_pid), tls(server.tls)]);
        rows.push(row);
    }
    let own = |record: &&Arc<Record>| !is_pooled(record, config) && record.backend().is_some();
    for record in shared.live.all().iter().filter(own) {
        let mut row = vec![word("S"), word(&*record.who.role), word(record.database()), word("active")];
        upstream(&mut row);
        row.extend([
            time(begun(record)),
            number(record.who.id.0),
            number_if(record.backend()),
            tls(config.upstream.tls.is_some()),
        ]);
        rows.push(row);
    }
    rows
}

/// Server connections of each database that has been used: of its pools, and of sessions that have one of their own.
fn connections(shared: &Shared, config: &Config) -> BTreeMap<String, usize> {
    let mut counts: BTreeMap<String, usize> =
        shared.counters.databases_status().into_iter().map(|one| (one.database, 0)).collect();
    for pool in shared.pools.status(&config.pool) {
        *counts.entry(pool.database).or_default() += pool.total;
    }
    for ((database, _, is_pooled), count) in linked(shared, config) {
        *counts.entry(database).or_default() += if is_pooled { 0 } else { count };
    }
    counts.remove("");
    counts
}

fn databases(shared: &Shared, config: &Config) -> Vec<Vec<Cell>> {
    let has_pools = config.pool_mode != PoolMode::None;
    let if_pooled = |count: usize| number_if(has_pools.then_some(count));
    let paused = usize::from(shared.pools.is_paused());
    let row = |(name, connections): (String, usize)| {
        vec![
            word(&*name),
            word(&*config.upstream.host),
            number(config.upstream.port),
            word(name),
            Cell::Null,
            if_pooled(config.pool.size),
            if_pooled(config.pool.min_size),
            word(mode_name(config.pool_mode)),
            if_pooled(config.pool.max_upstream_connections),
            number(connections),
            number(paused),
            number(0),
        ]
    };
    connections(shared, config).into_iter().map(row).collect()
}

fn lists(shared: &Shared, config: &Config) -> Vec<Vec<Cell>> {
    let records = shared.live.all();
    let users: BTreeSet<&str> = records.iter().map(|record| &*record.who.role).collect();
    let in_login = records.iter().filter(|record| record.meter.state() == SessionState::Login).count();
    let pools = shared.pools.status(&config.pool);
    let own = records.iter().filter(|record| !is_pooled(record, config) && record.backend().is_some()).count();
    let (idle, used): (usize, usize) = pools.iter().fold((0, own), |sum, pool| (sum.0 + pool.idle, sum.1 + pool.used));
    [
        ("databases", connections(shared, config).len()),
        ("users", users.len()),
        ("pools", pools.len()),
        ("tenants", shared.tenants_status().live),
        ("used_clients", records.len()),
        ("login_clients", in_login),
        ("free_servers", idle),
        ("used_servers", used),
    ]
    .into_iter()
    .map(|(list, items)| vec![word(list), number(items)])
    .collect()
}

fn tenants(shared: &Shared, config: &Config) -> Vec<Vec<Cell>> {
    let status = shared.tenants_status();
    let row = |tenant: crate::TenantStatus, name: Cell| {
        let limits = config.limits_of(&tenant.tenant);
        let (connections, rate, timeout) = match name {
            Cell::Null => (Cell::Null, Cell::Null, Cell::Null),
            _ => (
                number_if(limits.connections),
                number_if(limits.per_second.map(std::num::NonZeroU32::get)),
                limits.query_timeout.map_or(Cell::Null, |timeout| word(format!("{} s", timeout.as_secs_f64()))),
            ),
        };
        vec![
            name,
            number(tenant.sessions_active),
            number(tenant.done.sessions_total),
            number(tenant.done.from_client),
            number(tenant.done.to_client),
            connections,
            rate,
            timeout,
        ]
    };
    let mut rows: Vec<_> =
        status.busiest.into_iter().map(|one| (word(&*one.tenant), one)).map(|(n, t)| row(t, n)).collect();
    // All others together: NULL is nobody's name.
    rows.push(row(status.others, Cell::Null));
    rows
}

fn stats(shared: &Shared, config: &Config) -> Vec<Vec<Cell>> {
    let sees_requests = config.relay == Relay::Framed || config.pool_mode != PoolMode::None;
    let requests = |count: u64| number_if(sees_requests.then_some(count));
    // What is moving counts as well as what has ended.
    shared.stats();
    let row = |DatabaseStatus { database, total, last_minute, .. }: DatabaseStatus| {
        let DatabaseUse { requests: in_a_minute, from_client, to_client, waited, .. } = last_minute;
        vec![
            if database.is_empty() { Cell::Null } else { word(database) },
            requests(total.requests),
            number(total.from_client),
            number(total.to_client),
            microseconds(total.waited),
            requests(in_a_minute / 60),
            number(from_client / 60),
            number(to_client / 60),
            microseconds(waited / 60.0),
            number(total.sessions),
        ]
    };
    shared.counters.databases_status().into_iter().map(row).collect()
}

fn resolvers(shared: &Shared) -> Vec<Vec<Cell>> {
    let stats = shared.resolving_so_far().map(|resolving| resolving.stats()).unwrap_or_default();
    let row = |one: crate::ResolverStats| {
        let runs = u32::try_from(one.executions).unwrap_or(u32::MAX).max(1);
        vec![
            word(one.name),
            number(one.executions),
            microseconds(one.latency_sum),
            microseconds(one.latency_sum / f64::from(runs)),
            number(one.errors),
            number(one.hits),
            number(one.misses),
        ]
    };
    stats.into_iter().map(row).collect()
}

fn option_row(option: &OptionSpec, config: &Config) -> Vec<Cell> {
    let changeable = if needs_restart(option.name) { "no" } else { "yes" };
    vec![word(option.name), word(config.shown(option)), word(option.default), word(changeable)]
}
