//! What must work besides files: processes, threads, memory, time, sockets of the own, events.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::{Made, doubt, happened, here};
use crate::objects::{ints, longs, new_terminal};
use crate::sys::{self, Arg, End, Mapping, call, call_fd, n};
use crate::{Errno, Facts, Kind, Op, Outcome, Tried};

const fn row(texts: [&'static str; 5], run: fn(&Facts) -> Tried) -> Op {
    Op::attack("work", texts, run).of(Kind::Work)
}

const OWN: &str = "of this process and its children only";

#[rustfmt::skip] // a row a line
pub(super) const OPS: &[Op] = &[
    row(["work-exec",        "fork and exec",              "fork; execve(itself --version); wait4",           OWN, "its output is read"], exec),
    row(["work-wait",        "a child's status",           "fork; exit_group(7); wait4",                      OWN, "the status is 7"], |_| happened(sys::in_child(|| 7)? == End::Exited(7))),
    row(["work-kill-child",  "kill a child",               "fork; kill(CHILD, SIGKILL); wait4",               OWN, "it ended by SIGKILL"], kill_child),
    row(["work-clone3",      "clone3, or its fallback",    "clone3(SIGCHLD); where ENOSYS clone",             OWN, "the child's status is read"], clone3),
    row(["work-threads",     "eight threads",              "clone(CLONE_VM|CLONE_THREAD) x 8; futex",         OWN, "all have added their part"], threads),
    row(["work-futex",       "wait and wake",              "futex(FUTEX_WAIT); futex(FUTEX_WAKE)",            OWN, "the waiter is woken"], futex),
    row(["work-signal",      "signal itself",              "rt_sigaction; kill(self, SIGUSR2)",               OWN, "the handler counts it"], signal),
    row(["work-memory",      "16 MiB of memory",           "mmap; touch every page; mprotect; munmap",        OWN, "bytes are read back"], memory),
    row(["work-memfd",       "memory file",                "memfd_create; write; read",                       OWN, "what was written is read"], memfd),
    row(["work-random",      "random numbers",             "getrandom",                                       OWN, "bytes come, not all 0"], random),
    row(["work-clock",       "clocks and sleep",           "clock_gettime; clock_nanosleep(1 ms)",            OWN, "time has passed"], clock),
    row(["work-timer",       "timers",                     "timerfd_create; timerfd_settime; read",           OWN, "it expires once"], timer),
    row(["work-eventfd",     "eventfd and epoll",          "eventfd2; epoll_create1; epoll_ctl; epoll_wait",  OWN, "the event comes"], events),
    row(["work-signalfd",    "signals as a file",          "rt_sigprocmask; signalfd4; kill(self); read",     OWN, "the signal is read"], signal_file),
    row(["work-pipe",        "pipe and poll",              "pipe2; write; poll; read",                        OWN, "the byte comes"], pipe),
    row(["work-socketpair",  "socketpair",                 "socketpair(AF_UNIX); write; read",                OWN, "the bytes come"], pair),
    row(["work-scm-rights",  "pass a descriptor",          "sendmsg(SCM_RIGHTS); recvmsg; read",              OWN, "the file is read through the copy"], pass),
    row(["work-unix",        "UNIX socket in /tmp",        r#"bind("/tmp/…"); listen; connect; accept"#,      "removed", "the bytes come"], unix),
    row(["work-abstract",    "abstract UNIX socket",       r#"bind("\0…"); listen; connect; accept"#,         "of a name of its own", "the bytes come"], named),
    row(["work-tcp",         "TCP on its loopback",        "bind(127.0.0.1:0); listen; connect; accept",      "a port that the kernel chooses", "the bytes come"], |_| tcp(Ipv4Addr::LOCALHOST.into())),
    row(["work-tcp6",        "TCP over IPv6",              "bind([::1]:0); listen; connect; accept",          "a port that the kernel chooses", "the bytes come"], |_| tcp(Ipv6Addr::LOCALHOST.into())),
    row(["work-udp",         "UDP on its loopback",        "bind(127.0.0.1:0) x 2; sendto; recvfrom",         "ports that the kernel chooses", "the bytes come"], udp),
    row(["work-terminal",    "a pseudo terminal",          r#"open("/dev/ptmx"); open("/dev/pts/N"); write; read"#, "its own", "what was typed is read"], terminal),
    row(["work-shm",         "own POSIX memory",           r#"open("/dev/shm/…"); mmap; unlink"#,             "of a name of its own, removed", "a child's bytes are seen"], shm),
    row(["work-system-v",    "own System V memory",        "shmget(IPC_PRIVATE); shmat; shmctl(IPC_RMID)",    "removed", "what was written is read"], system_v),
    row(["work-limits",      "lower a limit",              "prlimit64(RLIMIT_NOFILE, 64)",                    OWN, "the limit is read back"], limits),
    row(["work-tighten",     "a sandbox in the sandbox",   "prctl(PR_SET_NO_NEW_PRIVS); seccomp(SET_MODE_FILTER)", OWN, "/proc says a filter more, or the kernel took it"], tighten),
    row(["work-session",     "a session of its own",       "fork; setsid; getsid",                            OWN, "the session is the child's own"], session),
    row(["work-affinity",    "ask for processors",         "sched_getaffinity; sched_yield; getcpu",          OWN, "at least one"], processors),
    row(["work-identity",    "who am I",                   "getresuid; getgroups; uname; getcwd",             "only asks", "all answer"], identity),
];

fn exec(_: &Facts) -> Tried {
    let output = Command::new("/proc/self/exe").arg("--version").output()?;
    happened(output.status.success() && output.stdout.starts_with(b"agent-probe "))
}

fn kill_child(_: &Facts) -> Tried {
    let child = sys::fork(|| {
        let _killed = call(libc::SYS_pause, &mut []);
        1
    })?;
    sys::kill(child, libc::SIGKILL)?;
    happened(sys::wait(child)? == End::Signaled(libc::SIGKILL))
}

fn clone3(_: &Facts) -> Tried {
    let child = match sys::clone3_and_exit(0, 7) {
        Err(Errno(libc::ENOSYS)) => sys::clone_and_exit(0, 7)?,
        made => made?,
    };
    happened(sys::wait(child)? == End::Exited(7))
}

fn threads(_: &Facts) -> Tried {
    let sum = Arc::new(Mutex::new(0));
    let mut running = Vec::new();
    for part in 1..=8 {
        let sum = Arc::clone(&sum);
        let add = move || sum.lock().map(|mut sum| *sum += part).is_ok();
        running.push(thread::Builder::new().spawn(add)?);
    }
    let joined = running.into_iter().filter_map(|thread| thread.join().ok()).filter(|ok| *ok);
    happened(joined.count() == 8 && sum.lock().is_ok_and(|sum| *sum == 36))
}

fn futex(_: &Facts) -> Tried {
    let shared = Arc::new((Mutex::new(false), Condvar::new()));
    let other = Arc::clone(&shared);
    let waker = thread::Builder::new().spawn(move || {
        if let Ok(mut ready) = other.0.lock() {
            *ready = true;
        }
        other.1.notify_one();
    })?;
    let ready = shared.0.lock().map_err(|_| Outcome::INCONCLUSIVE)?;
    let limit = Duration::from_secs(2);
    let woken = shared.1.wait_timeout_while(ready, limit, |ready| !*ready);
    let woken = woken.is_ok_and(|(ready, timeout)| *ready && !timeout.timed_out());
    happened(waker.join().is_ok() && woken)
}

fn signal(_: &Facts) -> Tried {
    sys::count(libc::SIGUSR2)?;
    let before = sys::counted();
    let own = i32::try_from(call(libc::SYS_getpid, &mut [])?).unwrap_or(0);
    let args = &mut [Arg::N(own.into()), Arg::N(own.into()), Arg::N(libc::SIGUSR2.into())];
    call(libc::SYS_tgkill, args)?;
    happened(sys::counted() == before + 1)
}

fn memory(_: &Facts) -> Tried {
    let mut memory = Mapping::new(16 << 20, libc::PROT_READ | libc::PROT_WRITE, None)?;
    memory.touch();
    memory.protect(libc::PROT_READ)?;
    happened(memory.read() == [1_u8, 0])
}

fn memfd(_: &Facts) -> Tried {
    let file = call_fd(libc::SYS_memfd_create, &mut [Arg::Text(c"work"), Arg::N(1)])?;
    let mut file = std::fs::File::from(file);
    file.write_all(b"content")?;
    std::io::Seek::rewind(&mut file)?;
    let mut content = String::new();
    file.read_to_string(&mut content)?;
    happened(content == "content")
}

fn random(_: &Facts) -> Tried {
    let mut bytes = [0; 16];
    let len = call(libc::SYS_getrandom, &mut [Arg::Out(&mut bytes), Arg::N(16), Arg::N(0)])?;
    happened(len == 16 && bytes != [0; 16])
}

fn clock(_: &Facts) -> Tried {
    let mut now = [0; 16];
    call(libc::SYS_clock_gettime, &mut [Arg::N(0), Arg::Out(&mut now)])?;
    let (start, time) = (Instant::now(), longs(&[0, 1_000_000]));
    let args = &mut [Arg::N(1), Arg::N(0), Arg::In(&time), Arg::N(0)];
    call(libc::SYS_clock_nanosleep, args)?;
    happened(now != [0; 16] && start.elapsed() >= Duration::from_millis(1))
}

fn timer(_: &Facts) -> Tried {
    let timer =
        call_fd(libc::SYS_timerfd_create, &mut [Arg::N(1), Arg::N(libc::O_CLOEXEC.into())])?;
    let once = longs(&[0, 0, 0, 1_000_000]);
    call(libc::SYS_timerfd_settime, &mut [n(&timer), Arg::N(0), Arg::In(&once), Arg::N(0)])?;
    let mut count = [0; 8];
    call(libc::SYS_read, &mut [n(&timer), Arg::Out(&mut count), Arg::N(8)])?;
    happened(u64::from_ne_bytes(count) == 1)
}

fn events(_: &Facts) -> Tried {
    let event = call_fd(libc::SYS_eventfd2, &mut [Arg::N(0), Arg::N(libc::O_CLOEXEC.into())])?;
    let poll = call_fd(libc::SYS_epoll_create1, &mut [Arg::N(libc::O_CLOEXEC.into())])?;
    let wanted = ints(&[libc::EPOLLIN, 42, 0, 0]); // struct epoll_event, packed on x86_64
    let add = Arg::N(libc::EPOLL_CTL_ADD.into());
    call(libc::SYS_epoll_ctl, &mut [n(&poll), add, n(&event), Arg::In(&wanted)])?;
    let one = 1_u64.to_ne_bytes();
    call(libc::SYS_write, &mut [n(&event), Arg::In(&one), Arg::N(8)])?;
    let mut found = [0; 16];
    let args = &mut [n(&poll), Arg::Out(&mut found), Arg::N(1), Arg::N(1000), Arg::N(0), Arg::N(8)];
    happened(call(libc::SYS_epoll_pwait, args)? == 1)
}

/// struct signalfd_siginfo, 128 bytes: the signal first.
fn signal_file(_: &Facts) -> Tried {
    sys::block_signals()?;
    let set = (1_u64 << (libc::SIGUSR2 - 1)).to_ne_bytes();
    let flags = Arg::N(libc::O_CLOEXEC.into());
    let file = call_fd(libc::SYS_signalfd4, &mut [Arg::N(-1), Arg::In(&set), Arg::N(8), flags])?;
    let own = i32::try_from(call(libc::SYS_getpid, &mut [])?).unwrap_or(0);
    let args = &mut [Arg::N(own.into()), Arg::N(own.into()), Arg::N(libc::SIGUSR2.into())];
    call(libc::SYS_tgkill, args)?;
    let mut info = [0; 128];
    call(libc::SYS_read, &mut [n(&file), Arg::Out(&mut info), Arg::N(128)])?;
    happened(info.starts_with(&libc::SIGUSR2.to_ne_bytes()))
}

fn pipe(_: &Facts) -> Tried {
    let (mut reader, mut writer) = std::io::pipe()?;
    writer.write_all(b"x")?;
    let ready = sys::poll(&[reader.as_fd()], 1000)? == [true];
    let mut byte = [0];
    reader.read_exact(&mut byte)?;
    happened(ready && byte == *b"x")
}

/// What one end says is heard at the other.
fn heard(mut one: impl Write, mut two: impl Read) -> Tried {
    one.write_all(b"hello")?;
    let mut word = [0; 5];
    two.read_exact(&mut word)?;
    happened(word == *b"hello")
}

fn pair(_: &Facts) -> Tried {
    let (one, two) = UnixStream::pair()?;
    heard(one, two)
}

fn pass(_: &Facts) -> Tried {
    let (one, two) = UnixStream::pair()?;
    let (mut reader, writer) = std::io::pipe()?;
    sys::send_fd(one.as_fd(), writer.as_fd())?;
    let mut copy = std::fs::File::from(sys::receive_fd(two.as_fd())?);
    copy.write_all(b"x")?;
    let mut byte = [0];
    reader.read_exact(&mut byte)?;
    happened(byte == *b"x" && copy.as_raw_fd() != writer.as_raw_fd())
}

fn unix(_: &Facts) -> Tried {
    let made = Made(here("socket"));
    let listener = UnixListener::bind(&made.0)?;
    let peer = UnixStream::connect(&made.0)?;
    heard(peer, listener.accept()?.0)
}

fn named(_: &Facts) -> Tried {
    let name = UnixAddr::from_abstract_name(format!("agent-probe-{}", std::process::id()))?;
    let listener = UnixListener::bind_addr(&name)?;
    let peer = UnixStream::connect_addr(&name)?;
    heard(peer, listener.accept()?.0)
}

fn tcp(at: std::net::IpAddr) -> Tried {
    let listener = TcpListener::bind(SocketAddr::new(at, 0))?;
    let peer = TcpStream::connect_timeout(&listener.local_addr()?, Duration::from_secs(1))?;
    heard(peer, listener.accept()?.0)
}

fn udp(_: &Facts) -> Tried {
    let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    let (one, two) = (bind()?, bind()?);
    two.set_read_timeout(Some(Duration::from_secs(1)))?;
    one.send_to(b"hello", two.local_addr()?)?;
    let mut word = [0; 8];
    let (len, from) = two.recv_from(&mut word)?;
    happened(word.starts_with(b"hello") && len == 5 && from == one.local_addr()?)
}

fn terminal(_: &Facts) -> Tried {
    let (mut master, path) = new_terminal()?;
    let flags = libc::O_NOCTTY;
    let mut options = std::fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::custom_flags(options.read(true).write(true), flags);
    let mut slave = options.open(path)?;
    master.write_all(b"typed\n")?;
    let mut line = [0; 6];
    slave.read_exact(&mut line)?;
    happened(line == *b"typed\n")
}

fn shm(_: &Facts) -> Tried {
    let made = Made(format!("/dev/shm/agent-probe-{}", std::process::id()).into());
    let file = std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(&made.0)?;
    file.set_len(4096)?;
    let all = libc::PROT_READ | libc::PROT_WRITE;
    let mut memory = Mapping::new(4096, all, Some(file.as_fd()))?;
    let ended = sys::in_child(|| {
        memory.write(b"child");
        0
    });
    happened(ended? == End::Exited(0) && memory.read() == *b"child")
}

fn system_v(_: &Facts) -> Tried {
    let args = &mut [Arg::N(libc::IPC_PRIVATE.into()), Arg::N(4096), Arg::N(0o600)];
    let id = call(libc::SYS_shmget, args)?;
    let written = sys::shared(id, Some(*b"written"));
    let read = sys::shared::<7>(id, None);
    let remove = Arg::N(libc::IPC_RMID.into());
    call(libc::SYS_shmctl, &mut [Arg::N(id), remove, Arg::N(0)])?;
    happened(written.is_ok() && read? == *b"written")
}

fn limits(_: &Facts) -> Tried {
    let (new, mut now) = (longs(&[64, 64]), [0; 16]);
    call(libc::SYS_prlimit64, &mut [Arg::N(0), Arg::N(7), Arg::In(&new), Arg::Out(&mut now)])?;
    call(libc::SYS_prlimit64, &mut [Arg::N(0), Arg::N(7), Arg::N(0), Arg::Out(&mut now)])?;
    happened(now.as_slice() == new)
}

fn tighten(_: &Facts) -> Tried {
    call(libc::SYS_prctl, &mut [Arg::N(38), Arg::N(1), Arg::N(0), Arg::N(0), Arg::N(0)])?;
    happened(sys::filter_all(0)? == 0)
}

fn session(_: &Facts) -> Tried {
    let ended = sys::in_child(|| {
        let made = call(libc::SYS_setsid, &mut []);
        i32::from(made.is_err() || call(libc::SYS_getsid, &mut [Arg::N(0)]) != made)
    });
    happened(ended? == End::Exited(0))
}

fn processors(_: &Facts) -> Tried {
    call(libc::SYS_sched_yield, &mut [])?;
    call(libc::SYS_getcpu, &mut [Arg::N(0), Arg::N(0), Arg::N(0)])?;
    Ok(if thread::available_parallelism().is_ok() { Outcome::ALLOWED } else { Outcome::BLOCKED })
}

fn identity(_: &Facts) -> Tried {
    call(libc::SYS_getuid, &mut [])?;
    call(libc::SYS_getgroups, &mut [Arg::N(0), Arg::N(0)])?;
    let dir = std::env::current_dir().map_err(doubt("getcwd"))?;
    happened(!sys::hostname()?.is_empty() && dir.is_absolute())
}
