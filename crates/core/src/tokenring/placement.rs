//! Where the tokens are at the beginning of a view: computed from what the members of the view
//! before have reported (H1, H2, H18), the same for whoever computes it.

use super::{Known, LockName, Mode, Placed, Placement, Received, Report};
use crate::{
    id::{hash64, mix64},
    planted::Bug,
    protocol::{Context, Protocol},
    view::View,
};
use alloc::collections::{BTreeMap, BTreeSet};

/// The member that creates the token of this lock, and remembers that there is one: that of the
/// largest hash of lock and member (rendezvous hashing, Thaler and Ravishankar 1998). So a change of
/// members moves few homes.
pub fn home(view: &View, name: &LockName) -> usize {
    let lock = hash64(name.as_str().as_bytes());
    let weight = |p: &usize| mix64(lock ^ view.members[*p].id.raw());
    (0..view.len()).max_by_key(weight).expect("a view has members")
}

/// The reports about the end of a view: per position, what the member remembers of the locks, and
/// whether it leaves without a guard. None if it has not reported, or without that memory.
type Reports<'a> = [Option<(&'a Report, bool)>];

/// What the merge knows of a token.
#[derive(Clone, Copy)]
struct Found<'a> {
    token: &'a Known,
    /// The old position of who has it, or gets it.
    at: usize,
}

impl Placement {
    /// Where the tokens are in `next`, which follows `view`: `old` is how `view` began, and
    /// `reports` has, per position of `view`, what the member remembers of the locks, and whether it
    /// is a clean leaver (it leaves, and has no guard); none if it is not in the merge or has no such
    /// memory (H3, H18). `cx` is asked for planted bugs only.
    pub fn of<P: Protocol>(
        view: &View,
        old: &Self,
        reports: &[Option<(&Report, bool)>],
        next: &View,
        cx: &Context<'_, P>,
    ) -> Self {
        let merge = Merge { view, reports, next };
        let lost = (0..view.len()).any(|p| merge.is_lost(p, cx));
        let inherited = old.unknown_fresh && !cx.has(Bug::UnknownForgotten);
        let found = merge.found(cx);
        let mut names: BTreeSet<&LockName> = found.keys().copied().collect();
        names.extend(merge.known());
        let default = LockName::default_lock();
        if next.mode == Mode::Circulate {
            names.insert(&default);
        }
        let tokens = names.into_iter().map(|name| merge.place(name, found.get(name)));
        Self { tokens: tokens.collect(), lost, unknown_fresh: lost || inherited }
    }
}

struct Merge<'a> {
    view: &'a View,
    reports: &'a Reports<'a>,
    next: &'a View,
}

impl<'a> Merge<'a> {
    fn report(&self, position: usize) -> Option<&'a Report> {
        Some(self.reports.get(position).copied().flatten()?.0)
    }

    /// Where the member at the old position is in the next view, if that life goes on.
    fn stays(&self, position: usize) -> Option<usize> {
        let member = &self.view.members[position];
        let new = self.next.position_of(member.id, member.life)?;
        (self.next.members[new].incarnation == member.incarnation).then_some(new)
    }

    /// Whether it has gone in order: no guard of it can be valid.
    fn is_clean(&self, position: usize) -> bool {
        let report = self.reports.get(position).copied().flatten();
        report.is_some_and(|(report, leaves)| leaves && report.guards.is_empty())
    }

    /// Whether guards of this life may be valid, or tokens lost, that nobody has told of (§4, rule 4).
    fn is_lost<P: Protocol>(&self, position: usize, cx: &Context<'_, P>) -> bool {
        let remembers = self.report(position).is_some() || cx.has(Bug::RestartVouches);
        let goes_on = remembers && self.stays(position).is_some();
        !goes_on && !self.is_clean(position)
    }

    /// All tokens of which somebody in the merge knows where they are (H1).
    fn found<P: Protocol>(&self, cx: &Context<'_, P>) -> BTreeMap<&'a LockName, Found<'a>> {
        let mut found: BTreeMap<&LockName, Found<'_>> = BTreeMap::new();
        let mut see = |token: &'a Known, at: usize| {
            let new = Found { token, at };
            let newest = found.entry(&token.lock).or_insert(new);
            let count = |found: &Found<'_>| (found.token.sequence, found.token.hops);
            // At most one goes on; should there be two, the later one has been granted since (H1).
            if (count(newest) < count(&new)) != cx.has(Bug::SmallestSequence) {
                *newest = new;
            }
        };
        for from in 0..self.view.len() {
            let Some(report) = self.report(from) else { continue };
            report.held.iter().for_each(|token| see(token, from));
            for pass in &report.sent {
                let to = usize::from(pass.to);
                let there = self.report(to).and_then(|report| report.received.get(from));
                // H1: only what has certainly not arrived is on its way. What was sent to a life
                // that has not reported is lost, for it may have been granted there.
                match there {
                    Some(there) if !there.has(pass.number) => see(&pass.token, to),
                    Some(_) if cx.has(Bug::ReceivedIsInFlight) => see(&pass.token, to),
                    None if cx.has(Bug::LostPassGoesBack) => see(&pass.token, from),
                    _ => {}
                }
            }
        }
        found
    }

    /// The locks that exist, as far as anybody in the merge knows (H2).
    fn known(&self) -> impl Iterator<Item = &'a LockName> {
        let reports = (0..self.view.len()).filter_map(|position| self.report(position));
        reports.flat_map(|report| {
            let sent = report.sent.iter().map(|pass| &pass.token.lock);
            // Of what came home and was forgotten there, the acknowledgement may still be missing.
            report.home.iter().chain(sent.filter(|lock| self.home_is_unknown(lock)))
        })
    }

    /// Whether nobody who remembers says which locks exist of those that have the home of this one.
    fn home_is_unknown(&self, name: &LockName) -> bool {
        self.report(home(self.view, name)).is_none()
    }

    fn place(&self, name: &LockName, found: Option<&Found<'_>>) -> Placed {
        let goes_on = found.and_then(|found| Some((self.heir(found.at)?, found.token)));
        let (at, hops, fresh) = match goes_on {
            Some((at, token)) => (at, token.hops, token.fresh),
            None => (home(self.next, name), 0, true),
        };
        Placed { lock: name.clone(), at: at as u16, hops, fresh }
    }

    /// Who has, in the next view, what the member at the old position had: itself, or whoever is
    /// after it on the ring if it has left in order. Of a lost life nobody inherits.
    fn heir(&self, position: usize) -> Option<usize> {
        if let Some(new) = self.stays(position) {
            return Some(new);
        }
        if !self.is_clean(position) {
            return None;
        }
        let mut after = core::iter::successors(Some(position), |p| Some(self.view.successor(*p)));
        let remembers = |p: &usize| self.report(*p).is_some();
        after.by_ref().take(self.view.len()).filter(remembers).find_map(|p| self.stays(p))
    }
}

impl Received {
    /// Whether the pass with this number has arrived.
    pub(super) fn has(&self, number: u64) -> bool {
        number <= self.up_to || self.also.contains(&number)
    }
}
