//! Objects that processes share, as the kernel shows them: System V, message queues, keys, terminals. sysvipc(7),
//! mq_overview(7), keyctl(2).

use std::ffi::CString;
use std::os::fd::RawFd;

use crate::Errno;
use crate::sys::{self, Arg, call, call_fd, n};

/// KEY_SPEC_PROCESS_KEYRING. linux/keyctl.h.
pub(crate) const PROCESS: i64 = -2;
/// KEYCTL_SETPERM.
pub(crate) const SETPERM: i64 = 5;
/// KEYCTL_READ.
const READ: i64 = 11;

/// For the kernel; a NUL ends it.
pub(crate) fn text(text: &str) -> CString {
    let before: Vec<u8> = text.bytes().take_while(|byte| *byte != 0).collect();
    CString::new(before).unwrap_or_default()
}

/// The 16 bytes of a nonce.
pub(crate) fn word(nonce: &str) -> [u8; 16] {
    let mut word = [0; 16];
    for (to, from) in word.iter_mut().zip(nonce.bytes()) {
        *to = from;
    }
    word
}

/// Native integers one after the other, as a struct of them lies in memory.
pub(crate) fn ints(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

/// The same of 64 bits.
pub(crate) fn longs(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

/// A native integer within a struct.
pub(crate) fn long_at(bytes: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// struct mq_attr.
pub(crate) fn queue_attr(messages: i64, size: i64) -> Vec<u8> {
    longs(&[0, messages, size, 0, 0, 0, 0, 0])
}

/// Messages of a POSIX queue.
pub(crate) fn queued(name: &str) -> Result<i64, Errno> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK;
    let args = &mut [Arg::Text(&text(name)), Arg::N(flags.into()), Arg::N(0), Arg::N(0)];
    let queue = call_fd(libc::SYS_mq_open, args)?;
    let mut attr = [0; 64];
    call(libc::SYS_mq_getsetattr, &mut [n(&queue), Arg::N(0), Arg::Out(&mut attr)])?;
    long_at(&attr, 24).ok_or(Errno(libc::EINVAL))
}

/// Messages of a System V queue.
pub(crate) fn messages(id: i64) -> Result<i64, Errno> {
    let mut state = [0; size_of::<libc::msqid_ds>()];
    let stat = Arg::N(libc::IPC_STAT.into());
    call(libc::SYS_msgctl, &mut [Arg::N(id), stat, Arg::Out(&mut state)])?;
    long_at(&state, std::mem::offset_of!(libc::msqid_ds, msg_qnum)).ok_or(Errno(libc::EINVAL))
}

/// The value of the first semaphore of a set.
pub(crate) fn semaphore(id: i64) -> Result<i64, Errno> {
    let get = Arg::N(libc::GETVAL.into());
    call(libc::SYS_semctl, &mut [Arg::N(id), Arg::N(0), get, Arg::N(0)])
}

/// The first 16 bytes of a key.
pub(crate) fn read_key(serial: i64) -> Result<[u8; 16], Errno> {
    let mut content = [0; 16];
    let to = Arg::Out(&mut content);
    call(libc::SYS_keyctl, &mut [Arg::N(READ), Arg::N(serial), to, Arg::N(16)])?;
    Ok(content)
}

/// ioctl(2) with a pointer, or a number.
pub(crate) fn ioctl(fd: RawFd, request: libc::Ioctl, arg: Arg<'_>) -> Result<i64, Errno> {
    let request = i64::try_from(request).map_err(|_| Errno(libc::EINVAL))?;
    call(libc::SYS_ioctl, &mut [Arg::N(fd.into()), Arg::N(request), arg])
}

/// Rows and columns of a terminal.
pub(crate) fn terminal_size(fd: RawFd) -> Result<(u16, u16), Errno> {
    let mut size = [0; 8];
    ioctl(fd, libc::TIOCGWINSZ, Arg::Out(&mut size))?;
    let [a, b, c, d, ..] = size;
    Ok((u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])))
}

/// A pseudo terminal of this process: its master, unlocked, and the path of its other side.
pub(crate) fn new_terminal() -> Result<(std::fs::File, String), Errno> {
    let master = std::fs::File::options().read(true).write(true).open("/dev/ptmx")?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&master);
    let mut number = [0; 4];
    ioctl(fd, libc::TIOCSPTLCK, Arg::In(&[0; 4]))?;
    ioctl(fd, libc::TIOCGPTN, Arg::Out(&mut number))?;
    Ok((master, format!("/dev/pts/{}", u32::from_ne_bytes(number))))
}

/// 16 bytes of System V memory by its key.
pub(crate) fn shared_memory(key: i64) -> Result<[u8; 16], Errno> {
    sys::shared(call(libc::SYS_shmget, &mut [Arg::N(key), Arg::N(0), Arg::N(0)])?, None)
}
