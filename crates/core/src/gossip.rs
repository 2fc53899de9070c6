//! Rumors: gossip on fixed neighbours that reaches every connected node exactly once.

use crate::id::{Life, Name, NodeId};
use alloc::{collections::BTreeSet, vec::Vec};
use bytes::Bytes;
use core::time::Duration;

/// Settings of the gossip.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// The name of this node: spread with its record.
    pub name: Name,
    /// This run of the process.
    pub life: Life,
    /// Which peers are neighbours.
    pub neighbors: Neighbors,
    /// How rumors are spread.
    pub strategy: Strategy,
    /// The largest rumor, in bytes.
    pub rumor_bytes_max: usize,
    /// Rumors are kept for repair at most this long…
    pub retention_age: Duration,
    /// … and at most these bytes of them. Own rumors that no neighbour has confirmed yet make the
    /// publisher wait instead.
    pub retention_bytes: usize,
    /// The length of a round of the rumor strategy.
    pub round: Duration,
    /// How often digests are compared with a neighbour when nothing else calls for it.
    pub anti_entropy: Duration,
    /// The most origins (node lives) that are remembered.
    pub origins_max: usize,
}

/// Which peers are neighbours.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Neighbors {
    /// These, and whoever has this node among its own.
    Listed(BTreeSet<NodeId>),
    /// Every peer with a link.
    AllLinks,
}

/// How rumors are spread. Repair runs with either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Broadcast along a spanning tree that the first rumors leave behind (eager push; duplicates
    /// prune; Leitão, Pereira, Rodrigues 2007).
    Tree,
    /// Rumor mongering (Demers et al. 1987, section 1.4): each round a hot rumor is pushed to a
    /// random neighbour; told that it was known, a node loses interest with probability 1/k.
    Rumor {
        /// The k of the rule; at least 1.
        k: u32,
    },
}

/// The stream of rumors of one life of one node: they are numbered per stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The node.
    pub node: NodeId,
    /// Its life.
    pub life: Life,
}

/// A rumor as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rumor {
    /// Whose.
    pub origin: Origin,
    /// Counts the rumors of the origin. Number 0 is its record.
    pub sequence: u64,
    /// How many links it has crossed when it arrives.
    pub hops: u32,
    /// What it says.
    pub content: Content,
}

/// What a rumor says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// The record of its origin, number 0 of every stream.
    Record {
        /// Its name.
        name: Name,
    },
    /// The application's.
    User(Bytes),
}

/// What a node has of one origin: everything below `up_to`, and the runs in `beyond`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Have {
    /// Whose rumors.
    pub origin: Origin,
    /// All sequences below this one.
    pub up_to: u64,
    /// Runs beyond, sorted, first and last included, disjoint and not adjacent.
    pub beyond: Vec<(u64, u64)>,
}

/// A range of sequences of one origin, first and last included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    /// Whose rumors.
    pub origin: Origin,
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

/// What neighbours say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// "You are my neighbour", and what I have, hashed. Sent when a link comes up.
    Neighbor {
        /// Hash of everything the sender has.
        hash: u64,
        /// Whether the receiver should say the same.
        answer: bool,
    },
    /// A rumor, pushed or repaired.
    Rumor(Rumor),
    /// Tree: "I had this already: send me digests instead."
    Prune,
    /// Tree: "send me rumors again."
    Graft,
    /// Rumor mongering: "I had this already."
    Known {
        /// Whose rumor.
        origin: Origin,
        /// Its sequence.
        sequence: u64,
    },
    /// "This is what I have, hashed": answered with a digest if the receiver's differs.
    Hash(u64),
    /// What the sender has: of all origins, or of those that had news.
    Digest {
        /// Per origin.
        have: Vec<Have>,
        /// Whether the receiver should answer with its own, if it lacks nothing but has more.
        answer: bool,
    },
    /// "Send me these."
    Want(Vec<Range>),
    /// "I no longer have these: count them as forgotten." Ends the repair of what nobody retains.
    Forgotten(Vec<Range>),
}

/// The timers of the gossip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// The batch boundary: announce news to lazy neighbours.
    Flush,
    /// A round of rumor mongering.
    Round,
    /// Ask for what has been announced and has not come.
    Want,
    /// Compare with a neighbour, and drop what is past its retention.
    AntiEntropy,
}

/// Which publication: chosen by the application, unique in its life.
pub type Ticket = u64;

/// What the application can ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Spread a rumor, answered by [`Event::Published`] or [`Event::Refused`].
    Publish {
        /// Names this publication.
        ticket: Ticket,
        /// What to say.
        payload: Bytes,
    },
}

/// What the gossip reports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A rumor, once per node and life, the own ones too.
    Heard {
        /// Whose.
        origin: Origin,
        /// The name of its node.
        name: Name,
        /// Counts the origin's rumors, from 1.
        sequence: u64,
        /// How many links it crossed; 0 at the origin.
        hops: u32,
        /// What it says.
        payload: Bytes,
    },
    /// The rumor is under way.
    Published {
        /// Which publication.
        ticket: Ticket,
        /// Its sequence.
        sequence: u64,
    },
    /// The rumor was refused, and said to nobody.
    Refused {
        /// Which publication.
        ticket: Ticket,
        /// Why.
        reason: Refusal,
    },
    /// This peer is a neighbour now.
    NeighborUp(NodeId),
}

/// Why a rumor was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It is larger than `rumor_bytes_max`.
    TooLarge,
    /// Too much is retained that no neighbour has confirmed: see `accepts_rumors`.
    Full,
}

/// What people may look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Status {
    /// Neighbours with a link, and whether rumors are pushed to them (else: digests).
    pub neighbors: Vec<(NodeId, bool)>,
    /// Rumors retained for repair, and their bytes.
    pub retained: usize,
    /// See above.
    pub retained_bytes: usize,
    /// Origins known.
    pub origins: usize,
    /// Rumors that some neighbour has and this node does not, yet.
    pub missing: u64,
    /// Rumors received that were known already.
    pub duplicates: u64,
    /// Rumors that had to be asked for.
    pub repaired: u64,
    /// How many messages were ignored because nothing sensible could have sent them.
    pub ignored: u64,
}

/// The state machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gossip {
    config: Config,
}

impl Gossip {
    /// A machine that has not started.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// Whether a rumor is accepted now.
    pub fn accepts_rumors(&self) -> bool {
        true
    }

    /// The retained rumors of the application, oldest first.
    pub fn retained(&self) -> impl Iterator<Item = &Rumor> {
        core::iter::empty()
    }

    /// What people may look at.
    pub fn status(&self) -> Status {
        panic!("to be written: {:?}", self.config)
    }
}

impl crate::protocol::Protocol for Gossip {
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
