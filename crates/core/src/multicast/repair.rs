//! What makes up for lost messages: heartbeats, repetitions, questions and answers. None of it is
//! needed for safety, and all of it falls silent once nothing is unstable.

use super::{
    Body, Cx, Timer,
    group::{Group, bit},
    stream::Stream,
    window::pieces,
};
use crate::{id::NodeId, planted::Bug, tally::Tally, time::Time};
use alloc::{vec, vec::Vec};

/// How many messages, and how many bytes, are sent again at once to one member.
const RESEND_MESSAGES_MAX: usize = 256;
const RESEND_BYTES_MAX: usize = 256 << 10;

/// How often the wait for an acknowledgement doubles while there is no progress.
const DOUBLINGS_MAX: u32 = 4;

/// When to send again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Repair {
    peers: Vec<Progress>,
    /// When the clock was last sent to all.
    pub(super) told: Time,
    pub(super) resent: Tally,
    pub(super) heartbeat_armed: bool,
    pub(super) want_armed: bool,
}

/// How a member gets on with the own messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Progress {
    /// How long it has for its next acknowledgement.
    until: Time,
    /// How often that was in vain.
    doublings: u32,
    /// What is sent to it again as soon as it has acknowledged everything before: from here
    next: u64,
    /// to there, both included.
    target: u64,
}

impl Repair {
    pub(super) fn new(members: usize, now: Time) -> Self {
        Self {
            peers: vec![Progress { until: now, doublings: 0, next: 1, target: 0 }; members],
            told: now,
            resent: Tally::default(),
            heartbeat_armed: false,
            want_armed: false,
        }
    }
}

impl Group {
    pub(super) fn arm_heartbeat(&mut self, cx: &mut Cx<'_>) {
        if !self.repair.heartbeat_armed && self.is_unsettled() {
            self.repair.heartbeat_armed = true;
            cx.set_timer(Timer::Heartbeat, self.config.heartbeat);
        }
    }

    /// Something is missing: if it is still missing after a while, this node asks for it.
    pub(super) fn expect_more(&mut self, cx: &mut Cx<'_>) {
        if !self.repair.want_armed {
            self.repair.want_armed = true;
            for stream in &mut self.streams {
                stream.begin_interval();
            }
            cx.set_timer(Timer::Want, self.config.repeat);
        }
    }

    pub(super) fn on_heartbeat(&mut self, cx: &mut Cx<'_>) {
        self.repair.heartbeat_armed = false;
        if self.phase.takes_part() && self.is_unsettled() {
            if cx.now().since(self.repair.told) >= self.config.heartbeat {
                self.advertise();
                self.tell_all(cx);
            }
            for member in 0..self.members.len() {
                self.resend_overdue(member, cx);
            }
            self.ask_for_clocks(cx);
        }
        self.repeat_departures(cx);
    }

    pub(super) fn on_want_timer(&mut self, cx: &mut Cx<'_>) {
        self.repair.want_armed = false;
        if !self.phase.takes_part() || !self.streams.iter().any(Stream::has_gap) {
            return;
        }
        for member in 0..self.members.len() {
            let stalled = self.streams[member].begin_interval();
            self.ask(member, stalled, cx);
        }
        self.repair.want_armed = true;
        cx.set_timer(Timer::Want, self.config.repeat);
    }

    /// The batch boundary: asks for what something later has overtaken.
    pub(super) fn ask_for_holes(&mut self, cx: &mut Cx<'_>) {
        for member in 0..self.members.len() {
            if self.streams[member].has_hole() {
                self.expect_more(cx);
                self.ask(member, false, cx);
            }
        }
    }

    pub(super) fn on_link_up(&mut self, peer: NodeId, cx: &mut Cx<'_>) {
        let Some(member) = self.members.iter().position(|id| *id == peer) else { return };
        if member == self.me || self.has_left(member) {
            return;
        }
        if self.phase.takes_part() {
            // Whatever was under way is lost.
            let first = self.receipts.of(member, self.me) + 1;
            let progress = &mut self.repair.peers[member];
            (progress.next, progress.target) = (first, self.window.last());
            progress.doublings = 0;
            progress.until = cx.now() + self.config.repeat;
            self.resend_next(member, cx);
            cx.send(peer, self.message(self.clock_body()));
        }
        self.tell_departures(bit(member), cx);
    }

    pub(super) fn on_want(&mut self, from: usize, first: u64, to: u64, cx: &mut Cx<'_>) -> bool {
        if to > self.window.last() || first == 0 {
            return false;
        }
        if self.has_left(from) {
            return true;
        }
        let progress = &self.repair.peers[from];
        let busy = progress.next <= progress.target && cx.now() < progress.until;
        if !busy {
            let next = self.resend(from, first, to, cx);
            if next <= to {
                let progress = &mut self.repair.peers[from];
                (progress.next, progress.target) = (next, to);
            }
        } else if first >= progress.next {
            let progress = &mut self.repair.peers[from];
            progress.target = progress.target.max(to);
        }
        self.owe_reply(from, cx);
        true
    }

    /// A member has acknowledged own messages: it has time for more, and gets what is next.
    pub(super) fn on_acknowledged(&mut self, member: usize, cx: &mut Cx<'_>) {
        let progress = &mut self.repair.peers[member];
        progress.until = cx.now() + self.config.repeat;
        progress.doublings = 0;
        if progress.next <= progress.target
            && progress.next <= self.receipts.of(member, self.me) + 1
            && !self.has_left(member)
        {
            self.resend_next(member, cx);
        }
    }

    /// Whether anything is not as it will be in the end.
    fn is_unsettled(&self) -> bool {
        let open = self.undelivered > 0
            || !self.window.is_empty()
            || self.streams.iter().any(Stream::has_gap);
        (open && self.phase.takes_part()) || self.has_news_of_departures()
    }

    /// Sends again what `member` should have acknowledged long ago.
    fn resend_overdue(&mut self, member: usize, cx: &mut Cx<'_>) {
        let (now, repeat) = (cx.now(), self.config.repeat);
        let first = self.receipts.of(member, self.me) + 1;
        let progress = &self.repair.peers[member];
        let target = self.window.sent_until(now, repeat);
        if first > target || now < progress.until || self.has_left(member) {
            return;
        }
        let progress = &mut self.repair.peers[member];
        (progress.next, progress.target) = (first, target);
        progress.until = now + repeat * (1 << progress.doublings);
        progress.doublings = DOUBLINGS_MAX.min(progress.doublings + 1);
        if cx.has(Bug::ResendsAnew) {
            let payload =
                self.window.range(first, target).next().map(|(_, own)| own.payload.clone());
            if let Some(payload) = payload {
                return self.transmit(0, payload, cx);
            }
        }
        self.resend_next(member, cx);
    }

    /// Sends again the next part of what `member` is to get.
    fn resend_next(&mut self, member: usize, cx: &mut Cx<'_>) {
        let first = self.receipts.of(member, self.me) + 1;
        let progress = &self.repair.peers[member];
        let next = self.resend(member, progress.next.max(first), progress.target, cx);
        self.repair.peers[member].next = next;
    }

    /// Sends own messages again to one member, the oldest first and boundedly many. Returns the
    /// sequence after the last one.
    fn resend(&mut self, member: usize, first: u64, last: u64, cx: &mut Cx<'_>) -> u64 {
        let mut next = first;
        let mut bytes = 0;
        let most = if cx.has(Bug::NeverResends) { 0 } else { RESEND_MESSAGES_MAX };
        for (sequence, own) in self.window.range(first, last).take(most) {
            // One message may always go, whatever its size.
            if bytes > 0 && bytes + own.payload.len() > RESEND_BYTES_MAX {
                break;
            }
            bytes += own.payload.len();
            next = sequence + 1;
            self.repair.resent.add();
            for piece in pieces(sequence, own.time, &own.payload, self.config.fragment_bytes) {
                cx.send(self.members[member], self.message(piece));
            }
        }
        next
    }

    fn ask(&mut self, member: usize, tail: bool, cx: &mut Cx<'_>) {
        for (from, to) in self.streams[member].holes(tail) {
            cx.send(self.members[member], self.message(Body::Want { from, to }));
        }
    }

    /// The frame that the head waits for may be lost, and its sender may have no reason to repeat
    /// it (T2: idle frames create no debt): asks with an empty range, which is answered by a clock.
    fn ask_for_clocks(&mut self, cx: &mut Cx<'_>) {
        let Some((sequence, time, sender)) = self.head() else { return };
        if self.is_paused() || self.waited(cx.now()) < self.config.heartbeat {
            return;
        }
        let received = self.receipts.holders(sender, sequence) >= self.majority;
        for member in 0..self.members.len() {
            let lacks = self.receipts.of(member, sender) < sequence;
            if !self.has_left(member) && (self.lags(member, time) || (!received && lacks)) {
                let after = self.streams[member].received();
                let body = Body::Want { from: after + 1, to: after };
                cx.send(self.members[member], self.message(body));
            }
        }
    }
}
