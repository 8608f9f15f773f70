//! Pins: what comes from the host, as detached mounts, taken before anything else is made. From
//! then on no path of the host is walked, so nobody can exchange what it leads to, and the old
//! root can go before the new one is filled. open_tree(2), mount_setattr(2), openat2(2).
//!
//! Runs in the child, between clone3 and execve: no allocation, no panic. As root, binds are
//! pinned in the parent: only there root still reaches them, and may map ids.

use std::cell::Cell;
use std::ffi::CStr;
use std::os::fd::RawFd;

use agent_init::error::{Errno, Step};
use agent_init::layers::Layers;

use crate::error::{At, Failure};
use crate::plan::{Identity, Plan};
use crate::room::{Bind, Kind, Node};
use crate::spec::Mode;
use crate::sys::{self, NODEV, NOEXEC, NOSUID, RDONLY};

/// A descriptor for each node of a plan, -1 where it needs none.
#[derive(Debug)]
pub struct Pins(Vec<Cell<RawFd>>);

impl Pins {
    /// None yet.
    pub fn of(plan: &Plan) -> Pins {
        Pins(plan.nodes.iter().map(|_| Cell::new(-1)).collect())
    }

    /// The mount of node number `n`.
    pub fn get(&self, n: usize) -> RawFd {
        self.0.get(n).map_or(-1, Cell::get)
    }

    /// The mount of the device at `path`, if the room has that one.
    pub fn at(&self, plan: &Plan, path: &CStr) -> Option<RawFd> {
        let is_there = |n: &Node| n.path.as_c_str() == path && matches!(n.kind, Kind::Device(..));
        plan.nodes.iter().position(is_there).map(|n| self.get(n)).filter(|fd| *fd != -1)
    }

    fn set(&self, n: usize, fd: RawFd) {
        if let Some(cell) = self.0.get(n) {
            cell.set(fd);
        }
    }

    /// Binds, each shown with the ids that `namespace` maps, if it is one with an owner.
    pub fn binds(
        &self,
        plan: &Plan,
        mut namespace: impl FnMut((u32, u32)) -> Result<RawFd, Failure>,
    ) -> Result<(), Failure> {
        for (n, node) in plan.nodes.iter().enumerate() {
            let source = match &node.kind {
                Kind::Bind(bind) | Kind::Overlay(bind) => bind,
                _ => continue,
            };
            let map = match source.shown_as_own {
                true => Some((namespace(source.owner)?, plan.identity.ids())),
                false => None,
            };
            self.set(n, bind(source, map, true)?);
        }
        Ok(())
    }

    /// All that has no pin yet.
    pub fn rest(&self, plan: &Plan) -> Result<(), Failure> {
        for (n, node) in plan.nodes.iter().enumerate() {
            if self.get(n) != -1 {
                continue;
            }
            match &node.kind {
                // Only root may map ids, and has pinned it.
                Kind::Bind(source) | Kind::Overlay(source) if source.shown_as_own => {
                    return Err(Errno::EPERM).at(Step::PIN, "mount_setattr", "MOUNT_ATTR_IDMAP");
                }
                Kind::Bind(source) | Kind::Overlay(source) => {
                    self.set(n, bind(source, None, false)?)
                }
                Kind::Device(major, minor) => self.set(n, device(&node.path, *major, *minor)?),
                Kind::Mask(false) => self.set(n, device(c"/dev/null", 1, 3)?),
                Kind::Proc => self.set(n, proc_of(plan, node)?),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        for cell in &self.0 {
            if cell.get() != -1 {
                let _freed = sys::close(cell.replace(-1));
            }
        }
    }
}

/// The file or directory that was judged, with its mounts below, as it is to be shown. `own`: this
/// process has opened it, and is in the mount namespace that it was opened in.
fn bind(bind: &Bind, map: Option<(RawFd, (u32, u32))>, own: bool) -> Result<RawFd, Failure> {
    let path = bind.source.path.to_bytes();
    let held = bind.source.number();
    // Elsewhere the kernel clones no mount of another namespace (EINVAL): the same is opened again.
    let file = if own { held } else { again(bind)? };
    let tree = sys::clone_tree(file, true).at(Step::PIN, "open_tree", path)?;
    if !own {
        sys::close(file).at(Step::PIN, "close", path)?;
    }
    let mut attrs = match bind.mode {
        Mode::ReadOnly | Mode::Socket => RDONLY | NOSUID | NODEV,
        Mode::Writable => NOSUID | NODEV,
        Mode::Devices => NOSUID,
    };
    if bind.is_device() {
        attrs |= RDONLY; // it can be written to all the same, but its mode, owner and times stay
    }
    let namespace = map.map(|(fd, _)| fd);
    sys::set_tree(tree, attrs, namespace).at(Step::PIN, "mount_setattr", path)?;
    is_shown_so(bind, tree, attrs, map.map(|(_, ids)| ids))?;
    Ok(tree)
}

/// What the path leads to now, by the same rules; only if it is what is held, whose number nothing
/// else can have meanwhile.
fn again(bind: &Bind) -> Result<RawFd, Failure> {
    let path = bind.source.path.to_bytes();
    let file = sys::open_no_links(&bind.source.path).at(Step::PIN, "openat2", path)?;
    let (seen, held) = (sys::facts(file).at(Step::PIN, "fstat", path)?, bind.source.facts);
    match (seen.inode, seen.kind) == (held.inode, held.kind) {
        true => Ok(file),
        false => Err(Errno::ESTALE).at(Step::PIN, "fstat", path),
    }
}

fn is_shown_so(
    bind: &Bind,
    tree: RawFd,
    attrs: u64,
    ids: Option<(u32, u32)>,
) -> Result<(), Failure> {
    let path = bind.source.path.to_bytes();
    let flags = sys::mount_flags(tree).at(Step::PIN, "fstatvfs", path)?;
    let shown = sys::file_id(tree).at(Step::PIN, "fstat", path)?;
    let same = shown.inode == bind.source.facts.inode;
    if flags & attrs != attrs || !same || ids.is_some_and(|i| i != shown.owner) {
        return Err(Failure::not_in_force(Step::PIN, path));
    }
    Ok(())
}

/// How a device is mounted: it can be read and written all the same.
pub const OUT_OF_REACH: u64 = RDONLY | NOSUID | NOEXEC;

/// A device of the host, its mode, owner and times out of reach. A name is not trusted
/// (CVE-2025-31133).
pub fn device(path: &CStr, major: u32, minor: u32) -> Result<RawFd, Failure> {
    let name = path.to_bytes();
    let file = sys::open_no_links(path).at(Step::PIN, "openat2", name)?;
    let tree = sys::clone_tree(file, false).at(Step::PIN, "open_tree", name)?;
    sys::close(file).at(Step::PIN, "close", name)?;
    sys::set_mount(tree, OUT_OF_REACH).at(Step::PIN, "mount_setattr", name)?;
    let flags = sys::mount_flags(tree).at(Step::PIN, "fstatvfs", name)?;
    let device = sys::file_id(tree).at(Step::PIN, "fstat", name)?.device;
    if device != Some((major, minor)) || flags & OUT_OF_REACH != OUT_OF_REACH {
        return Err(Failure::not_in_force(Step::PIN, name));
    }
    Ok(tree)
}

/// The pid namespace's own; without one, the host's. Made while the old one is still in sight:
/// the kernel shows a user namespace no more of proc than it sees already.
fn proc_of(plan: &Plan, node: &Node) -> Result<RawFd, Failure> {
    if plan.made().contains(Layers::PID) && plan.identity != Identity::RealRoot {
        return sys::detached(c"proc", &[], NOSUID | NODEV | NOEXEC).at(
            Step::PIN,
            "fsmount",
            "proc",
        );
    }
    let name = node.path.to_bytes();
    let file = sys::open_no_links(&node.path).at(Step::PIN, "openat2", name)?;
    let tree = sys::clone_tree(file, true).at(Step::PIN, "open_tree", name)?;
    sys::close(file).at(Step::PIN, "close", name)?;
    Ok(tree)
}
