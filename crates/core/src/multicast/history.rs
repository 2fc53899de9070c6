//! The last deliveries, for who asks.

use super::{Config, Delivery};
use alloc::collections::VecDeque;

/// The last deliveries, bounded in number and in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct History {
    deliveries: VecDeque<Delivery>,
    bytes: usize,
    messages_max: usize,
    bytes_max: usize,
}

impl History {
    /// Nothing yet.
    pub(super) fn new(config: &Config) -> Self {
        Self {
            deliveries: VecDeque::new(),
            bytes: 0,
            messages_max: config.history_messages_max,
            bytes_max: config.history_bytes_max,
        }
    }

    /// Adds a delivery and forgets the oldest that are too many.
    pub(super) fn push(&mut self, delivery: Delivery) {
        self.bytes += delivery.payload.len();
        self.deliveries.push_back(delivery);
        while self.deliveries.len() > self.messages_max || self.bytes > self.bytes_max {
            let Some(oldest) = self.deliveries.pop_front() else { return };
            self.bytes -= oldest.payload.len();
        }
    }

    /// Forgets everything: what comes next does not follow what is kept.
    pub(super) fn clear(&mut self) {
        self.deliveries.clear();
        self.bytes = 0;
    }

    /// The first position that is kept.
    pub(super) fn first(&self) -> Option<u64> {
        Some(self.deliveries.front()?.position)
    }

    /// What is kept from `position` on, oldest first.
    pub(super) fn since(&self, position: u64) -> impl Iterator<Item = &Delivery> {
        let first = self.deliveries.front().map_or(0, |delivery| delivery.position);
        let skip = position.saturating_sub(first).min(self.deliveries.len() as u64);
        self.deliveries.range(skip as usize..)
    }
}
