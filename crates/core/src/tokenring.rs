//! The lock: mutual exclusion by a token on a logical ring.
//!
//! Every named lock has one token per view, and who has the token may grant the lock. In
//! [`Mode::Rest`] the token rests where it was used last and is handed to the next member in ring
//! order that wants it, directly; requests are path-directed and recorded by every node that they
//! pass (after Suzuki and Kasami 1985, whose token carries the same two vectors, but who broadcast
//! the requests). In [`Mode::Circulate`] the token of the default lock goes round the ring for
//! ever (Le Lann 1977).
//!
//! *Guarantees, in a fixed view:* at most one token per lock, under loss, duplication, delay and
//! reordering of any message; fences that grow with every grant; a member that wants the lock gets
//! it after at most one turn of each other member, once its request has arrived.
//! *Not in this version:* a member that dies takes the tokens that it has with it.

mod acks;
mod leave;
mod links;
mod lock;
mod machine;
mod requests;
#[cfg(test)]
mod tests;

pub use machine::TokenRing;

use crate::{id::NodeId, view::View};
use alloc::{sync::Arc, vec::Vec};
use core::{fmt, time::Duration};

/// The longest name of a lock, in bytes.
pub const LOCK_NAME_BYTES_MAX: usize = 255;

/// The name of the lock of the classic program.
const DEFAULT_LOCK: &str = "default";

/// The name of a lock: 1 to [`LOCK_NAME_BYTES_MAX`] bytes without control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "alloc::string::String"))]
pub struct LockName(Arc<str>);

/// How the token of the default lock moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Mode {
    /// It rests where it was used last and goes straight to who wants it next.
    #[default]
    Rest,
    /// The textbook ring: it always moves on, whether anyone wants it or not.
    Circulate,
}

/// Settings of the lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Config {
    /// This node.
    pub me: NodeId,
    /// How long an idle node keeps a circulating token.
    pub hold: Duration,
    /// How many local waiters are served before the token goes on.
    pub turn: usize,
    /// How many waiters may queue at this node, over all locks.
    pub waiters_max: usize,
    /// How many locks this node remembers at most.
    pub locks_max: usize,
    /// How long a message waits for its acknowledgement before it is repeated. Acknowledgements
    /// wait for a quarter of this, so that one can answer for many.
    pub repeat: Duration,
    /// How long a `try` waits for the holder's answer.
    pub try_timeout: Duration,
}

/// A token on its way: everything that is known about the lock travels in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Token {
    /// The sequence of the last grant; the fence is `(view − 1) << 40 | sequence` (H10).
    pub sequence: u64,
    /// How many hops a circulating token has made.
    pub hops: u64,
    /// Per position: the number of the newest request that is known. More than `served` = waits.
    pub wanted: Vec<u64>,
    /// Per position: the number of the newest request that has had its turn.
    pub served: Vec<u64>,
}

/// What the members of the ring say to each other, all within one view.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Message {
    /// The view in which it is said. In any other it is ignored (H17).
    pub view: u64,
    /// What is said.
    pub body: Body,
}

/// What the members of the ring say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Body {
    /// The token of a lock. Repeated until acknowledged.
    Pass {
        /// Counts the passes from this sender to this receiver: by this number alone are
        /// duplicates recognised (H1, H9).
        number: u64,
        /// Which lock.
        lock: LockName,
        /// Its token.
        token: Token,
    },
    /// All passes with these numbers have arrived.
    PassAck(Received),
    /// "I want this lock": sent after the token, recorded by everyone on the way (§5).
    Request {
        /// Which lock.
        lock: LockName,
        /// The position of who wants it.
        requester: u16,
        /// The requester's number for it, from one counter per life (H13).
        number: u64,
        /// How many nodes have forwarded it.
        hops: u16,
    },
    /// "Your request is recorded in the token." Not said to whom gets the token soon.
    Recorded {
        /// Which lock.
        lock: LockName,
        /// The number of the request.
        number: u64,
    },
    /// "May I have this lock at once?": forwarded to the holder, recorded by nobody.
    Try {
        /// Which lock.
        lock: LockName,
        /// The position of who asks.
        requester: u16,
        /// The requester's number for it.
        number: u64,
        /// How many nodes have forwarded it.
        hops: u16,
    },
    /// "No."
    Busy {
        /// Which lock.
        lock: LockName,
        /// The number of the question.
        number: u64,
    },
    /// "Has this lock's token ever been with you?", by a home that has taken over from one that left.
    Ask {
        /// Which lock.
        lock: LockName,
        /// Counts the rounds of questions of the asker.
        round: u64,
    },
    /// The answer.
    Answer {
        /// Which lock.
        lock: LockName,
        /// That of the question.
        round: u64,
        /// Whether the token has ever been there.
        known: bool,
    },
    /// "I am leaving: pass me nothing more." Repeated until acknowledged.
    Leaving,
    /// "I shall pass you nothing more; my last pass to you had this number."
    LeavingAck {
        /// The number; 0 if there never was one.
        last_pass: u64,
    },
    /// "This member has left the ring, and has received these passes." Repeated until
    /// acknowledged; anyone who knows may say so.
    Left {
        /// Its position.
        member: u16,
        /// Per position, the passes that it has received from there, for ever.
        received: Vec<Received>,
    },
    /// "I know that this member has left."
    LeftAck {
        /// Its position.
        member: u16,
    },
}

/// The passes that have arrived over one link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Received {
    /// All numbers up to this one.
    pub up_to: u64,
    /// And these beyond.
    pub also: Vec<u64>,
}

/// The timers of the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Timer {
    /// Acknowledge passes and requests.
    Acknowledge,
    /// Repeat what has not been acknowledged.
    Repeat,
    /// The circulating token has rested here long enough.
    Hold,
}

/// Which wait: chosen by the application, unique in its life.
pub type Ticket = u64;

/// What the application can ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Command {
    /// Use this view, of which the member at position `founder` is the founder.
    Install {
        /// The view.
        view: View,
        /// The position of its founder.
        founder: usize,
    },
    /// Get the lock, answered by [`Event::Granted`] or [`Event::Refused`].
    Lock {
        /// Which lock.
        lock: LockName,
        /// Names this wait.
        ticket: Ticket,
        /// Whether to give up at once if somebody else has it.
        wait: Wait,
    },
    /// Release the lock granted to this ticket, or stop waiting for it: one decision point.
    Unlock {
        /// Which lock.
        lock: LockName,
        /// Which wait.
        ticket: Ticket,
    },
    /// Hand everything over and leave the ring, answered by [`Event::LeaveDone`].
    Leave,
}

/// Whether a wait waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Wait {
    /// In the queue, until it is granted.
    Queue,
    /// Not at all.
    Try,
}

/// What the lock reports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Event {
    /// The lock was granted.
    Granted {
        /// Which lock.
        lock: LockName,
        /// To which wait.
        ticket: Ticket,
        /// The fencing token: larger than that of any earlier grant of this lock.
        fence: u64,
    },
    /// The lock was released.
    Released {
        /// Which lock.
        lock: LockName,
        /// By which wait.
        ticket: Ticket,
        /// Its fencing token.
        fence: u64,
    },
    /// The wait ended without a grant.
    Refused {
        /// Which lock.
        lock: LockName,
        /// Which wait.
        ticket: Ticket,
        /// Why.
        reason: Refusal,
    },
    /// A circulating token arrived here.
    Token {
        /// The view.
        view: u64,
        /// How many hops it has made.
        hop: u64,
        /// Who passed it on.
        from: NodeId,
    },
    /// The lock waits for this member, which is not reached.
    WaitingFor(NodeId),
    /// This member has left the ring, which closes around it.
    MemberLeft(NodeId),
    /// This node has left the ring: everything is handed over.
    LeaveDone,
}

/// Why a wait ended without a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Refusal {
    /// There is no ring yet.
    NotStarted,
    /// Somebody else has the lock, or nobody answered in time.
    NotAvailable,
    /// The wait was cancelled by `Unlock`.
    Cancelled,
    /// This node is leaving.
    Leaving,
    /// This node has too many waiters or locks.
    TooMany,
    /// The fences of this view are used up.
    FencesUsedUp,
    /// No such wait.
    NotHeld,
}

/// What people may look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Status {
    /// The locks that this node knows.
    pub locks: Vec<LockStatus>,
    /// Unacknowledged passes, requests and leaves.
    pub unacknowledged: usize,
    /// A member without which the lock stands still, if there is one.
    pub waiting_for: Option<NodeId>,
    /// The members that have left.
    pub left: Vec<NodeId>,
    /// How many messages were ignored because nothing sensible could have sent them.
    pub ignored: u64,
}

/// One lock as this node knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LockStatus {
    /// Which lock.
    pub lock: LockName,
    /// Whether the token is here.
    pub token: bool,
    /// The fence of the local holder.
    pub fence: Option<u64>,
    /// The sequence of the last grant known here.
    pub sequence: u64,
    /// Local waiters.
    pub waiters: usize,
    /// Other members known to want it, in the order in which they will get it.
    pub wanted_by: Vec<NodeId>,
    /// Hops of a circulating token when it was last here.
    pub hops: u64,
    /// Where the token was passed last, if it is not here.
    pub passed_to: Option<NodeId>,
}

impl LockName {
    /// Checks `text` and makes a lock's name of it.
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=LOCK_NAME_BYTES_MAX).contains(&text.len());
        (fits && !text.chars().any(char::is_control)).then(|| Self(text.into()))
    }

    /// The lock of the classic program.
    pub fn default_lock() -> Self {
        Self(DEFAULT_LOCK.into())
    }

    /// Whether it is that.
    pub fn is_default(&self) -> bool {
        self.as_str() == DEFAULT_LOCK
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(feature = "serde")]
impl TryFrom<alloc::string::String> for LockName {
    type Error = &'static str;

    fn try_from(text: alloc::string::String) -> Result<Self, Self::Error> {
        Self::new(&text).ok_or("this is not the name of a lock")
    }
}

impl fmt::Debug for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
