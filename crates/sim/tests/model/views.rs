//! The view change: three members, of which some suspect others, while others send.

use crate::{
    adapter::{Checkable, Goal, Setup},
    check::explore,
    order::send,
};
use roundelay_core::{
    multicast::Timer as OrderTimer,
    node::{Command, Node, Timer},
};

fn somebody_goes_on<P: Checkable>() -> Goal<P> {
    ("view 2 is in use", |_, state| state.told().any(|told| told.views == 2))
}

fn changing(scripts: &[&[Command]], suspects: &[&[usize]]) -> Setup<Node> {
    let fires = |timer: &Timer| {
        matches!(timer, Timer::Change(_) | Timer::Order(OrderTimer::Flush | OrderTimer::Fetch))
    };
    let suspects = suspects.iter().map(|peers| peers.to_vec()).collect();
    let goals = vec![somebody_goes_on()];
    Setup { order: Some(8), suspects, fires, goals, ..Setup::new(scripts) }
}

#[test]
#[ignore = "long"]
fn one_suspects() {
    let setup = changing(&[&[], &[], &[]], &[&[2], &[], &[]]);
    explore("views, 3 nodes, 1 suspects", &setup, 14);
}

#[test]
#[ignore = "long"]
fn two_suspect() {
    let setup = changing(&[&[], &[], &[]], &[&[2], &[2], &[]]);
    explore("views, 3 nodes, 2 suspect", &setup, 11);
}

#[test]
#[ignore = "long"]
fn one_suspects_and_two_send() {
    let setup = changing(&[&[send(1, "a")], &[send(1, "b")], &[]], &[&[2], &[], &[]]);
    explore("views, 3 nodes, 2 messages, 1 suspects", &setup, 9);
}
