//! Groups with durable logs: what they had is there after any restart (T9).

use super::*;
extern crate std;
use alloc::collections::{BTreeMap, BTreeSet};

fn group(n: usize, seed: u64) -> Group<Node> {
    let machines = (0..n).map(|i| (id(i), machine_with(i, n, i as u128, true)));
    let mut group = Group::new(machines, seed);
    group.start();
    group.input(id(0), Input::Command(Command::Start));
    group.run(3000 * MS);
    group
}

/// A new life with all that an earlier one has left.
fn restart(group: &mut Group<Node>, i: usize, n: usize, life: u128) {
    let others: Vec<NodeId> = group.machines.keys().copied().collect();
    let record = group.records.get(&id(i)).cloned();
    let log = group.logs.get(&id(i)).map(|log| log.entries.clone()).unwrap_or_default();
    let saved = record.map(|record| Box::new(Saved { record, log }));
    group.machines.insert(id(i), machine_with(i, n, life, true));
    group.input(id(i), Input::Start(saved));
    for peer in others {
        group.input(id(i), Input::LinkUp(peer));
        group.input(peer, Input::LinkUp(id(i)));
    }
}

fn is_loss((_, event): &(NodeId, Event)) -> bool {
    matches!(event, Event::View { loss: true, .. })
}

/// The position of each send that had one.
fn sent(group: &Group<Node>) -> BTreeMap<u64, u64> {
    let of = |(_, event): &(NodeId, Event)| match event {
        Event::Order(multicast::Event::Sent { ticket, position }) => Some((*ticket, *position)),
        _ => None,
    };
    group.events.iter().filter_map(of).collect()
}

/// All are ended at once, and started again with their disks: nothing is missing.
#[test]
fn a_full_restart_loses_nothing() {
    for n in [1, 2, 3, 5] {
        let mut group = group(n, 1);
        for ticket in 1..=20 {
            group.input(id(ticket as usize % n), send(ticket));
            group.run(2 * MS);
        }
        group.run(20 * MS);
        let sent = sent(&group);
        assert!(!sent.is_empty());
        for i in 0..n {
            group.remove(id(i));
        }
        group.events.clear();
        for i in 0..n {
            restart(&mut group, i, n, 100 + i as u128);
        }
        group.run(3000 * MS);
        assert!(!group.events.iter().any(is_loss), "of {n}");
        group.input(id(n - 1), send(100));
        group.run(1000 * MS);
        let order = delivered(&group, 0);
        for (ticket, position) in sent {
            let text =
                Bytes::from(format!("message {ticket}, which is long enough to be cut in two"));
            assert_eq!(order[position as usize - 1].2, text, "of {n}");
            assert_eq!(order[position as usize - 1].0, position);
        }
        for i in 0..n {
            let view = group.machines[&id(i)].view().expect("a member again");
            assert_eq!((view.number, view.len()), (2, n), "p{} of {n}", i + 1);
            assert_eq!(delivered(&group, i), order, "p{} of {n}", i + 1);
        }
    }
}

/// Members end and come back at any time, all at once now and then, and always with their disks.
#[test]
fn storms_of_restarts_lose_nothing() {
    let number = |name: &str, default| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (from, to): (u64, u64) = (number("FROM", 0), number("TO", 60));
    for seed in from..to {
        storm(seed);
    }
}

fn storm(seed: u64) {
    let n = 1 + (seed % 5) as usize;
    let mut group = group(n, seed);
    group.faults = crate::testing::Faults { loss: 5, duplication: 5 };
    let (mut ticket, mut life) = (0, 100);
    for _ in 0..60 {
        let a = group.dice(n as u64) as usize;
        match group.dice(8) {
            0 if group.machines.contains_key(&id(a)) => {
                kill(&mut group, a);
                if group.dice(3) == 0 {
                    (0..n).for_each(|i| group.remove(id(i)));
                }
            }
            1 | 2 => {
                for i in 0..n {
                    if !group.machines.contains_key(&id(i)) && group.dice(2) == 0 {
                        life += 1;
                        restart(&mut group, i, n, life);
                    }
                }
            }
            _ => {
                for _ in 0..group.dice(6) {
                    ticket += 1;
                    group.input(id(a), send(ticket));
                }
            }
        }
        let span = [1, 10, 100, 3000][group.dice(4) as usize];
        let span = group.dice(span);
        group.run(Duration::from_millis(span));
    }
    group.faults = crate::testing::Faults::NONE;
    for i in 0..n {
        if !group.machines.contains_key(&id(i)) {
            life += 1;
            restart(&mut group, i, n, life);
        }
    }
    for a in 0..n {
        for b in (0..n).filter(|b| *b != a) {
            group.input(id(a), Input::LinkUp(id(b)));
        }
    }
    group.run(30_000 * MS);
    assert!(!group.events.iter().any(is_loss), "seed {seed}: a loss");
    let mut order: BTreeMap<u64, Bytes> = BTreeMap::new();
    for i in 0..n {
        for (position, _, text) in delivered(&group, i) {
            let known = order.entry(position).or_insert_with(|| text.clone());
            assert_eq!(*known, text, "seed {seed}: position {position} at p{}", i + 1);
        }
    }
    let texts: BTreeSet<&Bytes> = order.values().collect();
    assert_eq!(texts.len(), order.len(), "seed {seed}: a message twice");
    for (ticket, position) in sent(&group) {
        let text = Bytes::from(format!("message {ticket}, which is long enough to be cut in two"));
        assert_eq!(order.get(&position), Some(&text), "seed {seed}: {ticket} at {position}");
    }
    for i in 0..n {
        let machine = &group.machines[&id(i)];
        let view = machine.view().map(View::len);
        assert_eq!(view, Some(n), "seed {seed}: p{} {:?}", i + 1, machine.status().change);
        let status = machine.order().expect("it has the order").status();
        assert_eq!(status.position, order.len() as u64, "seed {seed}: p{}", i + 1);
        assert!(status.queue.is_empty(), "seed {seed}: p{}", i + 1);
    }
}
