//! Resource limits of everything in the room, init included. getrlimit(2).

use crate::error::{At, Error};
use crate::lock::Room;
use crate::sys;

/// Sets soft and hard limit alike; where the hard limit is lower already, it stays.
pub fn apply(room: &mut Room) -> Result<(), Error> {
    for (resource, limit) in room.orders.rlimits() {
        sys::set_rlimit(resource, limit).at_object("prlimit64", name(resource).as_bytes())?;
    }
    Ok(())
}

/// No limit is above what was ordered.
pub fn verify(room: &mut Room) -> Result<(), Error> {
    for (resource, limit) in room.orders.rlimits() {
        let (soft, hard) =
            sys::get_rlimit(resource).at_object("prlimit64", name(resource).as_bytes())?;
        if soft > limit || hard > limit {
            return Err(Error::not_in_force(name(resource)));
        }
    }
    Ok(())
}

/// For messages; the numbers are those of asm-generic/resource.h.
fn name(resource: u64) -> &'static str {
    match resource {
        0 => "RLIMIT_CPU",
        1 => "RLIMIT_FSIZE",
        2 => "RLIMIT_DATA",
        4 => "RLIMIT_CORE",
        6 => "RLIMIT_NPROC",
        7 => "RLIMIT_NOFILE",
        _ => "another resource",
    }
}
