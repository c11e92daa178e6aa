//! `pgvpd key list`.

use super::refuse_uninstalled;
use crate::config_file::{ConfigFile, FileKey};
use crate::database::Database;
use crate::key_table::{KnownKey, known};
use crate::print::{note, table};

/// Lists the keys of the database, and what the file has of them.
pub(super) async fn list(database: &Database, file: Option<&ConfigFile>) -> anyhow::Result<()> {
    refuse_uninstalled(database).await?;
    let keys = known(database.client()).await?;
    if keys.is_empty() {
        note(&format!("Database {} has no key: contexts are plain settings. `pgvpd init` makes one.", database.name));
        return Ok(());
    }
    let (current, previous) = match file {
        Some(file) => (file.key()?, file.previous_key()?),
        None => (None, None),
    };
    let is = |known: &KnownKey, held: &Option<FileKey>| held.as_ref().is_some_and(|held| known.is(&held.key));
    let row = |known: &KnownKey| {
        let state = match (&known.expires, known.is_valid) {
            (None, _) => "valid".to_owned(),
            (Some(time), true) => format!("valid until {time}"),
            (Some(time), false) => format!("expired {time}"),
        };
        let place = match () {
            () if is(known, &current) => "signs",
            () if is(known, &previous) => "signed before",
            () => "",
        };
        let cells = [known.id.clone(), state, place.to_owned()];
        cells.into_iter().take(if file.is_some() { 3 } else { 2 }).collect()
    };
    let rows: Vec<Vec<String>> = keys.iter().map(row).collect();
    match file {
        Some(file) => table(&["key", "state", &file.path().display().to_string()], &rows),
        None => table(&["key", "state"], &rows),
    }
    Ok(())
}
