//! The settings of the nodes of a scenario.

use super::{Shape, draw_life};
use crate::{dice::Dice, sim::Settings};
use core::time::Duration;
use roundelay_core::{
    change, detector, founding,
    gossip::{self, Neighbors, Strategy},
    id::{Life, Name},
    multicast,
    node::{Config, GroupConfig},
    tokenring,
};

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// What the simulator does with time.
pub(super) fn simulator(dice: &mut Dice) -> Settings {
    Settings {
        batch_max: dice.pick(&[Duration::from_nanos(1), Duration::from_micros(50), ms(2)]),
        lateness_max: dice.pick(&[Duration::ZERO, Duration::from_micros(500), ms(20)]),
        append_max: ms(10),
        planted: None,
    }
}

/// The settings of all nodes. What must be equal in a group is drawn once.
pub(super) fn configs(
    dice: &mut Dice,
    shape: &Shape,
    names: &[Name],
    edges: &[(usize, usize)],
) -> Vec<Config> {
    let lease = dice.span(ms(1000), ms(5000));
    let detector = draw_detector(dice, lease);
    let change = draw_change(dice, names);
    let lock = draw_lock(dice, names);
    let order = draw_order(dice, names);
    let gossip = draw_gossip(dice, names);
    let all_links = edges.len() == names.len() * (names.len() - 1) / 2 && dice.chance(500);
    let mut neighbors = draw_neighbors(dice, names, edges).into_iter();
    names
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let life = draw_life(dice);
            let founding = founding::Config {
                name: name.clone(),
                life,
                list: names.to_vec(),
                next: shape.next.as_ref().map(|next| names[next[at]].clone()),
                trigger: shape.trigger,
                mode: shape.mode,
                lease,
            };
            let next = founding.next.clone();
            let change = change::Config { name: name.clone(), life, next, ..change.clone() };
            let group = GroupConfig {
                founding,
                change,
                lock: shape.parts.lock.then(|| tokenring::Config { me: name.id(), ..lock.clone() }),
                order: shape
                    .parts
                    .order
                    .then(|| multicast::Config { me: name.id(), ..order.clone() }),
            };
            let listed = neighbors.next().expect("one for each node");
            let neighbors = if all_links { Neighbors::AllLinks } else { listed };
            let gossip = gossip::Config { name: name.clone(), life, neighbors, ..gossip.clone() };
            Config {
                name: name.clone(),
                life,
                detector: detector.clone(),
                group: shape.group.then_some(group),
                gossip: shape.parts.gossip.then_some(gossip),
            }
        })
        .collect()
}

/// Heartbeats renew the lease, so there are several in each.
fn draw_detector(dice: &mut Dice, lease: Duration) -> detector::Config {
    let heartbeat = dice.span(ms(200), ms(1000)).min(lease / 4);
    // A heartbeat that is late, or lost, is no reason to leave a member out: with less, a group that
    // does nothing else would never come to rest.
    let suspect_min = heartbeat * 5 / 2 + dice.span(Duration::ZERO, ms(1500));
    detector::Config { heartbeat, suspect_min }
}

fn draw_change(dice: &mut Dice, names: &[Name]) -> change::Config {
    change::Config {
        name: names[0].clone(),
        life: Life(0),
        next: None,
        grace: dice.pick(&[ms(1), ms(100), ms(1000)]),
        patience: dice.span(ms(200), ms(3000)),
        repeat: dice.span(ms(50), ms(500)),
    }
}

fn draw_lock(dice: &mut Dice, names: &[Name]) -> tokenring::Config {
    tokenring::Config {
        me: names[0].id(),
        hold: dice.span(ms(1), ms(100)),
        turn: dice.between(1, 4) as usize,
        waiters_max: dice.pick(&[3, 64, 1000]),
        locks_max: dice.pick(&[8, 1000]),
        repeat: dice.span(ms(20), ms(400)),
        try_timeout: dice.span(ms(50), ms(1500)),
        idle: draw_idle(dice.named(1)),
    }
}

/// Locks that nobody uses are forgotten soon, or not at all.
fn draw_idle(mut dice: Dice) -> Option<Duration> {
    let span = dice.span(ms(20), ms(800));
    dice.chance(500).then_some(span)
}

fn draw_order(dice: &mut Dice, names: &[Name]) -> multicast::Config {
    multicast::Config {
        me: names[0].id(),
        message_bytes_max: dice.pick(&[200, 100_000]),
        fragment_bytes: dice.pick(&[16, 100, 65_536]),
        unstable_bytes_max: dice.pick(&[1_000, 20_000, 1 << 25]),
        unread_bytes_max: dice.pick(&[500, 20_000, 1 << 25]),
        history_messages_max: dice.pick(&[1, 50, 10_000]),
        history_bytes_max: dice.pick(&[500, 1 << 25]),
        heartbeat: dice.span(ms(20), ms(500)),
        repeat: dice.span(ms(20), ms(500)),
        durable: false,
    }
}

/// More bytes and time than any run needs.
const RETENTION_BYTES: usize = 1 << 25;
const RETENTION_AGE: Duration = Duration::from_hours(1);

/// Whether nothing is forgotten with these settings.
pub(super) fn retains_all(config: &gossip::Config) -> bool {
    config.retention_bytes == RETENTION_BYTES && config.retention_age == RETENTION_AGE
}

fn draw_gossip(dice: &mut Dice, names: &[Name]) -> gossip::Config {
    let forgets = dice.chance(100);
    let (bytes, age) = (dice.pick(&[2_000, 20_000, RETENTION_BYTES]), dice.span(ms(100), ms(5000)));
    gossip::Config {
        name: names[0].clone(),
        life: Life(0),
        neighbors: Neighbors::AllLinks,
        strategy: if dice.chance(500) {
            Strategy::Tree
        } else {
            Strategy::Rumor { k: dice.between(1, 4) as u32 }
        },
        rumor_bytes_max: 10_000,
        retention_age: if forgets { age } else { RETENTION_AGE },
        retention_bytes: if forgets { bytes } else { RETENTION_BYTES },
        round: dice.span(ms(5), ms(100)),
        anti_entropy: dice.span(ms(200), ms(2000)),
        origins_max: 1000,
    }
}

/// Each edge is listed at one of its ends, or at both.
fn draw_neighbors(dice: &mut Dice, names: &[Name], edges: &[(usize, usize)]) -> Vec<Neighbors> {
    let mut listed = vec![std::collections::BTreeSet::new(); names.len()];
    for (a, b) in edges {
        let ends = dice.below(3);
        if ends != 0 {
            listed[*a].insert(names[*b].id());
        }
        if ends != 1 {
            listed[*b].insert(names[*a].id());
        }
    }
    listed.into_iter().map(Neighbors::Listed).collect()
}
