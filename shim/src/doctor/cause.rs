//! Why something was refused: a table of causes, the first that fits. Each rests on what was read
//! or on an experiment of its own ([`super::facts`]); none on the errno alone.

use agent_init::error::Errno;

use super::experiment::Outcome;
use super::facts::Facts;
use crate::sys::End;

/// What was refused, for the rows of `CAUSES`.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// The call, as the step names it.
    pub call: &'static str,
    /// What it answered.
    pub errno: Errno,
}

impl Refusal {
    /// `None` where nothing was refused.
    pub fn of(outcome: Outcome) -> Option<Refusal> {
        match outcome {
            Outcome::Refused { call, errno, .. } => Some(Refusal { call, errno }),
            _ => None,
        }
    }

    fn is(&self, call: &str) -> bool {
        self.call.split('(').next() == Some(call)
    }

    /// A call that makes a user namespace.
    fn makes_userns(&self) -> bool {
        self.is("clone") || self.call.contains("NEWUSER")
    }

    fn mounts(&self) -> bool {
        ["mount", "move_mount", "fsopen", "umount2", "pivot_root"].iter().any(|call| self.is(call))
    }

    fn is_denied(&self) -> bool {
        matches!(self.errno, Errno::EPERM | Errno::EACCES)
    }
}

/// A cause: whether it is this one, what it is, the names that were seen, and the command or setting
/// that takes it away.
struct Cause {
    fits: fn(&Facts, &Refusal) -> bool,
    what: &'static str,
    names: fn(&Facts) -> String,
    fix: &'static str,
}

#[rustfmt::skip] // a row, four lines
const CAUSES: &[Cause] = &[
    Cause { fits: |f, r| f.is_filtered(r.call),
        what: "a seccomp filter around this process refuses the call: it also refuses one that the kernel answers with another errno",
        names: |f| format!("refused: {}", f.filtered.join(", ")),
        fix: "of the outer container: docker run --security-opt seccomp=unconfined, podman the same, Kubernetes seccompProfile Unconfined; or a profile that allows clone, unshare, mount, pivot_root and their like" },
    Cause { fits: |_, r| r.call.contains("uid_map") && r.errno == Errno::ENOENT,
        what: "there is no /proc here, or not this pid namespace's",
        names: nothing,
        fix: "mount -t proc proc /proc" },
    Cause { fits: |_, r| i32::from(r.errno.0) == libc::ENODEV,
        what: "this kernel has no such file system, or its module is not there",
        names: nothing,
        fix: "modprobe overlay; or a kernel with CONFIG_OVERLAY_FS, CONFIG_TMPFS, CONFIG_UNIX98_PTYS" },
    Cause { fits: |_, r| r.call.contains("idmap, ") && r.errno == Errno::EINVAL,
        what: "the file system has no idmapped mounts",
        names: nothing,
        fix: "another one, or a newer kernel: ext4 and FAT since 5.12, xfs 5.13, btrfs 5.15, tmpfs 6.3" },
    Cause { fits: |f, r| r.call.contains("overlay") && r.errno == Errno::EPERM && f.version < (5, 11),
        what: "overlayfs cannot be mounted in a user namespace before Linux 5.11; tmpfs could",
        names: nothing,
        fix: "Linux 5.11 or newer" },
    Cause { fits: |f, r| f.missing.iter().any(|call| r.is(call)) || r.errno == Errno::ENOSYS,
        what: "this kernel is too old for the call, or was built without it",
        names: nothing,
        fix: "a newer kernel" },
    Cause { fits: |f, r| r.makes_userns() && !f.has_userns,
        what: "this kernel was built without user namespaces: there is no /proc/self/ns/user",
        names: nothing,
        fix: "a kernel with CONFIG_USER_NS=y" },
    Cause { fits: |f, r| r.makes_userns() && r.errno == Errno::ENOSPC && f.max_user == Some(0),
        what: "user.max_user_namespaces is 0",
        names: nothing,
        fix: "sysctl -w user.max_user_namespaces=15000" },
    Cause { fits: |f, r| r.makes_userns() && r.errno == Errno::ENOSPC && f.is_first_userns,
        what: "this user's user namespaces have reached user.max_user_namespaces",
        names: nothing,
        fix: "sysctl -w user.max_user_namespaces=15000" },
    Cause { fits: |_, r| r.makes_userns() && matches!(r.errno, Errno::ENOSPC | Errno::EUSERS),
        what: "user.max_user_namespaces of this or an outer user namespace is reached, or this one lies 32 deep: the kernel does not let those inside see which",
        names: nothing,
        fix: "on the host: sysctl -w user.max_user_namespaces=15000; fewer containers in containers" },
    Cause { fits: |_, r| r.errno == Errno::ENOSPC && r.call.starts_with("unshare"),
        what: "a limit of namespaces is reached or 0: user.max_*_namespaces of this kind, here or further out",
        names: nothing,
        fix: "sysctl user | grep namespaces; sysctl -w user.max_KIND_namespaces=15000" },
    Cause { fits: |_, r| r.errno == Errno::EAGAIN,
        what: "no further process may be made: RLIMIT_NPROC, or pids.max of the cgroup",
        names: nothing,
        fix: "ulimit -u unlimited; or a larger pids.max: docker run --pids-limit -1, systemd TasksMax=" },
    Cause { fits: |f, r| r.makes_userns() && r.errno == Errno::EPERM && f.debian == Some(0) && f.effective & 1 << 21 == 0,
        what: "kernel.unprivileged_userns_clone is 0, and this process lacks CAP_SYS_ADMIN",
        names: nothing,
        fix: "sysctl -w kernel.unprivileged_userns_clone=1" },
    Cause { fits: |f, r| r.makes_userns() && r.errno == Errno::EPERM && !f.is_mapped,
        what: "the own user or group id has no number in this user namespace",
        names: nothing,
        fix: "start it as a user that /proc/self/uid_map and gid_map of this container list" },
    Cause { fits: |f, r| r.makes_userns() && r.errno == Errno::EPERM && f.is_chroot,
        what: "the root directory is a chroot, in which no user namespace can be made",
        names: nothing,
        fix: "enter that directory by pivot_root or unshare --mount --root instead of chroot" },
    Cause { fits: |f, r| r.is_denied() && f.domains.is_some_and(|n| n > 0) && (r.mounts() || r.errno == Errno::EACCES),
        what: "this process is in a Landlock domain, which refuses every mount and all files that it does not name",
        names: nothing,
        fix: "start it outside of that sandbox" },
    Cause { fits: |f, r| r.is("mount") && r.call.contains("proc") && r.errno == Errno::EPERM && !f.proc_masks.is_empty(),
        what: "parts of /proc are covered, as an outer container does it: a new proc would show what lies below",
        names: |f| f.proc_masks.join(", "),
        fix: "docker run --security-opt systempaths=unconfined; podman run --security-opt unmask=ALL; Kubernetes procMount: Unmasked" },
    Cause { fits: |_, r| r.is("mount") && r.call.contains("proc") && r.errno == Errno::EPERM,
        what: "a new proc may show no more than those that can be seen here, and none is whole and writable",
        names: nothing,
        fix: "mount proc at /proc of this container without a mask and not read-only: docker run --security-opt systempaths=unconfined" },
    Cause { fits: |f, r| r.is_denied() && f.apparmor.is_some_and(|n| n > 0) && f.uid != 0,
        what: "kernel.apparmor_restrict_unprivileged_userns is 1: user namespaces of ordinary users get no capability",
        names: nothing,
        fix: "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for agent-shim with `userns,`" },
    Cause { fits: |f, r| r.is_denied() && (f.label.contains("(enforce)") || f.label.contains(":")),
        what: "the security module refuses it to the label of this process: /proc/self/attr/current",
        names: |f| f.label.clone(),
        fix: "AppArmor: docker run --security-opt apparmor=unconfined; SELinux: docker run --security-opt label=disable, or ausearch -m avc" },
    Cause { fits: |f, r| r.is_denied() && r.makes_userns() && f.version >= (6, 1),
        what: "a security module (LSM) refuses user namespaces: no filter, sysctl, limit, chroot or id map does",
        names: |f| f.lsm.clone(),
        fix: "/sys/kernel/security/lsm lists them, dmesg or ausearch -m avc tells what was refused" },
    Cause { fits: |_, r| r.is_denied() && !r.makes_userns(),
        what: "a security module (LSM) refuses what the owner of a new user namespace may do: no filter and no sysctl that is known here does",
        names: |f| f.lsm.clone(),
        fix: "/sys/kernel/security/lsm lists them, dmesg or ausearch -m avc tells what was refused" },
];

fn nothing(_: &Facts) -> String {
    String::new()
}

/// Cause and fix of what an experiment was refused.
pub fn of(facts: &Facts, outcome: Outcome) -> Option<(String, &'static str)> {
    let cause = match Refusal::of(outcome) {
        Some(refusal) => CAUSES.iter().find(|c| (c.fits)(facts, &refusal)),
        // A filter may end who asks, instead of refusing.
        None if outcome == Outcome::Ended(End::Signaled(libc::SIGSYS)) => CAUSES.first(),
        None => None,
    }?;
    let names = (cause.names)(facts);
    let names = if names.is_empty() { names } else { format!(" ({names})") };
    Some((format!("{}{names}", cause.what), cause.fix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Facts {
        let (version, max_user) = ((6, 12), Some(1000));
        Facts {
            version,
            max_user,
            has_userns: true,
            is_mapped: true,
            uid: 1000,
            domains: Some(0),
            ..Facts::default()
        }
    }

    fn cause(facts: &Facts, call: &'static str, errno: Errno) -> String {
        of(facts, Outcome::Refused { call, errno, after: 0 }).unwrap_or_default().0
    }

    /// Hosts that no test can make here: what they answer, and the cause that is named.
    #[test] // seen to fail with the first row last
    fn one_errno_has_many_causes() {
        let (clone, eperm, enospc) = ("clone", Errno::EPERM, Errno::ENOSPC);
        let unshare = "unshare(CLONE_NEWUSER)";
        #[rustfmt::skip] // a row a line
        let rows: &[(Facts, &str, Errno, &str)] = &[
            (Facts { debian: Some(0), ..host() },                  clone,   eperm,  "unprivileged_userns_clone"),
            (Facts { debian: Some(0), effective: 1 << 21, ..host() }, clone, eperm, "(LSM) refuses user namespaces"),
            (Facts { filtered: vec!["clone"], debian: Some(0), ..host() }, clone, eperm, "seccomp filter"),
            (Facts { filtered: vec!["unshare"], ..host() },        unshare, eperm,  "seccomp filter"),
            (Facts { filtered: vec!["unshare"], ..host() },        clone,   eperm,  "(LSM) refuses user namespaces"),
            (Facts { is_mapped: false, ..host() },                 clone,   eperm,  "no number"),
            (Facts { is_chroot: true, ..host() },                  clone,   eperm,  "chroot"),
            (Facts { apparmor: Some(1), ..host() },                "write(uid_map)", eperm, "apparmor_restrict"),
            (Facts { apparmor: Some(1), ..host() },                "unshare(CLONE_NEWNS)", eperm, "apparmor_restrict"),
            (Facts { apparmor: Some(0), ..host() },                "unshare(CLONE_NEWNS)", eperm, "(LSM) refuses what"),
            (Facts { label: "docker-default (enforce)".into(), ..host() }, "mount(tmpfs)", Errno::EACCES, "label"),
            (Facts { label: "unconfined".into(), ..host() },       "mount(tmpfs)", Errno::EACCES, "(LSM)"),
            (Facts { domains: Some(1), ..host() },                 "mount(tmpfs)", eperm, "Landlock domain"),
            (Facts { max_user: Some(0), ..host() },                clone,   enospc, "user.max_user_namespaces is 0"),
            (Facts { is_first_userns: true, ..host() },            clone,   enospc, "have reached"),
            (host(),                                               clone,   enospc, "32 deep"),
            (host(),                                               "unshare(CLONE_NEWNET)", enospc, "user.max_*_namespaces"),
            (Facts { has_userns: false, ..host() },                clone,   Errno::EINVAL, "built without"),
            (Facts { proc_masks: vec!["/proc/acpi".into()], ..host() }, "mount(proc)", eperm, "covered"),
            (host(),                                               "mount(proc)", eperm, "whole and writable"),
            (host(),                                               clone,   Errno::EAGAIN, "RLIMIT_NPROC"),
        ];
        for (facts, call, errno, says) in rows {
            let said = cause(facts, call, *errno);
            assert!(said.contains(says), "{call} {errno:?}: {said:?}, not {says:?}");
        }
    }
}
