//! Peer states: what the detector reports follows from what has been seen of the peer.

use super::{Invariant, Seen, Who};
use roundelay_core::{
    detector::{Message, State},
    id::NodeId,
    node,
    protocol::{Effect, Input, InputOf},
};
use std::collections::{BTreeMap, BTreeSet};

/// Each report is a change. Up and suspect are only peers with a link, down only those without;
/// left is who has said goodbye, and it is not reported down. A peer that was just heard over its
/// link is up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PeerStates {
    peers: BTreeMap<(Who, NodeId), Peer>,
    /// Those that are suspect.
    suspects: BTreeSet<(Who, NodeId)>,
    /// The suspects that were heard in the last step of a life: by its end they have to be up.
    heard: BTreeMap<Who, NodeId>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Peer {
    link: bool,
    goodbye: bool,
    state: Option<State>,
}

impl Invariant for PeerStates {
    fn name(&self) -> &'static str {
        "peer_states"
    }

    fn source(&self) -> &'static str {
        "crates/core/src/detector.rs: up, suspect, down, left"
    }

    fn paper(&self) -> &'static str {
        "Chandra and Toueg 1996: a detector may be wrong"
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Input(input) => {
                let result = self.on_end_of_step(who);
                self.on_input(who, input);
                result
            }
            Seen::Effect(Effect::Emit(node::Event::Peer { peer, state })) => {
                self.on_change(who, *peer, *state)
            }
            Seen::Effect(_) | Seen::End(_) => Ok(()),
        }
    }
}

impl PeerStates {
    fn on_input(&mut self, who: Who, input: &InputOf<node::Node>) {
        match input {
            Input::LinkUp(peer) => {
                let peer = self.peers.entry((who, *peer)).or_default();
                (peer.link, peer.goodbye) = (true, false);
            }
            Input::LinkDown(peer) => self.peers.entry((who, *peer)).or_default().link = false,
            Input::Message { from, message: node::Message::Detector(Message::Goodbye) } => {
                let peer = self.peers.entry((who, *from)).or_default();
                (peer.link, peer.goodbye) = (false, true);
            }
            Input::Message { from, .. } if self.suspects.contains(&(who, *from)) => {
                self.heard.insert(who, *from);
            }
            _ => {}
        }
    }

    /// The step before is over: nothing cut it off, for this life goes on.
    fn on_end_of_step(&mut self, who: Who) -> Result<(), String> {
        match self.heard.remove(&who) {
            Some(from) if self.suspects.contains(&(who, from)) => {
                Err(format!("has heard {from}, and does not take its suspicion back"))
            }
            _ => Ok(()),
        }
    }

    fn on_change(&mut self, who: Who, id: NodeId, state: State) -> Result<(), String> {
        let peer = self.peers.entry((who, id)).or_default();
        let repeated = peer.state.replace(state) == Some(state);
        if state == State::Suspect {
            self.suspects.insert((who, id));
        } else {
            self.suspects.remove(&(who, id));
        }
        let fits = match state {
            State::Up | State::Suspect => peer.link,
            State::Down => !peer.link && !peer.goodbye,
            State::Left => peer.goodbye,
        };
        if fits && !repeated { Ok(()) } else { Err(format!("reports {id} as {peer:?}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn up() -> (u64, Line) {
        (1, Line::Input(Input::LinkUp(id(2))))
    }

    fn down() -> (u64, Line) {
        (1, Line::Input(Input::LinkDown(id(2))))
    }

    fn hears(message: Message) -> (u64, Line) {
        let message = node::Message::Detector(message);
        (1, Line::Input(Input::Message { from: id(2), message }))
    }

    fn reports(state: State) -> (u64, Line) {
        (1, Line::Effect(Effect::Emit(node::Event::Peer { peer: id(2), state })))
    }

    fn last_of(lines: &[(u64, Line)]) {
        let words = if matches!(lines.last(), Some((_, Line::Input(_)))) { "heard" } else { "as" };
        breaks(&mut PeerStates::default(), lines, words);
    }

    #[test]
    fn up_suspect_up_down_and_left_are_fine() {
        let history = [
            up(),
            reports(State::Up),
            reports(State::Suspect),
            hears(Message::Heartbeat),
            reports(State::Up),
            down(),
            reports(State::Down),
            up(),
            reports(State::Up),
            hears(Message::Goodbye),
            reports(State::Left),
            down(),
            up(),
            reports(State::Up),
        ];
        holds(&mut PeerStates::default(), &history);
    }

    #[test]
    fn a_report_that_is_no_change_is_found() {
        last_of(&[up(), reports(State::Up), reports(State::Up)]);
    }

    #[test]
    fn a_peer_without_a_link_that_is_up_is_found() {
        last_of(&[up(), reports(State::Up), down(), reports(State::Down), reports(State::Up)]);
        last_of(&[reports(State::Suspect)]);
    }

    #[test]
    fn a_peer_that_is_down_with_a_link_or_after_a_goodbye_is_found() {
        last_of(&[up(), reports(State::Up), reports(State::Down)]);
        let left = [up(), reports(State::Up), hears(Message::Goodbye), reports(State::Left)];
        last_of(&[left.to_vec(), vec![down(), reports(State::Down)]].concat());
        last_of(&[up(), reports(State::Up), reports(State::Left)]);
    }

    #[test]
    fn a_suspicion_that_outlives_a_message_is_found() {
        let history = [
            up(),
            reports(State::Up),
            reports(State::Suspect),
            hears(Message::Heartbeat),
            hears(Message::Heartbeat),
        ];
        last_of(&history);
    }
}
