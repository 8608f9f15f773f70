//! Landlock: what the grants do not name cannot be opened; a second domain keeps the agent's
//! signals away from PID 1. landlock(7), Documentation/userspace-api/landlock.rst.

use core::ffi::CStr;

use bitflags::bitflags;

use crate::error::{At, Errno, Error};
use crate::layers::Layers;
use crate::lock::Room;
use crate::orders::Flags;
use crate::sys;

bitflags! {
    /// File-system access rights, `LANDLOCK_ACCESS_FS_*` of include/uapi/linux/landlock.h.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Access: u64 {
        /// Execute a file.
        const EXECUTE = 1 << 0;
        /// Open a file for writing.
        const WRITE_FILE = 1 << 1;
        /// Open a file for reading.
        const READ_FILE = 1 << 2;
        /// List a directory.
        const READ_DIR = 1 << 3;
        /// Remove a directory, or rename one away.
        const REMOVE_DIR = 1 << 4;
        /// Remove a file, or rename one away.
        const REMOVE_FILE = 1 << 5;
        /// Make a character device.
        const MAKE_CHAR = 1 << 6;
        /// Make a directory.
        const MAKE_DIR = 1 << 7;
        /// Make a regular file.
        const MAKE_REG = 1 << 8;
        /// Make a UNIX socket.
        const MAKE_SOCK = 1 << 9;
        /// Make a FIFO.
        const MAKE_FIFO = 1 << 10;
        /// Make a block device.
        const MAKE_BLOCK = 1 << 11;
        /// Make a symbolic link.
        const MAKE_SYM = 1 << 12;
        /// Link or rename across directories. ABI 2.
        const REFER = 1 << 13;
        /// truncate(2), ftruncate(2), O_TRUNC. ABI 3.
        const TRUNCATE = 1 << 14;
        /// ioctl(2) on a device. ABI 5.
        const IOCTL_DEV = 1 << 15;
        /// Connect or send to a UNIX socket that was made outside of the room. ABI 9.
        const RESOLVE_UNIX = 1 << 16;

        /// Read and run what is there.
        const READ = Self::EXECUTE.bits() | Self::READ_FILE.bits() | Self::READ_DIR.bits();
        /// Use the devices that are there.
        const DEVICES = Self::READ_FILE.bits() | Self::WRITE_FILE.bits() | Self::READ_DIR.bits()
            | Self::TRUNCATE.bits() | Self::IOCTL_DEV.bits();
        /// Everything but device nodes and device ioctls.
        const WRITE = Self::READ.bits() | Self::WRITE_FILE.bits() | Self::TRUNCATE.bits()
            | Self::REMOVE_DIR.bits() | Self::REMOVE_FILE.bits() | Self::MAKE_DIR.bits()
            | Self::MAKE_REG.bits() | Self::MAKE_SOCK.bits() | Self::MAKE_FIFO.bits()
            | Self::MAKE_SYM.bits() | Self::REFER.bits();
        /// The rights that a file, as opposed to a directory, can have.
        const OF_A_FILE = Self::EXECUTE.bits() | Self::WRITE_FILE.bits() | Self::READ_FILE.bits()
            | Self::TRUNCATE.bits() | Self::IOCTL_DEV.bits() | Self::RESOLVE_UNIX.bits();
    }
}

/// The ABI that a room needs: all rights above, and the scopes (Linux 6.12).
/// Below it TRUNCATE, REFER, IOCTL_DEV or the scopes would silently be open.
pub const LEAST_ABI: usize = 6;

/// `LANDLOCK_ACCESS_NET_BIND_TCP` and `LANDLOCK_ACCESS_NET_CONNECT_TCP`. ABI 4.
const TCP: u64 = 0b11;

/// `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET` and `LANDLOCK_SCOPE_SIGNAL`. ABI 6.
const SCOPES: u64 = 0b11;

/// The rights that a kernel of this ABI can handle.
pub fn rights(abi: usize) -> Access {
    let newer = [
        (2, Access::REFER),
        (3, Access::TRUNCATE),
        (5, Access::IOCTL_DEV),
        (9, Access::RESOLVE_UNIX),
    ];
    newer.iter().filter(|(since, _)| abi < *since).fold(Access::all(), |set, (_, new)| set - *new)
}

/// Asks for the ABI. Below [`LEAST_ABI`] the launch ends, unless best effort was ordered.
fn abi(room: &Room) -> Result<usize, Error> {
    let abi = sys::landlock_abi().at(c"landlock_create_ruleset(version)")?;
    if abi < LEAST_ABI && !room.orders.flags().contains(Flags::BEST_EFFORT) {
        return Err(Errno::EOPNOTSUPP).at(c"landlock_create_ruleset(ABI below 6)");
    }
    Ok(abi)
}

/// What a grant never names for writing, and the kernel lets everyone write: mode 0666.
const OPEN_TO_ALL: &CStr = c"/proc/self/timerslack_ns";

/// Restricts the caller to the grants. Paths are opened here, after the root
/// was composed: a grant is an inode of the room, and none of its names is a link.
pub fn apply(room: &mut Room) -> Result<(), Error> {
    let abi = abi(room)?;
    // Alone, the sockets are the container's, and who listens there is its matter.
    let open = if room.is_alone() { Access::RESOLVE_UNIX } else { Access::empty() };
    let handled = rights(abi) - open;
    let tcp = if no_tcp(room, abi) { TCP } else { 0 };
    let attr: &[u64] = if tcp == 0 { &[handled.bits()] } else { &[handled.bits(), tcp] };
    let ruleset = sys::landlock_create_ruleset(attr).at(c"landlock_create_ruleset(files)")?;
    for (access, path) in room.orders.grants() {
        let access = access & handled.bits();
        if access == 0 {
            continue; // an older kernel refuses an empty rule
        }
        let parent = match open_grant(room, path) {
            Err(Errno::ENOENT) => continue, // nothing there to grant
            other => other.at_object(c"open", path)?,
        };
        sys::landlock_add_path(ruleset, parent, access).at_object(c"landlock_add_rule", path)?;
        sys::close(parent).at_object(c"close", path)?;
    }
    // The control of the read-back: only Landlock will refuse it.
    let control = sys::open(OPEN_TO_ALL, libc::O_WRONLY).at(c"open(/proc/self/timerslack_ns)")?;
    sys::close(control).at(c"close(/proc/self/timerslack_ns)")?;
    sys::landlock_restrict_self(ruleset).at(c"landlock_restrict_self")?;
    sys::close(ruleset).at(c"close(ruleset)")
}

/// Outside of a room a name may be a link: the layer without the mount namespace.
fn open_grant(room: &Room, path: &CStr) -> Result<sys::Fd, Errno> {
    match room.layers().contains(Layers::MNT) {
        true => sys::open_no_symlinks(path),
        false => sys::open(path, libc::O_PATH),
    }
}

/// Whether TCP is to be refused, and can be: with best effort an older kernel goes without.
fn no_tcp(room: &Room, abi: usize) -> bool {
    room.orders.flags().contains(Flags::NO_TCP) && abi >= 4
}

/// What could be written before cannot now; the first directory that may be listed can; TCP is
/// refused where ordered.
pub fn verify(room: &mut Room) -> Result<(), Error> {
    let list = |path| sys::open(path, libc::O_RDONLY | libc::O_DIRECTORY);
    if sys::open(OPEN_TO_ALL, libc::O_WRONLY) != Err(Errno::EACCES) {
        return Err(Error::not_in_force(c"/proc/self/timerslack_ns can be written"));
    }
    if no_tcp(room, abi(room)?) && sys::bind_tcp() != Err(Errno::EACCES) {
        return Err(Error::not_in_force(c"TCP can be bound"));
    }
    let mut granted = room.orders.grants();
    let lists =
        |(access, _): &(u64, _)| Access::from_bits_retain(*access).contains(Access::READ_DIR);
    if let Some((_, path)) = granted.find(lists) {
        let fd = list(path).at_object(c"open", path)?;
        sys::close(fd).at_object(c"close", path)?;
    }
    Ok(())
}

/// The agent's side: one domain deeper than PID 1, with signals and abstract sockets scoped.
pub fn apply_scopes(room: &mut Room) -> Result<(), Error> {
    if abi(room)? < 6 {
        return Ok(()); // only with best effort
    }
    // REFER is denied by every domain that does not grant it, handled or not: without this rule
    // no file could be linked or renamed to another directory, whatever the first domain grants.
    let refer = Access::REFER.bits();
    let ruleset =
        sys::landlock_create_ruleset(&[refer, 0, SCOPES]).at(c"landlock_create_ruleset(scopes)")?;
    let root = sys::open(c"/", libc::O_PATH).at(c"open(/)")?;
    sys::landlock_add_path(ruleset, root, refer).at(c"landlock_add_rule(/, REFER)")?;
    sys::close(root).at(c"close(/)")?;
    sys::landlock_restrict_self(ruleset).at(c"landlock_restrict_self(scopes)")?;
    sys::close(ruleset).at(c"close(ruleset)")
}

/// A signal to the init, which has the same id, is refused.
pub fn verify_scopes(room: &mut Room) -> Result<(), Error> {
    if abi(room)? < 6 || sys::kill(sys::getppid(), 0) == Err(Errno::EPERM) {
        return Ok(());
    }
    Err(Error::not_in_force(c"signal scope"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_grow_with_the_abi() {
        assert_eq!(rights(1).bits(), 0x1fff);
        assert_eq!(rights(2).bits(), 0x3fff);
        assert_eq!(rights(4).bits(), 0x7fff);
        assert_eq!(rights(8), Access::all() - Access::RESOLVE_UNIX);
        assert_eq!(rights(9), Access::all());
        assert_eq!(rights(99), Access::all());
    }

    #[test]
    fn no_grant_makes_devices() {
        assert!(!Access::WRITE.intersects(Access::MAKE_CHAR | Access::MAKE_BLOCK));
    }
}
