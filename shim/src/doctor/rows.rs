//! The rows, in the reader's order: what a room stands on first. namespaces(7), mount(2),
//! landlock(7), seccomp(2), capabilities(7), cgroups(7).

use std::fs;
use std::path::{Path, PathBuf};

use agent_init::error::Errno;
use agent_init::landlock::LEAST_ABI;
use agent_probe::errno_name;

use super::experiment::{INNER_MAPS, MAPS, NNP, Outcome, PRIVATE, Step, USERNS, USERNS_FD};
use super::facts::{ASKED, mount_points, number, text};
use super::{Finding, Host, Row, State, seen};
use crate::{image, room, sys};

const fn row(name: &'static str, lost: &'static str, ask: fn(&Host) -> Finding) -> Row {
    Row { name, lost, ask }
}

/// Every feature.
#[rustfmt::skip] // a row a line
pub const ROWS: &[Row] = &[
    row("kernel",                  "full: 6.12, the rest: 5.12",     kernel),
    row("outside a container",     "nothing by itself",              container),
    row("outside a chroot",        "every profile but none",         chroot),
    row("no filter around us",     "what the filter refuses",        unfiltered),
    row("no Landlock around us",   "every profile but none",         undomained),
    row("user namespace",          "every profile but none",         userns),
    row("user ns: unshare",        "every profile but none",         userns_by_unshare),
    row("user ns in a user ns",    "every profile but none",         nested),
    row("mnt namespace",           "layer mnt",                      |h| kind(h, "mnt", UNSHARE_MNT)),
    row("pid namespace",           "layer pid",                      |h| kind(h, "pid", UNSHARE_PID)),
    row("net namespace",           "layer net",                      |h| kind(h, "net", UNSHARE_NET)),
    row("ipc namespace",           "layer ipc",                      |h| kind(h, "ipc", UNSHARE_IPC)),
    row("uts namespace",           "layer uts",                      |h| kind(h, "uts", UNSHARE_UTS)),
    row("cgroup namespace",        "layer cgroup",                   |h| kind(h, "cgroup", UNSHARE_CGROUP)),
    row("tmpfs in a user ns",      "layer mnt: the root of a room",  |h| h.tried("mounted in a user namespace", USER | MNT, TMPFS)),
    row("proc in a pid ns",        "layer pid",                      |h| h.tried("mounted in a pid namespace", USER | MNT | PID, PROC)),
    row("devpts in a user ns",     "/dev/pts of a room, --tty",      |h| h.tried("mounted, a terminal opened", USER | MNT, DEVPTS)),
    row("device nodes",            "/dev of a room",                 devices),
    row("new mount API",           "layer mnt",                      |h| h.tried("fsopen, move_mount, open_tree", USER | MNT, MOUNT_API)),
    row("mount_setattr",           "layer mnt: read-only binds",     |h| h.tried("a mount made read-only", USER | MNT, SETATTR)),
    row("overlayfs in a user ns",  "--overlay",                      |h| h.tried("mounted, a file copied up", USER | MNT, OVERLAY)),
    row("idmapped tmpfs",          "nothing yet",                    |h| h.tried("mount_setattr with a map", USER | MNT, IDMAP_TMPFS)),
    row("idmapped mount of .",     "root: the workspace's owner",    idmap_here),
    row("Landlock",                "profiles landlock and full",     landlock),
    row("Landlock ABI 1",          "files and directories",          |h| abi(h, 1, "5.13")),
    row("Landlock ABI 2",          "renames across directories",     |h| abi(h, 2, "5.19")),
    row("Landlock ABI 3",          "truncate",                       |h| abi(h, 3, "6.2")),
    row("Landlock ABI 4",          "TCP bind and connect",           |h| abi(h, 4, "6.7")),
    row("Landlock ABI 5",          "ioctl of devices",               |h| abi(h, 5, "6.10")),
    row("Landlock ABI 6",          "scopes of signals and sockets",  |h| abi(h, 6, "6.12")),
    row("Landlock ABI 7",          "nothing: audit flags",           |h| abi(h, 7, "6.15")),
    row("Landlock ABI 8",          "nothing: all threads at once",   |h| abi(h, 8, "7.0")),
    row("Landlock ABI 9",          "nothing yet: path sockets",      |h| abi(h, 9, "7.1")),
    row("Landlock ABI 10",         "nothing yet: UDP, quiet rules",  |h| abi(h, 10, "7.2")),
    row("no_new_privs",            "layer nnp: landlock and full",   |h| h.tried("set and read back", 0, SET_NNP)),
    row("seccomp filter",          "layer seccomp: full",            |h| h.tried("set and read back", 0, FILTER)),
    row("seccomp actions",         "layer seccomp: full",            actions),
    row("capabilities",            "root: rooms as 65534",           capabilities),
    row("clone3",                  "every room",                     |h| call(h, "clone3", "5.3")),
    row("pidfd_send_signal",       "every room",                     |h| call(h, "pidfd_send_signal", "5.1")),
    row("pidfd_open",              "nothing yet",                    |h| call(h, "pidfd_open", "5.3")),
    row("close_range",             "every room",                     |h| call(h, "close_range", "5.9")),
    row("openat2",                 "--bind: a pinned source",        |h| call(h, "openat2", "5.6")),
    row("programs in memfds",      "every room",                     memfd),
    row("keyrings",                "a session keyring of its own",   keyrings),
    row("cgroup pids",             "--pids, but by rlimit",          |h| cgroup(h, "pids")),
    row("cgroup memory",           "--memory, but a process",        |h| cgroup(h, "memory")),
    row("cgroup cpu",              "--cpus",                         |h| cgroup(h, "cpu")),
    row("systemd user scope",      "a cgroup for ordinary users",    user_scope),
    row("open files (rlimit)",     "--nofile, many rooms at once",   nofile),
    row("processes (rlimit)",      "many rooms at once",             nproc),
];

pub(super) const USER: u64 = flag(libc::CLONE_NEWUSER);
pub(super) const MNT: u64 = flag(libc::CLONE_NEWNS);
const PID: u64 = flag(libc::CLONE_NEWPID);

const fn flag(flag: i32) -> u64 {
    flag.cast_unsigned() as u64
}

// -- The steps of the experiments ----------------------------------------------------------------

const fn unshare<const FLAG: i32>(call: &'static str) -> [Step; 2] {
    [MAPS, (call, |_| sys::unshare(flag(FLAG)))]
}

const UNSHARE_MNT: &[Step] = &unshare::<{ libc::CLONE_NEWNS }>("unshare(CLONE_NEWNS)");
const UNSHARE_PID: &[Step] = &unshare::<{ libc::CLONE_NEWPID }>("unshare(CLONE_NEWPID)");
const UNSHARE_NET: &[Step] = &unshare::<{ libc::CLONE_NEWNET }>("unshare(CLONE_NEWNET)");
const UNSHARE_IPC: &[Step] = &unshare::<{ libc::CLONE_NEWIPC }>("unshare(CLONE_NEWIPC)");
const UNSHARE_UTS: &[Step] = &unshare::<{ libc::CLONE_NEWUTS }>("unshare(CLONE_NEWUTS)");
const UNSHARE_CGROUP: &[Step] = &unshare::<{ libc::CLONE_NEWCGROUP }>("unshare(CLONE_NEWCGROUP)");

const UNSHARE_USER: &[Step] = &[("unshare(CLONE_NEWUSER)", |_| sys::unshare(USER)), MAPS];
const NESTED: &[Step] =
    &[MAPS, ("unshare(inner CLONE_NEWUSER)", |_| sys::unshare(USER | MNT)), INNER_MAPS];

/// Over the root of the child's own mount namespace: it is there whatever else is not.
const MOUNT_TMPFS: Step =
    ("mount(tmpfs)", |_| sys::mount(c"tmpfs", c"/", c"tmpfs", libc::MS_NOSUID, c""));
const TMPFS: &[Step] = &[MAPS, PRIVATE, MOUNT_TMPFS];
/// A security module that refuses mounts refuses the tmpfs too; a covered proc does not.
const PROC: &[Step] = &[
    MAPS,
    PRIVATE,
    MOUNT_TMPFS,
    ("mount(proc)", |_| {
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        sys::mount(c"proc", c"/", c"proc", flags, c"")
    }),
];

/// A tmpfs over the root, and the working directory in it.
const ENTER_TMPFS: Step = ("move_mount(tmpfs)", |_| {
    let fd = sys::detached(c"tmpfs", &[(c"mode", c"0755")], 0)?;
    sys::attach(fd, c"/")?;
    sys::fchdir(fd)
});
/// What open_tree makes of the working directory: attached nowhere.
fn copy_of_here() -> Result<i32, Errno> {
    sys::clone_tree(sys::open(c".", libc::O_PATH)?, false)
}

const DEVPTS: &[Step] = &[
    MAPS,
    PRIVATE,
    ENTER_TMPFS,
    ("mount(devpts)", |_| {
        sys::mkdir(c"pts", 0o755)?;
        let options = c"newinstance,ptmxmode=0666,mode=620,max=64";
        sys::mount(c"devpts", c"pts", c"devpts", libc::MS_NOSUID | libc::MS_NOEXEC, options)
    }),
    ("open(pts/ptmx)", |_| sys::open(c"pts/ptmx", libc::O_RDWR | libc::O_NOCTTY).map(drop)),
];
const MOUNT_API: &[Step] = &[
    MAPS,
    PRIVATE,
    ("fsopen(tmpfs)", |_| sys::detached(c"tmpfs", &[], 0).map(drop)),
    ENTER_TMPFS,
    ("open_tree(.)", |_| copy_of_here().map(drop)),
];
const SETATTR: &[Step] = &[
    MAPS,
    PRIVATE,
    ENTER_TMPFS,
    ("mount_setattr(RDONLY)", |_| sys::set_tree(sys::open(c".", libc::O_PATH)?, sys::RDONLY, None)),
    ("mkdir(read-only)", |_| match sys::mkdir(c"x", 0o755) {
        Err(errno) if i32::from(errno.0) == libc::EROFS => Ok(()),
        Err(errno) => Err(errno),
        Ok(()) => Err(Errno(0)),
    }),
];
const OVERLAY: &[Step] = &[
    MAPS,
    PRIVATE,
    ENTER_TMPFS,
    ("mkdir(lower, upper, work)", |_| {
        for dir in [c"lower", c"upper", c"work", c"merged"] {
            sys::mkdir(dir, 0o755)?;
        }
        sys::make_file(c"lower/file")
    }),
    ("fsopen(overlay)", |_| {
        let options = [
            (c"lowerdir", c"lower"),
            (c"upperdir", c"upper"),
            (c"workdir", c"work"),
            (c"userxattr", c""),
        ];
        sys::attach(sys::detached(c"overlay", &options, 0)?, c"merged")
    }),
    ("open(merged/file)", |_| sys::open(c"merged/file", libc::O_WRONLY).map(drop)),
    ("open(upper/file)", |_| sys::open(c"upper/file", libc::O_RDONLY).map(drop)),
];
const IDMAP_TMPFS: &[Step] = &[
    MAPS,
    PRIVATE,
    USERNS,
    ("mount_setattr(idmap, tmpfs)", |_| {
        sys::set_tree(sys::detached(c"tmpfs", &[], 0)?, 0, Some(USERNS_FD))
    }),
];
/// As root of the host: only who has mounted a file system may map it.
const IDMAP_HERE: &[Step] = &[
    PRIVATE,
    USERNS,
    ("open_tree(.)", |_| copy_of_here().map(drop)),
    ("mount_setattr(idmap, .)", |_| sys::set_tree(copy_of_here()?, 0, Some(USERNS_FD))),
];

const SET_NNP: &[Step] = &[
    NNP,
    ("prctl(PR_GET_NO_NEW_PRIVS)", |_| match agent_init::sys::has_no_new_privs()? {
        true => Ok(()),
        false => Err(Errno(0)),
    }),
];
const FILTER: &[Step] = &[
    NNP,
    ("seccomp(SET_MODE_FILTER)", |_| agent_init::sys::set_filter(&agent_init::bpf::AGENT_PROGRAM)),
    // The filter of a room refuses this one, and says that it is in force.
    ("unshare(0)", |_| match agent_init::sys::unshare_nothing() {
        Err(Errno::EPERM) => Ok(()),
        other => other.and(Err(Errno(0))),
    }),
];
/// A domain that names no file: the root can no longer be listed.
const LANDLOCK: &[Step] = &[
    NNP,
    ("landlock_create_ruleset", |_| {
        let handled = agent_init::landlock::Access::READ_DIR.bits();
        let ruleset = agent_init::sys::landlock_create_ruleset(&[handled])?;
        agent_init::sys::landlock_restrict_self(ruleset)
    }),
    ("open(/)", |_| match sys::open(c"/", libc::O_RDONLY | libc::O_DIRECTORY) {
        Err(Errno::EACCES) => Ok(()),
        Err(errno) => Err(errno),
        Ok(_) => Err(Errno(0)),
    }),
];
const KEYRING: &[Step] = &[
    ("keyctl(JOIN_SESSION_KEYRING)", |_| sys::join_session_keyring().map(drop)),
    ("keyctl(GET_KEYRING_ID)", |_| sys::session_keyring().map(drop)),
];

// -- Kernel and surroundings ---------------------------------------------------------------------

fn kernel(host: &Host) -> Finding {
    let facts = &host.facts;
    let measured = format!("uname: {} {}", facts.release, std::env::consts::ARCH);
    match facts.version {
        (0, 0) => Finding::new(State::Unknown, "uname"),
        old if old < (5, 12) => Finding::new(State::No, measured)
            .because("no mount_setattr before Linux 5.12", "a newer kernel"),
        // Distributions take features back to older kernels: the rows below tell.
        _ => Finding::yes(measured),
    }
}

fn container(host: &Host) -> Finding {
    let facts = &host.facts;
    if facts.is_first_userns && facts.is_first_pidns {
        return Finding::yes("user and pid ns: first inodes");
    }
    let other = |is_first: bool, name| if is_first { None } else { Some(name) };
    let kinds =
        [other(facts.is_first_userns, "user"), other(facts.is_first_pidns, "pid")].into_iter();
    let kinds: Vec<_> = kinds.flatten().collect();
    let markers = ["/.dockerenv", "/run/.containerenv"];
    let marker = markers.iter().find(|m| Path::new(m).exists());
    let hint = marker.map_or(String::new(), |m| format!("; hint: {m}"));
    let measured = format!("inode: another {} namespace{hint}", kinds.join(" and "));
    Finding::new(State::No, measured).because(
        "in namespaces of somebody else, whose limits and filters hold here too",
        "nothing is to be done unless a row below says so",
    )
}

fn chroot(host: &Host) -> Finding {
    if host.facts.is_chroot {
        return Finding::new(State::No, "mountinfo: / is no mount point").because(
            "the root directory is a chroot, in which no user namespace can be made",
            "enter that directory by pivot_root or unshare --mount --root instead of chroot",
        );
    }
    match mount_points(&text("/proc/self/mountinfo")).next() {
        Some(_) => Finding::yes("mountinfo: / is a mount point"),
        None => Finding::new(State::Unknown, "/proc/self/mountinfo cannot be read"),
    }
}

fn unfiltered(host: &Host) -> Finding {
    let filtered = &host.facts.filtered;
    if !filtered.is_empty() {
        let measured = "calls that cannot succeed, answered otherwise than by the kernel";
        return Finding::new(State::No, measured).because(
            format!("a seccomp filter around this process refuses: {}", filtered.join(", ")),
            "of the outer container: docker run --security-opt seccomp=unconfined, podman the same",
        );
    }
    match agent_init::sys::seccomp_mode() {
        Ok(0) => Finding::yes("PR_GET_SECCOMP: 0"),
        Ok(_) => Finding::new(
            State::Limited,
            format!("PR_GET_SECCOMP: 2; none of {ASKED} calls of rooms is refused"),
        ),
        Err(errno) => {
            Finding::new(State::Unknown, format!("prctl(PR_GET_SECCOMP): {}", name(errno)))
        }
    }
}

fn undomained(host: &Host) -> Finding {
    match host.facts.domains {
        Some(0) => Finding::yes("16 of 16 domains can be added"),
        Some(domains) => Finding::new(
            State::No,
            format!("{} of 16 domains can be added", 16_usize.saturating_sub(domains)),
        )
        .because(
            format!("this process is in {domains} Landlock domain(s), which refuse every mount"),
            "start it outside of that sandbox",
        ),
        None => match agent_init::sys::landlock_abi() {
            Err(Errno::ENOSYS | Errno::EOPNOTSUPP)
                if !host.facts.is_filtered("landlock_create_ruleset") =>
            {
                Finding::yes("no Landlock in this kernel")
            }
            _ => Finding::new(State::Unknown, "no domain can be added, or none counted"),
        },
    }
}

// -- Namespaces ----------------------------------------------------------------------------------

fn userns(host: &Host) -> Finding {
    host.judged("clone, uid_map, a mount ns in it", host.base)
}

fn userns_by_unshare(host: &Host) -> Finding {
    host.judged("unshare, uid_map", host.run(0, UNSHARE_USER))
}

fn nested(host: &Host) -> Finding {
    host.tried("unshare in a new one, uid_map", USER | MNT | PID, NESTED)
}

/// One kind of namespace. A limit of this kind is named with its sysctl.
fn kind(host: &Host, name: &'static str, steps: &'static [Step]) -> Finding {
    let finding = host.tried("unshare in a user namespace", USER, steps);
    let sysctl = format!("user.max_{name}_namespaces");
    let limit = number(format!("/proc/sys/user/max_{name}_namespaces"));
    if finding.state == State::No && limit == Some(0) {
        let fix = format!("sysctl -w {sysctl}=15000");
        return finding.because(format!("{sysctl} is 0"), fix);
    }
    if finding.measured.ends_with("EINVAL") && !Path::new("/proc/self/ns").join(name).exists() {
        let why = format!("this kernel was built without: there is no /proc/self/ns/{name}");
        return finding.because(why, "a kernel with this kind of namespace");
    }
    finding
}

// -- Files ---------------------------------------------------------------------------------------

/// The harmless devices of the host that a room binds.
fn devices(_: &Host) -> Finding {
    let wrong = |node: &room::Node| match node.kind {
        room::Kind::Device(major, minor) => {
            sys::path_id(&node.path).map(|id| id.device) != Ok(Some((major, minor)))
        }
        _ => false,
    };
    let nodes = room::bare();
    let wrong: Vec<_> =
        nodes.iter().filter(|n| wrong(n)).map(|n| n.path.to_string_lossy()).collect();
    if wrong.is_empty() {
        return Finding::yes("stat: numbers as they should be");
    }
    Finding::new(State::No, format!("stat: not {}", wrong.join(", "))).because(
        "a room shows these devices of the host, and no others",
        "mknod -m 666 /dev/null c 1 3 (zero 1 5, full 1 7, random 1 8, urandom 1 9, tty 5 0)",
    )
}

fn idmap_here(host: &Host) -> Finding {
    if !host.facts.is_admin() {
        let measured = "not tried: only root of the host may map it";
        return Finding::new(State::Unknown, measured);
    }
    host.judged("mount_setattr with a map", host.run(MNT, IDMAP_HERE))
}

// -- Landlock, seccomp, capabilities -------------------------------------------------------------

fn landlock(host: &Host) -> Finding {
    let newest = agent_init::sys::landlock_abi().unwrap_or(0);
    let finding = match agent_init::sys::landlock_abi() {
        Err(Errno::EOPNOTSUPP) => {
            return Finding::new(State::No, "landlock_create_ruleset: EOPNOTSUPP").because(
                "built in, and off: it is not in the list of security modules",
                "kernel parameter lsm=landlock,… (the list of /sys/kernel/security/lsm with landlock before it)",
            );
        }
        Err(errno) if !host.facts.is_filtered("landlock_create_ruleset") => {
            return Finding::new(State::No, format!("landlock_create_ruleset: {}", name(errno)))
                .because(
                    "this kernel was built without Landlock, or is older than 5.13",
                    "a kernel with CONFIG_SECURITY_LANDLOCK=y",
                );
        }
        _ => host.tried(&format!("ABI {newest}; / cannot be listed"), 0, LANDLOCK),
    };
    if finding.state == State::Yes && newest < LEAST_ABI {
        return Finding { state: State::Limited, ..finding }.because(
            format!("ABI {newest}; landlock and full need {LEAST_ABI}"),
            "Linux 6.12 or newer; until then --best-effort",
        );
    }
    finding
}

/// What one ABI added, since this release. A newer one than is known here has them all.
fn abi(_: &Host, abi: usize, since: &str) -> Finding {
    match agent_init::sys::landlock_abi() {
        Ok(newest) if newest >= abi => Finding::yes(format!("ABI {newest}; this since {since}")),
        Ok(newest) => Finding::new(State::No, format!("ABI {newest}"))
            .because("this kernel's Landlock is older", format!("Linux {since} or newer")),
        // The row Landlock tells why.
        Err(errno) => Finding::new(State::No, format!("landlock_create_ruleset: {}", name(errno))),
    }
}

/// SECCOMP_RET_*, include/uapi/linux/seccomp.h; the first three are used in rooms.
const ACTIONS: &[(&str, u32)] = &[
    ("kill_process", libc::SECCOMP_RET_KILL_PROCESS),
    ("errno", libc::SECCOMP_RET_ERRNO),
    ("allow", libc::SECCOMP_RET_ALLOW),
    ("kill_thread", libc::SECCOMP_RET_KILL_THREAD),
    ("trap", libc::SECCOMP_RET_TRAP),
    ("trace", libc::SECCOMP_RET_TRACE),
    ("log", libc::SECCOMP_RET_LOG),
    ("user_notif", 0x7fc0_0000),
];

fn actions(host: &Host) -> Finding {
    if host.facts.is_filtered("seccomp") {
        return Finding::new(State::Unknown, "a filter refuses seccomp");
    }
    let lacks = |(_, action): &&(&str, u32)| sys::has_action(*action).is_err();
    let missing: Vec<_> = ACTIONS.iter().filter(lacks).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Finding::yes("GET_ACTION_AVAIL: all 8");
    }
    let is_used = ACTIONS.iter().take(3).any(|(name, _)| missing.contains(name));
    let state = if is_used { State::No } else { State::Limited };
    Finding::new(state, format!("GET_ACTION_AVAIL: not {}", missing.join(", ")))
        .because("this kernel is older", "Linux 5.0 or newer has all of them")
}

/// SETGID, SETUID, SETPCAP, SYS_ADMIN, SETFCAP: what root builds a room with. capabilities(7).
const NEEDED: &[(&str, u32)] = &[("setgid", 6), ("setuid", 7), ("sys_admin", 21), ("setfcap", 31)];

fn capabilities(host: &Host) -> Finding {
    let held = host.facts.effective;
    let known = (0..64).take_while(|cap| sys::is_bounding(*cap).is_ok()).count();
    let bounding = (0..64).filter(|cap| sys::is_bounding(*cap) == Ok(true)).count();
    let measured = format!("{} of {known} held, {bounding} bounding", held.count_ones());
    let missing: Vec<_> =
        NEEDED.iter().filter(|(_, cap)| held & 1 << cap == 0).map(|(name, _)| *name).collect();
    match (host.facts.uid, missing.is_empty()) {
        // An ordinary user builds its rooms in a user namespace, without any.
        (1.., _) | (0, true) => Finding::yes(measured),
        (0, false) => Finding::new(State::Limited, measured).because(
            format!("root without {}", missing.join(", ")),
            "docker run --cap-add for each of them; or start it as an ordinary user",
        ),
    }
}

// -- Calls and limits ----------------------------------------------------------------------------

fn call(host: &Host, call: &'static str, since: &str) -> Finding {
    if host.facts.filtered.contains(&call) {
        let outcome = Outcome::Refused { call, errno: Errno::ENOSYS, after: 0 };
        let finding = host.judged("", outcome);
        return Finding { measured: "not answered by the kernel".into(), ..finding };
    }
    if host.facts.missing.contains(&call) {
        return Finding::new(State::No, "ENOSYS")
            .because("this kernel is too old", format!("Linux {since} or newer"));
    }
    Finding::yes("answered by the kernel")
}

/// A program that exits at once, in a sealed memfd, is executed.
fn memfd(host: &Host) -> Finding {
    let measured = match image::of(c"exit", &image::exit_program()) {
        Ok(image) => {
            let command = std::process::Command::new(format!(
                "/proc/self/fd/{}",
                std::os::fd::AsRawFd::as_raw_fd(&image)
            ))
            .stdin(std::process::Stdio::null())
            .status();
            match command {
                Ok(status) if status.success() => {
                    return Finding::yes("created, sealed and executed");
                }
                Ok(status) => format!("execve: {status}"),
                Err(error) => format!("execve: {}", error.kind()),
            }
        }
        Err(failure) => failure.to_string(),
    };
    let finding = Finding::new(State::No, measured);
    if host.facts.is_filtered("memfd_create") {
        return finding.because(
            "a seccomp filter around this process refuses memfd_create",
            "docker run --security-opt seccomp=unconfined, podman the same",
        );
    }
    match number("/proc/sys/vm/memfd_noexec") {
        Some(2) => finding.because("vm.memfd_noexec is 2", "sysctl -w vm.memfd_noexec=1"),
        _ => finding,
    }
}

fn keyrings(host: &Host) -> Finding {
    let outcome = host.run(0, KEYRING);
    let finding = host.judged("a session keyring joined", outcome);
    match outcome {
        Outcome::Refused { errno, .. } if i32::from(errno.0) == libc::EDQUOT => finding
            .because("this user has as many keys as it may", "sysctl -w kernel.keys.maxkeys=2000"),
        // Without any keyring there is nothing that could come along.
        Outcome::Refused { errno: Errno::ENOSYS, .. } if !host.facts.is_filtered("keyctl") => {
            Finding::new(State::No, seen(outcome))
                .because("a kernel without keyrings", "nothing is to be done")
        }
        _ => finding,
    }
}

/// Open files that a room of its own sets: `room::RLIMITS`.
fn nofile(_: &Host) -> Finding {
    limit(
        libc::RLIMIT_NOFILE,
        1024,
        "ulimit -n 4096; systemd LimitNOFILE=, docker --ulimit nofile=",
    )
}

fn nproc(_: &Host) -> Finding {
    limit(libc::RLIMIT_NPROC, 256, "ulimit -u 4096; systemd LimitNPROC=, docker --ulimit nproc=")
}

fn limit(resource: u32, least: u64, fix: &str) -> Finding {
    let shown = |n: u64| if n == u64::MAX { "unlimited".into() } else { n.to_string() };
    match agent_init::sys::get_rlimit(resource.into()) {
        Ok((soft, hard)) => {
            let measured = format!("getrlimit: {}, at most {}", shown(soft), shown(hard));
            if hard >= least {
                return Finding::yes(measured);
            }
            Finding::new(State::Limited, measured)
                .because(format!("a room would have {least}"), fix)
        }
        Err(errno) => Finding::new(State::Unknown, format!("getrlimit: {}", name(errno))),
    }
}

fn name(errno: Errno) -> String {
    errno_name(i32::from(errno.0)).into_owned()
}

// -- Control groups ------------------------------------------------------------------------------

/// The directory of the own group with this controller, and the version.
fn own_group(controller: &str) -> Option<(PathBuf, u8)> {
    let groups = text("/proc/self/cgroup");
    let mounts = text("/proc/self/mountinfo");
    for line in groups.lines() {
        // hierarchy:controllers:path; version 2 has hierarchy 0 and no controllers.
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let is_v2 = controllers.is_empty();
        if !is_v2 && !controllers.split(',').any(|c| c == controller) {
            continue;
        }
        let Some(dir) = group_dir(&mounts, path, (!is_v2).then_some(controller)) else { continue };
        if is_v2 && !has_word(&text(dir.join("cgroup.controllers")), controller) {
            continue;
        }
        return Some((dir, if is_v2 { 2 } else { 1 }));
    }
    None
}

/// Where a group can be seen: the mount of its hierarchy, and its path below the mount's root.
fn group_dir(mountinfo: &str, path: &str, v1_controller: Option<&str>) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1)?);
        let is_it = match v1_controller {
            Some(controller) => kind == "cgroup" && options.split(',').any(|o| o == controller),
            None => kind == "cgroup2",
        };
        let mut left = left.split(' ');
        let (root, at) = (left.nth(3)?, left.next()?);
        let below = if root == "/" { path } else { path.strip_prefix(root)? };
        let dir = Path::new(at).join(below.trim_start_matches('/'));
        (is_it && dir.is_dir()).then_some(dir)
    })
}

fn has_word(list: &str, word: &str) -> bool {
    list.split_ascii_whitespace().any(|w| w == word)
}

/// A group below the own one is made and removed again.
fn cgroup(host: &Host, controller: &'static str) -> Finding {
    const DELEGATE: &str = "systemd-run --user --scope -p Delegate=yes agent-shim run …";
    let Some((dir, version)) = own_group(controller) else {
        let controllers = text("/proc/cgroups");
        let is_known = controllers.lines().any(|l| l.split('\t').next() == Some(controller));
        let in_v2 = text("/sys/fs/cgroup/cgroup.controllers");
        let why = match (is_known || has_word(&in_v2, controller), in_v2.is_empty()) {
            (false, _) => "this kernel has no such controller, or no cgroup can be seen",
            (true, true) => "no hierarchy of version 1 or 2 with it is mounted here",
            (true, false) => "the controller is not handed down to the own cgroup",
        };
        return Finding::new(State::No, "/proc/self/cgroup: none with it").because(why, DELEGATE);
    };
    let trial = dir.join(format!("agent-shim-doctor-{}-{controller}", std::process::id()));
    match fs::create_dir(&trial) {
        Ok(()) => {
            let removed = fs::remove_dir(&trial);
            let measured = format!("v{version}: a group made, removed");
            match removed {
                Ok(()) => Finding::yes(measured),
                Err(error) => Finding::new(State::Limited, format!("rmdir: {}", error.kind())),
            }
        }
        Err(error) => {
            let measured = format!("version {version}: mkdir in the own group: {}", error.kind());
            let is_read_only = error.kind() == std::io::ErrorKind::ReadOnlyFilesystem;
            let (why, fix) = match version {
                _ if is_read_only || host.facts.is_admin() => (
                    "the cgroup file system is read-only here, or a security module refuses",
                    "docker run --privileged, or mount the hierarchy read-write",
                ),
                2 => ("the own cgroup is not delegated to this user", DELEGATE),
                _ => (
                    "version 1 delegates nothing to an ordinary user",
                    "as root; or cgroup version 2: kernel parameter systemd.unified_cgroup_hierarchy=1",
                ),
            };
            Finding::new(State::No, measured).because(why, fix)
        }
    }
}

/// A scope needs systemd-run and somebody who answers on the user bus.
fn user_scope(_: &Host) -> Finding {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has_program = std::env::split_paths(&path).any(|dir| dir.join("systemd-run").is_file());
    let bus = user_bus();
    let answers =
        bus.as_deref().is_some_and(|bus| std::os::unix::net::UnixStream::connect(bus).is_ok());
    match (has_program, answers) {
        (true, true) => Finding::yes("systemd-run, and its bus answers"),
        (false, _) => Finding::new(State::No, "PATH: no systemd-run").because(
            "no systemd",
            "nothing is to be done; root on cgroup version 1 or 2 needs none",
        ),
        (true, false) => {
            let measured = match bus {
                Some(_) => "systemd-run, but its bus refuses",
                None => "systemd-run, but XDG_RUNTIME_DIR has no bus",
            };
            Finding::new(State::No, measured).because(
                "no user manager of systemd is running for this user",
                "loginctl enable-linger USER, then log in again (or XDG_RUNTIME_DIR=/run/user/$(id -u))",
            )
        }
    }
}

fn user_bus() -> Option<PathBuf> {
    let address = std::env::var("DBUS_SESSION_BUS_ADDRESS").unwrap_or_default();
    let named =
        address.strip_prefix("unix:path=").map(|p| PathBuf::from(p.split(',').next().unwrap_or(p)));
    let dir = std::env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("bus"));
    [dir, named].into_iter().flatten().find(|bus| bus.exists())
}
