//! What is left to do after `pgvpd init`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::args::InitOptions;
use super::plan::Plan;
use crate::database::{Database, explained, quoted};
use crate::print::{dim, heading, note, steps};
use crate::protect::candidates;

/// Prints the steps from here to the first login, or to signed contexts on a system that runs.
pub(super) async fn print(database: &Database, options: &InitOptions, plan: &Plan) -> anyhow::Result<()> {
    if options.dry_run {
        note(&dim("Nothing was changed."));
        return Ok(());
    }
    let file = quoted(&plan.path.display().to_string());
    let on = database.conninfo();
    if plan.waits {
        heading("Tables are protected, and no key is installed: contexts are plain settings here");
        note("With the key, a proxy that does not sign would be shown no rows. So, one after the other:");
        let write = if plan.keeps_file() {
            format!("set context_signing = prefer in {file}")
        } else {
            format!("give every proxy the signing options of {file}, as they are: context_signing = prefer")
        };
        steps(&[
            write,
            "reload every proxy (SIGHUP), and let sessions from before end: they carry no signature".into(),
            format!("pgvpd key install -d {on} --config {file}"),
            "set context_signing = require for every proxy, and reload it".into(),
        ]);
        note(&dim("Where no proxy is running, run this again with --install-key."));
        return Ok(());
    }
    heading("Next");
    let mut next = Vec::new();
    if options.app_password_file.is_none() && is_without_password(database).await? {
        next.push(format!("psql -d {on} -c '\\password app_user'"));
    }
    let open = candidates(database.client(), "tenant_id").await?;
    let tables = match &open[..] {
        [] => "TABLE...".to_owned(),
        open => open.iter().map(|table| quoted(table)).collect::<Vec<_>>().join(" "),
    };
    next.push(format!("pgvpd protect -d {on} {tables}"));
    let grants = missing_rights(database, &open).await?;
    next.extend(grants.map(|grants| format!("psql -d {on} -c {}", quoted(&grants))));
    next.push(format!("pgvpd --config {file}\nThe user that runs it has to own the file, which nobody else can read."));
    next.push(format!("psql {}", quoted_url(&url(plan, &database.name))));
    next.push(format!("pgvpd check -d {on} --config {file}"));
    steps(&next);
    note(&dim(OWN_SECRETS));
    Ok(())
}

/// The way that closes what a password of the database's leaves open.
const OWN_SECRETS: &str = "  SQL in a session can change the password of app_user, with which every tenant logs in. What closes that,\n  \
    secrets of the proxy's own (pool_mode = session, auth_file), is in docs/security.md: The role's own password.";

/// Where the proxy will listen, as the file says.
fn url(plan: &Plan, database: &str) -> String {
    let host = match plan.value("listen_host") {
        None | Some("0.0.0.0") => "127.0.0.1",
        Some("::") => "::1",
        Some(host) => host,
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let port = plan.value("port").unwrap_or("6432");
    let encoded = |text: &str| utf8_percent_encode(text, URL_ENCODED).to_string();
    let user = format!("app_user{}acme", plan.value("tenant_separator").unwrap_or("."));
    format!("postgresql://{}@{host}:{port}/{}", encoded(&user), encoded(database))
}

/// Everything but what RFC 3986 calls unreserved.
const URL_ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Between quotes also where a shell needs none, as one writes a URL.
fn quoted_url(url: &str) -> String {
    let quoted = quoted(url);
    if quoted.starts_with('\'') { quoted } else { format!("'{quoted}'") }
}

/// The rights that `pgvpd protect` leaves to others to give: on tables on which somebody has been granted something already, and
/// on schemas.
async fn missing_rights(database: &Database, tables: &[String]) -> anyhow::Result<Option<String>> {
    let missing = "
        WITH t AS (
            SELECT c.relnamespace, c.oid::regclass::text AS name,
                   NOT has_any_column_privilege('app_user', c.oid, 'SELECT')
                   AND EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee <> c.relowner) AS is_left_alone
            FROM unnest($1::text[]) n JOIN pg_class c ON c.oid = n::regclass
        )
        SELECT concat_ws(' ',
            (SELECT format('GRANT USAGE ON SCHEMA %s TO app_user;', string_agg(DISTINCT quote_ident(n.nspname), ', '))
             FROM t JOIN pg_namespace n ON n.oid = t.relnamespace WHERE NOT has_schema_privilege('app_user', n.oid, 'USAGE') HAVING count(*) > 0),
            (SELECT format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO app_user;', string_agg(name, ', ' ORDER BY name))
             FROM t WHERE is_left_alone HAVING count(*) > 0))";
    let row = database.client().query_one(missing, &[&tables]).await.map_err(|error| explained(&error))?;
    Ok(Some(row.get::<_, String>(0)).filter(|grants| !grants.is_empty()))
}

/// True unless it is known that the role has one: only a superuser can look.
async fn is_without_password(database: &Database) -> anyhow::Result<bool> {
    if !database.is_superuser {
        return Ok(true);
    }
    let password =
        database.client().query_one("SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = 'app_user'", &[]).await;
    Ok(password.map_err(|error| explained(&error))?.get(0))
}
