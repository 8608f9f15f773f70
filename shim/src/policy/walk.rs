//! Every path of a program, with all the calls that take it: symbolic execution.
//!
//! Jumps only go forward, so one pass over the instructions meets each after all that lead to it. What arrives is a
//! list of states; a state is a box, a set of values for each word of the call. Two boxes that differ in one word
//! become one, which keeps the lists short: a filter of a thousand comparisons has a handful of states at each. A
//! program can be written that defeats this; the work is counted, and past a bound it is [`TooComplex`].

use std::rc::Rc;

use super::insn::{Cmp, MEMORY, Op, Program, WORDS};
use super::run::{Call, holds, path};
use super::set::Set;
use super::symbol::{Refined, Value, Word};

/// The program has more paths than we follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooComplex;

/// Work that is left: states looked at and ranges copied.
#[derive(Debug)]
pub struct Budget(usize);

impl Budget {
    /// About a second.
    pub const fn new() -> Budget {
        Budget::of(4_000_000)
    }

    /// So much.
    pub const fn of(work: usize) -> Budget {
        Budget(work)
    }

    /// Does some work, if any is left.
    pub fn spend(&mut self, work: usize) -> Result<(), TooComplex> {
        self.0 = self.0.checked_sub(work).ok_or(TooComplex)?;
        Ok(())
    }
}

impl Default for Budget {
    fn default() -> Budget {
        Budget::new()
    }
}

/// Calls: all combinations of the values of their words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calls([Rc<Word>; WORDS]);

impl Calls {
    /// Every call there can be.
    pub fn all() -> Calls {
        let any = Rc::new(Word::any());
        Calls(std::array::from_fn(|_| Rc::clone(&any)))
    }

    /// Those of one number of one architecture.
    pub fn of(arch: u32, number: u32) -> Calls {
        let arch = Word::of(Set::one(arch));
        Calls::all().with(Call::ARCH, arch).with(Call::NUMBER, Word::of(Set::one(number)))
    }

    /// With a word exchanged.
    pub fn with(mut self, index: usize, word: Word) -> Calls {
        if let Some(to) = self.0.get_mut(index) {
            *to = Rc::new(word);
        }
        self
    }

    /// One of its words.
    pub fn word(&self, index: usize) -> &Word {
        &self.0[index]
    }

    /// The numbers.
    pub fn numbers(&self) -> &Set {
        &self.0[Call::NUMBER].set
    }

    /// The architectures.
    pub fn archs(&self) -> &Set {
        &self.0[Call::ARCH].set
    }

    /// Those of both; `None`: there is none.
    pub fn and(&self, other: &Calls) -> Option<Calls> {
        let both = Calls(std::array::from_fn(|n| Rc::new(self.0[n].and(&other.0[n]))));
        both.0.iter().all(|word| word.first().is_some()).then_some(both)
    }

    /// One of them.
    pub fn example(&self) -> Option<Call> {
        let mut call = Call::default();
        for (to, word) in call.0.iter_mut().zip(&self.0) {
            *to = word.first()?;
        }
        Some(call)
    }

    fn same_word(&self, other: &Calls, n: usize) -> bool {
        Rc::ptr_eq(&self.0[n], &other.0[n]) || self.0[n] == other.0[n]
    }
}

/// Where paths end.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The return.
    pub pc: usize,
    /// What it returns; `None`: something computed.
    pub result: Option<u32>,
    /// Who gets there.
    pub calls: Calls,
    /// All of them do; else some may not.
    pub exact: bool,
}

impl Leaf {
    /// A call that gets there, as the interpreter says too.
    pub fn confirmed(&self, program: &Program) -> Option<Call> {
        self.calls.example().filter(|call| path(program, call).1.last() == Some(&self.pc))
    }
}

/// What is known of one instruction.
#[derive(Clone, Debug, Default)]
pub struct Here {
    /// Whether a path leads here.
    pub reached: bool,
    /// The numbers of the program's architecture that get here.
    pub numbers: Set,
    /// Other architectures that do.
    pub foreign: Set,
    /// Of a comparison: the numbers that go either way.
    pub ways: [Set; 2],
    /// What a comparison compares, if it is always the same.
    pub compared: Option<Value>,
    /// A condition on the number, while any architecture may be meant.
    pub is_early: bool,
}

/// What a walk found.
#[derive(Debug)]
pub struct Walk {
    /// By instruction.
    pub at: Vec<Here>,
    /// In the order of the program.
    pub leaves: Vec<Leaf>,
}

/// Walks with `calls`. With `args` boxes are split until each is exact, where no arithmetic is in the way. Without it it is forgotten which arguments led where, as soon as they are not needed any
/// more to follow the program: right for numbers and architectures, and much less to keep.
pub fn walk(
    program: &Program,
    calls: Calls,
    args: bool,
    budget: &mut Budget,
) -> Result<Walk, TooComplex> {
    let needs = Needs::of(program);
    let mut walker = Walker {
        states: vec![Vec::new(); program.ops().len()],
        walk: Walk { at: vec![Here::default(); program.ops().len()], leaves: Vec::new() },
        needs,
        args,
        own: program.arch().audit_arch,
        budget,
    };
    let nothing = Value::Known(0);
    let start = State { a: nothing, x: nothing, memory: [nothing; MEMORY], calls, exact: true };
    walker.arrive(0, start)?;
    for (pc, op) in program.ops().iter().enumerate() {
        for state in std::mem::take(&mut walker.states[pc]) {
            walker.note(pc, *op, &state);
            walker.step(pc, *op, state)?;
        }
    }
    Ok(walker.walk)
}

#[derive(Clone, Debug)]
struct State {
    a: Value,
    x: Value,
    memory: [Value; MEMORY],
    calls: Calls,
    exact: bool,
}

impl State {
    /// Takes in a state that differs in at most one word of the call, in a set.
    fn join(&mut self, other: &State) -> bool {
        if (self.a, self.x, self.memory) != (other.a, other.x, other.memory) {
            return false;
        }
        let mut differing = (0..WORDS).filter(|n| !self.calls.same_word(&other.calls, *n));
        let (first, second) = (differing.next(), differing.next());
        let Some(n) = first else {
            self.exact &= other.exact;
            return true;
        };
        let (mine, theirs) = (&self.calls.0[n], &other.calls.0[n]);
        if second.is_some() || (mine.ones, mine.zeros) != (theirs.ones, theirs.zeros) {
            return false;
        }
        self.calls.0[n] = Rc::new(Word { set: mine.set.or(&theirs.set), ..**mine });
        self.exact &= other.exact;
        true
    }
}

struct Walker<'a> {
    states: Vec<Vec<State>>,
    walk: Walk,
    needs: Needs,
    args: bool,
    /// The architecture that is not foreign.
    own: u32,
    budget: &'a mut Budget,
}

impl Walker<'_> {
    fn arrive(&mut self, pc: usize, mut state: State) -> Result<(), TooComplex> {
        self.needs.forget(pc, self.args, &mut state);
        let ranges = state.calls.numbers().ranges().len() + state.calls.archs().ranges().len();
        let Some(list) = self.states.get_mut(pc) else { return Ok(()) };
        self.budget.spend(1 + ranges)?;
        for known in list.iter_mut() {
            self.budget.spend(1)?;
            if known.join(&state) {
                return Ok(());
            }
        }
        list.push(state);
        Ok(())
    }

    fn note(&mut self, pc: usize, op: Op, state: &State) {
        let Some(here) = self.walk.at.get_mut(pc) else { return };
        if state.calls.archs().contains(self.own) {
            here.numbers = here.numbers.or(state.calls.numbers());
        }
        let foreign = state.calls.archs().minus(&Set::one(self.own));
        here.foreign = here.foreign.or(&foreign);
        if let Op::If(..) = op {
            here.compared =
                if here.reached && here.compared != Some(state.a) { None } else { Some(state.a) };
            here.is_early |= state.a.word() == Some(Call::NUMBER) && state.calls.archs().is_all();
        }
        here.reached = true;
    }

    fn step(&mut self, pc: usize, op: Op, mut state: State) -> Result<(), TooComplex> {
        match op {
            Op::Load(word) => state.a = Value::Field(word, u32::MAX),
            Op::SetA(k) => state.a = Value::Known(k),
            Op::SetX(k) => state.x = Value::Known(k),
            Op::Recall(k) => state.a = state.memory[k],
            Op::RecallX(k) => state.x = state.memory[k],
            Op::Store(k) => state.memory[k] = state.a,
            Op::StoreX(k) => state.memory[k] = state.x,
            Op::Alu(alu, operand) => {
                state.a = state.a.after(alu, operand.map_or(state.x, Value::Known));
            }
            Op::Neg => {
                state.a = match state.a {
                    Value::Known(a) => Value::Known(a.wrapping_neg()),
                    _ => Value::Unknown,
                };
            }
            Op::Jump(to) => return self.arrive(to, state),
            Op::If(..) => return self.branch(pc, op, &state),
            Op::Return(value) => {
                let result = match value.map_or(state.a, Value::Known) {
                    Value::Known(k) => Some(k),
                    _ => None,
                };
                let State { calls, exact, .. } = state;
                self.walk.leaves.push(Leaf { pc, result, calls, exact });
                return Ok(());
            }
            Op::Tax => state.x = state.a,
            Op::Txa => state.a = state.x,
        }
        self.arrive(pc + 1, state)
    }

    fn branch(&mut self, pc: usize, op: Op, state: &State) -> Result<(), TooComplex> {
        let Op::If(cmp, operand, then, other) = op else { return Ok(()) };
        let operand = operand.map_or(state.x, Value::Known);
        for (way, to, outcome) in [(0, then, true), (1, other, false)] {
            for next in self.outcomes(state, cmp, operand, outcome) {
                if let Some(here) = self.walk.at.get_mut(pc)
                    && next.calls.archs().contains(self.own)
                {
                    here.ways[way] = here.ways[way].or(next.calls.numbers());
                }
                self.arrive(to, next)?;
            }
        }
        Ok(())
    }

    /// The state as it is where the comparison comes out so; none: it never does.
    fn outcomes(&self, state: &State, cmp: Cmp, operand: Value, outcome: bool) -> Vec<State> {
        let with = |word: usize, known: Word, exact: bool| {
            let mut next = state.clone();
            next.calls.0[word] = Rc::new(known);
            next.exact &= exact;
            next
        };
        match (state.a, operand) {
            (Value::Known(a), Value::Known(k)) => {
                if holds(cmp, a, k) == outcome {
                    vec![state.clone()]
                } else {
                    Vec::new()
                }
            }
            (Value::Field(word, mask), Value::Known(k)) if self.args => {
                let cases = state.calls.word(word).split(mask, cmp, k, outcome);
                cases.into_iter().map(|known| with(word, known, true)).collect()
            }
            (Value::Field(word, mask), Value::Known(k)) => {
                match state.calls.word(word).refine(mask, cmp, k, outcome) {
                    Refined::Never => Vec::new(),
                    Refined::Exactly(known) => vec![with(word, known, true)],
                    Refined::Among(known) => vec![with(word, known, false)],
                }
            }
            _ => vec![State { exact: false, ..state.clone() }],
        }
    }
}

/// What an instruction, and all after it, still look at. What nothing looks at any more does not tell two states
/// apart.
struct Needs(Vec<Need>);

#[derive(Clone, Copy, Default)]
struct Need {
    a: bool,
    x: bool,
    memory: u16,
    words: u16,
}

impl Needs {
    fn of(program: &Program) -> Needs {
        let mut needs = vec![Need::default(); program.ops().len()];
        for (pc, op) in program.ops().iter().enumerate().rev() {
            let mut need = Need::default();
            for next in op.next(pc).into_iter().flatten().filter_map(|to| needs.get(to)) {
                need.a |= next.a;
                need.x |= next.x;
                need.memory |= next.memory;
                need.words |= next.words;
            }
            need.before(*op);
            needs[pc] = need;
        }
        Needs(needs)
    }

    fn forget(&self, pc: usize, args: bool, state: &mut State) {
        let need = self.0.get(pc).copied().unwrap_or_default();
        let nothing = Value::Known(0);
        if !need.a {
            state.a = nothing;
        }
        if !need.x {
            state.x = nothing;
        }
        let mut words = need.words | 1 << Call::NUMBER | 1 << Call::ARCH;
        words |= bit(state.a) | bit(state.x);
        for (k, value) in state.memory.iter_mut().enumerate() {
            if need.memory & 1 << k == 0 {
                *value = nothing;
            }
            words |= bit(*value);
        }
        for n in (0..WORDS).filter(|n| !args && words & 1 << n == 0) {
            if !state.calls.0[n].is_any() {
                state.calls.0[n] = Rc::new(Word::any());
            }
        }
    }
}

fn bit(value: Value) -> u16 {
    value.word().map_or(0, |word| 1 << word)
}

impl Need {
    /// From what is needed after an instruction to what is needed before it.
    fn before(&mut self, op: Op) {
        match op {
            Op::Load(word) => {
                self.a = false;
                self.words |= 1 << word;
            }
            Op::SetA(_) => self.a = false,
            Op::SetX(_) => self.x = false,
            Op::Recall(k) => {
                self.memory |= if self.a { 1 << k } else { 0 };
                self.a = false;
            }
            Op::RecallX(k) => {
                self.memory |= if self.x { 1 << k } else { 0 };
                self.x = false;
            }
            Op::Store(k) => {
                self.a |= self.memory & 1 << k != 0;
                self.memory &= !(1 << k);
            }
            Op::StoreX(k) => {
                self.x |= self.memory & 1 << k != 0;
                self.memory &= !(1 << k);
            }
            Op::Alu(_, operand) => {
                self.a = true; // a division by 0 ends the program, whatever comes of it
                self.x |= operand.is_none();
            }
            Op::Neg | Op::Jump(_) => {}
            Op::If(_, operand, ..) => {
                self.a = true;
                self.x |= operand.is_none();
            }
            Op::Return(value) => self.a = value.is_none(),
            Op::Tax => {
                self.a |= self.x;
                self.x = false;
            }
            Op::Txa => {
                self.x |= self.a;
                self.a = false;
            }
        }
    }
}
