//! The network: a list of rules, each of which gives a verdict on each message.
//!
//! The *ground* rules hold for ever (latency, by which messages overtake each other); the *fault*
//! rules are taken away when the network heals. Nothing promises order or delivery: that is what
//! the protocols have to provide.

use crate::dice::Dice;
use core::{fmt, time::Duration};
use roundelay_core::{id::NodeId, time::Time};
use std::collections::BTreeMap;

/// What a rule says about one copy of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: ask the next rule.
    Pass,
    /// It arrives later by this much; the next rule is asked too.
    DeliverAfter(Duration),
    /// It is lost.
    Drop,
    /// It arrives twice: the rules that follow judge each copy by itself.
    Duplicate,
}

/// A message on its way, as a rule sees it.
#[derive(Debug)]
pub struct Packet<'a, M> {
    /// Who sent it.
    pub from: NodeId,
    /// Who is to get it.
    pub to: NodeId,
    /// When it was sent.
    pub sent: Time,
    /// What it says.
    pub message: &'a M,
}

/// One way in which a network treats messages. A closure is a rule, too.
pub trait Rule<M> {
    /// Judges one copy of one message.
    fn judge(&mut self, packet: &Packet<'_, M>, dice: &mut Dice) -> Verdict;
}

impl<M, F: FnMut(&Packet<'_, M>, &mut Dice) -> Verdict> Rule<M> for F {
    fn judge(&mut self, packet: &Packet<'_, M>, dice: &mut Dice) -> Verdict {
        self(packet, dice)
    }
}

/// Everything that happens to messages between nodes.
pub struct Network<M> {
    ground: Vec<Box<dyn Rule<M>>>,
    faults: Vec<Box<dyn Rule<M>>>,
    dice: Dice,
    /// A stream for each link: from it each message gets its own.
    links: BTreeMap<(NodeId, NodeId), Dice>,
}

impl<M> Network<M> {
    /// A network that delivers everything once and at once.
    pub fn new(dice: Dice) -> Self {
        Self { ground: Vec::new(), faults: Vec::new(), dice, links: BTreeMap::new() }
    }

    /// Adds a rule that stays when the network heals.
    pub fn ground(&mut self, rule: impl Rule<M> + 'static) {
        self.ground.push(Box::new(rule));
    }

    /// Adds a rule that ends when the network heals.
    pub fn fault(&mut self, rule: impl Rule<M> + 'static) {
        self.faults.push(Box::new(rule));
    }

    /// Takes all faults away.
    pub fn heal(&mut self) {
        self.faults.clear();
    }

    /// Replaces `delays` by one delay for each copy of the message that will arrive.
    pub fn judge(&mut self, packet: &Packet<'_, M>, delays: &mut Vec<Duration>) {
        delays.clear();
        delays.push(Duration::ZERO);
        let (from, to) = (packet.from, packet.to);
        let link = self.links.entry((from, to));
        let link = link.or_insert_with(|| self.dice.named(from.raw()).named(to.raw()));
        let message = link.split();
        for (rule, number) in self.ground.iter_mut().chain(&mut self.faults).zip(0..) {
            let mut dice = message.named(number);
            // Backwards, so that neither a dropped nor a new copy is judged twice by one rule.
            for copy in (0..delays.len()).rev() {
                match rule.judge(packet, &mut dice) {
                    Verdict::Pass => {}
                    Verdict::DeliverAfter(delay) => delays[copy] += delay,
                    Verdict::Drop => {
                        delays.swap_remove(copy);
                    }
                    Verdict::Duplicate => delays.push(delays[copy]),
                }
            }
        }
    }
}

impl<M> fmt::Debug for Network<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("ground", &self.ground.len())
            .field("faults", &self.faults.len())
            .finish_non_exhaustive()
    }
}

/// Every message takes a time from `min` to `max`: so it may overtake another.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// The shortest time.
    pub min: Duration,
    /// The longest time.
    pub max: Duration,
}

impl<M> Rule<M> for Latency {
    fn judge(&mut self, _: &Packet<'_, M>, dice: &mut Dice) -> Verdict {
        Verdict::DeliverAfter(dice.span(self.min, self.max))
    }
}

/// Some messages are lost.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// How many of a thousand.
    pub per_mille: u32,
}

impl<M> Rule<M> for Loss {
    fn judge(&mut self, _: &Packet<'_, M>, dice: &mut Dice) -> Verdict {
        if dice.chance(self.per_mille) { Verdict::Drop } else { Verdict::Pass }
    }
}

/// Some messages arrive twice.
#[derive(Clone, Copy, Debug)]
pub struct Duplication {
    /// How many of a thousand.
    pub per_mille: u32,
}

impl<M> Rule<M> for Duplication {
    fn judge(&mut self, _: &Packet<'_, M>, dice: &mut Dice) -> Verdict {
        if dice.chance(self.per_mille) { Verdict::Duplicate } else { Verdict::Pass }
    }
}

/// Some messages are held up, and overtaken by many.
#[derive(Clone, Copy, Debug)]
pub struct Straggling {
    /// How many of a thousand.
    pub per_mille: u32,
    /// For at most this long.
    pub max: Duration,
}

impl<M> Rule<M> for Straggling {
    fn judge(&mut self, _: &Packet<'_, M>, dice: &mut Dice) -> Verdict {
        if dice.chance(self.per_mille) {
            Verdict::DeliverAfter(dice.span(Duration::ZERO, self.max))
        } else {
            Verdict::Pass
        }
    }
}

/// For a while nothing gets from one node to another. The other direction is another cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// From whom.
    pub from: NodeId,
    /// To whom.
    pub to: NodeId,
    /// The first moment.
    pub since: Time,
    /// The moment at which it is over.
    pub until: Time,
}

impl<M> Rule<M> for Cut {
    fn judge(&mut self, packet: &Packet<'_, M>, _: &mut Dice) -> Verdict {
        let cut = packet.from == self.from && packet.to == self.to;
        if cut && (self.since..self.until).contains(&packet.sent) {
            Verdict::Drop
        } else {
            Verdict::Pass
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(network: &mut Network<u8>, from: u64, to: u64, at: u64) -> Vec<Duration> {
        let mut delays = Vec::new();
        let packet = Packet {
            from: NodeId::from_raw(from),
            to: NodeId::from_raw(to),
            sent: Time::from_nanos(at),
            message: &0,
        };
        network.judge(&packet, &mut delays);
        delays
    }

    #[test]
    fn rules_add_up() {
        let mut network = Network::new(Dice::new(1));
        let ms = Duration::from_millis;
        network.ground(Latency { min: ms(2), max: ms(2) });
        network.fault(Duplication { per_mille: 1000 });
        network.fault(move |_: &Packet<'_, u8>, _: &mut Dice| Verdict::DeliverAfter(ms(3)));
        assert_eq!(judge(&mut network, 1, 2, 0), [ms(5), ms(5)]);
        network.heal();
        assert_eq!(judge(&mut network, 1, 2, 0), [ms(2)]);
    }

    #[test]
    fn each_copy_may_be_lost_by_itself() {
        let mut network = Network::new(Dice::new(1));
        network.fault(Duplication { per_mille: 1000 });
        network.fault(Loss { per_mille: 500 });
        let copies: Vec<usize> = (0..100).map(|_| judge(&mut network, 1, 2, 0).len()).collect();
        assert!((0..=2).all(|count| copies.contains(&count)));
        assert_eq!(copies.iter().max(), Some(&2));
    }

    #[test]
    fn a_cut_has_a_direction_and_an_end() {
        let mut network = Network::new(Dice::new(1));
        network.fault(Cut {
            from: NodeId::from_raw(1),
            to: NodeId::from_raw(2),
            since: Time::from_nanos(10),
            until: Time::from_nanos(20),
        });
        let arrives = |network: &mut _, from, to, at| !judge(network, from, to, at).is_empty();
        assert!(arrives(&mut network, 1, 2, 9));
        assert!(!arrives(&mut network, 1, 2, 10));
        assert!(arrives(&mut network, 2, 1, 10));
        assert!(!arrives(&mut network, 1, 2, 19));
        assert!(arrives(&mut network, 1, 2, 20));
    }
}
