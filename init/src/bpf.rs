//! A policy becomes a seccomp program, at compile time: rows → ranges of numbers → balanced tree → `SockFilter`.
//!
//! The program loads the architecture and kills a foreign one, loads the number, and walks a tree of
//! `number >= k` to a leaf. A leaf is a return, or the block of a rule: the only place that loads an argument, so a
//! call without a rule is answered from the kernel's bitmap and costs nothing.
//!
//! Jumps only go forward, at most 255 instructions far. So the program is built from its end: what an instruction
//! jumps to is there before it, at an index that does not change any more. seccomp(2), and in the kernel's
//! Documentation: userspace-api/seccomp_filter.rst, networking/filter.rst.

use crate::nr;
use crate::policy::{AGENT_POLICY, INIT_POLICY, Policy, Rule, Test, Verdict, When};

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

const AGENT: Program = assemble(&AGENT_POLICY);
const INIT: Program = assemble(&INIT_POLICY);

/// An errno no path of the kernel returns: the greatest one a filter can give.
pub const MARKER: u16 = 4095;

/// The program of a policy. Panics, which stops the compiler, if it needs more than [`CAPACITY`] instructions.
pub const fn assemble(policy: &Policy) -> Program {
    let ranges = Ranges::of(policy);
    let mut program = Program::EMPTY;
    program.ends(&ranges);
    let tree = program.tree(&ranges, 0, ranges.len);
    let ours = program.step(LOAD, NUMBER, tree);
    let foreign = program.ret(Verdict::Kill);
    let entry = program.branch(IF_EQUAL, nr::AUDIT_ARCH, ours, foreign);
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

/// The offset of the low word of an argument; the high word is 4 further, as both our architectures are little-endian.
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
}

impl Program {
    const EMPTY: Program = Program {
        // Never executed. If it were: fail closed.
        insns: [SockFilter { code: RETURN, jt: 0, jf: 0, k: Verdict::Kill.code() }; CAPACITY],
        start: CAPACITY,
    };

    /// What there is, in the order in which the kernel wants it.
    pub const fn as_slice(&self) -> &[SockFilter] {
        self.insns.split_at(self.start).1
    }

    // -- A policy ----------------------------------------------------------------------------------------------

    /// The returns that most paths end in, together at the end. A program of more than 255 instructions gets more of
    /// them where these are out of reach.
    const fn ends(&mut self, ranges: &Ranges) {
        let mut i = ranges.len;
        while i > 0 {
            i -= 1;
            self.ret(ranges.list[i].rule.otherwise);
        }
        self.ret(Verdict::Kill);
    }

    /// Decides between ranges `from..to`: by their border nearest to the middle, then on either side again.
    const fn tree(&mut self, ranges: &Ranges, from: usize, to: usize) -> usize {
        if to - from == 1 {
            return self.rule(&ranges.list[from].rule);
        }
        let middle = ranges.middle(from, to);
        let above = self.tree(ranges, middle, to);
        let below = self.tree(ranges, from, middle);
        self.branch(IF_AT_LEAST, ranges.list[middle].first, above, below)
    }

    const fn rule(&mut self, rule: &Rule) -> usize {
        let mut next = self.ret(rule.otherwise);
        let mut i = rule.clauses.len();
        while i > 0 {
            i -= 1;
            next = self.clause(&rule.clauses[i], next);
        }
        next
    }

    const fn clause(&mut self, When(tests, verdict): &When, miss: usize) -> usize {
        let mut hit = self.ret(*verdict);
        let mut i = tests.len();
        while i > 0 {
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
            Test::Whole(index, value) => {
                let [low, high] = halves(value);
                let compare = self.branch(IF_EQUAL, high, hit, miss);
                let high_half = self.step(LOAD, argument(index) + 4, compare);
                let compare = self.branch(IF_EQUAL, low, high_half, miss);
                self.step(LOAD, argument(index), compare)
            }
        }
    }

    const fn one_of(&mut self, set: &[u32], hit: usize, miss: usize) -> usize {
        let mut next = miss;
        let mut i = set.len();
        while i > 0 {
            i -= 1;
            next = self.branch(IF_EQUAL, set[i], hit, next);
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
        let then = self.near(then);
        let otherwise = self.near(otherwise);
        // An instruction that skips none continues at what is now the start.
        self.prepend(code, skip(then - self.start), skip(otherwise - self.start), k)
    }

    /// An instruction that does not jump, with `next` right after it.
    const fn step(&mut self, code: u16, k: u32, next: usize) -> usize {
        if next != self.start {
            self.jump(next);
        }
        self.prepend(code, 0, 0, k)
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
        assert!(self.start > 0, "the program is longer than the kernel takes");
        self.start -= 1;
        self.insns[self.start] = SockFilter { code, jt, jf, k };
        self.start
    }
}

/// Numbers `first` up to the next range's first have the same rule.
#[derive(Clone, Copy)]
struct Range {
    first: u32,
    rule: Rule,
}

/// All numbers from 0 to 0xffffffff, sorted, without gap; neighbours differ.
struct Ranges {
    list: [Range; Ranges::MOST],
    len: usize,
}

impl Ranges {
    /// Each call with a gap before it, the rest, and the three of `of`'s end.
    const MOST: usize = 2 * nr::CALLS.len() + 3;
    /// Up to here the kernel walks the program for each number when it is installed, to fill its bitmap.
    const KNOWN: u32 = nr::CALLS[nr::CALLS.len() - 1].1 + 1;

    const fn of(policy: &Policy) -> Ranges {
        let unknown = Rule::always(policy.unknown);
        let mut ranges = Ranges { list: [Range { first: 0, rule: unknown }; Self::MOST], len: 0 };
        let (mut i, mut next) = (0, 0);
        while i < nr::CALLS.len() {
            let (name, number) = nr::CALLS[i];
            if number > next {
                ranges.push(next, unknown);
            }
            ranges.push(number, policy.rule(name));
            next = number + 1;
            i += 1;
        }
        ranges.push(next, unknown);
        if let Some(bit) = nr::X32_BIT {
            ranges.push(bit, Rule::always(Verdict::Kill)); // and all that is negative as an int, but
            ranges.push(u32::MAX, unknown); // syscall(-1), of programs that were built without a number
        }
        ranges
    }

    const fn push(&mut self, first: u32, rule: Rule) {
        if self.len > 0 && self.list[self.len - 1].rule.equals(&rule) {
            return;
        }
        self.list[self.len] = Range { first, rule };
        self.len += 1;
    }

    /// Where to split `from..to`: at the border nearest to the middle of its *numbers*, not of its ranges, as
    /// installing costs one walk per number.
    const fn middle(&self, from: usize, to: usize) -> usize {
        let twice_middle = self.border(from) + self.border(to);
        let (mut best, mut i) = (from + 1, from + 2);
        while i < to {
            if twice_middle.abs_diff(2 * self.border(i))
                < twice_middle.abs_diff(2 * self.border(best))
            {
                best = i;
            }
            i += 1;
        }
        best
    }

    const fn border(&self, i: usize) -> u32 {
        if i < self.len && self.list[i].first < Self::KNOWN {
            self.list[i].first
        } else {
            Self::KNOWN
        }
    }
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

/// A small index as an instruction holds it.
#[expect(clippy::cast_possible_truncation, reason = "asserted")]
const fn narrow(small: usize) -> u32 {
    assert!(small <= CAPACITY, "not an index of a program");
    small as u32
}
