//! Exact effects of single steps, and whole networks under seeded faults.

mod network;
mod steps;

use super::{Config, Strategy};
use crate::protocol::Rng;
use network::{Faults, Network, config, graph};
use rand_core::{Rng as _, SeedableRng};

const STRATEGIES: [Strategy; 3] =
    [Strategy::Tree, Strategy::Rumor { k: 1 }, Strategy::Rumor { k: 3 }];

fn random_network(seed: u64, config: Config) -> Network {
    let mut rng = Rng::seed_from_u64(seed);
    let nodes = 5 + (rng.next_u64() % 8) as usize;
    let edges = graph(seed % 4, nodes, &mut rng);
    Network::new(seed, config, nodes, &edges)
}

/// Publishes all over the network while links are cut and nodes restart, then heals everything.
fn trouble(network: &mut Network, restarts: bool) {
    network.faults = Faults {
        loss: network.below(31),
        duplication: network.below(31),
        disorder: network.below(2) == 0,
    };
    let edges = network.edges();
    for _ in 0..40 {
        let node = network.below(network.nodes() as u64) as usize;
        match network.below(10) {
            0..6 => (0..=network.below(4)).for_each(|_| network.publish(node)),
            6 => (0..=network.below(40)).for_each(|_| network.publish(node)),
            7 | 8 => {
                let edge = edges[network.below(edges.len() as u64) as usize];
                let up = network.below(2) == 0;
                network.set_link(edge, up);
            }
            _ if restarts => network.restart(node),
            _ => {}
        }
        let pause = network.below(200);
        network.run(pause);
    }
    network.faults = Faults::default();
    for edge in edges {
        network.set_link(edge, true);
    }
}

#[test]
fn every_rumor_reaches_everybody_once_whatever_happens() {
    for seed in 0..60 {
        let strategy = STRATEGIES[(seed % 3) as usize];
        let mut network = random_network(seed, config(strategy));
        trouble(&mut network, seed % 5 > 0);
        network.run(40_000);
        network.assert_complete();
        network.assert_quiet();
    }
}

#[test]
fn what_nobody_retains_is_given_up() {
    let mut forgotten = 0;
    for seed in 0..30 {
        let strategy = STRATEGIES[(seed % 3) as usize];
        let config = Config { retention_bytes: 4096, ..config(strategy) };
        let mut network = random_network(seed, config);
        trouble(&mut network, seed % 2 == 0);
        network.run(40_000);
        network.assert_quiet();
        forgotten += network.sent_before("forgotten");
    }
    assert!(forgotten > 0, "the test never got there");
}

#[test]
fn a_full_table_of_origins_refuses_more_and_asks_for_none() {
    for seed in 0..20 {
        let config = Config { origins_max: 6, ..config(STRATEGIES[(seed % 3) as usize]) };
        let mut network = random_network(seed, config);
        trouble(&mut network, true);
        network.run(400_000);
        network.sent.clear();
        network.run(100_000);
        let calm = |kind: &&str| ["hash", "digest"].contains(kind);
        assert!(network.sent.keys().all(calm), "seed {seed}: {:?}", network.sent);
    }
}

#[test]
fn without_faults_rumors_take_the_only_way() {
    for seed in 0..12 {
        // A line or a star, either strategy.
        let mut rng = Rng::seed_from_u64(seed);
        let edges = graph(seed % 2, 7, &mut rng);
        let strategy = STRATEGIES[(seed / 2 % 3) as usize];
        let mut network = Network::new(seed, config(strategy), 7, &edges);
        network.exact_hops = true;
        network.run(5_000);
        network.sent.clear();
        for _ in 0..150 {
            let (node, pause) = (network.below(7) as usize, network.below(20));
            network.publish(node);
            network.run(pause);
        }
        network.run(20_000);
        network.assert_complete();
        assert_eq!(network.deliveries, 150 * 6);
        if strategy == Strategy::Tree {
            assert_eq!(network.sent["rumor"], 150 * 6);
            assert!(!network.sent.contains_key("prune") && !network.sent.contains_key("want"));
        }
        network.assert_quiet();
    }
}

#[test]
fn a_warm_tree_brings_every_rumor_once() {
    for seed in 0..12 {
        let mut rng = Rng::seed_from_u64(seed);
        let edges = graph(2, 12, &mut rng);
        let mut network = Network::new(seed, config(Strategy::Tree), 12, &edges);
        network.run(3_000);
        // One sender, or all of them; warmed up one by one, or all at once.
        let senders = if seed % 2 == 0 { 12 } else { 1 };
        let slow = seed % 4 < 2;
        let busy = if seed % 3 == 0 { 5 } else { 40 };
        let say = |network: &mut Network, rumors, pause| {
            for _ in 0..rumors {
                let (node, pause) = (network.below(senders) as usize, network.below(pause));
                network.publish(node);
                network.run(pause);
            }
        };
        if slow {
            say(&mut network, 30, 200);
        } else {
            say(&mut network, 600, busy);
        }
        network.run(1_000);
        network.sent.clear();
        network.deliveries = 0;
        say(&mut network, 300, busy);
        network.run(5_000);
        network.assert_complete();
        assert_eq!(network.deliveries, 300 * 11);
        let copies = network.sent["rumor"];
        assert!(copies * 100 <= network.deliveries * 101, "seed {seed}: {:?}", network.sent);
        network.assert_quiet();
    }
}
