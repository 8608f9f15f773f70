//! What `--file` reads from a descriptor of the caller's: a file, or a pipe or socket that may never
//! end. poll(2).

use std::os::fd::RawFd;
use std::time::Instant;

use agent_init::error::Errno;

use crate::pump::Side;
use crate::sys;

/// Bytes of a file at most: what is larger does not fit a room's tmpfs anyway.
const MOST: usize = 64 << 20;

/// errno(3).
const ETIMEDOUT: Errno = Errno(110);

/// All that `fd` has until its end. ETIMEDOUT: it has not ended at `deadline`. EFBIG: it is larger
/// than a file may be.
pub fn read(fd: RawFd, deadline: Option<Instant>) -> Result<Vec<u8>, Errno> {
    let own = sys::borrow(fd).and_then(sys::dup_high)?;
    let side = Side::of_caller(own, "--file").map_err(|failure| failure.0.errno)?;
    let (mut all, mut bytes) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        match side.read(&mut bytes) {
            Ok(0) => return Ok(all),
            Ok(count) => all.extend(bytes.iter().take(count)),
            Err(Errno::EAGAIN) => wait(&side, deadline)?,
            Err(errno) => return Err(errno),
        }
        if all.len() > MOST {
            return Err(Errno::EFBIG);
        }
    }
}

fn wait(side: &Side, deadline: Option<Instant>) -> Result<(), Errno> {
    let ms = sys::ms_until(deadline);
    if ms == 0 {
        return Err(ETIMEDOUT);
    }
    sys::poll(&mut [libc::pollfd { fd: side.number(), events: libc::POLLIN, revents: 0 }], ms)
}
