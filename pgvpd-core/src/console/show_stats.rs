//! What clients have done: SHOW STATS, and the same by the names of STATS_TOTALS, STATS_AVERAGES and TOTALS. Transactions, and the
//! time that they and queries take, are not measured: NULL, under the names that PgBouncer has for them.

use super::table::{int, microseconds, number, number_if, text};
use crate::config::{Config, Relay};
use crate::pool::PoolMode;
use crate::shared::Shared;
use crate::stats::{DatabaseStatus, DatabaseUse};
use crate::wire::{Cell, Column};

/// What is known of a database's clients, and PgBouncer's names for it: in SHOW STATS in all and per second, and in the tables of one
/// kind alone.
const FIGURES: [(&str, &str, &str); 7] = [
    ("total_xact_count", "avg_xact_count", "xact_count"),
    ("total_query_count", "avg_query_count", "query_count"),
    ("total_received", "avg_recv", "bytes_received"),
    ("total_sent", "avg_sent", "bytes_sent"),
    ("total_xact_time", "avg_xact_time", "xact_time"),
    ("total_query_time", "avg_query_time", "query_time"),
    ("total_wait_time", "avg_wait_time", "wait_time"),
];

/// Of SHOW STATS.
pub(super) fn stats_columns() -> Vec<Column> {
    let totals = FIGURES.map(|(total, ..)| int(total));
    let averages = FIGURES.map(|(_, average, _)| int(average));
    [&[text("database")], &totals[..], &averages, &[int("total_session_count")]].concat()
}

/// Of SHOW STATS_TOTALS and SHOW STATS_AVERAGES.
pub(super) fn one_kind_columns() -> Vec<Column> {
    [&[text("database")], &FIGURES.map(|(.., name)| int(name))[..]].concat()
}

/// Of SHOW TOTALS.
pub(super) fn totals_columns() -> Vec<Column> {
    vec![text("name"), int("value")]
}

/// One row for each database.
pub(super) fn stats(shared: &Shared, config: &Config) -> Vec<Vec<Cell>> {
    let sees_requests = sees_requests(config);
    let row = |one: &DatabaseStatus| {
        let sessions = [number(one.total.sessions)];
        [&name(one)[..], &totals(one.total, sees_requests), &averages(one.last_minute, sees_requests), &sessions]
            .concat()
    };
    databases(shared).iter().map(row).collect()
}

/// Totals since the start.
pub(super) fn stats_totals(shared: &Shared, config: &Config) -> Vec<Vec<Cell>> {
    let row = |one: &DatabaseStatus| [&name(one)[..], &totals(one.total, sees_requests(config))].concat();
    databases(shared).iter().map(row).collect()
}

/// Rates per second over the last complete minute.
pub(super) fn stats_averages(shared: &Shared, config: &Config) -> Vec<Vec<Cell>> {
    let row = |one: &DatabaseStatus| [&name(one)[..], &averages(one.last_minute, sees_requests(config))].concat();
    databases(shared).iter().map(row).collect()
}

/// The figures of all databases together, one a row.
pub(super) fn all_totals(shared: &Shared, config: &Config) -> Vec<Vec<Cell>> {
    let (mut total, mut last_minute) = (DatabaseUse::default(), DatabaseUse::default());
    for one in databases(shared) {
        total.add(one.total);
        last_minute.add(one.last_minute);
    }
    let sees_requests = sees_requests(config);
    let totals = FIGURES.into_iter().zip(totals(total, sees_requests)).map(|((name, ..), value)| (name, value));
    let averages =
        FIGURES.into_iter().zip(averages(last_minute, sees_requests)).map(|((_, name, _), value)| (name, value));
    totals.chain(averages).map(|(name, value)| vec![Cell::Text(name.into()), value]).collect()
}

fn databases(shared: &Shared) -> Vec<DatabaseStatus> {
    // What is moving counts as well as what has ended.
    shared.stats();
    shared.counters.databases_status()
}

fn name(one: &DatabaseStatus) -> [Cell; 1] {
    [if one.database.is_empty() { Cell::Null } else { Cell::Text(one.database.clone()) }]
}

/// In the order of [`FIGURES`].
fn totals(done: DatabaseUse, sees_requests: bool) -> [Cell; 7] {
    [
        Cell::Null,
        number_if(sees_requests.then_some(done.requests)),
        number(done.from_client),
        number(done.to_client),
        Cell::Null,
        Cell::Null,
        microseconds(done.waited),
    ]
}

/// The same per second, of a minute.
fn averages(done: DatabaseUse, sees_requests: bool) -> [Cell; 7] {
    let DatabaseUse { requests, from_client, to_client, waited, .. } = done;
    let (requests, from_client, to_client) = (requests / 60, from_client / 60, to_client / 60);
    totals(DatabaseUse { requests, from_client, to_client, waited: waited / 60.0, ..done }, sees_requests)
}

fn sees_requests(config: &Config) -> bool {
    config.relay == Relay::Framed || config.pool_mode != PoolMode::None
}
