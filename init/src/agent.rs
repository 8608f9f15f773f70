//! The agent's process: from fork to execve.

use crate::error::{At, During, Errno, Error, Failure, Step};
use crate::lock::{self, Room};
use crate::orders::Flags;
use crate::{process, report, sys};

/// Forks the agent's process, which locks itself while init puts its own filter on; it goes on
/// to execve only when both are in force. The pid of the agent is returned, and the descriptor
/// that signals come from.
pub fn start(room: &mut Room) -> Result<(i32, sys::Fd), Failure> {
    let pipe = sys::pipe().at("pipe2").during(Step::FORK)?;
    let pid = sys::fork().at("clone").during(Step::FORK)?;
    if pid == 0 {
        let failure = match become_agent(room, pipe) {
            Err(failure) => failure,
            Ok(()) => Failure { step: Step::EXEC, error: exec(room) },
        };
        report::send(room.report_fd, &failure);
        sys::exit(report::HARNESS_FAILED);
    }
    let signals = sys::signal_fd().at("signalfd4").during(Step::FORK)?;
    lock::own_side(room)?;
    let_go(room, pipe).during(Step::FORK)?;
    Ok((pid, signals))
}

/// Tells the agent's process to go on, and keeps only open what `reap` needs. With the report pipe
/// closed on both sides, by execve on the agent's, the shim knows that the agent was started.
fn let_go(room: &Room, (wait_end, go_end): (sys::Fd, sys::Fd)) -> Result<(), Error> {
    let program = room.orders.flags().contains(Flags::PROGRAM_FD).then_some(room.program_fd);
    let kept = room.orders.kept().map(|(at, _)| at);
    let mut done = [room.status_fd, wait_end].into_iter().chain(program).chain(kept);
    done.try_for_each(sys::close).at("close")?;
    sys::write(go_end, b"!").at("write(go)")?;
    // No return from here: the agent may be running. close(2) frees the number in any case.
    let _freed = (sys::close(go_end), sys::close(room.report_fd));
    Ok(())
}

/// The child's side: the last locks, and the word of init.
fn become_agent(room: &mut Room, pipe: (sys::Fd, sys::Fd)) -> Result<(), Failure> {
    sys::close(pipe.1).at("close").during(Step::FORK)?;
    lock::agent_side(room)?;
    wait_for(pipe.0).during(Step::FORK)?;
    process::place_kept(room).during(Step::KEEP)?;
    report::ready(room.report_fd).at("write(report)").during(Step::FORK).map(drop)
}

fn wait_for(wait_end: sys::Fd) -> Result<(), Error> {
    let mut go = [0; 1];
    if sys::read(wait_end, &mut go).at("read(go)")? != 1 {
        sys::exit(report::HARNESS_FAILED); // init has failed and said so
    }
    Ok(())
}

/// Tries the candidates as execvp(3) does: the next one if this one is not there or may not be
/// run. Returns only when all have failed: the error of the first that was there, else of the last.
fn exec(room: &Room) -> Error {
    let (argv, envp) = (room.orders.argv(), room.orders.envp());
    if room.orders.flags().contains(Flags::PROGRAM_FD) {
        return failed("execveat(program)", b"", sys::execve_fd(room.program_fd, argv, envp));
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
