//! The lock: mutual exclusion by a token on a logical ring.
//!
//! Every named lock has one token per view, and who has the token may grant the lock. In
//! [`Mode::Rest`] the token rests where it was used last and is handed to the next member in ring
//! order that wants it, directly; requests are path-directed and recorded by every node that they
//! pass (after Suzuki and Kasami 1985, whose token carries the same two vectors, but who broadcast
//! the requests). In [`Mode::Circulate`] the token of the default lock goes round the ring for
//! ever (Le Lann 1977).
//!
//! *Guarantees:* at most one token per lock and view, under loss, duplication, delay and reordering
//! of any message; fences that grow with every grant; a member that wants the lock gets it after at
//! most one turn of each other member, once its request has arrived. A token that is lost with a
//! member is made anew in the next view, and granted there only when no guard of the lost one can be
//! valid any more, as long as clocks run at nearly the same rate (§4).

mod acks;
mod guards;
mod idle;
mod install;
mod lease;
mod links;
mod lock;
mod machine;
mod placement;
mod repeat;
mod requests;
#[cfg(test)]
mod tests;

pub use machine::TokenRing;
pub use placement::home;

use crate::{id::NodeId, time::Time, view::View};
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
    /// How long a lock that nobody uses is remembered, at least: its token goes home after this
    /// span to twice that, and is forgotten there in the same way. None: until the view ends.
    pub idle: Option<Duration>,
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
    /// It may not be granted before the embargo of its holder is over: an earlier one was lost, or
    /// may have been. The first grant clears it.
    pub fresh: bool,
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
    /// "By my clock it is now `stamp`; the newest stamp of yours that has come is `echo`": what the
    /// lease is made of (§4, rule 1). Nobody says so after its own promise.
    Stamp {
        /// Nanoseconds on the sender's clock.
        stamp: u64,
        /// Nanoseconds on the receiver's clock; 0 if none has come in this view.
        echo: u64,
        /// Whether the sender needs the echo of this one at once.
        answer: bool,
    },
}

/// What a wedged member knows (H1): frozen, the same for every ballot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Report {
    /// The tokens that are here.
    pub held: Vec<Known>,
    /// Passes that are not acknowledged.
    pub sent: Vec<Sent>,
    /// Per position: the passes that have arrived from there.
    pub received: Vec<Received>,
    /// The locks that exist, of those whose home is here (H2).
    pub home: Vec<LockName>,
    /// The locks on which a client here has a guard that is not lost.
    pub guards: Vec<LockName>,
}

/// What goes on of a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Known {
    /// Which lock.
    pub lock: LockName,
    /// The sequence of its last grant in this view.
    pub sequence: u64,
    /// How many hops it has made, if it circulates.
    pub hops: u64,
    /// Whether it has not been granted since it was made anew.
    pub fresh: bool,
}

/// A pass that is not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Sent {
    /// The position of the receiver.
    pub to: u16,
    /// Its number.
    pub number: u64,
    /// Its token, as it was sent.
    pub token: Known,
}

/// Where the tokens are at the beginning of a view.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Placement {
    /// All tokens that exist, by the name of their lock.
    pub tokens: Vec<Placed>,
    /// A life of the view before is lost: everybody sets the embargo (§4, rule 4).
    pub lost: bool,
    /// Whether a token that is created on demand in this view is fresh (H2): a life that may have
    /// had it was lost in this change or an earlier one.
    pub unknown_fresh: bool,
}

/// Where a token is at the beginning of a view.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Placed {
    /// Which lock.
    pub lock: LockName,
    /// The position of the member that has it, in the new view.
    pub at: u16,
    /// How many hops it has made, if it circulates.
    pub hops: u64,
    /// Whether it is made anew, and waits for the embargo.
    pub fresh: bool,
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
    /// The lease ends now, if it was not renewed.
    Lease,
    /// The embargo is over.
    Embargo,
    /// Look for locks that nobody uses.
    Idle,
}

/// Which wait: chosen by the application, unique in its life.
pub type Ticket = u64;

/// What the application can ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Command {
    /// Use this view, with the tokens where they are placed. The first of a life may only be that
    /// of its founding or of its joining.
    Install {
        /// The view.
        view: View,
        /// Where the tokens are.
        placement: Placement,
        /// Whether this life was not a member of the view before.
        joins: bool,
    },
    /// Freeze: grant, pass, accept and echo nothing more in this view (V2, H6). Answered by
    /// [`TokenRing::report`].
    Wedge,
    /// The group goes on without this life: all guards are lost (H7).
    Out,
    /// A heartbeat is due: stamps go with it.
    Beat,
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
    /// Dismiss all clients and take no more: the member leaves with the next view.
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
    /// The guard is not valid any more, whatever its client does.
    Lost {
        /// Which lock.
        lock: LockName,
        /// Which wait.
        ticket: Ticket,
        /// Its fencing token.
        fence: u64,
        /// Why.
        reason: Loss,
    },
    /// The token of this lock was lost and is made anew here.
    Regenerated {
        /// Which lock.
        lock: LockName,
    },
}

/// Why a guard is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Loss {
    /// The lease has ended: this node has not heard a quorum for so long.
    LeaseEnded,
    /// The group goes on without this node.
    Excluded,
    /// The token was placed elsewhere in a new view.
    Elsewhere,
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
    /// Unacknowledged passes.
    pub unacknowledged: usize,
    /// A member without which the lock stands still, if there is one.
    pub waiting_for: Option<NodeId>,
    /// Until when grants here are valid, on the clock of this node: the end of time if its own word
    /// is enough.
    pub lease_until: Time,
    /// Until when fresh tokens are not granted here.
    pub embargo_until: Time,
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
