//! A raw filter in a file: `struct sock_filter` after `struct sock_filter`, 8 bytes each, as seccomp(2) takes them.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use agent_init::bpf::{CAPACITY, SockFilter};
use agent_init::error::{Errno, Step};

use super::insn::Invalid;
use crate::error::{Failure, errno_of};

/// `sizeof(struct sock_filter)`.
const INSN: usize = 8;
/// The longest program.
const MOST_BYTES: usize = INSN * CAPACITY;

/// What is in the file; the inner error: it is no program.
pub fn read(path: &OsStr) -> Result<Result<Vec<SockFilter>, Invalid>, Failure> {
    let failure = |call, errno| Failure::new(Step::POLICY, call, path.as_encoded_bytes(), errno);
    let io = |call| move |e: std::io::Error| failure(call, errno_of(&e));
    // A FIFO is not waited for.
    let open = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = open.map_err(io("open"))?;
    let meta = file.metadata().map_err(io("fstat"))?;
    if meta.is_dir() {
        return Err(failure("read", Errno::EISDIR));
    }
    if !meta.is_file() {
        return Err(failure("read", Errno::EOPNOTSUPP));
    }
    let most = u64::try_from(MOST_BYTES).unwrap_or(u64::MAX);
    if meta.len() > most {
        return Err(failure("read", Errno::EFBIG));
    }
    let mut bytes = Vec::new();
    // It may grow while it is read.
    file.take(most + 1).read_to_end(&mut bytes).map_err(io("read"))?;
    if bytes.len() > MOST_BYTES {
        return Err(failure("read", Errno::EFBIG));
    }
    Ok(instructions(&bytes))
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
