//! The room that is judged: its name in reports, its layers, its filter; and the profiles beside it.

use agent_init::layers::Layers;

use crate::policy::choice::Choice;
use crate::profile::{self, PROFILES};
use crate::spec::{Mount, Spec, What};

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

/// What is judged. Every room that has the layer of the filter has this filter, every one that has a
/// root of its own these mounts: so a layer is examined as it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Its layers.
    pub room: Named,
    /// Its filter.
    pub filter: Choice,
    /// What is put in it.
    pub mounts: Vec<Mount>,
}

impl Judged {
    /// The room of a specification. It has the name of a profile only if it is one.
    pub fn of(spec: &Spec) -> Judged {
        let is_plain = spec.filter.is_default() && spec.mounts.is_empty();
        let profile = PROFILES.iter().find(|profile| profile.layers == spec.layers && is_plain);
        Judged {
            room: Named {
                name: profile.map_or("yours", |profile| profile.name),
                layers: spec.layers,
            },
            filter: spec.filter.clone(),
            mounts: spec.mounts.clone(),
        }
    }

    /// What a specification has for a room with `layers`.
    pub fn spec(&self, layers: Layers) -> Spec {
        let mut spec = Spec { layers, ..Spec::default() };
        if layers.contains(Layers::SECCOMP) {
            spec.filter = self.filter.clone();
        }
        if layers.contains(Layers::MNT) {
            spec.mounts = self.mounts.clone();
        }
        spec
    }

    /// Its filter, in the words of its options; `none` without one.
    pub fn filter_words(&self) -> String {
        match self.room.layers.contains(Layers::SECCOMP) {
            true => self.filter.to_string(),
            false => "none".into(),
        }
    }

    /// Its mounts, as they were asked for: `--ro-bind /data /data`.
    pub fn mount_words(&self) -> Vec<String> {
        self.mounts.iter().map(words).collect()
    }

    /// What makes it this room, a line each; equal lines, equal rooms.
    pub fn words(&self) -> Vec<String> {
        lines(&profile::spelled(self.room.layers), &self.filter_words(), &self.mount_words())
    }
}

/// The lines of [`Judged::words`].
pub fn lines(layers: &str, filter: &str, mounts: &[String]) -> Vec<String> {
    let first = [format!("layers {layers}"), format!("filter {filter}")];
    first.into_iter().chain(mounts.iter().cloned()).collect()
}

impl Default for Judged {
    fn default() -> Judged {
        Judged::of(&Spec::default())
    }
}

fn words(mount: &Mount) -> String {
    let source = match &mount.what {
        What::Bind(source, _) => format!(" {}", source.display()),
        _ => String::new(),
    };
    format!("{}{source} {}", mount.option, mount.dest.display())
}

/// The columns of a name: the profiles that the judged room is put beside, and itself, which is last.
/// `full` is beside no other: its filter would be the other's.
pub fn columns(judged: Named) -> Vec<Named> {
    let profiles = PROFILES.iter().map(|p| Named { name: p.name, layers: p.layers });
    let beside = profiles.filter(|p| p.layers != judged.layers && *p != Named::FULL);
    beside.chain([judged]).collect()
}
