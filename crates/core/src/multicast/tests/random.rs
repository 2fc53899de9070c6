//! Random runs in virtual time over a network that loses, repeats and reorders: after every step
//! what must never happen is looked for, and at the end what must have happened.

use super::*;
use crate::multicast::group::Group;
use alloc::{collections::BTreeMap, string::String};
use rand_core::Rng as _;

const SEEDS: u64 = 300;
const STEPS: usize = 3000;

/// How unfriendly a run is, in per cent.
#[derive(Clone, Copy, Debug)]
struct Faults {
    lost: u64,
    repeated: u64,
    cut: u64,
}

struct Node {
    machine: Multicast,
    timers: BTreeMap<Timer, Time>,
    /// What it has delivered, as a length of the common order.
    delivered: usize,
    sent: Vec<(Ticket, u64)>,
    unread: usize,
    leaving: bool,
    left: bool,
}

struct World {
    rng: Rng,
    now: Time,
    faults: Faults,
    nodes: Vec<Node>,
    flying: Vec<(usize, usize, Message)>,
    /// Links that lose everything, from and to.
    cut: Vec<(usize, usize)>,
    /// The order: every node's deliveries are a prefix of it.
    order: Vec<Delivery>,
    tickets: u64,
    accepted: Vec<Vec<(Ticket, Bytes)>>,
    frames: usize,
}

impl World {
    fn new(seed: u64, bug: Bug) -> Self {
        let mut rng = Rng::seed_from_u64(seed);
        let n = 3 + (rng.next_u64() % 3) as usize;
        let faults = Faults {
            lost: [0, 5, 30][(rng.next_u64() % 3) as usize],
            repeated: [0, 5, 20][(rng.next_u64() % 3) as usize],
            cut: rng.next_u64() % 2,
        };
        let small = rng.next_u64() % 2 == 0;
        let mut world = Self {
            rng,
            now: Time::ZERO,
            faults,
            nodes: Vec::new(),
            flying: Vec::new(),
            cut: Vec::new(),
            order: Vec::new(),
            tickets: 0,
            accepted: vec![Vec::new(); n],
            frames: 0,
        };
        for position in 0..n {
            let mut config = config(position);
            config.history_messages_max = usize::MAX;
            config.history_bytes_max = usize::MAX;
            if small {
                config.unstable_bytes_max = 200 * n;
                config.unread_bytes_max = 500;
            }
            world.nodes.push(Node {
                machine: Multicast::new(config),
                timers: BTreeMap::new(),
                delivered: 0,
                sent: Vec::new(),
                unread: 0,
                leaving: false,
                left: false,
            });
            world.handle(position, Input::Command(Command::Install { view: view(n) })).unwrap();
            world.group_mut(position).planted = bug;
        }
        world
    }

    fn group(&self, position: usize) -> &Group {
        self.nodes[position].machine.group.as_ref().expect("it is installed")
    }

    fn group_mut(&mut self, position: usize) -> &mut Group {
        self.nodes[position].machine.group.as_mut().expect("it is installed")
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.rng.next_u64() % bound as u64) as usize
    }

    fn chance(&mut self, per_cent: u64) -> bool {
        self.rng.next_u64() % 100 < per_cent
    }

    fn position(&self, id: NodeId) -> usize {
        (0..self.nodes.len()).find(|position| super::id(*position) == id).unwrap()
    }

    fn handle(&mut self, at: usize, input: InputOf<Multicast>) -> Result<(), String> {
        let mut effects = Vec::new();
        let mut cx = Context::new(self.now, &mut self.rng, &mut effects);
        self.nodes[at].machine.handle(input, &mut cx);
        for effect in effects {
            match effect {
                Effect::Send { to, message } => {
                    for peer in to.peers() {
                        let to = self.position(*peer);
                        self.fly(at, to, message.clone());
                    }
                }
                Effect::SetTimer { timer, after } => {
                    self.nodes[at].timers.insert(timer, self.now + after);
                }
                Effect::CancelTimer(timer) => {
                    self.nodes[at].timers.remove(&timer);
                }
                Effect::Emit(event) => self.on_event(at, event)?,
                Effect::Save(_) | Effect::Append(_) => return Err("nothing is saved".into()),
            }
        }
        self.check_bounds(at)
    }

    fn fly(&mut self, from: usize, to: usize, message: Message) {
        self.frames += 1;
        let lost = self.chance(self.faults.lost);
        if lost || self.cut.contains(&(from, to)) {
            return;
        }
        if self.chance(self.faults.repeated) {
            self.flying.push((from, to, message.clone()));
        }
        self.flying.push((from, to, message));
    }

    fn on_event(&mut self, at: usize, event: Event) -> Result<(), String> {
        match event {
            Event::Delivered(delivery) => self.on_delivered(at, delivery)?,
            Event::Sent { ticket, position } => self.nodes[at].sent.push((ticket, position)),
            Event::LeaveDone => self.nodes[at].left = true,
            Event::MemberLeft(_) => {}
            Event::Refused { ticket, reason } => {
                return Err(format!("{at}: {ticket} refused: {reason:?}"));
            }
        }
        Ok(())
    }

    /// Total order, integrity, FIFO, and that a majority has what is delivered.
    fn on_delivered(&mut self, at: usize, delivery: Delivery) -> Result<(), String> {
        let index = self.nodes[at].delivered;
        self.nodes[at].delivered += 1;
        self.nodes[at].unread += delivery.payload.len() + DELIVERY_OVERHEAD;
        let sender = self.position(delivery.sender);
        let has = |p: &usize| self.group(*p).streams[sender].received() >= delivery.sequence;
        let holders = (0..self.nodes.len()).filter(has).count();
        if holders < self.nodes.len() / 2 + 1 {
            return Err(format!("uniform agreement: only {holders} have {delivery:?}"));
        }
        if let Some(known) = self.order.get(index) {
            return if *known == delivery {
                Ok(())
            } else {
                Err(format!("total order: {at} delivered {delivery:?}, not {known:?}"))
            };
        }
        let before = self.order.iter().filter(|d| d.sender == delivery.sender).count();
        if delivery.sequence != before as u64 + 1 || delivery.position != index as u64 + 1 {
            return Err(format!("FIFO: {delivery:?} is not message {} there", before + 1));
        }
        if self.accepted[sender][before].1 != delivery.payload {
            return Err(format!("integrity: never sent: {delivery:?}"));
        }
        self.order.push(delivery);
        Ok(())
    }

    fn check_bounds(&self, at: usize) -> Result<(), String> {
        let (config, status) = (&self.nodes[at].machine.config, self.nodes[at].machine.status());
        let share = (config.unstable_bytes_max / self.nodes.len()).max(config.message_bytes_max);
        let most = |stream: &crate::multicast::stream::Stream| {
            stream.ready_bytes() > 2 * share + config.message_bytes_max
        };
        if status.unstable_bytes > share
            || status.unread_bytes > config.unread_bytes_max + 1000 + DELIVERY_OVERHEAD
            || self.group(at).streams.iter().any(most)
        {
            return Err(format!("bounds: {status:?}"));
        }
        if status.ignored > 0 {
            return Err(format!("{at} ignored something: {status:?}"));
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        let at = self.below(self.nodes.len());
        match self.below(20) {
            0..=2 if self.nodes[at].machine.accepts_sends() && !self.nodes[at].leaving => {
                self.send(at)
            }
            3 => self.read(at),
            4 if self.faults.cut > 0 && self.chance(10) => {
                let to = self.below(self.nodes.len());
                self.cut.push((at, to));
                Ok(())
            }
            5 if self.chance(20) && !self.cut.is_empty() => {
                let link = self.below(self.cut.len());
                let (from, to) = self.cut.swap_remove(link);
                self.handle(from, Input::LinkUp(id(to)))
            }
            6..=15 if !self.flying.is_empty() => self.arrive(),
            _ => self.fire(),
        }
    }

    fn send(&mut self, at: usize) -> Result<(), String> {
        self.tickets += 1;
        let bytes = if self.chance(10) { self.below(1001) } else { self.below(20) };
        let payload = Bytes::from(format!("{:0bytes$}", self.tickets).into_bytes());
        self.accepted[at].push((self.tickets, payload.clone()));
        self.handle(at, Input::Command(Command::Send { ticket: self.tickets, payload }))
    }

    fn read(&mut self, at: usize) -> Result<(), String> {
        let bytes = core::mem::take(&mut self.nodes[at].unread);
        self.handle(at, Input::Command(Command::Read { bytes }))
    }

    fn arrive(&mut self) -> Result<(), String> {
        let index = self.below(self.flying.len());
        let (from, to, message) = self.flying.swap_remove(index);
        self.handle(to, Input::Message { from: id(from), message })
    }

    /// Lets the next timer fire: of those that are due now, any.
    fn fire(&mut self) -> Result<(), String> {
        let timers =
            self.nodes.iter().enumerate().flat_map(|(at, node)| {
                node.timers.iter().map(move |(timer, due)| (*due, at, *timer))
            });
        let all: Vec<_> = timers.collect();
        let Some(first) = all.iter().map(|(due, ..)| *due.max(&self.now)).min() else {
            return Ok(());
        };
        let due: Vec<_> = all.iter().filter(|(due, ..)| *due <= first).collect();
        let (_, at, timer) = *due[self.below(due.len())];
        self.now = first;
        self.nodes[at].timers.remove(&timer);
        self.handle(at, Input::Timer(timer))
    }

    /// The faults stop, the applications read: until nothing moves any more.
    fn heal(&mut self) -> Result<(), String> {
        self.faults = Faults { lost: 0, repeated: 0, cut: 0 };
        self.cut.clear();
        for _ in 0..100_000 {
            for at in 0..self.nodes.len() {
                if self.nodes[at].unread > 0 {
                    self.read(at)?;
                }
            }
            if !self.flying.is_empty() {
                self.arrive()?;
            } else if self.nodes.iter().any(|node| !node.timers.is_empty()) {
                self.fire()?;
            } else {
                return Ok(());
            }
        }
        Err(format!("quiescence: {:?}", self.flying))
    }

    /// Validity and agreement, among those that stay.
    fn check_end(&self) -> Result<(), String> {
        for (at, node) in self.nodes.iter().enumerate().filter(|(_, node)| !node.left) {
            let status = node.machine.status();
            if node.delivered != self.order.len() {
                return Err(format!("agreement: {at} has {}: {status:?}", node.delivered));
            }
            if status.unstable_bytes > 0 || !status.queue.is_empty() {
                return Err(format!("stability: {at}: {status:?}"));
            }
            let kept: Vec<_> = node.machine.history(1).cloned().collect();
            if kept != self.order {
                return Err(format!("history of {at}"));
            }
        }
        let sends: usize = self.accepted.iter().map(Vec::len).sum();
        if sends != self.order.len() {
            return Err(format!("validity: {sends} sent, {} delivered", self.order.len()));
        }
        for (at, node) in self.nodes.iter().enumerate() {
            let own = self.order.iter().filter(|delivery| delivery.sender == id(at));
            let tickets = self.accepted[at].iter().map(|(ticket, _)| *ticket);
            let expected: Vec<_> = tickets.zip(own.map(|delivery| delivery.position)).collect();
            if node.sent != expected {
                return Err(format!("{at} was told {:?}", node.sent));
            }
        }
        Ok(())
    }
}

fn run(seed: u64, bug: Bug, leave: bool) -> Result<World, String> {
    let mut world = World::new(seed, bug);
    // A majority stays, or the order would rightly stop.
    let leavers = if leave { (world.nodes.len() - 1) / 2 } else { 0 };
    for step in 0..STEPS {
        world.step()?;
        if step >= STEPS / 2 && step % 100 == 0 && step / 100 < STEPS / 200 + leavers {
            let at = step / 100 - STEPS / 200;
            world.nodes[at].leaving = true;
            world.handle(at, Input::Command(Command::Leave))?;
        }
    }
    world.heal()?;
    if world.nodes.iter().any(|node| node.leaving != node.left) {
        return Err("leaving never ends".into());
    }
    world.check_end()?;
    Ok(world)
}

#[test]
fn one_order_whatever_the_network_does() {
    let mut deliveries = 0;
    for seed in 0..SEEDS {
        match run(seed, Bug::None, seed % 3 == 0) {
            Ok(world) => deliveries += world.order.len(),
            Err(failure) => panic!("seed {seed}: {failure}"),
        }
    }
    assert!(deliveries > 10_000, "the runs do something: {deliveries}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..5 {
        let [a, b] = [(); 2].map(|()| run(seed, Bug::None, true).unwrap());
        assert_eq!((a.now, a.frames, a.order), (b.now, b.frames, b.order));
    }
}

fn finds(bug: Bug, property: &str) {
    let failures = (0..SEEDS).filter_map(|seed| run(seed, bug, false).err());
    let found = failures.filter(|failure| failure.starts_with(property)).count();
    assert!(found > 0, "{bug:?} is not found");
}

#[test]
fn a_delivery_without_a_majority_is_found() {
    finds(Bug::NoMajority, "uniform agreement");
}

#[test]
fn a_clock_that_counts_before_its_sequence_is_found() {
    finds(Bug::ClockBeforeSequence, "total order");
}
