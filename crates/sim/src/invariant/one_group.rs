//! One group: all who are founded are founded into the same view, and nobody is in another group.

use super::{Invariant, Seen, Who};
use roundelay_core::{node::Event, protocol::Effect, view::View};
use std::collections::BTreeMap;

/// All lives of all nodes that ever install view 1 install the same one; its ring is the one that the
/// next pointers make. Once somebody uses it, nobody becomes active in another group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OneGroup {
    pointers: Pointers,
    first: Option<View>,
    /// The group that each life is active in, by its number, and the one that is used.
    clusters: BTreeMap<Who, u64>,
    cluster: Option<u64>,
}

/// What is known of the next pointers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Pointers {
    /// They make this ring, or none.
    Make(Option<Vec<u16>>),
    /// Nothing.
    Unknown,
}

impl OneGroup {
    /// The invariant for nodes whose next pointers make this ring, as positions in the list; none
    /// if it does not close.
    pub fn new(ring: Option<Vec<u16>>) -> Self {
        Self::with(Pointers::Make(ring))
    }

    /// The invariant for nodes whose next pointers are not all known.
    pub fn of_any_ring() -> Self {
        Self::with(Pointers::Unknown)
    }

    fn with(pointers: Pointers) -> Self {
        Self { pointers, first: None, clusters: BTreeMap::new(), cluster: None }
    }
}

impl Invariant for OneGroup {
    fn name(&self) -> &'static str {
        "one_group"
    }

    fn source(&self) -> &'static str {
        "docs/protocols/token-ring.md, founding: why one group comes out (V8, S3)"
    }

    fn paper(&self) -> &'static str {
        "Birman and Joseph 1987: one sequence of views"
    }

    fn allows_gaps(&self) -> bool {
        true
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Effect(Effect::Save(record)) => {
                self.clusters.insert(who, record.cluster);
                self.expect_one(record.cluster)
            }
            Seen::Effect(Effect::Emit(Event::View { view, .. })) => self.on_view(who, view),
            _ => Ok(()),
        }
    }
}

impl OneGroup {
    fn expect_one(&self, cluster: u64) -> Result<(), String> {
        match self.cluster {
            Some(used) if used != cluster => {
                Err(format!("is active in group {cluster}, but the group is {used}"))
            }
            _ => Ok(()),
        }
    }

    fn on_view(&mut self, who: Who, view: &View) -> Result<(), String> {
        self.cluster = self.cluster.or(self.clusters.get(&who).copied());
        if view.number != 1 {
            return Ok(());
        }
        if let Pointers::Make(pointers) = &self.pointers
            && pointers.as_deref() != Some(&*view.ring)
        {
            let ring = &view.ring;
            return Err(format!("installs ring {ring:?}, but the pointers make {pointers:?}"));
        }
        let first = self.first.get_or_insert_with(|| view.clone());
        if first == view { Ok(()) } else { Err(format!("installs {view:?}, others {first:?}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn ring(ring: &[u16]) -> OneGroup {
        OneGroup::new(Some(ring.to_vec()))
    }

    fn founded(members: &[u64], ring: &[u16]) -> Line {
        let view = View { ring: ring.into(), ..view_of(1, members, &[]) };
        views(view, false, 0)
    }

    #[test]
    fn all_in_one_view_are_fine() {
        let history = [(1, founded(&[1, 2, 3], &[0, 2, 1])), (3, founded(&[1, 2, 3], &[0, 2, 1]))];
        holds(&mut ring(&[0, 2, 1]), &history);
    }

    #[test]
    fn two_groups_are_found() {
        let history = [(1, founded(&[1, 2], &[0, 1])), (2, founded(&[2, 1], &[0, 1]))];
        breaks(&mut ring(&[0, 1]), &history, "others");
    }

    #[test]
    fn who_becomes_active_in_another_group_is_found() {
        let start = [(1, active()), (1, founded(&[1, 2], &[0, 1])), (2, active())];
        holds(&mut ring(&[0, 1]), &start);
        let Line::Effect(Effect::Save(mut record)) = active() else { unreachable!("it saves") };
        record.cluster = 2;
        let other = [start.to_vec(), vec![(2, Line::Effect(Effect::Save(record)))]].concat();
        breaks(&mut ring(&[0, 1]), &other, "group 2");
    }

    #[test]
    fn another_ring_is_found() {
        let history = [(1, founded(&[1, 2, 3], &[0, 1, 2]))];
        breaks(&mut ring(&[0, 2, 1]), &history, "pointers");
        breaks(&mut OneGroup::new(None), &history, "pointers");
    }
}
