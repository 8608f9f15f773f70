//! What a room may leave behind: nothing.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::sys;

static ALONE: Mutex<()> = Mutex::new(());

/// Holds off the other tests of this process: their rooms would be counted too.
#[derive(Debug)]
pub struct Alone {
    _guard: MutexGuard<'static, ()>,
}

/// From now on no other test of this process that asks for it runs; orphans of this process's
/// children, and of theirs, come to this process, so that whatever is left can be found.
pub fn alone() -> Alone {
    let guard = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    sys::set_subreaper();
    let left = descendants();
    assert!(left.is_empty(), "left by an earlier test: {left:?}");
    Alone { _guard: guard }
}

impl Alone {
    /// No process is left, not even a zombie.
    #[track_caller]
    pub fn no_stray(&self) {
        let left = descendants();
        assert!(left.is_empty(), "left: {left:?}");
    }

    /// Every process is gone within `limit`; zombies of killed parents are reaped here.
    #[track_caller]
    pub fn gone_within(&self, limit: Duration) {
        let left = left_after(limit);
        assert!(left.is_empty(), "still there after {limit:?}: {left:?}");
    }
}

/// As [`Alone::gone_within`], for a test that is alone in a pid namespace.
#[track_caller]
pub fn alone_in_namespace(limit: Duration) {
    let left = left_after(limit);
    assert!(left.is_empty(), "still there after {limit:?}: {left:?}");
}

/// Ends what a failed test has started.
impl Drop for Alone {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for process in descendants() {
                sys::kill(process.pid, libc::SIGKILL);
            }
            left_after(Duration::from_secs(5));
        }
    }
}

/// A process that descends from this one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// On the host.
    pub pid: i32,
    /// The letter of proc_pid_stat(5).
    pub state: char,
    /// What it is called.
    pub name: String,
    /// Its parent.
    pub parent: i32,
}

/// All processes that can be seen.
pub fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (head, tail) = stat.rsplit_once(')')?;
        let mut words = tail.split_whitespace();
        let state = words.next()?.chars().next()?;
        let parent = words.next()?.parse().ok()?;
        Some(Process { pid, state, name: head.split_once('(')?.1.to_owned(), parent })
    })
    .collect()
}

/// An heir of a shim's cgroup, which is no part of the room: the one child whose end does not send
/// SIGCHLD, field 38 of proc_pid_stat(5). Its name it has a moment later. One that has gone is none
/// of the room either.
pub fn is_heir(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let signal = stat.rsplit_once(')').and_then(|(_, tail)| tail.split_whitespace().nth(38 - 3));
    signal != Some("17")
}

/// Directories beneath /sys/fs/cgroup that belong to a shim, by its process.
pub fn groups_of(shim: u32) -> Vec<PathBuf> {
    let prefix = format!("agent-shim-{shim}-");
    let mut found = Vec::new();
    directories("/sys/fs/cgroup".as_ref(), &mut |dir| {
        if dir.rsplit('/').next().is_some_and(|name| name.starts_with(&prefix)) {
            found.push(dir.into());
        }
    });
    found
}

/// Children of this process, their children, and so on; zombies too.
pub fn descendants() -> Vec<Process> {
    descendants_of(std::process::id().cast_signed())
}

/// The same of any process.
pub fn descendants_of(pid: i32) -> Vec<Process> {
    let all = processes();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = BTreeSet::from([pid]);
    loop {
        let next: Vec<_> = all
            .iter()
            .filter(|p| parents.contains(&p.parent) && !parents.contains(&p.pid))
            .cloned()
            .collect();
        if next.is_empty() {
            return found;
        }
        parents.extend(next.iter().map(|p| p.pid));
        found.extend(next);
    }
}

/// Waits for the end of every descendant, reaping those that have come to this process.
fn left_after(limit: Duration) -> Vec<Process> {
    let deadline = Instant::now() + limit;
    loop {
        let left = descendants();
        let timeout = deadline.saturating_duration_since(Instant::now());
        if left.is_empty() || timeout.is_zero() {
            return left;
        }
        for process in &left {
            // A zombie can be read at once, and is gone when it has been reaped.
            if let Some(pidfd) = sys::pidfd_open(process.pid.cast_unsigned()) {
                sys::poll(&[pidfd.as_fd().as_raw_fd()], timeout);
            }
            sys::reap(process.pid);
        }
    }
}

/// What is counted before and after: every one by its name, so that a leak can be told.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// Of everything that a room is made of and that this process can see. Not of keyrings, which
    /// root does not see if they are another user's: a thousand rooms are five times the quota of
    /// an ordinary user (200, /proc/key-users).
    pub fn take() -> Snapshot {
        let mut all = BTreeSet::new();
        let mut add = |kind: &str, name: String| {
            all.insert(format!("{kind} {name}"));
        };
        for process in processes() {
            let Process { pid, state, name, .. } = process;
            add("process", format!("{pid} {name} {}", if state == 'Z' { "zombie" } else { "" }));
            for ns in fs::read_dir(format!("/proc/{pid}/ns")).into_iter().flatten().flatten() {
                if let Ok(inode) = fs::read_link(ns.path()) {
                    add("namespace", inode.display().to_string());
                }
            }
        }
        for fd in fs::read_dir("/proc/self/fd").unwrap().flatten() {
            // The directory that is being read is one itself.
            if let Ok(to) = fs::read_link(fd.path())
                && !to.to_string_lossy().starts_with("/proc/")
            {
                add("descriptor", format!("{:?} {}", fd.file_name(), to.display()));
            }
        }
        for line in lines("/proc/self/mountinfo") {
            add("mount", line);
        }
        for file in ["msg", "sem", "shm"] {
            for line in lines(&format!("/proc/sysvipc/{file}")) {
                add("System V", line);
            }
        }
        for dir in ["/tmp", "/dev/shm", "/dev/mqueue", "/var/tmp", "/run"] {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                add("file", entry.path().display().to_string());
            }
        }
        directories("/sys/fs/cgroup".as_ref(), &mut |dir| add("cgroup", dir));
        Snapshot(all)
    }

    /// Without the cgroups that belong to shims other than `own`, by their process ids: the
    /// hierarchy is the machine's, and others make rooms at the same time.
    pub fn with_groups_of(mut self, own: &BTreeSet<u32>) -> Snapshot {
        let of = |line: &str| -> Option<u32> {
            let name = line.strip_prefix("cgroup ")?.rsplit('/').next()?;
            name.strip_prefix("agent-shim-")?.split('-').next()?.parse().ok()
        };
        let is_cgroup = |line: &str| line.starts_with("cgroup ");
        self.0.retain(|line| !is_cgroup(line) || of(line).is_some_and(|pid| own.contains(&pid)));
        self
    }

    /// What is here and was not `before`.
    pub fn since(&self, before: &Snapshot) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}

fn lines(file: &str) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn directories(dir: &std::path::Path, add: &mut impl FnMut(String)) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            add(entry.path().display().to_string());
            directories(&entry.path(), add);
        }
    }
}
