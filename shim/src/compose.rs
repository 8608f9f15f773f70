//! The root: a tmpfs that nobody has seen, filled by a walk over the plan's nodes, then entered
//! by pivot_root with the old root detached. mount(2), fsmount(2), pivot_root(2).
//!
//! Runs in the child, between clone3 and execve: no allocation, no panic.

use std::ffi::CStr;

use agent_init::error::{Errno, Step};
use agent_init::layers::Layers;

use crate::error::{At, Failure};
use crate::plan::{Identity, Plan};
use crate::room::{self, Kind, Node};
use crate::sys;

/// MOUNT_ATTR_*, include/uapi/linux/mount.h.
const RDONLY: u64 = 1;
const NOSUID: u64 = 2;
const NODEV: u64 = 4;

const PROC_FLAGS: u64 = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

/// Makes the mount namespace what the layers ask for, and enters it.
pub fn compose(plan: &Plan) -> Result<(), Failure> {
    let layers = plan.made();
    if !layers.intersects(Layers::MNT | Layers::PID) && plan.identity != Identity::RealRoot {
        return Ok(());
    }
    sys::mount(c"", c"/", c"", libc::MS_REC | libc::MS_PRIVATE, c"").at(
        Step::COMPOSE,
        "mount",
        "/, MS_PRIVATE",
    )?;
    if layers.contains(Layers::MNT) {
        root(plan)
    } else if layers.contains(Layers::PID) {
        mount_proc(c"/proc")
    } else {
        Ok(())
    }
}

fn root(plan: &Plan) -> Result<(), Failure> {
    let options =
        [(c"mode", c"0755"), (c"size", room::TMPFS_SIZE), (c"nr_inodes", room::TMPFS_INODES)];
    let fd = sys::detached_tmpfs(&options, NOSUID | NODEV).at(Step::COMPOSE, "fsmount", "tmpfs")?;
    // Over the old root, so that no directory of the host has to be there for it.
    sys::attach(fd, c"/").at(Step::COMPOSE, "move_mount", "tmpfs, /")?;
    sys::fchdir(fd).at(Step::COMPOSE, "fchdir", "tmpfs")?;
    for node in &plan.nodes {
        make(node, plan.made())?;
    }
    sys::pivot_root_here().at(Step::PIVOT, "pivot_root", ".")?;
    sys::detach(c".").at(Step::PIVOT, "umount2", "the old root")?;
    sys::chdir(c"/").at(Step::PIVOT, "chdir", "/")
}

/// One node. Paths are relative to the new root, which holds nothing but what was made here.
fn make(node: &Node, made: Layers) -> Result<(), Failure> {
    let at = relative(&node.path);
    let named = |call: &'static str| (Step::COMPOSE, call, node.path.to_bytes());
    match &node.kind {
        Kind::Dir(mode) => done(sys::mkdir(at, *mode), named("mkdir")),
        Kind::Link(target) => done(sys::symlink(target, at), named("symlink")),
        Kind::Devpts => {
            let options = c"newinstance,ptmxmode=0666,mode=620,max=64";
            let flags = libc::MS_NOSUID | libc::MS_NOEXEC;
            done(sys::mount(c"devpts", at, c"devpts", flags, options), named("mount"))
        }
        Kind::Proc => {
            done(sys::mkdir(at, 0o555), named("mkdir"))?;
            if made.contains(Layers::PID) { mount_proc(at) } else { bind(node, at) }
        }
        Kind::Device(major, minor) => {
            done(sys::make_file(at), named("mknod"))?;
            bind(node, at)?;
            is_device(node, at, *major, *minor)
        }
        Kind::Masked => {
            done(sys::mount(c"dev/null", at, c"", libc::MS_BIND, c""), named("mount"))?;
            is_device(node, at, 1, 3)
        }
        Kind::ReadOnly(false) => {
            done(sys::make_file(at), named("mknod"))?;
            bind(node, at)
        }
        Kind::ReadOnly(true) => {
            done(sys::mkdir(at, 0o755), named("mkdir"))?;
            bind(node, at)
        }
    }
}

/// A name is not trusted (CVE-2025-31133), and a bind is seen to be there.
fn is_device(node: &Node, at: &CStr, major: u32, minor: u32) -> Result<(), Failure> {
    match sys::is_device(at, major, minor).at(Step::COMPOSE, "stat", node.path.to_bytes())? {
        true => Ok(()),
        false => Err(Failure::not_in_force(Step::COMPOSE, node.path.to_bytes())),
    }
}

/// The same path of the host. What is read-only is so before the room is entered.
fn bind(node: &Node, at: &CStr) -> Result<(), Failure> {
    let flags = libc::MS_BIND | libc::MS_REC;
    let path = node.path.to_bytes();
    sys::mount(&node.path, at, c"", flags, c"").at(Step::COMPOSE, "mount", path)?;
    if matches!(node.kind, Kind::ReadOnly(_)) {
        let attrs = RDONLY | NOSUID | NODEV;
        sys::mount_setattr(at, attrs).at(Step::COMPOSE, "mount_setattr", path)?;
        let wanted = libc::ST_RDONLY | libc::ST_NOSUID | libc::ST_NODEV;
        if sys::mount_flags(at).at(Step::COMPOSE, "statvfs", path)? & wanted != wanted {
            return Err(Failure::not_in_force(Step::COMPOSE, path));
        }
    }
    Ok(())
}

fn mount_proc(at: &CStr) -> Result<(), Failure> {
    sys::mount(c"proc", at, c"proc", PROC_FLAGS, c"").at(Step::COMPOSE, "mount", "proc, /proc")
}

fn done(
    result: Result<(), Errno>,
    (step, call, object): (Step, &'static str, &[u8]),
) -> Result<(), Failure> {
    result.at(step, call, object)
}

/// Without the leading slash.
fn relative(path: &CStr) -> &CStr {
    let bytes = path.to_bytes_with_nul();
    let rest = bytes.strip_prefix(b"/").unwrap_or(bytes);
    CStr::from_bytes_with_nul(rest).unwrap_or(c".")
}
