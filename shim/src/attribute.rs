//! Which primitive blocked it, derived from experiments: DESIGN §5. No table here says that some
//! errno means some layer. Two outcomes are only ever compared.
//!
//! A cell is credited by the first of these that holds, each with the experiment that shows it:
//!
//! 0. No layer is asked ([`Kind::Hygiene`]): refused in `none` too, it is the `harness`, which hands
//!    nothing in and sets the limits.
//! 1. It fails as real root with no layer, too, and in every room: `kernel`. Nothing of ours is the
//!    cause.
//! 2. With the filter's answers marked, the marker comes back: `seccomp`, which is asked first.
//! 3. Layers are taken out one by one, in the order in which the kernel asks them. The first whose
//!    absence changes the answer gave the answer.
//! 4. No absence of one layer changes it, as others give the same answer. The first that turns
//!    "allowed" into "blocked" when it is added to fewer layers is credited.
//! 5. No layer does. The baseline itself refuses it: `DAC` if root without capabilities may do it,
//!    else `caps`.

use agent_init::layers::{LAYERS, Layer, Layers};
use agent_probe::{Kind, Op, Outcome, Verdict};

use crate::lab::{Experiments, Setup};
use crate::proof::rooms::{removable, rooms};

/// What is credited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocker {
    /// A layer of the room.
    Layer(Layers),
    /// Owner and mode of the file.
    Dac,
    /// A capability that an ordinary user does not have.
    Caps,
    /// What agent-shim and agent-init do for every room, whatever its layers: descriptors,
    /// environment, terminal, resource limits.
    Harness,
    /// It is not there on this host: nobody can do it.
    Kernel,
    /// The probe did not try.
    Guard,
    /// The evidence does not say. Told, never papered over.
    Unknown,
}

impl Blocker {
    /// The word in tables, DESIGN §7.
    pub fn word(self) -> &'static str {
        match self {
            Blocker::Layer(flag) => row(flag).map_or("?", |layer| layer.word),
            Blocker::Dac => "DAC",
            Blocker::Caps => "caps",
            Blocker::Harness => "harness",
            Blocker::Kernel => "kernel",
            Blocker::Guard => "self-guard",
            Blocker::Unknown => "INCONCLUSIVE",
        }
    }
}

fn row(flag: Layers) -> Option<&'static Layer> {
    LAYERS.iter().find(|l| l.flag == flag)
}

/// One cell of the matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// What happened.
    pub outcome: Outcome,
    /// What is credited; `None` where nothing was refused.
    pub blocker: Option<Blocker>,
    /// In brackets behind it.
    pub note: Option<String>,
    /// The experiment that was decisive, in words.
    pub proof: String,
    /// The control as real root could not be run, and the credit would rest on it.
    pub without_control: bool,
    /// Layers of the profile that block it when added alone to a room that allows it.
    pub sufficient: Layers,
    /// The experiments that show it, in words, a line for each of these layers.
    pub shown: Vec<String>,
    /// Layers of the profile without which it is allowed.
    pub necessary: Layers,
}

/// Credits one cell. `absent` is what to say where the kernel has no such thing.
pub fn cell(lab: &mut impl Experiments, op: &'static Op, profile: Layers, absent: &str) -> Cell {
    let outcome = lab.run(op, Setup::Room(profile));
    let mut cell = Cell {
        note: outcome.note.as_ref().map(ToString::to_string),
        outcome,
        blocker: None,
        proof: String::new(),
        without_control: false,
        sufficient: Layers::empty(),
        shown: Vec::new(),
        necessary: Layers::empty(),
    };
    match cell.outcome.verdict {
        Verdict::Blocked => {}
        Verdict::Skip => {
            cell.blocker = Some(Blocker::Guard);
            cell.note = cell.note.filter(|note| note != Blocker::Guard.word());
            return cell;
        }
        Verdict::Inconclusive => {
            cell.blocker = Some(Blocker::Unknown);
            return cell;
        }
        Verdict::Allowed | Verdict::Contained | Verdict::Redacted => return cell,
    }
    let Credit { blocker, proof, without_control } = credit(lab, op, profile, &cell.outcome);
    if blocker == Blocker::Kernel {
        let is_missing = cell.note.as_deref() == Some("not present");
        cell.note = Some(if is_missing { absent } else { "real root too" }.to_owned());
    } else {
        (cell.sufficient, cell.shown) = sufficient(lab, op, profile);
        cell.necessary = necessary(lab, op, profile);
    }
    Cell { blocker: Some(blocker), proof, without_control, ..cell }
}

struct Credit {
    blocker: Blocker,
    proof: String,
    without_control: bool,
}

impl Credit {
    fn new(blocker: Blocker, proof: String) -> Credit {
        Credit { blocker, proof, without_control: false }
    }
}

/// The answer, as far as two of them are compared.
fn same(a: &Outcome, b: &Outcome) -> bool {
    (a.verdict, a.errno) == (b.verdict, b.errno)
}

/// Whether an outcome says anything: what was not tried, or ended in doubt, does not.
fn is_evidence(outcome: &Outcome) -> bool {
    !matches!(outcome.verdict, Verdict::Skip | Verdict::Inconclusive)
}

fn is_open(outcome: &Outcome) -> bool {
    matches!(outcome.verdict, Verdict::Allowed)
}

fn credit(lab: &mut impl Experiments, op: &'static Op, profile: Layers, seen: &Outcome) -> Credit {
    by_harness(lab, op)
        .or_else(|| absent(lab, op))
        .or_else(|| marked(lab, op, profile))
        .or_else(|| peeled(lab, op, profile, seen))
        .or_else(|| added(lab, op, profile, seen))
        .unwrap_or_else(|| baseline(lab, op))
}

/// Rule 0.
fn by_harness(lab: &mut impl Experiments, op: &'static Op) -> Option<Credit> {
    if op.kind != Kind::Hygiene {
        return None;
    }
    let without = lab.run(op, Setup::Room(Layers::NONE));
    // Handed in to real root, it has to be seen there.
    let is_shown = !lab.has_root() || is_open(&lab.run(op, Setup::RealRoot));
    (without.verdict == Verdict::Blocked && is_shown)
        .then(|| Credit::new(Blocker::Harness, format!("none: {}", words(&without))))
}

/// Rule 1. Without root, a target that the baseline does not find is as absent as it can be shown.
fn absent(lab: &mut impl Experiments, op: &'static Op) -> Option<Credit> {
    if lab.has_root() {
        let control = lab.run(op, Setup::RealRoot);
        // A room where it works: then something of the host's is in the control's way.
        let is_absent = control.verdict == Verdict::Blocked
            && rooms(false, lab.judged()).into_iter().all(|room| {
                let outcome = lab.run(op, room.setup);
                matches!(outcome.verdict, Verdict::Blocked | Verdict::Skip)
            });
        return is_absent.then(|| {
            Credit::new(Blocker::Kernel, format!("{}: {}", Setup::RealRoot, words(&control)))
        });
    }
    let baseline = lab.run(op, Setup::Room(Layers::NONE));
    (baseline.verdict == Verdict::Blocked && baseline.note.as_deref() == Some("not present")).then(
        || Credit {
            without_control: true,
            ..Credit::new(Blocker::Kernel, "no layer, and it is not there".into())
        },
    )
}

/// Rule 2.
fn marked(lab: &mut impl Experiments, op: &'static Op, profile: Layers) -> Option<Credit> {
    if !profile.contains(Layers::SECCOMP) {
        return None;
    }
    let setup = Setup::Marked(profile);
    let answer = lab.run(op, setup).errno.map(|e| e.0);
    (answer == Some(i32::from(agent_init::bpf::MARKER))).then(|| {
        let proof =
            format!("{}: the marker {} came back", lab.name(setup), agent_init::bpf::MARKER);
        Credit::new(Blocker::Layer(Layers::SECCOMP), proof)
    })
}

/// Rule 3.
fn peeled(
    lab: &mut impl Experiments,
    op: &'static Op,
    profile: Layers,
    seen: &Outcome,
) -> Option<Credit> {
    removable(profile).find_map(|layer| {
        let setup = Setup::Room(profile - layer.flag);
        let without = lab.run(op, setup);
        (is_evidence(&without) && !same(&without, seen)).then(|| {
            let proof = format!("{}: {}", lab.name(setup), words(&without));
            Credit::new(Blocker::Layer(layer.flag), proof)
        })
    })
}

/// The rooms that a layer is added to: what it stands on, and all namespaces of the profile.
fn contexts(profile: Layers, layer: &Layer) -> [Layers; 2] {
    [layer.needs.with_needs(), (profile & Layers::NS_ONLY) - layer.flag]
        .map(|set| set.with_needs() & profile)
}

/// Rule 4, for one layer: where it was added, and what changed. A layer with which it is allowed
/// elsewhere blocks nothing: more namespaces give more rights.
fn blocks(
    lab: &mut impl Experiments,
    op: &'static Op,
    profile: Layers,
    layer: &'static Layer,
) -> Option<(String, Outcome)> {
    let contexts = contexts(profile, layer);
    let with = contexts.map(|context| (context | layer.flag).with_needs());
    if with.into_iter().any(|set| is_open(&lab.run(op, Setup::Room(set)))) {
        return None;
    }
    contexts.into_iter().zip(with).find_map(|(context, with)| {
        let before = lab.run(op, Setup::Room(context));
        let after = lab.run(op, Setup::Room(with));
        // A guard that gives way is an answer too: only this layer makes it safe to ask.
        let was_open = is_open(&before) || before.verdict == Verdict::Skip;
        (was_open && after.verdict == Verdict::Blocked).then(|| {
            let [context, with] = [context, with].map(|layers| lab.name(Setup::Room(layers)));
            (format!("{context}: {}; {with}: {}", words(&before), words(&after)), after)
        })
    })
}

/// The filter is not among them: asked first, it would have answered rule 2. A layer that gives the
/// same answer as was seen is asked before one that gives another.
fn added(
    lab: &mut impl Experiments,
    op: &'static Op,
    profile: Layers,
    seen: &Outcome,
) -> Option<Credit> {
    let layers = LAYERS.iter().filter(|l| profile.contains(l.flag) && l.flag != Layers::SECCOMP);
    let shown = layers.filter_map(|layer| {
        let (proof, after) = blocks(lab, op, profile, layer)?;
        Some((Credit::new(Blocker::Layer(layer.flag), proof), same(&after, seen)))
    });
    let shown: Vec<_> = shown.collect();
    let at = shown.iter().position(|(_, is_same)| *is_same).unwrap_or(0);
    shown.into_iter().nth(at).map(|(credit, _)| credit)
}

/// Rule 5. Without root, or where a guard holds the control back: a capability if giving up those of
/// a room makes the difference, else what is left, which a footnote says.
fn baseline(lab: &mut impl Experiments, op: &'static Op) -> Credit {
    let setup = Setup::RealRootNoCaps;
    let outcome = lab.has_root().then(|| lab.run(op, setup));
    if let Some(outcome) = outcome.filter(|outcome| outcome.verdict != Verdict::Skip) {
        let proof = format!("{setup}: {}", words(&outcome));
        return match outcome.verdict {
            Verdict::Allowed => Credit::new(Blocker::Dac, proof),
            Verdict::Blocked => Credit::new(Blocker::Caps, proof),
            _ => Credit::new(Blocker::Unknown, proof),
        };
    }
    let with = lab.run(op, Setup::Room(Layers::NS_ONLY));
    let without = lab.run(op, Setup::Room(Layers::NS_ONLY | Layers::CAPS));
    let by_caps = is_open(&with) && without.verdict == Verdict::Blocked;
    let blocker = if by_caps { Blocker::Caps } else { Blocker::Dac };
    let proof =
        format!("in a room, with its capabilities: {}, without: {}", words(&with), words(&without));
    Credit { without_control: true, ..Credit::new(blocker, proof) }
}

/// Layers of the profile that block it alone, and a line for each that shows it.
pub fn sufficient(
    lab: &mut impl Experiments,
    op: &'static Op,
    profile: Layers,
) -> (Layers, Vec<String>) {
    let (mut layers, mut shown) = (Layers::empty(), Vec::new());
    for layer in LAYERS.iter().filter(|l| profile.contains(l.flag)) {
        if let Some((proof, _)) = blocks(lab, op, profile, layer) {
            layers |= layer.flag;
            shown.push(proof);
        }
    }
    (layers, shown)
}

fn necessary(lab: &mut impl Experiments, op: &'static Op, profile: Layers) -> Layers {
    removable(profile)
        .filter(|l| is_open(&lab.run(op, Setup::Room(profile - l.flag))))
        .fold(Layers::empty(), |set, l| set | l.flag)
}

/// `BLOCKED ENOENT`.
pub fn words(outcome: &Outcome) -> String {
    match outcome.errno {
        Some(errno) => format!("{} {}", outcome.verdict.word(), errno.name()),
        None => outcome.verdict.word().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_probe::{Errno, find};

    /// A world that answers by a rule instead of a kernel.
    struct World {
        root: bool,
        answer: fn(Setup) -> Outcome,
    }

    impl Experiments for World {
        fn run(&mut self, _: &'static Op, setup: Setup) -> Outcome {
            (self.answer)(setup)
        }

        fn has_root(&self) -> bool {
            self.root
        }
    }

    fn no(errno: i32) -> Outcome {
        Outcome::BLOCKED.errno(Errno(errno))
    }

    fn judge(root: bool, profile: Layers, answer: fn(Setup) -> Outcome) -> Cell {
        cell(&mut World { root, answer }, find("mnt-tmpfs").unwrap(), profile, "not built in")
    }

    #[test]
    fn what_real_root_cannot_do_is_credited_to_no_layer() {
        let cell = judge(true, Layers::FULL, |_| no(libc::ENOENT).note("not present"));
        assert_eq!(cell.blocker, Some(Blocker::Kernel));
        assert_eq!(cell.note.as_deref(), Some("not built in"));
        assert_eq!((cell.sufficient, cell.necessary), (Layers::empty(), Layers::empty()));
    }

    #[test]
    fn a_control_that_fails_otherwise_is_no_absence() {
        // A read-only root of the host: the room's own root can be written, landlock refuses it.
        let world = |setup| match setup {
            Setup::Room(l) | Setup::Marked(l) if l.contains(Layers::LANDLOCK) => no(libc::EACCES),
            Setup::Room(l) | Setup::Marked(l) if l.contains(Layers::MNT) => Outcome::ALLOWED,
            _ => no(libc::EROFS),
        };
        let full = judge(true, Layers::FULL, world);
        assert_eq!(full.blocker, Some(Blocker::Layer(Layers::LANDLOCK)));
        // The same errno everywhere, but a room that allows it.
        let world = |setup| match setup {
            Setup::Room(l) | Setup::Marked(l) if l.contains(Layers::LANDLOCK) => no(libc::EACCES),
            Setup::Room(l) | Setup::Marked(l) if l.contains(Layers::MNT) => Outcome::ALLOWED,
            _ => no(libc::EACCES),
        };
        let full = judge(true, Layers::FULL, world);
        assert_eq!(full.blocker, Some(Blocker::Layer(Layers::LANDLOCK)));
    }

    /// Three layers refuse with the same errno: the marker tells that the filter was first.
    fn mount(setup: Setup) -> Outcome {
        match setup {
            Setup::Marked(l) if l.contains(Layers::SECCOMP) => no(4095),
            Setup::Room(l) | Setup::Marked(l)
                if l.intersects(Layers::SECCOMP | Layers::CAPS | Layers::LANDLOCK)
                    || !l.contains(Layers::USERNS | Layers::MNT) =>
            {
                no(libc::EPERM)
            }
            Setup::RealRootNoCaps => no(libc::EPERM),
            _ => Outcome::ALLOWED,
        }
    }

    #[test]
    fn equal_errnos_are_told_apart() {
        let blocker = |profile| judge(true, profile, mount).blocker;
        assert_eq!(blocker(Layers::FULL), Some(Blocker::Layer(Layers::SECCOMP)));
        assert_eq!(blocker(Layers::WITH_LANDLOCK), Some(Blocker::Layer(Layers::LANDLOCK)));
        // caps and landlock both, same errno: caps are asked before the LSM.
        assert_eq!(blocker(Layers::FULL - Layers::SECCOMP), Some(Blocker::Layer(Layers::CAPS)));
        assert_eq!(blocker(Layers::NS_ONLY), None);
        assert_eq!(blocker(Layers::NONE), Some(Blocker::Caps));
        let full = judge(true, Layers::FULL, mount);
        assert_eq!(full.sufficient, Layers::SECCOMP | Layers::CAPS | Layers::LANDLOCK);
        assert_eq!(full.necessary, Layers::empty());
    }

    #[test]
    fn without_root_the_missing_control_is_said() {
        let cell = judge(false, Layers::NONE, mount);
        assert_eq!((cell.blocker, cell.without_control), (Some(Blocker::Caps), true));
        assert!(!judge(false, Layers::WITH_LANDLOCK, mount).without_control);
    }

    #[test]
    fn a_layer_that_answers_first_is_credited_though_another_would_refuse() {
        // mnt: ENOENT; landlock: EACCES, on the host's file too.
        let world = |setup| match setup {
            Setup::Room(l) | Setup::Marked(l) if l.contains(Layers::MNT) => no(libc::ENOENT),
            Setup::Room(l) | Setup::Marked(l) if l.contains(Layers::LANDLOCK) => no(libc::EACCES),
            _ => Outcome::ALLOWED,
        };
        let cell = judge(true, Layers::FULL, world);
        assert_eq!(cell.blocker, Some(Blocker::Layer(Layers::MNT)));
        assert_eq!(cell.sufficient, Layers::MNT | Layers::LANDLOCK);
        assert_eq!(cell.necessary, Layers::empty());
    }

    #[test]
    fn a_guard_is_no_evidence_but_what_removes_it_is() {
        let world = |setup| match setup {
            Setup::Room(l) | Setup::Marked(l) if l.contains(Layers::PID) => no(libc::ESRCH),
            _ => Outcome::SKIP.note("self-guard"),
        };
        assert_eq!(judge(true, Layers::NS_ONLY, world).blocker, Some(Blocker::Layer(Layers::PID)));
        let guarded = judge(true, Layers::NONE, world);
        assert_eq!((guarded.blocker, guarded.note), (Some(Blocker::Guard), None));
    }

    #[test]
    fn contradicting_evidence_is_inconclusive() {
        // Blocked in every room, whatever is added or taken away, and the last control fails.
        let world = |setup| match setup {
            Setup::RealRoot => Outcome::ALLOWED,
            Setup::RealRootNoCaps => Outcome::INCONCLUSIVE,
            _ => no(libc::EPERM),
        };
        assert_eq!(judge(true, Layers::FULL, world).blocker, Some(Blocker::Unknown));
    }
}
