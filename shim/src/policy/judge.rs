//! What is wrong with a filter, ours or another program's. Each finding is a defect by the kernel's rules or by our
//! table, and where it can be shown by a call, that call was run through the program. Notes are no defects.

use agent_init::nr::Arch;
use agent_init::policy::{AGENT, Row};

use super::cube;
use super::dump::archs;
use super::insn::{Op, Program};
use super::run::{Call, result};
use super::set::Set;
use super::symbol::Word;
use super::verdict::Action;
use super::walk::{Budget, Calls, Leaf, TooComplex, Walk, walk};
use super::{widths, words};

/// What there is to say.
#[derive(Debug, Default)]
pub struct Judgement {
    /// Each return value with those who get it.
    pub returns: Vec<String>,
    /// Defects.
    pub findings: Vec<String>,
    /// Worth knowing.
    pub notes: Vec<String>,
}

/// Judges a program that was walked.
pub fn judge(program: &Program, walked: &Walk, budget: &mut Budget) -> Judgement {
    judge_by(AGENT, program, walked, budget)
}

/// The same by another table.
pub fn judge_by(
    rows: &'static [Row],
    program: &Program,
    walked: &Walk,
    budget: &mut Budget,
) -> Judgement {
    let mut judge = Judge { rows, program, walked, budget, judgement: Judgement::default() };
    judge.returns();
    judge.unreachable();
    judge.architectures();
    judge.numbers();
    if judge.calls().is_err() {
        judge.find(TOO_COMPLEX.into());
    }
    judge.judgement
}

/// Where a walk ended early: what is not looked at is not sound.
pub const TOO_COMPLEX: &str =
    "too complex: it has more paths than are followed here, and is not judged to the end";

struct Judge<'a> {
    rows: &'static [Row],
    program: &'a Program,
    walked: &'a Walk,
    budget: &'a mut Budget,
    judgement: Judgement,
}

impl Judge<'_> {
    fn arch(&self) -> &'static Arch {
        self.program.arch()
    }

    fn find(&mut self, what: String) {
        self.judgement.findings.push(what);
    }

    fn note(&mut self, what: String) {
        self.judgement.notes.push(what);
    }

    /// Of this machine's numbers, those that may get a verdict.
    fn who(&self, verdict: impl Fn(Action) -> bool) -> Set {
        let ends = self.walked.leaves.iter().filter(|leaf| is(leaf, &verdict));
        let native = ends.filter(|leaf| leaf.calls.archs().contains(self.arch().audit_arch));
        native.fold(Set::none(), |set, leaf| set.or(leaf.calls.numbers()))
    }

    fn returns(&mut self) {
        let mut actions: Vec<Action> =
            self.walked.leaves.iter().filter_map(|leaf| leaf.result.map(Action::of)).collect();
        actions.sort();
        actions.dedup();
        for action in actions {
            let numbers = self.who(|a| a == action);
            let known = known(self.arch()).and(&numbers).count();
            let weaker = if action.is_weaker_than_kill() { "weaker than kill" } else { "" };
            let line = format!(
                "{:<18}{weaker:<18}{known:>4} of {} known calls",
                action.word(),
                self.arch().calls.len()
            );
            self.judgement.returns.push(line);
            match action {
                Action::KillThread => {
                    self.note("kill_thread leaves the other threads of a process running".into());
                }
                Action::Trap => self.note("trap: a process can catch SIGSYS and go on".into()),
                Action::Errno(0) => {
                    let example =
                        self.example(&self.own_first(action), &Set::all(), |a| a == action);
                    self.find(format!("errno 0: the call is skipped and looks done{example}"));
                }
                Action::UserNotif | Action::Trace => self.note(format!(
                    "{}: {}; what lies behind a pointer can change after it has looked",
                    action.word(),
                    action.words()
                )),
                Action::Log => self.note("log makes the call, as allow does".into()),
                Action::Other(_) => self.note(action.words()),
                Action::KillProcess | Action::Errno(_) | Action::Allow => {}
            }
        }
        if let Some(leaf) = self.computed() {
            let own = Calls::all().with(Call::ARCH, Word::of(Set::one(self.arch().audit_arch)));
            let call = leaf.calls.and(&own).unwrap_or(leaf.calls.clone()).example();
            let example = call.map_or_else(String::new, |call| {
                let verdict = Action::of(result(self.program, &call)).word();
                format!(", for example of {}: {verdict}", self.call(&call))
            });
            self.find(format!(
                "instruction {}: returns what it computed, not one verdict{example}",
                leaf.pc
            ));
        }
        let pointer = |op: &Op| matches!(op, Op::Load(word) if Call::POINTER.contains(word));
        if self.program.ops().iter().any(pointer) {
            self.note(
                "the instruction pointer is looked at: a caller can jump to where it likes".into(),
            );
        }
    }

    /// A return of what is not known, so of any verdict.
    fn computed(&self) -> Option<&Leaf> {
        self.walked.leaves.iter().find(|leaf| leaf.result.is_none())
    }

    /// This machine's architecture, if a call of it may get the verdict; else any.
    fn own_first(&self, action: Action) -> Set {
        let is_own = !self.who(|a| a == action).is_empty();
        if is_own { Set::one(self.arch().audit_arch) } else { Set::all() }
    }

    /// One such call, which was run through the program: `, for example ptrace(0x10)`. Nothing, if none was found.
    fn example(&mut self, archs: &Set, numbers: &Set, verdict: impl Fn(Action) -> bool) -> String {
        let among = Calls::all()
            .with(Call::ARCH, Word::of(archs.clone()))
            .with(Call::NUMBER, Word::of(numbers.clone()));
        let ends = self.walked.leaves.iter().filter(|leaf| is(leaf, &verdict));
        let Some(mut call) = ends.filter_map(|leaf| leaf.calls.and(&among)?.example()).next()
        else {
            return String::new();
        };
        if !verdict(Action::of(result(self.program, &call))) {
            // With other arguments: they were forgotten on the way.
            let calls = Calls::of(call.0[Call::ARCH], call.0[Call::NUMBER]);
            let Ok(walked) = walk(self.program, calls, true, self.budget) else {
                return String::new();
            };
            let mut ends = walked.leaves.iter().filter(|leaf| is(leaf, &verdict));
            match ends.find_map(|leaf| leaf.confirmed(self.program)) {
                Some(other) => call = other,
                None => return String::new(),
            }
        }
        format!(", for example {}", self.call(&call))
    }

    /// `ptrace(0x10)`; of a foreign architecture, whose names are others: `i386: call 11()`.
    fn call(&self, call: &Call) -> String {
        match call.0[Call::ARCH] {
            arch if arch == self.arch().audit_arch => words::call(self.arch(), call),
            arch => format!("{}: {}", words::arch(arch), words::nameless(call)),
        }
    }

    fn unreachable(&mut self) {
        let dead: Set = (0u32..)
            .zip(&self.walked.at)
            .filter(|(_, here)| !here.reached)
            .map(|(pc, _)| pc)
            .collect();
        if !dead.is_empty() {
            self.find(format!("never reached: instruction {}", words::ranges(&dead).join(" ")));
        }
    }

    fn architectures(&mut self) {
        if let Some(pc) = self.walked.at.iter().position(|here| here.is_early) {
            self.find(format!(
                "instruction {pc}: compares the number before the architecture is known; another \
                 architecture has other numbers"
            ));
        }
        let may = self.walked.leaves.iter().filter(|leaf| is(leaf, &Action::may_run));
        let foreign = may.fold(Set::none(), |set, leaf| set.or(leaf.calls.archs()));
        let foreign = foreign.minus(&Set::one(self.arch().audit_arch));
        if !foreign.is_empty() {
            let is_none_asked = foreign.not().count() <= 1;
            let why = if is_none_asked { "no check of the architecture: " } else { "" };
            // The one that a program of this machine can enter, if it passes.
            let entered = Set::one(I386).and(&foreign);
            let shown = if entered.is_empty() { &foreign } else { &entered };
            let example = self.example(shown, &Set::all(), Action::may_run);
            self.find(format!(
                "{why}calls of foreign architectures pass: {}{example}",
                archs(self.arch(), &foreign)
            ));
        }
        if self.who(Action::may_run).is_empty() && self.computed().is_none() {
            self.note(format!("nothing passes on {}", self.arch().name));
        }
    }

    fn numbers(&mut self) {
        let own = Set::one(self.arch().audit_arch);
        let passes = self.who(Action::may_run);
        let x32 = passes.and(&words::foreign_numbers(self.arch()));
        if !x32.is_empty() {
            let example = self.example(&own, &x32, Action::may_run);
            self.find(format!(
                "x32 hole: numbers with the x32 bit pass: {}{example}",
                few(self.arch(), &x32)
            ));
        }
        // The kernel answers -1 itself.
        let unknown = passes.minus(&known(self.arch())).minus(&words::foreign_numbers(self.arch()));
        let unknown = unknown.minus(&Set::one(u32::MAX));
        if !unknown.is_empty() {
            let example = self.example(&own, &unknown, Action::may_run);
            self.find(format!(
                "numbers that no call has yet pass, so new calls of a newer kernel do: {}{example}",
                few(self.arch(), &unknown)
            ));
        }
    }

    /// Call by call, with its arguments.
    fn calls(&mut self) -> Result<(), TooComplex> {
        let passes = self.who(Action::runs);
        let asked = self.who(|action| action.may_run() && !action.runs());
        let (mut dangerous, mut perhaps) = (Vec::new(), Vec::new());
        for row in self.rows {
            let Some(number) = self.arch().number(row.name) else { continue };
            if asked.contains(number) && is_dangerous(row) {
                self.note(format!("{}: somebody else decides, our table refuses it", row.name));
            }
            if !passes.contains(number) {
                continue;
            }
            if is_dangerous(row) {
                let known = self.leaves(number)?;
                let passes = known.iter().filter(|leaf| is(leaf, &Action::runs));
                match passes.into_iter().find_map(|leaf| leaf.confirmed(self.program)) {
                    Some(call) => dangerous.push((row.name, self.call(&call))),
                    None => perhaps.push(row.name),
                }
            } else if !row.rule.clauses.is_empty() {
                self.arguments(row, number)?;
            }
        }
        if let Some((_, example)) = dangerous.first() {
            let names: Vec<&str> = dangerous.iter().map(|(name, _)| *name).collect();
            let (count, names) = (names.len(), names.join(" "));
            self.find(format!(
                "calls that our table refuses pass ({count}): {names}, for example {example}"
            ));
        }
        if !perhaps.is_empty() {
            let (count, names) = (perhaps.len(), perhaps.join(" "));
            self.find(format!("calls that our table refuses perhaps pass ({count}): {names}"));
        }
        self.halves()
    }

    fn leaves(&mut self, number: u32) -> Result<Vec<Leaf>, TooComplex> {
        let calls = Calls::of(self.arch().audit_arch, number);
        Ok(walk(self.program, calls, true, self.budget)?.leaves)
    }

    /// A call that our table lets through with some arguments passes with others.
    fn arguments(&mut self, row: &Row, number: u32) -> Result<(), TooComplex> {
        let leaves = self.leaves(number)?;
        for refused in cube::refused(&row.rule) {
            let refused = refused.calls(self.arch().audit_arch, number);
            for leaf in leaves.iter().filter(|leaf| is(leaf, &Action::runs)) {
                self.budget.spend(1)?;
                let both = leaf.calls.and(&refused).and_then(|calls| calls.example());
                let Some(call) = both else { continue };
                if Action::of(result(self.program, &call)).runs() {
                    let (text, rule) =
                        (words::call(self.program.arch(), &call), words::rule(&row.rule));
                    self.find(format!("{text} passes; our table: {rule}"));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Of every call whose arguments are looked at: whether each is compared as wide as it is.
    fn halves(&mut self) -> Result<(), TooComplex> {
        let looked =
            self.program.ops().iter().zip(&self.walked.at).fold(Set::none(), |set, (op, here)| {
                match op {
                    Op::Load(word) if *word >= Call::argument(0) => set.or(&here.numbers),
                    _ => set,
                }
            });
        for (name, number) in self.arch().calls {
            if !looked.contains(*number) {
                continue;
            }
            let leaves = self.leaves(*number)?;
            for n in 0..6 {
                let low = Call::argument(n);
                let touched =
                    |word: usize| leaves.iter().any(|leaf| !leaf.calls.word(word).is_any());
                match widths::of(name, n) {
                    Some(32) if touched(low + 1) => self.narrow(name, n, &leaves)?,
                    Some(64) if touched(low) && !touched(low + 1) => self.wide(name, n, &leaves)?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// A 32-bit argument: the high half must not make a refused call pass.
    fn narrow(&mut self, name: &str, n: usize, leaves: &[Leaf]) -> Result<(), TooComplex> {
        let high = Call::argument(n) + 1;
        let mut is_stricter = false;
        for call in leaves.iter().filter_map(|leaf| leaf.calls.example()) {
            for value in [1, 0x8000_0000, u32::MAX, call.0[high]] {
                self.budget.spend(2)?;
                let (plain, other) = (call.with(high, 0), call.with(high, value));
                let of = |call: &Call| Action::of(result(self.program, call));
                if !of(&plain).runs() && of(&other).runs() {
                    self.find(format!(
                        "{name}: the kernel drops the high half of argument {n}, the filter does \
                         not: {} is refused, {} passes",
                        words::call(self.program.arch(), &plain),
                        words::call(self.program.arch(), &other)
                    ));
                    return Ok(());
                }
                is_stricter |= of(&plain).runs() && !of(&other).runs();
            }
        }
        if is_stricter {
            self.note(format!(
                "{name}: argument {n} has 32 bits, and is refused where its high half is not 0"
            ));
        }
        Ok(())
    }

    /// A 64-bit argument of which only the low half is looked at: does the verdict depend on it?
    fn wide(&mut self, name: &str, n: usize, leaves: &[Leaf]) -> Result<(), TooComplex> {
        let low = Call::argument(n);
        let lows: Vec<u32> =
            leaves.iter().filter_map(|leaf| leaf.calls.word(low).first()).collect();
        for call in leaves.iter().filter_map(|leaf| leaf.calls.example()) {
            let was = result(self.program, &call);
            for value in &lows {
                self.budget.spend(1)?;
                if result(self.program, &call.with(low, *value)) != was {
                    self.find(format!(
                        "{name}: argument {n} has 64 bits, and only its low half is compared: {} \
                         is taken for {}",
                        words::call(self.program.arch(), &call.with(low + 1, 1)),
                        words::call(self.program.arch(), &call)
                    ));
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// linux/audit.h: what a program of x86_64 can enter by int 0x80.
const I386: u32 = 0x4000_0003;

/// Whether a path ends in such a verdict; what is computed may be any.
fn is(leaf: &Leaf, verdict: &impl Fn(Action) -> bool) -> bool {
    leaf.result.is_some_and(|result| verdict(Action::of(result)))
}

fn known(arch: &Arch) -> Set {
    arch.calls.iter().map(|(_, number)| *number).collect()
}

fn few(arch: &Arch, set: &Set) -> String {
    words::numbers(arch, set, 4)
}

/// Refused by our table with all arguments, and more than a number that no kernel needs.
fn is_dangerous(row: &Row) -> bool {
    let refused = words::verdicts(&row.rule).all(|action| !action.runs());
    refused && row.group != "dead" && !HARMLESS.contains(&row.name)
}

/// ENOSYS, and would do no harm.
const HARMLESS: [&str; 4] =
    ["file_getattr", "remap_file_pages", "lsm_get_self_attr", "lsm_list_modules"];
