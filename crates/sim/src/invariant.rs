//! Safety: what must hold after every step, whatever the network does.
//!
//! One property per file, each with its source and with histories on which it must fail. The
//! checks are fed what nodes see and do, one observation at a time, and keep what they need to
//! judge the next: the cost of a run is linear in its length.

mod accepted;
mod answers;
mod exclusion;
mod fences;
mod integrity;
mod no_duplicate_rumors;
mod one_group;
mod one_order;
mod one_token;
#[cfg(test)]
mod testing;

pub(crate) use accepted::Accepted;
pub use answers::Answers;
use core::fmt;
pub use exclusion::Exclusion;
pub use fences::Fences;
pub use integrity::Integrity;
pub use no_duplicate_rumors::NoDuplicateRumors;
pub use one_group::OneGroup;
pub use one_order::OneOrder;
pub use one_token::OneToken;

use crate::{scenario::Scenario, sim::Step, subject::Subject};
use roundelay_core::{
    id::{Life, NodeId},
    node,
    protocol::{EffectOf, Input, InputOf},
    time::Time,
    tokenring::LockName,
};

/// One thing that is seen of a node.
#[derive(Debug)]
pub enum Seen<'a> {
    /// An input: the first observation of each step.
    Input(&'a InputOf<node::Node>),
    /// An effect; those of one step come in their order.
    Effect(&'a EffectOf<node::Node>),
    /// The locks whose token is at the node: the last observation of a step, if it may have
    /// changed.
    Tokens(&'a [LockName]),
}

/// One life of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Who {
    /// The node.
    pub node: NodeId,
    /// Its life.
    pub life: Life,
}

/// A property that no run may break.
pub trait Invariant: fmt::Debug {
    /// What it is called.
    fn name(&self) -> &'static str;

    /// Where it is promised.
    fn source(&self) -> &'static str;

    /// Takes note of what is seen of `who`, and says what is wrong with it.
    fn check(&mut self, who: Who, seen: &Seen<'_>) -> Result<(), String>;
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// Where it was given.
    pub source: &'static str,
    /// When, in true time.
    pub time: Time,
    /// By whom.
    pub node: NodeId,
    /// How.
    pub what: String,
}

/// All invariants, with what they have seen of one run.
#[derive(Debug)]
pub struct Invariants {
    table: Vec<Box<dyn Invariant>>,
    tokens: Vec<LockName>,
}

impl Invariants {
    /// The table of all invariants, at the beginning of a run of this scenario.
    pub fn of(scenario: &Scenario) -> Self {
        Self {
            table: vec![
                Box::new(OneGroup::new(scenario.ring.clone())),
                Box::new(OneToken::default()),
                Box::new(Answers::default()),
                Box::new(Exclusion::default()),
                Box::new(Fences::default()),
                Box::new(OneOrder::default()),
                Box::new(Integrity::default()),
                Box::new(NoDuplicateRumors::default()),
            ],
            tokens: Vec::new(),
        }
    }

    /// Checks one step of `who`.
    pub fn check<P: Subject>(&mut self, who: Who, step: &Step<'_, P>) -> Result<(), Violation> {
        self.see(who, step.time, &Seen::Input(&step.input))?;
        for effect in step.effects {
            self.see(who, step.time, &Seen::Effect(effect))?;
        }
        if touches_lock(&step.input) && self.look_at_tokens(step.machine.node()) {
            let tokens = core::mem::take(&mut self.tokens);
            self.see(who, step.time, &Seen::Tokens(&tokens))?;
            self.tokens = tokens;
        }
        Ok(())
    }

    fn look_at_tokens(&mut self, node: &node::Node) -> bool {
        let Some(lock) = node.lock() else { return false };
        self.tokens.clear();
        let locks = lock.status().locks;
        self.tokens.extend(locks.into_iter().filter(|lock| lock.token).map(|lock| lock.lock));
        true
    }

    fn see(&mut self, who: Who, time: Time, seen: &Seen<'_>) -> Result<(), Violation> {
        for invariant in &mut self.table {
            invariant.check(who, seen).map_err(|what| Violation {
                invariant: invariant.name(),
                source: invariant.source(),
                time,
                node: who.node,
                what,
            })?;
        }
        Ok(())
    }
}

/// Whether an input can have moved a token. Only messages of other protocols are left out, which
/// are most: looking at a node costs more than handling many an input.
fn touches_lock(input: &InputOf<node::Node>) -> bool {
    match input {
        Input::Message { message, .. } => {
            matches!(message, node::Message::Lock(_) | node::Message::Founding(_))
        }
        Input::Timer(timer) => matches!(timer, node::Timer::Lock(_) | node::Timer::Founding(_)),
        Input::Command(_)
        | Input::Start(_)
        | Input::LinkUp(_)
        | Input::LinkDown(_)
        | Input::Appended(_) => true,
    }
}
