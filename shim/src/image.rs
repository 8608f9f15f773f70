//! Programs in sealed memfds: agent-init, which is part of this program, and whatever a room has
//! to run without it being a file there. memfd_create(2), fcntl(2) F_ADD_SEALS.
//!
//! Sealed, as a room could otherwise write its own init through `/proc/1/exe` (CVE-2019-5736).

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

use agent_init::error::{Errno, Step};

use crate::error::{At, Failure};
use crate::sys;

/// agent-init, as built for this machine.
pub static AGENT_INIT: &[u8] = include_bytes!(env!("AGENT_INIT_BIN"));

/// agent-init: made once in a process, started by every launch.
pub fn agent_init() -> Result<BorrowedFd<'static>, Failure> {
    static IMAGE: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(fd) = IMAGE.get() {
        return Ok(fd.as_fd());
    }
    let fd = of(c"init", AGENT_INIT)?; // its name in the room: /proc/1/comm
    Ok(IMAGE.get_or_init(|| fd).as_fd())
}

/// Any program, at a descriptor of 10 or more.
pub fn of(name: &std::ffi::CStr, program: &[u8]) -> Result<OwnedFd, Failure> {
    let fd =
        sys::sealed_memfd(name, program, true).at(Step::IMAGE, "memfd_create", name.to_bytes())?;
    sys::dup_high(fd.as_fd()).at(Step::IMAGE, "fcntl", "F_DUPFD_CLOEXEC")
}

/// The program in a file, which the room's user need not be able to reach.
pub fn from_file(name: &std::ffi::CStr, path: &Path) -> Result<OwnedFd, Failure> {
    let program = fs::read(path).map_err(|e| {
        let errno = e.raw_os_error().and_then(|n| u16::try_from(n).ok()).unwrap_or(0);
        let object = path.as_os_str().as_encoded_bytes();
        Failure::new(Step::PROGRAM, "open", object, Errno(errno))
    })?;
    of(name, &program)
}

/// The smallest program there is: it exits with status 0 at once. What is left when a room is
/// started with it is the price of the room. elf(5): one segment, no section.
pub fn exit_program() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let code = EXIT_0;
    let size = HEADERS + code.len() as u64;
    let mut elf = Vec::with_capacity(256);
    elf.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"); // 64 bits, little endian
    elf.extend(2u16.to_le_bytes()); // ET_EXEC
    elf.extend(MACHINE.to_le_bytes());
    elf.extend(1u32.to_le_bytes()); // version
    elf.extend((BASE + HEADERS).to_le_bytes()); // entry
    elf.extend(64u64.to_le_bytes()); // program headers follow
    elf.extend(0u64.to_le_bytes()); // no section headers
    elf.extend(0u32.to_le_bytes()); // flags
    for half in [64u16, 56, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes()); // sizes and counts
    }
    elf.extend(1u32.to_le_bytes()); // PT_LOAD
    elf.extend(5u32.to_le_bytes()); // read, execute
    for word in [0, BASE, BASE, size, size, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(code);
    elf
}

/// EM_X86_64; `xor edi, edi; mov eax, 231; syscall`: exit_group(0).
const MACHINE: u16 = 62;
const EXIT_0: &[u8] = b"\x31\xff\xb8\xe7\x00\x00\x00\x0f\x05";

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test] // seen to fail without F_SEAL_FUTURE_WRITE
    fn a_sealed_program_cannot_be_written() {
        let fd = of(c"exit", &exit_program()).unwrap();
        assert_eq!(sys::write_all(fd.as_raw_fd(), b"x"), Err(Errno::EPERM));
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let reopened = std::fs::File::options().write(true).open(path);
        let written = reopened.and_then(|mut f| std::io::Write::write_all(&mut f, b"x"));
        assert!(written.is_err());
    }
}
