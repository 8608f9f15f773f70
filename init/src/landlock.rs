//! Landlock: what the grants do not name cannot be opened; a second domain keeps the agent's
//! signals away from PID 1. landlock(7), Documentation/userspace-api/landlock.rst.

use bitflags::bitflags;

use crate::error::{At, Errno, Error};
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
            | Self::TRUNCATE.bits() | Self::IOCTL_DEV.bits();
    }
}

/// The ABI that a room needs: all rights above, and the scopes (Linux 6.12).
/// Below it TRUNCATE, REFER, IOCTL_DEV or the scopes would silently be open.
pub const LEAST_ABI: usize = 6;

/// `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET` and `LANDLOCK_SCOPE_SIGNAL`. ABI 6.
const SCOPES: u64 = 0b11;

/// The rights that a kernel of this ABI can handle.
pub fn rights(abi: usize) -> Access {
    let newer = [(2, Access::REFER), (3, Access::TRUNCATE), (5, Access::IOCTL_DEV)];
    newer.iter().filter(|(since, _)| abi < *since).fold(Access::all(), |set, (_, new)| set - *new)
}

/// Asks for the ABI. Below [`LEAST_ABI`] the launch ends, unless best effort was ordered.
fn abi(room: &Room) -> Result<usize, Error> {
    let abi = sys::landlock_abi().at("landlock_create_ruleset(version)")?;
    if abi < LEAST_ABI && !room.orders.flags().contains(Flags::BEST_EFFORT) {
        return Err(Errno::EOPNOTSUPP).at("landlock_create_ruleset(ABI below 6)");
    }
    Ok(abi)
}

/// Restricts the caller to the grants. Paths are opened here, after the root
/// was composed: a grant is an inode of the room.
pub fn apply(room: &mut Room) -> Result<(), Error> {
    let handled = rights(abi(room)?);
    let ruleset = sys::landlock_create_ruleset(&[handled.bits()])
        .at("landlock_create_ruleset(file system)")?;
    for (access, path) in room.orders.grants() {
        let parent = match sys::open(path, libc::O_PATH) {
            Err(Errno::ENOENT) => continue, // nothing there to grant
            other => other.at_object("open", path.to_bytes())?,
        };
        sys::landlock_add_path(ruleset, parent, access & handled.bits())
            .at_object("landlock_add_rule", path.to_bytes())?;
        sys::close(parent).at_object("close", path.to_bytes())?;
    }
    sys::landlock_restrict_self(ruleset).at("landlock_restrict_self")?;
    sys::close(ruleset).at("close(ruleset)")
}

/// A directory that no grant names cannot be listed, and the first one that is granted can.
pub fn verify(room: &mut Room) -> Result<(), Error> {
    let list = |path| sys::open(path, libc::O_RDONLY | libc::O_DIRECTORY);
    if list(c"/") != Err(Errno::EACCES) {
        return Err(Error::not_in_force("/ can be listed"));
    }
    let mut granted = room.orders.grants();
    let lists =
        |(access, _): &(u64, _)| Access::from_bits_retain(*access).contains(Access::READ_DIR);
    if let Some((_, path)) = granted.find(lists) {
        let fd = list(path).at_object("open", path.to_bytes())?;
        sys::close(fd).at_object("close", path.to_bytes())?;
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
        sys::landlock_create_ruleset(&[refer, 0, SCOPES]).at("landlock_create_ruleset(scopes)")?;
    let root = sys::open(c"/", libc::O_PATH).at("open(/)")?;
    sys::landlock_add_path(ruleset, root, refer).at("landlock_add_rule(/, REFER)")?;
    sys::close(root).at("close(/)")?;
    sys::landlock_restrict_self(ruleset).at("landlock_restrict_self(scopes)")?;
    sys::close(ruleset).at("close(ruleset)")
}

/// A signal to the init, which has the same id, is refused.
pub fn verify_scopes(room: &mut Room) -> Result<(), Error> {
    if abi(room)? < 6 || sys::kill(sys::getppid(), 0) == Err(Errno::EPERM) {
        return Ok(());
    }
    Err(Error::not_in_force("signal scope"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_grow_with_the_abi() {
        assert_eq!(rights(1).bits(), 0x1fff);
        assert_eq!(rights(2).bits(), 0x3fff);
        assert_eq!(rights(4).bits(), 0x7fff);
        assert_eq!(rights(5), Access::all());
        assert_eq!(rights(99), Access::all());
    }

    #[test]
    fn no_grant_makes_devices() {
        assert!(!Access::WRITE.intersects(Access::MAKE_CHAR | Access::MAKE_BLOCK));
    }
}
