//! Limits of a shared role that this database, or the proxy's configuration, leaves open: docs/security.md, "Limits".

use pgvpd_core::Config;
use pgvpd_core::config::{ClientCert, ClientTlsMode, Isolation, PoolMode};
use tokio_postgres::Error;

use super::finding::{Finding, Severity};
use super::rules;
use crate::database::Database;

/// What `EXPLAIN` and `pg_stat_statements` tell in this database.
pub(super) async fn findings(
    database: &Database,
    roles: &[String],
    tenant_columns: &[String],
) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for row in database.client().query(STATISTICS, &[&roles, &tenant_columns]).await? {
        let (table, columns, fix): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let finding =
            format!("EXPLAIN tells a tenant values of others' rows, by the planner's statistics of {columns}");
        findings.push(Finding::new(rules::STATISTICS, Severity::Info, table, finding, fix));
    }
    for row in database.client().query(STATEMENTS, &[&roles]).await? {
        let (view, fix): (String, String) = (row.get(0), row.get(1));
        let finding = "shows a tenant the statements, and how often and how long they ran, of all sessions of its role";
        findings.push(Finding::new(rules::STATEMENTS, Severity::Warning, view, finding, fix));
    }
    Ok(findings)
}

/// A finding where a tenant's SQL can change what every client of its role proves, and so log in as any tenant.
pub(super) fn password(proxy: &Config, roles: &[String]) -> Option<Finding> {
    let is_asked_by_proxy = proxy.pool_mode != PoolMode::None || proxy.tls.mode == ClientTlsMode::Require;
    let open = roles.iter().find(|role| !(is_asked_by_proxy && proxy.secrets.is_own(role)))?;
    let is_closed = proxy.isolation == Isolation::Role || matches!(proxy.tls.client_cert, ClientCert::Tenant(_));
    (!is_closed).then(|| {
        let finding = "SQL in a tenant's session can change the password of this role, and whoever knows it logs in as any tenant";
        let fix = "-- secrets of the proxy's own (pool_mode = session, auth_file), client_cert = tenant, or isolation = role: docs/security.md";
        Finding::new(rules::OWN_PASSWORD, Severity::Warning, format!("role {open}"), finding, fix)
    })
}

/// Tables that row-level security holds, and those of their columns that a role may read and that have statistics, but for the
/// tenant's. What ANALYZE has found only a superuser sees; for others it is enough that it has run.
const STATISTICS: &str = "
    SELECT c.oid::regclass::text, string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum),
           format('SELECT public.pgvpd_hide_statistics(%L, %s);', c.oid::regclass, string_agg(quote_literal(a.attname), ', ' ORDER BY a.attnum))
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
    WHERE c.relkind IN ('r', 'p') AND c.relrowsecurity AND NOT c.relispartition AND c.reltuples > 0
      AND a.attnum > 0 AND NOT a.attisdropped AND a.attstattarget IS DISTINCT FROM 0 AND a.attname <> ALL ($2)
      AND EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'pgvpd_tenant_guard')
      AND EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = ANY ($1) AND has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT'))
    GROUP BY c.oid ORDER BY 1";

const STATEMENTS: &str = "
    SELECT v.oid::regclass::text,
           format('REVOKE ALL ON %s FROM PUBLIC; REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC;', v.oid::regclass,
                  (SELECT string_agg(f.objid::regprocedure::text, ', ') FROM pg_catalog.pg_depend f WHERE f.refclassid = d.refclassid
                   AND f.refobjid = d.refobjid AND f.deptype = 'e' AND f.classid = 'pg_catalog.pg_proc'::regclass))
    FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.refobjid = e.oid
    JOIN pg_catalog.pg_class v ON d.classid = 'pg_catalog.pg_class'::regclass AND v.oid = d.objid AND v.relname = 'pg_stat_statements'
    WHERE e.extname = 'pg_stat_statements'
      AND EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = ANY ($1) AND has_table_privilege(r.oid, v.oid, 'SELECT'))";

#[cfg(test)]
mod tests {
    use pgvpd_core::Settings;

    use super::*;

    fn is_open(options: &[(&str, &str)]) -> bool {
        let mut settings = Settings::new();
        for (name, value) in options {
            settings.set(name, value).expect(name);
        }
        let config = Config::from_settings(settings).unwrap_or_else(|error| panic!("{options:?}: {error}"));
        password(&config, &["app_user".to_owned()]).is_some()
    }

    #[test]
    fn a_password_that_the_database_keeps_is_open() -> std::io::Result<()> {
        let users = tempfile::NamedTempFile::new()?;
        std::fs::write(users.path(), "\"app_user\" \"secret\"\n")?;
        let users = users.path().to_str().unwrap_or_default();
        let asking = [("auth_user", "pgvpd_auth"), ("auth_dbname", "shop")];
        assert!(is_open(&[]), "the server's own login");
        assert!(is_open(&[&[("pool_mode", "session")], &asking[..]].concat()), "what the database says");
        assert!(is_open(&[&[("pool_mode", "session"), ("pool_password", "x")], &asking[..]].concat()));
        assert!(!is_open(&[&[("pool_mode", "session"), ("auth_file", users)], &asking[..]].concat()));
        assert!(!is_open(&[("pool_mode", "session"), ("pool_password", "x")]));
        assert!(!is_open(&[("isolation", "role")]));
        Ok(())
    }
}
