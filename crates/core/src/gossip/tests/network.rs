//! A small network in virtual time, with seeded faults, that checks every delivery.

use super::super::{
    Command, Config, Content, Event, Gossip, Message, Neighbors, Origin, Strategy, Timer,
};
use crate::{
    id::{Life, Name, NodeId},
    protocol::{Context, EffectOf, Input, InputOf, Protocol, Rng, To},
    time::Time,
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    vec::Vec,
};
use bytes::Bytes;
use core::time::Duration;
use rand_core::{Rng as _, SeedableRng};

/// Nanoseconds in a millisecond.
const MS: u64 = 1_000_000;

/// Chances out of 100.
#[derive(Clone, Copy, Default)]
pub(super) struct Faults {
    pub(super) loss: u64,
    pub(super) duplication: u64,
    /// Whether messages of a link overtake each other, and outlive its cuts.
    pub(super) disorder: bool,
}

enum Due {
    Arrival { from: usize, to: usize, message: Message, epoch: u64 },
    Timer { node: usize, life: Life, timer: Timer },
}

struct Machine {
    gossip: Gossip,
    life: Life,
    timers: BTreeMap<Timer, u64>,
    heard: BTreeSet<(Origin, u64)>,
    published: u64,
}

pub(super) struct Network {
    pub(super) rng: Rng,
    pub(super) faults: Faults,
    was_disordered: bool,
    pub(super) config: Config,
    now: u64,
    counter: u64,
    queue: BTreeMap<(u64, u64), Due>,
    ids: Vec<NodeId>,
    index: BTreeMap<NodeId, usize>,
    listed: Vec<BTreeSet<NodeId>>,
    machines: Vec<Machine>,
    /// Edges of the graph, and how often each has come up; odd while it is up.
    edges: BTreeMap<(usize, usize), u64>,
    last_arrival: BTreeMap<(usize, usize), u64>,
    /// Messages sent since the last reset, by kind.
    pub(super) sent: BTreeMap<&'static str, u64>,
    sent_before: BTreeMap<&'static str, u64>,
    pub(super) deliveries: u64,
    /// Whether paths are unique and nobody restarts, so that hops can be checked exactly.
    pub(super) exact_hops: bool,
}

pub(super) fn name(node: usize) -> Name {
    Name::new(&format!("p{node}")).unwrap()
}

pub(super) fn config(strategy: Strategy) -> Config {
    Config {
        name: name(0),
        life: Life(1),
        neighbors: Neighbors::AllLinks,
        strategy,
        rumor_bytes_max: 1 << 16,
        retention_age: Duration::from_hours(1),
        retention_bytes: 1 << 24,
        round: Duration::from_millis(20),
        anti_entropy: Duration::from_secs(2),
        origins_max: 256,
    }
}

impl Network {
    pub(super) fn new(seed: u64, config: Config, nodes: usize, edges: &[(usize, usize)]) -> Self {
        let mut network = Self {
            rng: Rng::seed_from_u64(seed),
            faults: Faults::default(),
            was_disordered: false,
            config,
            now: 0,
            counter: 0,
            queue: BTreeMap::new(),
            ids: (0..nodes).map(|node| name(node).id()).collect(),
            index: (0..nodes).map(|node| (name(node).id(), node)).collect(),
            listed: alloc::vec![BTreeSet::new(); nodes],
            machines: Vec::new(),
            edges: edges.iter().map(|edge| (*edge, 0)).collect(),
            last_arrival: BTreeMap::new(),
            sent: BTreeMap::new(),
            sent_before: BTreeMap::new(),
            deliveries: 0,
            exact_hops: false,
        };
        for (a, b) in edges {
            // Listed at one end, or at both.
            let ends = network.below(3);
            if ends != 1 {
                network.listed[*a].insert(name(*b).id());
            }
            if ends != 0 {
                network.listed[*b].insert(name(*a).id());
            }
        }
        for node in 0..nodes {
            let machine = network.machine(node);
            network.machines.push(machine);
            network.input(node, Input::Start(None));
        }
        for edge in edges {
            network.set_link(*edge, true);
        }
        network
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    fn machine(&mut self, node: usize) -> Machine {
        let life = Life(u128::from(self.rng.next_u64()));
        let config = Config {
            name: name(node),
            life,
            neighbors: Neighbors::Listed(self.listed[node].clone()),
            ..self.config.clone()
        };
        Machine {
            gossip: Gossip::new(config),
            life,
            timers: BTreeMap::new(),
            heard: BTreeSet::new(),
            published: 0,
        }
    }

    pub(super) fn nodes(&self) -> usize {
        self.machines.len()
    }

    /// How many messages of this kind were sent before [`Self::assert_quiet`].
    pub(super) fn sent_before(&self, kind: &str) -> u64 {
        self.sent_before.get(kind).copied().unwrap_or_default()
    }

    pub(super) fn edges(&self) -> Vec<(usize, usize)> {
        self.edges.keys().copied().collect()
    }

    pub(super) fn set_link(&mut self, edge: (usize, usize), up: bool) {
        let epoch = self.edges.get_mut(&edge).unwrap();
        if (*epoch % 2 == 1) == up {
            return;
        }
        *epoch += 1;
        let (a, b) = edge;
        for (node, peer) in [(a, b), (b, a)] {
            let peer = name(peer).id();
            self.input(node, if up { Input::LinkUp(peer) } else { Input::LinkDown(peer) });
        }
    }

    /// Ends a life and begins another one.
    pub(super) fn restart(&mut self, node: usize) {
        let edges: Vec<_> =
            self.edges().into_iter().filter(|(a, b)| *a == node || *b == node).collect();
        for edge in &edges {
            self.set_link(*edge, false);
        }
        self.was_disordered |= self.faults.disorder;
        self.machines[node] = self.machine(node);
        self.input(node, Input::Start(None));
        for edge in edges {
            self.set_link(edge, true);
        }
    }

    pub(super) fn publish(&mut self, node: usize) {
        let machine = &self.machines[node];
        let payload =
            text(&Origin { node: name(node).id(), life: machine.life }, machine.published + 1);
        self.input(node, Input::Command(Command::Publish { ticket: 0, payload }));
    }

    /// Lets so many milliseconds pass.
    pub(super) fn run(&mut self, millis: u64) {
        let end = self.now + millis * MS;
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) {
            self.now = entry.key().0;
            match entry.remove() {
                Due::Arrival { from, to, message, epoch } => {
                    let now = self.edges[&(from.min(to), from.max(to))];
                    // Without disorder, nothing outlives the connection that it was sent on.
                    if now % 2 == 1 && (now == epoch || self.faults.disorder) {
                        self.input(to, Input::Message { from: self.ids[from], message });
                    }
                }
                Due::Timer { node, life, timer } => {
                    let machine = &mut self.machines[node];
                    if machine.life == life && machine.timers.get(&timer) == Some(&self.now) {
                        machine.timers.remove(&timer);
                        self.input(node, Input::Timer(timer));
                    }
                }
            }
        }
        self.now = end;
    }

    fn input(&mut self, node: usize, input: InputOf<Gossip>) {
        let mut effects = Vec::new();
        let mut cx = Context::new(Time::from_nanos(self.now), &mut self.rng, &mut effects);
        self.machines[node].gossip.handle(input, &mut cx);
        for effect in effects {
            self.perform(node, effect);
        }
    }

    fn perform(&mut self, node: usize, effect: EffectOf<Gossip>) {
        use crate::protocol::Effect;
        match effect {
            Effect::Send { to, message } => self.send(node, &to, &message),
            Effect::SetTimer { timer, after } => {
                // The batch boundary comes a seeded moment after the input.
                let after = (after.as_nanos() as u64).max(self.below(200_000) + 1);
                let at = self.now + after;
                let machine = &mut self.machines[node];
                machine.timers.insert(timer, at);
                let due = Due::Timer { node, life: machine.life, timer };
                self.push(at, due);
            }
            Effect::CancelTimer(timer) => {
                self.machines[node].timers.remove(&timer);
            }
            Effect::Emit(event) => self.check(node, event),
            effect => panic!("gossip does not do this: {effect:?}"),
        }
    }

    fn push(&mut self, at: u64, due: Due) {
        self.counter += 1;
        self.queue.insert((at, self.counter), due);
    }

    fn send(&mut self, from: usize, to: &To, message: &Message) {
        for peer in to.peers() {
            let to = self.index[peer];
            let edge = (from.min(to), from.max(to));
            let epoch = *self.edges.get(&edge).expect("only neighbours talk");
            *self.sent.entry(kind(message)).or_default() += 1;
            if self.below(100) < self.faults.loss {
                continue;
            }
            let copies = 1 + u64::from(self.below(100) < self.faults.duplication);
            for _ in 0..copies {
                let at = if self.faults.disorder {
                    self.now + MS / 2 + self.below(20 * MS)
                } else {
                    // Each link has its own latency, and is first in, first out.
                    let latency = MS + 2 * MS * ((edge.0 * 7 + edge.1 * 3) % 5) as u64;
                    let jittered = self.now + latency + self.below(MS / 10);
                    jittered.max(self.last_arrival.get(&(from, to)).map_or(0, |last| last + 1))
                };
                self.last_arrival.insert((from, to), at);
                self.push(at, Due::Arrival { from, to, message: message.clone(), epoch });
            }
        }
    }

    fn check(&mut self, node: usize, event: Event) {
        let machine = &mut self.machines[node];
        let own = Origin { node: self.ids[node], life: machine.life };
        match event {
            Event::Heard { origin, name, sequence, hops, payload } => {
                assert!(machine.heard.insert((origin, sequence)), "heard twice");
                assert_eq!(payload, text(&origin, sequence));
                let placeholder = name.as_str() == format!("{}", origin.node);
                assert!(name.id() == origin.node || placeholder, "{origin:?} is not {name}");
                assert_eq!(hops == 0, origin == own);
                if self.exact_hops {
                    assert_eq!(hops, self.distances(self.index[&origin.node])[&node]);
                }
                self.deliveries += u64::from(origin != own);
            }
            Event::Published { sequence, .. } => {
                machine.published += 1;
                assert_eq!(sequence, machine.published);
            }
            Event::Refused { .. } => {}
            Event::NeighborUp(peer) => assert_ne!(peer, own.node),
        }
    }

    fn distances(&self, from: usize) -> BTreeMap<usize, u32> {
        let mut found = BTreeMap::from([(from, 0)]);
        loop {
            let next: Vec<_> = self
                .edges
                .iter()
                .filter(|(_, epoch)| *epoch % 2 == 1)
                .flat_map(|((a, b), _)| [(*a, *b), (*b, *a)])
                .filter(|(a, b)| found.contains_key(a) && !found.contains_key(b))
                .map(|(a, b)| (b, found[&a] + 1))
                .collect();
            if next.is_empty() {
                return found;
            }
            // Edges come in no useful order, so take the nearest only.
            let nearest = next.iter().map(|(_, distance)| *distance).min().unwrap();
            found.extend(next.into_iter().filter(|(_, distance)| *distance == nearest));
        }
    }

    /// All nodes are connected, and have heard the same: all that anybody has.
    pub(super) fn assert_complete(&self) {
        let mut all: BTreeSet<(Origin, u64)> = BTreeSet::new();
        for (node, machine) in self.machines.iter().enumerate() {
            let own = Origin { node: name(node).id(), life: machine.life };
            all.extend(&machine.heard);
            assert!((1..=machine.published).all(|sequence| all.contains(&(own, sequence))));
        }
        for (node, machine) in self.machines.iter().enumerate() {
            let missing: Vec<_> = all.difference(&machine.heard).collect();
            assert!(missing.is_empty(), "p{node} has not heard {missing:?}");
        }
    }

    /// All nodes know the same, nobody waits for anything, and they only compare hashes.
    pub(super) fn assert_quiet(&mut self) {
        self.sent_before = core::mem::take(&mut self.sent);
        self.run(10_000);
        let kinds: Vec<_> = self.sent.keys().copied().collect();
        assert_eq!(kinds, ["hash"], "{:?}", self.sent);
        assert!(self.sent["hash"] <= 6 * self.nodes() as u64);
        let hashes: BTreeSet<u64> =
            self.machines.iter().map(|machine| machine.gossip.clone().store.hash()).collect();
        assert_eq!(hashes.len(), 1);
        for machine in &self.machines {
            let status = machine.gossip.status();
            assert_eq!(status.missing, 0);
            // Only what outlives a life can reach the next one, and mean nothing to it.
            assert!(status.ignored == 0 || self.was_disordered, "{status:?}");
            assert!(machine.gossip.accepts_rumors());
        }
    }
}

fn kind(message: &Message) -> &'static str {
    match message {
        Message::Neighbor { .. } => "neighbor",
        Message::Rumor(rumor) => match rumor.content {
            Content::Record { .. } => "record",
            Content::User(_) => "rumor",
        },
        Message::Prune => "prune",
        Message::Graft => "graft",
        Message::Known { .. } => "known",
        Message::Hash(_) => "hash",
        Message::Digest { .. } => "digest",
        Message::Want(_) => "want",
        Message::Forgotten(_) => "forgotten",
    }
}

fn text(origin: &Origin, sequence: u64) -> Bytes {
    format!("{origin:?} says {sequence}").into_bytes().into()
}

/// The graphs of the tests: 0 is a line, 1 a star, others are random and connected.
pub(super) fn graph(kind: u64, nodes: usize, rng: &mut Rng) -> Vec<(usize, usize)> {
    let mut edges: BTreeSet<(usize, usize)> = (1..nodes)
        .map(|node| match kind {
            0 => (node - 1, node),
            1 => (0, node),
            _ => ((rng.next_u64() % node as u64) as usize, node),
        })
        .collect();
    if kind > 1 {
        for _ in 0..nodes {
            let (a, b) = (rng.next_u64() as usize % nodes, rng.next_u64() as usize % nodes);
            if a != b {
                edges.insert((a.min(b), a.max(b)));
            }
        }
    }
    edges.into_iter().collect()
}
