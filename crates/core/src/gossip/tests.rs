//! Exact effects of single steps, and whole networks under seeded faults.

extern crate std;
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
    for _ in 0..60 {
        let node = network.below(network.nodes() as u64) as usize;
        match network.below(10) {
            0..6 => (0..=network.below(4)).for_each(|_| network.publish(node)),
            6 => (0..=network.below(100)).for_each(|_| network.publish(node)),
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
    for seed in 0..300 {
        std::eprintln!("seed {seed}");
        let strategy = STRATEGIES[(seed % 3) as usize];
        let mut network = random_network(seed, config(strategy));
        trouble(&mut network, seed % 5 > 0);
        network.run(60_000);
        network.assert_complete();
        network.assert_quiet();
    }
}
