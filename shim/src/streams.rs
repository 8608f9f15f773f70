//! The caller's standard streams, and how the agent is connected with them. The agent never has
//! the caller's own files: it could change their mode and times, or use a terminal of the host.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use agent_init::error::Step;
use agent_probe::sys::stdout_was_closed;

use crate::error::{At, Failure};
use crate::lent::{Lent, Source};
use crate::pump::{Allowance, Pump, Side};
use crate::supervise::{Input, Streams};
use crate::tty::{Outer, Setup};
use crate::{Child, Sandbox, Stdio, stdio, sys};

/// How much of the agent's standard output and error is pumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// Both.
    All,
    /// One: the other is /dev/null.
    One,
    /// None: both are.
    Nothing,
}

/// What the caller has at 0, 1 and 2, as far as it is pumped.
#[derive(Debug)]
pub struct Caller {
    input: Option<Given>,
    output: Option<Side>,
    error: Option<Side>,
    sees: Sees,
    outer: Option<Outer>,
    /// What means the end of input to the room's terminal.
    end: Option<u8>,
}

/// Where the agent's standard input comes from.
#[derive(Debug)]
enum Given {
    /// What it does not read stays the caller's.
    Source(Source),
    /// Of a terminal, a datagram socket and their like, what comes is read.
    Side(Side),
}

impl Caller {
    /// Takes standard input and output, and says what the agent has in their place. `counted`: all
    /// that is said passes here, even what nobody reads.
    pub fn connect(
        sandbox: Sandbox,
        terminal: bool,
        counted: bool,
    ) -> Result<(Sandbox, Caller), Failure> {
        let input = take(0, "standard input")?;
        let output = match stdout_was_closed() {
            true => unwritable()?,
            false => take(1, "standard output")?,
        };
        match terminal {
            true => Caller::with_terminal(sandbox, input, output),
            false => Caller::with_pipes(sandbox, input, output, counted),
        }
    }

    /// How much of what the agent says passes here, and so can be counted.
    pub fn sees(&self) -> Sees {
        self.sees
    }

    /// The terminal is that of standard input; without one, that of standard output.
    fn with_terminal(
        sandbox: Sandbox,
        input: OwnedFd,
        output: OwnedFd,
    ) -> Result<(Sandbox, Caller), Failure> {
        let setup = match Setup::like(input.as_raw_fd()) {
            Setup { size: None, .. } => Setup::like(output.as_raw_fd()),
            setup => setup,
        };
        let outer = sys::dup_high(input.as_fd()).at(Step::TERMINAL, "fcntl", "")?;
        let outer = Outer::of(outer);
        outer.iter().for_each(Outer::restore_on_panic);
        // A terminal that ends has hung up; of anything else, the agent is to read the end.
        let end = if outer.is_some() { None } else { Some(END_OF_INPUT) };
        let caller = Caller {
            input: Some(Given::Side(Side::of_caller(input, "standard input")?)),
            output: Some(Side::of_caller(output, "standard output")?),
            error: None,
            sees: Sees::All,
            outer,
            end,
        };
        Ok((sandbox.terminal(setup), caller))
    }

    fn with_pipes(
        mut sandbox: Sandbox,
        input: OwnedFd,
        output: OwnedFd,
        counted: bool,
    ) -> Result<(Sandbox, Caller), Failure> {
        let error = sys::borrow(2).and_then(sys::dup_high);
        let error = error.at(Step::STDIO, "fcntl", "standard error")?;
        let is_one = is_same(&output, &error);
        let mut caller = Caller {
            input: None,
            output: None,
            error: None,
            sees: Sees::All,
            outer: None,
            end: None,
        };
        sandbox = sandbox.stdio(0, if is_null(&input) { Stdio::Null } else { Stdio::Piped });
        // What cannot be read has ended.
        if !is_null(&input) && is_more_than(libc::O_WRONLY, &input) {
            caller.input = Some(match Source::of(input) {
                Ok(source) => Given::Source(source),
                Err(fd) => Given::Side(Side::of_caller(fd, "standard input")?),
            });
        }
        (sandbox, caller.output) = piped(sandbox, 1, output, "standard output", counted)?;
        let mut seen = [caller.output.is_some(); 2];
        if is_one {
            sandbox = sandbox.stdio(2, Stdio::Output);
        } else {
            (sandbox, caller.error) = piped(sandbox, 2, error, "standard error", counted)?;
            seen[1] = caller.error.is_some();
        }
        caller.sees = match seen {
            [true, true] => Sees::All,
            [false, false] => Sees::Nothing,
            _ => Sees::One,
        };
        Ok((sandbox, caller))
    }

    /// The pumps, once there is a room. `limit`: bytes of output.
    pub fn streams(
        self,
        child: &mut Child,
        limit: Option<u64>,
    ) -> Result<(Streams, Option<Outer>), Failure> {
        let terminal = || match &child.terminal {
            Some(terminal) => sys::dup_high(terminal.as_fd()).map(Some),
            None => Ok(None),
        };
        let (in_end, out_end) = (terminal(), terminal());
        let at = |end: Result<_, _>| end.at(Step::TERMINAL, "fcntl", "F_DUPFD_CLOEXEC");
        let feed = at(in_end)?.or(child.stdin.take());
        let stdout = at(out_end)?.or(child.stdout.take());
        let input = match (self.input, feed) {
            (Some(from), Some(to)) => Some(from.to(to, self.end)?),
            _ => None,
        };
        let mut output = Vec::new();
        for (from, to) in [(stdout, self.output), (child.stderr.take(), self.error)] {
            if let (Some(from), Some(to)) = (from, to) {
                output.push(Pump::new(Side::own(from)?, to));
            }
        }
        Ok((Streams { input, output, allowance: Allowance::of(limit) }, self.outer))
    }
}

impl Given {
    /// `end`: what means the end of input to a terminal.
    fn to(self, to: OwnedFd, end: Option<u8>) -> Result<Input, Failure> {
        let (side, to) = match self {
            Given::Side(side) => (side, to),
            Given::Source(source) => match Lent::of(source, to) {
                Ok(lent) => return Ok(Input::Lent(lent)),
                Err((source, to)) => (Side::of_caller(source.into_fd(), "standard input")?, to),
            },
        };
        Ok(Input::Pumped(Pump::new(side, Side::own(to)?).to_terminal(end)))
    }
}

/// Ctrl-D: VEOF of a new terminal. termios(3).
const END_OF_INPUT: u8 = 4;

/// A pipe in the place of `fd`, which is pumped to; /dev/null in the place of /dev/null, unless it
/// is `counted`.
fn piped(
    sandbox: Sandbox,
    number: usize,
    fd: OwnedFd,
    name: &str,
    counted: bool,
) -> Result<(Sandbox, Option<Side>), Failure> {
    if !counted && is_null(&fd) && can_be_written(&fd) {
        return Ok((sandbox.stdio(number, Stdio::Null), None));
    }
    Ok((sandbox.stdio(number, Stdio::Piped), Some(Side::of_caller(fd, name)?)))
}

/// Takes one of the caller's: its number is /dev/null from now on, so that what the pump closes is
/// closed.
fn take(number: RawFd, name: &str) -> Result<OwnedFd, Failure> {
    let fd = sys::borrow(number).and_then(sys::dup_high);
    let fd = fd.at(Step::STDIO, "fcntl", name)?;
    sys::dup_to(stdio::null()?.as_raw_fd(), number).at(Step::STDIO, "dup2", name)?;
    Ok(fd)
}

/// In the place of a standard output that was closed: what is written there is an error, as it is
/// without a room. std has /dev/null there, where it would be lost.
fn unwritable() -> Result<OwnedFd, Failure> {
    let fd = sys::open(c"/dev/null", libc::O_RDONLY).map(sys::own);
    fd.at(Step::STDIO, "open", "/dev/null")
}

fn is_null(fd: &OwnedFd) -> bool {
    let number = fd.as_raw_fd();
    let device = sys::file_id(number).ok().and_then(|id| id.device);
    device == Some((1, 3)) && sys::is_path_only(number) == Ok(false)
}

/// Whether both are one file, terminal or pipe: `2>&1`. One pipe for both then, so that what is
/// written comes out in order.
fn is_same(a: &OwnedFd, b: &OwnedFd) -> bool {
    let inode = |fd: &OwnedFd| sys::file_id(fd.as_raw_fd()).map(|id| id.inode);
    let is_one = matches!((inode(a), inode(b)), (Ok(a), Ok(b)) if a == b);
    is_one && can_be_written(a) && can_be_written(b)
}

fn can_be_written(fd: &OwnedFd) -> bool {
    is_more_than(libc::O_RDONLY, fd)
}

/// As it was opened: open(2).
fn is_more_than(access: i32, fd: &OwnedFd) -> bool {
    sys::open_flags(fd.as_raw_fd()).is_ok_and(|flags| flags & libc::O_ACCMODE != access)
}
