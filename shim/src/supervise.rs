//! A started room, from the outside: signals go in, its end comes out.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use agent_init::error::Step;
use agent_init::reap;

use crate::error::{At, Failure};
use crate::sys::{self, End};

/// A room whose agent was started. Dropped before it has ended, the room is ended.
#[derive(Debug)]
pub struct Child {
    pidfd: OwnedFd,
    record: OwnedFd,
    end: Option<End>,
}

impl Child {
    pub(crate) fn new(pidfd: OwnedFd, record: OwnedFd) -> Child {
        Child { pidfd, record, end: None }
    }

    /// A descriptor of PID 1 of the room, for poll(2) and pidfd_send_signal(2).
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Sends a signal to init, which passes it on to the agent's process group. A room that has
    /// ended takes it as well.
    pub fn signal(&self, signal: i32) {
        let _ended = sys::send_signal(self.pidfd(), signal);
    }

    /// Waits for the end of the room and reaps it.
    pub fn wait(&mut self) -> Result<End, Failure> {
        if let Some(end) = self.end {
            return Ok(end);
        }
        let end = sys::wait(self.pidfd()).at(Step::WAIT, "waitid", "the room")?;
        self.end = Some(end);
        Ok(end)
    }

    /// What init wrote of the end: the agent's own status, and how many processes it left. There is
    /// one after [`Child::wait`], once, unless init was ended from outside.
    pub fn end_record(&self) -> Option<reap::End> {
        let mut bytes = [0; reap::End::SIZE];
        sys::wait_readable(&[self.record.as_fd()], 0).ok()??;
        let len = sys::read(self.record.as_raw_fd(), &mut bytes).ok()?;
        (len == bytes.len()).then_some(reap::End::from_bytes(bytes))
    }

    /// Waits at most `limit`; `None` if it is still there then.
    pub fn wait_for(&mut self, limit: Duration) -> Result<Option<End>, Failure> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let ms = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
            if self.poll(&[], ms)?.is_some() {
                return self.wait().map(Some);
            }
            if left.is_zero() {
                return Ok(None);
            }
        }
    }

    /// Waits for the end of the room and passes on what `signals`, a signalfd, receives.
    pub fn wait_forwarding(&mut self, signals: BorrowedFd) -> Result<End, Failure> {
        loop {
            match self.poll(&[signals], -1)? {
                Some(0) => return self.wait(),
                Some(_) => {
                    let signal = sys::next_signal(signals).at(Step::WAIT, "read", "signalfd")?;
                    self.signal(signal);
                    if signal == libc::SIGTSTP {
                        // Ctrl-Z: the agent stops, and so do we, for the caller's shell to see.
                        sys::stop_self();
                    }
                }
                None => {}
            }
        }
    }

    fn poll(&self, more: &[BorrowedFd], ms: i32) -> Result<Option<usize>, Failure> {
        let fds: Vec<_> = std::iter::once(self.pidfd()).chain(more.iter().copied()).collect();
        sys::wait_readable(&fds, ms).at(Step::WAIT, "poll", "the room")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.end.is_none() {
            self.signal(libc::SIGKILL);
            let _ended = sys::wait(self.pidfd());
        }
    }
}
