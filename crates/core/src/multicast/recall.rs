//! Reading the durable log (T9): what an earlier life had of the order.

use super::{
    Cut, Cx, Delivery, Event, Line, LogEntry,
    durable::Journal,
    gather::Ended,
    history::History,
    log::Log,
    stream::{Limits, Ready, Stream},
};
use crate::{planted::Bug, view::View};
use alloc::{boxed::Box, vec, vec::Vec};

/// What is known of a view whose end is not: its messages, from somewhere on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Segment {
    view: View,
    /// Per position of the view: what comes before is delivered,
    begins: Vec<u64>,
    /// up to this position.
    start: u64,
    /// The last of what comes before: others may still lack it.
    before: Vec<Vec<Ready>>,
    messages: Vec<Vec<Ready>>,
}

impl Segment {
    fn new(view: View, begins: Vec<u64>, start: u64) -> Self {
        let (before, messages) = (vec![Vec::new(); view.len()], vec![Vec::new(); view.len()]);
        Self { view, begins, start, before, messages }
    }

    fn received(&self, sender: usize) -> u64 {
        self.begins[sender] + self.messages[sender].len() as u64
    }

    /// The position up to which all is delivered before its first message.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// False if something is missing in between.
    fn push(&mut self, sender: usize, sequence: u64, ready: Ready) -> bool {
        if sender >= self.messages.len() || sequence > self.received(sender) + 1 {
            return false;
        }
        if sequence <= self.begins[sender] {
            self.before[sender].push(ready);
        } else if sequence > self.received(sender) {
            self.messages[sender].push(ready);
        }
        true
    }

    /// Whether the view ends with this cut, all of which is here.
    fn ends_with(&self, view: &View, cut: &Cut) -> bool {
        let n = self.view.len();
        view.number == self.view.number + 1
            && cut.ends.len() == n
            && (0..n).all(|p| self.begins[p] <= cut.ends[p] && cut.ends[p] <= self.received(p))
    }

    /// Forgets what comes after the end of the view.
    fn truncate(&mut self, ends: &[u64]) {
        for ((messages, begin), end) in self.messages.iter_mut().zip(&self.begins).zip(ends) {
            messages.truncate(end.saturating_sub(*begin) as usize);
        }
    }

    /// The messages in their order, as they are delivered if nothing smaller has come since, from
    /// after `position` on.
    fn deliveries(&self, position: u64) -> impl Iterator<Item = Delivery> {
        let of = |(sender, messages): (usize, &Vec<Ready>)| {
            let times = messages.iter().map(|ready| ready.time);
            times.enumerate().map(move |(i, time)| (time, sender, i)).collect::<Vec<_>>()
        };
        let mut order: Vec<_> = self.messages.iter().enumerate().flat_map(of).collect();
        order.sort_unstable();
        let skipped = position.saturating_sub(self.start) as usize;
        let start = self.start;
        order.into_iter().enumerate().skip(skipped).map(move |(n, (time, sender, i))| Delivery {
            position: start + n as u64 + 1,
            time,
            sender: self.view.members[sender].id,
            incarnation: self.view.members[sender].incarnation,
            sequence: self.begins[sender] + i as u64 + 1,
            payload: self.messages[sender][i].payload.clone(),
        })
    }

    /// What was received of each sender; what comes before is delivered.
    pub(super) fn streams(&self, clock: u64) -> Vec<Stream> {
        let stream = |sender: usize| {
            let before = &self.before[sender];
            let mut stream =
                Stream::beginning(self.begins[sender].saturating_sub(before.len() as u64), clock);
            for Ready { time, payload } in before {
                stream.push(*time, payload.clone());
                stream.deliver();
            }
            for Ready { time, payload } in &self.messages[sender] {
                stream.push(*time, payload.clone());
            }
            stream
        };
        (0..self.view.len()).map(stream).collect()
    }

    /// What others may still lack of a view that has ended.
    fn ended(&self, cut: &Cut, log: &Log) -> Ended {
        let mut streams = self.streams(cut.clock);
        for stream in &mut streams {
            while stream.ready() > 0 {
                stream.deliver();
            }
        }
        let limits = Limits::new(&log.config, self.view.len());
        let members = self.view.members.iter().map(|member| member.id).collect();
        let group = (self.view.number, members);
        Ended::new(group, streams, cut, &limits, log.config.fragment_bytes)
    }
}

/// What the log says, read up to somewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Recall {
    history: History,
    /// The last position that is known.
    position: u64,
    clock: u64,
    /// The view that began last.
    segment: Option<Segment>,
    /// The one before it, if its end is known.
    ended: Option<(Segment, Box<Cut>)>,
    /// Whether all that was received in it is here.
    complete: bool,
    /// Messages of a view of whose beginning nothing is known yet.
    early: Vec<(usize, u64, Ready)>,
}

impl Recall {
    /// Reads the log.
    pub(super) fn new(entries: Vec<LogEntry>, history: History, cx: &Cx<'_>) -> Self {
        let mut recall = Self {
            history,
            position: 0,
            clock: 0,
            segment: None,
            ended: None,
            complete: true,
            early: Vec::new(),
        };
        let first = entries.first().map_or(1, |entry| entry.number);
        for entry in entries {
            recall.read(entry.line, first, cx);
        }
        recall.complete &= recall.early.is_empty() && (first == 1 || recall.segment.is_some());
        recall
    }

    fn read(&mut self, line: Line, first: u64, cx: &Cx<'_>) {
        match line {
            Line::Began { view, cut, position } => self.on_began(*view, cut, position),
            Line::Mark { view, delivered, position, since } => {
                if self.segment.is_none() && self.complete && first <= since + 1 {
                    self.go_to(position);
                    self.segment = Some(Segment::new(*view, delivered, position));
                    for (sender, sequence, ready) in core::mem::take(&mut self.early) {
                        self.on_message(sender, sequence, ready, cx);
                    }
                }
            }
            Line::Message { sender, sequence, time, payload } => {
                self.clock = self.clock.max(time);
                self.on_message(usize::from(sender), sequence, Ready { time, payload }, cx);
            }
            Line::Learned(delivery) => {
                self.clock = self.clock.max(delivery.time);
                self.deliver_until(delivery.position.saturating_sub(1));
                self.push(delivery);
            }
            Line::Missed { from, to } => {
                self.deliver_until(from.saturating_sub(1));
                self.go_to(to);
            }
            Line::Unlogged => {
                self.segment = None;
                self.complete = false;
            }
        }
    }

    fn on_began(&mut self, view: View, cut: Box<Cut>, position: u64) {
        self.clock = self.clock.max(cut.clock);
        let closes = self.segment.as_ref().is_some_and(|segment| segment.ends_with(&view, &cut));
        if let Some(segment) = self.segment.as_mut().filter(|_| closes) {
            segment.truncate(&cut.ends);
        }
        self.deliver_until(position);
        let ended = self.segment.take().filter(|_| closes);
        self.segment = Some(Segment::new(view, cut.begins.clone(), cut.position));
        self.ended = ended.map(|segment| (segment, cut));
        self.complete = true;
        self.early.clear();
    }

    fn on_message(&mut self, sender: usize, sequence: u64, ready: Ready, cx: &Cx<'_>) {
        match &mut self.segment {
            Some(segment) => {
                if !segment.push(sender, sequence, ready) && !cx.has(Bug::GapForgiven) {
                    // What is missing may have been acknowledged, and come first in the order.
                    (self.segment, self.complete) = (None, false);
                }
            }
            None => self.early.push((sender, sequence, ready)),
        }
    }

    /// What is delivered in the view by then is what comes first in it.
    fn deliver_until(&mut self, position: u64) {
        if let Some(segment) = self.segment.take() {
            // Who is behind delivers nothing of the view.
            let more = position.saturating_sub(self.position) as usize;
            if more > 0 && self.position >= segment.start {
                for delivery in segment.deliveries(self.position).take(more) {
                    self.push(delivery);
                }
            }
            self.segment = Some(segment);
        }
        self.go_to(position);
    }

    fn push(&mut self, delivery: Delivery) {
        self.position = delivery.position;
        self.history.push(delivery);
    }

    /// If this is not where it has got, there is a gap, or another order.
    fn go_to(&mut self, position: u64) {
        if self.position != position {
            self.history.clear();
            self.position = position;
        }
    }
}

impl Log {
    /// What an earlier life has left: its deliveries are delivered again, as far as they are kept.
    ///
    /// It may have been about to begin the first view of a group when it ended, and have had the order
    /// of another one before. Then nothing but the numbering is of use.
    pub(super) fn recall(&mut self, mut entries: Vec<LogEntry>, installed: &View, cx: &mut Cx<'_>) {
        let knows = |entry: &LogEntry| entry.line.view().is_some_and(|view| view == installed);
        let is_foreign = installed.number == 1
            && !entries.iter().any(knows)
            && !cx.has(Bug::RecallsForeignOrder);
        let mut complete = true;
        self.journal = Some(if is_foreign {
            // Messages are of a view that has begun: if it is this one, the log lacks its beginning.
            let tells = |line: &Line| matches!(line, Line::Message { .. } | Line::Unlogged);
            complete = !entries.iter().any(|entry| tells(&entry.line));
            let last = entries.last().map_or(0, |entry| entry.number);
            entries.clear();
            Journal::past(last)
        } else {
            Journal::recalled(&entries, self.config.history_messages_max / 4)
        });
        let mut recall = Recall::new(entries, History::new(&self.config), cx);
        recall.complete &= complete;
        let history = core::mem::replace(&mut recall.history, History::new(&self.config));
        self.clock = recall.clock;
        let first = history.first().unwrap_or(recall.position + 1);
        if first > 1 {
            cx.emit(Event::Missed { from: 1, to: first - 1 });
            self.position = first - 1;
        }
        for delivery in history.since(0) {
            self.deliver(delivery.clone(), cx);
        }
        self.ended = recall.ended.take().map(|(segment, cut)| segment.ended(&cut, self));
        // Without a record of a view nobody counts on what was received in one, whoever lists which
        // life.
        self.recalled = (installed.number > 0).then(|| Box::new(recall));
    }

    /// What is remembered of the view that an earlier life had installed last, if everything that it
    /// may have acknowledged is (T9).
    pub(super) fn remember(&mut self, view: &View, cut: &Cut, cx: &mut Cx<'_>) -> Option<Segment> {
        let mut recall = *self.recalled.take()?;
        if !recall.complete || cx.has(Bug::ForgetsLog) {
            return None;
        }
        if let Some(mut segment) = recall.segment.take() {
            if segment.view == *view {
                if let Some(journal) = &mut self.journal {
                    journal.resume(view);
                }
                // Who was behind in it has acknowledged nothing, and is of no help.
                return (self.position >= segment.start).then_some(segment);
            }
            if segment.view.number >= view.number {
                return None; // Of another group.
            }
            // The view was installed, and the power gone before the log could say so.
            if segment.ends_with(view, cut) && self.position >= segment.start {
                segment.truncate(&cut.ends);
                for delivery in segment.deliveries(self.position) {
                    self.deliver(delivery, cx);
                }
                self.ended = Some(segment.ended(cut, self));
            }
        }
        self.resume(view, cut, cx)
    }

    /// Nothing was acknowledged in this view: all that comes before it is what must be here.
    pub(super) fn resume(&mut self, view: &View, cut: &Cut, cx: &mut Cx<'_>) -> Option<Segment> {
        let position = self.position;
        let journal = self.journal.as_mut().filter(|_| position >= cut.position && !cut.lost)?;
        journal.begin(view, cut, position, cx);
        Some(Segment::new(view.clone(), cut.begins.clone(), cut.position))
    }
}
