//! Rules left out on purpose: the checker must find a way to break what they protect, and shows
//! the shortest.

use crate::{
    adapter::Setup,
    check::{break_soonest, exhaust},
    lock::{lock, resting},
    order::{ordering, send},
};
use roundelay_core::{node::Node, planted::Bug};

fn planting(bug: Bug, setup: Setup<Node>) -> Setup<Node> {
    Setup { planted: Some(bug), ..setup }
}

fn two_senders(bug: Bug) -> Setup<Node> {
    planting(bug, ordering(&[&[send(1, "a")], &[send(1, "b")], &[]]))
}

#[test]
fn a_pass_taken_twice_is_found() {
    let setup = planting(Bug::DuplicatePass, resting(&[&[lock(1)], &[lock(1)], &[]]));
    assert_eq!(break_soonest("DuplicatePass", &setup), "one_token");
}

#[test]
fn a_clock_before_its_sequence_is_found() {
    let setup = two_senders(Bug::ClockBeforeSequence);
    // Who knew the message that is left out sends the other: the order of causes breaks first.
    assert_eq!(break_soonest("ClockBeforeSequence", &setup), "causal_order");
}

#[test]
fn a_delivery_without_a_majority_is_found() {
    assert_eq!(break_soonest("NoMajority", &two_senders(Bug::NoMajority)), "uniformity");
}

/// Of a single message, a majority has it as soon as the clocks have passed it: so nothing can be
/// found with one (rules of the multicast, T3).
#[test]
fn with_one_message_a_majority_is_not_missed() {
    let one = planting(Bug::NoMajority, ordering(&[&[send(1, "a")], &[], &[]]));
    exhaust("NoMajority, 1 message: not found", &one);
}
