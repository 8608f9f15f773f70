//! The shim's system calls, typed: the one file of the crate with `unsafe`.
//!
//! What the child calls between clone3 and execve is here too. It is a process of its own with a
//! copy of this memory: nothing below allocates, locks, or touches the heap.

use std::ffi::CStr;
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use agent_init::bpf::{CAPACITY, SockFilter};
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
/// `birth`: the child begins in this cgroup v2, CLONE_INTO_CGROUP, Linux 5.7.
pub fn clone3(namespaces: u64, birth: Option<BorrowedFd>) -> Result<Side, Errno> {
    clone_with(namespaces, birth, libc::SIGCHLD)
}

/// clone3(2) without a signal at its end: wait(2) of the caller, or of whoever has lent us the
/// process, does not see it. Only [`wait`] does, by `__WALL`.
pub fn clone_unheard() -> Result<Side, Errno> {
    clone_with(0, None, 0)
}

fn clone_with(namespaces: u64, birth: Option<BorrowedFd>, signal: i32) -> Result<Side, Errno> {
    let mut pidfd: RawFd = -1;
    // SAFETY: an all-zero clone_args asks for nothing.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces | u64::from(libc::CLONE_PIDFD.cast_unsigned());
    args.pidfd = (&raw mut pidfd).expose_provenance() as u64;
    args.exit_signal = u64::from(signal.cast_unsigned());
    if let Some(group) = birth {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(group.as_raw_fd().cast_unsigned());
    }
    // SAFETY: `args` is a clone_args of the size given, `pidfd` one int, both outlive the call.
    // Without CLONE_VM the child has its own memory, and no stack is set, so it returns here.
    // The child does not touch the heap or a lock: see `launch::run_child`, `heir::inherit`.
    match check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of_val(&args)) })? {
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent(i32::try_from(pid).map_err(|_| Errno::EINVAL)?, owned(pidfd)?)),
    }
}

/// include/uapi/linux/sched.h
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// prctl(2), PR_SET_NAME: at most 15 bytes are kept.
pub fn set_name(name: &CStr) -> Result<(), Errno> {
    // SAFETY: the kernel reads at most 16 bytes, up to the NUL.
    check_int(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }).map(drop)
}

/// setsid(2): no signal of the caller's terminal or group comes here.
pub fn new_session() -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check_int(unsafe { libc::setsid() }).map(drop)
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
    open_how(libc::AT_FDCWD, path, 0, NO_LINKS)
}

/// The same of a relative path that must not lead out of the current directory.
pub fn open_no_links_beneath(path: &CStr) -> Result<RawFd, Errno> {
    open_how(libc::AT_FDCWD, path, 0, NO_LINKS | RESOLVE_BENEATH)
}

/// The same of an absolute path, but a link at its end is opened itself.
pub fn open_itself(path: &CStr) -> Result<OwnedFd, Errno> {
    open_how(libc::AT_FDCWD, path, libc::O_NOFOLLOW, NO_LINKS).map(own)
}

/// The same from a directory that is open. A link at the end is opened itself if `itself`, else it is
/// an error, as anywhere on the way. EXDEV: it leads out of the directory.
pub fn open_beneath(dir: BorrowedFd, path: &CStr, itself: bool) -> Result<OwnedFd, Errno> {
    let nofollow = if itself { libc::O_NOFOLLOW } else { 0 };
    open_how(dir.as_raw_fd(), path, nofollow, NO_LINKS | RESOLVE_BENEATH).map(own)
}

/// openat(2), O_PATH | O_NOFOLLOW, of one name (or `..`) in a directory; `None`: an absolute path, or
/// one from the current directory.
pub fn open_name(dir: Option<BorrowedFd>, name: &CStr) -> Result<OwnedFd, Errno> {
    let at = dir.map_or(libc::AT_FDCWD, |dir| dir.as_raw_fd());
    let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: the kernel reads a NUL-terminated string.
    owned(unsafe { libc::openat(at, name.as_ptr(), flags) })
}

fn open_how(at: RawFd, path: &CStr, flags: i32, resolve: u64) -> Result<RawFd, Errno> {
    // struct open_how: flags, mode, resolve.
    let how = [u64::from((libc::O_PATH | libc::O_CLOEXEC | flags).cast_unsigned()), 0, resolve];
    let (how_at, size) = (how.as_ptr(), size_of_val(&how));
    // SAFETY: the kernel reads a NUL-terminated string and `size` bytes of `how`.
    let fd = check(unsafe { libc::syscall(libc::SYS_openat2, at, path.as_ptr(), how_at, size) })?;
    i32::try_from(fd).map_err(|_| Errno::EINVAL)
}
const NO_LINKS: u64 = RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS;
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
    set_attr(fd, [set, 0, libc::MS_PRIVATE, namespace], libc::AT_RECURSIVE)
}

/// The same of that mount alone: more attributes.
pub fn set_mount(fd: RawFd, set: u64) -> Result<(), Errno> {
    set_attr(fd, [set, 0, 0, 0], 0)
}

/// struct mount_attr: set, clear, propagation, userns_fd.
fn set_attr(fd: RawFd, attr: [u64; 4], flags: i32) -> Result<(), Errno> {
    let (at, size, empty) = (attr.as_ptr(), size_of_val(&attr), c"".as_ptr());
    let flags = flags | libc::AT_EMPTY_PATH;
    // SAFETY: the kernel reads an empty string and `size` bytes of `attr`.
    check(unsafe { libc::syscall(libc::SYS_mount_setattr, fd, empty, flags, at, size) }).map(drop)
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

/// umask(2): what it was before.
pub fn umask(mask: u32) -> u32 {
    // SAFETY: no memory is passed; it cannot fail.
    unsafe { libc::umask(mask) }
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

/// What a resolver asks of a file that it has opened. inode(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Device and inode: no other file has both while this one is open.
    pub inode: (u64, u64),
    /// `S_IFDIR` and its like.
    pub kind: u32,
    /// Permission bits, with set-uid, set-gid and sticky.
    pub bits: u32,
    /// User and group, as this user namespace has them.
    pub owner: (u32, u32),
    /// How many names it has; 0: it was removed.
    pub links: u64,
}

impl Facts {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == libc::S_IFDIR
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind == libc::S_IFREG
    }

    /// Whether it is a symbolic link.
    pub fn is_link(&self) -> bool {
        self.kind == libc::S_IFLNK
    }
}

/// fstat(2).
pub fn facts(fd: RawFd) -> Result<Facts, Errno> {
    // SAFETY: an all-zero `stat` is valid (integers only).
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `struct stat`.
    check_int(unsafe { libc::fstat(fd, &raw mut stat) })?;
    Ok(Facts {
        inode: (stat.st_dev, stat.st_ino),
        kind: stat.st_mode & libc::S_IFMT,
        bits: stat.st_mode & 0o7777,
        owner: (stat.st_uid, stat.st_gid),
        links: stat.st_nlink,
    })
}

/// fstatfs(2): the magic number of the file system, include/uapi/linux/magic.h.
pub fn file_system_of(fd: BorrowedFd) -> Result<u64, Errno> {
    statfs(fd.as_raw_fd()).map(|fs| fs.f_type.cast_unsigned())
}

/// readlinkat(2): what a symbolic link that was opened itself leads to, or, with a directory, the
/// link of this name in it. ENAMETOOLONG: it is longer than a path can be.
pub fn link_target(fd: Option<BorrowedFd>, name: &CStr) -> Result<Vec<u8>, Errno> {
    let mut target = vec![0; 4096];
    let (at, len) = (fd.map_or(libc::AT_FDCWD, |fd| fd.as_raw_fd()), target.len());
    // SAFETY: the kernel reads a NUL-terminated name and writes at most `len` bytes.
    let got = check(unsafe {
        libc::readlinkat(at, name.as_ptr(), target.as_mut_ptr().cast(), len) as i64
    })?;
    target.truncate(usize::try_from(got).unwrap_or(0));
    if target.len() == len { Err(Errno::ENAMETOOLONG) } else { Ok(target) }
}

/// The name that the kernel has for what is open: `/proc/self/fd/N`, proc_pid_fd(5). Absolute and
/// without a link, unless it was removed or cannot be reached from the root directory.
pub fn name_of(fd: BorrowedFd) -> Result<Vec<u8>, Errno> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    link_target(None, &std::ffi::CString::new(path).map_err(|_| Errno::EINVAL)?)
}

/// getdents64(2): the names in a directory that was opened for reading, without `.` and `..`; at
/// most `most` of them.
pub fn names_in(dir: BorrowedFd, most: usize) -> Result<Vec<std::ffi::CString>, Errno> {
    let (mut names, mut block) = (Vec::new(), vec![0u8; 32 << 10]);
    loop {
        let (fd, len) = (dir.as_raw_fd(), block.len());
        // SAFETY: the kernel writes at most `len` bytes of `block`.
        let got =
            check(unsafe { libc::syscall(libc::SYS_getdents64, fd, block.as_mut_ptr(), len) })?;
        let mut entries = block.get(..usize::try_from(got).unwrap_or(0)).unwrap_or(&[]);
        if entries.is_empty() {
            return Ok(names);
        }
        // struct linux_dirent64: inode, offset, length of the entry, type, name with its NUL.
        while let Some(length) = entries.get(16..18).and_then(|b| b.first_chunk()) {
            let (entry, rest) =
                entries.split_at(usize::from(u16::from_ne_bytes(*length)).min(entries.len()));
            entries = rest;
            let name = entry.get(19..).and_then(|name| CStr::from_bytes_until_nul(name).ok());
            let Some(name) = name else { return Err(Errno::EINVAL) };
            if ![c".", c".."].contains(&name) {
                names.push(name.to_owned());
            }
            if names.len() > most {
                return Err(Errno::E2BIG);
            }
        }
    }
}

/// fstatvfs(3): the flags of the mount behind `fd`, `ST_RDONLY` and its like.
pub fn mount_flags(fd: RawFd) -> Result<u64, Errno> {
    // SAFETY: an all-zero `statvfs` is valid (integers only).
    let mut fs: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: one `struct statvfs` is written.
    check_int(unsafe { libc::fstatvfs(fd, &raw mut fs) })?;
    Ok(fs.f_flag)
}

/// faccessat2(2), W_OK, of what is open, by the effective ids: root may. Linux 5.8.
pub fn may_write(fd: BorrowedFd) -> Result<(), Errno> {
    let flags = libc::AT_EMPTY_PATH | libc::AT_EACCESS;
    let (fd, empty) = (fd.as_raw_fd(), c"".as_ptr());
    // SAFETY: the kernel reads an empty string.
    check(unsafe { libc::syscall(libc::SYS_faccessat2, fd, empty, libc::W_OK, flags) }).map(drop)
}

/// fstatfs(2): bytes and inodes that fit; 0: no limit of a tmpfs.
pub fn capacity(fd: RawFd) -> Result<(u64, u64), Errno> {
    let fs = statfs(fd)?;
    Ok((fs.f_blocks.saturating_mul(fs.f_bsize.unsigned_abs()), fs.f_files))
}

/// The same call: blocks and inodes that are free.
pub fn free(fd: RawFd) -> Result<(u64, u64), Errno> {
    let fs = statfs(fd)?;
    Ok((fs.f_bfree, fs.f_ffree))
}

fn statfs(fd: RawFd) -> Result<libc::statfs, Errno> {
    // SAFETY: an all-zero `statfs` is valid (integers only).
    let mut fs: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `struct statfs`.
    check_int(unsafe { libc::fstatfs(fd, &raw mut fs) })?;
    Ok(fs)
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

/// The same of what is open at `fd` already, by /proc/self/fd: a description of its own, with the
/// rights that its file gives. The path is made on the stack.
pub fn open_again(fd: RawFd, flags: i32) -> Result<RawFd, Errno> {
    let mut path = [0; 32];
    write!(path.as_mut_slice(), "/proc/self/fd/{fd}").map_err(|_| Errno::EINVAL)?;
    open(CStr::from_bytes_until_nul(&path).map_err(|_| Errno::EINVAL)?, flags)
}

/// fchown(2).
pub fn give(fd: BorrowedFd, (uid, gid): (u32, u32)) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check_int(unsafe { libc::fchown(fd.as_raw_fd(), uid, gid) }).map(drop)
}

/// fchmod(2).
pub fn allow(fd: BorrowedFd, mode: u32) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check_int(unsafe { libc::fchmod(fd.as_raw_fd(), mode) }).map(drop)
}

/// statx(2), STATX_MNT_ID: the mount that `fd` was opened on, by its number in mountinfo. EOPNOTSUPP: Linux
/// before 5.8.
pub fn mount_id(fd: RawFd) -> Result<u64, Errno> {
    // SAFETY: an all-zero `statx` is valid (integers only).
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    let (path, flags, mask) = (c"".as_ptr(), libc::AT_EMPTY_PATH, libc::STATX_MNT_ID);
    // SAFETY: the kernel reads an empty string and writes one `struct statx`.
    check_int(unsafe { libc::statx(fd, path, flags, mask, &raw mut stat) })?;
    if stat.stx_mask & mask == 0 { Err(Errno::EOPNOTSUPP) } else { Ok(stat.stx_mnt_id) }
}

/// fcntl(2), F_GET_SEALS: whether nobody can write to it, cut it, or seal it further. Only a memfd is so.
pub fn is_sealed(fd: RawFd) -> bool {
    const SIZE: i32 = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    const CONTENT: i32 = libc::F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;
    // SAFETY: F_GET_SEALS takes nothing.
    let seals = check_int(unsafe { libc::fcntl(fd, libc::F_GET_SEALS) });
    seals.is_ok_and(|seals| seals & SIZE == SIZE && seals & CONTENT != 0)
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

/// dup3(2), O_CLOEXEC, in the place of what is open there.
pub fn replace(from: RawFd, to: RawFd) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check_int(unsafe { libc::dup3(from, to, libc::O_CLOEXEC) }).map(drop)
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

/// pidfd_open(2). ESRCH: there is none.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    owned(i32::try_from(fd).map_err(|_| Errno::EINVAL)?)
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

impl End {
    /// Of what wait(2) calls a status.
    pub fn of_status(status: i32) -> End {
        match libc::WIFSIGNALED(status) {
            true => End::Signaled(libc::WTERMSIG(status)),
            false => End::Exited(libc::WEXITSTATUS(status)),
        }
    }
}

/// What a process and the children that it has reaped have used. getrusage(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time in the programs.
    pub user: Duration,
    /// Processor time in the kernel.
    pub system: Duration,
    /// Bytes of memory of the one process that had most at once. What the caller had at the start
    /// of the room counts for init: it is never less.
    pub peak_memory: u64,
}

impl Usage {
    fn of(usage: &libc::rusage) -> Usage {
        let number = |n: i64| u64::try_from(n).unwrap_or(0);
        let time = |t: libc::timeval| {
            Duration::from_secs(number(t.tv_sec)) + Duration::from_micros(number(t.tv_usec))
        };
        Usage {
            user: time(usage.ru_utime),
            system: time(usage.ru_stime),
            peak_memory: number(usage.ru_maxrss) * 1024,
        }
    }
}

/// waitid(2), P_PIDFD, WEXITED: waits and reaps. By the raw call, which tells the usage too.
/// `__WALL`: whatever signal its end sends, or none.
pub fn wait(pidfd: BorrowedFd) -> Result<(End, Usage), Errno> {
    loop {
        // SAFETY: an all-zero siginfo and rusage are valid.
        let (mut info, mut usage): (libc::siginfo_t, libc::rusage) = unsafe { std::mem::zeroed() };
        let (info_at, usage_at, id) = (&raw mut info, &raw mut usage, pidfd.as_raw_fd());
        let options = libc::WEXITED | libc::__WALL;
        // SAFETY: the kernel writes one siginfo and one rusage.
        let ret = check(unsafe {
            libc::syscall(libc::SYS_waitid, libc::P_PIDFD, id, info_at, options, usage_at)
        });
        match ret {
            Err(Errno::EINTR) => continue,
            other => other.map(drop)?,
        }
        if info.si_code == 0 {
            return Err(Errno::EINVAL); // nothing was waited for, whatever it returned
        }
        // SAFETY: waitid has filled in the SIGCHLD member.
        let status = unsafe { info.si_status() };
        let end = match info.si_code {
            libc::CLD_EXITED => End::Exited(status),
            _ => End::Signaled(status),
        };
        return Ok((end, Usage::of(&usage)));
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

/// Milliseconds for poll(2), never before `deadline`; `None`: -1, for ever.
pub fn ms_until(deadline: Option<Instant>) -> i32 {
    let left = |at: Instant| at.saturating_duration_since(Instant::now());
    let ms = |time: Duration| i32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    deadline.map_or(-1, |at| ms(left(at)))
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

// -- Supervision: what the shim does while the room lives -----------------------------------------

/// poll(2): `revents` of each; a timeout of -1 never passes. EINTR is no event.
pub fn poll(polls: &mut [libc::pollfd], timeout: i32) -> Result<(), Errno> {
    let count = polls.len() as libc::nfds_t;
    // SAFETY: the kernel reads and writes `count` pollfds; those with fd -1 are ignored.
    match check_int(unsafe { libc::poll(polls.as_mut_ptr(), count, timeout) }) {
        Err(Errno::EINTR) => {
            polls.iter_mut().for_each(|p| p.revents = 0);
            Ok(())
        }
        other => other.map(drop),
    }
}

/// write(2), once. EAGAIN: nothing fits now.
pub fn write(fd: RawFd, bytes: &[u8]) -> Result<usize, Errno> {
    loop {
        // SAFETY: the kernel reads at most `bytes.len()` bytes of `bytes`.
        match check(unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) as i64 }) {
            Err(Errno::EINTR) => {}
            other => return other.map(|n| usize::try_from(n).unwrap_or(0)),
        }
    }
}

/// send(2), MSG_DONTWAIT: a write to a socket that never waits, whoever shares it.
pub fn send(fd: RawFd, bytes: &[u8]) -> Result<usize, Errno> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the kernel reads at most `bytes.len()` bytes of `bytes`.
    check(unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) as i64 })
        .map(|n| usize::try_from(n).unwrap_or(0))
}

/// recv(2), MSG_DONTWAIT.
pub fn receive(fd: RawFd, to: &mut [u8]) -> Result<usize, Errno> {
    receive_with(fd, to, 0)
}

/// The same, and what it gives stays there: MSG_PEEK.
pub fn peek(fd: RawFd, to: &mut [u8]) -> Result<usize, Errno> {
    receive_with(fd, to, libc::MSG_PEEK)
}

fn receive_with(fd: RawFd, to: &mut [u8], flags: i32) -> Result<usize, Errno> {
    let flags = flags | libc::MSG_DONTWAIT;
    // SAFETY: the kernel writes at most `to.len()` bytes to `to`.
    check(unsafe { libc::recv(fd, to.as_mut_ptr().cast(), to.len(), flags) as i64 })
        .map(|n| usize::try_from(n).unwrap_or(0))
}

/// fcntl(2), F_GETFL: how it was opened. EBADF: it is not open.
pub fn open_flags(fd: RawFd) -> Result<i32, Errno> {
    // SAFETY: F_GETFL takes nothing.
    check_int(unsafe { libc::fcntl(fd, libc::F_GETFL) })
}

/// fcntl(2), F_SETFL: O_NONBLOCK, of a file that nobody else has.
pub fn set_nonblocking(fd: BorrowedFd) -> Result<(), Errno> {
    let flags = open_flags(fd.as_raw_fd())? | libc::O_NONBLOCK;
    // SAFETY: F_SETFL takes a number.
    check_int(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags) }).map(drop)
}

/// fstatfs(2): the magic number of the file system.
pub fn file_system(fd: RawFd) -> Result<i64, Errno> {
    // SAFETY: an all-zero `statfs` is valid (integers only).
    let mut fs: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `struct statfs`.
    check_int(unsafe { libc::fstatfs(fd, &raw mut fs) })?;
    Ok(fs.f_type)
}

/// PIPEFS_MAGIC, include/uapi/linux/magic.h: a pipe without a name.
pub const PIPEFS: i64 = 0x5049_5045;
/// DEVPTS_SUPER_MAGIC.
pub const DEVPTS: i64 = 0x1cd1;

/// ioctl(2), FIONREAD: bytes that wait in a pipe.
pub fn waiting(fd: RawFd) -> Result<usize, Errno> {
    let mut count = 0i32;
    // SAFETY: the kernel writes one int.
    check_int(unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut count) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// lseek(2), SEEK_CUR: where it is read from next. ESPIPE: it has no such place.
pub fn offset(fd: RawFd) -> Result<i64, Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) })
}

/// The same, SEEK_SET.
pub fn set_offset(fd: RawFd, offset: i64) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::lseek(fd, offset, libc::SEEK_SET) }).map(drop)
}

/// pread(2), again after EINTR. 0 is the end.
pub fn read_at(fd: RawFd, to: &mut [u8], offset: i64) -> Result<usize, Errno> {
    loop {
        // SAFETY: the kernel writes at most `to.len()` bytes to `to`.
        match check(unsafe { libc::pread(fd, to.as_mut_ptr().cast(), to.len(), offset) as i64 }) {
            Err(Errno::EINTR) => {}
            other => return other.map(|n| usize::try_from(n).unwrap_or(0)),
        }
    }
}

/// tee(2), SPLICE_F_NONBLOCK: bytes of one pipe that are in another now, too. EAGAIN: there is
/// nothing, or no place; 0: nobody writes any more.
pub fn tee(from: RawFd, to: RawFd, count: usize) -> Result<usize, Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::tee(from, to, count, libc::SPLICE_F_NONBLOCK) as i64 })
        .map(|n| usize::try_from(n).unwrap_or(0))
}

/// splice(2), SPLICE_F_NONBLOCK, from a pipe: the pipe is locked all the time. EAGAIN: it is empty.
pub fn splice(from: RawFd, to: RawFd, count: usize) -> Result<usize, Errno> {
    let (at, flags) = (std::ptr::null_mut(), libc::SPLICE_F_NONBLOCK);
    // SAFETY: no offset is passed.
    check(unsafe { libc::splice(from, at, to, at, count, flags) as i64 })
        .map(|n| usize::try_from(n).unwrap_or(0))
}

/// fcntl(2), F_SETPIPE_SZ: slots of a page. EBUSY: more are filled; EPERM: the user has many pipes.
pub fn set_pipe_size(fd: RawFd, bytes: usize) -> Result<(), Errno> {
    let bytes = i32::try_from(bytes).map_err(|_| Errno::EINVAL)?;
    // SAFETY: F_SETPIPE_SZ takes a number.
    check_int(unsafe { libc::fcntl(fd, libc::F_SETPIPE_SZ, bytes) }).map(drop)
}

/// sysconf(3): bytes of a page.
pub fn page_size() -> usize {
    // SAFETY: no memory is passed.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// getsockopt(2), SO_TYPE: whether a socket is a SOCK_STREAM.
pub fn is_stream(fd: RawFd) -> bool {
    let mut kind = 0i32;
    let Ok(mut len) = libc::socklen_t::try_from(size_of_val(&kind)) else { return false };
    let (at, len) = ((&raw mut kind).cast(), &raw mut len);
    // SAFETY: the kernel writes one int and its length.
    let got = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_TYPE, at, len) };
    got == 0 && kind == libc::SOCK_STREAM
}

/// sigaction(2): whether the caller has ignored it. Only of signals that have an action.
pub fn is_ignored(signal: i32) -> bool {
    // SAFETY: an all-zero sigaction is valid; the kernel writes one.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut old) == 0
            && old.sa_sigaction == libc::SIG_IGN
    }
}

/// Ends this process by `signal`, as if nobody had taken it.
pub fn die_by(signal: i32) -> ! {
    // SAFETY: SIG_DFL is no handler; the set is written before it is read; abort does not return.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::kill(libc::getpid(), signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        libc::_exit(128 + signal)
    }
}

// -- Terminals: termios(3), ioctl_tty(2), pty(7) ---------------------------------------------------

/// The attributes of a terminal.
#[derive(Clone, Copy)]
pub struct Modes(libc::termios);

impl std::fmt::Debug for Modes {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "Modes({:#x})", self.0.c_lflag)
    }
}

impl Modes {
    /// tcgetattr(3). ENOTTY: no terminal.
    pub fn of(fd: RawFd) -> Result<Modes, Errno> {
        // SAFETY: an all-zero termios is valid; the call writes one.
        unsafe {
            let mut modes: libc::termios = std::mem::zeroed();
            check_int(libc::tcgetattr(fd, &raw mut modes))?;
            Ok(Modes(modes))
        }
    }

    /// cfmakeraw(3): every byte as it is.
    pub fn raw(mut self) -> Modes {
        // SAFETY: changes the termios it is given.
        unsafe { libc::cfmakeraw(&raw mut self.0) };
        self
    }

    /// tcsetattr(3), TCSANOW: it waits for nothing, and what was typed stays.
    pub fn set(&self, fd: RawFd) -> Result<(), Errno> {
        // SAFETY: the call reads one termios.
        check_int(unsafe { libc::tcsetattr(fd, libc::TCSANOW, &raw const self.0) }).map(drop)
    }

    /// The byte that means the end of input, and whether it is asked for now.
    pub fn end_of_input(&self) -> Option<u8> {
        let canonical = self.0.c_lflag & libc::ICANON != 0;
        self.0.c_cc.get(libc::VEOF).copied().filter(|byte| canonical && *byte != 0)
    }
}

/// Rows and columns.
#[derive(Clone, Copy, Debug)]
pub struct Size(libc::winsize);

impl Size {
    /// A size in characters.
    pub fn new(rows: u16, columns: u16) -> Size {
        Size(libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })
    }

    /// TIOCGWINSZ.
    pub fn of(fd: RawFd) -> Result<Size, Errno> {
        // SAFETY: an all-zero winsize is valid; the kernel writes one.
        unsafe {
            let mut size: libc::winsize = std::mem::zeroed();
            check_int(libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size))?;
            Ok(Size(size))
        }
    }

    /// TIOCSWINSZ: the foreground process group gets SIGWINCH if it is another size.
    pub fn set(&self, fd: RawFd) -> Result<(), Errno> {
        // SAFETY: the kernel reads one winsize.
        check_int(unsafe { libc::ioctl(fd, libc::TIOCSWINSZ, &raw const self.0) }).map(drop)
    }
}

/// openat2(2) of a device, to read and write, and not as a controlling terminal; no symbolic link
/// may be on the way.
pub fn open_terminal(path: &CStr, no_links: bool) -> Result<RawFd, Errno> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    let resolve = if no_links { RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS } else { 0 };
    let how = [u64::from(flags.cast_unsigned()), 0, resolve];
    let (at, size) = (how.as_ptr(), size_of_val(&how));
    // SAFETY: the kernel reads a NUL-terminated string and `size` bytes of `how`.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, path.as_ptr(), at, size)
    })?;
    i32::try_from(fd).map_err(|_| Errno::EINVAL)
}

/// TIOCSPTLCK, then TIOCGPTPEER: the other side of the pseudo terminal `master`, without a path.
pub fn other_side(master: RawFd) -> Result<RawFd, Errno> {
    let unlock = 0i32;
    // SAFETY: the kernel reads one int.
    check_int(unsafe { libc::ioctl(master, libc::TIOCSPTLCK, &raw const unlock) })?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes a number.
    check_int(unsafe { libc::ioctl(master, libc::TIOCGPTPEER, flags) })
}

/// socketpair(2), AF_UNIX, SOCK_SEQPACKET, close-on-exec.
pub fn socket_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (mut ends, kind) = ([-1; 2], libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC);
    // SAFETY: the kernel writes two ints.
    check_int(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) })?;
    Ok((owned(ends[0])?, owned(ends[1])?))
}

/// Room for one control message with one descriptor, aligned as cmsg(3) wants it.
#[repr(C)]
struct Rights {
    head: libc::cmsghdr,
    fd: RawFd,
}

impl Rights {
    /// CMSG_LEN of one descriptor.
    const LEN: usize = size_of::<libc::cmsghdr>() + size_of::<RawFd>();

    /// The message, whose parts outlive it: one byte, and this.
    fn message(&mut self, io: &mut libc::iovec) -> libc::msghdr {
        // SAFETY: an all-zero msghdr is valid: no name, no parts.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = io;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut *self).cast();
        message.msg_controllen = size_of::<Rights>();
        message
    }
}

/// sendmsg(2), SCM_RIGHTS: one descriptor.
pub fn send_fd(socket: RawFd, fd: RawFd) -> Result<(), Errno> {
    let (level, kind) = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
    let head = libc::cmsghdr { cmsg_len: Rights::LEN, cmsg_level: level, cmsg_type: kind };
    let (mut byte, mut rights) = (0u8, Rights { head, fd });
    let mut io = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let message = rights.message(&mut io);
    // SAFETY: the kernel reads the message, its one byte and its one control message.
    let sent =
        check(unsafe { libc::sendmsg(socket, &raw const message, libc::MSG_NOSIGNAL) as i64 });
    sent.map(drop)
}

/// recvmsg(2), MSG_DONTWAIT: the descriptor that was sent, close-on-exec. EAGAIN: none was.
pub fn receive_fd(socket: BorrowedFd) -> Result<OwnedFd, Errno> {
    let head = libc::cmsghdr { cmsg_len: 0, cmsg_level: 0, cmsg_type: 0 };
    let (mut byte, mut rights) = (0u8, Rights { head, fd: -1 });
    let mut io = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut message = rights.message(&mut io);
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the kernel writes the message, at most one byte, and control messages of at most the
    // size given.
    check(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) as i64 })?;
    match rights.head.cmsg_len == Rights::LEN && rights.head.cmsg_type == libc::SCM_RIGHTS {
        true => owned(rights.fd),
        false => Err(Errno::EAGAIN),
    }
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

/// A system call `count` times, with numbers for arguments, none of them an address. What it returns is not looked at.
pub fn repeat(number: u32, [a, b, c]: [u64; 3], count: u32) {
    for _ in 0..count {
        // SAFETY: by the contract above the kernel touches no memory.
        unsafe { libc::syscall(number.into(), a, b, c, 0, 0, 0) };
    }
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

// -- The filters of another process: `policy trace` ---------------------------------------------

/// ptrace(2) without memory of ours: the address and the data are numbers.
fn ptrace(request: u32, pid: i32, data: i64) -> Result<i64, Errno> {
    // SAFETY: by the contract above the kernel touches no memory of this process.
    check(unsafe { libc::ptrace(request, pid, 0, data) })
}

/// ptrace(2), PTRACE_SEIZE: attaches without a signal; when this process ends, the kernel lets go.
pub fn seize(pid: i32) -> Result<(), Errno> {
    ptrace(libc::PTRACE_SEIZE, pid, 0).map(drop)
}

/// ptrace(2), PTRACE_INTERRUPT: a seized process stops.
pub fn interrupt(pid: i32) -> Result<(), Errno> {
    ptrace(libc::PTRACE_INTERRUPT, pid, 0).map(drop)
}

/// waitpid(2), WNOHANG, __WALL: whether a seized process has stopped, and the signal that it was about to get, else
/// 0. ESRCH: it has ended.
pub fn has_stopped(pid: i32) -> Result<Option<i32>, Errno> {
    let mut status = 0;
    // SAFETY: the kernel writes one int.
    let got = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG | libc::__WALL) };
    match check_int(got) {
        Ok(0) | Err(Errno::EINTR) => Ok(None),
        Ok(_) if !libc::WIFSTOPPED(status) => Err(Errno::ESRCH),
        Ok(_) if status >> 16 == 0 => Ok(Some(libc::WSTOPSIG(status))),
        Ok(_) => Ok(Some(0)), // PTRACE_EVENT_STOP
        Err(errno) => Err(errno),
    }
}

/// ptrace(2), PTRACE_DETACH: it goes on, and gets the signal.
pub fn let_go(pid: i32, signal: i32) -> Result<(), Errno> {
    ptrace(libc::PTRACE_DETACH, pid, signal.into()).map(drop)
}

/// ptrace(2), PTRACE_SECCOMP_GET_FILTER of a stopped process. ENOENT: it has no so manieth. EACCES: this process
/// may not, or has a filter itself. EINVAL: it has none at all, or the kernel does not keep them.
pub fn seccomp_filter(pid: i32, index: usize) -> Result<Vec<SockFilter>, Errno> {
    const GET_FILTER: u32 = 0x420c; // linux/ptrace.h
    const NONE: SockFilter = SockFilter { code: 0, jt: 0, jf: 0, k: 0 };
    let mut program = vec![NONE; CAPACITY];
    let to = program.as_mut_ptr();
    // SAFETY: the kernel writes one program, at most CAPACITY instructions of the layout of SockFilter.
    let len = check(unsafe { libc::ptrace(GET_FILTER, pid, index, to) })?;
    program.truncate(usize::try_from(len).map_err(|_| Errno::EINVAL)?);
    Ok(program)
}

/// setenv(3) of this process. EBUSY: it has other threads, which may be reading its environment.
pub fn set_variable(name: &str, value: &str) -> Result<(), Errno> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if threads != 1 {
        return Err(Errno::EBUSY);
    }
    // SAFETY: there is no other thread.
    unsafe { std::env::set_var(name, value) };
    Ok(())
}
