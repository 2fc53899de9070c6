//! Which views there are, and who uses which of them.

use super::{Seen, Who};
use roundelay_core::{id::NodeId, node, protocol::Effect, view::View};
use std::collections::BTreeMap;

/// The messages of one member: its node, and the incarnation that it was admitted with.
pub(crate) type Stream = (NodeId, u64);

/// The views, as they were installed first, and the one that each life uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Views {
    installed: BTreeMap<u64, View>,
    /// The last position before each of them.
    bases: BTreeMap<u64, u64>,
    used: BTreeMap<Who, u64>,
}

impl Views {
    /// Takes note of what is seen of `who`.
    pub(crate) fn see(&mut self, who: Who, seen: &Seen<'_>) {
        match seen {
            Seen::Effect(Effect::Emit(node::Event::View { view, position, .. })) => {
                self.bases.entry(view.number).or_insert(*position);
                self.installed.entry(view.number).or_insert_with(|| view.clone());
                self.used.insert(who, view.number);
            }
            Seen::Effect(Effect::Emit(node::Event::Out { .. })) => {
                self.used.remove(&who);
            }
            _ => {}
        }
    }

    /// The number of the view that `who` uses; none before its first, and when it is out.
    pub(crate) fn number(&self, who: Who) -> Option<u64> {
        self.used.get(&who).copied()
    }

    /// The view that `who` uses.
    pub(crate) fn of(&self, who: Who) -> Option<&View> {
        self.installed.get(self.used.get(&who)?)
    }

    /// The view with this number, if anybody has installed it.
    pub(crate) fn get(&self, number: u64) -> Option<&View> {
        self.installed.get(&number)
    }

    /// The last position before the view that `who` uses: all up to there is decided.
    pub(crate) fn base(&self, who: Who) -> Option<u64> {
        self.bases.get(self.used.get(&who)?).copied()
    }

    /// The position of `who` in the view that it uses.
    pub(crate) fn position(&self, who: Who) -> Option<usize> {
        self.of(who)?.position_of(who.node, who.life)
    }

    /// The life that was admitted with this incarnation.
    pub(crate) fn life(&self, (node, incarnation): Stream) -> Option<Who> {
        let mut members = self.installed.values().flat_map(|view| view.members.iter());
        let member = members.find(|m| m.id == node && m.incarnation == incarnation)?;
        Some(Who { node, life: member.life })
    }
}
