//! Locks that nobody uses are forgotten, and nothing goes wrong because of that.

use super::{
    steps::{Hand, lock_with_home},
    *,
};
use crate::planted::Bug;

const NEVER: fn(usize, usize, &Body) -> bool = |_, _, _| false;

/// Three members that forget.
fn hand() -> Hand {
    let mut h = Hand::new(3, Mode::Rest);
    for machine in h.m.values_mut() {
        machine.config.idle = Some(Duration::from_secs(1));
    }
    h
}

/// Client `ticket` of member `i` uses the lock; returns its fence.
fn uses(h: &mut Hand, i: usize, lock: &LockName, ticket: Ticket) -> Option<u64> {
    h.lock(i, lock, ticket);
    h.deliver(NEVER);
    h.input(i, unlock(lock, ticket));
    h.deliver(NEVER);
    h.events.drain(..).find_map(|(node, event)| match event {
        Event::Granted { ticket: granted, fence, .. } if (node, granted) == (id(i), ticket) => {
            Some(fence)
        }
        _ => None,
    })
}

fn unlock(lock: &LockName, ticket: Ticket) -> crate::protocol::InputOf<TokenRing> {
    Input::Command(Command::Unlock { lock: lock.clone(), ticket })
}

/// The timer fires everywhere, `times`.
fn look(h: &mut Hand, times: usize) {
    for _ in 0..times {
        for i in 0..h.m.len() {
            h.input(i, Input::Timer(Timer::Idle));
        }
        h.deliver(NEVER);
    }
}

fn remembered(h: &Hand) -> Vec<usize> {
    h.m.values().map(|machine| machine.locks.len()).collect()
}

#[test]
fn an_idle_token_goes_home_and_is_forgotten_but_for_its_fences() {
    for (planted, expected) in [(None, 2), (Some(Bug::FloorForgotten), 1)] {
        let mut h = hand();
        h.planted = planted;
        let lock = lock_with_home(3, 0);
        assert_eq!(uses(&mut h, 1, &lock, 1), Some(1));
        look(&mut h, 1);
        assert_eq!(h.holders(&lock), [1], "it was used since the last look");
        h.input(1, Input::Timer(Timer::Idle));
        assert!(matches!(&h.q[..], [(from, to, Message { body: Body::Pass { .. }, .. })]
            if (*from, *to) == (id(1), id(0))));
        h.deliver(NEVER);
        assert_eq!(h.holders(&lock), [0]);
        look(&mut h, 2);
        assert_eq!(remembered(&h), [0, 0, 0]);
        // Another lock with the same home begins after the floor as well.
        assert_eq!(uses(&mut h, 2, &lock, 2), Some(expected));
    }
}

#[test]
fn a_lock_that_is_used_stays() {
    let mut h = hand();
    let lock = lock_with_home(3, 0);
    for ticket in 1..6 {
        assert_eq!(uses(&mut h, 1, &lock, ticket), Some(ticket));
        look(&mut h, 1);
        assert_eq!(h.holders(&lock), [1]);
    }
    // As long as it is held it does not move, whatever the others forget.
    for (planted, holder) in [(None, 1), (Some(Bug::RetiresHeld), 0)] {
        h.planted = planted;
        h.lock(1, &lock, 9);
        look(&mut h, 3);
        assert_eq!(h.holders(&lock), [holder]);
        h.input(1, unlock(&lock, 9));
    }
}

#[test]
fn the_home_remembers_what_is_elsewhere() {
    for (planted, holders) in [(None, vec![1]), (Some(Bug::RecordForgotten), vec![0, 1])] {
        let mut h = hand();
        h.planted = planted;
        let lock = lock_with_home(3, 0);
        h.lock(1, &lock, 1);
        h.deliver(NEVER);
        look(&mut h, 4);
        h.lock(0, &lock, 2);
        h.deliver(NEVER);
        assert_eq!(h.holders(&lock), holders);
    }
}

/// The home knows that the token went to 1, which has passed it to 2 and forgotten that.
#[test]
fn a_request_finds_the_token_where_the_way_is_forgotten() {
    let mut h = hand();
    let lock = lock_with_home(3, 0);
    uses(&mut h, 1, &lock, 1);
    h.lock(2, &lock, 2);
    h.deliver(NEVER);
    look(&mut h, 2);
    assert_eq!(remembered(&h), [1, 0, 1]);
    h.lock(1, &lock, 3);
    h.lock(0, &lock, 4);
    h.deliver(NEVER);
    h.input(2, unlock(&lock, 2));
    h.deliver(NEVER);
    assert_eq!(h.holders(&lock), [0], "the next in ring order");
    h.input(0, unlock(&lock, 4));
    h.deliver(NEVER);
    assert_eq!(h.holders(&lock), [1]);
}

#[test]
fn a_fresh_token_is_forgotten_only_where_another_would_be_fresh() {
    for (unknown_fresh, left) in [(false, 1), (true, 0)] {
        let mut h = hand();
        let lock = lock_with_home(3, 0);
        let machine = h.m.get_mut(&id(0)).unwrap();
        machine.ring.as_mut().unwrap().unknown_fresh = unknown_fresh;
        machine.lock_mut(&lock).take_in(Token::new(3, 0, true), 0, 1);
        look(&mut h, 3);
        assert_eq!(remembered(&h)[0], left);
    }
}

#[test]
fn what_is_only_a_cache_gives_way() {
    let mut h = hand();
    let (old, new) = (lock_with_home(3, 0), LockName::new("another").unwrap());
    uses(&mut h, 1, &old, 1);
    uses(&mut h, 2, &old, 2);
    h.m.get_mut(&id(1)).unwrap().config.locks_max = 1;
    assert_eq!(uses(&mut h, 1, &new, 3), Some(1));
    // A token does not.
    h.lock(1, &old, 4);
    let refused = Event::Refused { lock: old, ticket: 4, reason: Refusal::TooMany };
    assert_eq!(h.events, [(id(1), refused)]);
}

#[test]
fn a_hundred_thousand_locks_leave_nothing() {
    let (mut h, mut most) = (hand(), 0);
    for round in 0..100 {
        for k in 0..1_000 {
            let lock = LockName::new(&format!("{round}-{k}")).unwrap();
            h.lock(k % 3, &lock, 1);
            h.input(k % 3, unlock(&lock, 1));
        }
        h.deliver(NEVER);
        for (node, event) in core::mem::take(&mut h.events) {
            if let Event::Granted { lock, ticket, .. } = event {
                let i = (0..3).find(|i| id(*i) == node).unwrap();
                h.input(i, unlock(&lock, ticket));
            }
        }
        look(&mut h, 16);
        most = most.max(remembered(&h).into_iter().max().unwrap());
    }
    assert!(most < 5_000, "{most}");
    look(&mut h, 40);
    assert_eq!(remembered(&h), [0, 0, 0]);
    for i in 0..3 {
        h.input(i, Input::Command(Command::Wedge));
        let report = h.m[&id(i)].report();
        let received = report.received.clone();
        assert_eq!(report, Report { received, ..Report::default() });
    }
}
