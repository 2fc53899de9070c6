//! The rules themselves: plain values, each of them one way to treat messages.

use super::{Packet, Rule, Verdict};
use crate::{dice::Dice, fault::Fault};
use core::time::Duration;
use roundelay_core::{id::NodeId, time::Time};
use std::collections::BTreeSet;

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

    fn fault(&self) -> Option<Fault> {
        Some(Fault::Loss)
    }
}

/// How losses come in bursts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bursts {
    /// After how many of a thousand messages a good link turns bad.
    pub begin: u32,
    /// After how many of a thousand messages a bad link turns good.
    pub end: u32,
    /// How many of a thousand messages a bad link loses.
    pub loss: u32,
}

/// Losses come in bursts: each link is good or bad for some messages in a row. A chain of two
/// states (Gilbert 1960, "Capacity of a burst-noise channel") that loses something in each of them
/// (Elliott 1963); what is lost in the good one is left to [`Loss`].
#[derive(Clone, Debug)]
pub struct BurstLoss {
    bursts: Bursts,
    bad: BTreeSet<(NodeId, NodeId)>,
}

impl BurstLoss {
    /// All links are good to begin with.
    pub fn new(bursts: Bursts) -> Self {
        Self { bursts, bad: BTreeSet::new() }
    }
}

impl<M> Rule<M> for BurstLoss {
    fn judge(&mut self, packet: &Packet<'_, M>, dice: &mut Dice) -> Verdict {
        let Bursts { begin, end, loss } = self.bursts;
        let link = (packet.from, packet.to);
        let bad = if self.bad.contains(&link) { !dice.chance(end) } else { dice.chance(begin) };
        if !bad {
            self.bad.remove(&link);
            return Verdict::Pass;
        }
        self.bad.insert(link);
        if dice.chance(loss) { Verdict::Drop } else { Verdict::Pass }
    }

    fn fault(&self) -> Option<Fault> {
        Some(Fault::Burst)
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

    fn fault(&self) -> Option<Fault> {
        Some(Fault::Duplication)
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

    fn fault(&self) -> Option<Fault> {
        Some(Fault::Straggling)
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

    fn fault(&self) -> Option<Fault> {
        Some(Fault::Cut)
    }
}

/// Who still hears whom in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Those on the same island; who is on none hears nobody.
    Islands(Vec<Vec<NodeId>>),
    /// Those next to each other in a circle: everybody is reached by somebody, nobody by all, and
    /// there are no two sides one of which could be the right one.
    Circle(Vec<NodeId>),
}

impl Shape {
    /// Whether nothing gets from the one to the other.
    pub fn separates(&self, from: NodeId, to: NodeId) -> bool {
        match self {
            Self::Islands(islands) => {
                !islands.iter().any(|island| island.contains(&from) && island.contains(&to))
            }
            Self::Circle(circle) => {
                let place = |node| circle.iter().position(|other| *other == node);
                let (Some(a), Some(b)) = (place(from), place(to)) else { return true };
                let apart = a.abs_diff(b);
                apart != 1 && apart != circle.len() - 1
            }
        }
    }
}

/// For a while the nodes hear each other only as the shape allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Who hears whom.
    pub shape: Shape,
    /// The first moment.
    pub since: Time,
    /// The moment at which it is over.
    pub until: Time,
}

impl<M> Rule<M> for Partition {
    fn judge(&mut self, packet: &Packet<'_, M>, _: &mut Dice) -> Verdict {
        if (self.since..self.until).contains(&packet.sent)
            && self.shape.separates(packet.from, packet.to)
        {
            Verdict::Drop
        } else {
            Verdict::Pass
        }
    }

    fn fault(&self) -> Option<Fault> {
        Some(match self.shape {
            Shape::Islands(_) => Fault::Islands,
            Shape::Circle(_) => Fault::Circle,
        })
    }
}

/// From whom to whom; none means everybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// From whom.
    pub from: Option<NodeId>,
    /// To whom.
    pub to: Option<NodeId>,
}

impl Path {
    fn is_taken_by<M>(&self, packet: &Packet<'_, M>) -> bool {
        self.from.is_none_or(|from| from == packet.from) && self.to.is_none_or(|to| to == packet.to)
    }
}

/// For a while everything on a path takes longer: a slow link in one direction, or a slow node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slowness {
    /// What is slow.
    pub path: Path,
    /// At least by this much
    pub min: Duration,
    /// and at most by this much.
    pub max: Duration,
    /// The first moment.
    pub since: Time,
    /// The moment at which it is over.
    pub until: Time,
}

impl<M> Rule<M> for Slowness {
    fn judge(&mut self, packet: &Packet<'_, M>, dice: &mut Dice) -> Verdict {
        if self.path.is_taken_by(packet) && (self.since..self.until).contains(&packet.sent) {
            Verdict::DeliverAfter(dice.span(self.min, self.max))
        } else {
            Verdict::Pass
        }
    }

    fn fault(&self) -> Option<Fault> {
        Some(Fault::Slowness)
    }
}

/// For a while a path holds everything back, and then lets go of all of it at once: a connection
/// through a machine that stalls, with buffers that keep what is sent meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jam {
    /// What is jammed.
    pub path: Path,
    /// Whether what was held back arrives in another order than it was sent.
    pub shuffled: bool,
    /// The first moment.
    pub since: Time,
    /// The moment at which it is over.
    pub until: Time,
}

/// Within this span after the end of a jam everything arrives, if it is shuffled.
const AT_ONCE: Duration = Duration::from_micros(1);

impl<M> Rule<M> for Jam {
    fn judge(&mut self, packet: &Packet<'_, M>, dice: &mut Dice) -> Verdict {
        if !self.path.is_taken_by(packet) || !(self.since..self.until).contains(&packet.sent) {
            return Verdict::Pass;
        }
        let late = if self.shuffled { dice.span(Duration::ZERO, AT_ONCE) } else { Duration::ZERO };
        Verdict::HoldUntil(self.until + late)
    }

    fn fault(&self) -> Option<Fault> {
        Some(Fault::Jam)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> NodeId {
        NodeId::from_raw(n)
    }

    fn at(n: u64) -> Time {
        Time::from_nanos(n)
    }

    fn judge(rule: &mut dyn Rule<()>, from: u64, to: u64, time: u64, dice: &mut Dice) -> Verdict {
        rule.judge(&Packet { from: id(from), to: id(to), sent: at(time), message: &() }, dice)
    }

    /// Whether a rule that needs no dice lets this message pass.
    fn passes(rule: &mut dyn Rule<()>, from: u64, to: u64, time: u64) -> bool {
        judge(rule, from, to, time, &mut Dice::new(1)) == Verdict::Pass
    }

    #[test]
    fn a_cut_has_a_direction_and_an_end() {
        let mut cut = Cut { from: id(1), to: id(2), since: at(10), until: at(20) };
        assert!(passes(&mut cut, 1, 2, 9) && !passes(&mut cut, 1, 2, 10));
        assert!(passes(&mut cut, 2, 1, 10));
        assert!(!passes(&mut cut, 1, 2, 19) && passes(&mut cut, 1, 2, 20));
    }

    #[test]
    fn islands_hear_nothing_of_each_other() {
        let shape = Shape::Islands(vec![vec![id(1), id(2)], vec![id(3), id(4)]]);
        let mut islands = Partition { shape, since: at(10), until: at(20) };
        for (from, to, same) in [(1, 2, true), (3, 4, true), (2, 3, false), (4, 1, false)] {
            assert_eq!(passes(&mut islands, from, to, 15), same);
            assert!(passes(&mut islands, from, to, 9) && passes(&mut islands, from, to, 20));
        }
        assert!(!passes(&mut islands, 5, 1, 15) && !passes(&mut islands, 1, 5, 15));
    }

    #[test]
    fn in_a_circle_each_hears_two() {
        let nodes = [3, 1, 4, 5, 2];
        let shape = Shape::Circle(nodes.map(id).into());
        let mut circle = Partition { shape, since: at(0), until: at(20) };
        for (place, node) in nodes.iter().enumerate() {
            let heard = nodes.iter().filter(|from| **from != *node);
            let heard: BTreeSet<u64> =
                heard.filter(|from| passes(&mut circle, **from, *node, 5)).copied().collect();
            assert_eq!(heard, BTreeSet::from([nodes[(place + 1) % 5], nodes[(place + 4) % 5]]));
        }
    }

    #[test]
    fn losses_come_in_bursts_and_link_by_link() {
        let mut rule = BurstLoss::new(Bursts { begin: 20, end: 100, loss: 1000 });
        let mut dice = Dice::new(1);
        let mut lost = || judge(&mut rule, 1, 2, 0, &mut dice) == Verdict::Drop;
        let fates: Vec<bool> = (0..20_000).map(|_| lost()).collect();
        // The chain is bad in begin/(begin + end) of all cases, and then for 1/end messages.
        let all = fates.iter().filter(|lost| **lost).count();
        let bursts = fates.windows(2).filter(|pair| !pair[0] && pair[1]).count();
        assert!((2_700..4_000).contains(&all), "{all} lost");
        assert!((8..13).contains(&(all / bursts)), "{all} lost in {bursts} bursts");

        let mut rule = BurstLoss::new(Bursts { begin: 1000, end: 0, loss: 1000 });
        assert!(!passes(&mut rule, 1, 2, 0));
        assert_eq!(rule.bad, BTreeSet::from([(id(1), id(2))]));
    }

    #[test]
    fn a_bad_link_may_let_some_pass() {
        let mut rule = BurstLoss::new(Bursts { begin: 1000, end: 0, loss: 500 });
        let mut dice = Dice::new(1);
        let fates: Vec<Verdict> = (0..100).map(|_| judge(&mut rule, 1, 2, 0, &mut dice)).collect();
        assert!(fates.contains(&Verdict::Pass) && fates.contains(&Verdict::Drop));
    }

    #[test]
    fn slowness_is_one_way() {
        let path = Path { from: None, to: Some(id(2)) };
        let (min, max) = (Duration::from_nanos(5), Duration::from_nanos(7));
        let mut slow = Slowness { path, min, max, since: at(10), until: at(20) };
        let mut dice = Dice::new(1);
        for from in [1, 3] {
            let verdict = judge(&mut slow, from, 2, 15, &mut dice);
            let Verdict::DeliverAfter(delay) = verdict else { panic!("{verdict:?}") };
            assert!((min..=max).contains(&delay));
        }
        assert!(passes(&mut slow, 2, 1, 15) && passes(&mut slow, 1, 2, 20));
    }

    #[test]
    fn a_jam_lets_go_of_everything_at_once() {
        let path = Path { from: Some(id(1)), to: Some(id(2)) };
        let mut jam = Jam { path, shuffled: false, since: at(10), until: at(20) };
        let mut dice = Dice::new(1);
        for time in 10..20 {
            assert_eq!(judge(&mut jam, 1, 2, time, &mut dice), Verdict::HoldUntil(at(20)));
        }
        assert!(passes(&mut jam, 1, 2, 9) && passes(&mut jam, 1, 2, 20));
        assert!(passes(&mut jam, 2, 1, 15) && passes(&mut jam, 1, 3, 15));

        jam.shuffled = true;
        let mut ends: Vec<Time> = Vec::new();
        for time in 10..20 {
            let verdict = judge(&mut jam, 1, 2, time, &mut dice);
            let Verdict::HoldUntil(end) = verdict else { panic!("{verdict:?}") };
            ends.push(end);
        }
        assert!(ends.iter().all(|end| (at(20)..=at(20) + AT_ONCE).contains(end)));
        assert!(!ends.is_sorted());
    }
}
