//! What happens in a run: a group, its settings, its weather and its work, all drawn from a seed.
//!
//! Each seed draws its own mix (swarm testing; Groce et al. 2012): a run without loss or without
//! locks finds what is drowned out in a run that has everything.

mod ingredient;
mod settings;
mod weather;

pub use ingredient::{Ingredient, Kind, Unknown};
pub use weather::{Blackout, End, Outage, Pause, PowerCut, Split, Weather};

use crate::{
    dice::Dice,
    invariant::Who,
    sim::{Clock, Settings},
    trace::Cast,
    work::{Hours, Plan, Task, draw_lock_names},
};
use core::time::Duration;
use roundelay_core::{
    founding::Trigger,
    gossip::Origin,
    id::{Life, Name, NodeId, hash64},
    node,
    time::Time,
    tokenring::{LockName, Mode, Wait},
    view::MEMBERS_MAX,
};
use std::collections::BTreeMap;

/// Everything that a run is made of.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The seed that it was drawn from; the run itself goes on with it.
    pub seed: u64,
    /// The nodes, in the order of their list.
    pub nodes: Vec<NodePlan>,
    /// Whether they are a group.
    pub group: bool,
    /// What they take part in.
    pub parts: Parts,
    /// The ring that the next pointers make, as positions in the list, the first one first; none
    /// if it does not close, so that no group can be founded.
    pub ring: Option<Vec<u16>>,
    /// How the token of the default lock moves.
    pub mode: Mode,
    /// The pairs of gossip neighbours, as indices into `nodes`; they connect all nodes.
    pub edges: Vec<(usize, usize)>,
    /// What the network and the machines do to them.
    pub weather: Weather,
    /// What the simulator does with time.
    pub settings: Settings,
    /// Whether everybody leaves, and goes on running to answer the others.
    pub exodus: bool,
    /// How long the faults last.
    pub storm: Duration,
    /// How long after that everything must be reached.
    pub patience: Duration,
    names: BTreeMap<NodeId, Name>,
}

/// Sets the dice of durable logs apart from all others,
const DURABLE: u64 = 0x6475_7261_626c_6521;
/// and those of power cuts.
const POWER: u64 = 0x706f_7765_7263_7574;

impl Cast for Scenario {
    fn name(&self, node: NodeId) -> String {
        self.name(node).into()
    }

    fn position(&self, position: u16) -> String {
        let node = self.nodes.get(usize::from(position));
        node.map_or_else(|| "nobody".into(), |node| node.config.name.to_string())
    }

    fn is_later_life(&self, origin: Origin) -> bool {
        !self.nodes.iter().any(|node| node.config.life == origin.life)
    }

    fn width(&self) -> usize {
        self.nodes.iter().map(|node| node.config.name.as_str().len()).max().unwrap_or(0)
    }
}

/// One node of a scenario.
#[derive(Clone, Debug)]
pub struct NodePlan {
    /// Its settings, for its first life.
    pub config: node::Config,
    /// Its clock.
    pub clock: Clock,
    /// When its process starts.
    pub start: Time,
    /// What its application does.
    pub plan: Plan,
}

impl NodePlan {
    /// Its id.
    pub fn id(&self) -> NodeId {
        self.config.name.id()
    }

    /// Whether its application founds the group.
    pub(crate) fn starts(&self) -> bool {
        self.plan.from_start.iter().any(|(_, task)| *task == Task::Start)
    }

    /// Whether it begins to found the group, or may.
    fn starts_group(&self) -> bool {
        let group = self.config.group.as_ref();
        group.is_some_and(|group| group.founding.trigger == Trigger::FirstOfList) || self.starts()
    }

    /// Its first life.
    pub fn who(&self) -> Who {
        Who { node: self.id(), life: self.config.life }
    }
}

/// Which parts of the nodes take part in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The lock.
    pub lock: bool,
    /// The order.
    pub order: bool,
    /// The gossip.
    pub gossip: bool,
}

impl Parts {
    /// All of them.
    pub const ALL: Self = Self { lock: true, order: true, gossip: true };
}

/// Which scenarios are drawn: all of them, or only some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The parts that may take part; at least one.
    pub parts: Parts,
    /// How many nodes, if that is not left to chance: 1 to [`MEMBERS_MAX`].
    pub nodes: Option<usize>,
}

impl Selection {
    /// All of them.
    pub const ALL: Self = Self { parts: Parts::ALL, nodes: None };
}

/// Which parts a node has, and how large the group is.
struct Shape {
    group: bool,
    parts: Parts,
    size: usize,
    /// For each node the one that follows it; by default the next one of the list.
    next: Option<Vec<usize>>,
    mode: Mode,
    trigger: Trigger,
    crashes_max: usize,
    /// Who leaves, one shortly after the other, if as many as may leave do so.
    takeover: Option<Vec<usize>>,
}

impl Scenario {
    /// The scenario of this seed.
    pub fn new(seed: u64) -> Self {
        Self::with(seed, Selection::ALL)
    }

    /// The scenario of this seed among those that are selected.
    pub fn with(seed: u64, selection: Selection) -> Self {
        let mut dice = Dice::new(seed);
        let shape = Shape::draw(&mut dice, selection);
        let storm = dice.span(Duration::from_millis(1500), Duration::from_secs(8));
        let edges = draw_edges(&mut dice, shape.size);
        let hours = Hours::draw(&mut dice, storm, shape.takeover.is_some());
        let mut nodes = draw_nodes(&mut dice, &shape, &edges, hours, storm);
        let ids: Vec<NodeId> = nodes.iter().map(NodePlan::id).collect();
        let mut weather = Weather::draw(&mut dice, &ids, storm, shape.crashes_max);
        if shape.takeover.is_some() && dice.chance(500) {
            weather.worsen();
        }
        let storm = draw_leaves(&mut dice, &shape, (hours, storm), &mut weather, &mut nodes);
        let exodus = draw_exodus(seed, &shape, storm, &mut nodes);
        if exodus {
            // Who comes back when all have left founds another group.
            weather.outages.clear();
        } else if shape.group {
            // With dice of its own: all else stays as it is without.
            let durable = Dice::new(seed ^ DURABLE).chance(200);
            if durable {
                keep_logs(&mut nodes);
            }
            let mut dice = Dice::new(seed ^ POWER);
            if dice.chance(if durable { 600 } else { 150 }) {
                weather.draw_power_cuts(&mut dice, &ids, storm);
            }
        }
        let names = nodes.iter().map(|node| (node.id(), node.config.name.clone())).collect();
        let ring = shape.ring();
        let Shape { group, parts, mode, .. } = shape;
        let settings = settings::simulator(&mut dice);
        let patience = Duration::from_mins(1);
        Self {
            seed,
            nodes,
            group,
            parts,
            ring,
            mode,
            edges,
            weather,
            settings,
            exodus,
            storm,
            patience,
            names,
        }
    }

    /// The same with faults that end after this long, if that is earlier.
    #[must_use]
    pub fn with_storm(mut self, limit: Option<Duration>) -> Self {
        self.storm = limit.map_or(self.storm, |limit| self.storm.min(limit));
        self
    }

    /// The name of a node.
    pub fn name(&self, node: NodeId) -> &str {
        self.names.get(&node).map_or("nobody", Name::as_str)
    }

    /// Whether there will be a group in which everything gets done. A ring that does not close
    /// makes none, nor does one that nobody starts.
    pub fn group_prospers(&self) -> bool {
        self.group && self.ring.is_some() && self.nodes.iter().any(NodePlan::starts_group)
    }

    /// Whether every message gets its place in the order.
    pub fn order_prospers(&self) -> bool {
        self.parts.order && self.group_prospers()
    }

    /// Whether nothing stays of a lock that nobody uses.
    pub fn forgets_locks(&self) -> bool {
        let group = self.nodes.iter().find_map(|node| node.config.group.as_ref());
        let lock = group.and_then(|group| group.lock.as_ref());
        self.group_prospers() && lock.is_some_and(|lock| lock.idle.is_some())
    }

    /// Whether what is ordered is on disk before it is acknowledged: all nodes say the same.
    pub fn is_durable(&self) -> bool {
        let group = self.nodes.iter().find_map(|node| node.config.group.as_ref());
        group.and_then(|group| group.order.as_ref()).is_some_and(|order| order.durable)
    }

    /// How many grants are a turn: in a group all say the same.
    pub fn turn(&self) -> usize {
        let group = self.nodes.iter().find_map(|node| node.config.group.as_ref());
        group.and_then(|group| group.lock.as_ref()).map_or(1, |lock| lock.turn)
    }

    /// Whether the gossip keeps everything for repair: then everything must reach everybody.
    pub fn gossip_retains(&self) -> bool {
        let mut gossips = self.nodes.iter().filter_map(|node| node.config.gossip.as_ref());
        gossips.all(settings::retains_all)
    }

    /// The parts of the gossip that are connected among those who run.
    pub fn connected(&self, running: &[Who]) -> Vec<Vec<Who>> {
        let mut parts: Vec<Vec<Who>> = running.iter().map(|who| vec![*who]).collect();
        let place = |parts: &[Vec<Who>], node: usize| {
            let id = self.nodes[node].id();
            parts.iter().position(|part| part.iter().any(|who| who.node == id))
        };
        for (a, b) in &self.edges {
            let (Some(a), Some(b)) = (place(&parts, *a), place(&parts, *b)) else { continue };
            if a != b {
                let moved = parts.swap_remove(a.max(b));
                parts[a.min(b)].extend(moved);
            }
        }
        parts
    }
}

/// What is ordered is on disk before it is acknowledged.
fn keep_logs(nodes: &mut [NodePlan]) {
    for node in nodes {
        if let Some(order) = node.config.group.as_mut().and_then(|group| group.order.as_mut()) {
            order.durable = true;
        }
    }
}

impl Shape {
    fn draw(dice: &mut Dice, Selection { parts, nodes }: Selection) -> Self {
        assert!(parts.lock || parts.order || parts.gossip, "a run needs something to run");
        assert!(nodes.is_none_or(|nodes| (1..=MEMBERS_MAX).contains(&nodes)), "a group's size");
        let group = (parts.lock || parts.order) && (!parts.gossip || dice.chance(800));
        let many = nodes.is_none_or(|nodes| nodes >= TAKEOVER_MIN);
        let takeover = group && parts.lock && many && dice.chance(150);
        let size_min = if takeover { TAKEOVER_MIN } else { 2 - usize::from(group) };
        let size = dice.between(size_min as u64, 7) as usize;
        let size = nodes.unwrap_or(size);
        let takeover = takeover.then(|| draw_leavers(dice, size));
        let mut lock = group && (takeover.is_some() || dice.chance(750));
        let order = group && parts.order && (!lock || dice.chance(700) || !parts.lock);
        lock = group && parts.lock && (lock || !order);
        let gossip = parts.gossip && (!group || dice.chance(500));
        // Never so many at once that the rest cannot go on: see `Storm::may_crash`.
        let crashes = if dice.chance(400) { size } else { 0 };
        Self {
            group,
            parts: Parts { lock, order, gossip },
            size,
            next: draw_next(dice, size),
            mode: if takeover.is_none() && dice.chance(350) { Mode::Circulate } else { Mode::Rest },
            trigger: if dice.chance(300) { Trigger::FirstOfList } else { Trigger::Command },
            crashes_max: if group { crashes } else { size },
            takeover,
        }
    }

    fn ring(&self) -> Option<Vec<u16>> {
        let in_order = || (1..=self.size).map(|next| next % self.size).collect();
        closed_ring(&self.next.clone().unwrap_or_else(in_order))
    }
}

/// The ring that next pointers make, as positions in the list, the first one first; none if it does
/// not close over all of them.
pub fn closed_ring(next: &[usize]) -> Option<Vec<u16>> {
    let mut ring = vec![0];
    let mut at = next[0];
    while at != 0 && ring.len() < next.len() {
        ring.push(at as u16);
        at = next[at];
    }
    (at == 0 && ring.len() == next.len()).then_some(ring)
}

/// A random ring, the ring of the list, or seldom pointers that make none.
fn draw_next(dice: &mut Dice, size: usize) -> Option<Vec<usize>> {
    if dice.chance(500) {
        return None;
    }
    if dice.chance(60) {
        return Some((0..size).map(|_| dice.index(size)).collect());
    }
    let mut order: Vec<usize> = (0..size).collect();
    dice.shuffle(&mut order);
    let mut next = vec![0; size];
    for (at, node) in order.iter().enumerate() {
        next[*node] = order[(at + 1) % size];
    }
    Some(next)
}

/// A random tree over all nodes, and some edges more.
fn draw_edges(dice: &mut Dice, size: usize) -> Vec<(usize, usize)> {
    let mut order: Vec<usize> = (0..size).collect();
    dice.shuffle(&mut order);
    let line = dice.chance(250);
    let star = dice.chance(200);
    let mut edges: Vec<(usize, usize)> = (1..size)
        .map(|n| {
            let to = if line {
                n - 1
            } else if star {
                0
            } else {
                dice.index(n)
            };
            (order[n], order[to])
        })
        .collect();
    let density = dice.pick(&[0, 0, 200, 500, 1000]);
    for a in 0..size {
        for b in a + 1..size {
            if !edges.contains(&(a, b)) && !edges.contains(&(b, a)) && dice.chance(density) {
                edges.push((a, b));
            }
        }
    }
    edges
}

/// The slowest clock beside the fastest one that is allowed: 1 % too slow, and 1 % too fast.
const SLOW_PPM_MAX: u64 = 19_801;

fn draw_nodes(
    dice: &mut Dice,
    shape: &Shape,
    edges: &[(usize, usize)],
    hours: Hours,
    storm: Duration,
) -> Vec<NodePlan> {
    let names: Vec<Name> = (1..=shape.size)
        .map(|n| Name::new(&format!("p{n}")).expect("a short name without blanks"))
        .collect();
    let configs = settings::configs(dice, shape, &names, edges);
    let late = dice.pick(&[0, 5, 50, 2000]);
    let slow_ppm_max = dice.pick(&[0, 100, SLOW_PPM_MAX]);
    let plans = draw_plans(dice, shape, hours, storm);
    configs
        .into_iter()
        .zip(plans)
        .map(|(config, plan)| NodePlan {
            config,
            clock: Clock {
                epoch: Duration::from_secs(dice.below(1_000_000)),
                slow_ppm: dice.between(0, slow_ppm_max) as u32,
            },
            start: Time::ZERO + dice.span(Duration::ZERO, Duration::from_millis(late)),
            plan,
        })
        .collect()
}

/// What each application does; who starts the group, and who leaves it.
fn draw_plans(dice: &mut Dice, shape: &Shape, hours: Hours, storm: Duration) -> Vec<Plan> {
    let locks = draw_lock_names(dice, shape.mode);
    let mut plans: Vec<Plan> =
        (0..shape.size).map(|_| Plan::draw(dice, shape.parts, &locks, hours, storm)).collect();
    if let Some(leavers) = &shape.takeover {
        draw_takeovers(dice, leavers, hours, &mut plans);
    }
    if shape.group && shape.trigger == Trigger::Command {
        let first = dice.span(Duration::ZERO, Duration::from_secs(1));
        plans[dice.index(shape.size)].from_start.push((first, Task::Start));
        // Often a second one at nearly the same time, sometimes a late one.
        if dice.chance(500) {
            let second = first + dice.span(Duration::ZERO, Duration::from_millis(30));
            plans[dice.index(shape.size)].from_start.push((second, Task::Start));
        }
        if dice.chance(300) {
            let late = first + dice.span(Duration::ZERO, Duration::from_secs(3));
            plans[dice.index(shape.size)].from_start.push((late, Task::Start));
        }
    }
    plans
}

/// Who leaves, if that is not drawn already: at some time, amid the work, or when it is cut off,
/// which makes the storm as long as it takes.
fn draw_leaves(
    dice: &mut Dice,
    shape: &Shape,
    (hours, storm): (Hours, Duration),
    weather: &mut Weather,
    nodes: &mut [NodePlan],
) -> Duration {
    // Somebody stays, and there must be something to leave.
    let leavers_max = shape.size - 1;
    let has_work = shape.group && (shape.parts.lock || shape.parts.order);
    if !has_work || leavers_max == 0 || shape.takeover.is_some() || !dice.chance(600) {
        return storm;
    }
    let mut order: Vec<usize> = (0..shape.size).collect();
    dice.shuffle(&mut order);
    let leavers = dice.between(1, leavers_max as u64) as usize;
    if dice.chance(400) {
        // In a ring its predecessor goes on passing tokens to it.
        let at = order[0];
        let before = |ring: &Vec<u16>| {
            let place = ring.iter().position(|p| usize::from(*p) == at)?;
            Some(usize::from(ring[(place + ring.len() - 1) % ring.len()]))
        };
        let before = shape.ring().as_ref().and_then(before).filter(|_| dice.chance(500));
        let peer = before.unwrap_or(order[1]);
        let soon = dice.span(Duration::ZERO, Duration::from_millis(300));
        nodes[at].plan.leaves_when_cut = Some(soon);
        return weather.cut_off(dice, nodes[at].id(), nodes[peer].id(), storm);
    }
    for at in order.into_iter().take(leavers) {
        let amid = dice.chance(300);
        let all_the_time = Hours { begin: Duration::ZERO, span: storm * 2 };
        let when = if amid { hours } else { all_the_time }.draw_time(dice);
        nodes[at].plan.from_install.push((when, Task::Leave));
    }
    storm
}

/// The fewest of whom two may leave.
const TAKEOVER_MIN: usize = 5;

/// As many as may leave; a majority stays.
fn draw_leavers(dice: &mut Dice, size: usize) -> Vec<usize> {
    let mut nodes: Vec<usize> = (0..size).collect();
    dice.shuffle(&mut nodes);
    nodes.truncate((size - 1) / 2);
    nodes
}

/// As many members as may leave do so one shortly after the other, and with the first goes the home
/// of many locks, whose tokens are with the next to go, while the others ask for them.
fn draw_takeovers(dice: &mut Dice, leavers: &[usize], hours: Hours, plans: &mut [Plan]) {
    let ms = Duration::from_millis;
    let names = (0..).map(|n| LockName::new(&format!("x{n}")).expect("a short name"));
    let at_home = |name: &LockName| {
        let hash = hash64(name.as_str().as_bytes());
        hash % plans.len() as u64 == leavers[0] as u64
    };
    let names: Vec<LockName> = names.filter(at_home).take(8).collect();
    for name in names {
        let first = leavers[1 + dice.index(leavers.len() - 1)];
        for (at, plan) in plans.iter_mut().enumerate() {
            let when = if at == first {
                hours.begin + dice.span(Duration::ZERO, ms(50))
            } else if leavers.contains(&at) || dice.chance(300) {
                continue;
            } else {
                hours.draw_time(dice) + ms(100)
            };
            plan.from_install.push((when, Task::Lock(name.clone(), Wait::Queue, ms(0))));
        }
    }
    let mut when = hours.begin + ms(50);
    for at in leavers {
        when += dice.span(Duration::ZERO, ms(200));
        plans[*at].from_install.push((when, Task::Leave));
    }
}

/// Seldom everybody leaves, and each must be able to, while the processes go on. (The dice are its
/// own: nothing else in a run depends on them.)
fn draw_exodus(seed: u64, shape: &Shape, storm: Duration, nodes: &mut [NodePlan]) -> bool {
    let mut dice = Dice::new(seed.rotate_left(32));
    if !shape.parts.order || shape.parts.lock || !dice.chance(200) {
        return false;
    }
    for node in nodes {
        let when = dice.span(Duration::ZERO, storm * 2);
        node.plan.leaves_when_cut = None;
        node.plan.from_install.retain(|(_, task)| !matches!(task, Task::Leave));
        node.plan.from_install.push((when, Task::Leave));
    }
    true
}

/// The life of one node in a run: reproducible, and different for each.
pub(crate) fn draw_life(dice: &mut Dice) -> Life {
    Life(u128::from(dice.number()) << 64 | u128::from(dice.number()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Shape;

    #[test]
    fn a_seed_is_a_scenario() {
        let text = |seed| format!("{:?}", Scenario::new(seed));
        assert_eq!(text(3), text(3));
        assert_ne!(text(3), text(4));
    }

    #[test]
    fn the_neighbours_connect_everybody() {
        for seed in 0..200 {
            let scenario = Scenario::new(seed);
            let all: Vec<Who> = scenario.nodes.iter().map(NodePlan::who).collect();
            assert_eq!(scenario.connected(&all).len(), 1, "seed {seed}");
            let alone = scenario.connected(&all[..1]);
            assert_eq!(alone, [vec![all[0]]]);
        }
    }

    #[test]
    fn without_the_middle_a_line_falls_apart() {
        let mut scenario = (0..99).map(Scenario::new).find(|s| s.nodes.len() == 3).unwrap();
        scenario.edges = vec![(0, 1), (1, 2)];
        let all: Vec<Who> = scenario.nodes.iter().map(NodePlan::who).collect();
        assert_eq!(scenario.connected(&[all[0], all[2]]).len(), 2);
        assert_eq!(scenario.connected(&[all[0], all[1]]).len(), 1);
    }

    #[test]
    fn every_kind_of_run_is_drawn() {
        let drawn: Vec<Scenario> = (0..300).map(Scenario::new).collect();
        let some = |what: fn(&Scenario) -> bool| drawn.iter().filter(|s| what(s)).count() > 20;
        assert!(some(|s| s.parts == Parts::ALL));
        assert!(some(|s| s.mode == Mode::Circulate && s.parts.lock));
        assert!(some(|s| !s.group));
        assert!(some(|s| s.nodes.len() == 7) && some(|s| s.nodes.len() == 2));
        assert!(some(|s| s.weather.loss > 0) && some(|s| s.weather.loss == 0));
        assert!(some(|s| !s.weather.blackouts.is_empty() && !s.weather.pauses.is_empty()));
        assert!(some(|s| !s.group && !s.weather.outages.is_empty()));
        assert!(some(|s| s.weather.bursts.is_some()) && some(|s| s.weather.bursts.is_none()));
        assert!(some(|s| !s.weather.jams.is_empty()) && some(|s| !s.weather.slow.is_empty()));
        let splits = |what: fn(&Shape) -> bool| {
            let mut splits = drawn.iter().flat_map(|s| &s.weather.splits);
            splits.any(|split| what(&split.partition.shape))
        };
        assert!(splits(|shape| matches!(shape, Shape::Circle(nodes) if nodes.len() > 3)));
        assert!(splits(|shape| matches!(shape, Shape::Islands(_))));
        let ends = |what: fn(&Outage) -> bool| {
            drawn.iter().filter(|s| s.group).any(|s| s.weather.outages.iter().any(what))
        };
        assert!(ends(|o| o.end == End::At) && ends(|o| o.end == End::BetweenEffects));
        assert!(ends(|o| o.end == End::FailedSave));
        assert!(ends(|o| o.keeps_disk) && ends(|o| !o.keeps_disk));
        let cuts = || drawn.iter().flat_map(|s| &s.weather.power_cuts);
        assert!(cuts().count() > 20);
        let keeps_all = |cut: &PowerCut| cut.returns.iter().all(|(.., keeps_disk)| *keeps_disk);
        assert!(cuts().any(keeps_all) && !cuts().all(keeps_all));
        assert!(drawn.iter().any(|s| s.group && s.ring.is_none()));
        assert!(drawn.iter().any(|s| !s.gossip_retains()));
        assert!(drawn.iter().any(|s| s.group && !s.weather.outages.is_empty()));
        let leaves = |s: &Scenario| {
            let tasks = s.nodes.iter().flat_map(|node| &node.plan.from_install);
            let planned = tasks.filter(|(_, task)| matches!(task, Task::Leave)).count();
            let cut = s.nodes.iter().filter(|node| node.plan.leaves_when_cut.is_some()).count();
            planned + cut
        };
        assert!(drawn.iter().any(|s| leaves(s) > 1));
        assert!(drawn.iter().any(|s| s.exodus && s.group_prospers() && s.nodes.len() > 2));
        assert!(drawn.iter().all(|s| s.exodus || leaves(s) < s.nodes.len()));
    }
}
