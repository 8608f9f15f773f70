//! Capabilities: none in any of the five sets, securebits locked. capabilities(7), capset(2).

use crate::error::{At, Errno, Error};
use crate::lock::Room;
use crate::sys::{self, CapSets};

/// CAP_SETPCAP: drops the bounding set and sets the securebits.
pub const SETPCAP: usize = 8;

/// SECBIT_NOROOT, NO_SETUID_FIXUP, NO_CAP_AMBIENT_RAISE, and the lock of each; KEEP_CAPS is
/// locked too, and off. uid 0 means nothing any more.
const SECUREBITS: usize = 0b1110_1111;

const EMPTY: CapSets = CapSets { effective: 0, permitted: 0, inheritable: 0 };

/// Gives up every capability for good. The sets belong to a thread: call it while there is one.
///
/// Alone, in a container that runs as an ordinary user, there may be no CAP_SETPCAP, and then
/// nobody can change the bounding set and the securebits. With the other sets empty and
/// `no_new_privs` on, no execve gives anything out of them: capabilities(7), and the filter lets no
/// user namespace be made. A room is refused.
pub fn apply(room: &mut Room) -> Result<(), Error> {
    room.had_setpcap = !room.is_alone() || sys::caps().at(c"capget")?.effective & 1 << SETPCAP != 0;
    sys::clear_ambient().at(c"prctl(PR_CAP_AMBIENT_CLEAR_ALL)")?;
    // Bounding set and securebits first: both need CAP_SETPCAP, which capset takes away.
    if room.had_setpcap {
        empty_bounding()?;
        sys::set_securebits(SECUREBITS).at(c"prctl(PR_SET_SECUREBITS)")?;
    }
    sys::set_caps(EMPTY).at(c"capset(empty)")
}

fn empty_bounding() -> Result<(), Error> {
    for cap in 0.. {
        match sys::drop_bounding(cap) {
            Ok(()) => {}
            Err(Errno::EINVAL) if cap > SETPCAP => break, // past the last one
            other => return other.at(c"prctl(PR_CAPBSET_DROP)"),
        }
    }
    Ok(())
}

/// Asks the kernel again, set by set; a bit that is left is an error even if `apply` returned Ok.
pub fn verify(room: &mut Room) -> Result<(), Error> {
    let had_setpcap = room.had_setpcap;
    let status = room.status()?;
    for set in [c"CapInh", c"CapPrm", c"CapEff", c"CapBnd", c"CapAmb"] {
        let is_given = set != c"CapBnd" || had_setpcap;
        if is_given && status.set(set) != Some(0) {
            return Err(Error::not_in_force(set));
        }
    }
    if sys::caps() != Ok(EMPTY) {
        return Err(Error::not_in_force(c"capget"));
    }
    if had_setpcap && sys::securebits() != Ok(SECUREBITS) {
        return Err(Error::not_in_force(c"securebits"));
    }
    Ok(())
}
