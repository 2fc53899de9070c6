//! Sets of numbers that are nearly ranges.

use std::collections::BTreeMap;

/// A set of numbers, kept as ranges that do not touch: by the first number of each, the last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Numbers {
    ranges: BTreeMap<u64, u64>,
}

impl Numbers {
    /// Adds all numbers from `first` to `last`.
    pub(crate) fn insert(&mut self, mut first: u64, mut last: u64) {
        while let Some((start, end)) = self.last_before(last.saturating_add(1)) {
            if end.saturating_add(1) < first {
                break;
            }
            self.ranges.remove(&start);
            (first, last) = (first.min(start), last.max(end));
        }
        self.ranges.insert(first, last);
    }

    /// Whether all numbers from `first` to `last` are in it.
    pub(crate) fn contains(&self, first: u64, last: u64) -> bool {
        self.last_before(first).is_some_and(|(_, end)| last <= end)
    }

    /// The last range that begins at or before `n`.
    fn last_before(&self, n: u64) -> Option<(u64, u64)> {
        self.ranges.range(..=n).next_back().map(|(start, end)| (*start, *end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dice;
    use std::collections::BTreeSet;

    #[test]
    fn ranges_are_a_set() {
        for seed in 0..100 {
            let mut dice = Dice::new(seed);
            let (mut numbers, mut set) = (Numbers::default(), BTreeSet::new());
            for _ in 0..30 {
                let first = dice.below(60);
                let last = first + dice.below(4);
                numbers.insert(first, last);
                set.extend(first..=last);
                for n in 0..70 {
                    assert_eq!(numbers.contains(n, n), set.contains(&n));
                    assert_eq!(numbers.contains(n, n + 3), (n..=n + 3).all(|n| set.contains(&n)));
                }
                let touching = numbers.ranges.iter().zip(numbers.ranges.keys().skip(1));
                assert!({ touching }.all(|((_, last), next)| last + 1 < *next));
            }
        }
    }
}
