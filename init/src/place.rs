//! Where init is: all that follows rests on it. Read-backs of what the shim built.

use crate::error::{At, Error};
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
        let inode = sys::inode(ns.file).at_object(c"stat", ns.file)?;
        if inode == room.orders.host_namespace(n) {
            return Err(Error::not_in_force(ns.file));
        }
    }
    if room.layers().contains(Layers::PID) && sys::getpid() != 1 {
        return Err(Error::not_in_force(c"init is not PID 1"));
    }
    Ok(())
}

/// The agent's start directory, by the agent's rights: Landlock is on, no capability is left.
pub fn apply_start(room: &mut Room) -> Result<(), Error> {
    let start = room.orders.start();
    sys::chdir(start).at_object(c"chdir", start)
}

/// `.` is the directory that was asked for, under whatever name.
pub fn verify_start(room: &mut Room) -> Result<(), Error> {
    let start = room.orders.start();
    let wanted = sys::file(start).at_object(c"stat", start)?;
    match sys::file(c".").at(c"stat(.)")? == wanted {
        true => Ok(()),
        false => Err(Error::not_in_force(start)),
    }
}

/// The root is a tmpfs, and the start directory lies in it.
pub fn verify_root(room: &mut Room) -> Result<(), Error> {
    if room.layers().contains(Layers::MNT) && sys::fs_magic(c"/").at(c"statfs(/)")? != TMPFS {
        return Err(Error::not_in_force(c"/ is no tmpfs"));
    }
    let mut cwd = [0; 4096];
    sys::getcwd(&mut cwd).at(c"getcwd")?;
    if cwd[0] != b'/' {
        return Err(Error::not_in_force(c"the start directory"));
    }
    Ok(())
}
