//! What a life does that begins with the record of an earlier one (V6), and what its report is worth.

use super::*;
use crate::view::Record;

/// Life 100 of p1 begins with this record; what it does about the last input.
fn restarted(
    bug: Option<Bug>,
    record: Record,
    inputs: Vec<InputOf<ViewChange>>,
) -> Vec<EffectOf<ViewChange>> {
    let mut machine = machine(0, 100).change;
    let mut rng = Rng::seed_from_u64(0);
    let mut last = Vec::new();
    for input in [Input::Start(Some(Box::new(record.into())))].into_iter().chain(inputs) {
        last.clear();
        let mut cx = Context::new(Time::ZERO, &mut rng, &mut last).planting(bug);
        machine.handle(input, &mut cx);
    }
    last
}

fn from(from: usize, body: Body) -> InputOf<ViewChange> {
    let message = Message { cluster: CLUSTER, view: 1, body };
    Input::Message { from: id(from), message }
}

#[test]
fn what_was_promised_and_accepted_binds_the_next_life() {
    let accepted = Some((ballot(3, 1), second()));
    let record = Record {
        promised: Some(ballot(3, 1)),
        accepted: accepted.clone(),
        ..Record::of(CLUSTER, [Life(0)].into(), first(5))
    };
    let answer = |bug, ballot: Ballot| {
        let prepare = from(usize::from(ballot.by), Body::Prepare { ballot });
        let mut effects = restarted(bug, record.clone(), vec![prepare]).into_iter();
        effects.find_map(|effect| match effect {
            Effect::Send {
                message: Message { body: Body::Promise { accepted, .. }, .. }, ..
            } => Some(Ok(accepted.map(|accepted| *accepted))),
            Effect::Send { message: Message { body: Body::Refuse { promised }, .. }, .. } => {
                Some(Err(promised))
            }
            _ => None,
        })
    };
    assert_eq!(answer(None, ballot(2, 2)), Some(Err(ballot(3, 1))));
    assert_eq!(answer(None, ballot(4, 2)), Some(Ok(accepted)));
    assert_eq!(answer(Some(Bug::RestartForgets), ballot(2, 2)), Some(Ok(None)));
}

/// A life asked to be taken in and ended before it heard that it was, and so did the next one: the
/// view that lists the first of them waits for whoever is there now.
#[test]
fn a_view_may_list_any_of_the_lives_before() {
    let record = Record::of(CLUSTER, [0, 7, 8].map(Life).into(), first(3));
    let mut value = first(3);
    let members = value.view.members.iter().cloned();
    let renewed = |mut member: Member| {
        if member.id == id(0) {
            (member.life, member.incarnation) = (Life(7), 2);
        }
        member
    };
    value.view = View { number: 2, members: members.map(renewed).collect(), ..value.view };
    let decided = from(1, Body::Decided { value: value.clone().into() });
    let event = |bug| {
        let mut effects = restarted(bug, record.clone(), vec![decided.clone()]).into_iter();
        effects.find_map(|effect| match effect {
            Effect::Emit(event) => Some(event),
            _ => None,
        })
    };
    assert_eq!(event(None), Some(Event::Restored { value: value.clone().into() }));
    assert_ne!(event(Some(Bug::LivesForgotten)), Some(Event::Restored { value: value.into() }));
}

/// What p1 proposes when p5 is gone, and of the others these report as lives of which the view knows
/// nothing, or without memory.
fn proposed(bug: Option<Bug>, restarted: &[usize], mute: &[usize]) -> Option<Value> {
    let promise = |from: usize| {
        let forgets = mute.contains(&from) || restarted.contains(&from);
        let order = multicast::Report { received: vec![0; 5], clock: 0 };
        let lock = tokenring::Report {
            received: vec![Received::default(); 5],
            ..tokenring::Report::default()
        };
        let life = if restarted.contains(&from) { 100 } else { from as u128 };
        let report = Report {
            life: Some(Life(life)),
            order: (!forgets).then_some(order),
            lock: (!forgets).then_some(lock),
            ..Report::default()
        };
        let (ballot, report) = (ballot(1, 0), report.into());
        says(from, Body::Promise { ballot, accepted: None, report })
    };
    let gone = Input::Command(Command::Suspect { peer: id(4), link: false });
    let sent = steps(bug, [gone].into_iter().chain((1..4).map(promise)).collect());
    sent.into_iter().find_map(|body| match body {
        Body::Accept { value, .. } => Some(*value),
        _ => None,
    })
}

/// Who was mute in the view all the time is in no new view without being taken in again.
#[test]
fn who_was_mute_does_not_go_on() {
    let names = |bug| proposed(bug, &[], &[1]).map(|value| value.view.members.len());
    assert_eq!(names(None), Some(3));
    assert_eq!(names(Some(Bug::MuteCounts)), Some(4));
}

/// Of five, two have forgotten, and one is gone: a majority may have delivered what the other two
/// never had (V5).
#[test]
fn two_of_five_do_not_know_what_was_delivered() {
    assert_eq!(proposed(None, &[1, 2], &[]), None);
    assert!(proposed(Some(Bug::AmnesiaForgiven), &[1, 2], &[]).is_some());
    assert!(proposed(None, &[1], &[]).is_some(), "three do");
}

/// A new value may become another one, or one with a loss: its coordinator leaves out nothing of its
/// cut, though it delivers nothing itself. What may have been decided already stays what it is.
#[test]
fn a_new_value_is_not_proposed_without_its_messages() {
    let insists = |bug, accepted: Option<(Ballot, Value)>| {
        let record = Record { accepted, ..Record::of(CLUSTER, [Life(0)].into(), first(5)) };
        let mut machine = machine(0, 100).change;
        let (mut rng, mut effects) = (Rng::seed_from_u64(0), Vec::new());
        let mut take = |input| {
            let mut cx = Context::new(Time::ZERO, &mut rng, &mut effects).planting(bug);
            machine.handle(input, &mut cx);
        };
        take(Input::Start(Some(Box::new(record.into()))));
        (1..5).for_each(|peer| take(Input::Command(Command::Trust(id(peer)))));
        (1..5).for_each(|peer| take(from(peer, beat_of_all())));
        (1..5).for_each(|peer| take(from(peer, promise(peer))));
        effects.into_iter().find_map(|effect| match effect {
            Effect::Emit(Event::Gather { insists, .. }) => Some(insists),
            _ => None,
        })
    };
    assert_eq!(insists(None, None), Some(true));
    assert_eq!(insists(Some(Bug::ProposesUngathered), None), Some(false));
    assert_eq!(insists(None, Some((ballot(1, 1), second()))), Some(false));
}

fn beat_of_all() -> Body {
    Body::Beat { hears: 0b11111, joiners: Vec::new(), wedged: None }
}

/// What a member says that has received nothing.
fn promise(from: usize) -> Body {
    let report = Report {
        life: Some(Life(from as u128)),
        order: Some(multicast::Report { received: vec![0; 5], clock: 0 }),
        lock: Some(tokenring::Report {
            received: vec![Received::default(); 5],
            ..tokenring::Report::default()
        }),
        ..Report::default()
    };
    Body::Promise { ballot: ballot(1, 0), accepted: None, report: report.into() }
}
