//! Namespaces: which are made by clone3 and which by the composed child. namespaces(7).
//!
//! Two user namespaces, one in the other. The outer one owns the mount namespace that the root is
//! composed in; the inner one owns the agent's copy of it, in which the kernel locks every mount
//! against its new owner: mount_namespaces(7), "Restrictions on mount namespaces".

use agent_init::layers::{Layers, NAMESPACES};

use crate::plan::{Identity, Plan};

/// A pid namespace is entered by being born in it, and proc can only be mounted by its owner.
const OUTER: Layers = Layers::USERNS.union(Layers::MNT).union(Layers::PID);

fn flags(layers: Layers) -> u64 {
    NAMESPACES.iter().filter(|ns| layers.contains(ns.flag)).fold(0, |set, ns| set | ns.clone)
}

/// A mount namespace is the vehicle of the pid layer too: its proc lies over the host's.
fn with_mounts(layers: Layers) -> Layers {
    if layers.contains(Layers::PID) { layers | Layers::MNT } else { layers }
}

/// For clone3.
pub fn outer(plan: &Plan) -> u64 {
    match plan.identity {
        // The control: nothing that it mounts reaches the host. A user namespace comes after these, so
        // that it owns none of them.
        Identity::RealRoot => flags((plan.made() - Layers::USERNS) | Layers::MNT),
        _ => flags(with_mounts(plan.made()) & OUTER),
    }
}

/// For unshare, when the root is composed; 0: there is no inner user namespace.
pub fn inner(plan: &Plan) -> u64 {
    match plan.identity {
        _ if !plan.made().contains(Layers::USERNS) => 0,
        Identity::RealRoot => flags(Layers::USERNS),
        _ => flags(with_mounts(plan.made()) - Layers::PID),
    }
}
