//! A raw filter in a file: `struct sock_filter` after `struct sock_filter`, 8 bytes each, as seccomp(2) takes them.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Take};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use agent_init::bpf::{CAPACITY, SockFilter};
use agent_init::error::{Errno, Step};

use super::insn::Invalid;
use crate::error::{Failure, errno_of};
use crate::sys;

/// `sizeof(struct sock_filter)`.
const INSN: usize = 8;
/// The longest program.
const MOST_BYTES: usize = INSN * CAPACITY;

/// How long a FIFO is waited for that nobody writes to.
const PATIENCE_MS: i32 = 1000;

/// What is in the file, `-` is standard input; the inner error: it is no program.
pub fn read(path: &OsStr) -> Result<Result<Vec<SockFilter>, Invalid>, Failure> {
    let failure = |call, errno| Failure::new(Step::POLICY, call, path.as_encoded_bytes(), errno);
    let io = |call| move |e: std::io::Error| failure(call, errno_of(&e));
    let open = match path.as_encoded_bytes() {
        b"-" => std::io::stdin().as_fd().try_clone_to_owned().map(File::from),
        // Nothing is waited for here.
        _ => OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path),
    };
    let file = open.map_err(io("open"))?;
    let meta = file.metadata().map_err(io("fstat"))?;
    let (kind, most) = (meta.file_type(), u64::try_from(MOST_BYTES).unwrap_or(u64::MAX));
    if meta.is_dir() {
        return Err(failure("read", Errno::EISDIR));
    }
    let is_stream = kind.is_fifo() || kind.is_socket();
    if !meta.is_file() && !is_stream {
        return Err(failure("read", Errno::EOPNOTSUPP));
    }
    if meta.len() > most {
        return Err(failure("read", Errno::EFBIG));
    }
    if is_stream {
        wait(&file, PATIENCE_MS).map_err(|errno| failure("poll", errno))?;
    }
    // It may grow while it is read.
    let bytes = bytes_of(file.take(most + 1)).map_err(io("read"))?;
    if bytes.len() > MOST_BYTES {
        return Err(failure("read", Errno::EFBIG));
    }
    Ok(instructions(&bytes))
}

/// All of it, from somebody who may be slow.
fn bytes_of(mut from: Take<File>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        match from.read_to_end(&mut bytes) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                wait(from.get_ref(), -1)
                    .map_err(|errno| std::io::Error::from_raw_os_error(errno.0.into()))?;
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

/// Bytes as instructions.
pub fn instructions(bytes: &[u8]) -> Result<Vec<SockFilter>, Invalid> {
    let (insns, rest) = bytes.as_chunks::<INSN>();
    if !rest.is_empty() {
        return Err(Invalid(insns.len(), "cut short: the size is no multiple of 8"));
    }
    let insn = |[a, b, jt, jf, k @ ..]: &[u8; INSN]| SockFilter {
        code: u16::from_ne_bytes([*a, *b]),
        jt: *jt,
        jf: *jf,
        k: u32::from_ne_bytes(*k),
    };
    Ok(insns.iter().map(insn).collect())
}

/// Instructions as bytes.
pub fn bytes(insns: &[SockFilter]) -> Vec<u8> {
    let of = |insn: &SockFilter| {
        let ([a, b], [c, d, e, f]) = (insn.code.to_ne_bytes(), insn.k.to_ne_bytes());
        [a, b, insn.jt, insn.jf, c, d, e, f]
    };
    insns.iter().flat_map(of).collect()
}
