//! Rows to try things on: those that are there, or ones that are made up and removed again.

use super::IsolationError;
use super::session::{Session, Target};

/// Rows that a check has added, each as (tableoid, ctid).
#[derive(Debug, Default)]
pub(super) struct AddedRows {
    rows: Vec<(u32, String)>,
}

/// Columns that an INSERT must name, each with an expression that gives some value of its type; NULL where there is none
/// to think of. A serial one is named, too: its default needs a right on the sequence, without which nothing would be tried;
/// what it gets is below what the sequence gives.
const REQUIRED: &str = "
    SELECT quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), CASE
        WHEN a.atthasdef AND t.typcategory = 'N' THEN '(-1 - random() * 30000)::integer'
        WHEN t.typname = 'uuid' THEN 'gen_random_uuid()'
        WHEN t.typname IN ('json', 'jsonb') THEN '''{}'''
        WHEN t.typname IN ('bytea', 'xml', 'tsvector') THEN ''''''
        WHEN t.typtype = 'e' THEN format('(enum_range(NULL::%s))[1]', t.oid::regtype)
        WHEN t.typtype = 'r' THEN '''empty'''
        WHEN t.typtype = 'm' OR t.typcategory = 'A' THEN '''{}'''
        WHEN t.typcategory = 'S' THEN 'md5(random()::text)'
        WHEN t.typcategory = 'N' AND a.atttypmod >= 0 THEN '0'
        WHEN t.typcategory = 'N' THEN '(random() * 30000)::integer'
        WHEN t.typcategory = 'B' THEN 'false'
        WHEN t.typcategory = 'T' THEN '''1 day'''
        WHEN t.typcategory = 'D' THEN 'now()'
        WHEN t.typcategory = 'I' THEN '''127.0.0.1'''
    END
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_type d ON d.oid = a.atttypid
    JOIN pg_catalog.pg_type t ON t.oid = CASE d.typtype WHEN 'd' THEN d.typbasetype ELSE d.oid END
    WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped AND quote_ident(a.attname) <> $2
        AND a.attidentity = '' AND CASE
            WHEN NOT a.atthasdef THEN a.attnotnull OR d.typnotnull
            ELSE EXISTS (
                SELECT FROM pg_catalog.pg_attrdef f WHERE f.adrelid = a.attrelid AND f.adnum = a.attnum
                    AND pg_get_expr(f.adbin, f.adrelid) ~ '^nextval\\('
            )
        END
    ORDER BY a.attnum";

/// The INSERT of a made-up row of the tenant `$1`, or the column for which no value is known.
pub(super) async fn insert_statement(
    session: &Session,
    target: &Target,
) -> Result<Result<String, String>, IsolationError> {
    let failed = IsolationError::sql(format!("looking up the columns of {}", target.table));
    let required = session.client.query(REQUIRED, &[&target.table, &target.column]).await.map_err(failed)?;
    let mut columns = vec![target.column.clone()];
    let mut values = vec![format!("$1::text::{}", target.column_type)];
    for row in &required {
        let (column, of_type, expression): (String, String, Option<String>) = (row.get(0), row.get(1), row.get(2));
        let Some(expression) = expression else {
            return Ok(Err(format!("no value of type {of_type} is known for column {column}")));
        };
        // A cast that is written out cuts a text to the length of the column instead of refusing it.
        values.push(format!("({expression})::{of_type}"));
        columns.push(column);
    }
    Ok(Ok(format!("INSERT INTO {} ({}) VALUES ({})", target.table, columns.join(", "), values.join(", "))))
}

impl AddedRows {
    /// Sees to it that the tenant has a row, and sees it.
    pub(super) async fn ensure(
        &mut self,
        target: &Target,
        tenant: &Session,
        admin: Option<&Session>,
    ) -> Result<(), IsolationError> {
        if sees_its_own(target, tenant).await? {
            return Ok(());
        }
        let (table, name) = (target.table.clone(), tenant.name.clone());
        let Some(admin) = admin else { return Err(IsolationError::NoRows { table, tenant: name }) };
        self.add(target, &name, admin).await?;
        if sees_its_own(target, tenant).await? {
            Ok(())
        } else {
            Err(IsolationError::OwnRowHidden { table, tenant: name })
        }
    }

    async fn add(&mut self, target: &Target, tenant: &str, admin: &Session) -> Result<(), IsolationError> {
        let failed =
            |reason: String| IsolationError::Row { table: target.table.clone(), tenant: tenant.into(), reason };
        let said = |error: tokio_postgres::Error| failed(super::super::causes(&error));
        let insert = insert_statement(admin, target).await?.map_err(failed)?;
        without_triggers(admin).await;
        let row = admin.client.query_one(&format!("{insert} RETURNING tableoid, ctid::text"), &[&tenant]).await;
        let row = row.map_err(said)?;
        self.rows.push((row.get(0), row.get(1)));
        Ok(())
    }

    /// Removes what was added.
    pub(super) async fn remove(self, target: &Target, admin: Option<&Session>) -> Result<(), IsolationError> {
        let Some(admin) = admin else { return Ok(()) };
        let delete = format!("DELETE FROM {} WHERE tableoid = $1 AND ctid = $2::text::tid", target.table);
        for (relation, place) in self.rows {
            let deleted = admin.client.execute(&delete, &[&relation, &place]).await;
            deleted.map_err(IsolationError::sql(format!("removing a row that was added to {}", target.table)))?;
        }
        Ok(())
    }
}

async fn sees_its_own(target: &Target, tenant: &Session) -> Result<bool, IsolationError> {
    let seen = format!("SELECT EXISTS (SELECT FROM {} WHERE {})", target.table, target.is_tenant(1));
    let row = tenant.client.query_one(&seen, &[&tenant.name]).await;
    let doing = format!("reading {} as tenant {}", target.table, tenant.name);
    Ok(row.map_err(IsolationError::sql(doing))?.get(0))
}

/// A superuser can leave foreign keys and triggers out, so that one table can be tried alone. For others they apply.
async fn without_triggers(admin: &Session) {
    let ignored = admin.client.batch_execute("SET session_replication_role = replica").await;
    if let Err(error) = ignored {
        tracing::debug!(%error, "foreign keys apply to the row that is added");
    }
}
