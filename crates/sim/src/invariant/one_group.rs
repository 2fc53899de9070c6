//! One group: all who are founded are founded into the same view.

use super::{Invariant, Seen, Who};
use roundelay_core::{founding::Event, node, protocol::Effect, view::View};
use std::collections::BTreeSet;

/// All lives of all nodes that ever install a view install the same one, once, and are in it.
#[derive(Debug, Default)]
pub struct OneGroup {
    group: Option<(View, usize)>,
    members: BTreeSet<Who>,
}

impl Invariant for OneGroup {
    fn name(&self) -> &'static str {
        "one_group"
    }

    fn source(&self) -> &'static str {
        "rules-views-multicast.md, V8: one cluster per list; rules-tokenring.md, S3: start"
    }

    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Effect(Effect::Emit(node::Event::Founding(event))) = seen else { return Ok(()) };
        let Event::Installed { view, founder } = event else { return Ok(()) };
        if !self.members.insert(who) {
            return Err("installs a view twice".into());
        }
        well_formed(view, *founder)?;
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
        Ok(())
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
        holds(&mut OneGroup::default(), &history);
    }

    #[test]
    fn two_groups_are_found() {
        let other_ring =
            [(1, installs(&[1, 2, 3], &[0, 1, 2], 1)), (3, installs(&[1, 2, 3], &[0, 2, 1], 1))];
        breaks(&mut OneGroup::default(), &other_ring, "others");
        let other_founder =
            [(1, installs(&[1, 2], &[0, 1], 1)), (2, installs(&[1, 2], &[0, 1], 0))];
        breaks(&mut OneGroup::default(), &other_founder, "others");
    }

    #[test]
    fn a_stranger_and_a_second_time_are_found() {
        breaks(&mut OneGroup::default(), &[(3, installs(&[1, 2], &[0, 1], 0))], "not in");
        let twice = [(1, installs(&[1, 2], &[0, 1], 0)), (1, installs(&[1, 2], &[0, 1], 0))];
        breaks(&mut OneGroup::default(), &twice, "twice");
    }

    #[test]
    fn a_ring_that_does_not_close_is_found() {
        breaks(&mut OneGroup::default(), &[(1, installs(&[1, 2], &[0, 0], 0))], "none");
        breaks(&mut OneGroup::default(), &[(1, installs(&[1, 2], &[0], 0))], "none");
        breaks(&mut OneGroup::default(), &[(1, installs(&[1, 2], &[0, 1], 2))], "none");
    }
}
