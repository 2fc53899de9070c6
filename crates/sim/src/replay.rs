//! Replay: a recorded life of a real node is lived again, and must go the same way.
//!
//! A node is deterministic, so its settings, its seed and its inputs with their times are all that
//! its life was made of. Whatever a driver does besides handing over inputs and performing effects
//! would show here as a divergence.
//!
//! * [`Reader`] reads a recording, entry by entry.
//! * [`Replay`] gives the entries to a node, and compares what it does.
//! * [`History`] does so with the recordings of several nodes at once, in an order in which it can
//!   have happened, and checks the invariants that simulated runs are checked with.

mod cast;
mod history;
mod reader;

pub use cast::Recorded;
pub use history::{Failure, Gap, History, Life, Problem};
pub use reader::{ReadError, Reader};

use crate::subject::Subject;
use core::fmt;
use rand_core::SeedableRng as _;
use roundelay_core::{
    protocol::{Context, EffectOf, Rng},
    recording::{self, Entry, Header},
    trace::TraceHasher,
};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A node that lives a recorded life again.
#[derive(Debug)]
pub struct Replay<P: Subject> {
    machine: P,
    rng: Rng,
    trace: TraceHasher,
    effects: Vec<EffectOf<P>>,
    inputs: u64,
}

/// How a replay is not what was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divergence {
    /// This is not the input that was recorded here.
    Input,
    /// The node does something else about it.
    Effects,
    /// The node panics on it.
    Panic,
}

impl<P: Subject> Replay<P> {
    /// The node before its first input.
    pub fn new(header: &Header) -> Self {
        Self {
            machine: P::new(header.config.clone()),
            rng: Rng::from_seed(header.seed),
            trace: TraceHasher::default(),
            effects: Vec::new(),
            inputs: 0,
        }
    }

    /// Gives the node its next input. After an error it has nothing more to say.
    pub fn step(&mut self, entry: &Entry) -> Result<(), Divergence> {
        self.effects.clear();
        if recording::arrive(&mut self.trace, entry.time, &entry.input) != entry.arrived {
            return Err(Divergence::Input);
        }
        let mut cx = Context::new(entry.time, &mut self.rng, &mut self.effects);
        let (machine, input) = (&mut self.machine, entry.input.clone());
        let handle = || machine.handle(input, &mut cx);
        // Nothing that a panic leaves half done is looked at again.
        if catch_unwind(AssertUnwindSafe(handle)).is_err() {
            return Err(Divergence::Panic);
        }
        self.inputs += 1;
        let handled = recording::handle(&mut self.trace, &self.effects);
        match entry.handled {
            Some(recorded) if recorded != handled => Err(Divergence::Effects),
            // Of the last input of a node that was killed, it is not known what became of it.
            _ => Ok(()),
        }
    }

    /// What the node has done about its last input.
    pub fn effects(&self) -> &[EffectOf<P>] {
        &self.effects
    }

    /// The node.
    pub fn machine(&self) -> &P {
        &self.machine
    }

    /// How many inputs it has handled.
    pub fn inputs(&self) -> u64 {
        self.inputs
    }

    /// The trace hash of the life so far.
    pub fn hash(&self) -> u64 {
        core::hash::Hasher::finish(&self.trace)
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => {
                "this is not what was recorded: the entry has been changed, or one before it is \
                 missing"
            }
            Self::Effects => "the node does something else about it than when it was recorded",
            Self::Panic => "the node panics on it",
        })
    }
}
