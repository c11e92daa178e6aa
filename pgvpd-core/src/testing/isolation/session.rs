//! The sessions of a check, and what the catalogs say of the table.

use tokio_postgres::{Client, Config, NoTls};

use super::IsolationError;

/// How long a login may take; the proxy and the server have limits of their own.
const LOGIN_LIMIT: std::time::Duration = std::time::Duration::from_secs(30);

/// Somebody who is logged in.
pub(super) struct Session {
    /// The tenant's name, or who it is instead.
    pub(super) name: String,
    pub(super) is_tenant: bool,
    pub(super) client: Client,
}

impl Session {
    pub(super) async fn as_tenant(name: &str, url: &str) -> Result<Self, IsolationError> {
        Ok(Self { is_tenant: true, ..Self::connect(name, url).await? })
    }

    pub(super) async fn connect(name: &str, url: &str) -> Result<Self, IsolationError> {
        let failed = || IsolationError::sql(format!("logging in as {name}"));
        let mut config: Config = url.parse().map_err(failed())?;
        let (client, connection) = config.connect_timeout(LOGIN_LIMIT).connect(NoTls).await.map_err(failed())?;
        // Ends when the client is dropped.
        tokio::spawn(connection);
        Ok(Self { name: name.into(), is_tenant: false, client })
    }
}

/// The table, every name in it quoted for SQL.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) table: String,
    pub(super) column: String,
    pub(super) column_type: String,
    /// The role of the session that looked.
    pub(super) role: String,
    pub(super) is_partitioned: bool,
    asked_for: String,
}

/// A relation through which the table's rows can be reached.
#[derive(Debug)]
pub(super) struct Relation {
    pub(super) name: String,
    /// What it is, for people.
    pub(super) kind: &'static str,
    /// What the session may do with it.
    pub(super) may_update: Option<String>,
    pub(super) may_delete: bool,
}

/// Names have their schema: the search_path of the administrator, or of the session without context, may be another.
const FIND: &str = "
    SELECT format('%I.%I', n.nspname, c.relname), quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), current_user::text,
        c.relkind = 'p'
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.oid = to_regclass($1) AND c.relkind IN ('r', 'p')";

/// Roles that the session is, or can become by SET ROLE.
const UNBOUND: &str = "
    SELECT r.rolname::text, r.rolsuper
    FROM pg_catalog.pg_roles r
    WHERE (r.rolsuper OR r.rolbypassrls) AND pg_has_role(session_user, r.oid, 'MEMBER')
    ORDER BY r.rolname = session_user DESC, r.rolname LIMIT 1";

const RIGHTS: &str = "
    SELECT pg_has_role(session_user, c.relowner, 'MEMBER'), has_table_privilege(c.oid, 'SELECT')
    FROM pg_catalog.pg_class c WHERE c.oid = $1::text::regclass";

/// The table, its partitions and children, and the views over any of them, as far as the session may read them. A view
/// counts if it shows a column of the tenant column's name.
const RELATIONS: &str = "
    WITH RECURSIVE reach(oid) AS (
        SELECT $1::text::regclass::oid
        UNION
        SELECT next.oid FROM reach CROSS JOIN LATERAL (
            SELECT i.inhrelid AS oid FROM pg_catalog.pg_inherits i WHERE i.inhparent = reach.oid
            UNION ALL
            SELECT w.ev_class FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite w ON w.oid = d.objid
            WHERE d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
                AND d.refobjid = reach.oid
        ) next
    )
    SELECT format('%I.%I', n.nspname, c.relname), c.relkind::text, has_table_privilege(c.oid, 'DELETE'), (
        SELECT quote_ident(a.attname) FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND a.attidentity <> 'a'
            AND has_column_privilege(c.oid, a.attnum, 'UPDATE')
        ORDER BY a.attname = $2, a.attnum LIMIT 1)
    FROM reach JOIN pg_catalog.pg_class c USING (oid)
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm') AND has_table_privilege(c.oid, 'SELECT')
        AND has_schema_privilege(c.relnamespace, 'USAGE')
        AND EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attname = $2 AND NOT a.attisdropped)
    ORDER BY c.oid = $1::text::regclass DESC, 1";

impl Target {
    pub(super) async fn find(session: &Session, table: &str, column: &str) -> Result<Self, IsolationError> {
        let failed = IsolationError::sql(format!("looking for table {table}"));
        let row = session.client.query_opt(FIND, &[&table, &column]).await.map_err(failed)?;
        let row = row.ok_or_else(|| IsolationError::NoTable(table.into()))?;
        let (Some(quoted), Some(column_type)) = (row.get(1), row.get(2)) else {
            return Err(IsolationError::NoColumn { table: table.into(), column: column.into() });
        };
        Ok(Self {
            table: row.get(0),
            column: quoted,
            column_type,
            role: row.get(3),
            is_partitioned: row.get(4),
            asked_for: column.into(),
        })
    }

    /// Refuses a session that policies do not bind: whatever it is denied proves nothing, or it is denied nothing.
    pub(super) async fn refuse_vacuous(&self, session: &Session) -> Result<(), IsolationError> {
        let (role, table) = (self.role.clone(), self.table.clone());
        let failed = || IsolationError::sql("looking up the session's role");
        if let Some(row) = session.client.query_opt(UNBOUND, &[]).await.map_err(failed())? {
            let role = row.get(0);
            let is_superuser: bool = row.get(1);
            return Err(if is_superuser {
                IsolationError::Superuser { role }
            } else {
                IsolationError::BypassRls { role }
            });
        }
        let row = session.client.query_one(RIGHTS, &[&self.table]).await.map_err(failed())?;
        match (row.get(0), row.get(1)) {
            (true, _) => Err(IsolationError::Owner { role, table }),
            (false, false) => Err(IsolationError::NoRight { role, table }),
            (false, true) => Ok(()),
        }
    }

    pub(super) async fn relations(&self, session: &Session) -> Result<Vec<Relation>, IsolationError> {
        let failed = IsolationError::sql(format!("looking for views and partitions of {}", self.table));
        let rows = session.client.query(RELATIONS, &[&self.table, &self.asked_for]).await.map_err(failed)?;
        let relation = |row: &tokio_postgres::Row| {
            let name: String = row.get(0);
            let kind = match (row.get(1), name == self.table) {
                ("v", _) => "view",
                ("m", _) => "materialized view",
                (_, true) => "table",
                (_, false) => "partition or child",
            };
            let is_table = matches!(kind, "table" | "partition or child");
            let may_delete: bool = row.get(2);
            let may_update: Option<String> = row.get(3);
            Relation { name, kind, may_update: may_update.filter(|_| is_table), may_delete: may_delete && is_table }
        };
        Ok(rows.iter().map(relation).collect())
    }

    /// `column = $n`, compared in the column's own type.
    pub(super) fn is_tenant(&self, parameter: u32) -> String {
        let Self { column, column_type, .. } = self;
        format!("{column} = ${parameter}::text::{column_type}")
    }
}
