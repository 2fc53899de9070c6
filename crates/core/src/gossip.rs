//! Rumors: gossip on fixed neighbours that reaches every connected node exactly once.
//!
//! Two ways to spread them, and one way to repair what they missed; `docs/protocols/gossip.md` has
//! the rules and the reasons. The parts: who the neighbours are and how two of them compare what
//! they know (`neighbors`), how a rumor is passed on (`spread`), how a missing one is asked for
//! (`repair`, with its table in `lacking`), and what is known and retained (`store`, `runs`).

mod lacking;
mod neighbors;
mod repair;
mod runs;
mod spread;
mod store;
#[cfg(test)]
mod tests;

use crate::{
    id::{Life, Name, NodeId},
    planted::Bug,
    protocol::{Context, Input, InputOf, Protocol},
    time::Time,
};
use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec::Vec,
};
use bytes::Bytes;
use core::time::Duration;
use lacking::{Estimate, Lacking};
use neighbors::Neighbor;
use spread::{Hot, Pace};
use store::{Kept, Store};

/// The most neighbours, and the most links that are watched.
const NEIGHBORS_MAX: usize = 1024;

/// The most rumors that one `Want` is answered with, and that are asked of one neighbour at a time.
const WANT_RUMORS: usize = 256;

/// An answer ends with the rumor that makes it as long as this, in bytes.
const WANT_BYTES: usize = 512 * 1024;

/// The most ranges in one `Want` or `Forgotten`.
const RANGES_MAX: usize = 256;

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
        /// Whether this is all that the sender has (in the last part, if it takes several), and
        /// the receiver should answer with what it has more.
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
    /// Find out which of the own rumors somebody else has: see [`Status::unconfirmed`].
    Confirm,
}

/// What the gossip reports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A rumor, once per node and life, the own ones too.
    Heard {
        /// Whose.
        origin: Origin,
        /// The name of its node; or `#` and the node's id in 16 hex digits, if the record with its
        /// name was not to be had.
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
    /// Own rumors that no neighbour is known to have.
    pub unconfirmed: usize,
    /// How many messages were ignored because nothing sensible could have sent them.
    pub ignored: u64,
}

/// The state machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gossip {
    config: Config,
    own: Origin,
    started: bool,
    store: Store,
    neighbors: BTreeMap<NodeId, Neighbor>,
    /// The neighbour that was compared with last.
    compared: Option<NodeId>,
    lacking: Lacking,
    /// How long after its announcement a pushed rumor comes.
    push_lag: Estimate,
    /// How long an answer to a `Want` takes.
    answer_lag: Estimate,
    /// Streams with news since the last flush, and whether any of it was repaired.
    news: BTreeMap<Origin, bool>,
    hot: VecDeque<Hot>,
    pace: Pace,
    flush_at: Option<Time>,
    want_at: Option<Time>,
    round_is_set: bool,
    duplicates: u64,
    repaired: u64,
    ignored: u64,
}

impl Gossip {
    /// A machine that has not started.
    pub fn new(config: Config) -> Self {
        let own = Origin { node: config.name.id(), life: config.life };
        Self {
            own,
            started: false,
            store: Store::new(&config, own),
            neighbors: BTreeMap::new(),
            compared: None,
            lacking: Lacking::default(),
            push_lag: Estimate::new(repair::FIRST_WAIT),
            answer_lag: Estimate::new(repair::FIRST_PATIENCE),
            news: BTreeMap::new(),
            hot: VecDeque::new(),
            pace: Pace::default(),
            flush_at: None,
            want_at: None,
            round_is_set: false,
            duplicates: 0,
            repaired: 0,
            ignored: 0,
            config,
        }
    }

    /// Whether a rumor is accepted now: whether the own rumors that no neighbour is known to have
    /// take less than half of `retention_bytes`. If not, keep it and ask again after the next input.
    pub fn accepts_rumors(&self) -> bool {
        self.store.accepts_own()
    }

    /// The retained rumors of the application, oldest first.
    pub fn retained(&self) -> impl Iterator<Item = &Rumor> {
        let mut kept: Vec<&Kept> = self.store.user_rumors().collect();
        kept.sort_by_key(|kept| kept.arrived);
        kept.into_iter().map(|kept| &kept.rumor)
    }

    /// What people may look at.
    pub fn status(&self) -> Status {
        let active = self.neighbors.iter().filter(|(_, neighbor)| neighbor.is_active());
        Status {
            neighbors: active.map(|(peer, neighbor)| (*peer, neighbor.eager)).collect(),
            retained: self.store.retained(),
            retained_bytes: self.store.retained_bytes(),
            origins: self.store.origins(),
            missing: self.lacking.total(),
            duplicates: self.duplicates,
            repaired: self.repaired,
            unconfirmed: self.store.unconfirmed(),
            ignored: self.ignored,
        }
    }
}

impl Protocol for Gossip {
    type Message = Message;
    type Timer = Timer;
    type Command = Command;
    type Event = Event;

    fn handle(&mut self, input: InputOf<Self>, cx: &mut Context<'_, Self>) {
        match input {
            Input::Start(_) => self.on_start(cx),
            Input::Message { from, message } => self.on_message(from, message, cx),
            Input::Timer(Timer::Flush) => self.on_flush(cx),
            Input::Timer(Timer::Round) => self.on_round(cx),
            Input::Timer(Timer::Want) => self.on_want_timer(cx),
            Input::Timer(Timer::AntiEntropy) => self.on_anti_entropy(cx),
            Input::Command(Command::Publish { ticket, payload }) => {
                self.on_publish(ticket, payload, cx);
            }
            Input::Command(Command::Confirm) => self.on_confirm(cx),
            Input::LinkUp(peer) => self.on_link_up(peer, cx),
            Input::LinkDown(peer) => self.on_link_down(peer, cx),
            // Nothing is appended here.
            Input::Appended(_) => {}
        }
    }
}

impl Gossip {
    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        assert!(!self.started, "a machine starts once");
        self.started = true;
        let content = Content::Record { name: self.config.name.clone() };
        let rumor = Rumor { origin: self.own, sequence: 0, hops: 0, content };
        self.store.insert(Kept::own(rumor, cx.now()));
        // A random phase, so that nodes that start together do not compare together.
        let span = self.config.anti_entropy.as_nanos() as u64;
        let after = Duration::from_nanos(cx.random_below(span.max(1)));
        cx.set_timer(Timer::AntiEntropy, after);
    }

    fn on_message(&mut self, from: NodeId, message: Message, cx: &mut Context<'_, Self>) {
        if let Message::Neighbor { hash, answer } = message {
            return self.on_neighbor(from, hash, answer, cx);
        }
        if !self.note_heard(from) && !self.adopt(from, cx) {
            self.ignored += 1;
            return;
        }
        match message {
            Message::Neighbor { .. } => unreachable!("handled above"),
            Message::Rumor(rumor) => self.on_rumor(from, rumor, cx),
            Message::Prune => self.on_prune(from),
            Message::Graft => self.on_graft(from),
            Message::Known { origin, sequence } => self.on_known(from, origin, sequence, cx),
            Message::Hash(hash) => self.on_hash(from, hash, cx),
            Message::Digest { have, answer } => self.on_digest(from, have, answer, cx),
            Message::Want(ranges) => self.on_want(from, &ranges, cx),
            Message::Forgotten(ranges) => self.on_forgotten(from, &ranges, cx),
        }
    }

    fn on_publish(&mut self, ticket: Ticket, payload: Bytes, cx: &mut Context<'_, Self>) {
        let refusal = if payload.len() > self.config.rumor_bytes_max {
            Some(Refusal::TooLarge)
        } else if !self.started || !self.accepts_rumors() {
            Some(Refusal::Full)
        } else {
            None
        };
        if let Some(reason) = refusal {
            return cx.emit(Event::Refused { ticket, reason });
        }
        let was_pressed = self.store.is_pressed();
        let sequence = self.store.own_end();
        let rumor = Rumor { origin: self.own, sequence, hops: 0, content: Content::User(payload) };
        cx.emit(Event::Published { ticket, sequence });
        self.store.insert(Kept::own(rumor.clone(), cx.now()));
        if cx.has(Bug::DropsUnconfirmed) {
            self.store.confirm_all();
        }
        self.emit_heard(&rumor, cx);
        self.spread(&rumor, cx);
        self.store.expire(cx.now());
        if self.store.is_pressed() && !was_pressed {
            // The publisher will have to wait soon: find out who has its rumors.
            cx.set_timer(Timer::AntiEntropy, neighbors::PRESSED_ANTI_ENTROPY);
        }
    }

    /// A rumor came: pushed, or repaired because it was asked for.
    fn on_rumor(&mut self, from: NodeId, rumor: Rumor, cx: &mut Context<'_, Self>) {
        let Rumor { origin, sequence, .. } = rumor;
        if !self.is_possible(&rumor) || !self.store.has_room_for(origin) {
            self.ignored += 1;
            return;
        }
        self.note_has(from, origin, sequence);
        if self.store.knows(origin, sequence) && !cx.has(Bug::NoDeduplication) {
            return self.on_duplicate(from, &rumor, cx);
        }
        if !self.store.admits(&rumor) {
            return; // It stays unknown, so it will be announced and asked for again.
        }
        let now = cx.now();
        let lack = self.lacking.take(origin, sequence, sequence).pop().map(|(_, lack)| lack);
        let waited = lack.as_ref().filter(|lack| lack.waits).map(|lack| (lack.since, lack.grafted));
        let asked = lack.map_or_else(Vec::new, |lack| lack.asked);
        let repaired = asked.contains(&from);
        let overdue = waited.filter(|_| repaired);
        let kept = Kept {
            rumor: rumor.clone(),
            arrived: now,
            from: Some(from),
            asked,
            overdue,
            hot: false,
        };
        self.store.insert(kept);
        self.emit_if_named(&rumor, cx);
        if repaired {
            self.repaired += 1;
            self.on_answered(from, &rumor, cx);
            self.announce(origin, true, cx);
        } else {
            if let Some(waited) = waited {
                self.on_late_push(waited, from, cx);
            }
            self.spread(&rumor, cx);
        }
        self.store.expire(now);
    }

    /// Whether a sensible node could have sent this.
    fn is_possible(&self, rumor: &Rumor) -> bool {
        let content = match &rumor.content {
            Content::Record { name } => rumor.sequence == 0 && name.id() == rumor.origin.node,
            Content::User(payload) => {
                rumor.sequence > 0 && payload.len() <= self.config.rumor_bytes_max
            }
        };
        content && self.is_possible_end(rumor.origin, rumor.sequence)
    }

    /// Whether the stream can have a rumor with this number: nobody knows better about one's own.
    fn is_possible_end(&self, origin: Origin, last: u64) -> bool {
        last < u64::MAX && (origin != self.own || last < self.store.own_end())
    }

    /// Emits a rumor of the application, or with a record all that were held until it came. (None,
    /// if they were emitted without it.)
    fn emit_if_named(&mut self, rumor: &Rumor, cx: &mut Context<'_, Self>) {
        match rumor.content {
            Content::Record { .. } => {
                for held in self.store.release(rumor.origin) {
                    self.emit_heard(&held, cx);
                }
            }
            Content::User(_) if self.store.name(rumor.origin).is_some() => {
                self.emit_heard(rumor, cx);
            }
            Content::User(_) => {}
        }
    }

    fn emit_heard(&self, rumor: &Rumor, cx: &mut Context<'_, Self>) {
        let Rumor { origin, sequence, hops, content: Content::User(payload) } = rumor else {
            return;
        };
        let (origin, sequence, hops) = (*origin, *sequence, *hops);
        let name = self.store.name(origin).expect("only rumors with a name are emitted").clone();
        cx.emit(Event::Heard { origin, name, sequence, hops, payload: payload.clone() });
    }
}

impl Kept {
    fn own(rumor: Rumor, arrived: Time) -> Self {
        Self { rumor, arrived, from: None, asked: Vec::new(), overdue: None, hot: false }
    }
}
