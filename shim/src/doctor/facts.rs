//! What can be read without changing anything, and which system calls somebody refuses before the
//! kernel sees them. proc(5), seccomp(2).

use std::fs;
use std::path::Path;

use agent_init::error::Errno;
use agent_init::sys::CapSets;

use super::experiment::{self, Kit, NNP, Outcome, Step};
use crate::sys::{self, End};

/// What the causes are told apart by.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// `6.18.0-…`, as uname(2) has it.
    pub release: String,
    /// Its first two numbers.
    pub version: (u32, u32),
    /// Effective user id.
    pub uid: u32,
    /// Whether the user namespace is the first one.
    pub is_first_userns: bool,
    /// Whether the pid namespace is the first one.
    pub is_first_pidns: bool,
    /// `/proc/self/ns/user`.
    pub has_userns: bool,
    /// Whether user and group id exist in the own user namespace: clone(2), EPERM.
    pub is_mapped: bool,
    /// Whether the root is no mount: a chroot, where no user namespace can be made.
    pub is_chroot: bool,
    /// Effective capabilities.
    pub effective: u64,
    /// user.max_user_namespaces of the own user namespace.
    pub max_user: Option<u64>,
    /// kernel.unprivileged_userns_clone, Debian.
    pub debian: Option<u64>,
    /// kernel.apparmor_restrict_unprivileged_userns.
    pub apparmor: Option<u64>,
    /// `/proc/self/attr/current`; empty where no LSM has one.
    pub label: String,
    /// `/sys/kernel/security/lsm`; empty where it is not mounted.
    pub lsm: String,
    /// Calls that a filter answers.
    pub filtered: Vec<&'static str>,
    /// Calls that this kernel is too old for.
    pub missing: Vec<&'static str>,
    /// Landlock domains that this process is in; `None`: it cannot be counted.
    pub domains: Option<usize>,
    /// Mounts over parts of the procs that can be seen.
    pub proc_masks: Vec<String>,
}

/// Of the first namespaces, in every boot: include/linux/proc_ns.h.
const FIRST_USERNS: u64 = 0xEFFF_FFFD;
const FIRST_PIDNS: u64 = 0xEFFF_FFFC;

impl Facts {
    /// Reads and asks.
    pub fn look(kit: &Kit) -> Facts {
        let release = sys::kernel_release();
        let version = version(&release);
        let mounts = text("/proc/self/mountinfo");
        let effective = agent_init::sys::caps().map_or(0, |CapSets { effective, .. }| effective);
        let debian = number("/proc/sys/kernel/unprivileged_userns_clone");
        let is_forbidden = debian == Some(0) && effective & 1 << SYS_ADMIN == 0;
        let outside = ASKS.iter().filter(|ask| ask.within == 0);
        let (filtered, missing) =
            answers(kit, version, outside.chain((!is_forbidden).then_some(UNSHARE_USER)));
        let is_in = |map, id| crate::plan::is_mapped(map, id);
        let (uid, gid) = sys::ids();
        Facts {
            version,
            uid,
            is_first_userns: sys::inode(c"/proc/self/ns/user") == Ok(FIRST_USERNS),
            is_first_pidns: sys::inode(c"/proc/self/ns/pid") == Ok(FIRST_PIDNS),
            has_userns: sys::inode(c"/proc/self/ns/user") != Err(Errno::ENOENT),
            is_mapped: is_in("/proc/self/uid_map", uid) && is_in("/proc/self/gid_map", gid),
            is_chroot: !mounts.is_empty() && !mount_points(&mounts).any(|(at, _)| at == "/"),
            effective,
            max_user: number("/proc/sys/user/max_user_namespaces"),
            debian,
            apparmor: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            label: text("/proc/self/attr/current").trim_end_matches('\0').to_owned(),
            lsm: text("/sys/kernel/security/lsm"),
            filtered,
            missing,
            domains: domains(kit),
            proc_masks: proc_masks(&mounts),
            release,
        }
    }

    /// Asks the calls that only the owner of its namespaces may make, which must be shown first.
    pub fn look_inside(&mut self, kit: &Kit) {
        let (filtered, missing) =
            answers(kit, self.version, ASKS.iter().filter(|ask| ask.within == INSIDE));
        self.filtered.extend(filtered);
        self.missing.extend(missing);
    }

    /// CAP_SYS_ADMIN of the first user namespace.
    pub fn is_admin(&self) -> bool {
        self.is_first_userns && self.effective & 1 << SYS_ADMIN != 0
    }

    /// Whether somebody refuses this call (`mount(proc)`: the word before the parenthesis).
    pub fn is_filtered(&self, call: &str) -> bool {
        let word = call.split('(').next().unwrap_or(call);
        self.filtered.contains(&word)
    }
}

const SYS_ADMIN: u32 = 21;

/// A small file, trimmed; empty where it cannot be read.
pub fn text(path: impl AsRef<Path>) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// A sysctl; `None` where this kernel has none, or it cannot be read.
pub fn number(path: impl AsRef<Path>) -> Option<u64> {
    text(path).parse().ok()
}

/// `6.18.44-x`: 6 and 18.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Mount point and type of each mount that can be seen. proc(5), mountinfo.
pub fn mount_points(mountinfo: &str) -> impl Iterator<Item = (&str, &str)> {
    mountinfo.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        Some((left.split(' ').nth(4)?, right.split(' ').next()?))
    })
}

/// What lies over parts of `/proc`, each once; binfmt_misc hides nothing, its place is empty.
fn proc_masks(mountinfo: &str) -> Vec<String> {
    let over = |(at, kind): &(&str, &str)| at.starts_with("/proc/") && *kind != "binfmt_misc";
    let is_empty_place = |at: &str| at == "/proc/sys/fs/binfmt_misc";
    let mut masks: Vec<String> = mount_points(mountinfo)
        .filter(over)
        .filter(|(at, _)| !is_empty_place(at))
        .map(|(at, _)| at.to_owned())
        .collect();
    masks.dedup();
    masks
}

/// A call that cannot succeed, and what the kernel itself answers to it: whatever else comes back
/// was said by a filter. These checks come before any privilege is asked for; `within` the
/// namespaces that give the privilege, where they come after it.
struct Ask {
    within: u64,
    since: (u32, u32),
    step: &'static [Step],
    answers: &'static [Errno],
}

macro_rules! ask {
    ($name:literal, $within:expr, $since:expr, $number:ident, $args:expr, $answers:expr) => {
        Ask {
            within: $within,
            since: $since,
            step: &[($name, |_| sys::impossible(libc::$number, $args))],
            answers: &$answers,
        }
    };
}

const USER: i64 = libc::CLONE_NEWUSER as i64;
/// All kinds, so that a filter for any of them is met.
const NEW: i64 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as i64;
const INSIDE: u64 =
    (libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWUTS).cast_unsigned() as u64;
const EINVAL: Errno = Errno::EINVAL;
const EFAULT: Errno = Errno(14);
/// A bit that no call has given a meaning.
const BIT: i64 = 0x4000_0000;

#[rustfmt::skip] // a row a line
const ASKS: &[Ask] = &[
    // A flag that unshare never takes; two that clone never takes together; a size of 0.
    ask!("unshare",        0,      (2, 6),   SYS_unshare,           [NEW & !USER | libc::CLONE_VFORK as i64, 0, 0, 0, 0], [EINVAL]),
    ask!("clone",          0,      (2, 6),   SYS_clone,             [NEW | (libc::CLONE_FS | libc::SIGCHLD) as i64, 0, 0, 0, 0], [EINVAL]),
    ask!("clone3",         0,      (5, 3),   SYS_clone3,            [0; 5], [EINVAL]),
    // No target, flags without a meaning.
    ask!("mount",          0,      (2, 6),   SYS_mount,             [0; 5], [EFAULT]),
    ask!("umount2",        0,      (2, 6),   SYS_umount2,           [0, BIT, 0, 0, 0], [EINVAL, EFAULT]),
    ask!("open_tree",      0,      (5, 2),   SYS_open_tree,         [-1, 0, BIT, 0, 0], [EINVAL]),
    ask!("mount_setattr",  0,      (5, 12),  SYS_mount_setattr,     [-1, 0, BIT, 0, 0], [EINVAL]),
    ask!("fsconfig",       0,      (5, 2),   SYS_fsconfig,          [-1, 0, 0, 0, 0], [EINVAL]),
    ask!("fsopen",         INSIDE, (5, 2),   SYS_fsopen,            [0, BIT, 0, 0, 0], [EINVAL, EFAULT]),
    ask!("fsmount",        INSIDE, (5, 2),   SYS_fsmount,           [-1, BIT, 0, 0, 0], [EINVAL]),
    ask!("move_mount",     INSIDE, (5, 2),   SYS_move_mount,        [-1, 0, -1, 0, BIT], [EINVAL]),
    ask!("pivot_root",     INSIDE, (2, 6),   SYS_pivot_root,        [0; 5], [EFAULT]),
    ask!("sethostname",    INSIDE, (2, 6),   SYS_sethostname,       [0, -1, 0, 0, 0], [EINVAL]),
    ask!("execveat",       0,      (3, 19),  SYS_execveat,          [-1, 0, 0, 0, BIT], [EINVAL, EFAULT]),
    ask!("memfd_create",   0,      (3, 17),  SYS_memfd_create,      [0, BIT, 0, 0, 0], [EINVAL]),
    ask!("pidfd_open",     0,      (5, 3),   SYS_pidfd_open,        [-1, 0, 0, 0, 0], [EINVAL]),
    ask!("pidfd_send_signal", 0,   (5, 1),   SYS_pidfd_send_signal, [-1, 0, 0, BIT, 0], [EINVAL]),
    ask!("close_range",    0,      (5, 9),   SYS_close_range,       [1, 0, 0, 0, 0], [EINVAL]), // ends before it begins
    ask!("openat2",        0,      (5, 6),   SYS_openat2,           [-1, 0, 0, 0, 0], [EINVAL]),
    ask!("seccomp",        0,      (3, 17),  SYS_seccomp,           [BIT, 0, 0, 0, 0], [EINVAL]),
    ask!("keyctl",         0,      (2, 6),   SYS_keyctl,            [BIT, 0, 0, 0, 0], [Errno::EOPNOTSUPP, Errno::ENOSYS]),
    ask!("landlock_create_ruleset", 0, (5, 13), SYS_landlock_create_ruleset, [0, 0, BIT, 0, 0], [EINVAL, Errno::EOPNOTSUPP, Errno::ENOSYS]),
];

/// Of user namespaces. Kernels with Debian's sysctl refuse this one before they look at the flags,
/// where the sysctl forbids it: then it is not asked.
#[rustfmt::skip]
const UNSHARE_USER: &Ask =
    &ask!("unshare",       0,      (2, 6),   SYS_unshare,           [NEW | libc::CLONE_VFORK as i64, 0, 0, 0, 0], [EINVAL]);

/// How many calls are asked.
pub const ASKED: usize = ASKS.len();

/// The calls that a filter answers, and those that this kernel is too old for.
fn answers(
    kit: &Kit,
    version: (u32, u32),
    asks: impl Iterator<Item = &'static Ask>,
) -> (Vec<&'static str>, Vec<&'static str>) {
    let (mut filtered, mut missing) = (Vec::new(), Vec::new());
    for Ask { within, since, step, answers } in asks {
        let name = step.first().map_or("", |(name, _)| name);
        match experiment::run(kit, *within, step) {
            Outcome::Refused { call, errno, .. } if call == name && answers.contains(&errno) => {}
            Outcome::Refused { errno: Errno::ENOSYS, .. } if version < *since => missing.push(name),
            // The child could not be made: nothing is known about this call.
            Outcome::Refused { call, .. } if call != name => {}
            Outcome::Refused { .. } | Outcome::Ended(End::Signaled(libc::SIGSYS)) => {
                filtered.push(name);
            }
            // "Done": a filter that says 0. Anything else says nothing.
            Outcome::Done => filtered.push(name),
            Outcome::Ended(_) | Outcome::Hung => {}
        }
    }
    filtered.sort_unstable();
    filtered.dedup();
    (filtered, missing)
}

/// A process can be in 16 Landlock domains, one in the other: include/uapi/linux/landlock.h,
/// LANDLOCK_MAX_NUM_LAYERS. As many as can be added here are missing in the count of those it is in.
const MOST_DOMAINS: usize = 16;

const DOMAIN: Step = ("landlock_restrict_self", |_| {
    let handled = agent_init::landlock::Access::MAKE_BLOCK.bits();
    let ruleset = agent_init::sys::landlock_create_ruleset(&[handled])?;
    agent_init::sys::landlock_restrict_self(ruleset)?;
    sys::close(ruleset)
});

fn domains(kit: &Kit) -> Option<usize> {
    const STEPS: &[Step] = &{
        let mut steps = [DOMAIN; MOST_DOMAINS + 1];
        steps[0] = NNP;
        steps
    };
    match experiment::run(kit, 0, STEPS) {
        Outcome::Done => Some(0),
        Outcome::Refused { errno, after, .. } if i32::from(errno.0) == libc::E2BIG => {
            Some((MOST_DOMAINS + 1).saturating_sub(after))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(version("6.18.44-fc"), (6, 18));
        assert_eq!(version("5.4"), (5, 4));
        assert_eq!(version(""), (0, 0));
        assert!(
            version("5.12.1") >= (5, 12) && version("5.4") < (5, 12) && version("6.1") > (5, 12)
        );
    }

    #[test]
    fn what_lies_over_proc() {
        let text = "22 27 0:21 / /proc rw shared:1 - proc proc rw\n\
                    23 22 0:30 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw\n\
                    24 22 0:31 / /proc/acpi ro - tmpfs tmpfs ro\n\
                    25 22 0:21 /bus /proc/bus ro - proc proc rw\n";
        assert_eq!(proc_masks(text), ["/proc/acpi", "/proc/bus"]);
        assert!(mount_points(text).any(|m| m == ("/proc", "proc")));
    }

    #[test]
    fn a_call_is_the_word_before_the_parenthesis() {
        let facts = Facts { filtered: vec!["mount"], ..Facts::default() };
        assert!(facts.is_filtered("mount(proc)") && facts.is_filtered("mount"));
        assert!(!facts.is_filtered("mount_setattr(RDONLY)"));
    }
}
