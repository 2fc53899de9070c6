//! Circulation: the hops of a circulating token are counted, and each happens once.

use super::{Invariant, Seen, Who};
use roundelay_core::{
    founding,
    id::NodeId,
    node,
    protocol::Effect,
    tokenring::{Event, Mode},
};

/// In the group each (view, hop) is reported once, and hops increase by one from 1; each says that
/// it comes from where the one before it ended, the first from the founder. A resting token makes
/// none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Circulation {
    view: Option<(u64, Mode)>,
    hop: u64,
    /// Where the token is: at the founder, or where the last hop ended.
    at: Option<NodeId>,
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
        match seen {
            Seen::Effect(Effect::Emit(node::Event::Founding(founding::Event::Installed {
                view,
                founder,
            }))) => {
                if self.view.is_none() {
                    self.view = Some((view.number, view.mode));
                    self.at = view.members.get(*founder).map(|member| member.id);
                }
                Ok(())
            }
            Seen::Effect(Effect::Emit(node::Event::Lock(Event::Token { view, hop, from }))) => {
                self.on_token(who, *view, *hop, *from)
            }
            _ => Ok(()),
        }
    }
}

impl Circulation {
    fn on_token(&mut self, who: Who, view: u64, hop: u64, from: NodeId) -> Result<(), String> {
        if self.view != Some((view, Mode::Circulate)) {
            return Err(format!("hop {hop} of view {view}, but the view is {:?}", self.view));
        }
        if hop != self.hop + 1 {
            return Err(format!("hop {hop} after hop {}", self.hop));
        }
        if self.at != Some(from) || from == who.node {
            return Err(format!("hop {hop} comes from {from}, but the token was {:?}", self.at));
        }
        (self.hop, self.at) = (hop, Some(who.node));
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

    /// Node 1, the founder, uses the view; then these lines.
    fn after(mode: Mode, lines: &[(u64, Line)]) -> Vec<(u64, Line)> {
        let mut history = uses_view(1, mode);
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
        breaks(&mut Circulation::default(), &after(Mode::Circulate, &[(2, token(1, 3))]), "from");
    }

    #[test]
    fn a_hop_of_a_resting_token_is_found() {
        breaks(&mut Circulation::default(), &after(Mode::Rest, &[(2, token(1, 1))]), "the view is");
        breaks(&mut Circulation::default(), &[(2, token(1, 1))], "the view is None");
    }
}
