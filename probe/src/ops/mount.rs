//! The mount tree. mount(2), umount2(2), mount_namespaces(7).

use std::ffi::CStr;
use std::fs;
use std::os::unix::fs::MetadataExt;

use super::{SELF_GUARD, failed, is_absent};
use crate::facts::{ns_inode, read_text, status_field};
use crate::{Errno, Facts, Kind, Op, Outcome, sys};

pub(super) const OPS: &[Op] = &[Op {
    id: "mnt-tmpfs",
    title: "mount tmpfs /tmp",
    group: "mount",
    call: r#"mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID|MS_NODEV|MS_NOEXEC, "size=64k"); statfs; umount2(MNT_DETACH)"#,
    safe: "only in a mount namespace that is not the host's and shares no mount with it, or where it cannot succeed",
    judged: "/tmp is a tmpfs on another device than before",
    run: |facts| Ok(mount_tmpfs(facts)),
    kind: Kind::Attack,
    needs: &[],
    counted: false,
    open: None,
}];

const TMP: &str = "/tmp";
const TMP_C: &CStr = c"/tmp";

fn mount_tmpfs(facts: &Facts) -> Outcome {
    if !stays_here(facts) {
        return Outcome::SKIP.note(SELF_GUARD);
    }
    let before = tmp_device();
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    if let Err(errno) = sys::mount_tmpfs(TMP_C, flags, c"size=64k") {
        let outcome = Outcome::BLOCKED.errno(errno);
        let missing = errno == Errno(libc::ENOENT) && is_absent(TMP);
        return if missing { outcome.note(super::NOT_PRESENT) } else { outcome };
    }
    if tmp_device() == before || sys::is_tmpfs(TMP_C) != Ok(true) {
        // Nothing of ours is on top, so there is nothing to take away.
        return Outcome::BLOCKED.note("returned 0, nothing mounted");
    }
    match sys::umount_detach(TMP_C) {
        Ok(()) => Outcome::ALLOWED,
        Err(errno) => Outcome::ALLOWED.note(failed("left mounted", errno)),
    }
}

/// `st_dev` of what lies at `/tmp`.
fn tmp_device() -> Option<u64> {
    fs::metadata(TMP).ok().map(|tmp| tmp.dev())
}

/// What the guard knows; `None`: it could not be read.
struct Evidence {
    host_mntns: Option<u64>,
    own_mntns: Option<u64>,
    host_userns: Option<u64>,
    own_userns: Option<u64>,
    sys_admin: Option<bool>, // of this process, in its own user namespace
    shared: Option<bool>,    // the mount under /tmp propagates to peers
}

impl Evidence {
    fn gather(facts: &Facts) -> Evidence {
        let status = read_text("/proc/self/status").ok();
        let mounts = read_text("/proc/self/mountinfo").ok();
        Evidence {
            host_mntns: facts.mntns,
            own_mntns: ns_inode("mnt"),
            host_userns: facts.userns,
            own_userns: ns_inode("user"),
            sys_admin: status.and_then(|status| holds_sys_admin(&status)),
            shared: mounts.and_then(|mounts| is_shared(&mounts, sys::mount_id(TMP_C).ok()?)),
        }
    }
}

/// Whether a mount on /tmp reaches nobody else.
pub(super) fn stays_here(facts: &Facts) -> bool {
    is_harmless(&Evidence::gather(facts))
}

/// The guard. Where the call cannot succeed it is asked all the same: without CAP_SYS_ADMIN, or in the host's mount
/// namespace from another user namespace, whose capabilities mean nothing there. Where it can, the namespace must be
/// known not to be the host's, and the mount must not be seen to propagate. A room may hide mountinfo from the agent:
/// that alone does not hold the call back.
fn is_harmless(known: &Evidence) -> bool {
    let mntns = differ(known.host_mntns, known.own_mntns);
    let powerless = known.sys_admin == Some(false)
        || (mntns == Some(false) && differ(known.host_userns, known.own_userns) == Some(true));
    powerless || (mntns == Some(true) && known.shared != Some(true))
}

/// `None`: one of the two is not known.
fn differ(host: Option<u64>, own: Option<u64>) -> Option<bool> {
    Some(host? != own?)
}

/// Bit 21 of the effective set. capabilities(7), linux/capability.h.
const CAP_SYS_ADMIN: u64 = 1 << 21;

fn holds_sys_admin(status: &str) -> Option<bool> {
    let effective = u64::from_str_radix(status_field(status, "CapEff")?, 16).ok()?;
    Some(effective & CAP_SYS_ADMIN != 0)
}

/// Whether a mount has peers: an optional field `shared:N` between the sixth field and the `-`. proc_pid_mountinfo(5).
fn is_shared(mountinfo: &str, id: u64) -> Option<bool> {
    let id = id.to_string();
    let line = mountinfo.lines().find(|line| line.split(' ').next() == Some(&id))?;
    let mut optional = line.split(' ').skip(6).take_while(|field| *field != "-");
    Some(optional.any(|field| field.starts_with("shared:")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Evidence = Evidence {
        host_mntns: Some(1),
        own_mntns: Some(2),
        host_userns: Some(3),
        own_userns: Some(3),
        sys_admin: Some(true),
        shared: Some(false),
    };

    #[test]
    fn with_the_capability_the_namespace_must_be_known_and_another() {
        assert!(is_harmless(&ROOM));
        assert!(!is_harmless(&Evidence { host_mntns: Some(2), ..ROOM }));
        assert!(!is_harmless(&Evidence { host_mntns: None, ..ROOM }));
        assert!(!is_harmless(&Evidence { own_mntns: None, ..ROOM }));
        assert!(!is_harmless(&Evidence { own_mntns: None, sys_admin: None, ..ROOM }));
    }

    #[test]
    fn another_namespace_that_shares_its_mounts_is_guarded() {
        assert!(!is_harmless(&Evidence { shared: Some(true), ..ROOM }));
        assert!(is_harmless(&Evidence { shared: None, ..ROOM }));
    }

    #[test]
    fn without_the_capability_it_is_asked_anywhere() {
        let plain =
            Evidence { own_mntns: Some(1), sys_admin: Some(false), shared: Some(true), ..ROOM };
        assert!(is_harmless(&plain));
        assert!(!is_harmless(&Evidence { sys_admin: None, ..plain }));
    }

    #[test]
    fn a_capability_of_another_user_namespace_is_none_in_the_hosts_mount_namespace() {
        let foreign = Evidence { own_mntns: Some(1), own_userns: Some(4), shared: None, ..ROOM };
        assert!(is_harmless(&foreign));
        assert!(!is_harmless(&Evidence { own_userns: Some(3), ..foreign }));
        assert!(!is_harmless(&Evidence { host_userns: None, ..foreign }));
        assert!(!is_harmless(&Evidence { own_userns: None, ..foreign }));
        // Only there: a mount namespace of its own may well be ruled from its user namespace.
        assert!(!is_harmless(&Evidence { own_mntns: Some(2), shared: Some(true), ..foreign }));
        assert!(!is_harmless(&Evidence { own_mntns: None, ..foreign }));
    }

    #[test]
    fn the_capability_is_bit_21() {
        assert_eq!(holds_sys_admin("CapEff:\t0000000000200000\n"), Some(true));
        assert_eq!(holds_sys_admin("CapEff:\t000001ffffdfffff\n"), Some(false));
        assert_eq!(holds_sys_admin("CapPrm:\t0000000000200000\n"), None);
    }

    #[test]
    fn peers_are_an_optional_field() {
        let mounts = "2 1 0:1 / / rw - ext4 shared:9 rw\n\
                      21 2 0:2 / /tmp rw shared:5 master:1 - tmpfs tmpfs rw\n";
        assert_eq!(is_shared(mounts, 2), Some(false));
        assert_eq!(is_shared(mounts, 21), Some(true));
        assert_eq!(is_shared(mounts, 1), None);
    }
}
