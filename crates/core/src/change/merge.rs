//! What follows from the reports (V3 to V5): pure.

use super::{Report, joining::Candidate, machine::Cx};
use crate::{
    id::NodeId,
    multicast::{self, Cut},
    planted::Bug,
    tokenring::{self, Placement},
    view::{Member, Value, View},
};
use alloc::vec::Vec;

/// What follows the view, if these have reported?
pub(super) struct Question<'a> {
    /// What made the view that ends.
    pub(super) installed: &'a Value,
    /// The position of the coordinator.
    pub(super) me: usize,
    /// By position: who has reported for this ballot.
    pub(super) reports: &'a [Option<&'a Report>],
    /// The members that hear each other.
    pub(super) keep: u64,
    /// The members that want to leave.
    pub(super) leavers: u64,
    /// The joiners that may be taken in.
    pub(super) joiners: &'a [Candidate],
}

impl Question<'_> {
    /// None while too little is known (V5).
    pub(super) fn answer(&self, cx: &Cx<'_>) -> Option<Value> {
        let old = &self.installed.view;
        let n = old.len();
        let intact = (0..n).filter(|p| self.is_intact(*p, cx)).count();
        let all = self.reports.iter().all(Option::is_some);
        // V5: every ⌊n/2⌋+1 members that may have acknowledged a message have an intact reporter among
        // them. Who is mute has acknowledged nothing.
        let mute = (0..n).filter(|p| self.is_mute(*p)).count();
        let needed = n.div_ceil(2).saturating_sub(mute).max(1);
        let complete = intact >= needed || intact > 0 && cx.has(Bug::AmnesiaForgiven);
        if !complete && !all {
            return None;
        }
        let view = if complete { self.view(&self.survivors(cx), cx) } else { self.view_of_all() };
        let reported = |p: usize| Some((p, self.report(p)?.order.as_ref()?));
        let orders: Vec<(usize, &multicast::Report)> = (0..n).filter_map(reported).collect();
        let mut order = Cut::of(old, &self.installed.order, &orders, &view, cx);
        if !complete {
            // V5: what anybody still has may have got another place where it was delivered already, by
            // those who have forgotten. So nothing of it is in the order, and no position is ever
            // given twice.
            let ceilings = self.reports.iter().flatten().map(|report| report.ceiling);
            order.lost = true;
            order.ends.clone_from(&self.installed.order.begins);
            order.stable.clone_from(&self.installed.order.begins);
            order.position = match ceilings.max() {
                Some(ceiling) if !cx.has(Bug::CeilingIgnored) => ceiling.max(order.position),
                _ => order.position,
            };
        }
        let locks: Vec<Option<(&tokenring::Report, bool)>> =
            (0..n).map(|p| self.lock_memory(p)).collect();
        let lock = Placement::of(old, &self.installed.lock, &locks, &view, cx);
        Some(Value { view, order, lock, loss: !complete })
    }

    fn report(&self, position: usize) -> Option<&Report> {
        self.reports[position]
            .filter(|report| report.life == Some(self.installed.view.members[position].life))
    }

    /// Whether the memory of the order has been reported: it is complete as of the wedge.
    fn is_intact(&self, position: usize, cx: &Cx<'_>) -> bool {
        let counts = |report: &Report| report.order.is_some() || cx.has(Bug::MuteCounts);
        self.report(position).is_some_and(counts)
    }

    /// Whether it has been mute all the time: the life that the view lists, without its memory.
    fn is_mute(&self, position: usize) -> bool {
        self.report(position).is_some_and(|report| report.order.is_none())
    }

    fn leaves(&self, position: usize) -> bool {
        self.leavers >> position & 1 == 1
            || self.reports[position].is_some_and(|report| report.leaves)
    }

    /// What a member knows of the locks, and whether it leaves without a guard (H18).
    fn lock_memory(&self, position: usize) -> Option<(&tokenring::Report, bool)> {
        let lock = self.report(position)?.lock.as_ref()?;
        Some((lock, self.leaves(position) && lock.guards.is_empty()))
    }

    /// The members that go on (V3.2, H18): who has reported, is heard by all the others, and stays.
    /// If all leave, one of them is the last: the coordinator, if it can be.
    fn survivors(&self, cx: &Cx<'_>) -> Vec<usize> {
        let reported = |p: &usize| self.is_intact(*p, cx) || cx.has(Bug::KeepsUnreported);
        let goes_on = |p: &usize| self.keep >> p & 1 == 1 && !self.leaves(*p);
        let n = self.reports.len();
        let mut survivors: Vec<usize> = (0..n).filter(reported).filter(goes_on).collect();
        if survivors.is_empty() {
            let last = [self.me].into_iter().chain(0..n).find(|p| self.is_intact(*p, cx));
            survivors.extend(last);
        }
        survivors
    }

    /// V4: survivors in the old order, then newcomers, at most as many: so the survivors alone are
    /// a quorum of the new view.
    fn view(&self, survivors: &[usize], cx: &Cx<'_>) -> View {
        let old = &self.installed.view;
        let number = old.number + 1;
        let mut members: Vec<Member> = survivors.iter().map(|p| old.members[*p].clone()).collect();
        let room = if cx.has(Bug::NewcomersOutvote) { usize::MAX } else { survivors.len() };
        let is_new = |id: NodeId| survivors.iter().all(|p| old.members[*p].id != id);
        let newcomers: Vec<&Candidate> =
            self.joiners.iter().filter(|joiner| is_new(joiner.name.id())).take(room).collect();
        members.extend(newcomers.iter().map(|joiner| Member {
            id: joiner.name.id(),
            name: joiner.name.clone(),
            life: joiner.life,
            incarnation: number,
        }));
        let ring = self.ring(survivors, &newcomers);
        View {
            number,
            members: members.into(),
            ring: ring.into(),
            mode: old.mode,
            lease: old.lease,
        }
    }

    /// If memories were lost for good, all members, who have all reported, begin anew: also who still
    /// remembers cannot tell what the others had delivered (V5).
    fn view_of_all(&self) -> View {
        let old = &self.installed.view;
        let number = old.number + 1;
        let member = |(p, listed): (usize, &Member)| {
            let life = self.reports[p].and_then(|report| report.life).unwrap_or(listed.life);
            Member { life, incarnation: number, ..listed.clone() }
        };
        View {
            number,
            members: old.members.iter().enumerate().map(member).collect(),
            ..old.clone()
        }
    }

    /// The old ring closes around who is gone; a newcomer stands before the member that it names,
    /// or at the end.
    fn ring(&self, survivors: &[usize], newcomers: &[&Candidate]) -> Vec<u16> {
        let old = &self.installed.view;
        let new = |old: &u16| survivors.iter().position(|p| *p == usize::from(*old));
        let mut ring: Vec<u16> = old.ring.iter().filter_map(new).map(|p| p as u16).collect();
        for (i, joiner) in newcomers.iter().enumerate() {
            let position = (survivors.len() + i) as u16;
            let next = joiner.next.as_ref().and_then(|next| {
                let next = survivors.iter().position(|p| old.members[*p].name == *next)?;
                ring.iter().position(|p| usize::from(*p) == next)
            });
            ring.insert(next.unwrap_or(ring.len()), position);
        }
        let first = ring.iter().position(|p| *p == 0).expect("a view has a first member");
        ring.rotate_left(first);
        ring
    }
}
