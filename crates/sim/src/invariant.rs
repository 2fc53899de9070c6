//! Safety: what must hold after every step, whatever the network does.
//!
//! One property per file, each with its source and with histories on which it must fail. The
//! checks are fed what nodes see and do, one observation at a time, and keep what they need to
//! judge the next: the cost of a run is linear in its length.

mod accepted;
mod active_majority;
mod answers;
mod arrivals;
mod bounded_turns;
mod causal_order;
mod circulation;
mod consent;
mod durability;
mod exclusion;
mod fences;
mod integrity;
mod kept_clocks;
mod kept_rumors;
mod no_duplicate_rumors;
mod numbers;
mod one_chain;
mod one_group;
mod one_order;
mod one_token;
mod peer_states;
mod reach;
mod recorded;
mod ring_order;
#[cfg(test)]
mod testing;
mod true_digests;
mod true_receipts;
mod uniformity;
mod view_synchrony;
mod views;

pub(crate) use accepted::Accepted;
pub use active_majority::ActiveMajority;
pub use answers::Answers;
pub use bounded_turns::BoundedTurns;
pub use causal_order::CausalOrder;
pub use circulation::Circulation;
pub use consent::Consent;
use core::fmt;
pub use durability::Durability;
pub use exclusion::Exclusion;
pub use fences::Fences;
pub use integrity::Integrity;
pub use kept_clocks::KeptClocks;
pub use kept_rumors::KeptRumors;
pub use no_duplicate_rumors::NoDuplicateRumors;
pub use one_chain::OneChain;
pub use one_group::OneGroup;
pub use one_order::OneOrder;
pub use one_token::OneToken;
pub use peer_states::PeerStates;
pub use recorded::Recorded;
pub use ring_order::RingOrder;
pub use true_digests::TrueDigests;
pub use true_receipts::TrueReceipts;
pub use uniformity::Uniformity;
pub use view_synchrony::ViewSynchrony;

use crate::{sim::Step, subject::Subject};
use roundelay_core::{
    id::{Life, NodeId},
    node,
    protocol::{Effect, EffectOf, Input, InputOf},
    time::Time,
    tokenring::LockName,
};

/// One thing that is seen of a node.
#[derive(Debug)]
pub enum Seen<'a> {
    /// An input: the first observation of each step.
    Input(&'a InputOf<node::Node>),
    /// An effect that others can notice; those of one step come in their order. Timers, what is
    /// saved and heartbeats are nobody's promise, and are half of all effects.
    Effect(&'a EffectOf<node::Node>),
    /// What is so at the end of a step: its last observation, if lock or order may have changed.
    End(&'a End<'a>),
}

/// What is so at the end of a step.
#[derive(Debug)]
pub struct End<'a> {
    /// When, in true time.
    pub time: Time,
    /// The locks whose token is at the node.
    pub tokens: &'a [LockName],
    /// The locks that the node remembers.
    pub known: &'a [LockName],
    /// Until when guards here are valid for all that the node knows, in true time.
    pub lease_until: Time,
    /// The life ended within the step.
    pub ended: bool,
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

    /// Who has stated it first, or best.
    fn paper(&self) -> &'static str;

    /// Whether it can be judged where not everything is seen: what each node does is, from its first
    /// input on, but other nodes may have done things as well.
    fn allows_gaps(&self) -> bool {
        false
    }

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

/// All invariants, with what they have seen of one run. (They can be cloned, compared and hashed,
/// for the model checker: what has been seen is part of a state.)
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Invariants {
    peer_states: PeerStates,
    one_chain: OneChain,
    one_group: OneGroup,
    consent: Consent,
    active_majority: ActiveMajority,
    one_token: OneToken,
    answers: Answers,
    exclusion: Exclusion,
    fences: Fences,
    recorded: Recorded,
    ring_order: RingOrder,
    bounded_turns: BoundedTurns,
    circulation: Circulation,
    one_order: OneOrder,
    integrity: Integrity,
    causal_order: CausalOrder,
    kept_clocks: KeptClocks,
    true_receipts: TrueReceipts,
    uniformity: Uniformity,
    view_synchrony: ViewSynchrony,
    durability: Durability,
    no_duplicate_rumors: NoDuplicateRumors,
    true_digests: TrueDigests,
    kept_rumors: KeptRumors,
    /// Whether not everything is seen.
    gaps: bool,
}

impl Invariants {
    /// The invariants at the beginning of a run of nodes whose next pointers make this ring, as
    /// positions in their list, none if it does not close; a turn is this many grants.
    pub fn new(ring: Option<Vec<u16>>, turn: usize) -> Self {
        Self {
            peer_states: PeerStates::default(),
            one_chain: OneChain::default(),
            one_group: OneGroup::new(ring),
            consent: Consent::default(),
            active_majority: ActiveMajority::default(),
            one_token: OneToken::default(),
            answers: Answers::default(),
            exclusion: Exclusion::default(),
            fences: Fences::default(),
            recorded: Recorded::default(),
            ring_order: RingOrder::default(),
            bounded_turns: BoundedTurns::new(turn),
            circulation: Circulation::default(),
            one_order: OneOrder::default(),
            integrity: Integrity::default(),
            causal_order: CausalOrder::default(),
            kept_clocks: KeptClocks::default(),
            true_receipts: TrueReceipts::default(),
            uniformity: Uniformity::default(),
            view_synchrony: ViewSynchrony::default(),
            durability: Durability::default(),
            no_duplicate_rumors: NoDuplicateRumors::default(),
            true_digests: TrueDigests::default(),
            kept_rumors: KeptRumors::default(),
            gaps: false,
        }
    }

    /// The invariants of nodes whose next pointers are not all known.
    pub fn of_any_ring(turn: usize) -> Self {
        Self { one_group: OneGroup::of_any_ring(), ..Self::new(None, turn) }
    }

    /// From now on things may happen that are not seen: only what can be judged without them is
    /// checked.
    pub fn expect_gaps(&mut self) {
        self.gaps = true;
    }

    /// The names of those that are checked.
    pub fn checked(&mut self) -> Vec<&'static str> {
        let gaps = self.gaps;
        let table = self.table().into_iter().filter(|invariant| !gaps || invariant.allows_gaps());
        table.map(|invariant| invariant.name()).collect()
    }

    /// All of them: name, where it is promised, and the paper.
    pub fn properties() -> Vec<[&'static str; 3]> {
        let mut all = Self::new(None, 1);
        let property = |one: &mut dyn Invariant| [one.name(), one.source(), one.paper()];
        all.table().into_iter().map(property).collect()
    }

    fn table(&mut self) -> [&mut dyn Invariant; 24] {
        [
            &mut self.peer_states,
            &mut self.one_chain,
            &mut self.one_group,
            &mut self.consent,
            &mut self.active_majority,
            &mut self.one_token,
            &mut self.answers,
            &mut self.exclusion,
            &mut self.fences,
            &mut self.recorded,
            &mut self.ring_order,
            &mut self.bounded_turns,
            &mut self.circulation,
            &mut self.one_order,
            &mut self.integrity,
            &mut self.causal_order,
            &mut self.kept_clocks,
            &mut self.true_receipts,
            &mut self.uniformity,
            &mut self.view_synchrony,
            &mut self.durability,
            &mut self.no_duplicate_rumors,
            &mut self.true_digests,
            &mut self.kept_rumors,
        ]
    }

    /// Checks one step of `who`.
    pub fn check<P: Subject>(&mut self, who: Who, step: &Step<'_, P>) -> Result<(), Violation> {
        self.see(who, step.time, &Seen::Input(&step.input))?;
        for effect in step.effects.iter().filter(|effect| is_noticed(effect)) {
            self.see(who, step.time, &Seen::Effect(effect))?;
        }
        if touches_group(&step.input) {
            let (time, ended) = (step.time, step.ended.is_some());
            let lock = step.machine.node().lock();
            let tokens: Vec<LockName> =
                lock.iter().flat_map(|lock| lock.tokens()).map(|(lock, _)| lock.clone()).collect();
            let known: Vec<LockName> = lock.iter().flat_map(|lock| lock.known()).cloned().collect();
            let lease = lock.map_or(Time::ZERO, |lock| lock.lease_until(step.clock.shows));
            let lease_until = step.clock.when(time, lease);
            let end = End { time, tokens: &tokens, known: &known, lease_until, ended };
            self.see(who, time, &Seen::End(&end))?;
        }
        Ok(())
    }

    fn see(&mut self, who: Who, time: Time, seen: &Seen<'_>) -> Result<(), Violation> {
        let gaps = self.gaps;
        for invariant in self.table() {
            if gaps && !invariant.allows_gaps() {
                continue;
            }
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

/// Whether any promise is about such an effect.
fn is_noticed(effect: &EffectOf<node::Node>) -> bool {
    match effect {
        Effect::Send { message, .. } => !matches!(message, node::Message::Detector(_)),
        Effect::Emit(_) | Effect::Append(_) => true,
        // Who has only said yes, or asked to be taken in, is in no view.
        Effect::Save(record) => !record.is_blank(),
        Effect::SetTimer { .. } | Effect::CancelTimer(_) | Effect::Trim(_) => false,
    }
}

/// Whether an input can have changed what lock and order know. Only gossip is left out: looking at a
/// node costs more than handling many an input.
fn touches_group(input: &InputOf<node::Node>) -> bool {
    match input {
        Input::Message { message, .. } => !matches!(message, node::Message::Gossip(_)),
        Input::Timer(timer) => !matches!(timer, node::Timer::Gossip(_)),
        Input::Command(_)
        | Input::Start(_)
        | Input::LinkUp(_)
        | Input::LinkDown(_)
        | Input::Appended(_) => true,
    }
}
