//! One run: a scenario's storm, the healing after it, and the calm at the end.
//!
//! Safety is checked after every step. When the faults are over, everything must be reached within
//! the scenario's patience, and then the group must fall silent but for its heartbeats.

use crate::{
    dice::Dice,
    fault::{Fault, Tally},
    goal::{Counts, EMPTIED, Goals, Open, is_background},
    invariant::{Invariants, Seen, Violation, Who},
    limits,
    network::Partition,
    scenario::{End, NodePlan, Outage, Scenario, Split, draw_life},
    sim::{Doom, Simulator, Step},
    subject::Subject,
    work::{Agenda, Application, Plan},
};
use core::{fmt, time::Duration};
use roundelay_core::{
    id::{Life, NodeId},
    multicast::{Command, Multicast},
    node,
    protocol::{Effect, Input},
    time::Time,
    view::View,
};
use std::collections::{BTreeMap, BTreeSet};

/// More steps than any run needs: a run that reaches it is busy with itself.
const STEPS_MAX: u64 = 2_000_000;
/// In a group of so many; in larger ones, where all talk to all, it grows with their square.
const STEPS_MAX_NODES: u64 = 7;
/// After so many steps a node is measured: it is more work than the step.
const MEASURE: u64 = 64;
/// How often the goals are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long a group may tidy up when everything is reached.
const SETTLE: Duration = Duration::from_secs(8);
/// The same if gossip forgets: what nobody has any more is given up node by node.
const FORGET: Duration = Duration::from_secs(45);
/// How long it must then be quiet.
const QUIET: Duration = Duration::from_secs(5);

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The trace hash.
    pub hash: u64,
    /// How many inputs were handled.
    pub steps: u64,
    /// How long it took, in virtual time.
    pub time: Duration,
    /// How long after the end of the storm, and of all work, everything was reached.
    pub healing: Duration,
    /// What was done.
    pub counts: Counts,
    /// What went wrong on purpose.
    pub faults: Tally,
}

/// What is wrong with a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A safety property was violated.
    Violation {
        /// How.
        violation: Violation,
        /// The name of the node.
        name: String,
    },
    /// The faults are long over, but this is still open.
    Unreached(Vec<Open>),
    /// Everything is reached, but a node does not keep quiet.
    Restless {
        /// When, in true time.
        time: Time,
        /// The name of the node.
        name: String,
        /// What it sent.
        message: String,
    },
    /// The run does not come to an end.
    Busy,
    /// An assertion of the code under test does not hold.
    Panic {
        /// Where: file, line and column.
        place: String,
        /// What it says.
        message: String,
    },
}

impl Failure {
    /// The promise that is broken; of several the first.
    pub fn promise(&self) -> &str {
        match self {
            Self::Violation { violation, .. } => violation.invariant,
            Self::Unreached(open) => open[0].goal.name,
            Self::Restless { .. } => "silence",
            Self::Busy => "an_end",
            Self::Panic { .. } => "no_panic",
        }
    }

    /// Where it is given.
    pub fn source(&self) -> &str {
        match self {
            Self::Violation { violation, .. } => violation.source,
            Self::Unreached(open) => open[0].goal.source,
            Self::Restless { .. } => "docs/protocols: who has nothing to do falls silent",
            Self::Busy => "crates/core/src/protocol.rs, 6: bounded",
            Self::Panic { .. } => "crates/core/src/protocol.rs, 5: infallible",
        }
    }

    /// Whether the other failure breaks the same promise, in the same way as far as one can tell.
    pub fn resembles(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Panic { place, .. }, Self::Panic { place: other, .. }) => place == other,
            (Self::Unreached(open), Self::Unreached(others)) => {
                others.iter().any(|other| other.goal == open[0].goal)
            }
            _ => self.promise() == other.promise(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation {
                violation: Violation { invariant, source, time, what, .. },
                name,
            } => {
                write!(f, "at {time:?} {name} breaks {invariant} ({source}): {what}")
            }
            Self::Unreached(open) => {
                let open: Vec<&str> = open.iter().map(|open| open.what.as_str()).collect();
                write!(f, "the storm is long over, but {}", open.join("; "))
            }
            Self::Restless { time, name, message } => {
                write!(f, "all is done, but at {time:?} {name} still sends {message}")
            }
            Self::Busy => f.write_str("no end after millions of steps"),
            Self::Panic { place, message } => write!(f, "panics at {place}: {message}"),
        }
    }
}

/// Runs a scenario. `watch` sees every step, after it was checked, and the last even if it failed.
pub fn run<P: Subject>(
    scenario: &Scenario,
    watch: &mut dyn FnMut(&Step<'_, P>),
) -> Result<Report, Failure> {
    let mut storm = Storm::<P>::new(scenario);
    let healed = Time::ZERO + scenario.storm;
    storm.advance(healed, watch)?;
    storm.sim.heal();
    let (calm, healing) = storm.reach(watch)?;
    let settled = calm + if scenario.gossip_retains() { SETTLE } else { FORGET };
    storm.advance(settled, watch)?;
    storm.quiet = true;
    storm.advance(settled + QUIET, watch)?;
    storm.expect_nothing_left()?;
    Ok(Report {
        hash: storm.sim.trace_hash(),
        steps: storm.sim.steps(),
        time: storm.sim.now().since(Time::ZERO),
        healing,
        counts: *storm.goals.counts(),
        faults: storm.sim.tally(),
    })
}

struct Storm<'a, P: Subject> {
    scenario: &'a Scenario,
    sim: Simulator<P>,
    /// What is left to chance around each node.
    dice: BTreeMap<NodeId, Dice>,
    invariants: Invariants,
    goals: Goals,
    applications: BTreeMap<NodeId, Application>,
    lives: BTreeMap<NodeId, Life>,
    /// Nodes that are not in their first life.
    came_back: BTreeSet<NodeId>,
    /// By time, and those of one time in the order in which they were made.
    controls: BTreeMap<(Time, u64), Control>,
    controls_made: u64,
    /// By this time all that was planned has happened.
    planned_until: Time,
    /// Whether only background messages are allowed.
    quiet: bool,
    /// Whether the group stands still for good, as it must.
    stuck: bool,
    /// Those that will crash at the next occasion.
    doomed: BTreeSet<NodeId>,
    /// Those that were asked to leave.
    leavers: BTreeSet<Who>,
    /// How many nodes have crashed before there was a group.
    crashed_early: usize,
    /// Steps since a node was measured.
    unmeasured: u64,
    /// Per node: what its application had not read when its last view began, and the fewest members of
    /// any view it has seen so far.
    views: BTreeMap<NodeId, (usize, usize)>,
    /// With so many steps it is busy with itself.
    steps_max: u64,
}

/// What happens to nodes from outside.
#[derive(Clone, Copy, Debug)]
enum Control {
    /// The application of this life leaves the group.
    Leave(Who),
    /// The process of this life is over.
    Stop(Who),
    /// A node crashes, now or soon.
    Crash(Outage),
    /// All nodes lose their power: the how manyth time.
    PowerCut(usize),
    /// A new life of it begins, with its disk or without.
    Restart(NodeId, bool),
    /// A peer notices that it is gone.
    Notice { peer: NodeId, gone: NodeId },
}

/// What follows from a step, and is done after it.
#[derive(Default)]
struct Aftermath {
    agenda: Agenda,
    has_started: bool,
    has_left: bool,
}

impl<'a, P: Subject> Storm<'a, P> {
    fn new(scenario: &'a Scenario) -> Self {
        let mut dice = Dice::new(!scenario.seed);
        let mut sim = Simulator::new(dice.split(), scenario.settings);
        scenario.weather.apply(sim.network());
        for node in &scenario.nodes {
            sim.add(node.id(), P::new(node.config.clone()), node.clock, node.start);
        }
        let application = |node: &NodePlan| {
            (node.id(), Application::new(scenario.name(node.id()), node.plan.clone()))
        };
        let pairs = (scenario.nodes.len() as u64).pow(2);
        let mut storm = Self {
            scenario,
            sim,
            dice: scenario.nodes.iter().map(|node| (node.id(), dice.split())).collect(),
            invariants: Invariants::new(scenario.ring.clone(), scenario.turn()),
            goals: Goals::default(),
            applications: scenario.nodes.iter().map(application).collect(),
            lives: scenario.nodes.iter().map(|n| (n.id(), n.config.life)).collect(),
            came_back: BTreeSet::new(),
            controls: BTreeMap::new(),
            controls_made: 0,
            planned_until: Time::ZERO + scenario.storm,
            quiet: false,
            stuck: false,
            doomed: BTreeSet::new(),
            leavers: BTreeSet::new(),
            crashed_early: 0,
            unmeasured: 0,
            views: BTreeMap::new(),
            steps_max: STEPS_MAX * (pairs / STEPS_MAX_NODES.pow(2)).max(1),
        };
        storm.plan_weather();
        storm
    }

    fn plan_weather(&mut self) {
        let weather = &self.scenario.weather;
        for blackout in &weather.blackouts {
            if let Some(at) = blackout.told_down {
                self.hint(at, blackout.cut.from, Input::LinkDown(blackout.cut.to));
            }
            if let Some(at) = blackout.told_up {
                self.hint(at, blackout.cut.from, Input::LinkUp(blackout.cut.to));
            }
        }
        for split in &weather.splits {
            self.plan_hints(split);
        }
        for pause in &weather.pauses {
            self.planned_until = self.planned_until.max(pause.at + pause.span);
            self.sim.pause_at(pause.at, pause.node, pause.span);
        }
        for outage in &weather.outages {
            self.control(outage.at, Control::Crash(*outage));
        }
        for (number, cut) in weather.power_cuts.iter().enumerate() {
            self.control(cut.at, Control::PowerCut(number));
        }
    }

    /// Tells the nodes of a partition, if they are told.
    fn plan_hints(&mut self, split: &Split) {
        let Some(lag) = split.told else { return };
        let Partition { shape, since, until } = &split.partition;
        let nodes = self.scenario.nodes.iter().map(NodePlan::id);
        for (from, to) in nodes.clone().flat_map(|from| nodes.clone().map(move |to| (from, to))) {
            if from != to && shape.separates(from, to) {
                self.hint(*since + lag, from, Input::LinkDown(to));
                self.hint(*until + lag, from, Input::LinkUp(to));
            }
        }
    }

    fn hint(&mut self, at: Time, node: NodeId, hint: roundelay_core::InputOf<P>) {
        self.planned_until = self.planned_until.max(at);
        self.sim.input_at(at, node, hint);
    }

    fn control(&mut self, at: Time, control: Control) {
        self.planned_until = self.planned_until.max(at);
        self.controls_made += 1;
        self.controls.insert((at, self.controls_made), control);
    }

    /// Goes on until all goals are reached: when that was, and how long it took.
    fn reach(&mut self, watch: &mut dyn FnMut(&Step<'_, P>)) -> Result<(Time, Duration), Failure> {
        loop {
            let now = self.sim.now();
            if now >= self.planned_until {
                let open = self.goals.open(self.scenario, &self.running());
                if open.is_empty() {
                    return Ok((now, now.since(self.planned_until)));
                }
                if now.since(self.planned_until) > self.scenario.patience {
                    let record = |node| self.sim.disk(node).record();
                    let stuck = self.goals.is_stuck(&self.running(), record);
                    self.stuck = stuck && self.has_lost_somebody();
                    if self.stuck {
                        self.goals.count_stuck();
                        return Ok((now, now.since(self.planned_until)));
                    }
                    return Err(Failure::Unreached(open));
                }
            }
            self.advance(now + LOOK, watch)?;
        }
    }

    /// Whether a disk was lost, or a life has left for good: while all come back with their disks, no
    /// group stands still.
    fn has_lost_somebody(&self) -> bool {
        self.sim.tally().of(Fault::RestartWithoutDisk) > 0 || self.goals.counts().leaves > 0
    }

    fn running(&self) -> Vec<Who> {
        self.sim.running().map(|(node, _)| Who { node, life: self.lives[&node] }).collect()
    }

    /// Everything is reached and quiet: so nothing may be left over.
    fn expect_nothing_left(&self) -> Result<(), Failure> {
        if self.stuck {
            return Ok(());
        }
        let calm = self.came_back.is_empty();
        let left = |(id, machine): (_, &P)| {
            limits::leftovers(self.scenario, id, &machine.node().status(), calm)
        };
        let left = self.sim.running().flat_map(left).map(|what| EMPTIED.open(what));
        let left: Vec<Open> = left.collect();
        if left.is_empty() { Ok(()) } else { Err(Failure::Unreached(left)) }
    }

    /// Takes all steps up to `limit`, and stops and restarts nodes in between.
    fn advance(&mut self, limit: Time, watch: &mut dyn FnMut(&Step<'_, P>)) -> Result<(), Failure> {
        loop {
            let next = self.controls.keys().next().copied().filter(|(time, _)| *time <= limit);
            let until = next.map_or(limit, |(time, _)| time);
            if self.advance_one(until, watch)? {
                continue;
            }
            let Some(control) = next.and_then(|key| self.controls.remove(&key)) else {
                return Ok(());
            };
            self.apply(control);
        }
    }

    fn advance_one(
        &mut self,
        until: Time,
        watch: &mut dyn FnMut(&Step<'_, P>),
    ) -> Result<bool, Failure> {
        let Some(step) = self.sim.step_until(until) else { return Ok(false) };
        watch(&step);
        let node = step.node;
        let who = Who { node, life: self.lives[&node] };
        let name = || self.scenario.name(node).into();
        self.invariants
            .check(who, &step)
            .and_then(|()| measure(self.scenario, &mut self.unmeasured, &mut self.views, &step))
            .map_err(|violation| Failure::Violation { violation, name: name() })?;
        self.goals.see(who, &Seen::Input(&step.input));
        for effect in step.effects {
            self.goals.see(who, &Seen::Effect(effect));
        }
        if self.quiet
            && let Some(message) = disturbance(&step, self.scenario, self.stuck)
        {
            return Err(Failure::Restless { time: step.time, name: name(), message });
        }
        if step.ended.is_some() {
            self.on_end_in_step(node);
        } else {
            let application = self.applications.get_mut(&node).expect("one for each node");
            let aftermath = react(application, &step);
            self.follow(node, aftermath);
        }
        if self.sim.steps() > self.steps_max { Err(Failure::Busy) } else { Ok(true) }
    }

    fn follow(&mut self, node: NodeId, aftermath: Aftermath) {
        let now = self.sim.now();
        for (after, command) in aftermath.agenda {
            self.planned_until = self.planned_until.max(now + after);
            if command == node::Command::Leave {
                let life = self.lives[&node];
                self.control(now + after, Control::Leave(Who { node, life }));
            } else {
                self.sim.command_at(now + after, node, command);
            }
        }
        if aftermath.has_started {
            self.link(node);
        }
        if aftermath.has_left && !self.scenario.exodus {
            // The process flushes its queues, then it ends.
            let dice = self.dice_of(node);
            let linger = dice.span(Duration::from_millis(1), Duration::from_millis(500));
            let life = self.lives[&node];
            self.control(now + linger, Control::Stop(Who { node, life }));
        }
    }

    fn apply(&mut self, control: Control) {
        let now = self.sim.now();
        match control {
            Control::Leave(who) => {
                if self.is_alive(who) && self.may_leave(who) {
                    self.leavers.insert(who);
                    self.sim.command_at(now, who.node, node::Command::Leave);
                }
            }
            // It may have crashed in the meantime.
            Control::Stop(who) if !self.is_alive(who) => {}
            Control::Stop(Who { node, .. }) => {
                self.sim.stop(node);
                self.on_end(node);
                // Some who have left come back: a new life, which joins.
                let storm = self.scenario.storm;
                let dice = self.dice_of(node);
                let (returns, after) = (dice.chance(300), dice.span(LOOK, storm));
                if returns {
                    self.control(now + after, Control::Restart(node, false));
                }
            }
            Control::Crash(outage) if self.may_crash(outage.node) => self.crash(outage),
            // Not now, and not when the storm is over.
            Control::Crash(outage) if now + LOOK < Time::ZERO + self.scenario.storm => {
                self.control(now + LOOK, Control::Crash(outage));
            }
            Control::Crash(_) => {}
            Control::PowerCut(number) => self.cut_power(number),
            Control::Notice { peer, gone } => {
                // Too late, if it is back: then the new link has told of the old one's end.
                if !self.sim.runs(gone) {
                    self.sim.input_at(now, peer, Input::LinkDown(gone));
                }
            }
            Control::Restart(node, _) if self.sim.runs(node) => {}
            Control::Restart(node, keeps_disk) => self.restart(node, keeps_disk),
        }
    }

    fn is_alive(&self, who: Who) -> bool {
        self.sim.runs(who.node) && self.lives[&who.node] == who.life
    }

    /// Whether the group can go on without this node: not if so many memories are gone that nothing
    /// can be decided any more. Nor while its members are about to decide something, for nobody
    /// knows then who will have to decide the next time.
    fn may_crash(&self, node: NodeId) -> bool {
        if !self.scenario.group {
            return true;
        }
        let running: Vec<(NodeId, &P)> = self.sim.running().collect();
        let views = running.iter().filter_map(|(_, machine)| machine.node().view());
        let Some(newest) = views.max_by_key(|view| view.number) else {
            return self.crashed_early < (self.scenario.nodes.len() - 1) / 2;
        };
        let whos = newest.members.iter().map(|member| Who { node: member.id, life: member.life });
        for who in whos.clone().filter(|who| self.is_alive(*who)) {
            let machine = running.iter().find(|(id, _)| *id == who.node);
            let status = machine.and_then(|(_, machine)| machine.node().status().change);
            let open = status.is_some_and(|status| {
                !status.wedged && status.view.is_some_and(|view| view == *newest)
            });
            if !open {
                return false;
            }
        }
        let remains =
            |who: Who| who.node != node && self.is_alive(who) && !self.doomed.contains(&who.node);
        self.goals.can_decide(newest, remains)
            && whos.filter(|who| who.node != node).any(|other| self.stays(other))
    }

    /// Whether somebody stays who keeps the group: with the last member it ends, and whoever comes
    /// back founds another. (Where all processes go on, nobody does.)
    fn may_leave(&self, who: Who) -> bool {
        let views = self.sim.running().filter_map(|(_, machine)| machine.node().view());
        let Some(newest) = views.max_by_key(|view| view.number) else { return false };
        let members =
            newest.members.iter().map(|member| Who { node: member.id, life: member.life });
        let mut others = members.filter(|other| *other != who);
        self.scenario.exodus || others.any(|other| self.stays(other))
    }

    fn stays(&self, who: Who) -> bool {
        let dooms = self.doomed.contains(&who.node);
        self.is_alive(who) && !dooms && !self.leavers.contains(&who)
    }

    fn crash(&mut self, outage: Outage) {
        let node = outage.node;
        if self.scenario.group && !self.sim.running().any(|(_, m)| m.node().view().is_some()) {
            self.crashed_early += 1;
        }
        match outage.end {
            End::At => {
                self.sim.crash(node);
                self.on_end(node);
                let at = self.sim.now() + outage.span;
                self.control(at, Control::Restart(node, outage.keeps_disk));
            }
            End::BetweenEffects => self.doom(node, Doom::BetweenEffects),
            End::FailedSave => self.doom(node, Doom::FailedSave),
        }
    }

    fn cut_power(&mut self, number: usize) {
        let now = self.sim.now();
        let gone = self.sim.cut_power();
        for node in &gone {
            self.on_end(*node);
        }
        for (node, span, keeps_disk) in &self.scenario.weather.power_cuts[number].returns {
            if gone.contains(node) {
                self.control(now + *span, Control::Restart(*node, *keeps_disk));
            }
        }
    }

    fn doom(&mut self, node: NodeId, doom: Doom) {
        self.doomed.insert(node);
        self.sim.doom(node, doom);
    }

    /// The life of a node is over.
    fn on_end(&mut self, node: NodeId) {
        let now = self.sim.now();
        self.doomed.remove(&node);
        self.goals.on_end_of_life(Who { node, life: self.lives[&node] });
        for peer in others(self.scenario, node) {
            // A machine that is gone does not close its links: somebody has to notice.
            let dice = self.dice_of(node);
            let late = Duration::from_millis(dice.pick(&[1, 100, 3000]));
            let at = now + dice.span(Duration::ZERO, late);
            self.control(at, Control::Notice { peer, gone: node });
        }
    }

    fn on_end_in_step(&mut self, node: NodeId) {
        self.on_end(node);
        let mut outages = self.scenario.weather.outages.iter();
        let outage = outages.find(|outage| outage.node == node).expect("only these were doomed");
        let at = self.sim.now() + outage.span;
        self.control(at, Control::Restart(node, outage.keeps_disk));
    }

    fn restart(&mut self, node: NodeId, keeps_disk: bool) {
        let now = self.sim.now();
        let mut nodes = self.scenario.nodes.iter();
        let before = nodes.find(|plan| plan.id() == node).expect("a node of the scenario");
        let mut config = before.config.clone();
        config.life = draw_life(self.dice_of(node));
        if let Some(gossip) = &mut config.gossip {
            gossip.life = config.life;
        }
        if let Some(group) = &mut config.group {
            group.founding.life = config.life;
            group.change.life = config.life;
        }
        self.lives.insert(node, config.life);
        self.came_back.insert(node);
        let (parts, starts) = (self.scenario.parts, before.starts());
        let plan = Plan::of_later_life(self.dice_of(node), parts, starts);
        self.applications.insert(node, Application::new(config.name.as_str(), plan));
        if keeps_disk || !self.others_know(node) {
            self.sim.restart(node, P::new(config), now);
        } else {
            self.sim.restart_without_disk(node, P::new(config), now);
        }
    }

    /// Whether the disk of another knows of the newest view that any disk knows. Where nobody does,
    /// whoever comes back founds another group.
    fn others_know(&self, node: NodeId) -> bool {
        let number = |node| self.sim.disk(node).record().map_or(0, |r| r.installed.view.number);
        let all = self.scenario.nodes.iter().map(NodePlan::id);
        let newest = all.clone().map(number).max().unwrap_or(0);
        let stays = |id: &NodeId| !self.leavers.iter().any(|who| who.node == *id);
        all.filter(|other| *other != node).filter(stays).any(|other| number(other) == newest)
    }

    fn dice_of(&mut self, node: NodeId) -> &mut Dice {
        self.dice.get_mut(&node).expect("one for each node")
    }

    /// Tells a node that has just started, and all others, of the links between them.
    fn link(&mut self, node: NodeId) {
        let now = self.sim.now();
        for peer in others(self.scenario, node) {
            // Drawn for all, so that it does not depend on who is there.
            let dice = self.dice_of(node);
            let mut soon = || now + dice.span(Duration::ZERO, Duration::from_millis(100));
            let (here, there) = (soon(), soon());
            if !self.sim.runs(peer) {
                continue;
            }
            self.hint(here, node, Input::LinkUp(peer));
            if self.came_back.contains(&node) {
                // Whoever has not noticed yet that the old link is gone does so now.
                self.hint(there, peer, Input::LinkDown(node));
            }
            self.hint(there, peer, Input::LinkUp(node));
        }
    }
}

/// Looks at how much a node keeps, when it was given more to keep, and every now and then.
fn measure<P: Subject>(
    scenario: &Scenario,
    unmeasured: &mut u64,
    views: &mut BTreeMap<NodeId, (usize, usize)>,
    step: &Step<'_, P>,
) -> Result<(), Violation> {
    *unmeasured += 1;
    if step.effects.iter().any(|e| matches!(e, Effect::Emit(node::Event::View { .. }))) {
        let order = step.machine.node().order().map(Multicast::status);
        let members = step.machine.node().view().map_or(usize::MAX, View::len);
        let fewest = views.get(&step.node).map_or(members, |(_, before)| members.min(*before));
        views.insert(step.node, (order.map_or(0, |status| status.unread_bytes), fewest));
    }
    let more = matches!(step.input, Input::Command(node::Command::Order(Command::Send { .. })));
    if *unmeasured < MEASURE && !more {
        return Ok(());
    }
    *unmeasured = 0;
    let plan = scenario.nodes.iter().find(|plan| plan.id() == step.node);
    let config = &plan.expect("a node of the scenario").config;
    let view = views.get(&step.node).copied().unwrap_or((0, 1));
    limits::check(step.node, step.time, config, &step.machine.node().status(), view)
}

/// All nodes but this one.
fn others(scenario: &Scenario, node: NodeId) -> impl Iterator<Item = NodeId> {
    scenario.nodes.iter().map(NodePlan::id).filter(move |other| *other != node)
}

/// What the application makes of a step.
fn react<P: Subject>(application: &mut Application, step: &Step<'_, P>) -> Aftermath {
    let mut aftermath = Aftermath::default();
    if let Input::Start(_) = step.input {
        aftermath.agenda = application.on_start();
        aftermath.has_started = true;
    }
    for effect in step.effects {
        if let Effect::Emit(event) = effect {
            aftermath.agenda.append(&mut application.on_event(event));
            aftermath.has_left |= *event == node::Event::LeaveDone;
        }
    }
    aftermath
}

/// The first message of a step that a quiet group does not send.
fn disturbance<P: Subject>(step: &Step<'_, P>, scenario: &Scenario, stuck: bool) -> Option<String> {
    step.effects.iter().find_map(|effect| match effect {
        Effect::Send { message, .. } if !is_background(message, scenario, stuck) => {
            Some(format!("{message:?}"))
        }
        _ => None,
    })
}
