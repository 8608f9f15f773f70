//! PID 1 while the agent lives: reaps every orphan, forwards signals, ends with the agent.

use crate::error::Errno;
use crate::report::HARNESS_FAILED;
use crate::sys;

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

/// Waits until `agent` has ended; its exit status, or 128 + the signal that ended it.
pub fn until_end_of(agent: i32) -> i32 {
    loop {
        match sys::wait_signal() {
            Ok(libc::SIGCHLD) => {
                if let Some(code) = drain(agent) {
                    return code;
                }
            }
            Ok(signal) if FORWARDED.contains(&signal) => forward(agent, signal),
            Ok(_) | Err(Errno::EINTR) => {} // EINTR: after a stop
            // An outer filter refuses it: nothing can be waited for, and the room ends.
            Err(_) => return HARNESS_FAILED,
        }
    }
}

/// One pass takes all that have ended: signals of one kind do not queue.
fn drain(agent: i32) -> Option<i32> {
    let mut code = None;
    loop {
        match sys::reap() {
            Ok(Some((pid, status))) if pid == agent => code = Some(exit_code(status)),
            Ok(Some(_)) => {}
            Ok(None) | Err(Errno::ECHILD) => return code,
            Err(_) => return Some(HARNESS_FAILED),
        }
    }
}

/// To the group; to the process alone while it has not made its group yet.
fn forward(agent: i32, signal: i32) {
    if sys::kill(-agent, signal).is_err() {
        let _ended = sys::kill(agent, signal);
    }
}

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
}
