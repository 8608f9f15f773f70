//! What init is as a process: its descriptors, signals, session; who may look at it; when it dies.

use crate::error::{At, Error};
use crate::layers::Layers;
use crate::lock::Room;
use crate::orders::{END_FD, Flags, ORDERS_FD, PROGRAM_FD, REPORT_FD, SHIM_FD};
use crate::sys;

/// Every signal that can be blocked. Handlers do run in PID 1 and default actions do not:
/// init has none of either, it takes signals one by one. pid_namespaces(7).
const ALL_SIGNALS: u64 = u64::MAX;

/// Nothing stays open but stdio, what init needs, the program where ordered, and what the agent
/// keeps: all of them close-on-exec. Orders are mapped and closed by now.
pub fn apply_descriptors(room: &mut Room) -> Result<(), Error> {
    let mut next = last_of_init(room) + 1;
    for (at, _) in room.orders.kept() {
        if next < at {
            sys::close_range(next, at - 1).at("close_range")?;
        }
        next = at + 1;
    }
    sys::close_range(next, -1).at("close_range")?;
    past_stdio(room).try_for_each(sys::set_cloexec).at("fcntl(FD_CLOEXEC)")
}

/// What is open is what must be: stdio, the status file, what init needs, perhaps the program,
/// what the agent keeps, and the directory that says so. All past stdio end at execve.
pub fn verify_descriptors(room: &mut Room) -> Result<(), Error> {
    room.open_status()?;
    let dir = sys::open(c"/proc/self/fd", libc::O_RDONLY).at("open(/proc/self/fd)")?;
    let open = sys::count_entries(dir).at("getdents64(/proc/self/fd)")?;
    sys::close(dir).at("close(/proc/self/fd)")?;
    let all = (0..=ORDERS_FD).chain(past_stdio(room)).chain([dir]).map(|_| 1).sum::<i32>();
    if room.status_fd != ORDERS_FD || open != DOTS + all {
        return Err(Error::not_in_force("a stray descriptor"));
    }
    for fd in past_stdio(room).chain([room.status_fd]) {
        if sys::is_cloexec(fd) != Ok(true) {
            return Err(Error::not_in_force("FD_CLOEXEC"));
        }
    }
    Ok(())
}

/// The last of those at numbers that both sides know.
fn last_of_init(room: &Room) -> sys::Fd {
    if room.orders.flags().contains(Flags::PROGRAM_FD) { PROGRAM_FD } else { END_FD }
}

/// Stdio and the status file apart, all that is open.
fn past_stdio(room: &Room) -> impl Iterator<Item = sys::Fd> {
    (REPORT_FD..=last_of_init(room)).chain(room.orders.kept().map(|(at, _)| at))
}

/// `.` and `..`
const DOTS: i32 = 2;

/// The agent's side, last before execve: what it keeps gets the numbers it wants. These are none
/// of the row that they are in by now; what else has one of them, and is still needed, gives way.
pub fn place_kept(room: &mut Room) -> Result<(), Error> {
    room.report_fd = out_of_the_way(room, room.report_fd)?;
    if room.orders.flags().contains(Flags::PROGRAM_FD) {
        room.program_fd = out_of_the_way(room, room.program_fd)?;
    }
    for (at, wanted) in room.orders.kept() {
        sys::dup_to(at, wanted).at("dup3")?;
    }
    // All else is close-on-exec.
    match room.orders.kept().any(|(_, wanted)| sys::is_cloexec(wanted) != Ok(false)) {
        true => Err(Error::not_in_force("a kept descriptor")),
        false => Ok(()),
    }
}

/// `fd`, or a copy of it at a number that nobody wants. Copies at numbers that somebody does want
/// are replaced.
fn out_of_the_way(room: &Room, mut fd: sys::Fd) -> Result<sys::Fd, Error> {
    while room.orders.kept().any(|(_, wanted)| wanted == fd) {
        fd = sys::dup(fd).at("fcntl(F_DUPFD_CLOEXEC)")?;
    }
    Ok(fd)
}

/// Signals blocked before the first child; a session of its own, without a terminal.
pub fn apply_session(_: &mut Room) -> Result<(), Error> {
    sys::set_signal_mask(ALL_SIGNALS).at("rt_sigprocmask(all)")?;
    // Ignored, it would never come, though blocked; and children would leave no status.
    sys::set_default_action(libc::SIGCHLD).at("rt_sigaction(SIGCHLD)")?;
    sys::setsid().at("setsid")?;
    sys::umask(0o022);
    Ok(())
}

/// Leader of its session, and every signal that can be is blocked (SIGKILL, SIGSTOP cannot).
pub fn verify_session(room: &mut Room) -> Result<(), Error> {
    if sys::getsid() != Ok(sys::getpid()) {
        return Err(Error::not_in_force("session"));
    }
    let unblockable = 1u64 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1);
    let status = room.status()?;
    let ignored = status.hex("SigIgn").unwrap_or(ALL_SIGNALS);
    if status.hex("SigBlk") != Some(ALL_SIGNALS & !unblockable)
        || ignored & 1 << (libc::SIGCHLD - 1) != 0
        || status.octal("Umask") != Some(0o022)
    {
        return Err(Error::not_in_force("SigBlk, SigIgn, Umask"));
    }
    Ok(())
}

/// The agent's process: a session of its own, with a terminal where ordered, default actions,
/// nothing blocked. execve keeps
/// ignored signals ignored: those that whoever started the shim had set so.
pub fn apply_agent(room: &mut Room) -> Result<(), Error> {
    sys::setsid().at("setsid")?;
    if !room.layers().contains(Layers::PID) {
        // No pid namespace takes the agent along when init dies.
        sys::set_death_signal(libc::SIGKILL).at("prctl(PR_SET_PDEATHSIG)")?;
    }
    if room.orders.flags().contains(Flags::TERMINAL) {
        sys::take_terminal(0).at("ioctl(TIOCSCTTY)")?;
    }
    let ignored = room.status()?.hex("SigIgn").unwrap_or(ALL_SIGNALS);
    for signal in (1..=64).filter(|n| ignored & (1 << (n - 1)) != 0) {
        sys::set_default_action(signal).at("rt_sigaction(SIG_DFL)")?;
    }
    sys::set_signal_mask(0).at("rt_sigprocmask(none)")
}

/// By its own status file: init's is of another process.
pub fn verify_agent(room: &mut Room) -> Result<(), Error> {
    room.open_status()?;
    let status = room.status()?;
    if status.hex("SigIgn") != Some(0) || status.hex("SigBlk") != Some(0) {
        return Err(Error::not_in_force("SigIgn, SigBlk"));
    }
    let pid = sys::getpid();
    if sys::getsid() != Ok(pid) {
        return Err(Error::not_in_force("session"));
    }
    let with_terminal = room.orders.flags().contains(Flags::TERMINAL);
    if with_terminal && sys::terminal_of(0) != Ok((pid, pid)) {
        return Err(Error::not_in_force("controlling terminal"));
    }
    Ok(())
}

/// Before a child exists that could look: `/proc/1/{mem,environ,fd,exe}` are root's from now on.
/// The agent's own execve makes it dumpable again, alone.
pub fn apply_dumpable(_: &mut Room) -> Result<(), Error> {
    sys::set_dumpable(false).at("prctl(PR_SET_DUMPABLE)")
}

/// PR_GET_DUMPABLE.
pub fn verify_dumpable(_: &mut Room) -> Result<(), Error> {
    match sys::is_dumpable().at("prctl(PR_GET_DUMPABLE)")? {
        true => Err(Error::not_in_force("PR_GET_DUMPABLE")),
        false => Ok(()),
    }
}

/// From here on init looks after the shim by itself, so that the room ends with the shim's process
/// and not with the thread that started it: see `reap`. Where init is not PID 1, it becomes the
/// one that orphans come to.
pub fn apply_death(room: &mut Room) -> Result<(), Error> {
    sys::set_death_signal(0).at("prctl(PR_SET_PDEATHSIG)")?;
    if !room.layers().contains(Layers::PID) {
        sys::set_subreaper().at("prctl(PR_SET_CHILD_SUBREAPER)")?;
    }
    Ok(())
}

/// No signal is set, and the shim is alive.
pub fn verify_death(_: &mut Room) -> Result<(), Error> {
    if sys::death_signal().at("prctl(PR_GET_PDEATHSIG)")? != 0 {
        return Err(Error::not_in_force("PR_GET_PDEATHSIG"));
    }
    match sys::poll([SHIM_FD], Some(&mut [0, 0])).at("ppoll(the shim)")? {
        [true] => Err(Error::not_in_force("the shim has died")),
        [false] => Ok(()),
    }
}
