//! What outlasts the views: what was delivered here, and what this node has sent.

use super::{
    Config, Cx, DELIVERY_OVERHEAD, Delivery, Event, Refusal, Status, Ticket, durable::Journal,
    gather::Ended, history::History, recall::Recall, window::Window,
};
use crate::{planted::Bug, tally::Tally};
use alloc::{boxed::Box, collections::VecDeque};
use bytes::Bytes;

/// What outlasts the views.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Log {
    pub(super) config: Config,
    /// The incarnation in which this node was a member last; 0 if it never was.
    pub(super) incarnation: u64,
    /// The Lamport clock: the largest time that was seen or given.
    pub(super) clock: u64,
    /// The position of the last delivery.
    pub(super) position: u64,
    pub(super) unread: usize,
    pub(super) history: History,
    pub(super) window: Window,
    /// Own messages that are not delivered here: the last ones of the window.
    pub(super) tickets: VecDeque<Ticket>,
    /// Own messages of an incarnation that was left out, of which it is not known yet whether they
    /// are in the order.
    pub(super) former: Former,
    /// The view that was closed last, for those that have not closed it yet.
    pub(super) ended: Option<Ended>,
    /// What is known of the durable log, if there is one (T9).
    pub(super) journal: Option<Journal>,
    /// What was read of it, until the view is known that it is about.
    pub(super) recalled: Option<Box<Recall>>,
    pub(super) leaving: bool,
    drained: bool,
    pub(super) resent: Tally,
    pub(super) ignored: Tally,
}

/// Own messages of an incarnation that was left out (T8).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Former {
    incarnation: u64,
    sends: VecDeque<Lost>,
    /// Positions were missed since: what is not learned may be in the order all the same.
    missed: bool,
}

/// An own message of which it is not known whether it is in the order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Lost {
    sequence: u64,
    ticket: Ticket,
    payload: Bytes,
}

impl Log {
    /// Nothing delivered and nothing sent.
    pub(super) fn new(config: Config) -> Self {
        Self {
            incarnation: 0,
            clock: 0,
            position: 0,
            unread: 0,
            history: History::new(&config),
            window: Window::new(config.unstable_bytes_max),
            tickets: VecDeque::new(),
            former: Former::default(),
            ended: None,
            journal: config.durable.then(Journal::default),
            recalled: None,
            leaving: false,
            drained: false,
            resent: Tally::default(),
            ignored: Tally::default(),
            config,
        }
    }

    /// The same for another group, whose order has nothing to do with that of the one before.
    pub(super) fn begin_anew(mut self, cx: &mut Cx<'_>) -> Self {
        self.former.missed = true;
        self.take_former(cx);
        let journal = self.journal.map(Journal::begin_anew);
        Self { unread: self.unread, leaving: self.leaving, journal, ..Self::new(self.config) }
    }

    /// Whether a send would not be refused because of the window.
    pub(super) fn is_open(&self) -> bool {
        self.window.is_open() || self.leaving || self.incarnation == 0
    }

    /// Whether the application has read so little that nothing more is delivered.
    pub(super) fn is_paused(&self) -> bool {
        self.unread > self.config.unread_bytes_max
    }

    /// What people may look at while there is no view.
    pub(super) fn status(&self) -> Status {
        Status {
            clock: self.clock,
            position: self.position,
            unstable_bytes: self.window.bytes(),
            unread_bytes: self.unread,
            resent: self.resent.count(),
            ignored: self.ignored.count(),
            ..Status::default()
        }
    }

    /// Why a message of this size is not taken now, if it is not.
    pub(super) fn refusal(&self, bytes: usize) -> Option<Refusal> {
        if self.leaving {
            Some(Refusal::Leaving)
        } else if self.incarnation == 0 {
            Some(Refusal::NotStarted)
        } else if bytes > self.config.message_bytes_max {
            Some(Refusal::TooLarge)
        } else if !self.window.is_open() {
            Some(Refusal::WindowFull)
        } else {
            None
        }
    }

    /// A send while there is no view: it waits for the next one.
    pub(super) fn on_send(&mut self, ticket: Ticket, payload: Bytes, cx: &mut Cx<'_>) {
        match self.refusal(payload.len()) {
            Some(reason) => cx.emit(Event::Refused { ticket, reason }),
            None => self.window.park(ticket, payload),
        }
    }

    pub(super) fn on_read(&mut self, bytes: usize) {
        self.unread = self.unread.saturating_sub(bytes);
    }

    /// No more sends are taken.
    pub(super) fn on_leave(&mut self) {
        self.leaving = true;
    }

    /// Says once that all that was taken has its place.
    pub(super) fn advance_leave(&mut self, cx: &mut Cx<'_>) {
        if !self.leaving || self.drained {
            return;
        }
        let placed =
            self.tickets.is_empty() && self.former.sends.is_empty() && !self.window.has_parked();
        if placed || cx.has(Bug::DrainsEarly) {
            self.drained = true;
            cx.emit(Event::Drained);
        }
    }

    /// There is no view any more in which what is left could get its place.
    pub(super) fn give_up(&mut self, cx: &mut Cx<'_>) {
        for lost in core::mem::take(&mut self.former.sends) {
            cx.emit(Event::Refused { ticket: lost.ticket, reason: Refusal::Unknown });
        }
        if let Some(ticket) = self.window.discard_parked() {
            cx.emit(Event::Refused { ticket, reason: Refusal::Leaving });
        }
        self.advance_leave(cx);
    }

    /// The next message of the order, whose position is the next.
    pub(super) fn deliver(&mut self, delivery: Delivery, cx: &mut Cx<'_>) {
        self.position = delivery.position;
        self.unread += delivery.payload.len() + DELIVERY_OVERHEAD;
        self.history.push(delivery.clone());
        cx.emit(Event::Delivered(delivery));
    }

    /// The next message of the order, as another has delivered it. If it is an own one of a former
    /// incarnation, its send is resolved (T8).
    pub(super) fn learn(&mut self, delivery: Delivery, cx: &mut Cx<'_>) {
        let (position, sequence) = (delivery.position, delivery.sequence);
        let own =
            delivery.sender == self.config.me && delivery.incarnation == self.former.incarnation;
        self.write_learned(&delivery, cx);
        self.deliver(delivery, cx);
        while let Some(lost) =
            self.former.sends.pop_front_if(|lost| own && lost.sequence <= sequence)
        {
            cx.emit(if lost.sequence == sequence {
                Event::Sent { ticket: lost.ticket, position }
            } else {
                // It was before this one, in what was missed.
                Event::Refused { ticket: lost.ticket, reason: Refusal::Unknown }
            });
        }
    }

    /// Nobody keeps what comes before position `next`.
    pub(super) fn miss(&mut self, next: u64, cx: &mut Cx<'_>) {
        self.write_missed(self.position + 1, next - 1, cx);
        cx.emit(Event::Missed { from: self.position + 1, to: next - 1 });
        self.position = next - 1;
        self.history.clear();
        self.former.missed = true;
    }

    /// This incarnation is left out: what it has sent may be in the order, or not.
    pub(super) fn part(&mut self) {
        if !self.tickets.is_empty() {
            let first = self.window.last() + 1 - self.tickets.len() as u64;
            let messages = self.window.range(first, self.window.last());
            let lost = messages.zip(&self.tickets).map(|((sequence, own), ticket)| Lost {
                sequence,
                ticket: *ticket,
                payload: own.payload.clone(),
            });
            self.former =
                Former { incarnation: self.incarnation, sends: lost.collect(), missed: false };
            self.tickets.clear();
        }
        self.window.clear();
        if let Some(journal) = &mut self.journal {
            journal.part();
        }
    }

    /// Everything up to the base is delivered here: what is left of a former incarnation is not in
    /// the order and never will be, so it may be sent anew. Unless positions were missed (T8).
    pub(super) fn take_former(&mut self, cx: &mut Cx<'_>) -> VecDeque<(Ticket, Bytes)> {
        let former = core::mem::take(&mut self.former);
        if former.missed {
            for lost in former.sends {
                cx.emit(Event::Refused { ticket: lost.ticket, reason: Refusal::Unknown });
            }
            return VecDeque::new();
        }
        former.sends.into_iter().map(|lost| (lost.ticket, lost.payload)).collect()
    }
}
