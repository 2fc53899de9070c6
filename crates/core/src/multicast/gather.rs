//! Getting the messages of a cut that are missing here, from who has them (T7).

use super::{
    Body, Cut, Cx, Event, Holder, Message, Timer,
    group::Group,
    repair::{PART_BYTES_MAX, PART_MESSAGES_MAX},
    stream::{Limits, Outcome, Piece, Ready, Stream},
    window::pieces,
};
use crate::{id::NodeId, planted::Bug, time::Time};
use alloc::vec::Vec;

/// So often who was started again asks everybody for the messages of a cut.
const ROUNDS_MAX: usize = 2;

/// What is fetched for a cut. It is kept apart from what was received in the view: the report must
/// not change (V2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Gathering {
    cut: Cut,
    holders: Vec<Holder>,
    /// Per position: what comes after what was received in the view.
    streams: Vec<Stream>,
    /// Which holder has its turn: an index that goes round.
    turn: usize,
    asked: Option<Asked>,
    /// Something new has come since the timer was set.
    progress: bool,
    /// How many holders in a row were asked in vain.
    vain: usize,
    /// Nothing of the cut may be left out.
    insists: bool,
    said: bool,
}

/// What was asked for last.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    holder: NodeId,
    sender: usize,
    /// Up to this sequence.
    to: u64,
    /// How many bytes have come since,
    bytes: usize,
    /// and how large the largest message was.
    largest: usize,
    since: Time,
}

/// The messages of a view that has ended which somebody may still have to fetch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ended {
    view: u64,
    members: Vec<NodeId>,
    streams: Vec<Stream>,
    fragment_bytes: usize,
}

impl Gathering {
    /// The cut.
    pub(super) fn cut(&self) -> &Cut {
        &self.cut
    }

    /// Whom it waits for, and since when.
    pub(super) fn waits_for(&self) -> Option<(NodeId, Time)> {
        self.asked.as_ref().map(|asked| (asked.holder, asked.since))
    }

    /// What was fetched of one sender.
    pub(super) fn stream(&self, sender: usize) -> &Stream {
        &self.streams[sender]
    }

    /// All that was fetched.
    pub(super) fn into_streams(self) -> Vec<Stream> {
        self.streams
    }

    /// The sender of the first message that is missing, if any is.
    fn lacks(&self) -> Option<usize> {
        (0..self.streams.len()).find(|p| self.streams[*p].received() < self.cut.ends[*p])
    }

    /// The next holder, from the one whose turn it is on, that has `sequence` of `sender`, and up
    /// to where it has more.
    fn holder(&self, sender: usize, sequence: u64) -> Option<(NodeId, u64)> {
        let n = self.holders.len();
        let mut holders = (0..n).map(|i| &self.holders[(self.turn + i) % n]);
        let holder = holders.find(|holder| holder.received[sender] >= sequence)?;
        Some((holder.node, holder.received[sender]))
    }
}

impl Group {
    pub(super) fn on_gather(
        &mut self,
        cut: Cut,
        holders: Vec<Holder>,
        insists: bool,
        cx: &mut Cx<'_>,
    ) {
        self.freeze(cx); // V2: its report is given, or not wanted any more.
        let n = self.members.len();
        if cut.ends.len() != n || cut.stable.len() != n {
            self.log.ignored.add(); // No cut of this view.
            return;
        }
        let holders: Vec<Holder> = holders
            .into_iter()
            .filter(|h| h.node != self.log.config.me && h.received.len() == n)
            .collect();
        // What was fetched for another cut is of use: a message is the same in all of them. And who
        // was asked in vain has not got more of it since.
        let before = self.gathering.take();
        let same = before.as_ref().filter(|gathering| gathering.holders == holders);
        let vain = same.map_or(0, |gathering| gathering.vain + 1);
        let streams = before.map(|gathering| gathering.streams);
        // Who has no memory itself keeps for others what they may lack, and no more.
        let forgetful = self.standing.is_forgetful();
        let begin = |(stream, stable): (&Stream, &u64)| {
            let skipped = if forgetful { *stable } else { 0 };
            Stream::beginning(stream.received().max(skipped), stream.clock())
        };
        let anew = || self.streams.iter().zip(&cut.stable).map(begin).collect();
        let streams = streams.unwrap_or_else(anew);
        self.gathering = Some(Gathering {
            cut,
            holders,
            streams,
            turn: 0,
            asked: None,
            progress: false,
            vain,
            insists,
            said: false,
        });
        self.fetch(cx);
        if self.gathering.as_ref().is_some_and(|gathering| !gathering.said) {
            cx.set_timer(Timer::Fetch, self.log.config.repeat);
        }
    }

    pub(super) fn on_fetched(&mut self, sender: usize, piece: Piece, cx: &mut Cx<'_>) -> bool {
        let Some(gathering) = &mut self.gathering else { return true };
        if sender >= gathering.streams.len() {
            return false;
        }
        if gathering.said || piece.sequence > gathering.cut.ends[sender] {
            return true; // Of an earlier, larger cut.
        }
        let bytes = piece.payload.len();
        let stream = &mut gathering.streams[sender];
        let before = stream.received();
        match stream.receive(piece, &self.limits) {
            Outcome::Impossible => return false,
            Outcome::Duplicate => return true,
            Outcome::Early | Outcome::Received => {}
        }
        gathering.progress |= stream.received() > before;
        let received = stream.received();
        let first = before + 1;
        let new = stream.range(before + 1, received).map(|(_, message)| message.payload.len());
        let largest = new.max().unwrap_or(0);
        if cx.has(Bug::ReportGrows)
            && let Some(report) = &mut self.frozen
        {
            report.received[sender] = received;
        }
        self.keep_fetched(sender, first, received, cx);
        let Some(gathering) = &mut self.gathering else { return true };
        let Some(asked) = gathering.asked.as_mut().filter(|asked| asked.sender == sender) else {
            return true;
        };
        asked.bytes += bytes;
        asked.largest = asked.largest.max(largest);
        // All that was asked for is here, or as much of it as one answer may have: the next window.
        let full = received > before && asked.bytes + asked.largest > PART_BYTES_MAX;
        if received >= asked.to || full {
            self.fetch(cx);
        }
        true
    }

    pub(super) fn on_fetch_timer(&mut self, cx: &mut Cx<'_>) {
        let Some(gathering) = self.gathering.as_mut().filter(|gathering| !gathering.said) else {
            return;
        };
        if core::mem::take(&mut gathering.progress) {
            gathering.vain = 0;
        } else {
            gathering.turn = (gathering.turn + 1) % gathering.holders.len().max(1);
            gathering.vain += 1;
        }
        cx.set_timer(Timer::Fetch, self.log.config.repeat);
        self.fetch(cx);
    }

    /// Asks for the first messages that are missing. If none is, says so.
    fn fetch(&mut self, cx: &mut Cx<'_>) {
        let Some(gathering) = &mut self.gathering else { return };
        gathering.asked = None;
        // Those who had it may all have forgotten. Who delivers nothing here does not let the end of
        // the view depend on it (V6).
        let in_vain = gathering.vain > ROUNDS_MAX * gathering.holders.len() && !gathering.insists;
        let forgetful = self.standing.is_forgetful();
        if forgetful && in_vain && !cx.has(Bug::GathersForEver) {
            gathering.cut.ends = gathering.streams.iter().map(Stream::received).collect();
        }
        let Some(sender) = gathering.lacks() else { return self.say_gathered(cx) };
        let from = gathering.streams[sender].received() + 1;
        if let Some((holder, has)) = gathering.holder(sender, from) {
            let end = gathering.cut.ends[sender].min(has);
            let to = end.min(from + PART_MESSAGES_MAX as u64 - 1);
            let since = cx.now();
            gathering.asked = Some(Asked { holder, sender, to, bytes: 0, largest: 0, since });
            let body = Body::Fetch { sender: sender as u16, from, to };
            cx.send(holder, self.message(body));
        }
        if cx.has(Bug::GatheredEarly) {
            self.say_gathered(cx);
        }
    }

    /// All of the cut is here. But who still learns what was before the view cannot deliver it yet.
    pub(super) fn say_gathered(&mut self, cx: &mut Cx<'_>) {
        let Some(gathering) = &mut self.gathering else { return };
        let behind = self.standing.behind && !self.standing.is_restored();
        // T9: what is accepted or installed here is here after a restart, too.
        let synced = self.log.is_synced() || cx.has(Bug::AcceptsBeforeDurable);
        let complete = gathering.lacks().is_none() && !behind && synced;
        if gathering.said || !(complete || cx.has(Bug::GatheredEarly)) {
            return;
        }
        gathering.said = true;
        cx.cancel_timer(Timer::Fetch);
        cx.emit(Event::Gathered);
    }

    /// Any member answers, wedged or not, from what it has: received in the view, or fetched.
    pub(super) fn on_fetch(
        &self,
        from: NodeId,
        sender: usize,
        (first, to): (u64, u64),
        cx: &mut Cx<'_>,
    ) -> bool {
        if sender >= self.members.len() || !self.members.contains(&from) {
            return false;
        }
        let fetched = self.gathering.as_ref().map(|gathering| gathering.stream(sender));
        let messages = self.streams[sender]
            .range(first, to)
            .chain(fetched.into_iter().flat_map(|stream| stream.range(first, to)));
        answer(from, (self.view, sender), messages, self.log.config.fragment_bytes, cx);
        true
    }

    /// What was fetched and is in the cut takes its place behind what was received in the view.
    pub(super) fn take_gathered(&mut self, cut: &Cut) {
        let Some(gathering) = self.gathering.take() else { return };
        for (sender, fetched) in gathering.streams.iter().enumerate() {
            let stream = &mut self.streams[sender];
            for (_, Ready { time, payload }) in
                fetched.range(stream.received() + 1, cut.ends[sender])
            {
                stream.push(*time, payload.clone());
                self.undelivered += 1;
            }
        }
    }
}

impl Ended {
    /// A view of which everything up to the cut is delivered here. Those who go on have received
    /// what is stable; the rest is kept for those of them that have not closed it yet.
    pub(super) fn new(
        group: (u64, Vec<NodeId>),
        mut streams: Vec<Stream>,
        cut: &Cut,
        limits: &Limits,
        fragment_bytes: usize,
    ) -> Self {
        for (stream, stable) in streams.iter_mut().zip(&cut.stable) {
            stream.release(*stable, limits);
        }
        let (view, members) = group;
        Self { view, members, streams, fragment_bytes }
    }

    /// Its number.
    pub(super) fn view(&self) -> u64 {
        self.view
    }

    pub(super) fn on_fetch(
        &self,
        from: NodeId,
        sender: usize,
        (first, to): (u64, u64),
        cx: &mut Cx<'_>,
    ) -> bool {
        if sender >= self.members.len() || !self.members.contains(&from) {
            return false;
        }
        let messages = self.streams[sender].range(first, to);
        answer(from, (self.view, sender), messages, self.fragment_bytes, cx);
        true
    }
}

/// Sends these messages of one sender of a view, as far as one frame may go.
fn answer<'a>(
    to: NodeId,
    (view, sender): (u64, usize),
    messages: impl Iterator<Item = (u64, &'a Ready)>,
    fragment_bytes: usize,
    cx: &mut Cx<'_>,
) {
    let mut bytes = 0;
    for (sequence, message) in messages.take(PART_MESSAGES_MAX) {
        // One message may always go, whatever its size.
        if bytes > 0 && bytes + message.payload.len() > PART_BYTES_MAX {
            return;
        }
        bytes += message.payload.len();
        for piece in pieces(sequence, message.time, &message.payload, fragment_bytes) {
            cx.send(to, Message { view, body: piece.fetched(sender as u16) });
        }
    }
}
