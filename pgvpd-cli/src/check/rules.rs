//! What can be found, by id: those of `sql/audit.sql`, and those that SQL cannot find.

/// A kind of finding.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
}

/// The rule with this id; `None` for one of a later `audit.sql`.
pub(crate) fn named(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.id == id)
}

const fn rule(id: &'static str, title: &'static str) -> Rule {
    Rule { id, title }
}

/// The default password works for a role of the application.
pub(crate) const DEFAULT_PASSWORD: &str = "P01";
/// A rule of `pg_hba.conf` lets somebody in without a password.
pub(crate) const TRUST: &str = "P02";
/// The application's role can log in from other machines than the proxy's.
pub(crate) const REACHABLE: &str = "P03";
/// Proxy and server talk over a network without TLS.
pub(crate) const PLAIN_UPSTREAM: &str = "P04";
/// The database does not verify what the proxy signs.
pub(crate) const KEY: &str = "P05";
/// The database lacks `setup.sql`.
pub(crate) const NOT_INSTALLED: &str = "P06";
/// A role that was asked about does not exist.
pub(crate) const UNKNOWN_ROLE: &str = "P07";
/// A column that was asked about is in no table.
pub(crate) const UNKNOWN_COLUMN: &str = "P08";
/// A resolver's query does not fit the database.
pub(crate) const RESOLVER: &str = "P10";
/// A tenant's SQL can change what every client of its role proves.
pub(crate) const OWN_PASSWORD: &str = "P11";
/// EXPLAIN tells values of other tenants' rows.
pub(crate) const STATISTICS: &str = "P12";
/// `pg_stat_statements` shows the statements of all sessions of the role.
pub(crate) const STATEMENTS: &str = "P13";
/// `tenant_format` is not the form of a column that holds the tenant.
pub(crate) const FORMAT: &str = "P14";
/// Something could not be looked at.
pub(crate) const UNSEEN: &str = "P09";

pub(crate) const RULES: &[Rule] = &[
    rule("A01", "Tenants reach a table whose row-level security is off"),
    rule("A02", "The application can act as the owner of a table, whom row-level security does not bind"),
    rule("A03", "Row-level security does not bind the owner of a table"),
    rule("A04", "A permissive policy does not ask for the context"),
    rule("A05", "No restrictive policy keeps a table's rows to the tenant"),
    rule("A06", "A policy reads the context for every row"),
    rule("A07", "Tenants reach a partition or child table past the policies of its parent"),
    rule("A08", "A view or rule reads tenants' tables with the rights of its owner"),
    rule("A09", "Tenants reach a materialized view"),
    rule("A10", "Tenants reach a foreign table"),
    rule("A11", "The application can execute a SECURITY DEFINER function that row-level security does not bind"),
    rule("A12", "A SECURITY DEFINER function has no fixed search_path"),
    rule("A13", "The application is, or can become, a role with power over row-level security"),
    rule("A14", "The application is a member of one of PostgreSQL's power roles"),
    rule("A15", "The application can act as the owner of a tenants' table"),
    rule("A16", "The application has rights on a table that row-level security does not bind"),
    rule("A17", "A unique index spans all tenants"),
    rule("A18", "A foreign key spans all tenants"),
    rule("A19", "The tenant's column may be NULL"),
    rule("A20", "The tenant's column has no default"),
    rule("A21", "No index begins with the tenant's column"),
    rule("A22", "The application can create objects in a schema"),
    rule("A23", "The application can create schemas or temporary tables in the database"),
    rule("A24", "A stored setting changes every new session of the application"),
    rule("A25", "Sessions that share a role see or disturb each other"),
    rule("A26", "Default privileges give the application rights on what is yet to be created"),
    rule("A27", "Prepared transactions are possible"),
    rule("A28", "The application can leave its session, or keep state in it"),
    rule("A29", "A role has rights on what signs the context or shows verifiers"),
    rule("A30", "The functions that policies call are not as they were installed"),
    rule("A31", "A publication sends rows of all tenants"),
    rule("A32", "The server lacks fixes of row-level security"),
    rule("A33", "Tenants reach a table that has no tenant column"),
    rule("A34", "A tenant's column takes different texts for equal"),
    rule(DEFAULT_PASSWORD, "The default password works"),
    rule(TRUST, "A login needs no password"),
    rule(REACHABLE, "The application's role can log in past the proxy"),
    rule(PLAIN_UPSTREAM, "The proxy talks to the server over a network without TLS"),
    rule(KEY, "The proxy's key is not the database's"),
    rule(NOT_INSTALLED, "pgvpd is not installed in the database"),
    rule(UNKNOWN_ROLE, "A role that was asked about does not exist"),
    rule(UNKNOWN_COLUMN, "A tenant column that was asked about is in no table"),
    rule(UNSEEN, "Something could not be looked at"),
    rule(RESOLVER, "A resolver's query does not fit the database"),
    rule(OWN_PASSWORD, "A tenant can change the password that all tenants log in with"),
    rule(STATISTICS, "The planner's statistics tell values of all tenants' rows"),
    rule(STATEMENTS, "Tenants see each other's statements in pg_stat_statements"),
    rule(FORMAT, "The proxy lets in spellings of a tenant that its column does not have"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use pgvpd_core::sql::AUDIT;

    #[test]
    fn every_id_of_the_audit_is_known_and_every_id_stands_once() {
        let ids = AUDIT.match_indices("'A").filter_map(|(at, _)| {
            let id = AUDIT.get(at + 1..at + 4)?;
            (AUDIT.get(at + 4..at + 5) == Some("'") && id[1..].bytes().all(|b| b.is_ascii_digit())).then_some(id)
        });
        let ids: Vec<_> = ids.collect();
        assert!(ids.len() > 30, "{ids:?}");
        for id in ids {
            assert!(named(id).is_some(), "{id}");
        }
        assert!(RULES.iter().map(|rule| rule.id).is_sorted_by(|a, b| a < b));
    }
}
