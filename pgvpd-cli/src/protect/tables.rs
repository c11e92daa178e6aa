//! Tables, and how they stand: what could be protected, and what is.

use tokio_postgres::{Client, Transaction};

use crate::database::explained;

/// The tables that have this column and not both policies, as they are named in this session.
pub(crate) async fn candidates(client: &Client, column: &str) -> anyhow::Result<Vec<String>> {
    let open = "
        SELECT c.oid::regclass::text FROM pg_attribute a
        JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE a.attname = $1::text::name AND a.attnum > 0 AND NOT a.attisdropped
          AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
          AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgvpd')
          AND NOT (c.relrowsecurity AND c.relforcerowsecurity
                   AND 2 = (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid
                            AND p.polname IN ('pgvpd_tenant_isolation', 'pgvpd_tenant_guard')))
        ORDER BY 1";
    let rows = client.query(open, &[&column]).await.map_err(|error| explained(&error))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// A row of `pgvpd_status()`.
pub(super) struct Protected {
    /// It was named, and is not below one that was.
    pub(super) is_root: bool,
    pub(super) status: String,
    table: String,
    column: Option<String>,
    variable: Option<String>,
}

impl Protected {
    pub(super) fn row(&self) -> Vec<String> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        vec![self.table.clone(), text(&self.column), text(&self.variable), self.status.clone()]
    }
}

/// The status of these tables and of all below them.
pub(super) async fn statuses(transaction: &Transaction<'_>, roots: &[u32]) -> anyhow::Result<Vec<Protected>> {
    let statuses = "
        WITH RECURSIVE tree AS (
            SELECT unnest($1::oid[]) AS relid UNION SELECT i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.relid)
        SELECT tree.relid = ANY ($1), s.table_name, s.tenant_column, s.variable, s.status
        FROM tree JOIN pg_class c ON c.oid = tree.relid JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN public.pgvpd_status() s ON s.table_name = format('%I.%I', n.nspname, c.relname)
        ORDER BY s.table_name";
    let rows = transaction.query(statuses, &[&roots]).await.map_err(|error| explained(&error))?;
    let protected = |row: tokio_postgres::Row| Protected {
        is_root: row.get(0),
        table: row.get(1),
        column: row.get(2),
        variable: row.get(3),
        status: row.get(4),
    };
    Ok(rows.into_iter().map(protected).collect())
}
