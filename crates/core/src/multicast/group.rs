//! One member's part in one view.

use super::{
    Body, Cut, Cx, Delivery, Event, HeadWait, Message, Refusal, Report, Status, Ticket, Timer,
    UNSTABLE_MESSAGES_MAX, Waiting,
    ending::is_excused,
    gather::Gathering,
    log::Log,
    recall::Segment,
    receipts::Receipts,
    repair::Repair,
    stream::{Limits, Outcome, Piece, Stream},
    window::{Own, pieces},
};
use crate::{id::NodeId, planted::Bug, time::Time, view::View};
use alloc::{sync::Arc, vec::Vec};
use bytes::Bytes;
use core::time::Duration;

/// A clock further ahead of the own one than this is absurd (T6).
const CLOCK_LEAP_MAX: u64 = 1 << 40;

/// One member's part in one view. Members are called by their position in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Group {
    pub(super) log: Log,
    pub(super) limits: Limits,
    pub(super) view: u64,
    pub(super) me: usize,
    pub(super) members: Vec<NodeId>,
    incarnations: Vec<u64>,
    /// The other members.
    pub(super) audience: Arc<[NodeId]>,
    pub(super) majority: usize,
    pub(super) standing: Standing,
    /// How many messages of the view were learned before it was installed here: its first ones.
    pub(super) learned: u64,
    /// Once it is wedged: what is reported (V2).
    pub(super) frozen: Option<Report>,
    /// What is fetched for the cut.
    pub(super) gathering: Option<Gathering>,
    pub(super) streams: Vec<Stream>,
    pub(super) receipts: Receipts,
    /// How many messages are received and not delivered.
    pub(super) undelivered: usize,
    /// The receipts that the last frame to all has told.
    advertised: Vec<u64>,
    /// Whether more is received than may be told.
    withheld: bool,
    /// The time that the last frame to all has passed.
    pub(super) passed: u64,
    /// The largest time of a message that was received from another.
    pub(super) heard: u64,
    /// The members that have shown to lack the clock of this one: a bit per position.
    pub(super) replies: u64,
    pub(super) flush_armed: bool,
    pub(super) repair: Repair,
    waiting: Option<Head>,
    /// The input of now has changed nothing that the head of the queue waits for.
    head_waits_on: bool,
}

/// Whether it is a full member yet (V4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Standing {
    /// Not all that comes before the view is delivered here.
    pub(super) behind: bool,
    /// Therefore nothing is sent and acknowledged here. Stays so once it is wedged.
    pub(super) mute: bool,
    /// Whether it stands in for an earlier life (V6): then it never will take part.
    pub(super) restored: Restored,
}

/// What is left of an earlier life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Restored {
    /// There is none: this life is the member.
    Not,
    /// Nothing of what it had received,
    Forgetful,
    /// or all of it (T9).
    Remembering,
}

impl Standing {
    pub(super) fn is_restored(&self) -> bool {
        self.restored != Restored::Not
    }

    pub(super) fn is_forgetful(&self) -> bool {
        self.restored == Restored::Forgetful
    }

    pub(super) fn remembers(&self) -> bool {
        self.restored == Restored::Remembering
    }
}

/// What the head of the queue waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Head {
    time: u64,
    sender: usize,
    member: usize,
    since: Time,
    /// Since when it is the head.
    began: Time,
}

/// The bit of a position in a set of positions.
pub(super) const fn bit(position: usize) -> u64 {
    1 << position
}

impl Group {
    /// A member of `view`, which begins at `cut`.
    ///
    /// All tables are computed from the cut, so that members that come and members that stay
    /// agree (T6).
    pub(super) fn new(log: Log, view: &View, cut: &Cut, cx: &mut Cx<'_>) -> Self {
        let (mut group, again) = Self::begin(log, view, cut, cx);
        let position = group.log.position;
        if let Some(journal) = &mut group.log.journal {
            journal.begin(view, cut, position, cx);
        }
        group.go_on(again, cx);
        group
    }

    fn begin(mut log: Log, view: &View, cut: &Cut, cx: &mut Cx<'_>) -> (Self, Vec<Bytes>) {
        let n = view.len();
        let me = view.position(log.config.me).expect("who installs a view is a member of it");
        let incarnation = view.members[me].incarnation;
        let survives = log.incarnation == incarnation;
        let closed = !survives || cut.lost || log.position == cut.position;
        assert!(closed || is_excused(cx), "the view before is closed");
        log.incarnation = incarnation;
        log.clock = log.clock.max(cut.clock);
        if cx.has(Bug::ClocksOutliveView) {
            log.clock = 0;
        }
        let share = (log.config.unstable_bytes_max / n).max(1);
        let again = log.window.begin(share, cut.begins[me]);
        if cut.lost && log.position < cut.position {
            log.miss(cut.position + 1, cx); // V5: nobody can tell what was there.
        }
        let behind = log.position < cut.position && !cx.has(Bug::CountsForItself);
        let stream = |begin: &u64| Stream::beginning(*begin, cut.clock);
        let group = Self {
            limits: Limits::new(&log.config, n),
            view: view.number,
            me,
            members: view.members.iter().map(|member| member.id).collect(),
            incarnations: view.members.iter().map(|member| member.incarnation).collect(),
            audience: view.peers(log.config.me),
            majority: view.majority(),
            standing: Standing {
                behind,
                mute: behind && !cx.has(Bug::SpeaksBehind),
                restored: Restored::Not,
            },
            learned: log.position.saturating_sub(cut.position),
            frozen: None,
            gathering: None,
            streams: cut.begins.iter().map(stream).collect(),
            receipts: Receipts::new(&cut.begins),
            undelivered: 0,
            advertised: cut.begins.clone(),
            withheld: false,
            passed: cut.clock,
            heard: 0,
            replies: 0,
            flush_armed: false,
            repair: Repair::new(&cut.begins, me, log.config.repeat, cx.now()),
            waiting: None,
            head_waits_on: false,
            log,
        };
        (group, again)
    }

    /// What is left of a member whose life has ended: it gathers and answers who fetches (V6), and
    /// has, with a durable log, what it had received (T9).
    pub(super) fn restored(
        log: Log,
        view: &View,
        cut: &Cut,
        segment: Option<&Segment>,
        cx: &mut Cx<'_>,
    ) -> Self {
        let cut = Cut { lost: false, ..cut.clone() };
        let (mut group, _) = Self::begin(log, view, &cut, cx);
        let remembers = segment.is_some();
        let restored = if remembers { Restored::Remembering } else { Restored::Forgetful };
        group.standing = Standing { behind: !remembers, mute: true, restored };
        if let Some(segment) = segment {
            group.streams = segment.streams(cut.clock);
            group.undelivered = group.streams.iter().map(Stream::ready).sum();
            group.learned = group.log.position - segment.start();
        }
        group.log.incarnation = 0; // This life was never a member: it teaches and takes nothing.
        group.freeze(cx);
        group
    }

    /// The first thing that is sent in a view: what was sent in the one before and is not in its
    /// order, under the same sequences, and before anything new (T10). Then what was sent in a
    /// former life, if all of the order before is known here (T8).
    fn go_on(&mut self, again: Vec<Bytes>, cx: &mut Cx<'_>) {
        if is_excused(cx) {
            self.log.tickets.resize(again.len(), 0);
        }
        assert_eq!(self.log.tickets.len(), again.len(), "what has its place is not sent again");
        for payload in again {
            self.launch(payload, cx);
        }
        if !self.standing.behind || cx.has(Bug::ResendsUnlearned) {
            self.resend_former(cx);
        }
    }

    fn resend_former(&mut self, cx: &mut Cx<'_>) {
        for (ticket, payload) in self.log.take_former(cx) {
            self.transmit(ticket, payload, cx);
        }
    }

    /// All that comes before the view is delivered here: begins to take part in it, unless it is
    /// wedged already (V4).
    pub(super) fn on_learned(&mut self, cx: &mut Cx<'_>) {
        self.standing.behind = false;
        self.say_gathered(cx);
        if self.frozen.is_none() {
            self.standing.mute = false;
            self.resend_former(cx);
            self.arm_flush(cx);
        }
    }

    /// Whether it sends, acknowledges and delivers.
    pub(super) fn takes_part(&self) -> bool {
        !self.standing.mute && self.frozen.is_none()
    }

    /// What people may look at.
    pub(super) fn status(&self) -> Status {
        let mut queue = Vec::with_capacity(self.undelivered);
        for (position, stream) in self.streams.iter().enumerate() {
            let ready = stream.range(stream.delivered() + 1, stream.received());
            queue.extend(ready.map(|(sequence, ready)| {
                let (time, payload) = (ready.time, ready.payload.clone());
                (position, Waiting { time, sender: self.members[position], sequence, payload })
            }));
        }
        queue.sort_by_key(|(position, waiting)| (waiting.time, *position));
        let clocks = self.streams.iter().enumerate().map(|(position, stream)| {
            let clock = if position == self.me { self.log.clock } else { stream.clock() };
            (self.members[position], clock)
        });
        // Who is wedged waits for the messages of the cut, and if there is no cut, as it did before.
        let fetching = self.gathering.as_ref().and_then(Gathering::waits_for);
        let head = || self.waiting.as_ref().map(|head| (self.members[head.member], head.since));
        Status {
            clock: self.log.clock,
            position: self.log.position,
            unstable_bytes: self.log.window.bytes(),
            unread_bytes: self.log.unread,
            queue: queue.into_iter().map(|(_, waiting)| waiting).collect(),
            waiting_for: fetching.or_else(head),
            head: self.head_wait(),
            clocks: clocks.collect(),
            resent: self.log.resent.count(),
            ignored: self.log.ignored.count(),
        }
    }

    /// An input was taken: does what has become possible by it.
    pub(super) fn settle(&mut self, cx: &mut Cx<'_>) {
        let in_vain = core::mem::take(&mut self.head_waits_on);
        while self.takes_part() && !in_vain {
            self.deliver(cx);
            let stable = self.stable(self.me);
            let released = if cx.has(Bug::ReleasesEarly) { u64::MAX } else { stable };
            let own = &mut self.streams[self.me];
            self.log.window.release(released.min(own.delivered()));
            own.release(stable, &self.limits);
            let Some((ticket, payload)) = self.log.window.unpark() else { break };
            self.transmit(ticket, payload, cx);
        }
        if self.frozen.is_some() && cx.has(Bug::WedgedDelivers) {
            self.deliver(cx);
        }
        self.log.advance_leave(cx);
        self.arm_heartbeat(cx);
    }

    pub(super) fn on_send(&mut self, ticket: Ticket, payload: Bytes, cx: &mut Cx<'_>) {
        let has_room = self.log.window.has_room(payload.len());
        let overtakes = cx.has(Bug::OvertakesParked) && has_room;
        let refusal = self.log.refusal(payload.len());
        if let Some(reason) = refusal.filter(|r| *r != Refusal::WindowFull || !overtakes) {
            cx.emit(Event::Refused { ticket, reason });
        } else if self.takes_part() && (has_room || cx.has(Bug::ExceedsShare)) {
            // It goes behind all that is here.
            self.head_waits_on = self.waiting.is_some();
            self.transmit(ticket, payload, cx);
        } else {
            self.log.window.park(ticket, payload);
        }
    }

    pub(super) fn on_read(&mut self, bytes: usize, cx: &mut Cx<'_>) {
        self.log.on_read(bytes);
        if self.withheld && !self.is_paused() {
            self.arm_flush(cx);
        }
    }

    pub(super) fn on_message(&mut self, from: NodeId, message: Message, cx: &mut Cx<'_>) {
        if message.view != self.view {
            return; // T2: an old or a future view is another world.
        }
        let from = self.members.iter().position(|id| *id == from);
        let Some(from) = from.filter(|from| *from != self.me) else {
            self.log.ignored.add();
            return;
        };
        let takes = cx.has(Bug::WedgedReceives) || cx.has(Bug::WedgedDelivers);
        let frozen = self.frozen.is_some() && !takes;
        let possible = match message.body {
            Body::Fetched { sender, sequence, time, index, count, payload } => {
                let piece = Piece { sequence, time, index, count, payload };
                self.on_fetched(usize::from(sender), piece, cx)
            }
            // V2: whatever else still comes has come too late.
            Body::Data { .. } | Body::Clock { .. } | Body::Want { .. } if frozen => true,
            Body::Data { sequence, time, index, count, payload } => {
                self.on_data(from, Piece { sequence, time, index, count, payload }, cx)
            }
            Body::Clock { time, after, received } => {
                self.on_clock(from, time, after, &received, cx)
            }
            Body::Want { from: first, to } => self.on_want(from, first, to, cx),
            Body::Fetch { .. } | Body::Learn { .. } | Body::Lesson { .. } => false,
        };
        if !possible {
            self.log.ignored.add();
        }
    }

    /// The batch boundary: one frame for all that came in, to all, or only to who asked.
    pub(super) fn on_flush(&mut self, cx: &mut Cx<'_>) {
        self.flush_armed = false;
        if !self.takes_part() && !cx.has(Bug::WedgedReceives) {
            return;
        }
        // T2: a frame is owed for received messages that the last one neither acks nor passes in
        // time. A clock that comes in alone creates no debt.
        let news = self.advertise();
        if news || self.heard > self.passed {
            self.tell_all(cx);
        }
        let replies = core::mem::take(&mut self.replies);
        for position in (0..self.members.len()).filter(|position| replies & bit(*position) != 0) {
            cx.send(self.members[position], self.message(self.clock_body()));
        }
        self.ask_for_holes(cx);
        self.release();
    }

    /// Lets go of what everybody has received.
    pub(super) fn release(&mut self) {
        for sender in 0..self.members.len() {
            let stable = self.stable(sender);
            self.streams[sender].release(stable, &self.limits);
        }
    }

    /// Sends the clock and what is received to everyone.
    pub(super) fn tell_all(&mut self, cx: &mut Cx<'_>) {
        (self.passed, _) = self.promise();
        self.repair.told = cx.now();
        self.replies = 0;
        cx.send_many(&self.audience, self.message(self.clock_body()));
    }

    /// Brings up to date what is told about receipts (T2). True if anything changed.
    pub(super) fn advertise(&mut self) -> bool {
        self.advertised[self.me] = self.sent(); // No news: the messages have told it.
        self.withheld = self.is_paused();
        if self.withheld {
            return false;
        }
        let mut news = false;
        for (sender, stream) in self.streams.iter().enumerate() {
            // What waits here for the clock of a third member must stay bounded too. The oldest
            // undelivered message is always told: others may wait for exactly that receipt.
            let full =
                stream.ready_bytes() > self.limits.early || stream.ready() > UNSTABLE_MESSAGES_MAX;
            let durable = self.receipts.of(self.me, sender); // T9
            let until = if full { durable.min(stream.delivered() + 1) } else { durable };
            self.withheld |= full;
            if sender != self.me && until > self.advertised[sender] {
                self.advertised[sender] = until;
                news = true;
            }
        }
        news
    }

    /// "All I send after my last message is later than this; I have received so much."
    pub(super) fn clock_body(&self) -> Body {
        let (time, after) = self.promise();
        let mut received = self.advertised.clone();
        received[self.me] = after;
        Body::Clock { time, after, received }
    }

    pub(super) fn message(&self, body: Body) -> Message {
        Message { view: self.view, body }
    }

    pub(super) fn arm_flush(&mut self, cx: &mut Cx<'_>) {
        let silent = !self.takes_part() && !cx.has(Bug::WedgedReceives);
        if !silent && !core::mem::replace(&mut self.flush_armed, true) {
            cx.set_timer(Timer::Flush, Duration::ZERO);
        }
    }

    /// `member` has shown that it may lack the clock of this one.
    pub(super) fn owe_reply(&mut self, member: usize, cx: &mut Cx<'_>) {
        self.replies |= bit(member);
        self.arm_flush(cx);
    }

    /// Whether the application has read so little that nothing more is delivered.
    pub(super) fn is_paused(&self) -> bool {
        self.log.is_paused()
    }

    /// What all members have received of what `sender` sent.
    pub(super) fn stable(&self, sender: usize) -> u64 {
        let column = self.receipts.column(sender).iter();
        column.copied().min().expect("a view has members")
    }

    /// The sequence, time and sender of the smallest received and undelivered message.
    pub(super) fn head(&self) -> Option<(u64, u64, usize)> {
        if self.undelivered == 0 {
            return None;
        }
        let heads = self
            .streams
            .iter()
            .enumerate()
            .filter_map(|(sender, stream)| stream.front().map(|ready| (ready.time, sender)));
        // The order: by Lamport time, then by the position of the sender (Lamport 1978,
        // "Ordering the Events Totally").
        let (time, sender) = heads.min()?;
        Some((self.streams[sender].delivered() + 1, time, sender))
    }

    /// Whether `member`'s counted clock is not beyond `time` yet: condition (b).
    pub(super) fn lags(&self, member: usize, time: u64) -> bool {
        member != self.me && self.streams[member].clock() < time
    }

    fn is_absurd(&self, time: u64) -> bool {
        time > self.log.clock.saturating_add(CLOCK_LEAP_MAX) // T6
    }

    pub(super) fn transmit(&mut self, ticket: Ticket, payload: Bytes, cx: &mut Cx<'_>) {
        self.log.tickets.push_back(ticket);
        self.launch(payload, cx);
    }

    /// Sends an own message, which has its ticket.
    fn launch(&mut self, payload: Bytes, cx: &mut Cx<'_>) {
        self.log.clock += u64::from(!cx.has(Bug::SendsWithoutTick)); // T2: only messages tick it.
        self.undelivered += 1;
        self.streams[self.me].push(self.log.clock, payload.clone());
        let own = Own { time: self.log.clock, payload: payload.clone(), sent: cx.now() };
        let sequence = self.log.window.push(own);
        if self.keep(self.me, sequence, sequence, cx) {
            self.post(sequence, self.log.clock, &payload, cx);
        }
    }

    /// An own message leaves: it counts as received here, durably if that is asked for (T9).
    pub(super) fn post(&mut self, sequence: u64, time: u64, payload: &Bytes, cx: &mut Cx<'_>) {
        self.passed = time;
        self.receipts.raise(self.me, self.me, sequence);
        for piece in pieces(sequence, time, payload, self.log.config.fragment_bytes) {
            cx.send_many(&self.audience, self.message(piece.data()));
        }
    }

    fn on_data(&mut self, from: usize, piece: Piece, cx: &mut Cx<'_>) -> bool {
        let (sequence, time) = (piece.sequence, piece.time);
        if self.is_absurd(time) {
            return false;
        }
        let stream = &mut self.streams[from];
        let before = stream.received();
        let outcome = stream.receive(piece, &self.limits);
        let (received, last_time) = (stream.received(), stream.time());
        match outcome {
            Outcome::Impossible => return false,
            // The sender does not know that it is here.
            Outcome::Duplicate => self.owe_reply(from, cx),
            Outcome::Early => {
                if cx.has(Bug::HeaderIsReceipt) {
                    self.advertised[from] = sequence;
                }
                if self.streams[from].has_hole() {
                    self.arm_flush(cx);
                }
            }
            Outcome::Received => {
                self.undelivered += (received - before) as usize;
                self.heard = self.heard.max(last_time);
                self.receipts.raise(from, from, received);
                self.head_waits_on = self.is_of_no_use(from);
                if self.keep(from, before + 1, received, cx) {
                    self.receipts.raise(self.me, from, received);
                    self.arm_flush(cx);
                } else if self.streams[from].has_hole() {
                    self.arm_flush(cx);
                }
            }
        }
        self.pass(time, cx);
        true
    }

    /// Whether messages that have come from there do nothing for the head of the queue: it waits
    /// for another member, and goes before them. Of a batch, most are such.
    fn is_of_no_use(&self, from: usize) -> bool {
        let first = self.streams[from].front();
        let (Some(head), Some(first)) = (&self.waiting, first) else { return false };
        head.member != from && (head.time, head.sender) <= (first.time, from)
    }

    fn on_clock(
        &mut self,
        from: usize,
        time: u64,
        after: u64,
        received: &[u64],
        cx: &mut Cx<'_>,
    ) -> bool {
        if self.is_absurd(time) || !self.is_possible(received) {
            return false;
        }
        let early = cx.has(Bug::ClockBeforeSequence);
        let after = if early { after.min(self.streams[from].received()) } else { after };
        if !self.streams[from].hear(time, after) {
            return false;
        }
        self.pass(time, cx);
        if cx.has(Bug::AnswersIdleFrames) {
            self.owe_reply(from, cx);
        }
        self.receipts.raise(from, from, after);
        self.merge(from, received, cx);
        true
    }

    /// T2: whatever comes in takes the maximum, and does not tick.
    fn pass(&mut self, time: u64, cx: &Cx<'_>) {
        if !cx.has(Bug::ClockStaysBehind) {
            self.log.clock = self.log.clock.max(time);
        }
    }

    /// Whether a member can have received this (T2).
    pub(super) fn is_possible(&self, received: &[u64]) -> bool {
        let beyond = |(sender, received): (usize, &u64)| {
            let window = if sender == self.me { 0 } else { UNSTABLE_MESSAGES_MAX as u64 };
            *received > self.streams[sender].received() + window
        };
        received.len() == self.members.len() && !received.iter().enumerate().any(beyond)
    }

    /// Takes the absolute vector of a member (T2).
    pub(super) fn merge(&mut self, member: usize, received: &[u64], cx: &mut Cx<'_>) {
        for (sender, received) in received.iter().enumerate() {
            let add = if cx.has(Bug::VectorsAdd) { self.receipts.of(member, sender) } else { 0 };
            if self.receipts.raise(member, sender, add + received) && sender == self.me {
                self.on_acknowledged(member, cx);
            }
        }
    }

    /// Delivers whatever the three conditions allow.
    fn deliver(&mut self, cx: &mut Cx<'_>) {
        if self.standing.behind {
            return; // What comes before the view comes first.
        }
        let others = self.streams.iter().enumerate().filter(|(member, _)| *member != self.me);
        let heard = others.map(|(_, stream)| stream.clock()).min().unwrap_or(u64::MAX);
        let majority = self.needed(cx);
        // (a) the smallest, (b) nothing smaller can come (T1), (c) a majority has it (T3).
        while let Some((sequence, time, sender)) = self.head() {
            let received = self.receipts.holders(sender, sequence) >= majority;
            let last = time <= heard || cx.has(Bug::NoClocks);
            let paused = self.is_paused() && !cx.has(Bug::DeliversUnread);
            if paused || !last || !received {
                return self.note_waiting((sequence, time, sender), cx.now());
            }
            self.deliver_from(sender, sequence, cx);
        }
        self.waiting = None;
    }

    /// How many members must have what is delivered: (c).
    fn needed(&self, cx: &Cx<'_>) -> usize {
        match self.members.len() {
            _ if cx.has(Bug::NoMajority) => 0,
            all if cx.has(Bug::HalfIsMajority) => all.div_ceil(2),
            _ => self.majority,
        }
    }

    pub(super) fn deliver_from(&mut self, sender: usize, sequence: u64, cx: &mut Cx<'_>) {
        let ready = self.streams[sender].deliver().expect("the head is there");
        self.undelivered -= 1;
        if self.withheld {
            self.arm_flush(cx);
        }
        if self.learned > 0 {
            self.learned -= 1; // It was delivered here before the view began here.
            return;
        }
        let position = self.log.position + 1;
        let delivery = Delivery {
            position,
            time: ready.time,
            sender: self.members[sender],
            incarnation: self.incarnations[sender],
            sequence,
            payload: ready.payload,
        };
        self.log.deliver(delivery, cx);
        if sender == self.me && !self.standing.is_restored() {
            let ticket = self.log.tickets.pop_front().expect("every own message has a ticket");
            cx.emit(Event::Sent { ticket, position });
        }
    }

    fn note_waiting(&mut self, (sequence, time, sender): (u64, u64, usize), now: Time) {
        let member = self.blocker(sequence, time, sender);
        let known = self.waiting.as_ref().filter(|head| (head.time, head.sender) == (time, sender));
        let began = known.map_or(now, |head| head.began);
        if known.is_none_or(|head| head.member != member) {
            self.waiting = Some(Head { time, sender, member, since: now, began });
        }
    }

    /// Whom the head waits for: the application here, else the slowest clock (b), else the slowest
    /// receiver (c).
    fn blocker(&self, sequence: u64, time: u64, sender: usize) -> usize {
        if self.is_paused() {
            return self.me;
        }
        let all = 0..self.members.len();
        let clock = all.clone().filter(|member| self.lags(*member, time));
        let receipt = all.filter(|member| self.receipts.of(*member, sender) < sequence);
        clock
            .min_by_key(|member| self.streams[*member].clock())
            .or_else(|| receipt.min_by_key(|member| self.receipts.of(*member, sender)))
            .unwrap_or(self.me)
    }

    /// All members that (b) and (c) wait for.
    fn head_wait(&self) -> Option<HeadWait> {
        let since = self.waiting.as_ref()?.began;
        let (sequence, time, sender) = self.head()?;
        let received = self.receipts.holders(sender, sequence) >= self.majority;
        let lacks = |member: &usize| self.receipts.of(*member, sender) < sequence && !received;
        let ids = |members: &dyn Fn(&usize) -> bool| {
            (0..self.members.len()).filter(members).map(|member| self.members[member]).collect()
        };
        let clocks = ids(&|member: &usize| self.lags(*member, time));
        Some(HeadWait { since, clocks, receipts: ids(&lacks) })
    }

    /// How long the head of the queue has waited for the member that it waits for.
    pub(super) fn waited(&self, now: Time) -> Duration {
        self.waiting.as_ref().map_or(Duration::ZERO, |head| now.since(head.since))
    }
}
