//! Circulation: the hops of a circulating token are counted, and each happens once.

use super::{Invariant, Seen, Who, views::Views};
use roundelay_core::{
    id::NodeId,
    node,
    protocol::Effect,
    tokenring::{Event, Mode},
};
use std::collections::BTreeMap;

/// In the group each (view, hop) is reported once, and within a view hops increase by one; each says
/// that it comes from where the one before it ended. In view 1 they begin with 1, and in a later one
/// wherever the members know that they were. A resting token makes none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Circulation {
    views: Views,
    /// Per view: the last hop, and where it ended.
    hops: BTreeMap<u64, (u64, NodeId)>,
}

impl Invariant for Circulation {
    fn name(&self) -> &'static str {
        "circulation"
    }

    fn source(&self) -> &'static str {
        "docs/protocols/token-ring.md, circulating mode: each hop once, and counted"
    }

    fn paper(&self) -> &'static str {
        "Le Lann 1977: the circulating token"
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        self.views.see(who, seen);
        match seen {
            Seen::Effect(Effect::Emit(node::Event::Lock(Event::Token { view, hop, from }))) => {
                self.on_token(who, *view, *hop, *from)
            }
            _ => Ok(()),
        }
    }
}

impl Circulation {
    fn on_token(&mut self, who: Who, view: u64, hop: u64, from: NodeId) -> Result<(), String> {
        let used = self.views.of(who).map(|view| (view.number, view.mode));
        if used != Some((view, Mode::Circulate)) {
            return Err(format!("hop {hop} of view {view}, but the view is {used:?}"));
        }
        let last = self.hops.insert(view, (hop, who.node));
        let (before, at) = match last {
            Some((before, at)) => (before, Some(at)),
            None if view == 1 => (0, None),
            None => (hop.saturating_sub(1), None),
        };
        if hop != before + 1 {
            return Err(format!("hop {hop} after hop {before}"));
        }
        if at.is_some_and(|at| at != from) || from == who.node {
            return Err(format!("hop {hop} comes from {from}, but the token was {at:?}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn token(hop: u64, from: u64) -> Line {
        lock_event(Event::Token { view: 1, hop, from: id(from) })
    }

    /// Nodes 1 to 3 use view 1; then these lines.
    fn after(mode: Mode, lines: &[(u64, Line)]) -> Vec<(u64, Line)> {
        let mut history: Vec<_> = (1..=3).flat_map(|n| uses_view(n, mode)).collect();
        history.extend(lines.iter().cloned());
        history
    }

    #[test]
    fn round_and_round_is_fine() {
        let round = [(2, token(1, 1)), (3, token(2, 2)), (1, token(3, 3)), (2, token(4, 1))];
        holds(&mut Circulation::default(), &after(Mode::Circulate, &round));
    }

    #[test]
    fn a_hop_twice_and_a_hop_left_out_are_found() {
        let twice = [(2, token(1, 1)), (3, token(1, 2))];
        breaks(&mut Circulation::default(), &after(Mode::Circulate, &twice), "after hop 1");
        let missing = [(2, token(1, 1)), (3, token(3, 2))];
        breaks(&mut Circulation::default(), &after(Mode::Circulate, &missing), "after hop 1");
        breaks(&mut Circulation::default(), &after(Mode::Circulate, &[(2, token(0, 1))]), "hop 0");
    }

    #[test]
    fn a_hop_from_elsewhere_is_found() {
        let history = after(Mode::Circulate, &[(2, token(1, 1)), (3, token(2, 1))]);
        breaks(&mut Circulation::default(), &history, "comes from");
        breaks(&mut Circulation::default(), &after(Mode::Circulate, &[(2, token(1, 2))]), "from");
    }

    #[test]
    fn in_the_next_view_it_goes_on() {
        let next = |n, hop, from| {
            let token = lock_event(Event::Token { view: 2, hop, from: id(from) });
            vec![(n, circulates_next(&[1, 2], &[], 0)), (n, token)]
        };
        let start = [(2, token(1, 1)), (3, token(2, 2))];
        let on = [start.to_vec(), next(2, 2, 1), next(1, 3, 2)].concat();
        holds(&mut Circulation::default(), &after(Mode::Circulate, &on));
        let twice = [start.to_vec(), next(2, 2, 1), next(1, 2, 2)].concat();
        breaks(&mut Circulation::default(), &after(Mode::Circulate, &twice), "hop 2 after hop 2");
    }

    #[test]
    fn a_hop_of_a_resting_token_is_found() {
        breaks(&mut Circulation::default(), &after(Mode::Rest, &[(2, token(1, 1))]), "the view is");
        breaks(&mut Circulation::default(), &[(2, token(1, 1))], "the view is None");
    }
}
