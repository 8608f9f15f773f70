//! The system-call filter of the agent, and the much smaller one of PID 1. seccomp(2),
//! Documentation/userspace-api/seccomp_filter.rst.

use crate::bpf::{AGENT_PROGRAM, INIT_PROGRAM};
use crate::error::{At, Error};
use crate::lock::Room;
use crate::sys;

/// SECCOMP_MODE_FILTER, as PR_GET_SECCOMP and `Seccomp:` in the status file have it.
const MODE_FILTER: usize = 2;

/// The agent's filter, that of the orders or else our own, in the agent's process: last of all, as it refuses the calls used before.
pub fn apply(room: &mut Room) -> Result<(), Error> {
    let filter = room.orders.filter();
    if filter.is_empty() { sys::set_filter(&AGENT_PROGRAM) } else { sys::set_filter_words(filter) }
        .at(c"seccomp(agent)")
}

/// The kernel says that a filter is on, and a call that it would grant is refused.
pub fn verify(_: &mut Room) -> Result<(), Error> {
    if sys::seccomp_mode() != Ok(MODE_FILTER) {
        return Err(Error::not_in_force(c"Seccomp"));
    }
    if sys::unshare_nothing().is_ok() {
        return Err(Error::not_in_force(c"unshare is open"));
    }
    Ok(())
}

/// PID 1's own filter, once the agent's process exists: what is not in it kills the room.
pub fn apply_own(_: &mut Room) -> Result<(), Error> {
    sys::set_filter(&INIT_PROGRAM).at(c"seccomp(init)")
}

/// `read` of the status file, open since the start, is all that the filter leaves to ask with.
pub fn verify_own(room: &mut Room) -> Result<(), Error> {
    if room.status_by_read()?.decimal("Seccomp") == Some(MODE_FILTER as u64) {
        return Ok(());
    }
    Err(Error::not_in_force(c"Seccomp of init"))
}
