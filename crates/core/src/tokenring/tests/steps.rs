//! Single interleavings, message by message: what a random network finds once in a million steps.

use super::*;
use crate::{
    planted::Bug,
    protocol::{Context, Effect, InputOf, Protocol as _, Rng},
    time::Time,
};
use core::cell::RefCell;
use rand_core::SeedableRng as _;

fn lock_with_home(n: usize, home: usize) -> LockName {
    (0..1_000)
        .map(|k| LockName::new(&format!("l{k}")).unwrap())
        .find(|l| crate::id::hash64(l.as_str().as_bytes()) % n as u64 == home as u64)
        .unwrap()
}

/// Holds back messages that `hold` names; delivers the others at once, in order.
struct Hand {
    m: BTreeMap<NodeId, TokenRing>,
    now: Time,
    rng: Rng,
    q: Vec<(NodeId, NodeId, Message)>,
    events: Vec<(NodeId, Event)>,
    timers: BTreeSet<(NodeId, Timer)>,
    planted: Option<Bug>,
}
impl Hand {
    fn new(n: usize, mode: Mode) -> Self {
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
            now: Time::ZERO,
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
            h.input(i, Input::Command(Command::Install { view: view(n, mode), founder: 0 }));
        }
        h
    }
    fn input(&mut self, i: usize, input: InputOf<TokenRing>) {
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
    fn deliver(&mut self, lose: impl Fn(usize, usize, &Body) -> bool) {
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
    fn lock(&mut self, i: usize, lock: &LockName, ticket: u64) {
        self.input(
            i,
            Input::Command(Command::Lock { lock: lock.clone(), ticket, wait: Wait::Queue }),
        );
    }
    fn holders(&self, lock: &LockName) -> Vec<usize> {
        (0..self.m.len()).filter(|i| self.m[&id(*i)].tokens().any(|(l, _)| l == lock)).collect()
    }
}

/// The home, p0, has left, and p1 has taken over from it. The token rests with p2, which leaves
/// before it is asked: it passes the token to p3, which has already said "never" to p1. That answer
/// is returned, and has come unless `is_slow`.
fn who_leaves_has_not_answered(
    lock: &LockName,
    planted: Option<Bug>,
    is_slow: bool,
) -> (Hand, Body) {
    let mut h = Hand::new(4, Mode::Rest);
    h.planted = planted;
    let none = |_: usize, _: usize, _: &Body| false;
    h.lock(2, lock, 1);
    h.deliver(none);
    h.input(2, Input::Command(Command::Unlock { lock: lock.clone(), ticket: 1 }));
    assert_eq!(h.holders(lock), [2]);
    h.input(0, Input::Command(Command::Leave));
    for _ in 0..20 {
        h.tick(none);
    }
    assert!(h.events.contains(&(id(0), Event::LeaveDone)));
    let answer = RefCell::new(None);
    let slow = |from: usize, to: usize, b: &Body| {
        if from == 3 && matches!(b, Body::Answer { .. }) {
            answer.replace(Some(b.clone()));
            return is_slow;
        }
        to == 2 && matches!(b, Body::Ask { .. })
    };
    h.lock(1, lock, 2);
    h.deliver(slow);
    h.input(2, Input::Command(Command::Leave));
    h.deliver(slow);
    assert!(h.events.contains(&(id(2), Event::LeaveDone)), "{:?}", h.events);
    assert_eq!(h.holders(lock), [3]);
    let answer = answer.take().expect("p3 was asked");
    assert!(matches!(answer, Body::Answer { known: false, .. }));
    (h, answer)
}

#[test]
fn a_home_asks_anew_when_somebody_leaves_without_an_answer() {
    let lock = lock_with_home(4, 0);
    let none = |_: usize, _: usize, _: &Body| false;
    let (mut h, _) = who_leaves_has_not_answered(&lock, None, false);
    h.lock(3, &lock, 3);
    h.deliver(none);
    for _ in 0..31 {
        h.tick(none);
    }
    assert_eq!(h.holders(&lock), [3]);
    h.input(3, Input::Command(Command::Unlock { lock: lock.clone(), ticket: 3 }));
    for _ in 0..30 {
        h.tick(none);
    }
    assert_eq!(h.holders(&lock), [1]);
    // Were the round to go on with those who stay, there would be two tokens.
    let (mut h, _) = who_leaves_has_not_answered(&lock, Some(Bug::RoundGoesOn), false);
    h.lock(3, &lock, 3);
    h.tick(none);
    assert_eq!(h.holders(&lock), [1, 3]);
}

#[test]
fn an_answer_to_an_earlier_round_does_not_count() {
    let lock = lock_with_home(4, 0);
    for (planted, holders) in [(None, vec![3]), (Some(Bug::StaleAnswer), vec![1, 3])] {
        let (mut h, answer) = who_leaves_has_not_answered(&lock, planted, true);
        // p1 asks p3 anew. That is slow, but what p3 has said before comes at last.
        h.lock(3, &lock, 3);
        h.tick(|_, _, b| matches!(b, Body::Answer { .. }));
        let message = Message { view: 1, body: answer };
        h.input(1, Input::Message { from: id(3), message });
        assert_eq!(h.holders(&lock), holders, "{planted:?}");
    }
}

#[test]
fn a_full_window_opens_again() {
    let mut h = Hand::new(2, Mode::Rest);
    let names: Vec<LockName> = (0..10_000)
        .map(|k| LockName::new(&format!("w{k}")).unwrap())
        .filter(|l| crate::id::hash64(l.as_str().as_bytes()).is_multiple_of(2))
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
fn who_left_is_told_until_it_is_acknowledged() {
    let mut h = Hand::new(3, Mode::Rest);
    let none = |_: usize, _: usize, _: &Body| false;
    let lock = lock_with_home(3, 1);
    h.lock(1, &lock, 1);
    h.deliver(none);
    h.lock(0, &lock, 2);
    h.deliver(none);
    // p1 passes to p0, which leaves; p1's pass is lost, and p1 cannot be reached by anybody.
    h.input(0, Input::LinkDown(id(1)));
    h.input(2, Input::LinkDown(id(1)));
    h.input(1, Input::Command(Command::Unlock { lock: lock.clone(), ticket: 1 }));
    let cut = |f: usize, t: usize, _: &Body| f == 1 || t == 1;
    h.deliver(cut);
    h.input(0, Input::Command(Command::Leave));
    for _ in 0..30 {
        h.tick(cut);
    }
    assert!(h.events.contains(&(id(0), Event::LeaveDone)));
    h.m.remove(&id(0));
    h.input(2, Input::LinkDown(id(0)));
    for _ in 0..30 {
        h.tick(cut);
    }
    // p1 is reachable again; one message, the first Left, is lost.
    h.input(1, Input::LinkDown(id(0)));
    h.input(2, Input::LinkUp(id(1)));
    h.input(1, Input::LinkUp(id(2)));
    h.deliver(|_, _, b| matches!(b, Body::Left { .. }));
    h.lock(1, &lock, 9);
    for _ in 0..600 {
        h.tick(none);
    }
    assert!(h.events.contains(&(id(1), Event::MemberLeft(id(0)))), "{:?}", h.m[&id(1)].status());
}

/// A leaver that is cut off does not go before somebody can pass its last words on: else a token
/// on its way to it would be lost.
#[test]
fn who_reaches_nobody_waits_to_be_heard() {
    let none = |_: usize, _: usize, _: &Body| false;
    let cut = |from: usize, to: usize, _: &Body| from == 0 || to == 0;
    let left = |h: &Hand| h.events.contains(&(id(0), Event::LeaveDone));
    for is_back in [true, false] {
        let mut h = Hand::new(3, Mode::Circulate);
        // The token goes round, and is on its way from p2 to p0 when p0 is cut off.
        while h.m[&id(2)].status().unacknowledged == 0 {
            h.tick(|from, to, b| (from, to) == (2, 0) && matches!(b, Body::Pass { .. }));
        }
        h.input(0, Input::LinkDown(id(1)));
        h.input(0, Input::LinkDown(id(2)));
        h.input(0, Input::Command(Command::Leave));
        for _ in 0..50 {
            h.tick(cut);
        }
        assert!(!left(&h));
        if is_back {
            h.input(0, Input::LinkUp(id(1)));
            for _ in 0..10 {
                h.tick(|from, to, _| (from, to) == (0, 2) || (from, to) == (2, 0));
            }
            assert!(left(&h));
            h.lock(1, &LockName::default_lock(), 1);
            for _ in 0..10 {
                h.tick(none);
            }
            assert_eq!(h.holders(&LockName::default_lock()), [1], "p2 has taken it back");
        } else {
            for _ in 0..60 {
                h.tick(cut);
            }
            assert!(left(&h), "there is an end to its patience");
        }
    }
}

/// What arrives after the last words is not acknowledged, or else its sender would not take it back.
#[test]
fn a_pass_after_the_last_words_is_taken_back() {
    let lock = LockName::default_lock();
    for planted in [None, Some(Bug::AcknowledgesAfterLeft)] {
        let mut h = Hand::new(3, Mode::Circulate);
        h.planted = planted;
        while h.m[&id(2)].status().unacknowledged == 0 {
            h.tick(|from, to, b| (from, to) == (2, 0) && matches!(b, Body::Pass { .. }));
        }
        // p0 does not reach p2 and leaves; p1 hears of it, but its answer is slow.
        let slow = |_: usize, to: usize, b: &Body| {
            matches!(b, Body::LeftAck { .. }) || (to == 2 && matches!(b, Body::Left { .. }))
        };
        h.input(0, Input::LinkDown(id(2)));
        h.input(0, Input::Command(Command::Leave));
        for _ in 0..15 {
            h.tick(|from, to, b| slow(from, to, b) || from + to == 2 && from != to);
        }
        assert!(h.events.contains(&(id(1), Event::MemberLeft(id(0)))));
        assert!(!h.events.contains(&(id(0), Event::LeaveDone)));
        // Now the pass of p2 gets through, and so would an answer to it.
        h.tick(slow);
        h.lock(1, &lock, 1);
        for _ in 0..20 {
            h.tick(|_, _, _| false);
        }
        let granted = h.events.iter().any(|(node, event)| {
            *node == id(1) && matches!(event, Event::Granted { ticket: 1, .. })
        });
        assert_eq!(granted, planted.is_none(), "{planted:?}");
    }
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
    h.input(0, Input::Command(Command::Install { view: view(2, Mode::Rest), founder: 0 }));
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
    let token =
        Token { sequence: u64::MAX, hops: u64::MAX, wanted: vec![0; 2], served: vec![0; 2] };
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
    let token = Token { sequence: 1, hops: u64::MAX, wanted: vec![0; 2], served: vec![0; 2] };
    let message = Message { view: 1, body: Body::Pass { number: 1, lock: l.clone(), token } };
    h.input(1, Input::Message { from: id(0), message });
    h.input(1, Input::Timer(Timer::Hold));
    assert_eq!((h.holders(&l), h.m[&id(1)].status().ignored), (vec![0], 1));
}

#[test]
fn who_leaves_passes_on_who_left_before() {
    let mut h = Hand::new(3, Mode::Rest);
    h.input(0, Input::LinkDown(id(2)));
    h.input(2, Input::LinkDown(id(0)));
    h.input(0, Input::Command(Command::Leave));
    let cut = |from: usize, to: usize| from + to == 2 && from != to;
    let lost = |from: usize, to: usize, b: &Body| {
        cut(from, to) || (to == 2 && matches!(b, Body::Left { member: 0, .. }))
    };
    let left = |h: &Hand, i| h.events.contains(&(id(i), Event::LeaveDone));
    for _ in 0..30 {
        h.tick(lost);
    }
    assert!(left(&h, 0), "p2 knows");
    h.input(1, Input::Command(Command::Leave));
    for _ in 0..30 {
        h.tick(lost);
    }
    assert!(!left(&h, 1), "p3 does not know of p1");
    for _ in 0..5 {
        h.tick(|from, to, _| cut(from, to));
    }
    assert!(left(&h, 1));
}
