//! Whether the form that the proxy asks of a tenant is that of the columns which hold it.

use pgvpd_core::Config;
use pgvpd_core::tenant::TenantFormat;

use super::finding::{Finding, Severity};
use super::rules;
use crate::database::Database;

/// A finding of [`FORMAT`](rules::FORMAT) for each column that is compared with the tenant and of another form than `tenant_format`.
pub(super) async fn findings(database: &Database, proxy: &Config) -> Result<Vec<Finding>, tokio_postgres::Error> {
    let Some(variable) = proxy.identity.variables.first() else { return Ok(Vec::new()) };
    // Neither pgvpd's functions nor a right on the columns' schemas is needed. PostgreSQL prints the schemas that are not in the search path.
    let columns = "
        WITH RECURSIVE compared AS (
            SELECT DISTINCT p.polrelid, c[1] AS col, coalesce(c[2], 'app.current_tenant_id') AS variable
            FROM pg_catalog.pg_policy p, pg_catalog.regexp_match(pg_catalog.pg_get_expr(p.polqual, p.polrelid),
                '^[(][(]?([a-z0-9_]+|\"(?:[^\"]|\"\")+\")[)]?(?:::[a-z]+)? = [(] SELECT (?:(?:pgvpd[.])?to_[a-z]+[(])?(?:public[.])?(?:current_tenant_id[(][)]|pgvpd_context[(]''([a-z0-9_.]+)''::text[)])') c
            WHERE p.polname IN ('pgvpd_tenant_isolation', 'pgvpd_tenant_guard') AND c IS NOT NULL
        ), type AS (
            SELECT c.variable, a.attrelid, a.attname, a.atttypid AS oid, 0 AS depth FROM compared c
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.polrelid AND pg_catalog.quote_ident(a.attname) = c.col
            UNION ALL
            SELECT d.variable, d.attrelid, d.attname, t.typbasetype, d.depth + 1 FROM type d
            JOIN pg_catalog.pg_type t ON t.oid = d.oid AND t.typbasetype <> 0
        )
        SELECT pg_catalog.format('%I.%I.%I', n.nspname, r.relname, b.attname), pg_catalog.format_type(b.oid, NULL)
        FROM (SELECT DISTINCT ON (attrelid, attname) * FROM type WHERE variable = $1 ORDER BY attrelid, attname, depth DESC) b
        JOIN pg_catalog.pg_class r ON r.oid = b.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
        WHERE NOT r.relispartition ORDER BY 1";
    let rows = database.client().query(columns, &[&variable.as_str()]).await?;
    let findings = rows.iter().filter_map(|row| finding(row.get(0), row.get(1), proxy.identity.format));
    Ok(findings.collect())
}

fn finding(column: &str, kind: &str, format: TenantFormat) -> Option<Finding> {
    let (fitting, name) = match kind {
        "uuid" => (TenantFormat::Uuid, "uuid"),
        "smallint" | "integer" | "bigint" => (TenantFormat::Integer, "integer"),
        _ => (TenantFormat::Text, "text"),
    };
    // A text column holds a uuid or an integer as it is spelt.
    if fitting == format || fitting == TenantFormat::Text {
        return None;
    }
    let finding = format!(
        "this column is of type {kind}, and tenant_format lets in tenants that are {}: other spellings of a tenant log in, and see no rows",
        format.describe()
    );
    Some(Finding::new(rules::FORMAT, Severity::Warning, column, finding, format!("-- tenant_format = {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_form_that_the_column_does_not_have_is_reported() {
        use TenantFormat::{Integer, Text, Uuid};

        for (kind, fitting) in [
            ("uuid", &[Uuid][..]),
            ("bigint", &[Integer]),
            ("smallint", &[Integer]),
            ("text", &[Text, Uuid, Integer]),
            ("character varying", &[Text, Uuid, Integer]),
        ] {
            for format in [Text, Uuid, Integer] {
                assert_eq!(finding("t.c", kind, format).is_none(), fitting.contains(&format), "{kind}, {format:?}");
            }
        }
    }
}
