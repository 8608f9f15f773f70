//! What init says to the shim: one record of a failed step, or nothing.

use crate::error::{Failure, Record};
use crate::orders::REPORT_FD;
use crate::sys;

/// The status of init when a step failed: DESIGN §8.
pub const HARNESS_FAILED: i32 = 125;

/// Writes the record: 96 bytes, less than PIPE_BUF, so it arrives whole. With nobody to read
/// it there is nothing left to do but to end, which the callers do.
pub fn send(failure: &Failure) {
    let _unread = sys::write(REPORT_FD, sys::record_bytes(&Record::from(failure)));
}
