//! What the experiments on one operation say, and whether they agree.

use agent_init::layers::{LAYERS, Layers};
use agent_probe::{Op, Outcome, Verdict};

use super::judged::{Named, columns};
use super::lattice::{self, Lattice};
use super::rooms::{self, Kind, Room};
use crate::attribute::{self, Blocker, Cell, words};
use crate::lab::{Experiments, Setup};

/// One operation.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Which.
    pub op: &'static Op,
    /// Every room it was tried in, and what happened there.
    pub rooms: Vec<(Room, Outcome)>,
    /// Its row of the matrix: a cell for each of [`columns`].
    pub cells: Vec<(Named, Cell)>,
    /// What it comes to in the judged room.
    pub state: State,
    /// Every subset of the layers, where that was asked for.
    pub lattice: Option<Lattice>,
    /// Evidence that disagrees. Not empty: the state is [`State::Inconclusive`].
    pub doubts: Vec<String>,
}

/// What an operation comes to in the judged room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It must work, and does.
    Works,
    /// It must work, and does not.
    Broken,
    /// Refused, and a primitive is shown to be the cause.
    Blocked,
    /// It works, on what is the room's own.
    Contained,
    /// It is there, its content is not.
    Redacted,
    /// It is allowed.
    Open,
    /// Nobody can do it on this host, not even real root.
    Absent,
    /// It was not tried.
    Skipped,
    /// The evidence disagrees, or is not enough.
    Inconclusive,
}

impl State {
    /// The word in reports.
    pub fn word(self) -> &'static str {
        match self {
            State::Works => "works",
            State::Broken => "broken",
            State::Blocked => "blocked",
            State::Contained => "contained",
            State::Redacted => "redacted",
            State::Open => "open",
            State::Absent => "absent",
            State::Skipped => "skipped",
            State::Inconclusive => "inconclusive",
        }
    }

    /// All of them, for whoever reads a word.
    pub const ALL: [State; 9] = [
        State::Works,
        State::Broken,
        State::Blocked,
        State::Contained,
        State::Redacted,
        State::Open,
        State::Absent,
        State::Skipped,
        State::Inconclusive,
    ];
}

/// Makes all experiments on one operation, and draws the conclusions.
pub fn of(lab: &mut impl Experiments, op: &'static Op) -> Finding {
    let judged = lab.judged();
    let cells = columns(judged)
        .into_iter()
        .map(|column| (column, attribute::cell(lab, op, column.layers, "not present")))
        .collect();
    let tried = rooms::rooms(lab.has_root(), judged).into_iter().map(|room| {
        let outcome = lab.run(op, room.setup);
        (room, outcome)
    });
    let mut finding = Finding {
        op,
        rooms: tried.collect(),
        cells,
        state: State::Inconclusive,
        lattice: None,
        doubts: Vec::new(),
    };
    finding.doubts = doubts(&finding);
    // Shown for what is allowed too: a layer that blocks it alone and not in the judged room is in doubt.
    let (sufficient, shown) = attribute::sufficient(lab, op, judged.layers);
    finding.doubts.extend(contradictions(&finding, sufficient, &shown));
    finding.state = state(&finding);
    finding
}

impl Finding {
    /// Tries every subset of the layers; what contradicts is a doubt of the operation.
    pub fn add_lattice(&mut self, lab: &mut impl Experiments) {
        let lattice = lattice::of(lab, self.op);
        self.doubts.extend(lattice.doubts.iter().cloned());
        self.lattice = Some(lattice);
        self.state = state(self);
    }

    /// The judged room, and its cell there.
    pub fn judged(&self) -> Option<&(Named, Cell)> {
        self.cells.last()
    }

    /// Its cell in the judged room.
    pub fn cell(&self) -> Option<&Cell> {
        self.judged().map(|(_, cell)| cell)
    }

    /// What happened in a room.
    pub fn outcome(&self, setup: Setup) -> Option<&Outcome> {
        self.rooms.iter().find(|(room, _)| room.setup == setup).map(|(_, outcome)| outcome)
    }

    /// Layers that are enough alone: how many mistakes away the agent is.
    pub fn depth(&self) -> usize {
        self.cell().map_or(0, |cell| cell.enough().iter().count())
    }

    /// Whether namespaces alone leave it open.
    pub fn is_open_in(&self, layers: Layers) -> bool {
        self.outcome(Setup::Room(layers)).is_some_and(|o| o.verdict == Verdict::Allowed)
    }
}

fn state(finding: &Finding) -> State {
    let Some(cell) = finding.cell().filter(|_| finding.doubts.is_empty()) else {
        return State::Inconclusive;
    };
    match cell.outcome.verdict {
        Verdict::Inconclusive => State::Inconclusive,
        Verdict::Skip => State::Skipped,
        _ if cell.blocker == Some(Blocker::Kernel) => State::Absent,
        Verdict::Allowed | Verdict::Contained if finding.op.must_work() => State::Works,
        _ if finding.op.must_work() => State::Broken,
        Verdict::Allowed => State::Open,
        Verdict::Blocked => State::Blocked,
        Verdict::Contained => State::Contained,
        Verdict::Redacted => State::Redacted,
    }
}

/// What speaks against a conclusion, a line each.
fn doubts(finding: &Finding) -> Vec<String> {
    let mut doubts: Vec<String> = Vec::new();
    for (room, outcome) in &finding.rooms {
        let decides = matches!(room.kind, Kind::Control | Kind::Profile);
        if decides && outcome.verdict == Verdict::Inconclusive {
            let why = outcome.note.as_deref().unwrap_or("the probe did not say why");
            doubts.push(format!("{}: {why}", room.name));
        }
    }
    for (column, cell) in &finding.cells {
        // Others are told above.
        let is_seen = cell.outcome.verdict != Verdict::Inconclusive;
        if cell.blocker == Some(Blocker::Unknown) && is_seen {
            let (name, seen, answers) = (column.name, words(&cell.outcome), &cell.proof);
            doubts.push(format!("{name}: {seen}, and no experiment shows by what: {answers}"));
        }
    }
    doubts
}

/// A layer that blocks it alone must block it in every room that has the layer.
fn contradictions(finding: &Finding, sufficient: Layers, shown: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let layers = LAYERS.iter().filter(|layer| sufficient.contains(layer.flag));
    for (layer, shown) in layers.zip(shown) {
        for (room, outcome) in &finding.rooms {
            if let Setup::Room(layers) = room.setup
                && layers.contains(layer.flag)
                && outcome.verdict == Verdict::Allowed
            {
                found.push(format!(
                    "{} blocks it ({shown}), yet {} allows it",
                    layer.name, room.name
                ));
            }
        }
    }
    found
}

/// The chain of experiments, a sentence a line, from the control to the conclusion.
pub fn chain(finding: &Finding) -> Vec<String> {
    let mut lines = Vec::new();
    let said = |outcome: &Outcome| {
        let note = outcome.note.as_ref().map_or(String::new(), |note| format!(" ({note})"));
        format!("{}{note}", words(outcome))
    };
    match finding.outcome(Setup::RealRoot) {
        Some(control) => lines.push(format!("real root, no layer: {}", said(control))),
        None => lines.push("no control: only root can show that it works at all here".into()),
    }
    for (column, cell) in &finding.cells {
        let by = match cell.blocker {
            // What the room answered may be another's than what the host answers.
            Some(Blocker::Kernel) => ", by no layer".into(),
            Some(blocker) => format!(", by {}", blocker.word()),
            None => String::new(),
        };
        let proof = match cell.proof.as_str() {
            "" => String::new(),
            proof => format!("; shown by: {proof}"),
        };
        lines.push(format!("{}: {}{by}{proof}", column.name, said(&cell.outcome)));
    }
    if let Some((judged, cell)) = finding.judged() {
        lines.extend(cell.shown.iter().map(|line| format!("enough alone: {line}")));
        for layer in LAYERS.iter().filter(|layer| cell.necessary.contains(layer.flag)) {
            let without = Setup::Room(judged.layers - layer.flag);
            let outcome = finding.outcome(without).map_or_else(String::new, said);
            lines.push(format!("nothing else would: {}: {outcome}", rooms::name(*judged, without)));
        }
    }
    if let Some(lattice) = &finding.lattice {
        lines.push(format!("all subsets: {}", in_words(lattice)));
    }
    lines.extend(finding.doubts.iter().map(|doubt| format!("in doubt: {doubt}")));
    lines.push(conclusion(finding));
    lines
}

fn conclusion(finding: &Finding) -> String {
    let blocker = finding.cell().and_then(|cell| cell.blocker).map_or("nothing", Blocker::word);
    let room = finding.judged().map_or("no room", |(judged, _)| judged.name);
    match finding.state {
        State::Blocked => {
            format!("so in {room} it is blocked, first by {blocker}; depth {}", finding.depth())
        }
        state @ (State::Contained | State::Redacted) => {
            let word = state.word();
            format!("so in {room} it is {word}, by {blocker}; depth {}", finding.depth())
        }
        State::Absent => "so nothing of the room is credited: real root cannot do it either".into(),
        state => format!("so in {room}: {}", state.word()),
    }
}

/// `540 of 645 sets block it; enough: seccomp, or mnt+caps`.
pub fn in_words(lattice: &Lattice) -> String {
    let sets: Vec<_> = lattice.minimal.iter().map(|set| lattice::spelled(*set)).collect();
    let which = if sets.is_empty() { "none for sure".into() } else { sets.join(", or ") };
    format!("{} of {} sets block it; enough: {which}", lattice.blocking, lattice.rooms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_probe::{Errno, find};

    /// A world that answers by a rule instead of a kernel.
    struct World(fn(Setup) -> Outcome);

    impl Experiments for World {
        fn run(&mut self, _: &'static Op, setup: Setup) -> Outcome {
            // Who is root inside is the same to these worlds.
            match setup {
                Setup::RootInside(layers) => (self.0)(Setup::Room(layers)),
                other => (self.0)(other),
            }
        }

        fn has_root(&self) -> bool {
            true
        }
    }

    fn found(answer: fn(Setup) -> Outcome) -> Finding {
        of(&mut World(answer), find("ptrace-traceme").unwrap())
    }

    fn no(errno: i32) -> Outcome {
        Outcome::BLOCKED.errno(Errno(errno))
    }

    /// What the filter does to ptrace.
    fn filter(setup: Setup) -> Outcome {
        match setup {
            Setup::Room(layers) if layers.contains(Layers::SECCOMP) => no(libc::EPERM),
            Setup::Marked(_) => no(4095),
            _ => Outcome::ALLOWED,
        }
    }

    #[test]
    fn evidence_that_agrees_is_a_verdict() {
        let finding = found(filter);
        assert_eq!((finding.state, finding.depth()), (State::Blocked, 1));
        assert_eq!(finding.cell().unwrap().necessary, Layers::SECCOMP);
        let chain = chain(&finding);
        assert_eq!(chain.first().unwrap(), "real root, no layer: ALLOWED");
        assert!(chain.contains(&"nothing else would: full-seccomp: ALLOWED".into()), "{chain:?}");
        assert_eq!(
            chain.last().unwrap(),
            "so in full it is blocked, first by seccomp; depth 1",
            "{chain:?}"
        );
    }

    /// The filter is not there in `full`, whatever the harness says that it has asked for.
    #[test]
    fn a_layer_switched_off_behind_our_back_is_noticed() {
        let finding = found(|setup| match setup {
            Setup::Room(Layers::FULL) | Setup::Marked(Layers::FULL) => Outcome::ALLOWED,
            other => filter(other),
        });
        assert_eq!(finding.state, State::Inconclusive);
        assert!(finding.doubts[0].starts_with("seccomp blocks it"), "{:?}", finding.doubts);
        assert!(finding.doubts[0].ends_with("yet full allows it"), "{:?}", finding.doubts);
    }

    #[test]
    fn a_control_that_fails_gives_no_credit() {
        let finding = found(|setup| match setup {
            Setup::Marked(_) => no(4095),
            _ => no(libc::ENOENT),
        });
        assert_eq!((finding.state, finding.depth()), (State::Absent, 0));
        let line = "none: BLOCKED ENOENT, by no layer; shown by: real root: BLOCKED ENOENT";
        assert!(chain(&finding).contains(&line.into()), "{:?}", chain(&finding));
    }

    /// The filter answers first, to what nobody can: iopl(2) of a kernel that has it not.
    #[test] // seen to fail with `credit::refusal` that is the same for both
    fn an_answer_that_is_not_the_controls_is_not_explained_by_it() {
        let finding = found(|setup| match setup {
            Setup::Room(_) | Setup::Marked(_) => filter(setup),
            _ => no(libc::ENOSYS),
        });
        assert_eq!(finding.state, State::Blocked, "a room allows it: {:?}", chain(&finding));
        let finding = found(|setup| match filter(setup) {
            refused if refused.verdict == Verdict::Blocked => refused,
            _ => no(libc::ENOSYS),
        });
        assert_eq!((finding.state, finding.depth()), (State::Absent, 0));
        let line =
            "full: BLOCKED EPERM, by no layer; shown by: real root is refused too: BLOCKED ENOSYS";
        assert!(chain(&finding).contains(&line.into()), "{:?}", chain(&finding));
    }

    #[test]
    fn a_control_without_an_answer_is_a_doubt() {
        let finding = found(|setup| match setup {
            Setup::RealRoot => Outcome::INCONCLUSIVE.note("the fixture has died"),
            other => filter(other),
        });
        assert_eq!(finding.state, State::Inconclusive);
        assert_eq!(finding.doubts, ["real root: the fixture has died"]);
    }
}
