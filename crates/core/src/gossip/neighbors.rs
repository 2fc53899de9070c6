//! Who the neighbours are, and how two of them find out what the other one lacks (anti-entropy,
//! Demers et al. 1987, section 1.3, with the checksum comparison of section 1.3 and 1.5 in front).

use super::{
    Event, Gossip, Have, Message, NEIGHBORS_MAX, Neighbors, Origin, Strategy, Timer, runs::Runs,
};
use crate::{id::NodeId, planted::Bug, protocol::Context, time::Time};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use core::time::Duration;

/// How often hashes are compared while the publisher is about to wait, or waits, for confirmation.
pub(super) const PRESSED_ANTI_ENTROPY: Duration = Duration::from_millis(50);

/// A digest is cut into messages of about this many entries (streams and runs).
const DIGEST_ENTRIES: usize = 1024;

/// How far two neighbours have come with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Link {
    Down,
    /// Nothing was heard since the link came up: the peer may not know of us.
    Silent,
    Heard,
    /// A digest was heard since the link came up. What the first one announces is not under way, so
    /// there is no waiting for it.
    Synced,
}

/// A peer with a link, or that has called itself a neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Neighbor {
    /// Listed here, or said so itself.
    accepted: bool,
    link: Link,
    /// Whether rumors are pushed to it; else it gets digests.
    pub(super) eager: bool,
    /// What it is known to have. Only a hint: it may have restarted.
    pub(super) has: BTreeMap<Origin, Runs>,
    /// Streams whose record was sent to it since the link came up.
    pub(super) told: BTreeSet<Origin>,
}

impl Neighbor {
    fn new(accepted: bool) -> Self {
        let (has, told) = (BTreeMap::new(), BTreeSet::new());
        Self { accepted, link: Link::Down, eager: true, has, told }
    }

    /// Whether it can be sent to.
    pub(super) fn is_active(&self) -> bool {
        self.accepted && self.is_linked()
    }

    fn is_linked(&self) -> bool {
        self.link > Link::Down
    }

    /// Notes that the peer has come as far as `link`, if there is a link at all.
    fn come(&mut self, link: Link) {
        if self.is_linked() {
            self.link = self.link.max(link);
        }
    }

    /// Whether it is known to have all of `runs`.
    pub(super) fn has_all(&self, origin: Origin, runs: &Runs) -> bool {
        self.has.get(&origin).is_some_and(|has| has.lacks(runs).is_empty())
    }

    pub(super) fn has_rumor(&self, origin: Origin, sequence: u64) -> bool {
        self.has.get(&origin).is_some_and(|has| has.contains(sequence))
    }

    /// Forgets what belongs to one time of the link, or to one life of the peer.
    fn reset(&mut self) {
        (self.link, self.eager) = (self.link.min(Link::Silent), true);
        self.has.clear();
        self.told.clear();
    }
}

impl Gossip {
    pub(super) fn on_link_up(&mut self, peer: NodeId, cx: &mut Context<'_, Self>) {
        let Some(neighbor) = self.neighbor_or_room(peer) else { return };
        neighbor.link = neighbor.link.max(Link::Silent);
        if neighbor.accepted {
            self.activate(peer, cx);
            let hash = self.store.hash();
            cx.send(peer, Message::Neighbor { hash, answer: true });
        }
    }

    pub(super) fn on_link_down(&mut self, peer: NodeId, cx: &mut Context<'_, Self>) {
        let Some(neighbor) = self.neighbors.get_mut(&peer) else { return };
        neighbor.link = Link::Down;
        neighbor.reset();
        if !neighbor.accepted {
            self.neighbors.remove(&peer);
        }
        self.lacking.on_gone(peer, cx.now());
        self.arm_want(cx);
    }

    pub(super) fn on_neighbor(
        &mut self,
        from: NodeId,
        hash: u64,
        answer: bool,
        cx: &mut Context<'_, Self>,
    ) {
        let Some(neighbor) = self.neighbor_or_room(from) else { return };
        let was_active = neighbor.is_active();
        neighbor.accepted = true;
        if !neighbor.is_linked() {
            return; // It hears from us when there is a link.
        }
        if !was_active {
            self.activate(from, cx);
        } else if answer {
            // It does not know of us: perhaps it is a new life, and knows nothing else either.
            neighbor.reset();
            self.lacking.on_gone(from, cx.now());
            self.arm_want(cx);
        }
        self.note_heard(from);
        let own = self.store.hash();
        if answer {
            cx.send(from, Message::Neighbor { hash: own, answer: false });
        }
        if hash == own {
            self.store.confirm_all();
        } else if answer {
            self.send_all(from, cx);
        }
    }

    /// Notes that a neighbour was heard; false if it is none.
    pub(super) fn note_heard(&mut self, from: NodeId) -> bool {
        let Some(neighbor) = self.neighbors.get_mut(&from) else { return false };
        neighbor.come(Link::Heard);
        neighbor.accepted
    }

    /// Who gossips with us takes us for a neighbour: its call was lost. False if there is no room.
    pub(super) fn adopt(&mut self, from: NodeId, cx: &mut Context<'_, Self>) -> bool {
        let Some(neighbor) = self.neighbor_or_room(from) else { return false };
        neighbor.accepted = true;
        if neighbor.is_linked() {
            self.activate(from, cx);
            let hash = self.store.hash();
            cx.send(from, Message::Neighbor { hash, answer: true });
        }
        self.note_heard(from)
    }

    /// The periodic comparison, and the time to drop what is too old.
    pub(super) fn on_anti_entropy(&mut self, cx: &mut Context<'_, Self>) {
        self.give_up_records(cx);
        self.store.expire(cx.now());
        let hash = self.store.hash();
        let (mut heard, mut silent) = (Vec::new(), Vec::new());
        for (peer, neighbor) in self.neighbors.iter().filter(|(_, n)| n.is_active()) {
            if neighbor.link > Link::Silent { heard.push(*peer) } else { silent.push(*peer) }
        }
        // The call, or its answer, was lost: or the peer does not gossip.
        send(&silent, Message::Neighbor { hash, answer: true }, cx);
        // One after the other, so that each has its turn in bounded time (as the probes of SWIM,
        // Das, Gupta and Motivala 2002, section 4.3): a random choice may leave the only link
        // between two parts of the network out for long.
        let next = heard.iter().find(|peer| Some(**peer) > self.compared);
        self.compared = next.or(heard.first()).copied();
        if let Some(peer) = self.compared {
            cx.send(peer, Message::Hash(hash));
        }
        let pressed = self.store.is_pressed() && !heard.is_empty();
        let period = self.config.anti_entropy;
        let after = if pressed { period.min(PRESSED_ANTI_ENTROPY) } else { period };
        cx.set_timer(Timer::AntiEntropy, after);
    }

    /// Asks all neighbours what they have. A call is answered even by who has the same.
    pub(super) fn on_confirm(&mut self, cx: &mut Context<'_, Self>) {
        let hash = self.store.hash();
        let active = self.neighbors.iter().filter(|(_, neighbor)| neighbor.is_active());
        let peers: Vec<NodeId> = active.map(|(peer, _)| *peer).collect();
        send(&peers, Message::Neighbor { hash, answer: true }, cx);
    }

    pub(super) fn on_hash(&mut self, from: NodeId, hash: u64, cx: &mut Context<'_, Self>) {
        if hash == self.store.hash() {
            self.store.confirm_all();
        } else if !cx.has(Bug::IgnoresHashes) {
            self.send_all(from, cx);
        }
    }

    /// What a neighbour has: notes what is lacking here, and tells it what it lacks.
    pub(super) fn on_digest(
        &mut self,
        from: NodeId,
        have: Vec<Have>,
        answer: bool,
        cx: &mut Context<'_, Self>,
    ) {
        let now = cx.now();
        let later = now + self.wait();
        let synced =
            self.neighbors.get(&from).is_some_and(|neighbor| neighbor.link == Link::Synced);
        for have in have {
            let origin = have.origin;
            let Some(runs) =
                Runs::from_have(have).filter(|runs| self.is_possible_end(origin, runs.end() - 1))
            else {
                self.ignored += 1;
                continue;
            };
            if !self.store.has_room_for(origin) {
                self.ignored += 1;
                continue;
            }
            for (first, last) in self.store.lacks(origin, &runs) {
                // Whoever pushes a rumor sends the record first, so nothing is gained by waiting.
                let first = if first == 0 {
                    self.lacking.note(origin, (0, 0), now, now, false);
                    1
                } else {
                    first
                };
                if first <= last {
                    let due = if synced { later } else { now };
                    self.lacking.note(origin, (first, last), now, due, synced);
                }
            }
            self.note_has_runs(from, origin, &runs);
        }
        if let Some(neighbor) = self.neighbors.get_mut(&from) {
            neighbor.come(Link::Synced);
        }
        self.arm_want(cx);
        if answer {
            self.send_difference(from, cx);
        }
    }

    /// Notes that a neighbour has a rumor.
    pub(super) fn note_has(&mut self, from: NodeId, origin: Origin, sequence: u64) {
        if let Some(neighbor) = self.neighbors.get_mut(&from)
            && (neighbor.has.len() < self.config.origins_max || neighbor.has.contains_key(&origin))
        {
            neighbor.has.entry(origin).or_default().insert(sequence, sequence);
        }
        if origin == self.own {
            self.store.confirm_one(sequence);
        }
    }

    fn note_has_runs(&mut self, from: NodeId, origin: Origin, runs: &Runs) {
        if let Some(neighbor) = self.neighbors.get_mut(&from)
            && (neighbor.has.len() < self.config.origins_max || neighbor.has.contains_key(&origin))
        {
            neighbor.has.entry(origin).or_default().merge(runs);
        }
        if origin == self.own {
            self.store.confirm(runs);
        }
    }

    /// Sends what this node has of `origins`, in messages of bounded size.
    pub(super) fn send_digest(
        to: &[NodeId],
        haves: impl Iterator<Item = Have>,
        answer: bool,
        cx: &mut Context<'_, Self>,
    ) {
        let (mut part, mut entries) = (Vec::new(), 0);
        for mut have in haves {
            if cx.has(Bug::DigestsHideGaps) {
                have.up_to = have.beyond.last().map_or(have.up_to, |(_, last)| last + 1);
            }
            if cx.has(Bug::DigestsHideGaps) || cx.has(Bug::DigestsEndAtGaps) {
                have.beyond.clear();
            }
            let size = 1 + have.beyond.len();
            if entries > 0 && entries + size > DIGEST_ENTRIES {
                let have = core::mem::take(&mut part);
                send(to, Message::Digest { have, answer: false }, cx);
                entries = 0;
            }
            entries += size;
            part.push(have);
        }
        if !part.is_empty() {
            send(to, Message::Digest { have: part, answer }, cx);
        }
    }

    /// Sends all that this node has, and asks for what the other one has more.
    fn send_all(&self, to: NodeId, cx: &mut Context<'_, Self>) {
        let haves = self.store.haves().map(|(origin, runs)| runs.to_have(origin));
        Self::send_digest(&[to], haves, true, cx);
    }

    /// Sends what this node has and the other one, as far as is known, has not.
    fn send_difference(&self, to: NodeId, cx: &mut Context<'_, Self>) {
        let Some(neighbor) = self.neighbors.get(&to) else { return };
        let news = self.store.haves().filter(|(origin, runs)| !neighbor.has_all(*origin, runs));
        let haves = news.map(|(origin, runs)| runs.to_have(origin));
        Self::send_digest(&[to], haves, false, cx);
    }

    /// From now on rumors are exchanged with this peer.
    fn activate(&mut self, peer: NodeId, cx: &mut Context<'_, Self>) {
        if let Some(neighbor) = self.neighbors.get_mut(&peer) {
            neighbor.reset();
        }
        cx.emit(Event::NeighborUp(peer));
        if matches!(self.config.strategy, Strategy::Rumor { .. }) {
            self.arm_round(cx);
        }
    }

    /// The entry of a peer. There is none if there are too many.
    fn neighbor_or_room(&mut self, peer: NodeId) -> Option<&mut Neighbor> {
        if self.neighbors.len() >= NEIGHBORS_MAX && !self.neighbors.contains_key(&peer) {
            // Who only said that it is a neighbour makes room for others while it is away.
            let listed = |peer: &NodeId| match &self.config.neighbors {
                Neighbors::Listed(listed) => listed.contains(peer),
                Neighbors::AllLinks => false,
            };
            let away = self.neighbors.iter().find(|(peer, n)| !n.is_linked() && !listed(peer));
            let Some(away) = away.map(|(peer, _)| *peer) else {
                self.ignored += 1;
                return None;
            };
            self.neighbors.remove(&away);
        }
        let accepted = match &self.config.neighbors {
            Neighbors::Listed(listed) => listed.contains(&peer),
            Neighbors::AllLinks => true,
        };
        (peer != self.own.node)
            .then(|| self.neighbors.entry(peer).or_insert_with(|| Neighbor::new(accepted)))
    }

    /// Lets [`Timer::Want`] fire when the next thing is due.
    pub(super) fn arm_want(&mut self, cx: &mut Context<'_, Self>) {
        let Some(due) = self.lacking.next_due() else { return };
        self.arm_want_at(due, cx);
    }

    fn arm_want_at(&mut self, due: Time, cx: &mut Context<'_, Self>) {
        if self.want_at.is_none_or(|at| due < at) {
            self.want_at = Some(due);
            cx.set_timer(Timer::Want, due.since(cx.now()));
        }
    }
}

/// Sends one message to several peers, encoded once, or to the only one.
pub(super) fn send(to: &[NodeId], message: Message, cx: &mut Context<'_, Gossip>) {
    match to {
        [] => {}
        [peer] => cx.send(*peer, message),
        peers => cx.send_many(&peers.into(), message),
    }
}
