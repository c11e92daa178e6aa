//! Whether the database verifies what the proxy signs.

use pgvpd_core::Config;

use super::finding::{Finding, Severity};
use super::rules;
use crate::database::{Database, told};

/// Signs a probe with each of the proxy's keys, sets it, and reads it back through the database's functions. A finding of
/// [`KEY`](rules::KEY) where none is verified.
pub(super) async fn finding(database: &Database, proxy: &Config) -> Option<Finding> {
    let signing = proxy.signing.as_ref()?;
    let finding =
        |severity, text: String, fix: &str| Some(Finding::new(rules::KEY, severity, "context_signing_key", text, fix));
    match verified(database, signing).await {
        Ok(Some(id)) if signing.probes("(1,1,1)", "", "").first().is_some_and(|(first, _)| *first == id) => None,
        Ok(Some(id)) => finding(
            Severity::Warning,
            format!("the database knows the previous key {id:?} and not the present one"),
            "-- pgvpd key install --config FILE",
        ),
        Ok(None) => finding(
            Severity::Critical,
            "the database verifies none of the proxy's keys: it has others, or none".to_owned(),
            "-- pgvpd key install --config FILE",
        ),
        Err(error) => finding(
            Severity::Critical,
            format!(
                "the database cannot verify a signed context: {}",
                error.as_db_error().map_or_else(|| error.to_string(), told)
            ),
            "-- pgvpd init",
        ),
    }
}

/// The id of the first key that the database verifies. Leaves no trace in the session.
async fn verified(
    database: &Database,
    signing: &pgvpd_core::config::ContextSigning,
) -> Result<Option<String>, tokio_postgres::Error> {
    let client = database.client();
    let attached = "SELECT pgvpd.attach()::text, current_database()::text, session_user::text";
    let row = client.query_one(attached, &[]).await?;
    let probes = signing.probes(row.get(0), row.get(1), row.get(2));
    let ask = "SELECT set_config('pgvpd.context', $1, false), public.pgvpd_context('pgvpd.signed')";
    let mut verified = None;
    for (id, token) in probes {
        let answer: Option<String> = client.query_one(ask, &[&token]).await?.get(1);
        if answer.as_deref() == Some("on") {
            verified = Some(id);
            break;
        }
    }
    client.batch_execute("RESET pgvpd.context").await?;
    Ok(verified)
}
