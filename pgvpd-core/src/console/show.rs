//! The tables that SHOW gives. Columns that PgBouncer's console has too have its names and meanings ("Admin console" in its
//! manual); what pgvpd does not measure is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::show_connections;
use super::show_stats;
use super::statement::Topic;
use super::table::{Table, int, microseconds, number, number_if, text};
use crate::config::{Config, OPTIONS, OptionSpec};
use crate::pool::PoolMode;
use crate::reload::needs_restart;
use crate::sessions::{Record, SessionState};
use crate::shared::Shared;
use crate::wire::{Cell, Column};

/// The columns of a table.
pub(super) fn columns(topic: Topic) -> Vec<Column> {
    match topic {
        Topic::Pools => vec![
            text("database"),
            text("user"),
            int("cl_active"),
            int("cl_waiting"),
            int("cl_active_cancel_req"),
            int("cl_waiting_cancel_req"),
            int("sv_active"),
            int("sv_active_cancel"),
            int("sv_being_canceled"),
            int("sv_idle"),
            int("sv_used"),
            int("sv_tested"),
            int("sv_login"),
            int("maxwait"),
            int("maxwait_us"),
            text("pool_mode"),
        ],
        Topic::Clients => show_connections::client_columns(),
        Topic::Servers => show_connections::server_columns(),
        Topic::Databases => vec![
            text("name"),
            text("host"),
            int("port"),
            text("database"),
            text("force_user"),
            int("pool_size"),
            int("min_pool_size"),
            int("reserve_pool_size"),
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
        Topic::Stats => show_stats::stats_columns(),
        Topic::StatsTotals | Topic::StatsAverages => show_stats::one_kind_columns(),
        Topic::Totals => show_stats::totals_columns(),
        Topic::Users => vec![
            text("name"),
            int("pool_size"),
            text("pool_mode"),
            int("current_connections"),
            int("current_client_connections"),
        ],
        Topic::Mem => vec![text("name"), int("size"), int("used"), int("free"), int("memtotal")],
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
        Topic::Clients => show_connections::clients(shared),
        Topic::Servers => show_connections::servers(shared, &config),
        Topic::Databases => databases(shared, &config),
        Topic::Lists => lists(shared, &config),
        Topic::Tenants => tenants(shared, &config),
        Topic::Stats => show_stats::stats(shared, &config),
        Topic::StatsTotals => show_stats::stats_totals(shared, &config),
        Topic::StatsAverages => show_stats::stats_averages(shared, &config),
        Topic::Totals => show_stats::all_totals(shared, &config),
        Topic::Users => users(shared, &config),
        // There are no caches of objects of one size.
        Topic::Mem => Vec::new(),
        Topic::Resolvers => resolvers(shared),
        Topic::Config => OPTIONS.iter().flat_map(|option| option_rows(option, &config)).collect(),
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
    ("SHOW STATS_TOTALS", "the same, in all alone"),
    ("SHOW STATS_AVERAGES", "the same, per second alone"),
    ("SHOW TOTALS", "the same, of all databases together"),
    ("SHOW USERS", "each role that clients have, and its connections"),
    ("SHOW MEM", "nothing: for tools that ask it of PgBouncer"),
    ("SHOW RESOLVERS", "what each resolver has done"),
    ("SHOW CONFIG", "each option's value; SHOW <option> shows one"),
    ("SHOW VERSION", "the release"),
    ("RELOAD", "read the configuration again"),
    ("PAUSE", "close server connections, let clients wait; returns when all are closed"),
    ("RESUME", "go on"),
    ("RECONNECT [<database>]", "close server connections: idle ones now, others when they are released"),
    ("CLOSE DATABASE <name>", "the same for a database that is to be dropped or renamed"),
    ("DRAIN", "no more clients; sessions may finish, then the proxy ends"),
    ("DISCONNECT TENANT <name>", "end a tenant's sessions"),
    ("DISCONNECT SESSION <ptr>", "end one session, by its number in SHOW CLIENTS"),
];

pub(super) fn word(word: impl Into<String>) -> Cell {
    Cell::Text(word.into())
}

fn mode_name(mode: PoolMode) -> &'static str {
    match mode {
        PoolMode::None => "none",
        PoolMode::Session => "session",
    }
}

/// Whether a session has a connection of a pool, or one of its own.
pub(super) fn is_pooled(record: &Record, config: &Config) -> bool {
    config.pool_mode == PoolMode::Session && record.info.tenant.is_some()
}

/// Sessions that have a backend, by database and role; whether they are pooled is part of it.
fn linked(shared: &Shared, config: &Config) -> BTreeMap<(String, String, bool), usize> {
    let mut counts = BTreeMap::new();
    let has_begun =
        |record: &&Arc<Record>| !matches!(record.meter.state(), SessionState::Login | SessionState::Waiting);
    for record in shared.live.all().iter().filter(has_begun) {
        let key = (record.database().to_owned(), record.info.role.to_string(), is_pooled(record, config));
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
            number(0),
            number(0),
            number(pool.used),
            number(0),
            number(0),
            number(pool.idle.saturating_sub(pool.unchecked)),
            number(pool.unchecked),
            number(0),
            number(pool.connecting),
            number(waited.as_secs()),
            number(waited.subsec_micros()),
            word(mode_name(PoolMode::Session)),
        ]);
    }
    // Those that share nothing: a server connection each.
    for ((database, role, _), count) in linked {
        let mut row = vec![word(database), word(role), number(count), number(0), number(0), number(0), number(count)];
        row.extend((0..8).map(|_| number(0)));
        row.push(word(mode_name(PoolMode::None)));
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
            number(0),
            word(mode_name(config.pool_mode)),
            if_pooled(config.pool.max_upstream_connections),
            number(connections),
            number(paused),
            number(0),
        ]
    };
    connections(shared, config).into_iter().map(row).collect()
}

/// Roles of clients, and of pools.
fn users(shared: &Shared, config: &Config) -> Vec<Vec<Cell>> {
    let mut counts = BTreeMap::<String, (usize, usize)>::new();
    for pool in shared.pools.status(&config.pool) {
        counts.entry(pool.role).or_default().0 += pool.total;
    }
    for record in shared.live.all() {
        let (connections, clients) = counts.entry(record.info.role.to_string()).or_default();
        *connections += usize::from(!is_pooled(&record, config) && record.backend().is_some());
        *clients += 1;
    }
    let has_pools = config.pool_mode != PoolMode::None;
    let row = |(role, (connections, clients)): (String, (usize, usize))| {
        vec![
            word(role),
            number_if(has_pools.then_some(config.pool.size)),
            word(mode_name(config.pool_mode)),
            number(connections),
            number(clients),
        ]
    };
    counts.into_iter().map(row).collect()
}

fn lists(shared: &Shared, config: &Config) -> Vec<Vec<Cell>> {
    let records = shared.live.all();
    let users: BTreeSet<&str> = records.iter().map(|record| &*record.info.role).collect();
    let logins = shared.logins.status();
    let pools = shared.pools.status(&config.pool);
    let own = records.iter().filter(|record| !is_pooled(record, config) && record.backend().is_some()).count();
    let (idle, used): (usize, usize) = pools.iter().fold((0, own), |sum, pool| (sum.0 + pool.idle, sum.1 + pool.used));
    [
        ("databases", connections(shared, config).len()),
        ("users", users.len()),
        ("pools", pools.len()),
        ("tenants", shared.tenants_status().live),
        ("used_clients", records.len()),
        ("login_clients", logins.total),
        ("free_servers", idle),
        ("used_servers", used),
    ]
    .into_iter()
    .map(|(list, items)| vec![word(list), number(items)])
    .collect()
}

fn tenants(shared: &Shared, config: &Config) -> Vec<Vec<Cell>> {
    let status = shared.tenants_status();
    let row = |tenant: crate::status::TenantStatus, name: Cell| {
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

fn resolvers(shared: &Shared) -> Vec<Vec<Cell>> {
    let stats = shared.resolving_so_far().map(|resolving| resolving.stats()).unwrap_or_default();
    let row = |one: crate::resolve::ResolverStats| {
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

/// The names of options that monitoring looks for, as PgBouncer has them.
const CALLED_BY_PGBOUNCER: &[(&str, &str)] = &[("max_client_connections", "max_client_conn")];

fn option_rows(option: &OptionSpec, config: &Config) -> Vec<Vec<Cell>> {
    let changeable = if needs_restart(option.name) { "no" } else { "yes" };
    let row = |name: &str| vec![word(name), word(config.shown(option)), word(option.default), word(changeable)];
    let other = CALLED_BY_PGBOUNCER.iter().filter(|(name, _)| *name == option.name).map(|(_, other)| *other);
    std::iter::once(option.name).chain(other).map(row).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The names in the first cells of a page's tables, by the heading that they stand below.
    fn documented(page: &str) -> BTreeMap<&str, Vec<&str>> {
        let mut found = BTreeMap::<&str, Vec<&str>>::new();
        let mut heading = "";
        for line in page.lines() {
            if let Some(title) = line.strip_prefix("#") {
                heading = title.trim_start_matches('#').trim();
            } else if let Some(first) = line.strip_prefix("| `").and_then(|row| row.split(" | ").next()) {
                found
                    .entry(heading)
                    .or_default()
                    .extend(first.split('`').step_by(2).filter(|name| !name.contains(',')));
            }
        }
        found
    }

    #[test]
    fn the_manual_has_every_table_with_its_columns() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/console.md");
        let page = std::fs::read_to_string(page).expect("docs/console.md");
        let documented = documented(&page);
        for (name, topic) in Topic::ALL {
            let is_one_line = matches!(topic, Topic::Lists | Topic::Version | Topic::Help | Topic::Mem | Topic::Totals);
            if !is_one_line {
                let mut known = documented.get(&*format!("SHOW {name}")).cloned().unwrap_or_default();
                known.sort_unstable();
                let mut columns: Vec<_> = columns(topic).into_iter().map(|column| column.name).collect();
                columns.sort_unstable();
                assert_eq!(known, columns, "SHOW {name}");
            }
            let is_listed =
                page.lines().any(|line| line.starts_with("| `SHOW ") && line.contains(&format!("`{name}`")))
                    || page.contains(&format!("| `SHOW {name}`"));
            assert!(is_listed, "SHOW {name} is not among the commands");
            assert!(HELP.iter().any(|(command, _)| *command == format!("SHOW {name}")) || name == "HELP", "{name}");
        }
        let shared = Shared::new(Config::default());
        for row in lists(&shared, &Config::default()) {
            let Some(Cell::Text(list)) = row.first() else { panic!("{row:?}") };
            assert!(page.contains(&format!("`{list}`")), "SHOW LISTS: {list}");
        }
        for topic in Topic::ALL.map(|(_, topic)| topic) {
            let Table { columns, rows } = table(topic, &shared);
            assert!(rows.iter().all(|row| row.len() == columns.len()), "{topic:?}");
        }
    }
}
