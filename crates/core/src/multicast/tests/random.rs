//! Random runs in virtual time over a network that loses, repeats and reorders: after every step
//! what must never happen is looked for, and at the end what must have happened.

use super::*;
use crate::{
    multicast::{group::Group, stream::Stream},
    planted::Bug,
};
use alloc::{collections::BTreeMap, string::String};
use rand_core::Rng as _;

const SEEDS: u64 = 400;
const STEPS: usize = 4000;
const QUIET: usize = 1000;

/// How unfriendly a run is, in per cent.
#[derive(Clone, Copy, Debug)]
struct Faults {
    lost: u64,
    repeated: u64,
    cut: u64,
}

/// Who leaves in a run. If more than a minority does, the order rightly stops, and some messages
/// never get a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    Nobody,
    Minority,
    Everybody,
}

/// A time, and a number that no other moment has.
type Moment = (Time, u64);

enum Happening {
    Arrival { from: usize, to: usize, message: Message },
    Alarm { at: usize, timer: Timer },
}

struct Node {
    machine: Multicast,
    timers: BTreeMap<Timer, Moment>,
    /// What it has delivered, as a length of the common order.
    delivered: usize,
    sent: Vec<(Ticket, u64)>,
    unread: usize,
    leaving: bool,
    left: bool,
}

struct World {
    rng: Rng,
    bug: Option<Bug>,
    now: Time,
    faults: Faults,
    nodes: Vec<Node>,
    agenda: BTreeMap<Moment, Happening>,
    /// Links that lose everything, from and to.
    cut: Vec<(usize, usize)>,
    /// The order: every node's deliveries are a prefix of it.
    order: Vec<Delivery>,
    /// Per sender: how many of its messages are in the order.
    ordered: Vec<usize>,
    tickets: u64,
    accepted: Vec<Vec<(Ticket, Bytes)>>,
    /// Counts the moments.
    moments: u64,
}

impl World {
    fn new(seed: u64, bug: Option<Bug>) -> Self {
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
            bug,
            now: Time::ZERO,
            faults,
            nodes: Vec::new(),
            agenda: BTreeMap::new(),
            cut: Vec::new(),
            order: Vec::new(),
            ordered: vec![0; n],
            tickets: 0,
            accepted: vec![Vec::new(); n],
            moments: 0,
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
        }
        world
    }

    fn group(&self, position: usize) -> &Group {
        self.nodes[position].machine.group.as_ref().expect("it is installed")
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
        let cx = Context::new(self.now, &mut self.rng, &mut effects);
        self.nodes[at].machine.handle(input, &mut cx.planting(self.bug));
        for effect in effects {
            match effect {
                Effect::Send { to, message } => {
                    for peer in to.peers() {
                        let to = self.position(*peer);
                        self.fly(at, to, message.clone());
                    }
                }
                Effect::SetTimer { timer, after } => {
                    // The batch boundary comes at any moment soon.
                    let most = if after == Duration::ZERO { 3 } else { 0 };
                    let moment = self.moment(after, most);
                    self.cancel(at, timer);
                    self.nodes[at].timers.insert(timer, moment);
                    self.agenda.insert(moment, Happening::Alarm { at, timer });
                }
                Effect::CancelTimer(timer) => self.cancel(at, timer),
                Effect::Emit(event) => self.on_event(at, event)?,
                Effect::Save(_) | Effect::Append(_) => return Err("nothing is saved".into()),
            }
        }
        self.check_bounds(at)
    }

    fn fly(&mut self, from: usize, to: usize, message: Message) {
        let lost = self.chance(self.faults.lost);
        if lost || self.cut.contains(&(from, to)) {
            return;
        }
        let copies = if self.chance(self.faults.repeated) { 2 } else { 1 };
        for _ in 0..copies {
            let most = if self.chance(5) { 300 } else { 20 };
            let moment = self.moment(Duration::from_millis(1), most);
            let message = message.clone();
            self.agenda.insert(moment, Happening::Arrival { from, to, message });
        }
    }

    /// A moment after `span` and up to so many milliseconds more.
    fn moment(&mut self, span: Duration, most: usize) -> Moment {
        let more = self.below(most * 1000 + 1) as u64;
        self.moments += 1;
        (self.now + span + Duration::from_micros(more), self.moments)
    }

    fn cancel(&mut self, at: usize, timer: Timer) {
        if let Some(moment) = self.nodes[at].timers.remove(&timer) {
            self.agenda.remove(&moment);
        }
    }

    fn on_event(&mut self, at: usize, event: Event) -> Result<(), String> {
        match event {
            Event::Delivered(delivery) => self.on_delivered(at, delivery)?,
            Event::Sent { ticket, position } => self.nodes[at].sent.push((ticket, position)),
            Event::LeaveDone => self.nodes[at].left = true,
            Event::MemberLeft(_) => {}
            // The order has stopped, and the message never left.
            Event::Refused { reason: Refusal::Leaving, .. }
                if self.nodes.iter().filter(|n| n.leaving).count() > (self.nodes.len() - 1) / 2 => {
            }
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
        let before = self.ordered[sender];
        self.ordered[sender] += 1;
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
        let (config, group) = (&self.nodes[at].machine.config, self.group(at));
        let share = (config.unstable_bytes_max / self.nodes.len()).max(config.message_bytes_max);
        let queued = |stream: &Stream| stream.ready_bytes() > 2 * share + config.message_bytes_max;
        let unread_max = config.unread_bytes_max + config.message_bytes_max + DELIVERY_OVERHEAD;
        if group.window.bytes() > share
            || group.unread > unread_max
            || group.streams.iter().any(queued)
            || group.ignored.count() > 0
        {
            return Err(format!("bounds: {at}: {:?}", self.nodes[at].machine.status()));
        }
        Ok(())
    }

    fn step(&mut self, busy: bool) -> Result<(), String> {
        let at = self.below(self.nodes.len());
        match self.below(20) {
            0..=1 if busy && self.accepts_sends(at) => self.send(at),
            2 => self.read(at),
            3 if self.faults.cut > 0 && self.chance(10) => {
                let to = self.below(self.nodes.len());
                self.cut.push((at, to));
                Ok(())
            }
            4 if self.chance(20) && !self.cut.is_empty() => {
                let link = self.below(self.cut.len());
                let (from, to) = self.cut.swap_remove(link);
                self.handle(from, Input::LinkUp(id(to)))
            }
            _ => self.go_on().map(|_| ()),
        }
    }

    fn accepts_sends(&self, at: usize) -> bool {
        self.nodes[at].machine.accepts_sends() && !self.nodes[at].leaving
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

    /// Lets happen what comes next. False if nothing does.
    fn go_on(&mut self) -> Result<bool, String> {
        let Some(((time, _), happening)) = self.agenda.pop_first() else { return Ok(false) };
        self.now = self.now.max(time);
        match happening {
            Happening::Arrival { from, to, message } => {
                self.handle(to, Input::Message { from: id(from), message })?;
            }
            Happening::Alarm { at, timer } => {
                self.nodes[at].timers.remove(&timer);
                self.handle(at, Input::Timer(timer))?;
            }
        }
        Ok(true)
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
            if !self.go_on()? {
                return Ok(());
            }
        }
        Err("quiescence: there is always something to do".into())
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

fn run(seed: u64, bug: Option<Bug>, leave: Leave) -> Result<World, String> {
    let mut world = World::new(seed, bug);
    let leavers = match leave {
        Leave::Nobody => 0,
        Leave::Minority => (world.nodes.len() - 1) / 2,
        Leave::Everybody => world.nodes.len(),
    };
    for step in 0..STEPS {
        // Busy and quiet by turns: a loss in the quiet is repaired by no later message.
        world.step((step / QUIET).is_multiple_of(2))?;
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
    if leave != Leave::Everybody {
        world.check_end()?;
    }
    Ok(world)
}

#[test]
fn one_order_whatever_the_network_does() {
    let mut deliveries = 0;
    for seed in 0..SEEDS {
        let leave = [Leave::Nobody, Leave::Minority, Leave::Everybody][(seed % 3) as usize];
        match run(seed, None, leave) {
            Ok(world) => deliveries += world.order.len(),
            Err(failure) => panic!("seed {seed}: {failure}"),
        }
    }
    assert!(deliveries > 10_000, "the runs do something: {deliveries}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..5 {
        let [a, b] = [(); 2].map(|()| run(seed, None, Leave::Minority).unwrap());
        assert_eq!((a.now, a.moments, a.order), (b.now, b.moments, b.order));
    }
}

fn finds(bug: Bug, property: &str) {
    let mut failures = (0..SEEDS).filter_map(|seed| run(seed, Some(bug), Leave::Nobody).err());
    assert!(failures.any(|failure| failure.starts_with(property)), "{bug:?} is not found");
}

#[test]
fn a_delivery_without_a_majority_is_found() {
    finds(Bug::NoMajority, "uniform agreement");
}

#[test]
fn a_clock_that_counts_before_its_sequence_is_found() {
    finds(Bug::ClockBeforeSequence, "total order");
}
