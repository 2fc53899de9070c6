//! One token: of each lock there is at most one in a view.

use super::{Invariant, Seen, Who, views::Views};
use roundelay_core::{
    id::NodeId,
    node,
    protocol::{Effect, Input, InputOf, To},
    tokenring::{Body, LockName},
};
use std::collections::BTreeMap;

/// Follows each token of a view from where it is to where it is passed. A pass is on its way from
/// the moment it is first sent until its receiver has the token; repetitions and duplicates carry
/// its number and are the same pass (H9). A token that shows up anywhere else is a second one. With
/// each view the tokens begin anew, each in one place; nobody passes one on, or takes one, in a view
/// that it does not use, and who uses none has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OneToken {
    views: Views,
    /// By the view, too.
    places: BTreeMap<(u64, LockName), Place>,
    /// Which token each pass carries: its lock and its sequence.
    passes: BTreeMap<Pass, (LockName, u64)>,
    /// The pass that the present step began with.
    arrived: Option<Pass>,
    /// The tokens at each life after its last step.
    held: BTreeMap<Who, Vec<LockName>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Pass {
    view: u64,
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
        "docs/protocols/token-ring.md: one token per lock and view; passing (H1, H9, H17)"
    }

    fn paper(&self) -> &'static str {
        "Le Lann 1977; Suzuki and Kasami 1985"
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        self.views.see(who, seen);
        match seen {
            Seen::Input(input) => {
                self.arrived = arrival(who.node, input);
                Ok(())
            }
            Seen::Effect(Effect::Send { to, message: node::Message::Lock(message) }) => {
                self.on_send(who, to, message.view, &message.body)
            }
            Seen::Effect(_) => Ok(()),
            // A dead node keeps its tokens, for nobody else may have them; what its machine had
            // passed on when it was cut off has not left it.
            Seen::End(end) if end.ended => Ok(()),
            Seen::End(end) => self.on_tokens(who, end.tokens),
        }
    }
}

impl OneToken {
    fn on_send(&mut self, who: Who, to: &To, view: u64, body: &Body) -> Result<(), String> {
        let Body::Pass { number, lock, token } = body else { return Ok(()) };
        to.peers().iter().try_for_each(|to| {
            let pass = Pass { view, from: who.node, to: *to, number: *number };
            self.on_pass(who, pass, lock, token.sequence)
        })
    }

    fn on_pass(
        &mut self,
        who: Who,
        pass: Pass,
        lock: &LockName,
        sequence: u64,
    ) -> Result<(), String> {
        if self.views.number(who) != Some(pass.view) {
            return Err(format!("passes {lock} in a view that it does not use: {pass:?}"));
        }
        if let Some(first) = self.passes.get(&pass) {
            return if *first == (lock.clone(), sequence) {
                Ok(())
            } else {
                Err(format!("{pass:?} carried {first:?} and now {lock}, {sequence}"))
            };
        }
        self.claim(pass.from, pass.view, lock, "passes on")?;
        self.passes.insert(pass, (lock.clone(), sequence));
        self.places.insert((pass.view, lock.clone()), Place::Passed(pass));
        Ok(())
    }

    fn on_tokens(&mut self, who: Who, held: &[LockName]) -> Result<(), String> {
        let node = who.node;
        let before = self.held.insert(who, held.to_vec()).unwrap_or_default();
        let Some(view) = self.views.number(who) else {
            // The step is over, and how it began does not matter any more.
            self.arrived = None;
            return match held.first() {
                Some(lock) => Err(format!("{node} has a token of {lock}, and uses no view")),
                None => Ok(()),
            };
        };
        for lock in held {
            self.claim(node, view, lock, "has")?;
            self.places.insert((view, lock.clone()), Place::At(node));
        }
        self.arrived = None;
        for lock in before.iter().filter(|lock| !held.contains(lock)) {
            if let Some(place) = self.places.get_mut(&(view, lock.clone()))
                && *place == Place::At(node)
            {
                *place = Place::Retired;
            }
        }
        Ok(())
    }

    /// Whether the token of `lock` can be at `node` now.
    fn claim(&self, node: NodeId, view: u64, lock: &LockName, verb: &str) -> Result<(), String> {
        match self.places.get(&(view, lock.clone())) {
            None | Some(Place::Retired) => Ok(()),
            Some(Place::At(there)) if *there == node => Ok(()),
            Some(Place::Passed(pass)) if self.arrived == Some(*pass) => Ok(()),
            Some(elsewhere) => Err(format!(
                "{node} {verb} a token of {lock} in view {view}, but the token is {elsewhere:?}"
            )),
        }
    }
}

fn arrival(to: NodeId, input: &InputOf<node::Node>) -> Option<Pass> {
    let Input::Message { from, message: node::Message::Lock(message) } = input else { return None };
    let Body::Pass { number, .. } = &message.body else { return None };
    Some(Pass { view: message.view, from: *from, to, number: *number })
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    /// Nodes 1 to 3 use view 1.
    fn after(lines: &[(u64, Line)]) -> Vec<(u64, Line)> {
        let all = (1..=3).map(|n| (n, installed()));
        all.chain(lines.iter().cloned()).collect()
    }

    #[test]
    fn a_token_goes_round_with_repetitions_and_duplicates() {
        holds(
            &mut OneToken::default(),
            &after(&[
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
            ]),
        );
    }

    #[test]
    fn a_token_that_was_forgotten_may_be_made_anew() {
        let history = [(1, tokens(&["a"])), (1, tokens(&[])), (2, tokens(&["a"]))];
        holds(&mut OneToken::default(), &after(&history));
    }

    #[test]
    fn a_second_token_is_found() {
        let history = [(1, tokens(&["a"])), (2, tokens(&["b"])), (2, tokens(&["a", "b"]))];
        breaks(&mut OneToken::default(), &after(&history), "has a token of a");
    }

    #[test]
    fn a_token_that_is_passed_and_kept_is_found() {
        let history = [(1, tokens(&["a"])), (1, sends_pass(2, "a", 1)), (1, tokens(&["a"]))];
        breaks(&mut OneToken::default(), &after(&history), "has a token of a");
    }

    #[test]
    fn a_token_that_is_passed_twice_is_found() {
        let history = [(1, tokens(&["a"])), (1, sends_pass(2, "a", 1)), (1, sends_pass(3, "a", 1))];
        breaks(&mut OneToken::default(), &after(&history), "passes on");
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
        breaks(&mut OneToken::default(), &after(&history), "has a token of a");
    }

    #[test]
    fn a_number_used_for_two_passes_is_found() {
        let history =
            [(1, tokens(&["a", "b"])), (1, sends_pass(2, "a", 1)), (1, sends_pass(2, "b", 1))];
        breaks(&mut OneToken::default(), &after(&history), "carried");
    }

    #[test]
    fn a_token_taken_back_by_its_sender_is_found() {
        let history = [
            (1, tokens(&["a"])),
            (1, sends_pass(2, "a", 1)),
            (1, tokens(&[])),
            (1, sends_pass(3, "a", 1)),
        ];
        breaks(&mut OneToken::default(), &after(&history), "passes on");
    }

    #[test]
    fn in_another_view_the_tokens_begin_anew() {
        let mut history = after(&[(1, tokens(&["a"])), (2, installs_next(&[1, 2], &[], 0))]);
        history.push((2, tokens(&["a"])));
        // The one that has not heard of it still has the old one.
        history.push((1, tokens(&["a"])));
        holds(&mut OneToken::default(), &history);
        let both = (1, installs_next(&[1, 2], &[], 0));
        breaks(&mut OneToken::default(), &[history, vec![both, (1, tokens(&["a"]))]].concat(), "2");
    }

    #[test]
    fn a_pass_of_another_view_is_found() {
        let start = [(1, tokens(&["a"])), (1, sends_pass(2, "a", 1)), (1, tokens(&[]))];
        let next = (2, installs_next(&[1, 2], &[], 0));
        let mut taken = after(&start);
        taken.extend([next.clone(), (2, receives_pass(1, "a", 1)), (2, tokens(&[]))]);
        holds(&mut OneToken::default(), &taken);
        let mut elsewhere = after(&[]);
        elsewhere.extend([next, (2, sends_pass(1, "a", 1))]);
        breaks(&mut OneToken::default(), &elsewhere, "does not use");
    }

    #[test]
    fn who_is_out_and_has_a_token_is_found() {
        let history = after(&[(1, tokens(&["a"])), (1, out(false)), (1, tokens(&["a"]))]);
        breaks(&mut OneToken::default(), &history, "uses no view");
    }
}
