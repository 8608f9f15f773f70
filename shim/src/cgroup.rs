//! A cgroup of the room's own: made by the shim before clone3, entered by the child at its birth,
//! removed with the room. cgroups(7); Documentation/admin-guide: cgroup-v2.rst,
//! cgroup-v1/memory.rst and pids.rst, scheduler/sched-bwc.rst.
//!
//! v2: the child is born in it, by CLONE_INTO_CGROUP. v1: the child's first act is to write "0" to
//! `tasks`. A thread that moves itself waits for nobody (20 us); for a parent that moves it, the
//! kernel first waits for every processor (6 to 10 ms, Linux 6.18).
//!
//! The group lies beneath the shim's own, so that every limit of the shim's holds for the room too.
//! v2 refuses that to a group with processes: then it lies beside it, if nothing is won by that.
//! A shim that is killed has an [`Heir`], which removes the directory then. Where both were killed,
//! the next shim does it at its end: who uses a group holds a lock on its directory.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agent_init::error::{Errno, Step};

use crate::error::{At, Failure, errno_of};
use crate::heir::Heir;
use crate::limits::Resource;
use crate::source::Source;
use crate::sys;

/// The two interfaces of the kernel. A controller is in one hierarchy only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// One limit of a controller.
struct Control {
    resource: Resource,
    version: Version,
    controller: &'static str,
    /// Its name in messages and records.
    by: &'static str,
    /// What is written, in this order.
    files: &'static [Setting],
    /// A file, and its line that counts what the limit has refused.
    counter: (&'static str, &'static str),
    /// The most that was used.
    peak: Option<&'static str>,
}

/// What a file is given for a limit.
struct Setting {
    file: &'static str,
    value: fn(u64) -> String,
    /// It may be missing: there is no swap then.
    swap: bool,
}

const fn set(file: &'static str, value: fn(u64) -> String) -> Setting {
    Setting { file, value, swap: false }
}

fn as_it_is(value: u64) -> String {
    value.to_string()
}

/// A period of 100 ms, in microseconds; the limit is in thousandths of a processor.
const PERIOD: &str = "100000";

fn quota(thousandths: u64) -> String {
    (thousandths * 100).to_string()
}

const MEMORY_V1: &[Setting] = &[
    set("memory.limit_in_bytes", as_it_is),
    Setting { file: "memory.memsw.limit_in_bytes", value: as_it_is, swap: true },
];
const MEMORY_V2: &[Setting] = &[
    set("memory.max", as_it_is),
    Setting { file: "memory.swap.max", value: |_| "0".into(), swap: true },
];
const PIDS: &[Setting] = &[set("pids.max", as_it_is)];
const CPU_V1: &[Setting] =
    &[set("cpu.cfs_period_us", |_| PERIOD.into()), set("cpu.cfs_quota_us", quota)];
const CPU_V2: &[Setting] = &[set("cpu.max", |n| format!("{} {PERIOD}", quota(n)))];

const OOM: &str = "oom_kill";
const V1_PEAK: Option<&str> = Some("memory.max_usage_in_bytes");

#[rustfmt::skip] // a row a line
const CONTROLS: &[Control] = &[
    Control { resource: Resource::Memory,    version: Version::V1, controller: "memory", by: "cgroup v1 memory", files: MEMORY_V1, counter: ("memory.oom_control", OOM), peak: V1_PEAK },
    Control { resource: Resource::Memory,    version: Version::V2, controller: "memory", by: "cgroup v2 memory", files: MEMORY_V2, counter: ("memory.events", OOM),      peak: Some("memory.peak") },
    Control { resource: Resource::Processes, version: Version::V1, controller: "pids",   by: "cgroup v1 pids",   files: PIDS,      counter: ("pids.events", "max"),     peak: None },
    Control { resource: Resource::Processes, version: Version::V2, controller: "pids",   by: "cgroup v2 pids",   files: PIDS,      counter: ("pids.events", "max"),     peak: None },
    Control { resource: Resource::Cpus,      version: Version::V1, controller: "cpu",    by: "cgroup v1 cpu",    files: CPU_V1,    counter: ("cpu.stat", "nr_throttled"), peak: None },
    Control { resource: Resource::Cpus,      version: Version::V2, controller: "cpu",    by: "cgroup v2 cpu",    files: CPU_V2,    counter: ("cpu.stat", "nr_throttled"), peak: None },
];

/// A limit to be put in force.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    /// What is limited.
    pub resource: Resource,
    /// In its unit.
    pub value: u64,
    /// Worth a directory of its own; else it is put where one is made anyway.
    pub alone: bool,
}

/// What became of a [`Want`]: the name of what enforces it.
pub type Outcome = Result<&'static str, Failure>;

/// The room's group: a directory in each hierarchy that is needed. Dropped, it is removed.
#[derive(Debug, Default)]
pub struct Group {
    parts: Vec<Part>,
}

impl Group {
    /// Puts in force what can be; nothing is left of what cannot.
    pub fn make(wants: &[Want]) -> (Group, Vec<(Want, Outcome)>) {
        let (mut group, hierarchies) = (Group::default(), hierarchies());
        let (first, later): (Vec<&Want>, Vec<&Want>) = wants.iter().partition(|want| want.alone);
        let mut outcomes = Vec::new();
        for want in first.into_iter().chain(later) {
            let outcome = place(*want, wants, &hierarchies)
                .and_then(|(control, parent)| group.add(*want, control, parent));
            outcomes.push((*want, outcome));
        }
        group.parts.retain(|part| !part.set.is_empty());
        (group, outcomes)
    }

    fn add(&mut self, want: Want, control: &'static Control, parent: PathBuf) -> Outcome {
        if !self.parts.iter().any(|part| part.parent == parent) {
            if !want.alone {
                return Err(Failure::new(Step::LIMITS, "cgroup", parent_name(&parent), Errno(0)));
            }
            self.parts.push(Part::make(parent.clone(), control.version)?);
        }
        let part = self.parts.iter_mut().find(|part| part.parent == parent);
        part.map_or(Err(nowhere()), |part| part.put(want, control))
    }

    /// The directory that clone3 makes the child in.
    pub fn birth(&self) -> Option<BorrowedFd<'_>> {
        self.parts.iter().find(|part| part.version == Version::V2).map(|part| part.dir.as_fd())
    }

    /// In the child, its first act: afterwards it is in every part, and everything that it starts.
    /// No allocation, no panic.
    pub fn enter(&self) -> Result<(), Failure> {
        for part in &self.parts {
            let fd = part.tasks.as_raw_fd();
            if part.version == Version::V1 {
                sys::write_all(fd, b"0").at(Step::LIMITS, "write", "tasks")?;
            }
            // Nobody else is in there.
            let mut listed = [0; 1];
            if sys::read(fd, &mut listed).at(Step::LIMITS, "read", "tasks")? == 0 {
                return Err(Failure::not_in_force(Step::LIMITS, "the room's cgroup"));
            }
        }
        Ok(())
    }

    /// What the limits have refused or killed: resource, value, by what, how often.
    pub fn counts(&self) -> Vec<(Resource, u64, &'static str, u64)> {
        let counts = self.parts.iter().flat_map(|part| {
            part.set.iter().map(|(control, value)| {
                let (file, line) = control.counter;
                let times = counter(&part.path.join(file), line).unwrap_or(0);
                (control.resource, *value, control.by, times)
            })
        });
        counts.filter(|(.., times)| *times > 0).collect()
    }

    /// The most bytes of memory that the room has used, where the kernel counts them.
    pub fn peak_memory(&self) -> Option<u64> {
        self.parts.iter().find_map(|part| {
            let file = part.set.iter().find_map(|(control, _)| control.peak)?;
            fs::read_to_string(part.path.join(file)).ok()?.trim().parse().ok()
        })
    }

    /// What must stay within reach until the end: the directory above each, and itself.
    pub fn dirs(&self) -> impl Iterator<Item = (&Path, &Path)> {
        self.parts.iter().map(|part| (&*part.parent, &*part.path))
    }
}

fn parent_name(parent: &Path) -> &[u8] {
    std::os::unix::ffi::OsStrExt::as_bytes(parent.as_os_str())
}

/// No hierarchy with that controller can be used here.
fn nowhere() -> Failure {
    Failure::new(Step::LIMITS, "cgroup", "no such controller", Errno::ENODEV)
}

/// The directory in one hierarchy.
#[derive(Debug)]
struct Part {
    version: Version,
    parent: PathBuf,
    path: PathBuf,
    /// Locked: it is in use.
    dir: File,
    /// `tasks` or `cgroup.procs`.
    tasks: File,
    set: Vec<(&'static Control, u64)>,
    /// Dropped when the directory has been removed.
    _heir: Heir,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.by)
    }
}

/// Of the group's name; the shim's process id and a random number follow.
const PREFIX: &str = "agent-shim-";

impl Part {
    fn make(parent: PathBuf, version: Version) -> Result<Part, Failure> {
        let number = RandomState::new().build_hasher().finish();
        let path = parent.join(format!("{PREFIX}{}-{number:016x}", std::process::id()));
        let tasks = path.join(if version == Version::V1 { "tasks" } else { "cgroup.procs" });
        let failed = |call| {
            let path = path.clone();
            move |e: io::Error| Failure::new(Step::LIMITS, call, parent_name(&path), errno_of(&e))
        };
        // Nobody inherits what an ordinary user cannot make.
        let dir = Source::following_links(&parent);
        let may = dir.and_then(|dir| sys::may_write(dir.as_fd()));
        may.at(Step::LIMITS, "mkdir", parent_name(&path))?;
        let heir = Heir::of(&path)?;
        fs::create_dir(&path).map_err(failed("mkdir"))?;
        let open = || {
            let dir = File::open(&path).map_err(failed("open"))?;
            // From now on a sweep leaves it alone; if one was faster, the next call fails.
            dir.try_lock().map_err(|e| failed("flock")(e.into()))?;
            let tasks = OpenOptions::new().read(true).write(true).open(&tasks);
            Ok((dir, tasks.map_err(failed("open"))?))
        };
        match open() {
            Ok((dir, tasks)) => {
                Ok(Part { version, parent, path, dir, tasks, set: Vec::new(), _heir: heir })
            }
            Err(failure) => {
                let _gone = fs::remove_dir(&path);
                Err(failure)
            }
        }
    }

    /// Writes a limit, and reads it back.
    fn put(&mut self, want: Want, control: &'static Control) -> Outcome {
        for setting in control.files {
            let (path, value) = (self.path.join(setting.file), (setting.value)(want.value));
            let failed = |call| {
                let name = format!("{}, {}", setting.file, value);
                move |e: io::Error| Failure::new(Step::LIMITS, call, name, errno_of(&e))
            };
            let opened = OpenOptions::new().read(true).write(true).open(&path);
            let mut file = match opened {
                Err(e) if setting.swap && e.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(failed("open"))?,
            };
            file.write_all(value.as_bytes()).map_err(failed("write"))?;
            let mut bytes = [0; 64];
            let len = file.read_at(&mut bytes, 0).map_err(failed("pread"))?;
            let read = String::from_utf8_lossy(bytes.get(..len).unwrap_or(&[]));
            if !is(want.resource, &value, read.trim_end()) {
                return Err(Failure::not_in_force(
                    Step::LIMITS,
                    path.as_os_str().as_encoded_bytes(),
                ));
            }
        }
        self.set.push((control, want.value));
        Ok(control.by)
    }

    /// Ends what is still in there: without a pid namespace nothing else does.
    fn kill_rest(&self) -> io::Result<()> {
        let list = || -> io::Result<Vec<i32>> {
            let text = fs::read_to_string(self.path.join("cgroup.procs"))?;
            Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
        };
        let first = list()?;
        let opened = first.iter().filter_map(|pid| Some((*pid, sys::pidfd_open(*pid).ok()?)));
        let opened: Vec<(i32, OwnedFd)> = opened.collect();
        // Who is still listed is who was opened, or that one has ended: a number is used again
        // only when its process is gone, and then the descriptor is nobody's.
        let still = list()?;
        for (_, pidfd) in opened.iter().filter(|(pid, _)| still.contains(pid)) {
            let _ended = sys::send_signal(pidfd.as_fd(), libc::SIGKILL);
        }
        for (_, pidfd) in &opened {
            let _ended = sys::wait_readable(&[pidfd.as_fd()], 100);
        }
        Ok(())
    }
}

/// How long what is left in a group may take to end.
const ENDS: Duration = Duration::from_secs(2);

impl Drop for Part {
    fn drop(&mut self) {
        let deadline = Instant::now() + ENDS;
        while let Err(error) = fs::remove_dir(&self.path) {
            let busy = error.raw_os_error() == Some(libc::EBUSY);
            if !busy || Instant::now() > deadline || self.kill_rest().is_err() {
                log::info!("{}: {error}", self.path.display());
                return;
            }
        }
        sweep(&self.parent);
    }
}

/// Whether a file holds what was written to it. Memory is counted in pages: a little less is
/// what was asked for.
fn is(resource: Resource, wanted: &str, read: &str) -> bool {
    const PAGES: u64 = 64 << 10; // the largest page
    match (resource, wanted.parse::<u64>(), read.parse::<u64>()) {
        (Resource::Memory, Ok(wanted), Ok(read)) => read <= wanted && wanted - read < PAGES,
        _ => wanted == read,
    }
}

/// A line `name number` of a file.
fn counter(file: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Removes what shims that were killed with their heirs have left: their process and their lock
/// are gone. rmdir refuses what is not empty.
fn sweep(parent: &Path) {
    // A directory is counted by its name above, by itself, and by each one in it.
    if fs::metadata(parent).map_or(0, |meta| meta.nlink()) <= 2 {
        return;
    }
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|n| n.strip_prefix(PREFIX)?.split('-').next());
        let Some(pid) = pid.filter(|pid| pid.parse::<u32>().is_ok()) else { continue };
        // A new one is not locked yet. The number may be of another pid namespace.
        if Path::new("/proc").join(pid).exists() && is_new(&entry) {
            continue;
        }
        if let Ok(dir) = File::open(entry.path())
            && dir.try_lock().is_ok()
        {
            let _not_empty = fs::remove_dir(entry.path());
        }
    }
}

fn is_new(entry: &fs::DirEntry) -> bool {
    let made = entry.metadata().and_then(|meta| meta.modified());
    made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age < SETTLED))
}

/// How long a shim may take from the making of a directory to its lock.
const SETTLED: Duration = Duration::from_secs(60);

/// A mounted hierarchy, and where this process is in it.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    version: Version,
    /// Of v1. v2 says in each directory which it has.
    controllers: Vec<String>,
    top: PathBuf,
    own: PathBuf,
}

fn hierarchies() -> Vec<Hierarchy> {
    let read = |file| {
        let mut text = String::with_capacity(32 << 10); // else it is read in very small pieces
        let read = File::open(file).and_then(|mut file| file.read_to_string(&mut text));
        read.map_or(String::new(), |_| text)
    };
    hierarchies_of(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
}

/// cgroups(7), /proc/pid/cgroup: `number:controllers:path`; v2 has no controllers there.
/// proc_pid_mountinfo(5): the fourth word is the directory that is mounted, the fifth where.
fn hierarchies_of(groups: &str, mounts: &str) -> Vec<Hierarchy> {
    let mount = |line: &str| -> Option<Hierarchy> {
        let (head, tail) = line.split_once(" - ")?;
        let (mut head, mut tail) = (head.split(' ').skip(3), tail.split(' '));
        let (root, top) = (head.next()?, head.next()?);
        let (kind, options) = (tail.next()?, tail.nth(1)?);
        let version = match kind {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => return None,
        };
        let path = groups.lines().find_map(|line| {
            let mut words = line.splitn(3, ':').skip(1);
            let (names, path) = (words.next()?, words.next()?);
            let here = match version {
                Version::V1 => !names.is_empty() && names.split(',').all(|n| has(options, n)),
                Version::V2 => names.is_empty(),
            };
            here.then_some(path)
        })?;
        let beneath = Path::new(path).strip_prefix(root).ok()?;
        let controllers = options.split(',').map(str::to_owned).collect();
        let top = PathBuf::from(top);
        // A trailing slash would make it another name.
        let own = if beneath.as_os_str().is_empty() { top.clone() } else { top.join(beneath) };
        Some(Hierarchy { version, controllers, top, own })
    };
    mounts.lines().filter_map(mount).collect()
}

fn has(options: &str, name: &str) -> bool {
    options.split(',').any(|option| option == name)
}

/// The row that fits this host, and the directory that the room's is to be made in.
fn place(
    want: Want,
    all: &[Want],
    hierarchies: &[Hierarchy],
) -> Result<(&'static Control, PathBuf), Failure> {
    let rows = || CONTROLS.iter().filter(|control| control.resource == want.resource);
    let mut refused = nowhere();
    for control in rows() {
        let fits = |h: &&Hierarchy| h.version == control.version;
        for hierarchy in hierarchies.iter().filter(fits) {
            if hierarchy.version == Version::V1 {
                if hierarchy.controllers.iter().any(|c| c == control.controller) {
                    return Ok((control, hierarchy.own.clone()));
                }
                continue;
            }
            match parent(hierarchy, control, all) {
                Ok(parent) => return Ok((control, parent)),
                Err(errno) => {
                    let own = parent_name(&hierarchy.own);
                    refused = Failure::new(Step::LIMITS, "cgroup", own, errno);
                }
            }
        }
    }
    Err(refused)
}

/// v2: a group whose children have the controller. A group with processes cannot have such
/// children, unless it is the root; so where the shim's own is not the root, it is the one above,
/// if that is ours and nothing is won: the shim's own group allows as much as the room is to have.
/// ENODEV: the controller is not there. EACCES: the group above is not ours. EBUSY: the shim's own
/// group has a limit, which a group beside it would not have.
fn parent(hierarchy: &Hierarchy, control: &Control, all: &[Want]) -> Result<PathBuf, Errno> {
    let read = |dir: &Path, file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default();
    let passes_on = |dir: &Path| {
        let enabled = read(dir, "cgroup.subtree_control");
        enabled.split_whitespace().any(|c| c == control.controller)
    };
    let own = &*hierarchy.own;
    if passes_on(own) {
        return Ok(own.to_owned());
    }
    let Some(above) = own.parent().filter(|_| own != hierarchy.top) else {
        return Err(Errno::ENODEV);
    };
    if !passes_on(above) {
        return Err(Errno::ENODEV);
    }
    // Whoever moves a process must be able to write here.
    OpenOptions::new().write(true).open(above.join("cgroup.procs")).map_err(|e| errno_of(&e))?;
    let asked = |resource| all.iter().find(|w| w.resource == resource).map(|w| w.value);
    let allows = |file: &str, resource, scale: u64| {
        let text = read(own, file);
        let mut words = text.split_whitespace();
        let Some(most) = words.next().filter(|most| *most != "max") else {
            return true; // there is no such controller, or no limit
        };
        let fits = |most| asked(resource).is_some_and(|n| n.saturating_mul(scale) <= most);
        words.next().is_none_or(|period| period == PERIOD) && most.parse().is_ok_and(fits)
    };
    let nothing_is_won = allows("memory.max", Resource::Memory, 1)
        && allows("memory.high", Resource::Memory, 1)
        && allows("pids.max", Resource::Processes, 1)
        && allows("cpu.max", Resource::Cpus, 100);
    if nothing_is_won { Ok(above.to_owned()) } else { Err(Errno::EBUSY) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(groups: &str, mounts: &str) -> Vec<(Version, String, String)> {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let all = hierarchies_of(groups, mounts);
        all.iter().map(|h| (h.version, text(&h.top), text(&h.own))).collect()
    }

    #[test]
    fn the_own_group_is_found_in_each_hierarchy() {
        let groups = "8:pids:/\n4:memory:/a/b\n2:cpu,cpuacct:/c\n1:name=systemd:/s\n0::/u\n";
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
            32 31 0:29 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
            33 31 0:30 /c /mnt/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
            34 31 0:31 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
            35 31 0:32 /elsewhere /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let at = |version, top: &str, own: &str| (version, top.to_owned(), own.to_owned());
        let v1 = Version::V1;
        let expected = [
            at(v1, "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/a/b"),
            at(v1, "/mnt/cpu", "/mnt/cpu"),
            at(v1, "/sys/fs/cgroup/pids", "/sys/fs/cgroup/pids"),
        ];
        assert_eq!(found(groups, mounts), expected);
        let v2 = "36 31 0:32 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let expected = [at(Version::V2, "/sys/fs/cgroup", "/sys/fs/cgroup/u")];
        assert_eq!(found("0::/u\n", v2), expected);
        assert_eq!(found("", v2), []);
        assert_eq!(found(groups, "garbage\n - cgroup\n"), []);
    }

    #[test]
    fn a_little_less_memory_is_what_was_asked_for() {
        assert!(is(Resource::Memory, "1000001", "999424"));
        assert!(is(Resource::Memory, "4096", "4096"));
        for wrong in ["max", "0", "1000002", "9223372036854771712", "-1", ""] {
            assert!(!is(Resource::Memory, "1000001", wrong), "{wrong}");
        }
        assert!(is(Resource::Cpus, "150000 100000", "150000 100000"));
        assert!(!is(Resource::Cpus, "150000 100000", "max 100000"));
        assert!(!is(Resource::Processes, "256", "255"));
    }

    #[test]
    fn every_row_is_one_of_its_own() {
        for (n, a) in CONTROLS.iter().enumerate() {
            let same = |b: &&Control| (a.resource, a.version) == (b.resource, b.version);
            assert_eq!(CONTROLS.iter().position(|b| same(&b)), Some(n), "{a:?}");
            assert_eq!(a.by, format!("cgroup {:?} {}", a.version, a.controller).replace('V', "v"));
        }
    }
}
