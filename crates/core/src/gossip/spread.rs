//! How a rumor is passed on: along a tree, or from mouth to mouth.

use super::{Content, Gossip, Message, Origin, Rumor, Strategy, Timer};
use crate::{id::NodeId, protocol::Context};
use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
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

/// A rumor that this node keeps pushing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Hot {
    origin: Origin,
    sequence: u64,
    pushes: u32,
}

impl Gossip {
    /// Passes on a rumor that is new here: an own one, or one that `from` has pushed.
    pub(super) fn spread(
        &mut self,
        rumor: &Rumor,
        from: Option<NodeId>,
        cx: &mut Context<'_, Self>,
    ) {
        match self.config.strategy {
            Strategy::Tree => {
                // Plumtree, algorithm 1: the link that a rumor came by first is of the tree.
                if let Some(neighbor) = from.and_then(|from| self.neighbors.get_mut(&from)) {
                    neighbor.eager = true;
                }
                self.push(rumor, cx);
                self.announce(rumor.origin, false, cx);
            }
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
        let kept = self.store.kept(origin, sequence);
        let asked = kept.is_some_and(|kept| kept.asked.contains(&from));
        if asked {
            // Not pushed but asked for: its way says nothing about the tree.
            return self.on_answered(from, rumor, cx);
        }
        match self.config.strategy {
            Strategy::Tree => {
                let Some(kept) = kept else { return };
                let repaired = kept.from.is_some_and(|first| kept.asked.contains(&first));
                if let Some(announced) = kept.announced.filter(|_| repaired) {
                    // It was asked for too early: wait longer from now on.
                    self.push_lag.sample(cx.now().since(announced));
                }
                // A second copy from the first sender was made by the network, and the link is of
                // the tree. Records are spread by repair and say nothing about it.
                if kept.from != Some(from) && sequence > 0 {
                    self.set_eager(from, false);
                    cx.send(from, Message::Prune);
                }
            }
            Strategy::Rumor { .. } => cx.send(from, Message::Known { origin, sequence }),
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
            let Some(kept) = self.store.kept_mut(hot.origin, hot.sequence).filter(|k| k.hot) else {
                continue;
            };
            cx.send(peer, pass_on(&kept.rumor));
            rumors += 1;
            bytes += payload_bytes(&kept.rumor);
            hot.pushes += 1;
            if hot.pushes < k.saturating_mul(PUSHES_PER_K) {
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
            Self::send_digest(&peers.into(), haves, false, cx);
        }
    }

    /// Plumtree, `EagerPush`: to all neighbours on the tree that are not known to have it.
    fn push(&self, rumor: &Rumor, cx: &mut Context<'_, Self>) {
        let to: Arc<[NodeId]> = self
            .neighbors
            .iter()
            .filter(|(_, n)| n.is_active() && n.eager)
            .filter(|(_, n)| !n.has_rumor(rumor.origin, rumor.sequence))
            .map(|(peer, _)| *peer)
            .collect();
        cx.send_many(&to, pass_on(rumor));
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
