//! The agent's process: from fork to execve.

use crate::error::{At, During, Errno, Error, Failure, Step};
use crate::lock::{self, Room};
use crate::orders::Flags;
use crate::{process, report, sys};

/// Forks the agent's process, which locks itself while init puts its own filter on; it goes on
/// to execve only when both are in force. The pid of the agent is returned, and the descriptor
/// that signals come from.
pub fn start(room: &mut Room) -> Result<(i32, sys::Fd), Failure> {
    let pipe = sys::pipe().at(c"pipe2").during(Step::FORK)?;
    let pid = sys::fork().at(c"clone").during(Step::FORK)?;
    if pid == 0 {
        let failure = match become_agent(room, pipe) {
            Err(failure) => failure,
            Ok(()) => Failure::new(Step::EXEC, exec(room)),
        };
        let _unread = report::send(room.report_fd, &failure);
        sys::exit(failure.code());
    }
    let signals = sys::signal_fd().at(c"signalfd4").during(Step::FORK)?;
    lock::own_side(room)?;
    let_go(room, pipe).during(Step::FORK)?;
    Ok((pid, signals))
}

/// Tells the agent's process to go on, and keeps only open what `reap` needs. With the report pipe
/// closed on both sides, by execve on the agent's, the shim knows that the agent was started.
fn let_go(room: &Room, (wait_end, go_end): (sys::Fd, sys::Fd)) -> Result<(), Error> {
    sys::close(room.status_fd).at(c"close")?;
    sys::close(wait_end).at(c"close")?;
    if room.orders.flags().contains(Flags::PROGRAM_FD) {
        sys::close(room.program_fd).at(c"close")?;
    }
    for (at, _) in room.orders.kept() {
        sys::close(at).at(c"close")?;
    }
    match sys::write(go_end, b"!") {
        Err(Errno::EPIPE) => sys::exit(report::HARNESS_FAILED), // it has failed and said so
        other => other.at(c"write(go)")?,
    };
    // No return from here: the agent may be running. close(2) frees the number in any case.
    let _freed = (sys::close(go_end), room.report_fd.map(sys::close));
    Ok(())
}

/// The child's side: the last locks, and the word of init.
fn become_agent(room: &mut Room, pipe: (sys::Fd, sys::Fd)) -> Result<(), Failure> {
    sys::close(pipe.1).at(c"close").during(Step::FORK)?;
    lock::agent_side(room)?;
    wait_for(pipe.0).during(Step::FORK)?;
    process::place_kept(room).during(Step::KEEP)?;
    report::ready(room.report_fd).at(c"write(report)").during(Step::FORK)
}

fn wait_for(wait_end: sys::Fd) -> Result<(), Error> {
    let mut go = [0; 1];
    if sys::read(wait_end, &mut go).at(c"read(go)")? != 1 {
        sys::exit(report::HARNESS_FAILED); // init has failed and said so
    }
    Ok(())
}

/// Tries the candidates as execvp(3) does: the next one if this one is not there or may not be
/// run. Returns only when all have failed: the error of the first that was there, else of the last.
fn exec(room: &Room) -> Error {
    let (argv, envp) = (room.orders.argv(), room.orders.envp());
    if room.orders.flags().contains(Flags::PROGRAM_FD) {
        return Error::new(sys::execve_fd(room.program_fd, argv, envp), c"execveat(program)", c"");
    }
    let mut error = Error::new(Errno::ENOENT, c"execve(no candidate)", c"");
    for path in room.orders.candidates() {
        let errno = sys::execve(path, argv, envp);
        if matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR) {
            error = Error::new(errno, c"execve", path);
        }
        if !matches!(errno, Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) {
            break;
        }
    }
    error
}
