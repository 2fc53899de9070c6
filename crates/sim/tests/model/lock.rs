//! The lock: rings of three and four nodes that want it at the same time.

use crate::{
    adapter::{Checkable, Goal, Setup},
    check::{exhaust, explore},
};
use roundelay_core::{
    change,
    node::{Command, Message, Node, Timer},
    tokenring::{self, Body, LockName, Mode, Ticket, Wait},
};

fn name() -> LockName {
    LockName::default_lock()
}

pub(crate) fn lock(ticket: Ticket) -> Command {
    Command::Lock(tokenring::Command::Lock { lock: name(), ticket, wait: Wait::Queue })
}

fn try_lock(ticket: Ticket) -> Command {
    Command::Lock(tokenring::Command::Lock { lock: name(), ticket, wait: Wait::Try })
}

fn unlock(ticket: Ticket) -> Command {
    Command::Lock(tokenring::Command::Unlock { lock: name(), ticket })
}

/// All have had the lock who wanted it, and have released it.
fn all_had_it<P: Checkable>() -> Goal<P> {
    ("all had the lock", |group, state| {
        let scripts = group.setup.scripts.iter();
        let locks =
            |command: &&Command| matches!(command, Command::Lock(tokenring::Command::Lock { .. }));
        scripts
            .zip(state.told())
            .all(|(script, told)| script.iter().filter(locks).count() == usize::from(told.released))
    })
}

pub(crate) fn it_has_left<P: Checkable>() -> Goal<P> {
    ("it has left", |_, state| state.told().any(|told| told.left))
}

fn it_left_the_lock_to_the_other<P: Checkable>() -> Goal<P> {
    ("one has left, and the other has the lock", |_, state| {
        state.told().any(|told| told.left)
            && state.told().any(|told| told.granted > 0 && !told.left)
    })
}

/// A resting token, and clients that want it.
pub(crate) fn resting<P: Checkable>(scripts: &[&[Command]]) -> Setup<P> {
    Setup { lock: Some(Mode::Rest), goals: vec![all_had_it()], ..Setup::new(scripts) }
}

/// A circulating token. It would go on for ever, so the pass after so many hops is lost.
fn circulating<const HOPS: u64>(scripts: &[&[Command]]) -> Setup<Node> {
    let carries = |message: &Message| match message {
        Message::Lock(tokenring::Message { body: Body::Pass { token, .. }, .. }) => {
            token.hops <= HOPS
        }
        message => !matches!(message, Message::Detector(_)),
    };
    Setup { lock: Some(Mode::Circulate), goals: vec![all_had_it()], carries, ..Setup::new(scripts) }
}

#[test]
fn two_of_three_want_it() {
    exhaust("lock, 3 nodes, 2 want it", &resting::<Node>(&[&[lock(1)], &[lock(1)], &[]]));
}

#[test]
#[ignore = "long"]
fn one_gives_up() {
    let mut setup: Setup<Node> = resting(&[&[lock(1), unlock(1)], &[lock(1)], &[]]);
    setup.goals = vec![
        ("both had it", |_, state| state.told().take(2).all(|told| told.released == 1)),
        ("one gave up", |_, state| state.told().any(|told| told.refused == 1)),
    ];
    exhaust("lock, 3 nodes, 2 want it, 1 gives up", &setup);
}

#[test]
#[ignore = "long"]
fn one_of_three_wants_it_again() {
    let setup: Setup<Node> = resting(&[&[lock(1), lock(2)], &[lock(1)], &[]]);
    exhaust("lock, 3 nodes, 2 want it, 1 of them twice", &setup);
}

#[test]
#[ignore = "long"]
fn all_three_want_it() {
    let mut setup: Setup<Node> = resting(&[&[lock(1)], &[lock(1)], &[lock(1)]]);
    setup.goals =
        vec![("two had it", |_, state| state.told().filter(|told| told.released > 0).count() == 2)];
    explore("lock, 3 nodes, 3 want it", &setup, 16);
}

#[test]
#[ignore = "long"]
fn two_of_four_want_it() {
    let setup: Setup<Node> = resting(&[&[lock(1)], &[], &[lock(1)], &[]]);
    explore("lock, 4 nodes, 2 want it", &setup, 18);
}

#[test]
#[ignore = "long"]
fn one_tries() {
    let mut setup: Setup<Node> = resting(&[&[lock(1)], &[try_lock(1), try_lock(2)], &[]]);
    setup.goals = vec![
        ("both had it", |_, state| state.told().take(2).all(|told| told.released > 0)),
        ("both tries were refused", |_, state| state.told().any(|told| told.refused == 2)),
    ];
    explore("lock, 3 nodes, 1 wants it, 1 tries twice", &setup, 20);
}

#[test]
#[ignore = "long"]
fn one_leaves() {
    let mut setup: Setup<Node> = resting(&[&[lock(1), Command::Leave], &[lock(1)], &[]]);
    setup.goals = vec![it_has_left(), it_left_the_lock_to_the_other()];
    setup.fires = |timer| matches!(timer, Timer::Lock(_) | Timer::Change(change::Timer::Patience));
    explore("lock, 3 nodes, 2 want it, 1 leaves", &setup, 10);
}

#[test]
fn a_token_circulates_among_three() {
    let setup = circulating::<4>(&[&[lock(1)], &[lock(1)], &[]]);
    exhaust("lock, 3 nodes, circulating 4 hops, 2 want it", &setup);
}

#[test]
#[ignore = "long"]
fn a_token_circulates_among_four() {
    let setup = circulating::<6>(&[&[lock(1)], &[], &[lock(1)], &[]]);
    exhaust("lock, 4 nodes, circulating 6 hops, 2 want it", &setup);
}
