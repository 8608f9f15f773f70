//! The rooms that an operation is tried in: the columns of the report. A room is named by how it
//! differs from a profile, so that a name says what the experiment asks.

use agent_init::layers::{LAYERS, Layer, Layers};

use crate::lab::Setup;
use crate::profile::spelled;
use crate::proof::judged::{Named, columns};

/// Why a room is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The positive control: whether it works at all.
    Control,
    /// The judged room, and the profiles beside it.
    Profile,
    /// The control and one layer: whether it stops even root.
    Root,
    /// `none` and one layer, with what that stands on.
    Alone,
    /// `ns_only` and one layer.
    Added,
    /// The judged room without one layer.
    Without,
    /// The judged room, whose filter answers errno 4095.
    Marked,
}

impl Kind {
    /// The word in the JSON document.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Control => "control",
            Kind::Profile => "profile",
            Kind::Root => "root",
            Kind::Alone => "alone",
            Kind::Added => "added",
            Kind::Without => "without",
            Kind::Marked => "marked",
        }
    }
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Unique: `real root`, `root+caps`, `full`, `none+mnt`, `full-seccomp`.
    pub name: String,
    /// Why.
    pub kind: Kind,
    /// How it is made.
    pub setup: Setup,
}

/// The controls are there only if the caller is root.
pub fn rooms(has_root: bool, judged: Named) -> Vec<Room> {
    let mut all: Vec<Room> = Vec::new();
    let mut add = |kind, setup| {
        if all.iter().all(|room| room.setup != setup) {
            all.push(Room { name: name(judged, setup), kind, setup });
        }
    };
    if has_root {
        add(Kind::Control, Setup::RealRoot);
    }
    for column in columns(judged) {
        add(Kind::Profile, Setup::Room(column.layers));
    }
    if judged.layers.contains(Layers::SECCOMP) {
        add(Kind::Marked, Setup::Marked(judged.layers));
    }
    for layer in LAYERS.iter().filter(|_| has_root) {
        add(Kind::Root, Setup::RootWith(layer.flag));
    }
    for layer in LAYERS {
        add(Kind::Alone, Setup::Room(layer.flag.with_needs()));
    }
    for layer in LAYERS.iter().filter(|layer| !Layers::NS_ONLY.contains(layer.flag)) {
        add(Kind::Added, Setup::Room(Layers::NS_ONLY | layer.flag.with_needs()));
    }
    for layer in removable(judged.layers) {
        add(Kind::Without, Setup::Room(judged.layers - layer.flag));
    }
    all
}

/// The layers of `profile` that can be taken out alone, in the order in which they are asked.
pub fn removable(profile: Layers) -> impl Iterator<Item = &'static Layer> {
    let stood_on = LAYERS.iter().filter(move |l| profile.contains(l.flag));
    let stood_on = stood_on.fold(Layers::empty(), |set, l| set | l.needs);
    LAYERS.iter().filter(move |l| profile.contains(l.flag) && !stood_on.contains(l.flag))
}

/// The name of a column; else `none+LAYER`, `ns_only+LAYER`, `full-LAYER`; else the list of its layers.
pub fn name(judged: Named, setup: Setup) -> String {
    match setup {
        Setup::RealRoot => "real root".into(),
        Setup::RootWith(layers) => format!("root+{}", spelled(layers)),
        Setup::OtherId => "another id, all capabilities but those over files".into(),
        Setup::RootInside(layers) => {
            format!("{}, as root inside", name(judged, Setup::Room(layers)))
        }
        Setup::Unlimited(layers, limit) => {
            format!("{}, no {}", name(judged, Setup::Room(layers)), limit.word())
        }
        Setup::Marked(layers) => format!("{} marked", name(judged, Setup::Room(layers))),
        Setup::Room(layers) => {
            let column = columns(judged).into_iter().find(|column| column.layers == layers);
            column.map_or_else(|| differing(judged, layers), |column| column.name.into())
        }
    }
}

fn differing(judged: Named, layers: Layers) -> String {
    let one = |make: &dyn Fn(Layers) -> Layers, words: &str| {
        let layer = LAYERS.iter().find(|l| make(l.flag) == layers)?;
        Some(format!("{words}{}", layer.name))
    };
    one(&|flag| flag.with_needs(), "none+")
        .or_else(|| one(&|flag| Layers::NS_ONLY | flag.with_needs(), "ns_only+"))
        .or_else(|| one(&|flag| judged.layers - flag, &format!("{}-", judged.name)))
        .or_else(|| one(&|flag| Layers::WITH_LANDLOCK - flag, "landlock-"))
        .or_else(|| one(&|flag| Layers::NS_ONLY - flag, "ns_only-"))
        .unwrap_or_else(|| spelled(layers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_of_one_room() {
        let rooms = rooms(true, Named::FULL);
        for (n, room) in rooms.iter().enumerate() {
            assert_eq!(rooms.iter().position(|r| r.name == room.name), Some(n), "{room:?}");
            assert_eq!(rooms.iter().position(|r| r.setup == room.setup), Some(n), "{room:?}");
        }
        for name in [
            "real root",
            "full",
            "full marked",
            "none+mnt",
            "root+caps",
            "ns_only+caps",
            "full-seccomp",
        ] {
            assert!(rooms.iter().any(|r| r.name == name), "{name}");
        }
        assert_eq!(rooms.len(), super::rooms(false, Named::FULL).len() + 1 + LAYERS.len());
    }
}
