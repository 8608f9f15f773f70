//! The commands, one a file.

pub mod matrix;
pub mod run;

use std::io::Write;

use agent_init::error::{Errno, Step};

use crate::error::Failure;

/// Standard output, all of it or an error.
pub fn print(text: &str) -> Result<(), Failure> {
    if agent_probe::sys::stdout_was_closed() {
        // std has put /dev/null there, where it would vanish without an error.
        return Err(Failure::new(Step::OUTPUT, "write", "standard output", Errno::EBADF));
    }
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|e| io_failure(&e, "write", "standard output"))
}

/// An error of std, with the errno it came with.
pub fn io_failure(error: &std::io::Error, call: &str, object: impl AsRef<[u8]>) -> Failure {
    let errno = error.raw_os_error().and_then(|n| u16::try_from(n).ok()).unwrap_or(0);
    Failure::new(Step::OUTPUT, call, object, Errno(errno))
}
