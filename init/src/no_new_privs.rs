//! `no_new_privs`: execve gives nothing that the caller does not have. prctl(2),
//! Documentation/userspace-api/no_new_privs.rst.

use crate::error::{At, Error};
use crate::lock::Room;
use crate::sys;

/// Cannot be undone, and is inherited.
pub fn apply(_: &mut Room) -> Result<(), Error> {
    sys::set_no_new_privs().at(c"prctl(PR_SET_NO_NEW_PRIVS)")
}

/// Asks the kernel, twice: by prctl and in the status file.
pub fn verify(room: &mut Room) -> Result<(), Error> {
    if sys::has_no_new_privs() == Ok(true) && room.status()?.decimal("NoNewPrivs") == Some(1) {
        return Ok(());
    }
    Err(Error::not_in_force(c"NoNewPrivs"))
}
