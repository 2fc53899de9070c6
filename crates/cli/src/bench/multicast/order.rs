//! The sequence of deliveries of one member, checked as it comes.

use bytes::Bytes;
use roundelay::{Delivery, Name, NodeId};

/// What the senders say: a pattern, which each begins elsewhere.
#[derive(Debug)]
pub(super) struct Payloads {
    pattern: Bytes,
    size: usize,
}

/// The length after which the pattern begins again: a prime, so that it fits no boundary.
const PERIOD: usize = 251;

impl Payloads {
    pub(super) fn of(size: u32) -> Self {
        let size = size as usize;
        let pattern: Vec<u8> = (0..size + PERIOD).map(|at| (at % PERIOD) as u8).collect();
        Self { pattern: pattern.into(), size }
    }

    /// What this sender says, every time.
    pub(super) fn of_sender(&self, index: usize) -> Bytes {
        let begin = index % PERIOD;
        self.pattern.slice(begin..begin + self.size)
    }
}

/// The sequence of deliveries of one member.
#[derive(Debug)]
pub(super) struct Order<'a> {
    /// How many messages it has delivered.
    pub(super) got: u64,
    /// How many of them were changed, or not the next one of their sender, or of all.
    pub(super) bad: u64,
    /// A running hash over senders and numbers: equal for equal sequences.
    pub(super) hash: u64,
    /// All senders, and the number of the last message of each.
    senders: Vec<(NodeId, u64)>,
    /// The last position.
    position: u64,
    payloads: &'a Payloads,
}

impl<'a> Order<'a> {
    /// The order after everybody's first message, with which all have met.
    pub(super) fn new(names: &[String], payloads: &'a Payloads) -> Self {
        let id = |name: &String| Name::new(name).expect("our own names are names").id();
        let senders = names.iter().map(|name| (id(name), 1)).collect();
        Self { got: 0, bad: 0, hash: 0, senders, position: names.len() as u64, payloads }
    }

    pub(super) fn add(&mut self, delivery: &Delivery) {
        let Delivery { sender, sequence, position, payload, .. } = delivery;
        self.got += 1;
        let index = self.senders.iter().position(|(id, _)| id == sender);
        let good = index.is_some_and(|index| {
            let last = &mut self.senders[index].1;
            let next = *sequence == *last + 1 && *position == self.position + 1;
            *last = *sequence;
            let begin = index % PERIOD;
            next && payload[..] == self.payloads.pattern[begin..begin + self.payloads.size]
        });
        self.bad += u64::from(!good);
        self.position = *position;
        let seen = sender.raw() ^ sequence.rotate_left(32);
        self.hash = (self.hash.rotate_left(5) ^ seen).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict on deliveries: positions, senders, numbers, and whose payload they carry.
    fn verdict(deliveries: &[(u64, usize, u64, usize)]) -> (u64, u64) {
        let names = ["n1".to_owned(), "n2".to_owned()];
        let payloads = Payloads::of(300);
        let mut order = Order::new(&names, &payloads);
        for &(position, sender, sequence, content) in deliveries {
            let sender = Name::new(&names[sender]).unwrap().id();
            let payload = payloads.of_sender(content);
            order.add(&Delivery { position, time: 0, sender, incarnation: 1, sequence, payload });
        }
        (order.bad, order.hash)
    }

    #[test]
    fn a_good_order_is_good_and_its_hash_tells_it_from_another() {
        let (bad, one) = verdict(&[(3, 0, 2, 0), (4, 1, 2, 1), (5, 0, 3, 0)]);
        let (also_bad, other) = verdict(&[(3, 1, 2, 1), (4, 0, 2, 0), (5, 0, 3, 0)]);
        assert_eq!((bad, also_bad), (0, 0));
        assert_ne!(one, other);
    }

    #[test]
    fn what_is_wrong_is_counted() {
        let bad = |deliveries: &[_]| verdict(deliveries).0;
        assert_eq!(bad(&[(3, 0, 3, 0)]), 1, "a message is missing");
        assert_eq!(bad(&[(3, 0, 2, 0), (4, 0, 2, 0)]), 1, "one comes twice");
        assert_eq!(bad(&[(4, 0, 2, 0)]), 1, "a position is left out");
        assert_eq!(bad(&[(3, 0, 2, 1)]), 1, "it is what another one says");
        assert_eq!(bad(&[(3, 0, 3, 0), (4, 0, 2, 0)]), 2, "two have changed places");
    }
}
