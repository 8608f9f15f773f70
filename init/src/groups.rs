//! The groups of the agent's table: what `--allow-group` may add to a filter, what `--deny-group` may take away, and
//! what the filter `strict` goes without. A filter of its own is always this table, changed by whole groups.

use crate::check::stop;
use crate::nr::same;
use crate::policy::Test::{AnyBit, Low, Masked};
use crate::policy::{AGENT, ALLOW, EINVAL, ENOSYS, EPERM, PID_1, Rule, SELF, Verdict, When};

/// The calls of one column of the table.
#[derive(Debug)]
pub struct Group {
    /// As rows have it.
    pub name: &'static str,
    /// What its calls are for; of one that can be added, what that opens.
    pub about: &'static str,
    /// Whether it can be added.
    pub grant: Grant,
    /// What its calls answer where the group is taken away; `None`: no program runs without it.
    pub denied: Option<Verdict>,
    /// Whether `strict` has it.
    pub in_strict: bool,
}

/// What `--allow-group` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// It is in the filter; what the table refuses of it stays refused.
    Present,
    /// Its calls are allowed, but for those in [`GRANTS`].
    Yes,
    /// Nobody can add it: why.
    Never(&'static str),
}

use Grant::{Never, Present, Yes};

const fn group(
    name: &'static str,
    grant: Grant,
    denied: Option<Verdict>,
    in_strict: bool,
    about: &'static str,
) -> Group {
    Group { name, about, grant, denied, in_strict }
}

const ENOTTY: Verdict = Verdict::Errno(25);
const IN: bool = true;
const OUT: bool = false;

/// In the order of the table.
#[rustfmt::skip] // a row a line
pub const GROUPS: &[Group] = &[
    group("file-io",     Present, None,         IN,  "read and write open files"),
    group("file-open",   Present, None,         IN,  "open and close files"),
    group("file-stat",   Present, None,         IN,  "what files there are, and what they are"),
    group("file-tree",   Present, None,         IN,  "names: rename, mkdir, unlink, chdir"),
    group("file-attr",   Present, None,         IN,  "modes, owners, times, attributes"),
    group("file-node",   Present, Some(EPERM),  OUT, "FIFOs and sockets as files; strict: a computation has no other side"),
    group("file-handle", Never("a handle is a way to a file past every rule about paths"), Some(EPERM), IN, "opaque names of files"),
    group("file-sync",   Present, Some(EINVAL), IN,  "durability; without it databases do not start"),
    group("fd",          Present, None,         IN,  "descriptors: dup, pipe, poll, fcntl"),
    group("event",       Present, Some(ENOSYS), IN,  "event loops: epoll, eventfd, timerfd, signalfd"),
    group("notify",      Present, Some(ENOSYS), OUT, "inotify; strict: the files of a computation do not change under it"),
    group("memory",      Present, None,         IN,  "the own address space"),
    group("thread",      Present, None,         IN,  "threads and locks"),
    group("process",     Present, None,         IN,  "fork, exec, wait"),
    group("signal",      Present, None,         IN,  "signals"),
    group("time",        Present, None,         IN,  "clocks and timers; setting the host's clock stays refused"),
    group("sched",       Present, Some(EPERM),  IN,  "priorities and processors of the own threads"),
    group("limits",      Present, None,         IN,  "own limits and usage"),
    group("identity",    Present, None,         IN,  "ids and capabilities, which are mapped and empty"),
    group("ipc",         Present, Some(ENOSYS), OUT, "System V and POSIX queues, semaphores, shared memory; strict: threads and pipes need none"),
    group("net",         Present, Some(EPERM),  OUT, "sockets, UNIX ones too; strict: a computation has nobody to talk to, and protocols are the widest surface"),
    group("ioctl",       Present, Some(ENOTTY), IN,  "terminals and files; without it nothing is a terminal"),
    group("self",        Present, None,         IN,  "prctl, personality, random bytes, and what only tightens"),
    group("numa",        Yes,     Some(EPERM),  IN,  "memory policy of the own pages; other processes' stay refused"),
    group("aio",         Yes,     Some(ENOSYS), IN,  "old asynchronous I/O: takes part in fs.aio-max-nr, one number for the host"),
    group("io_uring",    Yes,     Some(EPERM),  IN,  "a second table of calls that no filter sees: sockets of every family, files of every mode; mounts, Landlock and capabilities still hold"),
    group("namespace",   Never("a new user namespace has every capability inside, and with them kernel code that no filter was written for"), Some(EPERM), IN, "unshare, setns"),
    group("mount",       Never("what is mounted decides which files there are; the shim fixes it before the agent runs"), Some(EPERM), IN, "mount, chroot, pivot_root and the newer calls"),
    group("ptrace",      Yes,     Some(EPERM),  IN,  "debuggers: reads and steers other processes of the room; never PID 1, whose memory is closed to it besides"),
    group("perf",        Yes,     Some(EPERM),  IN,  "counters and samples of the own processes, as kernel.perf_event_paranoid of the host lets it"),
    group("keys",        Never("keyrings go by user id: the host's keys of that user can be found by number, linked and read"), Some(EPERM), IN, "keyrings"),
    group("kernel",      Never("it administers the host: modules, swap, reboot, programs inside the kernel"), Some(EPERM), IN, "host administration"),
    group("dead",        Never("no kernel has anything behind these numbers"), Some(ENOSYS), IN, "removed from the kernel, or never built"),
];

/// What a call answers where its group was added and that is not plainly allowed.
#[rustfmt::skip]
pub const GRANTS: &[(&str, Rule)] = &[
    ("ptrace",            Rule { clauses: &[When(&[Low(1, &[PID_1])], EPERM)], otherwise: ALLOW }),
    ("process_vm_readv",  Rule { clauses: &[When(&[Low(0, &[PID_1])], EPERM)], otherwise: ALLOW }),
    ("process_vm_writev", Rule { clauses: &[When(&[Low(0, &[PID_1])], EPERM)], otherwise: ALLOW }),
    ("kcmp",              Rule { clauses: &[When(&[Low(0, &[PID_1])], EPERM), When(&[Low(1, &[PID_1])], EPERM)], otherwise: ALLOW }),
    ("pidfd_getfd",       Rule::always(EPERM)), // of whom is behind a descriptor; debuggers do without
    ("migrate_pages",     Rule { clauses: &[When(&[Low(0, &[SELF])], ALLOW)], otherwise: EPERM }),
    ("move_pages",        Rule { clauses: &[When(&[Low(0, &[SELF])], ALLOW)], otherwise: EPERM }),
];

// asm-generic/mman-common.h, linux/shm.h; the same on all our architectures.
const PROT_EXEC: u32 = 4;
const WRITE_AND_EXEC: u32 = 2 | PROT_EXEC;
const SHM_EXEC: u32 = 0o100_000;
/// MAP_SHARED, MAP_ANONYMOUS: mremap(2) gives it a second address, whose rights are its own.
const NAMELESS: u32 = 1 | 0x20;

/// What `--no-wx` makes of the calls that map memory: none that can be written and run, and none that is made
/// executable after it was mapped. READ_IMPLIES_EXEC is refused anyway (personality). As MemoryDenyWriteExecute= of
/// systemd.exec(5).
#[rustfmt::skip]
pub const NO_WX: &[(&str, Rule)] = &[
    ("mmap",          Rule { clauses: &[When(&[Masked(2, WRITE_AND_EXEC, &[WRITE_AND_EXEC])], EPERM), When(&[AnyBit(2, PROT_EXEC), Masked(3, NAMELESS, &[NAMELESS])], EPERM)], otherwise: ALLOW }),
    ("mprotect",      Rule { clauses: &[When(&[AnyBit(2, PROT_EXEC)], EPERM)], otherwise: ALLOW }),
    ("pkey_mprotect", Rule { clauses: &[When(&[AnyBit(2, PROT_EXEC)], EPERM)], otherwise: ALLOW }),
    ("shmat",         Rule { clauses: &[When(&[AnyBit(2, SHM_EXEC)], EPERM)], otherwise: ALLOW }),
];

/// The group of this name.
pub const fn named(name: &str) -> Option<&'static Group> {
    let mut i = 0;
    while i < GROUPS.len() {
        if same(GROUPS[i].name, name) {
            return Some(&GROUPS[i]);
        }
        i += 1;
    }
    None
}

const _: () = {
    let mut i = 0;
    while i < AGENT.len() {
        if named(AGENT[i].group).is_none() {
            stop(AGENT[i].name, "its group is not in GROUPS");
        }
        i += 1;
    }
    known(GRANTS);
    known(NO_WX);
};

/// Each names a row of the table, and its rule is one.
const fn known(rules: &[(&str, Rule)]) {
    let mut i = 0;
    while i < rules.len() {
        let (name, rule) = &rules[i];
        if !crate::check::has_row(AGENT, name) {
            stop(name, "there is none, and a group or --no-wx changes it");
        }
        if let Some(why) = crate::check::of_rule(rule) {
            stop(name, why);
        }
        i += 1;
    }
}
