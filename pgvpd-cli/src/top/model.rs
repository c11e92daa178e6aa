//! What is shown: two looks at a proxy make rates. Pure.

use std::collections::HashMap;

use serde_json::Value;

use crate::escape::visible;

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Sessions,
    Pools,
    Tenants,
}

impl Table {
    pub(super) const ALL: [Self; 3] = [Self::Sessions, Self::Pools, Self::Tenants];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Sessions => "Sessions",
            Self::Pools => "Pools",
            Self::Tenants => "Tenants",
        }
    }

    pub(super) fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Sessions => {
                &["session", "tenant", "role", "database", "client", "tls", "state", "age", "in", "out", "requests"]
            }
            Self::Pools => &["database", "role", "total", "used", "idle", "connecting", "waiting", "state"],
            Self::Tenants => &["tenant", "sessions", "logins", "logins/s", "in", "out", "bytes/s"],
        }
    }
}

/// A cell: what it says, and what it is sorted by.
struct Cell {
    text: String,
    number: f64,
}

impl Cell {
    fn text(value: &Value) -> Self {
        Self { text: visible(value.as_str().unwrap_or_default()).to_string(), number: f64::NAN }
    }

    fn number(value: &Value) -> Self {
        let number = value.as_f64().unwrap_or_default();
        Self { text: format!("{number}"), number }
    }

    fn bytes(value: &Value) -> Self {
        let number = value.as_f64().unwrap_or_default();
        Self { text: bytes(number), number }
    }

    /// By its text, or a dash where there is nothing to compare with yet.
    fn rate(number: Option<f64>, text: impl Fn(f64) -> String) -> Self {
        Self { text: number.map_or_else(|| NO_RATE.into(), text), number: number.unwrap_or_default() }
    }
}

/// A rate after the first look.
const NO_RATE: &str = "–";

/// The last two looks.
#[derive(Debug, Default)]
pub(super) struct Model {
    now: Value,
    before: Option<Value>,
}

impl Model {
    /// Takes another look.
    pub(super) fn take(&mut self, status: Value) {
        let last = std::mem::replace(&mut self.now, status);
        // A proxy that has been started anew counts from nothing.
        let is_same = last["started"] == self.now["started"] && seconds(&last) < seconds(&self.now);
        self.before = is_same.then_some(last);
    }

    /// By how much a figure has grown in a second; `None` where there is nothing to compare with.
    fn rate(&self, figure: impl Fn(&Value) -> f64) -> Option<f64> {
        let before = self.before.as_ref()?;
        let time = seconds(&self.now) - seconds(before);
        Some(((figure(&self.now) - figure(before)) / time).max(0.0))
    }

    /// The lines above the tables.
    pub(super) fn summary(&self) -> Vec<String> {
        let Self { now, .. } = self;
        let stats = &now["stats"];
        let stat = |name: &'static str, shown: fn(f64) -> String| {
            let rate = self.rate(move |status| status["stats"][name].as_f64().unwrap_or_default());
            Cell::rate(rate, shown).text
        };
        let (tenths, whole) = (|rate| format!("{rate:.1}"), |rate| format!("{rate:.0}"));
        let text = |value: &Value| visible(value.as_str().unwrap_or("?")).to_string();
        let paused = if now["pools_paused"] == true { ", pools paused" } else { "" };
        let state = format!(
            "pgvpd {}  {}{paused}  up {}  {} -> {}  context signing {}",
            text(&now["version"]),
            text(&now["state"]),
            age(seconds(now)),
            text(&now["addresses"]["listen"]),
            text(&now["addresses"]["upstream"]),
            text(&now["context_signing"]),
        );
        let clients = format!(
            "clients {} of {} tenants  logging in {}  logins {}/s  refused {}/s ({} in all)  requests {}/s  in {}/s  out {}/s",
            stats["sessions_active"],
            now["tenants"]["live"],
            now["logins"]["total"].as_u64().unwrap_or_default(),
            stat("sessions_total", tenths),
            stat("refused_total", tenths),
            stats["refused_total"],
            stat("requests_total", whole),
            stat("bytes_from_clients_total", bytes),
            stat("bytes_to_clients_total", bytes),
        );
        let pools = format!(
            "upstream connections {}  idle {}  clients waiting {}",
            stats["pool_connections"], stats["pool_idle"], stats["pool_waiting"],
        );
        vec![state, clients, pools]
    }

    /// The rows of a table, sorted by a column where one is given: numbers from the top, texts from A.
    pub(super) fn rows(&self, table: Table, sort: Option<usize>) -> Vec<Vec<String>> {
        let mut rows = match table {
            Table::Sessions => each(&self.now["sessions"]["shown"], session),
            Table::Pools => each(&self.now["pools"], pool),
            Table::Tenants => self.tenants(),
        };
        if let Some(column) = sort {
            rows.sort_by(|one, other| {
                let (Some(one), Some(other)) = (one.get(column), other.get(column)) else {
                    return std::cmp::Ordering::Equal;
                };
                other.number.partial_cmp(&one.number).unwrap_or_else(|| one.text.cmp(&other.text))
            });
        }
        rows.into_iter().map(|row| row.into_iter().map(|cell| cell.text).collect()).collect()
    }

    fn tenants(&self) -> Vec<Vec<Cell>> {
        let empty = Vec::new();
        let listed = |status: &Value| -> HashMap<String, Value> {
            let tenants = status["tenants"]["busiest"].as_array().into_iter().flatten();
            tenants.map(|tenant| (tenant["tenant"].as_str().unwrap_or_default().to_owned(), tenant.clone())).collect()
        };
        let before = self.before.as_ref().map(listed).unwrap_or_default();
        let time = self.before.as_ref().map_or(1.0, |before| seconds(&self.now) - seconds(before));
        let row = |tenant: &Value, before: Option<&Value>| {
            let grown = |names: &[&str]| {
                let sum = |tenant: &Value| names.iter().filter_map(|name| tenant[*name].as_f64()).sum::<f64>();
                before.map(|before| ((sum(tenant) - sum(before)) / time).max(0.0))
            };
            let bytes_a_second = grown(&["from_client", "to_client"]);
            vec![
                Cell::text(&tenant["tenant"]),
                Cell::number(&tenant["sessions_active"]),
                Cell::number(&tenant["sessions_total"]),
                Cell::rate(grown(&["sessions_total"]), |rate| format!("{rate:.1}")),
                Cell::bytes(&tenant["from_client"]),
                Cell::bytes(&tenant["to_client"]),
                Cell::rate(bytes_a_second, bytes),
            ]
        };
        let busiest = self.now["tenants"]["busiest"].as_array().unwrap_or(&empty);
        let mut rows: Vec<_> = busiest
            .iter()
            .map(|tenant| row(tenant, tenant["tenant"].as_str().and_then(|name| before.get(name))))
            .collect();
        let others = &self.now["tenants"]["others"];
        if others["sessions_total"].as_u64() > Some(0) {
            let mut cells = row(others, self.before.as_ref().map(|before| &before["tenants"]["others"]));
            if let Some(name) = cells.first_mut() {
                name.text = "(all others)".into();
            }
            rows.push(cells);
        }
        rows
    }
}

fn each(list: &Value, row: fn(&Value) -> Vec<Cell>) -> Vec<Vec<Cell>> {
    list.as_array().into_iter().flatten().map(row).collect()
}

fn session(session: &Value) -> Vec<Cell> {
    let seconds = session["age"].as_f64().unwrap_or_default();
    let is_tls = session["tls"] == true;
    vec![
        Cell::number(&session["session"]),
        Cell::text(&session["tenant"]),
        Cell::text(&session["role"]),
        Cell::text(&session["database"]),
        Cell::text(&session["client"]),
        Cell { text: if is_tls { "yes" } else { "no" }.into(), number: f64::NAN },
        Cell::text(&session["state"]),
        Cell { text: age(seconds), number: seconds },
        Cell::bytes(&session["bytes_from_client"]),
        Cell::bytes(&session["bytes_to_client"]),
        Cell::number(&session["requests"]),
    ]
}

fn pool(pool: &Value) -> Vec<Cell> {
    let is_failing = pool["is_failing"] == true;
    vec![
        Cell::text(&pool["database"]),
        Cell::text(&pool["role"]),
        Cell::number(&pool["total"]),
        Cell::number(&pool["used"]),
        Cell::number(&pool["idle"]),
        Cell::number(&pool["connecting"]),
        Cell::number(&pool["waiting"]),
        Cell { text: if is_failing { "failing" } else { "ok" }.into(), number: f64::NAN },
    ]
}

fn seconds(status: &Value) -> f64 {
    status["uptime"].as_f64().unwrap_or_default()
}

/// `3d04h`, `5h07m`, `2m09s`, `4s`.
fn age(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an age in whole seconds")]
    let seconds = seconds.max(0.0) as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{:02}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{minutes:02}m"),
        (days, hours, _) => format!("{days}d{hours:02}h"),
    }
}

/// `812 B`, `1.5 KiB`.
fn bytes(number: f64) -> String {
    let mut number = number;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if number < 1024.0 {
            return if unit == "B" { format!("{number:.0} B") } else { format!("{number:.1} {unit}") };
        }
        number /= 1024.0;
    }
    format!("{number:.1} TiB")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(uptime: f64, sessions: u64, acme: u64) -> Value {
        json!({
            "version": "0.1.0", "started": "2026-01-01T00:00:00Z", "uptime": uptime, "state": "running",
            "addresses": { "listen": "127.0.0.1:6432", "upstream": "db:5432" }, "context_signing": "require",
            "pools_paused": false,
            "stats": {
                "sessions_active": 2, "sessions_total": sessions, "refused_total": 3, "requests_total": 0,
                "bytes_from_clients_total": 0, "bytes_to_clients_total": 0,
                "pool_connections": 4, "pool_idle": 1, "pool_waiting": 0
            },
            "pools": [{ "database": "shop", "role": "app_user", "total": 4, "used": 3, "idle": 1, "connecting": 0,
                        "waiting": 0, "is_failing": false }],
            "tenants": {
                "live": 2,
                "busiest": [
                    { "tenant": "acme\u{1b}[2J", "sessions_active": 1, "sessions_total": acme, "from_client": 2048, "to_client": 0 },
                    { "tenant": "globex", "sessions_active": 1, "sessions_total": 50, "from_client": 0, "to_client": 0 }
                ],
                "others": { "tenant": "", "sessions_active": 0, "sessions_total": 7, "from_client": 0, "to_client": 0 }
            },
            "sessions": { "shown": [
                { "session": 9, "tenant": "acme", "role": "app_user", "database": "shop", "client": "10.0.0.1", "tls": true,
                  "state": "idle", "age": 3725.0, "bytes_from_client": 100, "bytes_to_client": 1536, "requests": 3 }
            ] }
        })
    }

    #[test]
    fn two_looks_make_rates_and_a_restart_makes_none() {
        let mut model = Model::default();
        model.take(status(10.0, 100, 20));
        assert!(model.summary()[1].contains("logins –/s"), "{:?}", model.summary());
        assert_eq!(model.rows(Table::Tenants, None)[0][3], "–");
        model.take(status(12.0, 130, 24));
        assert!(model.summary()[1].contains("logins 15.0/s"), "{:?}", model.summary());
        assert_eq!(model.rows(Table::Tenants, None)[0][3], "2.0");
        let mut restarted = status(1.0, 5, 1);
        restarted["started"] = "2026-01-02T00:00:00Z".into();
        model.take(restarted);
        assert!(model.summary()[1].contains("logins –/s"), "{:?}", model.summary());
    }

    #[test]
    fn rows_are_sorted_by_what_they_mean_and_names_write_nothing_to_the_terminal() {
        let mut model = Model::default();
        model.take(status(10.0, 100, 20));
        let by = |column| model.rows(Table::Tenants, Some(column));
        assert_eq!(by(2)[0][0], "globex", "most logins first");
        assert!(by(0)[0][0].starts_with("(all others)"), "texts from A");
        assert!(by(0).iter().flatten().all(|cell| !cell.contains('\u{1b}')), "{:?}", by(0));
        let session = &model.rows(Table::Sessions, None)[0];
        assert_eq!(session[5..10], ["yes", "idle", "1h02m", "100 B", "1.5 KiB"]);
        for table in Table::ALL {
            assert!(model.rows(table, None).iter().all(|row| row.len() == table.columns().len()));
        }
    }

    #[test]
    fn an_answer_of_another_program_shows_nothing_and_breaks_nothing() {
        let mut model = Model::default();
        for strange in [json!(null), json!([1]), json!({ "sessions": { "shown": [1, {}] }, "pools": "x" })] {
            model.take(strange);
            assert_eq!(model.summary().len(), 3);
            Table::ALL.iter().for_each(|table| _ = model.rows(*table, Some(0)));
        }
    }
}
