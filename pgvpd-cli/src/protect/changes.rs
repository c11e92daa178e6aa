//! What protecting changes, from the catalogs before and after.

use std::collections::BTreeMap;

use anstyle::AnsiColor;
use tokio_postgres::Transaction;

use crate::database::explained;
use crate::print::{note, styled};

/// Of each table, what the catalogs say that has to do with protection, a line each, in order.
pub(super) type Facts = BTreeMap<String, Vec<String>>;

/// The facts of these tables and of all below them.
pub(super) async fn facts(transaction: &Transaction<'_>, roots: &[u32], column: &str) -> anyhow::Result<Facts> {
    let rows = transaction.query(FACTS, &[&roots, &column]).await.map_err(|error| explained(&error))?;
    let mut facts = Facts::new();
    for row in rows {
        facts.entry(row.get(0)).or_default().push(row.get(1));
    }
    Ok(facts)
}

/// In the order in which they are shown. Rights of the owner are left out: nothing here changes them.
const FACTS: &str = "
    WITH RECURSIVE tree AS (
        SELECT unnest($1::oid[]) AS relid UNION SELECT i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.relid
    ), member AS (
        SELECT c.*, format('%I.%I', n.nspname, c.relname) AS name
        FROM tree JOIN pg_class c ON c.oid = tree.relid JOIN pg_namespace n ON n.oid = c.relnamespace
    ), fact AS (
        SELECT name, 1 AS place, 'row-level security: ' || CASE WHEN NOT relrowsecurity THEN 'off'
                   WHEN relforcerowsecurity THEN 'on, also for the owner' ELSE 'on, not for the owner' END AS line FROM member
        UNION ALL
        SELECT name, 2, format('%s policy %I, for %s, to %s: %s%s',
                   CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END, p.polname,
                   CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
                   (SELECT string_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, ', ') FROM unnest(p.polroles) r),
                   q.condition, CASE WHEN q.checked IS DISTINCT FROM q.condition THEN ' WITH CHECK ' || q.checked ELSE '' END)
        FROM member m JOIN pg_policy p ON p.polrelid = m.oid,
        LATERAL (SELECT pg_get_expr(p.polqual, p.polrelid) AS condition, pg_get_expr(p.polwithcheck, p.polrelid) AS checked) q
        UNION ALL
        SELECT name, 3, format('default of %I: %s', a.attname, pg_get_expr(d.adbin, d.adrelid))
        FROM member m JOIN pg_attribute a ON a.attrelid = m.oid AND a.attname = $2::text::name
        JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        UNION ALL
        SELECT name, 4, format('%s may %s', CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(acl.grantee)) END,
                   string_agg(acl.privilege_type, ', ' ORDER BY acl.privilege_type))
        FROM member m, aclexplode(m.relacl) acl WHERE acl.grantee <> m.relowner GROUP BY name, acl.grantee
        UNION ALL
        SELECT DISTINCT m.name, 5, format('%s may use sequence %s', CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(acl.grantee)) END,
                   s.oid::regclass)
        FROM member m, LATERAL (
            SELECT d.objid AS oid FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
                AND d.refobjid = m.oid AND d.refobjsubid > 0
            UNION SELECT d.refobjid FROM pg_attrdef f JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
            WHERE f.adrelid = m.oid AND d.refclassid = 'pg_class'::regclass
        ) used JOIN pg_class s ON s.oid = used.oid AND s.relkind = 'S', aclexplode(s.relacl) acl
        WHERE acl.privilege_type = 'USAGE' AND acl.grantee <> s.relowner
    )
    SELECT name, line FROM fact ORDER BY name, place, line";

/// The difference between two sets of facts.
pub(super) struct Changes(BTreeMap<String, Vec<Change>>);

#[derive(Debug, PartialEq, Eq)]
enum Change {
    Gone(String),
    New(String),
}

impl Changes {
    pub(super) fn between(mut before: Facts, after: Facts) -> Self {
        let changes = after.into_iter().map(|(table, after)| {
            let before = before.remove(&table).unwrap_or_default();
            let gone =
                before.iter().filter(|line| !after.contains(line)).cloned().map(Change::Gone).collect::<Vec<_>>();
            let new = after.iter().filter(|line| !before.contains(line)).cloned().map(Change::New);
            (table, gone.into_iter().chain(new).collect())
        });
        Self(changes.collect())
    }

    /// Prints it as a difference of lines, table by table.
    pub(super) fn print(&self) {
        for (table, changes) in &self.0 {
            if changes.is_empty() {
                note(&format!("  {table}: nothing; it was protected like this before"));
                continue;
            }
            note(&format!("  {table}"));
            for change in changes {
                note(&match change {
                    Change::Gone(line) => styled(AnsiColor::Red.on_default(), format!("    - {line}")),
                    Change::New(line) => styled(AnsiColor::Green.on_default(), format!("    + {line}")),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_stands_before_what_came_and_what_stayed_is_not_shown() {
        let facts = |lines: &[&str]| Facts::from([("t".to_owned(), lines.iter().map(ToString::to_string).collect())]);
        let changes = Changes::between(facts(&["a", "b"]), facts(&["b", "c"]));
        assert_eq!(changes.0["t"], [Change::Gone("a".into()), Change::New("c".into())]);
        assert!(Changes::between(facts(&["a"]), facts(&["a"])).0["t"].is_empty());
    }
}
