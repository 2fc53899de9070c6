//! Writing ahead (T9): what is received is on disk before any frame acknowledges it, own messages
//! before they are sent, and the messages of a cut before it is accepted.
//!
//! The machine appends, and goes on; what waits for the disk does so until [`Input::Appended`]
//! tells how far it is. Without a log all of this is one question whether there is one.
//!
//! [`Input::Appended`]: crate::Input::Appended

use super::{Cut, Cx, Delivery, Line, LogEntry, group::Group, log::Log, stream::Stream};
use crate::{planted::Bug, view::View};
use alloc::{boxed::Box, collections::VecDeque, vec::Vec};

/// The most points of return that are kept in mind.
const ANCHORS_MAX: usize = 64;
/// So many entries may wait for the disk before more is learned.
const BACKLOG_MAX: u64 = 1024;
/// A mark is made after so many messages, at least and at most,
const MARK_MESSAGES_MIN: usize = 16;
const MARK_MESSAGES_MAX: usize = 1024;
/// or after so many bytes.
const MARK_BYTES: usize = 1 << 20;

/// What is known of the durable log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Journal {
    /// The number of the last entry,
    last: u64,
    /// and of the last that is durable.
    durable: u64,
    /// The last entry of what was learned.
    learned: u64,
    /// Messages of the view that are not durable, oldest first.
    pending: VecDeque<Pending>,
    /// The view, if this node is in one,
    view: Option<View>,
    /// and the entry that says that the last one began.
    began: Option<u64>,
    /// From where the log could be read again, oldest first. If they are too many, each second one
    /// goes: so they reach as far back as is kept.
    anchors: VecDeque<Anchor>,
    /// Without any of them: who has all entries after this has all.
    since: u64,
    /// Messages and bytes since the last of them.
    messages: usize,
    bytes: usize,
}

/// A message that is not durable yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Pending {
    number: u64,
    sender: usize,
    sequence: u64,
}

/// From where the log can be read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Anchor {
    number: u64,
    view: u64,
    /// Per position of the view: no entry before is of a later sequence. None where the view begins,
    /// and out of a view.
    received: Option<Vec<u64>>,
    /// The last position that is delivered here.
    position: u64,
    /// The entries up to this one are not needed.
    since: u64,
}

impl Journal {
    /// What an earlier life has left, which is of no use: all up to this entry.
    pub(super) fn past(last: u64) -> Self {
        Self { last, durable: last, since: last, ..Self::default() }
    }

    /// What an earlier life has left, with the points from which it could read that again: so the log
    /// is trimmed as if this life had written it, however often the node is started.
    pub(super) fn recalled(entries: &[LogEntry], every: usize) -> Self {
        let since = entries.first().map_or(0, |entry| entry.number - 1);
        let mut journal = Self { since, ..Self::default() };
        for entry in entries {
            journal.last = entry.number;
            journal.note(&entry.line, every);
        }
        // This life is in no view yet.
        Self { durable: journal.last, view: None, ..journal }
    }

    /// What the last entry says.
    fn note(&mut self, line: &Line, every: usize) {
        match line {
            Line::Began { view, position, .. } => self.note_began(view, *position),
            Line::Mark { view, position, since, .. } => self.anchor(Anchor {
                number: self.last,
                view: view.number,
                received: None,
                position: *position,
                since: *since,
            }),
            Line::Message { payload, .. } => {
                (self.messages, self.bytes) = (self.messages + 1, self.bytes + payload.len());
            }
            Line::Learned(delivery) => {
                self.note_learned(delivery.position, delivery.payload.len(), every);
            }
            Line::Missed { .. } | Line::Unlogged => {}
        }
    }

    /// The same for another group: nothing that was written is of use.
    pub(super) fn begin_anew(self) -> Self {
        let Self { last, durable, learned, .. } = self;
        Self { last, durable, learned, since: last, ..Self::default() }
    }

    fn append(&mut self, line: Line, cx: &mut Cx<'_>) -> u64 {
        self.last += 1;
        cx.append(LogEntry { number: self.last, line });
        self.last
    }

    /// A view begins.
    pub(super) fn begin(&mut self, view: &View, cut: &Cut, position: u64, cx: &mut Cx<'_>) {
        let (boxed, cut) = (Box::new(view.clone()), Box::new(cut.clone()));
        self.append(Line::Began { view: boxed, cut, position }, cx);
        self.pending.clear();
        self.note_began(view, position);
    }

    fn note_began(&mut self, view: &View, position: u64) {
        // Others may lack what this node has of the view before, and of no other (V1).
        let since = self.needed().max(self.began.map_or(0, |number| number - 1));
        let number = self.last;
        self.anchor(Anchor { number, view: view.number, received: None, position, since });
        (self.view, self.began) = (Some(view.clone()), Some(number));
    }

    /// The view goes on without this node.
    pub(super) fn part(&mut self) {
        (self.view, self.began) = (None, None);
    }

    /// Returns to a view of which the log tells already.
    pub(super) fn resume(&mut self, view: &View) {
        self.view = Some(view.clone());
    }

    fn anchor(&mut self, anchor: Anchor) {
        (self.messages, self.bytes) = (0, 0);
        if self.anchors.len() == ANCHORS_MAX {
            let mut stays = false;
            self.anchors.retain(|_| {
                stays = !stays;
                stays
            });
        }
        self.anchors.push_back(anchor);
    }

    /// The entries up to this one are not needed to read on from the last anchor.
    fn needed(&self) -> u64 {
        self.anchors.back().map_or(self.since, |anchor| anchor.since)
    }

    /// Another has told of so many bytes of the order. Out of a view, what is kept of it can be read
    /// from anywhere.
    fn note_learned(&mut self, position: u64, bytes: usize, every: usize) {
        (self.messages, self.bytes) = (self.messages + 1, self.bytes + bytes);
        if self.view.is_none() && self.is_due(every) {
            let (number, since) = (self.last, self.last - 1);
            self.anchor(Anchor { number, view: 0, received: None, position: position - 1, since });
        }
    }

    fn is_due(&self, every: usize) -> bool {
        let due = every.clamp(MARK_MESSAGES_MIN, MARK_MESSAGES_MAX);
        self.messages >= due || self.bytes >= MARK_BYTES
    }

    /// Lets go of what no later life needs, if as much of the order is kept as begins with `first`.
    /// Only what is durable can be read from.
    fn trim(&mut self, first: u64, cx: &mut Cx<'_>) {
        let early = cx.has(Bug::TrimsEarly);
        let durable = self.durable;
        let is_enough =
            |anchor: &Anchor| anchor.position < first && anchor.number <= durable || early;
        let Some(keep) = self.anchors.iter().rposition(is_enough) else { return };
        self.anchors.drain(..keep);
        let since = self.anchors[0].since;
        if since > self.since {
            self.since = since;
            cx.trim(since);
        }
    }
}

impl Log {
    /// Whether all that was to be kept is durable.
    pub(super) fn is_synced(&self) -> bool {
        self.journal.as_ref().is_none_or(|journal| journal.durable == journal.last)
    }

    /// Whether all that was learned is durable: only then may it be counted on.
    pub(super) fn knows_durably(&self) -> bool {
        self.journal.as_ref().is_none_or(|journal| journal.durable >= journal.learned)
    }

    /// Whether so much waits for the disk that no more is to be learned.
    pub(super) fn is_behind_disk(&self) -> bool {
        let lag = |journal: &Journal| journal.last - journal.durable;
        self.journal.as_ref().is_some_and(|journal| lag(journal) > BACKLOG_MAX)
    }

    /// Keeps what another has told of the order.
    pub(super) fn write_learned(&mut self, delivery: &Delivery, cx: &mut Cx<'_>) {
        let every = self.config.history_messages_max / 4;
        if let Some(journal) = &mut self.journal {
            journal.learned = journal.append(Line::Learned(delivery.clone()), cx);
            journal.note_learned(delivery.position, delivery.payload.len(), every);
        }
    }

    /// Keeps that nobody tells what lies between these positions.
    pub(super) fn write_missed(&mut self, from: u64, to: u64, cx: &mut Cx<'_>) {
        if let Some(journal) = &mut self.journal {
            journal.learned = journal.append(Line::Missed { from, to }, cx);
        }
    }

    /// Everything up to this entry is durable.
    pub(super) fn on_appended(&mut self, number: u64, cx: &mut Cx<'_>) {
        // As much is kept on disk as in memory, and what somebody may have to fetch.
        let first = self.history.first().unwrap_or(self.position + 1);
        if let Some(journal) = &mut self.journal {
            journal.durable = number.clamp(journal.durable, journal.last);
            journal.trim(first, cx);
        }
    }
}

impl Group {
    /// Messages of this sender were received, up to `to`: they are acknowledged once they are
    /// durable (T9). True if that is so at once, since there is no log.
    pub(super) fn keep(&mut self, sender: usize, from: u64, to: u64, cx: &mut Cx<'_>) -> bool {
        let Some(journal) = &mut self.log.journal else { return true };
        for (sequence, ready) in self.streams[sender].range(from, to) {
            let (time, payload) = (ready.time, ready.payload.clone());
            journal.messages += 1;
            journal.bytes += payload.len();
            let line = Line::Message { sender: sender as u16, sequence, time, payload };
            let number = journal.append(line, cx);
            if !cx.has(Bug::AcksBeforeDurable) {
                journal.pending.push_back(Pending { number, sender, sequence });
            }
        }
        cx.has(Bug::AcksBeforeDurable)
    }

    /// Messages were fetched for the cut: it is accepted once they are durable (T7, T9).
    pub(super) fn keep_fetched(&mut self, sender: usize, from: u64, to: u64, cx: &mut Cx<'_>) {
        // Who does not remember the view has nothing that these would follow.
        let forgetful = self.standing.is_forgetful();
        let Some(journal) = self.log.journal.as_mut().filter(|_| !forgetful) else { return };
        let Some(gathering) = &self.gathering else { return };
        for (sequence, ready) in gathering.stream(sender).range(from, to) {
            let (time, payload) = (ready.time, ready.payload.clone());
            let line = Line::Message { sender: sender as u16, sequence, time, payload };
            journal.append(line, cx);
        }
    }

    /// More is durable: it is acknowledged, and what is own leaves.
    pub(super) fn on_appended(&mut self, cx: &mut Cx<'_>) {
        self.say_gathered(cx);
        let (mut received, mut left) = (false, false);
        while let Some(Pending { sender, sequence, .. }) = self.pop_durable() {
            if self.frozen.is_some() {
                continue; // V2
            }
            self.receipts.raise(self.me, sender, sequence);
            received |= sender != self.me;
            if sender == self.me {
                left = true;
                let own = self.log.window.range(sequence, sequence).next();
                let own = own.map(|(_, own)| (own.time, own.payload.clone()));
                let (time, payload) = own.expect("what nobody has received is in the window");
                self.post(sequence, time, &payload, cx);
            }
        }
        // What was told before stayed below what has only left now.
        if received || (left && self.heard > self.passed) {
            self.arm_flush(cx);
        }
        self.mark(cx);
    }

    fn pop_durable(&mut self) -> Option<Pending> {
        let journal = self.log.journal.as_mut()?;
        let durable = journal.durable;
        journal.pending.pop_front_if(|pending| pending.number <= durable)
    }

    /// The last own message that has left: those after it are not durable yet.
    pub(super) fn sent(&self) -> u64 {
        self.receipts.of(self.me, self.me)
    }

    /// "All I send after this sequence is later than this time" (T1): what waits for the disk has
    /// its time, and is still to be sent.
    pub(super) fn promise(&self) -> (u64, u64) {
        let sent = self.sent();
        let next = self.log.window.range(sent + 1, sent + 1).next();
        (next.map_or(self.log.clock, |(_, own)| own.time - 1), sent)
    }

    /// Every now and then: notes how far the view has got, for who reads the log from here.
    fn mark(&mut self, cx: &mut Cx<'_>) {
        let settled = !self.standing.behind && self.learned == 0 && self.frozen.is_none();
        let Some(journal) = self.log.journal.as_mut().filter(|_| settled) else { return };
        if !journal.is_due(self.log.config.history_messages_max / 4) {
            return;
        }
        let Some(view) = journal.view.clone() else { return };
        let number = self.view;
        // What all have received, and is delivered here. If that is anything in this view, all have
        // begun it, and nobody asks for what was before.
        let column = |sender: usize| self.receipts.column(sender).iter().copied().min();
        let stable = |(sender, stream): (usize, &Stream)| {
            column(sender).unwrap_or(0).min(stream.delivered())
        };
        let stable: Vec<u64> = self.streams.iter().enumerate().map(stable).collect();
        let is_stable = |received: &Vec<u64>| received.iter().zip(&stable).all(|(r, s)| r <= s);
        let mut of_view = journal.anchors.iter().rev().filter(|anchor| anchor.view == number);
        let past = |anchor: &&Anchor| anchor.received.as_ref().is_some_and(is_stable);
        let since = of_view.find(past).map_or(0, |anchor| anchor.number);
        let since = since.max(journal.needed());
        let delivered = self.streams.iter().map(Stream::delivered).collect();
        let received = Some(self.streams.iter().map(Stream::received).collect());
        let position = self.log.position;
        let line = Line::Mark { view: Box::new(view), delivered, position, since };
        let entry = journal.append(line, cx);
        journal.anchor(Anchor { number: entry, view: number, received, position, since });
    }
}
