//! The order: three nodes, of which two send at the same time.
//!
//! With one message the interesting bugs cannot be seen, and a third sender hides them.

use crate::{
    adapter::{Checkable, Goal, Setup},
    check::{exhaust, explore},
    lock::it_has_left,
};
use bytes::Bytes;
use roundelay_core::{
    change,
    multicast::{Command as Order, Ticket, Timer as OrderTimer},
    node::{Command, Node, Timer},
};

pub(crate) fn send(ticket: Ticket, text: &'static str) -> Command {
    Command::Order(Order::Send { ticket, payload: Bytes::from_static(text.as_bytes()) })
}

fn all_delivered<P: Checkable>() -> Goal<P> {
    ("all is delivered everywhere, and its senders know", |group, state| {
        let is_send = |command: &&Command| matches!(command, Command::Order(Order::Send { .. }));
        let sends = |script: &Vec<Command>| script.iter().filter(is_send).count();
        let scripts = &group.setup.scripts;
        let all: usize = scripts.iter().map(sends).sum();
        scripts.iter().zip(state.told()).all(|(script, told)| {
            usize::from(told.delivered) == all && usize::from(told.sent) == sends(script)
        })
    })
}

fn something_delivered<P: Checkable>() -> Goal<P> {
    ("something is delivered", |_, state| state.told().any(|told| told.delivered > 0))
}

/// A group whose members send, and tell their clocks at the batch boundary. Whatever is sent stays
/// on the network, so nothing need be sent again, and nothing is asked for.
pub(crate) fn ordering<P: Checkable>(scripts: &[&[Command]]) -> Setup<P> {
    let fires = |timer: &Timer| *timer == Timer::Order(OrderTimer::Flush);
    Setup { order: Some(8), goals: vec![all_delivered()], fires, ..Setup::new(scripts) }
}

/// The same with all timers: clocks are repeated at any time, and asked for.
fn repeating(scripts: &[&[Command]]) -> Setup<Node> {
    Setup { fires: |timer| matches!(timer, Timer::Order(_)), ..ordering(scripts) }
}

#[test]
fn one_message() {
    let setup: Setup<Node> = ordering(&[&[send(1, "a")], &[], &[]]);
    exhaust("order, 3 nodes, 1 message", &setup);
}

#[test]
#[ignore = "long"]
fn two_senders() {
    let setup: Setup<Node> = ordering(&[&[send(1, "a")], &[send(1, "b")], &[]]);
    exhaust("order, 3 nodes, 2 messages", &setup);
}

#[test]
#[ignore = "long"]
fn two_senders_repeat() {
    let mut setup = repeating(&[&[send(1, "a")], &[send(1, "b")], &[]]);
    setup.goals = vec![something_delivered()];
    explore("order, 3 nodes, 2 messages, all timers", &setup, 8);
}

#[test]
#[ignore = "long"]
fn one_sender_repeats() {
    let setup = repeating(&[&[send(1, "a")], &[], &[]]);
    explore("order, 3 nodes, 1 message, all timers", &setup, 12);
}

#[test]
#[ignore = "long"]
fn one_of_two_senders_sends_twice() {
    let mut setup: Setup<Node> = ordering(&[&[send(1, "a"), send(2, "b")], &[send(1, "c")], &[]]);
    setup.goals = vec![something_delivered()];
    explore("order, 3 nodes, 3 messages of 2 senders", &setup, 10);
}

#[test]
#[ignore = "long"]
fn pieces() {
    let mut setup: Setup<Node> = ordering(&[&[send(1, "ab")], &[send(1, "c")], &[]]);
    setup.order = Some(1);
    exhaust("order, 3 nodes, 2 messages, 1 in two pieces", &setup);
}

fn leaving(scripts: &[&[Command]]) -> Setup<Node> {
    let fires = |timer: &Timer| {
        *timer == Timer::Order(OrderTimer::Flush)
            || *timer == Timer::Change(change::Timer::Patience)
    };
    Setup { goals: vec![it_has_left()], fires, ..ordering(scripts) }
}

#[test]
#[ignore = "long"]
fn one_sender_leaves() {
    let setup = leaving(&[&[send(1, "a"), Command::Leave], &[], &[]]);
    explore("order, 3 nodes, 1 message, its sender leaves", &setup, 16);
}

#[test]
#[ignore = "long"]
fn one_sends_and_another_leaves() {
    let setup = leaving(&[&[Command::Leave], &[send(1, "a")], &[]]);
    explore("order, 3 nodes, 1 message, another leaves", &setup, 11);
}
