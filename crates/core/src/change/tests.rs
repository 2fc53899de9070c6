mod restart;

use super::*;
use crate::{
    id::Life,
    multicast::Cut,
    planted::Bug,
    protocol::{Context, Effect, EffectOf, Input, InputOf, Protocol, Rng},
    testing::{Faults, Group},
    time::Time,
    tokenring::{Mode, Received},
    view::Member,
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format, vec,
};
use rand_core::SeedableRng as _;

/// A view change, and a lock and an order in which nothing ever happens.
#[derive(Clone, Debug)]
struct Idle {
    change: ViewChange,
    members: usize,
}

impl Protocol for Idle {
    type Message = Message;
    type Timer = Timer;
    type Command = Command;
    type Event = Event;

    fn handle(&mut self, input: InputOf<Self>, cx: &mut Context<'_, Self>) {
        let mut inputs = vec![match input {
            Input::LinkUp(peer) => Input::Command(Command::Trust(peer)),
            Input::LinkDown(peer) => Input::Command(Command::Suspect { peer, link: true }),
            other => other,
        }];
        while !inputs.is_empty() {
            let mut events = Vec::new();
            let note = |event: Event| {
                events.push(event.clone());
                Some(event)
            };
            cx.drive(&mut self.change, inputs.remove(0), &mut Vec::new(), note);
            for event in events {
                match event {
                    Event::Wedged => inputs.push(Input::Command(self.report())),
                    Event::Gather { .. } => inputs.push(Input::Command(Command::Gathered)),
                    Event::Installed { value, .. } => self.members = value.view.len(),
                    Event::Out { left: false } => inputs.push(Input::Command(Command::Ready)),
                    _ => {}
                }
            }
        }
    }
}

impl Idle {
    fn report(&self) -> Command {
        let received = vec![0; self.members];
        let order = Some(multicast::Report { received, clock: 0 });
        let received = vec![Received::default(); self.members];
        let lock = Some(tokenring::Report { received, ..tokenring::Report::default() }.into());
        Command::Report { order, lock }
    }
}

fn name(i: usize) -> Name {
    Name::new(&format!("p{}", i + 1)).unwrap()
}

fn id(i: usize) -> NodeId {
    name(i).id()
}

fn machine(i: usize, life: u128) -> Idle {
    let config = Config {
        name: name(i),
        life: Life(life),
        next: None,
        grace: Duration::from_millis(100),
        patience: Duration::from_secs(3),
        repeat: Duration::from_millis(200),
    };
    Idle { change: ViewChange::new(config), members: 0 }
}

fn first(n: usize) -> Value {
    let member =
        |i: usize| Member { id: id(i), name: name(i), life: Life(i as u128), incarnation: 1 };
    let view = View {
        number: 1,
        members: (0..n).map(member).collect(),
        ring: (0..n as u16).collect(),
        mode: Mode::Rest,
        lease: Duration::from_secs(5),
    };
    Value::first(view, 0)
}

const CLUSTER: u64 = 7;

/// n members of view 1 that hear each other.
fn group(n: usize, seed: u64) -> Group<Idle> {
    let mut group = Group::new((0..n).map(|i| (id(i), machine(i, i as u128))), seed);
    for i in 0..n {
        let value = first(n);
        group
            .input(id(i), Input::Command(Command::Found { cluster: CLUSTER, value: value.into() }));
    }
    group.start();
    group
}

fn run(group: &mut Group<Idle>, seconds: u64) {
    for _ in 0..2 * seconds {
        let ids: Vec<NodeId> = group.machines.keys().copied().collect();
        for id in ids {
            group.input(id, Input::Command(Command::Beat));
        }
        group.run(Duration::from_millis(500));
    }
}

/// The node is gone; the others notice.
fn kill(group: &mut Group<Idle>, i: usize) {
    group.machines.remove(&id(i));
    let ids: Vec<NodeId> = group.machines.keys().copied().collect();
    for peer in ids {
        group.input(peer, Input::LinkDown(id(i)));
    }
}

/// Whether it was never taken in: then it is not active, and heard by nobody.
fn is_new(machine: &Idle) -> bool {
    machine.change.is_outside() && machine.members == 0
}

/// All hear each other.
fn link_all(group: &mut Group<Idle>) {
    let ids: Vec<(NodeId, bool)> = group.machines.iter().map(|(id, m)| (*id, is_new(m))).collect();
    for (a, _) in &ids {
        for (b, _) in ids.iter().filter(|(b, new)| b != a && !new) {
            group.input(*a, Input::LinkUp(*b));
        }
    }
}

/// A new life of the node, which knows of the group and hears everybody.
fn revive(group: &mut Group<Idle>, i: usize, life: u128, next: Option<Name>) {
    let others: Vec<NodeId> = group.machines.keys().copied().collect();
    let mut machine = machine(i, life);
    machine.change.config.next = next;
    group.machines.insert(id(i), machine);
    group.input(id(i), Input::Command(Command::Join { cluster: CLUSTER }));
    for peer in others {
        group.input(id(i), Input::LinkUp(peer));
    }
    group.input(id(i), Input::Command(Command::Ready));
}

/// What was installed, by number; panics if that is not the same everywhere.
fn chain(group: &Group<Idle>) -> BTreeMap<u64, Value> {
    let mut chain = BTreeMap::new();
    for (_, event) in &group.events {
        if let Event::Installed { value, .. } = event {
            let known = chain.entry(value.view.number).or_insert_with(|| *value.clone());
            assert_eq!(*known, **value, "one chain of views");
        }
    }
    chain
}

fn members(value: &Value) -> Vec<&str> {
    value.view.members.iter().map(|member| member.name.as_str()).collect()
}

/// The view in which all machines are, if they are in one.
fn common_view(group: &Group<Idle>) -> Option<View> {
    let views: BTreeSet<Option<u64>> =
        group.machines.values().map(|m| m.change.view().map(|view| view.number)).collect();
    if views.len() > 1 {
        return None;
    }
    group.machines.values().next()?.change.view().cloned()
}

#[test]
fn a_dead_member_is_left_out_and_its_next_life_is_taken_in() {
    let mut group = group(3, 1);
    run(&mut group, 2);
    assert_eq!(chain(&group).len(), 1, "nothing happens without need");
    kill(&mut group, 0);
    run(&mut group, 1);
    assert_eq!(members(&chain(&group)[&2]), ["p2", "p3"]);
    revive(&mut group, 0, 100, None);
    run(&mut group, 1);
    let view = common_view(&group).expect("all are in one view");
    assert_eq!(view.number, 3);
    assert_eq!(members(&chain(&group)[&3]), ["p2", "p3", "p1"], "V4: survivors come first");
    assert_eq!(view.members[2].life, Life(100));
    assert_eq!((view.members[0].incarnation, view.members[2].incarnation), (1, 3));
    assert_eq!(chain(&group).len(), 3);
}

#[test]
fn a_newcomer_stands_before_the_member_that_it_names() {
    let mut group = group(3, 1);
    kill(&mut group, 1);
    run(&mut group, 1);
    revive(&mut group, 1, 100, Some(name(2)));
    run(&mut group, 1);
    let chain = chain(&group);
    assert_eq!(members(&chain[&3]), ["p1", "p3", "p2"]);
    assert_eq!(*chain[&3].view.ring, [0, 2, 1], "p1, p2, p3");
}

#[test]
fn without_a_majority_nothing_is_decided_and_that_is_said() {
    let mut group = group(5, 1);
    run(&mut group, 1);
    for i in [0, 1, 2] {
        kill(&mut group, i);
    }
    run(&mut group, 30);
    assert_eq!(chain(&group).len(), 1);
    let lost = |i: usize| group.events.contains(&(id(i), Event::Quorum { regained: false }));
    assert!(lost(3) && lost(4));
}

#[test]
fn of_two_the_first_goes_on_alone_and_the_second_does_not() {
    for (killed, goes_on) in [(1, true), (0, false)] {
        let mut group = group(2, 1);
        run(&mut group, 1);
        kill(&mut group, killed);
        run(&mut group, 10);
        assert_eq!(chain(&group).len() == 2, goes_on);
        if goes_on {
            revive(&mut group, killed, 100, None);
            run(&mut group, 2);
            assert_eq!(common_view(&group).map(|view| view.len()), Some(2));
        }
    }
}

#[test]
fn who_is_left_out_by_mistake_hears_of_it_and_comes_back() {
    let mut group = group(3, 1);
    run(&mut group, 1);
    for (a, b) in [(0, 2), (1, 2), (2, 0), (2, 1)] {
        group.input(id(a), Input::LinkDown(id(b)));
    }
    group.run(Duration::from_millis(150));
    for (a, b) in [(0, 2), (1, 2), (2, 0), (2, 1)] {
        group.input(id(a), Input::LinkUp(id(b)));
    }
    run(&mut group, 3);
    assert!(group.events.contains(&(id(2), Event::Out { left: false })));
    let view = common_view(&group).expect("all are in one view");
    assert_eq!((view.number, view.len()), (3, 3));
    assert_eq!(view.members[2].incarnation, 3, "V7: assigned anew");
}

#[test]
fn two_that_do_not_hear_each_other_are_not_both_in_a_view() {
    let mut group = group(4, 1);
    run(&mut group, 1);
    // p2 hears p4 no more; p4 hears p2.
    group.input(id(1), Input::LinkDown(id(3)));
    run(&mut group, 2);
    assert_eq!(members(&chain(&group)[&2]), ["p1", "p2", "p3"]);
}

/// Two of four die at once, and nothing is known of what they heard.
#[test]
fn half_of_the_members_with_the_first_go_on() {
    for silent in [false, true] {
        let mut group = group(4, 1);
        if !silent {
            run(&mut group, 1);
        }
        kill(&mut group, 1);
        kill(&mut group, 2);
        run(&mut group, 5);
        assert_eq!(members(&chain(&group)[&2]), ["p1", "p4"]);
    }
}

#[test]
fn members_leave_one_by_one_or_all_at_once() {
    let mut one = group(3, 1);
    one.input(id(0), Input::Command(Command::Leave));
    run(&mut one, 1);
    assert!(one.events.contains(&(id(0), Event::Out { left: true })));
    assert_eq!(members(&chain(&one)[&2]), ["p2", "p3"]);

    let mut all = group(3, 1);
    for i in 0..3 {
        all.input(id(i), Input::Command(Command::Leave));
    }
    run(&mut all, 2);
    for i in 0..3 {
        assert!(all.events.contains(&(id(i), Event::Out { left: true })), "p{}", i + 1);
    }
}

#[test]
fn newcomers_are_never_more_than_survivors() {
    let mut group = group(5, 1);
    run(&mut group, 1);
    for i in [2, 3] {
        kill(&mut group, i);
    }
    run(&mut group, 2);
    for i in [1, 4] {
        kill(&mut group, i);
        run(&mut group, 2);
    }
    assert_eq!(common_view(&group).map(|view| view.len()), Some(1));
    for i in 1..5 {
        revive(&mut group, i, 100 + i as u128, None);
    }
    for _ in 0..5 {
        link_all(&mut group);
        run(&mut group, 1);
    }
    assert_eq!(common_view(&group).map(|view| view.len()), Some(5));
    let sizes: Vec<usize> = chain(&group).values().map(|value| value.view.len()).collect();
    assert!(sizes.windows(2).all(|pair| pair[1] <= 2 * pair[0]), "{sizes:?}");
}

/// Suspicions, deaths, new lives, loss and duplication, and coordinators that meet.
#[test]
fn whatever_happens_there_is_one_chain_and_in_the_end_one_view() {
    for seed in 0..300 {
        let n = 3 + (seed % 3) as usize;
        let mut group = group(n, seed);
        group.faults = Faults { loss: 20, duplication: 20 };
        let mut life = 100;
        for _ in 0..12 {
            let (a, b) = (group.dice(n as u64) as usize, group.dice(n as u64) as usize);
            match group.dice(4) {
                0 | 1 if a != b => group.input(id(a), Input::LinkDown(id(b))),
                2 if a != b && !is_new(&group.machines[&id(b)]) => {
                    group.input(id(a), Input::LinkUp(id(b)));
                }
                3 => {
                    // Who dies without memory may not be one too many.
                    let faults = core::mem::replace(&mut group.faults, Faults::NONE);
                    for _ in 0..20 {
                        link_all(&mut group);
                        run(&mut group, 1);
                    }
                    group.faults = faults;
                    kill(&mut group, a);
                    let span = group.dice(5_000);
                    group.run(Duration::from_millis(span));
                    life += 1;
                    revive(&mut group, a, life, None);
                }
                _ => {}
            }
            let span = group.dice(1_500);
            group.run(Duration::from_millis(span));
        }
        group.faults = Faults::NONE;
        for _ in 0..60 {
            link_all(&mut group);
            run(&mut group, 1);
        }
        chain(&group);
        let view = common_view(&group);
        assert_eq!(view.map(|view| view.len()), Some(n), "seed {seed}");
    }
}

// ---- Single steps ----

/// p1 of five, after these inputs; what the last one made it send.
fn steps(bug: Option<Bug>, inputs: Vec<InputOf<Idle>>) -> Vec<Body> {
    sent(bug, inputs).into_iter().map(|(_, body)| body).collect()
}

/// The same, and to whom.
fn sent(bug: Option<Bug>, inputs: Vec<InputOf<Idle>>) -> Vec<(Vec<NodeId>, Body)> {
    let mut machine = machine(0, 0);
    let mut rng = Rng::seed_from_u64(0);
    let mut sent = Vec::new();
    let found = Command::Found { cluster: CLUSTER, value: first(5).into() };
    for input in [Input::Command(found)].into_iter().chain(inputs) {
        let mut effects: Vec<EffectOf<Idle>> = Vec::new();
        let mut cx = Context::new(Time::ZERO, &mut rng, &mut effects).planting(bug);
        machine.handle(input, &mut cx);
        let body = |effect: EffectOf<Idle>| match effect {
            Effect::Send { to, message } => Some((to.peers().to_vec(), message.body)),
            _ => None,
        };
        sent = effects.into_iter().filter_map(body).collect();
    }
    sent
}

fn says(from: usize, body: Body) -> InputOf<Idle> {
    let message = Message { cluster: CLUSTER, view: 1, body };
    Input::Message { from: id(from), message }
}

/// p2 to p5 go on.
fn second() -> Value {
    let one = first(5);
    let members = one.view.members[1..].into();
    let view = View { number: 2, members, ring: [0, 1, 2, 3].into(), ..one.view };
    let order = Cut { ends: vec![0; 5], stable: vec![0; 5], begins: vec![0; 4], ..Cut::default() };
    Value { view, order, lock: tokenring::Placement::default(), loss: false }
}

const fn ballot(round: u32, by: u16) -> Ballot {
    Ballot { round, by }
}

#[test]
fn a_smaller_ballot_is_refused_and_the_same_answered_again() {
    let prepare =
        |round, by: u16| says(usize::from(by), Body::Prepare { ballot: ballot(round, by) });
    let promised = steps(None, vec![prepare(3, 1), prepare(2, 2)]);
    assert_eq!(promised, [Body::Refuse { promised: ballot(3, 1) }]);
    let again = steps(None, vec![prepare(3, 1), prepare(3, 1)]);
    assert!(matches!(again[..], [Body::Promise { accepted: None, .. }]));
}

/// Of two, the coordinator and the other one decide: nobody has to tell it.
#[test]
fn who_completes_a_quorum_with_the_coordinator_need_not_be_told() {
    let mut group = Group::new([(id(1), machine(1, 1))], 1);
    let found = Command::Found { cluster: CLUSTER, value: first(2).into() };
    let one = first(2);
    let members = one.view.members[1..].into();
    let view = View { number: 2, members, ring: [0].into(), ..one.view };
    let order = Cut { ends: vec![0; 2], stable: vec![0; 2], begins: vec![0], ..Cut::default() };
    let value = Value { view, order, lock: tokenring::Placement::default(), loss: false };
    group.input(id(1), Input::Command(found));
    group.input(id(1), says(0, Body::Prepare { ballot: ballot(1, 0) }));
    group.input(id(1), says(0, Body::Accept { ballot: ballot(1, 0), value: value.into() }));
    assert_eq!(group.machines[&id(1)].change.view().map(|view| view.number), Some(2));
}

#[test]
fn what_was_accepted_is_proposed_again_verbatim() {
    let value = second();
    let accept = Body::Accept { ballot: ballot(1, 1), value: value.clone().into() };
    let promise = Body::Promise {
        ballot: ballot(2, 0),
        accepted: Some((ballot(1, 1), value.clone()).into()),
        report: Report::default().into(),
    };
    let inputs = vec![
        says(1, Body::Prepare { ballot: ballot(1, 1) }),
        says(1, accept.clone()),
        Input::Command(Command::Suspect { peer: id(1), link: false }),
        says(2, promise.clone()),
        says(3, promise.clone()),
        says(4, promise.clone()),
    ];
    let proposes = |sent: &[Body]| {
        let of = |body: &Body| match body {
            Body::Accept { value, .. } => Some(*value.clone()),
            _ => None,
        };
        sent.iter().find_map(of)
    };
    // p2 is gone; p1 has accepted its value, and so have the others.
    assert_eq!(proposes(&steps(None, inputs.clone())), Some(value.clone()));
    assert_ne!(proposes(&steps(Some(Bug::ProposesAnew), inputs)), Some(value));
}

/// Those who went on without it, and could say so, may have left since.
#[test]
fn who_has_no_quorum_tells_everybody_it_hears_which_view_it_is_in() {
    let mut inputs: Vec<_> = (1..5).chain([7]).map(|i| Input::LinkUp(id(i))).collect();
    let silent = |i| Input::Command(Command::Suspect { peer: id(i), link: false });
    inputs.extend((2..5).map(silent));
    inputs.push(Input::Command(Command::Beat));
    let told = |bug| {
        let sent = sent(bug, inputs.clone()).into_iter();
        sent.filter(|(_, body)| matches!(body, Body::Beat { .. })).flat_map(|(to, _)| to).collect()
    };
    let everybody: BTreeSet<NodeId> = told(None);
    assert_eq!(everybody, [1, 2, 3, 4, 7].map(id).into());
    let members: BTreeSet<NodeId> = told(Some(Bug::SeeksMembersOnly));
    assert_eq!(members, [1, 2, 3, 4].map(id).into());
}

/// It takes for absent whoever it does not hear in the view in time, and beats may be rare.
#[test]
fn the_first_beat_of_a_member_is_answered() {
    let beat = Body::Beat { hears: 0b11111, joiners: Vec::new(), wedged: None };
    let answers = |bug, beats: usize| {
        let inputs = vec![says(1, beat.clone()); beats];
        sent(bug, inputs).into_iter().filter(|(to, _)| *to == [id(1)]).count()
    };
    assert_eq!(answers(None, 1), 1);
    assert_eq!(answers(None, 2), 0, "two members that answer each other do not go on for ever");
    assert_eq!(answers(Some(Bug::FirstBeatUnanswered), 1), 0);
}

/// Whoever asks later must hear of it: a quorum may have accepted it, and somebody installed it.
#[test]
fn what_was_accepted_is_said_to_the_next_ballot() {
    let value = second();
    let inputs = vec![
        says(1, Body::Prepare { ballot: ballot(1, 1) }),
        says(1, Body::Accept { ballot: ballot(1, 1), value: value.clone().into() }),
        says(2, Body::Prepare { ballot: ballot(2, 2) }),
    ];
    let promised = |bug| {
        let said = |body: Body| match body {
            Body::Promise { accepted, .. } => accepted.map(|accepted| *accepted),
            _ => None,
        };
        steps(bug, inputs.clone()).into_iter().find_map(said)
    };
    assert_eq!(promised(None), Some((ballot(1, 1), value)));
    assert_eq!(promised(Some(Bug::AcceptedNotKept)), None);
}
