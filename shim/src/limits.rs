//! What a room may use: a table of limits, how each is spelled, and what puts it in force here.
//! getrlimit(2), cgroups(7), tmpfs(5).

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use agent_init::error::{Errno, Step};
use agent_init::layers::Layers;
use agent_init::orders::Flags;

use crate::cgroup::{self, Group, Want};
use crate::error::Failure;
use crate::plan::{Identity, Plan};
use crate::room;
use crate::spec::Bend;
use crate::sys::{self, End};

/// What is limited: the rows of [`TABLE`], in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Processes and threads of the room, init among them.
    Processes,
    /// Bytes of memory.
    Memory,
    /// Thousandths of a processor.
    Cpus,
    /// Seconds of processor time, of each process.
    CpuTime,
    /// Milliseconds from the start of the agent to the end of the room.
    WallTime,
    /// Milliseconds between SIGTERM and SIGKILL.
    Grace,
    /// Descriptors, of each process.
    OpenFiles,
    /// Bytes of a file that the room writes.
    FileSize,
    /// Bytes of the room's own directories together. Those that lie in a directory of the host,
    /// and the layers of an overlay, are another tmpfs of this size.
    TmpfsSize,
    /// Files and directories there.
    TmpfsInodes,
    /// Bytes on standard output and error.
    Output,
}

/// What a number counts, and so how it is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// `256`
    Count,
    /// `512M`: K, M, G, T are powers of 1024.
    Bytes,
    /// `1.5`, held in thousandths.
    Cpus,
    /// `500ms`, `30s`, `5m`, `1h`; a plain number is seconds. Held in milliseconds.
    Milliseconds,
    /// The same without `ms`: the kernel counts whole seconds. Held in seconds.
    Seconds,
}

/// One kind of limit.
#[derive(Debug)]
pub struct Row {
    /// What it limits.
    pub resource: Resource,
    /// Its option without the dashes, and its name in records.
    pub name: &'static str,
    /// What is counted.
    pub unit: Unit,
    /// `None`: unlimited.
    pub default: Option<u64>,
}

const fn row(resource: Resource, name: &'static str, unit: Unit, default: Option<u64>) -> Row {
    Row { resource, name, unit, default }
}

const LIMITS: usize = 11;

/// Every limit, in the order of [`Resource`].
#[rustfmt::skip] // a row a line
pub const TABLE: [Row; LIMITS] = [
    row(Resource::Processes,   "pids",         Unit::Count,        Some(256)),
    row(Resource::Memory,      "memory",       Unit::Bytes,        Some(4 << 30)), // 200 threads, node, cargo, java
    row(Resource::Cpus,        "cpus",         Unit::Cpus,         None),
    row(Resource::CpuTime,     "cpu-time",     Unit::Seconds,      None),
    row(Resource::WallTime,    "timeout",      Unit::Milliseconds, None),
    row(Resource::Grace,       "grace",        Unit::Milliseconds, Some(5_000)),
    row(Resource::OpenFiles,   "nofile",       Unit::Count,        Some(1024)),
    row(Resource::FileSize,    "fsize",        Unit::Bytes,        Some(1 << 30)),
    row(Resource::TmpfsSize,   "tmpfs-size",   Unit::Bytes,        Some(256 << 20)),
    row(Resource::TmpfsInodes, "tmpfs-inodes", Unit::Count,        Some(64 << 10)),
    row(Resource::Output,      "output",       Unit::Bytes,        Some(16 << 20)),
];

impl Resource {
    /// Its row.
    pub fn row(self) -> &'static Row {
        // The test `the_table_is_in_order` says that it is that one.
        TABLE.get(self as usize).unwrap_or(&TABLE[0])
    }

    /// Its option without the dashes, and its name in records.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// A value as a user writes it.
    pub fn spelled(self, most: Option<u64>) -> String {
        spelled(self.row().unit, most)
    }
}

/// One limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// In the unit of its row, 0 only as a grace; `None`: unlimited.
    pub most: Option<u64>,
    /// By the caller; else it is the default, and a host that cannot enforce it is only told of.
    pub asked: bool,
}

/// All limits of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits([Limit; LIMITS]);

impl Default for Limits {
    fn default() -> Limits {
        Limits(TABLE.map(|row| Limit { most: row.default, asked: false }))
    }
}

impl Limits {
    /// One of them.
    pub fn get(&self, resource: Resource) -> Limit {
        let none = Limit { most: None, asked: false };
        self.0.get(resource as usize).copied().unwrap_or(none)
    }

    /// Its value.
    pub fn most(&self, resource: Resource) -> Option<u64> {
        self.get(resource).most
    }

    /// The same as a time: of what is counted in milliseconds.
    pub fn duration(&self, resource: Resource) -> Option<Duration> {
        self.most(resource).map(Duration::from_millis)
    }

    /// For what the agent leaves behind; without a limit, some weeks.
    pub fn grace(&self) -> Duration {
        self.duration(Resource::Grace).unwrap_or(Duration::from_millis(u32::MAX.into()))
    }

    /// Asks for a limit, in the unit of its row. 0 is taken as the least that there is; for the
    /// grace, that is none.
    pub fn ask(&mut self, resource: Resource, most: Option<u64>) {
        let least = if resource == Resource::Grace { 0 } else { 1 };
        if let Some(limit) = self.0.get_mut(resource as usize) {
            *limit = Limit { most: most.map(|n| n.max(least)), asked: true };
        }
    }

    /// The same as a user writes it. The error says what is wrong with the text.
    pub fn ask_text(&mut self, resource: Resource, text: &str) -> Result<(), String> {
        self.ask(resource, parse(resource.row().unit, text)?);
        Ok(())
    }
}

/// What is in force, or is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enforced {
    /// What it limits.
    pub resource: Resource,
    /// The value that was read back, or that is put in force; `None`: unlimited.
    pub value: Option<u64>,
    /// The caller asked for it.
    pub asked: bool,
    /// `cgroup v1 memory`, `RLIMIT_DATA`, `tmpfs`, `agent-shim`; `None`: nothing does it here.
    pub by: Option<&'static str>,
    /// What a user should know of it: `of each process`, or why nothing does it. May be empty.
    pub note: &'static str,
}

impl Enforced {
    /// It was asked for, and this is less than its words say: to be told to the user.
    pub fn is_less(&self) -> bool {
        self.asked && (self.by.is_none() || self.by == Some(DATA) || self.note == CALLERS)
    }
}

/// A resource limit that is below what was asked for.
const CALLERS: &str = "the caller's own hard limit";
/// The room's own directories.
const TMPFS: &str = "tmpfs";
/// Memory without a cgroup.
const DATA: &str = "RLIMIT_DATA";

/// A limit that the room ran into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Which one.
    pub resource: Resource,
    /// Its value.
    pub value: Option<u64>,
    /// As in [`Enforced`].
    pub by: &'static str,
    /// How often the kernel refused or killed because of it; at least 1.
    pub times: u64,
    /// It ended the agent; else it only refused something.
    pub ended: bool,
}

/// What a room's limits are put in force by, decided on the host before the room exists. The
/// room's group lives as long as this.
#[derive(Debug, Default)]
pub struct InForce {
    enforced: Vec<Enforced>,
    /// For init: resource and limit, getrlimit(2).
    pub(crate) rlimits: Vec<(u32, u64)>,
    pub(crate) group: Group,
    /// The root of the room, which is its tmpfs, from its start to its end.
    root: Option<OwnedFd>,
    /// What of it was full at the end.
    full: Vec<Resource>,
}

impl InForce {
    /// The room has started, and this is its PID 1. Where /proc does not lead there, its tmpfs is
    /// not looked at.
    pub(crate) fn started(&mut self, pid: i32) {
        if self.enforced.iter().any(|e| e.by == Some(TMPFS)) {
            let root = CString::new(format!("/proc/{pid}/root")).unwrap_or_default();
            let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
            self.root = sys::open(&root, flags).ok().map(sys::own);
        }
    }

    /// The room has ended: was its tmpfs full? ENOSPC is seen by the agent alone, and what it
    /// removed again is not known here. The room's memory is free when this returns.
    pub(crate) fn ended(&mut self) {
        let Some(root) = self.root.take() else { return };
        if let Ok((blocks, inodes)) = sys::free(root.as_raw_fd()) {
            let rows = [(Resource::TmpfsSize, blocks), (Resource::TmpfsInodes, inodes)];
            self.full = rows.into_iter().filter(|(_, free)| *free == 0).map(|(r, _)| r).collect();
        }
    }

    /// Makes the room's group and decides the rest. What was asked for and cannot be had ends the
    /// launch here, unless best effort is enough.
    pub fn of(plan: &Plan) -> Result<InForce, Failure> {
        // The control of an experiment is no room.
        let is_room = plan.identity != Identity::RealRoot;
        let wants = if is_room { wants(plan) } else { Vec::new() };
        let mut all = InForce::default();
        if is_room && plan.bend != Some(Bend::NoRlimits) {
            all.rlimits.extend(room::RLIMITS);
        }
        let outcomes = if wants.is_empty() {
            Vec::new()
        } else {
            let (group, outcomes) = Group::make(&wants);
            all.group = group;
            outcomes
        };
        for row in &TABLE {
            let limit = plan.limits.get(row.resource);
            let outcome = outcomes.iter().find(|(want, _)| want.resource == row.resource);
            all.rlimit(plan, row.resource, limit, outcome.is_some_and(|(_, made)| made.is_ok()));
            let Some(most) = limit.most else { continue };
            let enforced = all.by(plan, row.resource, most, outcome.map(|(_, made)| made));
            let asked = limit.asked && !plan.flags.contains(Flags::BEST_EFFORT);
            if enforced.by.is_none() && asked {
                let what = format!("--{} {}", row.name, row.resource.spelled(Some(most)));
                let cause = outcome.and_then(|(_, made)| made.as_ref().err());
                let (call, errno) =
                    cause.map_or(("enforce", Errno::ENODEV), |f| ("cgroup", f.0.errno));
                return Err(Failure::new(Step::LIMITS, call, what, errno));
            }
            all.enforced.push(Enforced { asked: limit.asked, ..enforced });
        }
        Ok(all)
    }

    /// The row for init, if the resource has one.
    fn rlimit(&mut self, plan: &Plan, resource: Resource, limit: Limit, in_group: bool) {
        let Some((_, number)) = RLIMITS.iter().find(|(r, _)| *r == resource) else { return };
        let most = match (resource, limit.most) {
            (_, None) if !limit.asked => return,
            (_, None) => u64::MAX, // as far as the caller's own hard limit goes
            (Resource::Memory, _) if in_group => return,
            // One more: the group's own counter tells that it was hit.
            (Resource::Processes, Some(most)) if in_group => most.saturating_add(1),
            // The hard limit; init sets the soft one a second lower.
            (Resource::CpuTime, Some(most)) => most.saturating_add(1),
            (_, Some(most)) => most,
        };
        // Elsewhere it is counted with all that the user runs on the host. Linux 5.14.
        if resource != Resource::Processes || plan.layers.contains(Layers::USERNS) {
            self.rlimits.push((*number, most));
        }
    }

    /// What enforces a limit; `made`: what became of it in the room's group.
    fn by(
        &self,
        plan: &Plan,
        resource: Resource,
        most: u64,
        made: Option<&cgroup::Outcome>,
    ) -> Enforced {
        let row = |by, note| Enforced { resource, value: Some(most), asked: false, by, note };
        if let Some(Ok(by)) = made {
            return row(Some(*by), "");
        }
        let rlimit = RLIMITS.iter().find(|(r, _)| *r == resource).map(|(_, number)| *number);
        let is_set = self.rlimits.iter().any(|(number, _)| Some(*number) == rlimit);
        let mut enforced = match resource {
            Resource::Memory => row(Some(DATA), "of each process: no writable cgroup"),
            Resource::Processes if is_set => {
                row(Some("RLIMIT_NPROC"), "counted for the room alone")
            }
            Resource::Processes => row(None, "without a user namespace it needs a cgroup"),
            Resource::Cpus => row(None, "it needs a cgroup"),
            Resource::CpuTime => row(Some("RLIMIT_CPU"), "of each process"),
            Resource::OpenFiles => row(Some("RLIMIT_NOFILE"), "of each process"),
            Resource::FileSize => row(Some("RLIMIT_FSIZE"), "of each file"),
            Resource::TmpfsSize | Resource::TmpfsInodes => {
                match plan.layers.contains(Layers::MNT) {
                    true => row(Some(TMPFS), "of the room's own directories together"),
                    false => row(None, "without the mnt layer a room has no tmpfs"),
                }
            }
            Resource::WallTime | Resource::Output => row(Some("agent-shim"), ""),
            Resource::Grace => row(Some("agent-init"), ""),
        };
        if let Some(number) = rlimit.filter(|_| is_set)
            && let Ok((_, hard)) = agent_init::sys::get_rlimit(number.into())
            && hard < most
        {
            enforced.value = Some(hard);
            enforced.note = CALLERS;
        }
        enforced
    }

    /// What is in force, in the order of [`TABLE`]; what is unlimited is not in it.
    pub fn enforced(&self) -> &[Enforced] {
        &self.enforced
    }

    /// What the room ran into; `agent`: how the agent itself ended.
    pub fn hits(&self, agent: End) -> Vec<Hit> {
        let killed = agent == End::Signaled(libc::SIGKILL);
        let mut hits: Vec<_> = self.group.counts();
        // The signals of setrlimit(2) say which one it was.
        let signalled = SIGNALS.iter().filter(|(_, signal)| agent == End::Signaled(*signal));
        for resource in signalled.map(|(resource, _)| resource).chain(&self.full) {
            if let Some(enforced) = self.enforced.iter().find(|e| e.resource == *resource) {
                hits.push((*resource, enforced.value.unwrap_or(0), enforced.by.unwrap_or(""), 1));
            }
        }
        let hit = |(resource, value, by, times)| {
            let by_signal = SIGNALS.iter().any(|(r, _)| *r == resource);
            let ended = by_signal || killed && resource == Resource::Memory;
            Hit { resource, value: Some(value), by, times, ended }
        };
        hits.into_iter().map(hit).collect()
    }

    /// The most bytes of memory that the room used at a time, where a cgroup counts them.
    pub fn peak_memory(&self) -> Option<u64> {
        self.group.peak_memory()
    }
}

/// What is limited by a resource limit of each process: getrlimit(2).
#[rustfmt::skip] // a row a line
const RLIMITS: &[(Resource, u32)] = &[
    (Resource::Processes, libc::RLIMIT_NPROC), // of the user namespace
    (Resource::Memory,    libc::RLIMIT_DATA),  // not AS: V8, Go and Java reserve tens of GB
    (Resource::CpuTime,   libc::RLIMIT_CPU),
    (Resource::OpenFiles, libc::RLIMIT_NOFILE),
    (Resource::FileSize,  libc::RLIMIT_FSIZE),
];

/// Those that end a process by a signal of their own.
const SIGNALS: &[(Resource, i32)] =
    &[(Resource::CpuTime, libc::SIGXCPU), (Resource::FileSize, libc::SIGXFSZ)];

/// What the room's group is asked to do. Processes are worth a directory of their own only where
/// nothing else counts them, or where the caller wants to know that the limit was hit.
fn wants(plan: &Plan) -> Vec<Want> {
    let counted = plan.layers.contains(Layers::USERNS);
    let rows = [
        (Resource::Memory, true),
        (Resource::Processes, !counted || plan.limits.get(Resource::Processes).asked),
        (Resource::Cpus, true),
    ];
    let want =
        |(resource, alone)| Some(Want { resource, value: plan.limits.most(resource)?, alone });
    rows.into_iter().filter_map(want).collect()
}

/// A value as a user writes it. The error says what is wrong with it.
pub fn parse(unit: Unit, text: &str) -> Result<Option<u64>, String> {
    if text == "unlimited" {
        return Ok(None);
    }
    let value = match unit {
        Unit::Count => scaled(text, &[("", 1)], "a number"),
        Unit::Bytes => scaled(text, SIZES, "a size: a number of bytes, K, M, G or T"),
        Unit::Milliseconds => scaled(text, TIMES, "a time: 500ms, 30s, 5m or 1h"),
        Unit::Seconds => scaled(text, SECONDS, "a time in whole seconds: 30s, 5m or 1h"),
        Unit::Cpus => cpus(text),
    }?;
    match value {
        0 => Err("0 is no limit that a program could live with; `unlimited` is a word".into()),
        value => Ok(Some(value)),
    }
}

/// What follows a number, and what it is multiplied by. The plain number is last.
type Suffixes = [(&'static str, u64)];

#[rustfmt::skip] // a row a line
const SIZES: &Suffixes = &[
    ("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30), ("T", 1 << 40),
    ("k", 1 << 10), ("m", 1 << 20), ("g", 1 << 30), ("t", 1 << 40),
    ("", 1),
];
const TIMES: &Suffixes = &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("", 1000)];
const SECONDS: &Suffixes = &[("s", 1), ("m", 60), ("h", 3600), ("", 1)];

fn scaled(text: &str, suffixes: &Suffixes, what: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at_checked(digits).unwrap_or(("", text));
    let factor = suffixes.iter().find(|(suffix, _)| *suffix == rest);
    let Some((_, factor)) = factor.filter(|_| digits > 0) else {
        return Err(format!("not {what}, nor `unlimited`"));
    };
    let number = number.parse::<u64>().ok().and_then(|n| n.checked_mul(*factor));
    number.ok_or_else(|| "not below 2^64".into())
}

/// At least 0.01, the least that the kernel takes: 1 ms in each 100. sched-bwc.rst.
fn cpus(text: &str) -> Result<u64, String> {
    let wrong = || "not a number of processors such as 1.5, nor `unlimited`".to_owned();
    let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(rest) || rest.len() > 3 {
        return Err(wrong());
    }
    let thousandths = format!("{rest:0<3}").parse::<u64>().map_err(|_| wrong())?;
    let whole = whole.parse::<u64>().ok().filter(|n| *n <= MOST_CPUS);
    match whole.ok_or_else(|| format!("more than {MOST_CPUS}"))? * 1000 + thousandths {
        1..10 => Err("less than 0.01".into()),
        value => Ok(value),
    }
}
const MOST_CPUS: u64 = 8192; // NR_CPUS of the largest kernels

/// With the largest suffix that leaves a whole number.
fn spelled(unit: Unit, most: Option<u64>) -> String {
    let Some(value) = most else { return "unlimited".into() };
    let suffixes: &Suffixes = match unit {
        Unit::Count => &[("", 1)],
        Unit::Bytes => &[("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10), ("", 1)],
        Unit::Milliseconds => &[("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)],
        Unit::Seconds => &[("h", 3600), ("m", 60), ("s", 1)],
        Unit::Cpus => {
            let text = format!("{}.{:03}", value / 1000, value % 1000);
            return text.trim_end_matches('0').trim_end_matches('.').into();
        }
    };
    let fits = suffixes.iter().find(|(_, factor)| value.is_multiple_of(*factor));
    fits.map_or_else(|| value.to_string(), |(suffix, n)| format!("{}{suffix}", value / n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        for (n, row) in TABLE.iter().enumerate() {
            assert_eq!(row.resource as usize, n, "{row:?}");
            assert_eq!(row.resource.row().name, row.name);
            assert_ne!(row.default, Some(0));
        }
    }

    #[test]
    fn values_are_read_and_spelled() {
        #[rustfmt::skip] // a row a line
        let rows = [
            (Unit::Count,        "1",         Some(1),               "1"),
            (Unit::Count,        "unlimited", None,                  "unlimited"),
            (Unit::Count,        "18446744073709551615", Some(u64::MAX), "18446744073709551615"),
            (Unit::Bytes,        "1000",      Some(1000),            "1000"),
            (Unit::Bytes,        "64k",       Some(65_536),          "64K"),
            (Unit::Bytes,        "1536M",     Some(1536 << 20),      "1536M"),
            (Unit::Bytes,        "1024M",     Some(1 << 30),         "1G"),
            (Unit::Bytes,        "2T",        Some(2 << 40),         "2T"),
            (Unit::Milliseconds, "500ms",     Some(500),             "500ms"),
            (Unit::Milliseconds, "30",        Some(30_000),          "30s"),
            (Unit::Milliseconds, "30s",       Some(30_000),          "30s"),
            (Unit::Milliseconds, "5m",        Some(300_000),         "5m"),
            (Unit::Milliseconds, "1h",        Some(3_600_000),       "1h"),
            (Unit::Seconds,      "90s",       Some(90),              "90s"),
            (Unit::Seconds,      "2m",        Some(120),             "2m"),
            (Unit::Cpus,         "1.5",       Some(1500),            "1.5"),
            (Unit::Cpus,         "2",         Some(2000),            "2"),
            (Unit::Cpus,         "0.01",      Some(10),              "0.01"),
        ];
        for (unit, text, value, said) in rows {
            assert_eq!(parse(unit, text), Ok(value), "{text}");
            assert_eq!(spelled(unit, value), said);
        }
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        const UNITS: [Unit; 5] =
            [Unit::Count, Unit::Bytes, Unit::Cpus, Unit::Milliseconds, Unit::Seconds];
        let garbage = [
            "",
            "0",
            "00",
            "-1",
            "+1",
            " 1",
            "1 ",
            "x",
            "1x",
            "0x10",
            "1e3",
            "1,5",
            "Unlimited",
            "infinity",
            "18446744073709551616",
            "99999999999999999999999",
            "\u{661}",
            "1\u{661}",
        ];
        for unit in UNITS {
            for text in garbage {
                assert!(parse(unit, text).is_err(), "{unit:?} {text:?}");
            }
        }
        for (unit, text) in [
            (Unit::Count, "1K"),
            (Unit::Bytes, "0G"),
            (Unit::Bytes, "K"),
            (Unit::Bytes, "1KB"),
            (Unit::Bytes, "16777216T"),
            (Unit::Bytes, "1.5G"),
            (Unit::Milliseconds, "0ms"),
            (Unit::Milliseconds, "1d"),
            (Unit::Milliseconds, "18446744073709551615s"),
            (Unit::Seconds, "1500ms"),
            (Unit::Cpus, "0.001"),
            (Unit::Cpus, "1."),
            (Unit::Cpus, ".5"),
            (Unit::Cpus, "1.5.1"),
            (Unit::Cpus, "1.0001"),
            (Unit::Cpus, "8193"),
        ] {
            assert!(parse(unit, text).is_err(), "{unit:?} {text:?}");
        }
    }

    #[test]
    fn what_is_asked_for_is_known_from_a_default() {
        let mut limits = Limits::default();
        assert_eq!(limits.get(Resource::Memory), Limit { most: Some(4 << 30), asked: false });
        limits.ask_text(Resource::Memory, "1G").unwrap();
        assert_eq!(limits.get(Resource::Memory), Limit { most: Some(1 << 30), asked: true });
        limits.ask_text(Resource::Grace, "1500ms").unwrap();
        assert_eq!(limits.duration(Resource::Grace), Some(Duration::from_millis(1500)));
    }
}
