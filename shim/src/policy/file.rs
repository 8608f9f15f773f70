//! A raw filter in a file: `struct sock_filter` after `struct sock_filter`, 8 bytes each, as seccomp(2) takes them.

use std::ffi::OsStr;

use agent_init::bpf::{CAPACITY, SockFilter};
use agent_init::error::Step;

use super::insn::Invalid;
use crate::bounded;
use crate::error::{At, Failure};

/// `sizeof(struct sock_filter)`.
const INSN: usize = 8;
/// The longest program.
const MOST_BYTES: usize = INSN * CAPACITY;

/// What is in the file, `-` is standard input; the inner error: it is no program.
pub fn read(path: &OsStr) -> Result<Result<Vec<SockFilter>, Invalid>, Failure> {
    let bytes = bounded::file(path, MOST_BYTES, bounded::patience(), false);
    let bytes = bytes.at(Step::POLICY, "read", path.as_encoded_bytes())?;
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
