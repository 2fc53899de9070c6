//! What each life has been told about the others: whom its lock reaches.

use super::{Seen, Who, views::Views};
use roundelay_core::{
    detector::State,
    founding,
    id::NodeId,
    node,
    protocol::{Effect, Input, InputOf},
    tokenring::{LockName, Mode},
    view::View,
};
use std::collections::{BTreeMap, BTreeSet};

/// The part of each life's knowledge that decides where its tokens may go: a peer is reached from the
/// moment on at which it has said over its link that it is active in the same group (founding, rule
/// 6) and is up, until it is suspected or the link is told to be down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Reach {
    views: Views,
    lives: BTreeMap<Who, Known>,
}

/// What one life knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Known {
    /// The group that it is active in.
    cluster: Option<u64>,
    /// The peers whose link is up, and in which group they have said since then that they are active.
    links: BTreeMap<NodeId, Option<u64>>,
    /// The peers that are up.
    up: BTreeSet<NodeId>,
}

impl Reach {
    /// Takes note of what is seen of `who`.
    pub(crate) fn see(&mut self, who: Who, seen: &Seen<'_>) {
        self.views.see(who, seen);
        match seen {
            Seen::Input(input) => self.on_input(who, input),
            Seen::Effect(Effect::Save(record)) => {
                self.life(who).cluster = Some(record.cluster);
            }
            Seen::Effect(Effect::Emit(node::Event::Peer { peer, state })) => {
                let up = &mut self.life(who).up;
                if *state == State::Up {
                    up.insert(*peer)
                } else {
                    up.remove(peer)
                };
            }
            _ => {}
        }
    }

    /// What `who` knows, and the view that it uses, if it uses one.
    pub(crate) fn of(&self, who: Who) -> Option<(&Known, &View)> {
        Some((self.lives.get(&who)?, self.views.of(who)?))
    }

    fn life(&mut self, who: Who) -> &mut Known {
        self.lives.entry(who).or_default()
    }

    fn on_input(&mut self, who: Who, input: &InputOf<node::Node>) {
        match input {
            Input::LinkUp(peer) => {
                self.life(who).links.insert(*peer, None);
            }
            Input::LinkDown(peer) => {
                self.life(who).links.remove(peer);
            }
            Input::Message { from, message: node::Message::Founding(message) } => {
                let (founding::Message::Active { run, .. }
                | founding::Message::Announce { run, .. }) = message
                else {
                    return;
                };
                if let Some(active) = self.life(who).links.get_mut(from) {
                    *active = Some(*run);
                }
            }
            _ => {}
        }
    }
}

impl Known {
    /// Whether a token may go to `peer` (H16).
    pub(crate) fn reaches(&self, peer: NodeId) -> bool {
        let active = self.links.get(&peer).copied().flatten();
        self.up.contains(&peer) && active.is_some() && active == self.cluster
    }
}

/// Whether the token of `lock` goes round in this view, wanted or not.
pub(crate) fn circulates(view: &View, lock: &LockName) -> bool {
    view.mode == Mode::Circulate && *lock == LockName::default_lock()
}

/// The positions of the others, in ring order from the one that follows `me`.
pub(crate) fn ring_from(view: &View, me: usize) -> impl Iterator<Item = usize> {
    let next = |position: &usize| Some(view.successor(*position));
    std::iter::successors(Some(view.successor(me)), next).take(view.len() - 1)
}
