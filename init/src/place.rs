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

/// The agent's start directory, by the agent's rights: Landlock is on, no capability is left.
pub fn apply_start(room: &mut Room) -> Result<(), Error> {
    let start = room.orders.start();
    sys::chdir(start).at_object("chdir", start.to_bytes())
}

/// `.` is the directory that was asked for, under whatever name.
pub fn verify_start(room: &mut Room) -> Result<(), Error> {
    let start = room.orders.start();
    let wanted = sys::file(start).at_object("stat", start.to_bytes())?;
    match sys::file(c".").at("stat(.)")? == wanted {
        true => Ok(()),
        false => Err(Error { errno: Errno(0), what: READ_BACK, object: start.to_bytes() }),
    }
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
