//! The applications: what they ask of their nodes, and how they react.

use crate::{dice::Dice, scenario::Parts};
use bytes::Bytes;
use core::time::Duration;
use roundelay_core::{
    detector, gossip, multicast,
    node::{Command, Event},
    tokenring::{self, LockName, Mode, Wait},
};

/// What an application does at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Found the group from here.
    Start,
    /// Get a lock, and keep it for this long.
    Lock(LockName, Wait, Duration),
    /// Get a lock, and give up after this long if it was not granted (or release it then).
    LockUntil(LockName, Duration),
    /// Multicast a message of this many bytes.
    Send(usize),
    /// Say a rumor of this many bytes.
    Publish(usize),
    /// Leave the group.
    Leave,
    /// Nothing: a task that was taken out. The others keep their numbers.
    Nothing,
}

/// What the application of one node does.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// From the start of the process on.
    pub from_start: Vec<(Duration, Task)>,
    /// From the moment on at which the node is in its group.
    pub from_install: Vec<(Duration, Task)>,
    /// How long after a delivery the application has read it.
    pub read: Duration,
    /// How long after it is told, as a member, that a peer is down this node leaves, if it does.
    pub leaves_when_cut: Option<Duration>,
}

/// When most of the work of a run is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hours {
    /// The first moment of it, from the installation on.
    pub(crate) begin: Duration,
    /// How long it lasts.
    pub(crate) span: Duration,
}

impl Hours {
    /// All the time, or, seldom, all at once: then requests, passes and leaves meet.
    pub(crate) fn draw(dice: &mut Dice, storm: Duration, at_once: bool) -> Self {
        let ms = Duration::from_millis;
        if at_once || dice.chance(200) {
            Self { begin: dice.span(Duration::ZERO, storm / 2), span: dice.span(ms(1), ms(500)) }
        } else {
            Self { begin: Duration::ZERO, span: storm }
        }
    }

    /// Some moment of them.
    pub(crate) fn draw_time(self, dice: &mut Dice) -> Duration {
        self.begin + dice.span(Duration::ZERO, self.span)
    }
}

impl Plan {
    /// The tasks, in the order of their numbers.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.from_start.iter().chain(&self.from_install).map(|(_, task)| task)
    }

    /// The same, to be changed.
    pub(crate) fn tasks_mut(&mut self) -> impl Iterator<Item = &mut Task> {
        self.from_start.iter_mut().chain(&mut self.from_install).map(|(_, task)| task)
    }
}

/// The locks of a group: few that all want, or many whose tokens have been nearly nowhere.
pub(crate) fn draw_lock_names(dice: &mut Dice, mode: Mode) -> Vec<LockName> {
    let mut names = vec![LockName::default_lock()];
    if mode == Mode::Rest {
        let others = dice.pick(&[0, 1, 2, 12]);
        let name = |n| LockName::new(&format!("l{n}")).expect("a short name");
        names.extend((0..others).map(name));
    }
    names
}

impl Plan {
    /// What a node does that comes back as a new life: it says something, founds the group if it was
    /// to do so before, and, when it is in the group again, wants locks and sends.
    pub(crate) fn of_later_life(dice: &mut Dice, parts: Parts, starts: bool) -> Self {
        let ms = Duration::from_millis;
        let say = |n| (ms(n * 100), Task::Publish(30));
        let mut plan =
            Self { from_start: (0..dice.below(4)).map(say).collect(), ..Self::default() };
        if starts {
            plan.from_start.push((dice.span(ms(1), ms(500)), Task::Start));
        }
        if parts.lock {
            let hours = Hours { begin: Duration::ZERO, span: ms(3000) };
            let names = draw_lock_names(dice, Mode::Rest);
            plan.draw_locks(dice, &names, hours);
        }
        if parts.order {
            plan.draw_sends(dice, ms(3000));
        }
        plan
    }

    /// A random plan for a node that has these parts.
    pub(crate) fn draw(
        dice: &mut Dice,
        parts: Parts,
        locks: &[LockName],
        hours: Hours,
        storm: Duration,
    ) -> Self {
        let ms = Duration::from_millis;
        let mut plan =
            Self { read: dice.pick(&[Duration::ZERO, ms(1), ms(100)]), ..Self::default() };
        if parts.lock {
            plan.draw_locks(dice, locks, hours);
        }
        if parts.order {
            plan.draw_sends(dice, storm);
        }
        if parts.gossip {
            for _ in 0..dice.pick(&[0, 1, 5, 20]) {
                let at = dice.span(Duration::ZERO, storm);
                let bytes = dice.pick(&[0, 20, 300, 20_000]);
                plan.from_start.push((at, Task::Publish(bytes)));
            }
        }
        // Asked before there is a group: refused, not kept.
        if dice.chance(100) {
            let mut early = plan.from_install.clone();
            early.truncate(2);
            plan.from_start.extend(early);
        }
        plan
    }

    fn draw_locks(&mut self, dice: &mut Dice, names: &[LockName], hours: Hours) {
        let ms = Duration::from_millis;
        let keep_max = dice.pick(&[ms(0), ms(5), ms(200)]);
        for _ in 0..dice.pick(&[0, 1, 4, 10]) * busy(dice) {
            let at = hours.draw_time(dice);
            let name = names[dice.index(names.len())].clone();
            // Seldom longer than any lease.
            let keep_max = if dice.chance(60) { ms(6000) } else { keep_max };
            let keep = dice.span(Duration::ZERO, keep_max);
            let task = match dice.below(10) {
                0..6 => Task::Lock(name, Wait::Queue, keep),
                6..8 => Task::Lock(name, Wait::Try, keep),
                _ => Task::LockUntil(name, dice.span(Duration::ZERO, ms(300))),
            };
            self.from_install.push((at, task));
        }
    }

    fn draw_sends(&mut self, dice: &mut Dice, storm: Duration) {
        let burst = dice.chance(300);
        let start = dice.span(Duration::ZERO, storm);
        for _ in 0..dice.pick(&[0, 1, 5, 15]) * busy(dice) {
            let at = if burst { start } else { dice.span(Duration::ZERO, storm) };
            let bytes = dice.pick(&[0, 10, 10, 100, 300, 5_000]);
            self.from_install.push((at, Task::Send(bytes)));
        }
    }
}

/// Seldom there is ten times as much to do.
fn busy(dice: &mut Dice) -> u32 {
    if dice.chance(30) { 10 } else { 1 }
}

/// The application of one node at work.
#[derive(Clone, Debug)]
pub struct Application {
    name: String,
    plan: Plan,
    tickets: u64,
    /// Whether the node is in its group.
    member: bool,
    /// How long the locks are kept that have been asked for and not granted yet.
    keeps: Vec<(u64, Duration)>,
}

/// Commands, each with how long from now.
pub type Agenda = Vec<(Duration, Command)>;

impl Application {
    /// The application of the node called `name`.
    pub fn new(name: &str, plan: Plan) -> Self {
        Self { name: name.into(), plan, tickets: 0, member: false, keeps: Vec::new() }
    }

    /// What it will do from the start of a life on.
    pub fn on_start(&mut self) -> Agenda {
        let tasks = core::mem::take(&mut self.plan.from_start);
        self.agenda(tasks)
    }

    /// What it does because of this event.
    pub fn on_event(&mut self, event: &Event) -> Agenda {
        match event {
            Event::View { .. } => {
                self.member = true;
                let tasks = core::mem::take(&mut self.plan.from_install);
                self.agenda(tasks)
            }
            Event::Lock(tokenring::Event::Granted { lock, ticket, .. }) => {
                let Some(at) = self.keeps.iter().position(|(asked, _)| asked == ticket) else {
                    return Agenda::new();
                };
                let (ticket, keep) = self.keeps.swap_remove(at);
                vec![(keep, unlock(lock.clone(), ticket))]
            }
            Event::Peer { state: detector::State::Down, .. } if self.member => {
                let leaves = self.plan.leaves_when_cut.take();
                leaves.map(|after| (after, Command::Leave)).into_iter().collect()
            }
            Event::Order(multicast::Event::Delivered(delivery)) => {
                let bytes = delivery.payload.len() + multicast::DELIVERY_OVERHEAD;
                vec![(self.plan.read, Command::Order(multicast::Command::Read { bytes }))]
            }
            _ => Agenda::new(),
        }
    }

    fn agenda(&mut self, tasks: Vec<(Duration, Task)>) -> Agenda {
        let mut agenda = Agenda::new();
        for (after, task) in tasks {
            self.tickets += 1;
            self.schedule(after, task, &mut agenda);
        }
        agenda
    }

    fn schedule(&mut self, after: Duration, task: Task, agenda: &mut Agenda) {
        let ticket = self.tickets;
        let command = match task {
            Task::Start => Command::Start,
            Task::Leave => Command::Leave,
            Task::Nothing => return,
            Task::Lock(lock, wait, keep) => {
                self.keeps.push((ticket, keep));
                Command::Lock(tokenring::Command::Lock { lock, ticket, wait })
            }
            Task::LockUntil(lock, until) => {
                let wait = Wait::Queue;
                let ask = tokenring::Command::Lock { lock: lock.clone(), ticket, wait };
                agenda.push((after, Command::Lock(ask)));
                agenda.push((after + until, unlock(lock, ticket)));
                return;
            }
            Task::Send(bytes) => {
                let payload = self.text(bytes);
                Command::Order(multicast::Command::Send { ticket, payload })
            }
            Task::Publish(bytes) => {
                let payload = self.text(bytes);
                Command::Gossip(gossip::Command::Publish { ticket, payload })
            }
        };
        agenda.push((after, command));
    }

    /// A text of about this length that nobody else says; the shortest ones may be equal.
    fn text(&self, bytes: usize) -> Bytes {
        let mut text = format!("{}-{} ", self.name, self.tickets).into_bytes();
        if bytes < text.len() {
            text.truncate(bytes);
        }
        let mut next = self.tickets as u8;
        text.resize_with(bytes, || {
            next = next.wrapping_mul(7).wrapping_add(11);
            next
        });
        text.into()
    }
}

fn unlock(lock: LockName, ticket: u64) -> Command {
    Command::Lock(tokenring::Command::Unlock { lock, ticket })
}
