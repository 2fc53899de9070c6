//! The view change: three members, of which some suspect others, while others send.

use crate::{
    adapter::{Checkable, Goal, Setup},
    check::explore,
    lock::lock,
    member::Member,
    order::send,
};
use roundelay_core::{
    multicast::Timer as OrderTimer,
    node::{Command, Node, Timer},
    tokenring::Mode,
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
    explore("views, 3 nodes, 1 suspects", &setup, 17);
}

#[test]
#[ignore = "long"]
fn two_suspect() {
    let setup = changing(&[&[], &[], &[]], &[&[2], &[2], &[]]);
    explore("views, 3 nodes, 2 suspect", &setup, 14);
}

#[test]
#[ignore = "long"]
fn one_suspects_and_two_send() {
    let setup = changing(&[&[send(1, "a")], &[send(1, "b")], &[]], &[&[2], &[], &[]]);
    explore("views, 3 nodes, 2 messages, 1 suspects", &setup, 11);
}

fn restarted_one_accepts<P: Checkable>() -> Goal<P> {
    ("one that was restarted has accepted what follows", |_, state| {
        state.members.iter().filter(|member| member.restarts > 0).any(|member| {
            let saved = member.saved.as_ref();
            saved.is_some_and(|saved| {
                saved.accepted.is_some() && saved.lives.last() == Some(&member.life)
            })
        })
    })
}

fn restarted_one_is_taken_in<P: Checkable>() -> Goal<P> {
    ("one that was restarted is in a later view", |_, state| {
        state.members.iter().any(|member| {
            let view = member.machine.node().view();
            member.restarts > 0 && view.is_some_and(|view| view.number > 1)
        })
    })
}

/// Who is restarted knows nothing but what it saved, and decides about the end of the view.
fn restarting(scripts: &[&[Command]], restarts: &[u8]) -> Setup<Node> {
    let goals = vec![somebody_goes_on(), restarted_one_accepts()];
    Setup { restarts: restarts.to_vec(), goals, ..changing(scripts, &[&[], &[], &[]]) }
}

#[test]
#[ignore = "long"]
fn one_is_restarted() {
    let setup = restarting(&[&[], &[], &[]], &[0, 0, 1]);
    explore("views, 3 nodes, 1 is restarted", &setup, 12);
}

#[test]
#[ignore = "long"]
fn one_is_restarted_and_two_send() {
    let setup = restarting(&[&[send(1, "a")], &[send(1, "b")], &[]], &[0, 0, 1]);
    explore("views, 3 nodes, 2 messages, 1 is restarted", &setup, 8);
}

#[test]
#[ignore = "long"]
fn a_sender_is_restarted() {
    let setup = restarting(&[&[send(1, "a")], &[send(1, "b")], &[]], &[0, 1, 0]);
    explore("views, 3 nodes, 2 messages, 1 of their senders is restarted", &setup, 9);
}

#[test]
#[ignore = "long"]
fn two_are_restarted() {
    let mut setup = restarting(&[&[], &[], &[]], &[0, 1, 1]);
    setup.goals.push(restarted_one_is_taken_in());
    explore("views, 3 nodes, 2 are restarted", &setup, 10);
}

/// The holder is left out by the others, with its token: one of them makes it anew.
#[test]
#[ignore = "long"]
fn a_token_is_made_anew() {
    let mut setup = changing(&[&[], &[], &[lock(1)]], &[&[2], &[], &[]]);
    (setup.order, setup.lock) = (None, Some(Mode::Rest));
    setup.fires = |timer| matches!(timer, Timer::Change(_) | Timer::Lock(_));
    setup.goals.push(("the holder is left out, and there is a token again", |_, state| {
        let has_token = |member: &Member<Node>| {
            member.machine.lock().is_some_and(|lock| lock.tokens().count() > 0)
        };
        let holder = &state.members[2];
        let others = &mut state.members[..2].iter();
        holder.told.granted == 1
            && holder.told.views == 1
            && others.any(|member| member.told.views == 2 && has_token(member))
    }));
    explore("views, 3 nodes, a holder is left out", &setup, 14);
}
