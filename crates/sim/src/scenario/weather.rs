//! What the network and the machines do to the nodes of a scenario while the storm lasts.

use crate::{
    dice::Dice,
    network::{Cut, Duplication, Latency, Loss, Network, Straggling},
};
use core::time::Duration;
use roundelay_core::{id::NodeId, time::Time};

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The faults of a run.
#[derive(Clone, Debug)]
pub struct Weather {
    /// How long messages take: from this to that.
    pub latency: (Duration, Duration),
    /// How many of a thousand messages are lost.
    pub loss: u32,
    /// How many of a thousand messages arrive twice.
    pub duplication: u32,
    /// How many of a thousand messages are held up, for at most how long.
    pub straggling: (u32, Duration),
    /// Links that are cut for a while, in the order of their beginnings for each link.
    pub blackouts: Vec<Blackout>,
    /// Nodes that stop for a while and do not know.
    pub pauses: Vec<Pause>,
    /// Nodes that crash and come back as a new life.
    pub outages: Vec<Outage>,
}

/// A cut, and when the sender is told, if ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blackout {
    /// Which link, and when.
    pub cut: Cut,
    /// When the sender is told that the link is down.
    pub told_down: Option<Time>,
    /// When it is told that it is up again; always, if it was told that it is down.
    pub told_up: Option<Time>,
}

/// A node stops for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Which.
    pub node: NodeId,
    /// When.
    pub at: Time,
    /// For how long.
    pub span: Duration,
}

/// A node crashes and starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Which.
    pub node: NodeId,
    /// When it crashes.
    pub at: Time,
    /// When it starts again.
    pub back: Time,
}

impl Weather {
    /// The weather among `nodes` for a storm of this length, in which so many may crash.
    pub(super) fn draw(
        dice: &mut Dice,
        nodes: &[NodeId],
        storm: Duration,
        crashes_max: usize,
    ) -> Self {
        let fastest = dice.pick(&[50, 500, 5_000]);
        let spread = dice.pick(&[0, 200, 5_000, 40_000]);
        let micros = Duration::from_micros;
        let mut weather = Self {
            latency: (micros(fastest), micros(fastest + spread)),
            loss: dice.pick(&[0, 0, 10, 50, 100, 300]),
            duplication: dice.pick(&[0, 0, 20, 100, 300]),
            straggling: (dice.pick(&[0, 0, 10, 100]), dice.pick(&[ms(20), ms(300), ms(2000)])),
            blackouts: Vec::new(),
            pauses: Vec::new(),
            outages: Vec::new(),
        };
        if dice.chance(600) {
            weather.draw_blackouts(dice, nodes, storm);
        }
        if dice.chance(400) {
            weather.draw_pauses(dice, nodes, storm);
        }
        if crashes_max > 0 && dice.chance(700) {
            weather.draw_outages(dice, nodes, storm, crashes_max);
        }
        weather
    }

    /// Puts it into the rules of a network.
    pub fn apply<M>(&self, network: &mut Network<M>) {
        let (min, max) = self.latency;
        network.ground(Latency { min, max });
        network.fault(Loss { per_mille: self.loss });
        network.fault(Duplication { per_mille: self.duplication });
        let (per_mille, max) = self.straggling;
        network.fault(Straggling { per_mille, max });
        for blackout in &self.blackouts {
            network.fault(blackout.cut);
        }
    }

    /// Makes whatever is said uncertain: it is lost, or comes twice, or late.
    pub(super) fn worsen(&mut self) {
        self.loss = 300;
        self.duplication = 300;
        self.straggling = (300, ms(300));
    }

    /// For a while, after the group has begun, `node` does not get through to `peer`, and is told
    /// so; how long the storm has to last for that.
    pub(super) fn cut_off(
        &mut self,
        dice: &mut Dice,
        node: NodeId,
        peer: NodeId,
        storm: Duration,
    ) -> Duration {
        let since = Time::ZERO + dice.span(ms(1000), storm);
        let until = since + ms(3500);
        let cut = Cut { from: node, to: peer, since, until };
        let told_down = Some(since + dice.span(Duration::ZERO, ms(300)));
        let told_up = Some(until + dice.span(Duration::ZERO, ms(200)));
        self.blackouts.push(Blackout { cut, told_down, told_up });
        storm.max(until.since(Time::ZERO))
    }

    fn draw_blackouts(&mut self, dice: &mut Dice, nodes: &[NodeId], storm: Duration) {
        let one_way = dice.chance(300);
        // One link after the other, or one node or half of them against the rest.
        let island: Vec<bool> = nodes.iter().map(|_| dice.chance(400)).collect();
        let islands = dice.chance(400);
        let likely = dice.pick(&[100, 300, 600]);
        for (a, from) in nodes.iter().enumerate() {
            for (b, to) in nodes.iter().enumerate().filter(|(b, _)| *b != a) {
                let hit = if islands { island[a] != island[b] } else { dice.chance(likely) };
                if hit && (a < b || !one_way) {
                    self.draw_blackout(dice, *from, *to, storm);
                }
            }
        }
    }

    /// One to three cuts of one link, one after the other.
    fn draw_blackout(&mut self, dice: &mut Dice, from: NodeId, to: NodeId, storm: Duration) {
        let mut at = Time::ZERO + dice.span(Duration::ZERO, storm);
        for _ in 0..dice.between(1, 3) {
            let until = at + dice.span(ms(5), storm / 2);
            let cut = Cut { from, to, since: at, until };
            let told_down =
                dice.chance(600).then(|| (at + dice.span(Duration::ZERO, ms(300))).min(until));
            let told = told_down.is_some() || dice.chance(500);
            let told_up = told.then(|| until + dice.span(Duration::ZERO, ms(200)));
            self.blackouts.push(Blackout { cut, told_down, told_up });
            at = told_up.unwrap_or(until) + dice.span(ms(1), storm / 2);
            if at >= Time::ZERO + storm {
                break;
            }
        }
    }

    fn draw_pauses(&mut self, dice: &mut Dice, nodes: &[NodeId], storm: Duration) {
        for _ in 0..dice.between(1, 4) {
            let at = Time::ZERO + dice.span(Duration::ZERO, storm);
            let span = dice.pick(&[ms(50), ms(500), ms(3000)]);
            self.pauses.push(Pause { node: dice.pick(nodes), at, span });
        }
    }

    fn draw_outages(
        &mut self,
        dice: &mut Dice,
        nodes: &[NodeId],
        storm: Duration,
        crashes_max: usize,
    ) {
        let mut nodes = nodes.to_vec();
        dice.shuffle(&mut nodes);
        let crashes = dice.between(1, crashes_max as u64) as usize;
        for node in nodes.into_iter().take(crashes) {
            let at = Time::ZERO + dice.span(Duration::ZERO, storm);
            let back = at + dice.span(ms(1), storm);
            self.outages.push(Outage { node, at, back });
        }
    }
}
