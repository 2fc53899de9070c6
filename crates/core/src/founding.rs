//! Founding: how the listed nodes become one group with view 1 (rule V8, in memory; in
//! `tokenring` it is the starting walk, rule S3 `start`).
//!
//! The founder sends a walk round the ring that the `next` pointers make. Everyone it passes says
//! *yes* by adding itself and sending it on: a yes is the tentative record, and gives up any older
//! one. When the walk is back and has passed all listed nodes, the founder is *active* and
//! announces the view; whoever hears that becomes active and says so. A member uses the view once
//! it knows a strict majority to be active.

mod machine;
#[cfg(test)]
mod tests;
mod walk;

pub use machine::Founding;

use crate::{
    id::{Life, Name, NodeId},
    tokenring::Mode,
    view::{Value, View},
};
use alloc::{boxed::Box, vec::Vec};
use core::time::Duration;

/// Settings of the founding.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Config {
    /// The name of this node; it is in `list`.
    pub name: Name,
    /// This run of the process.
    pub life: Life,
    /// The listed nodes, in the order of the file: the members of view 1.
    pub list: Vec<Name>,
    /// The node that follows this one on the ring; by default the next one of the list.
    pub next: Option<Name>,
    /// When this node founds.
    pub trigger: Trigger,
    /// How the token of the default lock moves, if this node founds.
    pub mode: Mode,
    /// How long the word of a quorum lets a member grant locks, if this node founds.
    pub lease: Duration,
}

/// When a node founds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Trigger {
    /// When [`Command::Start`] says so, on whichever node.
    Command,
    /// By itself, if it is the first of the list, once all the others have been reached.
    FirstOfList,
}

/// Which walk: that of a starter with a smaller index takes precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Start {
    /// The position of the starter in the list.
    pub index: u16,
    /// A random number that tells this walk from all others.
    pub run: u64,
}

/// One step of a walk: who passed it on, in which life, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Step {
    /// Position in the list.
    pub position: u16,
    /// Its life.
    pub life: Life,
    /// The position of its next node.
    pub next: u16,
}

/// What founders and founded say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Message {
    /// The walk, sent along the `next` pointers. Repeated by the starter until it is back.
    Walk {
        /// Whose walk.
        start: Start,
        /// Hash of the ordered list of names: it must be the same everywhere.
        digest: u64,
        /// Who has said yes so far, the starter first.
        path: Vec<Step>,
    },
    /// "No", to the starter.
    Refuse {
        /// Which walk.
        run: u64,
        /// Why.
        reason: Refusal,
    },
    /// "I have given this walk up", by the starter.
    Withdraw {
        /// Which walk.
        run: u64,
    },
    /// "Which view are you active in, and what became of this walk of yours?"
    Ask {
        /// The walk that the sender has said yes to, if any.
        run: Option<u64>,
        /// Comes back with the answer, and proves that it is one.
        nonce: u64,
    },
    /// "This is view 1", by anyone active.
    Announce {
        /// That of the question; 0 if nobody asked.
        nonce: u64,
        /// The walk that made it.
        run: u64,
        /// The view.
        view: View,
        /// The position of its founder.
        founder: u16,
    },
    /// "I am active in the view of this walk."
    Active {
        /// The walk.
        run: u64,
        /// Whether the receiver should say so too.
        answer: bool,
    },
}

/// Why a walk is refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Refusal {
    /// The group exists already; its founder is at this position of the list.
    AlreadyStarted {
        /// Position of the founder.
        by: u16,
    },
    /// A starter with a smaller index is at it.
    GaveWay {
        /// Position of that starter.
        to: u16,
    },
    /// The nodes were started with different lists.
    OtherList,
    /// The yes was forgotten when the link to the starter dropped: start again.
    Forgotten,
    /// Two nodes name the same next node: positions of the two, and of that node.
    SharedSuccessor {
        /// The one that the walk had passed before.
        first: u16,
        /// The one that it came from now.
        second: u16,
        /// The node that both name.
        next: u16,
    },
    /// The ring closes before it has passed all: positions that are not on it.
    LeftOut(Vec<u16>),
}

/// The timers of the founding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Timer {
    /// Repeat what has not been answered.
    Repeat,
}

/// What the application can ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Found the group from here.
    Start,
    /// Take part in no founding any more.
    Leave,
    /// The group has taken this life in: say that it is active.
    Adopt,
}

/// What the founding reports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Event {
    /// The start waits for these listed nodes, which are not reached yet.
    WaitingFor(Vec<Name>),
    /// A strict majority is active in view 1: it may be used.
    Installed {
        /// Which group.
        run: u64,
        /// The view, and what begins with it.
        value: Box<Value>,
    },
    /// The start was refused.
    Refused(StartError),
    /// The group exists, and this life is not in its first view: it may join (V6, V8).
    Outside {
        /// Which group.
        run: u64,
    },
}

/// Why a start did not happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum StartError {
    /// A start of this node is under way.
    Starting,
    /// The group was started already, by this node.
    AlreadyStarted(Name),
    /// Another start, by this node, takes precedence.
    GaveWay(Name),
    /// Some node was started with another list.
    OtherList,
    /// The first two name the third as their next node.
    SharedSuccessor(Name, Name, Name),
    /// The ring closes without these.
    LeftOut(Vec<Name>),
    /// This node is not in a group that could be started.
    NoGroup,
}

/// What people may look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Status {
    /// How far the founding is.
    pub phase: Phase,
    /// Listed nodes that are not reached at the moment.
    pub absent: Vec<NodeId>,
}

/// How far the founding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nothing has begun.
    Idle,
    /// This node has said yes to a walk, its own or another's.
    Tentative,
    /// The view is decided, but no majority is known to be active.
    Active,
    /// The view is in use.
    Installed,
    /// The group exists without this life.
    Outside,
}
