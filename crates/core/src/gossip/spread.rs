//! How a rumor is passed on: along a tree, or from mouth to mouth.

use super::{Content, Gossip, Message, Neighbor, Origin, Rumor, Strategy, Timer, neighbors::send};
use crate::{
    id::{NodeId, mix64},
    planted::Bug,
    protocol::Context,
    time::Time,
};
use alloc::{collections::BTreeMap, vec::Vec};
use core::time::Duration;

/// How long news is collected before it is announced over links that rumors are not pushed on. It
/// delays only the repair of a broken tree; in exchange a rumor has mostly come from both sides of a
/// link by then, and need not be announced at all.
const ANNOUNCE_AFTER: Duration = Duration::from_millis(20);

/// The most hot rumors; the oldest cool off when there are more, and repair takes over.
const HOT_MAX: usize = 4096;

/// The most rumors, and about the most bytes, that are pushed in one round.
const ROUND_RUMORS: usize = 256;
const ROUND_BYTES: usize = 512 * 1024;

/// A rumor cools off after this many pushes per k in any case: answers may be lost for ever.
const PUSHES_PER_K: u32 = 16;

/// About as long as a rumor is under way: see [`Pace`].
const TRAVERSAL: Duration = Duration::from_millis(100);

/// How many rumors are under way at a time, about.
///
/// The links that the copies of *one* rumor prune leave a tree: the ways it came first. The links
/// that two rumors prune may cut the network apart, and a busy network would never settle. So of
/// all rumors under way about one prunes, and it is the same one everywhere: the one whose number
/// hashes to many zeros, more of them the busier it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Pace {
    window: u64,
    rumors: u64,
    before: u64,
}

impl Pace {
    fn turn(&mut self, now: Time) {
        let window = now.as_nanos() / TRAVERSAL.as_nanos() as u64;
        if window != self.window {
            self.before = if window == self.window + 1 { self.rumors } else { 0 };
            (self.window, self.rumors) = (window, 0);
        }
    }

    /// A rumor came that is new here.
    pub(super) fn count(&mut self, now: Time) {
        self.turn(now);
        self.rumors += 1;
    }

    fn prunes(&mut self, now: Time, origin: Origin, sequence: u64) -> bool {
        self.turn(now);
        let under_way = self.rumors.max(self.before).max(1).next_power_of_two();
        mix64(mix64(origin.node.raw()) ^ sequence) & (under_way - 1) == 0
    }
}

/// A rumor that this node keeps pushing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Hot {
    origin: Origin,
    sequence: u64,
    pushes: u32,
}

impl Gossip {
    /// Passes on a rumor that is new here: an own one, or one that was pushed.
    pub(super) fn spread(&mut self, rumor: &Rumor, cx: &mut Context<'_, Self>) {
        let is_record = rumor.sequence == 0;
        match self.config.strategy {
            Strategy::Tree => {
                if !is_record {
                    self.pace.count(cx.now());
                }
                self.push(rumor, cx);
                self.announce(rumor.origin, false, cx);
            }
            // A record goes in front of each rumor that needs it, so it need not be hot itself.
            Strategy::Rumor { .. } if is_record => self.announce(rumor.origin, true, cx),
            Strategy::Rumor { .. } => {
                self.heat(rumor.origin, rumor.sequence);
                self.arm_round(cx);
            }
        }
    }

    /// A rumor came that was known.
    pub(super) fn on_duplicate(&mut self, from: NodeId, rumor: &Rumor, cx: &mut Context<'_, Self>) {
        self.duplicates += 1;
        let (origin, sequence) = (rumor.origin, rumor.sequence);
        if self.store.kept(origin, sequence).is_some_and(|kept| kept.asked.contains(&from)) {
            self.on_answered(from, rumor, cx);
            if self.config.strategy == Strategy::Tree {
                return; // Not pushed but asked for: its way says nothing about the tree.
            }
        }
        match self.config.strategy {
            Strategy::Tree => self.on_second_push(from, origin, sequence, cx),
            // Records are never hot. Also said to who was asked for it: it may be pushing it, too.
            Strategy::Rumor { .. } if sequence == 0 => {}
            Strategy::Rumor { .. } => cx.send(from, Message::Known { origin, sequence }),
        }
    }

    /// Plumtree, algorithm 1: a second copy means that the tree has a cycle; the link that brought
    /// it leaves the tree. Several senders at once can make nodes cut a cycle in several places, so
    /// there is more to it here:
    fn on_second_push(
        &mut self,
        from: NodeId,
        origin: Origin,
        sequence: u64,
        cx: &mut Context<'_, Self>,
    ) {
        let Some(kept) = self.store.kept_mut(origin, sequence) else { return };
        if let Some(waited) = kept.overdue.take() {
            // The tree was only slow, and we impatient: this is the copy that counts.
            kept.from = Some(from);
            return self.on_late_push(waited, from, cx);
        }
        // A second copy from the same sender was made by the network. Records are spread by repair
        // and say nothing about the tree.
        let first = kept.from;
        if first == Some(from) || sequence == 0 {
            return;
        }
        if !self.pace.prunes(cx.now(), origin, sequence) {
            return;
        }
        // If the first copy came by a link that has left the tree, this link is needed.
        if first.is_none_or(|first| self.neighbors.get(&first).is_some_and(|n| n.eager)) {
            self.prune(from, cx);
        }
    }

    /// A rumor that was waited for came by the tree after all: not the tree had a hole, but the
    /// wait was too short, so it gets longer, and what was grafted meanwhile would make a cycle.
    pub(super) fn on_late_push(
        &mut self,
        (since, grafted): (Time, Option<NodeId>),
        from: NodeId,
        cx: &mut Context<'_, Self>,
    ) {
        self.push_lag.sample(cx.now().since(since));
        if let Some(grafted) = grafted.filter(|grafted| *grafted != from) {
            self.prune(grafted, cx);
        }
    }

    fn prune(&mut self, peer: NodeId, cx: &mut Context<'_, Self>) {
        if self.neighbors.get(&peer).is_some_and(Neighbor::is_active) {
            self.set_eager(peer, false);
            cx.send(peer, Message::Prune);
        }
    }

    /// Plumtree, algorithm 1: the neighbour has had a rumor of ours already.
    pub(super) fn on_prune(&mut self, from: NodeId) {
        self.set_eager(from, false);
    }

    /// Plumtree, algorithm 2: the neighbour missed a rumor, the tree had a hole.
    pub(super) fn on_graft(&mut self, from: NodeId) {
        self.set_eager(from, true);
    }

    pub(super) fn set_eager(&mut self, peer: NodeId, eager: bool) {
        let tree = self.config.strategy == Strategy::Tree;
        if let Some(neighbor) = self.neighbors.get_mut(&peer).filter(|_| tree) {
            neighbor.eager = eager;
        }
    }

    /// Demers et al. 1987, section 1.4, "feedback" and "coin".
    pub(super) fn on_known(
        &mut self,
        from: NodeId,
        origin: Origin,
        sequence: u64,
        cx: &mut Context<'_, Self>,
    ) {
        if !self.store.knows(origin, sequence) {
            self.ignored += 1;
            return;
        }
        self.note_has(from, origin, sequence);
        let Strategy::Rumor { k } = self.config.strategy else { return };
        if cx.random_below(u64::from(k.max(1))) == 0
            && let Some(kept) = self.store.kept_mut(origin, sequence)
        {
            kept.hot = false;
        }
    }

    /// Pushes the hot rumors to one neighbour.
    pub(super) fn on_round(&mut self, cx: &mut Context<'_, Self>) {
        self.round_is_set = false;
        let Strategy::Rumor { k } = self.config.strategy else { return };
        let active: Vec<NodeId> = self.active().collect();
        if active.is_empty() {
            return; // The next neighbour that comes up sets the timer again.
        }
        let peer = active[cx.random_below(active.len() as u64) as usize];
        let (mut rumors, mut bytes) = (0, 0);
        for _ in 0..self.hot.len() {
            if rumors == ROUND_RUMORS || bytes >= ROUND_BYTES {
                break;
            }
            let Some(mut hot) = self.hot.pop_front() else { break };
            if self.store.kept(hot.origin, hot.sequence).is_none_or(|kept| !kept.hot) {
                continue;
            }
            self.send_record(&[peer], hot.origin, cx);
            let kept = self.store.kept_mut(hot.origin, hot.sequence).expect("it was just found");
            cx.send(peer, pass_on(&kept.rumor));
            rumors += 1;
            bytes += payload_bytes(&kept.rumor);
            hot.pushes += 1;
            if hot.pushes < k.max(1).saturating_mul(PUSHES_PER_K) {
                self.hot.push_back(hot);
            } else {
                kept.hot = false;
            }
        }
        self.arm_round(cx);
    }

    pub(super) fn arm_round(&mut self, cx: &mut Context<'_, Self>) {
        if !self.hot.is_empty() && !self.round_is_set && self.active().next().is_some() {
            self.round_is_set = true;
            cx.set_timer(Timer::Round, self.config.round);
        }
    }

    /// Announces at the next flush that there is news in a stream. What was repaired is announced
    /// to everybody: whole neighbourhoods lack it, and pushing it would bring most of them a copy
    /// that they ask for at the same time somewhere else (rules-gossip 3.8).
    pub(super) fn announce(&mut self, origin: Origin, repaired: bool, cx: &mut Context<'_, Self>) {
        *self.news.entry(origin).or_default() |= repaired;
        let after = if repaired { Duration::ZERO } else { ANNOUNCE_AFTER };
        let at = cx.now() + after;
        if self.flush_at.is_none_or(|flush_at| at < flush_at) {
            self.flush_at = Some(at);
            cx.set_timer(Timer::Flush, after);
        }
    }

    /// Sends the news to those that rumors are not pushed to, as far as they may lack it.
    pub(super) fn on_flush(&mut self, cx: &mut Context<'_, Self>) {
        self.flush_at = None;
        let news = core::mem::take(&mut self.news);
        // Neighbours that are to get the same get the same message, encoded once.
        let mut digests: BTreeMap<Vec<Origin>, Vec<NodeId>> = BTreeMap::new();
        for (peer, neighbor) in self.neighbors.iter().filter(|(_, n)| n.is_active()) {
            let lacks = |origin: Origin| {
                self.store.runs(origin).is_some_and(|runs| !neighbor.has_all(origin, runs))
            };
            let origins = news
                .iter()
                .filter(|(origin, repaired)| (**repaired || !neighbor.eager) && lacks(**origin))
                .map(|(origin, _)| *origin)
                .collect();
            digests.entry(origins).or_default().push(*peer);
        }
        for (origins, peers) in digests {
            let haves = origins.into_iter().filter_map(|origin| self.store.have(origin));
            Self::send_digest(&peers, haves, false, cx);
        }
    }

    /// Plumtree, `EagerPush`: to all neighbours on the tree that are not known to have it.
    fn push(&mut self, rumor: &Rumor, cx: &mut Context<'_, Self>) {
        let to: Vec<NodeId> = self
            .neighbors
            .iter()
            .filter(|(_, n)| n.is_active() && n.eager)
            .filter(|(_, n)| !n.has_rumor(rumor.origin, rumor.sequence))
            .map(|(peer, _)| *peer)
            .collect();
        self.send_record(&to, rumor.origin, cx);
        if rumor.sequence > 0 {
            send(&to, pass_on(rumor), cx);
        }
    }

    /// Sends the record of a stream, of which something is about to be pushed, to those that may
    /// lack it: without it they cannot emit the rumor, and the origin may be gone when they ask.
    /// Once per link, for they do not say that they got it; what is lost is repaired.
    fn send_record(&mut self, to: &[NodeId], origin: Origin, cx: &mut Context<'_, Self>) {
        let Some(record) = self.store.kept(origin, 0).map(|kept| pass_on(&kept.rumor)) else {
            return;
        };
        if cx.has(Bug::RecordsStayAtHome) {
            return;
        }
        let neighbors = &mut self.neighbors;
        let mut lacks = |peer: &NodeId| {
            neighbors
                .get_mut(peer)
                .is_some_and(|n| !n.has_rumor(origin, 0) && n.told.insert(origin))
        };
        let to: Vec<NodeId> = to.iter().copied().filter(|peer| lacks(peer)).collect();
        send(&to, record, cx);
    }

    fn heat(&mut self, origin: Origin, sequence: u64) {
        if self.hot.len() >= HOT_MAX
            && let Some(oldest) = self.hot.pop_front()
            && let Some(kept) = self.store.kept_mut(oldest.origin, oldest.sequence)
        {
            kept.hot = false;
        }
        if let Some(kept) = self.store.kept_mut(origin, sequence) {
            kept.hot = true;
            self.hot.push_back(Hot { origin, sequence, pushes: 0 });
        }
    }

    pub(super) fn active(&self) -> impl Iterator<Item = NodeId> {
        self.neighbors.iter().filter(|(_, neighbor)| neighbor.is_active()).map(|(peer, _)| *peer)
    }
}

/// The rumor as it will arrive, one link further.
pub(super) fn pass_on(rumor: &Rumor) -> Message {
    Message::Rumor(Rumor { hops: rumor.hops.saturating_add(1), ..rumor.clone() })
}

pub(super) fn payload_bytes(rumor: &Rumor) -> usize {
    match &rumor.content {
        Content::Record { name } => name.as_str().len(),
        Content::User(payload) => payload.len(),
    }
}
