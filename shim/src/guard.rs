//! A guard follows the file, not its name: what is masked, or read-only within what can be written, is so
//! at every place of the room that shows the same file. Invariant 14 of DESIGN.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use agent_init::error::{Errno, Step};

use crate::error::Failure;
use crate::git;
use crate::mounts::Mounts;
use crate::room::{Bind, Kind};
use crate::source::shown;
use crate::spec::Mode;
use crate::tree::{Key, Place, joined, path_of};

/// What shows files of the host at a place: its option is empty where nobody asked for it.
struct View<'a> {
    key: &'a Key,
    option: &'static str,
    bind: &'a Bind,
    is_overlay: bool,
}

/// What a guard is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guard {
    /// Nothing of it is shown.
    Hidden,
    /// It is not written.
    ReadOnly,
}

/// The guards of `places` again, at each other place that shows what they guard. An error: a place shows
/// nothing but what another one guards, so that one of the two is a mistake.
pub fn elsewhere<'a>(
    base: impl Iterator<Item = (&'a Key, &'a Kind)>,
    places: &'a BTreeMap<Key, Place>,
    mounts: &Mounts,
    warnings: &mut Vec<String>,
) -> Result<Vec<(Key, Place)>, Failure> {
    let replaced =
        |key: &Key| (1..=key.len()).any(|n| key.get(..n).is_some_and(|k| places.contains_key(k)));
    let own: Vec<(&Key, &Kind)> = base.collect();
    let kept = own.iter().filter(|(key, _)| !replaced(key)).map(|(key, kind)| (*key, ("", *kind)));
    let asked = places.iter().map(|(key, (option, kind))| (key, (*option, kind)));
    let all: BTreeMap<&Key, (&'static str, &Kind)> = kept.chain(asked).collect();
    let views: Vec<View> = all.iter().filter_map(view).collect();
    let mut more = Vec::new();
    for (key, (option, kind)) in places {
        let under = own.iter().find(|(k, _)| *k == key).map(|(_, kind)| *kind);
        let Some((guard, object)) = guarded(key, kind, under, &all) else { continue };
        let names = names(&object, mounts);
        let mut is_exposed = false;
        for view in &views {
            for (name, part) in &names {
                let one = (*option, key, guard);
                match view.meets(name) {
                    Meets::Not => {}
                    Meets::Shows(rest) if view.needs(guard) => {
                        is_exposed = true;
                        let at = joined(view.key, rest);
                        if at != *key && nearest(&all, &at) == Some(view.key) {
                            more.push((at, (*option, part_of(kind, part)?)));
                        }
                    }
                    Meets::Shows(_) => {}
                    Meets::IsWithin => view.may_be(one, &mut more)?,
                }
            }
        }
        if let Kind::Bind(bind) = kind
            && is_exposed
            && bind.source.has_other_names()
        {
            warnings.push(other_name(option, &path_of(key), "written"));
        }
    }
    Ok(more)
}

/// Every name of what is guarded, and of what is mounted in it: with the part that it is the name of.
fn names(object: &Path, mounts: &Mounts) -> Vec<(PathBuf, PathBuf)> {
    let parts = mounts.below(object).into_iter().map(|(rest, _)| rest.to_owned());
    let of = |part: PathBuf| {
        let names = mounts.names(&crate::mounts::joined(object, &part));
        names.into_iter().map(move |name| (name, part.clone()))
    };
    std::iter::once(PathBuf::new()).chain(parts).flat_map(of).collect()
}

/// The same guard over a part.
fn part_of(kind: &Kind, part: &Path) -> Result<Kind, Failure> {
    match kind {
        Kind::Bind(bind) if !part.as_os_str().is_empty() => {
            let wrong = |errno| {
                Failure::new(Step::ROOM, "--ro-bind", part.as_os_str().as_encoded_bytes(), errno)
            };
            let source = bind.source.beneath(part).map_err(wrong)?;
            Ok(Kind::Bind(Bind { source, ..bind.clone() }))
        }
        _ => Ok(kind.clone()),
    }
}

/// A file that has a second name is guarded by the one that was given.
pub fn other_name(option: &str, path: &Path, verb: &str) -> String {
    format!(
        "{option} {}: the file has another name (a hard link), by which it may be {verb}: give it a file of its own",
        shown(path)
    )
}

fn view<'a>((key, (option, kind)): (&&'a Key, &(&'static str, &'a Kind))) -> Option<View<'a>> {
    match kind {
        Kind::Bind(bind) => Some(View { key, option, bind, is_overlay: false }),
        Kind::Overlay(bind) => Some(View { key, option, bind, is_overlay: true }),
        _ => None,
    }
}

/// What a place guards, and its path on the host. `under`: what the room would have there.
fn guarded(
    key: &Key,
    kind: &Kind,
    under: Option<&Kind>,
    all: &BTreeMap<&Key, (&'static str, &Kind)>,
) -> Option<(Guard, PathBuf)> {
    match kind {
        Kind::Bind(bind) if bind.mode == Mode::ReadOnly => {
            Some((Guard::ReadOnly, bind.source.path().to_owned()))
        }
        Kind::Mask(_) => {
            if let Some(Kind::Bind(bind)) = under {
                return Some((Guard::Hidden, bind.source.path().to_owned()));
            }
            let (depth, kind) = (1..key.len())
                .rev()
                .find_map(|n| Some((n, all.get(&key.get(..n)?.to_vec())?.1)))?;
            let (Kind::Bind(bind) | Kind::Overlay(bind)) = kind else { return None };
            let rest = path_of(key.get(depth..)?);
            let rest = rest.strip_prefix("/").unwrap_or(&rest);
            Some((Guard::Hidden, bind.source.path().join(rest)))
        }
        _ => None,
    }
}

/// The deepest place at or above `at`.
fn nearest<'a>(all: &BTreeMap<&'a Key, (&'static str, &Kind)>, at: &Key) -> Option<&'a Key> {
    (1..=at.len()).rev().find_map(|n| all.get_key_value(&at.get(..n)?.to_vec()).map(|(k, _)| *k))
}

/// How a view and a guarded path lie to one another.
enum Meets<'a> {
    Not,
    /// The view shows it, this far below.
    Shows(&'a Path),
    /// The view shows it, or a part of it, and nothing else.
    IsWithin,
}

impl View<'_> {
    fn meets<'a>(&self, name: &'a Path) -> Meets<'a> {
        let source = self.bind.source.path();
        match name.strip_prefix(source) {
            Ok(rest) if !rest.as_os_str().is_empty() => Meets::Shows(rest),
            Ok(_) => Meets::IsWithin,
            Err(_) if source.starts_with(name) => Meets::IsWithin,
            Err(_) => Meets::Not,
        }
    }

    /// Whether this guard adds to what the view already is.
    fn needs(&self, guard: Guard) -> bool {
        match guard {
            Guard::Hidden => true,
            Guard::ReadOnly => !self.is_overlay && self.bind.can_be_written(),
        }
    }

    /// A view of a guarded file alone. What the room has by itself is covered too. What was asked for
    /// is a contradiction, but for what is read-only at one place because the caller says so, and can be
    /// written at another because the caller says so.
    fn may_be(
        &self,
        (option, key, guard): (&str, &Key, Guard),
        more: &mut Vec<(Key, Place)>,
    ) -> Result<(), Failure> {
        let is_itself = self.key == key;
        let is_allowed = guard == Guard::ReadOnly
            && (option != git::OPTION || self.option == git::OPTION || !self.needs(guard));
        if is_itself || is_allowed {
            return Ok(());
        }
        if self.option.is_empty() {
            more.push((self.key.clone(), ("--mask", Kind::Mask(self.bind.is_dir()))));
            return Ok(());
        }
        let (here, there) = (path_of(self.key), path_of(key));
        let how = if guard == Guard::Hidden { "hidden" } else { "read-only" };
        let failure = Failure::new(
            Step::ROOM,
            self.option,
            here.as_os_str().as_encoded_bytes(),
            Errno::EBUSY,
        );
        Err(failure.hinting(format!(
            "{} shows what is {how} at {} ({option}): leave out one of the two",
            shown(&here),
            shown(&there)
        )))
    }
}
