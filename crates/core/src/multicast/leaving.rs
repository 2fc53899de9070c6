//! Leaving the order while the view stays as it is.

use super::{
    Body, Cx, Event, Refusal, Timer,
    group::{Group, bit},
};
use crate::{id::NodeId, planted::Bug};
use alloc::sync::Arc;

/// How often a leaver tells who does not answer, once somebody who stays knows and passes it on:
/// whoever was gone before it could say so does not hold the leaver up for ever.
const ANNOUNCEMENTS_MAX: u32 = 20;

/// How far this member is with leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// It has no such intention.
    Member,
    /// It sends nothing new and waits until everyone has what it sent.
    Leaving,
    /// It is frozen: what it sent and received is final, and it tells everyone.
    Announcing,
    /// Everyone knows.
    Left,
}

impl Phase {
    /// Whether messages are received and delivered.
    pub(super) fn takes_part(self) -> bool {
        matches!(self, Self::Member | Self::Leaving)
    }
}

impl Group {
    pub(super) fn on_leave(&mut self) {
        if self.phase == Phase::Member {
            self.phase = Phase::Leaving;
        }
    }

    /// Whether `member` is known to have left.
    pub(super) fn has_left(&self, member: usize) -> bool {
        member != self.me && self.departures[member].is_some()
    }

    /// Takes the next steps of leaving that are possible.
    pub(super) fn advance_leave(&mut self, cx: &mut Cx<'_>) {
        if self.phase == Phase::Leaving && (self.may_announce() || cx.has(Bug::LeavesEarly)) {
            self.phase = Phase::Announcing;
            self.freeze();
            if let Some(ticket) = self.window.discard_parked() {
                cx.emit(Event::Refused { ticket, reason: Refusal::Leaving });
            }
            self.departures[self.me] = Some(bit(self.me));
            self.tell_departure(self.me, u64::MAX, cx);
        }
        if self.phase == Phase::Announcing && self.has_told() {
            self.phase = Phase::Left;
            for timer in [Timer::Flush, Timer::Heartbeat, Timer::Want] {
                cx.cancel_timer(timer);
            }
            cx.emit(Event::LeaveDone);
        }
    }

    /// Whether a leaver may go: everyone knows of every leave that it knows of, its own and those
    /// of others, who may have gone because it knows; or, after many words, one who stays does.
    /// (One for all of them: so whoever goes leaves a witness who knows that it is gone, and two
    /// that leave together cannot each take the other for it.)
    fn has_told(&self) -> bool {
        let knows = |member: usize| {
            let mut departures = self.departures.iter().flatten();
            departures.all(|informed| informed & bit(member) != 0)
        };
        let patient = self.announcements < ANNOUNCEMENTS_MAX;
        !self.has_news_of_departures() || (!patient && self.present().any(knows))
    }

    pub(super) fn on_left(
        &mut self,
        from: usize,
        member: usize,
        last: u64,
        received: &[u64],
        cx: &mut Cx<'_>,
    ) -> bool {
        if member >= self.members.len() || member == self.me {
            return false;
        }
        if self.departures[member].is_none() {
            // Who is frozen itself needs to know no more than that.
            if self.phase.takes_part() && !self.on_last_words(member, last, received, cx) {
                return false;
            }
            self.departures[member] = Some(bit(self.me) | bit(member));
            self.audience = self.present().map(|position| self.members[position]).collect();
            cx.emit(Event::MemberLeft(self.members[member]));
        }
        self.note_informed(member, from);
        let body = Body::LeftAck { member: member as u16 };
        cx.send(self.members[from], self.message(body));
        true
    }

    pub(super) fn on_left_ack(&mut self, from: usize, member: usize) -> bool {
        if member >= self.members.len() || self.departures[member].is_none() {
            return false;
        }
        self.note_informed(member, from);
        true
    }

    /// Tells what is known about who has left to those of `whom` that may not know it.
    pub(super) fn tell_departures(&self, whom: u64, cx: &mut Cx<'_>) {
        if self.phase != Phase::Left {
            for member in 0..self.members.len() {
                self.tell_departure(member, whom, cx);
            }
        }
    }

    /// The heartbeat: repeats it until it is acknowledged.
    pub(super) fn repeat_departures(&mut self, cx: &mut Cx<'_>) {
        if self.phase == Phase::Announcing {
            self.announcements = ANNOUNCEMENTS_MAX.min(self.announcements + 1);
        }
        self.tell_departures(u64::MAX, cx);
    }

    /// Whether somebody may not know that somebody has left.
    pub(super) fn has_news_of_departures(&self) -> bool {
        self.phase != Phase::Left
            && (0..self.members.len()).any(|member| self.uninformed(member) != 0)
    }

    fn tell_departure(&self, member: usize, whom: u64, cx: &mut Cx<'_>) {
        let whom = self.uninformed(member) & whom;
        if whom == 0 {
            return;
        }
        let received = self.receipts.row(member);
        let body = Body::Left { member: member as u16, last: received[member], received };
        let peers = (0..self.members.len()).filter(|position| whom & bit(*position) != 0);
        let peers: Arc<[NodeId]> = peers.map(|position| self.members[position]).collect();
        cx.send_many(&peers, self.message(body));
    }

    /// The present members that are not known to know that `member` has left.
    fn uninformed(&self, member: usize) -> u64 {
        let Some(informed) = self.departures[member] else { return 0 };
        self.present().map(bit).sum::<u64>() & !informed
    }

    /// The members that have not left, without this one.
    fn present(&self) -> impl Iterator<Item = usize> {
        (0..self.members.len()).filter(|member| *member != self.me && !self.has_left(*member))
    }

    fn note_informed(&mut self, member: usize, peer: usize) {
        if let Some(informed) = &mut self.departures[member] {
            *informed |= bit(peer);
        }
    }

    /// Takes what is final about a member that has left.
    fn on_last_words(
        &mut self,
        member: usize,
        last: u64,
        received: &[u64],
        cx: &mut Cx<'_>,
    ) -> bool {
        if !self.is_possible(received) || !self.streams[member].close(last) {
            return false;
        }
        // Its receipts go on to count (T3); it just gives no new ones.
        self.receipts.raise(member, member, last);
        self.merge(member, received, cx);
        true
    }

    /// Whether everyone present has what this member sent, and it has its place in the order (or
    /// can have none any more).
    fn may_announce(&self) -> bool {
        self.window.is_empty() || (self.stable() == self.window.last() && self.is_hopeless())
    }

    /// Whether the head can never be delivered: too many have left without it (T3).
    fn is_hopeless(&self) -> bool {
        self.head().is_some_and(|(sequence, _, sender)| {
            let able = |member: &usize| {
                !self.has_left(*member) || self.receipts.of(*member, sender) >= sequence
            };
            (0..self.members.len()).filter(able).count() < self.majority
        })
    }
}
