//! Every raw system call of the crate, typed. The one file with `unsafe`, `rt.rs` apart.
//!
//! A wrapper names its man page; a SAFETY line says what the kernel does with memory. Results are
//! decoded here: a number from -4095 to -1 is an [`Errno`].

use core::ffi::CStr;

use sc::nr;

use crate::bpf::SockFilter;
use crate::error::{Errno, RECORD, Record};

/// A file descriptor that the caller keeps open for as long as it is used.
pub type Fd = i32;

// Not in `sc`: the same numbers on every architecture (asm-generic, since Linux 5.13).
const LANDLOCK_CREATE_RULESET: usize = 444;
const LANDLOCK_ADD_RULE: usize = 445;
const LANDLOCK_RESTRICT_SELF: usize = 446;

/// Splits what a system call returned: -4095..=-1 is an errno.
pub fn check(ret: usize) -> Result<usize, Errno> {
    if ret > usize::MAX - 4095 {
        // 1..=4095 by the test above.
        #[allow(clippy::cast_possible_truncation)]
        return Err(Errno(ret.wrapping_neg() as u16));
    }
    Ok(ret)
}

/// A descriptor, signal or flag word as the kernel reads it: sign-extended.
#[allow(clippy::cast_sign_loss)]
const fn int(n: i32) -> usize {
    n as isize as usize
}

/// The low 32 bits of a result that the kernel defines as `int`.
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
const fn to_int(n: usize) -> i32 {
    n as i32
}

/// prctl(2) with four plain arguments: for options that take no pointer.
fn prctl(option: i32, a: usize, b: usize, c: usize) -> Result<usize, Errno> {
    // SAFETY: the options used in this file take numbers; the kernel touches no memory of ours.
    check(unsafe { sc::syscall5(nr::PRCTL, int(option), a, b, c, 0) })
}

/// close(2).
pub fn close(fd: Fd) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { sc::syscall1(nr::CLOSE, int(fd)) }).map(drop)
}

/// close_range(2), Linux 5.9: closes every descriptor from `first` to `last`; -1 is the greatest.
pub fn close_range(first: Fd, last: Fd) -> Result<(), Errno> {
    let last = last.cast_unsigned() as usize;
    // SAFETY: no memory is passed.
    check(unsafe { sc::syscall3(nr::CLOSE_RANGE, int(first), last, 0) }).map(drop)
}

/// dup3(2): afterwards `to` is the file behind `from`, and not close-on-exec.
pub fn dup_to(from: Fd, to: Fd) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { sc::syscall3(nr::DUP3, int(from), int(to), 0) }).map(drop)
}

/// fcntl(2), F_DUPFD_CLOEXEC: the same file at the lowest free number past stdio.
pub fn dup(fd: Fd) -> Result<Fd, Errno> {
    // SAFETY: F_DUPFD_CLOEXEC takes a number.
    check(unsafe { sc::syscall3(nr::FCNTL, int(fd), int(libc::F_DUPFD_CLOEXEC), 3) }).map(to_int)
}

/// fcntl(2), F_SETFD FD_CLOEXEC.
pub fn set_cloexec(fd: Fd) -> Result<(), Errno> {
    let flag = int(libc::FD_CLOEXEC);
    // SAFETY: F_SETFD takes a number.
    check(unsafe { sc::syscall3(nr::FCNTL, int(fd), int(libc::F_SETFD), flag) }).map(drop)
}

/// fcntl(2), F_GETFD: whether it is closed by execve.
pub fn is_cloexec(fd: Fd) -> Result<bool, Errno> {
    // SAFETY: F_GETFD takes nothing.
    let flags = check(unsafe { sc::syscall3(nr::FCNTL, int(fd), int(libc::F_GETFD), 0) })?;
    Ok(flags == int(libc::FD_CLOEXEC))
}

/// getdents64(2): how many entries the directory has, `.` and `..` with them.
pub fn count_entries(dir: Fd) -> Result<i32, Errno> {
    // struct linux_dirent64: inode, offset, then the length of the record in two bytes.
    const LENGTH: usize = 16;
    let mut entries = [0u8; 1024];
    let mut count = 0;
    loop {
        let to = entries.as_mut_ptr().expose_provenance();
        // SAFETY: the kernel writes at most `entries.len()` bytes.
        let end = check(unsafe { sc::syscall3(nr::GETDENTS64, int(dir), to, entries.len()) })?;
        if end == 0 {
            return Ok(count);
        }
        let mut at = 0;
        while let Some([low, high]) = entries.get(at + LENGTH..at + LENGTH + 2).filter(|_| at < end)
        {
            at += usize::from(u16::from_ne_bytes([*low, *high])).max(LENGTH);
            count += 1;
        }
    }
}

/// open(2) relative to the root or cwd; the descriptor is close-on-exec.
pub fn open(path: &CStr, flags: i32) -> Result<Fd, Errno> {
    let flags = int(flags | libc::O_CLOEXEC);
    // SAFETY: `path` is NUL-terminated and outlives the call; the kernel only reads it.
    let fd = unsafe {
        sc::syscall4(nr::OPENAT, int(libc::AT_FDCWD), path.as_ptr().expose_provenance(), flags, 0)
    };
    check(fd).map(to_int)
}

/// openat2(2), O_PATH: a descriptor of what `path` names, which no symbolic link is part of.
/// ELOOP: one is.
pub fn open_no_symlinks(path: &CStr) -> Result<Fd, Errno> {
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // struct open_how: flags, mode, resolve.
    let how = [flags.cast_unsigned().into(), 0, libc::RESOLVE_NO_SYMLINKS];
    let (at, how_at) = (path.as_ptr().expose_provenance(), how.as_ptr().expose_provenance());
    // SAFETY: the kernel reads `path`, NUL-terminated, and the 24 bytes of `how`.
    let fd =
        unsafe { sc::syscall4(nr::OPENAT2, int(libc::AT_FDCWD), at, how_at, size_of_val(&how)) };
    check(fd).map(to_int)
}

/// read(2).
pub fn read(fd: Fd, to: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most `to.len()` bytes into `to`, which is borrowed for it.
    check(unsafe { sc::syscall3(nr::READ, int(fd), to.as_mut_ptr().expose_provenance(), to.len()) })
}

/// pread64(2) from offset 0.
pub fn read_start(fd: Fd, to: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: as for `read`.
    check(unsafe {
        sc::syscall4(nr::PREAD64, int(fd), to.as_mut_ptr().expose_provenance(), to.len(), 0)
    })
}

/// write(2).
pub fn write(fd: Fd, bytes: &[u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel reads `bytes.len()` bytes of `bytes`, which outlive the call.
    check(unsafe {
        sc::syscall3(nr::WRITE, int(fd), bytes.as_ptr().expose_provenance(), bytes.len())
    })
}

/// The bytes of a [`Record`], as they cross the report pipe.
pub fn record_bytes(record: &Record) -> &[u8] {
    // SAFETY: `Record` is repr(C) of integers and byte arrays without padding (96 = 2 + 2 + 28 + 64,
    // asserted beside the type), so all its bytes are initialised; the borrow keeps it alive.
    unsafe { core::slice::from_raw_parts((&raw const *record).cast(), RECORD) }
}

/// The [`Record`] of 96 bytes. Any are one: its fields have no forbidden values.
pub fn record_from(bytes: &[u8; RECORD]) -> Record {
    // SAFETY: every bit pattern is a valid `Record` (integers and byte arrays); read unaligned.
    unsafe { bytes.as_ptr().cast::<Record>().read_unaligned() }
}

/// A string by its address alone.
#[derive(Clone, Copy)]
pub struct Words(&'static u8);

impl Words {
    /// The same string.
    pub const fn of(string: &'static CStr) -> Words {
        // SAFETY: a string has at least its NUL.
        Words(unsafe { &*string.as_ptr().cast::<u8>() })
    }

    /// Without the NUL.
    pub fn bytes(self) -> &'static [u8] {
        string_at((&raw const *self.0).expose_provenance()).to_bytes()
    }
}

impl PartialEq for Words {
    fn eq(&self, other: &Words) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Words {}

impl core::fmt::Debug for Words {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        core::fmt::Debug::fmt(&self.bytes().escape_ascii(), f)
    }
}

/// The NUL-terminated string at an address of this program's that never changes. Not by
/// `CStr::from_ptr`: core's own calls strlen through a table, which would be a writable segment.
fn string_at(at: usize) -> &'static CStr {
    let at = core::ptr::with_exposed_provenance::<u8>(at);
    // SAFETY: the callers pass the address of such a string.
    unsafe {
        let mut len = 0;
        while at.add(len).read() != 0 {
            len += 1;
        }
        CStr::from_bytes_with_nul_unchecked(core::slice::from_raw_parts(at, len + 1))
    }
}

/// Whether every string in `block` ends within it.
pub fn ends_in_nul(block: &[u64]) -> bool {
    block.last().is_some_and(|w| w.to_ne_bytes().last() == Some(&0))
}

/// The NUL-terminated string at the address `at`; empty if that is not within `block`.
pub fn string_in(block: &[u64], at: u64) -> &CStr {
    let offset = at.wrapping_sub(block.as_ptr().expose_provenance() as u64);
    if offset >= size_of_val(block) as u64 || !ends_in_nul(block) {
        return c"";
    }
    // SAFETY: the string begins within `block` and ends at the latest with its last byte, which is
    // NUL; words are plain initialised memory, borrowed for as long as the string.
    unsafe { CStr::from_ptr(block.as_ptr().byte_add(word(offset)).cast()) }
}

/// Strings of the initial stack, argv or envp: their addresses, each a NUL-terminated string that
/// is there for good. elf(5), x86-64 psABI §3.4.1.
#[derive(Clone, Copy, Debug)]
pub struct Strings(&'static [u64]);

impl Strings {
    /// argv and envp.
    ///
    /// # Safety
    /// `stack` is where the stack pointer was at the entry of the program.
    pub unsafe fn of_stack(stack: *const u64) -> (Strings, Strings) {
        // SAFETY: the kernel has put there argc, so many addresses of strings, NULL, the addresses
        // of the environment, NULL; nothing of it is changed later.
        unsafe {
            let argc = word(stack.read());
            let envp = stack.add(argc + 2);
            let envc = (0..).take_while(|n| envp.add(*n).read() != 0).count();
            let strings = |at, len| Strings(core::slice::from_raw_parts(at, len));
            (strings(stack.add(1), argc), strings(envp, envc))
        }
    }

    /// Copies that are never freed.
    #[cfg(test)]
    pub fn leaked(strings: &[&str]) -> Strings {
        let leak = |s: &&str| {
            let string = std::ffi::CString::new(*s).expect("no NUL");
            string.into_raw().expose_provenance() as u64
        };
        Strings(strings.iter().map(leak).collect::<std::vec::Vec<_>>().leak())
    }

    /// How many.
    #[allow(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// Their bytes together, NULs too.
    pub fn size(self) -> usize {
        self.iter().map(|string| string.count_bytes() + 1).sum()
    }

    /// Those from number `n` on.
    pub fn from(self, n: usize) -> Strings {
        Strings(self.0.get(n..).unwrap_or_default())
    }

    /// Number `n`.
    pub fn get(self, n: usize) -> Option<&'static CStr> {
        self.0.get(n).map(|at| string_at(word(*at)))
    }

    /// One after the other.
    pub fn iter(self) -> impl Iterator<Item = &'static CStr> {
        (0..self.len()).filter_map(move |n| self.get(n))
    }
}

/// The string from byte `n` on; `None` past its end.
pub fn rest_of(string: &'static CStr, n: usize) -> Option<&'static CStr> {
    let rest = string.to_bytes_with_nul().get(n..).filter(|rest| !rest.is_empty())?;
    // SAFETY: a rest of a NUL-terminated string is one, at the least its NUL.
    Some(unsafe { CStr::from_bytes_with_nul_unchecked(rest) })
}

/// mmap(2), anonymous: that many words of zero, for good.
pub fn new_words(count: usize) -> Result<&'static mut [u64], Errno> {
    let (prot, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let size = count.checked_mul(8).ok_or(Errno::ENOMEM)?;
    // SAFETY: a new mapping at an address that the kernel chooses: no memory of ours is affected.
    let at =
        check(unsafe { sc::syscall6(nr::MMAP, 0, size, int(prot), int(flags), usize::MAX, 0) })?;
    let at = core::ptr::with_exposed_provenance_mut::<u64>(at);
    // SAFETY: `size` bytes are mapped at `at`, page-aligned, read and write, never unmapped, and
    // referred to by nothing else.
    Ok(unsafe { core::slice::from_raw_parts_mut(at, count) })
}

/// The same memory, byte by byte.
pub fn bytes_of(words: &mut [u64]) -> &mut [u8] {
    let size = size_of_val(words);
    // SAFETY: a word is eight bytes, of which any are valid; the borrow goes over to the result.
    unsafe { core::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), size) }
}

/// fstat(2) and mmap(2): the whole file behind `fd`, private and writable, for good.
pub fn map_words(fd: Fd) -> Result<&'static mut [u64], Errno> {
    // SAFETY: an all-zero `stat` is valid (integers only).
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: the kernel writes one `struct stat`, of the same layout as `libc::stat`.
    check(unsafe { sc::syscall2(nr::FSTAT, int(fd), (&raw mut stat).expose_provenance()) })?;
    let size = usize::try_from(stat.st_size).map_err(|_| Errno::EINVAL)?;
    if size == 0 || !size.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let prot = int(libc::PROT_READ | libc::PROT_WRITE);
    // SAFETY: a new mapping at an address that the kernel chooses: no memory of ours is affected.
    let at = check(unsafe {
        sc::syscall6(nr::MMAP, 0, size, prot, int(libc::MAP_PRIVATE), int(fd), 0)
    })?;
    let at = core::ptr::with_exposed_provenance_mut::<u64>(at);
    // SAFETY: `size` bytes are mapped at `at`, page-aligned, read and write, never unmapped, and
    // referred to by nothing else. The file is sealed, so no access faults.
    Ok(unsafe { core::slice::from_raw_parts_mut(at, size / 8) })
}

/// stat(2), only the inode: it names a namespace where `path` is one of `/proc/self/ns`.
pub fn inode(path: &CStr) -> Result<u64, Errno> {
    file(path).map(|(_, inode)| inode)
}

/// stat(2), only device and inode: what tells one file from every other.
pub fn file(path: &CStr) -> Result<(u64, u64), Errno> {
    stat(path).map(|stat| (stat.st_dev, stat.st_ino))
}

/// stat(2), only whether it is a directory.
pub fn is_dir(path: &CStr) -> Result<bool, Errno> {
    stat(path).map(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

fn stat(path: &CStr) -> Result<libc::stat, Errno> {
    // SAFETY: an all-zero `stat` is valid (integers only).
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    let to = (&raw mut stat).expose_provenance();
    // SAFETY: the kernel reads `path`, NUL-terminated, and writes one `struct stat`.
    let ret = unsafe {
        sc::syscall4(nr::NEWFSTATAT, int(libc::AT_FDCWD), path.as_ptr().expose_provenance(), to, 0)
    };
    check(ret)?;
    Ok(stat)
}

/// chdir(2).
pub fn chdir(path: &CStr) -> Result<(), Errno> {
    // SAFETY: the kernel reads `path`, NUL-terminated.
    check(unsafe { sc::syscall1(nr::CHDIR, path.as_ptr().expose_provenance()) }).map(drop)
}

/// statfs(2), only the magic number of the file-system type.
pub fn fs_magic(path: &CStr) -> Result<u64, Errno> {
    // SAFETY: an all-zero `statfs` is valid (integers only).
    let mut fs: libc::statfs64 = unsafe { core::mem::zeroed() };
    // SAFETY: the kernel reads `path` and writes one `struct statfs`, of this layout on 64 bits.
    check(unsafe {
        sc::syscall2(
            nr::STATFS,
            path.as_ptr().expose_provenance(),
            (&raw mut fs).expose_provenance(),
        )
    })?;
    Ok(fs.f_type.cast_unsigned())
}

/// getcwd(2): the length with the NUL. Outside the root it begins with `(unreachable)`.
pub fn getcwd(to: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most `to.len()` bytes.
    check(unsafe { sc::syscall2(nr::GETCWD, to.as_mut_ptr().expose_provenance(), to.len()) })
}

/// getpid(2).
pub fn getpid() -> i32 {
    // SAFETY: no memory is passed.
    to_int(unsafe { sc::syscall0(nr::GETPID) })
}

/// getppid(2); 0 when the parent is in another pid namespace.
pub fn getppid() -> i32 {
    // SAFETY: no memory is passed.
    to_int(unsafe { sc::syscall0(nr::GETPPID) })
}

/// setsid(2).
pub fn setsid() -> Result<i32, Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { sc::syscall0(nr::SETSID) }).map(to_int)
}

/// getsid(2) of the caller.
pub fn getsid() -> Result<i32, Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { sc::syscall1(nr::GETSID, 0) }).map(to_int)
}

/// getpgid(2) of the caller.
pub fn getpgid() -> Result<i32, Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { sc::syscall1(nr::GETPGID, 0) }).map(to_int)
}

/// setpgid(2): the caller leads a process group of its own.
pub fn set_own_group() -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { sc::syscall2(nr::SETPGID, 0, 0) }).map(drop)
}

/// umask(2); it cannot fail.
pub fn umask(mask: u32) {
    // SAFETY: no memory is passed.
    unsafe { sc::syscall1(nr::UMASK, mask as usize) };
}

/// rt_sigprocmask(2), SIG_SETMASK: bit n-1 is signal n.
pub fn set_signal_mask(mask: u64) -> Result<(), Errno> {
    let set = &raw const mask;
    // SAFETY: the kernel reads the 8 bytes of `mask`; the old set is not asked for.
    let ret = unsafe {
        sc::syscall4(
            nr::RT_SIGPROCMASK,
            int(libc::SIG_SETMASK),
            set.expose_provenance(),
            0,
            size_of_val(&mask),
        )
    };
    check(ret).map(drop)
}

/// rt_sigaction(2): the default action for `signal`.
pub fn set_default_action(signal: i32) -> Result<(), Errno> {
    // handler, flags, restorer, mask: all zero is SIG_DFL.
    let action = [0u64; 4];
    let new = action.as_ptr().expose_provenance();
    // SAFETY: the kernel reads one `struct sigaction`, 32 bytes; SIG_DFL installs no handler.
    check(unsafe { sc::syscall4(nr::RT_SIGACTION, int(signal), new, 0, 8) }).map(drop)
}

/// signalfd4(2) of every blocked signal; read(2) of it does not wait.
pub fn signal_fd() -> Result<Fd, Errno> {
    let all = u64::MAX;
    let flags = int(libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
    // SAFETY: the kernel reads the 8 bytes of `all`.
    check(unsafe {
        sc::syscall4(nr::SIGNALFD4, usize::MAX, (&raw const all).expose_provenance(), 8, flags)
    })
    .map(to_int)
}

/// The number of the next signal of a signalfd; `None` if none is there. Who sent it and why can
/// be forged: not looked at.
pub fn next_signal(fd: Fd) -> Result<Option<i32>, Errno> {
    let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
    match read(fd, &mut info) {
        // ssi_signo is the first member, 32 bits.
        Ok(_) => Ok(info.first_chunk().map(|number| i32::from_ne_bytes(*number))),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// kill(2). `pid` < -1 is a process group.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { sc::syscall2(nr::KILL, int(pid), int(signal)) }).map(drop)
}

/// fork, by clone(2) with SIGCHLD and nothing shared: 0 in the child.
pub fn fork() -> Result<i32, Errno> {
    // SAFETY: nothing is shared and the stack pointer is kept: the child runs on its own copy of
    // this memory. The program has one thread, so no lock is held by another one.
    check(unsafe { sc::syscall5(nr::CLONE, int(libc::SIGCHLD), 0, 0, 0, 0) }).map(to_int)
}

/// wait4(2), WNOHANG, of any child: `None` when no more has ended; pid and status otherwise. Those
/// that have stopped are told too if `stopped`.
pub fn reap(stopped: bool) -> Result<Option<(i32, i32)>, Errno> {
    let mut status = 0i32;
    let stopped = if stopped { libc::WUNTRACED } else { 0 };
    let flags = int(libc::WNOHANG | libc::__WALL | stopped);
    // SAFETY: the kernel writes one int to `status`; no rusage is asked for.
    let ret = unsafe {
        sc::syscall4(nr::WAIT4, usize::MAX, (&raw mut status).expose_provenance(), flags, 0)
    };
    match check(ret)? {
        0 => Ok(None),
        pid => Ok(Some((to_int(pid), status))),
    }
}

/// exit_group(2).
pub fn exit(code: i32) -> ! {
    loop {
        // SAFETY: the process ends here; no memory is passed.
        unsafe { sc::syscall1(nr::EXIT_GROUP, int(code)) };
    }
}

/// pipe2(2), O_CLOEXEC: the end to read, the end to write.
pub fn pipe() -> Result<(Fd, Fd), Errno> {
    let mut ends = [0i32; 2];
    let to = ends.as_mut_ptr().expose_provenance();
    // SAFETY: the kernel writes two ints.
    check(unsafe { sc::syscall2(nr::PIPE2, to, int(libc::O_CLOEXEC)) })?;
    Ok((ends[0], ends[1]))
}

/// A time of ppoll(2), which writes back what is left of it: seconds, nanoseconds.
pub type Time = [u64; 2];

/// ppoll(2), POLLIN: which of two descriptors can be read, or have ended; -1 never is. None of them:
/// `time` is over. Without a time it waits for as long as it takes.
pub fn poll(fds: [Fd; 2], time: Option<&mut Time>) -> Result<[bool; 2], Errno> {
    let mut polls = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    let at = polls.as_mut_ptr().expose_provenance();
    let until = time.map_or(0, |time| time.as_mut_ptr().expose_provenance());
    // SAFETY: the kernel reads and writes two pollfds and, if there is one, the timespec; no mask.
    check(unsafe { sc::syscall5(nr::PPOLL, at, polls.len(), until, 0, 8) })?;
    Ok(polls.map(|poll| poll.revents != 0))
}

/// ioctl(2), TIOCSCTTY: the terminal behind `fd` becomes that of the caller's session.
pub fn take_terminal(fd: Fd) -> Result<(), Errno> {
    // SAFETY: TIOCSCTTY takes a number.
    check(unsafe { sc::syscall3(nr::IOCTL, int(fd), TIOCSCTTY, 0) }).map(drop)
}

/// ioctl(2), TIOCGSID: the session of the caller's controlling terminal. ENOTTY: it is another
/// one, or none.
pub fn terminal_session(fd: Fd) -> Result<i32, Errno> {
    ask_terminal(fd, TIOCGSID)
}

/// ioctl(2), TIOCGPGRP: the process group in the foreground of it.
pub fn foreground(fd: Fd) -> Result<i32, Errno> {
    ask_terminal(fd, TIOCGPGRP)
}

fn ask_terminal(fd: Fd, request: usize) -> Result<i32, Errno> {
    let mut id = 0i32;
    let to = (&raw mut id).expose_provenance();
    // SAFETY: the kernel writes one int.
    check(unsafe { sc::syscall3(nr::IOCTL, int(fd), request, to) })?;
    Ok(id)
}

/// ioctl(2), TIOCSPGRP: this process group is in the foreground of the caller's terminal. Of a
/// caller that is not, SIGTTOU must be blocked.
pub fn set_foreground(fd: Fd, group: i32) -> Result<(), Errno> {
    let at = (&raw const group).expose_provenance();
    // SAFETY: the kernel reads one int.
    check(unsafe { sc::syscall3(nr::IOCTL, int(fd), TIOCSPGRP, at) }).map(drop)
}
// asm-generic/ioctls.h
const TIOCSPGRP: usize = 0x5410;
const TIOCSCTTY: usize = 0x540e;
const TIOCGPGRP: usize = 0x540f;
const TIOCGSID: usize = 0x5429;

/// socket(2) and bind(2): a TCP socket at a free port of 127.0.0.1, closed again.
pub fn bind_tcp() -> Result<(), Errno> {
    let (kind, family) = (libc::SOCK_STREAM | libc::SOCK_CLOEXEC, libc::AF_INET);
    // SAFETY: no memory is passed.
    let fd = check(unsafe { sc::syscall3(nr::SOCKET, int(family), int(kind), 0) })?;
    // struct sockaddr_in: family in 16 bits and native order, port and address in network order.
    let [low, high, ..] = libc::AF_INET.to_le_bytes();
    let at = [low, high, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0u8];
    // SAFETY: the kernel reads the 16 bytes of `at`.
    let bound =
        check(unsafe { sc::syscall3(nr::BIND, fd, at.as_ptr().expose_provenance(), at.len()) });
    close(to_int(fd))?;
    bound.map(drop)
}

/// execve(2). Returns only when it failed.
///
/// `argv` and `envp` are NULL-terminated arrays of pointers to strings, as `Orders` makes them.
pub fn execve(path: &CStr, argv: &[u64], envp: &[u64]) -> Errno {
    let (argv, envp) = (argv.as_ptr().expose_provenance(), envp.as_ptr().expose_provenance());
    // SAFETY: the kernel reads the path, the arrays and their strings; on a bad pointer it says
    // EFAULT. On success this program is gone, on failure its memory is as before.
    match check(unsafe { sc::syscall3(nr::EXECVE, path.as_ptr().expose_provenance(), argv, envp) })
    {
        Err(errno) => errno,
        Ok(_) => Errno::EINVAL,
    }
}

/// execveat(2), AT_EMPTY_PATH: the program behind `fd`. Returns only when it failed.
pub fn execve_fd(fd: Fd, argv: &[u64], envp: &[u64]) -> Errno {
    let (argv, envp) = (argv.as_ptr().expose_provenance(), envp.as_ptr().expose_provenance());
    let empty = c"".as_ptr().expose_provenance();
    // SAFETY: as for `execve`.
    let ret =
        unsafe { sc::syscall5(nr::EXECVEAT, int(fd), empty, argv, envp, int(libc::AT_EMPTY_PATH)) };
    match check(ret) {
        Err(errno) => errno,
        Ok(_) => Errno::EINVAL,
    }
}

/// prlimit64(2) of the caller: sets soft and hard limit, never above the hard limit there is.
/// Alike, but the soft one of CPU time is a second earlier: SIGXCPU says what ended a process, and
/// SIGKILL then ends one that did not want to hear it.
pub fn set_rlimit(resource: u64, limit: u64) -> Result<(), Errno> {
    let (_, hard) = get_rlimit(resource)?;
    let limit = limit.min(hard);
    let new = [limit.saturating_sub((resource == u64::from(libc::RLIMIT_CPU)).into()), limit];
    // SAFETY: the kernel reads one `struct rlimit64`: two words.
    check(unsafe {
        sc::syscall4(nr::PRLIMIT64, 0, word(resource), new.as_ptr().expose_provenance(), 0)
    })
    .map(drop)
}

/// prlimit64(2) of the caller: soft and hard limit.
pub fn get_rlimit(resource: u64) -> Result<(u64, u64), Errno> {
    let mut old = [u64::MAX; 2]; // a call that does nothing leaves no limit
    // SAFETY: the kernel writes one `struct rlimit64`: two words.
    check(unsafe {
        sc::syscall4(nr::PRLIMIT64, 0, word(resource), 0, old.as_mut_ptr().expose_provenance())
    })?;
    Ok((old[0], old[1]))
}

/// A number that the kernel takes in a register; the crate is for 64-bit machines only.
#[allow(clippy::cast_possible_truncation)]
const fn word(n: u64) -> usize {
    n as usize
}
const _: () = assert!(size_of::<usize>() == 8);

/// prctl(2), PR_SET_DUMPABLE.
pub fn set_dumpable(on: bool) -> Result<(), Errno> {
    prctl(libc::PR_SET_DUMPABLE, usize::from(on), 0, 0).map(drop)
}

/// prctl(2), PR_GET_DUMPABLE.
pub fn is_dumpable() -> Result<bool, Errno> {
    prctl(libc::PR_GET_DUMPABLE, 0, 0, 0).map(|n| n != 0)
}

/// prctl(2), PR_SET_CHILD_SUBREAPER: orphans come to the caller though it is not PID 1.
pub fn set_subreaper() -> Result<(), Errno> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0).map(drop)
}

/// prctl(2), PR_GET_CHILD_SUBREAPER.
pub fn is_subreaper() -> Result<bool, Errno> {
    let mut on = 0i32;
    let to = (&raw mut on).expose_provenance();
    // SAFETY: the kernel writes one int.
    check(unsafe { sc::syscall5(nr::PRCTL, int(libc::PR_GET_CHILD_SUBREAPER), to, 0, 0, 0) })?;
    Ok(on != 0)
}

/// prctl(2), PR_SET_NO_NEW_PRIVS.
pub fn set_no_new_privs() -> Result<(), Errno> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0).map(drop)
}

/// prctl(2), PR_GET_NO_NEW_PRIVS.
pub fn has_no_new_privs() -> Result<bool, Errno> {
    prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0).map(|n| n == 1)
}

/// prctl(2), PR_SET_PDEATHSIG.
pub fn set_death_signal(signal: i32) -> Result<(), Errno> {
    prctl(libc::PR_SET_PDEATHSIG, int(signal), 0, 0).map(drop)
}

/// prctl(2), PR_GET_PDEATHSIG.
pub fn death_signal() -> Result<i32, Errno> {
    let mut signal = 0i32;
    let to = (&raw mut signal).expose_provenance();
    // SAFETY: the kernel writes one int.
    check(unsafe { sc::syscall5(nr::PRCTL, int(libc::PR_GET_PDEATHSIG), to, 0, 0, 0) })?;
    Ok(signal)
}

/// prctl(2), PR_CAP_AMBIENT_CLEAR_ALL.
pub fn clear_ambient() -> Result<(), Errno> {
    prctl(libc::PR_CAP_AMBIENT, int(libc::PR_CAP_AMBIENT_CLEAR_ALL), 0, 0).map(drop)
}

/// prctl(2), PR_CAP_AMBIENT_RAISE. The capability must be permitted and inheritable.
pub fn raise_ambient(cap: usize) -> Result<(), Errno> {
    prctl(libc::PR_CAP_AMBIENT, int(libc::PR_CAP_AMBIENT_RAISE), cap, 0).map(drop)
}

/// prctl(2), PR_CAPBSET_DROP. EINVAL: the kernel has no capability of this number.
pub fn drop_bounding(cap: usize) -> Result<(), Errno> {
    prctl(libc::PR_CAPBSET_DROP, cap, 0, 0).map(drop)
}

/// prctl(2), PR_SET_SECUREBITS.
pub fn set_securebits(bits: usize) -> Result<(), Errno> {
    prctl(libc::PR_SET_SECUREBITS, bits, 0, 0).map(drop)
}

/// prctl(2), PR_GET_SECUREBITS.
pub fn securebits() -> Result<usize, Errno> {
    prctl(libc::PR_GET_SECUREBITS, 0, 0, 0)
}

/// The three sets of capset(2), bit n for capability n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapSets {
    /// Effective.
    pub effective: u64,
    /// Permitted.
    pub permitted: u64,
    /// Inheritable.
    pub inheritable: u64,
}

const CAPABILITY_VERSION_3: [u32; 2] = [0x2008_0522, 0];

/// capset(2), version 3, of the calling thread.
pub fn set_caps(sets: CapSets) -> Result<(), Errno> {
    let half = |set: u64, shift: u32| ((set >> shift) & 0xffff_ffff) as u32;
    let data = [0, 32].map(|shift| {
        [half(sets.effective, shift), half(sets.permitted, shift), half(sets.inheritable, shift)]
    });
    let head = CAPABILITY_VERSION_3;
    let (head, data) = (head.as_ptr().expose_provenance(), data.as_ptr().expose_provenance());
    // SAFETY: the kernel reads the header and two data blocks of three words each.
    check(unsafe { sc::syscall2(nr::CAPSET, head, data) }).map(drop)
}

/// capget(2), version 3, of the calling thread.
pub fn caps() -> Result<CapSets, Errno> {
    let mut head = CAPABILITY_VERSION_3;
    let mut data = [[0u32; 3]; 2];
    let (at, to) = (head.as_mut_ptr().expose_provenance(), data.as_mut_ptr().expose_provenance());
    // SAFETY: the kernel reads the header and writes two data blocks of three words each.
    check(unsafe { sc::syscall2(nr::CAPGET, at, to) })?;
    let join = |n: usize| u64::from(data[0][n]) | u64::from(data[1][n]) << 32;
    Ok(CapSets { effective: join(0), permitted: join(1), inheritable: join(2) })
}

/// seccomp(2), SECCOMP_SET_MODE_FILTER, this thread only. The kernel copies `program`.
/// EACCES: no_new_privs is not set. EINVAL: empty, rejected, or more than 4096 instructions.
pub fn set_filter(program: &[SockFilter]) -> Result<(), Errno> {
    set_program(program.as_ptr().cast_mut().cast(), program.len())
}

/// The same of instructions as they lie in memory, one a word.
pub fn set_filter_words(program: &[u64]) -> Result<(), Errno> {
    set_program(program.as_ptr().cast_mut().cast(), program.len())
}

#[inline(never)]
fn set_program(filter: *mut libc::sock_filter, len: usize) -> Result<(), Errno> {
    let len = u16::try_from(len).map_err(|_| Errno::EINVAL)?;
    let prog = libc::sock_fprog { len, filter };
    let at = (&raw const prog).expose_provenance();
    // SAFETY: both callers pass `len` instructions of 8 bytes, which outlive the call as `prog` does; the kernel only
    // reads them.
    check(unsafe { sc::syscall3(nr::SECCOMP, int(SECCOMP_SET_MODE_FILTER), 0, at) }).map(drop)
}
const SECCOMP_SET_MODE_FILTER: i32 = 1;

/// prctl(2), PR_GET_SECCOMP: 0 no filter, 2 a filter.
pub fn seccomp_mode() -> Result<usize, Errno> {
    prctl(libc::PR_GET_SECCOMP, 0, 0, 0)
}

/// unshare(2) of nothing: 0 from every kernel, so another answer is the filter's.
pub fn unshare_nothing() -> Result<(), Errno> {
    // SAFETY: no memory is passed; flags 0 change nothing.
    check(unsafe { sc::syscall1(nr::UNSHARE, 0) }).map(drop)
}

/// landlock_create_ruleset(2), LANDLOCK_CREATE_RULESET_VERSION: the ABI, at least 1.
/// ENOSYS: not built in; EOPNOTSUPP: not enabled at boot.
pub fn landlock_abi() -> Result<usize, Errno> {
    // SAFETY: with NULL, 0 and this flag no memory is touched.
    check(unsafe { sc::syscall3(LANDLOCK_CREATE_RULESET, 0, 0, 1) })
}

/// landlock_create_ruleset(2): a close-on-exec descriptor. `attr` is the prefix of the structure
/// that the ABI knows: handled file-system rights, handled network rights, scopes.
pub fn landlock_create_ruleset(attr: &[u64]) -> Result<Fd, Errno> {
    let (at, size) = (attr.as_ptr().expose_provenance(), size_of_val(attr));
    // SAFETY: the kernel reads `size` bytes of `attr`.
    check(unsafe { sc::syscall3(LANDLOCK_CREATE_RULESET, at, size, 0) }).map(to_int)
}

/// landlock_add_rule(2), LANDLOCK_RULE_PATH_BENEATH: `access` beneath the file behind `parent`.
pub fn landlock_add_path(ruleset: Fd, parent: Fd, access: u64) -> Result<(), Errno> {
    /// struct landlock_path_beneath_attr, packed in the kernel's header.
    #[repr(C, packed)]
    struct PathBeneath(u64, i32);
    let attr = PathBeneath(access, parent);
    let at = (&raw const attr).expose_provenance();
    // SAFETY: the kernel reads the 12 bytes of `attr`.
    check(unsafe { sc::syscall4(LANDLOCK_ADD_RULE, int(ruleset), 1, at, 0) }).map(drop)
}

/// landlock_restrict_self(2), this thread only. EPERM: no_new_privs is not set.
pub fn landlock_restrict_self(ruleset: Fd) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { sc::syscall2(LANDLOCK_RESTRICT_SELF, int(ruleset), 0) }).map(drop)
}
