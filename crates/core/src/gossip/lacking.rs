//! What neighbours have and this node has not: since when, who was asked for it, and when to ask
//! the next one.

use super::{Origin, WANT_BYTES, WANT_RUMORS};
use crate::{id::NodeId, time::Time};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use core::time::Duration;

/// The most ranges that are tracked. What does not fit is learnt again by the next comparison.
const RANGES_MAX: usize = 4096;

/// After so many questions without an answer the announcements are disbelieved.
pub(super) const ATTEMPTS_MAX: u32 = 8;

/// Ranges of rumors that are announced and not here, disjoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Lacking {
    ranges: BTreeMap<(Origin, u64), Lack>,
    asked: BTreeMap<NodeId, Asked>,
}

/// One range, by its first number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lack {
    pub(super) last: u64,
    /// When it was announced.
    pub(super) since: Time,
    /// When to ask for it, or to take the question as lost.
    pub(super) due: Time,
    /// Whether it was given time to come by itself: if it did not, the tree has a hole here.
    pub(super) waits: bool,
    /// Ready, but every announcer is busy answering.
    pub(super) blocked: bool,
    /// How many questions were lost.
    pub(super) attempts: u32,
    /// Who is being asked.
    pub(super) asked_of: Option<NodeId>,
    /// Everybody who was asked.
    pub(super) asked: Vec<NodeId>,
    /// Whose link was made part of the tree because of this.
    pub(super) grafted: Option<NodeId>,
    /// Who knows it and no longer has it.
    pub(super) forgotten_by: Vec<NodeId>,
}

/// What is expected from a neighbour that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    outstanding: u64,
    bytes: usize,
    progress: Time,
    /// When it was asked, until it begins to answer, or any of it is taken as lost: the answers to
    /// repeated questions cannot be told apart (Karn's rule).
    since: Option<Time>,
}

impl Lacking {
    /// How many rumors that are.
    pub(super) fn total(&self) -> u64 {
        self.ranges
            .iter()
            .fold(0, |sum: u64, ((_, first), lack)| sum.saturating_add(length(*first, lack.last)))
    }

    /// Notes that `first..=last` was announced at `since`, to be asked for when `due`. What is noted
    /// already stays as it is.
    pub(super) fn note(
        &mut self,
        origin: Origin,
        (first, last): (u64, u64),
        since: Time,
        due: Time,
        waits: bool,
    ) {
        let mut next = first;
        let mut gaps = Vec::new();
        for (start, end) in self.overlapping(origin, first, last) {
            if start > next {
                gaps.push((next, start - 1));
            }
            next = end + 1;
        }
        if next <= last {
            gaps.push((next, last));
        }
        for (first, last) in gaps {
            if self.ranges.len() < RANGES_MAX {
                let lack = Lack {
                    last,
                    since,
                    due,
                    waits,
                    blocked: false,
                    attempts: 0,
                    asked_of: None,
                    asked: Vec::new(),
                    grafted: None,
                    forgotten_by: Vec::new(),
                };
                self.ranges.insert((origin, first), lack);
            }
        }
    }

    /// Takes out whatever is noted of `first..=last`, in pieces.
    pub(super) fn take(&mut self, origin: Origin, first: u64, last: u64) -> Vec<(u64, Lack)> {
        let mut taken = Vec::new();
        if self.ranges.is_empty() {
            return taken;
        }
        for (start, end) in self.overlapping(origin, first, last) {
            let lack = self.ranges.remove(&(origin, start)).expect("it was just found");
            if start < first {
                let left = Lack { last: first - 1, ..lack.clone() };
                self.ranges.insert((origin, start), left);
            }
            if end > last {
                self.ranges.insert((origin, last + 1), lack.clone());
            }
            let (start, end) = (start.max(first), end.min(last));
            if let Some(asked) = lack.asked_of.and_then(|peer| self.asked.get_mut(&peer)) {
                asked.outstanding -= length(start, end);
            }
            taken.push((start, Lack { last: end, ..lack }));
        }
        taken
    }

    /// Puts a piece back. Its question, if it had one, is over.
    pub(super) fn put_back(&mut self, origin: Origin, first: u64, lack: Lack) {
        self.ranges.insert((origin, first), Lack { asked_of: None, ..lack });
    }

    /// Puts a piece back as being asked of `peer`, until `due`.
    pub(super) fn ask(
        &mut self,
        origin: Origin,
        first: u64,
        mut lack: Lack,
        peer: NodeId,
        (now, due): (Time, Time),
    ) {
        let since = (lack.attempts == 0).then_some(now);
        let fresh = Asked { outstanding: 0, bytes: 0, progress: now, since };
        let asked = self.asked.entry(peer).or_insert_with(|| fresh.clone());
        if asked.outstanding == 0 {
            *asked = fresh;
        }
        asked.outstanding += length(first, lack.last);
        if !lack.asked.contains(&peer) {
            lack.asked.push(peer);
        }
        let lack = Lack { asked_of: Some(peer), blocked: false, due, ..lack };
        self.ranges.insert((origin, first), lack);
    }

    /// How many more rumors `peer` can be asked for now.
    pub(super) fn capacity(&self, peer: NodeId) -> u64 {
        let outstanding = self.asked.get(&peer).map_or(0, |asked| asked.outstanding);
        (WANT_RUMORS as u64).saturating_sub(outstanding)
    }

    /// How long `peer` took to begin its answer, if it just did.
    pub(super) fn answer_lag(&mut self, peer: NodeId, now: Time) -> Option<Duration> {
        self.asked.get_mut(&peer)?.since.take().map(|since| now.since(since))
    }

    /// `peer` has answered with so many bytes. Returns whether its answer is over, so that it can
    /// be asked for the rest at once.
    pub(super) fn on_answer(&mut self, peer: NodeId, bytes: usize, now: Time) -> bool {
        let Some(asked) = self.asked.get_mut(&peer) else { return false };
        asked.bytes += bytes;
        asked.progress = now;
        // The answer ends where a helper ends it: see `on_want_message`.
        let over = asked.outstanding == 0 || asked.bytes >= WANT_BYTES;
        if over {
            self.asked.remove(&peer);
            for lack in self.ranges.values_mut() {
                if lack.asked_of == Some(peer) {
                    lack.asked_of = None;
                    lack.due = now;
                } else if lack.blocked {
                    lack.due = now;
                }
                lack.blocked &= lack.due > now;
            }
        }
        over && !self.ranges.is_empty()
    }

    /// Forgets what was asked of a peer that is gone: the next one can be asked at once.
    pub(super) fn on_gone(&mut self, peer: NodeId, now: Time) {
        self.asked.remove(&peer);
        for lack in self.ranges.values_mut() {
            lack.asked.retain(|asked| *asked != peer);
            if lack.asked_of == Some(peer) {
                lack.asked_of = None;
                lack.due = now;
            }
        }
    }

    /// Takes unanswered questions as lost that are due, unless the answer is still coming in.
    pub(super) fn expire(&mut self, now: Time, patience: Duration) {
        for ((_, first), lack) in &mut self.ranges {
            let Some(asked) = lack
                .asked_of
                .filter(|_| lack.due <= now)
                .map(|peer| self.asked.get_mut(&peer).expect("who is being asked is counted"))
            else {
                continue;
            };
            if asked.progress + patience > now {
                lack.due = asked.progress + patience;
            } else {
                lack.asked_of = None;
                lack.attempts += 1;
                asked.since = None;
                asked.outstanding -= length(*first, lack.last);
            }
        }
        self.asked.retain(|_, asked| asked.outstanding > 0);
    }

    /// The ranges to ask for by now.
    pub(super) fn due(&self, now: Time) -> BTreeSet<(Origin, u64)> {
        let due = |lack: &Lack| lack.asked_of.is_none() && lack.due <= now;
        self.ranges.iter().filter(|(_, lack)| due(lack)).map(|(key, _)| *key).collect()
    }

    /// The last number of the range that begins with `first`.
    pub(super) fn last(&self, origin: Origin, first: u64) -> Option<u64> {
        self.ranges.get(&(origin, first)).map(|lack| lack.last)
    }

    /// The earliest time that something is due.
    pub(super) fn next_due(&self) -> Option<Time> {
        self.ranges.values().map(|lack| lack.due).min()
    }

    fn overlapping(&self, origin: Origin, first: u64, last: u64) -> Vec<(u64, u64)> {
        let before = self.ranges.range(..(origin, first)).next_back();
        let before = before.filter(|((o, _), lack)| *o == origin && lack.last >= first);
        before
            .into_iter()
            .chain(self.ranges.range((origin, first)..=(origin, last)))
            .map(|((_, start), lack)| (*start, lack.last))
            .collect()
    }
}

fn length(first: u64, last: u64) -> u64 {
    last - first + 1
}

/// A smoothed time and its deviation (Jacobson 1988, gains 1/8 and 1/4), in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Estimate {
    mean: u64,
    deviation: u64,
}

impl Estimate {
    pub(super) fn new(first: Duration) -> Self {
        let nanos = first.as_nanos() as u64;
        Self { mean: nanos / 2, deviation: nanos / 8 }
    }

    pub(super) fn sample(&mut self, sample: Duration) {
        // Capped, so that one old copy does not silence repair (rules-gossip 3.4).
        let sample = sample.as_nanos().min(1_000_000_000) as u64;
        let off = self.mean.abs_diff(sample);
        self.deviation = self.deviation - self.deviation / 4 + off / 4;
        self.mean = self.mean - self.mean / 8 + sample / 8;
    }

    /// The mean and four deviations, within the bounds.
    pub(super) fn bound(&self, min: Duration, max: Duration) -> Duration {
        Duration::from_nanos(self.mean + 4 * self.deviation).clamp(min, max)
    }
}
