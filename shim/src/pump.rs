//! What the caller's standard streams and the room's pipes say to each other. The agent never has
//! the caller's own files: it could change their mode and times, or reach a terminal of the host.
//! pipe(7), poll(2).

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use agent_init::error::{Errno, Step};

use crate::error::{At, Failure};
use crate::sys;

/// Bytes that a pump holds at most: what a pipe does. A slow reader slows the agent down.
const BUFFER: usize = 64 << 10;
/// PIPE_BUF: a pipe that poll(2) calls writable takes this much without waiting.
const ATOMIC: usize = 4096;

/// No reader is left. errno(3).
pub const EPIPE: Errno = Errno(32);
/// Of a pseudo terminal: nobody has the other side. ioctl_tty(2).
const EIO: Errno = Errno(5);
/// Of a socket: likewise.
const ECONNRESET: Errno = Errno(104);

/// How a descriptor is read and written, so that it never waits: others may share it, so that
/// O_NONBLOCK is not ours to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A regular file or block device: it is always ready.
    File,
    /// Ours alone, with O_NONBLOCK.
    Own,
    /// MSG_DONTWAIT.
    Socket,
    /// Shared: poll(2) first, and little at a time.
    Shared,
}

/// One end of a pump.
#[derive(Debug)]
pub struct Side {
    fd: OwnedFd,
    way: Way,
}

impl Side {
    /// An end that is ours alone: of a pipe to the room, or the pseudo terminal of one.
    pub fn own(fd: OwnedFd) -> Result<Side, Failure> {
        sys::set_nonblocking(fd.as_fd()).at(Step::STDIO, "fcntl", "O_NONBLOCK")?;
        Ok(Side { fd, way: Way::Own })
    }

    /// One of the caller's. Where it can be, it is opened anew: then O_NONBLOCK is ours.
    pub fn of_caller(fd: OwnedFd, name: &str) -> Result<Side, Failure> {
        let kind = sys::file_type(fd.as_raw_fd()).at(Step::STDIO, "fstat", name)?;
        if sys::is_path_only(fd.as_raw_fd()) != Ok(false) {
            return Err(Errno::EBADF).at(Step::STDIO, "O_PATH", name);
        }
        let way = match kind {
            libc::S_IFREG | libc::S_IFBLK => Way::File,
            libc::S_IFSOCK => Way::Socket,
            libc::S_IFIFO | libc::S_IFCHR => return Ok(Side::anew(fd)),
            libc::S_IFDIR => return Err(Errno::EISDIR).at(Step::STDIO, "fstat", name),
            // Neither read nor written as a stream: epoll and its like.
            _ => return Err(Errno::EBADF).at(Step::STDIO, "fstat", name),
        };
        Ok(Side { fd, way })
    }

    fn anew(fd: OwnedFd) -> Side {
        let how = libc::O_NONBLOCK | libc::O_NOCTTY;
        match reopened(&fd, how) {
            Some(own) => Side { fd: own, way: Way::Own },
            None => Side { fd, way: Way::Shared },
        }
    }

    /// Its number, for poll(2).
    pub fn number(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn ready(&self, events: i16) -> bool {
        let mut poll = [libc::pollfd { fd: self.fd.as_raw_fd(), events, revents: 0 }];
        sys::poll(&mut poll, 0).is_ok() && poll[0].revents != 0
    }

    /// EAGAIN: nothing is there now. 0: nothing ever will be.
    pub fn read(&self, to: &mut [u8]) -> Result<usize, Errno> {
        let fd = self.fd.as_raw_fd();
        let got = match self.way {
            Way::File | Way::Own => sys::read(fd, to),
            Way::Socket => sys::receive(fd, to),
            Way::Shared if self.ready(libc::POLLIN) => sys::read(fd, to),
            Way::Shared => Err(Errno::EAGAIN),
        };
        match got {
            Err(EIO | ECONNRESET) => Ok(0),
            other => other,
        }
    }

    /// EAGAIN: nothing fits now.
    pub fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let fd = self.fd.as_raw_fd();
        let few = bytes.get(..ATOMIC).unwrap_or(bytes);
        match self.way {
            Way::File | Way::Own => sys::write(fd, bytes),
            Way::Socket => sys::send(fd, bytes),
            Way::Shared if self.ready(libc::POLLOUT) => sys::write(fd, few),
            Way::Shared => Err(Errno::EAGAIN),
        }
    }
}

/// The same file in a description of our own, opened as `fd` was.
fn reopened(fd: &OwnedFd, flags: i32) -> Option<OwnedFd> {
    let access = sys::open_flags(fd.as_raw_fd()).ok()? & libc::O_ACCMODE;
    sys::open_again(fd.as_raw_fd(), access | flags).ok().map(sys::own)
}

/// What a pump waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Something to read.
    Source,
    /// Place to write.
    Sink,
    /// Nothing more: both ends are closed.
    Nothing,
}

/// One direction: what is read from one side is written to the other.
#[derive(Debug)]
pub struct Pump {
    from: Option<Side>,
    to: Option<Side>,
    buffer: Vec<u8>,
    // What is held is `buffer[start..end]`.
    start: usize,
    end: usize,
    waits: Wait,
    /// Written when the source has ended: to a terminal, what means that.
    last_words: Vec<u8>,
    /// The source ended by itself.
    ended: bool,
    /// Why the sink takes no more, if that is neither its end nor the reader's.
    failed: Option<Errno>,
}

/// What a pump may still pass on. Several share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Bytes; `None`: all.
    pub left: Option<u64>,
    /// More was there.
    pub is_over: bool,
}

impl Allowance {
    /// Everything may pass.
    pub const ALL: Allowance = Allowance { left: None, is_over: false };

    /// At most `limit` bytes.
    pub fn of(limit: Option<u64>) -> Allowance {
        Allowance { left: limit, is_over: false }
    }

    /// What of `count` bytes may pass.
    fn take(&mut self, count: usize) -> usize {
        let Some(left) = &mut self.left else { return count };
        let allowed = count.min(usize::try_from(*left).unwrap_or(usize::MAX));
        *left -= allowed as u64;
        self.is_over |= allowed < count;
        allowed
    }
}

impl Pump {
    /// Nothing has been read yet.
    pub fn new(from: Side, to: Side) -> Pump {
        Pump {
            from: Some(from),
            to: Some(to),
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            waits: Wait::Source,
            last_words: Vec::new(),
            ended: false,
            failed: None,
        }
    }

    /// The same to a terminal: a source that ends is its `end`, twice if a line was begun.
    pub fn to_terminal(self, end: Option<u8>) -> Pump {
        Pump { last_words: end.into_iter().collect(), ..self }
    }

    /// What poll(2) is to wait for; -1: nothing. A sink that nothing is to be written to is not
    /// looked at: its reader may go, as long as the agent says nothing.
    pub fn poll(&self) -> libc::pollfd {
        let (side, events) = match self.waits {
            Wait::Source => (&self.from, libc::POLLIN),
            Wait::Sink => (&self.to, libc::POLLOUT),
            Wait::Nothing => (&None, 0),
        };
        let fd = side.as_ref().map_or(-1, |side| side.fd.as_raw_fd());
        libc::pollfd { fd, events, revents: 0 }
    }

    /// Nothing more will pass.
    pub fn is_done(&self) -> bool {
        self.waits == Wait::Nothing
    }

    /// The source has ended by itself, and all of it has been passed on.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Why the sink failed, if it was not its reader that went.
    pub fn failure(&self) -> Option<Errno> {
        self.failed
    }

    /// Nothing was there to be read, and nothing is held.
    pub fn is_empty(&self) -> bool {
        self.waits != Wait::Sink
    }

    /// Passes on what is there, in at most `rounds` reads and writes, as other events wait. How many
    /// it took.
    pub fn pass(&mut self, rounds: usize, allowance: &mut Allowance) -> usize {
        (0..rounds).take_while(|_| self.step(allowance)).count()
    }

    /// One read, or one write. `false`: it has to wait.
    fn step(&mut self, allowance: &mut Allowance) -> bool {
        match self.waits {
            Wait::Source => self.fill(allowance),
            Wait::Sink => self.empty(),
            Wait::Nothing => false,
        }
    }

    fn fill(&mut self, allowance: &mut Allowance) -> bool {
        let Some(from) = &self.from else {
            self.close();
            return false;
        };
        match from.read(&mut self.buffer) {
            Err(Errno::EAGAIN) => return false,
            Ok(0) => self.end_of_source(),
            Ok(count) => {
                (self.start, self.end) = (0, allowance.take(count));
                self.waits = if self.end > 0 { Wait::Sink } else { Wait::Source };
            }
            Err(errno) => {
                self.failed = Some(errno);
                self.close();
            }
        }
        !allowance.is_over || self.waits == Wait::Sink
    }

    fn end_of_source(&mut self) {
        self.ended = true;
        let begun = self.end > 0 && self.buffer.get(self.end - 1) != Some(&b'\n');
        let words = std::mem::take(&mut self.last_words).repeat(if begun { 2 } else { 1 });
        if words.is_empty() {
            return self.close();
        }
        (self.start, self.end, self.from) = (0, words.len(), None);
        self.buffer = words; // nothing more is read into it
        self.waits = Wait::Sink;
    }

    fn empty(&mut self) -> bool {
        let held = self.buffer.get(self.start..self.end).unwrap_or(&[]);
        let Some(to) = &self.to else { return false };
        match to.write(held) {
            Err(Errno::EAGAIN) => return false,
            Ok(0) => self.fail(Errno::ENOSPC),
            Ok(count) => self.start += count,
            // Its reader has gone. With the source closed, who writes there learns the same.
            Err(EPIPE | EIO | ECONNRESET) => self.close(),
            Err(errno) => self.fail(errno),
        }
        if self.waits == Wait::Sink && self.start >= self.end {
            self.waits = Wait::Source;
        }
        true
    }

    fn fail(&mut self, errno: Errno) {
        self.failed = Some(errno);
        self.close();
    }

    /// Closes both sides: the reader sees the end, the writer has no reader.
    pub fn close(&mut self) {
        (self.from, self.to, self.waits) = (None, None, Wait::Nothing);
    }
}
