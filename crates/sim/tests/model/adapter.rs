//! The adapter: a small group of nodes as a model that a checker can walk through.
//!
//! The nodes are the very machines that run in the product and in the simulator, and what must hold
//! are the very invariants of the simulator, checked after every step. Only the driver is another:
//! where the simulator draws *one* future from its seed, the checker takes *every* one, step by
//! step, and goes on from each state that it has not seen.
//!
//! *A state* is the nodes, the timers that are set, what each application has still to ask for and
//! what it has, the messages on the network, and what the invariants have noted so far.
//!
//! *A step* is one input of one node: a message arrives, a timer fires, or the application asks for
//! the next thing in its script or releases a lock that it has.
//!
//! *The network is a set.* What was sent stays in it for ever and may arrive at any time, any
//! number of times, in any order, or never. So all losses, duplicates, delays and overtakings are
//! explored, without a bound. Sending the same again changes nothing, so repetition needs no bound
//! either.
//!
//! *Time stands still*, and all spans in the settings are zero, but for the lease, which never ends:
//! whatever waits for its time is due at once. A timer that is set may fire at any moment, or never;
//! one of zero, which ends a batch, is a timer like any other. Safety never depends on time, so what
//! holds here holds for all clocks.
//!
//! *Randomness* is a function of the state: of the node, and of how often it has drawn.
//!
//! *Where it ends.* Repetition alone makes no new states: tallies are no part of a state (`Tally`
//! in the core), and what else counts, counts messages, passes, requests and draws, of which a
//! script allows only so many. The exception is a circulating token, which would count its hops for
//! ever: the pass after a stated number of them is lost. What is too large all the same is explored
//! up to a stated number of steps. Where a setup leaves out a timer, that timer is late for ever.
//!
//! *Not explored:* links that go down and come up (all are up from the start; a link is a hint, and
//! a message that is lost looks the same), the detector (its timer never fires and what it says
//! never arrives: it decides nothing), gossip, groups of more than four, and liveness: goals show
//! that something *can* be reached, not that it always *will* be. A crash is a node that takes no more
//! steps, which is one of the futures; where a setup says so, a node may at any moment be ended and
//! started again with its disk (`restart.rs`).
//!
//! Parts of a state are compared by their 64-bit hashes, and states by one of these, as is usual:
//! among ten million states the odds that any two are mistaken for one are below one to 100,000.

use crate::{
    member::{Member, Told},
    shared::{Shared, digest},
};
use roundelay_core::{
    change, detector, founding,
    id::{Life, Name, NodeId},
    multicast,
    node::{Command, Config, GroupConfig, Message, Node, Timer},
    planted::Bug,
    protocol::{Effect, EffectOf, Input, InputOf},
    time::Time,
    tokenring::{self, LockName, Mode, Ticket},
    trace::TraceHasher,
};
use roundelay_sim::{
    Step, Subject,
    invariant::{Invariants, Violation, Who},
    sim::Reading,
};
use stateright::{Model, Property};
use std::{
    collections::{BTreeSet, HashMap},
    fmt::Debug,
    hash::{BuildHasherDefault, Hash, Hasher},
    sync::{Arc, Mutex},
    time::Duration,
};

/// That no invariant is broken anywhere.
pub(crate) const INVARIANTS: &str = "the invariants hold";

/// The time that it always is. (The very first moment of a clock is none that an echo can bring back.)
pub(crate) const NOW: Time = Time::from_nanos(1);

/// How many steps, and how many verdicts, are remembered at most: memory is bounded, too.
const REMEMBERED_MAX: usize = 1 << 18;

/// A node that can be part of a state.
pub(crate) trait Checkable:
    Subject + Clone + Debug + Eq + Hash + Send + Sync + 'static
{
}

impl<P: Subject + Clone + Debug + Eq + Hash + Send + Sync + 'static> Checkable for P {}

/// Something that must be reached somewhere, so that it is known that the model does anything.
pub(crate) type Goal<P> = (&'static str, fn(&SmallGroup<P>, &State<P>) -> bool);

/// What is explored.
#[derive(Clone, Debug)]
pub(crate) struct Setup<P> {
    /// The lock, and how its token moves.
    pub(crate) lock: Option<Mode>,
    /// The order, and the bytes of a piece of a message.
    pub(crate) order: Option<usize>,
    /// Whether the group is founded before the exploration begins.
    pub(crate) founded: bool,
    /// What the application of each node asks for, one after the other, whenever it likes.
    pub(crate) scripts: Vec<Vec<Command>>,
    /// Whom each node may be told not to reach any more, one after the other, whenever it is: then it
    /// suspects that one.
    pub(crate) suspects: Vec<Vec<usize>>,
    /// How often each node may be ended and started again with its disk, whenever it is.
    pub(crate) restarts: Vec<u8>,
    /// The timers that ever fire.
    pub(crate) fires: fn(&Timer) -> bool,
    /// The messages that ever arrive.
    pub(crate) carries: fn(&Message) -> bool,
    /// A rule that is left out, to see that the checker notices.
    pub(crate) planted: Option<Bug>,
    pub(crate) goals: Vec<Goal<P>>,
}

impl<P> Setup<P> {
    /// A group that exists and does nothing, with an application for each node.
    pub(crate) fn new(scripts: &[&[Command]]) -> Self {
        Self {
            lock: None,
            order: None,
            founded: true,
            scripts: scripts.iter().map(|script| script.to_vec()).collect(),
            suspects: vec![Vec::new(); scripts.len()],
            restarts: vec![0; scripts.len()],
            fires: |timer| !matches!(timer, Timer::Detector(_) | Timer::Change(_)),
            carries: |message| !matches!(message, Message::Detector(_)),
            planted: None,
            goals: Vec::new(),
        }
    }
}

/// A small group of nodes, to be explored.
pub(crate) struct SmallGroup<P> {
    pub(crate) setup: Setup<P>,
    pub(crate) names: Vec<Name>,
    pub(crate) ids: Vec<NodeId>,
    memory: Memory<P>,
}

/// Everything that tells one moment of the group from another.
#[derive(Clone, Debug)]
pub(crate) struct State<P> {
    pub(crate) members: Vec<Shared<Member<P>>>,
    /// Everything that was ever sent, ordered by its hash.
    pub(crate) network: Arc<[Shared<Packet>]>,
    invariants: Shared<Invariants>,
    pub(crate) violation: Option<Arc<Violation>>,
}

/// A message on the network; nodes are called by their position.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Packet {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) message: Message,
}

/// What can happen next.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) enum Action {
    /// A message arrives.
    Arrive(Shared<Packet>),
    /// A timer of this node fires.
    Fire(usize, Timer),
    /// The application of this node asks for the next thing in its script.
    Ask(usize, usize),
    /// This node is told not to reach the next of its list.
    Suspect(usize, usize),
    /// The application of this node releases a lock.
    Unlock(usize, LockName, Ticket),
    /// This node is ended, and started again.
    Restart(usize),
    /// Before the exploration, or within a restart.
    Prepare(usize, InputOf<Node>),
}

/// What a step of one node leads to, whatever the others do meanwhile.
pub(crate) struct Outcome<P> {
    member: Shared<Member<P>>,
    input: InputOf<Node>,
    pub(crate) effects: Vec<EffectOf<Node>>,
    packets: Vec<Shared<Packet>>,
}

/// Steps that were taken before. A node does the same in the same state (that is the contract), so
/// most steps of a group, in which all the others may be in any state, need not be computed again.
struct Memory<P> {
    /// By the hashes of the node's state and of the action.
    outcomes: Table<[u64; 2], Arc<Outcome<P>>>,
    /// By the hashes of the invariants and of the two above.
    verdicts: Table<[u64; 3], Verdict>,
}

type Table<K, V> = Mutex<HashMap<K, V, BuildHasherDefault<TraceHasher>>>;

/// What the invariants are after a step, or how one is broken.
type Verdict = Result<Shared<Invariants>, Arc<Violation>>;

impl<P: Checkable> SmallGroup<P> {
    pub(crate) fn new(setup: Setup<P>) -> Self {
        let name = |n| Name::new(&format!("p{}", n + 1)).expect("a name");
        let names: Vec<Name> = (0..setup.scripts.len()).map(name).collect();
        let ids = names.iter().map(Name::id).collect();
        let memory = Memory { outcomes: Mutex::default(), verdicts: Mutex::default() };
        Self { setup, names, ids, memory }
    }

    /// What the node whose step it is does.
    pub(crate) fn outcome(&self, state: &State<P>, action: &Action) -> Arc<Outcome<P>> {
        let member = &state.members[action.node()];
        let key = [member.digest(), digest(action)];
        recall(&self.memory.outcomes, key, || Arc::new(self.compute(member, action)))
    }

    fn compute(&self, before: &Shared<Member<P>>, action: &Action) -> Outcome<P> {
        let node = action.node();
        let mut member = Member::clone(before);
        let input = match action {
            Action::Arrive(packet) => {
                Input::Message { from: self.ids[packet.from], message: packet.message.clone() }
            }
            Action::Fire(_, timer) => Input::Timer(*timer),
            Action::Ask(_, at) => {
                member.asked = at + 1;
                Input::Command(self.setup.scripts[node][*at].clone())
            }
            Action::Suspect(_, at) => {
                member.suspected = at + 1;
                Input::LinkDown(self.ids[self.setup.suspects[node][*at]])
            }
            Action::Unlock(_, lock, ticket) => {
                let unlock = tokenring::Command::Unlock { lock: lock.clone(), ticket: *ticket };
                Input::Command(Command::Lock(unlock))
            }
            Action::Prepare(_, input) => input.clone(),
            Action::Restart(_) => unreachable!("it is several steps"),
        };
        let effects = member.take(input.clone(), &self.setup);
        let packets = self.packets(node, &effects);
        Outcome { member: before.with(member), input, effects, packets }
    }

    fn packets(&self, from: usize, effects: &[EffectOf<Node>]) -> Vec<Shared<Packet>> {
        let mut packets = Vec::new();
        for effect in effects {
            let Effect::Send { to, message } = effect else { continue };
            if !(self.setup.carries)(message) {
                continue;
            }
            for peer in to.peers() {
                let to = self.ids.iter().position(|id| id == peer).expect("all are in the group");
                packets.push(Shared::new(Packet { from, to, message: message.clone() }));
            }
        }
        packets
    }

    /// What the invariants make of a step.
    fn verdict(&self, state: &State<P>, action: &Action, outcome: &Outcome<P>) -> Verdict {
        let node = action.node();
        let key = [state.invariants.digest(), state.members[node].digest(), digest(action)];
        recall(&self.memory.verdicts, key, || {
            let mut invariants = Invariants::clone(&state.invariants);
            let step = Step {
                time: NOW,
                node: self.ids[node],
                clock: Reading { shows: NOW, slow_ppm: 0 },
                input: outcome.input.clone(),
                effects: &outcome.effects,
                machine: &outcome.member.machine,
                ended: None,
            };
            invariants
                .check(Who { node: self.ids[node], life: outcome.member.life }, &step)
                .map_err(Arc::new)?;
            Ok(state.invariants.with(invariants))
        })
    }

    /// The state after a step; none if it changes nothing.
    pub(crate) fn after(&self, state: &State<P>, action: &Action) -> Option<State<P>> {
        if let Action::Restart(node) = action {
            return Some(self.restarted(state.clone(), *node));
        }
        let outcome = self.outcome(state, action);
        let (invariants, violation) = match self.verdict(state, action, &outcome) {
            Ok(invariants) => (invariants, None),
            Err(violation) => (state.invariants.clone(), Some(violation)),
        };
        let unknown = |packet: &&Shared<Packet>| {
            state.network.binary_search_by_key(&packet.digest(), Shared::digest).is_err()
        };
        let mut packets: Vec<_> = outcome.packets.iter().filter(unknown).cloned().collect();
        let node = action.node();
        if packets.is_empty()
            && violation.is_none()
            && invariants.digest() == state.invariants.digest()
            && outcome.member.digest() == state.members[node].digest()
        {
            return None;
        }
        let mut next = State { invariants, violation, ..state.clone() };
        next.members[node] = outcome.member.clone();
        if !packets.is_empty() {
            packets.extend(state.network.iter().cloned());
            packets.sort_unstable_by_key(Shared::digest);
            packets.dedup_by_key(|packet| packet.digest());
            next.network = packets.into();
        }
        Some(next)
    }

    /// All nodes have started, and all links are up.
    fn start(&self) -> State<P> {
        let nodes = 0..self.names.len();
        let config = |node| Shared::new(Member::new(self.config(node, life(node))));
        let ring = nodes.clone().map(|node| node as u16).collect();
        let state = State {
            members: nodes.clone().map(config).collect(),
            network: Arc::new([]),
            invariants: Shared::new(Invariants::new(Some(ring), 1)),
            violation: None,
        };
        let starts = nodes.clone().map(|node| Action::Prepare(node, Input::Start(None)));
        let pairs = nodes.clone().flat_map(|node| nodes.clone().map(move |peer| (node, peer)));
        let links = pairs
            .filter(|(node, peer)| node != peer)
            .map(|(node, peer)| Action::Prepare(node, Input::LinkUp(self.ids[peer])));
        let state = starts.chain(links).fold(state, |state, action| self.then(state, &action));
        if self.setup.founded { self.found(state) } else { state }
    }

    /// The state after a step, also if it changes nothing.
    pub(crate) fn then(&self, state: State<P>, action: &Action) -> State<P> {
        if state.violation.is_some() {
            return state;
        }
        self.after(&state, action).unwrap_or(state)
    }

    /// Lets the first node found the group: everything that the founding says arrives, and its
    /// timers fire until it has nothing more to say.
    fn found(&self, mut state: State<P>) -> State<P> {
        state = self.then(state, &Action::Prepare(0, Input::Command(Command::Start)));
        state = self.settle(state);
        assert!(state.members.iter().all(|member| member.told.installed), "it is founded");
        assert_eq!(state.violation, None);
        state
    }

    /// Lets everything arrive that the founding says, and all that is routine, until there is no more
    /// of it, also after the next heartbeat.
    pub(crate) fn settle(&self, state: State<P>) -> State<P> {
        let nodes = 0..self.names.len();
        let tick = Timer::Detector(detector::Timer::Tick);
        let ticks = nodes.map(|node| Action::Prepare(node, Input::Timer(tick)));
        let state = ticks.fold(self.hear(state), |state, action| self.then(state, &action));
        // Whoever had to be heard of by now has been.
        let grace = Timer::Change(change::Timer::Grace);
        let waits = |node: &usize| state.members[*node].timers.contains(&grace);
        let waiting: Vec<usize> = (0..self.names.len()).filter(waits).collect();
        let ends = waiting.into_iter().map(|node| Action::Fire(node, grace));
        ends.fold(self.hear(state), |state, action| self.then(state, &action))
    }

    fn hear(&self, mut state: State<P>) -> State<P> {
        let mut arrived = BTreeSet::new();
        loop {
            let is_next = |packet: &&Shared<Packet>| {
                (matches!(packet.message, Message::Founding(_)) || is_routine(&packet.message))
                    && !arrived.contains(&packet.digest())
            };
            let timer = Timer::Founding(founding::Timer::Repeat);
            let action = if let Some(packet) = state.network.iter().find(is_next) {
                arrived.insert(packet.digest());
                Action::Arrive(packet.clone())
            } else if let Some(node) =
                state.members.iter().position(|member| member.timers.contains(&timer))
            {
                Action::Fire(node, timer)
            } else {
                break;
            };
            state = self.then(state, &action);
        }
        let done =
            |message: &Message| matches!(message, Message::Founding(_)) || is_routine(message);
        let rest = state.network.iter().filter(|packet| !done(&packet.message));
        state.network = rest.cloned().collect();
        state
    }

    pub(crate) fn config(&self, node: usize, life: Life) -> Config {
        let (me, name) = (self.ids[node], self.names[node].clone());
        let founding = founding::Config {
            name: name.clone(),
            life,
            list: self.names.clone(),
            next: None,
            trigger: founding::Trigger::Command,
            mode: self.setup.lock.unwrap_or_default(),
            lease: Duration::from_secs(1),
        };
        let lock = self.setup.lock.map(|_| tokenring::Config {
            me,
            hold: Duration::ZERO,
            turn: 1,
            waiters_max: 8,
            locks_max: 4,
            repeat: Duration::ZERO,
            try_timeout: Duration::ZERO,
            idle: None,
        });
        let order = self.setup.order.map(|fragment_bytes| multicast::Config {
            me,
            message_bytes_max: 8,
            fragment_bytes,
            unstable_bytes_max: 64,
            unread_bytes_max: 1024,
            history_messages_max: 0,
            history_bytes_max: 0,
            heartbeat: Duration::ZERO,
            repeat: Duration::ZERO,
            durable: false,
        });
        let change = change::Config {
            name: name.clone(),
            life,
            next: None,
            grace: Duration::ZERO,
            patience: Duration::ZERO,
            repeat: Duration::ZERO,
        };
        let group = Some(GroupConfig { founding, change, lock, order });
        // Every message is a sign of life: with no heartbeat to expect, none changes what is known of
        // the gaps between them.
        let (heartbeat, suspect_min) = (Duration::ZERO, Duration::from_secs(1));
        let detector = detector::Config { heartbeat, suspect_min };
        Config { name, life, detector, group, gossip: None }
    }
}

/// What the table has for this key, which is made and kept if it has nothing.
fn recall<K: Eq + Hash, V: Clone>(table: &Table<K, V>, key: K, make: impl FnOnce() -> V) -> V {
    if let Some(known) = table.lock().expect("nobody panics with it").get(&key) {
        return known.clone();
    }
    let value = make();
    let mut table = table.lock().expect("nobody panics with it");
    if table.len() == REMEMBERED_MAX {
        table.clear();
    }
    table.insert(key, value.clone());
    value
}

/// What says nothing new where time stands still: who hears whom, and that leases go on. It arrives
/// when a view begins.
fn is_routine(message: &Message) -> bool {
    match message {
        Message::Lock(message) => matches!(message.body, tokenring::Body::Stamp { .. }),
        Message::Change(message) => matches!(message.body, change::Body::Beat { .. }),
        _ => false,
    }
}

fn life(node: usize) -> Life {
    Life(node as u128 + 1)
}

impl<P> State<P> {
    /// What the applications were told.
    pub(crate) fn told(&self) -> impl Iterator<Item = &Told> {
        self.members.iter().map(|member| &member.told)
    }
}

impl<P: PartialEq> PartialEq for State<P> {
    fn eq(&self, other: &Self) -> bool {
        self.members == other.members
            && self.network == other.network
            && self.invariants == other.invariants
            && self.violation == other.violation
    }
}

impl<P> Hash for State<P> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.members.hash(state);
        self.network.hash(state);
        self.invariants.hash(state);
        self.violation.is_some().hash(state);
    }
}

impl Action {
    /// Whose input it is.
    pub(crate) fn node(&self) -> usize {
        match self {
            Self::Arrive(packet) => packet.to,
            Self::Fire(node, _)
            | Self::Ask(node, _)
            | Self::Suspect(node, _)
            | Self::Unlock(node, ..)
            | Self::Restart(node)
            | Self::Prepare(node, _) => *node,
        }
    }
}

impl<P: Checkable> Model for SmallGroup<P> {
    type State = State<P>;
    type Action = Action;

    fn init_states(&self) -> Vec<State<P>> {
        vec![self.start()]
    }

    fn actions(&self, state: &State<P>, actions: &mut Vec<Action>) {
        if state.violation.is_some() {
            return;
        }
        actions.extend(state.network.iter().cloned().map(Action::Arrive));
        for (node, member) in state.members.iter().enumerate() {
            actions.extend(member.timers.iter().map(|timer| Action::Fire(node, *timer)));
            if member.asked < self.setup.scripts[node].len() {
                actions.push(Action::Ask(node, member.asked));
            }
            if member.restarts < self.setup.restarts[node] {
                actions.push(Action::Restart(node));
            }
            if member.suspected < self.setup.suspects[node].len() {
                actions.push(Action::Suspect(node, member.suspected));
            }
            let unlock =
                |(lock, ticket): &(LockName, _)| Action::Unlock(node, lock.clone(), *ticket);
            actions.extend(member.held.iter().map(unlock));
        }
    }

    fn next_state(&self, state: &State<P>, action: Action) -> Option<State<P>> {
        let mut next = self.after(state, &action)?;
        if next.network.iter().any(|packet| is_routine(&packet.message)) {
            let rest = next.network.iter().filter(|packet| !is_routine(&packet.message));
            next.network = rest.cloned().collect();
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties =
            vec![Property::always(INVARIANTS, |_, state: &State<P>| state.violation.is_none())];
        let goals = self.setup.goals.iter();
        properties.extend(goals.map(|(name, reached)| Property::sometimes(name, *reached)));
        properties
    }
}
