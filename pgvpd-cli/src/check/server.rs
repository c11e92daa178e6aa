//! What the server lets in: `pg_hba.conf` and the addresses that it listens on.

use std::net::IpAddr;

use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use super::finding::{Finding, Severity};
use super::hba::{self, HbaRule, Login, Range};
use super::rules;
use crate::database::{Database, explained};
use crate::exit::Exit;

/// Findings about logins that go past the proxy, or need no password.
pub(super) async fn findings(database: &Database, roles: &[String]) -> Result<Vec<Finding>, Exit> {
    let hba = match read_rules(database).await {
        Ok(rules) => rules,
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            let finding = "only a superuser may read the rules; who can log in past the proxy, or without a password, was not looked at";
            let fix = "-- run this check as a superuser";
            return Ok(vec![Finding::new(rules::UNSEEN, Severity::Info, "pg_hba.conf", finding, fix)]);
        }
        Err(error) => return Err(explained(&error).into()),
    };
    let mut findings = hba::trusting(&hba, &database.name);
    let facts = Facts::read(database, roles).await.map_err(|error| explained(&error))?;
    if facts.listens {
        // With signed contexts, a session that no proxy has made sees no rows.
        let severity = if facts.signed { Severity::Warning } else { Severity::High };
        for (role, groups) in &facts.groups {
            let login = Login { database: &database.name, role, groups };
            findings.extend(hba::reachable(&hba, &login, severity));
        }
    }
    Ok(findings)
}

async fn read_rules(database: &Database) -> Result<Vec<HbaRule>, tokio_postgres::Error> {
    // As JSON, for the columns of 16 that earlier releases lack.
    let query = "SELECT coalesce(j ->> 'file_name', current_setting('hba_file')), h.line_number, h.type, h.database, h.user_name, h.address, h.netmask, h.auth_method
                 FROM pg_catalog.pg_hba_file_rules h, pg_catalog.to_jsonb(h) j
                 WHERE h.error IS NULL ORDER BY coalesce((j ->> 'rule_number')::int, h.line_number)";
    let rows = database.client().query(query, &[]).await?;
    Ok(rows.iter().map(rule).collect())
}

fn rule(row: &Row) -> HbaRule {
    let text = |column| row.get::<_, Option<String>>(column);
    let list = |column| row.get::<_, Option<Vec<String>>>(column).unwrap_or_default();
    let (address, netmask) = (text(5), text(6));
    HbaRule {
        place: format!("{}, line {}", text(0).unwrap_or_else(|| "pg_hba.conf".into()), row.get::<_, i32>(1)),
        kind: text(2).unwrap_or_default(),
        databases: list(3),
        users: list(4),
        range: Range::new(address.as_deref(), netmask.as_deref()),
        method: text(7).unwrap_or_default(),
    }
}

/// What decides how bad a rule is.
struct Facts {
    /// On other addresses than this machine's own.
    listens: bool,
    signed: bool,
    /// Each role with those that it is a member of.
    groups: Vec<(String, Vec<String>)>,
}

impl Facts {
    async fn read(database: &Database, roles: &[String]) -> Result<Self, tokio_postgres::Error> {
        let client = database.client();
        let row = client.query_one("SELECT current_setting('listen_addresses')", &[]).await?;
        let listens = row.get::<_, &str>(0).split(',').map(str::trim).any(is_of_a_network);
        let may_read = "SELECT coalesce(has_table_privilege(to_regclass('pgvpd.signing_key'), 'SELECT'), false)";
        let signed = if client.query_one(may_read, &[]).await?.get(0) {
            client.query_one("SELECT EXISTS (SELECT FROM pgvpd.signing_key)", &[]).await?.get(0)
        } else {
            false
        };
        let query =
            "SELECT a.rolname::text, array_agg(g.rolname::text) FROM pg_catalog.pg_roles a, pg_catalog.pg_roles g
                     WHERE a.rolname = ANY ($1) AND a.rolcanlogin AND pg_catalog.pg_has_role(a.oid, g.oid, 'MEMBER')
                     GROUP BY a.rolname ORDER BY a.rolname";
        let rows = client.query(query, &[&roles]).await?;
        Ok(Self { listens, signed, groups: rows.iter().map(|row| (row.get(0), row.get(1))).collect() })
    }
}

fn is_of_a_network(address: &str) -> bool {
    !(address.is_empty()
        || address == "localhost"
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_alone_are_told_from_others() {
        assert!(["", "localhost", "127.0.0.1", "::1"].iter().all(|address| !is_of_a_network(address)));
        assert!(["*", "0.0.0.0", "::", "10.0.0.5", "db.internal"].iter().all(|address| is_of_a_network(address)));
    }
}
