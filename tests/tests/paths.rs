//! Every path of each filter is one that some call takes, and no instruction is there for nothing.
//!
//! Paths are enumerated with what each comparison on the way says of the word that it looks at; a solver finds a value
//! for each word, or there is none and the path ends there. The oracle then runs the call, which must take that path.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet, HashSet};

use agent_init::bpf::{AND, IF_ANY_BIT, IF_AT_LEAST, IF_EQUAL, JUMP, LOAD, RETURN, SockFilter};
use agent_shim::policy::FILTERS;
use agent_shim::policy::insn;
use agent_shim::policy::walk::{Budget, Calls, walk};
use agent_tests::calls;
use agent_tests::cbpf::{Program, SeccompData};

// -- What is known of a word ---------------------------------------------------------------------------------------

/// The value and-ed with a mask is this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bits {
    mask: u32,
    value: u32,
}

impl Bits {
    fn and(self, other: Bits) -> Option<Bits> {
        let agree = (self.value ^ other.value) & self.mask & other.mask == 0;
        agree.then_some(Bits { mask: self.mask | other.mask, value: self.value | other.value })
    }
}

/// All that comparisons have said: bits, borders, and bits that it does not have.
#[derive(Clone, Debug)]
struct Known {
    bits: Bits,
    first: u32,
    last: u32,
    not: Vec<Bits>,
}

impl Known {
    const ANY: Known =
        Known { bits: Bits { mask: 0, value: 0 }, first: 0, last: u32::MAX, not: Vec::new() };

    /// With what a comparison of the value and-ed with `mask` has said; `None`: it cannot come out so.
    fn after(mut self, mask: u32, code: u16, k: u32, holds: bool) -> Option<Known> {
        match (code, holds) {
            (IF_EQUAL, true) => {
                self.bits = self.bits.and(Bits { mask, value: k }).filter(|_| k & !mask == 0)?;
            }
            (IF_EQUAL, false) if k & !mask == 0 => self.not.push(Bits { mask, value: k }),
            (IF_EQUAL, false) => {}
            (IF_ANY_BIT, true) => self.not.push(Bits { mask: mask & k, value: 0 }),
            (IF_ANY_BIT, false) => self.bits = self.bits.and(Bits { mask: mask & k, value: 0 })?,
            (IF_AT_LEAST, true) if k == 0 => {}
            (IF_AT_LEAST, false) if k == 0 => return None,
            // Of and-ed values: none of those on the other side.
            (IF_AT_LEAST, _) if mask != u32::MAX => {
                let other = if holds { blocks(0, k - 1) } else { blocks(k, u32::MAX) };
                let reached = other.into_iter().filter(|block| block.value & !mask == 0);
                self.not.extend(reached.map(|b| Bits { mask: b.mask & mask, value: b.value }));
            }
            (IF_AT_LEAST, true) => self.first = self.first.max(k),
            (IF_AT_LEAST, false) => self.last = self.last.min(k.checked_sub(1)?),
            _ => panic!("no comparison: {code:#x}"),
        }
        self.value().map(|_| self)
    }

    /// A value of which all of it is true, if there is one.
    fn value(&self) -> Option<u32> {
        let blocks = blocks(self.first, self.last).into_iter();
        blocks.filter_map(|block| self.bits.and(block)).find_map(|bits| without(bits, &self.not))
    }
}

/// A range as aligned blocks: of each, the low bits are free.
fn blocks(first: u32, last: u32) -> Vec<Bits> {
    let (mut found, mut first, last) = (Vec::new(), u64::from(first), u64::from(last));
    while first <= last {
        // The largest that begins here and ends in time.
        let fits = |free: &u32| first.is_multiple_of(1 << free) && first + (1 << free) - 1 <= last;
        let free = (0..=32).rev().find(fits).unwrap();
        let mask = u32::try_from(u64::from(u32::MAX) >> free << free).unwrap();
        found.push(Bits { mask, value: u32::try_from(first).unwrap() });
        first += 1 << free;
    }
    found
}

/// A value with these bits and none of those: where it has them all, one of the free bits is turned.
fn without(bits: Bits, not: &[Bits]) -> Option<u32> {
    let Some(hit) = not.iter().find(|not| bits.value & not.mask == not.value) else {
        return Some(bits.value);
    };
    let free = (0..32).map(|n| 1 << n).filter(|bit| hit.mask & !bits.mask & bit != 0);
    free.filter_map(|bit| bits.and(Bits { mask: bit, value: !hit.value & bit }))
        .find_map(|bits| without(bits, not))
}

// -- Paths ---------------------------------------------------------------------------------------------------------

/// The instructions from the first to a return.
type Path = Vec<usize>;

struct State {
    pc: usize,
    path: Path,
    /// The word in A, and what it was and-ed with.
    a: (u32, u32),
    known: BTreeMap<u32, Known>,
}

/// Every path that a call can take, with such a call.
fn paths(insns: &[SockFilter]) -> Vec<(Path, SeccompData)> {
    let mut found = Vec::new();
    let mut open = vec![State { pc: 0, path: Vec::new(), a: (0, 0), known: BTreeMap::new() }];
    while let Some(State { pc, mut path, mut a, known }) = open.pop() {
        path.push(pc);
        let SockFilter { code, jt, jf, k } = insns[pc];
        let next = match code {
            RETURN => {
                found.push((path, call(&known)));
                continue;
            }
            LOAD => {
                a = (k, u32::MAX);
                pc + 1
            }
            AND => {
                a.1 &= k;
                pc + 1
            }
            JUMP => pc + 1 + k as usize,
            _ => {
                for (skip, holds) in [(jt, true), (jf, false)] {
                    let word = known.get(&a.0).cloned().unwrap_or(Known::ANY);
                    if let Some(word) = word.after(a.1, code, k, holds) {
                        let mut known = known.clone();
                        known.insert(a.0, word);
                        open.push(State {
                            pc: pc + 1 + usize::from(skip),
                            path: path.clone(),
                            a,
                            known,
                        });
                    }
                }
                continue;
            }
        };
        open.push(State { pc: next, path, a, known });
    }
    found
}

/// Words of which nothing is known are 0.
fn call(known: &BTreeMap<u32, Known>) -> SeccompData {
    let word = |at: u32| known.get(&at).map_or(0, |word| word.value().unwrap());
    let pair = |at: u32| u64::from(word(at + 4)) << 32 | u64::from(word(at));
    let args = std::array::from_fn(|n| pair(16 + 8 * u32::try_from(n).unwrap()));
    SeccompData { nr: word(0), arch: word(4), ip: pair(8), args }
}

/// From each instruction to the next.
fn steps(paths: &[(Path, SeccompData)]) -> BTreeSet<(usize, usize)> {
    paths.iter().flat_map(|(path, _)| path.windows(2).map(|step| (step[0], step[1]))).collect()
}

#[test] // seen to fail with a return nobody jumps to, a value of a set compared twice
fn every_path_is_taken_and_no_instruction_is_dead() {
    for filter in FILTERS {
        let (insns, program) = (filter.program, Program::check(filter.program).unwrap());
        let paths = paths(insns);
        for (path, call) in &paths {
            assert_eq!(program.path(call).1, *path, "{}: {call:x?}", filter.name);
        }
        let steps = steps(&paths);
        for (pc, insn) in insns.iter().enumerate() {
            let next = |skip: u8| (pc, pc + 1 + usize::from(skip));
            let ways = match insn.code {
                RETURN => Vec::new(),
                JUMP => vec![(pc, pc + 1 + insn.k as usize)],
                LOAD | AND => vec![next(0)],
                _ => vec![next(insn.jt), next(insn.jf)],
            };
            let reached = paths.iter().any(|(path, _)| path.contains(&pc));
            assert!(reached, "{}: no call gets to {pc}: {insn:?}", filter.name);
            for way in ways {
                assert!(steps.contains(&way), "{}: no call goes {way:?}: {insn:?}", filter.name);
            }
        }
        // And there is no other path.
        let known: HashSet<&Path> = paths.iter().map(|(path, _)| path).collect();
        assert_eq!(known.len(), paths.len());
        let calls = calls::calls(&[insns]);
        for call in &calls {
            assert!(known.contains(&program.path(call).1), "{}: {call:x?}", filter.name);
        }
        let longest = paths.iter().map(|(path, _)| path.len()).max().unwrap();
        println!(
            "{}: {} paths, the longest of {longest} instructions; {} calls take no other",
            filter.name,
            paths.len(),
            calls.len()
        );
    }
}

/// What `policy check` and `policy dump` follow is what these paths are.
#[test] // seen to fail with a return nobody jumps to, with the false way of a comparison taken for the true one
fn the_walk_of_policy_finds_the_same() {
    for filter in FILTERS {
        let paths = paths(filter.program);
        let program = insn::Program::check(filter.program).unwrap();
        let walked = walk(&program, Calls::all(), true, &mut Budget::of(100_000_000)).unwrap();
        let ends = |pc: usize| paths.iter().any(|(path, _)| path.last() == Some(&pc));
        for (pc, insn) in filter.program.iter().enumerate() {
            let leaves: Vec<_> = walked.leaves.iter().filter(|leaf| leaf.pc == pc).collect();
            assert_eq!(!leaves.is_empty(), ends(pc), "{}: {pc}", filter.name);
            assert!(walked.at[pc].reached, "{}: {pc}", filter.name);
            assert!(leaves.iter().all(|leaf| leaf.result == Some(insn.k)), "{}: {pc}", filter.name);
            let confirmed = leaves.iter().all(|leaf| leaf.confirmed(&program).is_some());
            assert!(confirmed, "{}: {pc}", filter.name);
        }
    }
}

#[test] // seen to fail with the first free bit alone turned, with none
fn the_solver_finds_what_there_is_and_nothing_else() {
    let all = |steps: &[(u32, u16, u32, bool)]| {
        steps
            .iter()
            .try_fold(Known::ANY, |known, &(m, code, k, holds)| known.after(m, code, k, holds))
    };
    let any = u32::MAX;
    let value = |steps: &[(u32, u16, u32, bool)]| all(steps).and_then(|known| known.value());
    assert_eq!(value(&[(any, IF_AT_LEAST, 7, true), (any, IF_AT_LEAST, 8, false)]), Some(7));
    assert_eq!(value(&[(any, IF_AT_LEAST, 7, true), (any, IF_AT_LEAST, 7, false)]), None);
    assert_eq!(value(&[(any, IF_AT_LEAST, 0, false)]), None);
    assert_eq!(value(&[(any, IF_AT_LEAST, any, true)]), Some(any));
    assert_eq!(value(&[(any, IF_AT_LEAST, 7, true), (1, IF_EQUAL, 1, false)]), Some(8));
    assert_eq!(value(&[(0xf, IF_EQUAL, 0x10, true)]), None);
    // All four values of two bits.
    let three = [(3, IF_EQUAL, 0, false), (3, IF_EQUAL, 1, false), (3, IF_EQUAL, 3, false)];
    assert_eq!(value(&three), Some(2));
    assert_eq!(value(&[&three[..], &[(3, IF_EQUAL, 2, false)]].concat()), None);
    assert_eq!(value(&[(6, IF_ANY_BIT, 5, true), (any, IF_EQUAL, 1, true)]), None);
    assert_eq!(value(&[(6, IF_ANY_BIT, 5, true), (6, IF_ANY_BIT, 2, false)]), Some(4));
}
