//! Mutual exclusion: of one lock there is never more than one holder.

use super::{Invariant, Seen, Who};
use roundelay_core::{node, protocol::Effect, tokenring::Event, tokenring::LockName};
use std::collections::BTreeMap;

/// From `Granted` to `Released` nobody else is granted the same lock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Exclusion {
    holders: BTreeMap<LockName, Grant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Grant {
    who: Who,
    ticket: u64,
    fence: u64,
}

impl Invariant for Exclusion {
    fn name(&self) -> &'static str {
        "exclusion"
    }

    fn source(&self) -> &'static str {
        "docs/protocols/token-ring.md: exclusion"
    }

    fn paper(&self) -> &'static str {
        "Dijkstra 1965: mutual exclusion; Le Lann 1977: by a token"
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Effect(Effect::Emit(node::Event::Lock(event))) = seen else { return Ok(()) };
        match event {
            Event::Granted { lock, ticket, fence } => {
                let grant = Grant { who, ticket: *ticket, fence: *fence };
                match self.holders.insert(lock.clone(), grant) {
                    Some(holder) => Err(format!("{lock} is granted, but is held: {holder:?}")),
                    None => Ok(()),
                }
            }
            Event::Released { lock, ticket, fence } => {
                let grant = Grant { who, ticket: *ticket, fence: *fence };
                match self.holders.remove(lock) {
                    Some(holder) if holder == grant => Ok(()),
                    other => Err(format!("{lock} is released by {grant:?}, held by {other:?}")),
                }
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
    fn one_after_the_other_is_fine_and_locks_are_independent() {
        holds(
            &mut Exclusion::default(),
            &[
                (1, granted("a", 1, 1)),
                (2, granted("b", 1, 1)),
                (1, released("a", 1, 1)),
                (2, granted("a", 2, 2)),
            ],
        );
    }

    #[test]
    fn two_holders_are_found() {
        let history = [(1, granted("a", 1, 1)), (2, granted("a", 1, 2))];
        breaks(&mut Exclusion::default(), &history, "is held");
    }

    #[test]
    fn two_holders_at_one_node_are_found() {
        let history = [(1, granted("a", 1, 1)), (1, granted("a", 2, 2))];
        breaks(&mut Exclusion::default(), &history, "is held");
    }

    #[test]
    fn a_release_by_somebody_else_is_found() {
        let history = [(1, granted("a", 1, 1)), (2, released("a", 1, 1))];
        breaks(&mut Exclusion::default(), &history, "is released by");
    }
}
