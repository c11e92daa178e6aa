//! As whom a server runs: as we do, or as an unprivileged user if we are root.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::PostgresError;

/// A user that root runs servers as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Account {
    /// Whom to run as: `None` (as we are) unless we are root, which PostgreSQL refuses.
    pub(super) fn for_servers() -> Result<Option<Account>, PostgresError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd").map_err(PostgresError::io("reading /etc/passwd"))?;
        let account = ["postgres", "nobody"].iter().find_map(|name| Account::in_passwd(&passwd, name));
        account.map(Some).ok_or(PostgresError::NoAccount)
    }

    fn in_passwd(passwd: &str, wanted: &str) -> Option<Account> {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| *name == wanted)?;
            let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            (uid != 0).then(|| Account { name: name.to_owned(), uid, gid })
        })
    }

    /// The first directory on the way to `path`, or `path` itself, that this user may not enter or run.
    pub(super) fn blocked(&self, path: &Path) -> Option<PathBuf> {
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mut way: Vec<&Path> = real.ancestors().collect();
        way.reverse();
        way.into_iter().find(|step| !self.may(step, 0o1)).map(Path::to_owned)
    }

    /// Whether the permission bits (of `rwx`, 0o7) are all given to this user.
    pub(super) fn may(&self, path: &Path, bits: u32) -> bool {
        fs::metadata(path).is_ok_and(|meta| {
            let shift = if meta.uid() == self.uid {
                6
            } else if meta.gid() == self.gid {
                3
            } else {
                0
            };
            (meta.mode() >> shift) & bits == bits
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_is_read_from_passwd_unless_it_is_root() {
        let passwd = "root:x:0:0::/:/bin/sh\npostgres:x:0:0::/:\nnobody:x:65534:65533:n:/nonexistent:/x\nbroken\n";
        let nobody = Account { name: "nobody".to_owned(), uid: 65534, gid: 65533 };
        assert_eq!(Account::in_passwd(passwd, "nobody"), Some(nobody));
        assert_eq!(Account::in_passwd(passwd, "postgres"), None);
        assert_eq!(Account::in_passwd(passwd, "broken"), None);
    }
}
