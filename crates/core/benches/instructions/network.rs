//! A group of nodes in one process, whose messages arrive in order and without loss: the driver of
//! which the inputs of one node are taken.

use roundelay_core::{
    change, detector, founding,
    gossip::{self, Neighbors, Strategy},
    id::{Life, Name},
    multicast,
    node::{self, Command, Event, Node, Timer},
    protocol::{Context, Effect, EffectOf, Input, InputOf, Protocol as _, Rng},
    time::Time,
    tokenring::{self, Mode},
};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// An input of a node, and when it came.
pub(crate) type Arrival = (Time, InputOf<Node>);

/// What an application does about an event at a node.
pub(crate) type Application = fn(usize, &Event) -> Vec<Command>;

/// The time from one input to the next.
const STEP: Duration = Duration::from_micros(5);

/// A group of nodes, and what is under way between them.
pub(crate) struct Network {
    pub(crate) nodes: Vec<Node>,
    now: Time,
    rng: Rng,
    application: Application,
    under_way: VecDeque<(usize, InputOf<Node>)>,
    /// When it fires; none at the batch boundary.
    timers: BTreeMap<(usize, Timer), Option<Time>>,
    /// The inputs of the first node.
    pub(crate) heard: Vec<Arrival>,
}

impl Network {
    /// Nodes that are linked with each other and have founded their group.
    pub(crate) fn new(configs: Vec<node::Config>, application: Application) -> Self {
        let nodes: Vec<Node> = configs.into_iter().map(Node::new).collect();
        let mut network = Self {
            nodes,
            now: Time::ZERO,
            rng: rand_core::SeedableRng::seed_from_u64(1),
            application,
            under_way: VecDeque::new(),
            timers: BTreeMap::new(),
            heard: Vec::new(),
        };
        let ids: Vec<_> = network.nodes.iter().map(Node::id).collect();
        for node in 0..ids.len() {
            network.under_way.push_back((node, Input::Start(None)));
            let peers = ids.iter().filter(|id| **id != ids[node]);
            network.under_way.extend(peers.map(|id| (node, Input::LinkUp(*id))));
        }
        network.under_way.push_back((0, Input::Command(Command::Start)));
        network.settle();
        network
    }

    /// The application at a node asks for something.
    pub(crate) fn ask(&mut self, node: usize, command: Command) {
        self.under_way.push_back((node, Input::Command(command)));
    }

    /// Takes one input that is under way, or a timer. False if there is nothing to do by now.
    pub(crate) fn step(&mut self) -> bool {
        let due = |(_, at): &(&(usize, Timer), &Option<Time>)| at.is_some_and(|at| at <= self.now);
        let boundary = |(_, at): &(&(usize, Timer), &Option<Time>)| at.is_none();
        let (node, input) = if let Some((key, _)) = self.timers.iter().find(due) {
            (key.0, Input::Timer(key.1))
        } else if let Some(next) = self.under_way.pop_front() {
            next
        } else if let Some((key, _)) = self.timers.iter().find(boundary) {
            (key.0, Input::Timer(key.1))
        } else {
            return false;
        };
        if let Input::Timer(timer) = input {
            self.timers.remove(&(node, timer));
        }
        self.now = self.now + STEP;
        if node == 0 {
            self.heard.push((self.now, input.clone()));
        }
        let mut effects = Vec::new();
        self.nodes[node].handle(input, &mut Context::new(self.now, &mut self.rng, &mut effects));
        for effect in effects {
            self.perform(node, effect);
        }
        true
    }

    /// Steps until there is nothing to do.
    pub(crate) fn settle(&mut self) {
        while self.step() {}
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
        self.settle();
    }

    fn perform(&mut self, node: usize, effect: EffectOf<Node>) {
        match effect {
            Effect::Send { to, message } => {
                let from = self.nodes[node].id();
                for peer in to.peers() {
                    let message = message.clone();
                    let at = self.nodes.iter().position(|node| node.id() == *peer);
                    let at = at.expect("only nodes of the group are known");
                    self.under_way.push_back((at, Input::Message { from, message }));
                }
            }
            Effect::SetTimer { timer, after } => {
                let at = (!after.is_zero()).then(|| self.now + after);
                self.timers.insert((node, timer), at);
            }
            Effect::CancelTimer(timer) => {
                self.timers.remove(&(node, timer));
            }
            Effect::Emit(event) => {
                let commands = (self.application)(node, &event);
                let inputs = commands.into_iter().map(|command| (node, Input::Command(command)));
                self.under_way.extend(inputs);
            }
            Effect::Save(_) | Effect::Append(_) | Effect::Trim(_) => {}
        }
    }
}

/// What the nodes of a group do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Lock,
    Order,
    Gossip,
}

/// The settings of a group of `n` nodes, with those of a program.
pub(crate) fn configs(n: usize, part: Part) -> Vec<node::Config> {
    let name = |i: usize| Name::new(&format!("p{}", i + 1)).expect("a short word");
    let list: Vec<Name> = (0..n).map(name).collect();
    let config = |(i, name): (usize, &Name)| {
        let life = Life(i as u128 + 1);
        let group = || node::GroupConfig {
            founding: founding::Config {
                name: name.clone(),
                life,
                list: list.clone(),
                next: None,
                trigger: founding::Trigger::Command,
                mode: Mode::Rest,
                lease: Duration::from_secs(5),
            },
            change: change::Config {
                name: name.clone(),
                life,
                next: None,
                grace: Duration::from_millis(100),
                patience: Duration::from_secs(3),
                repeat: Duration::from_millis(200),
            },
            lock: (part == Part::Lock).then(|| lock(name)),
            order: (part == Part::Order).then(|| order(name)),
        };
        node::Config {
            name: name.clone(),
            life,
            detector: detector::Config {
                heartbeat: Duration::from_secs(1),
                suspect_min: Duration::from_secs(3),
            },
            group: (part != Part::Gossip).then(group),
            gossip: (part == Part::Gossip).then(|| gossip(&list, i, life)),
        }
    };
    list.iter().enumerate().map(config).collect()
}

fn lock(name: &Name) -> tokenring::Config {
    tokenring::Config {
        me: name.id(),
        hold: Duration::from_millis(50),
        turn: 64,
        waiters_max: 100_000,
        locks_max: 1_000_000,
        repeat: Duration::from_millis(100),
        try_timeout: Duration::from_secs(1),
        idle: None,
    }
}

fn order(name: &Name) -> multicast::Config {
    multicast::Config {
        me: name.id(),
        message_bytes_max: 16 << 20,
        fragment_bytes: 64 << 10,
        unstable_bytes_max: 64 << 20,
        unread_bytes_max: 16 << 20,
        history_messages_max: 1_000,
        history_bytes_max: 16 << 20,
        heartbeat: Duration::from_millis(50),
        repeat: Duration::from_millis(200),
        durable: false,
    }
}

/// A chain, of which the first node is the middle.
fn gossip(list: &[Name], node: usize, life: Life) -> gossip::Config {
    let neighbors: &[usize] = if node == 0 { &[1, 2] } else { &[0] };
    gossip::Config {
        name: list[node].clone(),
        life,
        neighbors: Neighbors::Listed(neighbors.iter().map(|i| list[*i].id()).collect()),
        strategy: Strategy::Tree,
        rumor_bytes_max: 1 << 20,
        retention_age: Duration::from_mins(10),
        retention_bytes: 64 << 20,
        round: Duration::from_millis(50),
        anti_entropy: Duration::from_secs(2),
        origins_max: 100_000,
    }
}
