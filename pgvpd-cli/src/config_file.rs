//! The configuration file as a text that commands create and change, line by line, without a moment in which a crash
//! would leave half of it.

use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::{Arg, ValueHint, value_parser};
use pgvpd_core::{Config, Settings};
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use crate::signing_key::SigningKey;

/// `--config`, for the commands that change the file.
pub(crate) fn argument() -> Arg {
    Arg::new("config")
        .long("config")
        .short('c')
        .value_name("FILE")
        .env("PGVPD_CONFIG")
        .hide_env_values(true)
        .value_parser(value_parser!(PathBuf))
        .value_hint(ValueHint::FilePath)
}

/// A file that is there.
pub(crate) struct ConfigFile {
    path: PathBuf,
    text: Zeroizing<String>,
}

/// A key of the file.
pub(crate) struct FileKey {
    pub(crate) key: SigningKey,
    /// The file that holds it, where it is not this one, as it is written there.
    pub(crate) file: Option<PathBuf>,
}

impl ConfigFile {
    /// Reads it; `None` where it does not exist.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        match fs::read_to_string(path) {
            Ok(text) => Ok(Some(Self { path: path.into(), text: Zeroizing::new(text) })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where a file is that the configuration names: a relative path begins at its folder.
    pub(crate) fn beside(&self, file: &Path) -> PathBuf {
        self.path.with_file_name(file)
    }

    /// The value of an option, if it is set.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.text.lines().find_map(|line| value_of(line, name))
    }

    /// The key that signs.
    pub(crate) fn key(&self) -> anyhow::Result<Option<FileKey>> {
        self.key_of("context_signing_key", "context_key_id", "1")
    }

    /// The key that signed before, which still signs for a database that does not know the other one yet.
    pub(crate) fn previous_key(&self) -> anyhow::Result<Option<FileKey>> {
        self.key_of("context_previous_signing_key", "context_previous_key_id", "0")
    }

    fn key_of(&self, option: &str, id: &str, default_id: &str) -> anyhow::Result<Option<FileKey>> {
        let id = self.value(id).unwrap_or(default_id);
        let file = self.value(&format!("{option}_file")).map(PathBuf::from);
        let read = |file: &PathBuf| {
            let place = self.beside(file);
            let text = fs::read_to_string(&place).with_context(|| format!("cannot read {}", place.display()))?;
            SigningKey::parse(id, &Zeroizing::new(text)).with_context(|| file.display().to_string())
        };
        let key = match (self.value(option), &file) {
            (Some(_), Some(_)) => Err(anyhow!("{option} and {option}_file are both set; remove one")),
            (Some(digits), None) => SigningKey::parse(id, digits).with_context(|| option.to_owned()).map(Some),
            (None, Some(file)) => read(file).map(Some),
            (None, None) => return Ok(None),
        };
        let key = key.with_context(|| self.path.display().to_string())?;
        Ok(key.map(|key| FileKey { key, file }))
    }

    /// Sets an option: in its line, or else in a new one below that of `above`, or at the end.
    pub(crate) fn set(&mut self, name: &str, value: &str, above: &str) {
        let is_there = self.value(name).is_some();
        let anchor = if is_there { name } else { above };
        let mut text = Zeroizing::new(String::with_capacity(self.text.len() + name.len() + value.len() + 8));
        let mut is_done = false;
        for line in self.text.split_inclusive('\n') {
            if is_done || value_of(line, anchor).is_none() {
                text.push_str(line);
                continue;
            }
            is_done = true;
            if is_there {
                let (key, old) = line.split_once('=').unwrap_or((line, ""));
                let blank = &old[..old.len() - old.trim_start().len()];
                text.push_str(&format!("{key}={blank}{value}"));
            } else {
                text.push_str(line.trim_end());
                text.push_str(&format!("\n{name} = {value}"));
            }
            text.push_str(if line.ends_with("\r\n") { "\r\n" } else { "\n" });
        }
        if !is_done {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(&format!("{name} = {value}\n"));
        }
        self.text = text;
    }

    /// Takes an option's line out.
    pub(crate) fn remove(&mut self, name: &str) {
        let kept = self.text.split_inclusive('\n').filter(|line| value_of(line, name).is_none());
        self.text = Zeroizing::new(kept.collect());
    }

    /// Adds lines at the end.
    pub(crate) fn append(&mut self, lines: &str) {
        let gap = if self.text.is_empty() || self.text.ends_with('\n') { "" } else { "\n" };
        self.text = Zeroizing::new(format!("{}{gap}{lines}", *self.text));
    }

    /// The new text beside the old file, ready to take its place. Owner and mode are those of the old one, which the
    /// proxy can read.
    pub(crate) fn staged(&self) -> anyhow::Result<Staged> {
        // A link stays one, and the file behind it is replaced.
        let target = fs::canonicalize(&self.path).with_context(|| format!("cannot find {}", self.path.display()))?;
        let old = fs::metadata(&target).with_context(|| format!("cannot read {}", target.display()))?;
        let file = written(&target, &self.text)?;
        as_before(file.as_file(), &old).with_context(|| {
            format!("cannot give a new {} its owner; run this as its owner or as root", target.display())
        })?;
        check(file.path(), &self.path)?;
        Ok(Staged { file, target })
    }

    /// True where others than the owner and the group may read the file.
    pub(crate) fn is_readable_by_all(&self) -> bool {
        is_readable_by_all(&self.path)
    }
}

/// True where others than the owner and the group may read a file.
pub(crate) fn is_readable_by_all(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.mode() & 0o007 != 0)
}

/// A file that is complete, on the disk, and not yet in its place. Dropped, it is gone.
pub(crate) struct Staged {
    file: NamedTempFile,
    target: PathBuf,
}

impl Staged {
    /// Puts it in its place, in one step.
    pub(crate) fn replace(self) -> anyhow::Result<()> {
        let Self { file, target } = self;
        file.persist(&target)
            .map_err(|error| error.error)
            .with_context(|| format!("cannot replace {}", target.display()))?;
        on_disk(directory_of(&target))
    }
}

/// Creates a file that holds a secret, complete or not at all; refuses where one is there.
pub(crate) fn create(path: &Path, text: &str) -> anyhow::Result<()> {
    create_like(path, text, None)
}

/// As [`create`], for the same owner and group as another file, whose place it is to take.
pub(crate) fn create_like(path: &Path, text: &str, like: Option<&Path>) -> anyhow::Result<()> {
    let file = written(path, text)?;
    if let Some(like) = like {
        let old = fs::metadata(like).with_context(|| format!("cannot read {}", like.display()))?;
        as_before(file.as_file(), &old).with_context(|| {
            format!("cannot give {} the owner of {}; run this as its owner or as root", path.display(), like.display())
        })?;
    }
    file.persist_noclobber(path)
        .map_err(|error| error.error)
        .with_context(|| format!("cannot create {}", path.display()))?;
    on_disk(directory_of(path))
}

/// Owner, group and mode of another file.
fn as_before(new: &File, old: &fs::Metadata) -> std::io::Result<()> {
    let is_same_owner = new.metadata().is_ok_and(|new| (new.uid(), new.gid()) == (old.uid(), old.gid()));
    let owned = if is_same_owner { Ok(()) } else { fchown(new, Some(old.uid()), Some(old.gid())) };
    owned.and_then(|()| new.set_permissions(Permissions::from_mode(old.mode() & 0o7777)))
}

/// Refuses where no file can be created, without leaving one.
pub(crate) fn can_create(path: &Path) -> anyhow::Result<()> {
    written(path, "").map(|_| ())
}

/// As [`create`], checked as the configuration that it is.
pub(crate) fn create_config(path: &Path, text: &str) -> anyhow::Result<()> {
    let file = written(path, text)?;
    check(file.path(), path)?;
    file.persist_noclobber(path)
        .map_err(|error| error.error)
        .with_context(|| format!("cannot create {}", path.display()))?;
    on_disk(directory_of(path))
}

/// The text in a file of its own in the directory of `path`, created for this (O_EXCL) and for its owner alone.
fn written(path: &Path, text: &str) -> anyhow::Result<NamedTempFile> {
    let directory = directory_of(path);
    let doing = || format!("cannot write into {}", directory.display());
    let mut file = tempfile::Builder::new()
        .prefix(".pgvpd-")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(directory)
        .with_context(doing)?;
    // The umask may have taken bits away.
    file.as_file().set_permissions(Permissions::from_mode(0o600)).with_context(doing)?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).with_context(doing)?;
    Ok(file)
}

/// Refuses what the proxy would refuse.
fn check(file: &Path, path: &Path) -> anyhow::Result<()> {
    let checked = Settings::from_file(file).and_then(Config::from_settings);
    checked.map(|_| ()).map_err(|error| {
        let text = error.to_string().replace(&file.display().to_string(), &path.display().to_string());
        anyhow!("{text}")
    })
}

/// A new name is only on the disk when its directory is.
fn on_disk(directory: &Path) -> anyhow::Result<()> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.with_context(|| format!("cannot flush {}", directory.display()))
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The value in a line that sets this option, read as the proxy reads it.
fn value_of<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let line = line.strip_prefix('\u{feff}').unwrap_or(line).trim();
    let (key, value) = line.split_once('=').filter(|_| !line.starts_with('#'))?;
    let value = value.trim();
    let quoted = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    (key.trim() == name).then(|| quoted.unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> ConfigFile {
        ConfigFile { path: "pgvpd.conf".into(), text: Zeroizing::new(text.into()) }
    }

    #[test]
    fn a_value_is_set_in_its_line_and_every_other_line_stays_as_it_is() {
        let mut file = file("# port = 1\n\n  port =  7000 \r\nset_role=a\n# end");
        file.set("port", "9", "");
        file.set("relay", "framed", "set_role");
        assert_eq!(*file.text, "# port = 1\n\n  port =  9\r\nset_role=a\nrelay = framed\n# end");
        file.set("log_level", "warn", "nowhere");
        assert_eq!(*file.text, "# port = 1\n\n  port =  9\r\nset_role=a\nrelay = framed\n# end\nlog_level = warn\n");
        file.remove("relay");
        file.remove("port");
        assert_eq!(*file.text, "# port = 1\n\nset_role=a\n# end\nlog_level = warn\n");
    }

    #[test]
    fn keys_are_read_as_the_proxy_reads_them() -> anyhow::Result<()> {
        let digits = "ab".repeat(32);
        let inline = file(&format!("context_signing_key = \"{digits}\"\n#context_key_id = 3\n"));
        assert_eq!(inline.key()?.map(|found| found.key), Some(SigningKey::parse("1", &digits)?));
        assert!(inline.previous_key()?.is_none());

        let directory = tempfile::tempdir()?;
        let path = directory.path().join("key");
        fs::write(&path, format!("{digits}\n"))?;
        let beside = file(&format!("context_key_id = x\ncontext_signing_key_file = {}", path.display()));
        let found = beside.key()?.expect("a key");
        assert_eq!((found.key, found.file), (SigningKey::parse("x", &digits)?, Some(path)));

        for text in [
            "context_signing_key = ab",
            "context_signing_key_file = /nowhere",
            "context_signing_key = a\ncontext_signing_key_file = b",
        ] {
            let error = file(text).key().err().map(|error| format!("{error:#}")).unwrap_or_default();
            assert!(error.starts_with("pgvpd.conf: "), "{text:?}: {error}");
        }
        Ok(())
    }

    #[test]
    fn a_new_file_is_for_its_owner_alone_and_never_takes_another_ones_place() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("pgvpd.conf");
        create(&path, "one")?;
        assert_eq!(fs::metadata(&path)?.mode() & 0o7777, 0o600);
        assert!(create(&path, "two").is_err());
        assert_eq!(fs::read_to_string(&path)?, "one");
        assert_eq!(fs::read_dir(directory.path())?.count(), 1, "nothing is left beside it");
        Ok(())
    }

    #[test]
    fn a_replaced_file_keeps_its_mode_and_a_link_to_it_stays() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let (path, link) = (directory.path().join("real.conf"), directory.path().join("pgvpd.conf"));
        fs::write(&path, "port = 1\n")?;
        fs::set_permissions(&path, Permissions::from_mode(0o640))?;
        std::os::unix::fs::symlink(&path, &link)?;
        let mut file = ConfigFile::read(&link)?.expect("there");
        file.set("port", "2", "");
        let staged = file.staged()?;
        assert_eq!(fs::read_to_string(&path)?, "port = 1\n", "until it is put in its place");
        staged.replace()?;
        assert_eq!(fs::read_to_string(&path)?, "port = 2\n");
        assert_eq!(fs::metadata(&path)?.mode() & 0o7777, 0o640);
        assert!(fs::symlink_metadata(&link)?.is_symlink());
        assert!(ConfigFile::read(&directory.path().join("none"))?.is_none());
        Ok(())
    }
}
