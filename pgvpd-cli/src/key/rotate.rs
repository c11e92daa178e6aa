//! `pgvpd key rotate`: a new key, with no moment in which a signature does not count.
//!
//! 1. The new text of the file is written beside it: what fails here has changed nothing.
//! 2. The database learns the new key. Proxies sign with the old one, which is valid. An end here leaves a key that no file
//!    holds, which harms nobody; a further run makes another.
//! 3. The new file takes the old one's place. Proxies sign with either key from now on, as they are reloaded.
//! 4. The old key expires after a while. An end before this leaves it valid; the next rotation retires it as the previous one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{held, refuse_uninstalled, unusable};
use crate::config_file::{ConfigFile, FileKey, Staged, can_create, create_like};
use crate::database::{Database, explained};
use crate::key_table::{self, Standing, standing};
use crate::print::{dim, done, heading, note, steps};
use crate::signing_key::{SigningKey, next_id};

/// Rotates the key of the file in one database.
pub(super) async fn rotate(
    database: &mut Database,
    file: &ConfigFile,
    keep: Duration,
    is_dry: bool,
) -> anyhow::Result<()> {
    let old = held(file)?;
    let before = file.previous_key().ok().flatten();
    refuse_uninstalled(database).await?;
    heading(&format!("pgvpd key rotate: database {}", database.name));
    let known = key_table::known(database.client()).await?;
    match standing(&known, &old.key) {
        // Rotation is also the way out for a key that has expired.
        Standing::Valid | Standing::Expired => {}
        wrong => return Err(unusable(file, &old.key.id, &wrong)),
    }
    let in_file = [Some(&old), before.as_ref()].into_iter().flatten().map(|held| held.key.id.as_str());
    let new = SigningKey::random(next_id(known.iter().map(|known| known.id.as_str()).chain(in_file)))?;

    let key_file = old.file.as_deref().map(|file| file_for(file, &old.key.id, &new.id));
    let text = rewritten(file, &old, &new, key_file.as_deref())?;
    let taken_back = |error: anyhow::Error| {
        // The proxy does not know it yet.
        key_file.iter().filter(|_| !is_dry).for_each(|path| drop(std::fs::remove_file(file.beside(path))));
        error
    };
    let staged = if is_dry {
        can_create(file.path())?;
        None
    } else {
        if let Some(path) = &key_file {
            let like = old.file.as_deref().map(|old| file.beside(old));
            create_like(&file.beside(path), &format!("{}\n", *new.digits()), like.as_deref())?;
        }
        Some(text.staged().map_err(taken_back)?)
    };

    let transaction = database.client_mut().transaction().await.map_err(|error| taken_back(explained(&error)))?;
    key_table::install(&transaction, &new).await.map_err(taken_back)?;
    let ended = if is_dry { transaction.rollback().await } else { transaction.commit().await };
    ended.map_err(|error| taken_back(explained(&error)))?;
    done(is_dry, &format!("{} key {:?} in the database", if is_dry { "install" } else { "installed" }, new.id));

    let path = file.path().display();
    staged.map_or(Ok(()), Staged::replace).map_err(taken_back)?;
    let verb = if is_dry { "write" } else { "wrote" };
    let beside = key_file.as_deref().map(|path| format!(" in {}", file.beside(path).display())).unwrap_or_default();
    done(is_dry, &format!("{verb} {path}: key {:?}{beside} signs, key {:?} is the previous one", new.id, old.key.id));
    retire(database, &old, before.as_ref(), &new, keep, is_dry).await?;
    finish(file, before.as_ref(), is_dry);
    Ok(())
}

/// The text of the file with both keys.
fn rewritten(
    file: &ConfigFile,
    old: &FileKey,
    new: &SigningKey,
    key_file: Option<&Path>,
) -> anyhow::Result<ConfigFile> {
    let path = file.path();
    let mut text = ConfigFile::read(path)?.ok_or_else(|| anyhow::anyhow!("{} is gone", path.display()))?;
    let (name, previous, unused) = match old.file {
        None => ("context_signing_key", "context_previous_signing_key", "context_previous_signing_key_file"),
        Some(_) => ("context_signing_key_file", "context_previous_signing_key_file", "context_previous_signing_key"),
    };
    match (&old.file, key_file) {
        (Some(old_file), Some(new_file)) => {
            text.set(name, &new_file.to_string_lossy(), "");
            text.set(previous, &old_file.to_string_lossy(), name);
        }
        _ => {
            text.set(name, &new.digits(), "");
            text.set(previous, &old.key.digits(), name);
        }
    }
    text.remove(unused);
    text.set("context_key_id", &new.id, name);
    text.set("context_previous_key_id", &old.key.id, previous);
    Ok(text)
}

/// A file of the new key's own beside the old one's, so that one rename, that of the configuration, changes key and id
/// together: `signing.key` is followed by `signing.key.2`.
fn file_for(old: &Path, old_id: &str, new_id: &str) -> PathBuf {
    let name = old.to_string_lossy();
    let stem = name.strip_suffix(&format!(".{old_id}")).unwrap_or(&name);
    PathBuf::from(format!("{stem}.{new_id}"))
}

async fn retire(
    database: &mut Database,
    old: &FileKey,
    before: Option<&FileKey>,
    new: &SigningKey,
    keep: Duration,
    is_dry: bool,
) -> anyhow::Result<()> {
    let known = key_table::known(database.client()).await?;
    let transaction = database.client_mut().transaction().await.map_err(|error| explained(&error))?;
    let expires = key_table::retire(&transaction, &old.key.id, keep.as_secs_f64()).await?;
    // Of a rotation that ended before it got here.
    if let Some(before) = before.filter(|before| standing(&known, &before.key) != Standing::Unknown) {
        key_table::retire(&transaction, &before.key.id, keep.as_secs_f64()).await?;
    }
    let removed = key_table::remove_expired(&transaction, &[&old.key.id, &new.id]).await?;
    let ended = if is_dry { transaction.rollback().await } else { transaction.commit().await };
    ended.map_err(|error| explained(&error))?;
    let (let_expire, remove) = if is_dry { ("let", "remove") } else { ("let", "removed") };
    done(is_dry, &format!("{let_expire} key {:?} expire at {expires}", old.key.id));
    for id in removed {
        done(is_dry, &format!("{remove} key {id:?}, which has expired"));
    }
    Ok(())
}

fn finish(file: &ConfigFile, before: Option<&FileKey>, is_dry: bool) {
    if is_dry {
        note(&dim("Nothing was changed."));
        return;
    }
    let mut next = vec![
        "Give every proxy this file and reload it (SIGHUP) before the old key expires.".to_owned(),
        "Sessions keep the signature they began with: end those that are to last longer.".to_owned(),
        format!(
            "In every other database of these proxies: pgvpd key install -d NAME --config {}",
            file.path().display()
        ),
    ];
    if let Some(unused) = before.and_then(|before| before.file.as_ref()) {
        next.push(format!("{} is not used any more and can be removed.", file.beside(unused).display()));
    }
    heading("Next");
    steps(&next);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_a_file_of_its_own() {
        let name = |old: &str, old_id: &str, new_id: &str| file_for(Path::new(old), old_id, new_id);
        assert_eq!(name("/etc/signing.key", "1", "2"), Path::new("/etc/signing.key.2"));
        assert_eq!(name("/etc/signing.key.2", "2", "3"), Path::new("/etc/signing.key.3"));
    }
}
