//! What many runs came to: the same in whatever order they are added.

use roundelay_core::id::mix64;
use roundelay_sim::{fault::Tally, goal::Counts, storm::Report};
use std::time::Duration;

/// The sum over many runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) seeds: u64,
    pub(super) steps: u64,
    /// Virtual time.
    pub(super) time: Duration,
    pub(super) counts: Counts,
    pub(super) faults: Tally,
    hash: u64,
}

impl Totals {
    /// Adds the run of this seed.
    pub(super) fn add_run(&mut self, seed: u64, report: &Report) {
        self.seeds += 1;
        self.steps += report.steps;
        self.time += report.time;
        self.counts.add(&report.counts);
        self.faults.add(&report.faults);
        // A sum, so that the order does not count; mixed with the seed, so that it does count
        // which run it was.
        let run = mix64(report.hash ^ mix64(seed.wrapping_add(1)));
        self.hash = self.hash.wrapping_add(run);
    }

    /// Adds those of other runs.
    pub(super) fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.time += other.time;
        self.counts.add(&other.counts);
        self.faults.add(&other.faults);
        self.hash = self.hash.wrapping_add(other.hash);
    }

    /// The hash of all runs, as text.
    pub(super) fn hash(&self) -> String {
        format!("{:016x}", self.hash)
    }
}
