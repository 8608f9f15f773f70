//! Resource limits of everything in the room, init included. getrlimit(2).

use crate::error::{At, Error};
use crate::lock::Room;
use crate::sys;

/// Sets soft and hard limit; where the hard limit is lower already, it stays.
pub fn apply(room: &mut Room) -> Result<(), Error> {
    for (resource, limit) in room.orders.rlimits() {
        sys::set_rlimit(resource, limit).at(c"prlimit64")?;
    }
    Ok(())
}

/// No limit is above what was ordered.
pub fn verify(room: &mut Room) -> Result<(), Error> {
    for (resource, limit) in room.orders.rlimits() {
        let (soft, hard) = sys::get_rlimit(resource).at(c"prlimit64")?;
        if soft > limit || hard > limit {
            return Err(Error::not_in_force(c"a limit is higher"));
        }
    }
    Ok(())
}
