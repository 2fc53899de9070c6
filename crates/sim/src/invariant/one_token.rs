//! One token: of each lock there is at most one.

use super::{Invariant, Seen, Who};
use roundelay_core::{
    id::NodeId,
    node,
    protocol::{Effect, Input, InputOf},
    tokenring::{Body, LockName},
};
use std::collections::BTreeMap;

/// Follows each token from where it is to where it is passed. A pass is on its way from the moment
/// it is first sent until its receiver has the token; repetitions and duplicates carry its number
/// and are the same pass (H9). A token that shows up anywhere else is a second one.
#[derive(Debug, Default)]
pub struct OneToken {
    places: BTreeMap<LockName, Place>,
    /// Which token each pass carries: its lock and its sequence.
    passes: BTreeMap<Pass, (LockName, u64)>,
    /// The pass that the present step began with.
    arrived: Option<Pass>,
    /// The tokens at each node after its last step.
    held: BTreeMap<NodeId, Vec<LockName>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pass {
    from: NodeId,
    to: NodeId,
    number: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It is at this node.
    At(NodeId),
    /// It is on its way.
    Passed(Pass),
    /// Its last place has forgotten it, so it may be made anew.
    Retired,
}

impl Invariant for OneToken {
    fn name(&self) -> &'static str {
        "one_token"
    }

    fn source(&self) -> &'static str {
        "protocols.md, section 2: at most one token per lock and view; rules-tokenring.md, H1, H9"
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Input(input) => {
                self.arrived = arrival(who.node, input);
                Ok(())
            }
            Seen::Effect(Effect::Send { to, message: node::Message::Lock(message) }) => {
                let Body::Pass { number, lock, token } = &message.body else { return Ok(()) };
                to.peers().iter().try_for_each(|to| {
                    let pass = Pass { from: who.node, to: *to, number: *number };
                    self.on_pass(pass, lock, token.sequence)
                })
            }
            Seen::Effect(_) => Ok(()),
            Seen::Tokens(held) => self.on_tokens(who.node, held),
        }
    }
}

impl OneToken {
    fn on_pass(&mut self, pass: Pass, lock: &LockName, sequence: u64) -> Result<(), String> {
        if let Some(first) = self.passes.get(&pass) {
            return if *first == (lock.clone(), sequence) {
                Ok(())
            } else {
                Err(format!("{pass:?} carried {first:?} and now {lock}, {sequence}"))
            };
        }
        self.claim(pass.from, lock, "passes on")?;
        self.passes.insert(pass, (lock.clone(), sequence));
        self.places.insert(lock.clone(), Place::Passed(pass));
        Ok(())
    }

    fn on_tokens(&mut self, node: NodeId, held: &[LockName]) -> Result<(), String> {
        for lock in held {
            self.claim(node, lock, "has")?;
            self.places.insert(lock.clone(), Place::At(node));
        }
        let before = self.held.insert(node, held.to_vec()).unwrap_or_default();
        for lock in before.iter().filter(|lock| !held.contains(lock)) {
            if self.places.get(lock) == Some(&Place::At(node)) {
                self.places.insert(lock.clone(), Place::Retired);
            }
        }
        Ok(())
    }

    /// Whether the token of `lock` can be at `node` now.
    fn claim(&self, node: NodeId, lock: &LockName, verb: &str) -> Result<(), String> {
        match self.places.get(lock) {
            None | Some(Place::Retired) => Ok(()),
            Some(Place::At(there)) if *there == node => Ok(()),
            Some(Place::Passed(pass)) if self.arrived == Some(*pass) => Ok(()),
            Some(elsewhere) => {
                Err(format!("{node} {verb} a token of {lock}, but the token is {elsewhere:?}"))
            }
        }
    }
}

fn arrival(to: NodeId, input: &InputOf<node::Node>) -> Option<Pass> {
    let Input::Message { from, message: node::Message::Lock(message) } = input else { return None };
    let Body::Pass { number, .. } = &message.body else { return None };
    Some(Pass { from: *from, to, number: *number })
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn a_token_goes_round_with_repetitions_and_duplicates() {
        holds(
            &mut OneToken::default(),
            &[
                (1, tokens(&["a"])),
                (1, sends_pass(2, "a", 1)),
                (1, tokens(&[])),
                (1, sends_pass(2, "a", 1)),
                (2, receives_pass(1, "a", 1)),
                (2, tokens(&["a"])),
                (2, receives_pass(1, "a", 1)),
                (2, tokens(&["a"])),
                (2, sends_pass(3, "a", 1)),
                (2, tokens(&[])),
                (2, receives_pass(1, "a", 1)),
                (2, tokens(&[])),
                // Goes on in the step in which it arrives.
                (3, receives_pass(2, "a", 1)),
                (3, sends_pass(1, "a", 1)),
                (3, tokens(&[])),
                (1, receives_pass(3, "a", 1)),
                (1, tokens(&["a"])),
            ],
        );
    }

    #[test]
    fn a_token_that_was_forgotten_may_be_made_anew() {
        let history = [(1, tokens(&["a"])), (1, tokens(&[])), (2, tokens(&["a"]))];
        holds(&mut OneToken::default(), &history);
    }

    #[test]
    fn a_second_token_is_found() {
        let history = [(1, tokens(&["a"])), (2, tokens(&["b"])), (2, tokens(&["a", "b"]))];
        breaks(&mut OneToken::default(), &history, "has a token of a");
    }

    #[test]
    fn a_token_that_is_passed_and_kept_is_found() {
        let history = [(1, tokens(&["a"])), (1, sends_pass(2, "a", 1)), (1, tokens(&["a"]))];
        breaks(&mut OneToken::default(), &history, "has a token of a");
    }

    #[test]
    fn a_token_that_is_passed_twice_is_found() {
        let history = [(1, tokens(&["a"])), (1, sends_pass(2, "a", 1)), (1, sends_pass(3, "a", 1))];
        breaks(&mut OneToken::default(), &history, "passes on");
    }

    #[test]
    fn an_old_pass_that_is_taken_again_is_found() {
        let history = [
            (1, tokens(&["a"])),
            (1, sends_pass(2, "a", 1)),
            (2, receives_pass(1, "a", 1)),
            (2, sends_pass(3, "a", 1)),
            (2, tokens(&[])),
            (2, receives_pass(1, "a", 1)),
            (2, tokens(&["a"])),
        ];
        breaks(&mut OneToken::default(), &history, "has a token of a");
    }

    #[test]
    fn a_number_used_for_two_passes_is_found() {
        let history =
            [(1, tokens(&["a", "b"])), (1, sends_pass(2, "a", 1)), (1, sends_pass(2, "b", 1))];
        breaks(&mut OneToken::default(), &history, "carried");
    }

    #[test]
    fn a_token_taken_back_by_its_sender_is_found() {
        let history = [
            (1, tokens(&["a"])),
            (1, sends_pass(2, "a", 1)),
            (1, tokens(&[])),
            (1, sends_pass(3, "a", 1)),
        ];
        breaks(&mut OneToken::default(), &history, "passes on");
    }
}
