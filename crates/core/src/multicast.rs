//! One order: uniform total order multicast by Lamport clocks.

use crate::{id::NodeId, time::Time, view::View};
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;

/// Settings of the multicast.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// This node.
    pub me: NodeId,
    /// The largest message, in bytes.
    pub message_bytes_max: usize,
    /// The largest piece of a message that travels in one frame, in bytes.
    pub fragment_bytes: usize,
    /// The unstable bytes of a view, split over its members: a member whose share is used up
    /// accepts no more messages until the others have received some.
    pub unstable_bytes_max: usize,
    /// Delivered bytes that the application has not read yet: beyond, this node acknowledges
    /// nothing more, so that senders wait.
    pub unread_bytes_max: usize,
    /// Delivered messages that are kept for who asks, in messages and in bytes.
    pub history_messages_max: usize,
    /// See above.
    pub history_bytes_max: usize,
    /// How often clock and vector are repeated while something is unstable.
    pub heartbeat: Duration,
    /// How long a sender waits for an acknowledgement before it sends again.
    pub repeat: Duration,
}

/// What members say to each other, all within one view.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// The view in which it is said. In any other it is ignored (T2).
    pub view: u64,
    /// What is said.
    pub body: Body,
}

/// What members say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    /// "I lack these messages of yours."
    Want {
        /// From this sequence
        from: u64,
        /// to this one, both included.
        to: u64,
    },
    /// "This member has left; its last message had this sequence, and its clock is final."
    /// Repeated until acknowledged; anyone who knows may say so.
    Left {
        /// Its position.
        member: u16,
        /// Its last sequence.
        last: u64,
    },
    /// "I know that this member has left."
    LeftAck {
        /// Its position.
        member: u16,
    },
}

/// One line of the durable log (rule T9; nothing is appended in this version).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogEntry {
    /// Counts the entries of this log, from 1.
    pub number: u64,
    /// The position of the sender in the view.
    pub sender: u16,
    /// Its sequence.
    pub sequence: u64,
    /// Its Lamport time.
    pub time: u64,
    /// Its payload.
    pub payload: Bytes,
}

/// The timers of the multicast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// The batch boundary: send the clock that is owed.
    Flush,
    /// Repeat clock and vector while something is unstable, and resend what is overdue.
    Heartbeat,
    /// Ask again for what is missing.
    Want,
}

/// Which send: chosen by the application, unique in its life.
pub type Ticket = u64;

/// What the application can ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Use this view.
    Install {
        /// The view.
        view: View,
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
        /// How many.
        bytes: usize,
    },
    /// Wait until everything sent from here is received everywhere, then leave, answered by
    /// [`Event::LeaveDone`].
    Leave,
}

/// A message in the order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Delivery {
    /// Its place in the order, from 1, without gaps, the same at every member.
    pub position: u64,
    /// Its Lamport time.
    pub time: u64,
    /// Who sent it.
    pub sender: NodeId,
    /// Counts the sender's messages, from 1.
    pub sequence: u64,
    /// What it says.
    pub payload: Bytes,
}

/// What the multicast reports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    /// This member has left the order: its last clock counts as final.
    MemberLeft(NodeId),
    /// This node has left the order.
    LeaveDone,
}

/// Why a send was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// There is no view yet.
    NotStarted,
    /// The message is larger than `message_bytes_max`.
    TooLarge,
    /// This member's share of the unstable bytes is used up: see `accepts_sends`.
    WindowFull,
    /// This node is leaving.
    Leaving,
}

/// What people may look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Status {
    /// The Lamport clock.
    pub clock: u64,
    /// The last delivered position.
    pub position: u64,
    /// Own bytes that not all members have received.
    pub unstable_bytes: usize,
    /// Delivered bytes that the application has not read.
    pub unread_bytes: usize,
    /// Received and undelivered messages, in the order in which they will be delivered.
    pub queue: Vec<Waiting>,
    /// The member that the head of the queue waits for, and since when.
    pub waiting_for: Option<(NodeId, Time)>,
    /// Per member: the counted clock.
    pub clocks: Vec<(NodeId, u64)>,
    /// The members that have left.
    pub left: Vec<NodeId>,
    /// Messages that were sent again.
    pub resent: u64,
    /// How many messages were ignored because nothing sensible could have sent them.
    pub ignored: u64,
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
    config: Config,
}

impl Multicast {
    /// A machine that has not started.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// Whether a send is accepted now: this member's share of the unstable bytes is not used up.
    pub fn accepts_sends(&self) -> bool {
        true
    }

    /// The retained messages from `position` on, oldest first.
    pub fn history(&self, position: u64) -> impl Iterator<Item = &Delivery> {
        let _ = position;
        core::iter::empty()
    }

    /// What people may look at.
    pub fn status(&self) -> Status {
        panic!("to be written: {:?}", self.config)
    }
}

impl crate::protocol::Protocol for Multicast {
    type Message = Message;
    type Timer = Timer;
    type Command = Command;
    type Event = Event;

    fn handle(
        &mut self,
        _input: crate::protocol::InputOf<Self>,
        _cx: &mut crate::protocol::Context<'_, Self>,
    ) {
    }
}
