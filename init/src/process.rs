//! What init is as a process: its descriptors, signals, session; who may look at it; when it dies.

use crate::error::{At, Error};
use crate::layers::Layers;
use crate::lock::Room;
use crate::orders::{Flags, ORDERS_FD, PROGRAM_FD, REPORT_FD};
use crate::sys;

/// Every signal that can be blocked. Handlers do run in PID 1 and default actions do not:
/// init has none of either, it takes signals one by one. pid_namespaces(7).
const ALL_SIGNALS: u64 = u64::MAX;

/// Nothing stays open but stdio, the report pipe and, where ordered, the program: all of them
/// close-on-exec. Orders are mapped and closed by now.
pub fn apply_descriptors(room: &mut Room) -> Result<(), Error> {
    let with_program = room.orders.flags().contains(Flags::PROGRAM_FD);
    let last = if with_program { PROGRAM_FD } else { REPORT_FD };
    for fd in REPORT_FD..=last {
        sys::set_cloexec(fd).at("fcntl(FD_CLOEXEC)")?;
    }
    sys::close_from(last + 1).at("close_range")
}

/// What is open is what must be, in a row from 0 on: stdio, the status file, the report pipe,
/// perhaps the program, and the directory that says so. The pipe and the program end at execve.
pub fn verify_descriptors(room: &mut Room) -> Result<(), Error> {
    room.open_status()?;
    let dir = sys::open(c"/proc/self/fd", libc::O_RDONLY).at("open(/proc/self/fd)")?;
    let open = sys::count_entries(dir).at("getdents64(/proc/self/fd)")?;
    sys::close(dir).at("close(/proc/self/fd)")?;
    if room.status_fd != ORDERS_FD || open != DOTS + dir + 1 {
        return Err(Error::not_in_force("a stray descriptor"));
    }
    for fd in REPORT_FD..dir {
        if sys::is_cloexec(fd) != Ok(true) {
            return Err(Error::not_in_force("FD_CLOEXEC"));
        }
    }
    Ok(())
}

/// `.` and `..`
const DOTS: i32 = 2;

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

/// The agent's process: a session of its own, default actions, nothing blocked. execve keeps
/// ignored signals ignored: those that whoever started the shim had set so.
pub fn apply_agent(room: &mut Room) -> Result<(), Error> {
    sys::setsid().at("setsid")?;
    if !room.layers().contains(Layers::PID) {
        // No pid namespace takes the agent along when init dies.
        sys::set_death_signal(libc::SIGKILL).at("prctl(PR_SET_PDEATHSIG)")?;
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
    if sys::getsid() != Ok(sys::getpid()) {
        return Err(Error::not_in_force("session"));
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

/// After the last change of credentials, which clears it. Where init is not PID 1, it becomes
/// the one that orphans come to.
pub fn apply_death(room: &mut Room) -> Result<(), Error> {
    sys::set_death_signal(libc::SIGKILL).at("prctl(PR_SET_PDEATHSIG)")?;
    if !room.layers().contains(Layers::PID) {
        sys::set_subreaper().at("prctl(PR_SET_CHILD_SUBREAPER)")?;
    }
    Ok(())
}

/// The signal is set, and the shim has not died before it was: its end of the pipe is open.
pub fn verify_death(_: &mut Room) -> Result<(), Error> {
    let signal = sys::death_signal().at("prctl(PR_GET_PDEATHSIG)")?;
    if signal != libc::SIGKILL {
        return Err(Error::not_in_force("PR_GET_PDEATHSIG"));
    }
    match sys::reader_is_gone(REPORT_FD).at("ppoll(report pipe)")? {
        true => Err(Error::not_in_force("the shim has died")),
        false => Ok(()),
    }
}
