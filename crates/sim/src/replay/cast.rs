//! The names of those who take part in recorded lives.

use crate::trace::Cast;
use roundelay_core::{
    gossip::Origin,
    id::{Life, Name, NodeId},
    recording::Header,
};
use std::collections::BTreeMap;

/// Who is known from the beginning of recordings: those who recorded, and the lists of their groups.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    names: BTreeMap<NodeId, Name>,
    list: Vec<Name>,
    /// The first life of each node that was recorded, and when it began.
    lives: BTreeMap<NodeId, (u64, Life)>,
}

impl Recorded {
    /// Those of these recordings.
    pub fn of<'a>(headers: impl IntoIterator<Item = &'a Header>) -> Self {
        let mut known = Self::default();
        for Header { config, started, .. } in headers {
            let id = config.name.id();
            known.names.insert(id, config.name.clone());
            let life = (*started, config.life);
            let first = known.lives.entry(id).or_insert(life);
            *first = life.min(*first);
            let Some(group) = &config.group else { continue };
            let list = &group.founding.list;
            known.names.extend(list.iter().map(|name| (name.id(), name.clone())));
            known.list.clone_from(list);
        }
        known
    }
}

impl Cast for Recorded {
    fn name(&self, node: NodeId) -> String {
        self.names.get(&node).map_or_else(|| node.to_string(), ToString::to_string)
    }

    fn position(&self, position: u16) -> String {
        let name = self.list.get(usize::from(position));
        name.map_or_else(|| format!("member {position}"), ToString::to_string)
    }

    fn is_later_life(&self, origin: Origin) -> bool {
        self.lives.get(&origin.node).is_some_and(|(_, first)| *first != origin.life)
    }

    fn width(&self) -> usize {
        self.names.values().map(|name| name.as_str().len()).max().unwrap_or(0)
    }
}
