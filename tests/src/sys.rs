//! The system calls of the tests, typed: the one file of the crate with `unsafe`.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// A result of libc: -1 is errno.
fn check(ret: i64) -> Result<i64, i32> {
    if ret == -1 { Err(io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { Ok(ret) }
}

/// A raw system call whose arguments are numbers, never addresses: the errno, or the result.
/// Numbers of calls that take pointers are passed 0 for them, which the kernel refuses or skips.
pub fn call(number: i64, args: [i64; 5]) -> Result<i64, i32> {
    let [a, b, c, d, e] = args;
    // SAFETY: by the contract above no memory is passed.
    check(unsafe { libc::syscall(number, a, b, c, d, e, 0) })
}

/// An argument of [`read_call`].
#[derive(Clone, Copy, Debug)]
pub enum Arg<'a> {
    /// A number.
    N(i64),
    /// A path.
    Path(&'a CStr),
    /// A structure of 64-bit members, or a smaller one at its beginning.
    Words(&'a [u64]),
}

/// A raw system call that reads the memory it is given, and writes none.
pub fn read_call(number: i64, args: [Arg; 4]) -> Result<i64, i32> {
    let [a, b, c, d] = args.map(|arg| match arg {
        Arg::N(number) => number,
        Arg::Path(path) => path.as_ptr().expose_provenance().cast_signed() as i64,
        Arg::Words(words) => words.as_ptr().expose_provenance().cast_signed() as i64,
    });
    // SAFETY: by the contract above the kernel only reads, from memory that outlives the call.
    check(unsafe { libc::syscall(number, a, b, c, d, 0, 0) })
}

/// linkat(2) of what a link of /proc/self/fd leads to.
pub fn link(from: &CStr, to: &CStr) -> Result<i64, i32> {
    let (here, follow) = (libc::AT_FDCWD, libc::AT_SYMLINK_FOLLOW);
    // SAFETY: both strings outlive the call.
    check(unsafe { libc::linkat(here, from.as_ptr(), here, to.as_ptr(), follow) }.into())
}

/// memfd_create(2): a file that lies on no mount, and that anybody who has it can write to.
pub fn memfd() -> OwnedFd {
    // SAFETY: the kernel reads a NUL-terminated name; the descriptor is new.
    unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"tests".as_ptr(), libc::MFD_CLOEXEC)) }
}

/// renameat2(2), RENAME_EXCHANGE: each name leads to what the other one led to, in one step.
pub fn exchange(one: &CStr, other: &CStr) -> Result<(), i32> {
    let (here, one, other) = (libc::AT_FDCWD, one.as_ptr(), other.as_ptr());
    // SAFETY: both strings outlive the call.
    let ret = unsafe { libc::renameat2(here, one, here, other, libc::RENAME_EXCHANGE) };
    check(ret.into()).map(drop)
}

/// The same, sealed against writing, F_SEAL_WRITE, and against nothing else.
pub fn half_sealed_memfd() -> OwnedFd {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the kernel reads a NUL-terminated name; the descriptor is new.
    let fd = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"tests".as_ptr(), flags)) };
    // SAFETY: F_ADD_SEALS takes a number.
    let ret = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_WRITE) };
    assert_eq!(ret, 0);
    fd
}

/// pidfd_open(2); `None` if there is no such process.
pub fn pidfd_open(pid: u32) -> Option<OwnedFd> {
    let fd = call(libc::SYS_pidfd_open, [pid.into(), 0, 0, 0, 0]).ok()?;
    // SAFETY: a new descriptor, owned by nothing else.
    Some(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).ok()?) })
}

/// poll(2), POLLIN: which of `fds` are ready, -1 never is. All false: `limit` has passed.
pub fn poll(fds: &[RawFd], limit: Duration) -> Vec<bool> {
    let mut polls: Vec<_> =
        fds.iter().map(|fd| libc::pollfd { fd: *fd, events: libc::POLLIN, revents: 0 }).collect();
    let ms = i32::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    // SAFETY: the kernel reads and writes `polls.len()` pollfds.
    unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, ms) };
    polls.iter().map(|p| p.revents != 0).collect()
}

/// prctl(2), PR_SET_CHILD_SUBREAPER: orphans of this process's descendants become its children.
pub fn set_subreaper() {
    // SAFETY: no memory is passed.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
}

/// wait4(2), WNOHANG, of one child; it is nothing if there is no such child.
pub fn reap(pid: i32) {
    // SAFETY: no status is asked for.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG | libc::__WALL) };
}

/// kill(2) of one process. Never of 0, -1 or a group: this runs on the host too.
pub fn kill(pid: i32, signal: i32) {
    assert!(pid > 1, "not on the host");
    // SAFETY: no memory is passed.
    unsafe { libc::kill(pid, signal) };
}

/// The command starts with these signals ignored.
pub fn ignoring(command: &mut Command, signals: &'static [i32]) {
    let ignore = move || {
        for signal in signals {
            // SAFETY: SIG_IGN is no handler of ours.
            unsafe { libc::signal(*signal, libc::SIG_IGN) };
        }
        Ok(())
    };
    // SAFETY: the closure only calls signal(2), which may be called after fork.
    unsafe { command.pre_exec(ignore) };
}

/// The command starts with these signals blocked.
pub fn blocking(command: &mut Command, signals: &'static [i32]) {
    let block = move || {
        // SAFETY: the set is written before it is read; the calls may be made after fork.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in signals {
                libc::sigaddset(&raw mut set, *signal);
            }
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        }
        Ok(())
    };
    // SAFETY: as said within.
    unsafe { command.pre_exec(block) };
}

/// The command inherits descriptor 0 under these numbers too, not close-on-exec.
pub fn leaking(command: &mut Command, numbers: &'static [i32]) {
    let leak = move || {
        for number in numbers {
            // SAFETY: no memory is passed; dup2 may be called after fork.
            check(i64::from(unsafe { libc::dup2(0, *number) }))
                .map_err(io::Error::from_raw_os_error)?;
        }
        Ok(())
    };
    // SAFETY: the closure only calls dup2.
    unsafe { command.pre_exec(leak) };
}

/// The command has these supplementary groups. Needs root.
pub fn with_groups(command: &mut Command, groups: &'static [u32]) {
    let set = move || {
        // SAFETY: the kernel reads `groups.len()` ids; the raw call may be made after fork.
        let ret = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
        check(ret).map(drop).map_err(io::Error::from_raw_os_error)
    };
    // SAFETY: the closure only makes one system call.
    unsafe { command.pre_exec(set) };
}

/// The command has a session keyring of its own, and in it a key of this name that only who
/// possesses it can see; it belongs to `owner`, so that a room of that user has it in its map.
/// Where keyrings are refused, the command fails to start with the errno.
pub fn with_session_key(command: &mut Command, name: &'static std::ffi::CStr, owner: u32) {
    const POSSESSOR_ALL: u32 = 0x3f00_0000;
    let join = move || {
        // SAFETY: NULL asks for an anonymous keyring; add_key reads two strings and one byte; the
        // others take numbers.
        let ret = unsafe {
            let (kind, session) = (c"user".as_ptr(), libc::KEY_SPEC_SESSION_KEYRING);
            let (at, payload) = (name.as_ptr(), c"x".as_ptr());
            check(libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, 0))
                .and_then(|_| {
                    check(libc::syscall(libc::SYS_add_key, kind, at, payload, 1, session))
                })
                .and_then(|key| {
                    check(libc::syscall(
                        libc::SYS_keyctl,
                        libc::KEYCTL_SETPERM,
                        key,
                        POSSESSOR_ALL,
                    ))?;
                    check(libc::syscall(libc::SYS_keyctl, libc::KEYCTL_CHOWN, key, owner, -1))
                })
        };
        ret.map(drop).map_err(io::Error::from_raw_os_error)
    };
    // SAFETY: the closure only makes system calls.
    unsafe { command.pre_exec(join) };
}

/// A new pty: our end, and the terminal.
pub fn terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    // SAFETY: the calls take numbers.
    unsafe {
        let master = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
        check(master.into()).map_err(io::Error::from_raw_os_error)?;
        let master = OwnedFd::from_raw_fd(master);
        let fd = std::os::fd::AsRawFd::as_raw_fd(&master);
        check(libc::unlockpt(fd).into()).map_err(io::Error::from_raw_os_error)?;
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        let slave = libc::ioctl(fd, libc::TIOCGPTPEER, flags);
        check(slave.into()).map_err(io::Error::from_raw_os_error)?;
        Ok((master, OwnedFd::from_raw_fd(slave)))
    }
}

/// The command leads a session whose controlling terminal is its standard input.
pub fn leading_a_session(command: &mut Command) {
    let lead = || {
        // SAFETY: no memory is passed; both may be called after fork.
        unsafe {
            libc::setsid();
            check(libc::ioctl(0, libc::TIOCSCTTY, 0).into())
        }
        .map(drop)
        .map_err(io::Error::from_raw_os_error)
    };
    // SAFETY: the closure only makes two system calls.
    unsafe { command.pre_exec(lead) };
}

/// The command leads a session whose controlling terminal is a new pty. The other end of it.
pub fn with_terminal(command: &mut Command) -> io::Result<OwnedFd> {
    let (master, slave) = terminal()?;
    let take = move || {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&slave);
        // SAFETY: no memory is passed; both may be called after fork.
        unsafe {
            libc::setsid();
            check(libc::ioctl(fd, libc::TIOCSCTTY, 0).into())
        }
        .map(drop)
        .map_err(io::Error::from_raw_os_error)
    };
    // SAFETY: the closure only makes two system calls.
    unsafe { command.pre_exec(take) };
    Ok(master)
}

/// atexit(3).
pub fn at_exit(run: fn()) {
    static RUN: std::sync::OnceLock<fn()> = std::sync::OnceLock::new();
    extern "C" fn all() {
        RUN.get().iter().for_each(|run| run());
    }
    RUN.get_or_init(|| run);
    // SAFETY: a function that does not unwind, called once at the end.
    unsafe { libc::atexit(all) };
}

// -- Attacks, called in a room -------------------------------------------------------------------

/// kill(2) of PID 1, in a room: guarded, as the tests run on the host.
pub fn kill_init(signal: i32) -> Result<(), i32> {
    assert!(std::process::id() != 1 && in_room(), "only in a room");
    call(libc::SYS_kill, [1, signal.into(), 0, 0, 0]).map(drop)
}

/// rt_sigqueueinfo(2) at PID 1 with a siginfo that claims to come from the kernel (SI_KERNEL) or
/// from a child that ended (CLD_EXITED).
pub fn forge(signal: i32, code: i32) -> Result<(), i32> {
    assert!(in_room(), "only in a room");
    // SAFETY: an all-zero siginfo is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    info.si_signo = signal;
    info.si_code = code;
    // SAFETY: the kernel reads one siginfo.
    let ret = unsafe { libc::syscall(libc::SYS_rt_sigqueueinfo, 1, signal, &raw const info) };
    check(ret).map(drop)
}

/// prlimit64(2) of a process: sets soft and hard limit.
pub fn prlimit(pid: i32, resource: u32, limit: u64) -> Result<(), i32> {
    let new = [limit, limit];
    // SAFETY: the kernel reads two words.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, new.as_ptr(), 0) }).map(drop)
}

/// process_vm_readv(2): 8 bytes of a process.
pub fn read_memory(pid: i32, address: usize) -> Result<u64, i32> {
    let mut word = 0u64;
    let local = libc::iovec { iov_base: (&raw mut word).cast(), iov_len: 8 };
    let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(address), iov_len: 8 };
    // SAFETY: the kernel writes at most 8 bytes to `word`; the remote address is another
    // process's, and checked by the kernel.
    let ret = unsafe {
        let (local, remote) = (&raw const local, &raw const remote);
        libc::syscall(libc::SYS_process_vm_readv, pid, local, 1, remote, 1, 0)
    };
    check(ret).map(|_| word)
}

/// sched_setaffinity(2) of a process to one processor.
pub fn set_affinity(pid: i32) -> Result<(), i32> {
    let mask = 1u64;
    // SAFETY: the kernel reads 8 bytes.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, pid, 8, &raw const mask) }).map(drop)
}

/// sched_setscheduler(2) of a process to SCHED_IDLE.
pub fn set_idle(pid: i32) -> Result<(), i32> {
    let param = 0i32;
    // SAFETY: the kernel reads one int.
    let ret = unsafe { libc::syscall(libc::SYS_sched_setscheduler, pid, 5, &raw const param) };
    check(ret).map(drop)
}

/// fork(2), and the child ends at once with `code`, or waits for a signal if there is none.
pub fn fork_child(code: Option<i32>) -> Result<i32, i32> {
    // SAFETY: the child makes only system calls, and this program has one thread.
    let pid = unsafe { libc::fork() };
    if pid != 0 {
        return check(pid.into()).map(|_| pid);
    }
    match code {
        // SAFETY: ends the process.
        Some(code) => unsafe { libc::_exit(code) },
        None => loop {
            // SAFETY: no memory is passed.
            unsafe { libc::pause() };
        },
    }
}

/// fork(2) of a child that forks `count` children which end at once, and ends itself without
/// waiting: `count` orphans. How many there were is returned.
pub fn orphans(count: i32) -> Result<i32, i32> {
    // SAFETY: as for `fork_child`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let made = (0..count).take_while(|_| fork_child(Some(0)).is_ok()).count();
        // SAFETY: ends the process.
        unsafe { libc::_exit(i32::try_from(made).unwrap_or(0)) };
    }
    check(pid.into())?;
    let mut status = 0;
    // SAFETY: the kernel writes one int.
    check(unsafe { libc::waitpid(pid, &raw mut status, 0) }.into())?;
    Ok(libc::WEXITSTATUS(status))
}

/// Whether this process is in another pid namespace than the host's processes: PID 1 is init.
fn in_room() -> bool {
    std::fs::read("/proc/1/cmdline").is_ok_and(|line| line == b"init\0")
}

/// Blocks every signal and takes them one by one, as long as `on` says so; 0 is said first, when it
/// is ready.
pub fn hear(mut on: impl FnMut(i32) -> bool) {
    // SAFETY: the set is written before it is read; siginfo is not asked for.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
        on(0);
        while on(libc::sigwaitinfo(&raw const all, std::ptr::null_mut())) {}
    }
}

/// Ignores this signal, if it can be.
pub fn ignore(signal: i32) {
    // SAFETY: SIG_IGN is no handler of ours.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Dies by this signal, with its default action.
pub fn die(signal: i32) -> ! {
    // SAFETY: SIG_DFL is no handler; raise is told of this process only.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
        libc::_exit(99)
    }
}

// -- ptrace(2) -----------------------------------------------------------------------------------

/// The command is traced by the thread that spawns it, and stops after its execve.
pub fn traced(command: &mut Command) {
    let traceme = || {
        // SAFETY: no memory is passed.
        check(unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) })
            .map(drop)
            .map_err(io::Error::from_raw_os_error)
    };
    // SAFETY: the closure only makes one system call.
    unsafe { command.pre_exec(traceme) };
}

/// A request of ptrace(2) whose address is not used and whose data is a number.
pub fn ptrace(request: u32, pid: i32, data: i64) -> Result<(), i32> {
    // SAFETY: the requests used in this crate take a number as data.
    check(unsafe { libc::ptrace(request, pid, 0, data) }).map(drop)
}

/// The registers of a tracee that has stopped.
#[cfg(target_arch = "x86_64")]
pub fn registers(pid: i32) -> Result<libc::user_regs_struct, i32> {
    // SAFETY: an all-zero register set is valid; the kernel writes one.
    unsafe {
        let mut regs: libc::user_regs_struct = std::mem::zeroed();
        check(libc::ptrace(libc::PTRACE_GETREGS, pid, 0, &raw mut regs))?;
        Ok(regs)
    }
}

/// Sets them.
#[cfg(target_arch = "x86_64")]
pub fn set_registers(pid: i32, regs: &libc::user_regs_struct) -> Result<(), i32> {
    // SAFETY: the kernel reads one register set.
    check(unsafe { libc::ptrace(libc::PTRACE_SETREGS, pid, 0, &raw const *regs) }).map(drop)
}

/// waitpid(2) of the next tracee or child of this thread alone: its pid and status.
/// `None`: there is none left.
pub fn wait_traced() -> Option<(i32, i32)> {
    let mut status = 0;
    loop {
        // SAFETY: the kernel writes one int.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        match check(pid.into()) {
            Ok(_) => return Some((pid, status)),
            Err(libc::EINTR) => {}
            Err(_) => return None,
        }
    }
}

/// An allocator that ends the process, with status [`ALLOCATED`], if it is asked for memory by a
/// forked child: between clone3 and execve a lock of the parent's allocator may be held for good.
#[derive(Debug)]
pub struct NotInAChild;

/// See [`NotInAChild`].
pub const ALLOCATED: i32 = 99;

static PARENT: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(0);

/// From now on every other process than this one is a child.
pub fn no_allocation_in_a_child() {
    // SAFETY: no memory is passed.
    let pid = unsafe { libc::getpid() };
    PARENT.store(pid, std::sync::atomic::Ordering::Relaxed);
}

// SAFETY: everything is left to the system's allocator, or the process ends.
unsafe impl std::alloc::GlobalAlloc for NotInAChild {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        let parent = PARENT.load(std::sync::atomic::Ordering::Relaxed);
        // SAFETY: getpid passes no memory.
        if parent != 0 && unsafe { libc::getpid() } != parent {
            // SAFETY: ends the process; nothing runs after it.
            unsafe { libc::_exit(ALLOCATED) };
        }
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { std::alloc::System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: std::alloc::Layout) {
        // SAFETY: `at` is of the system allocator, by `alloc`.
        unsafe { std::alloc::System.dealloc(at, layout) }
    }
}

// -- Restricted places ---------------------------------------------------------------------------

/// The command runs under this seccomp filter.
pub fn filtered(command: &mut Command, program: &'static [agent_init::bpf::SockFilter]) {
    let restrict = move || {
        agent_init::sys::set_no_new_privs()
            .and_then(|()| agent_init::sys::set_filter(program))
            .map_err(|errno| io::Error::from_raw_os_error(errno.0.into()))
    };
    // SAFETY: the closure only makes two system calls.
    unsafe { command.pre_exec(restrict) };
}

/// The command runs in a Landlock domain that forbids it to make block devices, and mounts.
pub fn landlocked(command: &mut Command) {
    let restrict = || {
        let handled = agent_init::landlock::Access::MAKE_BLOCK.bits();
        agent_init::sys::set_no_new_privs()
            .and_then(|()| agent_init::sys::landlock_create_ruleset(&[handled]))
            .and_then(agent_init::sys::landlock_restrict_self)
            .map_err(|errno| io::Error::from_raw_os_error(errno.0.into()))
    };
    // SAFETY: the closure only makes system calls.
    unsafe { command.pre_exec(restrict) };
}

// -- Calls with any number, for a child that may end by them ----------------------------------------

/// Through which door a call enters the kernel.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The instruction `syscall`.
    Syscall,
    /// `int 0x80`: 32 bits, the numbers of i386.
    Int80,
}

/// A call, whatever it does: rax, and its six arguments. What returns twice returns once: a process that is made ends
/// at once, without touching the stack, which vfork(2) shares.
#[cfg(target_arch = "x86_64")]
pub fn enter(door: Door, rax: u64, [a, b, c, d, e, f]: [u64; 6]) -> i64 {
    let result: i64;
    match door {
        // SAFETY: the caller is a child made for this one call; addresses among the arguments are none of ours.
        Door::Syscall => unsafe {
            std::arch::asm!(
                "syscall",
                "test r12, r12", // a number that may make a process?
                "jz 2f",
                "test rax, rax", // in it?
                "jnz 2f",
                "mov eax, 231", // exit_group(0)
                "xor edi, edi",
                "syscall",
                "2:",
                inlateout("rax") rax => result,
                in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
                in("r12") u64::from(makes_a_process(rax)),
                lateout("rcx") _, lateout("r11") _,
            );
        },
        // SAFETY: as above; rbx is given back.
        Door::Int80 => unsafe {
            std::arch::asm!(
                "xchg rbx, r12",
                "int 0x80",
                "xchg rbx, r12",
                inlateout("rax") rax => result,
                in("r12") a, in("rcx") b, in("rdx") c, in("rsi") d, in("rdi") e,
                lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
            );
        },
    }
    result
}

#[cfg(target_arch = "x86_64")]
fn makes_a_process(rax: u64) -> bool {
    let number = (rax & 0xffff_ffff).cast_signed();
    [libc::SYS_fork, libc::SYS_vfork, libc::SYS_clone, libc::SYS_clone3].contains(&number)
}

/// setitimer(2), ITIMER_REAL: SIGALRM, with its default action, after so long.
pub fn alarm_after(time: Duration) {
    let value = libc::timeval {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_usec: time.subsec_micros().into(),
    };
    let timer =
        libc::itimerval { it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 }, it_value: value };
    // SAFETY: SIG_DFL is no handler; the kernel reads one itimerval.
    unsafe {
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut());
    }
}

/// getrusage(2), RUSAGE_CHILDREN: the most bytes of memory that a child which was waited for, or one
/// of its own, has had.
pub fn peak_of_children() -> u64 {
    // SAFETY: an all-zero rusage is valid; the kernel writes one.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024
}
