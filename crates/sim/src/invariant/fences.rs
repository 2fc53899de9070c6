//! Fencing tokens: each grant of a lock has a larger one than the grant before.

use super::{Invariant, Seen, Who, views::Views};
use roundelay_core::{node, protocol::Effect, tokenring::Event, tokenring::LockName};
use std::collections::BTreeMap;

/// The bits of a fence that count within a view.
const SEQUENCE_BITS: u32 = 40;

/// Fences increase strictly, lock by lock, in the order of the grants, whichever view they are of
/// (the clocks of the nodes are within the bound), and each names the view of its grant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fences {
    views: Views,
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

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        self.views.see(who, seen);
        let Seen::Effect(Effect::Emit(node::Event::Lock(Event::Granted { lock, fence, .. }))) =
            seen
        else {
            return Ok(());
        };
        let view = self.views.number(who);
        let (before, sequence) = (*fence >> SEQUENCE_BITS, *fence & ((1 << SEQUENCE_BITS) - 1));
        if view != Some(before + 1) || sequence == 0 {
            return Err(format!("{lock} has fence {fence}, which is not one of view {view:?}"));
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

    /// Nodes 1 and 2 use view 1.
    fn and(more: &[(u64, Line)]) -> Vec<(u64, Line)> {
        [&[(1, installed()), (2, installed())], more].concat()
    }

    #[test]
    fn locks_have_fences_of_their_own() {
        let more = [(1, granted("a", 1, 1)), (1, granted("b", 2, 1)), (2, granted("a", 1, 2))];
        holds(&mut Fences::default(), &and(&more));
    }

    #[test]
    fn the_fences_of_the_next_view_are_larger() {
        let fence = (1 << SEQUENCE_BITS) + 1;
        let next = [(1, granted("a", 1, 7)), (2, installs_next(&[1, 2], &[], 0))];
        let more = [next.to_vec(), vec![(2, granted("a", 1, fence))]].concat();
        holds(&mut Fences::default(), &and(&more));
        let late = [more, vec![(1, granted("a", 2, 8))]].concat();
        breaks(&mut Fences::default(), &and(&late), "fence 8 after");
        let other = [next.to_vec(), vec![(2, granted("a", 1, 8))]].concat();
        breaks(&mut Fences::default(), &and(&other), "not one of view Some(2)");
    }

    #[test]
    fn a_fence_that_repeats_is_found() {
        let more = [(1, granted("a", 1, 4)), (2, granted("a", 1, 4))];
        breaks(&mut Fences::default(), &and(&more), "fence 4 after it had 4");
    }

    #[test]
    fn a_fence_that_goes_back_is_found() {
        let more = [(1, granted("a", 1, 4)), (1, granted("a", 2, 3))];
        breaks(&mut Fences::default(), &and(&more), "fence 3 after it had 4");
    }

    #[test]
    fn a_fence_of_another_view_is_found() {
        let later = and(&[(1, granted("a", 1, 1 << 40))]);
        breaks(&mut Fences::default(), &later, "not one of view Some(1)");
        breaks(&mut Fences::default(), &and(&[(1, granted("a", 1, 0))]), "not one of view Some(1)");
        breaks(&mut Fences::default(), &[(1, granted("a", 1, 1))], "not one of view None");
    }
}
