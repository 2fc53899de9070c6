//! A small group of machines under a seeded network, for the tests of this crate: messages may be
//! lost, duplicated and overtaken; timers fire in virtual time. (The simulator proper, with its
//! invariants, is another crate; it cannot be used here, since it stands on this one.)

use crate::{
    id::NodeId,
    multicast::LogEntry,
    protocol::{Context, Effect, EffectOf, Input, InputOf, Protocol, Rng},
    time::Time,
    view::Record,
};
use alloc::{collections::BTreeMap, vec::Vec};
use core::time::Duration;
use rand_core::{Rng as _, SeedableRng as _};

/// How likely messages are lost and duplicated, in percent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    pub(crate) loss: u64,
    pub(crate) duplication: u64,
}

impl Faults {
    pub(crate) const NONE: Self = Self { loss: 0, duplication: 0 };
}

/// The durable log of one node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) entries: Vec<LogEntry>,
    durable: u64,
    /// Counts the lives of the node.
    life: u64,
}

/// What waits to happen.
enum Due<P: Protocol> {
    Message {
        from: NodeId,
        to: NodeId,
        message: P::Message,
    },
    Timer {
        node: NodeId,
        timer: P::Timer,
        set: u64,
    },
    /// The log is durable up to this entry.
    Synced {
        node: NodeId,
        life: u64,
        number: u64,
    },
}

pub(crate) struct Group<P: Protocol> {
    pub(crate) machines: BTreeMap<NodeId, P>,
    /// Everything emitted, in order.
    pub(crate) events: Vec<(NodeId, P::Event)>,
    pub(crate) faults: Faults,
    /// Messages sent so far.
    pub(crate) sent: u64,
    pub(crate) now: Time,
    /// What each node has saved last.
    pub(crate) records: BTreeMap<NodeId, Record>,
    /// What each node has appended.
    pub(crate) logs: BTreeMap<NodeId, Log>,
    due: BTreeMap<(Time, u64), Due<P>>,
    timers: BTreeMap<(NodeId, P::Timer), u64>,
    rng: Rng,
    counter: u64,
}

impl<P: Protocol> Group<P> {
    pub(crate) fn new(machines: impl IntoIterator<Item = (NodeId, P)>, seed: u64) -> Self {
        Self {
            machines: machines.into_iter().collect(),
            events: Vec::new(),
            faults: Faults::NONE,
            sent: 0,
            now: Time::ZERO,
            records: BTreeMap::new(),
            logs: BTreeMap::new(),
            due: BTreeMap::new(),
            timers: BTreeMap::new(),
            rng: Rng::seed_from_u64(seed),
            counter: 0,
        }
    }

    /// A random number below `bound`.
    pub(crate) fn dice(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    /// Starts all machines and links them all to each other.
    pub(crate) fn start(&mut self) {
        let ids: Vec<NodeId> = self.machines.keys().copied().collect();
        for id in &ids {
            self.input(*id, Input::Start(None));
        }
        for id in &ids {
            for peer in ids.iter().filter(|peer| *peer != id) {
                self.input(*id, Input::LinkUp(*peer));
            }
        }
    }

    /// The node is no more; its timers are forgotten.
    pub(crate) fn remove(&mut self, node: NodeId) {
        self.machines.remove(&node);
        self.timers.retain(|(owner, _), _| *owner != node);
        // Of what was not durable a part may have reached the disk.
        let luck = self.dice(4);
        let log = self.logs.entry(node).or_default();
        log.life += 1;
        log.entries.retain(|entry| entry.number <= log.durable + luck);
        log.durable = log.entries.last().map_or(0, |entry| entry.number);
    }

    pub(crate) fn input(&mut self, node: NodeId, input: InputOf<P>) {
        let mut effects = Vec::new();
        let Some(machine) = self.machines.get_mut(&node) else { return };
        machine.handle(input, &mut Context::new(self.now, &mut self.rng, &mut effects));
        for effect in effects {
            self.perform(node, effect);
        }
    }

    fn perform(&mut self, node: NodeId, effect: EffectOf<P>) {
        match effect {
            Effect::Send { to, message } => {
                for peer in to.peers() {
                    assert_ne!(*peer, node, "nobody sends to itself");
                    self.sent += 1;
                    let copies = match self.dice(100) {
                        d if d < self.faults.loss => 0,
                        d if d < self.faults.loss + self.faults.duplication => 2,
                        _ => 1,
                    };
                    for _ in 0..copies {
                        let after = Duration::from_micros(1_000 + self.dice(20_000));
                        let message = message.clone();
                        self.push(after, Due::Message { from: node, to: *peer, message });
                    }
                }
            }
            Effect::SetTimer { timer, after } => {
                let set = self.push(after, Due::Timer { node, timer, set: self.counter });
                self.timers.insert((node, timer), set);
            }
            Effect::CancelTimer(timer) => {
                self.timers.remove(&(node, timer));
            }
            Effect::Emit(event) => self.events.push((node, event)),
            Effect::Save(record) => {
                self.records.insert(node, *record);
            }
            Effect::Append(entry) => {
                let log = self.logs.entry(node).or_default();
                let next = log.entries.last().map_or(entry.number, |last| last.number + 1);
                assert_eq!(entry.number, next, "the log has no gaps");
                let due = Due::Synced { node, life: log.life, number: entry.number };
                log.entries.push(entry);
                let after = Duration::from_micros(1 + self.dice(10_000));
                self.push(after, due);
            }
            Effect::Trim(number) => {
                let log = self.logs.entry(node).or_default();
                assert!(number <= log.durable, "what is not durable is needed");
                log.entries.retain(|entry| entry.number > number);
            }
        }
    }

    fn push(&mut self, after: Duration, due: Due<P>) -> u64 {
        let number = self.counter;
        self.counter += 1;
        self.due.insert((self.now + after, number), due);
        number
    }

    /// Lets the next thing happen; false if nothing waits.
    pub(crate) fn step(&mut self) -> bool {
        let Some(((time, _), due)) = self.due.pop_first() else { return false };
        self.now = time;
        match due {
            Due::Message { from, to, message } => self.input(to, Input::Message { from, message }),
            Due::Synced { node, life, number } => {
                let log = self.logs.entry(node).or_default();
                if log.life == life && number > log.durable {
                    log.durable = number;
                    self.input(node, Input::Appended(number));
                }
            }
            Due::Timer { node, timer, set } => {
                if self.timers.get(&(node, timer)) == Some(&set) {
                    self.timers.remove(&(node, timer));
                    self.input(node, Input::Timer(timer));
                }
            }
        }
        true
    }

    /// Runs for `span` of virtual time, or until nothing waits.
    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.due.first_key_value().is_some_and(|((time, _), _)| *time <= end) {
            self.step();
        }
        self.now = end;
    }
}
