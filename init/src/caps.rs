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
pub fn apply(_: &mut Room) -> Result<(), Error> {
    sys::clear_ambient().at("prctl(PR_CAP_AMBIENT_CLEAR_ALL)")?;
    // Bounding set and securebits first: both need CAP_SETPCAP, which capset takes away.
    for cap in 0.. {
        match sys::drop_bounding(cap) {
            Ok(()) => {}
            Err(Errno::EINVAL) if cap > SETPCAP => break, // past the last one
            other => return other.at("prctl(PR_CAPBSET_DROP)"),
        }
    }
    sys::set_securebits(SECUREBITS).at("prctl(PR_SET_SECUREBITS)")?;
    sys::set_caps(EMPTY).at("capset(empty)")
}

/// Asks the kernel again, set by set; a bit that is left is an error even if `apply` returned Ok.
pub fn verify(room: &mut Room) -> Result<(), Error> {
    let status = room.status()?;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        if status.hex(set) != Some(0) {
            return Err(Error::not_in_force(set));
        }
    }
    if sys::caps() != Ok(EMPTY) {
        return Err(Error::not_in_force("capget"));
    }
    if sys::securebits() != Ok(SECUREBITS) {
        return Err(Error::not_in_force("securebits"));
    }
    Ok(())
}
