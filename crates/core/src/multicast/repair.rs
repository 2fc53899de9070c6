//! What makes up for lost messages: heartbeats, repetitions, questions and answers. None of it is
//! needed for safety, and all of it falls silent once nothing is unstable.

use super::{
    Body, Cx, Timer,
    group::{Group, bit},
    stream::Stream,
    window::pieces,
};
use crate::{id::NodeId, time::Time};
use alloc::{vec, vec::Vec};

/// How many messages, and how many bytes, are sent again at once to one member.
const RESEND_MESSAGES_MAX: usize = 64;
const RESEND_BYTES_MAX: usize = 256 << 10;

/// How often the wait for an acknowledgement doubles while there is no progress.
const DOUBLINGS_MAX: u32 = 4;

/// When to send again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Repair {
    peers: Vec<Patience>,
    /// When the clock was last sent to all.
    pub(super) told: Time,
    pub(super) resent: u64,
    pub(super) heartbeat_armed: bool,
    pub(super) want_armed: bool,
}

/// How long a member has for its next acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Patience {
    until: Time,
    doublings: u32,
}

impl Repair {
    pub(super) fn new(members: usize, now: Time) -> Self {
        Self {
            peers: vec![Patience { until: now, doublings: 0 }; members],
            told: now,
            resent: 0,
            heartbeat_armed: false,
            want_armed: false,
        }
    }

    /// `member` has acknowledged something: it has until then for more.
    pub(super) fn put_off(&mut self, member: usize, until: Time) {
        self.peers[member] = Patience { until, doublings: 0 };
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
            let (first, last) = (self.receipts.of(member, self.me) + 1, self.window.last());
            self.resend(member, first, last, None, cx);
            self.repair.put_off(member, cx.now() + self.config.repeat);
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
        self.resend(from, first, to, None, cx);
        self.owe_reply(from, cx);
        true
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
        let last = self.window.last();
        if self.has_left(member) || first > last || now < self.repair.peers[member].until {
            return;
        }
        if self.resend(member, first, last, Some(now), cx) {
            let patience = &mut self.repair.peers[member];
            patience.until = now + repeat * (1 << patience.doublings);
            patience.doublings = DOUBLINGS_MAX.min(patience.doublings + 1);
        }
    }

    /// Sends own messages again to one member, the oldest first and boundedly many; with `overdue`,
    /// only those that were first sent `repeat` before that. True if there were any.
    fn resend(
        &mut self,
        member: usize,
        first: u64,
        last: u64,
        overdue: Option<Time>,
        cx: &mut Cx<'_>,
    ) -> bool {
        let mut bytes = 0;
        let mut messages = 0;
        for (sequence, own) in self.window.range(first, last).take(RESEND_MESSAGES_MAX) {
            let young = overdue.is_some_and(|now| now.since(own.sent) < self.config.repeat);
            // One message may always go, whatever its size.
            if young || (messages > 0 && bytes + own.payload.len() > RESEND_BYTES_MAX) {
                break;
            }
            bytes += own.payload.len();
            messages += 1;
            for piece in pieces(sequence, own.time, &own.payload, self.config.fragment_bytes) {
                cx.send(self.members[member], self.message(piece));
            }
        }
        self.repair.resent += messages;
        messages > 0
    }

    fn ask(&mut self, member: usize, tail: bool, cx: &mut Cx<'_>) {
        for (from, to) in self.streams[member].holes(tail) {
            cx.send(self.members[member], self.message(Body::Want { from, to }));
        }
    }

    /// The frame that the head waits for may be lost, and its sender may have no reason to repeat
    /// it (T2: idle frames create no debt): asks with an empty range, which is answered by a clock.
    fn ask_for_clocks(&mut self, cx: &mut Cx<'_>) {
        let waited = self.waiting_since().map(|since| cx.now().since(since));
        let Some((sequence, time, sender)) = self.head() else { return };
        if self.is_paused() || waited.is_none_or(|waited| waited < self.config.heartbeat) {
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
