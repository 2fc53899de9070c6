//! Views: numbered, agreed lists of members, on which the lock and the order stand.
//!
//! View 1 is founded (see [`crate::founding`]); each later one is decided by a quorum of the members
//! of the one before (see [`crate::change`]). Every message of the lock and the order carries the
//! number of its view, and every member the incarnation that it was admitted with.

use crate::{
    id::{Life, Name, NodeId},
    multicast::{Cut, LogEntry},
    tokenring::{LockName, Mode, Placed, Placement},
};
use alloc::{sync::Arc, vec::Vec};
use core::time::Duration;

/// The most members that a view may have.
pub const MEMBERS_MAX: usize = 64;

/// The most lives of one node that its record names. Who was started more often than that without
/// being taken in counts, for the first of them, as a member that does not answer.
pub const LIVES_MAX: usize = 8;

/// How far beyond the last one saved positions may be given (V5).
pub const POSITIONS_AHEAD: u64 = 1 << 20;

/// One member of a view.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Member {
    /// Its id, the hash of its name.
    pub id: NodeId,
    /// Its name.
    pub name: Name,
    /// The life that was admitted. Another life of the same name is not this member (V7).
    pub life: Life,
    /// The number of the view that admitted it: 1 for founders (V7).
    pub incarnation: u64,
}

/// A numbered, agreed list of members.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct View {
    /// Views are numbered 1, 2, 3 …
    pub number: u64,
    /// The members in the view's order (V4). A member's *position* is its index here.
    pub members: Arc<[Member]>,
    /// The token's ring: positions in the order in which the token goes round. Begins with 0.
    pub ring: Arc<[u16]>,
    /// How the token of the default lock moves: decided with the view, the same at every member.
    pub mode: Mode,
    /// How long the word of a quorum lets a member grant locks: decided with the first view.
    pub lease: Duration,
}

/// Names one attempt to decide what follows a view: of two, the larger takes precedence (Paxos,
/// Lamport 2001, "ballot number"). Whose it is tells equal rounds apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Ballot {
    /// Counts the attempts, from 1.
    pub round: u32,
    /// The position of the coordinator in the view that ends.
    pub by: u16,
}

/// What is decided about the end of a view: the next one, and all that goes on in it (V3).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Value {
    /// The next view.
    pub view: View,
    /// Where the order ends and begins.
    pub order: Cut,
    /// Where the tokens are.
    pub lock: Placement,
    /// Memories were lost: what was delivered nowhere may be missing from the order, and all members
    /// begin anew (V5).
    pub loss: bool,
}

impl Record {
    /// The record of who installs a value.
    pub fn of(cluster: u64, lives: Vec<Life>, installed: Value) -> Self {
        let ceiling = installed.order.position + POSITIONS_AHEAD;
        Self { cluster, lives, installed, promised: None, accepted: None, ceiling }
    }

    /// The record of who is in no view yet, but may be in one without knowing it: it has said yes to
    /// be founded, or asks to be taken in (V6, V8). Its view is number 0, of nobody else.
    pub fn of_lives(cluster: u64, name: &Name, lives: Vec<Life>) -> Self {
        let life = *lives.last().expect("it is alive");
        let me = Member { id: name.id(), name: name.clone(), life, incarnation: 0 };
        let (members, ring) = ([me].into(), [0].into());
        let lease = Duration::from_secs(1);
        let view = View { number: 0, members, ring, mode: Mode::Rest, lease };
        Self { ceiling: 0, ..Self::of(cluster, lives, Value::first(view, 0)) }
    }

    /// Who founded the group, where that is still of consequence: in view 1 of a circulating token,
    /// which begins there (H3).
    pub fn founder(&self) -> u16 {
        self.installed.lock.tokens.first().map_or(0, |token| token.at)
    }

    /// Whether it knows of no view.
    pub fn is_blank(&self) -> bool {
        self.installed.view.number == 0
    }
}

/// A life, and those before it, as far as a record names them.
pub(crate) fn lives_of(earlier: &[Life], life: Life) -> Vec<Life> {
    let lives = earlier.iter().copied().chain([life]);
    lives.skip((earlier.len() + 1).saturating_sub(LIVES_MAX)).collect()
}

impl Value {
    /// What founders decide: this view, with nothing before it. Where the token circulates, it
    /// begins at the founder.
    pub fn first(view: View, founder: usize) -> Self {
        let order = Cut::founding(view.len());
        let mut lock = Placement::default();
        if view.mode == Mode::Circulate {
            let (name, at) = (LockName::default_lock(), founder as u16);
            lock.tokens.push(Placed { lock: name, at, hops: 0, fresh: false });
        }
        Self { view, order, lock, loss: false }
    }
}

/// What survives a restart of the process: promise, accepted value and installed view are one
/// record, replaced at once (V1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Record {
    /// Which group: the run of the founding walk that made it.
    pub cluster: u64,
    /// The lives of this node that the group may know, the oldest first: the one that saved this,
    /// and those before it of which it cannot tell whether they were taken in (V6).
    pub lives: Vec<Life>,
    /// What was decided last and is installed here.
    pub installed: Value,
    /// No smaller ballot about the end of the installed view is taken part in.
    pub promised: Option<Ballot>,
    /// What was accepted last about the end of the installed view.
    pub accepted: Option<(Ballot, Value)>,
    /// No position beyond this one is given before a record with a larger ceiling is saved (V5).
    pub ceiling: u64,
}

/// What the first input of a life gives back to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Saved {
    /// What was saved last.
    pub record: Record,
    /// What is left of the durable log, oldest first and without gaps; nothing without one (T9).
    pub log: Vec<LogEntry>,
}

impl From<Record> for Saved {
    /// Without a durable log.
    fn from(record: Record) -> Self {
        Self { record, log: Vec::new() }
    }
}

impl View {
    /// The number of members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// A view is never empty; this is here because `len` is.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The position of node `id`, if it is a member.
    pub fn position(&self, id: NodeId) -> Option<usize> {
        self.members.iter().position(|member| member.id == id)
    }

    /// How many members are a strict majority: ⌊n/2⌋ + 1 (T3).
    pub fn majority(&self) -> usize {
        self.len() / 2 + 1
    }

    /// Whether the members at these positions, a bit for each, decide what follows this view: more
    /// than half, or half with the first member (the tie rule, for view changes and leases only).
    pub fn is_quorum(&self, positions: u64) -> bool {
        let twice = 2 * positions.count_ones() as usize;
        twice > self.len() || (twice == self.len() && positions & 1 == 1)
    }

    /// The position of this life, if it is a member.
    pub fn position_of(&self, id: NodeId, life: Life) -> Option<usize> {
        self.position(id).filter(|position| self.members[*position].life == life)
    }

    /// The position that follows `position` on the token's ring.
    pub fn successor(&self, position: usize) -> usize {
        let at = self.ring.iter().position(|p| usize::from(*p) == position);
        let next = (at.expect("the ring has every position") + 1) % self.ring.len();
        usize::from(self.ring[next])
    }

    /// All members but `me`, in order.
    pub fn peers(&self, me: NodeId) -> Arc<[NodeId]> {
        let ids: Vec<NodeId> = self.members.iter().map(|m| m.id).filter(|id| *id != me).collect();
        ids.into()
    }
}
