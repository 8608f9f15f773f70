//! Sets of 32-bit words: sorted ranges, without overlap, neighbours joined.

/// Words, as ranges from first to last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Set(Vec<(u32, u32)>);

impl Set {
    /// A condition on bits becomes at most so many ranges; others are kept as bits.
    const MOST_RANGES: u32 = 64;

    /// No word.
    pub const fn none() -> Set {
        Set(Vec::new())
    }

    /// Every word.
    pub fn all() -> Set {
        Set::range(0, u32::MAX)
    }

    /// One word.
    pub fn one(word: u32) -> Set {
        Set::range(word, word)
    }

    /// From `first` to `last`; none if they are the wrong way round.
    pub fn range(first: u32, last: u32) -> Set {
        Set(if first <= last { vec![(first, last)] } else { Vec::new() })
    }

    /// The words whose bits of `mask` are those of `value`; `None`: too many ranges.
    pub fn masked(mask: u32, value: u32) -> Option<Set> {
        if value & !mask != 0 {
            return Some(Set::none());
        }
        let low = mask.trailing_zeros().min(32);
        let low_bits = u32::MAX.checked_shr(32 - low).unwrap_or(0);
        let free = !mask & !low_bits;
        if 1u32.checked_shl(free.count_ones()).is_none_or(|n| n > Set::MOST_RANGES) {
            return None;
        }
        // All values of the free bits, upwards: the well-known walk over the subsets of a mask.
        let (mut set, mut bits) = (Set::none(), 0u32);
        loop {
            set.push((value | bits, value | bits | low_bits));
            bits = bits.wrapping_sub(free) & free;
            if bits == 0 {
                return Some(set);
            }
        }
    }

    /// From the lowest.
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.0
    }

    /// Whether there is no word.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is every word.
    pub fn is_all(&self) -> bool {
        self.0 == [(0, u32::MAX)]
    }

    /// Whether there is this word.
    pub fn contains(&self, word: u32) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= word);
        after.checked_sub(1).and_then(|n| self.0.get(n)).is_some_and(|(_, last)| word <= *last)
    }

    /// The lowest.
    pub fn first(&self) -> Option<u32> {
        self.0.first().map(|(first, _)| *first)
    }

    /// How many words.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(first, last)| u64::from(last - first) + 1).sum()
    }

    /// The only word, if there is one.
    pub fn single(&self) -> Option<u32> {
        self.first().filter(|_| self.count() == 1)
    }

    /// What is not in it.
    pub fn not(&self) -> Set {
        let (mut set, mut next) = (Set::none(), Some(0u32));
        for (first, last) in &self.0 {
            if let (Some(from), Some(to)) = (next, first.checked_sub(1))
                && from <= to
            {
                set.push((from, to));
            }
            next = last.checked_add(1);
        }
        set.0.extend(next.map(|from| (from, u32::MAX)));
        set
    }

    /// What is in both.
    pub fn and(&self, other: &Set) -> Set {
        let (mut set, mut left, mut right) = (Set::none(), self.0.iter(), other.0.iter());
        let (mut a, mut b) = (left.next(), right.next());
        while let (Some(x), Some(y)) = (a, b) {
            let both = (x.0.max(y.0), x.1.min(y.1));
            if both.0 <= both.1 {
                set.push(both);
            }
            if x.1 <= y.1 { a = left.next() } else { b = right.next() }
        }
        set
    }

    /// What is in one of them.
    pub fn or(&self, other: &Set) -> Set {
        let (mut set, mut left, mut right) =
            (Set::none(), self.0.iter().peekable(), other.0.iter().peekable());
        loop {
            let from_left = match (left.peek(), right.peek()) {
                (Some(x), Some(y)) => x.0 <= y.0,
                (x, None) => x.is_some(),
                (None, _) => false,
            };
            match if from_left { left.next() } else { right.next() } {
                Some(range) => set.push(*range),
                None => return set,
            }
        }
    }

    /// What is in it and not in the other.
    pub fn minus(&self, other: &Set) -> Set {
        self.and(&other.not())
    }

    /// Appends a range that begins no earlier than the last one.
    fn push(&mut self, range: (u32, u32)) {
        match self.0.last_mut() {
            Some((_, last)) if range.0 <= last.saturating_add(1) => *last = range.1.max(*last),
            _ => self.0.push(range),
        }
    }
}

impl FromIterator<u32> for Set {
    fn from_iter<I: IntoIterator<Item = u32>>(words: I) -> Set {
        let mut words: Vec<u32> = words.into_iter().collect();
        words.sort_unstable();
        let mut set = Set::none();
        words.into_iter().for_each(|word| set.push((word, word)));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_what_they_say() {
        let sets = [
            Set::none(),
            Set::all(),
            Set::one(0),
            Set::one(u32::MAX),
            Set::range(3, 9),
            Set::range(9, 3),
            [1, 2, 4, 7, 8, u32::MAX].into_iter().collect(),
            Set::masked(0x4000_0000, 0).unwrap(),
            Set::masked(0x4000_0000, 0x4000_0000).unwrap(),
            Set::masked(0xffff_fff5, 1).unwrap(),
        ];
        let words = [0, 1, 2, 3, 4, 5, 8, 9, 10, 0x3fff_ffff, 0x4000_0000, u32::MAX - 1, u32::MAX];
        for a in &sets {
            assert_eq!(a.not().not(), *a);
            assert_eq!(a.first(), a.ranges().first().map(|r| r.0));
            for b in &sets {
                for word in words {
                    let (in_a, in_b) = (a.contains(word), b.contains(word));
                    assert_eq!(a.and(b).contains(word), in_a && in_b, "{a:?} {b:?} {word}");
                    assert_eq!(a.or(b).contains(word), in_a || in_b, "{a:?} {b:?} {word}");
                    assert_eq!(a.minus(b).contains(word), in_a && !in_b, "{a:?} {b:?} {word}");
                }
            }
        }
        assert!(sets[1].is_all() && sets[1].count() == 1 << 32 && sets[6].count() == 6);
        assert_eq!(sets[6].ranges(), [(1, 2), (4, 4), (7, 8), (u32::MAX, u32::MAX)]);
    }

    #[test]
    fn masks_become_ranges_where_they_are_few() {
        assert_eq!(Set::masked(0xf000_0000, 0x1000_0000), Some(Set::range(1 << 28, (2 << 28) - 1)));
        assert_eq!(Set::masked(u32::MAX, 7), Some(Set::one(7)));
        assert_eq!(Set::masked(0, 0), Some(Set::all()));
        assert_eq!(Set::masked(1, 2), Some(Set::none()));
        assert_eq!(Set::masked(1, 1), None);
    }
}
