//! How a private server is kept: as whom it runs, in which directory, and that it ends with its owner.
//!
//! A shell between us and the server waits on a pipe that only we hold. When the pipe closes, because the value was
//! dropped or because our process died in whatever way, the shell ends the server and removes the directory. No signal
//! handler and no `PR_SET_PDEATHSIG` is needed, so this also holds on macOS. The shell is in a process group of its
//! own: Ctrl-C reaches the owner, not the server.

use std::{
    env,
    ffi::OsString,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::{
        fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, fchown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock},
    process::{Pid, Signal, getpgid, kill_process, kill_process_group, test_kill_process},
};

use super::{PostgresError, discover::Account};

/// How often a file or a process is looked at while waiting for it.
pub(super) const POLL: Duration = Duration::from_millis(5);
/// The longest path of a UNIX socket: 104 bytes with the final zero on macOS, less to be safe.
const SOCKET_PATH_LIMIT: usize = 100;
const PREFIX: &str = "pgvpd-pg-";

/// `$1` is the private directory, the rest the command. After the command's end its status is in `exit`; the directory
/// stays for the owner to read the log, until the owner says `end` or is gone. A signal is sent only as long as there
/// is no `exit`: afterwards the process id may be somebody else's.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
PATH=$PATH:/usr/bin:/bin
dir=$1
shift
exec 3<&0 </dev/null >>"$dir/log" 2>&1
"$@" 3<&- &
server=$!
(
    signal() { [ -e "$dir/exit" ] || kill "-$1" "$server"; }
    while read -r order <&3; do
        case $order in
            stop) signal INT ;;
            quit) signal QUIT ;;
            leave) exit 0 ;;
            end) break ;;
        esac
    done
    signal QUIT
    exit 1
) &
keeper=$!
wait "$server"
echo $? >"$dir/exit"
wait "$keeper" || rm -rf "$dir"
"#;

/// What the supervisor is told through its pipe.
#[derive(Clone, Copy)]
enum Order {
    /// End the server in good order.
    Stop,
    /// End the server at once.
    Quit,
    /// End without removing the directory: another supervisor takes over.
    Leave,
    /// End the server at once and remove the directory.
    End,
}

/// A private directory and the command that runs in it. Dropping it ends the command and removes the directory.
pub(super) struct Cluster {
    pub(super) dir: PrivateDir,
    supervisor: Option<Supervisor>,
}

impl Cluster {
    /// A new directory; also removes those that dead owners left behind. Blocks for some file operations.
    pub(super) fn create(account: Option<Account>) -> Result<Cluster, PostgresError> {
        Ok(Cluster { dir: PrivateDir::create(account)?, supervisor: None })
    }

    /// Runs a command under a new supervisor; the one before must have ended (see [`Cluster::exited`]).
    pub(super) async fn run(&mut self, command: &[OsString]) -> Result<(), PostgresError> {
        if let Some(mut before) = self.supervisor.take() {
            before.order(Order::Leave);
            let deadline = Instant::now() + Duration::from_secs(5);
            while !before.gone() && Instant::now() < deadline {
                tokio::time::sleep(POLL).await;
            }
        }
        let doing = || format!("starting {} in {}", command[0].display(), self.dir.path.display());
        remove_if_there(&self.dir.path.join("exit")).map_err(PostgresError::io(doing()))?;
        self.supervisor = Some(Supervisor::spawn(&self.dir, command).map_err(PostgresError::io(doing()))?);
        Ok(())
    }

    /// The status with which the command ended, -1 if that is not known; `None` as long as it runs.
    pub(super) fn exited(&mut self) -> Option<i32> {
        let supervisor = self.supervisor.as_mut()?;
        let status = read_plain(&self.dir.path.join("exit")).ok();
        // The line ends when it is written in full.
        let status = status.and_then(|text| text.strip_suffix('\n')?.parse().ok());
        if status.is_some() || !supervisor.gone() {
            return status;
        }
        // Somebody killed the supervisor, which the server does not notice.
        let orphan = self.postmaster().is_some_and(|pid| !ended(&[pid]));
        (!orphan).then_some(-1)
    }

    /// Whether the command runs.
    pub(super) fn running(&mut self) -> bool {
        self.supervisor.is_some() && self.exited().is_none()
    }

    /// Waits for the command's end; `None` if it still runs after `limit`.
    pub(super) async fn wait(&mut self, limit: Duration) -> Option<i32> {
        let deadline = Instant::now() + limit;
        loop {
            match self.exited() {
                None if Instant::now() < deadline => tokio::time::sleep(POLL).await,
                result => return result,
            }
        }
    }

    /// Ends the command in good order, then with more force. The directory stays.
    pub(super) async fn stop(&mut self) -> Result<(), PostgresError> {
        for order in [Order::Stop, Order::Quit] {
            if !self.running() {
                return Ok(());
            }
            if let Some(supervisor) = &mut self.supervisor {
                supervisor.order(order);
            }
            self.wait(Duration::from_secs(10)).await;
        }
        self.crash().await
    }

    /// Kills the postmaster and its children as a power failure would, and waits until all are gone.
    pub(super) async fn crash(&mut self) -> Result<(), PostgresError> {
        if !self.running() {
            return Ok(());
        }
        let postmaster = self.postmaster().ok_or(PostgresError::Stop { pid: 0 })?;
        // A stopped postmaster makes no more children. Each child has a session of its own, so no group covers them.
        let _ = kill_process(postmaster, Signal::STOP);
        let mut victims = children(postmaster);
        let _ = kill_process(postmaster, Signal::KILL);
        for child in &victims {
            let _ = kill_process(*child, Signal::KILL);
        }
        victims.push(postmaster);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !ended(&victims) && Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
        }
        if self.wait(Duration::from_secs(10)).await.is_some() && ended(&victims) {
            Ok(())
        } else {
            Err(PostgresError::Stop { pid: postmaster.as_raw_nonzero().get() })
        }
    }

    /// The postmaster, if it is proved to be ours: it is in our supervisor's process group.
    pub(super) fn postmaster(&self) -> Option<Pid> {
        let pid = postmaster_pid(&self.dir.path)?;
        let group = getpgid(Some(pid)).ok()?;
        (Some(group) == self.supervisor.as_ref()?.group()).then_some(pid)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A forked child holds a copy of this value, but not the server.
        let (true, Some(mut supervisor)) = (self.dir.is_owner(), self.supervisor.take()) else {
            return;
        };
        let postmaster = postmaster_pid(&self.dir.path);
        supervisor.order(Order::End);
        let dir = self.dir.take();
        if fs::exists(dir.path.join("exit")).unwrap_or(true) {
            // Only files are left to be removed, which takes a few milliseconds.
            supervisor.reap(Duration::from_millis(500), postmaster);
        } else {
            // The server needs a moment; should the process end before, the supervisor does all of this alone.
            let _ = thread::Builder::new().name("pgvpd-pg-end".to_owned()).spawn(move || {
                supervisor.reap(Duration::from_secs(10), postmaster);
                drop(dir);
            });
        }
    }
}

/// The shell between us and a command.
struct Supervisor {
    child: Child,
    orders: Option<ChildStdin>,
}

impl Supervisor {
    fn spawn(dir: &PrivateDir, command: &[OsString]) -> io::Result<Supervisor> {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(SCRIPT).arg("pgvpd-pg").arg(&dir.path).args(command);
        // PGDATA, PGPORT, PGDATESTYLE and the like are for other servers; the log is read, so it must be English.
        for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
            shell.env_remove(name);
        }
        shell.env("LC_ALL", "C").current_dir(&dir.path).process_group(0);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(account) = &dir.account {
            shell.uid(account.uid).gid(account.gid);
        }
        let mut child = shell.spawn()?;
        let orders = child.stdin.take();
        Ok(Supervisor { child, orders })
    }

    /// The pipe is empty and the words are short, so this does not block.
    fn order(&mut self, order: Order) {
        let (word, last): (&[u8], bool) = match order {
            Order::Stop => (b"stop\n", false),
            Order::Quit => (b"quit\n", false),
            Order::Leave => (b"leave\n", true),
            Order::End => (b"end\n", true),
        };
        if let Some(pipe) = &mut self.orders {
            // A dead supervisor is noticed by those who wait for it.
            let _ = pipe.write_all(word);
        }
        if last {
            self.orders = None;
        }
    }

    fn gone(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    fn group(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()).ok()?)
    }

    /// Waits for the end that was ordered, then kills what is left of the group. Blocks.
    fn reap(&mut self, limit: Duration, postmaster: Option<Pid>) {
        let deadline = Instant::now() + limit;
        while !self.gone() && Instant::now() < deadline {
            thread::sleep(POLL);
        }
        let Some(group) = self.group() else { return };
        // As long as the shell is not reaped or the postmaster is in the group, its number is nobody else's.
        let held = postmaster.is_some_and(|pid| getpgid(Some(pid)) == Ok(group));
        if !self.gone() || held {
            let _ = kill_process_group(group, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// `pgvpd-pg-<owner's process id>-<random>` in the directory for temporary files.
pub(super) struct PrivateDir {
    pub(super) path: PathBuf,
    pub(super) account: Option<Account>,
    owner: u32,
    /// Locked as long as the owner lives, which a sweep from another pid namespace can tell by it.
    _lock: Option<File>,
}

impl PrivateDir {
    fn create(account: Option<Account>) -> Result<PrivateDir, PostgresError> {
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

    fn is_owner(&self) -> bool {
        self.owner == std::process::id()
    }

    /// Moves the directory out, leaving a value whose drop does nothing.
    fn take(&mut self) -> PrivateDir {
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

fn alive(pid: Pid) -> bool {
    test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
}

/// The first line of `postmaster.pid`: see `miscadmin.h` of PostgreSQL for the others.
fn postmaster_pid(dir: &Path) -> Option<Pid> {
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

struct Process {
    pid: i32,
    parent: i32,
}

fn children(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero().get();
    processes()
        .into_iter()
        .filter(|process| process.parent == parent)
        .filter_map(|process| Pid::from_raw(process.pid))
        .collect()
}

fn ended(pids: &[Pid]) -> bool {
    let running = processes();
    !pids.iter().any(|pid| running.iter().any(|process| process.pid == pid.as_raw_nonzero().get()))
}

/// All processes but zombies: from /proc where there is one (slim images lack `ps`), else from `ps`.
fn processes() -> Vec<Process> {
    let stats = fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = stats.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let found: Vec<Process> = stats.filter_map(|stat| in_proc_stat(&stat)).collect();
    if !found.is_empty() {
        return found;
    }
    let Ok(output) = Command::new("ps").args(["-axo", "pid=,ppid=,stat="]).output() else {
        return Vec::new();
    };
    String::from_utf8_lossy(&output.stdout).lines().filter_map(in_ps_line).collect()
}

/// `pid (name, which may hold anything) state ppid …`, see proc_pid_stat(5).
fn in_proc_stat(stat: &str) -> Option<Process> {
    let pid = stat.split_once(' ')?.0.parse().ok()?;
    let mut rest = stat.rsplit_once(')')?.1.split_whitespace();
    let state = rest.next()?;
    (state != "Z").then_some(Process { pid, parent: rest.next()?.parse().ok()? })
}

fn in_ps_line(line: &str) -> Option<Process> {
    let mut fields = line.split_whitespace();
    let (pid, parent) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    (!fields.next()?.starts_with('Z')).then_some(Process { pid, parent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_lines_are_read_and_zombies_left_out() {
        let read = |process: Option<Process>| process.map(|process| (process.pid, process.parent));
        assert_eq!(read(in_proc_stat("12 (a) b) c) S 7 12 12 0")), Some((12, 7)));
        assert_eq!(read(in_proc_stat("12 (postgres) Z 7 12")), None);
        assert_eq!(read(in_ps_line("  12   7 Ss+")), Some((12, 7)));
        assert_eq!(read(in_ps_line("  12   7 Z")), None);
    }

    #[test]
    fn owner_is_part_of_the_directory_name() {
        assert_eq!(owner_pid("pgvpd-pg-42-x1").map(|pid| pid.as_raw_nonzero().get()), Some(42));
        assert_eq!(owner_pid("pgvpd-pg-0-x1"), None);
        assert_eq!(owner_pid("pgvpd-pg--1-x"), None);
    }
}
