//! A node that is ended and started again with its disk.

use crate::{
    adapter::{Action, Checkable, Packet, SmallGroup, State},
    member::Member,
    shared::Shared,
};
use roundelay_core::{id::Life, protocol::Input};

impl<P: Checkable> SmallGroup<P> {
    /// The state after a restart, in which the next life has its links.
    ///
    /// What is on its way to and from the life that has ended is lost: a handshake names the lives at
    /// both ends of a link. What the handshake leads to is part of this step: what may happen between
    /// is explored by the founding, and costs depth.
    pub(crate) fn restarted(&self, mut state: State<P>, node: usize) -> State<P> {
        let before = &state.members[node];
        let life = Life(before.life.0 + LIVES);
        let next = Member {
            restarts: before.restarts + 1,
            saved: before.saved.clone(),
            asked: before.asked,
            suspected: before.suspected,
            told: before.told.clone(),
            ..Member::new(self.config(node, life))
        };
        let record = next.saved.clone();
        state.members[node] = Shared::new(next);
        let others = |packet: &&Shared<Packet>| packet.from != node && packet.to != node;
        state.network = state.network.iter().filter(others).cloned().collect();
        state = self.then(
            state,
            &Action::Prepare(node, Input::Start(record.map(|record| Box::new((*record).into())))),
        );
        for peer in (0..self.ids.len()).filter(|peer| *peer != node) {
            for (at, input) in [
                (peer, Input::LinkDown(self.ids[node])),
                (peer, Input::LinkUp(self.ids[node])),
                (node, Input::LinkUp(self.ids[peer])),
            ] {
                state = self.then(state, &Action::Prepare(at, input));
            }
        }
        self.settle(state)
    }
}

/// The lives of different nodes are different.
const LIVES: u128 = 16;
