//! Where init is: all that follows rests on it. Read-backs of what the shim built.

use crate::error::{At, Errno, Error, READ_BACK};
use crate::layers::{Layers, NAMESPACES};
use crate::lock::Room;
use crate::sys;

/// TMPFS_MAGIC, include/uapi/linux/magic.h.
const TMPFS: u64 = 0x0102_1994;

/// Every namespace that was asked for is another one than the host's, and init is PID 1 of it.
pub fn verify_namespaces(room: &mut Room) -> Result<(), Error> {
    for (n, ns) in NAMESPACES.iter().enumerate() {
        if !room.layers().contains(ns.flag) {
            continue;
        }
        let file = ns.file.to_bytes();
        let inode = sys::inode(ns.file).at_object("stat", file)?;
        if inode == room.orders.host_namespace(n) {
            return Err(Errno(0)).at_object(READ_BACK, file);
        }
    }
    if room.layers().contains(Layers::PID) && sys::getpid() != 1 {
        return Err(Error::not_in_force("init is not PID 1"));
    }
    Ok(())
}

/// The root is a tmpfs, and the start directory lies in it.
pub fn verify_root(room: &mut Room) -> Result<(), Error> {
    if room.layers().contains(Layers::MNT) && sys::fs_magic(c"/").at("statfs(/)")? != TMPFS {
        return Err(Error::not_in_force("/ is no tmpfs"));
    }
    let mut cwd = [0; 4096];
    sys::getcwd(&mut cwd).at("getcwd")?;
    if cwd[0] != b'/' {
        return Err(Error::not_in_force("the start directory"));
    }
    Ok(())
}
