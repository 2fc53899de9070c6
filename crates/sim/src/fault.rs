//! What can go wrong in a run, by kind, and how often it did.

use core::fmt;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A message was lost, alone.
    Loss,
    /// A message was lost in a burst of losses.
    Burst,
    /// A message was doubled.
    Duplication,
    /// A message was held up, alone.
    Straggling,
    /// A message took longer because its path was slow.
    Slowness,
    /// A message was lost because its link was cut.
    Cut,
    /// A message was lost between two islands.
    Islands,
    /// A message was lost because only neighbours in a circle heard each other.
    Circle,
    /// A message was held back by a jam.
    Jam,
    /// A node stopped for a while.
    Pause,
    /// A machine lost its power.
    Crash,
    /// All machines lost their power at once.
    PowerCut,
    /// A machine lost its power between two effects of one input.
    CrashBetweenEffects,
    /// A record could not be saved.
    FailedSave,
    /// A node began a new life with the disk of the one before.
    RestartWithDisk,
    /// A node began a new life on a new machine.
    RestartWithoutDisk,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 16] = [
        Self::Loss,
        Self::Burst,
        Self::Duplication,
        Self::Straggling,
        Self::Slowness,
        Self::Cut,
        Self::Islands,
        Self::Circle,
        Self::Jam,
        Self::Pause,
        Self::Crash,
        Self::PowerCut,
        Self::CrashBetweenEffects,
        Self::FailedSave,
        Self::RestartWithDisk,
        Self::RestartWithoutDisk,
    ];
}

/// How often each kind of fault was thrown. (Not how often it might have been: a cut through
/// which nobody sends does not count.)
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally([u64; Fault::ALL.len()]);

impl Tally {
    /// How often this one was.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    /// Counts one more.
    pub fn count(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    /// Adds those of another run, or of another part of this one.
    pub fn add(&mut self, other: &Self) {
        for (mine, more) in self.0.iter_mut().zip(other.0) {
            *mine += more;
        }
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thrown = Fault::ALL.iter().filter(|fault| self.of(**fault) > 0);
        f.debug_map().entries(thrown.map(|fault| (fault, self.of(*fault)))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_place_of_its_own() {
        assert!(Fault::ALL.iter().enumerate().all(|(at, fault)| *fault as usize == at));
        let mut tally = Tally::default();
        tally.count(Fault::Jam);
        tally.add(&tally.clone());
        assert_eq!((tally.of(Fault::Jam), tally.of(Fault::Cut)), (2, 0));
        assert_eq!(format!("{tally:?}"), "{Jam: 2}");
    }
}
