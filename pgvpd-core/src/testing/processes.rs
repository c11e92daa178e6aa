//! Which processes run on this machine.

use std::{fs, process::Command};

use rustix::process::{Pid, test_kill_process};

pub(super) fn children(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero().get();
    processes()
        .into_iter()
        .filter(|process| process.parent == parent)
        .filter_map(|process| Pid::from_raw(process.pid))
        .collect()
}

/// Whether all of them are gone, or zombies.
pub(super) fn ended(pids: &[Pid]) -> bool {
    let running = processes();
    !pids.iter().any(|pid| running.iter().any(|process| process.pid == pid.as_raw_nonzero().get()))
}

/// Whether there is such a process, or a zombie of it.
pub(super) fn alive(pid: Pid) -> bool {
    test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
}

struct Process {
    pid: i32,
    parent: i32,
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
}
