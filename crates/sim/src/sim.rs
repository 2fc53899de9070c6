//! The simulator: nodes, a network and virtual time, driven by one queue of events.
//!
//! It keeps the contract of [`roundelay_core::protocol`] to the letter and uses the freedom that
//! the contract leaves: messages overtake each other, timers fire late, hints about links come
//! late or never, clocks differ, a node stops for a while and wakes with a full inbox, a machine
//! loses its power between any two effects, a disk cannot save.

mod clock;
mod disk;
#[cfg(test)]
mod tests;

use crate::{
    dice::Dice,
    fault::{Fault, Tally},
    network::{Network, Packet},
};
pub use clock::{Clock, Reading};
use core::{
    cmp::Ordering,
    hash::{Hash, Hasher},
    mem,
    time::Duration,
};
pub use disk::Disk;
use roundelay_core::{
    id::NodeId,
    planted::Bug,
    protocol::{Context, Effect, EffectOf, Input, InputOf, Protocol, Rng},
    time::Time,
    trace::TraceHasher,
    view::Saved,
};
use std::collections::{BTreeMap, BinaryHeap};

/// What the simulator may do with time, within the contract.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// A timer of zero fires after at most this long: the longest batch.
    pub batch_max: Duration,
    /// Any other timer is late by at most this.
    pub lateness_max: Duration,
    /// An appended entry is durable after at most this long.
    pub append_max: Duration,
    /// A rule that all nodes leave out, to see that the checks notice.
    pub planted: Option<Bug>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batch_max: Duration::from_micros(200),
            lateness_max: Duration::from_millis(1),
            append_max: Duration::from_millis(5),
            planted: None,
        }
    }
}

/// One input of one node, and what came of it.
#[derive(Debug)]
pub struct Step<'a, P: Protocol> {
    /// When, in true time.
    pub time: Time,
    /// Whose.
    pub node: NodeId,
    /// What the node's own clock shows.
    pub clock: Reading,
    /// The input.
    pub input: InputOf<P>,
    /// What the node asked for, in order; it has been done. (What would have followed after its
    /// end has not, and is not here.)
    pub effects: &'a [EffectOf<P>],
    /// The node after the input.
    pub machine: &'a P,
    /// What ended the node's life within this step, if anything did.
    pub ended: Option<Doom>,
}

/// What ends a life in the middle of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doom {
    /// The next input that has several effects is cut off between two of them: no power.
    BetweenEffects,
    /// The next save fails. The node stops there and then: no later effect leaves it.
    FailedSave,
}

/// A seeded, single-threaded simulation in virtual time.
#[derive(Debug)]
pub struct Simulator<P: Protocol> {
    now: Time,
    queue: BinaryHeap<Scheduled<P>>,
    scheduled: u64,
    nodes: Vec<Slot<P>>,
    index: BTreeMap<NodeId, usize>,
    network: Network<P::Message>,
    settings: Settings,
    dice: Dice,
    steps: u64,
    hash: TraceHasher,
    tally: Tally,
    effects: Vec<EffectOf<P>>,
    delays: Vec<Duration>,
}

/// A node and what its driver keeps for it.
#[derive(Debug)]
struct Slot<P: Protocol> {
    id: NodeId,
    machine: P,
    rng: Rng,
    /// What is left to chance around the node.
    dice: Dice,
    clock: Clock,
    /// Counts the lives of the node: what was meant for an earlier one is lost.
    life: u32,
    state: State<P>,
    /// The timers that are set, each with the number of its event in the queue.
    timers: BTreeMap<P::Timer, u64>,
    /// What survives a restart.
    disk: Disk,
    /// What ends this life, sooner or later.
    doom: Option<Doom>,
}

#[derive(Debug)]
enum State<P: Protocol> {
    Absent,
    Running,
    /// Inputs wait until the node wakes.
    Paused(Vec<Scheduled<P>>),
}

#[derive(Debug)]
struct Scheduled<P: Protocol> {
    time: Time,
    /// Events of one moment happen in the order in which they were scheduled.
    number: u64,
    node: usize,
    life: u32,
    what: Happening<P>,
}

#[derive(Debug)]
enum Happening<P: Protocol> {
    Input(InputOf<P>),
    /// A message, and who sent it in which of its lives.
    Message {
        from: usize,
        life: u32,
        message: P::Message,
    },
    /// A timer, which may have been set again or cancelled meanwhile.
    Timer(P::Timer),
    /// The end of a sync of the disk.
    Synced,
    Pause,
    Wake,
}

impl<P: Protocol> Simulator<P> {
    /// A simulation without nodes, at time zero.
    pub fn new(mut dice: Dice, settings: Settings) -> Self {
        Self {
            now: Time::ZERO,
            queue: BinaryHeap::new(),
            scheduled: 0,
            nodes: Vec::new(),
            index: BTreeMap::new(),
            network: Network::new(dice.split()),
            settings,
            dice,
            steps: 0,
            hash: TraceHasher::default(),
            tally: Tally::default(),
            effects: Vec::new(),
            delays: Vec::new(),
        }
    }

    /// Adds a node that starts at time `start`. Before that it hears nothing.
    pub fn add(&mut self, id: NodeId, machine: P, clock: Clock, start: Time) {
        let slot = Slot {
            id,
            machine,
            rng: self.dice.rng(),
            dice: self.dice.split(),
            clock,
            life: 0,
            state: State::Absent,
            timers: BTreeMap::new(),
            disk: Disk::default(),
            doom: None,
        };
        assert!(self.index.insert(id, self.nodes.len()).is_none(), "two nodes with one id");
        self.nodes.push(slot);
        self.input_at(start, id, Input::Start(None));
    }

    /// Ends the life of a node: what is on its way to it is lost. The machine goes on, and writes
    /// to its disk what the process has left to it.
    pub fn stop(&mut self, node: NodeId) {
        let slot = &mut self.nodes[self.index[&node]];
        slot.state = State::Absent;
        slot.timers.clear();
        slot.life += 1;
        slot.doom = None;
    }

    /// Ends the life of a node as a loss of power does: its disk keeps what was durable.
    pub fn crash(&mut self, node: NodeId) {
        self.stop(node);
        let slot = &mut self.nodes[self.index[&node]];
        slot.disk.lose_power(&mut slot.dice);
        self.tally.count(Fault::Crash);
    }

    /// All nodes that run lose their power at once. Which these were.
    pub fn cut_power(&mut self) -> Vec<NodeId> {
        let running: Vec<NodeId> = self.running().map(|(node, _)| node).collect();
        for node in &running {
            self.crash(*node);
        }
        self.tally.count(Fault::PowerCut);
        running
    }

    /// Lets the life of a node end in the middle of a step, as soon as one is fit for it.
    pub fn doom(&mut self, node: NodeId, doom: Doom) {
        self.nodes[self.index[&node]].doom = Some(doom);
    }

    /// Takes all faults away: of the network, and those that have not struck yet.
    pub fn heal(&mut self) {
        self.network.heal();
        for slot in &mut self.nodes {
            slot.doom = None;
        }
    }

    /// Begins a new life of a stopped node, with its disk.
    pub fn restart(&mut self, node: NodeId, machine: P, start: Time) {
        self.tally.count(Fault::RestartWithDisk);
        self.begin_life(node, machine, start);
    }

    /// Begins a new life of a stopped node on a new machine, without its disk.
    pub fn restart_without_disk(&mut self, node: NodeId, machine: P, start: Time) {
        self.tally.count(Fault::RestartWithoutDisk);
        self.nodes[self.index[&node]].disk = Disk::default();
        self.begin_life(node, machine, start);
    }

    fn begin_life(&mut self, node: NodeId, machine: P, start: Time) {
        let slot = &mut self.nodes[self.index[&node]];
        assert!(matches!(slot.state, State::Absent), "a node has one life at a time");
        slot.machine = machine;
        slot.rng = slot.dice.rng();
        slot.disk.open();
        let record = slot.disk.record().cloned();
        let log = || slot.disk.log().to_vec();
        let saved = record.map(|record| Box::new(Saved { record, log: log() }));
        self.input_at(start, node, Input::Start(saved));
    }

    /// Gives a node this input at this time.
    pub fn input_at(&mut self, time: Time, node: NodeId, input: InputOf<P>) {
        self.schedule(time, self.index[&node], Happening::Input(input));
    }

    /// Gives a node this command at this time.
    pub fn command_at(&mut self, time: Time, node: NodeId, command: P::Command) {
        self.input_at(time, node, Input::Command(command));
    }

    /// Stops a node for a while, as SIGSTOP does: it notices only by the time it wakes.
    pub fn pause_at(&mut self, time: Time, node: NodeId, span: Duration) {
        let node = self.index[&node];
        self.schedule(time, node, Happening::Pause);
        self.schedule(time + span, node, Happening::Wake);
    }

    /// The next input of a running node, if there is one before or at `limit`; otherwise time goes
    /// on to `limit`.
    pub fn step_until(&mut self, limit: Time) -> Option<Step<'_, P>> {
        loop {
            if self.queue.peek().is_none_or(|next| next.time > limit) {
                self.now = self.now.max(limit);
                return None;
            }
            let next = self.queue.pop().expect("peeked");
            assert!(next.time >= self.now, "time never goes back");
            self.now = next.time;
            let node = next.node;
            if let Some(input) = self.admit(next) {
                return Some(self.perform(node, input));
            }
        }
    }

    /// The next input of a running node, if there ever is one.
    pub fn step(&mut self) -> Option<Step<'_, P>> {
        let last = self.queue.iter().map(|event| event.time).max().unwrap_or(self.now);
        self.step_until(last)
    }

    /// Takes all steps up to `limit`.
    pub fn run_until(&mut self, limit: Time) {
        while self.step_until(limit).is_some() {}
    }

    /// The true time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// How many inputs have been handled.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The hash of everything that has happened: time, node, input and effects of each step.
    pub fn trace_hash(&self) -> u64 {
        self.hash.finish()
    }

    /// How often each kind of fault was thrown.
    pub fn tally(&self) -> Tally {
        let mut tally = self.tally;
        tally.add(self.network.tally());
        tally
    }

    /// The disk of a node.
    pub fn disk(&self, node: NodeId) -> &Disk {
        &self.nodes[self.index[&node]].disk
    }

    /// The network, to change its rules.
    pub fn network(&mut self) -> &mut Network<P::Message> {
        &mut self.network
    }

    /// The nodes that run, in the order in which they were added.
    pub fn running(&self) -> impl Iterator<Item = (NodeId, &P)> {
        self.nodes.iter().filter(|slot| slot.is_present()).map(|slot| (slot.id, &slot.machine))
    }

    /// Whether a node runs (a pause does not end a life).
    pub fn runs(&self, node: NodeId) -> bool {
        self.nodes[self.index[&node]].is_present()
    }

    fn schedule(&mut self, time: Time, node: usize, what: Happening<P>) -> u64 {
        self.scheduled += 1;
        let life = self.nodes[node].life;
        let time = time.max(self.now);
        self.queue.push(Scheduled { time, number: self.scheduled, node, life, what });
        self.scheduled
    }

    /// Turns a due event into an input, unless it is void or its node does not listen now.
    fn admit(&mut self, event: Scheduled<P>) -> Option<InputOf<P>> {
        if self.is_void(&event.what) {
            return None;
        }
        let slot = &mut self.nodes[event.node];
        if slot.life != event.life {
            return None;
        }
        match (&mut slot.state, &event.what) {
            (State::Absent, Happening::Input(Input::Start(_))) => slot.state = State::Running,
            (State::Absent, _) => return None,
            (State::Paused(_), Happening::Wake) => {
                let State::Paused(waiting) = mem::replace(&mut slot.state, State::Running) else {
                    unreachable!("matched");
                };
                // They keep their numbers, so a cancelled timer is still known as such.
                self.queue
                    .extend(waiting.into_iter().map(|event| Scheduled { time: self.now, ..event }));
                return None;
            }
            (State::Paused(waiting), _) => {
                waiting.push(event);
                return None;
            }
            (State::Running, Happening::Pause) => {
                slot.state = State::Paused(Vec::new());
                self.tally.count(Fault::Pause);
                return None;
            }
            (State::Running, _) => {}
        }
        match event.what {
            Happening::Input(input) => Some(input),
            Happening::Message { from, message, .. } => {
                Some(Input::Message { from: self.nodes[from].id, message })
            }
            Happening::Timer(timer) if slot.timers.get(&timer) == Some(&event.number) => {
                slot.timers.remove(&timer);
                Some(Input::Timer(timer))
            }
            Happening::Synced => {
                let up_to = slot.disk.end_sync();
                self.sync(event.node);
                Some(Input::Appended(up_to))
            }
            Happening::Timer(_) | Happening::Pause | Happening::Wake => None,
        }
    }

    /// What the handshake of a link rules out, which names the lives at both of its ends: a link
    /// to nobody, and late messages of a life after the next one has begun.
    fn is_void(&self, what: &Happening<P>) -> bool {
        match what {
            Happening::Input(Input::LinkUp(peer)) => {
                self.index.get(peer).is_some_and(|peer| !self.nodes[*peer].is_present())
            }
            Happening::Message { from, life, .. } => {
                self.nodes[*from].life != *life && self.nodes[*from].is_present()
            }
            _ => false,
        }
    }

    fn perform(&mut self, node: usize, input: InputOf<P>) -> Step<'_, P> {
        self.steps += 1;
        let mut effects = mem::take(&mut self.effects);
        effects.clear();
        let slot = &mut self.nodes[node];
        let id = slot.id;
        let now = slot.clock.shows(self.now);
        let clock = Reading { shows: now, slow_ppm: slot.clock.slow_ppm };
        let cx = Context::new(now, &mut slot.rng, &mut effects);
        slot.machine.handle(input.clone(), &mut cx.planting(self.settings.planted));
        let ended = self.perform_effects(node, &mut effects);
        (self.now.as_nanos(), node, &input, &effects).hash(&mut self.hash);
        self.effects = effects;
        let machine = &self.nodes[node].machine;
        Step { time: self.now, node: id, clock, input, effects: &self.effects, machine, ended }
    }

    /// Performs effects in their order, all of them or as many as are done before the node's end.
    fn perform_effects(&mut self, node: usize, effects: &mut Vec<EffectOf<P>>) -> Option<Doom> {
        let end = self.nodes[node].doom.and_then(|doom| self.end_within(node, effects, doom));
        if let Some((_, len)) = end {
            effects.truncate(len);
        }
        for effect in &*effects {
            self.perform_effect(node, effect);
        }
        let (doom, _) = end?;
        self.tally.count(match doom {
            Doom::BetweenEffects => Fault::CrashBetweenEffects,
            Doom::FailedSave => Fault::FailedSave,
        });
        let id = self.nodes[node].id;
        match doom {
            Doom::BetweenEffects => self.crash(id),
            Doom::FailedSave => self.stop(id),
        }
        Some(doom)
    }

    /// How many of these effects are performed by a node that this doom awaits, if it strikes now.
    fn end_within(
        &mut self,
        node: usize,
        effects: &[EffectOf<P>],
        doom: Doom,
    ) -> Option<(Doom, usize)> {
        let len = match doom {
            Doom::BetweenEffects if effects.len() < 2 => return None,
            Doom::BetweenEffects => 1 + self.nodes[node].dice.index(effects.len() - 1),
            Doom::FailedSave => effects.iter().position(|e| matches!(e, Effect::Save(_)))?,
        };
        Some((doom, len))
    }

    fn perform_effect(&mut self, node: usize, effect: &EffectOf<P>) {
        match effect {
            Effect::Send { to, message } => {
                for peer in to.peers() {
                    self.send(node, *peer, message);
                }
            }
            Effect::SetTimer { timer, after } => {
                let slot = &mut self.nodes[node];
                let wait = if after.is_zero() {
                    slot.dice.span(Duration::from_nanos(1), self.settings.batch_max)
                } else {
                    let late = slot.dice.span(Duration::ZERO, self.settings.lateness_max);
                    slot.clock.true_span(*after) + late
                };
                let number = self.schedule(self.now + wait, node, Happening::Timer(*timer));
                self.nodes[node].timers.insert(*timer, number);
            }
            Effect::CancelTimer(timer) => {
                self.nodes[node].timers.remove(timer);
            }
            Effect::Save(record) => self.nodes[node].disk.save((**record).clone()),
            Effect::Append(entry) => {
                self.nodes[node].disk.append(entry.clone());
                self.sync(node);
            }
            Effect::Trim(number) => self.nodes[node].disk.trim(*number),
            Effect::Emit(_) => {}
        }
    }

    /// Begins a sync of a node's disk if there is something to write and none is under way.
    fn sync(&mut self, node: usize) {
        if self.nodes[node].disk.begin_sync() {
            let dice = &mut self.nodes[node].dice;
            let wait = dice.span(Duration::from_nanos(1), self.settings.append_max);
            self.schedule(self.now + wait, node, Happening::Synced);
        }
    }

    fn send(&mut self, node: usize, peer: NodeId, message: &P::Message) {
        // Best effort: what is for nobody here is lost.
        let Some(to) = self.index.get(&peer).copied() else { return };
        let from = self.nodes[node].id;
        let mut delays = mem::take(&mut self.delays);
        let packet = Packet { from, to: peer, sent: self.now, message };
        self.network.judge(&packet, &mut delays);
        for delay in delays.drain(..) {
            // Even the fastest message is not there before this input is over.
            let arrival = self.now + delay.max(Duration::from_nanos(1));
            let life = self.nodes[node].life;
            let message = message.clone();
            self.schedule(arrival, to, Happening::Message { from: node, life, message });
        }
        self.delays = delays;
    }
}

impl<P: Protocol> Slot<P> {
    fn is_present(&self) -> bool {
        !matches!(self.state, State::Absent)
    }
}

impl<P: Protocol> Ord for Scheduled<P> {
    /// The earliest is the greatest, because the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.time, other.number).cmp(&(self.time, self.number))
    }
}

impl<P: Protocol> PartialOrd for Scheduled<P> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<P: Protocol> PartialEq for Scheduled<P> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<P: Protocol> Eq for Scheduled<P> {}
