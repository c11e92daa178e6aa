//! The process's limit of open files, which bounds its connections.

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::config::Config;

/// Files a process has open besides its clients' sockets.
const OTHER_FILES: u64 = 64;

/// A session holds two sockets.
const FILES_PER_SESSION: u64 = 2;

/// What [`raise_file_limit`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLimit {
    /// The limit now in force; `None` for no limit.
    pub limit: Option<u64>,
    /// Open files that `max_client_connections` sessions need.
    pub needed: u64,
}

impl FileLimit {
    /// The sessions that find a file descriptor within the limit: all that are permitted, or fewer.
    pub fn clients(&self) -> u64 {
        let limit = self.limit.unwrap_or(u64::MAX).min(self.needed);
        limit.saturating_sub(OTHER_FILES) / FILES_PER_SESSION
    }

    /// True if every permitted session finds a file descriptor.
    pub fn suffices(&self) -> bool {
        self.limit.is_none_or(|limit| limit >= self.needed)
    }
}

/// Raises the soft limit of open files as far as the hard limit permits and the configuration needs.
///
/// The limit belongs to the whole process, so the library does not do this by itself; a program calls it at start.
///
/// ```
/// let limit = pgvpd_core::raise_file_limit(&pgvpd_core::Config::default());
/// if !limit.suffices() {
///     eprintln!("{:?} files, and {} are needed", limit.limit, limit.needed);
/// }
/// ```
pub fn raise_file_limit(config: &Config) -> FileLimit {
    let clients = u64::try_from(config.max_client_connections).unwrap_or(u64::MAX);
    let needed = clients.saturating_mul(FILES_PER_SESSION).saturating_add(OTHER_FILES);
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        let raised = rustix::process::Rlimit {
            current: Some(limit.maximum.map_or(needed, |maximum| maximum.min(needed))),
            maximum: limit.maximum,
        };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limit = raised;
        }
    }
    FileLimit { limit: limit.current, needed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_below_two_sockets_a_client_does_not_suffice() {
        assert!(!FileLimit { limit: Some(100), needed: 164 }.suffices());
        assert!(FileLimit { limit: Some(164), needed: 164 }.suffices());
        assert!(FileLimit { limit: None, needed: 164 }.suffices());
        let clients = |limit| FileLimit { limit, needed: 164 }.clients();
        assert_eq!([Some(100), Some(1000), None, Some(10)].map(clients), [18, 50, 50, 0]);
    }
}
