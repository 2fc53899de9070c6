//! The founding: two starters of the walk at the same time.

use crate::{
    adapter::{Checkable, Goal, Setup},
    check::explore,
    lock::lock,
};
use roundelay_core::{
    node::{Command, Node},
    tokenring::Mode,
};

/// Both starters have met: one has given way, and was told so.
fn both_met<P: Checkable>() -> Goal<P> {
    ("a starter gave way", |_, state| state.told().any(|told| told.starts_refused > 0))
}

fn all_founded<P: Checkable>() -> Goal<P> {
    ("all are founded, with one that gave way", |_, state| {
        state.told().all(|told| told.installed) && state.told().any(|told| told.starts_refused > 0)
    })
}

fn unfounded(scripts: &[&[Command]]) -> Setup<Node> {
    let goals = vec![both_met(), all_founded()];
    Setup { founded: false, lock: Some(Mode::Rest), goals, ..Setup::new(scripts) }
}

#[test]
#[ignore = "long"]
fn two_of_three_start() {
    let setup = unfounded(&[&[Command::Start], &[Command::Start], &[]]);
    explore("founding, 3 nodes, 2 starters, p1 and p2", &setup, 14);
}

#[test]
#[ignore = "long"]
fn the_first_and_the_last_of_three_start() {
    let setup = unfounded(&[&[Command::Start], &[], &[Command::Start]]);
    explore("founding, 3 nodes, 2 starters, p1 and p3", &setup, 14);
}

#[test]
#[ignore = "long"]
fn two_of_four_start() {
    let mut setup = unfounded(&[&[Command::Start], &[], &[Command::Start], &[]]);
    setup.goals = vec![both_met()];
    explore("founding, 4 nodes, 2 starters", &setup, 12);
}

#[test]
#[ignore = "long"]
fn two_start_and_want_the_lock() {
    let scripts: [&[Command]; 3] = [&[Command::Start, lock(1)], &[Command::Start, lock(1)], &[]];
    explore("founding and lock, 3 nodes, 2 starters", &unfounded(&scripts), 14);
}
