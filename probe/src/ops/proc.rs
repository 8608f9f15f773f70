//! What `/proc` shows of the host. proc_pid_status(5), pid_namespaces(7).

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{
    NOT_COMPARED, NOT_PRESENT, at, doubt, happened, is_absent, outside_file, seen, unless_own,
};
use crate::facts::{FILES, Pid2, cgroups, proc_works, read_text};
use crate::{Errno, Facts, Fixture, Kind, Op, Outcome, Tried, Verdict, pid_identity};

const READS: &str = "only reads";
const OPENS: &str = "opens without O_TRUNC, and writes nothing";
const OPENED: &str = "it opens for writing";
const SAME: &str = "the content has the digest of the host's";

const fn row(texts: [&'static str; 5], run: fn(&Facts) -> Tried) -> Op {
    Op::attack("proc", texts, run)
}

#[rustfmt::skip] // a row a line
pub(super) const OPS: &[Op] = &[
    Op {
        id: "proc-read-pid2",
        title: "read /proc/2/status",
        group: "proc",
        call: r#"open("/proc/2/status", O_RDONLY|O_CLOEXEC); read"#,
        safe: "only reads",
        judged: "name, parent and pid are those of the host's pid 2; a pid 2 of the room's own is BLOCKED",
        run: |facts| Ok(read_pid2(facts)),
        kind: Kind::Attack,
        needs: &[],
        counted: false,
        open: None,
    },
    row(["proc-1-root",        "read through /proc/1/root",   r#"open("/proc/1/root/DIR/open"); read"#,       READS, "the nonce is read back"], init_root).needs(&[Fixture::Dir]),
    row(["proc-1-environ",     "environment of PID 1",        r#"open("/proc/1/environ"); read"#,             READS, "it opens, and can be read"], |_| readable("/proc/1/environ")),
    row(["proc-1-mem",         "memory of PID 1",             r#"open("/proc/1/mem", O_RDWR)"#,               OPENS, OPENED], |_| writable("/proc/1/mem", None)),
    row(["proc-1-maps",        "mappings of PID 1",           r#"open("/proc/1/maps"); read"#,                READS, "an address can be seen"], |_| told("/proc/1/maps", "-")),
    row(["proc-1-fd",          "descriptors of PID 1",        r#"readlink("/proc/1/fd/0")"#,                  READS, "the link can be read"], init_fd),
    row(["proc-1-exe-write",   "write the program of PID 1",  r#"open("/proc/1/exe", O_WRONLY)"#,             "no O_TRUNC, and writes nothing; who starts that program meanwhile gets ETXTBSY", "it opens, or ETXTBSY: past every check"], init_exe),
    row(["proc-core-pattern",  "write core_pattern",          r#"open("/proc/sys/kernel/core_pattern", O_WRONLY)"#, OPENS, OPENED], |_| writable("/proc/sys/kernel/core_pattern", None)),
    row(["proc-modprobe",      "write modprobe",              r#"open("/proc/sys/kernel/modprobe", O_WRONLY)"#, OPENS, OPENED], |_| writable("/proc/sys/kernel/modprobe", None)),
    row(["proc-sysctl-kernel", "write randomize_va_space",    r#"open("/proc/sys/kernel/randomize_va_space", O_WRONLY)"#, OPENS, OPENED], |_| writable("/proc/sys/kernel/randomize_va_space", None)),
    row(["proc-sysctl-vm",     "write drop_caches",           r#"open("/proc/sys/vm/drop_caches", O_WRONLY)"#, OPENS, OPENED], |_| writable("/proc/sys/vm/drop_caches", None)),
    row(["proc-sysctl-fs",     "write file-max",              r#"open("/proc/sys/fs/file-max", O_WRONLY)"#,   OPENS, OPENED], |_| writable("/proc/sys/fs/file-max", None)),
    row(["proc-sysctl-net",    "write ip_forward",            r#"open("/proc/sys/net/ipv4/ip_forward", O_WRONLY)"#, OPENS, "it opens; of the room's own net namespace: CONTAINED"], |f| writable("/proc/sys/net/ipv4/ip_forward", Some((f.netns, "net")))),
    row(["proc-sysctl-user",   "write max_user_namespaces",   r#"open("/proc/sys/user/max_user_namespaces", O_WRONLY)"#, OPENS, "it opens; of the room's own user namespace: CONTAINED"], |f| writable("/proc/sys/user/max_user_namespaces", Some((f.userns, "user")))),
    row(["proc-sysrq",         "write sysrq-trigger",         r#"open("/proc/sysrq-trigger", O_WRONLY)"#,     OPENS, OPENED], |_| writable("/proc/sysrq-trigger", None)),
    row(["proc-mtrr",          "write mtrr",                  r#"open("/proc/mtrr", O_WRONLY)"#,              OPENS, OPENED], |_| writable("/proc/mtrr", None)),
    row(["proc-irq",           "write irq affinity",          r#"open("/proc/irq/default_smp_affinity", O_WRONLY)"#, OPENS, OPENED], |_| writable("/proc/irq/default_smp_affinity", None)),
    row(["proc-kcore",         "read kernel memory",          r#"open("/proc/kcore"); read 16 bytes"#,        READS, "bytes come"], |_| readable("/proc/kcore")),
    row(["proc-kpageflags",    "read page flags",             r#"open("/proc/kpageflags"); read 16 bytes"#,   READS, "bytes come"], |_| readable("/proc/kpageflags")),
    row(["proc-kmsg",          "open /proc/kmsg",             r#"open("/proc/kmsg", O_RDONLY|O_NONBLOCK)"#,   "reads nothing: that would take messages away", "it opens"], kmsg),
    row(["proc-kallsyms",      "addresses of the kernel",     r#"open("/proc/kallsyms"); read"#,              READS, "an address that is not 0; all 0: REDACTED"], |_| address("/proc/kallsyms")),
    row(["proc-iomem",         "physical memory map",         r#"open("/proc/iomem"); read"#,                 READS, "an address that is not 0; all 0: REDACTED"], |_| address("/proc/iomem")),
    row(["proc-vmallocinfo",   "kernel allocations",          r#"open("/proc/vmallocinfo"); read 16 bytes"#,  READS, "bytes come"], |_| readable("/proc/vmallocinfo")),
    row(["proc-slabinfo",      "kernel slabs",                r#"open("/proc/slabinfo"); read 16 bytes"#,     READS, "bytes come"], |_| readable("/proc/slabinfo")),
    row(["proc-timer-list",    "kernel timers",               r#"open("/proc/timer_list"); read 16 bytes"#,   READS, "bytes come"], |_| readable("/proc/timer_list")),
    row(["proc-boot-id",       "boot id of the host",         r#"open("/proc/sys/kernel/random/boot_id"); read"#, READS, SAME], |f| known(f, "bootid")).open("not namespaced: tells one boot of the host from another"),
    row(["proc-cmdline",       "command line of the kernel",  r#"open("/proc/cmdline"); read"#,               READS, SAME], |f| known(f, "cmdline")).open("not namespaced: how the host was booted"),
    row(["proc-config",        "configuration of the kernel", r#"open("/proc/config.gz"); read 16 bytes"#,    READS, "bytes come"], |_| readable("/proc/config.gz")).open("not namespaced: how the kernel was built"),
    row(["proc-diskstats",     "disks of the host",           r#"open("/proc/diskstats"); read"#,             READS, "a disk is listed"], |_| listed("/proc/diskstats")).open("not namespaced: the host's disks and what they do"),
    row(["proc-interrupts",    "interrupts of the host",      r#"open("/proc/interrupts"); read"#,            READS, "a counter can be seen"], |_| told("/proc/interrupts", "CPU0")).open("not namespaced: the host's devices and what they do"),
    row(["proc-version",       "build of the kernel",         r#"open("/proc/version"); read"#,               READS, SAME], |f| known(f, "version")).open("not namespaced: uname tells it too"),
    row(["proc-cpuinfo",       "processors of the host",      r#"open("/proc/cpuinfo"); read"#,               READS, "the processors are those of the host"], |f| known(f, "cpuinfo")).open("not namespaced: programs ask how many there are; cpuid tells the model"),
    row(["proc-meminfo",       "memory of the host",          r#"open("/proc/meminfo"); read"#,               READS, "MemTotal is that of the host"], |f| known(f, "meminfo")).open("not namespaced: allocators and free(1) ask; sysinfo tells it too"),
    row(["proc-zoneinfo",      "memory zones of the host",    r#"open("/proc/zoneinfo"); read"#,              READS, "nodes and the size of zones are those of the host"], |f| known(f, "zoneinfo")).open("not namespaced: how full each node of the host is"),
    row(["proc-partitions",    "partitions of the host",      r#"open("/proc/partitions"); read"#,            READS, SAME], |f| known(f, "partitions")).open("not namespaced: names and sizes of the host's disks"),
    row(["proc-stat",          "what the processors do",      r#"open("/proc/stat"); read"#,                  READS, "the count of processes made goes on from the host's"], |f| known(f, "forks")).open("not namespaced: load of the host, how many processes it makes"),
    row(["proc-vmstat",        "what the memory does",        r#"open("/proc/vmstat"); read"#,                READS, "the count of page faults goes on from the host's"], |f| known(f, "faults")).open("not namespaced: paging of the host"),
    row(["proc-loadavg",       "load of the host",            r#"open("/proc/loadavg"); read"#,               READS, "it counts more threads than /proc shows, or /proc is the host's"], load).open("not namespaced: load of the host, how many threads it has"),
    row(["proc-locks",         "file locks of the host",      r#"open("/proc/locks"); read"#,                 READS, "the lock of the fixture process is in the list"], locks).needs(&[Fixture::Victim]),
    row(["proc-key-users",     "who has how many keys",       r#"open("/proc/key-users"); read"#,             READS, "an id is in the list; empty: REDACTED"], |_| told("/proc/key-users", ":")),
    row(["proc-cgroup",        "cgroup on the host",          r#"open("/proc/self/cgroup"); read"#,           READS, "it names the harness's path, or the cgroup namespace is the host's"], cgroup_path),
    row(["proc-ns",            "namespaces of the host",      r#"readlink("/proc/self/ns/…") x 7"#,            READS, "one of them has the inode of the host's"], namespaces),
    row(["proc-1-cmdline",     "command line of PID 1",       r#"open("/proc/1/cmdline"); read"#,             READS, "it is that of the host's PID 1"], |f| known(f, "init")),
    row(["proc-net-host",      "connections of the host",     r#"open("/proc/net/tcp"); read"#,               READS, "the port of the fixture is in the list"], connections).needs(&[Fixture::Tcp]),
    row(["proc-net-unix",      "UNIX sockets of the host",    r#"open("/proc/net/unix"); read"#,              READS, "the name of the fixture is in the list"], unix_sockets).needs(&[Fixture::Abstract]),
    row(["proc-oom-adj",       "escape the OOM killer",       r#"write("/proc/self/oom_score_adj", "-1000")"#, "of this process only", "reads back -1000"], oom),
    row(["sys-notes",          "kernel notes in /sys",        r#"open("/sys/kernel/notes"); read 16 bytes"#,  READS, "bytes come"], |_| readable("/sys/kernel/notes")),
    row(["sys-btf",            "types of the kernel",         r#"open("/sys/kernel/btf/vmlinux"); read 16 bytes"#, READS, "bytes come"], |_| readable("/sys/kernel/btf/vmlinux")),
    row(["sys-vmcoreinfo",     "where the crash notes are",   r#"open("/sys/kernel/vmcoreinfo"); read 16 bytes"#, READS, "bytes come"], |_| readable("/sys/kernel/vmcoreinfo")),
    row(["sys-block",          "list disks in /sys",          r#"open("/sys/block", O_DIRECTORY); getdents64"#, READS, "an entry can be seen"], |_| entries("/sys/block")),
    row(["sys-net",            "list links in /sys",          r#"open("/sys/class/net", O_DIRECTORY); getdents64"#, READS, "an entry can be seen"], |_| entries("/sys/class/net")),
    row(["sys-uevent",         "write a uevent",              r#"open("/sys/devices/virtual/mem/null/uevent", O_WRONLY)"#, OPENS, OPENED], |_| writable("/sys/devices/virtual/mem/null/uevent", None)),
    row(["sys-cgroup-procs",   "write cgroup.procs",          r#"open("/sys/fs/cgroup{,/unified}/cgroup.procs", O_WRONLY)"#, OPENS, OPENED], |_| cgroup("cgroup.procs")),
    row(["sys-release-agent",  "write release_agent",         r#"open("/sys/fs/cgroup/*/release_agent", O_WRONLY)"#, OPENS, OPENED], |_| cgroup("release_agent")),
];

fn read_pid2(facts: &Facts) -> Outcome {
    if facts.pid2 == Some(Pid2::Absent) {
        return Outcome::SKIP.note("the host has no pid 2");
    }
    match read_text("/proc/2/status") {
        Ok(status) => judge_status(&status, facts.pid2.as_ref()),
        Err(e) => refused(Errno::from(e), proc_works()),
    }
}

fn judge_status(status: &str, host: Option<&Pid2>) -> Outcome {
    match (host, pid_identity(status)) {
        (Some(Pid2::Is(host)), Some(identity)) if *host == identity => Outcome::ALLOWED,
        (_, None) => Outcome::INCONCLUSIVE.note("not the status of a process"),
        (Some(_), Some(_)) => Outcome::BLOCKED.note("own pid 2"),
        (None, Some(_)) => Outcome::INCONCLUSIVE.note(NOT_COMPARED),
    }
}

/// No pid 2 in a proc that works is the plain answer of a pid namespace; only a missing proc is worth a note.
fn refused(errno: Errno, proc_works: bool) -> Outcome {
    let outcome = Outcome::BLOCKED.errno(errno);
    if errno == Errno(libc::ENOENT) && !proc_works { outcome.note(NOT_PRESENT) } else { outcome }
}

/// Opens for writing, and writes nothing. What belongs to a namespace of the room's own is not the host's.
fn writable(path: &str, own: Option<(Option<u64>, &str)>) -> Tried {
    OpenOptions::new().write(true).open(path).map_err(|e| super::refused(path, e))?;
    Ok(own.map_or(Outcome::ALLOWED, |(host, kind)| unless_own(host, kind)))
}

fn readable(path: &str) -> Tried {
    let mut file = File::open(path).map_err(|e| super::refused(path, e))?;
    match file.read(&mut [0; 16])? {
        0 => Ok(Outcome::REDACTED.note("empty")),
        _ => Ok(Outcome::ALLOWED),
    }
}

fn told(path: &str, word: &str) -> Tried {
    let text = read_text(path).map_err(|e| super::refused(path, e))?;
    if text.contains(word) { Ok(Outcome::ALLOWED) } else { Ok(Outcome::REDACTED) }
}

/// A line per disk: two numbers and a name.
fn listed(path: &str) -> Tried {
    let text = read_text(path).map_err(|e| super::refused(path, e))?;
    if text.trim().is_empty() { Ok(Outcome::REDACTED) } else { Ok(Outcome::ALLOWED) }
}

fn entries(dir: &str) -> Tried {
    let mut names = fs::read_dir(dir).map_err(|e| super::refused(dir, e))?;
    happened(names.next().is_some())
}

/// Lines start with a hexadecimal address, 0 for whoever may not know it.
fn address(path: &str) -> Tried {
    let file = File::open(path).map_err(|e| super::refused(path, e))?;
    let mut start = Vec::new();
    file.take(16384).read_to_end(&mut start)?;
    let text = String::from_utf8_lossy(&start);
    let starts = text.lines().map(|line| line.trim_start());
    let mut firsts = starts.map(|line| line.split(|c: char| !c.is_ascii_hexdigit()).next());
    // The end of a range would be 0 too; the second line, as the first range may start at 0.
    match firsts.any(|hex| hex.is_some_and(|hex| hex.bytes().any(|byte| byte != b'0'))) {
        true => Ok(Outcome::ALLOWED),
        false => Ok(Outcome::REDACTED),
    }
}

/// The same as on the host, or gone on from where the host was when the harness looked.
fn known(facts: &Facts, key: &str) -> Tried {
    let file = FILES.iter().find(|file| file.key == key);
    let file = file.ok_or(Outcome::INCONCLUSIVE.note("no such fact"))?;
    let Some(here) = file.read().map_err(|e| super::refused(file.path, e))? else {
        return Ok(Outcome::REDACTED);
    };
    let Some(host) = facts.files.get(key) else {
        return Ok(Outcome::INCONCLUSIVE.note(NOT_COMPARED));
    };
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    let is_hosts = if file.grows { number(&here) >= number(host) } else { here == *host };
    match is_hosts {
        true => Ok(Outcome::ALLOWED),
        false => Ok(Outcome::CONTAINED.note(super::ANOTHER_FILE)),
    }
}

fn init_root(facts: &Facts) -> Tried {
    let file = outside_file(facts, "open")?;
    seen(facts, &fs::read(format!("/proc/1/root{}", file.display()))?)
}

fn init_fd(_: &Facts) -> Tried {
    fs::read_link("/proc/1/fd/0")?;
    Ok(Outcome::ALLOWED)
}

fn init_exe(_: &Facts) -> Tried {
    match OpenOptions::new().write(true).open("/proc/1/exe") {
        Ok(_) => Ok(Outcome::ALLOWED),
        Err(e) if e.raw_os_error() == Some(libc::ETXTBSY) => {
            Ok(Outcome::ALLOWED.note("ETXTBSY, past the permission check"))
        }
        Err(e) => Err(e.into()),
    }
}

fn kmsg(_: &Facts) -> Tried {
    let path = "/proc/kmsg";
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    opened.map_err(|e| super::refused(path, e))?;
    Ok(Outcome::ALLOWED)
}

/// The second column is ADDRESS:PORT, hexadecimal.
fn connections(facts: &Facts) -> Tried {
    let port: u16 = at(facts, Fixture::Tcp)?.parse().unwrap_or(0);
    let local = format!("0100007F:{port:04X}");
    let table = read_text("/proc/net/tcp")?;
    match table.contains(&local) {
        true => Ok(Outcome::ALLOWED),
        false => Ok(Outcome::CONTAINED.note("the room's own list")),
    }
}

fn unix_sockets(facts: &Facts) -> Tried {
    let name = format!("@{}", at(facts, Fixture::Abstract)?);
    match read_text("/proc/net/unix")?.contains(&name) {
        true => Ok(Outcome::ALLOWED),
        false => Ok(Outcome::CONTAINED.note("the room's own list")),
    }
}

/// Fields: three averages, RUNNING/THREADS, the last pid. Of its own pid namespace a room sees its own threads only.
fn load(facts: &Facts) -> Tried {
    let text = read_text("/proc/loadavg").map_err(|e| super::refused("/proc/loadavg", e))?;
    let counted = text.split(' ').nth(3).and_then(|field| field.split_once('/')?.1.parse().ok());
    let counted: usize = counted.ok_or(Outcome::INCONCLUSIVE.note("no count"))?;
    let threads =
        |dir: fs::DirEntry| fs::read_dir(dir.path().join("task")).map_or(0, Iterator::count);
    let shown: usize = fs::read_dir("/proc")?.flatten().map(threads).sum();
    let is_hosts = unless_own(facts.pidns, "pid").verdict == Verdict::Allowed;
    match is_hosts || counted > shown {
        true => Ok(Outcome::ALLOWED),
        false => Ok(Outcome::CONTAINED.note("it counts what /proc shows")),
    }
}

/// `1: FLOCK ADVISORY WRITE PID DEVICE:INODE 0 EOF`. proc_locks(5): whoever has no pid here is left out.
fn locks(facts: &Facts) -> Tried {
    let pid = super::victim::pid(facts)?.0.to_string();
    let table = read_text("/proc/locks").map_err(|e| super::refused("/proc/locks", e))?;
    let is_it = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(1) == Some(&"FLOCK") && fields.get(4) == Some(&pid.as_str())
    };
    match table.lines().any(is_it) {
        true => Ok(Outcome::ALLOWED),
        false => Ok(Outcome::CONTAINED.note("the room's own list")),
    }
}

/// In the root of every hierarchy there is no path to be told: then the namespace decides.
fn cgroup_path(facts: &Facts) -> Tried {
    let own = cgroups().map_err(|e| super::refused("/proc/self/cgroup", e))?;
    let host = facts.cgroup.as_deref().filter(|path| *path != "/");
    match host.is_some_and(|host| own.iter().any(|path| path.starts_with(host))) {
        true => Ok(Outcome::ALLOWED),
        false => Ok(unless_own(facts.cgroupns, "cgroup")),
    }
}

fn namespaces(facts: &Facts) -> Tried {
    let Facts { mntns, pidns, netns, ipcns, utsns, cgroupns, userns, .. } = *facts;
    let kinds = ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user"];
    let hosts = [mntns, pidns, netns, ipcns, utsns, cgroupns, userns];
    let all = kinds.into_iter().zip(hosts).map(|(kind, host)| (kind, unless_own(host, kind)));
    let shared: Vec<&str> = all
        .filter(|(_, outcome)| outcome.verdict == Verdict::Allowed)
        .map(|(kind, _)| kind)
        .collect();
    match shared.is_empty() {
        true => Ok(Outcome::CONTAINED.note("the room's own")),
        false => Ok(Outcome::ALLOWED.note(shared.join(" "))),
    }
}

fn oom(_: &Facts) -> Tried {
    let path = "/proc/self/oom_score_adj";
    OpenOptions::new().write(true).open(path)?.write_all(b"-1000")?;
    happened(fs::read_to_string(path).map_err(doubt("read back"))?.trim() == "-1000")
}

const CGROUPS: &str = "/sys/fs/cgroup";

/// The hierarchy may be at the top, or beneath it beside those of v1. Who may not list them is refused: only a list
/// without it says that there is none.
fn cgroup(name: &str) -> Tried {
    let at_top = Path::new(CGROUPS).join(name);
    if !is_absent(&at_top) {
        return writable(&at_top.to_string_lossy(), None);
    }
    let beneath = fs::read_dir(CGROUPS).map_err(|e| super::refused(CGROUPS, e))?;
    let mut found = beneath.flatten().map(|entry| entry.path().join(name));
    match found.find(|path| !is_absent(path)) {
        Some(path) => writable(&path.to_string_lossy(), None),
        None => Ok(Outcome::BLOCKED.errno(Errno(libc::ENOENT)).note(NOT_PRESENT)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KTHREADD: &str = "Name:\tkthreadd\nPPid:\t0\nNSpid:\t2\n";

    #[test]
    fn only_the_hosts_own_pid_2_counts() {
        let host = Pid2::Is("kthreadd/0/2".into());
        assert_eq!(judge_status(KTHREADD, Some(&host)), Outcome::ALLOWED);
        let own = "Name:\tsh\nPPid:\t1\nNSpid:\t2\n";
        assert_eq!(judge_status(own, Some(&host)), Outcome::BLOCKED.note("own pid 2"));
        assert_eq!(judge_status(KTHREADD, None), Outcome::INCONCLUSIVE.note(NOT_COMPARED));
        assert_eq!(judge_status("", Some(&host)).verdict, crate::Verdict::Inconclusive);
    }

    #[test]
    fn a_host_without_pid_2_cannot_be_asked() {
        let facts = Facts { pid2: Some(Pid2::Absent), ..Facts::default() };
        assert_eq!(read_pid2(&facts), Outcome::SKIP.note("the host has no pid 2"));
    }

    #[test]
    fn a_missing_process_is_not_a_missing_proc() {
        let missing = Outcome::BLOCKED.errno(Errno(libc::ENOENT));
        assert_eq!(refused(Errno(libc::ENOENT), true), missing);
        assert_eq!(refused(Errno(libc::ENOENT), false), missing.note(NOT_PRESENT));
        assert_eq!(
            refused(Errno(libc::EACCES), false),
            Outcome::BLOCKED.errno(Errno(libc::EACCES))
        );
    }
}
