//! The network: a list of rules, each of which gives a verdict on each message.
//!
//! The *ground* rules hold for ever (latency, by which messages overtake each other); the *fault*
//! rules are taken away when the network heals. Nothing promises order or delivery: that is what
//! the protocols have to provide.

mod rules;

use crate::{
    dice::Dice,
    fault::{Fault, Tally},
};
use core::{fmt, time::Duration};
use roundelay_core::{id::NodeId, time::Time};
pub use rules::{
    BurstLoss, Bursts, Cut, Duplication, Jam, Latency, Loss, Partition, Path, Shape, Slowness,
    Straggling,
};
use std::collections::BTreeMap;

/// What a rule says about one copy of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: ask the next rule.
    Pass,
    /// It arrives later by this much; the next rule is asked too.
    DeliverAfter(Duration),
    /// It arrives at this time, if not later anyway; the next rule is asked too.
    HoldUntil(Time),
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

    /// What it counts as when it does not let a message pass.
    fn fault(&self) -> Option<Fault> {
        None
    }
}

impl<M, F: FnMut(&Packet<'_, M>, &mut Dice) -> Verdict> Rule<M> for F {
    fn judge(&mut self, packet: &Packet<'_, M>, dice: &mut Dice) -> Verdict {
        self(packet, dice)
    }
}

/// Everything that happens to messages between nodes.
pub struct Network<M> {
    ground: Vec<Named<M>>,
    faults: Vec<Named<M>>,
    dice: Dice,
    /// A stream for each link: from it each message gets its own.
    links: BTreeMap<(NodeId, NodeId), Dice>,
    tally: Tally,
}

/// A rule, and what its stream of choices is called.
struct Named<M> {
    name: u64,
    rule: Box<dyn Rule<M>>,
}

impl<M> Named<M> {
    /// The name says which one of its kind it is, so it stays the same when a rule of another kind
    /// is taken away.
    fn new<'a>(rule: impl Rule<M> + 'static, others: impl Iterator<Item = &'a Self>) -> Self
    where
        M: 'a,
    {
        let kind = rule.fault();
        let number = others.filter(|other| other.rule.fault() == kind).count() as u64;
        let kind = kind.map_or(0, |fault| fault as u64 + 1);
        Self { name: kind << 32 | number, rule: Box::new(rule) }
    }
}

impl<M> Network<M> {
    /// A network that delivers everything once and at once.
    pub fn new(dice: Dice) -> Self {
        Self {
            ground: Vec::new(),
            faults: Vec::new(),
            dice,
            links: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    /// Adds a rule that stays when the network heals.
    pub fn ground(&mut self, rule: impl Rule<M> + 'static) {
        let rule = Named::new(rule, self.rules());
        self.ground.push(rule);
    }

    /// Adds a rule that ends when the network heals.
    pub fn fault(&mut self, rule: impl Rule<M> + 'static) {
        let rule = Named::new(rule, self.rules());
        self.faults.push(rule);
    }

    fn rules(&self) -> impl Iterator<Item = &Named<M>> {
        self.ground.iter().chain(&self.faults)
    }

    /// Takes all faults away.
    pub fn heal(&mut self) {
        self.faults.clear();
    }

    /// How often each kind of fault was thrown.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Replaces `delays` by one delay for each copy of the message that will arrive.
    pub fn judge(&mut self, packet: &Packet<'_, M>, delays: &mut Vec<Duration>) {
        delays.clear();
        delays.push(Duration::ZERO);
        let (from, to) = (packet.from, packet.to);
        let link = self.links.entry((from, to));
        let link = link.or_insert_with(|| self.dice.named(from.raw()).named(to.raw()));
        let message = link.split();
        for Named { name, rule } in self.ground.iter_mut().chain(&mut self.faults) {
            let mut dice = message.named(*name);
            // Backwards, so that neither a dropped nor a new copy is judged twice by one rule.
            for copy in (0..delays.len()).rev() {
                match rule.judge(packet, &mut dice) {
                    Verdict::Pass => continue,
                    Verdict::DeliverAfter(delay) => delays[copy] += delay,
                    Verdict::HoldUntil(time) => {
                        delays[copy] = delays[copy].max(time.since(packet.sent));
                    }
                    Verdict::Drop => {
                        delays.swap_remove(copy);
                    }
                    Verdict::Duplicate => delays.push(delays[copy]),
                }
                if let Some(fault) = rule.fault() {
                    self.tally.count(fault);
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
    fn what_is_held_may_come_later_but_not_earlier() {
        let mut network = Network::new(Dice::new(1));
        let ms = Duration::from_millis;
        network.ground(Latency { min: ms(5), max: ms(5) });
        let until = Time::ZERO + ms(8);
        network.fault(move |_: &Packet<'_, u8>, _: &mut Dice| Verdict::HoldUntil(until));
        assert_eq!(judge(&mut network, 1, 2, 1_000_000), [ms(7)]);
        assert_eq!(judge(&mut network, 1, 2, 6_000_000), [ms(5)]);
        assert_eq!(judge(&mut network, 1, 2, 9_000_000), [ms(5)]);
    }

    #[test]
    fn faults_are_counted_when_they_are_thrown() {
        let mut network = Network::new(Dice::new(1));
        network.ground(Latency { min: Duration::ZERO, max: Duration::ZERO });
        network.fault(Duplication { per_mille: 1000 });
        network.fault(Loss { per_mille: 500 });
        let arrived: usize = (0..100).map(|_| judge(&mut network, 1, 2, 0).len()).sum();
        let lost = network.tally().of(Fault::Loss);
        network.heal();
        judge(&mut network, 1, 2, 0);
        assert_eq!(network.tally().of(Fault::Duplication), 100);
        assert_eq!(lost + arrived as u64, 200);
    }
}
