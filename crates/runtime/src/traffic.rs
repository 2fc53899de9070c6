//! How many messages a node has sent.

use roundelay_core::{gossip, multicast, node::Message, tokenring};
use std::sync::atomic::{AtomicU64, Ordering};

/// How many messages a node has sent, each counted once per recipient. What was meant for a peer
/// without a link is not in it; how many of them share a frame or a packet is not said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Heartbeats and goodbyes of the detector.
    pub detector: u64,
    /// Messages that found the group.
    pub founding: u64,
    /// Messages of the view change, those with each heartbeat included.
    pub change: u64,
    /// Everything of the lock but its lease: requests, passes, acknowledgements.
    pub lock: u64,
    /// Readings of clocks with each heartbeat, of which the lease is made.
    pub lease: u64,
    /// Messages of the order, or pieces of them, those that were sent again included.
    pub order_data: u64,
    /// Clocks of the order, which are its acknowledgements.
    pub order_clocks: u64,
    /// Of the order, what asks for something, and what members and newcomers lack.
    pub order_control: u64,
    /// Copies of rumors, the records of their origins not included.
    pub rumors: u64,
    /// Everything else of the gossip.
    pub gossip_control: u64,
}

impl Traffic {
    /// What was sent since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            detector: self.detector - before.detector,
            founding: self.founding - before.founding,
            change: self.change - before.change,
            lock: self.lock - before.lock,
            lease: self.lease - before.lease,
            order_data: self.order_data - before.order_data,
            order_clocks: self.order_clocks - before.order_clocks,
            order_control: self.order_control - before.order_control,
            rumors: self.rumors - before.rumors,
            gossip_control: self.gossip_control - before.gossip_control,
        }
    }
}

/// The counters behind it: the driver counts, and anyone may look.
#[derive(Debug, Default)]
pub(crate) struct Counters([AtomicU64; KINDS]);

/// What is counted apart.
#[derive(Clone, Copy)]
enum Kind {
    Detector,
    Founding,
    Change,
    Lock,
    Lease,
    OrderData,
    OrderClock,
    OrderControl,
    Rumor,
    GossipControl,
}

const KINDS: usize = Kind::GossipControl as usize + 1;

impl Counters {
    /// The driver has sent this message to so many peers.
    pub(crate) fn count(&self, message: &Message, recipients: u64) {
        let counter = &self.0[kind(message) as usize];
        // Only one thread writes: a plain addition.
        counter.store(counter.load(Ordering::Relaxed) + recipients, Ordering::Relaxed);
    }

    /// What has been counted.
    pub(crate) fn read(&self) -> Traffic {
        let sent = |kind: Kind| self.0[kind as usize].load(Ordering::Relaxed);
        Traffic {
            detector: sent(Kind::Detector),
            founding: sent(Kind::Founding),
            change: sent(Kind::Change),
            lock: sent(Kind::Lock),
            lease: sent(Kind::Lease),
            order_data: sent(Kind::OrderData),
            order_clocks: sent(Kind::OrderClock),
            order_control: sent(Kind::OrderControl),
            rumors: sent(Kind::Rumor),
            gossip_control: sent(Kind::GossipControl),
        }
    }
}

fn kind(message: &Message) -> Kind {
    match message {
        Message::Detector(_) => Kind::Detector,
        Message::Founding(_) => Kind::Founding,
        Message::Change(_) => Kind::Change,
        Message::Lock(message) => match &message.body {
            tokenring::Body::Stamp { .. } => Kind::Lease,
            _ => Kind::Lock,
        },
        Message::Order(message) => match &message.body {
            multicast::Body::Data { .. } => Kind::OrderData,
            multicast::Body::Clock { .. } => Kind::OrderClock,
            _ => Kind::OrderControl,
        },
        Message::Gossip(gossip::Message::Rumor(gossip::Rumor {
            content: gossip::Content::User(_),
            ..
        })) => Kind::Rumor,
        Message::Gossip(_) => Kind::GossipControl,
    }
}
