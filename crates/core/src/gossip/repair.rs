//! How a node gets what it has missed: it asks who has it, and who has it streams it.

use super::{
    Gossip, Message, Origin, RANGES_MAX, Range, Rumor, Strategy, WANT_BYTES, WANT_RUMORS,
    lacking::{ATTEMPTS_MAX, Lack},
    spread::{pass_on, payload_bytes},
};
use crate::{
    id::{Name, NodeId},
    planted::Bug,
    protocol::Context,
};
use alloc::{collections::BTreeMap, string::ToString, vec::Vec};
use core::time::Duration;

/// How long an announced rumor is waited for before anything is measured: longer than a tree of a
/// few links in one building takes, and not yet felt by people. Measured lags replace it.
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(50);
/// The bounds of that wait. Below the lower one, scheduling noise would trigger repair.
const WAIT_MIN: Duration = Duration::from_millis(20);
const WAIT_MAX: Duration = Duration::from_secs(1);

/// How long an answer is waited for before anything is measured, and the bounds of it. The upper one
/// also holds for repeated questions, of which each waits twice as long as the one before.
pub(super) const FIRST_PATIENCE: Duration = Duration::from_millis(200);
const PATIENCE_MIN: Duration = Duration::from_millis(50);
const PATIENCE_MAX: Duration = Duration::from_secs(2);

/// A record is waited for as long as so many comparisons with neighbours take. It goes ahead of
/// the rumors, and is announced and asked for like them: so only if one or two of these are lost is
/// it waited for at all.
const RECORD_COMPARISONS: u32 = 5;

/// What is asked of one neighbour.
#[derive(Default)]
struct Question {
    ranges: Vec<Range>,
    graft: bool,
}

/// The name of a node whose record is not to be had: `#` and its id in 16 hex digits.
fn placeholder(node: NodeId) -> Name {
    Name::new(&node.to_string()).expect("17 printable characters make a name")
}

impl Gossip {
    /// How long an announced rumor is waited for: mean and four deviations of the lags that pushed
    /// copies had behind the announcement (rules-gossip 3.4).
    pub(super) fn wait(&self) -> Duration {
        self.push_lag.bound(WAIT_MIN, WAIT_MAX)
    }

    pub(super) fn patience(&self) -> Duration {
        self.answer_lag.bound(PATIENCE_MIN, PATIENCE_MAX)
    }

    /// Asks for everything that is due, or nearly.
    pub(super) fn on_want_timer(&mut self, cx: &mut Context<'_, Self>) {
        self.want_at = None;
        let now = cx.now();
        self.lacking.expire(now, self.patience());
        // What falls due shortly goes into the same question (rules-gossip 3.8, "group").
        let mut due = self.lacking.due(now + self.wait() / 4);
        let mut questions: BTreeMap<NodeId, Question> = BTreeMap::new();
        while let Some((origin, first)) = due.pop_first() {
            let Some(last) = self.lacking.last(origin, first) else { continue };
            let end = self.ask_for(origin, first, last, &mut questions, cx);
            if end < last {
                due.insert((origin, end + 1));
            }
        }
        for (peer, question) in questions {
            if question.graft {
                // Plumtree, algorithm 2: the tree gets the link by which the rumor is known to come.
                self.set_eager(peer, true);
                cx.send(peer, Message::Graft);
            }
            if !cx.has(Bug::NeverAsks) {
                cx.send(peer, Message::Want(question.ranges));
            }
        }
        self.arm_want(cx);
    }

    /// Finds somebody to ask for `first` and as many after it as possible. Returns the last number
    /// that is settled by that, one way or the other.
    fn ask_for(
        &mut self,
        origin: Origin,
        first: u64,
        last: u64,
        questions: &mut BTreeMap<NodeId, Question>,
        cx: &mut Context<'_, Self>,
    ) -> u64 {
        let now = cx.now();
        let piece = |gossip: &mut Self, end| {
            let taken = gossip.lacking.take(origin, first, end).pop();
            taken.expect("the range was just looked up").1
        };
        let mut has_none_up_to = last;
        let (mut free, mut busy) = (Vec::new(), false);
        let lack = piece(self, last);
        for (peer, neighbor) in self.neighbors.iter().filter(|(_, n)| n.is_active()) {
            let Some(has) = neighbor.has.get(&origin) else { continue };
            let (has_first, end) = has.span(first);
            if !has_first {
                has_none_up_to = has_none_up_to.min(end);
            } else if !lack.forgotten_by.contains(peer) {
                let room = questions.get(peer).map_or(0, |q| q.ranges.len()) < RANGES_MAX;
                match self.lacking.capacity(*peer) {
                    0 => busy = true,
                    _ if !room => busy = true,
                    capacity => free.push((*peer, end.min(first.saturating_add(capacity - 1)))),
                }
            } else {
                has_none_up_to = has_none_up_to.min(end);
            }
        }
        if lack.attempts >= ATTEMPTS_MAX {
            self.disbelieve(origin, &lack);
            return last;
        }
        // Those that were not asked yet come first.
        if free.iter().any(|(peer, _)| !lack.asked.contains(peer)) {
            free.retain(|(peer, _)| !lack.asked.contains(peer));
        }
        if free.is_empty() {
            if busy {
                let due = now + self.patience();
                self.lacking.put_back(origin, first, Lack { due, blocked: true, ..lack });
                return last;
            }
            // Nobody has it whom we could ask, so it is dropped here, and learnt again if somebody
            // announces it: unless it is gone everywhere that is known.
            if has_none_up_to < last {
                self.lacking.put_back(origin, has_none_up_to + 1, lack.clone());
            }
            if !lack.forgotten_by.is_empty() {
                self.store.forget(Range { origin, first, last: has_none_up_to });
            }
            return has_none_up_to;
        }
        let (peer, end) = free[cx.random_below(free.len() as u64) as usize];
        let end = end.min(last);
        if end < last {
            self.lacking.put_back(origin, end + 1, lack.clone());
        }
        let question = questions.entry(peer).or_default();
        question.ranges.push(Range { origin, first, last: end });
        let mut grafted = lack.grafted;
        if lack.waits && self.config.strategy == Strategy::Tree {
            question.graft = true;
            let lazy = self.neighbors.get(&peer).is_some_and(|neighbor| !neighbor.eager);
            grafted = lazy.then_some(peer).or(grafted);
        }
        let due = now + (self.patience() * (1 << lack.attempts.min(3))).min(PATIENCE_MAX);
        self.lacking.ask(origin, first, Lack { last: end, grafted, ..lack }, peer, (now, due));
        end
    }

    /// Nobody answers for this range: what they announced was of another life, or a mistake.
    fn disbelieve(&mut self, origin: Origin, lack: &Lack) {
        for peer in &lack.asked {
            if let Some(neighbor) = self.neighbors.get_mut(peer) {
                neighbor.has.remove(&origin);
            }
        }
    }

    /// Streams what was asked for, as far as it goes into one answer; the rest is asked for again.
    pub(super) fn on_want(&mut self, from: NodeId, ranges: &[Range], cx: &mut Context<'_, Self>) {
        let (mut rumors, mut bytes, mut forgotten) = (0, 0, Vec::new());
        'ranges: for range in ranges.iter().take(RANGES_MAX) {
            for found in self.store.recall(*range) {
                if rumors == WANT_RUMORS || bytes >= WANT_BYTES {
                    break 'ranges;
                }
                match found {
                    Ok(kept) if kept.rumor.sequence == 0 && cx.has(Bug::RecordsStayAtHome) => {}
                    Ok(kept) => {
                        if kept.rumor.sequence == 0
                            && let Some(neighbor) = self.neighbors.get_mut(&from)
                        {
                            neighbor.told.insert(range.origin);
                        }
                        rumors += 1;
                        bytes += payload_bytes(&kept.rumor);
                        cx.send(from, pass_on(&kept.rumor));
                    }
                    Err((first, last)) if forgotten.len() < RANGES_MAX => {
                        forgotten.push(Range { origin: range.origin, first, last });
                    }
                    Err(_) => {}
                }
            }
        }
        if !forgotten.is_empty() {
            cx.send(from, Message::Forgotten(forgotten));
        }
    }

    /// The neighbour no longer has these: somebody else may, or nobody.
    pub(super) fn on_forgotten(
        &mut self,
        from: NodeId,
        ranges: &[Range],
        cx: &mut Context<'_, Self>,
    ) {
        let now = cx.now();
        for Range { origin, first, last } in ranges.iter().take(RANGES_MAX).copied() {
            if first > last || first == 0 || !self.is_possible_end(origin, last) {
                self.ignored += 1; // Records are never dropped.
                continue;
            }
            for (first, mut lack) in self.lacking.take(origin, first, last) {
                if lack.asked.contains(&from) && !lack.forgotten_by.contains(&from) {
                    lack.forgotten_by.push(from);
                    lack.due = now;
                }
                self.lacking.put_back(origin, first, lack);
            }
        }
        self.lacking.on_answer(from, 0, now);
        self.arm_want(cx);
    }

    /// Emits what is held of streams whose record did not come, under a placeholder: probably the
    /// origin is gone and nobody has its record. A record that comes later gives its name to later
    /// rumors only.
    pub(super) fn give_up_records(&mut self, cx: &mut Context<'_, Self>) {
        let patience = self.config.anti_entropy.saturating_mul(RECORD_COMPARISONS);
        for origin in self.store.nameless_for(patience, cx.now()) {
            self.store.name_without_record(origin, placeholder(origin.node));
            for held in self.store.release(origin) {
                self.emit_heard(&held, cx);
            }
        }
    }

    /// A rumor came from a neighbour that was asked for it.
    pub(super) fn on_answered(&mut self, from: NodeId, rumor: &Rumor, cx: &mut Context<'_, Self>) {
        let now = cx.now();
        if let Some(lag) = self.lacking.answer_lag(from, now) {
            self.answer_lag.sample(lag);
        }
        if self.lacking.on_answer(from, payload_bytes(rumor), now) {
            self.arm_want(cx);
        }
    }
}
