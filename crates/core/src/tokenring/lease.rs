//! The lease (§4 of the rules): until when the word of a quorum lets this member grant.
//!
//! Members exchange readings of their own clocks. Who has its own reading back from a quorum knows
//! that each of these was not wedged when that reading was made; so no view that does without this
//! member can have begun before. Only readings of one and the same clock are ever compared, and a
//! message that waits for long in some buffer brings back an old reading (H5).

use super::{Body, Timer, TokenRing, machine::Ring};
use crate::{planted::Bug, protocol::Context, time::Time, view::View};
use alloc::{vec, vec::Vec};
use core::time::Duration;

/// Clocks run at most this much too fast or too slow, in percent.
const DRIFT: u64 = 1;

/// The smallest step of a clock reading.
const TICK: Duration = Duration::from_nanos(1);

/// How long a lease may be valid by the clock of its holder, on any other clock:
/// ⌈L(1 + r) / (1 − r)⌉ and a tick.
pub(super) fn drifted(lease: Duration) -> Duration {
    let nanos = u64::try_from(lease.as_nanos()).unwrap_or(u64::MAX);
    let longest = (u128::from(nanos) * u128::from(100 + DRIFT)).div_ceil(u128::from(100 - DRIFT));
    Duration::from_nanos(u64::try_from(longest).unwrap_or(u64::MAX)) + TICK
}

/// What one member has heard of the clocks of a view.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lease {
    /// The L of the view.
    length: Duration,
    /// Whether this member is a quorum of the view without any other.
    alone: bool,
    /// The larger of the deadline at the installation and the one that the others' echoes give.
    deadline: Time,
    /// The instant of the own promise: the own vote stays there (H6).
    vote: Option<Time>,
    /// Per position: the newest own reading that has come back.
    echoed: Vec<Time>,
    /// Per position: the newest reading that has come from there.
    heard: Vec<u64>,
}

impl Lease {
    /// Installing gives no lease by itself: what was kept is what there is.
    pub(super) fn new(view: &View, me: usize, kept: Time) -> Self {
        Self {
            length: view.lease,
            alone: view.is_quorum(1 << me),
            deadline: kept,
            vote: None,
            echoed: vec![Time::ZERO; view.len()],
            heard: vec![0; view.len()],
        }
    }

    /// Grants are valid before this instant (§4, rule 2).
    pub(super) fn deadline(&self, now: Time) -> Time {
        if self.alone {
            // T is the own vote; else it is an echo, which cannot be later than that.
            return self.deadline.max(self.vote.unwrap_or(now) + self.length);
        }
        self.deadline
    }

    /// When it ends, unless it is renewed: none if this member renews it itself, for ever.
    pub(super) fn ends(&self) -> Option<Time> {
        let forever = self.alone && self.vote.is_none();
        (!forever).then(|| self.deadline(Time::ZERO))
    }

    /// The member at `from` had this own reading, before its promise.
    fn count(&mut self, from: usize, echo: Time, view: &View, me: usize) {
        self.echoed[from] = self.echoed[from].max(echo);
        if let Some(newest) = self.newest_of_quorum(view, me) {
            self.deadline = self.deadline.max(newest + self.length);
        }
    }

    /// The newest reading that a quorum has had, the own vote aside: no echo is later than that.
    fn newest_of_quorum(&self, view: &View, me: usize) -> Option<Time> {
        let is_enough = |since: Time| {
            let had = |p: &usize| *p != me && self.echoed[*p] >= since;
            let quorum = (0..view.len()).filter(had).fold(1 << me, |all, p| all | 1 << p);
            view.is_quorum(quorum)
        };
        let echoed = self.echoed.iter().copied().filter(|echo| *echo > Time::ZERO);
        echoed.filter(|echo| is_enough(*echo)).max()
    }

    /// Whether an echo is wanted at once: less than half of the lease is left.
    fn is_short(&self, now: Time) -> bool {
        !self.alone && self.deadline <= now + self.length / 2
    }

    /// Whether this peer has not yet echoed anything in this view.
    fn is_deaf(&self, peer: usize) -> bool {
        !self.alone && self.echoed[peer] == Time::ZERO
    }
}

impl TokenRing {
    /// Until when guards of this node are valid: one is if it is among [`TokenRing::guards`] and
    /// `now` is before this. To be asked again after every wait, and before a guard is handed on.
    pub fn lease_until(&self, now: Time) -> Time {
        self.ring.as_ref().map_or(Time::ZERO, |ring| ring.lease.deadline(now))
    }

    /// Whether the lease is running.
    pub(super) fn has_lease(&self, now: Time) -> bool {
        self.ring.as_ref().is_some_and(|ring| now < ring.lease.deadline(now))
    }

    /// A heartbeat: stamps go with it.
    pub(super) fn on_beat(&mut self, cx: &mut Context<'_, Self>) {
        let Some(ring) = self.ring.as_ref().filter(|ring| ring.echoes(cx)) else { return };
        let answer = ring.lease.is_short(cx.now());
        for position in &ring.order {
            ring.send_stamp(*position, answer, cx);
        }
    }

    pub(super) fn on_stamp(
        &mut self,
        from: usize,
        (stamp, echo): (u64, u64),
        answer: bool,
        cx: &mut Context<'_, Self>,
    ) {
        let now = cx.now();
        if Time::from_nanos(echo) > now {
            // Of no clock that this life has read.
            return self.ignore();
        }
        // First, for what has ended does not begin again (H7).
        self.latch(cx);
        let had = self.has_lease(now);
        let ring = self.ring.as_mut().expect("messages are of a view");
        if echo > 0 {
            let echo = if cx.has(Bug::LeaseByReceipt) { now } else { Time::from_nanos(echo) };
            ring.lease.count(from, echo, &ring.view, ring.me);
        }
        if ring.echoes(cx) {
            let heard = &mut ring.lease.heard[from];
            let is_new = *heard == 0;
            *heard = stamp.max(*heard);
            if answer {
                // Who had not installed the view has missed what was said at the installation.
                ring.send_stamp(from, ring.lease.is_deaf(from), cx);
            }
            if is_new {
                self.say_again(from, cx);
            }
        }
        if !had && self.has_lease(now) {
            self.serve_blocked(cx);
        }
    }

    /// The lease ends now, if it was not renewed.
    pub(super) fn on_lease(&mut self, cx: &mut Context<'_, Self>) {
        self.lease_timer = None;
        self.latch(cx);
        self.watch_guards(cx);
    }

    /// There is a guard: its end is noticed. One timer for as long as there is one, not per grant.
    pub(super) fn watch_lease(&mut self, cx: &mut Context<'_, Self>) {
        let Some(ring) = self.ring.as_ref().filter(|_| self.lease_timer.is_none()) else { return };
        if let Some(end) = ring.lease.ends().filter(|end| *end > cx.now()) {
            self.lease_timer = Some(end);
            cx.set_timer(Timer::Lease, end.since(cx.now()));
        }
    }

    /// The same if there is one.
    pub(super) fn watch_guards(&mut self, cx: &mut Context<'_, Self>) {
        if self.guards().next().is_some() {
            self.watch_lease(cx);
        }
    }
}

impl Ring {
    /// Nobody echoes after its own promise (H6).
    fn echoes(&self, cx: &Context<'_, TokenRing>) -> bool {
        !self.is_wedged() || cx.has(Bug::EchoesWedged)
    }

    /// The own vote stays where it is at the own promise (H6).
    pub(super) fn freeze_vote(&mut self, cx: &Context<'_, TokenRing>) {
        if !cx.has(Bug::VotesWedged) {
            self.lease.vote = Some(cx.now());
        }
    }

    /// The link is up again: whatever was said before may have been lost.
    pub(super) fn greet(&self, peer: usize, cx: &mut Context<'_, TokenRing>) {
        if self.lease.is_short(cx.now()) || self.lease.is_deaf(peer) {
            self.send_stamp(peer, true, cx);
        }
    }

    pub(super) fn send_stamp(&self, to: usize, answer: bool, cx: &mut Context<'_, TokenRing>) {
        let (stamp, echo) = (cx.now().as_nanos(), self.lease.heard[to]);
        self.send(to, Body::Stamp { stamp, echo, answer }, cx);
    }
}
