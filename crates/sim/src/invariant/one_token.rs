//! One token: of each lock there is at most one.

use super::{Invariant, Seen, Who};
use roundelay_core::{
    founding::Event,
    id::NodeId,
    node,
    protocol::{Effect, Input, InputOf, To},
    tokenring::{Body, LockName},
};
use std::collections::{BTreeMap, BTreeSet};

/// Follows each token from where it is to where it is passed. A pass is on its way from the moment
/// it is first sent until its receiver has the token; repetitions and duplicates carry its number
/// and are the same pass (H9). A token that shows up anywhere else is a second one. A member that
/// says that it has left accepts no pass from then on: what had not arrived there may be taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OneToken {
    places: BTreeMap<LockName, Place>,
    /// Which token each pass carries: its lock and its sequence.
    passes: BTreeMap<Pass, (LockName, u64)>,
    /// The pass that the present step began with.
    arrived: Option<Pass>,
    /// The positions of the members, and who of them has said that it has left.
    positions: BTreeMap<NodeId, u16>,
    left: BTreeSet<NodeId>,
    /// The tokens at each node after its last step.
    held: BTreeMap<NodeId, Vec<LockName>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Pass {
    from: NodeId,
    to: NodeId,
    number: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
        "docs/protocols/token-ring.md: one token per lock; passing (H1, H9)"
    }

    fn paper(&self) -> &'static str {
        "Le Lann 1977; Suzuki and Kasami 1985"
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Input(input) => {
                self.arrived = arrival(who.node, input);
                Ok(())
            }
            Seen::Effect(Effect::Send { to, message: node::Message::Lock(message) }) => {
                self.on_send(who.node, to, &message.body)
            }
            Seen::Effect(Effect::Emit(node::Event::Founding(Event::Installed {
                view, ..
            }))) => {
                let position = view.position(who.node).map(|p| (who.node, p as u16));
                self.positions.extend(position);
                Ok(())
            }
            Seen::Effect(_) => Ok(()),
            Seen::Tokens(held) => self.on_tokens(who.node, held),
        }
    }
}

impl OneToken {
    fn on_send(&mut self, from: NodeId, to: &To, body: &Body) -> Result<(), String> {
        match body {
            Body::Pass { number, lock, token } => to.peers().iter().try_for_each(|to| {
                let pass = Pass { from, to: *to, number: *number };
                self.on_pass(pass, lock, token.sequence)
            }),
            Body::Left { member, .. } if self.positions.get(&from) == Some(member) => {
                self.left.insert(from);
                Ok(())
            }
            _ => Ok(()),
        }
    }

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
        // The step is over, and how it began does not matter any more.
        self.arrived = None;
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
            Some(Place::Passed(pass)) if self.left.contains(&pass.to) && node == pass.from => {
                Ok(())
            }
            Some(Place::Passed(pass))
                if self.arrived == Some(*pass) && !self.left.contains(&node) =>
            {
                Ok(())
            }
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
    #[test]
    fn who_has_left_takes_no_token_and_its_sender_may_take_it_back() {
        let start = [
            (1, installed()),
            (2, installed()),
            (1, tokens(&["a"])),
            (1, sends_pass(2, "a", 1)),
            (1, tokens(&[])),
            (2, says_left(1)),
        ];
        let mut taken_back = start.to_vec();
        taken_back.push((1, tokens(&["a"])));
        holds(&mut OneToken::default(), &taken_back);
        let mut accepted = start.to_vec();
        accepted.push((2, receives_pass(1, "a", 1)));
        accepted.push((2, tokens(&["a"])));
        breaks(&mut OneToken::default(), &accepted, "has a token of a");
        // The word of another about who has left changes nothing.
        let mut rumor = start.to_vec();
        rumor[5] = (3, says_left(1));
        rumor.push((1, tokens(&["a"])));
        breaks(&mut OneToken::default(), &rumor, "has a token of a");
    }
}
