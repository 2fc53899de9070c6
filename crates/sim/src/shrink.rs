//! Makes the scenario of a failure smaller: faults and tasks are taken out as long as the same
//! promise stays broken.
//!
//! It is delta debugging (Zeller, Hildebrandt 2002) over the ingredients of a scenario, from large
//! bites to small ones. Each thing that is left to chance has dice of its own, so what is left
//! behaves much as it did before; and whether it still fails is always tried.

use crate::{
    attempt,
    scenario::{Ingredient, Scenario},
    storm::Failure,
    subject::Subject,
};
use core::time::Duration;
use std::collections::BTreeSet;

/// A smaller scenario that breaks the same promise.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What was taken out.
    pub removed: BTreeSet<Ingredient>,
    /// The faults end after this long, if that is earlier than before.
    pub storm: Option<Duration>,
    /// How it fails.
    pub failure: Failure,
    /// How many runs it took to find.
    pub runs: usize,
}

/// Takes out of a scenario what `failure` does not need, with at most so many runs. Ends early
/// when `stop` says so, with what is found by then.
pub fn shrink<P: Subject>(
    scenario: &Scenario,
    failure: Failure,
    runs_max: usize,
    stop: &dyn Fn() -> bool,
) -> Shrunk {
    let best = Shrunk { removed: BTreeSet::new(), storm: None, failure, runs: 0 };
    let mut search = Search { scenario, runs_max, stop, best };
    search.take_kinds::<P>();
    search.take_chunks::<P>();
    search.shorten::<P>();
    search.best
}

struct Search<'a> {
    scenario: &'a Scenario,
    runs_max: usize,
    stop: &'a dyn Fn() -> bool,
    best: Shrunk,
}

impl Search<'_> {
    /// All of one kind at once.
    fn take_kinds<P: Subject>(&mut self) {
        let all: Vec<Ingredient> = self.scenario.ingredients().into_iter().collect();
        for kind in all.chunk_by(|a, b| a.kind == b.kind) {
            self.take::<P>(kind);
        }
    }

    /// Half of what is left, a quarter, and so on; one by one until each one is needed.
    fn take_chunks<P: Subject>(&mut self) {
        let mut size = self.left().len().div_ceil(2);
        while size > 0 && !self.is_over() {
            let mut taken = false;
            // From the end: what comes late is needed least.
            for chunk in self.left().rchunks(size) {
                taken |= self.take::<P>(chunk);
            }
            size = if size > 1 { size / 2 } else { usize::from(taken) };
        }
    }

    /// Faults that end earlier.
    fn shorten<P: Subject>(&mut self) {
        for part in [8, 4, 2] {
            // In milliseconds, which can be written down.
            let storm = (self.scenario.storm / part).as_millis().try_into();
            let storm = Duration::from_millis(storm.unwrap_or(u64::MAX));
            if self.accept::<P>(self.best.removed.clone(), Some(storm)) {
                return;
            }
        }
    }

    fn left(&self) -> Vec<Ingredient> {
        self.scenario.ingredients().difference(&self.best.removed).copied().collect()
    }

    fn take<P: Subject>(&mut self, ingredients: &[Ingredient]) -> bool {
        let mut removed = self.best.removed.clone();
        removed.extend(ingredients);
        self.accept::<P>(removed, self.best.storm)
    }

    /// Tries a smaller scenario, and goes on with it if it breaks the same promise.
    fn accept<P: Subject>(
        &mut self,
        removed: BTreeSet<Ingredient>,
        storm: Option<Duration>,
    ) -> bool {
        if self.is_over() {
            return false;
        }
        self.best.runs += 1;
        let smaller = self.scenario.without(&removed).with_storm(storm);
        match attempt::<P>(&smaller, &mut |_| ()) {
            Err(failure) if self.best.failure.resembles(&failure) => {
                self.best = Shrunk { removed, storm, failure, runs: self.best.runs };
                true
            }
            _ => false,
        }
    }

    fn is_over(&self) -> bool {
        self.best.runs >= self.runs_max || (self.stop)()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roundelay_core::{node::Node, planted::Bug};

    /// The first seeds that fail with this bug.
    fn failing(bug: Bug) -> impl Iterator<Item = (Scenario, Failure)> {
        (0..1000).map(Scenario::new).filter_map(move |mut scenario| {
            scenario.settings.planted = Some(bug);
            let failure = attempt::<Node>(&scenario, &mut |_| ()).err()?;
            Some((scenario, failure))
        })
    }

    #[test]
    fn a_failure_shrinks_and_its_line_reproduces_it() {
        for (scenario, failure) in failing(Bug::ClockBeforeSequence).take(2) {
            let shrunk = shrink::<Node>(&scenario, failure.clone(), 400, &|| false);
            let before = scenario.ingredients().len();
            let left = before - shrunk.removed.len();
            assert!(left < before / 2 && shrunk.runs <= 400, "{left} of {before}: {shrunk:?}");
            assert_eq!(shrunk.failure.promise(), failure.promise());
            // As somebody does who reads the line and types it.
            let names = scenario.spell(&shrunk.removed);
            let again = scenario.without(&scenario.find(&names).unwrap());
            let again = again.with_storm(shrunk.storm);
            assert_eq!(attempt::<Node>(&again, &mut |_| ()), Err(shrunk.failure), "{names}");
        }
    }

    #[test]
    fn who_is_stopped_or_has_no_runs_left_keeps_what_there_is() {
        let (scenario, failure) = failing(Bug::ClockBeforeSequence).next().unwrap();
        for (runs_max, stop) in [(0, false), (400, true)] {
            let shrunk = shrink::<Node>(&scenario, failure.clone(), runs_max, &|| stop);
            assert!(shrunk.removed.is_empty() && shrunk.runs == 0);
            assert_eq!(shrunk.failure, failure);
        }
        let shrunk = shrink::<Node>(&scenario, failure, 7, &|| false);
        assert_eq!(shrunk.runs, 7);
    }
}
