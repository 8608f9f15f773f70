//! The shim's system calls, typed: the one file of the crate with `unsafe`.
//!
//! What the child calls between clone3 and execve is here too. It is a process of its own with a
//! copy of this memory: nothing below allocates, locks, or touches the heap.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use agent_init::error::Errno;

/// Turns the -1 of libc into the errno.
fn check(ret: i64) -> Result<i64, Errno> {
    if ret != -1 {
        return Ok(ret);
    }
    // SAFETY: errno's address is valid for the calling thread.
    let errno = unsafe { *libc::__errno_location() };
    Err(Errno(u16::try_from(errno).unwrap_or(0)))
}

/// As [`check`], for calls that return `int`.
fn check_int(ret: i32) -> Result<i32, Errno> {
    check(i64::from(ret)).map(|_| ret)
}

/// A descriptor that the kernel has just made.
fn owned(fd: i32) -> Result<OwnedFd, Errno> {
    let fd = check_int(fd)?;
    // SAFETY: a new descriptor, owned by nothing else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes over a descriptor that a function of this file has opened.
pub fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: new, and the caller has it from nowhere else.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// What clone3 made: the child sees [`Side::Child`], the parent its pid and pidfd.
#[derive(Debug)]
pub enum Side {
    /// In the new process.
    Child,
    /// In the caller: the child's pid here, and a close-on-exec descriptor of it.
    Parent(i32, OwnedFd),
}

/// clone3(2), as fork does it (nothing shared), with CLONE_PIDFD and new namespaces.
/// ENOSPC: user.max_*_namespaces; EPERM: user namespaces are forbidden here; EUSERS: nested 33 deep.
pub fn clone3(namespaces: u64) -> Result<Side, Errno> {
    let mut pidfd: RawFd = -1;
    // SAFETY: an all-zero clone_args asks for nothing.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces | u64::from(libc::CLONE_PIDFD.cast_unsigned());
    args.pidfd = (&raw mut pidfd).expose_provenance() as u64;
    args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    // SAFETY: `args` is a clone_args of the size given, `pidfd` one int, both outlive the call.
    // Without CLONE_VM the child has its own memory, and no stack is set, so it returns here.
    // The child does not touch the heap or a lock: see `launch::run_child`.
    match check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of_val(&args)) })? {
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent(i32::try_from(pid).map_err(|_| Errno::EINVAL)?, owned(pidfd)?)),
    }
}

/// unshare(2).
pub fn unshare(namespaces: u64) -> Result<(), Errno> {
    let flags = i32::try_from(namespaces).map_err(|_| Errno::EINVAL)?;
    // SAFETY: no memory is passed.
    check_int(unsafe { libc::unshare(flags) }).map(drop)
}

/// setgroups(2) to none, of this process alone, by the raw call: the caller has one thread.
pub fn clear_groups() -> Result<(), Errno> {
    // SAFETY: with a count of 0 the list is not read.
    check(unsafe { libc::syscall(libc::SYS_setgroups, 0, 0) }).map(drop)
}

/// getgroups(2): how many supplementary groups there are.
pub fn count_groups() -> Result<i32, Errno> {
    // SAFETY: with a size of 0 nothing is written.
    check_int(unsafe { libc::getgroups(0, std::ptr::null_mut()) })
}

/// setresgid(2), then setresuid(2), by the raw calls.
pub fn set_ids(uid: u32, gid: u32) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Effective user and group id.
pub fn ids() -> (u32, u32) {
    // SAFETY: these calls cannot fail and pass no memory.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// Whether this program runs with more rights than its caller: set-uid, set-gid, file capabilities.
pub fn is_privileged_by_exec() -> bool {
    // SAFETY: getauxval reads the process's own auxiliary vector.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// mount(2). Empty `kind` and `data` are passed as NULL.
pub fn mount(
    source: &CStr,
    target: &CStr,
    kind: &CStr,
    flags: u64,
    data: &CStr,
) -> Result<(), Errno> {
    let or_null = |text: &CStr| if text.is_empty() { std::ptr::null() } else { text.as_ptr() };
    let (kind, data) = (or_null(kind), or_null(data));
    // SAFETY: the kernel reads NUL-terminated strings that outlive the call.
    let ret = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind, flags, data.cast()) };
    check_int(ret).map(drop)
}

/// umount2(2), MNT_DETACH.
pub fn detach(target: &CStr) -> Result<(), Errno> {
    // SAFETY: `target` is NUL-terminated and outlives the call.
    check_int(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) }).map(drop)
}

/// MOUNT_ATTR_*, include/uapi/linux/mount.h; ST_* of statvfs(3) have the same values.
pub const RDONLY: u64 = 1;
/// Set-uid programs give nothing.
pub const NOSUID: u64 = 2;
/// Devices cannot be opened.
pub const NODEV: u64 = 4;
/// No program can be run.
pub const NOEXEC: u64 = 8;
/// Ids are mapped by a user namespace.
const IDMAP: u64 = 0x0010_0000;

/// openat2(2), O_PATH: no symbolic link may be on the way. ELOOP: one is.
pub fn open_no_links(path: &CStr) -> Result<RawFd, Errno> {
    open_how(path, RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS)
}

/// The same of a relative path that must not lead out of the current directory.
pub fn open_no_links_beneath(path: &CStr) -> Result<RawFd, Errno> {
    open_how(path, RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH)
}

fn open_how(path: &CStr, resolve: u64) -> Result<RawFd, Errno> {
    // struct open_how: flags, mode, resolve.
    let how = [u64::from((libc::O_PATH | libc::O_CLOEXEC).cast_unsigned()), 0, resolve];
    let (at, size) = (how.as_ptr(), size_of_val(&how));
    // SAFETY: the kernel reads a NUL-terminated string and `size` bytes of `how`.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, path.as_ptr(), at, size)
    })?;
    i32::try_from(fd).map_err(|_| Errno::EINVAL)
}
const RESOLVE_NO_MAGICLINKS: u64 = 2;
const RESOLVE_NO_SYMLINKS: u64 = 4;
const RESOLVE_BENEATH: u64 = 8;

/// open_tree(2), OPEN_TREE_CLONE: a detached copy of the mount of `fd` from there on, with the
/// mounts below it if `recursive`.
pub fn clone_tree(fd: RawFd, recursive: bool) -> Result<RawFd, Errno> {
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH;
    let flags = if recursive { flags | libc::AT_RECURSIVE } else { flags };
    // SAFETY: the kernel reads an empty string.
    let tree = check(unsafe { libc::syscall(libc::SYS_open_tree, fd, c"".as_ptr(), flags) })?;
    i32::try_from(tree).map_err(|_| Errno::EINVAL)
}
const OPEN_TREE_CLONE: i32 = 1;
const OPEN_TREE_CLOEXEC: i32 = libc::O_CLOEXEC;

/// mount_setattr(2), Linux 5.12, of the mount behind `fd` and all below it: attributes, private,
/// and with ids mapped by a user namespace.
pub fn set_tree(fd: RawFd, set: u64, idmap: Option<RawFd>) -> Result<(), Errno> {
    let namespace = idmap.map_or(0, |fd| u64::from(fd.unsigned_abs()));
    let set = if idmap.is_some() { set | IDMAP } else { set };
    // struct mount_attr: set, clear, propagation, userns_fd.
    let attr = [set, 0, libc::MS_PRIVATE, namespace];
    let (at, size) = (attr.as_ptr(), size_of_val(&attr));
    let flags = libc::AT_RECURSIVE | libc::AT_EMPTY_PATH;
    // SAFETY: the kernel reads an empty string and `size` bytes of `attr`.
    check(unsafe { libc::syscall(libc::SYS_mount_setattr, fd, c"".as_ptr(), flags, at, size) })
        .map(drop)
}

/// fsopen(2), fsconfig(2), fsmount(2): a mount that is attached nowhere. An option without a
/// value is a flag.
pub fn detached(kind: &CStr, options: &[(&CStr, &CStr)], attrs: u64) -> Result<RawFd, Errno> {
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: the kernel reads a NUL-terminated name.
    let fs = check(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })?;
    for (key, value) in options {
        let (command, value) = match value.is_empty() {
            true => (FSCONFIG_SET_FLAG, none),
            false => (FSCONFIG_SET_STRING, value.as_ptr()),
        };
        let key = key.as_ptr();
        // SAFETY: the kernel reads two NUL-terminated strings, or one and NULL.
        check(unsafe { libc::syscall(libc::SYS_fsconfig, fs, command, key, value, 0) })?;
    }
    // SAFETY: FSCONFIG_CMD_CREATE takes neither key nor value.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, none, none, 0) })?;
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::syscall(libc::SYS_fsmount, fs, FSMOUNT_CLOEXEC, attrs) })?;
    close(i32::try_from(fs).map_err(|_| Errno::EINVAL)?)?;
    i32::try_from(fd).map_err(|_| Errno::EINVAL)
}
const FSOPEN_CLOEXEC: i32 = 1;
const FSMOUNT_CLOEXEC: i32 = 1;
const FSCONFIG_SET_FLAG: i32 = 0;
const FSCONFIG_SET_STRING: i32 = 1;
const FSCONFIG_CMD_CREATE: i32 = 6;

/// move_mount(2): attaches the mount behind `fd` at `target`.
pub fn attach(fd: RawFd, target: &CStr) -> Result<(), Errno> {
    let (empty, at, from_fd) = (c"".as_ptr(), target.as_ptr(), MOVE_MOUNT_F_EMPTY_PATH);
    // SAFETY: the kernel reads two NUL-terminated strings.
    check(unsafe { libc::syscall(libc::SYS_move_mount, fd, empty, libc::AT_FDCWD, at, from_fd) })
        .map(drop)
}

/// move_mount(2): attaches the mount behind `fd` over the file behind `place`.
pub fn attach_to(fd: RawFd, place: RawFd) -> Result<(), Errno> {
    let (empty, flags) = (c"".as_ptr(), MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    // SAFETY: the kernel reads two empty strings.
    check(unsafe { libc::syscall(libc::SYS_move_mount, fd, empty, place, empty, flags) }).map(drop)
}
const MOVE_MOUNT_F_EMPTY_PATH: i32 = 4;
const MOVE_MOUNT_T_EMPTY_PATH: i32 = 0x40;

/// fchdir(2).
pub fn fchdir(fd: RawFd) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check_int(unsafe { libc::fchdir(fd) }).map(drop)
}

/// chdir(2).
pub fn chdir(path: &CStr) -> Result<(), Errno> {
    // SAFETY: `path` is NUL-terminated and outlives the call.
    check_int(unsafe { libc::chdir(path.as_ptr()) }).map(drop)
}

/// pivot_root(2) of the current directory over itself: the old root lies on top, to be detached.
pub fn pivot_root_here() -> Result<(), Errno> {
    let here = c".".as_ptr();
    // SAFETY: the kernel reads two NUL-terminated strings.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, here, here) }).map(drop)
}

/// mkdir(2); the mode is masked by umask, which the child has set to 0.
pub fn mkdir(path: &CStr, mode: u32) -> Result<(), Errno> {
    // SAFETY: `path` is NUL-terminated and outlives the call.
    check_int(unsafe { libc::mkdir(path.as_ptr(), mode) }).map(drop)
}

/// mknod(2) of an empty regular file, to be mounted on.
pub fn make_file(path: &CStr) -> Result<(), Errno> {
    // SAFETY: `path` is NUL-terminated and outlives the call.
    check_int(unsafe { libc::mknod(path.as_ptr(), libc::S_IFREG | 0o644, 0) }).map(drop)
}

/// open(2), O_CREAT, of a file that is not there, and write(2) of its content.
pub fn make_file_of(path: &CStr, content: &[u8]) -> Result<(), Errno> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
    // SAFETY: `path` is NUL-terminated and outlives the call.
    let fd = check_int(unsafe { libc::open(path.as_ptr(), flags, 0o644) })?;
    write_all(fd, content)?;
    close(fd)
}

/// rmdir(2).
pub fn remove_dir(path: &CStr) -> Result<(), Errno> {
    // SAFETY: `path` is NUL-terminated and outlives the call.
    check_int(unsafe { libc::rmdir(path.as_ptr()) }).map(drop)
}

/// symlink(2).
pub fn symlink(target: &CStr, path: &CStr) -> Result<(), Errno> {
    // SAFETY: both are NUL-terminated and outlive the call.
    check_int(unsafe { libc::symlink(target.as_ptr(), path.as_ptr()) }).map(drop)
}

/// umask(2).
pub fn umask(mask: u32) {
    // SAFETY: no memory is passed; it cannot fail.
    unsafe { libc::umask(mask) };
}

/// sethostname(2).
pub fn sethostname(name: &CStr) -> Result<(), Errno> {
    let len = name.count_bytes();
    // SAFETY: the kernel reads `len` bytes of `name`.
    check_int(unsafe { libc::sethostname(name.as_ptr(), len) }).map(drop)
}

/// netdevice(7): sets IFF_UP on `lo` of this network namespace.
pub fn loopback_up() -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    let fd = check_int(unsafe {
        libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0)
    })?;
    // SAFETY: an all-zero ifreq is valid: an empty name and no flags.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = UP;
    // SAFETY: SIOCSIFFLAGS reads one ifreq.
    check_int(unsafe { libc::ioctl(fd, libc::SIOCSIFFLAGS, &raw const request) })?;
    close(fd)
}
#[allow(clippy::cast_possible_truncation)] // 1 | 64
const UP: i16 = (libc::IFF_UP | libc::IFF_RUNNING) as i16;

/// keyctl(2), KEYCTL_JOIN_SESSION_KEYRING: a new one without a name; its serial number.
pub fn join_session_keyring() -> Result<i64, Errno> {
    // SAFETY: NULL asks for a new anonymous keyring.
    check(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, 0) })
}

/// keyctl(2), KEYCTL_GET_KEYRING_ID of the session keyring, without making one.
pub fn session_keyring() -> Result<i64, Errno> {
    let session = libc::KEY_SPEC_SESSION_KEYRING;
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_GET_KEYRING_ID, session, 0) })
}

/// What tells one file from another, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    /// Device and inode.
    pub inode: (u64, u64),
    /// User and group, as this user namespace has them.
    pub owner: (u32, u32),
    /// Major and minor number, of a character device.
    pub device: Option<(u32, u32)>,
}

impl FileId {
    fn of(stat: &libc::stat) -> FileId {
        let is_char = stat.st_mode & libc::S_IFMT == libc::S_IFCHR;
        FileId {
            inode: (stat.st_dev, stat.st_ino),
            owner: (stat.st_uid, stat.st_gid),
            device: is_char.then(|| (libc::major(stat.st_rdev), libc::minor(stat.st_rdev))),
        }
    }
}

/// fstat(2).
pub fn file_id(fd: RawFd) -> Result<FileId, Errno> {
    // SAFETY: an all-zero `stat` is valid (integers only).
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `struct stat`.
    check_int(unsafe { libc::fstat(fd, &raw mut stat) })?;
    Ok(FileId::of(&stat))
}

/// lstat(2).
pub fn path_id(path: &CStr) -> Result<FileId, Errno> {
    // SAFETY: an all-zero `stat` is valid (integers only).
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel reads `path`, NUL-terminated, and writes one `struct stat`.
    check_int(unsafe { libc::lstat(path.as_ptr(), &raw mut stat) })?;
    Ok(FileId::of(&stat))
}

/// fstatvfs(3): the flags of the mount behind `fd`, `ST_RDONLY` and its like.
pub fn mount_flags(fd: RawFd) -> Result<u64, Errno> {
    // SAFETY: an all-zero `statvfs` is valid (integers only).
    let mut fs: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: one `struct statvfs` is written.
    check_int(unsafe { libc::fstatvfs(fd, &raw mut fs) })?;
    Ok(fs.f_flag)
}

/// uname(2): whether the host name is `name`.
pub fn is_hostname(name: &CStr) -> Result<bool, Errno> {
    // SAFETY: an all-zero `utsname` is valid.
    let mut uts: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `struct utsname`.
    check_int(unsafe { libc::uname(&raw mut uts) })?;
    let same = uts.nodename.iter().zip(name.to_bytes_with_nul());
    Ok(same.clone().count() > name.count_bytes()
        && same.into_iter().all(|(a, b)| a.cast_unsigned() == *b))
}

/// uname(2): the release of the kernel.
pub fn kernel_release() -> String {
    // SAFETY: an all-zero `utsname` is valid.
    let mut uts: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `struct utsname`; it cannot fail.
    unsafe { libc::uname(&raw mut uts) };
    let bytes = uts.release.iter().take_while(|c| **c != 0).map(|c| c.cast_unsigned());
    String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
}

/// open(2), close-on-exec, of an existing file.
pub fn open(path: &CStr, flags: i32) -> Result<RawFd, Errno> {
    // SAFETY: `path` is NUL-terminated and outlives the call.
    check_int(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) })
}

/// close(2) of a descriptor by number, in the child.
pub fn close(fd: RawFd) -> Result<(), Errno> {
    // SAFETY: no memory is passed. Only used for descriptors that nothing owns: the child's own.
    check_int(unsafe { libc::close(fd) }).map(drop)
}

/// dup2(2): afterwards `to` is not close-on-exec. With equal numbers nothing changes.
pub fn dup_to(from: RawFd, to: RawFd) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check_int(unsafe { libc::dup2(from, to) }).map(drop)
}

/// fcntl(2), F_DUPFD_CLOEXEC: the same file at a number of 10 or more, out of the way of the
/// numbers that init expects.
pub fn dup_high(fd: BorrowedFd) -> Result<OwnedFd, Errno> {
    dup_past(fd, 9)
}

/// The same at a number past `last`.
pub fn dup_past(fd: BorrowedFd, last: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: no memory is passed.
    owned(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, last.max(9) + 1) })
}

/// pidfd_open(2) of this process: it can be read once the process has died, all threads of it.
pub fn pidfd_of_self() -> Result<OwnedFd, Errno> {
    // SAFETY: no memory is passed; getpid cannot fail.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) })?;
    owned(i32::try_from(fd).map_err(|_| Errno::EINVAL)?)
}

/// A descriptor of the caller by its number, if it is open.
pub fn borrow(fd: RawFd) -> Result<BorrowedFd<'static>, Errno> {
    // SAFETY: F_GETFD takes nothing.
    check_int(unsafe { libc::fcntl(fd, libc::F_GETFD) })?;
    // SAFETY: it is open, and what the caller has left open to us stays so.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// pipe2(2), O_CLOEXEC: the end to read, the end to write.
pub fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let mut ends = [-1; 2];
    // SAFETY: the kernel writes two ints.
    check_int(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    Ok((owned(ends[0])?, owned(ends[1])?))
}

/// memfd_create(2), write, and seals against every change: a program or a block of orders.
pub fn sealed_memfd(name: &CStr, content: &[u8], program: bool) -> Result<OwnedFd, Errno> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let create = |flags| {
        // SAFETY: the kernel reads a NUL-terminated name.
        owned(unsafe { libc::memfd_create(name.as_ptr(), flags) })
    };
    // With vm.memfd_noexec a program must say that it is one; before Linux 6.3 it must not.
    let fd = match create(if program { flags | libc::MFD_EXEC } else { flags }) {
        Err(Errno::EINVAL) if program => create(flags),
        other => other,
    }?;
    write_all(fd.as_raw_fd(), content)?;
    // Not F_SEAL_WRITE: it waits for whatever looks at the pages (EBUSY), and nobody has mapped them.
    let seals = F_SEAL_FUTURE_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: F_ADD_SEALS takes a number.
    check_int(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
    Ok(fd)
}

/// include/uapi/linux/fcntl.h, Linux 5.1: no write(2), and no new writable mapping.
const F_SEAL_FUTURE_WRITE: i32 = 0x10;

/// write(2) until all is written. ENOSPC where nothing more fits.
pub fn write_all(fd: RawFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        // SAFETY: the kernel reads at most `bytes.len()` bytes of `bytes`.
        match check(unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) as i64 }) {
            Ok(0) => return Err(Errno::ENOSPC),
            Ok(n) => bytes = bytes.get(usize::try_from(n).unwrap_or(0)..).unwrap_or(&[]),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// read(2), again after EINTR. 0 is the end.
pub fn read(fd: RawFd, to: &mut [u8]) -> Result<usize, Errno> {
    loop {
        // SAFETY: the kernel writes at most `to.len()` bytes to `to`.
        match check(unsafe { libc::read(fd, to.as_mut_ptr().cast(), to.len()) as i64 }) {
            Err(Errno::EINTR) => {}
            other => return other.map(|n| usize::try_from(n).unwrap_or(0)),
        }
    }
}

/// execveat(2), AT_EMPTY_PATH, with an argv of one word and no environment.
pub fn exec_image(fd: RawFd, name: &CStr) -> Errno {
    let argv = [name.as_ptr(), std::ptr::null()];
    let envp = [std::ptr::null::<libc::c_char>()];
    let empty = c"".as_ptr();
    // SAFETY: the kernel reads the strings and both NULL-terminated arrays; it returns only
    // when it failed.
    let ret = unsafe {
        let (argv, envp) = (argv.as_ptr(), envp.as_ptr());
        libc::syscall(libc::SYS_execveat, fd, empty, argv, envp, libc::AT_EMPTY_PATH)
    };
    check(ret).err().unwrap_or(Errno::EINVAL)
}

/// _exit(2), of the child.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process; nothing runs after it.
    unsafe { libc::_exit(code) }
}

/// stat(2): the inode, for `/proc/self/ns`.
pub fn inode(path: &CStr) -> Result<u64, Errno> {
    agent_init::sys::inode(path)
}

/// pidfd_send_signal(2). ESRCH: it has ended.
pub fn send_signal(pidfd: BorrowedFd, signal: i32) -> Result<(), Errno> {
    // SAFETY: siginfo is NULL, so the kernel fills it as for kill(2).
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, 0, 0) })
        .map(drop)
}

/// kill(2), SIGSTOP, of this process: returns when it is continued.
pub fn stop_self() {
    // SAFETY: no memory is passed; signalling oneself cannot fail.
    unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) };
}

/// fstat(2): `S_IFDIR` and its like; 0 for an anonymous inode. EBADF: it is not open.
pub fn file_type(fd: RawFd) -> Result<u32, Errno> {
    // SAFETY: an all-zero `stat` is valid (integers only).
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `struct stat`.
    check_int(unsafe { libc::fstat(fd, &raw mut stat) })?;
    Ok(stat.st_mode & libc::S_IFMT)
}

/// fcntl(2), F_GETFL: whether `fd` was opened with O_PATH.
pub fn is_path_only(fd: RawFd) -> Result<bool, Errno> {
    // SAFETY: F_GETFL takes nothing.
    let flags = check_int(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    Ok(flags & libc::O_PATH != 0)
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

/// waitid(2), P_PIDFD, WEXITED: waits and reaps.
pub fn wait(pidfd: BorrowedFd) -> Result<End, Errno> {
    loop {
        // SAFETY: an all-zero siginfo is valid.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let id = pidfd.as_raw_fd().cast_unsigned();
        // SAFETY: the kernel writes one siginfo.
        let ret = unsafe { libc::waitid(libc::P_PIDFD, id, &raw mut info, libc::WEXITED) };
        match check_int(ret) {
            Err(Errno::EINTR) => continue,
            other => other.map(drop)?,
        }
        if info.si_code == 0 {
            return Err(Errno::EINVAL); // nothing was waited for, whatever it returned
        }
        // SAFETY: waitid has filled in the SIGCHLD member.
        let status = unsafe { info.si_status() };
        return Ok(match info.si_code {
            libc::CLD_EXITED => End::Exited(status),
            _ => End::Signaled(status),
        });
    }
}

/// poll(2): waits until one of at most four `fds` can be read or has ended; the first that is, or `None`
/// after `timeout` milliseconds (-1: never).
pub fn wait_readable(fds: &[BorrowedFd], timeout: i32) -> Result<Option<usize>, Errno> {
    let mut polls = [const { libc::pollfd { fd: -1, events: libc::POLLIN, revents: 0 } }; 4];
    for (poll, fd) in polls.iter_mut().zip(fds) {
        poll.fd = fd.as_raw_fd();
    }
    // SAFETY: the kernel reads and writes four pollfds; those with fd -1 are ignored.
    match check_int(unsafe { libc::poll(polls.as_mut_ptr(), 4, timeout) }) {
        Err(Errno::EINTR) => Ok(None),
        other => other.map(|_| polls.iter().position(|p| p.revents != 0)),
    }
}

/// poll(2): waits until every writer of the pipe has closed it. What they wrote wakes nobody: a
/// launch costs the caller one wake-up.
pub fn wait_hangup(fd: BorrowedFd) -> Result<(), Errno> {
    loop {
        let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: 0, revents: 0 };
        // SAFETY: the kernel reads and writes one pollfd.
        match check_int(unsafe { libc::poll(&raw mut poll, 1, -1) }) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

/// sigaction(2): the default action of SIGCHLD. Who ignores it, and whoever it started, never
/// learns how a child ended: wait(2), NOTES.
pub fn default_sigchld() {
    // SAFETY: SIG_DFL installs no handler; it cannot fail for this signal.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// sigaction(2), SIGXFSZ: past RLIMIT_FSIZE write(2) fails with EFBIG instead, and can be told.
pub fn ignore_sigxfsz() {
    // SAFETY: SIG_IGN installs no handler; it cannot fail for this signal.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Signals that are blocked in this thread for as long as this lives.
#[derive(Debug)]
pub struct Blocked(libc::sigset_t);

impl Blocked {
    /// sigprocmask(2), SIG_BLOCK: all signals.
    pub fn all() -> Blocked {
        // SAFETY: sigfillset and pthread_sigmask write the sets they are given; neither can fail
        // with a valid `how`.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut old: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut old);
            Blocked(old)
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: restores the set that `all` read.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut());
        }
    }
}

/// signalfd(2) of `signals`, which are blocked in this thread from now on.
pub fn signal_fd(signals: &[i32]) -> Result<OwnedFd, Errno> {
    // SAFETY: the sets are written before they are read; the kernel copies them.
    owned(unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC)
    })
}

/// The number of the next signal of a signalfd.
pub fn next_signal(fd: BorrowedFd) -> Result<i32, Errno> {
    let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
    read(fd.as_raw_fd(), &mut info)?;
    // ssi_signo is the first member, 32 bits.
    let number = info.first_chunk::<4>().map_or(0, |b| u32::from_ne_bytes(*b));
    i32::try_from(number).map_err(|_| Errno::EINVAL)
}

// -- Experiments of `doctor` ---------------------------------------------------------------------

/// clone3(2), and clone(2) where that is refused, as fork does it, into new namespaces: `None` in
/// the child, which makes system calls and nothing else; its pid in the parent. An error is clone's.
pub fn fork_into(namespaces: u64) -> Result<Option<i32>, Errno> {
    // flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls.
    let args = [namespaces, 0, 0, 0, u64::from(libc::SIGCHLD.cast_unsigned()), 0, 0, 0];
    // SAFETY: the kernel reads 64 bytes of `args`. Without CLONE_VM the child has its own memory.
    let ret = unsafe { libc::syscall(libc::SYS_clone3, args.as_ptr(), size_of_val(&args)) };
    check(ret).map_or_else(|_| clone(namespaces), side)
}

/// clone(2), the older call, with SIGCHLD and `flags`.
fn clone(flags: u64) -> Result<Option<i32>, Errno> {
    let flags = flags | u64::from(libc::SIGCHLD.cast_unsigned());
    // SAFETY: no stack and no place for a pid is passed; without CLONE_VM the child has its own
    // memory.
    side(check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?)
}

fn side(pid: i64) -> Result<Option<i32>, Errno> {
    let pid = i32::try_from(pid).map_err(|_| Errno::EINVAL)?;
    Ok((pid != 0).then_some(pid))
}

/// waitpid(2) of one child of [`fork_into`]: reaps it.
pub fn reap(pid: i32) -> Result<End, Errno> {
    let mut status = 0;
    loop {
        // SAFETY: the kernel writes one int.
        match check_int(unsafe { libc::waitpid(pid, &raw mut status, 0) }) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(_) if libc::WIFEXITED(status) => return Ok(End::Exited(libc::WEXITSTATUS(status))),
            Ok(_) => return Ok(End::Signaled(libc::WTERMSIG(status))),
        }
    }
}

/// A system call with numbers for arguments, none of them an address, that the kernel itself
/// refuses: whatever else comes back is the answer of who stands before it.
pub fn impossible(number: i64, [a, b, c, d, e]: [i64; 5]) -> Result<(), Errno> {
    // SAFETY: by the contract above the kernel touches no memory.
    check(unsafe { libc::syscall(number, a, b, c, d, e, 0) }).map(drop)
}

/// seccomp(2), SECCOMP_GET_ACTION_AVAIL. EOPNOTSUPP: the kernel does not know the action.
pub fn has_action(action: u32) -> Result<(), Errno> {
    const GET_ACTION_AVAIL: i32 = 2;
    // SAFETY: the kernel reads one 32-bit word.
    check(unsafe { libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAIL, 0, &raw const action) })
        .map(drop)
}

/// prctl(2), PR_CAPBSET_READ. EINVAL: this kernel has no such capability.
pub fn is_bounding(cap: u32) -> Result<bool, Errno> {
    // SAFETY: no memory is passed.
    check_int(unsafe { libc::prctl(libc::PR_CAPBSET_READ, cap, 0, 0, 0) }).map(|ret| ret == 1)
}
