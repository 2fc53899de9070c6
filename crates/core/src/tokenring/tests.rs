mod acks;
mod idle;
mod lease;
mod placement;
mod steps;
mod views;

use super::*;
use crate::{
    id::{Life, Name},
    protocol::Input,
    testing::{Faults, Group},
    view::Member,
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format, vec,
};

fn id(i: usize) -> NodeId {
    Name::new(&format!("p{i}")).unwrap().id()
}

fn view(n: usize, mode: Mode) -> View {
    let member = |i: usize| Member {
        id: id(i),
        name: Name::new(&format!("p{i}")).unwrap(),
        life: Life(i as u128),
        incarnation: 1,
    };
    View {
        number: 1,
        members: (0..n).map(member).collect(),
        ring: (0..n as u16).collect(),
        mode,
        lease: Duration::from_hours(1),
    }
}

/// How view 1 begins, founded by the member at position 0.
fn founded(view: &View) -> Command {
    let lock = LockName::default_lock();
    let token = Placed { lock, at: 0, hops: 0, fresh: false };
    let tokens = if view.mode == Mode::Circulate { vec![token] } else { vec![] };
    let placement = Placement { tokens, ..Placement::default() };
    Command::Install { view: view.clone(), placement, joins: false }
}

fn config(i: usize) -> Config {
    Config {
        me: id(i),
        hold: Duration::from_millis(50),
        turn: 3,
        waiters_max: 100,
        locks_max: 100,
        repeat: Duration::from_millis(100),
        try_timeout: Duration::from_secs(1),
        idle: None,
    }
}

/// A test client of the group: it knows who should have which lock.
struct Clients {
    group: Group<TokenRing>,
    n: usize,
    ticket: Ticket,
    holders: BTreeMap<LockName, (usize, Ticket)>,
    fences: BTreeMap<LockName, u64>,
    waiting: BTreeMap<Ticket, (usize, LockName)>,
    grants: Vec<(usize, u64)>,
    refused: Vec<(Ticket, Refusal)>,
}

impl Clients {
    fn new(n: usize, mode: Mode, seed: u64) -> Self {
        let machine = |i: usize| (id(i), TokenRing::new(config(i)));
        let mut group = Group::new((0..n).map(machine), seed);
        group.start();
        for i in 0..n {
            group.input(id(i), Input::Command(founded(&view(n, mode))));
        }
        Self {
            group,
            n,
            ticket: 0,
            holders: BTreeMap::new(),
            fences: BTreeMap::new(),
            waiting: BTreeMap::new(),
            grants: Vec::new(),
            refused: Vec::new(),
        }
    }

    fn lock(&mut self, i: usize, name: &str, wait: Wait) -> Ticket {
        self.ticket += 1;
        let (lock, ticket) = (LockName::new(name).unwrap(), self.ticket);
        self.waiting.insert(ticket, (i, lock.clone()));
        self.group.input(id(i), Input::Command(Command::Lock { lock, ticket, wait }));
        self.check();
        ticket
    }

    fn unlock(&mut self, i: usize, name: &str, ticket: Ticket) {
        let lock = LockName::new(name).unwrap();
        self.group.input(id(i), Input::Command(Command::Unlock { lock, ticket }));
        self.check();
    }

    fn beat(&mut self) {
        for i in 0..self.n {
            self.group.input(id(i), Input::Command(Command::Beat));
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.group.now + span;
        while self.group.now < end {
            self.group.run(Duration::from_millis(1));
            self.check();
        }
    }

    /// The invariants, after every step: one token, exclusion, increasing fences.
    fn check(&mut self) {
        let mut tokens: BTreeMap<LockName, usize> = BTreeMap::new();
        for machine in self.group.machines.values() {
            for (name, _) in machine.tokens() {
                *tokens.entry(name.clone()).or_default() += 1;
            }
        }
        assert!(tokens.values().all(|count| *count == 1), "{tokens:?}");
        for (node, event) in core::mem::take(&mut self.group.events) {
            let i = (0..self.n).find(|i| id(*i) == node).unwrap();
            match event {
                Event::Granted { lock, ticket, fence } => {
                    assert_eq!(self.waiting.remove(&ticket), Some((i, lock.clone())));
                    let holder = self.holders.insert(lock.clone(), (i, ticket));
                    assert_eq!(holder, None, "{lock} is granted twice");
                    let before = self.fences.insert(lock.clone(), fence).unwrap_or(0);
                    assert_eq!(before + 1, fence, "{lock}: the fences of view 1 are 1, 2, 3 …");
                    self.grants.push((i, fence));
                }
                Event::Released { lock, ticket, .. } => {
                    assert_eq!(self.holders.remove(&lock), Some((i, ticket)));
                }
                Event::Lost { .. } => panic!("{event:?}"),
                Event::Refused { ticket, reason, .. } if reason != Refusal::NotHeld => {
                    assert!(self.waiting.remove(&ticket).is_some(), "{reason:?}");
                    self.refused.push((ticket, reason));
                }
                _ => {}
            }
        }
    }

    /// Releases whatever is held, again and again, until nobody waits.
    fn drain(&mut self) {
        for _ in 0..2_000 {
            for (lock, (i, ticket)) in self.holders.clone() {
                self.unlock(i, lock.as_str(), ticket);
            }
            if self.waiting.is_empty() && self.holders.is_empty() {
                return;
            }
            self.beat();
            self.run(Duration::from_millis(50));
        }
        panic!("still waiting: {:?}", self.waiting);
    }
}

#[test]
fn the_first_grants_are_1_2_3_and_go_round_in_ring_order() {
    let mut clients = Clients::new(3, Mode::Rest, 1);
    for i in [2, 1, 0] {
        clients.lock(i, "default", Wait::Queue);
    }
    clients.drain();
    let mut nodes: Vec<usize> = clients.grants.iter().map(|(i, _)| *i).collect();
    assert_eq!(clients.grants.iter().map(|(_, f)| *f).collect::<Vec<_>>(), [1, 2, 3]);
    let first = nodes.iter().position(|i| *i == 0).unwrap();
    nodes.rotate_left(first);
    assert!(nodes == [0, 1, 2] || nodes == [0, 2, 1], "{nodes:?}");
}

#[test]
fn a_resting_token_costs_nothing() {
    let mut clients = Clients::new(3, Mode::Rest, 1);
    clients.lock(1, "default", Wait::Queue);
    clients.drain();
    clients.run(Duration::from_secs(5));
    let sent = clients.group.sent;
    for _ in 0..10 {
        clients.lock(1, "default", Wait::Queue);
        clients.drain();
    }
    clients.run(Duration::from_secs(5));
    assert_eq!(clients.group.sent, sent);
    assert_eq!(clients.grants.len(), 11);
}

#[test]
fn a_turn_is_bounded() {
    let mut clients = Clients::new(2, Mode::Rest, 1);
    for _ in 0..20 {
        clients.lock(0, "default", Wait::Queue);
    }
    clients.run(Duration::from_millis(300));
    clients.lock(1, "default", Wait::Queue);
    clients.run(Duration::from_millis(300));
    clients.drain();
    let waited = clients.grants.iter().position(|(i, _)| *i == 1).unwrap();
    assert!(waited <= 1 + 3, "{:?}", clients.grants);
}

#[test]
fn tries_are_answered_at_once() {
    let mut clients = Clients::new(3, Mode::Rest, 1);
    let held = clients.lock(0, "default", Wait::Try);
    clients.run(Duration::from_millis(200));
    assert_eq!(clients.holders.len(), 1);
    let busy = clients.lock(1, "default", Wait::Try);
    clients.run(Duration::from_millis(200));
    assert_eq!(clients.refused, [(busy, Refusal::NotAvailable)]);
    clients.unlock(0, "default", held);
    clients.lock(1, "default", Wait::Try);
    clients.run(Duration::from_millis(200));
    assert_eq!(clients.grants, [(0, 1), (1, 2)]);
}

#[test]
fn a_circulating_token_visits_everybody_and_counts_its_hops() {
    let mut clients = Clients::new(4, Mode::Circulate, 1);
    clients.group.faults = Faults { loss: 20, duplication: 20 };
    let mut hops: Vec<(u64, NodeId)> = Vec::new();
    let end = clients.group.now + Duration::from_secs(20);
    while clients.group.now < end {
        clients.group.step();
        for (_, event) in &clients.group.events {
            if let Event::Token { view: 1, hop, from } = event {
                hops.push((*hop, *from));
            }
        }
        clients.check();
    }
    assert!(hops.len() > 40, "{}", hops.len());
    for (i, (hop, from)) in hops.iter().enumerate() {
        assert_eq!((*hop, *from), (i as u64 + 1, id(i % 4)));
    }
}

#[test]
fn a_circulating_lock_waits_for_the_token_and_keeps_it() {
    let mut clients = Clients::new(3, Mode::Circulate, 1);
    for i in 0..3 {
        clients.lock(i, "default", Wait::Queue);
        clients.lock(i, "default", Wait::Queue);
    }
    clients.drain();
    let nodes: Vec<usize> = clients.grants.iter().map(|(i, _)| *i).collect();
    assert_eq!(nodes, [0, 1, 2, 0, 1, 2], "one local waiter a visit");
}

#[test]
fn the_lock_says_for_whom_it_waits() {
    let mut clients = Clients::new(2, Mode::Circulate, 1);
    clients.group.input(id(0), Input::LinkDown(id(1)));
    for _ in 0..100 {
        clients.group.step();
    }
    assert!(clients.group.events.contains(&(id(0), Event::WaitingFor(id(1)))));
    assert_eq!(clients.group.machines[&id(0)].status().waiting_for, Some(id(1)));
}

#[test]
fn nonsense_is_ignored_and_counted() {
    let mut clients = Clients::new(2, Mode::Rest, 1);
    let lock = LockName::default_lock();
    let token = |n: usize| Token { sequence: 9, ..Token::new(n, 0, false) };
    for body in [
        Body::Pass { number: 1, lock: lock.clone(), token: token(5) },
        Body::Pass { number: u64::MAX, lock: lock.clone(), token: token(2) },
        Body::Request { lock: lock.clone(), requester: 9, number: 1, hops: 0 },
        Body::Stamp { stamp: 1, echo: u64::MAX, answer: false },
    ] {
        let message = Message { view: 1, body };
        clients.group.input(id(0), Input::Message { from: id(1), message });
    }
    assert_eq!(clients.group.machines[&id(0)].status().ignored, 4);
    assert_eq!(clients.group.machines[&id(0)].tokens().count(), 0);
}

/// Storms: everything at once, and afterwards every wait ends.
#[test]
fn storms_keep_one_token_and_strand_nobody() {
    for seed in 0..400 {
        let n = 2 + seed as usize % 5;
        let mode = if seed % 3 == 0 { Mode::Circulate } else { Mode::Rest };
        let mut clients = Clients::new(n, mode, seed);
        clients.group.faults = Faults { loss: seed % 40, duplication: seed % 30 };
        let mut held: Vec<(usize, &str, Ticket)> = Vec::new();
        for _ in 0..60 {
            let i = clients.group.dice(n as u64) as usize;
            let name = ["default", "a", "b"][clients.group.dice(3) as usize];
            match clients.group.dice(12) {
                0..5 => held.push((i, name, clients.lock(i, name, Wait::Queue))),
                5 => held.push((i, name, clients.lock(i, name, Wait::Try))),
                6..9 if !held.is_empty() => {
                    let which = clients.group.dice(held.len() as u64) as usize;
                    let (i, name, ticket) = held.swap_remove(which);
                    clients.unlock(i, name, ticket);
                }
                9 => clients.beat(),
                10 => {
                    let j = clients.group.dice(n as u64) as usize;
                    if i != j {
                        clients.group.input(id(i), Input::LinkDown(id(j)));
                        clients.run(Duration::from_millis(30));
                        clients.group.input(id(i), Input::LinkUp(id(j)));
                    }
                }
                _ => {}
            }
            let pause = clients.group.dice(200);
            clients.run(Duration::from_millis(pause));
        }
        clients.group.faults = Faults::NONE;
        clients.drain();
    }
}
