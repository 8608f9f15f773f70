//! A writable layer over the directories of an image: one overlay a directory, all layers on one
//! tmpfs that is seen nowhere in the end. Documentation/filesystems/overlayfs.rst.
//!
//! Runs in the child, between clone3 and execve: no allocation, no panic.

use std::ffi::CStr;
use std::os::fd::RawFd;

use agent_init::error::{Errno, Step};

use crate::compose::{Call, call};
use crate::error::{At, Failure};
use crate::plan::Plan;
use crate::room::{Kind, relative};
use crate::sys::{self, NODEV, NOSUID};

/// Where the layers lie while the room is filled.
const LAYERS: &CStr = c".agent-shim-layers";

/// Relative to a directory of the overlay's own.
const OPTIONS: &[(&CStr, &CStr)] = &[
    (c"lowerdir", c"lower"),
    (c"upperdir", c"upper"),
    (c"workdir", c"work"),
    // In a user namespace the layers' attributes are user.*: Linux 5.11.
    (c"userxattr", c""),
];

fn has_any(plan: &Plan) -> bool {
    plan.nodes.iter().any(|n| matches!(n.kind, Kind::Overlay(_)))
}

/// A place for the layers.
pub fn begin(plan: &Plan) -> Result<(), Failure> {
    if !has_any(plan) {
        return Ok(());
    }
    sys::mkdir(LAYERS, 0o700).at(Step::OVERLAY, "mkdir", "layers")?;
    let fd = plan.tmpfs.make(c"0700", NOSUID | NODEV);
    let fd = fd.map_err(|(call, errno)| Failure::new(Step::OVERLAY, call, "layers", errno))?;
    sys::attach(fd, LAYERS).at(Step::OVERLAY, "move_mount", "layers")
}

/// It goes before the agent comes; the overlays hold their layers themselves.
pub fn end(plan: &Plan) -> Result<(), Failure> {
    if !has_any(plan) {
        return Ok(());
    }
    sys::detach(LAYERS).at(Step::OVERLAY, "umount2", "layers")?;
    sys::remove_dir(LAYERS).at(Step::OVERLAY, "rmdir", "layers")
}

/// An overlay over the pinned directory, at `path`, whose directory is there: one of the root's.
pub fn make(path: &CStr, lower: RawFd, bits: u32) -> Call<()> {
    call("chdir", sys::chdir(LAYERS))?;
    call("mkdir", sys::mkdir(relative(path), 0o700))?;
    call("chdir", sys::chdir(relative(path)))?;
    call("mkdir", sys::mkdir(c"lower", 0o700))?;
    call("mkdir", sys::mkdir(c"upper", bits))?; // the mode of the overlay's root
    call("mkdir", sys::mkdir(c"work", 0o700))?;
    call("move_mount", sys::attach(lower, c"lower"))?;
    let overlay = call("fsmount, overlay", sys::detached(c"overlay", OPTIONS, NOSUID | NODEV))?;
    call("move_mount", sys::attach(overlay, path))?;
    let (mounted, seen) =
        (call("fstat", sys::file_id(overlay))?, call("stat", sys::path_id(path))?);
    if mounted != seen {
        return Err((agent_init::error::READ_BACK, Errno(0)));
    }
    call("umount2", sys::detach(c"lower"))?;
    call("chdir", sys::chdir(c"/"))
}
