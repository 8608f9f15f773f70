//! PID 1 while the agent lives, and after: reaps every orphan, forwards signals, ends with the
//! shim; ends what the agent leaves behind. signalfd(2), pidfd_open(2), pid_namespaces(7).

use crate::error::Errno;
use crate::sys::{self, Fd, Time};

/// Passed on, by the shim and by init, to the agent's process group; what is not here is dropped.
/// With SIGTSTP the shim stops too. siginfo is not read.
pub const FORWARDED: [i32; 9] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGCONT,
    libc::SIGTSTP,
    libc::SIGWINCH,
];

/// Alone, as tini does, all are passed on but these: what only a fault of init's own can mean, what
/// the terminal says to a process in the background, and SIGCHLD.
const KEPT: [i32; 10] = [
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGSYS,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGCHLD,
];

/// Those that cut the grace short.
const IMPATIENT: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// Without a pid namespace a process that was killed may never be reaped by its parent: the most
/// seconds to wait for it.
const GONE_WITHIN: u64 = 1;

/// The record of the end, as init writes it to `END_FD`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The agent's, as wait(2) has it.
    pub status: i32,
    /// Processes that outlived the agent, ended and reaped by init.
    pub left: u32,
}

impl End {
    /// Size of the record.
    pub const SIZE: usize = 8;

    /// As it is written.
    pub fn to_bytes(self) -> [u8; End::SIZE] {
        let word = u64::from(self.left) << 32 | u64::from(self.status.cast_unsigned());
        word.to_le_bytes()
    }

    /// As it was written.
    pub fn from_bytes(bytes: [u8; End::SIZE]) -> End {
        let [a, b, c, d, left @ ..] = bytes;
        End { status: i32::from_le_bytes([a, b, c, d]), left: u32::from_le_bytes(left) }
    }
}

/// What init waits with, and for whom.
#[derive(Debug)]
pub struct Watch {
    /// The agent's process, leader of its group.
    pub agent: i32,
    /// A signalfd of every signal.
    pub signals: Fd,
    /// A pidfd of the shim; alone, -1.
    pub shim: Fd,
    /// Init's own, and its process group.
    pub pid: i32,
    /// See `pid`.
    pub group: i32,
    /// Whether init is PID 1 of the room's own pid namespace: all in it are its to end.
    pub is_pid_1: bool,
    /// Whether there is no shim.
    pub alone: bool,
    /// Whether signals go to the agent's group, not to it alone.
    pub to_group: bool,
    /// Milliseconds.
    pub grace: u64,
}

/// What woke init.
enum Event {
    Signal(i32),
    TimeOut,
}

/// What one pass over the children found.
#[derive(Default)]
struct Pass {
    /// The agent's status, if it was one of them.
    agent: Option<i32>,
    others: u32,
    /// No child is left, and so no process of the room.
    is_last: bool,
}

impl Watch {
    /// Waits for the agent's end and ends what it leaves. An error ends the room: an outer filter
    /// refuses a call, so nothing can be waited for.
    pub fn until_the_end(&self) -> Result<End, Errno> {
        let (status, nothing_left) = self.until_end_of_agent()?;
        let mut left = 0;
        if !nothing_left {
            self.end_what_is_left(&mut left)?;
        }
        Ok(End { status, left })
    }

    /// The agent's status, and whether it was the last.
    fn until_end_of_agent(&self) -> Result<(i32, bool), Errno> {
        loop {
            match self.next(None)? {
                Event::Signal(libc::SIGCHLD) => {
                    let pass = self.reap()?;
                    if let Some(status) = pass.agent {
                        return Ok((status, pass.is_last));
                    }
                }
                Event::Signal(signal) => self.forward(signal),
                Event::TimeOut => {}
            }
        }
    }

    /// SIGTERM, the grace, SIGKILL. SIGCONT: a stopped process would not see the first.
    fn end_what_is_left(&self, left: &mut u32) -> Result<(), Errno> {
        if self.grace > 0 {
            self.to_the_rest(libc::SIGTERM);
            self.to_the_rest(libc::SIGCONT);
            let mut time = [self.grace / 1000, self.grace % 1000 * 1_000_000];
            if self.until_none_is_left(Some(&mut time), left)? {
                return Ok(());
            }
        }
        self.to_the_rest(libc::SIGKILL);
        let mut soon = [GONE_WITHIN, 0];
        let time = if self.is_pid_1 { None } else { Some(&mut soon) };
        self.until_none_is_left(time, left).map(drop)
    }

    /// Reaps, and counts. `false`: the time is over, or a signal says that it is.
    fn until_none_is_left(
        &self,
        mut time: Option<&mut Time>,
        left: &mut u32,
    ) -> Result<bool, Errno> {
        while !self.is_out_of_reach() {
            match self.next(time.as_deref_mut())? {
                Event::Signal(libc::SIGCHLD) => {
                    let pass = self.reap()?;
                    *left = left.saturating_add(pass.others);
                    if pass.is_last {
                        return Ok(true);
                    }
                }
                Event::Signal(signal) if time.is_some() && IMPATIENT.contains(&signal) => {
                    return Ok(false);
                }
                Event::TimeOut => return Ok(false),
                Event::Signal(_) => {}
            }
        }
        Ok(true)
    }

    /// Waits. With the end of the shim this room ends: PID 1 takes along what is in its namespace.
    fn next(&self, mut time: Option<&mut Time>) -> Result<Event, Errno> {
        loop {
            let [shim, signals] = match sys::poll([self.shim, self.signals], time.as_deref_mut()) {
                Err(Errno::EINTR) => continue, // after a stop
                other => other?,
            };
            if shim {
                if !self.is_pid_1 {
                    self.to_the_rest(libc::SIGKILL);
                }
                sys::exit(128 + libc::SIGKILL);
            }
            if !signals {
                return Ok(Event::TimeOut);
            }
            if let Some(signal) = sys::next_signal(self.signals)? {
                return Ok(Event::Signal(signal));
            }
        }
    }

    /// One pass takes all that have ended: signals of one kind do not queue.
    fn reap(&self) -> Result<Pass, Errno> {
        let mut pass = Pass::default();
        loop {
            match sys::reap(self.has_jobs()) {
                Ok(Some((pid, status))) if status & 0xff == STOPPED => self.stopped(pid),
                Ok(Some((pid, status))) if pid == self.agent => pass.agent = Some(status),
                Ok(Some(_)) => pass.others = pass.others.saturating_add(1),
                Ok(None) => return Ok(pass),
                Err(Errno::ECHILD) => {
                    pass.is_last = true;
                    return Ok(pass);
                }
                Err(errno) => return Err(errno),
            }
        }
    }

    /// To the group, where ordered; to the process alone while it has not made its group yet.
    fn forward(&self, signal: i32) {
        let kept = if self.alone { KEPT.contains(&signal) } else { !FORWARDED.contains(&signal) };
        if kept {
            return;
        }
        if signal == libc::SIGCONT && self.has_jobs() {
            return self.continued();
        }
        if !self.to_group || sys::kill(-self.agent, signal).is_err() {
            let _ended = sys::kill(self.agent, signal);
        }
    }

    /// Whether a shell that waits for init should see the agent stop: alone, and not PID 1, which
    /// nobody could continue.
    fn has_jobs(&self) -> bool {
        self.alone && !self.is_pid_1
    }

    /// Ctrl-Z stops the agent's group, which is in the foreground, and not init: so it does itself.
    fn stopped(&self, pid: i32) {
        if pid == self.agent {
            let _stopped = sys::kill(self.pid, libc::SIGSTOP);
        }
    }

    /// Where the shell has put init's group in the foreground, init passes that on. All of the agent's
    /// group goes on.
    fn continued(&self) {
        if sys::foreground(0) == Ok(self.group) {
            let _gone = sys::set_foreground(0, self.agent);
        }
        let _ended = sys::kill(-self.agent, libc::SIGCONT);
    }

    /// Everything in the pid namespace but PID 1; without one, the agent's process group is all
    /// that can be reached.
    fn to_the_rest(&self, signal: i32) {
        let _gone = sys::kill(if self.is_pid_1 { -1 } else { -self.agent }, signal);
    }

    /// Whether what is left is in other process groups, where init cannot end it.
    fn is_out_of_reach(&self) -> bool {
        !self.is_pid_1 && sys::kill(-self.agent, 0) == Err(Errno::ESRCH)
    }
}

/// wait(2), WIFSTOPPED: the low byte of the status.
const STOPPED: i32 = 0x7f;

/// wait(2): the status of a process as a shell gives it.
pub fn exit_code(status: i32) -> i32 {
    match status & 0x7f {
        0 => (status >> 8) & 0xff,
        signal => 128 + signal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_code() {
        for code in 0..=255 {
            assert_eq!(exit_code(code << 8), code);
        }
        for signal in 1..=64 {
            assert_eq!(exit_code(signal), 128 + signal);
            assert_eq!(exit_code(signal | 0x80), 128 + signal, "with a core dump");
        }
    }

    #[test]
    fn the_record_of_the_end_arrives() {
        for end in [End { status: -2, left: 0 }, End { status: 0x8b, left: u32::MAX }] {
            assert_eq!(End::from_bytes(end.to_bytes()), end);
        }
    }
}
