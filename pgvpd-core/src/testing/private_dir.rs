//! Where a server's files are: a directory of its own, how it is read and written, and that none is left behind.

use std::{
    env,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, fchown},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock},
    process::Pid,
};

use super::{PostgresError, account::Account, processes::alive};

/// `pgvpd-pg-<owner's process id>-<random>` in the directory for temporary files.
pub(super) struct PrivateDir {
    pub(super) path: PathBuf,
    pub(super) account: Option<Account>,
    owner: u32,
    /// Locked as long as the owner lives, which a sweep from another pid namespace can tell by it.
    _lock: Option<File>,
}

impl PrivateDir {
    pub(super) fn create(account: Option<Account>) -> Result<PrivateDir, PostgresError> {
        let base = base(account.as_ref())?;
        sweep(&base, account.as_ref());
        let owner = std::process::id();
        let doing = || format!("making a private directory in {}", base.display());
        let path = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{owner}-"))
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&base)
            .map_err(PostgresError::io(doing()))?
            .keep();
        let mut dir = PrivateDir { path, account, owner, _lock: None };
        dir.claim().map_err(PostgresError::io(doing()))?;
        Ok(dir)
    }

    fn claim(&mut self) -> io::Result<()> {
        let lock = File::create_new(self.path.join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        self._lock = Some(lock);
        match &self.account {
            Some(account) => chown(&self.path, Some(account.uid), Some(account.gid)),
            None => Ok(()),
        }
    }

    /// Writes a file that only the server's user may read, replacing it in one step.
    pub(super) fn write(&self, name: &str, content: &str) -> Result<(), PostgresError> {
        let path = self.path.join(name);
        let new = path.with_extension("new");
        let write = || {
            remove_if_there(&new)?;
            // `create_new` follows no link that the server's user may have put there for root to walk into.
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            if let Some(account) = &self.account {
                fchown(&file, Some(account.uid), Some(account.gid))?;
            }
            file.write_all(content.as_bytes())?;
            fs::rename(&new, &path)
        };
        write().map_err(PostgresError::io(format!("writing {}", path.display())))
    }

    pub(super) fn is_owner(&self) -> bool {
        self.owner == std::process::id()
    }

    /// Moves the directory out, leaving a value whose drop does nothing.
    pub(super) fn take(&mut self) -> PrivateDir {
        let empty = PrivateDir { path: self.path.clone(), account: None, owner: 0, _lock: None };
        std::mem::replace(self, empty)
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        if self.is_owner() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// The first line of `postmaster.pid`: see `miscadmin.h` of PostgreSQL for the others.
pub(super) fn postmaster_pid(dir: &Path) -> Option<Pid> {
    let text = read_plain(&dir.join("data/postmaster.pid")).ok()?;
    // While initdb runs, this is a server without a postmaster, and marked so by a minus sign.
    parse_pid(text.lines().next()?.trim().trim_start_matches('-'))
}

/// Opens for reading without following a link or waiting for a pipe: the server's user owns the directory, we may be root.
pub(super) fn open_plain(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

pub(super) fn read_plain(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open_plain(path)?.take(64 * 1024).read_to_string(&mut text)?;
    Ok(text)
}

pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The directory for temporary files, or /tmp where that one is too deep for a socket or closed to the server's user.
fn base(account: Option<&Account>) -> Result<PathBuf, PostgresError> {
    let candidates = [env::temp_dir(), PathBuf::from("/tmp")];
    let fits = |base: &Path| {
        let socket = base.join(format!("{PREFIX}4194304-abcdef/.s.PGSQL.65535"));
        let open = account.is_none_or(|account| account.blocked(base).is_none() && account.may(base, 0o3));
        socket.as_os_str().len() < SOCKET_PATH_LIMIT && open
    };
    if let Some(base) = candidates.iter().find(|base| fits(base)) {
        return Ok(base.clone());
    }
    let [path, _] = candidates;
    match account.and_then(|account| Some((account, account.blocked(&path)?))) {
        Some((account, blocked)) => Err(PostgresError::Unreachable { path, blocked, user: account.name.clone() }),
        None => Err(PostgresError::io(format!("using {} for temporary files", path.display()))(io::Error::other(
            "its path is too long for a UNIX socket, or the server's user may not write to it, and so for /tmp",
        ))),
    }
}

/// Removes the directories of owners that are dead, unless a server still runs in one.
fn sweep(base: &Path, account: Option<&Account>) {
    let uid = account.map_or_else(|| rustix::process::geteuid().as_raw(), |account| account.uid);
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let owner = name.to_str().and_then(owner_pid);
        let ours = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir() && meta.uid() == uid);
        let (true, Some(owner)) = (ours, owner) else {
            continue;
        };
        let unlocked = match open_plain(&path.join("lock")) {
            Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if unlocked && !alive(owner) && !postmaster_pid(&path).is_some_and(alive) {
            tracing::debug!(path = %path.display(), "removing the PostgreSQL directory of a dead process");
            let _ = fs::remove_dir_all(&path);
        }
    }
}

fn owner_pid(name: &str) -> Option<Pid> {
    parse_pid(name.strip_prefix(PREFIX)?.split_once('-')?.0)
}

fn parse_pid(digits: &str) -> Option<Pid> {
    let number: u32 = digits.parse().ok()?;
    Pid::from_raw(i32::try_from(number).ok()?)
}

/// The longest path of a UNIX socket: 104 bytes with the final zero on macOS, less to be safe.
const SOCKET_PATH_LIMIT: usize = 100;
const PREFIX: &str = "pgvpd-pg-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_is_part_of_the_directory_name() {
        assert_eq!(owner_pid("pgvpd-pg-42-x1").map(|pid| pid.as_raw_nonzero().get()), Some(42));
        assert_eq!(owner_pid("pgvpd-pg-0-x1"), None);
        assert_eq!(owner_pid("pgvpd-pg--1-x"), None);
    }
}
