//! Random walks through views: messages are lost, repeated and overtaken, members are left out,
//! die and come back, while an oracle in the place of the view change decides. What is checked is
//! what the order promises.

use super::*;
use alloc::collections::{BTreeMap, BTreeSet};
use core::mem::take;

/// How many nodes there are.
const NODES: usize = 5;

/// How many walks there are.
const WALKS: u64 = 100;

/// What is decided.
#[derive(Clone)]
struct Decided {
    view: View,
    cut: Cut,
    /// Who held the cut when it was decided.
    holders: Vec<Holder>,
}

/// How far the end of the current view is.
struct Change {
    /// Who is asked to report.
    asked: BTreeSet<usize>,
    /// Once all of them have: what is proposed.
    proposed: Option<Decided>,
    coordinator: usize,
}

struct Node {
    hand: Hand,
    life: u64,
    /// What it has installed: an index of the chain.
    installed: Option<usize>,
    wedged: bool,
    gathered: bool,
    learned: bool,
    next_ticket: Ticket,
    open: BTreeSet<Ticket>,
}

struct World {
    nodes: Vec<Node>,
    network: Vec<(usize, usize, Message)>,
    timers: BTreeSet<(usize, Timer)>,
    chain: Vec<Decided>,
    change: Option<Change>,
    /// What is in the order: who sent it, in which incarnation, and its sequence.
    order: BTreeMap<u64, (NodeId, u64, u64)>,
    payloads: BTreeMap<Bytes, u64>,
    rng: Rng,
    healed: bool,
}

fn settings(position: usize) -> Config {
    Config { history_messages_max: 10_000, history_bytes_max: 1 << 20, ..config(position) }
}

impl World {
    fn new(members: usize, seed: u64) -> Self {
        let node = |position| {
            let hand = Hand::before_install(settings(position));
            Node {
                hand,
                life: 1,
                installed: None,
                wedged: false,
                gathered: false,
                learned: false,
                next_ticket: 1,
                open: BTreeSet::new(),
            }
        };
        let first =
            Decided { view: view(members), cut: Cut::founding(members), holders: Vec::new() };
        let mut world = Self {
            nodes: (0..NODES).map(node).collect(),
            network: Vec::new(),
            timers: BTreeSet::new(),
            chain: vec![first],
            change: None,
            order: BTreeMap::new(),
            payloads: BTreeMap::new(),
            rng: Rng::seed_from_u64(seed),
            healed: false,
        };
        (0..members).for_each(|node| world.install(node, 0));
        (members..NODES).for_each(|node| world.learn(node));
        world
    }

    fn dice(&mut self, bound: usize) -> usize {
        (rand_core::Rng::next_u64(&mut self.rng) % bound as u64) as usize
    }

    fn last(&self) -> &Decided {
        self.chain.last().unwrap()
    }

    fn input(&mut self, node: usize, input: InputOf<Multicast>) {
        self.nodes[node].hand.now = self.nodes[node].hand.now + Duration::from_millis(1);
        for effect in self.nodes[node].hand.handle(input) {
            match effect {
                Effect::Send { to, message } => {
                    for peer in to.peers() {
                        let to = (0..NODES).find(|p| id(*p) == *peer).unwrap();
                        self.network.push((node, to, message.clone()));
                    }
                }
                Effect::SetTimer { timer, .. } => drop(self.timers.insert((node, timer))),
                Effect::CancelTimer(timer) => drop(self.timers.remove(&(node, timer))),
                Effect::Emit(event) => self.check(node, event),
                Effect::Save(_) | Effect::Append(_) | Effect::Trim(_) => unreachable!(),
            }
        }
    }

    fn command(&mut self, node: usize, command: Command) {
        self.input(node, Input::Command(command));
    }

    fn check(&mut self, node: usize, event: Event) {
        match event {
            Event::Delivered(d) => {
                let what = (d.sender, d.incarnation, d.sequence);
                let before = *self.order.entry(d.position).or_insert(what);
                assert_eq!(before, what, "total order");
                let position = *self.payloads.entry(d.payload).or_insert(d.position);
                assert_eq!(position, d.position, "integrity");
                let read = self.nodes[node].hand.status().position;
                assert!(d.position <= read);
            }
            Event::Sent { ticket, position } => {
                assert!(self.nodes[node].open.remove(&ticket));
                let name = self.payload(node, ticket);
                assert_eq!(self.payloads.get(&name), Some(&position), "the answer is true");
            }
            Event::Refused { ticket, reason } => {
                assert_eq!(reason, Refusal::NotStarted);
                self.nodes[node].open.remove(&ticket);
            }
            Event::Gathered => self.nodes[node].gathered = true,
            Event::Learned => self.nodes[node].learned = true,
            Event::Missed { .. } => panic!("everything is kept"),
            Event::Drained => panic!("nobody leaves"),
        }
    }

    fn payload(&self, node: usize, ticket: Ticket) -> Bytes {
        format!("{node}.{}.{ticket}", self.nodes[node].life).into_bytes().into()
    }

    fn step(&mut self) {
        // What is under way arrives before the timers go round and round.
        let dice = if self.network.len() > 100 { 0 } else { self.dice(100) };
        match dice {
            0..60 if !self.network.is_empty() => {
                let at = self.dice(self.network.len());
                let (from, to, message) = self.network.swap_remove(at);
                // Who learns is slow, so that joiners are mute for a while.
                let lesson = matches!(message.body, Body::Lesson { .. });
                match self.dice(20) {
                    1.. if lesson && !self.healed && self.dice(10) > 0 => return,
                    0 if !self.healed => return,
                    1 => self.network.push((from, to, message.clone())),
                    _ => {}
                }
                self.input(to, Input::Message { from: id(from), message });
            }
            60..75 if !self.timers.is_empty() => {
                let at = self.dice(self.timers.len());
                let (node, timer) = *self.timers.iter().nth(at).unwrap();
                self.timers.remove(&(node, timer));
                self.nodes[node].hand.pass(REPEAT);
                self.input(node, Input::Timer(timer));
            }
            75..85 if !self.healed => self.send(),
            85..90 => {
                let node = self.dice(NODES);
                let bytes = self.nodes[node].hand.status().unread_bytes;
                self.command(node, Command::Read { bytes });
            }
            90..98 => self.advance(),
            98 if !self.healed && self.dice(6) == 0 => self.crash(),
            _ => {}
        }
    }

    fn send(&mut self) {
        let node = self.dice(NODES);
        if self.nodes[node].hand.machine.accepts_sends() {
            let ticket = self.nodes[node].next_ticket;
            let payload = self.payload(node, ticket);
            self.nodes[node].next_ticket += 1;
            self.nodes[node].open.insert(ticket);
            self.command(node, Command::Send { ticket, payload });
        }
    }

    // ---- Views ----

    fn position(&self, node: usize, decided: &Decided) -> Option<usize> {
        decided.view.position_of(id(node), self.life(node, decided))
    }

    fn life(&self, node: usize, decided: &Decided) -> Life {
        let position = decided.view.position(id(node));
        let member = position.map(|p| &decided.view.members[p]);
        let same =
            member.filter(|member| member.life.0 >> 64 == u128::from(self.incarnation(node)));
        same.map_or(Life(0), |member| member.life)
    }

    /// The incarnation with which it takes part, or will.
    fn incarnation(&self, node: usize) -> u64 {
        let Some(at) = self.nodes[node].installed else { return 0 };
        let view = &self.chain[at].view;
        view.position(id(node)).map_or(0, |p| view.members[p].incarnation)
    }

    fn install(&mut self, node: usize, at: usize) {
        let Decided { view, cut, .. } = self.chain[at].clone();
        self.nodes[node].installed = Some(at);
        self.nodes[node].wedged = false;
        self.command(node, Command::Install { view, cut: Box::new(cut) });
    }

    fn learn(&mut self, node: usize) {
        let members = self.last().view.members.iter().map(|member| member.id);
        let teachers = members.filter(|peer| *peer != id(node)).collect();
        self.command(node, Command::Learn { teachers });
    }

    fn crash(&mut self) {
        let node = self.dice(NODES);
        // A majority of the view keep their memories (V5).
        let last = self.chain.len() - 1;
        let n = self.last().view.len();
        let fit = |p: &usize| {
            let other = &self.nodes[*p];
            *p != node
                && other.installed == Some(last)
                && self.position(*p, self.last()).is_some()
                && other.hand.machine.group.as_ref().is_some_and(|group| !group.standing.mute)
        };
        if self.change.is_some() || (0..NODES).filter(fit).count() <= n / 2 {
            return;
        }
        self.nodes[node].hand = Hand::before_install(settings(node));
        self.nodes[node].life += 1;
        self.nodes[node].installed = None;
        self.nodes[node].wedged = false;
        self.nodes[node].learned = false;
        self.nodes[node].open.clear();
        self.timers.retain(|(of, _)| *of != node);
        self.learn(node);
    }

    /// The next step of a view change, or of somebody who is behind.
    fn advance(&mut self) {
        let node = self.dice(NODES);
        if self.nodes[node].installed != Some(self.chain.len() - 1) {
            return self.follow(node);
        }
        match self.change.take() {
            Some(change) => self.go_on(change),
            None if self.healed || self.dice(20) == 0 => self.begin_change(),
            None => {}
        }
    }

    /// Somebody who is behind learns what was decided.
    fn follow(&mut self, node: usize) {
        let last = self.chain.len() - 1;
        match self.nodes[node].installed {
            None => {
                let view = &self.chain[last].view;
                let new = |p: usize| view.members[p].incarnation == view.number && last > 0;
                let life = u128::from(self.nodes[node].life);
                let mine = |p: usize| view.members[p].life.0 & u128::from(u64::MAX) == life;
                if view.position(id(node)).is_some_and(|p| new(p) && mine(p)) {
                    self.install(node, last);
                }
            }
            Some(_) if self.position(node, self.last()).is_none() => {
                self.nodes[node].installed = None;
                self.nodes[node].learned = false;
                self.command(node, Command::Out);
                self.learn(node);
            }
            Some(at) => {
                let Decided { cut, holders, .. } = self.chain[at + 1].clone();
                if !self.nodes[node].wedged {
                    self.nodes[node].wedged = true;
                    self.nodes[node].gathered = false;
                    self.command(
                        node,
                        Command::Gather { cut: Box::new(cut.clone()), holders, insists: true },
                    );
                } else if take(&mut self.nodes[node].gathered) {
                    self.command(node, Command::Close { cut: Box::new(cut) });
                    self.install(node, at + 1);
                }
            }
        }
    }

    fn begin_change(&mut self) {
        let last = self.chain.len() - 1;
        let able = |p: &usize| self.nodes[*p].installed == Some(last);
        let able: Vec<_> = (0..NODES).filter(able).collect();
        let kept = able.into_iter().filter(|_| self.healed || self.dice(8) > 0);
        let asked: BTreeSet<usize> = kept.collect();
        let view = &self.last().view;
        let bits = asked.iter().map(|p| 1 << view.position(id(*p)).unwrap()).sum();
        if !view.is_quorum(bits) || (self.healed && !self.is_change_due()) {
            return;
        }
        // Who is slow has some time.
        let up = |node: &Node| {
            node.installed
                .map_or(node.learned && node.hand.machine.group.is_none(), |at| at == last)
        };
        if self.healed && !self.nodes.iter().all(up) && self.dice(500) > 0 {
            return;
        }
        self.change = Some(Change { asked, proposed: None, coordinator: 0 });
    }

    fn is_change_due(&self) -> bool {
        let last = self.chain.len() - 1;
        self.nodes.iter().any(|node| node.installed != Some(last) || node.wedged)
    }

    fn go_on(&mut self, mut change: Change) {
        let asked: Vec<_> = change.asked.iter().copied().collect();
        if let Some(node) = asked.iter().find(|p| !self.nodes[**p].wedged) {
            self.nodes[*node].wedged = true;
            self.command(*node, Command::Wedge);
            self.change = Some(change);
            return;
        }
        let Some(decided) = change.proposed.clone() else {
            self.propose(&mut change);
            // Too few have their memories: others are asked.
            self.change = change.proposed.is_some().then_some(change);
            return;
        };
        if !self.nodes[change.coordinator].gathered {
            self.change = Some(change);
            return;
        }
        let holders =
            vec![Holder { node: id(change.coordinator), received: decided.cut.ends.clone() }];
        let ready = |p: &&usize| self.nodes[**p].gathered;
        let ready: Vec<usize> = asked.iter().filter(ready).copied().collect();
        let view = &self.last().view;
        let bits = ready.iter().map(|p| 1 << view.position(id(*p)).unwrap()).sum();
        if view.is_quorum(bits) && self.dice(3) == 0 {
            let received = decided.cut.ends.clone();
            let holders = ready.iter().map(|p| Holder { node: id(*p), received: received.clone() });
            // Who is not ready asks all of these, again.
            let holders = holders.collect();
            for p in asked.iter().filter(|p| !ready.contains(p)) {
                self.nodes[*p].wedged = false;
            }
            self.chain.push(Decided { holders, ..decided });
        } else {
            let node = asked[self.dice(asked.len())];
            if !self.nodes[node].gathered {
                self.command(
                    node,
                    Command::Gather { cut: Box::new(decided.cut.clone()), holders, insists: true },
                );
            }
            self.change = Some(change);
        }
    }

    fn propose(&mut self, change: &mut Change) {
        let old = self.last().clone();
        let report = |p: &usize| Some((*p, self.nodes[*p].hand.machine.report()?));
        let reports: Vec<_> = change.asked.iter().filter_map(report).collect();
        if reports.len() < old.view.len().div_ceil(2) {
            return;
        }
        let number = old.view.number + 1;
        let member = |p: usize, new: bool| {
            let before = old.view.position(id(p)).filter(|_| !new);
            let incarnation = before.map_or(number, |at| old.view.members[at].incarnation);
            let mut member = later(number, &[(p, incarnation)]).members[0].clone();
            member.life = Life(u128::from(incarnation) << 64 | u128::from(self.nodes[p].life));
            member
        };
        let whole = |p: &usize| reports.iter().any(|(of, _)| of == p);
        let mut members: Vec<_> =
            (0..NODES).filter(|p| whole(p)).map(|p| member(p, false)).collect();
        let survivors = members.len();
        let others = change.asked.iter().filter(|p| !whole(p)).map(|p| member(*p, false));
        let joins = |p: &usize| {
            self.nodes[*p].installed.is_none()
                && (self.nodes[*p].learned || number.is_multiple_of(2))
        };
        let new = (0..NODES).filter(joins).map(|p| member(p, true));
        members.extend(others.chain(new).take(survivors));
        let view = View { number, members: members.into(), ..later(number, &[]) };
        let at = |p: usize| old.view.position(id(p)).unwrap();
        let merged: Vec<_> = reports.iter().map(|(p, report)| (at(*p), report)).collect();
        let (mut rng, mut effects) = (Rng::seed_from_u64(1), Vec::new());
        let cx = Context::<Multicast>::new(Time::ZERO, &mut rng, &mut effects);
        let cut = Cut::of(&old.view, &old.cut, &merged, &view, &cx);
        let holder = |(p, report): &(usize, Report)| Holder {
            node: id(*p),
            received: report.received.clone(),
        };
        let holders: Vec<_> = reports.iter().map(holder).collect();
        let coordinator = reports[0].0;
        change.asked.iter().for_each(|p| self.nodes[*p].gathered = false);
        change.coordinator = coordinator;
        change.proposed = Some(Decided { view, cut: cut.clone(), holders: Vec::new() });
        self.command(coordinator, Command::Gather { cut: Box::new(cut), holders, insists: true });
    }

    /// All are members of one view, have delivered the same, and have their answers.
    fn is_settled(&self) -> bool {
        let last = self.chain.len() - 1;
        let end = self.order.last_key_value().map_or(0, |(position, _)| *position);
        !self.is_change_due()
            && self.nodes.iter().all(|node| {
                let status = node.hand.status();
                node.installed == Some(last)
                    && status.position == end
                    && status.queue.is_empty()
                    && node.open.is_empty()
            })
    }
}

fn walk(seed: u64) {
    let mut world = World::new(3 + (seed % 3) as usize, seed);
    for _ in 0..3_000 {
        world.step();
    }
    world.healed = true;
    for _ in 0..60_000 {
        world.step();
        if world.is_settled() {
            return;
        }
    }
    panic!("it does not settle, seed {seed}");
}

#[test]
fn the_order_keeps_its_promises_across_views() {
    (0..WALKS).for_each(walk);
}
