//! Learning the order from those who have it, by who was not there.

use super::{
    Body, Cx, Delivery, Event, Message, Timer,
    log::Log,
    repair::{PART_BYTES_MAX, PART_MESSAGES_MAX},
};
use crate::{id::NodeId, planted::Bug, time::Time};
use alloc::vec::Vec;

/// Who is so near the end of the order may ask to be taken in.
const NEAR: u64 = 1024;

/// How a node that lacks a part of the order gets on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Learning {
    teachers: Vec<NodeId>,
    /// Which of them is asked: an index.
    turn: usize,
    /// The base of the view that it is a member of, if it is: nothing beyond is taken.
    base: Option<u64>,
    said: bool,
    /// How many teachers in a row were of no use,
    vain: usize,
    /// and the first position that any of them keeps.
    first: Option<u64>,
    /// The application does not read, or the disk is slow.
    held: bool,
    /// Something new has come since the timer was set.
    progress: bool,
    since: Time,
}

/// What a teacher has said.
#[derive(Debug)]
pub(super) struct Lesson {
    pub(super) asked: u64,
    pub(super) deliveries: Vec<Delivery>,
    pub(super) position: u64,
}

impl Learning {
    /// Learns from `teachers`, up to a base if this node is a member.
    pub(super) fn new(teachers: Vec<NodeId>, base: Option<u64>, now: Time) -> Self {
        Self {
            teachers,
            turn: 0,
            base,
            said: base.is_some(),
            vain: 0,
            first: None,
            held: false,
            progress: false,
            since: now,
        }
    }

    /// The base up to which is learned.
    pub(super) fn base(&self) -> Option<u64> {
        self.base
    }

    /// Whom it waits for, and since when.
    pub(super) fn waits_for(&self) -> Option<(NodeId, Time)> {
        Some((*self.teachers.get(self.turn)?, self.since))
    }

    /// Since when it waits.
    pub(super) fn since(&self) -> Time {
        self.since
    }

    /// Whether this node needs it for what comes next, not only to stay near the end.
    pub(super) fn is_needed(&self) -> bool {
        self.base.is_some() || !self.said
    }

    /// Begins, or begins anew.
    pub(super) fn begin(&mut self, log: &Log, cx: &mut Cx<'_>) {
        cx.set_timer(Timer::Learn, log.config.repeat);
        self.ask(log, cx);
    }

    /// The application has read, or more is on disk.
    pub(super) fn go_on(&mut self, log: &Log, cx: &mut Cx<'_>) {
        if self.held && !is_held(log) && !self.is_complete(log) {
            self.ask(log, cx);
        }
    }

    /// Whoever was asked has not answered, or has nothing more by now: asks the next one.
    pub(super) fn on_timer(&mut self, log: &mut Log, cx: &mut Cx<'_>) {
        cx.set_timer(Timer::Learn, log.config.repeat);
        if !core::mem::take(&mut self.progress) && !self.held {
            self.turn_to_next();
            self.conclude(log, cx);
        }
        self.ask(log, cx);
    }

    /// What a teacher has said. False if nobody sensible says it.
    pub(super) fn on_lesson(
        &mut self,
        from: NodeId,
        Lesson { asked, deliveries, position }: Lesson,
        log: &mut Log,
        cx: &mut Cx<'_>,
    ) -> bool {
        if !self.teachers.contains(&from) {
            return true; // It was asked before, and is not reached any more.
        }
        // Where what it keeps begins; if nothing is kept, at what it delivers next.
        let first = deliveries.first().map_or(position.saturating_add(1), |first| first.position);
        if first > log.position + 1 {
            if self.teachers[self.turn] != from || asked != log.position + 1 {
                return true; // That it keeps too little is counted, or an earlier life has asked.
            }
            self.first = Some(self.first.map_or(first, |least| least.min(first)));
            self.turn_to_next();
            self.conclude(log, cx);
            if self.is_complete(log) {
                return true;
            }
            if first > log.position + 1 {
                self.ask(log, cx);
                return true;
            }
        }
        let before = log.position;
        self.take(deliveries, log, cx);
        if log.position > before {
            (self.progress, self.vain, self.first) = (true, 0, None);
        }
        if !self.said && position <= log.position + NEAR {
            self.said = true;
            cx.emit(Event::Learned);
        }
        if log.position > before && position > log.position && !self.is_complete(log) {
            self.ask(log, cx);
        }
        true
    }

    /// Takes what comes next, without gaps, and nothing beyond the base: that is of the view, where
    /// it will be received and counted.
    fn take(&self, deliveries: Vec<Delivery>, log: &mut Log, cx: &mut Cx<'_>) {
        for delivery in deliveries {
            if self.is_complete(log) && !cx.has(Bug::LearnsBeyondBase) {
                return;
            }
            if log.is_paused() {
                return; // The application has not read so much: the rest is asked for again.
            }
            if delivery.position == log.position + 1 {
                log.learn(delivery, cx);
            }
        }
    }

    /// Whether all that is to be learned is here.
    pub(super) fn is_complete(&self, log: &Log) -> bool {
        self.base.is_some_and(|base| log.position >= base)
    }

    fn turn_to_next(&mut self) {
        self.turn = (self.turn + 1) % self.teachers.len().max(1);
        self.vain += 1;
    }

    /// If no teacher keeps what comes next, goes on where the first of them begins.
    fn conclude(&mut self, log: &mut Log, cx: &mut Cx<'_>) {
        if self.vain < self.teachers.len() {
            return;
        }
        self.vain = 0;
        let Some(first) = self.first.take().filter(|first| *first > log.position + 1) else {
            return;
        };
        log.miss(self.base.map_or(first, |base| first.min(base + 1)), cx);
        self.progress = true;
    }

    fn ask(&mut self, log: &Log, cx: &mut Cx<'_>) {
        self.held = is_held(log);
        let Some(teacher) = self.teachers.get(self.turn).filter(|_| !self.held) else { return };
        self.since = cx.now();
        let body = Body::Learn { from: log.position + 1 };
        cx.send(*teacher, Message { view: 0, body });
    }
}

/// Whether there is no place for more: in memory, or on the way to the disk.
fn is_held(log: &Log) -> bool {
    log.is_paused() || log.is_behind_disk()
}

impl Log {
    /// Tells what is kept from there on, as far as one frame may go. Who was never a member has
    /// nothing to tell.
    pub(super) fn on_learn(&self, from: NodeId, first: u64, cx: &mut Cx<'_>) -> bool {
        if first == 0 || (self.incarnation == 0 && self.position == 0) {
            return first != 0;
        }
        let mut bytes = 0;
        let fits = |delivery: &&Delivery| {
            // One message may always go, whatever its size.
            let fits = bytes == 0 || bytes + delivery.payload.len() <= PART_BYTES_MAX;
            bytes += delivery.payload.len();
            fits
        };
        let kept = self.history.since(first).take(PART_MESSAGES_MAX).take_while(fits);
        let deliveries = kept.cloned().collect();
        let body = Body::Lesson { from: first, deliveries, position: self.position };
        cx.send(from, Message { view: 0, body });
        true
    }
}
