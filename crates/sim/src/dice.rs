//! Seeded randomness: everything in a run that is left to chance is asked of these.

use core::time::Duration;
use rand_core::SeedableRng;
use roundelay_core::{id::mix64, protocol::Rng};

/// A stream of random choices that is the same for the same seed, on every machine.
///
/// It is `SplitMix64` (Steele, Lea, Flood 2014): fast, and made to be split. A run has a stream for
/// each thing that is left to chance, so that a fault less changes what it touches and no more;
/// that is what makes shrinking possible.
#[derive(Clone, Debug)]
pub struct Dice(u64);

/// The distance between two states: the golden ratio, odd.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

impl Dice {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Self {
        // Mixed, so that the streams of neighbouring seeds are not the same one, shifted.
        Self(mix64(seed ^ GAMMA))
    }

    /// A stream of its own for one part of a run, so that what the part asks for does not change
    /// what the others get.
    #[must_use]
    pub fn split(&mut self) -> Self {
        Self::new(self.number())
    }

    /// The stream of this name within this one, which does not go on.
    #[must_use]
    pub fn named(&self, name: u64) -> Self {
        Self::new(self.0 ^ mix64(name ^ GAMMA))
    }

    /// A source of randomness for one node.
    pub fn rng(&mut self) -> Rng {
        Rng::seed_from_u64(self.number())
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix64(self.0)
    }

    /// A number below `bound`, which is at least one.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below zero");
        ((u128::from(self.number()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "an empty range");
        low + self.below(high - low + 1)
    }

    /// A span from `low` to `high`, both included.
    pub fn span(&mut self, low: Duration, high: Duration) -> Duration {
        Duration::from_nanos(self.between(nanos(low), nanos(high)))
    }

    /// True in `per_mille` of a thousand cases.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1000) < u64::from(per_mille)
    }

    /// An index below `len`, which is at least one.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// One of `choices`, of which there is at least one.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    /// Puts `items` into a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }
}

/// A span in nanoseconds; spans here are far below the 584 years that fit.
pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_choices() {
        let draw = |seed| {
            let mut dice = Dice::new(seed);
            (0..20).map(|_| dice.between(3, 9)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert!(draw(7).iter().all(|n| (3..=9).contains(n)));
    }

    #[test]
    fn streams_of_other_names_are_other_streams() {
        let mut dice = Dice::new(7);
        let mut named = [dice.named(1), dice.named(2), dice.named(1), dice.split(), dice];
        let [a, b, again, split, rest] = named.each_mut().map(Dice::number);
        assert_eq!(a, again);
        assert!(a != b && a != split && a != rest && split != rest);
    }

    #[test]
    fn a_shuffle_loses_nothing() {
        let mut items: Vec<u32> = (0..50).collect();
        Dice::new(1).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
