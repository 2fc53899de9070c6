//! What each life has been told about the others: whom its lock reaches, and who leaves.

use super::{Seen, Who};
use roundelay_core::{
    founding,
    id::NodeId,
    node,
    protocol::{Effect, Input, InputOf, To},
    tokenring::{Body, LockName, Mode},
    view::View,
};
use std::collections::{BTreeMap, BTreeSet};

/// The part of each life's knowledge that decides where its tokens may go. It is exact: a peer is
/// reached from the moment on at which it has said over its link that it is active (founding, rule
/// 6) until the link is told to be down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Reach {
    lives: BTreeMap<Who, Known>,
}

/// What one life knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Known {
    /// The walk in whose view it is active.
    run: Option<u64>,
    view: Option<View>,
    /// The peers whose link is up, and whether they have said since then that they are active.
    links: BTreeMap<NodeId, bool>,
    /// Who leaves or has left: it has acknowledged that.
    gone: BTreeSet<NodeId>,
    leaves: bool,
}

impl Reach {
    /// Takes note of what is seen of `who`.
    pub(crate) fn see(&mut self, who: Who, seen: &Seen<'_>) {
        match seen {
            Seen::Input(input) => self.on_input(who, input),
            Seen::Effect(Effect::Save(record)) => self.life(who).run = Some(record.run),
            Seen::Effect(Effect::Emit(node::Event::Founding(founding::Event::Installed {
                view,
                ..
            }))) => self.life(who).view = Some(view.clone()),
            Seen::Effect(Effect::Send { to, message: node::Message::Lock(message) }) => {
                self.on_send(who, to, &message.body);
            }
            _ => {}
        }
    }

    /// What `who` knows, once it uses a view.
    pub(crate) fn of(&self, who: Who) -> Option<(&Known, &View)> {
        let known = self.lives.get(&who)?;
        Some((known, known.view.as_ref()?))
    }

    fn life(&mut self, who: Who) -> &mut Known {
        self.lives.entry(who).or_default()
    }

    fn on_input(&mut self, who: Who, input: &InputOf<node::Node>) {
        match input {
            Input::LinkUp(peer) => {
                self.life(who).links.insert(*peer, false);
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
                let known = self.life(who);
                if known.run == Some(*run)
                    && let Some(active) = known.links.get_mut(from)
                {
                    *active = true;
                }
            }
            _ => {}
        }
    }

    fn on_send(&mut self, who: Who, to: &To, body: &Body) {
        match body {
            Body::Leaving => self.life(who).leaves = true,
            Body::LeavingAck { .. } => self.life(who).gone.extend(to.peers()),
            Body::LeftAck { member } => {
                let known = self.life(who);
                let view = known.view.as_ref();
                let gone = view.and_then(|view| view.members.get(usize::from(*member)));
                known.gone.extend(gone.map(|member| member.id));
            }
            _ => {}
        }
    }
}

impl Known {
    /// Whether `peer` stays, for all that is known.
    pub(crate) fn stays(&self, peer: NodeId) -> bool {
        !self.gone.contains(&peer)
    }

    /// Whether a token may go to `peer` (H16).
    pub(crate) fn reaches(&self, peer: NodeId) -> bool {
        self.stays(peer) && self.links.get(&peer) == Some(&true)
    }

    /// Whether this life itself leaves.
    pub(crate) fn leaves(&self) -> bool {
        self.leaves
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
