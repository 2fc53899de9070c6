//! Bugs of the lock and of the founding.

use crate::bent::{Bend, breaks, first_failure};
use roundelay_core::{
    node::{self, Node},
    planted::Bug,
    protocol::{Effect, EffectOf, Input, InputOf},
    tokenring,
};
use roundelay_sim::{scenario::Parts, storm::Failure};

crate::planted! {
    in runs with Parts { lock: true, order: false, gossip: false };
    a_pass_that_came_before_is_found: DuplicatePass breaks "one_token" within 200 seeds,
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
