//! One order: uniform total order multicast by Lamport clocks.
//!
//! Within a view, messages are ordered by Lamport time and sender. The head of the queue is
//! delivered once nothing smaller can come and a majority has it. A view ends with a decided cut,
//! the rest of which all who go on deliver, and the next begins there. The rules (T1, T2, ...),
//! what they guarantee and under which assumptions are in `docs/protocols/multicast.md`.

mod cut;
mod durable;
mod ending;
mod gather;
mod group;
mod history;
mod learning;
mod log;
mod machine;
mod patience;
mod recall;
mod receipts;
mod repair;
mod stream;
#[cfg(test)]
mod tests;
mod window;

use crate::{
    id::NodeId,
    protocol::{Context, Input, InputOf, Protocol},
    time::Time,
    view::View,
};
use alloc::{boxed::Box, vec::Vec};
use bytes::Bytes;
use core::time::Duration;
use group::Group;
use learning::Learning;
use log::Log;
use machine::is_beyond_view;

/// What a delivered message counts for in the unread bytes, beside its payload, in bytes. Who sends
/// [`Command::Read`] counts the same.
pub const DELIVERY_OVERHEAD: usize = 32;

/// The most messages of one sender that not all members have received.
const UNSTABLE_MESSAGES_MAX: usize = 65_536;

type Cx<'a> = Context<'a, Multicast>;

/// Settings of the multicast.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Config {
    /// This node.
    pub me: NodeId,
    /// The largest message, in bytes.
    pub message_bytes_max: usize,
    /// The largest piece of a message that travels in one frame, in bytes.
    pub fragment_bytes: usize,
    /// The unstable bytes of a view, split over its members: a member whose share is used up
    /// accepts no more messages until the others have received some. Also the most bytes of each
    /// sender that are kept here for who may lack them.
    pub unstable_bytes_max: usize,
    /// Delivered bytes (payloads, and [`DELIVERY_OVERHEAD`] for each) that the application has not
    /// read yet: beyond, this node delivers and acknowledges nothing more, so that senders wait.
    pub unread_bytes_max: usize,
    /// Delivered messages that are kept for who asks, in messages and in bytes.
    pub history_messages_max: usize,
    /// See above.
    pub history_bytes_max: usize,
    /// How often clock and vector are repeated while something is unstable.
    pub heartbeat: Duration,
    /// How long a sender waits for an acknowledgement before it sends again.
    pub repeat: Duration,
    /// Whether what is received and sent is on disk before any frame says so (T9).
    pub durable: bool,
}

/// What members say to each other, all within one view.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Message {
    /// The view in which it is said. In any other it is ignored (T2).
    pub view: u64,
    /// What is said.
    pub body: Body,
}

/// What members say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Body {
    /// A message, or a piece of one.
    Data {
        /// Counts the sender's messages in this incarnation, from 1.
        sequence: u64,
        /// Its Lamport time. Also a clock: "all I send after this sequence is later" (T1).
        time: u64,
        /// Which piece, from 0.
        index: u32,
        /// Of how many; 1 for a message that travels whole.
        count: u32,
        /// The piece.
        payload: Bytes,
    },
    /// "All I send after sequence `after` is later than `time`; I have received, per position,
    /// complete and without gaps, everything up to `received`" (T1, T2, T5).
    Clock {
        /// The clock.
        time: u64,
        /// The sender's last sequence.
        after: u64,
        /// Per position, absolute.
        received: Vec<u64>,
    },
    /// "I lack these messages of yours, or your clock." Answered by messages, as far as one frame
    /// may go, and by the clock; an empty range asks for the clock alone.
    Want {
        /// From this sequence
        from: u64,
        /// to this one, both included.
        to: u64,
    },
    /// "Send me these messages of the cut", by a member that is wedged in this view, or ends it (T7).
    Fetch {
        /// The position of their sender.
        sender: u16,
        /// From this sequence
        from: u64,
        /// to this one, both included.
        to: u64,
    },
    /// One of them, or a piece of it.
    Fetched {
        /// The position of its sender.
        sender: u16,
        /// As in `Data`.
        sequence: u64,
        /// As in `Data`.
        time: u64,
        /// As in `Data`.
        index: u32,
        /// As in `Data`.
        count: u32,
        /// As in `Data`.
        payload: Bytes,
    },
    /// "Tell me the order from this position on", by who was not there. In no view.
    Learn {
        /// The first position that it lacks.
        from: u64,
    },
    /// The answer: what is kept from there on, as far as one frame may go. In no view.
    Lesson {
        /// The position that was asked for. (An answer may be for an earlier life.)
        from: u64,
        /// Without gaps, oldest first; the first may be later than asked for.
        deliveries: Vec<Delivery>,
        /// The last position that the sender has delivered.
        position: u64,
    },
}

/// What a wedged member has of the order (T7): frozen, the same for every ballot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Report {
    /// Per position of the view: it has received everything up to this sequence.
    pub received: Vec<u64>,
    /// Its Lamport clock.
    pub clock: u64,
}

/// Where the order of a view ends and that of the next begins (T6).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Cut {
    /// Per position of the view that ends: the last sequence that is in its order.
    pub ends: Vec<u64>,
    /// Per position of the view that ends: everybody who goes on had received all up to here.
    pub stable: Vec<u64>,
    /// Per position of the view that begins: the last sequence before its order.
    pub begins: Vec<u64>,
    /// No smaller than the time of any message before the cut.
    pub clock: u64,
    /// The base position: that of the last message before the cut.
    pub position: u64,
    /// What comes before it is lost, at least in part: nobody waits for it (V5).
    pub lost: bool,
}

/// Who holds what of a cut.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Holder {
    /// Who.
    pub node: NodeId,
    /// Per position of the view that ends: it holds what is not stable up to this sequence.
    pub received: Vec<u64>,
}

/// One entry of the durable log (T9).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LogEntry {
    /// Counts the entries of this log, from 1.
    pub number: u64,
    /// What it says.
    pub line: Line,
}

/// What an entry of the durable log says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Line {
    /// A view begins here, and the one before it has ended with this cut, if it was the one before.
    Began {
        /// The view.
        view: Box<View>,
        /// Where it begins.
        cut: Box<Cut>,
        /// The last position that is delivered here.
        position: u64,
    },
    /// So far has the view got here. Who has all entries after `since` needs none before.
    Mark {
        /// The view.
        view: Box<View>,
        /// Per position of the view: the last sequence that is delivered here.
        delivered: Vec<u64>,
        /// The last position that is delivered here.
        position: u64,
        /// The number of an entry.
        since: u64,
    },
    /// A message of the view: received here, sent from here, or fetched for its cut.
    Message {
        /// The position of the sender in the view.
        sender: u16,
        /// Its sequence.
        sequence: u64,
        /// Its Lamport time.
        time: u64,
        /// Its payload.
        payload: Bytes,
    },
    /// A message of the order, as another has told it.
    Learned(Delivery),
    /// A part of the order that nobody keeps any more.
    Missed {
        /// From this position
        from: u64,
        /// to this one, both included.
        to: u64,
    },
    /// What was received in the view is not all here: there was no log when that began.
    Unlogged,
}

impl Line {
    /// The view that it is about, if it says so.
    pub fn view(&self) -> Option<&View> {
        match self {
            Self::Began { view, .. } | Self::Mark { view, .. } => Some(view),
            Self::Message { .. } | Self::Learned(_) | Self::Missed { .. } | Self::Unlogged => None,
        }
    }
}

/// The timers of the multicast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Timer {
    /// The batch boundary: send the clock that is owed.
    Flush,
    /// Repeat clock and vector while something is unstable, and resend what is overdue.
    Heartbeat,
    /// Ask again for what is missing.
    Want,
    /// Ask somebody else for the messages of the cut that are missing.
    Fetch,
    /// Ask somebody else for the order.
    Learn,
}

/// Which send: chosen by the application, unique in its life.
pub type Ticket = u64;

/// What the application can ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Command {
    /// Use this view, which begins at this cut.
    Install {
        /// The view.
        view: View,
        /// Where it begins.
        cut: Box<Cut>,
    },
    /// An earlier life was a member of this view, which began at this cut: this one is wedged and mute
    /// in it (V6), and knows of it what the durable log has, if there is one (T9). It can gather, and
    /// answer who fetches.
    Restore {
        /// The view.
        view: View,
        /// Where it began.
        cut: Cut,
    },
    /// Freeze: send, acknowledge, receive and deliver nothing more in this view (V2). Answered by
    /// [`Multicast::report`].
    Wedge,
    /// Get the messages of this cut that are missing here. Answered by [`Event::Gathered`].
    Gather {
        /// The cut.
        cut: Box<Cut>,
        /// Who holds them.
        holders: Vec<Holder>,
        /// Whether nothing may be left out, even by who delivers nothing of it (V6).
        insists: bool,
    },
    /// The view ends with this cut, whose messages have been gathered: deliver the rest of it.
    Close {
        /// The cut.
        cut: Box<Cut>,
    },
    /// The view goes on without this life: keep what was delivered, and what was sent in vain.
    Out,
    /// Learn the order from these nodes, to join its group. Answered by [`Event::Learned`]; said
    /// again when there are others.
    Learn {
        /// Members of the group that are up.
        teachers: Vec<NodeId>,
    },
    /// Send a message, answered by [`Event::Sent`] or [`Event::Refused`].
    Send {
        /// Names this send.
        ticket: Ticket,
        /// What to send.
        payload: Bytes,
    },
    /// The application has read this many bytes of delivered messages.
    Read {
        /// How many: payloads, and [`DELIVERY_OVERHEAD`] for each.
        bytes: usize,
    },
    /// Take no more messages, and say when all that were taken have their places:
    /// [`Event::Drained`].
    Leave,
}

/// A message in the order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Delivery {
    /// Its place in the order, from 1, without gaps, the same at every member.
    pub position: u64,
    /// Its Lamport time.
    pub time: u64,
    /// Who sent it,
    pub sender: NodeId,
    /// and in which incarnation.
    pub incarnation: u64,
    /// Counts the messages of this incarnation, from 1.
    pub sequence: u64,
    /// What it says.
    pub payload: Bytes,
}

/// What the multicast reports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Event {
    /// The next message of the order.
    Delivered(Delivery),
    /// An own message has got its place: a majority has it.
    Sent {
        /// Which send.
        ticket: Ticket,
        /// Its place.
        position: u64,
    },
    /// A send was refused: the message is not in the order and never will be.
    Refused {
        /// Which send.
        ticket: Ticket,
        /// Why.
        reason: Refusal,
    },
    /// The messages of the cut are here.
    Gathered,
    /// What is kept of the order is here, or nearly.
    Learned,
    /// The order between these positions, both included, is not kept anywhere any more.
    Missed {
        /// The first
        from: u64,
        /// and the last of them.
        to: u64,
    },
    /// This node is leaving, and all that it has sent has its place.
    Drained,
}

/// Why a send was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Refusal {
    /// There is no view yet.
    NotStarted,
    /// The message is larger than `message_bytes_max`.
    TooLarge,
    /// This member's share of the unstable bytes is used up: see `accepts_sends`.
    WindowFull,
    /// This node is leaving.
    Leaving,
    /// It may or may not be in the order: that part of it was missed here (T8).
    Unknown,
}

/// What people may look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Status {
    /// The Lamport clock.
    pub clock: u64,
    /// The last delivered position.
    pub position: u64,
    /// Own bytes that not all members have received, or that are not delivered here.
    pub unstable_bytes: usize,
    /// Delivered bytes that the application has not read.
    pub unread_bytes: usize,
    /// Received and undelivered messages, in the order in which they will be delivered.
    pub queue: Vec<Waiting>,
    /// The member that the head of the queue waits for, and since when: once the node is wedged and
    /// lacks messages of the cut, who was asked for them; while it learns what it needs first, its
    /// teacher. This node itself if its application does not read.
    pub waiting_for: Option<(NodeId, Time)>,
    /// All that the head of the queue waits for, and since when, if there is one.
    pub head: Option<HeadWait>,
    /// Per member: the counted clock.
    pub clocks: Vec<(NodeId, u64)>,
    /// Messages that were sent again.
    pub resent: u64,
    /// How many messages were ignored because nothing sensible could have sent them.
    pub ignored: u64,
}

/// What the first message of the queue waits for: nothing of the members if it is only not read yet
/// what came before it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeadWait {
    /// Since when it is the first one and cannot be delivered: so long all of these have kept it.
    pub since: Time,
    /// Whose clocks have not passed its time: each of them must.
    pub clocks: Vec<NodeId>,
    /// Who is not known to have received it, while a majority has not: some of them must.
    pub receipts: Vec<NodeId>,
}

/// A message that waits for its delivery.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Waiting {
    /// Its Lamport time.
    pub time: u64,
    /// Who sent it.
    pub sender: NodeId,
    /// Its sequence.
    pub sequence: u64,
    /// What it says.
    pub payload: Bytes,
}

/// The state machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Multicast {
    /// The part in the view. In it is the log, as long as there is one.
    group: Option<Group>,
    /// Before the first view, and between views.
    log: Option<Log>,
    /// While a part of the order is missing here.
    learning: Option<Learning>,
}

impl Multicast {
    /// A machine that has not started.
    pub fn new(config: Config) -> Self {
        assert!(config.fragment_bytes > 0, "a piece of a message has at least one byte");
        Self { group: None, log: Some(Log::new(config)), learning: None }
    }

    /// Whether a send is taken now: this member's share of the unstable bytes is not used up, and
    /// no message waits for its room, or for the next view. (Before the first view, and while
    /// leaving, a send is refused for another reason, and this says true so that it is.)
    pub fn accepts_sends(&self) -> bool {
        self.log().is_open()
    }

    /// What this node knew of its view when it was wedged, which is the same for every ballot (V2).
    /// None if it is not wedged in a view, or has no memory of it, since it still lacks what comes
    /// before it (V4).
    pub fn report(&self) -> Option<Report> {
        self.group.as_ref().and_then(Group::report)
    }

    /// The position of the last delivery.
    pub fn position(&self) -> u64 {
        self.log().position
    }

    /// The retained messages from `position` on, oldest first.
    pub fn history(&self, position: u64) -> impl Iterator<Item = &Delivery> {
        self.log().history.since(position)
    }

    /// What people may look at.
    pub fn status(&self) -> Status {
        let log = self.log();
        let mut status = self.group.as_ref().map_or_else(|| log.status(), Group::status);
        if let Some(learning) = self.learning.as_ref().filter(|learning| learning.is_needed()) {
            let me = log.is_paused().then_some((log.config.me, learning.since()));
            status.waiting_for = me.or_else(|| learning.waits_for());
        }
        status
    }

    fn log(&self) -> &Log {
        let log = self.group.as_ref().map(|group| &group.log).or(self.log.as_ref());
        log.expect("the log is in the group or here")
    }

    fn log_mut(&mut self) -> &mut Log {
        let log = self.group.as_mut().map(|group| &mut group.log).or(self.log.as_mut());
        log.expect("the log is in the group or here")
    }
}

impl Protocol for Multicast {
    type Message = Message;
    type Timer = Timer;
    type Command = Command;
    type Event = Event;

    fn handle(&mut self, input: InputOf<Self>, cx: &mut Context<'_, Self>) {
        if is_beyond_view(&input) {
            return self.beyond_view(input, cx);
        }
        let Some(group) = &mut self.group else { return self.between_views(input, cx) };
        match input {
            Input::Message { from, message } => group.on_message(from, message, cx),
            Input::Timer(Timer::Flush) => group.on_flush(cx),
            Input::Timer(Timer::Heartbeat) => group.on_heartbeat(cx),
            Input::Timer(Timer::Want) => group.on_want_timer(cx),
            Input::Timer(Timer::Fetch) => group.on_fetch_timer(cx),
            Input::Command(Command::Send { ticket, payload }) => group.on_send(ticket, payload, cx),
            Input::Command(Command::Read { bytes }) => {
                group.on_read(bytes, cx);
                if let Some(learning) = &mut self.learning {
                    learning.go_on(&group.log, cx);
                }
            }
            Input::Command(Command::Leave) => group.log.on_leave(),
            Input::Command(Command::Wedge) => group.freeze(cx),
            Input::Command(Command::Gather { cut, holders, insists }) => {
                group.on_gather(*cut, holders, insists, cx);
            }
            Input::LinkUp(peer) => group.on_link_up(peer, cx),
            // A link that is down says nothing about the node behind it. The rest is beyond the
            // view.
            _ => return,
        }
        group.settle(cx);
    }
}
