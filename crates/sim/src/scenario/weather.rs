//! What the network and the machines do to the nodes of a scenario while the storm lasts.

use crate::{
    dice::Dice,
    network::{
        BurstLoss, Bursts, Cut, Duplication, Jam, Latency, Loss, Network, Partition, Path, Shape,
        Slowness, Straggling,
    },
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
    /// How losses come in bursts, if they do.
    pub bursts: Option<Bursts>,
    /// Links that are cut for a while, in the order of their beginnings for each link.
    pub blackouts: Vec<Blackout>,
    /// Partitions of all nodes.
    pub splits: Vec<Split>,
    /// Paths that hold everything back for a while.
    pub jams: Vec<Jam>,
    /// Paths that are slow for a while.
    pub slow: Vec<Slowness>,
    /// Nodes that stop for a while and do not know.
    pub pauses: Vec<Pause>,
    /// Nodes that crash and come back as a new life; each of them once.
    pub outages: Vec<Outage>,
    /// Moments at which all nodes lose their power.
    pub power_cuts: Vec<PowerCut>,
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

/// A partition, and how soon the nodes are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The partition.
    pub partition: Partition,
    /// How long after its beginning they are told that links are down, and how long after its end
    /// that they are up again; if they are told at all.
    pub told: Option<Duration>,
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
    /// When it crashes, at the earliest.
    pub at: Time,
    /// How it comes to its end.
    pub end: End,
    /// How long after its end it starts again.
    pub span: Duration,
    /// Whether it then has its disk, or else runs on a new machine.
    pub keeps_disk: bool,
}

/// All nodes that run lose their power at once, and come back, each in its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowerCut {
    /// When.
    pub at: Time,
    /// For each node how long after that it starts again, and whether it then has its disk.
    pub returns: Vec<(NodeId, Duration, bool)>,
}

/// How a life ends that does not end in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At its time, between two inputs.
    At,
    /// From its time on between two effects of one input, at the first occasion.
    BetweenEffects,
    /// From its time on at the first save, which fails.
    FailedSave,
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
            bursts: None,
            blackouts: Vec::new(),
            splits: Vec::new(),
            jams: Vec::new(),
            slow: Vec::new(),
            pauses: Vec::new(),
            outages: Vec::new(),
            power_cuts: Vec::new(),
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
        if dice.chance(200) {
            weather.bursts = Some(draw_bursts(dice));
        }
        if dice.chance(200) && nodes.len() > 1 {
            weather.draw_splits(dice, nodes, storm);
        }
        if dice.chance(300) {
            weather.draw_jams(dice, nodes, storm);
        }
        if dice.chance(250) {
            weather.draw_slow(dice, nodes, storm);
        }
        weather
    }

    /// Puts it into the rules of a network.
    pub fn apply<M>(&self, network: &mut Network<M>) {
        let (min, max) = self.latency;
        network.ground(Latency { min, max });
        if self.loss > 0 {
            network.fault(Loss { per_mille: self.loss });
        }
        if let Some(bursts) = self.bursts {
            network.fault(BurstLoss::new(bursts));
        }
        for blackout in &self.blackouts {
            network.fault(blackout.cut);
        }
        for split in &self.splits {
            network.fault(split.partition.clone());
        }
        if self.duplication > 0 {
            network.fault(Duplication { per_mille: self.duplication });
        }
        if let (per_mille @ 1.., max) = self.straggling {
            network.fault(Straggling { per_mille, max });
        }
        for slowness in &self.slow {
            network.fault(*slowness);
        }
        // The last, so that what they let go of comes at once.
        for jam in &self.jams {
            network.fault(*jam);
        }
    }

    /// Once or twice, the second time perhaps while they come back.
    pub(super) fn draw_power_cuts(&mut self, dice: &mut Dice, nodes: &[NodeId], storm: Duration) {
        let disks_are_lost = dice.chance(250);
        for _ in 0..dice.between(1, 2) {
            let at = Time::ZERO + dice.span(Duration::ZERO, storm);
            let longest = dice.pick(&[ms(20), ms(1000), ms(6000)]);
            let mut draw = |node: &NodeId| {
                let span = dice.span(ms(1), longest);
                (*node, span, !(disks_are_lost && dice.chance(300)))
            };
            let returns = nodes.iter().map(&mut draw).collect();
            self.power_cuts.push(PowerCut { at, returns });
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

    /// Islands or a circle, once or twice, all at once and for everybody.
    fn draw_splits(&mut self, dice: &mut Dice, nodes: &[NodeId], storm: Duration) {
        for _ in 0..dice.between(1, 2) {
            let mut nodes = nodes.to_vec();
            dice.shuffle(&mut nodes);
            let shape = if dice.chance(500) {
                Shape::Circle(nodes)
            } else {
                let many = dice.between(1, nodes.len() as u64 - 1) as usize;
                let (one, other) = nodes.split_at(many);
                Shape::Islands(vec![one.to_vec(), other.to_vec()])
            };
            let (since, until) = draw_spell(dice, storm);
            let told = dice.chance(600).then(|| dice.span(Duration::ZERO, ms(300)));
            self.splits.push(Split { partition: Partition { shape, since, until }, told });
        }
    }

    fn draw_jams(&mut self, dice: &mut Dice, nodes: &[NodeId], storm: Duration) {
        for _ in 0..dice.between(1, 4) {
            let path = draw_path(dice, nodes);
            let shuffled = dice.chance(500);
            let (since, until) = draw_spell(dice, storm);
            self.jams.push(Jam { path, shuffled, since, until });
        }
    }

    fn draw_slow(&mut self, dice: &mut Dice, nodes: &[NodeId], storm: Duration) {
        for _ in 0..dice.between(1, 3) {
            let path = draw_path(dice, nodes);
            let min = dice.pick(&[ms(10), ms(100), ms(1000)]);
            let max = min + dice.span(Duration::ZERO, min);
            let (since, until) = draw_spell(dice, storm);
            self.slow.push(Slowness { path, min, max, since, until });
        }
    }

    fn draw_pauses(&mut self, dice: &mut Dice, nodes: &[NodeId], storm: Duration) {
        for _ in 0..dice.between(1, 4) {
            let at = Time::ZERO + dice.span(Duration::ZERO, storm);
            // The longest is longer than any timeout.
            let span = dice.pick(&[ms(50), ms(500), ms(3000), ms(12_000)]);
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
            let end = dice.pick(&[End::At, End::At, End::BetweenEffects, End::FailedSave]);
            let at = match end {
                // Little is saved, and much of it early.
                End::FailedSave if dice.chance(500) => Time::ZERO,
                _ => Time::ZERO + dice.span(Duration::ZERO, storm),
            };
            let (span, keeps_disk) = (dice.span(ms(1), storm), dice.chance(700));
            self.outages.push(Outage { node, at, end, span, keeps_disk });
        }
    }
}

/// From seldom and long to often and short.
fn draw_bursts(dice: &mut Dice) -> Bursts {
    Bursts {
        begin: dice.pick(&[2, 10, 50]),
        end: dice.pick(&[20, 100, 300]),
        loss: dice.pick(&[500, 900, 1000]),
    }
}

/// A link, everything to a node, or everything from it.
fn draw_path(dice: &mut Dice, nodes: &[NodeId]) -> Path {
    let (one, other) = (dice.pick(nodes), dice.pick(nodes));
    match dice.below(4) {
        0 => Path { from: Some(one), to: None },
        1 => Path { from: None, to: Some(one) },
        _ => Path { from: Some(one), to: Some(other) },
    }
}

fn draw_spell(dice: &mut Dice, storm: Duration) -> (Time, Time) {
    let since = Time::ZERO + dice.span(Duration::ZERO, storm);
    (since, since + dice.span(ms(5), storm / 2))
}
