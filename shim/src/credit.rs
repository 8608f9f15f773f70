//! Which primitive is credited, derived from experiments. No table here says that some errno means
//! some layer. Two outcomes are only ever compared.
//!
//! A refusal is credited by the first of these that holds, each with the experiment that shows it:
//!
//! 1. No layer is asked. Of a row about resources: the same room without a limit allows it, so it is
//!    the limit. Of one about what is handed in ([`Kind::Hygiene`]): refused in `none` too, it is
//!    the `harness`, which hands nothing in.
//! 2. It fails as real root with no layer, too, and in every room: `kernel`, and no layer. Where real
//!    root gets another answer, that is said, as the one that was seen is not explained by it.
//! 3. With the filter's answers marked, the marker comes back: `seccomp`, which is asked first.
//! 4. Layers are taken out one by one, in the order in which the kernel asks them. The first whose
//!    absence changes the answer gave the answer.
//! 5. No absence of one layer changes it, as others give the same answer. Then layers are added: to
//!    what they stand on, to the namespaces, to real root. The first is credited that turns "allowed"
//!    into the answer that was seen. Between those that decide what a path or number is looked up in
//!    and those that are asked after that stand owner and mode of the file:
//! 6. An ordinary user without a layer gets the same answer, and so does one in the namespaces alone.
//!    Root without capabilities may do it: `DAC`; it gets that answer: `caps`. Else another id, with
//!    every capability but those over files, gets it: `DAC`; it may: `caps`. That it may is asked
//!    first where no file decides: kill(2) wants the same id or a capability. `caps` only where no
//!    user namespace gives any.
//! 7. In the namespaces alone, the capabilities given up are what makes it that answer: `caps`, which
//!    are asked before the LSM.
//! 8. A layer that turns "allowed" into another refusal: it would refuse too, and what answers before
//!    it is not told apart.
//! 9. A layer that turns another answer into the one that was seen.
//! 10. Real root with no layer gets the same answer, though some room allows it: `kernel`.
//! 11. Else nothing is: told with the answers that differ. Without root, it is the `host`.
//!
//! What is contained or redacted is credited by 4, 5, 6 and 9: 4 asks what is allowed without a layer.

use agent_init::layers::{LAYERS, Layer, Layers};
use agent_probe::{Kind, Op, Outcome, Verdict};

use crate::attribute::{Blocker, words};
use crate::lab::{Experiments, Limit, Setup};
use crate::proof::rooms::{removable, rooms};

/// What is credited, and why.
#[derive(Debug)]
pub struct Credit {
    /// What.
    pub blocker: Blocker,
    /// The decisive experiment, in words.
    pub proof: String,
    /// It would need a control that could not be run.
    pub without_control: bool,
}

impl Credit {
    fn new(blocker: Blocker, proof: String) -> Credit {
        Credit { blocker, proof, without_control: false }
    }

    fn layer(layer: Layers, proof: String) -> Credit {
        Credit::new(Blocker::Layer(layer), proof)
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
    outcome.verdict == Verdict::Allowed
}

/// It works and its effect stays inside, or there is nothing to be seen.
pub fn is_kept(outcome: &Outcome) -> bool {
    matches!(outcome.verdict, Verdict::Contained | Verdict::Redacted)
}

/// Credits what was `seen` in the room of `profile`.
pub fn of(lab: &mut impl Experiments, op: &'static Op, profile: Layers, seen: &Outcome) -> Credit {
    let case = Case { op, profile, seen };
    if is_kept(seen) {
        return peeled(lab, case)
            .or_else(|| added(lab, case, LAYERS))
            .or_else(|| baseline(lab, case))
            .or_else(|| changed(lab, case))
            .unwrap_or_else(|| unknown(lab, case));
    }
    by_limit(lab, case)
        .or_else(|| by_harness(lab, op))
        .or_else(|| absent(lab, case))
        .or_else(|| marked(lab, case))
        .or_else(|| peeled(lab, case))
        .or_else(|| added(lab, case, looked_up_in()))
        .or_else(|| baseline(lab, case))
        .or_else(|| given_up(lab, case))
        .or_else(|| added(lab, case, LAYERS))
        .or_else(|| refused_too(lab, case))
        .or_else(|| changed(lab, case))
        .or_else(|| by_host(lab, case))
        .unwrap_or_else(|| unknown(lab, case))
}

/// What is to be explained.
#[derive(Clone, Copy)]
struct Case<'a> {
    op: &'static Op,
    profile: Layers,
    seen: &'a Outcome,
}

/// Rule 1, of what is used up.
fn by_limit(lab: &mut impl Experiments, case: Case) -> Option<Credit> {
    if case.op.group != "resource" {
        return None;
    }
    Limit::ALL.into_iter().find_map(|limit| {
        let without = lab.run(case.op, Setup::Unlimited(case.profile, limit));
        is_open(&without).then(|| {
            let room = lab.name(Setup::Unlimited(case.profile, limit));
            Credit::new(Blocker::Limit(limit), format!("{room}: {}", words(&without)))
        })
    })
}

/// Rule 1, of what is handed in.
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

/// Rule 2. Without root, a target that the baseline does not find is as absent as it can be shown.
fn absent(lab: &mut impl Experiments, Case { op, seen, .. }: Case) -> Option<Credit> {
    if lab.has_root() {
        let control = lab.run(op, Setup::RealRoot);
        // A room where it works: then something of the host's is in the control's way.
        let is_absent = control.verdict == Verdict::Blocked
            && rooms(false, lab.judged()).into_iter().all(|room| {
                let outcome = lab.run(op, room.setup);
                outcome.verdict == Verdict::Blocked || !is_evidence(&outcome)
            });
        return is_absent.then(|| Credit::new(Blocker::Kernel, refusal(&control, seen)));
    }
    let baseline = lab.run(op, Setup::Room(Layers::NONE));
    (baseline.verdict == Verdict::Blocked && baseline.note.as_deref() == Some("not present")).then(
        || Credit {
            without_control: true,
            ..Credit::new(Blocker::Kernel, "no layer, and it is not there".into())
        },
    )
}

/// What the control got. Another answer than was seen does not explain that one: the filter may answer
/// before a call that nobody has, and a cgroup of the host's may hold back what is not in the room.
fn refusal(control: &Outcome, seen: &Outcome) -> String {
    let too = if same(control, seen) { "" } else { " is refused too" };
    format!("{}{too}: {}", Setup::RealRoot, words(control))
}

/// Whether it is not there for the control either, so that this is what was seen.
pub fn is_missing(lab: &mut impl Experiments, op: &'static Op, seen: &Outcome) -> bool {
    let control = if lab.has_root() { Setup::RealRoot } else { Setup::Room(Layers::NONE) };
    [seen, &lab.run(op, control)].iter().all(|o| o.note.as_deref() == Some("not present"))
}

/// Rule 3.
fn marked(lab: &mut impl Experiments, case: Case) -> Option<Credit> {
    if !case.profile.contains(Layers::SECCOMP) {
        return None;
    }
    let setup = Setup::Marked(case.profile);
    let answer = lab.run(case.op, setup).errno.map(|e| e.0);
    (answer == Some(i32::from(agent_init::bpf::MARKER))).then(|| {
        let marker = agent_init::bpf::MARKER;
        let proof = format!("{}: the marker {marker} came back", lab.name(setup));
        Credit::layer(Layers::SECCOMP, proof)
    })
}

/// Rule 4.
fn peeled(lab: &mut impl Experiments, case: Case) -> Option<Credit> {
    removable(case.profile).find_map(|layer| {
        let (flag, setup) = without(lab, case.op, case.profile, layer);
        let outcome = lab.run(case.op, setup);
        let changes = match is_kept(case.seen) {
            true => is_open(&outcome),
            false => is_evidence(&outcome) && !same(&outcome, case.seen),
        };
        changes.then(|| Credit::layer(flag, format!("{}: {}", lab.name(setup), words(&outcome))))
    })
}

/// The room without a layer, and what its absence speaks of. An agent that keeps its capabilities is
/// root of its user namespace, one that does not is itself: where the other id alone changes the
/// answer, it is the id map.
fn without(
    lab: &mut impl Experiments,
    op: &'static Op,
    profile: Layers,
    layer: &Layer,
) -> (Layers, Setup) {
    if layer.flag == Layers::CAPS && profile.contains(Layers::USERNS) {
        let as_root = Setup::RootInside(profile);
        let (seen, mapped) = (lab.run(op, Setup::Room(profile)), lab.run(op, as_root));
        if is_evidence(&mapped) && !same(&seen, &mapped) {
            return (Layers::USERNS, as_root);
        }
    }
    (layer.flag, Setup::Room(profile - layer.flag))
}

/// Layers of the profile without which it is allowed.
pub fn necessary(lab: &mut impl Experiments, op: &'static Op, profile: Layers) -> Layers {
    removable(profile).fold(Layers::empty(), |set, layer| {
        let (flag, setup) = without(lab, op, profile, layer);
        if is_open(&lab.run(op, setup)) { set | flag } else { set }
    })
}

/// Where a layer is added, and what that makes: a room with what it stands on; one with all namespaces
/// of the profile; real root.
fn additions(profile: Layers, layer: &Layer, has_root: bool) -> Vec<(Setup, Setup)> {
    let namespaces = (profile & Layers::NS_ONLY) - layer.flag;
    let rooms = [layer.needs.with_needs(), namespaces].map(|set| {
        let context = set.with_needs() & profile;
        (Setup::Room(context), Setup::Room((context | layer.flag).with_needs()))
    });
    let root = has_root.then_some((Setup::RealRoot, Setup::RootWith(layer.flag)));
    rooms.into_iter().chain(root).collect()
}

/// One layer: where it was added, and what changed from "allowed" into what is asked for. A layer
/// with which it is allowed in some room blocks nothing: more namespaces give more rights, and real
/// root is not the id of whoever may it by that.
pub fn turns(
    lab: &mut impl Experiments,
    op: &'static Op,
    profile: Layers,
    layer: &'static Layer,
    into: impl Fn(&Outcome) -> bool,
) -> Option<(String, Outcome)> {
    let additions = additions(profile, layer, lab.has_root());
    let rooms = additions.iter().map(|(_, with)| *with);
    let rooms = rooms
        .filter(|with| matches!(with, Setup::Room(_)))
        .chain(standing_on(profile, layer))
        .chain(is_implied(layer).then_some(Setup::Room(Layers::NONE)));
    for room in rooms.collect::<Vec<_>>() {
        if is_open(&lab.run(op, room)) {
            return None;
        }
    }
    additions.into_iter().find_map(|(context, with)| {
        let before = lab.run(op, context);
        let after = lab.run(op, with);
        // A guard that gives way is an answer too: only this layer makes it safe to ask.
        let was_open = is_open(&before) || before.verdict == Verdict::Skip;
        if !was_open || !into(&after) {
            return None;
        }
        if !is_of_layer(lab, op, layer, with, &into) {
            return None;
        }
        let [context, with] = [context, with].map(|setup| lab.name(setup));
        Some((format!("{context}: {}; {with}: {}", words(&before), words(&after)), after))
    })
}

/// Whether an answer is the layer's, and not that of the id map which comes with it: see `without`.
fn is_of_layer(
    lab: &mut impl Experiments,
    op: &'static Op,
    layer: &Layer,
    with: Setup,
    into: impl Fn(&Outcome) -> bool,
) -> bool {
    match (layer.flag, with) {
        (Layers::CAPS, Setup::Room(set)) => into(&lab.run(op, Setup::RootInside(set))),
        _ => true,
    }
}

/// The rooms of one namespace more, that this layer gives the right to.
fn standing_on(profile: Layers, layer: &Layer) -> impl Iterator<Item = Setup> {
    let flag = layer.flag;
    let namespaces = LAYERS.iter().filter(move |l| (profile & Layers::NS_ONLY).contains(l.flag));
    let standing = namespaces.filter(move |l| l.needs.contains(flag));
    standing.map(|l| Setup::Room(l.flag.with_needs()))
}

/// Whether an agent without any layer is as if it had this one: an ordinary user has no capability.
fn is_implied(layer: &Layer) -> bool {
    layer.flag == Layers::CAPS
}

/// What a path or a number is looked up in: asked before whose it is.
fn looked_up_in() -> &'static [Layer] {
    let is_later = |layer: &Layer| layer.flag == Layers::USERNS;
    LAYERS.split(is_later).next().unwrap_or(LAYERS)
}

/// Rule 5. The filter is not among them: asked first, it would have answered rule 3.
fn added(lab: &mut impl Experiments, case: Case, layers: &'static [Layer]) -> Option<Credit> {
    let mut layers = of_profile(case.profile, layers);
    layers.find_map(|layer| {
        let answers = |outcome: &Outcome| same(outcome, case.seen);
        let (proof, _) = turns(lab, case.op, case.profile, layer, answers)?;
        Some(Credit::layer(layer.flag, proof))
    })
}

fn of_profile(profile: Layers, layers: &'static [Layer]) -> impl Iterator<Item = &'static Layer> {
    layers.iter().filter(move |l| profile.contains(l.flag) && l.flag != Layers::SECCOMP)
}

/// Rule 7. Whatever the namespaces answer: "allowed", on what is the room's own, or another refusal.
fn given_up(lab: &mut impl Experiments, case: Case) -> Option<Credit> {
    let caps = LAYERS.iter().find(|l| l.flag == Layers::CAPS && case.profile.contains(l.flag))?;
    let namespaces = case.profile & Layers::NS_ONLY;
    let [context, with] = [namespaces, namespaces | caps.flag].map(Setup::Room);
    changes(lab, case, caps, (context, with))
}

/// Rule 8.
fn refused_too(lab: &mut impl Experiments, case: Case) -> Option<Credit> {
    of_profile(case.profile, LAYERS).find_map(|layer| {
        let is_refusal = |outcome: &Outcome| outcome.verdict == Verdict::Blocked;
        let (proof, _) = turns(lab, case.op, case.profile, layer, is_refusal)?;
        Some(Credit::layer(layer.flag, proof))
    })
}

/// Rule 9.
fn changed(lab: &mut impl Experiments, case: Case) -> Option<Credit> {
    let has_root = lab.has_root();
    of_profile(case.profile, LAYERS).find_map(|layer| {
        let mut additions = additions(case.profile, layer, has_root).into_iter();
        additions.find_map(|pair| changes(lab, case, layer, pair))
    })
}

/// That a layer turns another answer into the one that was seen.
fn changes(
    lab: &mut impl Experiments,
    case: Case,
    layer: &Layer,
    (context, with): (Setup, Setup),
) -> Option<Credit> {
    let [before, after] = [context, with].map(|setup| lab.run(case.op, setup));
    let answers = |outcome: &Outcome| same(outcome, case.seen);
    let changes = is_evidence(&before) && !answers(&before) && answers(&after);
    (changes && is_of_layer(lab, case.op, layer, with, answers)).then(|| {
        let [context, with] = [context, with].map(|setup| lab.name(setup));
        let (before, after) = (words(&before), words(&after));
        Credit::layer(layer.flag, format!("{context}: {before}; {with}: {after}"))
    })
}

/// Rule 6.
fn baseline(lab: &mut impl Experiments, case: Case) -> Option<Credit> {
    // In the namespaces of the profile the object may be the room's own, and another layer's to refuse.
    for set in [Layers::NONE, case.profile & Layers::NS_ONLY] {
        if !same(&lab.run(case.op, Setup::Room(set)), case.seen) {
            return None;
        }
    }
    if !lab.has_root() {
        return without_root(lab, case);
    }
    // In a user namespace of its own the agent has all capabilities, unless they are taken.
    let lacks = !case.profile.contains(Layers::USERNS);
    let control = lab.run(case.op, Setup::RealRoot);
    if !is_open(&control) {
        return guarded(lab, case, &control);
    }
    let other_first = (!is_of_files(case.op)).then_some(Blocker::Caps);
    for (setup, if_same, if_open) in [
        (Setup::OtherId, None, other_first),
        (Setup::RootWith(Layers::CAPS), Some(Blocker::Caps), Some(Blocker::Dac)),
        (Setup::OtherId, Some(Blocker::Dac), Some(Blocker::Caps)),
    ] {
        let outcome = lab.run(case.op, setup);
        let blocker = match () {
            () if is_open(&outcome) => if_open,
            () if same(&outcome, case.seen) => if_same,
            () => None,
        };
        let Some(blocker) = blocker else { continue };
        let proof = format!("{}: {}", lab.name(setup), words(&outcome));
        return (blocker != Blocker::Caps || lacks).then(|| Credit::new(blocker, proof));
    }
    None
}

/// Whether owner and mode of a file decide.
fn is_of_files(op: &Op) -> bool {
    ["fs", "dev", "proc"].contains(&op.group)
}

/// The control is held back by a guard, so that a room is all there is.
fn guarded(lab: &mut impl Experiments, case: Case, control: &Outcome) -> Option<Credit> {
    if control.verdict != Verdict::Skip { None } else { by_giving(lab, case) }
}

/// A capability, if giving up those of a room makes the difference.
fn by_giving(lab: &mut impl Experiments, case: Case) -> Option<Credit> {
    let [with, without] =
        [Setup::Room(Layers::NS_ONLY), Setup::RootInside(Layers::NS_ONLY | Layers::CAPS)]
            .map(|setup| lab.run(case.op, setup));
    let is_shown = (is_open(&with) || is_kept(&with)) && without.verdict == Verdict::Blocked;
    is_shown.then(|| {
        let (with, without) = (words(&with), words(&without));
        let proof = format!("in a room, with its capabilities: {with}, without: {without}");
        Credit { without_control: true, ..Credit::new(Blocker::Caps, proof) }
    })
}

/// What an ordinary user can say: a capability where a room's makes the difference. Of a file that is
/// not absent, EACCES is owner and mode; that is what open(2) says, and no proof.
fn without_root(lab: &mut impl Experiments, case: Case) -> Option<Credit> {
    if let Some(credit) = by_giving(lab, case) {
        return Some(credit);
    }
    let is_file = ["fs", "dev"].contains(&case.op.group);
    let denied = case.seen.errno == Some(agent_probe::Errno(libc::EACCES));
    let blocker = if is_file && denied { Blocker::Dac } else { Blocker::Host };
    let proof = format!("none: {}", words(case.seen));
    Some(Credit { without_control: true, ..Credit::new(blocker, proof) })
}

/// Rule 10.
fn by_host(lab: &mut impl Experiments, case: Case) -> Option<Credit> {
    let control = lab.has_root().then(|| lab.run(case.op, Setup::RealRoot))?;
    same(&control, case.seen)
        .then(|| Credit::new(Blocker::Kernel, format!("{}: {}", Setup::RealRoot, words(&control))))
}

/// Rule 11.
fn unknown(lab: &mut impl Experiments, case: Case) -> Credit {
    let none = Setup::Room(Layers::NONE);
    let [caps, userns] = [Layers::CAPS, Layers::USERNS].map(Setup::RootWith);
    let setups = match lab.has_root() {
        true => vec![none, Setup::RealRoot, caps, userns, Setup::OtherId],
        false => vec![none],
    };
    let answers = setups.into_iter().map(|setup| {
        let outcome = lab.run(case.op, setup);
        format!("{}: {}", lab.name(setup), words(&outcome))
    });
    let proof = answers.collect::<Vec<_>>().join("; ");
    match lab.has_root() {
        true => Credit::new(Blocker::Unknown, proof),
        false => Credit { without_control: true, ..Credit::new(Blocker::Host, proof) },
    }
}
