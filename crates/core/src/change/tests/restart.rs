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

/// p2 is a member and has been mute in the view all the time: it is in no new view without being
/// taken in again.
#[test]
fn who_was_mute_does_not_go_on() {
    let promise = |from: usize| {
        let received = vec![0; 5];
        let order = (from != 1).then_some(multicast::Report { received, clock: 0 });
        let received = vec![Received::default(); 5];
        let lock = Some(tokenring::Report { received, ..tokenring::Report::default() });
        let life = Some(first(5).view.members[from].life);
        let report = Report { life, order, lock, ..Report::default() }.into();
        says(from, Body::Promise { ballot: ballot(1, 0), accepted: None, report })
    };
    let gone = Input::Command(Command::Suspect { peer: id(4), link: false });
    let proposed = |bug| {
        let sent = steps(bug, vec![gone.clone(), promise(1), promise(2), promise(3)]);
        let of = |body: Body| match body {
            Body::Accept { value, .. } => Some(value),
            _ => None,
        };
        sent.into_iter().find_map(of).expect("it proposes")
    };
    assert_eq!(members(&proposed(None)), ["p1", "p3", "p4"]);
    assert_eq!(members(&proposed(Some(Bug::MuteCounts))), ["p1", "p2", "p3", "p4"]);
}
