//! A started room, from the outside: signals go in, its end comes out.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use agent_init::error::Step;
use agent_init::reap;

use crate::error::{At, Failure};
use crate::limits::InForce;
use crate::sys::{self, End, Usage};

/// A room whose agent was started. Dropped before it has ended, the room is ended.
#[derive(Debug)]
pub struct Child {
    /// Our end of the agent's standard input, where it is [`crate::Stdio::Piped`].
    pub stdin: Option<OwnedFd>,
    /// The same of its standard output.
    pub stdout: Option<OwnedFd>,
    /// The same of its standard error.
    pub stderr: Option<OwnedFd>,
    /// The other side of its terminal, if it has one.
    pub terminal: Option<OwnedFd>,
    pid: i32,
    pidfd: OwnedFd,
    record: OwnedFd,
    since: Instant,
    end: Option<Ended>,
    // Dropped after the room has been ended.
    in_force: InForce,
}

/// How a room has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The agent's own end, as init has seen it; of init, if that was ended from outside.
    pub agent: End,
    /// Processes that outlived the agent, and were ended.
    pub left: u32,
    /// From the return of clone3 to the end of the room.
    pub wall: Duration,
    /// What the room has used.
    pub usage: Usage,
}

/// What is known of the end of a room.
#[derive(Debug)]
struct Ended {
    init: End,
    record: Option<reap::End>,
    wall: Duration,
    usage: Usage,
}

impl Child {
    pub(crate) fn new(pid: i32, pidfd: OwnedFd, record: OwnedFd, in_force: InForce) -> Child {
        Child {
            stdin: None,
            stdout: None,
            stderr: None,
            terminal: None,
            pid,
            pidfd,
            record,
            since: Instant::now(),
            end: None,
            in_force,
        }
    }

    /// The agent was started.
    pub(crate) fn has_started(&mut self) {
        self.in_force.started(self.pid);
    }

    /// What limits it, and, after its end, what it ran into.
    pub fn limits(&self) -> &InForce {
        &self.in_force
    }

    /// A descriptor of PID 1 of the room, for poll(2) and pidfd_send_signal(2).
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Its number among the caller's processes.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// When clone3 returned.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Sends a signal to init, which passes it on to the agent's process group. A room that has
    /// ended takes it as well.
    pub fn signal(&self, signal: i32) {
        let _ended = sys::send_signal(self.pidfd(), signal);
    }

    /// Ends the room at once: SIGKILL to its PID 1, and the kernel ends the rest.
    pub fn kill(&self) {
        self.signal(libc::SIGKILL);
    }

    /// Waits for the end of the room and reaps it. Its standard input ends first, if it is a pipe
    /// of ours. The status is init's, which is the agent's as a shell gives it: see
    /// [`Child::status`].
    pub fn wait(&mut self) -> Result<End, Failure> {
        if let Some(ended) = &self.end {
            return Ok(ended.init);
        }
        drop(self.stdin.take());
        let (init, mut usage) = sys::wait(self.pidfd()).at(Step::WAIT, "waitid", "the room")?;
        self.in_force.ended();
        // Of the room together, where it is counted.
        usage.peak_memory = self.in_force.peak_memory().unwrap_or(usage.peak_memory);
        self.end = Some(Ended { init, record: self.record(), wall: self.since.elapsed(), usage });
        Ok(init)
    }

    /// How the room has ended: there after [`Child::wait`].
    pub fn status(&self) -> Option<Status> {
        let Ended { init, record, wall, usage } = self.end.as_ref()?;
        let agent = record.map_or(*init, |record| End::of_status(record.status));
        let left = record.map_or(0, |record| record.left);
        Some(Status { agent, left, wall: *wall, usage: *usage })
    }

    /// What init wrote of the end; there after [`Child::wait`], unless init was ended from outside.
    pub fn end_record(&self) -> Option<reap::End> {
        self.end.as_ref()?.record
    }

    /// What init has written of the end.
    fn record(&self) -> Option<reap::End> {
        let mut bytes = [0; reap::End::SIZE];
        sys::wait_readable(&[self.record.as_fd()], 0).ok()??;
        let len = sys::read(self.record.as_raw_fd(), &mut bytes).ok()?;
        (len == bytes.len()).then_some(reap::End::from_bytes(bytes))
    }

    /// Waits at most `limit`; `None` if it is still there then.
    pub fn wait_for(&mut self, limit: Duration) -> Result<Option<End>, Failure> {
        let deadline = Instant::now() + limit;
        loop {
            let ms = sys::ms_until(Some(deadline));
            let ended = sys::wait_readable(&[self.pidfd()], ms);
            if ended.at(Step::WAIT, "poll", "the room")?.is_some() {
                return self.wait().map(Some);
            }
            if ms == 0 {
                return Ok(None);
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.end.is_none() {
            self.kill();
            let _ended = sys::wait(self.pidfd());
        }
    }
}
