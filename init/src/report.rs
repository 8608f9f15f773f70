//! What init says to the shim: "ready" just before execve, and a record of a failed step.

use crate::error::{Errno, Failure, Record, Step, Text};
use crate::sys;

/// The status of init when a step failed: DESIGN §8.
pub const HARNESS_FAILED: i32 = 125;

/// The record before execve: all is in force. The end of the pipe says that execve succeeded.
pub const READY: Record =
    Record { step: Step::EXEC, errno: Errno(0), call: Text::EMPTY, object: Text::EMPTY };

/// Writes [`READY`].
pub fn ready(pipe: sys::Fd) -> Result<usize, Errno> {
    sys::write(pipe, sys::record_bytes(&READY))
}

/// Writes the record: 96 bytes, less than PIPE_BUF, so it arrives whole. With nobody to read
/// it there is nothing left to do but to end, which the callers do.
pub fn send(pipe: sys::Fd, failure: &Failure) {
    let _unread = sys::write(pipe, sys::record_bytes(&Record::from(failure)));
}
