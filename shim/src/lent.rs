//! Standard input of the caller's, lent to the room: what the room has read is taken from the
//! caller, and nothing else.
//!
//! The bytes stay where they are, and are shown to the room in a pipe of its own: by tee(2) of a
//! pipe, MSG_PEEK of a socket, pread(2) of a file. That pipe has as many slots as are filled, so
//! poll(2) calls it writable only once the room has emptied one. Then what has gone from it is
//! discarded at the source, the rest is taken back, and shown again with what has come since.
//! pipe(7), splice(2), recv(2).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use agent_init::error::Errno;

use crate::stdio;
use crate::sys;

/// Bytes that are shown at once, at most.
const AT_ONCE: usize = 64 << 10;

/// What bytes can be looked at in without being taken.
#[derive(Debug)]
pub struct Source {
    /// Whoever shares it has the same place in it.
    fd: OwnedFd,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Without a name, or a FIFO.
    Pipe,
    /// SOCK_STREAM.
    Socket,
    /// Whatever has an offset.
    File,
}

impl Source {
    /// `Err`: it can only be read.
    pub fn of(fd: OwnedFd) -> Result<Source, OwnedFd> {
        let number = fd.as_raw_fd();
        let kind = match sys::file_type(number) {
            // Of no bytes: whether the filter of an outer container lets it pass.
            Ok(libc::S_IFIFO) if sys::tee(number, number, 0).is_ok() => Kind::Pipe,
            Ok(libc::S_IFSOCK) if sys::is_stream(number) => Kind::Socket,
            Ok(libc::S_IFREG | libc::S_IFBLK) if sys::offset(number).is_ok() => Kind::File,
            _ => return Err(fd),
        };
        Ok(Source { fd, kind })
    }

    /// As it was.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Takes what the room has read. `from`: where it was read from, of a file.
    fn discard(&self, mut count: usize, from: i64, null: &OwnedFd, buffer: &mut [u8]) {
        let fd = self.fd.as_raw_fd();
        if self.kind == Kind::File {
            // Whoever shares the place may be further by now.
            let to = from.saturating_add(i64::try_from(count).unwrap_or(i64::MAX));
            if sys::offset(fd).is_ok_and(|at| at < to) {
                let _moved = sys::set_offset(fd, to);
            }
            return;
        }
        while count > 0 {
            let most = count.min(buffer.len());
            let gone = match self.kind {
                Kind::Pipe => sys::splice(fd, null.as_raw_fd(), count),
                Kind::Socket => sys::receive(fd, buffer.get_mut(..most).unwrap_or_default()),
                Kind::File => return,
            };
            match gone {
                Ok(gone) if gone > 0 => count = count.saturating_sub(gone),
                _ => return, // whoever shares it has read it meanwhile
            }
        }
    }
}

/// A source, and the room's pipe that it is shown in. Dropped, what is left is the caller's again.
#[derive(Debug)]
pub struct Lent {
    source: Source,
    /// Our end. Of the other nothing is held here: when the room has closed it, we are told.
    room: OwnedFd,
    null: OwnedFd,
    buffer: Vec<u8>,
    /// Bytes in the room's pipe that the caller still has as well.
    ahead: usize,
    /// Where in a file they begin.
    from: i64,
    /// Slots that may be filled: a power of two.
    most: usize,
}

impl Lent {
    /// `Err`: nothing can be taken back from the room's pipe here.
    pub fn of(source: Source, room: OwnedFd) -> Result<Lent, (Source, OwnedFd)> {
        let can_take_back = reader(&room).is_ok() && sys::set_nonblocking(room.as_fd()).is_ok();
        match stdio::null() {
            Ok(null) if can_take_back => {
                let buffer = if source.kind == Kind::Pipe { 0 } else { AT_ONCE };
                let buffer = vec![0; buffer.max(sys::page_size())];
                Ok(Lent { source, room, null, buffer, ahead: 0, from: 0, most: most() })
            }
            _ => Err((source, room)),
        }
    }

    /// What poll(2) is to wait for, at the source and at the room's pipe; -1: nothing. That the room
    /// has closed its end is always told.
    pub fn polls(&self) -> [libc::pollfd; 2] {
        let (source, events) = match self.ahead {
            0 => (self.source.fd.as_raw_fd(), 0),
            _ => (-1, libc::POLLOUT),
        };
        [
            libc::pollfd { fd: source, events: libc::POLLIN, revents: 0 },
            libc::pollfd { fd: self.room.as_raw_fd(), events, revents: 0 },
        ]
    }

    /// After one of them. `false`: nothing more will come, or nobody reads.
    pub fn pass(&mut self, is_room_ready: bool) -> bool {
        if is_room_ready && self.ahead == 0 {
            return false;
        }
        self.settle();
        if self.ahead > 0 {
            return true; // it could not be taken back
        }
        match self.show() {
            Ok(0) => false,
            Ok(count) => {
                self.ahead = count;
                true
            }
            Err(errno) => errno == Errno::EAGAIN,
        }
    }

    /// Empties the room's pipe, and takes from the caller what the room has read. The room can write
    /// into its pipe, too: it has read less then.
    fn settle(&mut self) {
        let Ok(there) = sys::waiting(self.room.as_raw_fd()) else { return };
        let (left, stays) = match there {
            0 => (0, 0),
            _ => self.take_back().map_or((there, there), |left| (left, 0)),
        };
        let gone = self.ahead.saturating_sub(left);
        // It was writable though nothing had been read, so there was a slot more than were filled.
        self.most = if gone == 0 && self.ahead > 0 { 1 } else { most() };
        self.ahead = self.ahead.min(stays);
        self.source.discard(gone, self.from, &self.null, &mut self.buffer);
    }

    /// What the room has not read. One splice(2) takes all of it, unless a signal cuts it short.
    fn take_back(&self) -> Result<usize, Errno> {
        let end = reader(&self.room)?;
        let mut left = 0;
        for _ in 0..MOST_CUTS {
            match sys::splice(end.as_raw_fd(), self.null.as_raw_fd(), EVERYTHING) {
                Ok(0) | Err(Errno::EAGAIN) => break,
                Ok(count) => left += count,
                Err(Errno::EINTR) => {}
                Err(errno) if left == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(left)
    }

    /// Fills the room's pipe. 0: the source has ended.
    fn show(&mut self) -> Result<usize, Errno> {
        let (source, room, page) =
            (self.source.fd.as_raw_fd(), self.room.as_raw_fd(), sys::page_size());
        let buffer = self.buffer.get_mut(..self.most * page).unwrap_or_default();
        let there = match self.source.kind {
            Kind::Pipe => sys::waiting(source),
            Kind::Socket => sys::peek(source, buffer),
            Kind::File => sys::offset(source).and_then(|at| {
                self.from = at;
                sys::read_at(source, buffer, at)
            }),
        }?;
        let slots = 1 << (there / page).clamp(1, self.most).ilog2();
        let _or_less = sys::set_pipe_size(room, slots * page);
        match self.source.kind {
            Kind::Pipe => sys::tee(source, room, slots * page),
            _ if there == 0 => Ok(0),
            _ => sys::write(room, buffer.get(..there.min(slots * page)).unwrap_or(buffer)),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.settle();
    }
}

/// Reads until the pipe is empty, at most: who writes into it without an end has read less.
const MOST_CUTS: usize = 16;

/// More than a pipe can hold.
const EVERYTHING: usize = 1 << 30;

/// As many slots as hold [`AT_ONCE`].
fn most() -> usize {
    (AT_ONCE / sys::page_size()).max(1)
}

/// The room's end of `pipe`, for a moment.
fn reader(pipe: &OwnedFd) -> Result<OwnedFd, Errno> {
    sys::open_again(pipe.as_raw_fd(), libc::O_RDONLY | libc::O_NONBLOCK).map(sys::own)
}
