//! Random walks through many views: messages are lost, doubled and overtaken, members are slow,
//! are wedged, left out, leave, restart and join, and their clocks run at different rates. What the
//! members agree on is decided at once by the walk: that is not the subject here.

use super::*;
use crate::{
    planted::Bug,
    protocol::{Context, Effect, InputOf, Protocol as _, Rng},
};
use rand_core::{Rng as _, SeedableRng as _};

const LEASE: Duration = Duration::from_secs(1);

/// What has gone wrong.
type Violation = alloc::string::String;

/// A node and those that were here before under its name.
struct Peer {
    machine: TokenRing,
    life: u128,
    /// The view that it has installed.
    view: Option<u64>,
    leaving: bool,
    /// Nanoseconds of its clock per thousand of the walk's.
    rate: u64,
    timers: BTreeMap<Timer, Time>,
    paused_until: u64,
    waiting: Vec<(Ticket, LockName)>,
}

/// A guard whose node is gone, but whose client may go on until its deadline.
struct Ghost {
    lock: LockName,
    node: usize,
    deadline: Time,
}

struct Flying {
    from: (usize, u128),
    to: (usize, u128),
    message: Message,
}

struct Walk {
    peers: Vec<Peer>,
    ghosts: Vec<Ghost>,
    flying: Vec<Flying>,
    /// What was decided, view 1 first.
    views: Vec<(View, Placement)>,
    now: u64,
    rng: Rng,
    planted: Option<Bug>,
    fences: BTreeMap<LockName, u64>,
    grants: usize,
    lives: u128,
    tickets: Ticket,
    wrong: Option<Violation>,
}

fn names() -> [LockName; 3] {
    ["default", "a", "b"].map(|name| LockName::new(name).unwrap())
}

impl Walk {
    fn new(seed: u64, planted: Option<Bug>) -> Self {
        let mut rng = Rng::seed_from_u64(seed);
        let n = 2 + (seed % 4) as usize;
        let mode = if seed % 5 == 4 { Mode::Circulate } else { Mode::Rest };
        let first = View { lease: LEASE, ..view(n, mode) };
        let Command::Install { placement, .. } = founded(&first) else { unreachable!() };
        let idle = seed.is_multiple_of(3).then_some(Duration::from_millis(200));
        let peer = |i: usize| Peer {
            machine: TokenRing::new(Config { idle, ..config(i) }),
            life: i as u128,
            view: None,
            leaving: false,
            rate: [990, 1_000, 1_010][(rng.next_u64() % 3) as usize],
            timers: BTreeMap::new(),
            paused_until: 0,
            waiting: Vec::new(),
        };
        let peers = (0..n).map(peer).collect();
        let mut walk = Self {
            peers,
            ghosts: Vec::new(),
            flying: Vec::new(),
            views: vec![(first, placement)],
            now: 1_000_000_000,
            rng,
            planted,
            fences: BTreeMap::new(),
            grants: 0,
            lives: 100,
            tickets: 0,
            wrong: None,
        };
        for i in 0..n {
            walk.link(i);
        }
        for i in 0..n {
            walk.install(i);
        }
        walk
    }

    fn dice(&mut self, bound: usize) -> usize {
        (self.rng.next_u64() % bound.max(1) as u64) as usize
    }

    /// What the clock of a node shows.
    fn clock(&self, i: usize) -> Time {
        Time::from_nanos(self.now / 1_000 * self.peers[i].rate)
    }

    fn link(&mut self, i: usize) {
        for j in (0..self.peers.len()).filter(|j| *j != i) {
            self.input(i, Input::LinkUp(id(j)));
            self.input(j, Input::LinkDown(id(i)));
            self.input(j, Input::LinkUp(id(i)));
        }
    }

    fn input(&mut self, i: usize, input: InputOf<TokenRing>) {
        let mut effects = Vec::new();
        let now = self.clock(i);
        let cx = Context::new(now, &mut self.rng, &mut effects);
        self.peers[i].machine.handle(input, &mut cx.planting(self.planted));
        for effect in effects {
            match effect {
                Effect::Send { to, message } => {
                    for peer in to.peers() {
                        let to = (0..self.peers.len()).find(|j| id(*j) == *peer).unwrap();
                        let (from, to) = ((i, self.peers[i].life), (to, self.peers[to].life));
                        self.flying.push(Flying { from, to, message: message.clone() });
                    }
                }
                Effect::SetTimer { timer, after } => {
                    self.peers[i].timers.insert(timer, now + after);
                }
                Effect::CancelTimer(timer) => {
                    self.peers[i].timers.remove(&timer);
                }
                Effect::Emit(event) => self.heard(i, &event),
                Effect::Save(_) | Effect::Append(_) | Effect::Trim(_) => {}
            }
        }
        self.check();
    }

    fn heard(&mut self, i: usize, event: &Event) {
        match event {
            Event::Granted { lock, ticket, fence } => {
                self.grants += 1;
                let last = self.fences.insert(lock.clone(), *fence).unwrap_or(0);
                if last >= *fence {
                    self.wrong = Some(format!("the fence of {lock} goes back: {last}, {fence}"));
                }
                self.peers[i].waiting.retain(|(waiting, _)| waiting != ticket);
            }
            Event::Refused { ticket, .. } => {
                self.peers[i].waiting.retain(|(waiting, _)| waiting != ticket);
            }
            _ => {}
        }
    }

    /// One token per lock and view, and no two valid guards.
    fn check(&mut self) {
        let mut tokens: BTreeSet<(LockName, u64)> = BTreeSet::new();
        let mut guards: BTreeMap<LockName, usize> = BTreeMap::new();
        for (i, peer) in self.peers.iter().enumerate() {
            if let Some(view) = peer.view {
                for (name, _) in peer.machine.tokens() {
                    if !tokens.insert((name.clone(), view)) {
                        self.wrong = Some(format!("two tokens of {name} in view {view}"));
                    }
                }
            }
            let now = self.clock(i);
            if now < peer.machine.lease_until(now) {
                for (name, _, _) in peer.machine.guards() {
                    *guards.entry(name.clone()).or_default() += 1;
                }
            }
        }
        for ghost in self.ghosts.iter().filter(|ghost| self.clock(ghost.node) < ghost.deadline) {
            *guards.entry(ghost.lock.clone()).or_default() += 1;
        }
        if let Some((name, _)) = guards.iter().find(|(_, count)| **count > 1) {
            self.wrong = Some(format!("two valid guards of {name}"));
        }
    }

    // ---- What can happen ----

    fn step(&mut self) {
        let i = self.dice(self.peers.len());
        match self.dice(100) {
            0..45 => (0..3).for_each(|_| self.deliver()),
            45..52 => self.pass_time(),
            52..58 => self.beat(i),
            58..68 => self.lock(i),
            68..77 => self.unlock(i),
            77..83 => self.wedge(i),
            83..86 => self.decide(),
            86..95 => self.install(i),
            95..97 => self.restart(i),
            97 if self.dice(8) == 0 => self.leave(i),
            98 if self.dice(2) == 0 => {
                let pause = self.dice(3_000_000_000) as u64;
                self.peers[i].paused_until = self.now + pause;
            }
            _ => {}
        }
    }

    fn deliver(&mut self) {
        if self.flying.is_empty() {
            return;
        }
        // Mostly in order.
        let k = if self.dice(3) == 0 { self.dice(self.flying.len()) } else { 0 };
        let to = self.flying[k].to.0;
        if self.peers[to].paused_until > self.now {
            return;
        }
        let what = self.dice(20);
        let flying = &self.flying[k];
        let (from, message) = (flying.from, flying.message.clone());
        let is_there = flying.to.1 == self.peers[to].life;
        if what != 0 {
            self.flying.remove(k);
        }
        if what == 1 || !is_there || !self.is_known(to, from) {
            return;
        }
        self.input(to, Input::Message { from: id(from.0), message });
    }

    /// Whether the node hears this life: it is in its view.
    fn is_known(&self, node: usize, (peer, life): (usize, u128)) -> bool {
        self.peers[node].view.is_some_and(|view| {
            self.views[view as usize - 1].0.position_of(id(peer), Life(life)).is_some()
        })
    }

    fn pass_time(&mut self) {
        let longest = [2_000_000, 2_000_000, 50_000_000, 300_000_000, 1_000_000_000][self.dice(5)];
        self.now += self.dice(longest) as u64;
        self.check();
        for i in 0..self.peers.len() {
            if self.peers[i].paused_until <= self.now {
                self.fire(i);
            }
        }
    }

    fn fire(&mut self, i: usize) {
        let now = self.clock(i);
        let due = |(timer, at): (&Timer, &Time)| (*at <= now).then_some(*timer);
        let due: Vec<Timer> = self.peers[i].timers.iter().filter_map(due).collect();
        for timer in due {
            self.peers[i].timers.remove(&timer);
            self.input(i, Input::Timer(timer));
        }
    }

    fn beat(&mut self, i: usize) {
        if self.peers[i].paused_until <= self.now {
            self.input(i, Input::Command(Command::Beat));
        }
    }

    fn lock(&mut self, i: usize) {
        if self.peers[i].paused_until > self.now {
            return;
        }
        self.tickets += 1;
        let (ticket, lock) = (self.tickets, names()[self.dice(3)].clone());
        let wait = if self.dice(6) == 0 { Wait::Try } else { Wait::Queue };
        self.peers[i].waiting.push((ticket, lock.clone()));
        self.input(i, Input::Command(Command::Lock { lock, ticket, wait }));
    }

    fn unlock(&mut self, i: usize) {
        let guards = self.peers[i].machine.guards();
        let guards: Vec<(LockName, Ticket)> = guards.map(|(l, t, _)| (l.clone(), t)).collect();
        if guards.is_empty() || self.peers[i].paused_until > self.now {
            return;
        }
        let (lock, ticket) = guards[self.dice(guards.len())].clone();
        self.input(i, Input::Command(Command::Unlock { lock, ticket }));
    }

    fn wedge(&mut self, i: usize) {
        let peer = &self.peers[i];
        if peer.paused_until <= self.now && peer.view == Some(self.views.len() as u64) {
            self.input(i, Input::Command(Command::Wedge));
        }
    }

    fn leave(&mut self, i: usize) {
        self.peers[i].leaving = true;
        self.input(i, Input::Command(Command::Leave));
    }

    /// The member ends, and another life begins that waits to be taken in. Its clients go on.
    fn restart(&mut self, i: usize) {
        if !self.goes_on_without(i) {
            return;
        }
        let deadline = self.peers[i].machine.lease_until(self.clock(i));
        for (lock, _, _) in self.peers[i].machine.guards() {
            self.ghosts.push(Ghost { lock: lock.clone(), node: i, deadline });
        }
        self.lives += 1;
        let peer = &mut self.peers[i];
        peer.machine = TokenRing::new(config(i));
        peer.life = self.lives;
        peer.view = None;
        peer.leaving = false;
        peer.timers.clear();
        peer.waiting.clear();
        self.link(i);
    }

    /// Whether the others can still decide what follows the last view.
    fn goes_on_without(&self, i: usize) -> bool {
        let (last, _) = self.views.last().unwrap();
        let remembers = |p: &usize| {
            let node = (0..self.peers.len()).find(|j| last.members[*p].id == id(*j)).unwrap();
            let peer = &self.peers[node];
            // Whoever has not installed it yet, will.
            let follows = peer.view.is_some() || last.members[*p].incarnation == last.number;
            node != i && follows && peer.life == last.members[*p].life.0
        };
        last.is_quorum((0..last.len()).filter(remembers).fold(0, |all, p| all | 1 << p))
    }

    /// Decides what follows the last view, if a quorum of its members is wedged in it.
    fn decide(&mut self) {
        let (last, old) = self.views.last().unwrap().clone();
        let node = |p: usize| (0..self.peers.len()).find(|i| last.members[p].id == id(*i)).unwrap();
        let reporter = |p: &usize| {
            let peer = &self.peers[node(*p)];
            let same = peer.life == last.members[*p].life.0 && peer.view == Some(last.number);
            same && peer.machine.ring.as_ref().is_some_and(|ring| ring.wedged.is_some())
        };
        let merged: Vec<usize> = (0..last.len()).filter(reporter).collect();
        if !last.is_quorum(merged.iter().fold(0, |all, p| all | 1 << p)) {
            return;
        }
        let reports: Vec<Option<(Report, bool)>> = (0..last.len())
            .map(|p| {
                let peer = &self.peers[node(p)];
                merged.contains(&p).then(|| (peer.machine.report(), peer.leaving))
            })
            .collect();
        let nodes: Vec<usize> = merged.iter().map(|p| node(*p)).collect();
        let stays = |i: &&usize| !self.peers[**i].leaving;
        let mut survivors: Vec<usize> = nodes.iter().filter(stays).copied().collect();
        if survivors.len() > 1 && self.dice(4) == 0 {
            survivors.remove(self.dice(survivors.len()));
        }
        if survivors.is_empty() {
            survivors = nodes;
        }
        let number = last.number + 1;
        let mut members: Vec<Member> = survivors
            .iter()
            .map(|i| last.members.iter().find(|m| m.id == id(*i)).unwrap().clone())
            .collect();
        let room = members.len();
        let joiners = (0..self.peers.len()).filter(|i| {
            let peer = &self.peers[*i];
            !survivors.contains(i) && peer.view.is_none() && !peer.leaving
        });
        members.extend(joiners.take(room).map(|i| Member {
            id: id(i),
            name: Name::new(&format!("p{i}")).unwrap(),
            life: Life(self.peers[i].life),
            incarnation: number,
        }));
        let ring = (0..members.len() as u16).collect();
        let next = View { number, members: members.into(), ring, ..last.clone() };
        let reports: Vec<Option<(&Report, bool)>> =
            reports.iter().map(|r| r.as_ref().map(|(report, leaves)| (report, *leaves))).collect();
        let mut effects = Vec::new();
        let cx = Context::<TokenRing>::new(Time::ZERO, &mut self.rng, &mut effects);
        let cx = cx.planting(self.planted);
        let placement = Placement::of(&last, &old, &reports, &next, &cx);
        self.views.push((next, placement));
    }

    /// A node hears what follows its view, or that it was taken in.
    fn install(&mut self, i: usize) {
        let peer = &self.peers[i];
        if peer.paused_until > self.now {
            return;
        }
        let is_listed = |view: &View, incarnation: u64| {
            let position = view.position_of(id(i), Life(peer.life));
            position.is_some_and(|p| view.members[p].incarnation == incarnation)
        };
        let (view, joins) = match peer.view {
            Some(view) if view == self.views.len() as u64 => return,
            Some(view) => {
                let (old, _) = &self.views[view as usize - 1];
                let p = old.position_of(id(i), Life(peer.life)).unwrap();
                if !is_listed(&self.views[view as usize].0, old.members[p].incarnation) {
                    self.peers[i].view = None;
                    return self.input(i, Input::Command(Command::Out));
                }
                (view as usize, false)
            }
            None => {
                let last = self.views.len();
                if !is_listed(&self.views[last - 1].0, last as u64) {
                    return;
                }
                (last - 1, last > 1)
            }
        };
        let (view, placement) = self.views[view].clone();
        self.peers[i].view = Some(view.number);
        self.input(i, Input::Command(Command::Install { view, placement, joins }));
    }

    // ---- Healing ----

    /// Nothing is lost any more, all members are told of the last view, and all waits end. If too
    /// many have restarted for another view, that is all there is.
    fn heal(&mut self) {
        for peer in &mut self.peers {
            peer.paused_until = 0;
        }
        for _ in 0..3 {
            for i in 0..self.peers.len() {
                for _ in 0..self.views.len() {
                    self.install(i);
                }
            }
            for i in 0..self.peers.len() {
                self.wedge(i);
            }
            let last = self.views.len();
            self.decide();
            if self.views.len() == last {
                return;
            }
        }
        for i in 0..self.peers.len() {
            for _ in 0..self.views.len() {
                self.install(i);
            }
        }
        for _ in 0..2_000 {
            for i in 0..self.peers.len() {
                self.input(i, Input::Command(Command::Beat));
                let guards = self.peers[i].machine.guards();
                let guards: Vec<(LockName, Ticket)> =
                    guards.map(|(lock, ticket, _)| (lock.clone(), ticket)).collect();
                for (lock, ticket) in guards {
                    self.input(i, Input::Command(Command::Unlock { lock, ticket }));
                }
            }
            for flying in core::mem::take(&mut self.flying) {
                let ((from, life), to) = (flying.from, flying.to);
                if to.1 == self.peers[to.0].life && self.is_known(to.0, (from, life)) {
                    let message = flying.message;
                    self.input(to.0, Input::Message { from: id(from), message });
                }
            }
            self.now += 20_000_000;
            (0..self.peers.len()).for_each(|i| self.fire(i));
            let last = Some(self.views.len() as u64);
            if self.peers.iter().all(|peer| peer.view != last || peer.waiting.is_empty()) {
                return;
            }
        }
        self.wrong = Some("a wait does not end".into());
    }
}

/// Walks with this seed until something is wrong.
fn walk(seed: u64, planted: Option<Bug>) -> Walk {
    let mut walk = Walk::new(seed, planted);
    for _ in 0..600 {
        walk.step();
        if walk.wrong.is_some() {
            return walk;
        }
    }
    if planted.is_none_or(|bug| matches!(bug, Bug::NotAskedAnew | Bug::HearsOtherViews)) {
        walk.heal();
    }
    walk
}

#[test]
fn whatever_happens_no_two_guards_are_valid() {
    let (mut grants, mut views) = (0, 0);
    for seed in 0..2_000 {
        let walk = walk(seed, None);
        assert_eq!(walk.wrong, None, "seed {seed}");
        grants += walk.grants;
        views += walk.views.len();
    }
    assert!(grants > 20_000 && views > 10_000, "{grants} grants, {views} views");
}

/// A check that never failed proves nothing. (Each rule has a test of its own; of these, the walks
/// find out by themselves.)
#[test]
fn whatever_is_left_out_is_noticed() {
    for (bug, what) in [
        (Bug::DuplicatePass, "two tokens"),
        (Bug::TakesPassBack, "two "),
        (Bug::HomeForgets, "two tokens"),
        (Bug::FenceNotInToken, "goes back"),
        (Bug::ViewNotInFence, "goes back"),
        (Bug::HearsOtherViews, "does not end"),
        (Bug::NotAskedAnew, "does not end"),
        (Bug::LostPassGoesBack, "two valid guards"),
        (Bug::UnknownNotFresh, "two valid guards"),
        (Bug::UnknownForgotten, "two valid guards"),
        (Bug::FreshForgotten, "two valid guards"),
        (Bug::NoEmbargo, "two valid guards"),
        (Bug::GrantsWithoutLease, "goes back"),
    ] {
        let found = |seed| walk(seed, Some(bug)).wrong.is_some_and(|wrong| wrong.contains(what));
        assert!((0..2_000).any(found), "{bug:?}");
    }
}
