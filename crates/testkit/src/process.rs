//! Which processes there are, to tell whether one was left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A process, told from a later one with the same number by when it started.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    pid: i32,
    started: u64,
    pub(crate) command: String,
}

impl Process {
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }
}

struct Entry {
    process: Process,
    parent: i32,
}

/// Every process whose command line names `home`, with everything that descends from one.
pub(crate) fn of(home: &Path) -> BTreeSet<Process> {
    let home = home.to_string_lossy();
    let all = all();
    let named = |entry: &Entry| entry.process.command.contains(home.as_ref());
    let belongs = |entry: &&Entry| std::iter::successors(Some(*entry), |entry| all.get(&entry.parent)).any(named);
    all.values().filter(belongs).map(|entry| entry.process.clone()).collect()
}

/// Those of `processes` that are still there.
pub(crate) fn alive(processes: &BTreeSet<Process>) -> Vec<Process> {
    let all = all();
    let still = |process: &&Process| all.get(&process.pid).is_some_and(|now| now.process.started == process.started);
    processes.iter().filter(still).cloned().collect()
}

fn all() -> BTreeMap<i32, Entry> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, read(pid)?))).collect()
}

/// `None` for a process that has ended. A zombie has: it holds nothing, and whoever started it is yet to collect it.
fn read(pid: i32) -> Option<Entry> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; the fields after it are counted from the third.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command).replace('\0', " ").trim().to_owned();
    (state != "Z").then_some(Entry { process: Process { pid, started, command }, parent })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_and_its_children_are_found_until_they_end() {
        let home = tempfile::tempdir().unwrap();
        let script = format!("sleep 600 & wait; : {}", home.path().display());
        let mut shell = Command::new("sh").args(["-c", &script]).spawn().unwrap();
        let found = crate::until("shell and sleep", std::time::Duration::from_secs(10), || {
            let found = of(home.path());
            (found.len() == 2).then_some(found)
        });
        assert!(found.iter().any(|process| process.command == "sleep 600"), "{found:?}");
        for process in &found {
            let pid = nix::unistd::Pid::from_raw(process.pid);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        shell.wait().unwrap();
        crate::until("both are gone", std::time::Duration::from_secs(10), || alive(&found).is_empty().then_some(()));
    }
}
