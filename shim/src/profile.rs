//! The four profiles, and lists of layers as users write them.

use agent_init::layers::{LAYERS, Layers};

/// A profile: what `--profile` takes and the matrix prints.
#[derive(Debug)]
pub struct Profile {
    /// Its name.
    pub name: &'static str,
    /// Its layers.
    pub layers: Layers,
    /// For the help.
    pub about: &'static str,
}

const fn row(name: &'static str, layers: Layers, about: &'static str) -> Profile {
    Profile { name, layers, about }
}

/// In the order of the matrix: each adds to the one before.
#[rustfmt::skip] // a row a line
pub const PROFILES: &[Profile] = &[
    row("none",     Layers::NONE,          "an ordinary unprivileged user, no isolation"),
    row("ns_only",  Layers::NS_ONLY,       "namespaces and a composed root; uid 0 and all capabilities inside"),
    row("landlock", Layers::WITH_LANDLOCK, "ns_only and a file-system allow-list"),
    row("full",     Layers::FULL,          "landlock, no capability, and the system-call filter"),
];

/// The layers of a profile by its name.
pub fn named(name: &str) -> Result<Layers, String> {
    let known = || PROFILES.iter().map(|p| p.name).collect::<Vec<_>>().join(", ");
    let found = PROFILES.iter().find(|p| p.name == name);
    found.map(|p| p.layers).ok_or_else(|| format!("no profile `{name}`; there are {}", known()))
}

/// `--layers`: a list (`userns,mnt,landlock`) takes the place of the profile's layers, changes
/// (`+seccomp`, `-net`) are made to them. What a layer stands on comes with it; what another one
/// stands on cannot be taken away.
pub fn layers(list: &str, base: Layers) -> Result<Layers, String> {
    let words: Vec<&str> = list.split(',').map(str::trim).filter(|w| !w.is_empty()).collect();
    if words.is_empty() {
        return Err("an empty list of layers; `none` goes without any".into());
    }
    if words == ["none"] {
        return Ok(Layers::NONE);
    }
    let is_change = |w: &&str| w.starts_with(['+', '-']);
    let changes = words.iter().filter(|w| is_change(w)).count();
    if changes != 0 && changes != words.len() {
        return Err("either a list (a,b) or changes (+a,-b), not both".into());
    }
    let mut set = if changes == 0 { Layers::empty() } else { base };
    for word in &words {
        match word.strip_prefix('-') {
            Some(name) => set.remove(one(name)?),
            None => set.insert(one(word.strip_prefix('+').unwrap_or(word))?.with_needs()),
        }
    }
    for layer in LAYERS.iter().filter(|l| set.contains(l.flag)) {
        if let Some(need) =
            LAYERS.iter().find(|n| layer.needs.contains(n.flag) && !set.contains(n.flag))
        {
            return Err(format!("`-{}`: {} stands on it; take both away", need.name, layer.name));
        }
    }
    Ok(set)
}

fn one(name: &str) -> Result<Layers, String> {
    let known = || LAYERS.iter().map(|l| l.name).collect::<Vec<_>>().join(", ");
    let found = LAYERS.iter().find(|l| l.name == name);
    found.map(|l| l.flag).ok_or_else(|| format!("no layer `{name}`; there are {}", known()))
}

/// A set as `--layers` takes it; `none` for no layer.
pub fn spelled(set: Layers) -> String {
    let names: Vec<_> = LAYERS.iter().filter(|l| set.contains(l.flag)).map(|l| l.name).collect();
    if names.is_empty() { "none".into() } else { names.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_changes() {
        let full = Layers::FULL;
        assert_eq!(layers("seccomp", full), Ok(Layers::SECCOMP | Layers::NNP));
        assert_eq!(layers("-seccomp", full), Ok(full - Layers::SECCOMP));
        assert_eq!(layers("-seccomp,-net", full), Ok(full - Layers::SECCOMP - Layers::NET));
        assert_eq!(layers("+caps", Layers::NONE), Ok(Layers::CAPS | Layers::USERNS));
        assert_eq!(layers("none", full), Ok(Layers::NONE));
        // An unset variable of a script must not take every wall away.
        assert!(layers("", full).is_err() && layers(" , ", full).is_err());
        assert!(layers("none,net", full).is_err());
        assert!(layers("-userns", full).unwrap_err().contains("stands on it"));
        assert!(layers("+net,caps", full).is_err());
        assert!(layers("bogus", full).unwrap_err().contains("there are seccomp"));
        assert!(named("ful").unwrap_err().contains("none, ns_only, landlock, full"));
    }
}
