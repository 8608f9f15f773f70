//! The arguments that a rule of a table means, as cubes: of each argument some bits are given, the others free.
//! Whatever a rule asks, what it grants and what it refuses are both some cubes.

use agent_init::policy::{Rule, Test, When};

use super::run::Call;
use super::set::Set;
use super::symbol::Word;
use super::verdict::Action;
use super::walk::Calls;
use super::words;

/// Of each argument: which bits are given, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cube {
    /// 1: given.
    pub mask: [u64; 6],
    /// Where it is given.
    pub value: [u64; 6],
}

impl Cube {
    fn of(n: usize, mask: u64, value: u64) -> Cube {
        let mut cube = Cube::default();
        cube.mask[n] = mask;
        cube.value[n] = value;
        cube
    }

    /// What is in both; `None`: nothing.
    fn and(&self, other: &Cube) -> Option<Cube> {
        let agree =
            (0..6).all(|n| (self.value[n] ^ other.value[n]) & self.mask[n] & other.mask[n] == 0);
        agree.then(|| Cube {
            mask: std::array::from_fn(|n| self.mask[n] | other.mask[n]),
            value: std::array::from_fn(|n| self.value[n] | other.value[n]),
        })
    }

    /// The calls of one number with these arguments.
    pub fn calls(&self, arch: u32, number: u32) -> Calls {
        let mut calls = Calls::of(arch, number);
        for (n, (mask, value)) in self.mask.iter().zip(self.value).enumerate() {
            let ([low_mask, high_mask], [low, high]) = (halves(*mask), halves(value));
            for (word, mask, value) in [(0, low_mask, low), (1, high_mask, high)] {
                let known = Word { set: Set::all(), ones: value, zeros: mask & !value };
                calls = calls.with(Call::argument(n) + word, known);
            }
        }
        calls
    }
}

fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

/// The arguments for which a rule gives `action`. Cubes may overlap.
pub fn given(rule: &Rule, action: Action) -> Vec<Cube> {
    let mut cubes = Vec::new();
    let mut rest = vec![Cube::default()]; // past all clauses that give something else
    for When(tests, verdict) in rule.clauses {
        let (mut hit, mut miss) = (rest.clone(), Vec::new());
        for test in *tests {
            miss.extend(product(&hit, &holds(test, false)));
            hit = product(&hit, &holds(test, true));
        }
        if Action::from(*verdict) == action {
            cubes.extend(hit);
        } else {
            rest = miss;
        }
    }
    if Action::from(rule.otherwise) == action {
        cubes.extend(rest);
    }
    cubes
}

/// The arguments that a rule does not let through.
pub fn refused(rule: &Rule) -> Vec<Cube> {
    let mut actions: Vec<Action> = words::verdicts(rule).filter(|a| !a.runs()).collect();
    actions.sort();
    actions.dedup();
    actions.into_iter().flat_map(|action| given(rule, action)).collect()
}

fn product(left: &[Cube], right: &[Cube]) -> Vec<Cube> {
    left.iter().flat_map(|a| right.iter().filter_map(|b| a.and(b))).collect()
}

/// Where a test comes out so.
fn holds(test: &Test, outcome: bool) -> Vec<Cube> {
    let (n, mask, values): (usize, u64, Vec<u64>) = match *test {
        Test::Low(n, set) => (n, u32::MAX.into(), set.iter().map(|v| (*v).into()).collect()),
        Test::Masked(n, mask, set) => {
            (n, mask.into(), set.iter().filter(|v| **v & !mask == 0).map(|v| (*v).into()).collect())
        }
        // It fails where all of these are 0.
        Test::AnyBit(n, bits) => return equal(n, bits.into(), &[0], !outcome),
        Test::Whole(n, value) => (n, u64::MAX, vec![value]),
        Test::WholeMasked(n, mask, value) => (n, mask, vec![value]),
        Test::Between(n, first, last) => {
            return between(n, u32::MAX.into(), [first.into(), last.into()], outcome);
        }
        Test::WholeBetween(n, first, last) => return between(n, u64::MAX, [first, last], outcome),
    };
    equal(n, mask, &values, outcome)
}

/// Where an argument, and-ed with a mask, is one of the values, or is not.
fn equal(n: usize, mask: u64, values: &[u64], outcome: bool) -> Vec<Cube> {
    if outcome {
        return values.iter().map(|value| Cube::of(n, mask, *value)).collect();
    }
    let mut cubes = Vec::new();
    outside(&mut cubes, n, mask, (0, 0), values);
    cubes
}

/// Where an argument, and-ed with a mask of its lowest bits, lies between two values, or does not.
fn between(n: usize, mask: u64, [first, last]: [u64; 2], outcome: bool) -> Vec<Cube> {
    let ranges = match outcome {
        true => vec![Some((first, last))],
        false => vec![
            first.checked_sub(1).map(|end| (0, end)),
            last.checked_add(1).filter(|next| *next <= mask).map(|next| (next, mask)),
        ],
    };
    let mut cubes = Vec::new();
    for (mut from, to) in ranges.into_iter().flatten() {
        // The largest aligned block that begins here and does not go too far.
        while from <= to {
            let mut block = 0u64; // its free bits
            while block < mask {
                let wider = block << 1 | 1;
                if from & wider != 0 || from | wider > to {
                    break;
                }
                block = wider;
            }
            cubes.push(Cube::of(n, mask & !block, from));
            match (from | block).checked_add(1) {
                Some(next) => from = next,
                None => break,
            }
        }
    }
    cubes
}

/// Bit by bit from the highest: where no value goes on, all that follows is outside.
fn outside(cubes: &mut Vec<Cube>, n: usize, left: u64, given: (u64, u64), values: &[u64]) {
    if values.is_empty() {
        return cubes.push(Cube::of(n, given.0, given.1));
    }
    let Some(top) = left.checked_ilog2() else { return };
    let bit = 1u64 << top;
    for value in [0, bit] {
        let on: Vec<u64> = values.iter().filter(|v| **v & bit == value).copied().collect();
        outside(cubes, n, left & !bit, (given.0 | bit, given.1 | value), &on);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_init::policy::AGENT;

    /// Every rule of the table, at every value it names, one more, one less, and with each bit the other way.
    #[test]
    fn cubes_mean_what_the_rule_means() {
        for row in AGENT.iter().filter(|row| !row.rule.clauses.is_empty()) {
            let mut values = vec![0u64, 1, u64::MAX, 1 << 32];
            for test in row.rule.clauses.iter().flat_map(|When(tests, _)| *tests) {
                match test {
                    Test::Low(_, set) | Test::Masked(_, _, set) => {
                        values.extend(set.iter().map(|v| u64::from(*v)))
                    }
                    Test::AnyBit(_, bits) => values.push((*bits).into()),
                    Test::Between(_, a, b) => values.extend([u64::from(*a), u64::from(*b)]),
                    Test::Whole(_, value) => values.push(*value),
                    Test::WholeMasked(_, _, value) => values.push(*value),
                    Test::WholeBetween(_, a, b) => values.extend([*a, *b]),
                }
            }
            let near =
                values.iter().flat_map(|v| [*v, v.wrapping_add(1), v.wrapping_sub(1), v ^ 1 << 40]);
            let near: Vec<u64> = near.take(60).collect();
            let actions: Vec<Action> = words::verdicts(&row.rule).collect();
            for a0 in &near {
                for a1 in &near {
                    let args = [*a0, *a1, *a0, *a1, 0, 0];
                    let decided = words::decide(&row.rule, &args).1;
                    for action in &actions {
                        let within = given(&row.rule, *action)
                            .iter()
                            .any(|cube| (0..6).all(|n| args[n] & cube.mask[n] == cube.value[n]));
                        assert_eq!(
                            within,
                            *action == decided,
                            "{}: {args:x?} {action:?}",
                            row.name
                        );
                    }
                    if near.len() > 40 {
                        break;
                    }
                }
            }
        }
    }
}
