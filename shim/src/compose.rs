//! The root: a tmpfs that nobody has seen, entered by pivot_root with the old root detached, then
//! filled by a walk over the plan's nodes. By then nothing of the host can be named: what comes
//! from there is a detached mount, see [`crate::pin`]. mount(2), fsmount(2), pivot_root(2).
//!
//! Runs in the child, between clone3 and execve: no allocation, no panic.

use std::ffi::{CStr, CString};
use std::os::fd::RawFd;

use agent_init::error::{Errno, Step};
use agent_init::layers::Layers;

use crate::error::{At, Failure};
use crate::limits::{Limits, Resource};
use crate::overlay;
use crate::pin::Pins;
use crate::plan::{Identity, Plan};
use crate::room::{Kind, Node, relative};
use crate::sys::{self, NODEV, NOSUID, RDONLY};

/// What the host's root is needed for: nothing spreads to it from now on, and all that is shown of it is held.
pub fn hold(plan: &Plan, pins: &Pins) -> Result<(), Failure> {
    let layers = plan.made();
    if !layers.intersects(Layers::MNT | Layers::PID) && plan.identity != Identity::RealRoot {
        return Ok(());
    }
    sys::mount(c"", c"/", c"", libc::MS_REC | libc::MS_PRIVATE, c"").at(
        Step::COMPOSE,
        "mount",
        "/, MS_PRIVATE",
    )?;
    if layers.contains(Layers::MNT) { pins.rest(plan) } else { Ok(()) }
}

/// Makes the mount namespace what the layers ask for, and enters it.
pub fn compose(plan: &Plan, pins: &Pins) -> Result<(), Failure> {
    let layers = plan.made();
    if layers.contains(Layers::MNT) {
        enter(plan)?;
        fill(plan, pins)
    } else if layers.contains(Layers::PID) {
        if plan.identity == Identity::RealRoot {
            // Where the layer is all that there is, the host's must not lie beneath.
            sys::detach(c"/proc").at(Step::COMPOSE, "umount2", "/proc")?;
        }
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        let mounted = sys::mount(c"proc", c"/proc", c"proc", flags, c"");
        mounted.at(Step::COMPOSE, "mount", "proc, /proc")
    } else {
        Ok(())
    }
}

/// The size of each tmpfs of a room: tmpfs(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    size: CString,
    inodes: CString,
    // The same, to be compared.
    capacity: (u64, u64),
}

impl Tmpfs {
    /// Made before the clone.
    pub fn of(limits: &Limits) -> Tmpfs {
        // 0 is no limit.
        let most = |resource| limits.most(resource).unwrap_or(0);
        let (size, inodes) = (most(Resource::TmpfsSize), most(Resource::TmpfsInodes));
        let text = |n: u64| CString::new(n.to_string()).unwrap_or_default();
        Tmpfs { size: text(size), inodes: text(inodes), capacity: (size, inodes) }
    }

    /// A new one, attached nowhere.
    pub fn make(&self, mode: &CStr, attrs: u64) -> Call<RawFd> {
        let options = [(c"mode", mode), (c"size", &self.size), (c"nr_inodes", &self.inodes)];
        let fd = call("fsmount", sys::detached(c"tmpfs", &options, attrs))?;
        let (bytes, inodes) = call("fstatfs", sys::capacity(fd))?;
        // In whole pages.
        let same = |n: u64| n == bytes || n < bytes && bytes - n < MOST_PAGE && n != 0;
        match same(self.capacity.0) && inodes == self.capacity.1 {
            true => Ok(fd),
            false => Err((agent_init::error::READ_BACK, Errno(0))),
        }
    }
}

/// The largest page.
const MOST_PAGE: u64 = 64 << 10;

/// Enters the new root, which is empty.
fn enter(plan: &Plan) -> Result<(), Failure> {
    let fd = plan.tmpfs.make(c"0755", NOSUID | NODEV);
    let fd = fd.map_err(|(call, errno)| Failure::new(Step::COMPOSE, call, "tmpfs", errno))?;
    // Over the old root, so that no directory of the host has to be there for it.
    sys::attach(fd, c"/").at(Step::COMPOSE, "move_mount", "tmpfs, /")?;
    sys::fchdir(fd).at(Step::COMPOSE, "fchdir", "tmpfs")?;
    sys::pivot_root_here().at(Step::PIVOT, "pivot_root", ".")?;
    sys::detach(c".").at(Step::PIVOT, "umount2", "the old root")?;
    sys::chdir(c"/").at(Step::PIVOT, "chdir", "/")
}

fn fill(plan: &Plan, pins: &Pins) -> Result<(), Failure> {
    overlay::begin(plan)?;
    for (n, node) in plan.nodes.iter().enumerate() {
        let step =
            if matches!(node.kind, Kind::Overlay(_)) { Step::OVERLAY } else { Step::COMPOSE };
        make(plan, node, pins.get(n))
            .map_err(|(call, errno)| Failure::new(step, call, node.path.to_bytes(), errno))?;
    }
    overlay::end(plan)
}

/// A call that failed; errno 0: it did not, and had no effect.
pub type Call<T> = Result<T, (&'static str, Errno)>;

/// Names a call.
pub fn call<T>(name: &'static str, result: Result<T, Errno>) -> Call<T> {
    result.map_err(|errno| (name, errno))
}

/// One node, with its pin. Paths are relative to the new root.
fn make(plan: &Plan, node: &Node, pin: RawFd) -> Call<()> {
    let at = relative(&node.path);
    match &node.kind {
        Kind::Dir(mode) | Kind::Scratch(mode) => call("mkdir", sys::mkdir(at, *mode)),
        Kind::Link(target) => call("symlink", sys::symlink(target, at)),
        Kind::File(content) => call("write", sys::make_file_of(at, content)),
        Kind::Devpts => {
            call("mkdir", sys::mkdir(at, 0o755))?;
            let options = c"newinstance,ptmxmode=0666,mode=620,max=64";
            let flags = libc::MS_NOSUID | libc::MS_NOEXEC;
            call("mount", sys::mount(c"devpts", at, c"devpts", flags, options))
        }
        Kind::Proc => attach(node, at, pin, true),
        Kind::Device(..) | Kind::Mask(false) => attach(node, at, pin, false),
        Kind::Bind(bind) => {
            attach(node, at, pin, bind.is_dir())?;
            bind.devices.iter().try_for_each(|at| keep_devices(at))
        }
        Kind::Overlay(bind) => {
            call("mkdir", sys::mkdir(at, 0o755))?;
            overlay::make(&node.path, pin, bind.source.facts.bits)
        }
        Kind::Tmpfs => {
            let fd = plan.tmpfs.make(c"0755", NOSUID | NODEV)?;
            attach(node, at, fd, true)
        }
        Kind::Mask(true) => {
            let fd = plan.tmpfs.make(c"0755", NOSUID | NODEV | RDONLY)?;
            attach(node, at, fd, true)
        }
    }
}

/// A mount of the host's device nodes, where it is now: nobody makes files there, nor changes any. Until it
/// was attached, the kernel let nobody but its top be changed.
fn keep_devices(at: &CStr) -> Call<()> {
    let mount = call("openat2", sys::open_no_links_beneath(at))?;
    call("mount_setattr", sys::set_mount(mount, RDONLY))?;
    let flags = call("fstatvfs", sys::mount_flags(mount))?;
    call("close", sys::close(mount))?;
    if flags & RDONLY == 0 { Err((agent_init::error::READ_BACK, Errno(0))) } else { Ok(()) }
}

/// Attaches a mount at its place, which is made unless it is the host's, and sees it there.
fn attach(node: &Node, at: &CStr, mount: RawFd, is_dir: bool) -> Call<()> {
    if node.on_host {
        // Its directories are the host's: a link there could lead elsewhere.
        let place = call("openat2", sys::open_no_links_beneath(at))?;
        call("move_mount", sys::attach_to(mount, place))?;
        call("close", sys::close(place))?;
    } else {
        match is_dir {
            true => call("mkdir", sys::mkdir(at, 0o755))?,
            // A mask lies over a file of proc.
            false if matches!(node.kind, Kind::Mask(_)) => {}
            false => call("mknod", sys::make_file(at))?,
        }
        call("move_mount", sys::attach(mount, at))?;
    }
    let (mounted, seen) = (call("fstat", sys::file_id(mount))?, call("stat", sys::path_id(at))?);
    if mounted == seen { Ok(()) } else { Err((agent_init::error::READ_BACK, Errno(0))) }
}
