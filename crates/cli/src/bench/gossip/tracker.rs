//! Which node has heard which rumor, and how long after it was said.

use super::super::{histogram, machine::now_ns};
use bytes::Bytes;
use hdrhistogram::Histogram;
use std::{
    ops::Range,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};
use tokio::sync::Notify;

/// What all nodes have heard. Each rumor carries its number in its first eight bytes.
pub(super) struct Tracker {
    nodes: usize,
    size: usize,
    /// Per rumor: when it was said, or 0.
    said_at: Vec<AtomicU64>,
    /// Per rumor: when the last of the other nodes had heard it, or 0.
    all_at: Vec<AtomicU64>,
    /// Per rumor: how many of the other nodes have heard it.
    heard: Vec<AtomicU32>,
    /// Per rumor and node: how many microseconds that took, rounded up; 0 if it has not.
    took: Vec<AtomicU32>,
    /// How often a node has heard again what it had heard.
    again: AtomicU64,
    /// How often somebody heard what nobody had said.
    wrong: AtomicU64,
    /// When a rumor has reached all.
    pub(super) complete: Notify,
}

/// What became of some rumors.
#[derive(Debug)]
pub(super) struct Spread {
    /// Per other node: until it had heard.
    pub(super) each: Histogram<u64>,
    /// Per rumor: until all had heard.
    pub(super) all: Histogram<u64>,
    /// How many have reached all.
    pub(super) complete: u64,
    /// How many were not heard, over all nodes.
    pub(super) missing: u64,
}

impl Tracker {
    /// For so many rumors of this size.
    pub(super) fn new(nodes: usize, size: usize, rumors: usize) -> Self {
        let times = || (0..rumors).map(|_| AtomicU64::new(0)).collect();
        let counts = |count: usize| (0..count).map(|_| AtomicU32::new(0)).collect();
        Self {
            nodes,
            size,
            said_at: times(),
            all_at: times(),
            heard: counts(rumors),
            took: counts(rumors * nodes),
            again: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
            complete: Notify::new(),
        }
    }

    /// How many rumors there may be.
    pub(super) fn room(&self) -> usize {
        self.said_at.len()
    }

    /// The rumor is about to be said: its text.
    pub(super) fn say(&self, number: usize) -> Bytes {
        self.said_at[number].store(now_ns(), Relaxed);
        self.text(number).into()
    }

    fn text(&self, number: usize) -> Vec<u8> {
        let mut text = (number as u64).to_le_bytes().to_vec();
        text.resize(self.size, number as u8);
        text
    }

    /// A node has heard something; `own` if it has said it itself.
    pub(super) fn hear(&self, node: usize, own: bool, text: &[u8]) {
        let now = now_ns();
        let number = text.first_chunk().map(|number| u64::from_le_bytes(*number) as usize);
        let said = number.filter(|number| {
            let said_at = self.said_at.get(*number).map_or(0, |at| at.load(Relaxed));
            let filled = text[8..].iter().all(|byte| *byte == *number as u8);
            said_at > 0 && text.len() == self.size && filled
        });
        let Some(number) = said else {
            self.wrong.fetch_add(1, Relaxed);
            return;
        };
        let took = now.saturating_sub(self.said_at[number].load(Relaxed)).div_ceil(1000).max(1);
        let took = u32::try_from(took).unwrap_or(u32::MAX);
        // Only one task hears for a node, so nobody comes between the two.
        let cell = &self.took[number * self.nodes + node];
        if cell.load(Relaxed) != 0 {
            self.again.fetch_add(1, Relaxed);
            return;
        }
        cell.store(if own { u32::MAX } else { took }, Relaxed);
        if !own && self.heard[number].fetch_add(1, Relaxed) as usize + 2 == self.nodes {
            self.all_at[number].store(now, Relaxed);
            self.complete.notify_one();
        }
    }

    /// Whether this rumor has reached all.
    pub(super) fn is_complete(&self, number: usize) -> bool {
        self.all_at[number].load(Relaxed) > 0
    }

    /// Over all nodes, how often these rumors were heard; at the node that said it, too.
    pub(super) fn heard(&self, rumors: Range<usize>) -> u64 {
        let cells = &self.took[rumors.start * self.nodes..rumors.end * self.nodes];
        cells.iter().filter(|took| took.load(Relaxed) > 0).count() as u64
    }

    /// How often something was heard that had been heard before, and that nobody had said.
    pub(super) fn faults(&self) -> (u64, u64) {
        (self.again.load(Relaxed), self.wrong.load(Relaxed))
    }

    /// What became of these rumors.
    pub(super) fn spread(&self, rumors: Range<usize>) -> Spread {
        let mut spread = Spread { each: histogram(), all: histogram(), complete: 0, missing: 0 };
        for number in rumors {
            for took in &self.took[number * self.nodes..(number + 1) * self.nodes] {
                match took.load(Relaxed) {
                    0 => spread.missing += 1,
                    u32::MAX => {}
                    micros => spread.each.saturating_record(u64::from(micros) * 1000),
                }
            }
            let all_at = self.all_at[number].load(Relaxed);
            if all_at > 0 {
                spread.complete += 1;
                spread.all.saturating_record(all_at - self.said_at[number].load(Relaxed));
            }
        }
        spread
    }

    /// How long it took from saying the first of these until all had heard the last, in seconds.
    pub(super) fn seconds(&self, rumors: Range<usize>) -> f64 {
        let begin = self.said_at[rumors.start].load(Relaxed);
        let end = self.all_at[rumors].iter().map(|at| at.load(Relaxed)).max().unwrap_or(0);
        end.saturating_sub(begin) as f64 / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_have_heard_is_complete() {
        let tracker = Tracker::new(3, 64, 2);
        let text = tracker.say(1);
        tracker.hear(0, true, &text);
        tracker.hear(1, false, &text);
        assert!(!tracker.is_complete(1));
        tracker.hear(2, false, &text);
        assert!(tracker.is_complete(1));
        let spread = tracker.spread(1..2);
        assert_eq!((spread.complete, spread.missing, spread.each.len()), (1, 0, 2));
        assert_eq!((tracker.heard(1..2), tracker.faults()), (3, (0, 0)));
    }

    #[test]
    fn what_is_wrong_is_counted() {
        let tracker = Tracker::new(3, 64, 3);
        let text = tracker.say(1);
        tracker.hear(1, false, &text);
        tracker.hear(1, false, &text);
        assert_eq!(tracker.faults(), (1, 0), "heard twice");
        let mut changed = text.to_vec();
        changed[63] ^= 1;
        tracker.hear(2, false, &changed);
        tracker.hear(2, false, &text[..63]);
        tracker.hear(2, false, &text[..3]);
        tracker.hear(2, false, &tracker.text(2));
        tracker.hear(2, false, &tracker.text(3));
        assert_eq!(tracker.faults(), (1, 5), "changed, cut off, never said, out of range");
        // The node that said it, and the third one.
        assert_eq!((tracker.spread(1..2).missing, tracker.spread(1..2).complete), (2, 0));
    }
}
