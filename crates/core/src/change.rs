//! The view change: how the members agree on what follows their view (rules V1 to V10).
//!
//! The end of view *k* is one instance of Paxos (Lamport 2001) among the members of *k*: a
//! coordinator *prepares*, each member that *promises* is *wedged* (its lock and its order are frozen
//! in *k*) and reports what they know, the coordinator makes a [`Value`] of the reports, or proposes
//! again what an earlier one may have got accepted, and what a quorum has *accepted* is *decided* and
//! installed. So there is one chain of views, whoever fails and whenever.
//!
//! *Guarantees:* no two members ever install different values for one view. *Liveness:* as long as
//! a quorum of the members hear each other.

mod attempt;
mod hearing;
mod joining;
mod machine;
mod merge;
#[cfg(test)]
mod tests;

pub use machine::ViewChange;

use crate::{
    id::{Life, Name, NodeId},
    multicast, tokenring,
    view::{Ballot, Value, View},
};
use alloc::{boxed::Box, vec::Vec};
use core::time::Duration;

/// Settings of the view change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Config {
    /// The name of this node.
    pub name: Name,
    /// This run of the process.
    pub life: Life,
    /// The node that follows this one on the ring, if it joins: the newcomer stands before it.
    pub next: Option<Name>,
    /// How long a link may be down before its end is a suspicion: time enough to dial again.
    pub grace: Duration,
    /// How long a coordinator has before the next one tries, and how long reports beyond a quorum
    /// are waited for.
    pub patience: Duration,
    /// How long a message waits for its answer before it is repeated.
    pub repeat: Duration,
}

/// What members, and those who want to be, say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Message {
    /// In which group. Of any other, nothing is heard.
    pub cluster: u64,
    /// The view that it is about: the one whose end is decided, or that is installed.
    pub view: u64,
    /// What is said.
    pub body: Body,
}

/// What members, and those who want to be, say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Body {
    /// "I am in this view, and hear these members of it", with each heartbeat and at each change
    /// (V10).
    Beat {
        /// A bit per position; the own one is set.
        hears: u64,
        /// The lives that ask to be taken in, as far as they are heard here (V4).
        joiners: Vec<Life>,
        /// What the sender is wedged by, if it is.
        wedged: Option<Ballot>,
    },
    /// Phase 1a: "promise to take part in no smaller ballot".
    Prepare {
        /// The ballot.
        ballot: Ballot,
    },
    /// Phase 1b: "I am wedged; this is what I have accepted, and what I know".
    Promise {
        /// The ballot.
        ballot: Ballot,
        /// What was accepted in the largest smaller ballot.
        accepted: Option<Box<(Ballot, Value)>>,
        /// The same for every ballot of this view (V2).
        report: Box<Report>,
    },
    /// "I have promised this larger ballot."
    Refuse {
        /// That one.
        promised: Ballot,
    },
    /// Phase 2a: "accept this".
    Accept {
        /// The ballot.
        ballot: Ballot,
        /// The value.
        value: Box<Value>,
    },
    /// Phase 2b: "I have accepted it, and hold all messages of its cut".
    Accepted {
        /// The ballot.
        ballot: Ballot,
    },
    /// "This follows the view": by whoever knows, to whoever is behind (V1).
    Decided {
        /// The value.
        value: Box<Value>,
    },
    /// "What follows this view of mine?"
    Ask,
    /// "Take me in": by a life that is not a member and holds the order as far as it is kept.
    Join {
        /// Its name.
        name: Name,
        /// Its life.
        life: Life,
        /// The member before which it stands on the ring, if it says so.
        next: Option<Name>,
        /// The members that it hears: it is taken in when all hear it and it hears all (V4).
        hears: Vec<NodeId>,
    },
    /// "I cannot take you in."
    JoinRefused {
        /// Why.
        reason: JoinRefusal,
    },
    /// "Leave me out of the next view": my clients are gone and my messages have their places.
    Leave,
}

/// Why a join is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum JoinRefusal {
    /// Another life of this name is a member and is heard (V7).
    NameTaken,
    /// The view is full.
    Full,
}

/// What a member that is wedged knows (V2): the same for every ballot of its view.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Report {
    /// The life that reports. If it is not the one that the view lists, it knows nothing (V6).
    pub life: Option<Life>,
    /// It wants to be left out.
    pub leaves: bool,
    /// Of the order: none without memory (V4, V6).
    pub order: Option<multicast::Report>,
    /// Of the lock: none without memory (H3).
    pub lock: Option<tokenring::Report>,
    /// No position beyond this one has been given here (V5).
    pub ceiling: u64,
}

/// The timers of the view change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Timer {
    /// A link has been down for long enough.
    Grace,
    /// Repeat what has not been answered.
    Repeat,
    /// The coordinator before this one has had its time, or the reports have.
    Patience,
}

/// What the application, and the node, can ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Command {
    /// Begin in view 1 of this group, as a member of it.
    Found {
        /// The group.
        cluster: u64,
        /// View 1, and what begins with it.
        value: Box<Value>,
    },
    /// Become a member of this group, which exists.
    Join {
        /// The group.
        cluster: u64,
    },
    /// This peer is heard, and active in the same group.
    Trust(NodeId),
    /// It is not, any more.
    Suspect {
        /// Which.
        peer: NodeId,
        /// Whether its link is down, and may be up again soon.
        link: bool,
    },
    /// A heartbeat is due.
    Beat,
    /// What lock and order of this wedged node know, after [`Event::Wedged`].
    Report {
        /// Of the order: none while this member is mute (V4).
        order: Option<multicast::Report>,
        /// Of the lock.
        lock: Option<Box<tokenring::Report>>,
    },
    /// What an earlier life had of the order, of the view that it had installed (T9): before the
    /// start.
    Remember(multicast::Report),
    /// The messages of the cut are here, after [`Event::Gather`].
    Gathered,
    /// A frame of this view came from this peer, and this node is in another, or wedged.
    Stray {
        /// From whom.
        peer: NodeId,
        /// Of which view.
        view: u64,
    },
    /// Positions are given that come near to the ceiling (V5).
    Raise {
        /// The last of them.
        position: u64,
    },
    /// The order of this joiner is as far as that of the members: ask to be taken in.
    Ready,
    /// Leave the group, after lock and order have.
    Leave,
}

/// What the view change reports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Event {
    /// For the node: an earlier life was a member of this view. This one is mute in it: it knows
    /// nothing, and decides about its end (V6).
    Restored {
        /// What was installed last.
        value: Box<Value>,
    },
    /// For the node: freeze lock and order, and report (V2).
    Wedged,
    /// For the node: get the messages of this cut that are missing here, from who has them (T7).
    Gather {
        /// The cut.
        cut: Box<multicast::Cut>,
        /// Who holds what of them.
        holders: Vec<multicast::Holder>,
        /// Whether nothing may be left out, even by who delivers nothing of it (V6): what is new may
        /// still be another value, or one with a loss.
        insists: bool,
    },
    /// For the node: this view begins. `joins` if this life was not a member before.
    Installed {
        /// What was decided.
        value: Box<Value>,
        /// Whether this life is new in it.
        joins: bool,
    },
    /// For the node: the group goes on without this life.
    Out {
        /// It has asked for that, and nobody needs it any more.
        left: bool,
    },
    /// This node and a quorum of its view hear each other again, or no longer.
    Quorum {
        /// Whether they do.
        regained: bool,
    },
    /// The group does not take this life in.
    JoinRefused(JoinRefusal),
}

/// What people may look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on one another")]
pub struct Status {
    /// The installed view.
    pub view: Option<View>,
    /// Whether this node is a member of it.
    pub member: bool,
    /// Whether it is wedged in it.
    pub wedged: bool,
    /// Whether it was started again, and only decides about the end of the view (V6).
    pub mute: bool,
    /// Whether it and a quorum hear each other.
    pub quorum: bool,
    /// The members that it does not hear.
    pub unheard: Vec<NodeId>,
    /// How many messages were ignored because nothing sensible could have sent them.
    pub ignored: u64,
}
