//! SHOW CLIENTS and SHOW SERVERS: connections one by one, clients' and the proxy's own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::show::{is_pooled, word};
use super::table::{int, number, number_if, text};
use crate::config::Config;
use crate::logins::LoginInProgress;
use crate::pool::ServerState;
use crate::sessions::{Record, SessionId, SessionState};
use crate::shared::Shared;
use crate::wire::{Cell, Column};

/// Of SHOW CLIENTS.
pub(super) fn client_columns() -> Vec<Column> {
    vec![
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
    ]
}

/// Of SHOW SERVERS.
pub(super) fn server_columns() -> Vec<Column> {
    vec![
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
        int("close_needed"),
    ]
}

/// Sessions, and logins in progress: of these, nothing that a client has yet to prove is shown.
pub(super) fn clients(shared: &Shared) -> Vec<Vec<Cell>> {
    let row = |record: &Record| {
        let relayed = record.meter.relayed();
        vec![
            word("C"),
            word(&*record.info.role),
            word(record.database()),
            word(record.meter.state().name()),
            word(record.info.address.to_string()),
            begun(record.since.elapsed()),
            number(record.info.id.0),
            number_if(record.backend()),
            word(if record.info.is_tls { "TLS" } else { "" }),
            record.info.tenant.as_deref().map_or(Cell::Null, word),
            if sees_messages(record) { number(relayed.requests) } else { Cell::Null },
            number(relayed.from_client),
            number(relayed.to_client),
        ]
    };
    // In this order: a login that becomes a session meanwhile is in both.
    let (logins, sessions) = (shared.logins.all(), shared.live.all());
    let mut rows: BTreeMap<SessionId, Vec<Cell>> =
        logins.iter().map(|login| (login.session, login_row(login))).collect();
    rows.extend(sessions.iter().map(|record| (record.info.id, row(record))));
    rows.into_values().collect()
}

/// Connections of pools, and those that sessions have of their own.
pub(super) fn servers(shared: &Shared, config: &Config) -> Vec<Vec<Cell>> {
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
        row.push(number(usize::from(server.close_needed)));
        rows.push(row);
    }
    let own = |record: &&Arc<Record>| !is_pooled(record, config) && record.backend().is_some();
    for record in shared.live.all().iter().filter(own) {
        let mut row = vec![word("S"), word(&*record.info.role), word(record.database()), word("active")];
        upstream(&mut row);
        row.extend([
            begun(record.since.elapsed()),
            number(record.info.id.0),
            number_if(record.backend()),
            tls(config.upstream.tls.is_some()),
            number(0),
        ]);
        rows.push(row);
    }
    rows
}

fn sees_messages(record: &Record) -> bool {
    record.meter.state() != SessionState::Open
}

/// The row of an unauthenticated client: that it is there, and its address.
fn login_row(login: &LoginInProgress) -> Vec<Cell> {
    let known = |name| match name {
        "type" => word("C"),
        "state" => word(SessionState::Login.name()),
        "addr" => word(login.address.to_string()),
        "connect_time" => begun(login.lasts),
        "ptr" => number(login.session.0),
        _ => Cell::Null,
    };
    client_columns().into_iter().map(|column| known(column.name)).collect()
}

/// When something began that has lasted for so long.
fn begun(lasts: Duration) -> Cell {
    time(SystemTime::now().checked_sub(lasts).unwrap_or(SystemTime::UNIX_EPOCH))
}

/// As PgBouncer has times: in UTC, to the second.
fn time(time: SystemTime) -> Cell {
    let mut shown = humantime::format_rfc3339_seconds(time).to_string();
    shown.truncate(19);
    word(format!("{} UTC", shown.replace('T', " ")))
}
