//! Where the order of a view ends, computed from what its wedged members report.

use super::{Cut, Report};
use crate::{
    planted::Bug,
    protocol::{Context, Protocol},
    view::{Member, View},
};
use alloc::{vec, vec::Vec};

impl Cut {
    /// The cut of a view that begins at the beginning: view 1 of `members`.
    pub fn founding(members: usize) -> Self {
        Self { begins: vec![0; members], ..Self::default() }
    }

    /// What a member has received that has received nothing in the view that begins here.
    pub fn beginning(&self) -> Report {
        Report { received: self.begins.clone(), clock: self.clock }
    }

    /// The cut between the view `old`, which began at `began`, and the view `next`.
    ///
    /// `reports` are those that are merged, each with the position in `old` of the member that gave
    /// it: only reports with memory, and those of all who go on as survivors are among them. A
    /// message that may be deliverable in `old` is in a majority of its members, so at least one of
    /// these has it as long as at most ⌊n/2⌋ reports are missing (V5): the cut has the *most* that
    /// anybody has received (T6). Everything is computed from what is given, so that whoever gets
    /// the value numbers alike.
    ///
    /// For tests of the checks, `cx` says which rule is left out.
    pub fn of<P: Protocol>(
        old: &View,
        began: &Self,
        reports: &[(usize, &Report)],
        next: &View,
        cx: &Context<'_, P>,
    ) -> Self {
        assert_eq!(began.begins.len(), old.len(), "it is the cut at which the view began");
        let of = |report: &Report, p: usize| report.received.get(p).copied().unwrap_or(0);
        let received = |p: usize| reports.iter().map(move |(_, report)| of(report, p));
        let most = |p: usize| received(p).max().unwrap_or(0).max(began.begins[p]);
        let least = |p: usize| received(p).min().unwrap_or(0).max(began.begins[p]);
        let members = 0..old.len();
        let ends: Vec<u64> = if cx.has(Bug::CutIsLeast) {
            members.clone().map(least).collect()
        } else {
            members.clone().map(most).collect()
        };
        let before = |member: &Member| {
            let position = old.position(member.id);
            position.filter(|p| old.members[*p].incarnation == member.incarnation)
        };
        // An incarnation that is new has sent nothing (V7).
        let inherited = |member: &Member| before(member).map_or(0, |p| ends[p]);
        // Who goes on without memory may lack everything (V4).
        let told = |p: usize| reports.iter().any(|(position, _)| *position == p);
        let all_told = next.members.iter().filter_map(before).all(told);
        let stable = |p: usize| if all_told { least(p) } else { began.begins[p] };
        let clocks = reports.iter().map(|(_, report)| report.clock);
        Self {
            begins: next.members.iter().map(inherited).collect(),
            stable: members.map(stable).collect(),
            clock: clocks.max().unwrap_or(0).max(began.clock),
            position: began.position
                + ends.iter().zip(&began.begins).map(|(end, begin)| end - begin).sum::<u64>(),
            ends,
            lost: false,
        }
    }
}
