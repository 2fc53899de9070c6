//! Sets of sequence numbers that are nearly a prefix: what a node has of one stream.

use super::{Have, Origin};
use alloc::vec::Vec;

/// The most runs beyond the prefix that are kept (rules-gossip 3.11: "cap 1024 runs, else pull").
pub(super) const RUNS_MAX: usize = 1024;

/// Everything below `up_to`, and the runs in `beyond`: sorted, disjoint, not adjacent to each other
/// or to the prefix, first and last included. All numbers are below `u64::MAX`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Runs {
    up_to: u64,
    beyond: Vec<(u64, u64)>,
}

impl Runs {
    /// What a peer says it has, if that is possible at all.
    pub(super) fn from_have(have: Have) -> Option<Self> {
        let Have { up_to, beyond, .. } = have;
        let mut before = up_to;
        for (index, (first, last)) in beyond.iter().enumerate() {
            // A run that begins right at the prefix, or right after the one before, belongs to it.
            let gap = if index == 0 { *first > before } else { *first > before + 1 };
            if !gap || last < first || *last == u64::MAX {
                return None;
            }
            before = *last;
        }
        let empty = up_to == 0 && beyond.is_empty();
        let sensible = !empty && up_to < u64::MAX && beyond.len() <= RUNS_MAX;
        sensible.then_some(Self { up_to, beyond })
    }

    pub(super) fn to_have(&self, origin: Origin) -> Have {
        Have { origin, up_to: self.up_to, beyond: self.beyond.clone() }
    }

    pub(super) fn up_to(&self) -> u64 {
        self.up_to
    }

    pub(super) fn beyond(&self) -> &[(u64, u64)] {
        &self.beyond
    }

    /// The end of everything: one more than the largest number in the set.
    pub(super) fn end(&self) -> u64 {
        self.beyond.last().map_or(self.up_to, |(_, last)| last + 1)
    }

    pub(super) fn contains(&self, n: u64) -> bool {
        n < self.up_to || (!self.beyond.is_empty() && self.span(n).0)
    }

    /// Whether `n` is in the set, and the last number up to which that stays so.
    pub(super) fn span(&self, n: u64) -> (bool, u64) {
        if n < self.up_to {
            return (true, self.up_to - 1);
        }
        let next = self.beyond.partition_point(|(_, last)| *last < n);
        match self.beyond.get(next) {
            Some((first, last)) if *first <= n => (true, *last),
            Some((first, _)) => (false, first - 1),
            None => (false, u64::MAX),
        }
    }

    /// Whether [`Self::insert`] of one number would be accepted.
    pub(super) fn has_room_for(&self, n: u64) -> bool {
        self.beyond.len() < RUNS_MAX
            || n <= self.up_to
            || self.span(n).0
            || self.span(n - 1).0
            || self.span(n + 1).0
    }

    /// Adds `first..=last`. False, and nothing is added, if there would be too many runs.
    pub(super) fn insert(&mut self, first: u64, last: u64) -> bool {
        debug_assert!(first <= last && last < u64::MAX, "an impossible range");
        if last < self.up_to {
            return true;
        }
        if first <= self.up_to {
            self.up_to = last + 1;
            let absorbed = self.beyond.partition_point(|(first, _)| *first <= self.up_to);
            if let Some((_, last)) = self.beyond.drain(..absorbed).next_back() {
                self.up_to = self.up_to.max(last + 1);
            }
            return true;
        }
        // All runs in `from..to` overlap or touch the new one, and become one with it.
        let from = self.beyond.partition_point(|run| run.1 + 1 < first);
        let to = self.beyond.partition_point(|run| run.0 <= last + 1);
        if from == to {
            if self.beyond.len() >= RUNS_MAX {
                return false;
            }
            self.beyond.insert(from, (first, last));
            return true;
        }
        let merged = (first.min(self.beyond[from].0), last.max(self.beyond[to - 1].1));
        self.beyond[from] = merged;
        self.beyond.drain(from + 1..to);
        true
    }

    /// Adds all of `other`; if that gives too many runs, only what `other` has is kept.
    pub(super) fn merge(&mut self, other: &Self) {
        let fits = other.ranges().all(|(first, last)| self.insert(first, last));
        if !fits {
            self.clone_from(other);
        }
    }

    /// The ranges that `other` has and `self` has not, first and last included.
    pub(super) fn lacks(&self, other: &Self) -> Vec<(u64, u64)> {
        let mut lacking = Vec::new();
        if self.beyond.is_empty() && other.end() <= self.up_to {
            return lacking;
        }
        for (first, last) in other.ranges() {
            let mut n = first;
            loop {
                let (has, end) = self.span(n);
                if !has {
                    lacking.push((n, end.min(last)));
                }
                if end >= last {
                    break;
                }
                n = end + 1;
            }
        }
        lacking
    }

    fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        let prefix = self.up_to.checked_sub(1).map(|last| (0, last));
        prefix.into_iter().chain(self.beyond.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Life, NodeId, mix64};
    use alloc::{collections::BTreeSet, vec};

    fn have(up_to: u64, beyond: Vec<(u64, u64)>) -> Have {
        let origin = Origin { node: NodeId::from_raw(1), life: Life(1) };
        Have { origin, up_to, beyond }
    }

    #[test]
    fn runs_are_a_set() {
        for seed in 0..200 {
            let (mut runs, mut set) = (Runs::default(), BTreeSet::new());
            let (mut other, mut other_set) = (Runs::default(), BTreeSet::new());
            for step in 0..40 {
                let random = mix64(seed * 1000 + step);
                let (first, length) = (random % 60, random >> 32 & 3);
                let (runs, set) = if step % 4 == 0 {
                    (&mut other, &mut other_set)
                } else {
                    (&mut runs, &mut set)
                };
                assert!(runs.insert(first, first + length));
                set.extend(first..=first + length);
                let origin = have(0, vec![]).origin;
                assert_eq!(Runs::from_have(runs.to_have(origin)).as_ref(), Some(&*runs));
                for n in 0..70 {
                    assert_eq!(runs.contains(n), set.contains(&n));
                    let (has, end) = runs.span(n);
                    assert!((n..=end.min(99)).all(|n| set.contains(&n) == has));
                    assert!(end == u64::MAX || set.contains(&(end + 1)) != has);
                }
            }
            let lacks: BTreeSet<u64> =
                runs.lacks(&other).into_iter().flat_map(|(first, last)| first..=last).collect();
            assert_eq!(lacks, other_set.difference(&set).copied().collect());
            runs.merge(&other);
            assert_eq!(runs.lacks(&other), vec![]);
        }
    }

    #[test]
    fn the_number_of_runs_is_bounded() {
        let mut runs = Runs::default();
        for n in 0..RUNS_MAX as u64 {
            assert!(runs.insert(2 * n + 1, 2 * n + 1));
        }
        let end = runs.end();
        assert!(!runs.has_room_for(end + 1) && !runs.insert(end + 1, end + 1));
        assert!(runs.has_room_for(end) && runs.insert(end, end));
        assert!(runs.has_room_for(0) && runs.insert(0, 0));
        assert_eq!(runs.up_to(), 2);
        assert!(runs.insert(end + 2, end + 2));
    }

    #[test]
    fn impossible_haves_are_refused() {
        let good = [have(1, vec![]), have(0, vec![(1, 1)]), have(3, vec![(4, 5), (7, 7)])];
        assert!(good.into_iter().all(|have| Runs::from_have(have).is_some()));
        let bad = [
            have(0, vec![]),
            have(3, vec![(3, 4)]),
            have(3, vec![(2, 4)]),
            have(3, vec![(6, 5)]),
            have(3, vec![(5, 7), (7, 9)]),
            have(3, vec![(5, 7), (8, 9)]),
            have(3, vec![(5, u64::MAX)]),
            have(u64::MAX, vec![]),
            have(0, (0..1025).map(|n| (2 * n + 1, 2 * n + 1)).collect()),
        ];
        assert!(bad.into_iter().all(|have| Runs::from_have(have).is_none()));
    }
}
