//! A file that somebody else has written, read whole: regular, and not longer than what it should be.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;

use agent_init::error::{Errno, Step};

use crate::error::{Failure, errno_of};

/// At most `most` bytes, or an error. A FIFO is not waited for, a device not read without an end.
pub fn read(step: Step, path: &OsStr, most: usize) -> Result<Vec<u8>, Failure> {
    let failure = |call, errno| Failure::new(step, call, path.as_encoded_bytes(), errno);
    let io = |call| move |e: io::Error| failure(call, errno_of(&e));
    let open = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = open.map_err(io("open"))?;
    let meta = file.metadata().map_err(io("fstat"))?;
    if meta.is_dir() {
        return Err(failure("read", Errno::EISDIR));
    }
    if !meta.is_file() {
        return Err(failure("read", Errno::EOPNOTSUPP));
    }
    let mut bytes = Vec::new();
    // By what is read, not by its size: it may grow meanwhile.
    file.take(most as u64 + 1).read_to_end(&mut bytes).map_err(io("read"))?;
    if bytes.len() > most {
        return Err(failure("read", Errno::EFBIG));
    }
    Ok(bytes)
}
