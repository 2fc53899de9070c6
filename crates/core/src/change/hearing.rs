//! Who hears whom, and what follows from it (V10): who is left out, who tries, whether there is a
//! quorum. Nothing here matters for safety.

use super::{
    Body, Event, Timer,
    machine::{Cx, Gathering, Seat, Standing, ViewChange},
};
use crate::{
    id::{Life, NodeId},
    planted::Bug,
    time::Time,
    view::Ballot,
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use core::time::Duration;

/// How often the time of a turn doubles at most.
const DOUBLINGS_MAX: u32 = 4;

/// The peers that are heard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Hearing {
    /// For certain,
    trusted: BTreeSet<NodeId>,
    /// or until then, if nothing comes of them before.
    fading: BTreeMap<NodeId, Time>,
}

impl Hearing {
    pub(super) fn hears(&self, peer: NodeId) -> bool {
        self.trusted.contains(&peer) || self.fading.contains_key(&peer)
    }

    /// The peers that are heard for certain.
    pub(super) fn trusted(&self) -> impl Iterator<Item = NodeId> {
        self.trusted.iter().copied()
    }

    /// These will soon be heard, or not be there.
    pub(super) fn expect(&mut self, peers: &[NodeId], until: Time) {
        for peer in peers {
            if !self.hears(*peer) {
                self.fading.insert(*peer, until);
            }
        }
    }

    pub(super) fn expire(&mut self, now: Time) {
        self.fading.retain(|_, until| *until > now);
    }

    fn next_end(&self) -> Option<Time> {
        self.fading.values().min().copied()
    }
}

impl ViewChange {
    pub(super) fn on_trust(&mut self, peer: NodeId, cx: &mut Cx<'_>) {
        self.hearing.trusted.insert(peer);
        self.hearing.fading.remove(&peer);
        self.ask_to_join(Some(peer), cx);
        self.on_hearing_changed(cx);
    }

    pub(super) fn on_suspect(&mut self, peer: NodeId, link: bool, cx: &mut Cx<'_>) {
        let trusted = self.hearing.trusted.remove(&peer);
        if !link {
            self.hearing.fading.remove(&peer);
        } else if trusted {
            // A link that is dialled again at once has not ended.
            self.hearing.fading.insert(peer, cx.now() + self.config.grace);
            self.arm_grace(cx);
        }
        self.on_hearing_changed(cx);
    }

    pub(super) fn arm_grace(&self, cx: &mut Cx<'_>) {
        let beats_due = self.seat().and_then(|seat| seat.beats_due);
        if let Some(end) = self.hearing.next_end().into_iter().chain(beats_due).min() {
            // At least a little, since zero is the batch boundary.
            let span = end.since(cx.now()).max(Duration::from_nanos(1));
            cx.set_timer(Timer::Grace, span);
        }
    }

    pub(super) fn on_hearing_changed(&mut self, cx: &mut Cx<'_>) {
        let Some(seat) = self.seat() else { return };
        if seat.hears[seat.me] != Some(self.hears()) {
            self.beat(cx);
        }
        self.consider(cx);
    }

    /// The members that have not spoken in this view by now are not heard, though a later life of
    /// theirs may be (V7).
    pub(super) fn note_absent(&mut self, now: Time) {
        let Some(seat) = self.seat_mut() else { return };
        if seat.beats_due.take_if(|due| *due <= now).is_some() {
            let silent = |p: &usize| *p != seat.me && seat.hears[*p].is_none();
            seat.absent = (0..seat.hears.len()).filter(silent).map(|p| 1 << p).sum();
        }
    }

    /// The members that are heard, a bit for each; the own one is set.
    pub(super) fn hears(&self) -> u64 {
        let Some(seat) = self.seat() else { return 0 };
        let present = |p: &usize| seat.absent >> p & 1 == 0 && self.hearing.hears(seat.id(*p));
        let heard = |p: &usize| *p == seat.me || present(p);
        (0..seat.view().len()).filter(heard).map(|p| 1 << p).sum()
    }

    // ---- Beats ----

    pub(super) fn on_beat_due(&mut self, cx: &mut Cx<'_>) {
        let stale = self.config.repeat * 8;
        let now = cx.now();
        if let Some(seat) = self.seat_mut() {
            seat.told.clear();
            seat.joiners.retain(|_, joiner| now.since(joiner.heard) < stale);
        }
        if let Standing::Outside(outside) = &mut self.standing {
            outside.told.clear();
        }
        self.beat(cx);
        self.consider(cx);
    }

    pub(super) fn beat_body(&self) -> Body {
        let Some(seat) = self.seat() else {
            return Body::Beat { hears: 0, joiners: Vec::new(), wedged: None };
        };
        let joiners = seat.joiners.values().map(|joiner| joiner.life).collect();
        let wedged = seat.is_wedged().then(|| seat.promised.unwrap_or_default());
        Body::Beat { hears: self.hears(), joiners, wedged }
    }

    /// Tells all members who is heard here, and whether this member is wedged.
    pub(super) fn beat(&mut self, cx: &mut Cx<'_>) {
        let hears = self.hears();
        let message = self.message(self.beat_body());
        if let Some(seat) = self.seat_mut() {
            seat.hears[seat.me] = Some(hears);
            cx.send_many(&seat.peers, message);
        }
        self.seek(cx);
    }

    /// A member without a quorum may have missed that the group went on without it, and those who
    /// could say so may have left since: it tells everybody it hears which view it is in (V10).
    fn seek(&self, cx: &mut Cx<'_>) {
        let Some(seat) = self.seat().filter(|seat| !seat.quorum) else { return };
        let others = self.hearing.trusted().filter(|peer| !seat.peers.contains(peer));
        let others: Vec<NodeId> = others.collect();
        if !others.is_empty() && !cx.has(Bug::SeeksMembersOnly) {
            cx.send_many(&others.into(), self.message(self.beat_body()));
        }
    }

    /// Tells one alone what a beat says.
    pub(super) fn beat_to(&self, peer: NodeId, cx: &mut Cx<'_>) {
        cx.send(peer, self.message(self.beat_body()));
    }

    pub(super) fn on_beat(
        &mut self,
        from: usize,
        hears: u64,
        joiners: Vec<Life>,
        wedged: Option<Ballot>,
        cx: &mut Cx<'_>,
    ) {
        let Some(seat) = self.seat_mut() else { return };
        let peer = seat.id(from);
        let is_first = seat.hears[from].replace(hears).is_none();
        seat.absent &= !(1 << from);
        seat.hears_joiners[from] = joiners;
        if let Some(ballot) = wedged {
            seat.wedged_elsewhere = true;
            seat.largest = seat.largest.max(ballot);
        }
        if is_first && !cx.has(Bug::FirstBeatUnanswered) {
            // It has installed the view just now: it cannot have heard the beats in it before, and
            // takes for absent whoever says nothing.
            self.beat_to(peer, cx);
        }
        self.consider(cx);
    }

    // ---- What follows ----

    /// The members that go on: as many as possible such that all hear each other; who is left out
    /// is whom the most do not hear, and of equals the last.
    pub(super) fn keep(&self) -> u64 {
        let Some(seat) = self.seat() else { return 0 };
        let n = seat.view().len();
        let all = u64::MAX >> (64 - n);
        let heard = self.hears();
        let said = |p: usize| seat.hears[p].unwrap_or(all) | 1 << p;
        let hearers = (0..n).filter(|p| heard >> p & 1 == 1 && *p != seat.me);
        let witnessed = hearers.fold(heard, |known, p| known | seat.hears[p].unwrap_or(0));
        // Of whom nobody here hears anything, it does not count whom it heard once.
        let row = |p: usize| match p {
            _ if p == seat.me => heard,
            _ if witnessed >> p & 1 == 1 => said(p),
            _ => 1 << p,
        };
        let rows: Vec<u64> = (0..n).map(row).collect();
        let mut keep = all;
        loop {
            let conflicts = |a: &usize| {
                let apart = |b: &usize| rows[*a] >> b & 1 == 0 || rows[*b] >> a & 1 == 0;
                (0..n).filter(|b| keep >> b & 1 == 1).filter(apart).count()
            };
            let members = (0..n).filter(|p| keep >> p & 1 == 1);
            let Some(worst) = members.max_by_key(|p| (conflicts(p), *p)) else { return keep };
            if conflicts(&worst) == 0 {
                return keep;
            }
            keep &= !(1 << worst);
        }
    }

    /// Whether this member and a quorum hear each other.
    fn has_quorum(&self) -> bool {
        let Some(seat) = self.seat() else { return false };
        let hears_me = |p: &usize| seat.hears[*p].is_none_or(|hears| hears >> seat.me & 1 == 1);
        let heard = self.hears();
        let mutual = (0..seat.view().len()).filter(|p| heard >> p & 1 == 1).filter(hears_me);
        seat.view().is_quorum(mutual.map(|p| 1 << p).sum::<u64>() | 1 << seat.me)
    }

    fn note_quorum(&mut self, cx: &mut Cx<'_>) {
        let regained = self.has_quorum();
        if let Some(seat) = self.seat_mut()
            && seat.quorum != regained
        {
            seat.quorum = regained;
            cx.emit(Event::Quorum { regained });
        }
    }

    /// Whether the view must end: somebody is wedged in it, is not heard, leaves or joins.
    fn needs_change(&self, seat: &Seat, keep: u64) -> bool {
        let all = u64::MAX >> (64 - seat.view().len());
        seat.is_wedged()
            || seat.wedged_elsewhere
            || keep != all
            || seat.leavers != 0
            || !self.admissible(keep).is_empty()
    }

    /// Something has changed: begins or goes on with an attempt to end the view, if there is need
    /// and it is this member's turn.
    pub(super) fn consider(&mut self, cx: &mut Cx<'_>) {
        self.note_quorum(cx);
        let Some(seat) = self.seat() else { return };
        if matches!(seat.gathering, Some(Gathering::Install(_))) {
            return;
        }
        if seat.attempt.is_some() {
            return self.check_promises(cx);
        }
        let keep = self.keep();
        let able = keep >> seat.me & 1 == 1 && seat.view().is_quorum(keep);
        if !able || !self.needs_change(seat, keep) || cx.has(Bug::NobodyDrives) && seat.is_wedged()
        {
            if let Some(seat) = self.seat_mut() {
                seat.turn = None;
            }
            return;
        }
        // The first at once, unless another is at it; the i-th after i times the patience.
        let rank = (keep & ((1 << seat.me) - 1)).count_ones();
        let owner = usize::from(seat.largest.by);
        let rival = seat.largest.round > 0 && owner != seat.me && keep >> owner & 1 == 1;
        if rank == 0 && !rival && seat.failures == 0 {
            return self.start(cx);
        }
        if seat.turn.is_none() {
            let span = self.config.patience * rank.max(1) * (1 << seat.failures.min(DOUBLINGS_MAX));
            let jitter = cx.random_below(self.config.patience.as_nanos() as u64 / 2 + 1);
            let span = span + Duration::from_nanos(jitter);
            cx.set_timer(Timer::Patience, span);
            if let Some(seat) = self.seat_mut() {
                seat.turn = Some(cx.now() + span);
            }
        }
    }

    pub(super) fn on_patience(&mut self, cx: &mut Cx<'_>) {
        if self.leaves() && self.seat().is_none_or(|seat| seat.view().len() == 1) {
            return self.part(cx);
        }
        let Some(seat) = self.seat_mut() else { return };
        if let Some(attempt) = &mut seat.attempt {
            if attempt.is_gathering() {
                // Who has what it lacks is gone: a new ballot asks those who are there.
                return self.give_up_attempt(cx);
            }
            attempt.impatient = true;
            return self.check_promises(cx);
        }
        if seat.turn.take_if(|turn| *turn <= cx.now()).is_none() {
            return;
        }
        let keep = self.keep();
        let Some(seat) = self.seat() else { return };
        let able = keep >> seat.me & 1 == 1 && seat.view().is_quorum(keep);
        let installs = matches!(seat.gathering, Some(Gathering::Install(_)));
        if able && self.needs_change(seat, keep) && !installs {
            self.start(cx);
        }
    }
}
