//! Nodes that are bent from outside, by what they are told and by what they are heard to say: for
//! the checks that no rule left out of a core can break.

use roundelay_core::{
    node::{self, Node},
    protocol::{Context, EffectOf, InputOf, Protocol},
};
use roundelay_sim::{
    Scenario, Subject,
    storm::{self, Failure},
};
use std::fmt::Debug;

/// A way to break a node.
pub(crate) trait Bend: Debug + Default {
    /// Replaces an input by none, one or several.
    fn input(&mut self, input: InputOf<Node>) -> Vec<InputOf<Node>> {
        vec![input]
    }

    /// Changes what an input led to.
    fn effects(&mut self, effects: &mut Vec<EffectOf<Node>>) {
        let _ = effects;
    }
}

#[derive(Debug)]
struct Bent<B> {
    node: Node,
    bend: B,
    effects: Vec<EffectOf<Node>>,
}

impl<B: Bend> Protocol for Bent<B> {
    type Message = node::Message;
    type Timer = node::Timer;
    type Command = node::Command;
    type Event = node::Event;

    fn handle(&mut self, input: InputOf<Self>, cx: &mut Context<'_, Self>) {
        let mut rng = rand_core::SeedableRng::seed_from_u64(cx.random());
        for input in self.bend.input(input) {
            let now = cx.now();
            self.node.handle(input, &mut Context::new(now, &mut rng, &mut self.effects));
        }
        self.bend.effects(&mut self.effects);
        cx.extend(self.effects.drain(..));
    }
}

impl<B: Bend> Subject for Bent<B> {
    fn new(config: node::Config) -> Self {
        Self { node: Node::new(config), bend: B::default(), effects: Vec::new() }
    }

    fn node(&self) -> &Node {
        &self.node
    }
}

/// The failures of a variant, seed by seed.
fn failures<B: Bend>(seeds: u64) -> impl Iterator<Item = Failure> {
    (0..seeds).filter_map(|seed| storm::run::<Bent<B>>(&Scenario::new(seed), &mut |_| ()).err())
}

/// Runs a variant until an invariant is broken, which must be one of these. (What is unsafe may
/// get stuck just as well, so runs that do are passed over.)
#[track_caller]
pub(crate) fn breaks<B: Bend>(seeds: u64, invariants: &[&str]) {
    let violation = failures::<B>(seeds).find_map(|failure| match failure {
        Failure::Violation { violation, .. } => Some(violation),
        _ => None,
    });
    let violation = violation.unwrap_or_else(|| panic!("{seeds} seeds: {:?}", B::default()));
    assert!(invariants.contains(&violation.invariant), "{violation:?}");
}

/// The bend does nothing: so it is the variants that are found, not the bending.
#[derive(Debug, Default)]
struct Straight;

impl Bend for Straight {}

#[test]
fn an_unbent_node_passes() {
    for seed in 0..50 {
        storm::run::<Bent<Straight>>(&Scenario::new(seed), &mut |_| ()).unwrap();
    }
}
