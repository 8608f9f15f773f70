//! Many calls at once: what is known about each word of `struct seccomp_data`, and about a register, where the
//! program stands. What is known may be too little (a set too large), never too much.

use super::insn::{Alu, Cmp};
use super::run::compute;
use super::set::Set;

/// The values a word may have: those of a set whose bits are as known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Word {
    /// By value.
    pub set: Set,
    /// Bits that are 1 in all of them.
    pub ones: u32,
    /// Bits that are 0 in all of them.
    pub zeros: u32,
}

/// Whether a comparison can come out as asked, and what is known then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refined {
    /// It cannot.
    Never,
    /// It does for exactly these.
    Exactly(Word),
    /// It does for some of these, and for no others.
    Among(Word),
}

impl Word {
    /// Any value.
    pub fn any() -> Word {
        Word::of(Set::all())
    }

    /// Those of a set.
    pub fn of(set: Set) -> Word {
        Word { set, ones: 0, zeros: 0 }
    }

    /// Whether nothing is known.
    pub fn is_any(&self) -> bool {
        self.set.is_all() && self.ones == 0 && self.zeros == 0
    }

    /// Whether it may have this value.
    pub fn has(&self, value: u32) -> bool {
        self.set.contains(value) && value & self.ones == self.ones && value & self.zeros == 0
    }

    /// The lowest value; `None`: there is none.
    pub fn first(&self) -> Option<u32> {
        self.set
            .ranges()
            .iter()
            .find_map(|(first, last)| self.at_least(*first).filter(|value| value <= last))
    }

    /// The lowest value with the known bits that is no less than `value`.
    fn at_least(&self, mut value: u32) -> Option<u32> {
        if self.ones & self.zeros != 0 {
            return None;
        }
        loop {
            let wrong = !value & self.ones | value & self.zeros;
            let Some(top) = wrong.checked_ilog2() else { return Some(value) };
            let bit = 1u32 << top;
            value = if self.ones & bit != 0 {
                (value | bit) & !(bit - 1)
            } else {
                // The bit must be 0: only a carry past it makes the value greater.
                (value & !(bit - 1)).checked_add(bit)?
            };
        }
    }

    /// Those of both.
    pub fn and(&self, other: &Word) -> Word {
        Word {
            set: self.set.and(&other.set),
            ones: self.ones | other.ones,
            zeros: self.zeros | other.zeros,
        }
    }

    /// Those for which the comparison of `word & mask` with `k` comes out as `outcome`.
    pub fn refine(&self, mask: u32, cmp: Cmp, k: u32, outcome: bool) -> Refined {
        let refined = match (cmp, outcome) {
            (Cmp::Eq, _) => self.equal(mask, k, outcome),
            (Cmp::Set, _) => match self.equal(mask & k, 0, !outcome) {
                Refined::Among(word) => word.one_bit_of(mask & k & !self.zeros),
                other => other,
            },
            (Cmp::Ge, _) => self.ordered(mask, Some(k), outcome),
            (Cmp::Gt, _) => self.ordered(mask, k.checked_add(1), outcome),
        };
        match refined {
            Refined::Exactly(word) | Refined::Among(word) if word.first().is_none() => {
                Refined::Never
            }
            other => other,
        }
    }

    /// The same without loss: disjoint words, each exact. At most 33, a bit of the mask each.
    pub fn split(&self, mask: u32, cmp: Cmp, k: u32, outcome: bool) -> Vec<Word> {
        match self.refine(mask, cmp, k, outcome) {
            Refined::Never => Vec::new(),
            Refined::Exactly(word) => vec![word],
            Refined::Among(_) => {
                let words = Word::cases(mask, cmp, k, outcome);
                let both = words.iter().map(|word| self.and(word));
                both.filter(|word| word.first().is_some()).collect()
            }
        }
    }

    /// By the highest bit of the mask that decides.
    fn cases(mask: u32, cmp: Cmp, k: u32, outcome: bool) -> Vec<Word> {
        let (mut cases, mut ones, mut zeros) = (Vec::new(), 0, 0);
        let order = match cmp {
            Cmp::Eq | Cmp::Ge | Cmp::Gt => k,
            Cmp::Set => 0, // no bit is as in "equal to 0"
        };
        let asked = if cmp == Cmp::Set { mask & k } else { mask };
        for bit in (0..32).rev().map(|n| 1u32 << n) {
            let (given, is_one) = (asked & bit != 0, order & bit != 0);
            if !given && (!is_one || cmp == Cmp::Set) {
                continue; // masked away on both sides
            }
            // The other value of this bit: greater than k, or less.
            let is_greater = !is_one;
            let holds = match cmp {
                Cmp::Eq => false,
                Cmp::Set => true,
                Cmp::Ge | Cmp::Gt => is_greater,
            };
            if given && holds == outcome {
                let (one, zero) = if is_one { (0, bit) } else { (bit, 0) };
                cases.push(Word { set: Set::all(), ones: ones | one, zeros: zeros | zero });
            }
            if !given {
                // k has a bit that the masked word never has: it is less, whatever follows.
                let holds = false;
                if holds == outcome {
                    cases.push(Word { set: Set::all(), ones, zeros });
                }
                return cases;
            }
            ones |= if is_one { bit } else { 0 };
            zeros |= if is_one { 0 } else { bit };
        }
        // Equal in all bits.
        let holds = matches!(cmp, Cmp::Eq | Cmp::Ge);
        if holds == outcome {
            cases.push(Word { set: Set::all(), ones, zeros });
        }
        cases
    }

    fn within(&self, set: &Set) -> Refined {
        Refined::Exactly(Word { set: self.set.and(set), ..*self })
    }

    fn equal(&self, mask: u32, k: u32, outcome: bool) -> Refined {
        match (Set::masked(mask, k), outcome) {
            (Some(set), true) => self.within(&set),
            (Some(set), false) => self.within(&set.not()),
            (None, true) => Refined::Exactly(Word {
                set: self.set.clone(),
                ones: self.ones | k,
                zeros: self.zeros | mask & !k,
            }),
            (None, false) => {
                let known = (self.ones | self.zeros) & mask;
                if self.ones & mask & !k != 0 || self.zeros & k != 0 {
                    Refined::Exactly(self.clone())
                } else if known == mask {
                    Refined::Never
                } else {
                    Refined::Among(self.clone())
                }
            }
        }
    }

    /// At least one of these bits is 1.
    fn one_bit_of(self, bits: u32) -> Refined {
        match bits.count_ones() {
            0 => Refined::Never,
            1 => Refined::Exactly(Word { ones: self.ones | bits, ..self }),
            _ if self.ones & bits != 0 => Refined::Exactly(self),
            _ => Refined::Among(self),
        }
    }

    /// `word & mask >= k` or, as `outcome` says, `< k`. No `k`: greater than any.
    fn ordered(&self, mask: u32, k: Option<u32>, outcome: bool) -> Refined {
        let Some(k) = k else {
            return if outcome { Refined::Never } else { Refined::Exactly(self.clone()) };
        };
        let (least, most) = (self.ones & mask, mask & !self.zeros);
        if least >= k || most < k {
            let holds = least >= k;
            return if holds == outcome { Refined::Exactly(self.clone()) } else { Refined::Never };
        }
        // A mask that only clears the lowest bits keeps the order.
        let low = mask.trailing_zeros();
        if mask.leading_ones() + low != 32 {
            return Refined::Among(self.clone());
        }
        let step = 1u32 << low;
        let from = k.div_ceil(step).checked_mul(step);
        let set = from.map_or(Set::none(), |from| Set::range(from, u32::MAX));
        self.within(&if outcome { set } else { set.not() })
    }
}

/// What a register or a word of scratch memory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// This.
    Known(u32),
    /// A word of `struct seccomp_data`, and-ed with a mask.
    Field(usize, u32),
    /// The result of arithmetic that is not followed.
    Unknown,
}

impl Value {
    /// After an operation.
    pub fn after(self, alu: Alu, operand: Value) -> Value {
        match (alu, self, operand) {
            (_, Value::Known(a), Value::Known(k)) => {
                compute(alu, a, k).map_or(Value::Unknown, Value::Known)
            }
            (Alu::And, Value::Field(word, mask), Value::Known(k))
            | (Alu::And, Value::Known(k), Value::Field(word, mask)) => Value::Field(word, mask & k),
            _ => Value::Unknown,
        }
    }

    /// The word it comes from.
    pub fn word(self) -> Option<usize> {
        match self {
            Value::Field(word, _) => Some(word),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::run::holds;

    /// Every claim against every word of a small world: 5 low bits, 2 high ones.
    #[test]
    fn what_is_refined_is_true() {
        let world: Vec<u32> = (0..128).map(|n| n & 31 | (n & 32) << 25 | (n & 64) << 25).collect();
        let masks = [u32::MAX, 0, 1, 3, 0x1e, 0x15, 0xc000_0000, 0x8000_0011, 0xffff_fffc];
        let starts = [
            Word::any(),
            Word::of(Set::range(5, 20)),
            Word { set: Set::range(0, 0x8000_0000), ones: 1, zeros: 8 },
            Word { set: Set::all(), ones: 0x4000_0000, zeros: 0x10 },
        ];
        for start in &starts {
            for mask in masks {
                for k in [0, 1, 2, 5, 8, 0x15, 0x4000_0000, 0x4000_0001, u32::MAX] {
                    for cmp in [Cmp::Eq, Cmp::Gt, Cmp::Ge, Cmp::Set] {
                        for outcome in [true, false] {
                            let real = |v: u32| start.has(v) && holds(cmp, v & mask, k) == outcome;
                            let told = start.refine(mask, cmp, k, outcome);
                            let text = format!(
                                "{start:x?} & {mask:#x} {cmp:?} {k:#x} {outcome}: {told:x?}"
                            );
                            let cases = start.split(mask, cmp, k, outcome);
                            for v in &world {
                                let within = cases.iter().filter(|w| w.has(*v)).count();
                                assert_eq!(
                                    within,
                                    usize::from(real(*v)),
                                    "{text} {v:#x} {cases:x?}"
                                );
                            }
                            match &told {
                                Refined::Never => {
                                    assert!(!world.iter().any(|v| real(*v)), "{text}")
                                }
                                Refined::Exactly(w) => world
                                    .iter()
                                    .for_each(|v| assert_eq!(w.has(*v), real(*v), "{text} {v:#x}")),
                                Refined::Among(w) => world
                                    .iter()
                                    .for_each(|v| assert!(w.has(*v) || !real(*v), "{text} {v:#x}")),
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_first_value_is_the_lowest_one() {
        let word = Word { set: Set::range(9, 100), ones: 4, zeros: 1 };
        assert_eq!(word.first(), (9..=100).find(|v| word.has(*v)));
        let word = Word { set: Set::range(0xffff_fff0, u32::MAX), ones: 0, zeros: 0x10 };
        assert_eq!(word.first(), None);
        assert_eq!(Word { set: Set::all(), ones: 1, zeros: 1 }.first(), None);
    }
}
