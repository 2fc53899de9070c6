//! One member's part in one view.

use super::{
    Body, Config, Cx, DELIVERY_OVERHEAD, Delivery, Event, Message, Refusal, Status, Ticket, Timer,
    UNSTABLE_MESSAGES_MAX, Waiting,
    history::History,
    leaving::Phase,
    receipts::Receipts,
    repair::Repair,
    stream::{Limits, Outcome, Piece, Stream},
    window::{Own, Window, pieces},
};
use crate::{id::NodeId, planted::Bug, tally::Tally, time::Time, view::View};
use alloc::{collections::VecDeque, sync::Arc, vec, vec::Vec};
use bytes::Bytes;
use core::time::Duration;

/// A clock further ahead of the own one than this is absurd (T6).
const CLOCK_LEAP_MAX: u64 = 1 << 40;

/// One member's part in one view. Members are called by their position in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Group {
    pub(super) config: Config,
    limits: Limits,
    pub(super) view: u64,
    pub(super) me: usize,
    pub(super) members: Vec<NodeId>,
    /// The members that have not left, without this one.
    pub(super) audience: Arc<[NodeId]>,
    pub(super) majority: usize,
    pub(super) phase: Phase,
    /// The Lamport clock: the largest time that was seen or given.
    pub(super) clock: u64,
    pub(super) streams: Vec<Stream>,
    pub(super) receipts: Receipts,
    pub(super) window: Window,
    /// Own messages that are not delivered here.
    tickets: VecDeque<Ticket>,
    /// How many messages are received and not delivered.
    pub(super) undelivered: usize,
    /// The receipts that the last frame to all has told.
    advertised: Vec<u64>,
    /// Whether more is received than may be told.
    withheld: bool,
    /// The time that the last frame to all has passed.
    passed: u64,
    /// The largest time of a message that was received from another.
    heard: u64,
    /// The members that have shown to lack the clock of this one: a bit per position.
    replies: u64,
    flush_armed: bool,
    pub(super) repair: Repair,
    /// Per position: who is known to know that this member has left; a bit per position.
    pub(super) departures: Vec<Option<u64>>,
    /// How often this member has repeated that it has left, as far as that matters.
    pub(super) announcements: u32,
    position: u64,
    pub(super) unread: usize,
    history: History,
    waiting: Option<Head>,
    /// The input of now has changed nothing that the head of the queue waits for.
    head_waits_on: bool,
    pub(super) ignored: Tally,
}

/// What the head of the queue waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Head {
    time: u64,
    sender: usize,
    member: usize,
    since: Time,
}

/// The bit of a position in a set of positions.
pub(super) const fn bit(position: usize) -> u64 {
    1 << position
}

impl Group {
    /// A member of `view` that has neither sent nor received anything.
    pub(super) fn new(config: Config, view: &View, now: Time) -> Self {
        let n = view.len();
        let me = view.position(config.me).expect("who installs a view is a member of it");
        let share = (config.unstable_bytes_max / n).max(1);
        Self {
            limits: Limits {
                message: config.message_bytes_max,
                pieces: config.message_bytes_max / config.fragment_bytes + 1,
                early: share.max(config.message_bytes_max),
            },
            view: view.number,
            me,
            members: view.members.iter().map(|member| member.id).collect(),
            audience: view.peers(config.me),
            majority: view.majority(),
            phase: Phase::Member,
            clock: 0,
            streams: vec![Stream::default(); n],
            receipts: Receipts::new(n),
            window: Window::new(share),
            tickets: VecDeque::new(),
            undelivered: 0,
            advertised: vec![0; n],
            withheld: false,
            passed: 0,
            heard: 0,
            replies: 0,
            flush_armed: false,
            repair: Repair::new(n, config.repeat, now),
            departures: vec![None; n],
            announcements: 0,
            position: 0,
            unread: 0,
            history: History::new(&config),
            waiting: None,
            head_waits_on: false,
            ignored: Tally::default(),
            config,
        }
    }

    /// Whether a send would not be refused because of the window.
    pub(super) fn is_open(&self) -> bool {
        self.window.is_open() || self.phase != Phase::Member
    }

    /// What is kept from `position` on.
    pub(super) fn history(&self, position: u64) -> impl Iterator<Item = &Delivery> {
        self.history.since(position)
    }

    /// What people may look at.
    pub(super) fn status(&self) -> Status {
        let mut queue = Vec::with_capacity(self.undelivered);
        for (position, stream) in self.streams.iter().enumerate() {
            let sequences = stream.delivered() + 1..;
            queue.extend(stream.ready().iter().zip(sequences).map(|(ready, sequence)| {
                let (time, payload) = (ready.time, ready.payload.clone());
                (position, Waiting { time, sender: self.members[position], sequence, payload })
            }));
        }
        queue.sort_by_key(|(position, waiting)| (waiting.time, *position));
        let clocks = self.streams.iter().enumerate().map(|(position, stream)| {
            let clock = if position == self.me { self.clock } else { stream.clock() };
            (self.members[position], clock)
        });
        let left = (0..self.members.len()).filter(|position| self.has_left(*position));
        Status {
            clock: self.clock,
            position: self.position,
            unstable_bytes: self.window.bytes(),
            unread_bytes: self.unread,
            queue: queue.into_iter().map(|(_, waiting)| waiting).collect(),
            waiting_for: self.waiting.as_ref().map(|head| (self.members[head.member], head.since)),
            clocks: clocks.collect(),
            left: left.map(|position| self.members[position]).collect(),
            resent: self.repair.resent.count(),
            ignored: self.ignored.count(),
        }
    }

    /// An input was taken: does what has become possible by it.
    pub(super) fn settle(&mut self, cx: &mut Cx<'_>) {
        let in_vain = core::mem::take(&mut self.head_waits_on);
        while self.phase.takes_part() && !in_vain {
            self.deliver(cx);
            let stable = if cx.has(Bug::ReleasesEarly) { u64::MAX } else { self.stable() };
            self.window.release(stable.min(self.streams[self.me].delivered()));
            let Some((ticket, payload)) = self.window.unpark() else { break };
            self.transmit(ticket, payload, cx);
        }
        self.advance_leave(cx);
        self.arm_heartbeat(cx);
    }

    pub(super) fn on_send(&mut self, ticket: Ticket, payload: Bytes, cx: &mut Cx<'_>) {
        let overtakes = cx.has(Bug::OvertakesParked) && self.window.has_room(payload.len());
        let refusal = if self.phase != Phase::Member {
            Some(Refusal::Leaving)
        } else if payload.len() > self.config.message_bytes_max {
            Some(Refusal::TooLarge)
        } else if !self.window.is_open() && !overtakes {
            Some(Refusal::WindowFull)
        } else {
            None
        };
        if let Some(reason) = refusal {
            cx.emit(Event::Refused { ticket, reason });
        } else if self.window.has_room(payload.len()) || cx.has(Bug::ExceedsShare) {
            // It goes behind all that is here.
            self.head_waits_on = self.waiting.is_some();
            self.transmit(ticket, payload, cx);
        } else {
            self.window.park(ticket, payload);
        }
    }

    pub(super) fn on_read(&mut self, bytes: usize, cx: &mut Cx<'_>) {
        self.unread = self.unread.saturating_sub(bytes);
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
            self.ignored.add();
            return;
        };
        let possible = match message.body {
            Body::Left { member, last, received } => {
                self.on_left(from, usize::from(member), last, &received, cx)
            }
            Body::LeftAck { member } => self.on_left_ack(from, usize::from(member)),
            // Who has taken leave is frozen: what it has told is final.
            _ if !self.phase.takes_part() && !cx.has(Bug::ReceivesFrozen) => true,
            Body::Data { sequence, time, index, count, payload } => {
                self.on_data(from, Piece { sequence, time, index, count, payload }, cx)
            }
            Body::Clock { time, after, received } => {
                self.on_clock(from, time, after, &received, cx)
            }
            Body::Want { from: first, to } => self.on_want(from, first, to, cx),
        };
        if !possible {
            self.ignored.add();
        }
    }

    /// The batch boundary: one frame for all that came in, to all, or only to who asked.
    pub(super) fn on_flush(&mut self, cx: &mut Cx<'_>) {
        self.flush_armed = false;
        if !self.phase.takes_part() {
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
    }

    /// Sends the clock and what is received to everyone.
    pub(super) fn tell_all(&mut self, cx: &mut Cx<'_>) {
        self.passed = self.clock;
        self.repair.told = cx.now();
        self.replies = 0;
        cx.send_many(&self.audience, self.message(self.clock_body()));
    }

    /// Brings up to date what is told about receipts (T2). True if anything changed.
    pub(super) fn advertise(&mut self) -> bool {
        self.advertised[self.me] = self.window.last(); // No news: the messages have told it.
        self.withheld = self.is_paused();
        if self.withheld {
            return false;
        }
        let mut news = false;
        for (sender, stream) in self.streams.iter().enumerate() {
            // What waits here for the clock of a third member must stay bounded too. The oldest
            // undelivered message is always told: others may wait for exactly that receipt.
            let full = stream.ready_bytes() > self.limits.early
                || stream.ready().len() > UNSTABLE_MESSAGES_MAX;
            let until = if full { stream.delivered() + 1 } else { stream.received() };
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
        let (time, after) = (self.clock, self.window.last());
        let mut received = self.advertised.clone();
        received[self.me] = after;
        Body::Clock { time, after, received }
    }

    pub(super) fn message(&self, body: Body) -> Message {
        Message { view: self.view, body }
    }

    pub(super) fn arm_flush(&mut self, cx: &mut Cx<'_>) {
        if !core::mem::replace(&mut self.flush_armed, true) {
            cx.set_timer(Timer::Flush, Duration::ZERO);
        }
    }

    /// `member` has shown that it may lack the clock of this one.
    pub(super) fn owe_reply(&mut self, member: usize, cx: &mut Cx<'_>) {
        if !self.has_left(member) {
            self.replies |= bit(member);
            self.arm_flush(cx);
        }
    }

    /// Whether the application has read so little that nothing more is delivered.
    pub(super) fn is_paused(&self) -> bool {
        self.unread > self.config.unread_bytes_max
    }

    /// What all members that have not left have received of this one's messages.
    pub(super) fn stable(&self) -> u64 {
        let column = self.receipts.column(self.me).iter().enumerate();
        let waited_for = column.filter(|(member, _)| !self.has_left(*member));
        waited_for.map(|(_, received)| *received).min().expect("this member has not left")
    }

    /// The sequence, time and sender of the smallest received and undelivered message.
    pub(super) fn head(&self) -> Option<(u64, u64, usize)> {
        if self.undelivered == 0 {
            return None;
        }
        let heads = self.streams.iter().enumerate().filter_map(|(sender, stream)| {
            stream.ready().front().map(|ready| (ready.time, sender))
        });
        // The order: by Lamport time, then by the position of the sender (Lamport 1978,
        // "Ordering the Events Totally").
        let (time, sender) = heads.min()?;
        Some((self.streams[sender].delivered() + 1, time, sender))
    }

    /// Whether `member`'s counted clock is not beyond `time` yet: condition (b).
    pub(super) fn lags(&self, member: usize, time: u64) -> bool {
        member != self.me && self.streams[member].counted() < time
    }

    fn is_absurd(&self, time: u64) -> bool {
        time > self.clock.saturating_add(CLOCK_LEAP_MAX) // T6
    }

    pub(super) fn transmit(&mut self, ticket: Ticket, payload: Bytes, cx: &mut Cx<'_>) {
        self.clock += u64::from(!cx.has(Bug::SendsWithoutTick)); // T2: only messages tick it.
        self.passed = self.clock;
        self.tickets.push_back(ticket);
        self.undelivered += 1;
        self.streams[self.me].push(self.clock, payload.clone());
        let own = Own { time: self.clock, payload: payload.clone(), sent: cx.now() };
        let sequence = self.window.push(own);
        self.receipts.raise(self.me, self.me, sequence);
        for piece in pieces(sequence, self.clock, &payload, self.config.fragment_bytes) {
            cx.send_many(&self.audience, self.message(piece));
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
                self.receipts.raise(self.me, from, received);
                self.head_waits_on = self.is_of_no_use(from);
                self.arm_flush(cx);
            }
        }
        self.pass(time, cx);
        true
    }

    /// Whether messages that have come from there do nothing for the head of the queue: it waits
    /// for another member, and goes before them. Of a batch, most are such.
    fn is_of_no_use(&self, from: usize) -> bool {
        let first = self.streams[from].ready().front();
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
            self.clock = self.clock.max(time);
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
        let others = self.streams.iter().enumerate().filter(|(member, _)| *member != self.me);
        let waits = cx.has(Bug::WaitsForLeavers);
        let counted = |stream: &Stream| if waits { stream.clock() } else { stream.counted() };
        let heard = others.map(|(_, stream)| counted(stream)).min().unwrap_or(u64::MAX);
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
            _ if cx.has(Bug::MajorityOfPresent) => self.audience.len().div_ceil(2) + 1,
            all if cx.has(Bug::HalfIsMajority) => all.div_ceil(2),
            _ => self.majority,
        }
    }

    fn deliver_from(&mut self, sender: usize, sequence: u64, cx: &mut Cx<'_>) {
        let ready = self.streams[sender].pop().expect("the head is there");
        self.undelivered -= 1;
        if self.withheld {
            self.arm_flush(cx);
        }
        self.position += 1;
        self.unread += ready.payload.len() + DELIVERY_OVERHEAD;
        let delivery = Delivery {
            position: self.position,
            time: ready.time,
            sender: self.members[sender],
            sequence,
            payload: ready.payload,
        };
        self.history.push(delivery.clone());
        cx.emit(Event::Delivered(delivery));
        if sender == self.me {
            let ticket = self.tickets.pop_front().expect("every own message has a ticket");
            cx.emit(Event::Sent { ticket, position: self.position });
        }
    }

    fn note_waiting(&mut self, (sequence, time, sender): (u64, u64, usize), now: Time) {
        let member = self.blocker(sequence, time, sender);
        let same = |head: &Head| (head.time, head.sender, head.member) == (time, sender, member);
        if !self.waiting.as_ref().is_some_and(same) {
            self.waiting = Some(Head { time, sender, member, since: now });
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
            .or_else(|| receipt.min_by_key(|m| (self.has_left(*m), self.receipts.of(*m, sender))))
            .unwrap_or(self.me)
    }

    /// How long the head of the queue has waited for the member that it waits for.
    pub(super) fn waited(&self, now: Time) -> Duration {
        self.waiting.as_ref().map_or(Duration::ZERO, |head| now.since(head.since))
    }

    /// From now on nothing is received or delivered here.
    pub(super) fn freeze(&mut self) {
        self.waiting = None;
        self.replies = 0;
    }
}
