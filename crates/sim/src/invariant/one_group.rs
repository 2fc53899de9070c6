//! One group: all who are founded are founded into the same view.

use super::{Invariant, Seen, Who};
use roundelay_core::{founding::Event, node, protocol::Effect, view::View};
use std::collections::{BTreeMap, BTreeSet};

/// All lives of all nodes that ever install a view install the same one, once, and are in it; its
/// ring is the one that the next pointers make. Once somebody uses it, nobody becomes active in
/// another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OneGroup {
    pointers: Pointers,
    group: Option<(View, usize)>,
    /// The walk in whose view each life is active, and the one of the group.
    runs: BTreeMap<Who, u64>,
    run: Option<u64>,
    members: BTreeSet<Who>,
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
        let (runs, members) = (BTreeMap::new(), BTreeSet::new());
        Self { pointers, group: None, runs, run: None, members }
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
        let event = match seen {
            Seen::Effect(Effect::Save(record)) => return self.on_active(who, record.run),
            Seen::Effect(Effect::Emit(node::Event::Founding(event))) => event,
            _ => return Ok(()),
        };
        let Event::Installed { view, founder } = event else { return Ok(()) };
        if !self.members.insert(who) {
            return Err("installs a view twice".into());
        }
        well_formed(view, *founder)?;
        if let Pointers::Make(pointers) = &self.pointers
            && pointers.as_deref() != Some(&*view.ring)
        {
            let ring = &view.ring;
            return Err(format!("installs ring {ring:?}, but the pointers make {pointers:?}"));
        }
        let member = view.members.iter().find(|member| member.id == who.node);
        if member.is_none_or(|member| member.life != who.life) {
            return Err(format!("installs a view that this life is not in: {view:?}"));
        }
        let (first, first_founder) = self.group.get_or_insert_with(|| (view.clone(), *founder));
        if (&*first, *first_founder) != (view, *founder) {
            return Err(format!(
                "installs {view:?} of {founder}, others {first:?} of {first_founder}"
            ));
        }
        self.run = self.run.or(self.runs.get(&who).copied());
        Ok(())
    }
}

impl OneGroup {
    fn on_active(&mut self, who: Who, run: u64) -> Result<(), String> {
        self.runs.insert(who, run);
        match self.run {
            Some(group) if group != run => Err(format!(
                "is active in the view of walk {run}, but the group is that of {group}"
            )),
            _ => Ok(()),
        }
    }
}

fn well_formed(view: &View, founder: usize) -> Result<(), String> {
    let mut ring = view.ring.to_vec();
    ring.sort_unstable();
    let closed = ring.into_iter().map(usize::from).eq(0..view.len());
    let ids: BTreeSet<_> = view.members.iter().map(|member| member.id).collect();
    let named = view.members.iter().all(|member| member.name.id() == member.id);
    let ok = view.number == 1 && founder < view.len() && ids.len() == view.len() && named;
    if closed && ok { Ok(()) } else { Err(format!("installs a view that is none: {view:?}")) }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use roundelay_core::{tokenring::Mode, view::Member};

    fn ring(ring: &[u16]) -> OneGroup {
        OneGroup::new(Some(ring.to_vec()))
    }

    fn installs(members: &[u64], ring: &[u16], founder: usize) -> Line {
        let member =
            |n: &u64| Member { id: id(*n), name: name(*n), life: who(*n).life, incarnation: 1 };
        let members = members.iter().map(member).collect();
        let view = View { number: 1, members, ring: ring.into(), mode: Mode::Rest };
        Line::Effect(Effect::Emit(node::Event::Founding(Event::Installed { view, founder })))
    }

    #[test]
    fn all_in_one_view_are_fine() {
        let history =
            [(1, installs(&[1, 2, 3], &[0, 2, 1], 1)), (3, installs(&[1, 2, 3], &[0, 2, 1], 1))];
        holds(&mut ring(&[0, 2, 1]), &history);
    }

    #[test]
    fn two_groups_are_found() {
        let history = [(1, installs(&[1, 2], &[0, 1], 1)), (2, installs(&[1, 2], &[0, 1], 0))];
        breaks(&mut ring(&[0, 1]), &history, "others");
    }

    #[test]
    fn a_stranger_and_a_second_time_are_found() {
        breaks(&mut ring(&[0, 1]), &[(3, installs(&[1, 2], &[0, 1], 0))], "not in");
        let twice = [(1, installs(&[1, 2], &[0, 1], 0)), (1, installs(&[1, 2], &[0, 1], 0))];
        breaks(&mut ring(&[0, 1]), &twice, "twice");
    }

    #[test]
    fn who_becomes_active_in_another_view_is_found() {
        let start = [(1, active()), (1, installs(&[1, 2], &[0, 1], 0)), (2, active())];
        holds(&mut ring(&[0, 1]), &start);
        let Line::Effect(Effect::Save(mut record)) = active() else { unreachable!("it saves") };
        record.run = 2;
        let other = [start.to_vec(), vec![(2, Line::Effect(Effect::Save(record)))]].concat();
        breaks(&mut ring(&[0, 1]), &other, "walk 2");
    }

    #[test]
    fn another_ring_is_found() {
        let history = [(1, installs(&[1, 2, 3], &[0, 1, 2], 1))];
        breaks(&mut ring(&[0, 2, 1]), &history, "pointers");
        breaks(&mut OneGroup::new(None), &history, "pointers");
    }

    #[test]
    fn a_view_that_is_none_is_found() {
        breaks(&mut ring(&[0, 1]), &[(1, installs(&[1, 2], &[0, 0], 0))], "none");
        breaks(&mut ring(&[0, 1]), &[(1, installs(&[1, 2], &[0], 0))], "none");
        breaks(&mut ring(&[0, 1]), &[(1, installs(&[1, 2], &[0, 1], 2))], "none");
    }
}
