use super::*;
use crate::{
    planted::Bug,
    protocol::{Context, Effect, Input, Protocol as _, Rng},
    testing::{Faults, Group},
    time::Time,
};
use alloc::{boxed::Box, collections::BTreeSet, format, vec};
use core::time::Duration;
use rand_core::SeedableRng as _;

fn name(i: usize) -> Name {
    Name::new(&format!("p{}", i + 1)).unwrap()
}

fn config(i: usize, n: usize, next: usize) -> Config {
    Config {
        name: name(i),
        life: Life(i as u128 + 100),
        list: (0..n).map(name).collect(),
        next: Some(name(next)),
        trigger: Trigger::Command,
        mode: Mode::Circulate,
        lease: Duration::from_secs(5),
    }
}

/// A group in which node i names `next[i]`.
fn group(next: &[usize], seed: u64) -> Group<Founding> {
    let n = next.len();
    let machine = |i: usize| (name(i).id(), Founding::new(config(i, n, next[i])));
    let mut group = Group::new((0..n).map(machine), seed);
    group.start();
    group
}

fn start(group: &mut Group<Founding>, i: usize) {
    group.input(name(i).id(), Input::Command(Command::Start));
}

fn installed(group: &Group<Founding>) -> Vec<(NodeId, View, usize)> {
    let of = |(id, event): &(NodeId, Event)| match event {
        Event::Installed { value, .. } => {
            let founder = value.lock.tokens[0].at;
            Some((*id, value.view.clone(), usize::from(founder)))
        }
        _ => None,
    };
    group.events.iter().filter_map(of).collect()
}

fn refusals(group: &Group<Founding>, i: usize) -> Vec<StartError> {
    let of = |(id, event): &(NodeId, Event)| match event {
        Event::Refused(error) if *id == name(i).id() => Some(error.clone()),
        _ => None,
    };
    group.events.iter().filter_map(of).collect()
}

const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_start_walks_the_ring_and_all_install_the_same_view() {
    // p1 → p3 → p2 → p1
    let mut group = group(&[2, 0, 1], 1);
    start(&mut group, 1);
    group.run(LONG);
    let installed = installed(&group);
    assert_eq!(installed.len(), 3);
    for (_, view, founder) in &installed {
        assert_eq!((view.number, *founder), (1, 1));
        assert_eq!(*view.ring, [0, 2, 1]);
        assert_eq!(view.members[2].life, Life(102));
        assert_eq!(view.mode, Mode::Circulate);
    }
}

#[test]
fn a_start_waits_for_absent_nodes_and_says_for_whom() {
    let machine = |i: usize| (name(i).id(), Founding::new(config(i, 2, 1 - i)));
    let mut group = Group::new((0..2).map(machine), 1);
    start(&mut group, 0);
    assert_eq!(group.events, [(name(0).id(), Event::WaitingFor(vec![name(1)]))]);
    group.start();
    group.run(LONG);
    assert_eq!(installed(&group).len(), 2);
}

#[test]
fn rings_that_do_not_close_are_refused_with_the_reason() {
    // p1 and p3 both name p2.
    let mut shared = group(&[1, 2, 1], 1);
    start(&mut shared, 0);
    shared.run(LONG);
    let reason = StartError::SharedSuccessor(name(0), name(2), name(1));
    assert_eq!(refusals(&shared, 0), [reason]);
    // p1 → p2 → p1 leaves p3 and p4 out.
    let mut short = group(&[1, 0, 3, 2], 1);
    start(&mut short, 0);
    short.run(LONG);
    assert_eq!(refusals(&short, 0), [StartError::LeftOut(vec![name(2), name(3)])]);
    assert!(installed(&shared).is_empty() && installed(&short).is_empty());
    // Nothing is left behind: everyone is free for another start.
    assert!(short.machines.values().all(|m| m.status().phase == Phase::Idle));
}

#[test]
fn two_starters_make_one_group_and_a_late_start_is_refused() {
    for seed in 0..500 {
        let mut group = group(&[1, 2, 3, 4, 0], seed);
        group.faults = Faults { loss: 20, duplication: 20 };
        start(&mut group, 3);
        if seed % 2 == 0 {
            group.run(Duration::from_millis(seed));
        }
        start(&mut group, 1);
        group.run(LONG);
        let views: BTreeSet<usize> = installed(&group).iter().map(|(_, _, f)| *f).collect();
        assert_eq!(installed(&group).len(), 5, "seed {seed}");
        assert_eq!(views.len(), 1, "seed {seed}");
        let founder = *views.first().unwrap();
        let loser = if founder == 1 { 3 } else { 1 };
        let by = name(founder);
        let told = refusals(&group, loser);
        assert!(
            told == [StartError::GaveWay(by.clone())]
                || told == [StartError::AlreadyStarted(by.clone())],
            "seed {seed}: {told:?}"
        );
        start(&mut group, 4);
        assert_eq!(refusals(&group, 4), [StartError::AlreadyStarted(by)]);
    }
}

#[test]
fn another_list_is_refused() {
    let mut other = config(1, 2, 0);
    other.list.reverse();
    let mut group = Group::new(
        [(name(0).id(), Founding::new(config(0, 2, 1))), (name(1).id(), Founding::new(other))],
        1,
    );
    group.start();
    start(&mut group, 0);
    group.run(LONG);
    assert_eq!(refusals(&group, 0), [StartError::OtherList]);
}

#[test]
fn another_life_of_a_member_is_outside() {
    let mut group = group(&[1, 2, 0], 1);
    start(&mut group, 0);
    group.run(LONG);
    let mut reborn = config(2, 3, 0);
    reborn.life = Life(999);
    group.machines.insert(name(2).id(), Founding::new(reborn));
    for i in [0, 1] {
        group.input(name(2).id(), Input::LinkUp(name(i).id()));
        group.input(name(i).id(), Input::LinkUp(name(2).id()));
    }
    group.run(LONG);
    let last = group.events.last();
    assert!(matches!(last, Some((id, Event::Outside { .. })) if *id == name(2).id()));
    start(&mut group, 2);
    assert_eq!(refusals(&group, 2), [StartError::AlreadyStarted(name(0))]);
    assert_eq!(group.machines[&name(2).id()].status().phase, Phase::Outside);
}

/// Storms: lost and doubled messages, links that drop, several starters. At most one view is ever
/// installed, and afterwards one can always be.
#[test]
fn storms_never_make_two_groups() {
    for seed in 0..500 {
        let mut group = group(&[1, 2, 3, 0], seed);
        group.faults = Faults { loss: 30, duplication: 20 };
        for _ in 0..20 {
            let (i, j) = (group.dice(4) as usize, group.dice(4) as usize);
            match group.dice(3) {
                0 => start(&mut group, i),
                _ if i != j => {
                    let (node, peer) = (name(i).id(), name(j).id());
                    group.input(node, Input::LinkDown(peer));
                    group.input(node, Input::LinkUp(peer));
                }
                _ => {}
            }
            let pause = group.dice(400);
            group.run(Duration::from_millis(pause));
        }
        group.faults = Faults::NONE;
        start(&mut group, 0);
        group.run(LONG);
        let installed = installed(&group);
        assert_eq!(installed.len(), 4, "seed {seed}: {:?}", group.events);
        assert!(installed.iter().all(|(_, view, _)| *view == installed[0].1), "seed {seed}");
        let sent = group.sent;
        group.run(LONG);
        assert_eq!(group.sent, sent, "seed {seed}: everything has been answered");
    }
}

#[test]
fn a_refused_starter_learns_that_it_is_turned_away_whatever_is_lost() {
    for seed in 0..200 {
        let mut group = group(&[1, 2, 0], seed);
        start(&mut group, 0);
        group.run(LONG);
        let mut reborn = config(0, 3, 1);
        reborn.life = Life(999);
        group.faults = Faults { loss: 50, duplication: 0 };
        group.machines.insert(name(0).id(), Founding::new(reborn));
        for i in [1, 2] {
            group.input(name(i).id(), Input::LinkDown(name(0).id()));
            group.input(name(0).id(), Input::LinkUp(name(i).id()));
        }
        start(&mut group, 0);
        group.run(LONG);
        let phase = group.machines[&name(0).id()].status().phase;
        assert_eq!(phase, Phase::Outside, "seed {seed}");
    }
}

#[test]
fn impossible_walks_are_ignored() {
    let mut group = group(&[1, 2, 0], 1);
    let digest = crate::id::hash64(b"p1,p2,p3,");
    let step = |position, next| Step { position, life: Life(1), next };
    for path in [vec![], vec![step(7, 1)], vec![step(0, 1), step(0, 1)], vec![step(0, 9)]] {
        let message = Message::Walk { start: Start { index: 0, run: 5 }, digest, path };
        group.input(name(1).id(), Input::Message { from: name(0).id(), message });
    }
    let reason = Refusal::LeftOut(vec![99]);
    let message = Message::Refuse { run: 5, reason };
    group.input(name(1).id(), Input::Message { from: name(0).id(), message });
    assert!(group.events.is_empty());
    assert_eq!(group.machines[&name(1).id()].status().phase, Phase::Idle);
}

#[test]
fn a_late_answer_does_not_count_as_fresh() {
    let mut rng = Rng::seed_from_u64(1);
    let mut drive = |m: &mut Founding, input| {
        let mut fx = Vec::new();
        m.handle(input, &mut Context::new(crate::time::Time::ZERO, &mut rng, &mut fx));
        fx
    };
    let member = |i: usize, life: u128| crate::view::Member {
        id: name(i).id(),
        name: name(i),
        life: Life(life),
        incarnation: 1,
    };
    let view = |p0: u128, p1: u128| View {
        number: 1,
        members: [member(0, p0), member(1, p1), member(2, 102)].into(),
        ring: [0, 1, 2].into(),
        mode: Mode::Circulate,
        lease: Duration::from_secs(5),
    };
    let mut p3 = Founding::new(config(2, 3, 0));
    for i in [0, 1] {
        drive(&mut p3, Input::LinkUp(name(i).id()));
    }
    // p1 (first life) is active in walk 7; p3 has not heard, and asks.
    let fx = drive(
        &mut p3,
        Input::Message { from: name(0).id(), message: Message::Active { run: 7, answer: true } },
    );
    let nonce = fx
        .iter()
        .find_map(|e| match e {
            Effect::Send { message: Message::Ask { nonce, .. }, .. } => Some(*nonce),
            _ => None,
        })
        .unwrap();
    // The answer is slow. p1 and p2 die, come back, and p1 starts walk 8, to which p3 says yes.
    for i in [0, 1] {
        drive(&mut p3, Input::LinkDown(name(i).id()));
        drive(&mut p3, Input::LinkUp(name(i).id()));
    }
    let step = |p: u16, life: u128, next| Step { position: p, life: Life(life), next };
    let path = vec![step(0, 200, 1), step(1, 201, 2)];
    let digest = crate::id::hash64(b"p1,p2,p3,");
    let walk = Message::Walk { start: Start { index: 0, run: 8 }, digest, path };
    drive(&mut p3, Input::Message { from: name(1).id(), message: walk });
    assert_eq!(p3.status().phase, Phase::Tentative);
    // Now the late answer and a late "active" of the dead p1.
    drive(
        &mut p3,
        Input::Message {
            from: name(0).id(),
            message: Message::Announce { nonce, run: 7, view: view(100, 101), founder: 0 },
        },
    );
    let fx = drive(
        &mut p3,
        Input::Message { from: name(0).id(), message: Message::Active { run: 7, answer: false } },
    );
    assert_eq!(p3.status().phase, Phase::Tentative, "{fx:?}");
}

#[test]
fn who_was_turned_away_joins_a_new_founding() {
    let mut group = group(&[1, 2, 0], 1);
    start(&mut group, 0);
    group.run(LONG);
    for i in 0..3 {
        let mut reborn = config(i, 3, (i + 1) % 3);
        reborn.life = Life(999 + i as u128);
        if i == 2 {
            group.machines.insert(name(2).id(), Founding::new(reborn));
            for j in [0, 1] {
                group.input(name(2).id(), Input::LinkUp(name(j).id()));
                group.input(name(j).id(), Input::LinkUp(name(2).id()));
            }
            group.run(LONG);
        }
    }
    for i in [0, 1] {
        let mut reborn = config(i, 3, i + 1);
        reborn.life = Life(555 + i as u128);
        group.machines.insert(name(i).id(), Founding::new(reborn));
    }
    for i in [0, 1] {
        for j in 0..3 {
            if i != j {
                group.input(name(i).id(), Input::LinkUp(name(j).id()));
                group.input(name(j).id(), Input::LinkDown(name(i).id()));
                group.input(name(j).id(), Input::LinkUp(name(i).id()));
            }
        }
    }
    group.events.clear();
    start(&mut group, 0);
    group.run(LONG);
    assert!(!group.events.is_empty(), "start says nothing for {LONG:?}");
}

/// The token of view 1 begins at its founder, who may have passed it on: nobody may hear of another
/// one from who was started again (H3).
#[test]
fn who_is_started_again_knows_who_founded() {
    let mut group = group(&[1, 2, 0], 1);
    start(&mut group, 1);
    group.run(Duration::from_secs(1));
    let record = group.records[&name(0).id()].clone();
    let announced = |bug| {
        let (mut rng, mut effects) = (Rng::seed_from_u64(0), Vec::new());
        let mut again = Founding::new(Config { life: Life(200), ..config(0, 3, 1) });
        let ask = Message::Ask { run: None, nonce: 5 };
        for input in [
            Input::Start(Some(Box::new(record.clone().into()))),
            Input::LinkUp(name(2).id()),
            Input::Message { from: name(2).id(), message: ask },
        ] {
            let cx = Context::new(Time::ZERO, &mut rng, &mut effects);
            again.handle(input, &mut cx.planting(bug));
        }
        effects.into_iter().find_map(|effect| match effect {
            Effect::Send { message: Message::Announce { founder, .. }, .. } => Some(founder),
            _ => None,
        })
    };
    assert_eq!(announced(None), Some(1));
    assert_eq!(announced(Some(Bug::FounderForgotten)), Some(0));
}
