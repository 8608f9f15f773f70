//! What init says to the shim (alone, on stderr): "ready" just before execve, and a record of a failed step.

use crate::error::{Errno, Failure, Record, Step, Text};
use crate::{say, sys};

/// The status of init when a step failed: DESIGN §8.
pub const HARNESS_FAILED: i32 = 125;

/// The record before execve: all is in force. The end of the pipe says that execve succeeded.
pub const READY: Record =
    Record { step: Step::EXEC, errno: Errno(0), call: Text::EMPTY, object: Text::EMPTY };

/// Writes [`READY`]. Alone, there is nobody to tell.
pub fn ready(pipe: Option<sys::Fd>) -> Result<(), Errno> {
    pipe.map_or(Ok(0), |pipe| sys::write(pipe, sys::record_bytes(&READY))).map(drop)
}

/// Writes the record: 96 bytes, less than PIPE_BUF, so it arrives whole. With nobody to read
/// it there is nothing left to do but to end, which the callers do. Alone, a line says it.
pub fn send(pipe: Option<sys::Fd>, failure: &Failure) -> Result<(), Errno> {
    match pipe {
        Some(pipe) => sys::write(pipe, sys::record_bytes(&Record::from(failure))).map(drop),
        None => {
            say::failure(failure);
            Ok(())
        }
    }
}
