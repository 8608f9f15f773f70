//! What a user reads when something failed: one line, and one hint where there is one.

use std::fmt;

use agent_init::error::{Errno, READ_BACK, Record, Step};
use agent_probe::{errno_name, errno_words};

/// The harness failed; nothing weaker was run. DESIGN §8.
pub const HARNESS: u8 = 125;
/// The agent was found and cannot be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// The agent was not found.
pub const NOT_FOUND: u8 = 127;

/// What a record has place for, and what stands for the rest.
const MOST_OF_AN_OBJECT: usize = 64;
const CUT: &[u8] = b"...";

/// A step of a launch that failed: nothing was started. With what to try next, where only who met it
/// knows that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub Record, Option<Box<str>>);

impl Failure {
    /// `step: call(object): errno`.
    pub fn new(step: Step, call: &str, object: impl AsRef<[u8]>, errno: Errno) -> Failure {
        let object = object.as_ref();
        let over = object.len().saturating_sub(MOST_OF_AN_OBJECT);
        if over == 0 {
            return Failure(Record::new(step, call, object, errno), None);
        }
        // A record keeps the end of it, which is not to be taken for the whole.
        let end = object.get(over + CUT.len()..).unwrap_or_default();
        let mut cut = [0; MOST_OF_AN_OBJECT];
        for (to, from) in cut.iter_mut().zip(CUT.iter().chain(end)) {
            *to = *from;
        }
        Failure(Record::new(step, call, cut, errno), None)
    }

    /// The calls returned, and what they were for is not so.
    pub fn not_in_force(step: Step, what: impl AsRef<[u8]>) -> Failure {
        Failure::new(step, READ_BACK, what, Errno(0))
    }

    /// Something foreign is not what it should be: no call has failed, and words say it.
    pub fn words(step: Step, what: impl AsRef<[u8]>) -> Failure {
        Failure::new(step, "", what, Errno(0))
    }

    /// As it was reported from the room.
    pub fn of(record: Record) -> Failure {
        Failure(record, None)
    }

    /// The same with a hint about this object.
    #[must_use]
    pub fn hinting(self, hint: impl Into<Box<str>>) -> Failure {
        Failure(self.0, Some(hint.into()))
    }

    /// The exit status that says it.
    pub fn code(&self) -> u8 {
        match (self.0.step, self.0.errno) {
            (Step::EXEC, Errno::ENOENT | Errno::ENOTDIR) => NOT_FOUND,
            (Step::EXEC, Errno::EACCES | Errno::ENOEXEC | Errno::EPERM) => NOT_EXECUTABLE,
            _ => HARNESS,
        }
    }

    /// What to try next; empty where nothing better is known than the line itself.
    pub fn hint(&self) -> &str {
        if let Some(hint) = &self.1 {
            return hint;
        }
        let Record { step, errno, call, .. } = self.0;
        let of_option =
            |(o, e, _): &&(&str, Errno, &str)| call.bytes() == o.as_bytes() && *e == errno;
        if let Some((_, _, text)) = OPTION_HINTS.iter().find(of_option) {
            return text;
        }
        if step == Step::POLICY && call.bytes().starts_with(b"ptrace") {
            return PTRACE_HINTS.iter().find(|(e, _)| *e == errno).map_or("", |(_, text)| *text);
        }
        let fits = |(s, e, _): &&(Step, Option<Errno>, &str)| {
            *s == step && e.is_none_or(|known| known == errno)
        };
        HINTS.iter().find(fits).map_or("", |(_, _, text)| *text)
    }
}

/// At the end of a hint that names more causes than one.
pub const ASK_THE_DOCTOR: &str = "; `agent-shim doctor` tells which";

/// By option and errno; asked first.
#[rustfmt::skip] // a row a line
const OPTION_HINTS: &[(&str, Errno, &str)] = &[
    ("--json-status-fd", Errno::EBADF, "records are written to it: it must be open for writing, as in 3>FILE"),
    ("--file", Errno(110),    "what it is read from has not ended within --timeout, or 10 s without it"),
    ("--file", Errno::EFBIG,  "a file in the room's own directories has at most 64 MiB: bind it"),
    ("--git", Errno::ENOENT,  "the agent could make it, and git on the host would use it: mkdir it if it is hooks, else touch it"),
    ("--git", Errno::ELOOP,   "git follows the link, and the agent may be able to write what it leads to: put the file or directory itself there"),
    ("--git", Errno::EEXIST,  "git would take config and hooks from where it leads to, and makes none here: see what wrote it, and remove it"),
    ("--git", Errno::E2BIG, "more submodules than are guarded: take one of them for the workspace, or empty those that are not needed (git submodule deinit)"),
    ("--git", Errno(31),      "the agent may be able to write it by its other name: replace it by a copy"),
];

/// Of ptrace(2), which reads the filters of a process, by errno.
#[rustfmt::skip] // a row a line
const PTRACE_HINTS: &[(Errno, &str)] = &[
    (Errno::ESRCH,   "no such process, or it has ended"),
    (Errno::EPERM,   "only root with CAP_SYS_PTRACE reads another process, and one that is not traced already: kernel.yama.ptrace_scope"),
    (Errno::EACCES,  "only root with CAP_SYS_ADMIN, and itself without a filter, reads the filters of a process"),
    (Errno::EAGAIN,  "it does not stop: it waits in the kernel"),
    (Errno::EINVAL,  "this kernel keeps no filters to be read: CONFIG_CHECKPOINT_RESTORE"),
];

/// By step and errno (`None`: any); the first that fits is printed.
#[rustfmt::skip] // a row a line
const HINTS: &[(Step, Option<Errno>, &str)] = &[
    (Step::CLONE,    Some(Errno::EPERM),      "user namespaces are forbidden here: see sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns, or the filter of an outer container; `agent-shim doctor` tells which"),
    (Step::CLONE,    Some(Errno::ENOSPC),     "a limit of namespaces is reached or 0: sysctl user.max_user_namespaces and its siblings; `agent-shim doctor` tells which"),
    (Step::CLONE,    Some(Errno::EUSERS),     "user namespaces are nested too deep (32)"),
    (Step::CLONE,    Some(Errno::EAGAIN),     "too many processes: ulimit -u, or pids.max of the cgroup"),
    (Step::CLONE,    Some(Errno::ENOSYS),     "clone3 needs Linux 5.3, or the filter of an outer container refuses it; `agent-shim doctor` tells which"),
    (Step::IDMAP,    Some(Errno::EPERM),      "the kernel or an LSM refuses a map of the own id: see kernel.apparmor_restrict_unprivileged_userns; `agent-shim doctor` tells which"),
    (Step::ROOM,     Some(Errno::ENOENT),     "it is not there on the host; within a directory of the host nothing is made, so the destination must be there too"),
    (Step::ROOM,     Some(Errno::EEXIST),     "two options for one destination"),
    (Step::ROOM,     Some(Errno::EINVAL),     "a path in the room is absolute and has no `..`"),
    (Step::ROOM,     Some(Errno::EBUSY),      "not `/`, not a directory of the system, not one of the kernel's file systems; --rootfs names another root"),
    (Step::ROOM,     Some(Errno::EPERM),      "the host's /proc would show, and open, the host's processes; every room has its own"),
    (Step::ROOM,     Some(Errno::ELOOP),      "a symbolic link is on the way: name what it leads to"),
    (Step::ROOM,     Some(Errno::ENOTDIR),    "a directory goes onto a directory, and nothing lies beneath a file, a link or a device"),
    (Step::ROOM,     Some(Errno::EISDIR),     "a file cannot lie on a directory"),
    (Step::ROOM,     Some(Errno::EOPNOTSUPP), "a socket or FIFO is a way out of the room; --pass-socket passes one socket"),
    (Step::ROOM,     Some(Errno::ENODEV),     "a device is given with --dev-bind"),
    (Step::ROOM,     Some(Errno::ENOTSOCK),   "--pass-socket passes a UNIX socket, nothing else"),
    (Step::ROOM,     Some(Errno::EROFS),      "within a directory of the host there can be binds, a tmpfs and masks, as nothing is written there"),
    (Step::ROOM,     Some(Errno::EACCES),     "you cannot reach it yourself"),
    (Step::PIN,      Some(Errno::ESTALE),     "it was exchanged while the room was made: start again, and see who writes there"),
    (Step::PIN,      Some(Errno::ELOOP),      "it was exchanged for a link while the room was made: start again, and see who writes there"),
    (Step::PIN,      Some(Errno::EINVAL),     "its file system, or that of a mount below it (--dry-run lists them), has no idmapped mounts: run with --uid and --gid of its owner, or give it to 65534"),
    (Step::PIN,      Some(Errno::EPERM),      "of proc: an outer container masks parts of /proc; of a directory: root without CAP_SYS_ADMIN cannot show it as the agent's, run with --uid and --gid of its owner; `agent-shim doctor` tells which"),
    (Step::PIN,      Some(Errno::EACCES),     "the user that the room runs as cannot reach it on this host"),
    (Step::PIN,      Some(Errno::ENOSYS),     "open_tree and mount_setattr need Linux 5.12"),
    (Step::CHDIR,    None,                    "--chdir names a directory of the room, as --dry-run shows it"),
    (Step::FORK,     Some(Errno::EAGAIN),     "--pids is too small for init and the agent"),
    (Step::LANDLOCK, Some(Errno::EMFILE),     "--nofile is too small for a start: 20 will do"),
    (Step::OVERLAY,  Some(Errno::ENODEV),     "this kernel has no overlayfs (CONFIG_OVERLAY_FS, modprobe overlay): without --overlay the image is read-only"),
    (Step::OVERLAY,  Some(Errno::EPERM),      "overlayfs in a user namespace needs Linux 5.11, and no LSM against it: `agent-shim doctor` tells which"),
    (Step::OVERLAY,  Some(Errno::EINVAL),     "the file system of the image cannot be the lower layer of an overlay in a user namespace"),
    (Step::OVERLAY,  Some(Errno::ELOOP),      "overlays are stacked too deep: the image lies on one itself"),
    (Step::IDS,      Some(Errno::EPERM),      "root of the host never enters a room: another --uid; within a user namespace that maps root alone, map 65534 too"),
    (Step::INNER,    Some(Errno::ENOSPC),     "a limit of namespaces is reached: sysctl user.max_user_namespaces (two for each room) and its siblings; `agent-shim doctor` tells which"),
    (Step::COMPOSE,  Some(Errno::ELOOP),      "it was exchanged for a link while the room was made: start again, and see who writes there"),
    (Step::COMPOSE,  Some(Errno(0)),          "it was exchanged while the room was made: start again, and see who writes there"),
    (Step::COMPOSE,  Some(Errno::ENOENT),     "the object is not there on this host"),
    (Step::COMPOSE,  Some(Errno::EACCES),     "the user that the room runs as cannot reach it on this host"),
    (Step::COMPOSE,  Some(Errno::EPERM),      "of proc: an outer container masks parts of /proc; of the first mount: a Landlock domain is on already; `agent-shim doctor` tells which"),
    (Step::COMPOSE,  Some(Errno::ENOSPC),     "the room's tmpfs is full (--tmpfs-size, --tmpfs-inodes), or sysctl fs.mount-max is reached"),
    (Step::COMPOSE,  Some(Errno::ENOSYS),     "read-only binds need mount_setattr, Linux 5.12"),
    (Step::PIVOT,    Some(Errno::EINVAL),     "the root directory is the initramfs, which cannot be left by pivot_root: switch_root to another file system first"),
    (Step::STDIO,    Some(Errno::EBADF),      "only an open file, device, pipe or socket can be standard input, output or error of a room"),
    (Step::STDIO,    Some(Errno::EISDIR),                    "a room never gets a directory of the host: redirect it from or to a file, a pipe, /dev/null"),
    (Step::KEEP,     Some(Errno::EOPNOTSUPP), "the agent could open a pipe or a terminal again, with more rights: use a socket pair or a regular file, --file or --pass-socket; --tty gives a terminal"),
    (Step::KEEP,     Some(Errno::EBADF),      "a regular file or a socket can be kept: no O_PATH descriptor, epoll, eventfd or pidfd; and its number is below --nofile"),
    (Step::KEEP,     Some(Errno::EISDIR),     "a directory of the host leads out of every root: --bind shows one"),
    (Step::KEEP,     Some(Errno::EXDEV),      "what lies on no mount is out of Landlock's reach: seal a memfd against writing (F_SEAL_WRITE), or use a regular file or --file"),
    (Step::KEEP,     Some(Errno::ENODEV),     "a device of the host is shown by --dev-bind, where its mode and times stay"),
    (Step::KEEP,     Some(Errno::EBUSY),      "a file of the records, of a standard stream, or of a directory that the room shows could be opened again with more rights: keep another file, or let the agent open it by its path"),
    (Step::KEYRING,  Some(Errno::EPERM),      "the filter of an outer container refuses keyctl but lets the session keyring be read"),
    (Step::LANDLOCK, Some(Errno::ENOSYS),     "this kernel has no Landlock (Linux 5.13, CONFIG_SECURITY_LANDLOCK); --layers -landlock goes without"),
    (Step::LANDLOCK, Some(Errno::EOPNOTSUPP), "Landlock is off or older than ABI 6: add landlock to the kernel parameter lsm=; --best-effort takes an older ABI"),
    (Step::SECCOMP,  Some(Errno::ENOSYS),     "this kernel has no CONFIG_SECCOMP_FILTER"),
    (Step::EXEC,     Some(Errno::ENOENT),     "no such program in the room, or its interpreter is not in the room"),
    (Step::EXEC,     Some(Errno::EACCES),     "it is a directory, has no execute permission for the room's user, or lies outside the Landlock grants"),
    (Step::EXEC,     Some(Errno::ENOEXEC),    "no program of this machine, and no #! line"),
    (Step::EXEC,     Some(Errno::E2BIG),      "one argument may have 128 KiB, all together a quarter of the stack limit: execve(2)"),
    (Step::PROGRAM,  Some(Errno::EISDIR),     "agent-probe is a directory; the program belongs beside agent-shim, or in AGENT_BIN_DIR"),
    (Step::REPORT,   Some(Errno::EMFILE),     "more open files: ulimit -n"),
    (Step::PROGRAM,  Some(Errno::ENOENT),     "agent-probe belongs beside agent-shim, or in the directory that AGENT_BIN_DIR names"),
    (Step::KEYRING,  Some(Errno::EDQUOT),     "a room has a keyring of its own: sysctl kernel.keys.maxkeys, each user's limit"),
    (Step::WAIT,     Some(Errno::ECHILD),     "this process ignores SIGCHLD, so its children leave no status"),
    (Step::IMAGE,    Some(Errno::EFBIG),      "agent-init is larger than a file may be here: ulimit -f"),
    (Step::IMAGE,    Some(Errno::EINVAL),     "descriptors of 10 and more are needed: ulimit -n"),
    (Step::ORDERS,   Some(Errno::EMFILE),     "more open files: ulimit -n"),
    (Step::LIMITS,   Some(Errno::EACCES),     "no cgroup can be written here; with systemd, `systemd-run --user --scope -p Delegate=yes agent-shim run ...` gives one; --best-effort goes without"),
    (Step::LIMITS,   Some(Errno::EBUSY),      "the own cgroup has a limit of its own, and processes: start agent-shim where neither is, or set the limit there; --best-effort goes without"),
    (Step::LIMITS,   Some(Errno::ENODEV),     "nothing here can enforce it: the cgroup controller is not mounted or not passed on (cgroup.subtree_control; with systemd, `systemd-run --user --scope -p Delegate=yes agent-shim run ...` does it), or the layer is not made; --best-effort goes without"),
    (Step::LIMITS,   Some(Errno::ENOMEM),     "the room was ended before the agent began: it needs more than that"),
    (Step::LIMITS,   None,                    "--best-effort goes without"),
    (Step::BASELINE, Some(Errno::EFBIG),      "a report has at most 32 MiB"),
    (Step::BASELINE, Some(Errno::EOPNOTSUPP), "a baseline is a regular file, as `agent-shim attribute --json` writes it"),
    (Step::BASELINE, Some(Errno::ELOOP),      "a symbolic link is on the way: name what it leads to"),
    (Step::OUTPUT,   Some(Errno::ENOENT),     "its directory is not there, or it is a symbolic link to nothing"),
    (Step::OUTPUT,   Some(Errno::EEXIST),     "two options for one file"),
    (Step::POLICY,   Some(Errno::EFBIG),      "a filter has at most 4096 instructions of 8 bytes"),
    (Step::POLICY,   Some(Errno::EISDIR),     "a filter is a file of `struct sock_filter`, as `agent-shim policy dump --format bpf` writes it"),
    (Step::POLICY,   Some(Errno::EOPNOTSUPP), "a filter is a regular file, or a pipe by its descriptor: - or /dev/fd/N"),
    (Step::POLICY,   Some(Errno::EACCES),     "you cannot read it yourself"),
    (Step::POLICY,   Some(Errno::ELOOP),      "a symbolic link is on the way: name what it leads to"),
    (Step::POLICY,   Some(Errno(110)),        "what it is read from has not ended within 10 s"),
    (Step::POLICY,   Some(Errno::ENOEXEC),    "the kernel would not take it: `agent-shim policy check` says why"),
    (Step::POLICY,   Some(Errno::E2BIG),      "the program has more paths than are followed"),
    (Step::DEATH,    Some(Errno(0)),          "whoever started the room has gone"),
];

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Record { step, errno, call, object } = &self.0;
        let (call, object) = (call.bytes().escape_ascii(), object.bytes().escape_ascii());
        write!(f, "{}: ", step.name())?;
        if errno.0 == 0 && call.clone().eq(READ_BACK.bytes()) {
            return write!(f, "not in force when asked back: {object}");
        }
        if errno.0 == 0 && call.clone().next().is_none() {
            return write!(f, "{object}");
        }
        let name = errno_name(i32::from(errno.0));
        write!(f, "{call}({object}): {} ({name})", errno_words(&name))
    }
}

impl std::error::Error for Failure {}

/// The errno of an error of std; 0 where it has none.
pub fn errno_of(error: &std::io::Error) -> Errno {
    Errno(error.raw_os_error().and_then(|n| u16::try_from(n).ok()).unwrap_or(0))
}

/// Shorthand for `map_err`: the errno of a call becomes a [`Failure`] with its circumstances.
pub trait At<T> {
    /// Names step, call and object.
    fn at(self, step: Step, call: &str, object: impl AsRef<[u8]>) -> Result<T, Failure>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, step: Step, call: &str, object: impl AsRef<[u8]>) -> Result<T, Failure> {
        self.map_err(|errno| Failure::new(step, call, object, errno))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_that_names_everything() {
        let failure =
            Failure::new(Step::LANDLOCK, "landlock_create_ruleset", "version", Errno::ENOSYS);
        let line = "landlock: landlock_create_ruleset(version): Function not implemented (ENOSYS)";
        assert_eq!(failure.to_string(), line);
        assert!(failure.hint().contains("no Landlock"));
        assert_eq!(failure.code(), 125);
    }

    #[test]
    fn a_read_back_is_no_errno() {
        let failure = Failure::new(Step::CAPS, READ_BACK, "CapBnd", Errno(0));
        assert_eq!(failure.to_string(), "caps: not in force when asked back: CapBnd");
    }

    #[test]
    fn names_with_control_characters_stay_on_one_line() {
        let failure = Failure::new(Step::EXEC, "execve", "a\nb\x1b[31m\u{e9}", Errno::ENOENT);
        assert!(!failure.to_string().contains(['\n', '\x1b']), "{failure}");
        assert_eq!(failure.code(), NOT_FOUND);
    }
}
