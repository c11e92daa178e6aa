//! How a private server is kept running, and that it ends with its owner.
//!
//! A shell between us and the server waits on a pipe that only we hold. When the pipe closes, because the value was
//! dropped or because our process died in whatever way, the shell ends the server and removes the directory. No signal
//! handler and no `PR_SET_PDEATHSIG` is needed, so this also holds on macOS. The shell is in a process group of its
//! own: Ctrl-C reaches the owner, not the server.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{self, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, getpgid, kill_process, kill_process_group};

use super::{
    PostgresError,
    account::Account,
    private_dir::{PrivateDir, postmaster_pid, read_plain, remove_if_there},
    processes::{children, ended},
};

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
        // Asked before the order, after which the supervisor removes this file with the others.
        let has_ended = fs::exists(self.dir.path.join("exit")).unwrap_or(true);
        supervisor.order(Order::End);
        let dir = self.dir.take();
        if has_ended {
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

/// How often a file or a process is looked at while waiting for it.
pub(super) const POLL: Duration = Duration::from_millis(5);

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
