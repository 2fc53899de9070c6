//! Views: numbered, agreed lists of members, on which the lock and the order stand.
//!
//! In this version a group has one view, number 1, founded in memory (see [`crate::founding`]).
//! Every message of the lock and the order carries the number of its view all the same, and every
//! member the incarnation that it was admitted with.

use crate::{
    id::{Life, Name, NodeId},
    tokenring::Mode,
};
use alloc::{sync::Arc, vec::Vec};

/// The most members that a view may have.
pub const MEMBERS_MAX: usize = 64;

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
}

/// What survives a restart of the process: promise, accepted value and installed view are one
/// record, replaced at once (V1). In this version only the installed view of a founder exists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Record {
    /// The run of the founding walk that made the group.
    pub run: u64,
    /// The installed view.
    pub view: View,
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
