//! Broken variants of a node that the checks must find: a check that never failed proves nothing.
//!
//! They are bent from outside, by what they are told and by what they are heard to say. Each names
//! the promise that it breaks; the first seed that finds it must find that one.

use roundelay_core::{
    gossip, multicast,
    node::{self, Node},
    protocol::{Context, Effect, EffectOf, Input, InputOf, Protocol},
    tokenring,
};
use roundelay_sim::{
    Scenario, Subject,
    storm::{self, Failure},
};
use std::fmt::Debug;

/// A way to break a node.
trait Bend: Debug + Default {
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
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Send { to, message } => {
                    to.peers().iter().for_each(|peer| cx.send(*peer, message.clone()));
                }
                Effect::SetTimer { timer, after } => cx.set_timer(timer, after),
                Effect::CancelTimer(timer) => cx.cancel_timer(timer),
                Effect::Save(record) => cx.save(record),
                Effect::Append(entry) => cx.append(entry),
                Effect::Emit(event) => cx.emit(event),
            }
        }
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

/// The first failure of a variant within so many seeds.
fn first_failure<B: Bend>(seeds: u64) -> Failure {
    let failure = failures::<B>(seeds).next();
    failure.unwrap_or_else(|| panic!("{seeds} seeds have not found {:?}", B::default()))
}

/// Runs a variant until an invariant is broken, which must be one of these. (What is unsafe may
/// get stuck just as well, so runs that do are passed over.)
#[track_caller]
fn breaks<B: Bend>(seeds: u64, invariants: &[&str]) {
    let violation = failures::<B>(seeds).find_map(|failure| match failure {
        Failure::Violation { violation, .. } => Some(violation),
        _ => None,
    });
    let violation = violation.unwrap_or_else(|| panic!("{seeds} seeds: {:?}", B::default()));
    assert!(invariants.contains(&violation.invariant), "{violation:?}");
}

/// Runs a variant until something is not reached, with `words` in what is open.
#[track_caller]
fn never_reaches<B: Bend>(seeds: u64, words: &str) {
    match first_failure::<B>(seeds) {
        Failure::Unreached(open) => {
            assert!(open.iter().any(|o| o.what.contains(words)), "{open:?}")
        }
        other => panic!("{other}"),
    }
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

/// Takes the first pass that it gets from a peer a second time, later, under a number of its own:
/// what a node does that does not recognise duplicates (H9).
#[derive(Debug, Default)]
struct TakesPassAgain {
    first: Option<InputOf<Node>>,
    inputs_since: u32,
}

impl Bend for TakesPassAgain {
    fn input(&mut self, input: InputOf<Node>) -> Vec<InputOf<Node>> {
        if self.first.is_some() {
            self.inputs_since += 1;
        } else if let Input::Message { message: node::Message::Lock(message), .. } = &input
            && let tokenring::Body::Pass { .. } = message.body
        {
            self.first = Some(input.clone());
        }
        let mut inputs = vec![input];
        if self.inputs_since == 50
            && let Some(mut again) = self.first.clone()
            && let Input::Message { message: node::Message::Lock(message), .. } = &mut again
            && let tokenring::Body::Pass { number, .. } = &mut message.body
        {
            *number += 500;
            inputs.push(again);
        }
        inputs
    }
}

#[test]
fn a_pass_taken_twice_is_found() {
    breaks::<TakesPassAgain>(200, &["one_token", "exclusion", "fences"]);
}

/// Delivers every second message after the one that follows it.
#[derive(Debug, Default)]
struct SwapsDeliveries {
    held_back: Option<EffectOf<Node>>,
}

impl Bend for SwapsDeliveries {
    fn effects(&mut self, effects: &mut Vec<EffectOf<Node>>) {
        for effect in std::mem::take(effects) {
            if is_delivery(&effect) && self.held_back.is_none() {
                self.held_back = Some(effect);
            } else {
                let delivery = is_delivery(&effect);
                effects.push(effect);
                effects.extend(self.held_back.take_if(|_| delivery));
            }
        }
    }
}

fn is_delivery(effect: &EffectOf<Node>) -> bool {
    matches!(effect, Effect::Emit(node::Event::Order(multicast::Event::Delivered(_))))
}

#[test]
fn swapped_deliveries_are_found() {
    breaks::<SwapsDeliveries>(50, &["one_order"]);
}

/// Counts a clock before everything has come that the clock is about (T1).
#[derive(Debug, Default)]
struct CountsClocksEarly;

impl Bend for CountsClocksEarly {
    fn input(&mut self, input: InputOf<Node>) -> Vec<InputOf<Node>> {
        let mut early = input.clone();
        if let Input::Message { message: node::Message::Order(message), .. } = &mut early
            && let multicast::Body::Clock { after, .. } = &mut message.body
        {
            *after = 0;
            return vec![input, early];
        }
        vec![input]
    }
}

#[test]
fn a_clock_counted_early_is_found() {
    breaks::<CountsClocksEarly>(200, &["one_order"]);
}

/// Hears of each rumor whenever it comes.
#[derive(Debug, Default)]
struct RepeatsRumors;

impl Bend for RepeatsRumors {
    fn effects(&mut self, effects: &mut Vec<EffectOf<Node>>) {
        if let Some(heard) = effects.iter().find(|effect| is_rumor(effect)).cloned() {
            effects.push(heard);
        }
    }
}

fn is_rumor(effect: &EffectOf<Node>) -> bool {
    matches!(effect, Effect::Emit(node::Event::Gossip(gossip::Event::Heard { .. })))
}

#[test]
fn a_repeated_rumor_is_found() {
    breaks::<RepeatsRumors>(50, &["no_duplicate_rumors"]);
}

/// Loses every tenth rumor between the machine and the application.
#[derive(Debug, Default)]
struct LosesRumors {
    heard: u32,
}

impl Bend for LosesRumors {
    fn effects(&mut self, effects: &mut Vec<EffectOf<Node>>) {
        effects.retain(|effect| {
            self.heard += u32::from(is_rumor(effect));
            !is_rumor(effect) || !self.heard.is_multiple_of(10)
        });
    }
}

#[test]
fn a_lost_rumor_is_found() {
    never_reaches::<LosesRumors>(50, "rumors of");
}

/// Acknowledges passes that it never handles: the token is gone.
#[derive(Debug, Default)]
struct DropsTokens {
    passes: u32,
}

impl Bend for DropsTokens {
    fn input(&mut self, mut input: InputOf<Node>) -> Vec<InputOf<Node>> {
        if let Input::Message { message: node::Message::Lock(message), .. } = &mut input
            && let tokenring::Body::Pass { lock, .. } = &mut message.body
        {
            self.passes += 1;
            if self.passes > 3 {
                // Taken for the token of a lock that nobody asks for.
                *lock = tokenring::LockName::new("nowhere").expect("a short name");
            }
        }
        vec![input]
    }
}

#[test]
fn a_lost_token_is_found() {
    match first_failure::<DropsTokens>(100) {
        Failure::Unreached(open) => {
            assert!(open.iter().any(|open| open.what.contains("waits for lock")), "{open:?}");
        }
        Failure::Violation { violation, .. } => assert_eq!(violation.invariant, "one_token"),
        other => panic!("{other}"),
    }
}

/// Asks again and again, though all is said.
#[derive(Debug, Default)]
struct NeverRests {
    peer: Option<roundelay_core::NodeId>,
}

impl Bend for NeverRests {
    fn input(&mut self, input: InputOf<Node>) -> Vec<InputOf<Node>> {
        if let Input::LinkUp(peer) = input {
            self.peer = Some(peer);
        }
        vec![input]
    }

    fn effects(&mut self, effects: &mut Vec<EffectOf<Node>>) {
        let beats = |effect: &EffectOf<Node>| {
            matches!(effect, Effect::SetTimer { timer: node::Timer::Detector(_), .. })
        };
        if effects.iter().any(beats)
            && let Some(peer) = self.peer
        {
            let message = node::Message::Gossip(gossip::Message::Want(Vec::new()));
            effects.push(Effect::Send { to: roundelay_core::To::One(peer), message });
        }
    }
}

#[test]
fn a_restless_node_is_found() {
    assert!(matches!(first_failure::<NeverRests>(5), Failure::Restless { .. }));
}

/// Grants, but with the fence of the grant before.
#[derive(Debug, Default)]
struct RepeatsFences {
    last: Option<u64>,
}

impl Bend for RepeatsFences {
    fn effects(&mut self, effects: &mut Vec<EffectOf<Node>>) {
        for effect in effects {
            if let Effect::Emit(node::Event::Lock(tokenring::Event::Granted { fence, .. })) = effect
            {
                let stale = self.last.replace(*fence);
                *fence = stale.unwrap_or(*fence);
            }
        }
    }
}

#[test]
fn a_repeated_fence_is_found() {
    breaks::<RepeatsFences>(50, &["fences", "exclusion"]);
}

/// Grants every lock that is asked for at once.
#[derive(Debug, Default)]
struct GrantsEverything {
    grants: Vec<EffectOf<Node>>,
}

impl Bend for GrantsEverything {
    fn input(&mut self, input: InputOf<Node>) -> Vec<InputOf<Node>> {
        if let Input::Command(node::Command::Lock(tokenring::Command::Lock {
            lock, ticket, ..
        })) = &input
        {
            let event = tokenring::Event::Granted { lock: lock.clone(), ticket: *ticket, fence: 1 };
            self.grants.push(Effect::Emit(node::Event::Lock(event)));
        }
        vec![input]
    }

    fn effects(&mut self, effects: &mut Vec<EffectOf<Node>>) {
        effects.splice(0..0, self.grants.drain(..));
    }
}

#[test]
fn two_holders_are_found() {
    breaks::<GrantsEverything>(50, &["exclusion", "answers", "fences"]);
}
