//! What is promised, checked as it happens. Each checker takes one observation after the other
//! and answers with what it breaks, if anything; it goes on afterwards.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What an observation breaks.
pub(super) type Check = Result<(), String>;

/// The lock: intervals never overlap, fences increase, no increment of the counter is lost.
#[derive(Debug, Default)]
pub(super) struct Grants {
    held: Option<(String, u64)>,
    last_fence: u64,
    counter: u64,
    /// How many grants there were.
    pub(super) count: u64,
}

impl Grants {
    /// `node` has got the lock.
    pub(super) fn acquired(&mut self, node: &str, fence: u64) -> Check {
        self.count += 1;
        let held = self.held.replace((node.to_owned(), fence));
        let last = self.last_fence;
        self.last_fence = fence.max(last);
        if let Some((holder, held)) = held {
            return Err(format!(
                "{node} got the lock (fence {fence}) while {holder} had it (fence {held})"
            ));
        }
        if fence <= last {
            return Err(format!("{node} got the fence {fence} after somebody had {last}"));
        }
        Ok(())
    }

    /// `node` gives the lock back, after it has set the counter to `value`.
    pub(super) fn released(&mut self, node: &str, fence: u64, value: u64) -> Check {
        let held = self.held.take();
        let before = std::mem::replace(&mut self.counter, value);
        if held != Some((node.to_owned(), fence)) {
            return Err(format!("{node} gave back the fence {fence}, which it did not have"));
        }
        if value != before + 1 {
            return Err(format!("{node} counted to {value} (fence {fence}) after {before}"));
        }
        Ok(())
    }

    /// All is at rest, and the counter says `value`.
    pub(super) fn finish(&self, value: u64) -> Check {
        if let Some((holder, fence)) = &self.held {
            return Err(format!("{holder} never gave the lock back (fence {fence})"));
        }
        if value == self.count {
            return Ok(());
        }
        Err(format!("the counter is {value} after {} grants", self.count))
    }
}

/// Rumors: each reaches every node exactly once, unchanged.
#[derive(Debug)]
pub(super) struct Rumors {
    nodes: Vec<String>,
    streams: BTreeMap<String, Stream>,
    /// How many have reached all.
    pub(super) count: u64,
}

/// The rumors of one origin.
#[derive(Debug, Default)]
struct Stream {
    /// Those that have reached all: everything up to a number, and some beyond.
    up_to: u64,
    beyond: BTreeSet<u64>,
    open: BTreeMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    text: String,
    heard_by: BTreeSet<usize>,
}

impl Rumors {
    /// No rumors yet among these nodes.
    pub(super) fn new(nodes: &[String]) -> Self {
        Self { nodes: nodes.to_vec(), streams: BTreeMap::new(), count: 0 }
    }

    /// The node at this index has heard a rumor.
    pub(super) fn heard(
        &mut self,
        node: usize,
        origin: &str,
        sequence: u64,
        hops: u32,
        text: &str,
    ) -> Check {
        let name = &self.nodes[node];
        let stream = self.streams.entry(origin.to_owned()).or_default();
        let twice = || format!("{name} heard rumor {sequence} of {origin} twice");
        if sequence <= stream.up_to || stream.beyond.contains(&sequence) {
            return Err(twice());
        }
        let new = || Open { text: text.to_owned(), heard_by: BTreeSet::new() };
        let open = stream.open.entry(sequence).or_insert_with(new);
        if !open.heard_by.insert(node) {
            return Err(twice());
        }
        let said = &open.text;
        let changed =
            format!("{name} heard {text:?} as rumor {sequence} of {origin}, not {said:?}");
        let changed = (said != text).then_some(changed);
        if open.heard_by.len() == self.nodes.len() {
            stream.open.remove(&sequence);
            stream.beyond.insert(sequence);
            while stream.beyond.remove(&(stream.up_to + 1)) {
                stream.up_to += 1;
            }
            self.count += 1;
        }
        match changed {
            Some(changed) => Err(changed),
            None if (hops == 0) != (name == origin) => {
                Err(format!("{name} heard rumor {sequence} of {origin} after {hops} hops"))
            }
            None => Ok(()),
        }
    }

    /// All is at rest, and the nodes have said so many: whatever has not reached all is missing.
    pub(super) fn finish(&self, said: &[u64]) -> Vec<String> {
        let none = Stream::default();
        let mut broken = Vec::new();
        for (origin, said) in self.nodes.iter().zip(said) {
            let stream = self.streams.get(origin).unwrap_or(&none);
            for sequence in stream.up_to + 1..=*said {
                if stream.beyond.contains(&sequence) {
                    continue;
                }
                let heard = stream.open.get(&sequence).map(|open| &open.heard_by);
                let lack = |node: &usize| heard.is_none_or(|heard| !heard.contains(node));
                let missing = (0..self.nodes.len()).filter(lack).map(|node| &*self.nodes[node]);
                let missing: Vec<&str> = missing.collect();
                broken.push(format!(
                    "rumor {sequence} of {origin} never reached {}",
                    missing.join(", ")
                ));
            }
            let unsaid = stream.open.keys().chain(&stream.beyond).find(|number| *number > said);
            let unsaid = unsaid.copied().or((stream.up_to > *said).then_some(stream.up_to));
            if let Some(sequence) = unsaid {
                broken.push(format!("rumor {sequence} of {origin} was heard, but never said"));
            }
        }
        broken
    }
}

/// The order: all nodes deliver the same messages at the same positions, without gaps, and those
/// of one sender in the order in which it sent them.
#[derive(Debug)]
pub(super) struct Order {
    nodes: Vec<String>,
    /// Up to where each node has delivered.
    at: Vec<u64>,
    /// What stands at the positions after `base`, which somebody has not delivered yet.
    agreed: VecDeque<Delivered>,
    base: u64,
    /// The last sequence of each sender.
    last: BTreeMap<String, u64>,
}

#[derive(Debug, PartialEq, Eq)]
struct Delivered {
    sender: String,
    sequence: u64,
    text: String,
}

impl Order {
    /// No messages yet among these nodes.
    pub(super) fn new(nodes: &[String]) -> Self {
        let at = vec![0; nodes.len()];
        let (agreed, last) = (VecDeque::new(), BTreeMap::new());
        Self { nodes: nodes.to_vec(), at, agreed, base: 0, last }
    }

    /// The node at this index has delivered a message.
    pub(super) fn delivered(
        &mut self,
        node: usize,
        position: u64,
        sender: &str,
        sequence: u64,
        text: &str,
    ) -> Check {
        let name = &self.nodes[node];
        let before = self.at[node];
        if position != before + 1 {
            return Err(format!("{name} delivered position {position} after {before}"));
        }
        self.at[node] = position;
        let delivered = Delivered { sender: sender.into(), sequence, text: text.into() };
        // A node is never beyond what has been agreed, since its own positions have no gaps.
        let index = usize::try_from(position - self.base - 1).expect("what is kept fits");
        let check = match self.agreed.get(index) {
            Some(agreed) if *agreed == delivered => Ok(()),
            Some(agreed) => Err(format!(
                "{name} delivered {delivered:?} at position {position}, where another delivered \
                 {agreed:?}"
            )),
            None => {
                let last = self.last.insert(sender.into(), sequence).unwrap_or(0);
                self.agreed.push_back(delivered);
                if sequence == last + 1 {
                    Ok(())
                } else {
                    Err(format!("message {sequence} of {sender} stands after its message {last}"))
                }
            }
        };
        while self.at.iter().all(|at| *at > self.base) {
            self.agreed.pop_front();
            self.base += 1;
        }
        check
    }

    /// How many messages all have delivered.
    pub(super) fn count(&self) -> u64 {
        self.base
    }

    /// All is at rest, and the nodes have sent so many: whatever is not in the order is missing.
    pub(super) fn finish(&self, sent: &[u64]) -> Vec<String> {
        let mut broken = Vec::new();
        for (sender, sent) in self.nodes.iter().zip(sent) {
            let last = self.last.get(sender).copied().unwrap_or(0);
            if last != *sent {
                broken.push(format!("{sender} sent {sent} messages, and {last} are in the order"));
            }
        }
        let end = self.base + self.agreed.len() as u64;
        for (name, at) in self.nodes.iter().zip(&self.at) {
            if *at != end {
                broken.push(format!("{name} stopped at position {at} of {end}"));
            }
        }
        broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> Vec<String> {
        vec!["n1".into(), "n2".into()]
    }

    fn broken(check: Check, what: &str) {
        let reason = check.expect_err(what);
        assert!(reason.contains(what), "{reason}");
    }

    #[test]
    fn grants_that_are_as_promised() {
        let mut grants = Grants::default();
        for (node, fence, value) in [("n1", 1, 1), ("n2", 2, 2), ("n1", 9, 3)] {
            assert_eq!(grants.acquired(node, fence), Ok(()));
            assert_eq!(grants.released(node, fence, value), Ok(()));
        }
        assert_eq!(grants.finish(3), Ok(()));
    }

    #[test]
    fn overlapping_grants_are_found() {
        let mut grants = Grants::default();
        grants.acquired("n1", 1).unwrap();
        broken(grants.acquired("n2", 2), "while n1 had it");
        broken(grants.released("n1", 1, 1), "which it did not have");
    }

    #[test]
    fn fences_that_do_not_increase_are_found() {
        for fence in [4, 5] {
            let mut grants = Grants::default();
            grants.acquired("n1", 5).unwrap();
            grants.released("n1", 5, 1).unwrap();
            broken(grants.acquired("n2", fence), "after somebody had 5");
        }
    }

    #[test]
    fn lost_increments_are_found() {
        let mut grants = Grants::default();
        for (fence, node) in [(1, "n1"), (2, "n2")] {
            grants.acquired(node, fence).unwrap();
            let check = grants.released(node, fence, 1);
            assert_eq!(check.is_err(), fence == 2, "{check:?}");
        }
        broken(grants.finish(1), "the counter is 1 after 2 grants");
        grants.acquired("n1", 3).unwrap();
        broken(grants.finish(3), "never gave the lock back");
    }

    #[test]
    fn a_release_without_a_grant_is_found() {
        let mut grants = Grants::default();
        broken(grants.released("n1", 1, 1), "which it did not have");
        grants.acquired("n1", 2).unwrap();
        broken(grants.released("n2", 2, 2), "which it did not have");
        grants.acquired("n1", 3).unwrap();
        broken(grants.released("n1", 2, 3), "which it did not have");
    }

    #[test]
    fn rumors_that_are_as_promised() {
        let mut rumors = Rumors::new(&nodes());
        for (node, sequence, hops) in [(0, 1, 0), (0, 2, 0), (1, 2, 1), (1, 1, 3)] {
            assert_eq!(rumors.heard(node, "n1", sequence, hops, "x"), Ok(()));
        }
        assert_eq!(rumors.finish(&[2, 0]), Vec::<String>::new());
        assert_eq!(rumors.count, 2);
    }

    #[test]
    fn rumors_heard_twice_are_found() {
        let mut rumors = Rumors::new(&nodes());
        rumors.heard(0, "n1", 1, 0, "x").unwrap();
        broken(rumors.heard(0, "n1", 1, 0, "x"), "n1 heard rumor 1 of n1 twice");
        rumors.heard(1, "n1", 1, 1, "x").unwrap();
        broken(rumors.heard(1, "n1", 1, 2, "x"), "n2 heard rumor 1 of n1 twice");
        // The same while an earlier one is still open.
        for node in [0, 1] {
            rumors.heard(node, "n1", 3, u32::try_from(node).unwrap(), "x").unwrap();
        }
        broken(rumors.heard(1, "n1", 3, 1, "x"), "n2 heard rumor 3 of n1 twice");
    }

    #[test]
    fn changed_rumors_and_impossible_hops_are_found() {
        let mut rumors = Rumors::new(&nodes());
        rumors.heard(0, "n1", 1, 0, "x").unwrap();
        broken(rumors.heard(1, "n1", 1, 1, "y"), "not \"x\"");
        broken(rumors.heard(0, "n1", 2, 1, "x"), "after 1 hops");
        broken(rumors.heard(1, "n1", 2, 0, "x"), "after 0 hops");
    }

    #[test]
    fn missing_and_invented_rumors_are_found() {
        let mut rumors = Rumors::new(&nodes());
        rumors.heard(0, "n1", 1, 0, "x").unwrap();
        assert_eq!(rumors.finish(&[1, 0]), ["rumor 1 of n1 never reached n2"]);
        let all = ["rumor 1 of n1 never reached n2", "rumor 2 of n1 never reached n1, n2"];
        assert_eq!(rumors.finish(&[2, 0]), all);
        assert_eq!(rumors.finish(&[0, 0]), ["rumor 1 of n1 was heard, but never said"]);
        rumors.heard(1, "n1", 1, 1, "x").unwrap();
        assert_eq!(rumors.finish(&[0, 0]), ["rumor 1 of n1 was heard, but never said"]);
        assert_eq!(rumors.finish(&[1, 0]), Vec::<String>::new());
    }

    #[test]
    fn an_order_that_is_as_promised() {
        let mut order = Order::new(&nodes());
        for node in [0, 1] {
            assert_eq!(order.delivered(node, 1, "n2", 1, "a"), Ok(()));
            assert_eq!(order.delivered(node, 2, "n1", 1, "b"), Ok(()));
            assert_eq!(order.delivered(node, 3, "n2", 2, "c"), Ok(()));
        }
        assert_eq!(order.finish(&[1, 2]), Vec::<String>::new());
        assert_eq!((order.count(), order.agreed.len()), (3, 0));
    }

    #[test]
    fn other_orders_are_found() {
        let mut order = Order::new(&nodes());
        order.delivered(0, 1, "n1", 1, "a").unwrap();
        order.delivered(0, 2, "n2", 1, "b").unwrap();
        broken(order.delivered(1, 1, "n2", 1, "b"), "where another delivered");
        let mut order = Order::new(&nodes());
        order.delivered(0, 1, "n1", 1, "a").unwrap();
        broken(order.delivered(1, 1, "n1", 1, "b"), "where another delivered");
    }

    #[test]
    fn gaps_and_repetitions_are_found() {
        let mut order = Order::new(&nodes());
        broken(order.delivered(0, 2, "n1", 1, "a"), "position 2 after 0");
        order.delivered(0, 1, "n1", 1, "a").unwrap();
        broken(order.delivered(0, 1, "n1", 1, "a"), "position 1 after 1");
        broken(order.delivered(0, 3, "n1", 2, "a"), "position 3 after 1");
    }

    #[test]
    fn messages_out_of_their_senders_order_are_found() {
        let mut order = Order::new(&nodes());
        broken(order.delivered(0, 1, "n1", 2, "b"), "message 2 of n1 stands after its message 0");
        broken(order.delivered(0, 2, "n1", 1, "a"), "message 1 of n1 stands after its message 2");
    }

    #[test]
    fn missing_messages_are_found() {
        let mut order = Order::new(&nodes());
        order.delivered(0, 1, "n1", 1, "a").unwrap();
        assert_eq!(order.finish(&[1, 0]), ["n2 stopped at position 0 of 1"]);
        order.delivered(1, 1, "n1", 1, "a").unwrap();
        assert_eq!(order.finish(&[2, 0]), ["n1 sent 2 messages, and 1 are in the order"]);
    }
}
