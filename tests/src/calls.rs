//! Calls to ask filters about: every number that matters on every architecture that matters, with arguments at the
//! borders of all that the programs themselves compare. What none of the programs compares, none of them can tell
//! apart.

use std::collections::{BTreeMap, BTreeSet};

use agent_init::bpf::{AND, IF_ANY_BIT, IF_AT_LEAST, IF_EQUAL, JUMP, LOAD, RETURN, SockFilter};
use agent_init::nr;

use crate::cbpf::SeccompData;

/// x86_64, i386, aarch64, none, arm, and two of no meaning.
pub const ARCHES: [u32; 7] =
    [nr::AUDIT_ARCH, 0x4000_0003, 0xc000_00b7, 0, 0x4000_0028, 0x1234_5678, 0xffff_ffff];

/// Every number that exists or may exist soon, all around the x32 bit, and the edges of 32 bits.
pub fn numbers() -> BTreeSet<u32> {
    let bits = (12..32).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]);
    let few = (0..=0x400).chain(0x3fff_fff0..=0x4000_0400).chain(0xffff_fff0..=0xffff_ffff);
    few.chain(0xbfff_ffff..=0xc000_0000).chain(bits).collect()
}

/// `BPF_JMP | BPF_JGT | BPF_K`, which our assembler does not use.
const IF_ABOVE: u16 = 0x25;

/// What is in A: known, a word of the arguments and-ed with a mask, or something else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Known(u32),
    Word(u32, u32),
    Other,
}

/// The constants that a program may compare with each word of the arguments of a call, by the word's offset: those of
/// equalities and of orders, and those of bits.
pub fn compared(insns: &[SockFilter], arch: u32, nr: u32) -> BTreeMap<u32, BTreeSet<u32>> {
    let mut found: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    let (mut seen, mut open) = (BTreeSet::new(), vec![(0, Value::Known(0))]);
    while let Some((pc, a)) = open.pop() {
        if !seen.insert((pc, a)) {
            continue;
        }
        let SockFilter { code, jt, jf, k } = insns[pc];
        let (then, other) = (pc + 1 + usize::from(jt), pc + 1 + usize::from(jf));
        match (code, a) {
            (RETURN | 0x16, _) => {}
            (LOAD, _) => open.push((pc + 1, loaded(k, arch, nr))),
            (AND, Value::Known(a)) => open.push((pc + 1, Value::Known(a & k))),
            (AND, Value::Word(at, mask)) => open.push((pc + 1, Value::Word(at, mask & k))),
            (JUMP, _) => open.push((pc + 1 + k as usize, a)),
            (IF_EQUAL, Value::Known(v)) => open.push((if v == k { then } else { other }, a)),
            (IF_AT_LEAST, Value::Known(v)) => open.push((if v >= k { then } else { other }, a)),
            (IF_ABOVE, Value::Known(v)) => open.push((if v > k { then } else { other }, a)),
            (IF_ANY_BIT, Value::Known(v)) => open.push((if v & k != 0 { then } else { other }, a)),
            (IF_EQUAL | IF_AT_LEAST | IF_ABOVE | IF_ANY_BIT, _) => {
                if let Value::Word(at, mask) = a {
                    let words = found.entry(at).or_default();
                    match code {
                        IF_ANY_BIT => words.extend(bits_of(k)),
                        _ => words.extend([k, k | !mask]),
                    }
                }
                open.extend([(then, a), (other, a)]);
            }
            _ => open.push((pc + 1, Value::Other)),
        }
    }
    found
}

fn loaded(offset: u32, arch: u32, nr: u32) -> Value {
    match offset {
        0 => Value::Known(nr),
        4 => Value::Known(arch),
        16.. => Value::Word(offset, u32::MAX),
        _ => Value::Other, // the instruction pointer
    }
}

/// Each bit, and all of them.
fn bits_of(k: u32) -> impl Iterator<Item = u32> {
    (0..32).map(|bit| 1 << bit).filter(move |bit| k & bit != 0).chain([k])
}

/// Arguments of a call: every combination of what the programs compare, one less and one more, with the high halves 0;
/// and from each combination of the exact operands of the first program each bit of each argument the other way, and
/// each high half all ones: the aliases of a comparison that is too wide or too narrow.
pub fn arguments(programs: &[&[SockFilter]], arch: u32, nr: u32) -> BTreeSet<[u64; 6]> {
    let all: Vec<_> = programs.iter().map(|insns| compared(insns, arch, nr)).collect();
    let exact = all.first().cloned().unwrap_or_default();
    let mut near: [BTreeSet<u64>; 6] = Default::default();
    let mut own = near.clone();
    for (values, near_too) in all.iter().map(|values| (values, std::ptr::eq(values, &all[0]))) {
        for (offset, words) in values {
            let (n, high) = ((offset - 16) as usize / 8, offset % 8 != 0);
            for word in words {
                let around = [word.wrapping_sub(1), word.wrapping_add(1)];
                let around = if near_too || words.len() < 16 { &around[..] } else { &[] };
                let values =
                    around.iter().chain([word]).map(|w| u64::from(*w) << (32 * u32::from(high)));
                near[n].extend(values);
            }
        }
    }
    for (offset, words) in &exact {
        let (n, high) = ((offset - 16) as usize / 8, offset % 8 != 0);
        own[n].extend(words.iter().map(|w| u64::from(*w) << (32 * u32::from(high))));
    }
    let mut args = BTreeSet::from([[0; 6], [1; 6], [u64::MAX; 6]]);
    args.extend(combinations(&near));
    for base in combinations(&own) {
        for n in (0..6).filter(|n| !own[*n].is_empty()) {
            let with = |value: u64| std::array::from_fn(|i| if i == n { value } else { base[i] });
            args.extend((0..64).map(|bit| with(base[n] ^ 1 << bit)));
            args.insert(with(base[n] | u64::from(u32::MAX) << 32));
        }
    }
    args
}

/// Each argument at each of its values and at 0; an argument without values is 0.
fn combinations(values: &[BTreeSet<u64>; 6]) -> Vec<[u64; 6]> {
    let mut all = vec![[0; 6]];
    for n in (0..6).filter(|n| !values[*n].is_empty()) {
        let with = |args: &[u64; 6], value: u64| {
            std::array::from_fn(|i| if i == n { value } else { args[i] })
        };
        let each: BTreeSet<u64> = values[n].iter().copied().chain([0]).collect();
        all = all.iter().flat_map(|args| each.iter().map(|v| with(args, *v))).collect();
    }
    all
}

/// Every architecture, every number, and the arguments by which the programs could differ.
pub fn calls(programs: &[&[SockFilter]]) -> Vec<SeccompData> {
    let mut calls = Vec::new();
    for arch in ARCHES {
        for nr in numbers() {
            let args = arguments(programs, arch, nr);
            calls.extend(args.into_iter().map(|args| SeccompData {
                nr,
                arch,
                ip: 0x7fff_dead_beef,
                args,
            }));
        }
    }
    calls
}
