//! The one pattern that every protocol here follows, and the contract between a protocol and
//! whoever drives it: the runtime, the simulator, the model checker.
//!
//! 1. *Deterministic.* The same state, input, time and randomness give the same state and effects.
//! 2. *One list, in order.* The driver performs all effects of one input, in their order, before
//!    the next input. A [`Effect::Save`] is durable before any effect after it leaves the node. A
//!    node may end between any two effects: those before are done, those after never will be.
//! 3. *Send is best effort.* A message may be lost, duplicated, delayed or overtaken. Who needs
//!    order or delivery numbers its messages. [`Input::LinkUp`] and [`Input::LinkDown`] are hints
//!    for liveness, never a basis for safety.
//! 4. *Timers are names.* Setting one again replaces it; one that fired or was cancelled is gone.
//!    A timer set to zero fires when no input waits, or after 256 inputs, whichever is first: the
//!    batch boundary, where acknowledgements and clocks leave.
//! 5. *Infallible.* Malformed bytes never get here; what is well formed and impossible is ignored;
//!    a command that cannot be honoured is answered by an event.
//! 6. *Bounded.* Every queue has a limit, and one call does bounded work.
//! 7. *Safety never depends on time.*

use crate::{
    id::NodeId,
    multicast::LogEntry,
    planted::{self, Bug},
    time::Time,
    view::{Record, Saved},
};
use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::{fmt::Debug, hash::Hash, time::Duration};
use rand_core::Rng as _;

/// The source of randomness that a driver hands to a protocol: seeded, and the same everywhere.
pub type Rng = rand_chacha::ChaCha8Rng;

/// A deterministic state machine that talks to its peers.
pub trait Protocol {
    /// What nodes send to each other.
    type Message: Clone + Debug + Eq + Hash;
    /// The names of its timers.
    type Timer: Copy + Debug + Ord + Hash;
    /// What the application asks for.
    type Command: Clone + Debug + Eq + Hash;
    /// What the application is told.
    type Event: Clone + Debug + Eq + Hash;

    /// Takes one input; what is to be done about it goes into `cx`, in order.
    fn handle(&mut self, input: InputOf<Self>, cx: &mut Context<'_, Self>);
}

/// Everything that can happen to a protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Input<M, T, C> {
    /// The first input of a life, with what an earlier life has saved.
    Start(Option<Box<Saved>>),
    /// A message arrived.
    Message {
        /// Who sent it.
        from: NodeId,
        /// What it says.
        message: M,
    },
    /// A timer fired.
    Timer(T),
    /// The application asks for something.
    Command(C),
    /// Messages to this peer will probably arrive from now on.
    LinkUp(NodeId),
    /// Messages to this peer will probably be lost from now on.
    LinkDown(NodeId),
    /// Everything appended up to this number is durable.
    Appended(u64),
}

/// Everything that a protocol can ask its driver to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect<M, T, E> {
    /// Send a message, best effort.
    Send {
        /// To whom.
        to: To,
        /// What it says.
        message: M,
    },
    /// Let the timer fire once, `after` from now. Never early, possibly late.
    SetTimer {
        /// Its name.
        timer: T,
        /// How long from now; zero means at the batch boundary.
        after: Duration,
    },
    /// Forget the timer.
    CancelTimer(T),
    /// Replace the durable record, at once and before any later effect leaves the node. If that
    /// fails, the node stops there and then: the effects before have been performed, those after
    /// never leave, and the record is the old one. No input tells of it: who cannot remember what
    /// it is about to say must not say it.
    Save(Box<Record>),
    /// Append to the durable log; answered later by [`Input::Appended`]. Until then a crash may
    /// or may not take the entry away, and with it all that were appended after it.
    Append(LogEntry),
    /// The entries of the log up to this number are not needed any more: they may be forgotten, now
    /// or later, the oldest first.
    Trim(u64),
    /// Tell the application.
    Emit(E),
}

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum To {
    /// One peer.
    One(NodeId),
    /// Several peers: encoded once.
    Many(Arc<[NodeId]>),
}

impl To {
    /// The peers, one by one.
    pub fn peers(&self) -> &[NodeId] {
        match self {
            Self::One(peer) => core::slice::from_ref(peer),
            Self::Many(peers) => peers,
        }
    }
}

/// The inputs of protocol `P`.
pub type InputOf<P> =
    Input<<P as Protocol>::Message, <P as Protocol>::Timer, <P as Protocol>::Command>;

/// The effects of protocol `P`.
pub type EffectOf<P> =
    Effect<<P as Protocol>::Message, <P as Protocol>::Timer, <P as Protocol>::Event>;

/// What a protocol may use while it handles one input: the time, randomness, and the list that
/// its effects go into.
#[derive(Debug)]
pub struct Context<'a, P: Protocol + ?Sized> {
    now: Time,
    rng: &'a mut Rng,
    effects: &'a mut Vec<EffectOf<P>>,
    planted: Option<Bug>,
}

impl<'a, P: Protocol + ?Sized> Context<'a, P> {
    /// A context for one input at time `now`; the effects are added to `effects`.
    pub fn new(now: Time, rng: &'a mut Rng, effects: &'a mut Vec<EffectOf<P>>) -> Self {
        Self { now, rng, effects, planted: None }
    }

    /// The same with a rule left out, for the tests of the checks.
    #[must_use]
    pub fn planting(self, bug: Option<Bug>) -> Self {
        assert!(bug.is_none() || planted::ENABLED, "bugs are for tests");
        Self { planted: bug, ..self }
    }

    /// Whether this rule is left out: never, but in a test of the checks.
    #[inline]
    pub fn has(&self, bug: Bug) -> bool {
        planted::ENABLED && self.planted == Some(bug)
    }

    /// The time of this input.
    pub fn now(&self) -> Time {
        self.now
    }

    /// A random number.
    pub fn random(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// A random number below `bound`, which is at least one. (The bias, below `bound / 2^64`, is
    /// of no consequence for choosing peers and jitter.)
    pub fn random_below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.random()) * u128::from(bound)) >> 64) as u64
    }

    /// Sends `message` to one peer.
    pub fn send(&mut self, to: NodeId, message: impl Into<P::Message>) {
        self.effects.push(Effect::Send { to: To::One(to), message: message.into() });
    }

    /// Sends `message` to several peers.
    pub fn send_many(&mut self, to: &Arc<[NodeId]>, message: impl Into<P::Message>) {
        if !to.is_empty() {
            self.effects.push(Effect::Send { to: To::Many(to.clone()), message: message.into() });
        }
    }

    /// Lets `timer` fire `after` from now.
    pub fn set_timer(&mut self, timer: P::Timer, after: Duration) {
        self.effects.push(Effect::SetTimer { timer, after });
    }

    /// Forgets `timer`.
    pub fn cancel_timer(&mut self, timer: P::Timer) {
        self.effects.push(Effect::CancelTimer(timer));
    }

    /// Replaces the durable record.
    pub fn save(&mut self, record: Record) {
        self.effects.push(Effect::Save(Box::new(record)));
    }

    /// Appends to the durable log.
    pub fn append(&mut self, entry: LogEntry) {
        self.effects.push(Effect::Append(entry));
    }

    /// Lets go of the entries of the log up to this number.
    pub fn trim(&mut self, number: u64) {
        self.effects.push(Effect::Trim(number));
    }

    /// Tells the application.
    pub fn emit(&mut self, event: P::Event) {
        self.effects.push(Effect::Emit(event));
    }

    /// Adds effects that are this protocol's own already, in their order: for who wraps a protocol.
    pub fn extend(&mut self, effects: impl IntoIterator<Item = EffectOf<P>>) {
        self.effects.extend(effects);
    }

    /// Lets `child` handle `input`: its messages and timers become this protocol's own. So do those
    /// of its events for which `report` gives one, in their place among the messages; the others are
    /// for this protocol to act on. `scratch` is empty before and after.
    pub fn drive<C: Protocol>(
        &mut self,
        child: &mut C,
        input: InputOf<C>,
        scratch: &mut Vec<EffectOf<C>>,
        mut report: impl FnMut(C::Event) -> Option<P::Event>,
    ) where
        P::Message: From<C::Message>,
        P::Timer: From<C::Timer>,
    {
        let mut cx = Context::new(self.now, self.rng, scratch).planting(self.planted);
        child.handle(input, &mut cx);
        self.effects.reserve(scratch.len());
        for effect in scratch.drain(..) {
            self.effects.push(match effect {
                Effect::Send { to, message } => Effect::Send { to, message: message.into() },
                Effect::SetTimer { timer, after } => {
                    Effect::SetTimer { timer: timer.into(), after }
                }
                Effect::CancelTimer(timer) => Effect::CancelTimer(timer.into()),
                Effect::Save(record) => Effect::Save(record),
                Effect::Append(entry) => Effect::Append(entry),
                Effect::Trim(number) => Effect::Trim(number),
                Effect::Emit(event) => match report(event) {
                    Some(event) => Effect::Emit(event),
                    None => continue,
                },
            });
        }
    }
}
