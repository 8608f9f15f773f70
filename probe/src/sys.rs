//! The calls that std does not make: the one file with `unsafe`. Types in, `Result` out, the errno as it came.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use libc::{c_int, c_long, c_ulong, sockaddr_in, socklen_t};

use crate::errno::Errno;

const SOCKADDR_IN_LEN: socklen_t = 16;
const _: () = assert!(size_of::<sockaddr_in>() == 16);

const C_INT_LEN: socklen_t = 4;
const _: () = assert!(size_of::<c_int>() == 4);

fn check(result: c_int) -> Result<c_int, Errno> {
    if result == -1 { Err(Errno::last()) } else { Ok(result) }
}

/// socket(2), close-on-exec. EPERM: a raw socket without CAP_NET_RAW.
pub fn socket(domain: c_int, kind: c_int, protocol: c_int) -> Result<OwnedFd, Errno> {
    // SAFETY: socket takes three integers and touches no memory of ours.
    let fd = check(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: the kernel has just made `fd`; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The type of a socket, `SOCK_RAW` for one. socket(7), SO_TYPE.
pub fn socket_type(socket: BorrowedFd<'_>) -> Result<c_int, Errno> {
    let (mut kind, mut len): (c_int, socklen_t) = (0, C_INT_LEN);
    let (value, fd) = ((&raw mut kind).cast(), socket.as_raw_fd());
    // SAFETY: the kernel writes at most `len` bytes, the size of `kind`, and the length itself.
    check(unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_TYPE, value, &raw mut len) })?;
    Ok(kind)
}

/// connect(2). On a datagram socket it asks for a route and sends nothing. ENETUNREACH: no route.
pub fn connect(socket: BorrowedFd<'_>, peer: SocketAddrV4) -> Result<(), Errno> {
    let address = sockaddr_in {
        sin_family: libc::AF_INET.try_into().map_err(|_| Errno(libc::EINVAL))?,
        sin_port: peer.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*peer.ip()).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: the kernel reads SOCKADDR_IN_LEN bytes, the size of `address`, which outlives the call.
    check(unsafe {
        libc::connect(socket.as_raw_fd(), (&raw const address).cast(), SOCKADDR_IN_LEN)
    })?;
    Ok(())
}

/// The peer that an AF_INET socket is connected to. getpeername(2). ENOTCONN: none.
pub fn peer(socket: BorrowedFd<'_>) -> Result<SocketAddrV4, Errno> {
    let mut address = sockaddr_in {
        sin_family: 0,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: 0 },
        sin_zero: [0; 8],
    };
    let mut len = SOCKADDR_IN_LEN;
    // SAFETY: the kernel writes at most `len` bytes, the size of `address`, and the length itself.
    check(unsafe {
        libc::getpeername(socket.as_raw_fd(), (&raw mut address).cast(), &raw mut len)
    })?;
    let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
    Ok(SocketAddrV4::new(ip, u16::from_be(address.sin_port)))
}

/// Blocks every signal that can be blocked, in this thread. sigprocmask(2).
pub fn block_signals() -> Result<(), Errno> {
    let mut all = MaybeUninit::uninit();
    // SAFETY: sigfillset initialises the whole set it is given.
    check(unsafe { libc::sigfillset(all.as_mut_ptr()) })?;
    // SAFETY: `all` is initialised and only read; a null old set is allowed.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut()) })?;
    Ok(())
}

/// Makes the parent the tracer of this thread. ptrace(2), PTRACE_TRACEME. EPERM: traced already, or refused.
pub fn ptrace_traceme() -> Result<(), Errno> {
    // SAFETY: PTRACE_TRACEME ignores the pid and both pointers.
    let result = unsafe {
        libc::ptrace(libc::PTRACE_TRACEME, 0, ptr::null_mut::<u8>(), ptr::null_mut::<u8>())
    };
    if result == -1 { Err(Errno::last()) } else { Ok(()) }
}

/// Mounts a new tmpfs on a directory. mount(2).
pub fn mount_tmpfs(target: &CStr, flags: c_ulong, options: &CStr) -> Result<(), Errno> {
    let tmpfs = c"tmpfs".as_ptr();
    // SAFETY: four strings that end in NUL and outlive the call; the kernel only reads them.
    check(unsafe { libc::mount(tmpfs, target.as_ptr(), tmpfs, flags, options.as_ptr().cast()) })?;
    Ok(())
}

/// Takes away the topmost mount on a directory, never following a symlink there. umount2(2), MNT_DETACH.
pub fn umount_detach(target: &CStr) -> Result<(), Errno> {
    // SAFETY: a string that ends in NUL and outlives the call; the kernel only reads it.
    check(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) })?;
    Ok(())
}

/// Whether the file system at a path is a tmpfs, by its magic number. statfs(2).
pub fn is_tmpfs(path: &CStr) -> Result<bool, Errno> {
    let mut found = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: a string that ends in NUL, and room for the one struct that the kernel writes.
    check(unsafe { libc::statfs(path.as_ptr(), found.as_mut_ptr()) })?;
    // SAFETY: statfs succeeded, so the kernel has filled the struct.
    Ok(unsafe { found.assume_init() }.f_type == libc::TMPFS_MAGIC)
}

/// The id of the mount that a path lies on, as in `/proc/self/mountinfo`. statx(2), STATX_MNT_ID, Linux 5.8;
/// ENOSYS: an older kernel.
pub fn mount_id(path: &CStr) -> Result<u64, Errno> {
    let mut found = MaybeUninit::<libc::statx>::uninit();
    // SAFETY: a string that ends in NUL, and room for the one struct that the kernel writes.
    check(unsafe {
        libc::statx(libc::AT_FDCWD, path.as_ptr(), 0, libc::STATX_MNT_ID, found.as_mut_ptr())
    })?;
    // SAFETY: statx succeeded, so the kernel has filled the struct.
    let found = unsafe { found.assume_init() };
    if found.stx_mask & libc::STATX_MNT_ID == 0 {
        Err(Errno(libc::ENOSYS))
    } else {
        Ok(found.stx_mnt_id)
    }
}

/// SIGKILL for every process of this pid namespace that this one may signal, but for pid 1 and itself. kill(2).
/// ESRCH: there is none. It returns Ok as well when there are some and each refused with EPERM (kernel/signal.c,
/// `kill_something_info`). Call it behind a guard only.
pub(crate) fn kill_all() -> Result<(), Errno> {
    // SAFETY: kill takes two integers and touches no memory of ours.
    check(unsafe { libc::kill(-1, libc::SIGKILL) })?;
    Ok(())
}

/// One argument of [`call`].
#[derive(Debug)]
pub(crate) enum Arg<'a> {
    /// A number, a descriptor, flags, or a null pointer.
    N(i64),
    /// A string that the kernel reads.
    Text(&'a CStr),
    /// Bytes that the kernel reads.
    In(&'a [u8]),
    /// Bytes that the kernel writes, no more than there are.
    Out(&'a mut [u8]),
}

impl Arg<'_> {
    fn raw(&mut self) -> c_long {
        match self {
            Arg::N(number) => *number,
            Arg::Text(text) => text.as_ptr() as c_long,
            Arg::In(bytes) => bytes.as_ptr() as c_long,
            Arg::Out(bytes) => bytes.as_mut_ptr() as c_long,
        }
    }
}

/// A system call by its number, as a row of the table says it. A row passes `In` and `Out` where the man page has a
/// pointer, never an address as a number but 0, and no more length than there is; it changes no mapping of ours.
pub(crate) fn call(number: c_long, args: &mut [Arg<'_>]) -> Result<c_long, Errno> {
    let mut raw = [0; 6];
    for (to, from) in raw.iter_mut().zip(args) {
        *to = from.raw();
    }
    let [a, b, c, d, e, f] = raw;
    // SAFETY: the memory behind each pointer is borrowed for the call; see above for what rows promise.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result == -1 { Err(Errno::last()) } else { Ok(result) }
}

/// The same, of a call that makes a descriptor.
pub(crate) fn call_fd(number: c_long, args: &mut [Arg<'_>]) -> Result<OwnedFd, Errno> {
    let fd = c_int::try_from(call(number, args)?).map_err(|_| Errno(libc::EBADF))?;
    // SAFETY: the kernel has just made `fd`; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The number of a descriptor as an argument.
pub(crate) fn n(fd: &impl AsRawFd) -> Arg<'static> {
    Arg::N(fd.as_raw_fd().into())
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With this status.
    Exited(c_int),
    /// By this signal.
    Signaled(c_int),
}

/// fork(2), then [`wait`]: the child's status is what `run` returns. The child ends after 4 s at the latest.
pub(crate) fn in_child(run: impl FnOnce() -> c_int) -> Result<End, Errno> {
    wait(fork(run)?)
}

/// fork(2): the child runs `run`, and exits with what it returns; its pid. This process has one thread.
pub(crate) fn fork(run: impl FnOnce() -> c_int) -> Result<libc::pid_t, Errno> {
    // SAFETY: one thread: the child has all of its memory in a good state.
    match check(unsafe { libc::fork() })? {
        0 => {
            // SAFETY: alarm takes a number.
            unsafe { libc::alarm(4) };
            let status = run();
            // SAFETY: _exit does not return and runs nothing of ours.
            unsafe { libc::_exit(status) }
        }
        pid => Ok(pid),
    }
}

/// waitpid(2) of a child.
pub(crate) fn wait(pid: libc::pid_t) -> Result<End, Errno> {
    let mut status = 0;
    loop {
        // SAFETY: the kernel writes one int, which outlives the call.
        match check(unsafe { libc::waitpid(pid, &raw mut status, 0) }) {
            Err(Errno(libc::EINTR)) => {}
            Err(errno) => return Err(errno),
            Ok(_) if libc::WIFSIGNALED(status) => return Ok(End::Signaled(libc::WTERMSIG(status))),
            Ok(_) => return Ok(End::Exited(libc::WEXITSTATUS(status))),
        }
    }
}

/// waitid(2) of a child: it has ended, and is kept to be looked at and waited for.
pub(crate) fn wait_and_keep(pid: libc::pid_t) -> Result<(), Errno> {
    let mut info = [0; size_of::<libc::siginfo_t>()];
    let (this, how) = (Arg::N(libc::P_PID.into()), libc::WEXITED | libc::WNOWAIT);
    let args = &mut [this, Arg::N(pid.into()), Arg::Out(&mut info), Arg::N(how.into()), Arg::N(0)];
    call(libc::SYS_waitid, args).map(drop)
}

/// poll(2): which of them can be read, or have ended; none after `ms` milliseconds, -1: never.
pub(crate) fn poll(fds: &[BorrowedFd<'_>], ms: c_int) -> Result<Vec<bool>, Errno> {
    let poll =
        |fd: &BorrowedFd<'_>| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut polls: Vec<libc::pollfd> = fds.iter().map(poll).collect();
    let len = libc::nfds_t::try_from(polls.len()).map_err(|_| Errno(libc::EINVAL))?;
    // SAFETY: the kernel reads and writes `len` structs, which outlive the call.
    check(unsafe { libc::poll(polls.as_mut_ptr(), len, ms) })?;
    Ok(polls.iter().map(|poll| poll.revents != 0).collect())
}

/// kill(2) of one process: `pid` is greater than 1, or the signal is 0.
pub(crate) fn kill(pid: libc::pid_t, signal: c_int) -> Result<(), Errno> {
    if pid < 1 || (pid == 1 && signal != 0) {
        return Err(Errno(libc::EINVAL));
    }
    call(libc::SYS_kill, &mut [Arg::N(pid.into()), Arg::N(signal.into())]).map(drop)
}

/// gethostname(2).
pub fn hostname() -> Result<String, Errno> {
    let mut name = [0; 256];
    // SAFETY: the kernel writes at most 255 bytes of 256.
    check(unsafe { libc::gethostname(name.as_mut_ptr().cast(), 255) })?;
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(255);
    Ok(String::from_utf8_lossy(name.get(..end).unwrap_or_default()).into_owned())
}

/// A mapping of this process, unmapped with it.
#[derive(Debug)]
pub(crate) struct Mapping(*mut u8, usize);

impl Mapping {
    /// mmap(2), zeroed and anonymous unless `fd` is given; `protection` has PROT_READ, `at` 0 for anywhere.
    pub(crate) fn new(
        len: usize,
        protection: c_int,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<Mapping, Errno> {
        let (kind, fd) = match fd {
            Some(fd) => (libc::MAP_SHARED, fd.as_raw_fd()),
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
        };
        // SAFETY: a new mapping somewhere, which touches none that is there.
        let at = unsafe { libc::mmap(ptr::null_mut(), len, protection, kind, fd, 0) };
        if at == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(Mapping(at.cast(), len)) }
    }

    /// mmap(2) of the page at address 0, with MAP_FIXED: EPERM below vm.mmap_min_addr. Unmapped at once.
    pub(crate) fn at_null() -> Result<(), Errno> {
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        // SAFETY: no program has anything at address 0, so nothing is replaced.
        let at = unsafe { libc::mmap(ptr::null_mut(), 4096, libc::PROT_READ, kind, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        // SAFETY: the page that was just mapped, and nobody points into it.
        check(unsafe { libc::munmap(at, 4096) }).map(drop)
    }

    /// mprotect(2). Without PROT_READ the bytes may not be looked at any more.
    pub(crate) fn protect(&self, protection: c_int) -> Result<(), Errno> {
        // SAFETY: our own pages; nobody holds a reference into them.
        check(unsafe { libc::mprotect(self.0.cast(), self.1, protection) }).map(drop)
    }

    /// Its address.
    pub(crate) fn address(&self) -> u64 {
        self.0 as u64
    }

    /// Reads the first bytes, as they are in memory now.
    pub(crate) fn read<const N: usize>(&self) -> [u8; N] {
        assert!(N <= self.1);
        // SAFETY: `len` bytes are mapped and can be read; volatile, as others may change them.
        std::array::from_fn(|at| unsafe { self.0.add(at).read_volatile() })
    }

    /// Writes the first bytes; it was mapped with PROT_WRITE.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.1);
        for (at, byte) in bytes.iter().enumerate() {
            // SAFETY: `len` bytes are mapped and can be written.
            unsafe { self.0.add(at).write_volatile(*byte) };
        }
    }

    /// Touches every page.
    pub(crate) fn touch(&mut self) {
        for at in (0..self.1).step_by(4096) {
            // SAFETY: `len` bytes are mapped and can be written.
            unsafe { self.0.add(at).write_volatile(1) };
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`; nobody points into it any more.
        unsafe { libc::munmap(self.0.cast(), self.1) };
    }
}

/// shmat(2): the first bytes of a System V segment of at least that size.
pub(crate) fn shared<const N: usize>(id: c_long, write: Option<[u8; N]>) -> Result<[u8; N], Errno> {
    let id = c_int::try_from(id).map_err(|_| Errno(libc::EINVAL))?;
    let flags = if write.is_some() { 0 } else { libc::SHM_RDONLY };
    // SAFETY: attaches somewhere, which touches no mapping that is there.
    let at = unsafe { libc::shmat(id, ptr::null(), flags) };
    if at as isize == -1 {
        return Err(Errno::last());
    }
    let mapped = Mapping(at.cast(), N);
    let mut mapped = std::mem::ManuallyDrop::new(mapped); // shmdt takes it away
    if let Some(bytes) = write {
        mapped.write(&bytes);
    }
    let bytes = mapped.read();
    // SAFETY: attached above; nobody points into it any more.
    check(unsafe { libc::shmdt(at) })?;
    Ok(bytes)
}

/// process_vm_readv(2) into, or process_vm_writev(2) from, `local`, which is as long as the remote part.
pub(crate) fn remote(
    pid: i64,
    address: u64,
    local: &mut [u8],
    write: bool,
) -> Result<usize, Errno> {
    let len = local.len();
    let here = libc::iovec { iov_base: local.as_mut_ptr().cast(), iov_len: len };
    let there = libc::iovec {
        iov_base: ptr::without_provenance_mut(usize::try_from(address).unwrap_or(0)),
        iov_len: len,
    };
    let pid = libc::pid_t::try_from(pid).map_err(|_| Errno(libc::ESRCH))?;
    // SAFETY: one iovec each, borrowed for the call; `here` is `len` bytes of ours. `there` is looked up in the other
    // process, whose memory this is about.
    let done = unsafe {
        if write {
            libc::process_vm_writev(pid, &raw const here, 1, &raw const there, 1, 0)
        } else {
            libc::process_vm_readv(pid, &raw const here, 1, &raw const there, 1, 0)
        }
    };
    usize::try_from(done).map_err(|_| Errno::last())
}

/// seccomp(2) or prctl(2), PR_SET_SECCOMP: a filter of one instruction that allows everything. `flags`: with
/// SECCOMP_FILTER_FLAG_NEW_LISTENER a descriptor is returned.
pub(crate) fn filter_all(flags: i64) -> Result<c_long, Errno> {
    let allow = libc::sock_filter { code: 6, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
    let program = libc::sock_fprog { len: 1, filter: (&raw const allow).cast_mut() };
    // SAFETY: the program and its one instruction outlive the call; the kernel only reads them.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    };
    if result == -1 { Err(Errno::last()) } else { Ok(result) }
}

/// setsockopt(2), SO_ATTACH_FILTER: a classic BPF program that takes every packet.
pub(crate) fn attach_filter(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let take = libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0xffff };
    let program = libc::sock_fprog { len: 1, filter: (&raw const take).cast_mut() };
    let len = socklen_t::try_from(size_of_val(&program)).map_err(|_| Errno(libc::EINVAL))?;
    let (fd, value) = (socket.as_raw_fd(), (&raw const program).cast());
    // SAFETY: the kernel reads `len` bytes of `program` and its one instruction, which outlive the call.
    check(unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, value, len) })?;
    Ok(())
}

/// sendmsg(2), SCM_RIGHTS: one byte and one descriptor.
pub(crate) fn send_fd(socket: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let (byte, mut space) = ([0_u8], [0_u64; 3]);
    // SAFETY: all zero is a msghdr without parts.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    let mut part = libc::iovec { iov_base: byte.as_ptr().cast_mut().cast(), iov_len: 1 };
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    (message.msg_control, message.msg_controllen) = (space.as_mut_ptr().cast(), 24);
    // SAFETY: `space` is CMSG_SPACE(4) bytes, aligned for a cmsghdr; all parts outlive the call.
    unsafe {
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        (*head).cmsg_level = libc::SOL_SOCKET;
        (*head).cmsg_type = libc::SCM_RIGHTS;
        (*head).cmsg_len = 20;
        libc::CMSG_DATA(head).cast::<c_int>().write_unaligned(fd.as_raw_fd());
        check(
            c_int::try_from(libc::sendmsg(socket.as_raw_fd(), &raw const message, 0)).unwrap_or(-1),
        )?;
    }
    Ok(())
}

/// recvmsg(2): the descriptor that was sent. ENOMSG: none was.
pub(crate) fn receive_fd(socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let (mut byte, mut space) = ([0_u8], [0_u64; 3]);
    // SAFETY: all zero is a msghdr without parts.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    (message.msg_control, message.msg_controllen) = (space.as_mut_ptr().cast(), 24);
    // SAFETY: the parts outlive the call; a control message of 20 bytes holds one descriptor, which is ours.
    unsafe {
        check(
            c_int::try_from(libc::recvmsg(
                socket.as_raw_fd(),
                &raw mut message,
                libc::MSG_CMSG_CLOEXEC,
            ))
            .unwrap_or(-1),
        )?;
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        if head.is_null() || (*head).cmsg_type != libc::SCM_RIGHTS || (*head).cmsg_len != 20 {
            return Err(Errno(libc::ENOMSG));
        }
        Ok(OwnedFd::from_raw_fd(libc::CMSG_DATA(head).cast::<c_int>().read_unaligned()))
    }
}

static SIGNALS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count_signal(_: c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

/// sigaction(2): `signal` is counted from now on, and interrupts no call.
pub(crate) fn count(signal: c_int) -> Result<(), Errno> {
    // SAFETY: all zero is an empty mask and no flags.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(c_int) = count_signal;
    (action.sa_sigaction, action.sa_flags) = (handler as usize, libc::SA_RESTART);
    // SAFETY: the handler only adds to an atomic, which is async-signal-safe; a null old action is allowed.
    check(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) }).map(drop)
}

/// How many were counted.
pub(crate) fn counted() -> u32 {
    SIGNALS.load(Ordering::Relaxed)
}

/// getpid by the 32-bit entry, `int 0x80`: entry/syscalls/syscall_32.tbl, 20. Without that entry: SIGSEGV.
#[cfg(target_arch = "x86_64")]
pub(crate) fn getpid_by_int80() -> i32 {
    let mut eax: i32 = 20;
    // SAFETY: getpid has no arguments and touches no memory; the entry may clobber r8 to r11.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("eax") eax, lateout("r8") _, lateout("r9") _,
            lateout("r10") _, lateout("r11") _, options(nostack, nomem));
    }
    eax
}

/// clone(2) with `flags` and SIGCHLD, as fork does it; the child exits with `status` at once. Its pid.
pub(crate) fn clone_and_exit(flags: i64, status: c_int) -> Result<libc::pid_t, Errno> {
    let flags = flags | i64::from(libc::SIGCHLD);
    // SAFETY: without CLONE_VM and with no stack the child has a copy of everything, as after fork; it only exits.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match pid {
        -1 => Err(Errno::last()),
        // SAFETY: _exit does not return and runs nothing of ours.
        0 => unsafe { libc::_exit(status) },
        pid => libc::pid_t::try_from(pid).map_err(|_| Errno(libc::EINVAL)),
    }
}

/// The same by clone3(2). ENOSYS: an old kernel, or a filter that cannot see the flags.
pub(crate) fn clone3_and_exit(flags: u64, status: c_int) -> Result<libc::pid_t, Errno> {
    let signal = u64::try_from(libc::SIGCHLD).unwrap_or(0);
    let args: [u64; 8] = [flags, 0, 0, 0, signal, 0, 0, 0];
    // SAFETY: as clone_and_exit; the kernel reads 64 bytes of `args`, which outlive the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, 64) };
    match pid {
        -1 => Err(Errno::last()),
        // SAFETY: _exit does not return and runs nothing of ours.
        0 => unsafe { libc::_exit(status) },
        pid => libc::pid_t::try_from(pid).map_err(|_| Errno(libc::EINVAL)),
    }
}

/// `calls` times getppid(2), each a real system call, and nothing else.
#[inline(never)]
pub fn getppid_loop(calls: u64) {
    for _ in 0..calls {
        getppid();
    }
}

/// One getppid, without libc around it.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn getppid() -> c_long {
    let mut rax: c_long = libc::SYS_getppid;
    // SAFETY: getppid has no arguments and touches no memory; `syscall` itself clobbers rcx and r11. syscall(2).
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") rax, lateout("rcx") _, lateout("r11") _,
            options(nostack, nomem));
    }
    rax
}

/// One getppid through libc's syscall(3).
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn getppid() -> c_long {
    // SAFETY: getppid has no arguments and touches no memory.
    unsafe { libc::syscall(libc::SYS_getppid) }
}

static STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// Whether the program was started without a stdout. std opens `/dev/null` in its place before `main`, where every
/// record would vanish without an error.
pub fn stdout_was_closed() -> bool {
    STDOUT_CLOSED.load(Ordering::Relaxed)
}

extern "C" fn look_at_stdout() {
    // SAFETY: F_GETFD has no argument and touches no memory. fcntl(2).
    let closed = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) } == -1;
    STDOUT_CLOSED.store(closed, Ordering::Relaxed);
}

// SAFETY: what stands in .init_array is called once before main, with three arguments that a C function may ignore;
// it uses neither std's runtime nor the heap. ELF gABI, "Initialization and Termination Functions".
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = look_at_stdout;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_socket_knows_its_type_and_peer() {
        let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
        assert_eq!(socket_type(socket.as_fd()), Ok(libc::SOCK_DGRAM));
        assert_eq!(peer(socket.as_fd()), Err(Errno(libc::ENOTCONN)));
        let here = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 53);
        connect(socket.as_fd(), here).unwrap();
        assert_eq!(peer(socket.as_fd()), Ok(here));
    }

    #[test]
    fn paths_answer_or_give_their_errno() {
        assert_eq!(is_tmpfs(c"/proc"), Ok(false));
        assert_eq!(is_tmpfs(c"/no/such"), Err(Errno(libc::ENOENT)));
        assert_ne!(mount_id(c"/").unwrap(), mount_id(c"/proc").unwrap());
    }

    #[test]
    fn getppid_is_a_real_call() {
        assert_eq!(getppid(), c_long::from(std::os::unix::process::parent_id().cast_signed()));
        getppid_loop(3);
    }
}
