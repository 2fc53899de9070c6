//! How the nodes of the gossip are linked: always so that each can reach each.

use crate::{args::bench::Graph, failure::Usage};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use std::collections::BTreeSet;

/// The neighbours of each of `nodes` nodes.
pub(super) fn neighbors(
    graph: Graph,
    nodes: usize,
    degree: usize,
    seed: u64,
) -> Result<Vec<Vec<usize>>, Usage> {
    let links = match graph {
        Graph::Regular if degree % 2 == 1 => {
            let text = format!("--degree {degree}: a regular graph is made of circles, and each");
            return Err(Usage(format!("{text} gives two neighbours; take an even number")));
        }
        Graph::Regular => circles(nodes, degree / 2, seed),
        Graph::Tree => tree(nodes, degree),
    };
    let mut neighbors = vec![BTreeSet::new(); nodes];
    for (one, other) in links.into_iter().filter(|(one, other)| one != other) {
        neighbors[one].insert(other);
        neighbors[other].insert(one);
    }
    Ok(neighbors.into_iter().map(|set| set.into_iter().collect()).collect())
}

/// Circles through all nodes, each in another random order: few hops from anywhere to anywhere.
fn circles(nodes: usize, count: usize, seed: u64) -> Vec<(usize, usize)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut links = Vec::with_capacity(nodes * count);
    for _ in 0..count {
        let mut order: Vec<usize> = (0..nodes).collect();
        for last in (1..nodes).rev() {
            let below = (u64::from(rng.next_u32()) * (last as u64 + 1)) >> 32;
            order.swap(last, below as usize);
        }
        links.extend((0..nodes).map(|at| (order[at], order[(at + 1) % nodes])));
    }
    links
}

/// Every node has its parent and at most `degree - 1` children; the first one has no parent.
fn tree(nodes: usize, degree: usize) -> Vec<(usize, usize)> {
    (1..nodes).map(|node| (node, (node - 1) / (degree - 1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(neighbors: &[Vec<usize>]) -> usize {
        let (mut seen, mut open) = (BTreeSet::from([0]), vec![0]);
        while let Some(node) = open.pop() {
            open.extend(neighbors[node].iter().filter(|next| seen.insert(**next)));
        }
        seen.len()
    }

    #[test]
    fn every_graph_is_connected_and_both_ways() {
        for nodes in 2..40 {
            for degree in [2, 4, 8] {
                for graph in [Graph::Regular, Graph::Tree] {
                    let neighbors = neighbors(graph, nodes, degree, 7).unwrap();
                    assert_eq!(reached(&neighbors), nodes, "{graph:?} {nodes} {degree}");
                    for (node, list) in neighbors.iter().enumerate() {
                        assert!(list.len() <= degree && !list.contains(&node));
                        assert!(list.iter().all(|other| neighbors[*other].contains(&node)));
                    }
                }
            }
        }
    }

    #[test]
    fn the_seed_decides() {
        let drawn = |seed| neighbors(Graph::Regular, 32, 4, seed).unwrap();
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        assert!(neighbors(Graph::Regular, 32, 3, 1).is_err());
        let links: usize = neighbors(Graph::Tree, 32, 3, 1).unwrap().iter().map(Vec::len).sum();
        assert_eq!(links, 31 * 2);
    }
}
