//! A policy becomes a seccomp program, at compile time: rows → ranges of numbers → tree → `SockFilter`.
//!
//! From its first instruction: the architecture is loaded and a foreign one killed; the number is loaded, and a tree
//! of comparisons leads to a return or to the rule of a call; then the rules, from the last number's to the first's;
//! then the returns, which all paths share. Only rules load arguments, so a call without one is answered from the kernel's
//! bitmap and costs nothing. Calls with the same rule share its instructions.
//!
//! What a filter costs when it is installed is its length, which the kernel checks and compiles, and the instructions
//! walked for each known number, to fill the bitmap. `Plan` weighs one against the other.
//!
//! Jumps only go forward, at most 255 instructions far. So the program is built from its end: what an instruction
//! jumps to is there before it, at an index that does not change any more. seccomp(2), and in the kernel's
//! Documentation: userspace-api/seccomp_filter.rst, networking/filter.rst.

use crate::nr::{Arch, HOST};
use crate::policy::{AGENT_POLICY, INIT_POLICY, Policy, Rule, Test, Verdict, When};
use crate::text::Line;

/// One instruction: `struct sock_filter` of linux/filter.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SockFilter {
    /// What to do: one of the codes below.
    pub code: u16,
    /// Of a comparison that holds: how many instructions to skip.
    pub jt: u8,
    /// Of one that does not.
    pub jf: u8,
    /// The constant it works with.
    pub k: u32,
}

/// The agent's filter, [`AGENT_POLICY`].
pub static AGENT_PROGRAM: [SockFilter; AGENT.as_slice().len()] = exactly(&AGENT);
/// PID 1's own filter, [`INIT_POLICY`].
pub static INIT_PROGRAM: [SockFilter; INIT.as_slice().len()] = exactly(&INIT);

const AGENT: Program = assemble(&AGENT_POLICY, HOST);
const INIT: Program = assemble(&INIT_POLICY, HOST);

/// An errno no path of the kernel returns: the greatest one a filter can give.
pub const MARKER: u16 = 4095;

/// The program of a policy for an architecture. Panics, which stops the compiler and names the row, if it needs more
/// than [`CAPACITY`] instructions.
pub const fn assemble(policy: &Policy, arch: &Arch) -> Program {
    let ranges = Ranges::of(policy, arch);
    let mut program = Program::EMPTY;
    program.ends(&ranges);
    let targets = program.rules(&ranges);
    program.serves = "the tree of numbers";
    let tree = program.tree(&ranges.cuts, &targets, 0, ranges.cuts.len);
    let ours = program.step(LOAD, NUMBER, tree);
    let foreign = program.ret(Verdict::Kill);
    let entry = program.branch(IF_EQUAL, arch.audit_arch, ours, foreign);
    program.step(LOAD, ARCH, entry);
    program
}

/// Copies `program` into `out`, every errno replaced by [`MARKER`]; experiments tell by it that a refusal came from
/// the filter. Returns how many instructions it has; 0, which the kernel rejects, if `out` is too short.
pub fn marked(program: &[SockFilter], out: &mut [SockFilter]) -> usize {
    if out.len() < program.len() {
        return 0;
    }
    for (to, from) in out.iter_mut().zip(program) {
        *to = *from;
        if from.code == RETURN && from.k & libc::SECCOMP_RET_ACTION_FULL == libc::SECCOMP_RET_ERRNO
        {
            to.k = Verdict::Errno(MARKER).code();
        }
    }
    program.len()
}

// The seven instructions in use, linux/bpf_common.h. `A` is the accumulator.
/// `A = seccomp_data[k..k + 4]`: `BPF_LD | BPF_W | BPF_ABS`.
pub const LOAD: u16 = 0x20;
/// `A &= k`: `BPF_ALU | BPF_AND | BPF_K`.
pub const AND: u16 = 0x54;
/// Skips `k` instructions: `BPF_JMP | BPF_JA`.
pub const JUMP: u16 = 0x05;
/// `A == k`: `BPF_JMP | BPF_JEQ | BPF_K`.
pub const IF_EQUAL: u16 = 0x15;
/// `A >= k`: `BPF_JMP | BPF_JGE | BPF_K`.
pub const IF_AT_LEAST: u16 = 0x35;
/// `A & k != 0`: `BPF_JMP | BPF_JSET | BPF_K`.
pub const IF_ANY_BIT: u16 = 0x45;
/// Ends with the verdict `k`: `BPF_RET | BPF_K`.
pub const RETURN: u16 = 0x06;

// Where `struct seccomp_data` of linux/seccomp.h has its members: nr, arch, instruction_pointer, args[6].
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The offset of the low word of an argument; the high word is 4 further, as all our architectures are little-endian.
const fn argument(index: usize) -> u32 {
    assert!(index < 6, "a system call has six arguments");
    ARGUMENTS + 8 * narrow(index)
}

/// The most instructions the kernel takes: `BPF_MAXINSNS`, linux/bpf_common.h.
pub const CAPACITY: usize = 4096;

/// How far a comparison may jump when its targets are chosen: 255, less one for an instruction that bridges the way
/// to its other target.
const REACH: usize = 254;

/// A program that grows towards its beginning. The methods return the index of the instruction to enter at.
pub struct Program {
    insns: [SockFilter; CAPACITY],
    start: usize,
    /// Whose instructions are written: the name of a row.
    serves: &'static str,
}

impl Program {
    const EMPTY: Program = Program {
        // Never executed. If it were: fail closed.
        insns: [SockFilter { code: RETURN, jt: 0, jf: 0, k: Verdict::Kill.code() }; CAPACITY],
        start: CAPACITY,
        serves: "",
    };

    /// What there is, in the order in which the kernel wants it.
    pub const fn as_slice(&self) -> &[SockFilter] {
        self.insns.split_at(self.start).1
    }

    // -- A policy ----------------------------------------------------------------------------------------------

    /// The returns that most paths end in, together at the end. A program of more than 255 instructions gets more of
    /// them where these are out of reach.
    const fn ends(&mut self, ranges: &Ranges) {
        let mut i = ranges.distinct;
        while i > 0 {
            i -= 1;
            self.ret(ranges.rules[i].otherwise);
        }
        self.ret(Verdict::Kill);
    }

    /// Where each rule is decided: the return of one without clauses, else its instructions, which are written here.
    /// The last number's come first: the kernel's compiler for x86_64 goes over a program until no jump gets shorter
    /// any more. By a model of that, of `default` when it had 163 instructions, 5 times over this order and 7 times over
    /// the other one; by the clock, 4 us less.
    const fn rules(&mut self, ranges: &Ranges) -> Targets {
        let mut targets = [0; Cuts::MOST];
        let mut i = 0;
        while i < ranges.distinct {
            self.serves = ranges.names[i];
            targets[i] = self.rule(&ranges.rules[i]);
            i += 1;
        }
        targets
    }

    const fn rule(&mut self, rule: &Rule) -> usize {
        let otherwise = self.ret(rule.otherwise);
        self.clauses(rule.clauses, 0, otherwise)
    }

    /// Clauses of which the first `asked` tests hold already. Neighbours that go on with the same test ask it once.
    const fn clauses(&mut self, clauses: &[When], asked: usize, miss: usize) -> usize {
        let mut next = miss;
        let mut end = clauses.len();
        while end > 0 {
            let first = choice(clauses, end, asked);
            let group = clauses.split_at(end).0.split_at(first).1;
            next = match group {
                [clause] => self.clause(clause, asked, next),
                _ => self.choose(group, asked, next),
            };
            end = first;
        }
        next
    }

    /// Clauses that go on with one of several sets of the same argument, of which no two hold at once: the argument is
    /// loaded once. What then misses misses all of them.
    const fn choose(&mut self, clauses: &[When], asked: usize, miss: usize) -> usize {
        let mut cuts = Sets { list: [(&[], 0); Sets::MOST], len: 0 };
        let mut end = clauses.len();
        while end > 0 {
            let mut first = end - 1;
            while first > 0 && shares(&clauses[first - 1], &clauses[end - 1], asked) {
                first -= 1;
            }
            let hit = self.clauses(clauses.split_at(end).0.split_at(first).1, asked + 1, miss);
            match clauses[first].0[asked] {
                Test::Low(_, set) => cuts.push(set, hit),
                test => return self.test(&test, hit, miss),
            }
            end = first;
        }
        let (cuts, targets) = cuts.cut(miss);
        let compare = self.tree(&cuts, &targets, 0, cuts.len);
        match clauses[0].0[asked] {
            Test::Low(index, _) => self.step(LOAD, argument(index), compare),
            _ => panic!("a choice is between sets of one argument"),
        }
    }

    const fn clause(&mut self, When(tests, verdict): &When, asked: usize, miss: usize) -> usize {
        let mut hit = self.ret(*verdict);
        let mut i = tests.len();
        while i > asked {
            i -= 1;
            hit = self.test(&tests[i], hit, miss);
        }
        hit
    }

    const fn test(&mut self, test: &Test, hit: usize, miss: usize) -> usize {
        match *test {
            Test::Low(index, set) => {
                let compare = self.one_of(set, hit, miss);
                self.step(LOAD, argument(index), compare)
            }
            Test::Masked(index, mask, set) => {
                let compare = self.one_of(set, hit, miss);
                let and = self.step(AND, mask, compare);
                self.step(LOAD, argument(index), and)
            }
            Test::AnyBit(index, bits) => {
                let compare = self.branch(IF_ANY_BIT, bits, hit, miss);
                self.step(LOAD, argument(index), compare)
            }
            Test::Between(index, first, last) => {
                let mut compare = hit;
                if last < u32::MAX {
                    compare = self.branch(IF_AT_LEAST, last + 1, miss, compare);
                }
                compare = self.branch(IF_AT_LEAST, first, compare, miss);
                self.step(LOAD, argument(index), compare)
            }
            Test::Whole(index, value) => self.whole(index, u64::MAX, value, hit, miss),
            Test::WholeMasked(index, mask, value) => self.whole(index, mask, value, hit, miss),
            Test::WholeBetween(index, first, last) => {
                let below = match last.checked_add(1) {
                    Some(end) => self.at_least(index, end, miss, hit),
                    None => hit,
                };
                self.at_least(index, first, below, miss)
            }
        }
    }

    const fn whole(
        &mut self,
        index: usize,
        mask: u64,
        value: u64,
        hit: usize,
        miss: usize,
    ) -> usize {
        let ([low_mask, high_mask], [low, high]) = (halves(mask), halves(value));
        let high_half = self.half(argument(index) + 4, high_mask, high, hit, miss);
        self.half(argument(index), low_mask, low, high_half, miss)
    }

    const fn half(&mut self, offset: u32, mask: u32, value: u32, hit: usize, miss: usize) -> usize {
        let mut compare = self.branch(IF_EQUAL, value, hit, miss);
        if mask != u32::MAX {
            compare = self.step(AND, mask, compare);
        }
        self.step(LOAD, offset, compare)
    }

    /// All 64 bits, unsigned: the high half decides, unless it is that of `value`.
    const fn at_least(&mut self, index: usize, value: u64, hit: usize, miss: usize) -> usize {
        let [low, high] = halves(value);
        let compare = self.branch(IF_AT_LEAST, low, hit, miss);
        let low_half = self.step(LOAD, argument(index), compare);
        let mut compare = self.branch(IF_EQUAL, high, low_half, miss);
        if high < u32::MAX {
            compare = self.branch(IF_AT_LEAST, high + 1, hit, compare);
        }
        self.step(LOAD, argument(index) + 4, compare)
    }

    const fn one_of(&mut self, set: &[u32], hit: usize, miss: usize) -> usize {
        let mut sets = Sets { list: [(&[], 0); Sets::MOST], len: 0 };
        sets.push(set, hit);
        let (cuts, targets) = sets.cut(miss);
        self.tree(&cuts, &targets, 0, cuts.len)
    }

    /// Decides between the ranges `from..to`.
    const fn tree(&mut self, cuts: &Cuts, targets: &Targets, from: usize, to: usize) -> usize {
        if to - from <= Plan::MOST {
            return self.planned(cuts, targets, &Plan::of(cuts, from, to), from, to);
        }
        let middle = cuts.middle(from, to);
        let above = self.tree(cuts, targets, middle, to);
        let below = self.tree(cuts, targets, from, middle);
        self.branch(IF_AT_LEAST, cuts.first[middle], above, below)
    }

    const fn planned(
        &mut self,
        cuts: &Cuts,
        targets: &Targets,
        plan: &Plan,
        from: usize,
        to: usize,
    ) -> usize {
        let Some(middle) = plan.split(from, to) else {
            return self.chain(cuts, targets, from, to);
        };
        // What is written last comes next, without a jump: not what is elsewhere already.
        let (above, below) = if plan.is_leaf(from, middle) {
            let below = self.planned(cuts, targets, plan, from, middle);
            (self.planned(cuts, targets, plan, middle, to), below)
        } else {
            let above = self.planned(cuts, targets, plan, middle, to);
            (above, self.planned(cuts, targets, plan, from, middle))
        };
        self.branch(IF_AT_LEAST, cuts.first[middle], above, below)
    }

    /// Single numbers that differ from all around them, one after the other.
    const fn chain(&mut self, cuts: &Cuts, targets: &Targets, from: usize, to: usize) -> usize {
        let usual = cuts.usual(from, to);
        let mut next = targets[usual];
        let mut i = to;
        while i > from {
            i -= 1;
            if cuts.target[i] != usual {
                next = self.branch(IF_EQUAL, cuts.first[i], targets[cuts.target[i]], next);
            }
        }
        next
    }

    // -- Instructions ------------------------------------------------------------------------------------------

    /// A return of this verdict: the nearest one in reach, else a new one.
    const fn ret(&mut self, verdict: Verdict) -> usize {
        self.ret_code(verdict.code())
    }

    const fn ret_code(&mut self, k: u32) -> usize {
        let mut at = self.start;
        while at < CAPACITY && at - self.start <= REACH {
            if self.insns[at].code == RETURN && self.insns[at].k == k {
                return at;
            }
            at += 1;
        }
        self.prepend(RETURN, 0, 0, k)
    }

    /// A comparison.
    const fn branch(&mut self, code: u16, k: u32, then: usize, otherwise: usize) -> usize {
        if let Some(same) = self.same_branch(code, k, then, otherwise) {
            return same;
        }
        let then = self.near(then);
        let otherwise = self.near(otherwise);
        // An instruction that skips none continues at what is now the start.
        self.prepend(code, skip(then - self.start), skip(otherwise - self.start), k)
    }

    /// The comparison that is there already with the same targets.
    const fn same_branch(&self, code: u16, k: u32, then: usize, otherwise: usize) -> Option<usize> {
        let mut at = self.start;
        while at < CAPACITY && at - self.start <= REACH {
            let insn = &self.insns[at];
            let (jt, jf) = (at + 1 + insn.jt as usize, at + 1 + insn.jf as usize);
            if insn.code == code && insn.k == k && jt == then && jf == otherwise {
                return Some(at);
            }
            at += 1;
        }
        None
    }

    /// An instruction that does not jump, with `next` right after it: one that is there already, or a new one.
    const fn step(&mut self, code: u16, k: u32, next: usize) -> usize {
        if next > self.start && next - self.start <= REACH {
            let before = &self.insns[next - 1];
            if before.code == code && before.k == k {
                return next - 1;
            }
        }
        if next != self.start && !self.copy(next) {
            self.jump(next);
        }
        self.prepend(code, 0, 0, k)
    }

    /// A comparison again, here: as long as a jump to it, and faster. `false`: it is none, or its targets are too far.
    const fn copy(&mut self, from: usize) -> bool {
        let insn = self.insns[from];
        let targets = (from + 1 + insn.jt as usize, from + 1 + insn.jf as usize);
        let is_comparison =
            insn.code == IF_EQUAL || insn.code == IF_AT_LEAST || insn.code == IF_ANY_BIT;
        if !is_comparison || targets.0 - self.start > REACH || targets.1 - self.start > REACH {
            return false;
        }
        self.prepend(insn.code, skip(targets.0 - self.start), skip(targets.1 - self.start), insn.k);
        true
    }

    /// `to` itself, or what is in reach and has the same effect.
    const fn near(&mut self, to: usize) -> usize {
        if to - self.start <= REACH {
            return to;
        }
        match self.insns[to] {
            SockFilter { code: RETURN, k, .. } => self.ret_code(k),
            _ => self.jump(to),
        }
    }

    /// Goes to `to`, however far.
    const fn jump(&mut self, to: usize) -> usize {
        self.prepend(JUMP, 0, 0, narrow(to - self.start))
    }

    const fn prepend(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> usize {
        if self.start == 0 {
            too_long(self.serves);
        }
        self.start -= 1;
        self.insns[self.start] = SockFilter { code, jt, jf, k };
        self.start
    }
}

/// Whether two clauses go on with the same test after the first `asked`.
const fn shares(a: &When, b: &When, asked: usize) -> bool {
    asked < a.0.len() && asked < b.0.len() && a.0[asked].equals(&b.0[asked])
}

/// Where the clauses begin that make one choice with the last of `..end`: their next test is the same, or they are
/// sets of the same argument without a common value.
const fn choice(clauses: &[When], end: usize, asked: usize) -> usize {
    let mut first = end - 1;
    while first > 0 && end - first < Sets::MOST {
        let (mut fits, mut i) = (true, first);
        while i < end {
            let (a, b) = (&clauses[first - 1], &clauses[i]);
            fits = fits && (shares(a, b, asked) || excludes(a, b, asked));
            i += 1;
        }
        if !fits {
            return first;
        }
        first -= 1;
    }
    first
}

/// Whether two clauses go on with sets of the same argument that have no common value.
const fn excludes(a: &When, b: &When, asked: usize) -> bool {
    if asked >= a.0.len() || asked >= b.0.len() {
        return false;
    }
    match (a.0[asked], b.0[asked]) {
        (Test::Low(n, a), Test::Low(m, b)) => n == m && are_disjoint(a, b),
        _ => false,
    }
}

const fn are_disjoint(a: &[u32], b: &[u32]) -> bool {
    let mut i = 0;
    while i < a.len() {
        if has(b, a[i]) {
            return false;
        }
        i += 1;
    }
    true
}

const fn has(set: &[u32], value: u32) -> bool {
    let mut i = 0;
    while i < set.len() {
        if set[i] == value {
            return true;
        }
        i += 1;
    }
    false
}

/// Disjoint sets, and the index of the instruction to go to from each.
struct Sets<'a> {
    list: [(&'a [u32], usize); Sets::MOST],
    len: usize,
}

impl<'a> Sets<'a> {
    const MOST: usize = 8;

    const fn push(&mut self, set: &'a [u32], to: usize) {
        self.list[self.len] = (set, to);
        self.len += 1;
    }

    /// All values, cut where they go elsewhere; those in no set go to `miss`.
    const fn cut(&self, miss: usize) -> (Cuts, Targets) {
        let mut cuts = Cuts::EMPTY;
        let mut targets = [miss; Cuts::MOST]; // by set, then one more
        let mut i = 0;
        while i < self.len {
            targets[i] = self.list[i].1;
            i += 1;
        }
        let mut from = 0u32; // what is below is cut
        loop {
            let Some((first, set)) = self.least(from) else {
                cuts.push(from, self.len);
                return (cuts, targets);
            };
            if first > from {
                cuts.push(from, self.len);
            }
            cuts.push(first, set);
            match first.checked_add(1) {
                Some(next) => from = next,
                None => return (cuts, targets),
            }
        }
    }

    /// The least value that is not below `from`, and which set has it.
    const fn least(&self, from: u32) -> Option<(u32, usize)> {
        let (mut best, mut set) = (None, 0);
        while set < self.len {
            let (values, mut i) = (self.list[set].0, 0);
            while i < values.len() {
                let is_less = match best {
                    Some((other, _)) => values[i] < other,
                    None => true,
                };
                if values[i] >= from && is_less {
                    best = Some((values[i], set));
                }
                i += 1;
            }
            set += 1;
        }
        best
    }
}

/// Where a target is decided: an index of an instruction.
type Targets = [usize; Cuts::MOST];

/// The values from 0 to 0xffffffff, cut where their target changes: sorted, without gap; neighbours differ.
struct Cuts {
    first: [u32; Cuts::MOST],
    target: [usize; Cuts::MOST],
    len: usize,
    /// Numbers below it are walked when a filter is installed. 0 of a set, which is walked by no one then.
    known: u32,
}

impl Cuts {
    /// Each call of an architecture with a gap before it, the rest, and the three of the end of `Ranges::of`.
    const MOST: usize = 2 * 400 + 3;

    const EMPTY: Cuts = Cuts { first: [0; Cuts::MOST], target: [0; Cuts::MOST], len: 0, known: 0 };

    const fn push(&mut self, first: u32, target: usize) {
        if self.len > 0 && self.target[self.len - 1] == target {
            return;
        }
        assert!(
            self.len < Cuts::MOST,
            "more ranges than an architecture has calls, or a set too long"
        );
        self.first[self.len] = first;
        self.target[self.len] = target;
        self.len += 1;
    }

    /// Where to split what is too much to plan: at the border nearest to the middle of its numbers.
    const fn middle(&self, from: usize, to: usize) -> usize {
        let half = self.width(from, to) / 2;
        let mut at = from + 1;
        while at + 1 < to && self.width(from, at) < half {
            at += 1;
        }
        at
    }

    /// How much is walked for each instruction in front of these ranges, or how often they are asked for.
    const fn width(&self, from: usize, to: usize) -> u32 {
        if self.known == 0 { narrow(to - from) } else { self.border(to) - self.border(from) }
    }

    const fn border(&self, i: usize) -> u32 {
        if i < self.len && self.first[i] < self.known { self.first[i] } else { self.known }
    }

    const fn is_single(&self, i: usize) -> bool {
        let last = if i + 1 < self.len { self.first[i + 1] - 1 } else { u32::MAX };
        self.first[i] == last
    }

    /// How many single numbers lie in what is one target else; `None`: it is not.
    const fn exceptions(&self, from: usize, to: usize) -> Option<u32> {
        let usual = self.usual(from, to);
        let (mut count, mut i) = (0, from);
        while i < to {
            if self.target[i] != usual {
                if !self.is_single(i) {
                    return None;
                }
                count += 1;
            }
            i += 1;
        }
        Some(count)
    }

    /// The target of the ranges that are no single numbers, where these are alike.
    const fn usual(&self, from: usize, to: usize) -> usize {
        let mut i = from;
        while i < to {
            if !self.is_single(i) {
                return self.target[i];
            }
            i += 1;
        }
        self.target[from]
    }
}

/// The cheapest tree over some neighbouring ranges: for each `from..to`, whether it is split, and where.
///
/// A range is decided by a chain of equalities where it is one target but for single numbers, else by a split. Either
/// is one instruction per comparison, and walked by the numbers that pass it.
struct Plan {
    base: usize,
    /// How many comparisons a way may have more than halving takes.
    slack: u8,
    cost: [[u32; Plan::SIZE]; Plan::SIZE],
    /// How many comparisons lie on the longest way.
    depth: [[u8; Plan::SIZE]; Plan::SIZE],
    /// The split; `from` itself: a chain.
    split: [[u8; Plan::SIZE]; Plan::SIZE],
}

impl Plan {
    /// The most ranges: planning takes time with their third power.
    const MOST: usize = 127;
    const SIZE: usize = Plan::MOST + 1;
    /// What an instruction costs, in instructions walked. Measured: 130 ns for each instruction of a program, 2.2 ns
    /// for each that is walked, Linux 6.18 with the compiler for x86_64.
    const LENGTH: u32 = 60;
    /// The most comparisons on a way to a return, where that can be: with two loads, the comparison of the architecture
    /// and the return 12 instructions.
    const DEEPEST: u8 = 8;
    /// What a comparison costs more where neither of its targets is next to it: it is two instructions then.
    const BOTH: u32 = 20;

    const fn of(cuts: &Cuts, from: usize, to: usize) -> Plan {
        let mut plan = Plan {
            base: from,
            slack: Plan::slack(cuts, to - from),
            cost: [[0; Plan::SIZE]; Plan::SIZE],
            depth: [[0; Plan::SIZE]; Plan::SIZE],
            split: [[0; Plan::SIZE]; Plan::SIZE],
        };
        let n = to - from;
        let mut length = 1;
        while length <= n {
            let mut i = 0;
            while i + length <= n {
                plan.choose(cuts, i, i + length);
                i += 1;
            }
            length += 1;
        }
        plan
    }

    const fn slack(cuts: &Cuts, n: usize) -> u8 {
        let least = ceil_log2(n);
        if cuts.known == 0 {
            return u8::MAX / 2; // a set: nothing is walked when a filter is installed
        }
        // One at least, or there may be no tree but the one that halves.
        if least < Plan::DEEPEST { Plan::DEEPEST - least } else { 1 }
    }

    const fn choose(&mut self, cuts: &Cuts, i: usize, j: usize) {
        let width = cuts.width(self.base + i, self.base + j);
        let deepest = ceil_log2(j - i) + self.slack;
        let (mut best, mut depth, mut at) = (u32::MAX, 0, i);
        if let Some(count) = cuts.exceptions(self.base + i, self.base + j)
            && count <= deepest as u32
        {
            let both = if count > 0 { Plan::BOTH } else { 0 };
            (best, depth) = (count * (Plan::LENGTH + width) + both, byte(count as usize));
        }
        let mut k = i + 1;
        while k < j {
            let both = if k - i == 1 && j - k == 1 { Plan::BOTH } else { 0 };
            let cost = Plan::LENGTH + width + both + self.cost[i][k] + self.cost[k][j];
            if cost < best {
                let (left, right) = (self.depth[i][k], self.depth[k][j]);
                let deeper = 1 + if left > right { left } else { right };
                if deeper <= deepest {
                    (best, depth, at) = (cost, deeper, k);
                }
            }
            k += 1;
        }
        self.cost[i][j] = best;
        self.depth[i][j] = depth;
        self.split[i][j] = byte(at);
    }

    /// `None`: a chain.
    const fn split(&self, from: usize, to: usize) -> Option<usize> {
        let at = self.split[from - self.base][to - self.base] as usize + self.base;
        if at == from { None } else { Some(at) }
    }

    /// Needs no instruction of its own.
    const fn is_leaf(&self, from: usize, to: usize) -> bool {
        self.cost[from - self.base][to - self.base] == 0
    }
}

/// The numbers of an architecture, cut where their rule changes, and these rules.
struct Ranges {
    cuts: Cuts,
    /// By target, each once.
    rules: [Rule; Cuts::MOST],
    /// The first call of each.
    names: [&'static str; Cuts::MOST],
    distinct: usize,
}

impl Ranges {
    const fn of(policy: &Policy, arch: &Arch) -> Ranges {
        let unknown = Rule::always(policy.unknown);
        let mut ranges = Ranges {
            cuts: Cuts::EMPTY,
            rules: [unknown; Cuts::MOST],
            names: [""; Cuts::MOST],
            distinct: 0,
        };
        let (mut i, mut next) = (0, 0);
        while i < arch.calls.len() {
            let (name, number) = arch.calls[i];
            if number > next {
                ranges.push(next, unknown, "");
            }
            ranges.push(number, policy.rule(name), name);
            next = number + 1;
            i += 1;
        }
        ranges.cuts.known = next;
        ranges.push(next, unknown, "");
        if let Some(bit) = arch.x32_bit {
            ranges.push(bit, Rule::always(Verdict::Kill), ""); // and all that is negative as an int, but
            ranges.push(u32::MAX, unknown, ""); // syscall(-1), of programs that were built without a number
        }
        ranges
    }

    const fn push(&mut self, first: u32, rule: Rule, name: &'static str) {
        let mut target = 0;
        while target < self.distinct && !self.rules[target].equals(&rule) {
            target += 1;
        }
        if target == self.distinct {
            self.rules[target] = rule;
            self.names[target] = name;
            self.distinct += 1;
        }
        self.cuts.push(first, target);
    }
}

/// Says whose instructions did not fit any more.
const fn too_long(name: &str) -> ! {
    let mut line = Line::EMPTY;
    line.push(name);
    line.push(": the program is longer than the kernel takes, 4096 instructions");
    panic!("{}", line.as_str())
}

/// The program as an array of its own length.
const fn exactly<const N: usize>(program: &Program) -> [SockFilter; N] {
    match program.as_slice().first_chunk() {
        Some(insns) => *insns,
        None => panic!("N is not the length of the program"),
    }
}

/// The low word, the high word.
const fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

/// A distance as a comparison holds it.
#[expect(clippy::cast_possible_truncation, reason = "asserted")]
const fn skip(distance: usize) -> u8 {
    assert!(distance <= 255, "a comparison jumps too far");
    distance as u8
}

/// How many halvings until one is left.
const fn ceil_log2(n: usize) -> u8 {
    byte(n.next_power_of_two().trailing_zeros() as usize)
}

/// A place in a plan.
#[expect(clippy::cast_possible_truncation, reason = "asserted")]
const fn byte(small: usize) -> u8 {
    assert!(small < Plan::SIZE);
    small as u8
}

/// A small index as an instruction holds it.
#[expect(clippy::cast_possible_truncation, reason = "asserted")]
const fn narrow(small: usize) -> u32 {
    assert!(small <= CAPACITY, "not an index of a program");
    small as u32
}
