//! Descriptors 0, 1 and 2 of the agent, as std::process has them.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use agent_init::error::{Errno, Step};

use crate::error::{At, Failure, errno_of};
use crate::pin::{self, OUT_OF_REACH};
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
    /// Which of the agent's are /dev/null.
    pub nulls: [bool; 3],
}

impl Ends {
    /// Makes them; those of the agent at numbers past `last`, and pipes as its own, if it has
    /// another id than the caller: else `/dev/stdout` could not be opened.
    pub fn of(stdio: &[Stdio; 3], last: RawFd, owner: Option<(u32, u32)>) -> Result<Ends, Failure> {
        let mut ends = Ends::default();
        for (n, stdio) in stdio.iter().enumerate() {
            let (agents, ours) = match stdio {
                Stdio::Inherit => (None, None),
                Stdio::Null => (Some(past(null()?.as_fd(), last)?), None),
                Stdio::Fd(fd) => (Some(past(fd.as_fd(), last)?), None),
                Stdio::Output => (Some(ends.output(last)?), None),
                Stdio::Piped => {
                    let (read, write) = sys::pipe().at(Step::STDIO, "pipe2", "")?;
                    if n == 0 {
                        // What the agent wrote there would come back to it, or find no place.
                        sys::allow(read.as_fd(), 0o400).at(Step::STDIO, "fchmod", "a pipe")?;
                    }
                    match owner.map(|ids| sys::give(read.as_fd(), ids)) {
                        // Root without CAP_CHOWN: the agent has it open, and that is all.
                        None | Some(Ok(()) | Err(Errno::EPERM)) => {}
                        Some(other) => other.at(Step::STDIO, "fchown", "a pipe")?,
                    }
                    let (agents, ours) = if n == 0 { (read, write) } else { (write, read) };
                    (Some(past(agents.as_fd(), last)?), Some(ours))
                }
            };
            let is_null = match stdio {
                Stdio::Output => ends.nulls[1],
                other => matches!(other, Stdio::Null),
            };
            if let (Some(to), Some(our), Some(null)) =
                (ends.agents.get_mut(n), ends.ours.get_mut(n), ends.nulls.get_mut(n))
            {
                (*to, *our, *null) = (agents, ours, is_null);
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

/// In the child, before it leaves the host's root: /dev/null is opened on a mount of its own that is
/// read-only, in the place of what is there. Its mode, owner and times are then out of reach. `pinned`:
/// that mount, where the room has it too; a mount that ends with its descriptor costs more than all this.
pub fn out_of_reach(
    agents: &[Option<OwnedFd>; 3],
    nulls: [bool; 3],
    pinned: Option<RawFd>,
) -> Result<(), Failure> {
    const NAME: &CStr = c"/dev/null";
    let name = NAME.to_bytes();
    let tree = pinned.map_or_else(|| pin::device(NAME, 1, 3), Ok)?;
    let null = sys::open_again(tree, libc::O_RDWR).at(Step::STDIO, "open", name)?;
    for agents in
        agents.iter().zip(nulls).filter_map(|(fd, is_null)| fd.as_ref().filter(|_| is_null))
    {
        let number = agents.as_raw_fd();
        sys::replace(null, number).at(Step::STDIO, "dup3", name)?;
        let device = sys::file_id(number).at(Step::STDIO, "fstat", name)?.device;
        let flags = sys::mount_flags(number).at(Step::STDIO, "fstatvfs", name)?;
        if device != Some((1, 3)) || flags & OUT_OF_REACH != OUT_OF_REACH {
            return Err(Failure::not_in_force(Step::STDIO, name));
        }
    }
    sys::close(null).at(Step::STDIO, "close", name)
}

/// /dev/null, of the host.
pub fn null() -> Result<OwnedFd, Failure> {
    let null = File::options().read(true).write(true).open("/dev/null");
    null.map(OwnedFd::from)
        .map_err(|e| Failure::new(Step::STDIO, "open", "/dev/null", errno_of(&e)))
}
