//! All subsets of the layers: which sets block an operation, and the smallest of them. A set counts
//! if it stands on its own: 645 of the 2^11.

use agent_init::layers::{LAYERS, Layers};
use agent_probe::{Op, Verdict};

use super::judged::Named;
use super::rooms::name;
use crate::lab::{Experiments, Setup};

/// What every subset does to one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lattice {
    /// Sets tried.
    pub rooms: usize,
    /// Sets that block it.
    pub blocking: usize,
    /// The smallest sets that block it whatever is added to them, in the order of their size. One
    /// empty set: nothing in any room allows it.
    pub minimal: Vec<Layers>,
    /// The largest sets that allow it: none that holds them does.
    pub open: Vec<Layers>,
    /// Sets that allow it although one blocks it that differs only by layers which take away, and
    /// sets without an answer.
    pub doubts: Vec<String>,
}

/// Every set that stands on its own, the smaller before the larger.
pub fn sets() -> Vec<Layers> {
    let all = (0..=Layers::all().bits()).map(Layers::from_bits_truncate);
    let mut sets: Vec<Layers> = all.filter(|set| set.with_needs() == *set).collect();
    sets.sort_by_key(|set| set.iter().count());
    sets
}

/// Tries them all.
pub fn of(lab: &mut impl Experiments, op: &'static Op) -> Lattice {
    let mut tried: Vec<(Layers, Verdict)> = Vec::new();
    for set in sets() {
        tried.push((set, lab.run(op, Setup::Room(set)).verdict));
    }
    judge(lab.judged(), &tried)
}

fn judge(judged: Named, tried: &[(Layers, Verdict)]) -> Lattice {
    let with = |verdict| tried.iter().filter(move |(_, v)| *v == verdict).map(|(set, _)| *set);
    let open: Vec<Layers> = with(Verdict::Allowed).collect();
    // What is contained or redacted is not blocked either.
    let through = |verdict| !matches!(verdict, Verdict::Blocked | Verdict::Skip);
    let through: Vec<Layers> =
        tried.iter().filter(|(_, v)| through(*v)).map(|(set, _)| *set).collect();
    let holds = |set: &Layers| !through.iter().any(|larger| larger.contains(*set));
    let minimal = extreme(with(Verdict::Blocked).filter(holds), |a, b| b.contains(a));
    let largest = extreme(open.iter().rev().copied(), |a, b| a.contains(b));
    let spelled = |set| name(judged, Setup::Room(set));
    let mut doubts = Vec::new();
    for set in &open {
        let smaller = with(Verdict::Blocked)
            .find(|smaller| set.contains(*smaller) && RESTRICTING.contains(*set - *smaller));
        if let Some(smaller) = smaller {
            doubts.push(format!("{} blocks it, {} allows it", spelled(smaller), spelled(*set)));
        }
    }
    doubts.extend(with(Verdict::Inconclusive).map(|set| format!("{}: no answer", spelled(set))));
    let blocking = with(Verdict::Blocked).count();
    Lattice { rooms: tried.len(), blocking, minimal, open: largest, doubts }
}

/// Layers that only take away. A namespace also gives: capabilities over what it owns.
const RESTRICTING: Layers =
    Layers::NNP.union(Layers::LANDLOCK).union(Layers::CAPS).union(Layers::SECCOMP);

/// Those that no one before them covers; what covers comes first.
fn extreme(sets: impl Iterator<Item = Layers>, covers: fn(Layers, Layers) -> bool) -> Vec<Layers> {
    let mut found: Vec<Layers> = Vec::new();
    for set in sets {
        if !found.iter().any(|other| covers(*other, set)) {
            found.push(set);
        }
    }
    found
}

/// `mnt or landlock+caps`: what a set has beyond what its layers stand on.
pub fn spelled(set: Layers) -> String {
    let stood_on = |flag: Layers| {
        LAYERS.iter().any(|l| set.contains(l.flag) && l.flag != flag && l.needs.contains(flag))
    };
    let names: Vec<_> = LAYERS
        .iter()
        .filter(|l| set.contains(l.flag) && !stood_on(l.flag))
        .map(|l| l.name)
        .collect();
    if names.is_empty() { "no layer".into() } else { names.join("+") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(blocks: impl Fn(Layers) -> bool) -> Lattice {
        let verdict = |set| if blocks(set) { Verdict::Blocked } else { Verdict::Allowed };
        judge(Named::FULL, &sets().into_iter().map(|set| (set, verdict(set))).collect::<Vec<_>>())
    }

    #[test]
    fn a_set_stands_on_its_own_or_is_no_set() {
        let sets = sets();
        assert_eq!(sets.len(), (1 + (1 << 7)) * (1 + (1 << 2)));
        assert_eq!((sets.first(), sets.last()), (Some(&Layers::NONE), Some(&Layers::FULL)));
    }

    #[test]
    fn the_smallest_sets_are_found() {
        let found =
            world(|set| set.contains(Layers::SECCOMP) || set.contains(Layers::MNT | Layers::CAPS));
        let words: Vec<String> = found.minimal.iter().map(|set| spelled(*set)).collect();
        assert_eq!(words, ["seccomp", "mnt+caps"]);
        assert_eq!(found.doubts, [] as [String; 0]);
        let open: Vec<String> =
            found.open.iter().map(|set| name(Named::FULL, Setup::Room(*set))).collect();
        assert_eq!(open.len(), 2, "{open:?}"); // without seccomp, and without mnt or caps
        assert!(found.open.iter().all(|set| !set.contains(Layers::SECCOMP)));
    }

    #[test]
    fn what_nothing_blocks_and_what_the_host_blocks() {
        let nothing = world(|_| false);
        assert_eq!((nothing.blocking, &*nothing.minimal), (0, &[] as &[Layers]));
        assert_eq!(nothing.open, [Layers::FULL]);
        let host = world(|_| true);
        assert_eq!((host.minimal, host.open), (vec![Layers::NONE], vec![]));
    }

    /// A layer that was switched off in one room.
    #[test]
    fn an_open_set_above_a_blocking_one_is_a_doubt() {
        let found = world(|set| set.contains(Layers::NET) && set != Layers::FULL);
        assert_eq!(found.doubts, ["ns_only blocks it, full allows it"]);
    }

    /// What a user namespace gives is no contradiction; the sets that take it away again are found.
    #[test]
    fn a_namespace_may_give() {
        let found = world(|set| !set.contains(Layers::USERNS) || set.contains(Layers::SECCOMP));
        assert_eq!(found.doubts, [] as [String; 0]);
        let words: Vec<String> = found.minimal.iter().map(|set| spelled(*set)).collect();
        assert_eq!(words, ["seccomp"]);
    }
}
