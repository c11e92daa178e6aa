//! Reads certificates again when their files change, so that a renewed one is used without a restart or a signal.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use crate::config::{Config, ConfigError};
use crate::shared::Shared;

/// How long nothing more has to happen until files are read: a certificate and its key are written one after the other.
const SETTLED_AFTER: Duration = Duration::from_millis(300);

/// After which they are read in any case.
const SETTLED_AT_LAST: Duration = Duration::from_secs(5);

/// Watches the files of the configuration that is in force, until the proxy stops.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let changed = Arc::new(Notify::new());
    let mut watched: Option<Watched> = None;
    let mut complaint = None;
    loop {
        let directories = directories(&shared.config.load());
        if watched.as_ref().map(|watched| &watched.directories) != Some(&directories) {
            watched = None;
        }
        if watched.is_none() && !directories.is_empty() {
            match Watched::new(directories, &changed) {
                Ok(new) => watched = Some(new),
                Err(error) => warn!(%error, "cannot watch the files of certificates; SIGHUP has them read again"),
            }
        }
        tokio::select! {
            () = shared.stopped.cancelled() => return,
            () = shared.reloaded.notified() => continue,
            () = changed.notified() => {}
        }
        // Until they are left alone, or long enough: somebody may write in the same directory all the time.
        let enough = Instant::now() + SETTLED_AT_LAST;
        while Instant::now() < enough && timeout(SETTLED_AFTER, changed.notified()).await.is_ok() {}
        let found = read_again(&shared).await.err().map(|error| error.to_string());
        // Said once: whatever is written beside bad files has them read again.
        if let Some(error) = found.as_ref().filter(|_| found != complaint) {
            warn!(error, "certificates have changed and are not valid; those from before stay in force");
        }
        complaint = found;
    }
}

/// A watcher, which has a thread of its own, and what it watches.
struct Watched {
    directories: BTreeSet<PathBuf>,
    _watcher: RecommendedWatcher,
}

impl Watched {
    fn new(directories: BTreeSet<PathBuf>, changed: &Arc<Notify>) -> notify::Result<Self> {
        let changed = Arc::clone(changed);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the files is an event too, and not one of theirs.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                changed.notify_one();
            }
        })?;
        for directory in &directories {
            watcher.watch(directory, RecursiveMode::NonRecursive)?;
        }
        Ok(Self { directories, _watcher: watcher })
    }
}

/// Those that the files are in: files are replaced by others, and what is watched would go with them. Where a file is a link, that
/// of what it leads to as well.
fn directories(config: &Config) -> BTreeSet<PathBuf> {
    let parent = |path: &Path| {
        let parent = path.parent()?;
        Some(if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.into() })
    };
    let files = config.tls_files();
    let targets = files.iter().filter_map(|path| path.canonicalize().ok());
    files.iter().cloned().chain(targets).filter_map(|path| parent(&path)).collect()
}

/// Takes what the files say now, in whole; where something is wrong with them, what they said before stays in force.
async fn read_again(shared: &Shared) -> Result<(), ConfigError> {
    loop {
        let current = shared.config.load_full();
        let config = Arc::clone(&current);
        let Ok(read) = tokio::task::spawn_blocking(move || config.with_tls_read_again()).await else { return Ok(()) };
        let Some(next) = read?.map(Arc::new) else { return Ok(()) };
        // A reload that has come meanwhile counts, and is read again itself.
        if Arc::ptr_eq(&shared.config.compare_and_swap(&current, next), &current) {
            info!("certificates have changed and are in force for new connections");
            return Ok(());
        }
    }
}
