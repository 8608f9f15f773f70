//! Descriptors 0, 1 and 2 of the agent, as std::process has them.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use agent_init::error::Step;

use crate::error::{At, Failure, errno_of};
use crate::sys;

/// What one of them is.
#[derive(Debug, Default)]
pub enum Stdio {
    /// The caller's: the agent can do with it what the caller can. A file's mode and times can be
    /// changed, a terminal be used.
    #[default]
    Inherit,
    /// /dev/null.
    Null,
    /// A pipe; [`crate::Child`] has its other end.
    Piped,
    /// Of standard error: what standard output is, so that the order of both is kept.
    Output,
    /// This. A directory or an O_PATH descriptor ends the launch.
    Fd(OwnedFd),
}

impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Stdio {
        Stdio::Fd(fd)
    }
}

/// Both ends of what was asked for.
#[derive(Debug, Default)]
pub struct Ends {
    /// The agent's, at numbers out of the way; `None`: what the caller has there.
    pub agents: [Option<OwnedFd>; 3],
    /// Ours, of pipes.
    pub ours: [Option<OwnedFd>; 3],
}

impl Ends {
    /// Makes them; those of the agent at numbers past `last`.
    pub fn of(stdio: &[Stdio; 3], last: RawFd) -> Result<Ends, Failure> {
        let mut ends = Ends::default();
        for (n, stdio) in stdio.iter().enumerate() {
            let (agents, ours) = match stdio {
                Stdio::Inherit => (None, None),
                Stdio::Null => (Some(past(null()?.as_fd(), last)?), None),
                Stdio::Fd(fd) => (Some(past(fd.as_fd(), last)?), None),
                Stdio::Output => (Some(ends.output(last)?), None),
                Stdio::Piped => {
                    let (read, write) = sys::pipe().at(Step::STDIO, "pipe2", "")?;
                    let (agents, ours) = if n == 0 { (read, write) } else { (write, read) };
                    (Some(past(agents.as_fd(), last)?), Some(ours))
                }
            };
            if let (Some(to), Some(our)) = (ends.agents.get_mut(n), ends.ours.get_mut(n)) {
                (*to, *our) = (agents, ours);
            }
        }
        Ok(ends)
    }

    /// Standard output of the agent once more.
    fn output(&self, last: RawFd) -> Result<OwnedFd, Failure> {
        match &self.agents[1] {
            Some(fd) => past(fd.as_fd(), last),
            None => past(sys::borrow(1).at(Step::STDIO, "fcntl", "standard output")?, last),
        }
    }
}

fn past(fd: BorrowedFd, last: RawFd) -> Result<OwnedFd, Failure> {
    sys::dup_past(fd, last).at(Step::STDIO, "fcntl", "F_DUPFD_CLOEXEC")
}

/// /dev/null, of the host.
pub fn null() -> Result<OwnedFd, Failure> {
    let null = File::options().read(true).write(true).open("/dev/null");
    null.map(OwnedFd::from)
        .map_err(|e| Failure::new(Step::STDIO, "open", "/dev/null", errno_of(&e)))
}
