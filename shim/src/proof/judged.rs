//! The room that is judged: its name in reports, its layers, its filter; and the profiles beside it.

use agent_init::layers::Layers;

use crate::policy::choice::Choice;
use crate::profile::PROFILES;

/// A set of layers, and what reports call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: &'static str,
    /// Its layers.
    pub layers: Layers,
}

impl Named {
    /// The profile that promises most.
    pub const FULL: Named = Named { name: "full", layers: Layers::FULL };
}

/// What is judged. A room that has the layer of the filter has this filter, whatever its others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Its layers.
    pub room: Named,
    /// Its filter.
    pub filter: Choice,
}

impl Default for Judged {
    fn default() -> Judged {
        Judged { room: Named::FULL, filter: Choice::default() }
    }
}

/// The columns of a name: the profiles that the judged room is put beside, and itself, which is last.
/// `full` is beside no other: its filter would be the other's.
pub fn columns(judged: Named) -> Vec<Named> {
    let profiles = PROFILES.iter().map(|p| Named { name: p.name, layers: p.layers });
    let beside = profiles.filter(|p| p.layers != judged.layers && *p != Named::FULL);
    beside.chain([judged]).collect()
}
