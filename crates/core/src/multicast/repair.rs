//! What makes up for lost messages: heartbeats, repetitions, questions and answers. None of it is
//! needed for safety, and all of it falls silent once nothing is unstable.

use super::{Body, Cx, Timer, group::Group, patience::Patience, stream::Stream, window::pieces};
use crate::{id::NodeId, planted::Bug, time::Time};
use alloc::{vec, vec::Vec};
use core::time::Duration;

/// How many messages, and how many bytes, are sent again at once to one member.
pub(super) const PART_MESSAGES_MAX: usize = 256;
pub(super) const PART_BYTES_MAX: usize = 256 << 10;

/// When to send again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Repair {
    peers: Vec<Progress>,
    /// When the clock was last sent to all.
    pub(super) told: Time,
    pub(super) heartbeat_armed: bool,
    pub(super) want_armed: bool,
}

/// How a member gets on with the own messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Progress {
    /// How long it has for an acknowledgement,
    patience: Patience,
    /// and until when for the next one.
    until: Time,
    /// What is sent to it again as soon as it has acknowledged everything before: from here
    next: u64,
    /// to there, both included;
    target: u64,
    /// at most so many messages at once.
    part: usize,
    /// The acknowledgement of this message is the next that is measured.
    timed: u64,
}

impl Progress {
    /// It is to get these again, so many at once.
    fn plan(&mut self, next: u64, target: u64, part: usize) {
        (self.next, self.target, self.part) = (next, target, part);
    }

    /// Whether a part of what was surely lost is under way to it.
    fn is_busy(&self, now: Time) -> bool {
        self.part == PART_MESSAGES_MAX && self.next <= self.target && now < self.until
    }
}

impl Repair {
    pub(super) fn new(begins: &[u64], me: usize, repeat: Duration, now: Time) -> Self {
        let (patience, next) = (Patience::new(repeat), begins[me] + 1);
        let progress = Progress { patience, until: now, next, target: 0, part: 0, timed: next };
        Self {
            peers: vec![progress; begins.len()],
            told: now,
            heartbeat_armed: false,
            want_armed: false,
        }
    }
}

impl Group {
    pub(super) fn arm_heartbeat(&mut self, cx: &mut Cx<'_>) {
        if !self.repair.heartbeat_armed && self.is_unsettled() {
            self.repair.heartbeat_armed = true;
            cx.set_timer(Timer::Heartbeat, self.log.config.heartbeat);
        }
    }

    pub(super) fn on_heartbeat(&mut self, cx: &mut Cx<'_>) {
        self.repair.heartbeat_armed = false;
        if self.takes_part() && self.is_unsettled() {
            if cx.now().since(self.repair.told) >= self.log.config.heartbeat {
                self.advertise();
                self.tell_all(cx);
            }
            for member in 0..self.members.len() {
                self.resend_overdue(member, cx);
            }
            self.ask_for_clocks(cx);
        }
        self.release();
    }

    pub(super) fn on_want_timer(&mut self, cx: &mut Cx<'_>) {
        self.repair.want_armed = false;
        if self.takes_part() {
            self.ask_for_holes(cx);
        }
    }

    /// The batch boundary, and again after each interval: asks for what something later has
    /// overtaken.
    pub(super) fn ask_for_holes(&mut self, cx: &mut Cx<'_>) {
        for member in 0..self.members.len() {
            if self.streams[member].has_hole() {
                self.begin_interval(cx);
                for (from, to) in self.streams[member].holes() {
                    cx.send(self.members[member], self.message(Body::Want { from, to }));
                }
            }
        }
    }

    /// What is still missing after it may be asked for again.
    fn begin_interval(&mut self, cx: &mut Cx<'_>) {
        if !core::mem::replace(&mut self.repair.want_armed, true) {
            for stream in &mut self.streams {
                stream.begin_interval();
            }
            cx.set_timer(Timer::Want, self.log.config.repeat);
        }
    }

    pub(super) fn on_link_up(&mut self, peer: NodeId, cx: &mut Cx<'_>) {
        let Some(member) = self.members.iter().position(|id| *id == peer) else { return };
        if member == self.me {
            return;
        }
        if self.takes_part() {
            // Whatever was under way is lost.
            let first = self.receipts.of(member, self.me) + 1;
            let progress = &mut self.repair.peers[member];
            progress.plan(first, self.log.window.last(), PART_MESSAGES_MAX);
            progress.patience.regain();
            progress.until = cx.now() + progress.patience.span();
            self.resend_next(member, cx);
            cx.send(peer, self.message(self.clock_body()));
        }
    }

    pub(super) fn on_want(&mut self, from: usize, first: u64, to: u64, cx: &mut Cx<'_>) -> bool {
        if to > self.sent() || first == 0 {
            return false;
        }
        let progress = &mut self.repair.peers[from];
        if !progress.is_busy(cx.now()) {
            let next = self.resend(from, first, to, PART_MESSAGES_MAX, cx);
            if next <= to {
                self.repair.peers[from].plan(next, to, PART_MESSAGES_MAX);
            }
        } else if first >= progress.next {
            progress.target = progress.target.max(to);
        }
        self.owe_reply(from, cx);
        true
    }

    /// A member has acknowledged own messages: it has time for more.
    pub(super) fn on_acknowledged(&mut self, member: usize, cx: &mut Cx<'_>) {
        let received = self.receipts.of(member, self.me);
        let progress = &mut self.repair.peers[member];
        if received >= progress.timed {
            // What was sent again is not timed: which copy is acknowledged, nobody knows (Karn's
            // algorithm). Then one message at a time: the first that is sent from now on.
            if let Some(sent) = self.log.window.sent(received) {
                progress.patience.measure(sent, cx.now());
            }
            progress.timed = self.log.window.last() + 1;
        }
        progress.patience.regain();
        progress.until = cx.now() + progress.patience.span();
        if progress.next > progress.target {
            return;
        }
        if received >= progress.next {
            // More than was sent again: so it was not lost, but late, and so is the rest.
            progress.target = 0;
        } else if received + 1 == progress.next {
            progress.part = PART_MESSAGES_MAX.min(2 * progress.part);
            self.resend_next(member, cx);
        }
    }

    /// Whether anything is not as it will be in the end.
    fn is_unsettled(&self) -> bool {
        let open = self.undelivered > 0
            || !self.log.window.is_empty()
            || self.streams.iter().any(Stream::has_gap);
        open && self.takes_part()
    }

    /// Sends again the oldest of what `member` should have acknowledged long ago. Only one: if no
    /// message was lost, but an acknowledgement, or neither and all is just slow, one is enough to
    /// be told. The others follow once this one is what it lacked.
    fn resend_overdue(&mut self, member: usize, cx: &mut Cx<'_>) {
        let now = cx.now();
        let first = self.receipts.of(member, self.me) + 1;
        let sent = self.sent();
        let progress = &mut self.repair.peers[member];
        let target = self.log.window.sent_until(now, progress.patience.span()).min(sent);
        let over = cx.has(Bug::RepeatsOnce) && progress.next > first;
        if first > target || now < progress.until || over {
            return;
        }
        let progress = &mut self.repair.peers[member];
        progress.plan(first, target, 1);
        progress.until = now + progress.patience.span();
        progress.patience.lose();
        if cx.has(Bug::ResendsAnew) {
            let payload =
                self.log.window.range(first, target).next().map(|(_, own)| own.payload.clone());
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
        let (first, last, part) = (progress.next.max(first), progress.target, progress.part);
        let next = self.resend(member, first, last, part, cx);
        self.repair.peers[member].next = next;
    }

    /// Sends own messages again to one member, the oldest first and no more than a `part`. Returns
    /// the sequence after the last one.
    fn resend(
        &mut self,
        member: usize,
        first: u64,
        last: u64,
        part: usize,
        cx: &mut Cx<'_>,
    ) -> u64 {
        let mut next = first;
        let mut bytes = 0;
        let most = if cx.has(Bug::NeverResends) { 0 } else { part };
        for (sequence, own) in self.log.window.range(first, last.min(self.sent())).take(most) {
            // One message may always go, whatever its size.
            if bytes > 0 && bytes + own.payload.len() > PART_BYTES_MAX {
                break;
            }
            bytes += own.payload.len();
            next = sequence + 1;
            self.log.resent.add();
            for piece in pieces(sequence, own.time, &own.payload, self.log.config.fragment_bytes) {
                cx.send(self.members[member], self.message(piece.data()));
            }
        }
        let timed = &mut self.repair.peers[member].timed;
        *timed = next.max(*timed);
        next
    }

    /// The frame that the head waits for may be lost, and its sender may have no reason to repeat
    /// it (T2: idle frames create no debt): asks with an empty range, which is answered by a clock.
    fn ask_for_clocks(&mut self, cx: &mut Cx<'_>) {
        let Some((sequence, time, sender)) = self.head() else { return };
        if self.is_paused() || self.waited(cx.now()) < self.log.config.heartbeat {
            return;
        }
        let received = self.receipts.holders(sender, sequence) >= self.majority;
        for member in 0..self.members.len() {
            let lacks = self.receipts.of(member, sender) < sequence;
            if self.lags(member, time) || (!received && lacks) {
                let after = self.streams[member].received();
                let body = Body::Want { from: after + 1, to: after };
                cx.send(self.members[member], self.message(body));
            }
        }
    }
}
