//! Single interleavings, message by message: what a random network finds once in a million steps.

use super::*;
use crate::{
    planted::Bug,
    protocol::{Context, Effect, InputOf, Protocol as _, Rng},
    time::Time,
};
use rand_core::SeedableRng as _;

pub(super) fn lock_with_home(n: usize, home: usize) -> LockName {
    (0..1_000)
        .map(|k| LockName::new(&format!("l{k}")).unwrap())
        .find(|l| crate::tokenring::placement::home(&view(n, Mode::Rest), l) == home)
        .unwrap()
}

/// Holds back messages that `hold` names; delivers the others at once, in order.
pub(super) struct Hand {
    pub(super) m: BTreeMap<NodeId, TokenRing>,
    now: Time,
    rng: Rng,
    pub(super) q: Vec<(NodeId, NodeId, Message)>,
    pub(super) events: Vec<(NodeId, Event)>,
    timers: BTreeSet<(NodeId, Timer)>,
    pub(super) planted: Option<Bug>,
}
impl Hand {
    pub(super) fn new(n: usize, mode: Mode) -> Self {
        let mut h = Hand {
            m: (0..n)
                .map(|i| {
                    (
                        id(i),
                        TokenRing::new(Config {
                            locks_max: 100_000,
                            waiters_max: 100_000,
                            ..config(i)
                        }),
                    )
                })
                .collect(),
            now: Time::from_nanos(1_000),
            rng: Rng::seed_from_u64(1),
            q: vec![],
            events: vec![],
            timers: BTreeSet::new(),
            planted: None,
        };
        for i in 0..n {
            for j in 0..n {
                if i != j {
                    h.input(i, Input::LinkUp(id(j)));
                }
            }
        }
        for i in 0..n {
            h.input(i, Input::Command(founded(&view(n, mode))));
        }
        h.deliver(|_, _, body| !matches!(body, Body::Stamp { .. }));
        h
    }
    pub(super) fn input(&mut self, i: usize, input: InputOf<TokenRing>) {
        let mut fx = Vec::new();
        let Some(m) = self.m.get_mut(&id(i)) else { return };
        let cx = Context::new(self.now, &mut self.rng, &mut fx);
        m.handle(input, &mut cx.planting(self.planted));
        for e in fx {
            match e {
                Effect::Send { to, message } => {
                    for p in to.peers() {
                        self.q.push((id(i), *p, message.clone()));
                    }
                }
                Effect::SetTimer { timer, .. } => {
                    self.timers.insert((id(i), timer));
                }
                Effect::CancelTimer(timer) => {
                    self.timers.remove(&(id(i), timer));
                }
                Effect::Emit(e) => self.events.push((id(i), e)),
                _ => {}
            }
        }
    }
    fn ix(node: NodeId) -> usize {
        (0..64).find(|i| id(*i) == node).unwrap()
    }
    /// Delivers everything that `lose` does not name.
    pub(super) fn deliver(&mut self, lose: impl Fn(usize, usize, &Body) -> bool) {
        loop {
            while !self.q.is_empty() {
                let (from, to, message) = self.q.remove(0);
                let (f, t) = (Self::ix(from), Self::ix(to));
                if !lose(f, t, &message.body) {
                    self.input(t, Input::Message { from, message });
                }
            }
            let flush: Vec<_> =
                self.timers.iter().copied().filter(|(_, t)| *t == Timer::Acknowledge).collect();
            if flush.is_empty() {
                return;
            }
            for (n, t) in flush {
                self.timers.remove(&(n, t));
                let i = Self::ix(n);
                self.input(i, Input::Timer(t));
            }
        }
    }
    fn tick(&mut self, lose: impl Fn(usize, usize, &Body) -> bool) {
        self.now = self.now + Duration::from_millis(100);
        for (n, t) in core::mem::take(&mut self.timers) {
            let i = Self::ix(n);
            self.input(i, Input::Timer(t));
        }
        self.deliver(lose);
    }
    pub(super) fn lock(&mut self, i: usize, lock: &LockName, ticket: u64) {
        self.input(
            i,
            Input::Command(Command::Lock { lock: lock.clone(), ticket, wait: Wait::Queue }),
        );
    }
    pub(super) fn holders(&self, lock: &LockName) -> Vec<usize> {
        (0..self.m.len()).filter(|i| self.m[&id(*i)].tokens().any(|(l, _)| l == lock)).collect()
    }
}

#[test]
fn a_full_window_opens_again() {
    let mut h = Hand::new(2, Mode::Rest);
    let names: Vec<LockName> = (0..10_000)
        .map(|k| LockName::new(&format!("w{k}")).unwrap())
        .filter(|l| crate::tokenring::placement::home(&view(2, Mode::Rest), l) == 0)
        .collect();
    assert!(names.len() > 4500);
    for (k, l) in names.iter().enumerate() {
        h.lock(0, l, k as u64);
        h.input(0, Input::Command(Command::Unlock { lock: l.clone(), ticket: k as u64 }));
    }
    let none = |_: usize, _: usize, _: &Body| false;
    for (k, l) in names.iter().enumerate() {
        h.lock(1, l, k as u64);
    }
    h.deliver(none);
    for _ in 0..200 {
        h.tick(none);
    }
    let granted =
        h.events.iter().filter(|(n, e)| *n == id(1) && matches!(e, Event::Granted { .. })).count();
    assert_eq!(granted, names.len());
}

#[test]
fn a_holder_waits_for_nobody() {
    let mut h = Hand::new(3, Mode::Rest);
    let none = |_: usize, _: usize, _: &Body| false;
    let l = LockName::default_lock();
    h.lock(0, &l, 1);
    h.deliver(none);
    h.lock(0, &l, 2);
    h.deliver(none);
    h.input(0, Input::LinkDown(id(2)));
    for _ in 0..30 {
        h.tick(none);
    }
    assert_eq!(h.m[&id(0)].status().waiting_for, None, "holder {:?} {:?}", h.holders(&l), h.events);
}

#[test]
fn a_home_without_room_refuses() {
    let mut h = Hand::new(2, Mode::Rest);
    let none = |_: usize, _: usize, _: &Body| false;
    h.m.insert(id(0), TokenRing::new(Config { locks_max: 1, ..config(0) }));
    h.input(0, Input::LinkUp(id(1)));
    h.input(0, Input::Command(founded(&view(2, Mode::Rest))));
    let full = LockName::new("full").unwrap();
    h.lock(0, &full, 1);
    h.deliver(none);
    let l = lock_with_home(2, 0);
    h.lock(1, &l, 2);
    for _ in 0..600 {
        h.tick(none);
    }
    let ended = h
        .events
        .iter()
        .any(|(n, e)| *n == id(1) && matches!(e, Event::Granted { .. } | Event::Refused { .. }));
    assert!(ended, "{:?}", h.m[&id(1)].status());
}

#[test]
fn a_token_at_the_end_of_its_fences_is_ignored() {
    let mut h = Hand::new(2, Mode::Rest);
    let l = lock_with_home(2, 1);
    let token = Token { sequence: u64::MAX, ..Token::new(2, u64::MAX, false) };
    let message = Message { view: 1, body: Body::Pass { number: 1, lock: l.clone(), token } };
    h.lock(0, &l, 1);
    h.input(0, Input::Message { from: id(1), message });
    assert_eq!((h.holders(&l), h.m[&id(0)].status().ignored), (vec![], 1));
}

/// A circulating token whose successor cannot be reached serves one waiter after the other, but
/// goes on as soon as it can.
#[test]
fn a_circulating_token_goes_on_when_its_successor_is_back() {
    let mut h = Hand::new(2, Mode::Circulate);
    let name = LockName::default_lock();
    for ticket in 1..=4 {
        h.lock(0, &name, ticket);
    }
    let unlock = |ticket| {
        let lock = LockName::default_lock();
        Input::Command(Command::Unlock { lock, ticket })
    };
    h.input(0, Input::LinkDown(id(1)));
    h.input(0, unlock(1));
    assert_eq!(h.holders(&name), [0]);
    h.input(0, Input::LinkUp(id(1)));
    h.input(0, unlock(2));
    let granted = |(_, event): &&(NodeId, Event)| matches!(event, Event::Granted { .. });
    assert_eq!(h.events.iter().filter(granted).count(), 2);
    assert!(h.holders(&name).is_empty(), "it is on its way");
}

#[test]
fn a_token_with_impossible_hops_is_ignored() {
    let mut h = Hand::new(2, Mode::Circulate);
    let l = LockName::default_lock();
    let token = Token { sequence: 1, ..Token::new(2, u64::MAX, false) };
    let message = Message { view: 1, body: Body::Pass { number: 1, lock: l.clone(), token } };
    h.input(1, Input::Message { from: id(0), message });
    h.input(1, Input::Timer(Timer::Hold));
    assert_eq!((h.holders(&l), h.m[&id(1)].status().ignored), (vec![0], 1));
}
