//! What is left to do after `pgvpd init`.

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
    let file = plan.path.display();
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
        next.push(format!("psql {on} -c '\\password app_user'"));
    }
    let open = candidates(database.client(), "tenant_id").await?;
    let tables = match &open[..] {
        [] => "TABLE...".to_owned(),
        open => open.iter().map(|table| quoted(table)).collect::<Vec<_>>().join(" "),
    };
    next.push(format!("pgvpd protect -d {on} {tables}"));
    next.push(format!("pgvpd --config {file}\nThe user that runs it has to own the file, which nobody else can read."));
    next.push(format!("psql 'postgresql://app_user.acme@127.0.0.1:6432/{}'", database.name));
    steps(&next);
    Ok(())
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
