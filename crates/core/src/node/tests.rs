//! What only the composition can get wrong.

mod durable;

use super::*;
use crate::{
    protocol::{Effect, Rng},
    testing::Group,
    time::Time,
    view::Record,
};
use alloc::{boxed::Box, format};
use bytes::Bytes;
use core::time::Duration;
use rand_core::SeedableRng as _;

#[test]
fn a_suspect_that_says_goodbye_has_left_and_was_not_up() {
    let name = Name::new("a").expect("a name");
    let peer = Name::new("b").expect("a name").id();
    let second = Duration::from_secs(1);
    let detector = detector::Config { heartbeat: second, suspect_min: second };
    let life = Life(1);
    let mut node = Node::new(Config { name, life, detector, group: None, gossip: None });
    let mut rng = Rng::seed_from_u64(0);
    let mut states = |seconds, input| {
        let mut effects = Vec::new();
        let now = Time::ZERO + Duration::from_secs(seconds);
        node.handle(input, &mut Context::new(now, &mut rng, &mut effects));
        let state = |effect| match effect {
            Effect::Emit(Event::Peer { state, .. }) => Some(state),
            _ => None,
        };
        effects.into_iter().filter_map(state).collect::<Vec<_>>()
    };
    assert_eq!(states(0, Input::Start(None)), []);
    assert_eq!(states(0, Input::LinkUp(peer)), [detector::State::Up]);
    let tick = || Input::Timer(Timer::Detector(detector::Timer::Tick));
    for second in 1..=3 {
        assert_eq!(states(second, tick()), []);
    }
    assert_eq!(states(4, tick()), [detector::State::Suspect]);
    let message = Message::Detector(detector::Message::Goodbye);
    let goodbye = Input::Message { from: peer, message };
    assert_eq!(states(9, goodbye), [detector::State::Left]);
}

// ---- A group of nodes ----

fn name(i: usize) -> Name {
    Name::new(&format!("p{}", i + 1)).unwrap()
}

fn id(i: usize) -> NodeId {
    name(i).id()
}

const MS: Duration = Duration::from_millis(1);

fn machine(i: usize, n: usize, life: u128) -> Node {
    machine_with(i, n, life, false)
}

/// With a durable log or without.
fn machine_with(i: usize, n: usize, life: u128, durable: bool) -> Node {
    let (name, life) = (name(i), Life(life));
    let founding = founding::Config {
        name: name.clone(),
        life,
        list: (0..n).map(self::name).collect(),
        next: None,
        trigger: founding::Trigger::Command,
        mode: tokenring::Mode::Rest,
        lease: LEASE,
    };
    let change = change::Config {
        name: name.clone(),
        life,
        next: None,
        grace: 100 * MS,
        patience: 1000 * MS,
        repeat: 200 * MS,
    };
    let lock = tokenring::Config {
        me: id(i),
        hold: 100 * MS,
        turn: 4,
        waiters_max: 100,
        locks_max: 100,
        repeat: 200 * MS,
        try_timeout: 1000 * MS,
        idle: None,
    };
    let order = multicast::Config {
        me: id(i),
        message_bytes_max: 100,
        fragment_bytes: 40,
        unstable_bytes_max: 3000,
        unread_bytes_max: 1 << 30,
        history_messages_max: 1000,
        history_bytes_max: 100_000,
        heartbeat: 200 * MS,
        repeat: 200 * MS,
        durable,
    };
    let detector = detector::Config { heartbeat: 500 * MS, suspect_min: 1500 * MS };
    let group = Some(GroupConfig { founding, change, lock: Some(lock), order: Some(order) });
    Node::new(Config { name, life, detector, group, gossip: None })
}

const LEASE: Duration = Duration::from_secs(2);

/// A group of nodes, founded by the first.
fn group(n: usize, seed: u64) -> Group<Node> {
    let mut group = Group::new((0..n).map(|i| (id(i), machine(i, n, i as u128))), seed);
    group.start();
    group.input(id(0), Input::Command(Command::Start));
    group.run(3000 * MS);
    for i in 0..n {
        assert_eq!(group.machines[&id(i)].view().map(|view| view.number), Some(1), "p{}", i + 1);
    }
    group
}

/// The node is gone, and the others notice.
fn kill(group: &mut Group<Node>, i: usize) {
    group.remove(id(i));
    let ids: Vec<NodeId> = group.machines.keys().copied().collect();
    for peer in ids {
        group.input(peer, Input::LinkDown(id(i)));
    }
}

/// A new life of it, which is linked to all.
fn revive(group: &mut Group<Node>, i: usize, n: usize, life: u128) {
    restart(group, i, n, life, None);
}

/// The same with what the earlier life has saved.
fn restart(group: &mut Group<Node>, i: usize, n: usize, life: u128, record: Option<Record>) {
    let others: Vec<NodeId> = group.machines.keys().copied().collect();
    group.machines.insert(id(i), machine(i, n, life));
    group.input(id(i), Input::Start(record.map(|record| Box::new(record.into()))));
    for peer in others {
        group.input(id(i), Input::LinkUp(peer));
        group.input(peer, Input::LinkUp(id(i)));
    }
}

fn lock(ticket: u64) -> InputOf<Node> {
    let (lock, wait) = (tokenring::LockName::default_lock(), tokenring::Wait::Queue);
    Input::Command(Command::Lock(tokenring::Command::Lock { lock, ticket, wait }))
}

fn send(ticket: u64) -> InputOf<Node> {
    let payload = Bytes::from(format!("message {ticket}, which is long enough to be cut in two"));
    Input::Command(Command::Order(multicast::Command::Send { ticket, payload }))
}

fn fences(group: &Group<Node>, i: usize) -> Vec<u64> {
    let of = |(node, event): &(NodeId, Event)| match event {
        Event::Lock(tokenring::Event::Granted { fence, .. }) if *node == id(i) => Some(*fence),
        _ => None,
    };
    group.events.iter().filter_map(of).collect()
}

/// Position, sender and text of what was delivered at a node.
fn delivered(group: &Group<Node>, i: usize) -> Vec<(u64, NodeId, Bytes)> {
    let of = |(node, event): &(NodeId, Event)| match event {
        Event::Order(multicast::Event::Delivered(d)) if *node == id(i) => {
            Some((d.position, d.sender, d.payload.clone()))
        }
        _ => None,
    };
    group.events.iter().filter_map(of).collect()
}

#[test]
fn a_lost_holders_token_is_made_anew_after_the_lease() {
    let mut group = group(3, 1);
    group.input(id(0), lock(1));
    group.run(1000 * MS);
    assert_eq!(fences(&group, 0), [1]);
    group.input(id(1), lock(2));
    group.run(1000 * MS);
    kill(&mut group, 0);
    group.run(LEASE);
    assert_eq!(fences(&group, 1), [], "the lost guard may still be valid");
    group.run(1000 * MS);
    assert_eq!(fences(&group, 1), [1 << 40 | 1]);
}

#[test]
fn the_order_goes_on_without_a_dead_member_and_with_its_next_life() {
    let mut group = group(3, 1);
    for ticket in 1..=5 {
        for i in 0..3 {
            group.input(id(i), send(ticket));
        }
        group.run(3 * MS);
    }
    kill(&mut group, 2);
    for ticket in 6..=8 {
        for i in 0..2 {
            group.input(id(i), send(ticket));
        }
        group.run(50 * MS);
    }
    group.run(2000 * MS);
    revive(&mut group, 2, 3, 100);
    group.run(3000 * MS);
    for i in 0..3 {
        assert_eq!(group.machines[&id(i)].view().map(View::len), Some(3), "p{}", i + 1);
        group.input(id(i), send(100));
    }
    group.run(1000 * MS);
    let order = delivered(&group, 0);
    assert!(order.len() >= 2 * 8 + 3, "{}", order.len());
    assert_eq!(order.iter().map(|(p, ..)| *p).max(), Some(order.len() as u64));
    assert_eq!(delivered(&group, 1), order);
    let both_lives = delivered(&group, 2);
    let second = both_lives.iter().rposition(|(position, ..)| *position == 1).expect("history");
    assert_eq!(both_lives[second..], order, "the new life has it all");
    assert!(order.starts_with(&both_lives[..second]), "the first had a prefix");
}

/// All are ended at once, and started again with their disks: what was not delivered everywhere may
/// be lost, which is said, and neither a position nor a fence is given twice.
#[test]
fn a_full_restart_goes_on_behind_an_announced_loss() {
    for n in [1, 2, 3, 5] {
        let mut group = group(n, 1);
        group.input(id(0), lock(1));
        group.input(id(0), send(1));
        group.run(1000 * MS);
        let records = group.records.clone();
        for i in 0..n {
            group.remove(id(i));
        }
        for i in 0..n {
            restart(&mut group, i, n, 100 + i as u128, records.get(&id(i)).cloned());
        }
        group.run(2000 * MS);
        for i in 0..n {
            let view = group.machines[&id(i)].view().expect("a member again");
            assert_eq!((view.number, view.len()), (2, n), "p{} of {n}", i + 1);
        }
        let loss = |(_, event): &(NodeId, Event)| matches!(event, Event::View { loss: true, .. });
        assert_eq!(group.events.iter().filter(|event| loss(event)).count(), n);
        group.input(id(n - 1), send(2));
        group.input(id(n - 1), lock(2));
        group.run(LEASE + 1000 * MS);
        assert_eq!(delivered(&group, n - 1).last().expect("one").0, (1 << 20) + 1);
        assert_eq!(fences(&group, n - 1).last(), Some(&(1 << 40 | 1)), "of {n}");
    }
}

/// A group of two survives the restart of either with its disk: the first member's record gives the
/// quorum, the second one's memory the cut.
#[test]
fn a_group_of_two_survives_the_restart_of_its_first_member() {
    let mut group = group(2, 1);
    group.input(id(1), send(1));
    group.run(1000 * MS);
    let record = group.records.get(&id(0)).cloned();
    kill(&mut group, 0);
    group.run(3000 * MS);
    assert_eq!(group.machines[&id(1)].view().map(|view| view.number), Some(1), "no quorum");
    restart(&mut group, 0, 2, 100, record);
    group.run(3000 * MS);
    group.input(id(0), send(2));
    group.run(1000 * MS);
    assert_eq!(delivered(&group, 0).len(), 1 + 2, "before, and as a new life from the beginning");
    assert_eq!(delivered(&group, 1).len(), 2);
    let lost = |(_, event): &(NodeId, Event)| matches!(event, Event::View { loss: true, .. });
    assert!(!group.events.iter().any(lost));
}

#[test]
fn members_leave_and_the_last_one_stops() {
    let mut group = group(3, 1);
    group.input(id(1), lock(1));
    group.run(1000 * MS);
    for i in [1, 0, 2] {
        group.input(id(i), send(7));
        group.input(id(i), Input::Command(Command::Leave));
        group.run(500 * MS);
        assert!(group.events.contains(&(id(i), Event::LeaveDone)), "p{}", i + 1);
        kill(&mut group, i);
    }
}
