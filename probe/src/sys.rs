//! The calls that std does not make: the one file with `unsafe`. Types in, `Result` out, the errno as it came.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

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
