//! Files that hold secrets: who else can read them.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::process::{getegid, geteuid, getgroups};

/// What follows from a file's mode.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Exposure {
    /// The owner reads it, and those who are meant to.
    Private,
    /// Others can read it, and nobody here can change that. The text says so.
    Mounted(String),
    /// Others can read it. The text says so, and what to do.
    Open(String),
}

/// Looks at a file that holds `what`.
///
/// As with PostgreSQL's own key file, a group may read where the file is root's, or the group is: packages install `root:pgvpd`, mode
/// 0640. Of a file on a read-only mount, which is how an orchestrator hands a secret to a container, the mode cannot be changed, and
/// the others are the container's own processes. What is no file, such as a pipe, has no mode that says anything; a file that is not
/// there is for the reader to complain of.
pub(super) fn exposure(path: &Path, what: &str) -> Exposure {
    let Some(file) = std::fs::metadata(path).ok().filter(Metadata::is_file) else { return Exposure::Private };
    let shown = path.display();
    let others = match file.mode() {
        mode if mode & 0o007 != 0 => "by everybody on this machine".to_owned(),
        mode if mode & 0o070 != 0 && !is_group_meant(&file) => {
            format!("by the group {}, which is neither root's nor one of this process", file.gid())
        }
        _ => return Exposure::Private,
    };
    let is_mounted = statvfs(path).is_ok_and(|system| system.f_flag.contains(StatVfsMountFlags::RDONLY));
    if is_mounted {
        return Exposure::Mounted(format!(
            "{shown} can be read {others}, and holds {what}; it is mounted read-only, so give it mode 0440 where the mount is declared"
        ));
    }
    Exposure::Open(format!(
        "{shown} can be read {others}, and holds {what}: chmod 600 {shown}, or chmod 640 where it belongs to root and to the group of the \
         user that runs pgvpd"
    ))
}

/// Root, who may be looking at the file on behalf of another user, cannot tell.
fn is_group_meant(file: &Metadata) -> bool {
    let group = file.gid();
    let is_own = || getgroups().is_ok_and(|groups| groups.iter().any(|own| own.as_raw() == group));
    file.uid() == 0 || group == 0 || geteuid().is_root() || getegid().as_raw() == group || is_own()
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_mode_that_lets_others_read_is_open_and_says_what_to_do() -> std::io::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        for (mode, is_open) in
            [(0o600, false), (0o400, false), (0o640, false), (0o644, true), (0o604, true), (0o666, true)]
        {
            set_permissions(file.path(), Permissions::from_mode(mode))?;
            match exposure(file.path(), "a key") {
                Exposure::Open(text) => {
                    assert!(is_open, "{mode:o}: {text}");
                    assert!(text.contains(&format!("chmod 600 {}", file.path().display())), "{text}");
                }
                other => assert_eq!((other, is_open), (Exposure::Private, false), "{mode:o}"),
            }
        }
        Ok(())
    }

    #[test]
    fn what_is_no_file_is_not_judged_by_its_mode() {
        for path in ["/dev/null", "/nowhere", "/"] {
            assert_eq!(exposure(Path::new(path), "a key"), Exposure::Private, "{path}");
        }
    }
}
