//! What is promised, checked over all that several processes have said in all of their lives.

use super::{
    Process,
    cluster::{Cluster, NAMES},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

/// The order, as all lives together have seen it.
#[derive(Default)]
pub(crate) struct Order {
    /// What stands at each position.
    pub(crate) messages: BTreeMap<u64, Value>,
    /// After which positions messages may be lost, as somebody has said.
    pub(crate) losses: BTreeSet<u64>,
}

/// Checks that a view is the same for all who were ever in it.
pub(crate) fn check_views(cluster: &Cluster) {
    let mut views: BTreeMap<u64, &Value> = BTreeMap::new();
    for process in cluster.lives.iter().flatten() {
        let mut last = 0;
        for view in process.all("view") {
            let number = view["number"].as_u64().unwrap();
            assert!(number > last, "{view} after view {last}");
            last = number;
            let known = views.entry(number).or_insert(view);
            assert_eq!(*known, view, "two views of one number");
        }
    }
}

/// Checks that there is one order: a position has one content for all and for ever, a text one
/// position; positions have no gaps but those that were announced; and what one life has said is
/// in its order.
pub(crate) fn check_order(cluster: &Cluster) -> Order {
    let mut order = Order::default();
    for process in cluster.lives.iter().flatten() {
        check_life(process, &mut order);
    }
    let mut places: BTreeMap<&str, u64> = BTreeMap::new();
    let mut said: BTreeMap<String, u64> = BTreeMap::new();
    let mut last = 0;
    for (position, message) in &order.messages {
        let text = message["text"].as_str().unwrap();
        let other = places.insert(text, *position);
        assert_eq!(other, None, "{text:?} stands at two positions, also at {position}");
        if *position != last + 1 {
            let announced = order.losses.range(..=last).next_back();
            assert!(announced.is_some(), "nobody has {last} + 1, nor said that it may be lost");
        }
        last = *position;
        let (life, count) = text.rsplit_once('.').expect("all texts of the test have a number");
        let count = count.parse().unwrap();
        let before = said.insert(life.to_owned(), count);
        assert!(before < Some(count), "{text:?} after number {before:?} of the same life");
    }
    order
}

fn check_life(process: &Process, order: &mut Order) {
    // The position that must come next; before the first one, anything may.
    let mut next: Option<u64> = None;
    let mut jump = true;
    for (_, event) in &process.seen {
        match event["event"].as_str().unwrap() {
            "delivered" => {
                let position = event["position"].as_u64().unwrap();
                let follows = next.is_none_or(|next| position == next || jump && position > next);
                assert!(follows, "{event}, where {next:?} was due");
                (next, jump) = (Some(position + 1), false);
                let known = order.messages.entry(position).or_insert_with(|| event.clone());
                assert_eq!(known, event, "two messages at one position");
            }
            "missed" => {
                assert!(next.is_none_or(|next| event["from"] == next), "{event} at {next:?}");
                next = Some(event["to"].as_u64().unwrap() + 1);
            }
            "loss" => {
                order.losses.insert(event["after"].as_u64().unwrap());
                jump = true;
            }
            _ => {}
        }
    }
}

/// One grant of the lock, as far as it is certain from outside.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) by: usize,
    pub(crate) fence: u64,
    /// When it was there already.
    pub(crate) from: Instant,
    /// When it was valid still, as its holder has confirmed.
    pub(crate) until: Instant,
}

/// Grants as they come in.
#[derive(Default)]
pub(crate) struct Grants {
    pub(crate) all: Vec<Grant>,
    fences: BTreeSet<u64>,
}

impl Grants {
    /// The largest fence that anybody has read of by now: later requests get larger ones.
    pub(crate) fn largest(&self) -> u64 {
        self.fences.last().copied().unwrap_or(0)
    }

    /// Takes down a grant whose request was made when `floor` was the largest fence.
    pub(crate) fn add(&mut self, by: usize, event: &Value, floor: u64, at: Instant) {
        let fence = event["fence"].as_u64().unwrap();
        assert!(fence > floor, "{}: {event}, and {floor} was granted before it asked", NAMES[by]);
        assert!(self.fences.insert(fence), "{}: {event}, which was granted before", NAMES[by]);
        self.all.push(Grant { by, fence, from: at, until: at });
    }

    /// The holder has confirmed that it was valid still at this time.
    pub(crate) fn confirm(&mut self, fence: u64, at: Instant) {
        let grant = self.all.iter_mut().rfind(|grant| grant.fence == fence).unwrap();
        grant.until = grant.until.max(at);
    }

    /// Checks that no two were valid at once.
    pub(crate) fn check(&mut self) {
        self.all.sort_by_key(|grant| grant.from);
        let mut longest: Option<&Grant> = None;
        for grant in &self.all {
            if let Some(before) = longest {
                assert!(before.until <= grant.from, "{before:?} and {grant:?} at once");
            }
            if longest.is_none_or(|longest| longest.until < grant.until) {
                longest = Some(grant);
            }
        }
    }
}

/// Checks that no hop of the token was shown by two peers, or twice.
pub(crate) fn check_hops(cluster: &Cluster) {
    let mut hops = BTreeSet::new();
    for token in cluster.lives.iter().flatten().flat_map(|process| process.all("token")) {
        let hop = (token["view"].as_u64().unwrap(), token["hop"].as_u64().unwrap());
        assert!(hops.insert(hop), "view and hop {hop:?} were seen twice");
    }
}
