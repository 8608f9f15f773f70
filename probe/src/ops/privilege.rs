//! Ids, capabilities, namespaces. credentials(7), capabilities(7), namespaces(7), unshare(2), clone(2).

use std::os::unix::fs::MetadataExt;

use super::{doubt, happened, unless_own};
use crate::facts::ns_inode;
use crate::objects::ints;
use crate::sys::{self, Arg, End, call};
use crate::{Errno, Facts, Op, Outcome, Tried};

const fn row(texts: [&'static str; 5], run: fn(&Facts) -> Tried) -> Op {
    Op::attack("privilege", texts, run)
}

const OWN: &str = "of this process only";
const CHILD: &str = "of a child that exits at once";
const INODE: &str = "the inode of the namespace is another";

#[rustfmt::skip] // a row a line
pub(super) const OPS: &[Op] = &[
    row(["ns-user",         "unshare a user namespace",     "unshare(CLONE_NEWUSER)",    OWN, INODE], |_| unshare(libc::CLONE_NEWUSER, "user")),
    row(["ns-mnt",          "unshare a mount namespace",    "unshare(CLONE_NEWNS)",      OWN, INODE], |_| unshare(libc::CLONE_NEWNS, "mnt")),
    row(["ns-pid",          "unshare a pid namespace",      "unshare(CLONE_NEWPID); fork", OWN, "the child is its PID 1"], pid_namespace),
    row(["ns-net",          "unshare a network namespace",  "unshare(CLONE_NEWNET)",     OWN, INODE], |_| unshare(libc::CLONE_NEWNET, "net")),
    row(["ns-ipc",          "unshare an ipc namespace",     "unshare(CLONE_NEWIPC)",     OWN, INODE], |_| unshare(libc::CLONE_NEWIPC, "ipc")),
    row(["ns-uts",          "unshare a uts namespace",      "unshare(CLONE_NEWUTS)",     OWN, INODE], |_| unshare(libc::CLONE_NEWUTS, "uts")),
    row(["ns-cgroup",       "unshare a cgroup namespace",   "unshare(CLONE_NEWCGROUP)",  OWN, INODE], |_| unshare(libc::CLONE_NEWCGROUP, "cgroup")),
    row(["ns-time",         "unshare a time namespace",     "unshare(CLONE_NEWTIME)",    OWN, "/proc/self/ns/time_for_children is another"], time_namespace),
    row(["ns-clone-user",   "clone into a user namespace",  "clone(CLONE_NEWUSER|SIGCHLD)", CHILD, "the child was made, and exits as told"], clone_user),
    row(["ns-clone3-user",  "clone3 into a user namespace", "clone3({CLONE_NEWUSER, SIGCHLD})", CHILD, "the child was made, and exits as told"], clone3_user),
    row(["ns-high-bits",    "unshare with high bits set",   "syscall(1 << 32 | unshare, CLONE_NEWUSER)", OWN, INODE], high_bits),
    row(["ns-setns-init",   "enter the mounts of PID 1",    r#"open("/proc/1/ns/mnt"); setns(CLONE_NEWNS)"#, "of this process only, which then ends", "the inode of the own mount namespace is that of PID 1"], setns_init),
    row(["ns-get-owner",    "user namespace outside",       r#"open("/proc/self/ns/pid"); ioctl(NS_GET_USERNS); fstat"#, "closes it at once", "its inode is that of the host's user namespace"], outer),
    row(["cap-raise",       "raise a capability",           "capget; capset(+CAP_SYS_ADMIN)", OWN, "capget says that it is effective"], raise),
    row(["cap-ambient",     "raise an ambient capability",  "capset(inheritable CAP_NET_RAW); prctl(PR_CAP_AMBIENT_RAISE)", OWN, "it is in the set"], ambient),
    row(["cap-securebits",  "clear the securebits",         "prctl(PR_SET_SECUREBITS, 0)", OWN, "PR_GET_SECUREBITS says 0"], securebits),
    row(["id-setuid-0",     "become root",                  "setresuid(0, 0, 0)",        OWN, "geteuid says 0; of the room's own user namespace: CONTAINED"], become_root),
    row(["id-setuid-other", "become another user",          "setresuid(1, 1, 1)",        OWN, "geteuid says 1"], become_other),
    row(["id-setgid-0",     "become group root",            "setresgid(0, 0, 0)",        OWN, "getegid says 0; of the room's own user namespace: CONTAINED"], become_group),
    row(["id-setgroups",    "set supplementary groups",     "setgroups(1, {0})",         OWN, "getgroups gives it back"], groups),
    row(["seccomp-listen",  "a filter with a listener",     "seccomp(SECCOMP_SET_MODE_FILTER, NEW_LISTENER)", "of this process only; allows everything", "a descriptor comes"], listener).open("a filter can only tighten; its listener is the room's own"),
];

fn unshare(flag: i32, kind: &str) -> Tried {
    let before = ns_inode(kind);
    call(libc::SYS_unshare, &mut [Arg::N(flag.into())])?;
    happened(before.is_none() || ns_inode(kind) != before)
}

fn pid_namespace(_: &Facts) -> Tried {
    call(libc::SYS_unshare, &mut [Arg::N(libc::CLONE_NEWPID.into())])?;
    let ended = sys::in_child(|| {
        let pid = call(libc::SYS_getpid, &mut []).unwrap_or(0);
        i32::from(pid != 1)
    });
    happened(ended.map_err(doubt("fork"))? == End::Exited(0))
}

fn time_namespace(_: &Facts) -> Tried {
    let inode = || std::fs::read_link("/proc/self/ns/time_for_children").ok();
    let before = inode();
    call(libc::SYS_unshare, &mut [Arg::N(libc::CLONE_NEWTIME.into())])?;
    happened(before.is_none() || inode() != before)
}

fn clone_user(_: &Facts) -> Tried {
    let child = sys::clone_and_exit(libc::CLONE_NEWUSER.into(), 7)?;
    happened(sys::wait(child).map_err(doubt("wait"))? == End::Exited(7))
}

/// CLONE_NEWUSER, linux/sched.h.
fn clone3_user(_: &Facts) -> Tried {
    let child = sys::clone3_and_exit(0x1000_0000, 7)?;
    happened(sys::wait(child).map_err(doubt("wait"))? == End::Exited(7))
}

fn high_bits(_: &Facts) -> Tried {
    let before = ns_inode("user");
    call(1 << 32 | libc::SYS_unshare, &mut [Arg::N(libc::CLONE_NEWUSER.into())])?;
    happened(before.is_none() || ns_inode("user") != before)
}

fn setns_init(_: &Facts) -> Tried {
    let file = std::fs::File::open("/proc/1/ns/mnt")?;
    let of_init = file.metadata().map_err(doubt("fstat"))?.ino();
    call(libc::SYS_setns, &mut [sys::n(&file), Arg::N(libc::CLONE_NEWNS.into())])?;
    happened(ns_inode("mnt") == Some(of_init))
}

/// linux/nsfs.h. EPERM: it lies outside of the own user namespace; in the first one there is nothing further out,
/// and that is EPERM too: then the namespace itself is the host's.
fn outer(facts: &Facts) -> Tried {
    let file = std::fs::File::open("/proc/self/ns/pid").map_err(doubt("open"))?;
    let own = sys::call_fd(libc::SYS_ioctl, &mut [sys::n(&file), Arg::N(0xb701), Arg::N(0)])?;
    let inode = std::fs::File::from(own).metadata().map_err(doubt("fstat"))?.ino();
    match facts.userns {
        Some(host) if host == inode => Ok(Outcome::ALLOWED),
        Some(_) => Ok(Outcome::CONTAINED.note("the room's own")),
        None => Ok(Outcome::INCONCLUSIVE.note(super::NOT_COMPARED)),
    }
}

/// Version 3; effective, permitted, inheritable, of 32 capabilities, twice. linux/capability.h.
const VERSION: i32 = 0x2008_0522;

fn capget() -> Result<[u8; 24], Errno> {
    let (header, mut sets) = (ints(&[VERSION, 0]), [0; 24]);
    call(libc::SYS_capget, &mut [Arg::In(&header), Arg::Out(&mut sets)])?;
    Ok(sets)
}

fn capset(sets: &[u8]) -> Result<(), Errno> {
    let header = ints(&[VERSION, 0]);
    call(libc::SYS_capset, &mut [Arg::In(&header), Arg::In(sets)]).map(drop)
}

/// Byte and bit of CAP_SYS_ADMIN, 21, in a set of 32.
const SYS_ADMIN: (usize, u8) = (2, 1 << 5);

fn raise(_: &Facts) -> Tried {
    let mut sets = capget().map_err(doubt("capget"))?;
    for set in [0, 4] {
        sets[set + SYS_ADMIN.0] |= SYS_ADMIN.1;
    }
    capset(&sets)?;
    happened(capget().map_err(doubt("capget"))?[SYS_ADMIN.0] & SYS_ADMIN.1 != 0)
}

/// CAP_NET_RAW, 13; PR_CAP_AMBIENT 47, IS_SET 1, RAISE 2.
fn ambient(_: &Facts) -> Tried {
    let mut sets = capget().map_err(doubt("capget"))?;
    sets[8 + 1] |= 1 << 5;
    capset(&sets)?;
    prctl([47, 2, 13])?;
    happened(prctl([47, 1, 13]) == Ok(1))
}

fn prctl([option, a, b]: [i64; 3]) -> Result<i64, Errno> {
    call(libc::SYS_prctl, &mut [Arg::N(option), Arg::N(a), Arg::N(b), Arg::N(0), Arg::N(0)])
}

fn securebits(_: &Facts) -> Tried {
    prctl([28, 0, 0])?;
    happened(prctl([27, 0, 0]) == Ok(0))
}

fn become_ids(number: i64, id: i64, get: i64) -> Result<bool, Outcome> {
    call(number, &mut [Arg::N(id), Arg::N(id), Arg::N(id)])?;
    Ok(call(get, &mut []) == Ok(id))
}

fn become_root(facts: &Facts) -> Tried {
    match become_ids(libc::SYS_setresuid, 0, libc::SYS_geteuid)? {
        true => Ok(unless_own(facts.userns, "user")),
        false => happened(false),
    }
}

fn become_group(facts: &Facts) -> Tried {
    match become_ids(libc::SYS_setresgid, 0, libc::SYS_getegid)? {
        true => Ok(unless_own(facts.userns, "user")),
        false => happened(false),
    }
}

fn become_other(_: &Facts) -> Tried {
    happened(become_ids(libc::SYS_setresuid, 1, libc::SYS_geteuid)?)
}

fn groups(_: &Facts) -> Tried {
    let root = ints(&[0]);
    call(libc::SYS_setgroups, &mut [Arg::N(1), Arg::In(&root)])?;
    let mut back = [255; 4];
    happened(
        call(libc::SYS_getgroups, &mut [Arg::N(1), Arg::Out(&mut back)]) == Ok(1) && back == [0; 4],
    )
}

/// SECCOMP_FILTER_FLAG_NEW_LISTENER, 8. Without no_new_privs it needs CAP_SYS_ADMIN; everyone may set that.
fn listener(_: &Facts) -> Tried {
    prctl([38, 1, 0]).map_err(doubt("PR_SET_NO_NEW_PRIVS"))?;
    happened(sys::filter_all(8)? >= 0)
}
