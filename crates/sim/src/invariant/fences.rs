//! Fencing tokens: each grant of a lock has a larger one than the grant before.

use super::{Invariant, Seen, Who};
use roundelay_core::{node, protocol::Effect, tokenring::Event, tokenring::LockName};
use std::collections::BTreeMap;

/// The bits of a fence that count within a view.
const SEQUENCE_BITS: u32 = 40;

/// Fences increase strictly, lock by lock, in the order of the grants, and those of the first view
/// are plain numbers from 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fences {
    last: BTreeMap<LockName, u64>,
}

impl Invariant for Fences {
    fn name(&self) -> &'static str {
        "fences"
    }

    fn source(&self) -> &'static str {
        "docs/protocols/token-ring.md: fences (H10)"
    }

    fn paper(&self) -> &'static str {
        "Burrows 2006 (Chubby), 2.4: sequencers"
    }

    fn check(&mut self, _: Who, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Effect(Effect::Emit(node::Event::Lock(Event::Granted { lock, fence, .. }))) =
            seen
        else {
            return Ok(());
        };
        if *fence == 0 || *fence >> SEQUENCE_BITS != 0 {
            return Err(format!("{lock} has fence {fence}, which is not one of view 1"));
        }
        match self.last.insert(lock.clone(), *fence) {
            Some(last) if last >= *fence => {
                Err(format!("{lock} has fence {fence} after it had {last}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn locks_have_fences_of_their_own() {
        let history = [(1, granted("a", 1, 1)), (1, granted("b", 2, 1)), (2, granted("a", 1, 2))];
        holds(&mut Fences::default(), &history);
    }

    #[test]
    fn a_fence_that_repeats_is_found() {
        let history = [(1, granted("a", 1, 4)), (2, granted("a", 1, 4))];
        breaks(&mut Fences::default(), &history, "fence 4 after it had 4");
    }

    #[test]
    fn a_fence_that_goes_back_is_found() {
        let history = [(1, granted("a", 1, 4)), (1, granted("a", 2, 3))];
        breaks(&mut Fences::default(), &history, "fence 3 after it had 4");
    }

    #[test]
    fn a_fence_of_another_view_is_found() {
        breaks(&mut Fences::default(), &[(1, granted("a", 1, 1 << 40))], "not one of view 1");
        breaks(&mut Fences::default(), &[(1, granted("a", 1, 0))], "not one of view 1");
    }
}
