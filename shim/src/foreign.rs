//! A file that somebody else has written, read whole: regular or a pipe, and not longer than what it should be.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Take};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use agent_init::error::{Errno, Step};

use crate::error::{Failure, errno_of};
use crate::sys;

/// How long a FIFO is waited for that nobody writes to.
const PATIENCE_MS: i32 = 1000;

/// At most `most` bytes, or an error; `-` is standard input. A device is not read without an end.
pub fn read(step: Step, path: &OsStr, most: usize) -> Result<Vec<u8>, Failure> {
    let failure = |call, errno| Failure::new(step, call, path.as_encoded_bytes(), errno);
    let io = |call| move |e: io::Error| failure(call, errno_of(&e));
    let open = match path.as_encoded_bytes() {
        b"-" => io::stdin().as_fd().try_clone_to_owned().map(File::from),
        // Nothing is waited for here.
        _ => OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path),
    };
    let file = open.map_err(io("open"))?;
    let meta = file.metadata().map_err(io("fstat"))?;
    let kind = meta.file_type();
    if kind.is_dir() {
        return Err(failure("read", Errno::EISDIR));
    }
    let is_stream = kind.is_fifo() || kind.is_socket();
    if !kind.is_file() && !is_stream {
        return Err(failure("read", Errno::EOPNOTSUPP));
    }
    let most_bytes = most as u64;
    if meta.len() > most_bytes {
        return Err(failure("read", Errno::EFBIG));
    }
    if is_stream {
        wait(&file, PATIENCE_MS).map_err(|errno| failure("poll", errno))?;
    }
    // It may grow while it is read.
    let bytes = bytes_of(file.take(most_bytes + 1)).map_err(io("read"))?;
    if bytes.len() > most {
        return Err(failure("read", Errno::EFBIG));
    }
    Ok(bytes)
}

/// All of it, from somebody who may be slow.
fn bytes_of(mut from: Take<File>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        match from.read_to_end(&mut bytes) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                wait(from.get_ref(), -1)
                    .map_err(|errno| io::Error::from_raw_os_error(errno.0.into()))?;
            }
            other => return other.map(|_| bytes),
        }
    }
}

/// Until there is something, or it ends; so many milliseconds at most.
fn wait(file: &File, timeout: i32) -> Result<(), Errno> {
    sys::poll(
        &mut [libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 }],
        timeout,
    )
}
