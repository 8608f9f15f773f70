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
    if room.is_alone() {
        fill_stdio()?;
    }
    // Of a shim's init, the orders are at the first number past stdio, and closed.
    let mut next = if room.is_alone() { ORDERS_FD } else { last_of_init(room) + 1 };
    for (at, _) in room.orders.kept() {
        if next < at {
            sys::close_range(next, at - 1).at(c"close_range")?;
        }
        next = at + 1;
    }
    sys::close_range(next, -1).at(c"close_range")?;
    each_past_stdio(room, &mut |fd| sys::set_cloexec(fd).at(c"fcntl(FD_CLOEXEC)"))
}

/// What is open is what must be: stdio, the status file, what init needs, perhaps the program,
/// what the agent keeps, and the directory that says so. All past stdio end at execve.
pub fn verify_descriptors(room: &mut Room) -> Result<(), Error> {
    room.open_status()?;
    let dir = sys::open(c"/proc/self/fd", libc::O_RDONLY).at(c"open(/proc/self/fd)")?;
    let open = sys::count_entries(dir).at(c"getdents64(/proc/self/fd)")?;
    sys::close(dir).at(c"close(/proc/self/fd)")?;
    let mut wanted = DOTS + STDIO + 2; // the status file, the directory
    let mut is_cloexec = sys::is_cloexec(room.status_fd) == Ok(true);
    each_past_stdio(room, &mut |fd| {
        wanted += 1;
        is_cloexec &= sys::is_cloexec(fd) == Ok(true);
        Ok(())
    })?;
    if room.status_fd != ORDERS_FD || open != wanted {
        return Err(Error::not_in_force(c"a stray descriptor"));
    }
    if !is_cloexec {
        return Err(Error::not_in_force(c"FD_CLOEXEC"));
    }
    Ok(())
}

/// Where stdio is not open, nothing else may become it: `/dev/null`, which ends at execve.
fn fill_stdio() -> Result<(), Error> {
    loop {
        let fd = sys::open(c"/dev/null", libc::O_RDWR).at(c"open(/dev/null)")?;
        if fd >= ORDERS_FD {
            return sys::close(fd).at(c"close(/dev/null)");
        }
    }
}

/// The last of those at numbers that both sides know; alone, there are none.
fn last_of_init(room: &Room) -> sys::Fd {
    if room.is_alone() {
        return ORDERS_FD;
    }
    if room.orders.flags().contains(Flags::PROGRAM_FD) { PROGRAM_FD } else { END_FD }
}

/// Stdio and the status file apart, all that is open.
fn each_past_stdio(
    room: &Room,
    on: &mut dyn FnMut(sys::Fd) -> Result<(), Error>,
) -> Result<(), Error> {
    for fd in REPORT_FD..=last_of_init(room) {
        on(fd)?;
    }
    for (at, _) in room.orders.kept() {
        on(at)?;
    }
    Ok(())
}

/// `.` and `..`
const DOTS: i32 = 2;
/// Standard input, output and error.
const STDIO: i32 = 3;

/// The agent's side, last before execve: what it keeps gets the numbers it wants. These are none
/// of the row that they are in by now; what else has one of them, and is still needed, gives way.
pub fn place_kept(room: &mut Room) -> Result<(), Error> {
    if let Some(fd) = room.report_fd {
        room.report_fd = Some(out_of_the_way(room, fd)?);
    }
    if room.orders.flags().contains(Flags::PROGRAM_FD) {
        room.program_fd = out_of_the_way(room, room.program_fd)?;
    }
    for (at, wanted) in room.orders.kept() {
        sys::dup_to(at, wanted).at(c"dup3")?;
    }
    // All else is close-on-exec.
    match room.orders.kept().any(|(_, wanted)| sys::is_cloexec(wanted) != Ok(false)) {
        true => Err(Error::not_in_force(c"a kept descriptor")),
        false => Ok(()),
    }
}

/// `fd`, or a copy of it at a number that nobody wants. Copies at numbers that somebody does want
/// are replaced.
fn out_of_the_way(room: &Room, mut fd: sys::Fd) -> Result<sys::Fd, Error> {
    while room.orders.kept().any(|(_, wanted)| wanted == fd) {
        fd = sys::dup(fd).at(c"fcntl(F_DUPFD_CLOEXEC)")?;
    }
    Ok(fd)
}

/// Signals blocked before the first child; a session of its own, without a terminal. Alone, init
/// keeps the session, the terminal and the umask that the container gave it.
pub fn apply_session(room: &mut Room) -> Result<(), Error> {
    sys::set_signal_mask(ALL_SIGNALS).at(c"rt_sigprocmask(all)")?;
    // Ignored, it would never come, though blocked; and children would leave no status.
    sys::set_default_action(libc::SIGCHLD).at(c"rt_sigaction(SIGCHLD)")?;
    if !room.is_alone() {
        sys::setsid().at(c"setsid")?;
        sys::umask(room.orders.umask());
    }
    Ok(())
}

/// Leader of its session, with the caller's umask, and every signal that can be is blocked (SIGKILL, SIGSTOP cannot).
pub fn verify_session(room: &mut Room) -> Result<(), Error> {
    let alone = room.is_alone();
    if !alone && sys::getsid() != Ok(sys::getpid()) {
        return Err(Error::not_in_force(c"session"));
    }
    let unblockable = 1u64 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1);
    let status = room.status()?;
    let ignored = status.hex("SigIgn").unwrap_or(ALL_SIGNALS);
    if status.hex("SigBlk") != Some(ALL_SIGNALS & !unblockable)
        || ignored & 1 << (libc::SIGCHLD - 1) != 0
        || !alone && status.octal("Umask") != Some(room.orders.umask().into())
    {
        return Err(Error::not_in_force(c"SigBlk, SigIgn, Umask"));
    }
    Ok(())
}

/// The agent's process: a session of its own, with a terminal where ordered, default actions,
/// nothing blocked. execve keeps
/// ignored signals ignored: those that whoever started the shim had set so.
pub fn apply_agent(room: &mut Room) -> Result<(), Error> {
    if room.is_alone() {
        own_group()?;
    } else {
        sys::setsid().at(c"setsid")?;
    }
    if !room.layers().contains(Layers::PID) {
        // No pid namespace takes the agent along when init dies.
        sys::set_death_signal(libc::SIGKILL).at(c"prctl(PR_SET_PDEATHSIG)")?;
    }
    if room.orders.flags().contains(Flags::TERMINAL) {
        sys::take_terminal(0).at(c"ioctl(TIOCSCTTY)")?;
    }
    let ignored = room.status()?.hex("SigIgn").unwrap_or(ALL_SIGNALS);
    for signal in (1..=64).filter(|n| ignored & (1 << (n - 1)) != 0) {
        sys::set_default_action(signal).at(c"rt_sigaction(SIG_DFL)")?;
    }
    sys::set_signal_mask(0).at(c"rt_sigprocmask(none)")
}

/// Alone: a process group of its own in the session of init; in the foreground of its terminal, if
/// init is. Every signal is blocked here, so SIGTTOU stops nobody.
fn own_group() -> Result<(), Error> {
    let group = sys::getpgid().at(c"getpgid")?;
    sys::set_own_group().at(c"setpgid")?;
    match sys::foreground(0) == Ok(group) {
        true => sys::set_foreground(0, sys::getpid()).at(c"ioctl(TIOCSPGRP)"),
        false => Ok(()), // no terminal, or somebody else's turn
    }
}

/// By its own status file: init's is of another process.
pub fn verify_agent(room: &mut Room) -> Result<(), Error> {
    room.open_status()?;
    let status = room.status()?;
    if status.hex("SigIgn") != Some(0) || status.hex("SigBlk") != Some(0) {
        return Err(Error::not_in_force(c"SigIgn, SigBlk"));
    }
    let (alone, pid) = (room.is_alone(), sys::getpid());
    if !alone && sys::getsid() != Ok(pid) || sys::getpgid() != Ok(pid) {
        return Err(Error::not_in_force(c"session"));
    }
    let with_terminal = room.orders.flags().contains(Flags::TERMINAL);
    if with_terminal && (sys::terminal_session(0) != Ok(pid) || sys::foreground(0) != Ok(pid)) {
        return Err(Error::not_in_force(c"controlling terminal"));
    }
    Ok(())
}

/// Before a child exists that could look: `/proc/1/{mem,environ,fd,exe}` are root's from now on.
/// The agent's own execve makes it dumpable again, alone.
pub fn apply_dumpable(_: &mut Room) -> Result<(), Error> {
    sys::set_dumpable(false).at(c"prctl(PR_SET_DUMPABLE)")
}

/// PR_GET_DUMPABLE.
pub fn verify_dumpable(_: &mut Room) -> Result<(), Error> {
    match sys::is_dumpable().at(c"prctl(PR_GET_DUMPABLE)")? {
        true => Err(Error::not_in_force(c"PR_GET_DUMPABLE")),
        false => Ok(()),
    }
}

/// From here on init looks after the shim by itself, so that the room ends with the shim's process
/// and not with the thread that started it: see `reap`. Where init is not PID 1, it becomes the
/// one that orphans come to.
pub fn apply_death(room: &mut Room) -> Result<(), Error> {
    if !room.is_alone() {
        sys::set_death_signal(0).at(c"prctl(PR_SET_PDEATHSIG)")?;
    }
    if sys::getpid() != 1 {
        sys::set_subreaper().at(c"prctl(PR_SET_CHILD_SUBREAPER)")?;
    }
    Ok(())
}

/// Orphans come here; no signal is set, and the shim is alive.
pub fn verify_death(room: &mut Room) -> Result<(), Error> {
    if sys::getpid() != 1 && !sys::is_subreaper().at(c"prctl(PR_GET_CHILD_SUBREAPER)")? {
        return Err(Error::not_in_force(c"PR_GET_CHILD_SUBREAPER"));
    }
    if room.is_alone() {
        return Ok(());
    }
    if sys::death_signal().at(c"prctl(PR_GET_PDEATHSIG)")? != 0 {
        return Err(Error::not_in_force(c"PR_GET_PDEATHSIG"));
    }
    match sys::poll([SHIM_FD, -1], Some(&mut [0, 0])).at(c"ppoll(the shim)")? {
        [true, _] => Err(Error::not_in_force(c"the shim has died")),
        [false, _] => Ok(()),
    }
}
