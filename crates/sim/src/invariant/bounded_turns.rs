//! Bounded turns: nobody keeps a token for itself while another member waits for it.

use super::{
    Invariant, Seen, Who,
    reach::{Reach, circulates, ring_from},
};
use roundelay_core::{
    id::NodeId,
    node,
    protocol::{Effect, To},
    tokenring::{Body, Event, LockName, Token},
    view::View,
};
use std::collections::BTreeMap;

/// While a member waits that the token knows of and that can be reached, whoever has the token
/// grants it at most `turn` times; a circulating token once. Together with `ring_order` that is the
/// promise that nobody waits for more than one turn of each other member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BoundedTurns {
    /// How many grants are a turn.
    turn: u32,
    reach: Reach,
    /// The last pass over each link in a view: what has a smaller number is a repetition.
    passes: BTreeMap<(u64, Who, NodeId), u64>,
    /// By the view, too.
    visits: BTreeMap<(u64, LockName), Visit>,
}

/// A token at one member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Visit {
    holder: Option<Who>,
    /// Per position: the newest request that the token is known to have recorded, …
    wanted: Vec<u64>,
    /// … which of them have had their turn, …
    served: Vec<u64>,
    /// … and how often the holder was granted the lock since its owner waits.
    grants: Vec<u32>,
}

impl BoundedTurns {
    /// The invariant for a group in which a turn is this many grants.
    pub fn new(turn: usize) -> Self {
        Self {
            turn: turn as u32,
            reach: Reach::default(),
            passes: BTreeMap::new(),
            visits: BTreeMap::new(),
        }
    }
}

impl Invariant for BoundedTurns {
    fn name(&self) -> &'static str {
        "bounded_turns"
    }

    fn source(&self) -> &'static str {
        "docs/protocols/token-ring.md: bounded waiting; resting mode (§5, rule 3)"
    }

    fn paper(&self) -> &'static str {
        "Lamport 1974: bounded bypass"
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        self.reach.see(who, seen);
        match seen {
            Seen::Effect(Effect::Send { to, message: node::Message::Lock(message) }) => {
                self.on_send(who, to, message.view, &message.body);
                Ok(())
            }
            Seen::Effect(Effect::Emit(node::Event::Lock(Event::Granted { lock, .. }))) => {
                self.on_grant(who, lock)
            }
            _ => Ok(()),
        }
    }
}

impl BoundedTurns {
    fn on_send(&mut self, who: Who, to: &To, number_of_view: u64, body: &Body) {
        match body {
            Body::Pass { number, lock, token } => {
                for to in to.peers() {
                    let last = self.passes.entry((number_of_view, who, *to)).or_default();
                    if *number > *last {
                        *last = *number;
                        let visit = Visit::after(token);
                        self.visits.insert((number_of_view, lock.clone()), visit);
                    }
                }
            }
            // From now on its owner waits for this holder.
            Body::Recorded { lock, number } => {
                let Some((_, view)) = self.reach.of(who) else { return };
                let key = (view.number, lock.clone());
                let visit = self.visits.entry(key).or_insert_with(|| Visit::new(view));
                for position in to.peers().iter().filter_map(|peer| view.position(*peer)) {
                    visit.wanted[position] = visit.wanted[position].max(*number);
                }
            }
            _ => {}
        }
    }

    fn on_grant(&mut self, who: Who, lock: &LockName) -> Result<(), String> {
        let Some((known, view)) = self.reach.of(who) else {
            return Err(format!("grants {lock} before it uses a view"));
        };
        let Some(me) = view.position(who.node) else {
            return Err(format!("grants {lock} in a view that it is not in"));
        };
        let circulates = circulates(view, lock);
        let turn = if circulates { 1 } else { self.turn };
        let key = (view.number, lock.clone());
        let visit = self.visits.entry(key).or_insert_with(|| Visit::new(view));
        visit.begin(who);
        let next = ring_from(view, me).next().filter(|_| circulates);
        for position in (0..view.len()).filter(|p| *p != me) {
            let recorded = visit.wanted[position] > visit.served[position];
            let waits = if circulates { next == Some(position) } else { recorded };
            let grants = &mut visit.grants[position];
            *grants =
                if waits && known.reaches(view.members[position].id) { *grants + 1 } else { 0 };
            if *grants > turn {
                let waiter = view.members[position].id;
                return Err(format!("grants {lock} {grants} times while {waiter} waits"));
            }
        }
        Ok(())
    }
}

impl Visit {
    fn new(view: &View) -> Self {
        let (wanted, served) = (vec![0; view.len()], vec![0; view.len()]);
        Self { holder: None, grants: vec![0; view.len()], wanted, served }
    }

    /// What is known of a token that has just been passed on.
    fn after(token: &Token) -> Self {
        Self {
            holder: None,
            wanted: token.wanted.clone(),
            served: token.served.clone(),
            grants: vec![0; token.wanted.len()],
        }
    }

    fn begin(&mut self, who: Who) {
        if self.holder != Some(who) {
            self.holder = Some(who);
            self.grants.fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use roundelay_core::{protocol::Input, tokenring::Mode};

    /// Node 1 uses a view of three, reaches both others, and gets a token that node 3 wants.
    fn start(mode: Mode) -> Vec<(u64, Line)> {
        let mut history = uses_view(1, mode);
        history.extend([reached(1, 2), reached(1, 3)].concat());
        history.push((2, sends_token(1, "default", 1, [1, 1, 1], [0, 1, 0])));
        history
    }

    fn grants(start: Vec<(u64, Line)>, fences: std::ops::RangeInclusive<u64>) -> Vec<(u64, Line)> {
        let mut history = start;
        history.extend(fences.map(|fence| (1, granted("default", fence, fence))));
        history
    }

    #[test]
    fn a_turn_is_fine_and_one_grant_more_is_found() {
        holds(&mut BoundedTurns::new(3), &grants(start(Mode::Rest), 1..=3));
        let history = grants(start(Mode::Rest), 1..=4);
        breaks(&mut BoundedTurns::new(3), &history, "4 times");
    }

    #[test]
    fn another_turn_begins_with_another_visit() {
        let mut history = grants(start(Mode::Rest), 1..=3);
        history.push((1, sends_token(3, "default", 1, [2, 1, 1], [1, 1, 0])));
        history.push((3, sends_token(1, "default", 1, [2, 2, 1], [1, 1, 1])));
        holds(&mut BoundedTurns::new(3), &grants(history, 4..=6));
    }

    #[test]
    fn alone_one_goes_on_until_somebody_is_recorded() {
        let mut history = start(Mode::Rest);
        history.push((1, Line::Input(Input::LinkDown(id(3)))));
        let mut history = grants(history, 1..=9);
        let (lock, number) = (lock("default"), 5);
        history.push((1, says(2, Body::Recorded { lock, number })));
        holds(&mut BoundedTurns::new(2), &grants(history.clone(), 10..=11));
        breaks(&mut BoundedTurns::new(2), &grants(history, 10..=12), "3 times");
    }

    #[test]
    fn a_circulating_token_is_granted_once_a_visit() {
        holds(&mut BoundedTurns::new(3), &grants(start(Mode::Circulate), 1..=1));
        let history = grants(start(Mode::Circulate), 1..=2);
        breaks(&mut BoundedTurns::new(3), &history, "2 times");
    }
}
