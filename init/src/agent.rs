//! The agent's process: from fork to execve.

use crate::error::{At, During, Errno, Error, Failure, Step};
use crate::lock::{self, Room};
use crate::orders::{Flags, PROGRAM_FD, REPORT_FD};
use crate::{report, sys};

/// Forks the agent's process, which locks itself while init puts its own filter on; it goes on
/// to execve only when both are in force. The pid of the agent is returned.
pub fn start(room: &mut Room) -> Result<i32, Failure> {
    let pipe = sys::pipe().at("pipe2").during(Step::FORK)?;
    let pid = sys::fork().at("clone").during(Step::FORK)?;
    if pid == 0 {
        let failure = match become_agent(room, pipe) {
            Err(failure) => failure,
            Ok(()) => Failure { step: Step::EXEC, error: exec(room) },
        };
        report::send(&failure);
        sys::exit(report::HARNESS_FAILED);
    }
    lock::own_side(room)?;
    let_go(room, pipe).during(Step::FORK)?;
    Ok(pid)
}

/// Tells the agent's process to go on, and keeps nothing open. With the report pipe closed on
/// both sides, by execve on the agent's, the shim knows that the agent was started.
fn let_go(room: &Room, (wait_end, go_end): (sys::Fd, sys::Fd)) -> Result<(), Error> {
    // The status file, the report pipe, perhaps the program, this pipe: in a row.
    for fd in (room.status_fd..=wait_end).filter(|fd| *fd != REPORT_FD) {
        sys::close(fd).at("close")?;
    }
    sys::write(go_end, b"!").at("write(go)")?;
    // No return from here: the agent may be running. close(2) frees the number in any case.
    let _freed = (sys::close(go_end), sys::close(REPORT_FD));
    Ok(())
}

/// The child's side: the last locks, and the word of init.
fn become_agent(room: &mut Room, pipe: (sys::Fd, sys::Fd)) -> Result<(), Failure> {
    sys::close(pipe.1).at("close").during(Step::FORK)?;
    lock::agent_side(room)?;
    wait_for(pipe.0).during(Step::FORK)
}

fn wait_for(wait_end: sys::Fd) -> Result<(), Error> {
    let mut go = [0; 1];
    if sys::read(wait_end, &mut go).at("read(go)")? != 1 {
        sys::exit(report::HARNESS_FAILED); // init has failed and said so
    }
    report::ready().at("write(report)").map(drop)
}

/// Tries the candidates as execvp(3) does: the next one if this one is not there or may not be
/// run. Returns only when all have failed: the error of the first that was there, else of the last.
fn exec(room: &Room) -> Error {
    let (argv, envp) = (room.orders.argv(), room.orders.envp());
    if room.orders.flags().contains(Flags::PROGRAM_FD) {
        return failed("execveat(program)", b"", sys::execve_fd(PROGRAM_FD, argv, envp));
    }
    let mut error = failed("execve(no candidate)", b"", Errno::ENOENT);
    for path in room.orders.candidates() {
        let errno = sys::execve(path, argv, envp);
        if matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR) {
            error = failed("execve", path.to_bytes(), errno);
        }
        if !matches!(errno, Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) {
            break;
        }
    }
    error
}

fn failed(what: &'static str, object: &'static [u8], errno: Errno) -> Error {
    Error { errno, what, object }
}
